"""Finding the process that has locked a file, in the kernel's own list.

The lock itself is not tried: an engine that starts at that moment would find it taken.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hmret.disk.kernel.lock_holder import find_lock_holder

_LOCKS = Path("/proc/locks")
_WRITTEN = 32  # bytes at the start of the lock file, with the number of the process that took the lock


def find_lock_owner(path: Path) -> int | None:
    """Return the number of the process that holds the `flock` of a file; None: no process does, or it is unknown.

    Raises:
        OSError: the file cannot be opened.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        text = os.read(fd, _WRITTEN).decode("ascii", "replace").strip()
        written = int(text) if text.isdecimal() else None
        # btrfs and overlays list a different device than `stat` returns; there the process must be the one on
        # record.
        listed = [
            process
            for process, device, inode in _locks()
            if inode == status.st_ino and (device == status.st_dev or process == written)
        ]
        if not listed:
            return None
        # The list names the process that took the lock; by now, one of its children may hold it.
        return find_lock_holder(fd, written if written in listed else None) or listed[0]
    finally:
        os.close(fd)


def _locks() -> Iterator[tuple[int, int, int]]:
    """List all `flock` locks: process, device and inode."""
    with suppress(OSError, ValueError):
        for line in _LOCKS.read_text(encoding="ascii").splitlines():
            match line.split():
                case [_, "FLOCK", _, _, process, place, *_]:
                    major, minor, inode = place.split(":")
                    yield int(process), os.makedev(int(major, 16), int(minor, 16)), int(inode)
