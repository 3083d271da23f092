"""Which process holds the lock on a file: a name for the operator to look for."""

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["find_lock_holder"]

_PROCESSES = Path("/proc")


def find_lock_holder(fd: int, written: int | None) -> int | None:
    """Find a living process that holds the `flock` of an open file; None where nobody can tell.

    A lock belongs to an open file, which children inherit: the process that took it may have ended. `written` is what
    that process wrote about itself.
    """
    found = os.fstat(fd)
    wanted = found.st_dev, found.st_ino
    # The kernel says which open file has the lock only while the process that took it lives. Nobody opens a file that has
    # a process written into it but to lock it, so whoever else has it open is a child that has inherited it.
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
    """Return of each descriptor with which a process has the file open whether it has a lock; none where nobody may look."""
    opened: list[bool] = []
    with suppress(OSError):
        for link in (process / "fd").iterdir():
            with suppress(OSError):
                found = link.stat()
                if (found.st_dev, found.st_ino) == wanted:
                    told = (process / "fdinfo" / link.name).read_text(encoding="ascii", errors="replace")
                    lines = told.splitlines()
                    opened.append(any(line.startswith("lock:") and "FLOCK" in line for line in lines))
    return opened
