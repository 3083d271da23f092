"""Work on a disk in memory that is cut off, or fails, at each of its calls; and what a start makes of what is left."""

import errno
import os
from collections.abc import Callable, Iterator
from itertools import count
from typing import TypeVar

from hmret.actors.deleter import Deleter
from hmret.disk.deletion.recovery.recovering import Recovery
from hmret.disk.folders import let_go
from support.builders import GatedThreads, data_fd_of
from support.memory_filesystem import Call, Crash, MemoryFilesystem

__all__ = ["cut_at", "cut_everywhere", "failed_everywhere", "recover", "started"]

T = TypeVar("T")

_NEVER_ENDS = 2000
"""Calls that no work here comes to."""


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


def cut_everywhere(
    disk: MemoryFilesystem, work: Callable[[MemoryFilesystem], object]
) -> Iterator[tuple[int, MemoryFilesystem]]:
    """Give, for each call of some work, the disk as a process leaves it that is killed right before that call.

    The work is done once, on a copy. What is given can lose power as well: what was not durable still is not.
    """
    working = disk.crashed_copy()
    left: list[MemoryFilesystem] = []

    def copy(call: Call) -> None:
        assert len(left) < _NEVER_ENDS, f"it never ends: {call}"
        left.append(working.crashed_copy())

    working.before = copy
    work(working)
    yield from enumerate(left, 1)


def failed_everywhere(
    disk: MemoryFilesystem, work: Callable[[MemoryFilesystem], T], code: int = errno.EIO
) -> Iterator[tuple[Call, MemoryFilesystem, T]]:
    """Do some work again and again, each time with another call that fails; gives the call, the disk, and what came of it.

    The first call is spared, which opens the data directory. No descriptor may be left open.
    """
    for number in count(2):
        assert number < _NEVER_ENDS, "it never ends"
        filesystem = disk.crashed_copy()
        failing = filesystem.calls + number
        reached: list[Call] = []

        def fail(call: Call, failing: int = failing, reached: list[Call] = reached) -> None:
            if call.number == failing:
                reached.append(call)
                raise OSError(code, os.strerror(code))

        filesystem.before = fail
        answer = work(filesystem)
        filesystem.before = None
        if not reached:
            return
        assert filesystem.open_descriptors() == {}, reached
        yield reached[0], filesystem, answer


def started(filesystem: MemoryFilesystem, act: Callable[[Deleter], T]) -> T:
    """Do something with a deleter, as a start does."""
    fd = data_fd_of(filesystem)
    deleter = Deleter(filesystem, fd, GatedThreads())
    try:
        return act(deleter)
    finally:
        deleter._mailbox.abandon()
        let_go(filesystem, fd)


def recover(filesystem: MemoryFilesystem) -> Recovery:
    """Do what a start does about the trash, where quarantine is off."""
    return started(filesystem, Deleter._recover)
