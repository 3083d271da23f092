"""Space for one file of intents, allocated in advance, so that deletions can begin even on a completely full disk.

A deletion records what it is about to do before it does it, and that takes blocks. The reserve is a file
whose blocks exist already: the intents are written over it, in place, and it is renamed to its destination.
On ext4, xfs and tmpfs that needs no free block; on btrfs and zfs, which never write in place, it does not
help.
"""

import errno
import os

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import let_go, opened_own_folder, write_all, write_file
from hmret.disk.layout import TRASH

RESERVE = "reserve"
"""The name of the file, in hmret's own folder."""

_RESERVED_BYTES = 64 * 1024
"""The size of the intents of one small batch of images, with their tags."""

NO_SPACE = frozenset((errno.ENOSPC, errno.EDQUOT))
"""The file system, or a quota, is exhausted."""

NO_SPACE_REMEDY = (
    "free some MiB on that file system (a log, a download), or move system/hmret to another one and leave a link; on btrfs, "
    "truncate a large file that is not needed, or add a device for a while"
)
"""The remedy where not one block is free."""


def fill_reserve(filesystem: Filesystem, data_fd: int) -> None:
    """Allocate the reserve if it is missing; also makes the folder of the trash, which needs a block of its own.

    Raises:
        OSError: there is no space, or it cannot be written.
    """
    with opened_own_folder(filesystem, data_fd, TRASH):
        pass
    with opened_own_folder(filesystem, data_fd) as own_fd:
        try:
            found = filesystem.stat(RESERVE, dir_fd=own_fd, follow_symlinks=False)
        except FileNotFoundError:
            found = None
        if found is None or found.st_size != _RESERVED_BYTES:
            write_file(filesystem, RESERVE, b" " * _RESERVED_BYTES, own_fd, durable=True)


def write_into_reserve(
    filesystem: Filesystem, data_fd: int, folder_fd: int, name: str, content: bytes
) -> bool:
    """Write a JSON file, durably, over the reserve, which this uses up; False where it is too small or missing.

    Args:
        filesystem: the system calls.
        data_fd: the data directory.
        folder_fd: the destination folder, on the same file system.
        name: the file's name there.
        content: its content; spaces follow it.

    Raises:
        OSError: it could not be written.
    """
    if len(content) > _RESERVED_BYTES:
        return False
    with opened_own_folder(filesystem, data_fd) as own_fd:
        try:
            fd = filesystem.open(RESERVE, os.O_WRONLY | os.O_NOFOLLOW, dir_fd=own_fd)
        except FileNotFoundError:
            return False
        try:
            if filesystem.fstat(fd).st_size != _RESERVED_BYTES:
                return False
            write_all(filesystem, fd, content.ljust(_RESERVED_BYTES))
            filesystem.fsync(fd)
        finally:
            let_go(filesystem, fd)
        filesystem.rename(RESERVE, name, src_dir_fd=own_fd, dst_dir_fd=folder_fd)
        filesystem.fsync(folder_fd)
    return True
