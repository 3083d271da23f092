"""Where blocking work runs: worker threads of our own, so that an embedder's are never exhausted."""

import errno
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Protocol, TypeVar, TypeVarTuple

import anyio
import anyio.lowlevel
import anyio.to_thread

from hmret.actors.disk_waits import rest
from hmret.actors.full_collections import FullCollections
from hmret.disk.filesystem import NATIVE
from hmret.model.unavailable import NO_THREAD, is_thread_refusal

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Reading is bound by the interpreter, so more threads would only wait for each other; a few let a short
# `mark_used` overtake a long batch, and let bytes be freed concurrently.
_THREADS = 8
# One is in a system call while the other has the interpreter; more of them help only if reads block on the
# disk. Without the native core each call is so short that two would mostly hand the interpreter to each other.
_LANES = 2 if NATIVE else 1
_COLD_LANES = 8

# How long a thread may keep the interpreter from others during bulk work, in seconds; Python's default is ten
# times as long.
_SWITCH_SECONDS = 0.0005
# The same during urgent work, which has to get the interpreter back after each of a dozen system calls.
_URGENT_SWITCH_SECONDS = 0.00005
# Long enough for the rests to cost nothing. During urgent work, bulk work stops, but for at most a
# millisecond at a time, so it always keeps about a fifth of its speed.
_WORK_SECONDS = 0.01
_REST_SECONDS = 0.00005
_URGENT_WORK_SECONDS = 0.0002
_URGENT_RESTS = 10
_URGENT_REST_SECONDS = 0.0001


class _Since(threading.local):
    seconds = 0.0


class Throttle:
    """Makes bulk work in threads yield to the event loop.

    While bulk work runs, another thread that wants the interpreter gets it after half a millisecond instead
    of five, which bounds how long an event loop in the same process is held up. This is an interpreter-wide
    setting, restored when the last bulk work has ended. A thread that calls the throttle also sleeps briefly
    now and then, and all but stops during urgent work.
    """

    def __init__(self) -> None:
        self._since = _Since()
        self._urgent = 0

    @contextmanager
    def urgent(self) -> Iterator[None]:
        """All but stop bulk work for the duration of the block."""
        self._urgent += 1
        try:
            with _switching.after(_URGENT_SWITCH_SECONDS):
                yield
        finally:
            self._urgent -= 1

    def __call__(self) -> None:
        """Sleep briefly if this thread has worked for long enough."""
        worked = time.perf_counter() - self._since.seconds
        if self._urgent and worked > _URGENT_WORK_SECONDS:
            for _ in range(_URGENT_RESTS):
                if not self._urgent:
                    break
                rest(_URGENT_REST_SECONDS)
            self._since.seconds = time.perf_counter()
        elif worked > _WORK_SECONDS:
            rest(_REST_SECONDS)
            self._since.seconds = time.perf_counter()


class _Switching:
    """The interpreter's switch interval, shortened while anything requests it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: list[float] = []
        self._before = 0.0

    @contextmanager
    def after(self, seconds: float) -> Iterator[None]:
        """Switch between threads after at most `seconds` for the duration of the block."""
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
_full_collections = FullCollections()


class Threads(Protocol):
    """Runs blocking functions; one that was started is always awaited, even if the caller is cancelled."""

    @property
    def pause(self) -> Callable[[], None]:
        """Called by such functions between their steps, so that others are not held up."""
        ...

    def urgent(self) -> AbstractContextManager[None]:
        """Make other functions yield more often while a caller is waiting for the work in the block."""
        ...

    def bulk(self) -> AbstractContextManager[None]:
        """Put full garbage collections off while the block runs."""
        ...

    @property
    def lanes(self) -> int:
        """How many reading functions are worth running at a time."""
        ...

    @property
    def lanes_of_a_cold_disk(self) -> int:
        """The same if most of their time is spent waiting for the disk."""
        ...

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Run a function and return its result."""
        ...

    async def read(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Run a function that reads a lot, concurrently with others that do."""
        ...

    async def run_alone(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Run a function that computes a lot, one at a time, as several would only slow each other down."""
        ...


class WorkerThreads:
    """Runs functions in worker threads."""

    def __init__(self, limit: int = _THREADS, *, lanes: int = _LANES) -> None:
        self._limit = limit
        self.pause = Throttle()
        self.urgent = self.pause.urgent
        self.bulk = _full_collections.put_off
        self.lanes = lanes
        self.lanes_of_a_cold_disk = _COLD_LANES

    # Made at first use: where no event loop runs, trio makes none.

    @cached_property
    def _limiter(self) -> anyio.CapacityLimiter:
        return anyio.CapacityLimiter(self._limit)

    @cached_property
    def _readers(self) -> anyio.CapacityLimiter:
        return anyio.CapacityLimiter(self.lanes_of_a_cold_disk)

    @cached_property
    def _alone(self) -> anyio.CapacityLimiter:
        return anyio.CapacityLimiter(1)

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await _run_in_thread(self._limiter, function, *arguments)

    async def read(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await _run_in_thread(self._readers, _run_in_background, function, *arguments)

    async def run_alone(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await _run_in_thread(self._alone, _run_in_background, function, *arguments)


async def _run_in_thread(limiter: anyio.CapacityLimiter, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Run a function in a thread, and report that none could be started as the operating system's error that it is.

    Raises:
        OSError: no thread could be started.
    """
    try:
        return await anyio.to_thread.run_sync(function, *arguments, limiter=limiter)
    except RuntimeError as error:
        if not is_thread_refusal(error):
            raise
        raise OSError(errno.EAGAIN, NO_THREAD) from error


def _run_in_background(function: Callable[[*Ts], T], *arguments: *Ts) -> T:
    with _switching.after(_SWITCH_SECONDS):
        result = function(*arguments)
    _full_collections.part_ended()
    return result
