"""One seed decides what runs when: trio's order of tasks, names drawn at random, and where a thread is held up."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar, TypeVarTuple
from unittest import mock

import trio
import trio._core._run as scheduler

from hmret.disk.deletion.tags.tag_view import TagFolders, TagSnapshot
from support.called import Called

__all__ = ["SteppedThreads", "decided_by"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_PAUSES = (0.0, 0.0, 0.0, 0.0005, 0.01, 0.08)
"""Seconds that a thread is held up for; the longest outlasts one look of hmret at a torn file."""

_DELICATE = frozenset({"retire", "_recover", "_look_at", "_clear_batch", "find_protected"})
"""Functions that are held up more often."""


@contextmanager
def decided_by(rng: random.Random) -> Iterator[None]:
    """Make everything that is drawn at random inside this block follow from `rng`.

    trio runs the tasks that are ready in random order, so that nobody relies on one. It has a switch, made for
    property tests, which sorts them and then shuffles them with a generator of its own: with that one seeded, a
    schedule comes again. Batches and leases are named with `os.urandom`, and names decide the order of a listing.
    What is left is the order of sets of texts, which is the interpreter's: see `__main__`.
    """
    with (
        mock.patch.object(scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
        mock.patch.object(scheduler, "_r", random.Random(rng.random())),
        mock.patch("os.urandom", random.Random(rng.random()).randbytes),
    ):
        yield


class _Worker:
    """A function in a thread of its own that runs only while the event loop waits for it."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._goes = threading.Semaphore(0)
        self._stands = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.error: BaseException | None = None
        self.is_done = False

    def _run(self) -> None:
        self._goes.acquire()
        try:
            self._function()
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            self.error = error
        self.is_done = True
        self._stands.release()

    def step(self) -> None:
        """Let it run until it pauses or ends; called in the event loop."""
        self._goes.release()
        self._stands.acquire()

    def pause(self) -> None:
        """Let the event loop go on; called in the thread."""
        self._stands.release()
        self._goes.acquire()


class SteppedThreads:
    """`Threads` of which one runs at a time, and can be held up between any two system calls.

    While a function is held up, other tasks and other functions run: every interleaving of system calls that real
    threads can have. As with the real ones, a function that was started is waited for.

    Args:
        rng: decides who is held up, where and for how long.
        began: called with each function and its arguments before it runs.
        ended: told when it, or a part of it, has run.
    """

    lanes = lanes_of_a_cold_disk = 2

    @staticmethod
    def pause() -> None:
        """Go on: who gives way, and where, is decided here."""

    def __init__(
        self,
        rng: random.Random,
        began: Callable[[Called], None],
        ended: Callable[[], None],
    ) -> None:
        self._rng = rng
        self._began = began
        self._ended = ended
        self._running: _Worker | None = None
        self._paused: list[_Worker] = []
        self._waiting: list[Callable[[], None]] = []

    def soon(self, act: Callable[[], None]) -> None:
        """Act on the event loop: at once, or, where a thread that is held up now and then asks, when its function has ended."""
        if self._running is None:
            act()
        else:
            self._waiting.append(act)

    @staticmethod
    def urgent() -> AbstractContextManager[None]:
        """Nobody holds anybody up."""
        return nullcontext()

    @staticmethod
    def bulk() -> AbstractContextManager[None]:
        """Leave the garbage collector alone."""
        return nullcontext()

    async def read(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await self.run(function, *arguments)

    async def run_alone(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await self.run(function, *arguments)

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Run a function, now or a little later."""
        await trio.lowlevel.checkpoint()
        with trio.CancelScope(shield=True):
            await self._dawdle()
            called = Called.of(function, arguments)
            self._began(called)
            if self._rng.random() > (0.5 if called.name in _DELICATE else 0.1):
                try:
                    value = function(*arguments)
                finally:
                    self._ended()
            else:
                value = await self._run_in_steps(function, *arguments)
            await self._dawdle()
        return value

    async def _run_in_steps(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        results: list[T] = []

        def work() -> None:
            results.append(function(*arguments))

        worker = _Worker(work)
        self._paused.append(worker)
        while not worker.is_done:
            self._step(worker)
            self._ended()
            if not worker.is_done:
                await trio.sleep(self._rng.choice(_PAUSES))
        self._paused.remove(worker)
        waiting, self._waiting = self._waiting, []
        if worker.error is not None:
            raise worker.error
        for act in waiting:
            act()
        return results[0]

    def _step(self, worker: _Worker) -> None:
        self._running, before = worker, self._running
        worker.step()
        self._running = before

    @contextmanager
    def one_at_a_time(self) -> Iterator[None]:
        """Let a look at the tags that finds another one under way wait for it, as a lock has it wait.

        A thread that is held up has the lock, and would never give it back while the event loop waits for another.
        """
        refresh = TagFolders.refresh

        def look_alone(
            view: TagFolders, images_fd: int, pause: Callable[[], None] = self.pause
        ) -> TagSnapshot:
            while view._lock.locked():
                self._give_way()
            return refresh(view, images_fd, pause)

        with mock.patch.object(TagFolders, "refresh", look_alone):
            yield

    def _give_way(self) -> None:
        """Let those who are held up go on."""
        if self._running is not None:
            self._running.pause()
            return
        for worker in self._paused:
            if not worker.is_done:
                self._step(worker)

    def may_pause(self, likelihood: float) -> None:
        """Hold the function that runs up for a while; called between two of its system calls."""
        worker = self._running
        if worker is not None and self._rng.random() < likelihood:
            worker.pause()

    async def _dawdle(self) -> None:
        for _ in range(self._rng.choice((0, 0, 1, 2, 5))):
            await trio.lowlevel.checkpoint()
        if self._rng.random() < 0.05:
            await trio.sleep(self._rng.choice(_PAUSES))
