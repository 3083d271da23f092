"""Where blocking work is done: worker threads of our own, so that an embedder's are never used up."""

import errno
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol, TypeVar, TypeVarTuple

import anyio
import anyio.lowlevel
import anyio.to_thread

from hmret.model.thread_refusal import NO_THREAD, is_thread_refusal

__all__ = ["InlineThreads", "Threads", "Throttle", "WorkerThreads", "voluntary_switches"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Reading is bound by the interpreter, so more would only wait for one another; a few let a quick look of
# `mark_used` pass a long batch, and let bytes be freed meanwhile.
_THREADS = 8
# One asks the disk while the other has the interpreter; more of them gain only where the disk has to be waited for.
_LANES = 2
_COLD_LANES = 8

# How long a thread may keep the interpreter from others while much is worked through, in seconds; Python's own default
# is ten times as long.
_SWITCH_SECONDS = 0.0005
# The same while somebody is in a hurry, who has to get it back after each of a dozen system calls.
_URGENT_SWITCH_SECONDS = 0.00005
# Long enough to lose nothing by resting. While somebody waits, work stops, but no longer than a millisecond at a time: a fifth or so of
# its speed is left to it whatever comes.
_WORK_SECONDS = 0.01
_REST_SECONDS = 0.00005
_URGENT_WORK_SECONDS = 0.0002
_URGENT_RESTS = 10
_URGENT_REST_SECONDS = 0.0001


class _Since(threading.local):
    seconds = 0.0


def voluntary_switches() -> int:
    """Count how often this thread has given the processor up by itself, as it does where it waits for a disk."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


class Throttle:
    """Has threads that work through much give way to the others.

    While one works briskly, whoever waits for the interpreter gets it after half a millisecond and not after five:
    an event loop in the same process is held up for that long at most. That is a setting of the whole interpreter, put
    back when the last of them has ended. A thread that calls the throttle itself also rests for a moment now and then, and
    stops, or nearly so, while somebody is in a hurry.
    """

    def __init__(self) -> None:
        self._since = _Since()
        self._urgent = 0

    @contextmanager
    def urgent(self) -> Iterator[None]:
        """Have the threads that work through much stop while the block lasts, or nearly so."""
        self._urgent += 1
        try:
            with _switching.after(_URGENT_SWITCH_SECONDS):
                yield
        finally:
            self._urgent -= 1

    def __call__(self) -> None:
        """Rest, if this thread has worked for long enough."""
        worked = time.perf_counter() - self._since.seconds
        if self._urgent and worked > _URGENT_WORK_SECONDS:
            for _ in range(_URGENT_RESTS):
                if not self._urgent:
                    break
                time.sleep(_URGENT_REST_SECONDS)
            self._since.seconds = time.perf_counter()
        elif worked > _WORK_SECONDS:
            time.sleep(_REST_SECONDS)
            self._since.seconds = time.perf_counter()


class _Switching:
    """The interpreter's switch interval, shortened while anybody wants it to be."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: list[float] = []
        self._before = 0.0

    @contextmanager
    def after(self, seconds: float) -> Iterator[None]:
        """Switch between threads after so long at most while the block lasts."""
        with self._lock:
            if not self._wanted:
                self._before = sys.getswitchinterval()
            self._wanted.append(seconds)
            self._set()
        try:
            yield
        finally:
            with self._lock:
                self._wanted.remove(seconds)
                self._set()

    def _set(self) -> None:
        sys.setswitchinterval(min((self._before, *self._wanted)))


_switching = _Switching()


class Threads(Protocol):
    """Runs blocking functions; a function that was started is always waited for, also when the caller is cancelled."""

    @property
    def pause(self) -> Callable[[], None]:
        """What such a function calls between its steps, so that others are not held up."""
        ...

    def urgent(self) -> AbstractContextManager[None]:
        """Let other functions give way more often while somebody waits for what is done in the block."""
        ...

    @property
    def lanes(self) -> int:
        """How many functions that read are worth running at a time."""
        ...

    @property
    def lanes_of_a_cold_disk(self) -> int:
        """The same where most of their time goes into waiting for the disk."""
        ...

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Run a function and return what it returns."""
        ...

    async def read(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Run a function that reads much, beside others that do."""
        ...

    async def run_alone(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Run a function that computes much, when no other such function runs: they would only be in each other's way."""
        ...


class WorkerThreads:
    """Runs them in worker threads."""

    def __init__(self, limit: int = _THREADS) -> None:
        self._limit = limit
        self.pause = Throttle()
        self.urgent = self.pause.urgent
        self._limiter: anyio.CapacityLimiter | None = None
        self._alone: anyio.CapacityLimiter | None = None
        self._readers: anyio.CapacityLimiter | None = None
        self.lanes = _LANES
        self.lanes_of_a_cold_disk = _COLD_LANES

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self._limit)
        with _telling_of_limits():
            return await anyio.to_thread.run_sync(function, *arguments, limiter=self._limiter)

    async def read(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        if self._readers is None:
            self._readers = anyio.CapacityLimiter(self.lanes_of_a_cold_disk)
        with _telling_of_limits():
            return await anyio.to_thread.run_sync(
                _run_in_background, function, *arguments, limiter=self._readers
            )

    async def run_alone(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        if self._alone is None:
            self._alone = anyio.CapacityLimiter(1)
        with _telling_of_limits():
            return await anyio.to_thread.run_sync(
                _run_in_background, function, *arguments, limiter=self._alone
            )


@contextmanager
def _telling_of_limits() -> Iterator[None]:
    """Tell that no thread could be started as what it is: the system's refusal, like any other.

    Raises:
        OSError: no thread could be started.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_thread_refusal(error):
            raise
        raise OSError(errno.EAGAIN, NO_THREAD) from error


def _run_in_background(function: Callable[[*Ts], T], *arguments: *Ts) -> T:
    with _switching.after(_SWITCH_SECONDS):
        return function(*arguments)


class InlineThreads:
    """Runs them on the spot: for disks in memory, under a clock that must not run ahead of a thread."""

    lanes = lanes_of_a_cold_disk = 1

    @staticmethod
    def pause() -> None:
        """Go on: there is nobody to give way to."""

    @staticmethod
    def urgent() -> AbstractContextManager[None]:
        """Nobody holds anybody up."""
        return nullcontext()

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        await anyio.lowlevel.checkpoint()
        return function(*arguments)

    async def read(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await self.run(function, *arguments)

    async def run_alone(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await self.run(function, *arguments)
