"""The guard against a wall clock that cannot be trusted.

A clock that jumps forward makes everything due at once; one that jumps back makes nothing due for years. A
jump shows against the boot-time clock, which no one can set: both must have moved alike since the last sweep.
"""

from hmret.model.durations import format_duration
from hmret.model.times import SECOND, format_time
from hmret.model.values import frozen

CLOCK_TOLERANCE_NS = 5 * 60 * SECOND
"""By how much the wall clock may move against the boot-time clock and still be trusted."""

_HOLD_NS = 3600 * SECOND
_UNSYNCHRONISED_GAP_NS = 24 * 3600 * SECOND


@frozen
class ClockReading:
    """What the clocks say at one moment."""

    boot_id: str
    """Changes at each boot; empty: the kernel does not expose it (see `known_boot_id`)."""
    boot_ns: int
    """Nanoseconds since the boot, time asleep included."""
    wall_ns: int
    """Nanoseconds since the epoch."""
    synchronised: bool = True
    """Whether the kernel calls its wall clock synchronised."""
    monotonic_ns: int | None = None
    """Nanoseconds of the boot-time clock without time asleep, from an arbitrary start; None: unknown, taken
    as no sleep.
    """


@frozen
class ClockRecord:
    """What the clocks said at the last sweep."""

    boot_id: str
    boot_ns: int
    wall_ns: int
    suspended_until_boot_ns: int = 0
    """Until when, on the boot-time clock, the wall clock is not trusted; 0: it is trusted."""
    keeps_looks: bool = True
    """Whether the version that wrote it also keeps a record of looks (`hmret.model.clock.looks`); older
    versions do not.
    """


def watch_clock(record: ClockRecord | None, reading: ClockReading) -> tuple[ClockRecord, str | None]:
    """Compare the clocks with the last record; returns the next record, and what is wrong, None: nothing.

    A jump of more than 5 minutes, a wall clock before the last record, or, after a reboot, one more than a
    day after it that is not synchronised, makes the clock distrusted for one hour of boot time. If a reboot
    cuts that hour short, it starts again.
    """
    # guard(jumping-clock-suspends): A clock that jumps forward makes everything due at once; deletion waits
    # until it has been right for an hour.
    fault = None if record is None else _fault(record, reading)
    until_ns = 0
    if fault is not None:
        until_ns = reading.boot_ns + _HOLD_NS
    elif record is not None and record.suspended_until_boot_ns:
        same_boot = record.boot_id == reading.boot_id
        until_ns = record.suspended_until_boot_ns if same_boot else reading.boot_ns + _HOLD_NS
        if until_ns > reading.boot_ns:
            fault = "the clock was found wrong less than an hour ago"
        else:
            until_ns = 0
    return ClockRecord(reading.boot_id, reading.boot_ns, reading.wall_ns, until_ns), fault


def _fault(record: ClockRecord, reading: ClockReading) -> str | None:
    then = format_time(record.wall_ns)
    now = format_time(reading.wall_ns)
    if reading.wall_ns < record.wall_ns:
        return f"the clock says {now}, before the last sweep at {then}"
    elapsed_ns = reading.wall_ns - record.wall_ns
    if record.boot_id == reading.boot_id:
        drift_ns = elapsed_ns - (reading.boot_ns - record.boot_ns)
        if abs(drift_ns) > CLOCK_TOLERANCE_NS:
            return f"the clock moved by {format_duration(drift_ns // SECOND * SECOND)} against the time since boot, since the last sweep at {then}"
    elif elapsed_ns > _UNSYNCHRONISED_GAP_NS and not reading.synchronised:
        return f"the clock is not synchronised after a reboot and says {now}, more than a day after the last sweep at {then}"
    return None


def known_boot_id(record: ClockRecord | None, reading: ClockReading, new_id: str) -> str:
    """Return a boot id where the kernel gives none: the record's if the host booted at the same time, else a new one.

    The time of the boot is the wall clock minus the boot-time clock; it counts as the same within 5 minutes.
    """
    if reading.boot_id:
        return reading.boot_id
    if record is None or not record.boot_id:
        return new_id
    moved_ns = (reading.wall_ns - reading.boot_ns) - (record.wall_ns - record.boot_ns)
    is_same = abs(moved_ns) <= CLOCK_TOLERANCE_NS and reading.boot_ns >= record.boot_ns
    return record.boot_id if is_same else new_id
