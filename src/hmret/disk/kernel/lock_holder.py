"""Finding the process that holds the lock on a file, to show it to the operator.

The lock itself is not tried: an engine that starts at that moment would find it taken.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROCESSES = Path("/proc")
_LOCKS = Path("/proc/locks")
"""The kernel's own list of locks."""
_WRITTEN = 32  # bytes at the start of the lock file, with the number of the process that took the lock


def find_lock_holder(fd: int, written: int | None) -> int | None:
    """Return a living process that holds the `flock` of an open file; None where it cannot be determined.

    A lock belongs to an open file description, which children inherit: the process that took it may have
    ended. `written` is the process id that the lock's owner wrote into the file.
    """
    status = os.fstat(fd)
    wanted = status.st_dev, status.st_ino
    # The kernel names the open file with the lock only while the process that took it lives. No process opens
    # a file with an owner's process id in it except to lock it, so any other process that has it open is a
    # child that inherited it.
    rivals: list[int] = []
    with suppress(OSError):
        for process in _PROCESSES.iterdir():
            if process.name.isdecimal():
                opened = _open_with(process, wanted)
                if any(opened):
                    return int(process.name)
                if opened and int(process.name) != os.getpid():
                    rivals.append(int(process.name))
    if rivals and written is not None:
        return min(rivals)
    if written is None or written == os.getpid():
        return None
    return written if (_PROCESSES / str(written)).exists() else None


def _open_with(process: Path, wanted: tuple[int, int]) -> list[bool]:
    """Return whether each descriptor that a process has of the file is locked; empty without permission."""
    opened: list[bool] = []
    with suppress(OSError):
        for link in (process / "fd").iterdir():
            with suppress(OSError):
                status = link.stat()
                if (status.st_dev, status.st_ino) == wanted:
                    text = (process / "fdinfo" / link.name).read_text(encoding="ascii", errors="replace")
                    lines = text.splitlines()
                    opened.append(any(line.startswith("lock:") and "FLOCK" in line for line in lines))
    return opened


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
