"""Taking away late ghosts: what hypeman's tag call leaves where it read an image before hmret deleted it, and wrote after.

Without that deletion it would not be there, so it is hmret's to clear away: its links then dangle, and a create pulls again
by itself. A ghost of a digest that hmret did not delete is somebody else's, and stays.
"""

import errno
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress

from hmret.disk.deletion.open_folders import OpenFolders, exists, inode_of
from hmret.disk.deletion.trash.erasing import erase
from hmret.disk.deletion.trash.intents import open_trash
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import open_folder, opened, read_file
from hmret.disk.hypeman.documents import UnreadableError, read_image_metadata
from hmret.disk.hypeman.images import read_digest_folder
from hmret.disk.layout import (
    CONTENT,
    DIGEST_HEX,
    IMAGES,
    METADATA,
    OWN,
    TRASH,
    digest_of,
    hex_of,
)
from hmret.model.times import SECOND

__all__ = ["clear_fresh_ghost", "clear_ghosts", "is_ghost_aside", "resolve_parked_ghosts"]

_SETTLED_NS = 60 * SECOND
"""A ghost must not have changed for so long."""

_CONTENT = f"{IMAGES}/{CONTENT}"
_ASIDE = {f"{OWN}/{TRASH}": "ghost.", IMAGES: ".hmret-ghost."}
"""Where a ghost is set aside to be looked at, and how its name begins there: in the trash, or, where that is on another
file system, out of `content/`; with metadata alone it is no image for hypeman there either."""


def clear_ghosts(filesystem: Filesystem, data_fd: int, deleted_at_ns: Mapping[str, int]) -> tuple[str, ...]:
    """Take away the ghosts of digests, where each was made after its deletion; returns the digests of those that went.

    The caller lets nobody else work on these digests meanwhile.
    """
    gone: list[str] = []
    with closing(OpenFolders(filesystem, data_fd)) as folders, suppress(OSError):
        filesystem.close(open_trash(filesystem, data_fd))
        for digest, moment_ns in deleted_at_ns.items():
            with suppress(OSError):
                if _clear(folders, digest, moment_ns):
                    gone.append(digest)
    return tuple(gone)


def resolve_parked_ghosts(filesystem: Filesystem, data_fd: int) -> tuple[tuple[str, str], ...]:
    """Settle what was set aside as a ghost when all ended; returns what could not be, and why.

    Nobody else works on it meanwhile.
    """
    errors: list[tuple[str, str]] = []
    with closing(OpenFolders(filesystem, data_fd)) as folders:
        for folder in _ASIDE:
            try:
                for name in tuple(_names_aside(folders, folder)):
                    _resolve(folders, folder, digest_of(name.rpartition(".")[2]))
            except OSError as error:
                errors.append((folder, error.strerror or str(error)))
    return tuple(errors)


def is_ghost_aside(name: str) -> bool:
    """Return whether a name in the trash is that of a ghost that was set aside."""
    return _is_aside(f"{OWN}/{TRASH}", name)


def _is_aside(folder: str, name: str) -> bool:
    prefix = _ASIDE[folder]
    return name.startswith(prefix) and DIGEST_HEX.fullmatch(name[len(prefix) :]) is not None


def _names_aside(folders: OpenFolders, folder: str) -> Iterator[str]:
    fd = folders.find(folder)
    if fd is not None:
        with folders.filesystem.scandir(fd) as entries:
            yield from (entry.name for entry in entries if _is_aside(folder, entry.name))


def clear_fresh_ghost(folders: OpenFolders, digest: str) -> bool:
    """Take away the ghost of a digest that has come while a repository's own folder of it was away; returns whether it has.

    No pull is under way in it: of what a pull makes, `ready` is the last.

    Raises:
        OSError: it could not be taken away.
    """
    return _clear(folders, digest, 0, settled_ns=0)


def _clear(folders: OpenFolders, digest: str, deleted_at_ns: int, *, settled_ns: int = _SETTLED_NS) -> bool:
    filesystem, hexadecimal = folders.filesystem, hex_of(digest)
    content_fd = folders.find(_CONTENT)
    if content_fd is None:
        return False
    inode = _ghost_inode(
        filesystem, content_fd, hexadecimal, (deleted_at_ns, filesystem.now_ns() - settled_ns)
    )
    if inode is None:
        return False
    folder = _set_aside(folders, hexadecimal)
    return folder is not None and _resolve(folders, folder, digest, inode)


def _set_aside(folders: OpenFolders, hexadecimal: str) -> str | None:
    """Rename a folder out of `content/`; returns to which folder. None: that cannot be done, so it stays."""
    for folder, prefix in _ASIDE.items():
        try:
            folders.filesystem.rename(
                hexadecimal,
                prefix + hexadecimal,
                src_dir_fd=folders.get(_CONTENT),
                dst_dir_fd=folders.get(folder),
            )
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        else:
            return folder
    return None


def _resolve(folders: OpenFolders, folder: str, digest: str, inode: int | None = None) -> bool:
    """Erase what was set aside if it is a ghost, else put it back; returns whether it has gone.

    `inode`: of the folder that was looked at; None: it is not known any more.
    """
    filesystem, hexadecimal = folders.filesystem, hex_of(digest)
    fd, name = folders.get(folder), _ASIDE[folder] + hexadecimal
    is_same = inode in (None, inode_of(filesystem, fd, name))
    if not (is_same and _may_go(filesystem, fd, name, digest)):
        content_fd = folders.make(_CONTENT)
        if not exists(filesystem, content_fd, hexadecimal):
            filesystem.rename(name, hexadecimal, src_dir_fd=folders.get(folder), dst_dir_fd=content_fd)
            return False
    erase(filesystem, folders.data_fd, folder, name)
    return True


def _ghost_inode(
    filesystem: Filesystem, content_fd: int, hexadecimal: str, changed_within: tuple[int, int]
) -> int | None:
    """Look whether a folder is a ghost that was last changed between two moments; None: no."""
    try:
        found = filesystem.stat(hexadecimal, dir_fd=content_fd, follow_symlinks=False)
        metadata = filesystem.stat(f"{hexadecimal}/{METADATA}", dir_fd=content_fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    changed_ns = max(found.st_mtime_ns, metadata.st_mtime_ns)
    earliest_ns, latest_ns = changed_within
    # guard(leftover-of-own-deletion): Only what appeared after our own deletion and has been quiet since is cleared;
    # anything else may be a pull's.
    if not earliest_ns <= changed_ns <= latest_ns:
        return None
    image = read_digest_folder(filesystem, content_fd, None, hexadecimal)
    if image is None or image.image.status != "ready" or image.has_disk:
        return None
    # guard(metadata-alone-is-leftover): A folder that holds more than metadata may be a pull under way and is left
    # alone.
    return found.st_ino if _names_in(filesystem, content_fd, hexadecimal) == [METADATA] else None


def _may_go(filesystem: Filesystem, parent_fd: int, name: str, digest: str) -> bool:
    """Look at what was set aside: still ready, no disk, of that digest; or what is left of it where its erasing was cut off."""
    names = _names_in(filesystem, parent_fd, name)
    # guard(leftover-checked-aside): A file may arrive right before the folder is set aside; what holds more than
    # metadata then goes back.
    return not names or (names == [METADATA] and _is_ready(filesystem, parent_fd, name, digest))


def _is_ready(filesystem: Filesystem, parent_fd: int, name: str, digest: str) -> bool:
    try:
        metadata = read_image_metadata(read_file(filesystem, f"{name}/{METADATA}", parent_fd))
    except UnreadableError:
        return False
    return metadata.status == "ready" and metadata.digest == digest


def _names_in(filesystem: Filesystem, parent_fd: int, name: str) -> list[str]:
    with (
        opened(filesystem, open_folder(filesystem, name, parent_fd)) as fd,
        filesystem.scandir(fd) as entries,
    ):
        return [entry.name for entry in entries]
