"""Intents: what is about to be deleted, with everything that goes with it, and where its folders are kept then.

Before a batch of images is renamed out of the cache, its intents are written durably into the trash
(`hmret.disk.deletion.trash.intent_files`). They are what makes a deletion atomic: at any later interruption,
the intents and the places of the folders show what is left to do. If an image's content, or its only folder,
has been renamed out, its tags and timers go too, unless it is put back; if only its owners' own folders have,
and its content is still in place, they are renamed back. An image of which nothing is in the trash has either
not been touched or been erased.
"""

from collections.abc import Iterable

import attrs
import msgspec

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import exists
from hmret.disk.hypeman.links import pointed_to, tag_folder
from hmret.disk.layout import CONTENT, IMAGES, TRASH, Layout, hex_of
from hmret.model.deletion import Deletion
from hmret.model.values import frozen

_ASIDE = ".hmret-"
"""Prefix of a retired folder that had to stay on its own file system; no scan looks at such names."""

NO_CONTENT = "none"
"""The status where there is no content of that digest."""


class Copy(msgspec.Struct, frozen=True, gc=False):
    """One folder that goes with an image."""

    repository: str
    """Empty: it is content; else the repository whose own folder it is."""
    inode: int
    """The folder's inode; 0: unknown."""
    name: str
    """Its name in the trash; no other copy ever has it."""

    @property
    def parent(self) -> str:
        """The folder that holds it in the cache, below the data directory."""
        return f"{IMAGES}/{self.repository or CONTENT}"


class Link(msgspec.Struct, frozen=True, gc=False):
    """One tag that goes with an image, exactly as it was."""

    layout: Layout
    repository: str
    tag: str
    target: str
    inode: int
    """0: unknown."""

    @property
    def parent(self) -> str:
        """The folder that holds it, below the data directory."""
        return tag_folder(self.layout, self.repository)


class Intent(Deletion, frozen=True, gc=False):
    """A deletion with its place in the trash, and everything that was found to go with it."""

    name: str
    """The prefix of its folders' names in the trash; no other intent ever has it."""
    copies: tuple[Copy, ...]
    """Its folders: content last, since its rename is what makes the image go for all repositories at once."""
    links: tuple[Link, ...] = ()
    """Its tags in both layouts; a tag that another one shadows precedes that one."""
    content_status: str = NO_CONTENT
    """For a repository's own folder: the status of the content that was beside it."""
    staying: tuple[Copy, ...] = ()
    """Folders that its owners have of their own and that are not complete images: they are left alone."""
    is_bare: bool = False
    """Whether its folders were not examined: that of an image that stays, or one written by an older release."""

    @classmethod
    def bare(cls, deletion: Deletion, name: str, links: tuple[Link, ...] = ()) -> "Intent":
        """Return an intent that says no more of the image's folders than where one may be."""
        copies = (Copy(deletion.repository, 0, name),)
        return cls(deletion.digest, deletion.rows, deletion.is_content, name, copies, links, is_bare=True)

    @property
    def path(self) -> str:
        """The path of its content, or of its only folder, in the cache, below the data directory."""
        return f"{self.copies[-1].parent}/{hex_of(self.digest)}"

    @property
    def batch_name(self) -> str:
        """The name of its batch."""
        return self.name.partition(".")[0]

    def tags_of(self, repository: str, links: Iterable[Link] | None = None) -> tuple[str, ...]:
        """List, sorted, the tags of a repository that lead to this image, among all its links or some of them."""
        hexadecimal = hex_of(self.digest)
        return tuple(
            sorted(
                {
                    link.tag
                    for link in (self.links if links is None else links)
                    if link.repository == repository and pointed_to(link.parent, link.target) == hexadecimal
                }
            )
        )


@frozen
class TrashEntry:
    """The place of a retired folder."""

    intent: Intent
    folder: str
    """The folder that holds it, below the data directory."""
    name: str
    files: tuple[str, ...] = attrs.field(default=(), eq=False)
    """The names of all files in it, as far as known: then it need not be listed to be erased."""
    number: int = attrs.field(default=0)
    """The folder's number in the intent."""

    @property
    def path(self) -> str:
        """Its path, below the data directory."""
        return f"{self.folder}/{self.name}"

    @property
    def copy(self) -> Copy:
        """The folder as it was in the cache."""
        return self.intent.copies[self.number]

    @property
    def parent(self) -> str:
        """The folder that held it in the cache."""
        return self.copy.parent

    @property
    def is_aside(self) -> bool:
        """Whether it was renamed within its own file system, below `images/`, and not into the trash."""
        return self.folder.startswith(IMAGES)


def entry_in_trash(intent: Intent, files: tuple[str, ...] = (), number: int = 0) -> TrashEntry:
    """Return the place of an intent's folder in the trash."""
    return TrashEntry(intent, TRASH, intent.copies[number].name, files, number)


def entry_aside(intent: Intent, number: int, *, within: str = "") -> TrashEntry:
    """Return the place of an intent's folder if the trash is on another file system: in its parent, or in `within`."""
    copy = intent.copies[number]
    return TrashEntry(intent, within or copy.parent, _ASIDE + copy.name, number=number)


def entries_of(intent: Intent) -> tuple[TrashEntry, ...]:
    """Return the possible places of an intent's folders; content last."""
    places: list[TrashEntry] = []
    for number, copy in enumerate(intent.copies):
        places.append(entry_in_trash(intent, number=number))
        if not copy.repository:
            places.append(entry_aside(intent, number, within=IMAGES))
        places.append(entry_aside(intent, number))
    return tuple(places)


def find_entries(filesystem: Filesystem, data_fd: int, intent: Intent) -> list[TrashEntry]:
    """Return the places of an intent's folders; empty: they have gone, or are in the cache.

    Raises:
        OSError: that could not be determined.
    """
    return [place for place in entries_of(intent) if exists(filesystem, data_fd, place.path)]


def intent_name(name: str) -> str:
    """Return the name of the intent to which an entry of the trash belongs, by the entry's name."""
    return ".".join(name.split(".")[:2])
