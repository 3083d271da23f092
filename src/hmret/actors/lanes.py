"""Reading by several threads at once: each takes what waits, reads it, and puts in what it found.

A thread that reads gives the interpreter's lock up while the disk is asked, so that two of them keep both busy. Where
the disk has to be waited for, more of them ask it at a time, which a disk answers hardly slower than one question.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import anyio
import anyio.abc
import attrs

from hmret.actors.threads import Threads, voluntary_switches
from hmret.model.values import define

__all__ = ["Lanes"]

Q = TypeVar("Q")
A = TypeVar("A")

# How often a thread gives the processor up by itself for each thing that it read, where it waits for the disk: well above
# what waiting for the interpreter comes to.
_COLD_SHARE = 1.5
_FEW_WAITS = 50


@define(eq=False)
class Lanes(Generic[Q, A]):
    """One look at everything that waits."""

    threads: Threads
    take: Callable[[int], list[Q]]
    """Takes some of what waits, where so many threads are to have a share; empty: nothing waits."""
    look: Callable[[list[Q]], A]
    """Looks at it, in a thread."""
    put: Callable[[A], int]
    """Puts in what was found, and perhaps more that waits; returns how much there was to read."""
    _busy: int = attrs.field(default=0, init=False)
    _lanes: int = attrs.field(default=0, init=False)
    _news: anyio.Event = attrs.field(factory=anyio.Event, init=False)

    async def run(self) -> None:
        """Look until nothing waits.

        Raises:
            Exception: whatever the first look that failed has raised; the others are ended first.
        """
        failures: list[Exception] = []
        async with anyio.create_task_group() as tasks:
            self._open(tasks, self.threads.lanes, failures)
        if failures:
            raise failures[0]

    def _open(self, tasks: anyio.abc.TaskGroup, lanes: int, failures: list[Exception]) -> None:
        for _ in range(lanes - self._lanes):
            tasks.start_soon(self._look_on, tasks, failures)
        self._lanes = max(lanes, self._lanes)

    async def _look_on(self, tasks: anyio.abc.TaskGroup, failures: list[Exception]) -> None:
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
        before = voluntary_switches()
        return self.look(taken), voluntary_switches() - before
