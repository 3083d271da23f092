"""Processes that read for the actors, where there is very much to read."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import anyio
import msgspec

from hmret.actors.threads import Threads
from hmret.disk.reader_process import ReaderProcess
from hmret.disk.reading import Kind, ask

__all__ = ["Readers", "usual_readers"]

T = TypeVar("T")

# More than two gain little: what they read is put together in this process.
_USUAL = 2
_FAULTS = (OSError, msgspec.MsgspecError, ValueError)


def usual_readers() -> int:
    """Return how many reader processes this machine has room for: two, or none where it has but one processor.

    None either where this program cannot be sure that `sys.executable` starts a Python interpreter. Where Python is
    embedded it may name the program that embeds it, and starting that could do anything.
    """
    processors = len(os.sched_getaffinity(0))
    return min(processors, _USUAL) if processors > 1 and _is_interpreter() else 0


def _is_interpreter() -> bool:
    """Return whether this process was started as a Python interpreter, and `sys.executable` names that very program."""
    if getattr(sys, "frozen", False) or not sys.executable:
        return False
    try:
        is_this_program = Path("/proc/self/exe").samefile(sys.executable)
        words = [os.fsdecode(word) for word in Path("/proc/self/cmdline").read_bytes().split(b"\0")[:-1]]
    except (OSError, ValueError):
        return False
    # An interpreter knows the words that it was started with; one that is embedded was not started with any.
    return is_this_program and words == sys.orig_argv


class Readers:
    """Reader processes, started when they are first asked, ended by `dismiss`.

    They save time, and nothing rests on them: where one cannot be started or does not answer, nobody asks them any
    more, and the actors read for themselves.
    """

    def __init__(self, threads: Threads, data_fd: int, count: int) -> None:
        self._threads = threads
        self._data_fd = data_fd
        self._count = count
        self._places = anyio.Semaphore(max(count, 1))
        self._idle: list[ReaderProcess] = []

    @property
    def are_offered(self) -> bool:
        """Tell whether there is anybody to ask."""
        return self._count > 0

    @property
    def lanes(self) -> int:
        """How many questions keep all of them busy: an answer is read while the next question is worked on."""
        return self._count + 1

    async def read(self, kind: Kind, paths: Sequence[str], understand: Callable[[bytes], T]) -> T | None:
        """Have some paths read; None where that cannot be done."""
        if not self.are_offered:
            return None
        async with self._places:
            answer = await self._threads.run(self._ask, kind, paths)
        return None if answer is None else await self._threads.run_alone(self._understand, answer, understand)

    async def dismiss(self) -> None:
        """End the processes; they are started again when they are asked again."""
        if self._idle:
            await self._threads.run(self._end)

    def _ask(self, kind: Kind, paths: Sequence[str]) -> bytes | None:
        process = None
        try:
            process = self._idle.pop() if self._idle else ReaderProcess(self._data_fd)
            answer = process.ask(ask(kind, paths))
        except _FAULTS:
            self._count = 0
            if process is not None:
                process.close()
            return None
        self._idle.append(process)
        return answer

    def _understand(self, answer: bytes, understand: Callable[[bytes], T]) -> T | None:
        try:
            return understand(answer)
        except _FAULTS:
            self._count = 0
            return None

    def _end(self) -> None:
        while self._idle:
            self._idle.pop().close()
