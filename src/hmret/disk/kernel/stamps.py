"""The precision of time stamps: whether this kernel's own clock makes them, at its full resolution."""

import ctypes
import sys
import time

# Source: linux/magic.h. Each stamps with the kernel's clock, in nanoseconds, unless it was made long ago with
# whole seconds. Not listed are overlays, which stamp as the file systems below them do, and file systems that
# another host or program stamps for.
_EXT4 = 0xEF53
_XFS = 0x58465342
_BTRFS = 0x9123683E
_TMPFS = 0x01021994
_F2FS = 0xF2F52010
_BY_OUR_KERNEL = frozenset((_EXT4, _XFS, _BTRFS, _TMPFS, _F2FS))

# Source: clock_gettime(2) of Linux. This clock stands still between two ticks, and no stamp is ever earlier
# than it.
_CLOCK_REALTIME_COARSE = 5

# Source: statfs(2). The real structure is smaller by far.
_LARGEST_STATFS = 1024


class _Statfs(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_long), ("rest", ctypes.c_byte * _LARGEST_STATFS))


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def earliest_stamp_ns(fd: int) -> int | None:
    """Return the earliest stamp, in nanoseconds, that a change from now on can get on an open file's file system.

    None: it is unknown for this file system.
    """
    found = _Statfs()
    if _libc is None or _libc.fstatfs(fd, ctypes.byref(found)):
        return None
    if found.kind & 0xFFFFFFFF not in _BY_OUR_KERNEL:
        return None
    return time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)
