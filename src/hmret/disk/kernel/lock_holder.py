"""Finding the process that holds the lock on a file, to show it to the operator."""

import os
from contextlib import suppress
from pathlib import Path

_PROCESSES = Path("/proc")


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
