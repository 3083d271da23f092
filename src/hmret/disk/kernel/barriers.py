"""What the kernel would refuse: attributes and mounts that prevent a file or folder from being renamed or removed.

Nothing is opened to find out: opening a disk would break the lease that a deletion holds on it.
"""

import os
import stat
from collections.abc import Callable
from functools import cache

# Source: statx(2), and linux/stat.h.
_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_NO_AUTOMOUNT = 0x800
_IMMUTABLE = 0x10
_APPEND = 0x20
_MOUNT_ROOT = 0x2000
_STATX_TYPE = 0x1


@cache
def _looking() -> Callable[[str, int], tuple[int, int]] | None:
    """Make the function that calls `statx`, on its first use, which is rare; None: there is none here."""
    import ctypes  # noqa: PLC0415 - see above

    class Statx(ctypes.Structure):
        _fields_ = (
            ("mask", ctypes.c_uint32),
            ("block_size", ctypes.c_uint32),
            ("attributes", ctypes.c_uint64),
            ("links", ctypes.c_uint32),
            ("owner", ctypes.c_uint32),
            ("group", ctypes.c_uint32),
            ("mode", ctypes.c_uint16),
            ("rest", ctypes.c_byte * 512),
        )

    try:
        statx = ctypes.CDLL(None).statx
    except (AttributeError, OSError):  # an older libc, or another system
        return None

    def look(path: str, dir_fd: int) -> tuple[int, int]:
        found = Statx()
        flags = _AT_SYMLINK_NOFOLLOW | _AT_NO_AUTOMOUNT
        failed = statx(dir_fd, os.fsencode(path), flags, _STATX_TYPE, ctypes.byref(found))
        return (0, 0) if failed else (found.attributes, found.mode)

    return look


def _statx(path: str, dir_fd: int | None) -> tuple[int, int]:
    """Return the attributes and the mode of the file at a path; 0 and 0 where they are not available."""
    look = _looking()
    return (0, 0) if look is None else look(path, _AT_FDCWD if dir_fd is None else dir_fd)


def find_barrier(path: str, *, dir_fd: int | None = None) -> str:
    """Return why the kernel would refuse to rename or remove a path, or anything in it; empty: no reason is known.

    No link is followed in the last component.
    """
    attributes, mode = _statx(path, dir_fd)
    if attributes & _IMMUTABLE:
        return "immutable (run chattr -i)"
    if attributes & _APPEND:
        return "append-only (run chattr -a)"
    if attributes & _MOUNT_ROOT:
        return "something is mounted there (run umount)"
    if stat.S_ISDIR(mode) and not os.access(path, os.W_OK | os.X_OK, dir_fd=dir_fd, effective_ids=True):
        return "hmret may not change it: permission is missing, or its file system is read-only"
    return ""
