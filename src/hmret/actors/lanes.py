"""Reading in several threads at once: each takes work from a queue, reads, and adds what it found.

The native core releases the interpreter's lock while it reads, so two threads keep the disk and the interpreter
busy; without the core there is one, since two would mostly wait for each other. If reads block on the disk, more
threads are used in either case: a disk serves several requests at once almost as fast as one.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import anyio
import anyio.abc
import attrs

from hmret.actors.disk_waits import DiskWaits
from hmret.actors.threads import Threads
from hmret.model.values import define

Q = TypeVar("Q")
A = TypeVar("A")

# Waits per item above which extra threads pay off; a cold disk causes 2 to 40.
_COLD_SHARE = 1.5
_FEW_WAITS = 50


@define(eq=False)
class Lanes(Generic[Q, A]):
    """One pass over everything in the queue."""

    threads: Threads
    take: Callable[[int], list[Q]]
    """Takes work from the queue, sharing it among the given number of threads; empty: none is left."""
    look: Callable[[list[Q]], A]
    """Reads it, in a thread."""
    put: Callable[[A], int]
    """Stores what was found, and may queue more work; returns how much had to be read."""
    _busy: int = attrs.field(default=0, init=False)
    _lanes: int = attrs.field(default=0, init=False)
    _news: anyio.Event = attrs.field(factory=anyio.Event, init=False)

    async def run(self) -> None:
        """Read until the queue is empty.

        Raises:
            Exception: the first failure; the other threads are awaited first.
        """
        failures: list[Exception] = []
        async with anyio.create_task_group() as tasks:
            self._open(tasks, self.threads.lanes, failures)
        if failures:
            raise failures[0]

    def _open(self, tasks: anyio.abc.TaskGroup, lanes: int, failures: list[Exception]) -> None:
        for _ in range(lanes - self._lanes):
            tasks.start_soon(self._run_lane, tasks, failures)
        self._lanes = max(lanes, self._lanes)

    async def _run_lane(self, tasks: anyio.abc.TaskGroup, failures: list[Exception]) -> None:
        while True:
            taken = self.take(self._lanes)
            if not taken:
                if not self._busy:
                    return
                await self._news.wait()
                continue
            self._busy += 1
            try:
                answer, waits = await self.threads.read(self._look, taken)
                if waits > _FEW_WAITS + _COLD_SHARE * self.put(answer):
                    self._open(tasks, self.threads.lanes_of_a_cold_disk, failures)
            except Exception as error:  # noqa: BLE001 - raised by `run`, alone, when the others have ended
                failures.append(error)
                tasks.cancel_scope.cancel()
            finally:
                self._busy -= 1
                self._news.set()
                self._news = anyio.Event()

    def _look(self, taken: list[Q]) -> tuple[A, int]:
        """Call `look` in a thread; returns its answer, and how often it waited for the disk."""
        waits = DiskWaits.begin()
        return self.look(taken), waits.count()
