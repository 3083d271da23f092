"""hmret's trash: intents, what they promise, and freeing the bytes.

Before a batch of images is renamed out of the cache, one file of intents is written durably beside the place that
they go to. Whatever cuts the work off, the intents say what is left to do: an image that stands in the trash has been
deleted, and its tags and its state go too; one that does not has either not been touched or is gone for good.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress

import attrs
import msgspec

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import (
    let_go,
    make_folders,
    open_folder,
    opened,
    read_file,
    remove_empty_folders,
    step_into,
    write_file,
)
from hmret.disk.image_scan import BLOCK
from hmret.disk.layout import (
    DIGEST_HEX,
    IMAGES,
    METADATA,
    OWN,
    ROOTFS_NAMES,
    TAG_NAME,
    TRASH,
    digest_of,
    hex_of,
)
from hmret.model.references import is_repository

__all__ = [
    "Freeing",
    "Intent",
    "Place",
    "drop_intents",
    "erase",
    "list_trash",
    "new_token",
    "open_trash",
    "place_beside",
    "place_in_trash",
    "places_of",
    "read_intents",
    "write_intents",
]

_TRASH = f"{OWN}/{TRASH}"
_SUFFIX = ".json"
_BESIDE = ".hmret-"
"""Begins the name of a retired folder that had to stay on its own file system; no scan looks at such names."""


# What comes of erasing a folder by the names of its files where others are in it, or it is no folder.
_NOT_AS_KNOWN = frozenset(
    (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.EPERM)
)


class Intent(msgspec.Struct, frozen=True, gc=False):
    """One image that is about to be renamed out of the cache."""

    repository: str
    digest: str
    tags: list[str]
    unused_since_ns: int
    name: str
    """Of the folder in the trash; no other intent ever has it."""


@attrs.frozen
class Place:
    """Where a retired folder stands."""

    intent: Intent
    folder: str
    """The folder that holds it, below the data directory."""
    name: str
    files: tuple[str, ...] = attrs.field(default=(), eq=False)
    """The names of all files in it, as far as they are known: then it need not be listed to be freed."""

    @property
    def is_beside(self) -> bool:
        """Whether it had to stay on its own file system, below `images/`."""
        return self.folder.startswith(IMAGES)


def open_trash(filesystem: Filesystem, data_fd: int) -> int:
    """Open the trash, making it where it is missing."""
    return make_folders(filesystem, data_fd, _TRASH, 0o700)


def place_in_trash(intent: Intent, files: tuple[str, ...] = ()) -> Place:
    """Say where the folder of an intent goes."""
    return Place(intent, _TRASH, intent.name, files)


def place_beside(intent: Intent, files: tuple[str, ...] = ()) -> Place:
    """Say where it goes if the trash is on another file system: beside itself."""
    return Place(intent, f"{IMAGES}/{intent.repository}", _BESIDE + intent.name, files)


def places_of(intent: Intent) -> tuple[Place, Place]:
    """Say where the folder of an intent may stand."""
    return place_in_trash(intent), place_beside(intent)


def write_intents(filesystem: Filesystem, data_fd: int, token: str, intents: Iterable[Intent]) -> None:
    """Write down, durably, what is about to be done."""
    with opened(filesystem, open_trash(filesystem, data_fd)) as fd:
        write_file(filesystem, token + _SUFFIX, msgspec.json.encode(list(intents)), fd, durable=True)


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
    return [intent for intent in intents if _is_ours(intent, token)]


def _is_ours(intent: Intent, token: str) -> bool:
    head, _, number = intent.name.partition(".")
    return (
        head == token
        and number.isdecimal()
        and is_repository(intent.repository)
        and intent.digest == digest_of(hex_of(intent.digest))
        and DIGEST_HEX.fullmatch(hex_of(intent.digest)) is not None
        and all(TAG_NAME.fullmatch(tag) for tag in intent.tags)
    )


def drop_intents(
    filesystem: Filesystem, data_fd: int, token: str, repositories: Iterable[str] | None = None
) -> None:
    """Forget a file of intents: all that it says is done, but for folders that were left empty.

    `repositories`: those that it names; None: not known.
    """
    if repositories is None:
        with suppress(OSError):
            repositories = {intent.repository for intent in read_intents(filesystem, data_fd, token)}
    with suppress(OSError), opened(filesystem, step_into(filesystem, data_fd, IMAGES)) as fd:
        for repository in repositories or ():
            remove_empty_folders(filesystem, fd, repository)
    with (
        suppress(FileNotFoundError),
        opened(filesystem, step_into(filesystem, data_fd, _TRASH)) as fd,
    ):
        filesystem.unlink(token + _SUFFIX, dir_fd=fd)


def list_trash(filesystem: Filesystem, data_fd: int) -> tuple[list[str], list[str]]:
    """List the trash: the tokens of the files of intents, and the names of everything else."""
    try:
        fd = step_into(filesystem, data_fd, _TRASH)
    except FileNotFoundError:
        return [], []
    with opened(filesystem, fd), filesystem.scandir(fd) as entries:
        names = sorted(entry.name for entry in entries)
    tokens = [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]
    return tokens, [name for name in names if not name.endswith(_SUFFIX)]


@attrs.define(eq=False)
class Freeing:
    """Erases retired folders, one after the other, with the folder that holds them open."""

    filesystem: Filesystem
    data_fd: int
    stopping: Callable[[], bool] = lambda: False
    _folder: str = ""
    _fd: int = -1

    def free(self, place: Place) -> int | None:
        """Erase a retired folder, and remove the folders left empty by that; as `erase`."""
        try:
            fd = self._open(place.folder)
        except FileNotFoundError:
            return 0
        freed = _erase_known(self.filesystem, fd, place.name, place.files, self.stopping)
        if freed is not None and place.is_beside:
            with (
                suppress(OSError),
                opened(self.filesystem, step_into(self.filesystem, self.data_fd, IMAGES)) as fd,
            ):
                remove_empty_folders(self.filesystem, fd, place.intent.repository)
        return freed

    def close(self) -> None:
        """Close what is open."""
        if self._fd >= 0:
            let_go(self.filesystem, self._fd)
        self._fd = -1

    def _open(self, folder: str) -> int:
        if self._fd < 0 or folder != self._folder:
            self.close()
            self._fd = step_into(self.filesystem, self.data_fd, folder)
            self._folder = folder
        return self._fd


def erase(
    filesystem: Filesystem, data_fd: int, folder: str, name: str, stopping: Callable[[], bool] = lambda: False
) -> int | None:
    """Free the bytes of what has been retired; returns the blocks of disks that came free, in bytes.

    None where it was told to stop first; the rest is left for the next time. Nothing there is nothing to do.

    Raises:
        OSError: something could not be removed.
    """
    try:
        fd = step_into(filesystem, data_fd, folder)
    except FileNotFoundError:
        return 0
    with opened(filesystem, fd):
        return _erase(filesystem, fd, name, stopping)


def _erase_known(
    filesystem: Filesystem, parent_fd: int, name: str, files: tuple[str, ...], stopping: Callable[[], bool]
) -> int | None:
    """Erase a folder of which all files are known without listing it; one that is not like that, as any other."""
    if not files or stopping():
        return _erase(filesystem, parent_fd, name, stopping)
    freed = 0
    try:
        fd = open_folder(filesystem, name, parent_fd)
        try:
            for file_name in sorted(files, key=_metadata_first):
                freed += _unlink(filesystem, fd, file_name)
        finally:
            let_go(filesystem, fd)
        filesystem.rmdir(name, dir_fd=parent_fd)
    except OSError as error:
        if error.errno not in _NOT_AS_KNOWN:
            raise
        rest = _erase(filesystem, parent_fd, name, stopping)
        return None if rest is None else freed + rest
    return freed


def _metadata_first(name: str) -> tuple[bool, str]:
    """Order the files of a folder: what is left of an image without metadata no longer looks like one."""
    return name != METADATA, name


def _erase(filesystem: Filesystem, parent_fd: int, name: str, stopping: Callable[[], bool]) -> int | None:
    try:
        fd = open_folder(filesystem, name, parent_fd)
    except FileNotFoundError:
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        filesystem.unlink(name, dir_fd=parent_fd)
        return 0
    freed = 0
    with opened(filesystem, fd):
        with filesystem.scandir(fd) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for entry_name, is_folder in sorted(found, key=lambda item: _metadata_first(item[0])):
            if stopping():
                return None
            if is_folder:
                below = _erase(filesystem, fd, entry_name, stopping)
                if below is None:
                    return None
                freed += below
            else:
                freed += _unlink(filesystem, fd, entry_name)
    filesystem.rmdir(name, dir_fd=parent_fd)
    return freed


def _unlink(filesystem: Filesystem, fd: int, name: str) -> int:
    """Remove one file; returns the bytes that this frees of a disk, 0 while it has other links."""
    freed = 0
    if name in ROOTFS_NAMES:
        found = filesystem.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            freed = found.st_blocks * BLOCK
    filesystem.unlink(name, dir_fd=fd)
    return freed


def new_token() -> str:
    """Make a name that no batch before had."""
    return os.urandom(8).hex()
