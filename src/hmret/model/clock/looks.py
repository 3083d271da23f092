"""Looks at the whole cache, and the time between them that no sweep watched.

A look is a sweep that was not suspended, by a running engine or by a command that sweeps once. What was in
use while nothing watched cannot be known afterwards, so a window counts only time between looks that are
close together.
"""

from hmret.model.clock.clock_guard import CLOCK_TOLERANCE_NS, ClockReading, ClockRecord
from hmret.model.clock.unwatched import NO_GAPS, Gaps
from hmret.model.times import SECOND
from hmret.model.values import frozen

_HOUR_NS = 3600 * SECOND
_PARTS_OF_WINDOW = 10
_INTERVALS = 10


def far_apart_ns(shortest_window_ns: int, interval_ns: int) -> int:
    """Return how far apart two looks must lie, in nanoseconds, for the time between them not to count.

    More than an hour, or a tenth of the shortest window where that is less, and more than ten intervals.
    """
    return max(min(_HOUR_NS, shortest_window_ns // _PARTS_OF_WINDOW), _INTERVALS * interval_ns)


@frozen
class Look:
    """When the cache was looked at, and by what."""

    at: ClockReading
    by_engine: bool
    """False: by a command that sweeps once, as cron starts it."""


@frozen
class LooksRecord:
    """What is carried from one look to the next."""

    last: Look | None = None
    """None: no look is known."""
    gaps: Gaps = NO_GAPS
    was_suspended: bool = False
    """Whether a sweep since the last look was suspended."""
    held_back_looks: int = 0
    """For how many looks in a row reads of disks have held back most of what was due."""


@frozen
class Watched:
    """What a look learns about the time before it."""

    gaps: Gaps
    """All time up to now that no sweep watched."""
    unseen_since_ns: int | None = None
    """The time of the look before, in nanoseconds since the epoch, where it lies so far back that images may
    have been in use unseen; None: it does not, or there was no look before.
    """


def watch(record: LooksRecord, now: Look, apart_ns: int) -> Watched:
    """Return which part of the time up to now was unwatched, given a look now.

    Args:
        record: what the previous look left.
        now: this look.
        apart_ns: the result of `far_apart_ns`.
    """
    # guard(no-gaps-in-the-future): A clock that was ahead leaves gaps in the future; kept, they would
    # postpone deletions that are due.
    gaps = record.gaps.until(now.at.wall_ns)
    last = record.last
    if last is None or last.at.wall_ns >= now.at.wall_ns:
        return Watched(gaps)
    elapsed_ns = now.at.wall_ns - last.at.wall_ns
    is_one_boot = last.at.boot_id == now.at.boot_id and bool(now.at.boot_id)
    # guard(set-back-clock-hides-no-time): A clock that is set back while no engine runs makes the time without
    # one seem short; the boot-time clock, which no one can set, still shows it.
    passed_ns = max(elapsed_ns, _passed_at_least_ns(last.at, now.at))
    # guard(off-is-not-asleep): Sleep is known only within one boot; a host that was off for longer than the
    # window must not lose its images.
    awake_ns = passed_ns - (_asleep_ns(last.at, now.at, passed_ns) if is_one_boot else 0)
    is_apart = awake_ns > apart_ns
    if last.by_engine or now.by_engine:
        # guard(time-without-engine): While no engine was watching, an image may have been in use unseen, so
        # that time counts in no window.
        is_unwatched = is_apart
    else:
        # If the time between two single sweeps did not count, nothing would ever fall due; but only certain
        # time counts.
        is_certain = is_one_boot or (last.at.synchronised and now.at.synchronised)
        # guard(certain-time-between-sweeps): Between single sweeps only certain time counts: not across a
        # suspended sweep, nor a boot with an uncertain clock.
        is_unwatched = record.was_suspended or not is_certain
    skipped_ns = _skipped_ns(last.at, now.at, elapsed_ns) if is_one_boot else 0
    gap_ns = min(awake_ns, elapsed_ns) if is_unwatched else skipped_ns
    # The gap is placed at the end, after the time asleep: so no timer started in between has more time
    # counted for it than has passed.
    gaps = gaps.with_gap(now.at.wall_ns - gap_ns, now.at.wall_ns)
    return Watched(gaps, last.at.wall_ns if is_apart or gap_ns else None)


def _passed_at_least_ns(last: ClockReading, now: ClockReading) -> int:
    """Return how much time has passed at least between two readings, by the boot-time clock; 0 where it cannot tell."""
    if not (last.boot_id and now.boot_id):
        return 0
    return now.boot_ns - last.boot_ns if last.boot_id == now.boot_id else now.boot_ns


def _asleep_ns(last: ClockReading, now: ClockReading, passed_ns: int) -> int:
    """Return how long the host slept between two readings of one boot."""
    if last.monotonic_ns is None or now.monotonic_ns is None or now.monotonic_ns < last.monotonic_ns:
        return 0
    asleep_ns = (now.boot_ns - last.boot_ns) - (now.monotonic_ns - last.monotonic_ns)
    return min(max(asleep_ns, 0), passed_ns)


def _skipped_ns(last: ClockReading, now: ClockReading, elapsed_ns: int) -> int:
    """Return by how much the wall clock was moved forward between two readings of one boot; 0 where it is trusted."""
    skipped_ns = elapsed_ns - max(now.boot_ns - last.boot_ns, 0)
    # guard(skipped-time-is-unwatched): Time that the clock skipped has not passed, so setting it forward
    # makes no image due.
    return skipped_ns if skipped_ns > CLOCK_TOLERANCE_NS else 0


def record_at_start(
    record: LooksRecord | None,
    clock: ClockRecord | None,
    newest_timer_ns: int | None,
    now_ns: int,
    apart_ns: int,
) -> LooksRecord:
    """Return what is known of looks when an engine starts.

    A record of an older version, which kept no looks, stands for the last look of an engine. Where there is
    no record at all, the newest change of a timer does: timers of a controller that was switched off months
    ago prove nothing.

    Args:
        record: what is on record; None: nothing.
        clock: the clock readings at the last sweep of any version; None: unknown.
        newest_timer_ns: when a timer was last written up to now, in nanoseconds since the epoch; None: never.
            Used only where there is no record.
        now_ns: the current time.
        apart_ns: the result of `far_apart_ns`.
    """
    older = None
    if clock is not None and not clock.keeps_looks:
        older = Look(ClockReading(clock.boot_id, clock.boot_ns, clock.wall_ns), by_engine=True)
    if record is None or record.last is None:
        gaps = NO_GAPS if record is None else record.gaps
        # guard(newest-timer-dates-last-sweep): Without a record of earlier sweeps the newest timer dates the
        # last one; the time since then was not watched.
        if older is None and newest_timer_ns is not None and newest_timer_ns <= now_ns:
            older = Look(ClockReading("", 0, newest_timer_ns), by_engine=True)
        # guard(clock-dates-last-sweep): With no timer left from before, the last reading of the clock still
        # says up to when an engine was here.
        if older is None and clock is not None:
            older = Look(ClockReading(clock.boot_id, clock.boot_ns, clock.wall_ns), by_engine=True)
        return LooksRecord(older, gaps)
    if older is None or older.at.wall_ns <= record.last.at.wall_ns:
        return record
    return LooksRecord(older, watch(record, older, apart_ns).gaps)
