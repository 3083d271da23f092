"""The clocks of the host that is simulated: they follow trio's virtual time, and the wall clock can be wrong."""

import random
from datetime import datetime

from trio.testing import MockClock

from hmret.model.clock.clock_guard import ClockReading
from hmret.model.times import SECOND, datetime_of

__all__ = ["VirtualClock"]

_START_NS = 1_780_000_000 * SECOND
_TICK_NS = 5_000


class VirtualClock:
    """All clocks of one host.

    The true time goes on by itself only while everything waits; a tick at each system call keeps the stamps of what
    happens at one virtual moment apart. It may be read from any thread.
    """

    def __init__(self, mock: MockClock) -> None:
        self._mock = mock
        self._ticks = 0
        self._offset_ns = 0
        self._leapt_ns = 0
        self._slept_ns = 0
        self.unwatched_ns = 0
        """How long the host was without an engine, so that everybody must know that nobody watched."""
        self._advances: list[int] = []
        """By how much the wall clock was set forward, each time."""
        self._boots = 1
        self._booted_ns = -3600 * SECOND
        self.highest_ns = 0
        """The latest time that the wall clock has shown."""
        self._synchronised = True
        self.jumped_ns = 0
        """How far the wall clock has jumped in all, whichever way."""

    def tick(self) -> None:
        """Let a system call take its time."""
        self._ticks += 1

    def seconds(self) -> float:
        """Tell trio's time, which deadlines are in."""
        return self._mock.current_time()

    def true_ns(self) -> int:
        """Tell the time that really has passed, reboots and all."""
        return int(self._mock.current_time() * SECOND) + self._ticks * _TICK_NS + self._leapt_ns

    def boot_ns(self) -> int:
        """Tell the time since the boot."""
        return self.true_ns() - self._booted_ns

    def now_ns(self) -> int:
        """Tell the wall clock."""
        wall_ns = _START_NS + self.true_ns() + self._offset_ns
        self.highest_ns = max(self.highest_ns, wall_ns)
        return wall_ns

    def now(self) -> datetime:
        """Tell the wall clock as hypeman writes it."""
        return datetime_of(self.now_ns())

    def read(self) -> ClockReading:
        """Tell all clocks, as the engine asks."""
        return ClockReading(
            f"boot-{self._boots}",
            self.boot_ns(),
            self.now_ns(),
            self._synchronised,
            monotonic_ns=self.true_ns() - self._slept_ns,
        )

    @property
    def boots(self) -> int:
        """How many boots there have been."""
        return self._boots

    def leap(self, by_ns: int, *, asleep: bool) -> None:
        """Let time pass in which no engine runs: the host sleeps, or goes on without."""
        self._leapt_ns += by_ns
        if asleep:
            self._slept_ns += by_ns
        else:
            self.unwatched_ns += by_ns

    def advanced_ns(self, up_to_ns: int) -> int:
        """Add up by how much the wall clock was set forward, in steps no longer than some."""
        return sum(by_ns for by_ns in self._advances if by_ns <= up_to_ns)

    @property
    def is_behind(self) -> bool:
        """Whether the wall clock has shown a later time before: stamps then contradict the order of events."""
        highest_ns = self.highest_ns
        return self.now_ns() < highest_ns

    def jump(self, by_ns: int) -> None:
        """Have the wall clock set."""
        self.now_ns()
        self._offset_ns += by_ns
        if by_ns > 0:
            self._advances.append(by_ns)
        self.jumped_ns += abs(by_ns)

    def correct(self) -> None:
        """Have the wall clock set right."""
        self.jump(-self._offset_ns)
        self._synchronised = True

    def reboot(self, rng: random.Random) -> None:
        """Start the time since the boot anew, and perhaps with a wall clock that is wrong."""
        self._boots += 1
        self._booted_ns = self.true_ns()
        self._synchronised = rng.random() < 0.7
        if rng.random() < 0.2:
            self.jump(rng.choice((-2, 1, 20, 70)) * 3600 * SECOND)
