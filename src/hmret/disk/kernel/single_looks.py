"""Single files and folders, looked at by the single calls of any `Filesystem`: parts of whole-folder calls."""

import errno
import os
import stat

from hmret.disk.kernel.system_calls import FileFound, Filesystem, FolderRead, Stat

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW

_DiskLook = tuple[int, int, int, tuple[int, int, int] | None]
"""The part of an `ImageLook` that is about the disk."""


def look_at_disk(filesystem: Filesystem, folder_fd: int, name: str, disks: list[str]) -> _DiskLook:
    """Examine the first of some names of a disk that exists."""
    for number, disk in enumerate(disks):
        try:
            status = filesystem.stat(f"{name}/{disk}", dir_fd=folder_fd, follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                continue
            return number, error.errno or errno.EIO, 0, None
        # guard(disk-is-a-plain-file): A link or device in the place of a disk may lead anywhere, so its image
        # is reported as broken and stays.
        if not stat.S_ISREG(status.st_mode):
            return number, 0, -1, None
        links = status.st_nlink
        shared = (status.st_dev, status.st_ino, links) if links > 1 else None
        return number, 0, status.st_blocks, shared
    return -1, 0, 0, None


def holds_files_only(filesystem: Filesystem, folder_fd: int, name: str, known: set[str]) -> bool:
    """Return whether a folder holds only regular files, some of which are known; False where unknown."""
    try:
        fd = filesystem.open(name, READ | os.O_DIRECTORY, dir_fd=folder_fd)
    except OSError:
        return False
    try:
        links, folders, others, _ = filesystem.list_folder(fd)
        others = [other for other in others if other not in known]
        if links or folders:
            return False
        return all(
            not isinstance(found, int) and stat.S_ISREG(found[0])
            for found in filesystem.stat_files(fd, others)
        )
    except OSError:
        return False
    finally:
        filesystem.close_all([fd])


def read_one(filesystem: Filesystem, folder_fd: int, path: str, most: int) -> tuple[Stat, bytes]:
    """Read a file that is not a link.

    Raises:
        OSError: that failed; then it is not open.
    """
    fd = filesystem.open(path, READ, dir_fd=folder_fd)
    try:
        return filesystem.fstat(fd), filesystem.read(fd, most)
    finally:
        # Nothing was written through it: whatever `close` returns, it is closed.
        filesystem.close_all([fd])


def status_of(found: Stat) -> FileFound:
    """Return a status as the whole-folder calls do."""
    return (
        found.st_mode,
        found.st_dev,
        found.st_ino,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )


def read_folder(  # noqa: PLR0917 - as the call that it serves
    filesystem: Filesystem, parent_fd: int, path: str, suffix: str, most: int, most_read: int
) -> FolderRead | None:
    """Read a folder that is not a link, with its links and some of its files; None: it holds too many of them.

    Raises:
        OSError: it could not be opened or listed.
    """
    fd = filesystem.open(path, FOLDER, dir_fd=parent_fd)
    try:
        # guard(folder-stamp-first): The time stamps of a folder are asked before it is listed: asked
        # afterwards, they would vouch for a listing that misses what has changed since.
        status, listing = status_of(filesystem.fstat(fd)), filesystem.list_folder(fd)
        links, folders, others, _ = listing
        files = [name for name in others if suffix and name.endswith(suffix)]
        if max(len(links), len(files)) > most_read:
            return None
        targets = filesystem.read_links(fd, links)
        return status, links, targets, folders, others, filesystem.read_files(fd, files, most)
    finally:
        filesystem.close_all([fd])
