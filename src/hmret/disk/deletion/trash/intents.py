"""hmret's trash: intents, what they promise, and where retired folders stand.

Before a batch of images is renamed out of the cache, one file of intents is written durably beside the place that
they go to. Whatever cuts the work off, the intents say what is left to do: an image that stands in the trash has been
deleted, and its tags and its state go too; one that does not has either not been touched or is gone for good.
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
"""Begins the name of a retired folder that had to stay on its own file system; no scan looks at such names."""


NO_CONTENT = "none"
"""There is no content of that digest."""


class Row(msgspec.Struct, frozen=True, gc=False, order=True):
    """One repository that has the image, and its timer."""

    repository: str
    unused_since_ns: int


class Copy(msgspec.Struct, frozen=True, gc=False):
    """One folder that goes with an image."""

    repository: str
    """Empty: it is content; else the repository whose own folder it is."""
    inode: int
    """Of the folder; 0: not known."""
    name: str
    """In the trash; no other copy ever has it."""

    @property
    def parent(self) -> str:
        """The folder in which it stands in the cache, below the data directory."""
        return f"{IMAGES}/{self.repository or CONTENT}"


class Link(msgspec.Struct, frozen=True, gc=False):
    """One tag that goes with an image, exactly as it was."""

    layout: Layout
    repository: str
    tag: str
    target: str
    inode: int
    """0: not known."""

    @property
    def parent(self) -> str:
        """The folder in which it stands, below the data directory."""
        return tag_folder(self.layout, self.repository)


class Intent(msgspec.Struct, frozen=True, gc=False):
    """One image that is about to be renamed out of the cache: all that goes together.

    Of an older release there are the first five fields alone: one repository, and its own folder.
    """

    repository: str
    """Of its first row."""
    digest: str
    tags: list[str]
    """Of the first row, to be shown."""
    unused_since_ns: int
    """Of the first row."""
    name: str
    """Begins the names of its folders in the trash; no other intent ever has it."""
    others: list[Row] = []
    """Its other rows."""
    copies: list[Copy] = []
    """Its folders: content last, as its rename is what makes the image go for all at once."""
    links: list[Link] = []
    """Its tags in both layouts; one that another shadows stands before that."""
    beside: str = NO_CONTENT
    """Of a repository's own folder: the status of the content that stood beside it."""
    staying: list[Copy] = []
    """Folders that its owners have of their own and that are no whole images: they are left alone."""

    @property
    def rows(self) -> tuple[Row, ...]:
        """All its rows."""
        return (Row(self.repository, self.unused_since_ns), *self.others)

    @property
    def keys(self) -> tuple[Key, ...]:
        """The same as repository and digest."""
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
        """List the tags of a repository among its links, or among some of them, that lead to this image; sorted."""
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
    """Where a retired folder stands."""

    intent: Intent
    folder: str
    """The folder that holds it, below the data directory."""
    name: str
    files: tuple[str, ...] = attrs.field(default=(), eq=False)
    """The names of all files in it, as far as they are known: then it need not be listed to be freed."""
    number: int = attrs.field(default=0)
    """Which of the intent's folders it is."""

    @property
    def copy(self) -> Copy:
        """The folder as it was in the cache."""
        return self.intent.all_copies[self.number]

    @property
    def is_in_place(self) -> bool:
        """Whether it had to stay on its own file system, below `images/`."""
        return self.folder.startswith(IMAGES)


def open_trash(filesystem: Filesystem, data_fd: int) -> int:
    """Open the trash, making it where it is missing."""
    return make_data_folders(filesystem, data_fd, _TRASH, 0o700)


def entry_in_trash(intent: Intent, files: tuple[str, ...] = (), number: int = 0) -> TrashEntry:
    """Return where a folder of an intent goes."""
    return TrashEntry(intent, _TRASH, intent.all_copies[number].name, files, number)


def entry_in_place(
    intent: Intent, files: tuple[str, ...] = (), number: int = 0, *, within: str = ""
) -> TrashEntry:
    """Return where it goes if the trash is on another file system: beside itself, or (`within`) elsewhere on that one."""
    copy = intent.all_copies[number]
    return TrashEntry(intent, within or copy.parent, _BESIDE + copy.name, files, number)


def entries_of(intent: Intent) -> tuple[TrashEntry, ...]:
    """Return where the folders of an intent may stand; content last."""
    places: list[TrashEntry] = []
    for number, copy in enumerate(intent.all_copies):
        places.append(entry_in_trash(intent, number=number))
        if not copy.repository:
            places.append(entry_in_place(intent, number=number, within=IMAGES))
        places.append(entry_in_place(intent, number=number))
    return tuple(places)


def find_entries(filesystem: Filesystem, data_fd: int, intent: Intent) -> list[TrashEntry]:
    """Find where the folders of an intent stand; empty: they have gone, or are in the cache.

    Raises:
        OSError: it could not be told.
    """
    return [place for place in entries_of(intent) if _exists(filesystem, data_fd, place)]


def _exists(filesystem: Filesystem, data_fd: int, place: TrashEntry) -> bool:
    try:
        filesystem.stat(f"{place.folder}/{place.name}", dir_fd=data_fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def write_intents(filesystem: Filesystem, data_fd: int, token: str, intents: Iterable[Intent]) -> None:
    """Write down, durably, what is about to be done; on a disk that is full, in the room that was reserved for that.

    Raises:
        OSError: it could not be written.
    """
    content = msgspec.json.encode(list(intents))
    with opened(filesystem, open_trash(filesystem, data_fd)) as fd:
        try:
            # guard(intent-survives-power-loss): The intents are on the disk before the first rename, so a power loss
            # leaves no deletion that is half done.
            write_file(filesystem, token + _SUFFIX, content, fd, durable=True)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            # guard(intent-in-reserved-room): On a full disk the intent is written over reserved blocks; without them
            # nothing could be deleted when it matters.
            if not write_into_reserve(filesystem, data_fd, fd, token + _SUFFIX, content):
                raise


def read_intents(filesystem: Filesystem, data_fd: int, token: str) -> list[Intent]:
    """Read a file of intents; empty where it has gone or does not hold any.

    What is written there is not trusted: an intent that is not one that we could have written is left out.

    Raises:
        OSError: it is there and cannot be read.
    """
    path = f"{_TRASH}/{token}{_SUFFIX}"
    try:
        intents = msgspec.json.decode(read_file(filesystem, path, data_fd), type=list[Intent])
    except (FileNotFoundError, msgspec.MsgspecError, ValueError, RecursionError):
        return []
    # guard(only-own-intents-count): A damaged or planted intent could name any path, so only one that we could have
    # written is carried out.
    return [intent for intent in intents if is_ours(intent, token)]


def is_ours(intent: Intent, token: str) -> bool:
    """Return whether an intent is one that we could have written under a token: only then it is trusted."""
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
    """Return whether a folder is one that we could have named."""
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
    """Forget a file of intents: all that it says is done, but for folders that were left empty.

    `repositories`: those that it names; None: not known.
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
    """Keep a file of intents among those that are carried out; returns whether it has left the trash.

    A crash at any moment leaves it in one of the two places: what was deleted lately is never forgotten by one.
    """
    try:
        with opened(filesystem, make_data_folders(filesystem, data_fd, f"{OWN}/{DELETED}", 0o700)) as fd:
            filesystem.rename(name, name, src_dir_fd=trash_fd, dst_dir_fd=fd)
    except OSError:
        return False
    return True


def intent_name(name: str) -> str:
    """Return the name of the intent to which something in the trash belongs, by its own name there."""
    return ".".join(name.split(".")[:2])


def repositories_of(intent: Intent) -> set[str]:
    """List the repositories whose own folders and tags an intent is about."""
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
    """Make a name that no batch before had."""
    return os.urandom(8).hex()
