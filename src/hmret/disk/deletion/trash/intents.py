"""hmret's trash: intents, what they guarantee, and where retired folders are kept.

Before a batch of images is renamed out of the cache, one file of intents is written durably into the trash.
It is what makes a deletion atomic: at any later interruption, the intents and the places of the folders show
what is left to do. An image in the trash has been deleted, and its tags and timers are to be removed too; an
image that is not there has either not been touched or has been erased. The file leaves the trash only when
all of its images are settled, so finishing a batch can be repeated as often as it is interrupted.

The contents of the file are not trusted: an intent is carried out only if hmret could have written it, since
paths in a damaged or planted one could lead anywhere.
"""

import os
from collections.abc import Iterable
from contextlib import suppress

import attrs
import msgspec

from hmret.disk.deletion.trash.reserve import NO_SPACE, write_into_reserve
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import (
    make_data_folders,
    open_data_folder,
    opened,
    read_file,
    remove_empty_folders,
    write_file,
)
from hmret.disk.hypeman.links import Layout, pointed_to, tag_folder
from hmret.disk.layout import (
    CONTENT,
    DELETED,
    DIGEST_HEX,
    IMAGES,
    OWN,
    TAG_NAME,
    TRASH,
    digest_of,
    hex_of,
)
from hmret.model.images import Key
from hmret.model.references import is_repository
from hmret.model.values import frozen

__all__ = [
    "NO_CONTENT",
    "Copy",
    "Intent",
    "Link",
    "Row",
    "TrashEntry",
    "drop_intents",
    "entries_of",
    "entry_in_place",
    "entry_in_trash",
    "find_entries",
    "intent_name",
    "is_ours",
    "list_trash",
    "new_token",
    "open_trash",
    "read_intents",
    "repositories_of",
    "write_intents",
]

_TRASH = f"{OWN}/{TRASH}"
_SUFFIX = ".json"
_BESIDE = ".hmret-"
"""Prefix of a retired folder that had to stay on its own file system; no scan looks at such names."""


NO_CONTENT = "none"
"""The status where there is no content of that digest."""


class Row(msgspec.Struct, frozen=True, gc=False, order=True):
    """One repository that has the image, and its timer."""

    repository: str
    unused_since_ns: int


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


class Intent(msgspec.Struct, frozen=True, gc=False):
    """One image that is about to be renamed out of the cache, with everything that goes with it.

    An intent of an older release has only the first five fields: one repository, and its own folder.
    """

    repository: str
    """The repository of its first row."""
    digest: str
    tags: list[str]
    """The tags of the first row, for display."""
    unused_since_ns: int
    """The timer of the first row."""
    name: str
    """The prefix of its folders' names in the trash; no other intent ever has it."""
    others: list[Row] = []
    """Its other rows."""
    copies: list[Copy] = []
    """Its folders: content last, since its rename is what makes the image go for all repositories at once."""
    links: list[Link] = []
    """Its tags in both layouts; a tag that another one shadows precedes that one."""
    beside: str = NO_CONTENT
    """For a repository's own folder: the status of the content that was beside it."""
    staying: list[Copy] = []
    """Folders that its owners have of their own and that are no complete images: they are left alone."""

    @property
    def rows(self) -> tuple[Row, ...]:
        """All its rows."""
        return (Row(self.repository, self.unused_since_ns), *self.others)

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys of all its rows."""
        return tuple((row.repository, self.digest) for row in self.rows)

    @property
    def all_copies(self) -> tuple[Copy, ...]:
        """Its folders, in the order in which they are renamed."""
        return tuple(self.copies) or (Copy(self.repository, 0, self.name),)

    @property
    def all_links(self) -> tuple[Link, ...]:
        """Its tags."""
        if self.links or self.copies:
            return tuple(self.links)
        hexadecimal = hex_of(self.digest)
        return tuple(Link(Layout.LEGACY, self.repository, tag, hexadecimal, 0) for tag in self.tags)

    @property
    def is_content(self) -> bool:
        """Whether content goes, and not a repository's own folder alone."""
        return bool(self.copies) and not self.copies[-1].repository

    def tags_of(self, repository: str, links: Iterable[Link] | None = None) -> tuple[str, ...]:
        """List, sorted, the tags of a repository that lead to this image, among all its links or some of them."""
        hexadecimal = hex_of(self.digest)
        return tuple(
            sorted(
                {
                    link.tag
                    for link in (self.all_links if links is None else links)
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
    def copy(self) -> Copy:
        """The folder as it was in the cache."""
        return self.intent.all_copies[self.number]

    @property
    def is_in_place(self) -> bool:
        """Whether it had to stay on its own file system, below `images/`."""
        return self.folder.startswith(IMAGES)


def open_trash(filesystem: Filesystem, data_fd: int) -> int:
    """Open the trash, creating it where it is missing."""
    return make_data_folders(filesystem, data_fd, _TRASH, 0o700)


def entry_in_trash(intent: Intent, files: tuple[str, ...] = (), number: int = 0) -> TrashEntry:
    """Return the place of an intent's folder in the trash."""
    return TrashEntry(intent, _TRASH, intent.all_copies[number].name, files, number)


def entry_in_place(
    intent: Intent, files: tuple[str, ...] = (), number: int = 0, *, within: str = ""
) -> TrashEntry:
    """Return its place if the trash is on another file system: beside itself, or in the folder `within`."""
    copy = intent.all_copies[number]
    return TrashEntry(intent, within or copy.parent, _BESIDE + copy.name, files, number)


def entries_of(intent: Intent) -> tuple[TrashEntry, ...]:
    """Return the possible places of an intent's folders; content last."""
    places: list[TrashEntry] = []
    for number, copy in enumerate(intent.all_copies):
        places.append(entry_in_trash(intent, number=number))
        if not copy.repository:
            places.append(entry_in_place(intent, number=number, within=IMAGES))
        places.append(entry_in_place(intent, number=number))
    return tuple(places)


def find_entries(filesystem: Filesystem, data_fd: int, intent: Intent) -> list[TrashEntry]:
    """Return the places of an intent's folders; empty: they have gone, or are in the cache.

    Raises:
        OSError: that could not be determined.
    """
    return [place for place in entries_of(intent) if _exists(filesystem, data_fd, place)]


def _exists(filesystem: Filesystem, data_fd: int, place: TrashEntry) -> bool:
    try:
        filesystem.stat(f"{place.folder}/{place.name}", dir_fd=data_fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def write_intents(filesystem: Filesystem, data_fd: int, token: str, intents: Iterable[Intent]) -> None:
    """Record durably what is about to be done; on a full disk, in the space reserved for that.

    Raises:
        OSError: it could not be written.
    """
    content = msgspec.json.encode(list(intents))
    with opened(filesystem, open_trash(filesystem, data_fd)) as fd:
        try:
            # guard(intent-survives-power-loss): The intents are on the disk before the first rename, so a
            # power loss leaves no deletion that is half done.
            write_file(filesystem, token + _SUFFIX, content, fd, durable=True)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            # guard(intent-in-reserved-room): On a full disk the intent is written over reserved blocks;
            # without them nothing could be deleted when it matters.
            if not write_into_reserve(filesystem, data_fd, fd, token + _SUFFIX, content):
                raise


def read_intents(filesystem: Filesystem, data_fd: int, token: str) -> list[Intent]:
    """Read a file of intents; empty where it has gone or holds none.

    Its contents are not trusted: an intent that hmret could not have written is left out.

    Raises:
        OSError: it exists but cannot be read.
    """
    path = f"{_TRASH}/{token}{_SUFFIX}"
    try:
        intents = msgspec.json.decode(read_file(filesystem, path, data_fd), type=list[Intent])
    except (FileNotFoundError, msgspec.MsgspecError, ValueError, RecursionError):
        return []
    # guard(only-own-intents-count): A damaged or planted intent could name any path, so only one that we
    # could have written is carried out.
    return [intent for intent in intents if is_ours(intent, token)]


def is_ours(intent: Intent, token: str) -> bool:
    """Return whether hmret could have written an intent under a token: only then it is trusted."""
    head, _, number = intent.name.partition(".")
    return (
        head == token
        and number.isdecimal()
        and is_repository(intent.repository)
        and intent.digest == digest_of(hex_of(intent.digest))
        and DIGEST_HEX.fullmatch(hex_of(intent.digest)) is not None
        and all(TAG_NAME.fullmatch(tag) for tag in intent.tags)
        and all(is_repository(row.repository) for row in intent.others)
        and all(_is_own_copy(copy, intent) for copy in intent.copies)
        # Content is the last of them.
        and all(copy.repository for copy in intent.copies[:-1])
        and all(map(_is_own_link, intent.links))
        and all(not copy.name and is_repository(copy.repository) for copy in intent.staying)
    )


def _is_own_copy(copy: Copy, intent: Intent) -> bool:
    """Return whether hmret could have named a folder so."""
    head, _, number = copy.name.removeprefix(intent.name).rpartition(".")
    is_named = copy.name == intent.name or (
        copy.name.startswith(f"{intent.name}.") and not head and number.isdecimal()
    )
    return is_named and (not copy.repository or is_repository(copy.repository))


def _is_own_link(link: Link) -> bool:
    return TAG_NAME.fullmatch(link.tag) is not None and is_repository(link.repository)


def drop_intents(
    filesystem: Filesystem, data_fd: int, token: str, repositories: Iterable[str] | None = None
) -> None:
    """Drop a file of intents: all of it is done, except that some folders may have been left empty.

    `repositories`: those that it names; None: unknown.
    """
    if repositories is None:
        with suppress(OSError):
            repositories = {
                name
                for intent in read_intents(filesystem, data_fd, token)
                for name in repositories_of(intent)
            }
    with suppress(OSError), opened(filesystem, open_data_folder(filesystem, data_fd, IMAGES)) as fd:
        for repository in repositories or ():
            remove_empty_folders(filesystem, fd, repository)
    with (
        suppress(FileNotFoundError),
        opened(filesystem, open_data_folder(filesystem, data_fd, _TRASH)) as fd,
    ):
        if not _file_away(filesystem, data_fd, fd, token + _SUFFIX):
            filesystem.unlink(token + _SUFFIX, dir_fd=fd)


def _file_away(filesystem: Filesystem, data_fd: int, trash_fd: int, name: str) -> bool:
    """Move a file of intents to those that are completed; returns whether it has left the trash.

    It is renamed, so a crash at any moment leaves it in one of the two places: no recent deletion is ever
    forgotten.
    """
    try:
        with opened(filesystem, make_data_folders(filesystem, data_fd, f"{OWN}/{DELETED}", 0o700)) as fd:
            filesystem.rename(name, name, src_dir_fd=trash_fd, dst_dir_fd=fd)
    except OSError:
        return False
    return True


def intent_name(name: str) -> str:
    """Return the name of the intent to which an entry of the trash belongs, by the entry's name."""
    return ".".join(name.split(".")[:2])


def repositories_of(intent: Intent) -> set[str]:
    """List the repositories whose own folders and tags an intent names."""
    return {intent.repository, *(row.repository for row in intent.others)}


def list_trash(filesystem: Filesystem, data_fd: int) -> tuple[list[str], list[str]]:
    """List the trash: the tokens of the files of intents, and the names of everything else."""
    try:
        fd = open_data_folder(filesystem, data_fd, _TRASH)
    except FileNotFoundError:
        return [], []
    with opened(filesystem, fd), filesystem.scandir(fd) as entries:
        names = sorted(entry.name for entry in entries)
    tokens = [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]
    return tokens, [name for name in names if not name.endswith(_SUFFIX)]


def new_token() -> str:
    """Return a name that no earlier batch had."""
    return os.urandom(8).hex()
