"""A clock on which a day takes a fraction of a second, and which waits for the story.

It runs up to a moment that the story has set, and stops there until the story sets a later one. So everything
the host does on a day happens on that day, however slow or busy the machine is.
"""

import time
from collections.abc import Callable
from datetime import timedelta

from hmret.model.clock.clock_guard import ClockReading
from hmret.model.times import SECOND, parse_time, timedelta_nanoseconds

DAY = timedelta(days=1)

_START_NS = parse_time("2026-01-01T00:00:00Z")
_BOOTED_BEFORE_NS = 3600 * SECOND


class DemoClock:
    """A wall clock and a boot-time clock in step, starting at day 0; never goes back.

    Args:
        day_seconds: the length of a day, in real seconds.
        monotonic_ns: the source of real time, in nanoseconds.
        start_ns: the start of day 0, in nanoseconds since the epoch.
    """

    def __init__(
        self,
        day_seconds: float,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        start_ns: int = _START_NS,
    ) -> None:
        self._start_ns = start_ns
        self._speed = DAY.total_seconds() / day_seconds
        self._monotonic_ns = monotonic_ns
        self._looked_ns = monotonic_ns()
        self._elapsed_ns = 0
        self._limit_ns = 0

    def now_ns(self) -> int:
        return self._start_ns + self._advance()

    def read(self) -> ClockReading:
        elapsed_ns = self._advance()
        # Time beyond real time counts as suspended: days pass between two sweeps, and no sweep is missed.
        return ClockReading(
            boot_id="demo",
            boot_ns=_BOOTED_BEFORE_NS + elapsed_ns,
            wall_ns=self._start_ns + elapsed_ns,
            monotonic_ns=self._monotonic_ns(),
        )

    @property
    def elapsed(self) -> timedelta:
        """The time since the start of day 0, truncated to microseconds."""
        return timedelta(microseconds=self._advance() // 1000)

    def run_to(self, moment: timedelta) -> None:
        """Let the clock run up to a moment, counted from the start of day 0, and no further."""
        self._limit_ns = max(self._advance(), timedelta_nanoseconds(moment))

    def real_seconds_to(self, moment: timedelta) -> float:
        """Return the real time from now to a moment, in seconds; 0 if it is past."""
        return max(timedelta_nanoseconds(moment) - self._advance(), 0) / SECOND / self._speed

    def moment_of(self, time_ns: int) -> timedelta:
        """Convert nanoseconds since the epoch to the time since the start of day 0, truncated to microseconds."""
        return timedelta(microseconds=(time_ns - self._start_ns) // 1000)

    def _advance(self) -> int:
        looked_ns = self._monotonic_ns()
        passed_ns = int((looked_ns - self._looked_ns) * self._speed)
        self._looked_ns = looked_ns
        self._elapsed_ns = min(self._elapsed_ns + passed_ns, self._limit_ns)
        return self._elapsed_ns
