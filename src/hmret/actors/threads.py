"""Where blocking work is done: worker threads of our own, so that an embedder's are never used up."""

from collections.abc import Callable
from typing import Protocol, TypeVar, TypeVarTuple

import anyio
import anyio.lowlevel
import anyio.to_thread

__all__ = ["InlineThreads", "Threads", "WorkerThreads"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Reading is bound by the interpreter, so more would only wait for one another; a few let a quick look of
# `mark_used` pass a long batch, and let bytes be freed meanwhile.
_THREADS = 8


class Threads(Protocol):
    """Runs blocking functions; a function that was started is always waited for, also when the caller is cancelled."""

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Run a function and return what it returns."""
        ...


class WorkerThreads:
    """Runs them in worker threads."""

    def __init__(self, limit: int = _THREADS) -> None:
        self._limit = limit
        self._limiter: anyio.CapacityLimiter | None = None

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self._limit)
        return await anyio.to_thread.run_sync(function, *arguments, limiter=self._limiter)


class InlineThreads:
    """Runs them on the spot: for disks in memory, under a clock that must not run ahead of a thread."""

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        await anyio.lowlevel.checkpoint()
        return function(*arguments)
