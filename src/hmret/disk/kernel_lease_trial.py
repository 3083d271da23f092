"""Whether a kernel lease survives a rename on this file system: tried on a file of hmret's own.

On some file systems (sshfs is one) the rename itself opens or drops the file that is renamed, and so breaks
the lease on it. Every deletion would then look as if a process had opened the disk at that very moment, and
would be undone.
"""

import os
from contextlib import suppress

from hmret.disk.filesystem import FileLease, Filesystem
from hmret.disk.folders import let_go, opened, opened_data_folder
from hmret.disk.layout import OWN

_NAME = "lease-trial"
_NEW_NAME = "lease-trial.renamed"
_FILE = "file"


def do_leases_break(filesystem: Filesystem, data_fd: int) -> bool:
    """Return whether renaming a folder breaks a lease on a file in it; False where none can be tried.

    Leaves nothing behind. Needs hmret's own folder to exist.
    """
    try:
        with opened_data_folder(filesystem, data_fd, OWN) as own_fd:
            try:
                return _try(filesystem, own_fd)
            finally:
                for name in (_NAME, _NEW_NAME):
                    with suppress(OSError):
                        filesystem.unlink(f"{name}/{_FILE}", dir_fd=own_fd)
                    with suppress(OSError):
                        filesystem.rmdir(name, dir_fd=own_fd)
    except OSError:
        return False


def _try(filesystem: Filesystem, own_fd: int) -> bool:
    with suppress(FileExistsError):
        filesystem.mkdir(_NAME, 0o700, dir_fd=own_fd)
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    let_go(filesystem, filesystem.open(f"{_NAME}/{_FILE}", flags, 0o600, dir_fd=own_fd))
    fd = filesystem.open(f"{_NAME}/{_FILE}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=own_fd)
    with opened(filesystem, fd):
        try:
            filesystem.take_lease(fd)
        except OSError:
            return False
        filesystem.rename(_NAME, _NEW_NAME, src_dir_fd=own_fd, dst_dir_fd=own_fd)
        return filesystem.ask_lease(fd) != FileLease.HELD
