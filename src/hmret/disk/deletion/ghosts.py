"""Removing late ghosts: what a tag call leaves that read an image before hmret deleted it, and wrote after.

Without that deletion the ghost would not exist, so hmret removes it: its links then dangle, and a create
pulls the image again. A ghost of a digest that hmret did not delete is not hmret's, and stays.
"""

import errno
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress

from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.deletion.trash.erasing import erase
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import exists, inode_of, opened_folder, opened_own_folder, read_file
from hmret.disk.hypeman.documents import UnreadableError, read_image_metadata
from hmret.disk.hypeman.images import read_digest_folder
from hmret.disk.layout import CONTENT, DIGEST_HEX, IMAGES, METADATA, TRASH, digest_of, hex_of
from hmret.model.times import SECOND

_UNCHANGED_FOR_NS = 60 * SECOND
"""How long a ghost must not have changed."""

_CONTENT = f"{IMAGES}/{CONTENT}"
_ASIDE = {TRASH: "ghost.", IMAGES: ".hmret-ghost."}
"""Where a ghost is set aside to be examined, and the prefix of its name there: in the trash or, if that is on
another file system, outside `content/`; with metadata alone hypeman does not take it for an image there
either.
"""


def clear_ghosts(filesystem: Filesystem, data_fd: int, deleted_at_ns: Mapping[str, int]) -> tuple[str, ...]:
    """Remove the ghosts of digests that were made after their deletion; returns the digests of those removed.

    The caller makes sure that nothing else works on these digests.
    """
    gone: list[str] = []
    with (
        closing(OpenFolders(filesystem, data_fd)) as folders,
        suppress(OSError),
        opened_own_folder(filesystem, data_fd, TRASH),
    ):
        for digest, moment_ns in deleted_at_ns.items():
            with suppress(OSError):
                if _clear(folders, digest, moment_ns):
                    gone.append(digest)
    return tuple(gone)


def resolve_parked_ghosts(filesystem: Filesystem, data_fd: int) -> tuple[tuple[str, str], ...]:
    """Resolve ghosts that a crash left set aside; returns those that could not be resolved, with the reason.

    Nothing else works on them concurrently.
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


def is_parked_ghost(name: str, folder: str = TRASH) -> bool:
    """Return whether a name, in the trash or in another such folder, is that of a ghost that was set aside."""
    prefix = _ASIDE[folder]
    return name.startswith(prefix) and DIGEST_HEX.fullmatch(name[len(prefix) :]) is not None


def _names_aside(folders: OpenFolders, folder: str) -> Iterator[str]:
    fd = folders.find(folder)
    if fd is not None:
        with folders.filesystem.scandir(fd) as entries:
            yield from (entry.name for entry in entries if is_parked_ghost(entry.name, folder))


def clear_fresh_ghost(folders: OpenFolders, digest: str) -> bool:
    """Remove a digest's ghost that appeared while a repository's own folder was away; returns whether it was removed.

    No pull can be in progress in it: `ready` is the last thing that a pull writes.

    Raises:
        OSError: it could not be removed.
    """
    return _clear(folders, digest, 0, unchanged_for_ns=0)


def _clear(
    folders: OpenFolders, digest: str, deleted_at_ns: int, *, unchanged_for_ns: int = _UNCHANGED_FOR_NS
) -> bool:
    filesystem, hexadecimal = folders.filesystem, hex_of(digest)
    content_fd = folders.find(_CONTENT)
    if content_fd is None:
        return False
    inode = _ghost_inode(
        filesystem, content_fd, hexadecimal, (deleted_at_ns, filesystem.now_ns() - unchanged_for_ns)
    )
    if inode is None:
        return False
    folder = _set_aside(folders, hexadecimal)
    return folder is not None and _resolve(folders, folder, digest, inode)


def _set_aside(folders: OpenFolders, hexadecimal: str) -> str | None:
    """Rename a folder out of `content/`; returns the folder that holds it then. None: impossible, it stays."""
    for folder, prefix in _ASIDE.items():
        try:
            folders.rename(_CONTENT, hexadecimal, folder, prefix + hexadecimal)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        else:
            return folder
    return None


def _resolve(folders: OpenFolders, folder: str, digest: str, inode: int | None = None) -> bool:
    """Erase a folder that was set aside if it is a ghost, or if its place is taken; else put it back.

    Returns whether it was erased.

    `inode`: that of the folder that was examined; None: no longer known.
    """
    filesystem, hexadecimal = folders.filesystem, hex_of(digest)
    fd, name = folders.get(folder), _ASIDE[folder] + hexadecimal
    is_same = inode in (None, inode_of(filesystem, fd, name))
    if not (is_same and _may_go(filesystem, fd, name, digest)):
        content_fd = folders.make(_CONTENT)
        if not exists(filesystem, content_fd, hexadecimal):
            folders.rename(folder, name, _CONTENT, hexadecimal)
            return False
    erase(filesystem, folders.data_fd, folder, name)
    return True


def _ghost_inode(
    filesystem: Filesystem, content_fd: int, hexadecimal: str, changed_within: tuple[int, int]
) -> int | None:
    """Return the inode of a ghost that was last changed between two moments; None: the folder is none."""
    try:
        found = filesystem.stat(hexadecimal, dir_fd=content_fd, follow_symlinks=False)
        metadata = filesystem.stat(f"{hexadecimal}/{METADATA}", dir_fd=content_fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    changed_ns = max(found.st_mtime_ns, metadata.st_mtime_ns)
    earliest_ns, latest_ns = changed_within
    # guard(leftover-of-own-deletion): Only what appeared after our own deletion and has been quiet since is
    # cleared; anything else may be a pull's.
    if not earliest_ns <= changed_ns <= latest_ns:
        return None
    image = read_digest_folder(filesystem, content_fd, None, hexadecimal)
    if image is None or image.image.status != "ready" or image.has_disk:
        return None
    # guard(metadata-alone-is-leftover): A folder that holds more than metadata may be a pull under way and is
    # left alone.
    return found.st_ino if _names_in(filesystem, content_fd, hexadecimal) == [METADATA] else None


def _may_go(filesystem: Filesystem, parent_fd: int, name: str, digest: str) -> bool:
    """Return whether a folder set aside is a ghost of this digest (ready, no disk), or the rest of one."""
    names = _names_in(filesystem, parent_fd, name)
    # guard(leftover-checked-aside): A file may arrive right before the folder is set aside; what holds more
    # than metadata then goes back.
    return not names or (names == [METADATA] and _is_ready(filesystem, parent_fd, name, digest))


def _is_ready(filesystem: Filesystem, parent_fd: int, name: str, digest: str) -> bool:
    try:
        metadata = read_image_metadata(read_file(filesystem, f"{name}/{METADATA}", parent_fd))
    except UnreadableError:
        return False
    return metadata.status == "ready" and metadata.digest == digest


def _names_in(filesystem: Filesystem, parent_fd: int, name: str) -> list[str]:
    with opened_folder(filesystem, name, parent_fd) as fd, filesystem.scandir(fd) as entries:
        return [entry.name for entry in entries]
