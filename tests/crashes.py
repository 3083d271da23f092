"""Crashes of some work on a disk in memory."""

from collections.abc import Callable

from memory_filesystem import Call, Crash, MemoryFilesystem

__all__ = ["cut_at"]


def cut_at(filesystem: MemoryFilesystem, number: int, work: Callable[[MemoryFilesystem], object]) -> bool:
    """Crash at a call of some work; False where it had ended before."""
    last = filesystem.calls + number

    def crash(call: Call) -> None:
        if call.number == last:
            raise Crash

    filesystem.before = crash
    try:
        work(filesystem)
    except Crash:
        return True
    return False
