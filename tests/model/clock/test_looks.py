"""What lies between two looks: seen, asleep, skipped by the clock, or nobody's."""

from datetime import timedelta

import attrs
import pytest

from hmret.model.clock.clock_guard import ClockReading, ClockRecord, known_boot_id
from hmret.model.clock.looks import Look, LooksRecord, far_apart_ns, record_at_start, watch
from hmret.model.clock.unwatched import Gaps
from hmret.model.times import SECOND, timedelta_nanoseconds

MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND
THEN_NS = 1_780_000_000 * SECOND
THEN = ClockReading("boot", 1000 * DAY, THEN_NS, monotonic_ns=500 * DAY)
ENGINE, ONCE = True, False


def later(
    wall: int, *, boot: int | None = None, asleep: int = 0, rebooted: bool = False, synchronised: bool = True
) -> ClockReading:
    """Read the clocks after so many nanoseconds of the wall clock, of which the host slept for some."""
    boot = wall if boot is None else boot
    return ClockReading(
        "another" if rebooted else "boot",
        5 * MINUTE if rebooted else THEN.boot_ns + boot,
        THEN_NS + wall,
        synchronised,
        monotonic_ns=5 * MINUTE if rebooted else 500 * DAY + boot - asleep,
    )


def gap_of(
    now: ClockReading,
    first: bool = ENGINE,
    second: bool = ENGINE,
    *,
    then: ClockReading = THEN,
    was_suspended: bool = False,
    apart: int = HOUR,
) -> int:
    """Tell how long the gap is that a look finds since the one before it."""
    record = LooksRecord(Look(then, first), was_suspended=was_suspended)
    watched = watch(record, Look(now, second), apart)
    assert sum(end - start for start, end in watched.gaps) == watched.gaps.since(THEN_NS)
    return watched.gaps.since(THEN_NS)


@pytest.mark.parametrize(
    ("window", "interval", "apart"),
    [
        (timedelta(days=30), timedelta(minutes=1), timedelta(hours=1)),
        (timedelta(hours=1), timedelta(seconds=1), timedelta(minutes=6)),
        (timedelta(hours=1), timedelta(minutes=1), timedelta(minutes=10)),
        (timedelta(days=30), timedelta(hours=6), timedelta(hours=60)),
    ],
)
def test_far_apart_is_more_than_an_hour_or_a_tenth_of_the_window_and_more_than_ten_intervals(
    window: timedelta, interval: timedelta, apart: timedelta
) -> None:
    found = far_apart_ns(timedelta_nanoseconds(window), timedelta_nanoseconds(interval))
    assert found == timedelta_nanoseconds(apart)


# An engine before or after.


@pytest.mark.parametrize(("first", "second"), [(ENGINE, ENGINE), (ENGINE, ONCE), (ONCE, ENGINE)])
def test_time_that_an_engine_did_not_watch_does_not_count(first: bool, second: bool) -> None:
    assert gap_of(later(40 * DAY), first, second) == 40 * DAY
    assert gap_of(later(HOUR), first, second) == 0
    assert gap_of(later(HOUR + 1), first, second) == HOUR + 1


def test_time_across_a_boot_does_not_count_however_long_the_host_was_off() -> None:
    assert gap_of(later(3 * DAY, rebooted=True)) == 3 * DAY
    assert gap_of(later(20 * MINUTE, rebooted=True)) == 0


def test_time_asleep_counts() -> None:
    assert gap_of(later(8 * HOUR, asleep=8 * HOUR - MINUTE)) == 0
    assert gap_of(later(10 * HOUR, asleep=3 * HOUR)) == 7 * HOUR


def test_a_clock_that_was_set_back_while_no_engine_ran_hides_nothing() -> None:
    assert gap_of(later(HOUR, boot=HOUR + 1)) == HOUR
    assert gap_of(later(HOUR, boot=HOUR)) == 0
    assert gap_of(later(HOUR, boot=20 * HOUR, asleep=19 * HOUR)) == 0


@pytest.mark.parametrize(("uptime", "gap"), [(HOUR, 0), (HOUR + 1, 30 * MINUTE)])
def test_nobody_watched_a_boot_that_has_lasted_longer_than_the_clock_says_has_passed(
    uptime: int, gap: int
) -> None:
    now = ClockReading("another", uptime, THEN_NS + 30 * MINUTE)
    assert gap_of(now) == gap


def test_a_boot_without_a_name_tells_nothing_of_the_time_before() -> None:
    now = ClockReading("", 2 * HOUR, THEN_NS + 30 * MINUTE)
    assert gap_of(now) == gap_of(now, then=ClockReading("", HOUR, THEN_NS)) == 0


def test_sleep_that_no_clock_can_tell_is_none() -> None:
    unknown = attrs.evolve(later(8 * HOUR, asleep=8 * HOUR), monotonic_ns=None)
    assert gap_of(unknown) == 8 * HOUR
    before = attrs.evolve(THEN, monotonic_ns=900 * DAY)
    assert gap_of(later(8 * HOUR, asleep=8 * HOUR), then=before) == 8 * HOUR


def test_of_a_gap_with_sleep_no_timer_from_within_it_has_more_than_the_sleep() -> None:
    watched = watch(LooksRecord(Look(THEN, ENGINE)), Look(later(10 * HOUR, asleep=3 * HOUR), ENGINE), HOUR)
    assert watched.gaps.spans == ((THEN_NS + 3 * HOUR, THEN_NS + 10 * HOUR),)


def test_what_the_clock_skipped_does_not_count_also_where_looks_are_close() -> None:
    assert gap_of(later(90 * DAY, boot=2 * MINUTE)) == 90 * DAY
    assert gap_of(later(40 * MINUTE, boot=10 * MINUTE)) == 30 * MINUTE
    assert gap_of(later(12 * MINUTE, boot=8 * MINUTE)) == 0  # no more than what is always trusted


def test_a_suspended_sweep_in_between_makes_no_gap_where_looks_of_an_engine_are_close() -> None:
    assert gap_of(later(30 * MINUTE), was_suspended=True) == 0
    assert gap_of(later(3 * HOUR), was_suspended=True) == 3 * HOUR


# Single sweeps, as cron starts them.


def test_the_time_between_two_single_sweeps_counts() -> None:
    assert gap_of(later(7 * DAY), ONCE, ONCE) == 0


def test_between_two_single_sweeps_a_suspended_one_lets_nothing_count() -> None:
    assert gap_of(later(2 * DAY), ONCE, ONCE, was_suspended=True) == 2 * DAY


def test_between_two_single_sweeps_what_the_clock_skipped_does_not_count() -> None:
    assert gap_of(later(90 * DAY, boot=DAY), ONCE, ONCE) == 89 * DAY


@pytest.mark.parametrize(
    ("before", "after", "counts"),
    [(True, True, True), (True, False, False), (False, True, False), (False, False, False)],
)
def test_across_a_boot_single_sweeps_count_only_where_the_clock_was_synchronised_at_both_ends(
    before: bool, after: bool, counts: bool
) -> None:
    then = attrs.evolve(THEN, synchronised=before)
    now = later(DAY, rebooted=True, synchronised=after)
    assert gap_of(now, ONCE, ONCE, then=then) == (0 if counts else DAY)


def test_a_host_that_was_restored_from_a_snapshot_of_an_earlier_time_has_seen_nothing() -> None:
    restored = attrs.evolve(later(DAY), boot_ns=THEN.boot_ns - HOUR, monotonic_ns=499 * DAY)
    assert gap_of(restored, ONCE, ONCE) == DAY


# Uses that nobody saw.


def test_between_looks_that_are_far_apart_reads_are_asked_for_also_where_the_time_counts() -> None:
    for second, wall, since in (
        (ONCE, HOUR, None),
        (ONCE, HOUR + 1, THEN_NS),
        (ENGINE, DAY, THEN_NS),
        (ENGINE, MINUTE, None),
    ):
        watched = watch(LooksRecord(Look(THEN, ONCE)), Look(later(wall), second), HOUR)
        assert watched.unseen_since_ns == since


def test_where_nobody_looked_before_nothing_is_known() -> None:
    watched = watch(LooksRecord(), Look(later(0), ENGINE), HOUR)
    assert (watched.gaps.spans, watched.unseen_since_ns) == ((), None)


# A clock that was ahead.


def test_gaps_that_a_clock_left_in_the_future_are_cut_off() -> None:
    ahead = LooksRecord(Look(later(300 * DAY), ENGINE), Gaps(((THEN_NS - DAY, THEN_NS + 300 * DAY),)))
    watched = watch(ahead, Look(later(HOUR), ENGINE), HOUR)
    assert watched.gaps.spans == ((THEN_NS - DAY, THEN_NS + HOUR),)
    assert watched.unseen_since_ns is None


# Where an engine begins.

OLDER = ClockRecord("boot", 999 * DAY, THEN_NS - DAY, keeps_looks=False)
OURS = attrs.evolve(OLDER, keeps_looks=True)


def test_the_newest_timer_stands_for_the_last_look_where_none_is_on_record() -> None:
    found = record_at_start(None, OURS, THEN_NS - 40 * DAY, THEN_NS, HOUR)
    assert found.last is not None
    assert (found.last.at.wall_ns, found.last.by_engine) == (THEN_NS - 40 * DAY, True)
    assert watch(found, Look(THEN, ONCE), HOUR).gaps.spans == ((THEN_NS - 40 * DAY, THEN_NS),)


@pytest.mark.parametrize("newest", [None, THEN_NS + 1])
def test_timers_count_as_they_stand_where_no_look_is_known_and_no_timer_tells_of_any(
    newest: int | None,
) -> None:
    assert record_at_start(None, None, newest, THEN_NS, HOUR) == LooksRecord()


@pytest.mark.parametrize("newest", [None, THEN_NS + 1])
def test_the_clock_on_record_stands_for_the_last_look_where_no_timer_tells_of_any(newest: int | None) -> None:
    found = record_at_start(LooksRecord(was_suspended=True), OURS, newest, THEN_NS, HOUR)
    assert found.last is not None
    assert (found.last.at.wall_ns, found.last.by_engine) == (THEN_NS - DAY, True)
    assert watch(found, Look(THEN, ENGINE), HOUR).gaps.spans == ((THEN_NS - DAY, THEN_NS),)


def test_the_record_of_an_older_version_counts_as_the_last_look_of_an_engine() -> None:
    found = record_at_start(None, OLDER, THEN_NS - 40 * DAY, THEN_NS, HOUR)
    assert found.last is not None
    assert (found.last.at.wall_ns, found.last.by_engine) == (THEN_NS - DAY, True)


def test_what_lies_before_the_looks_of_an_older_version_in_between_does_not_count_either() -> None:
    mine = LooksRecord(Look(attrs.evolve(THEN, wall_ns=THEN_NS - 9 * DAY), ENGINE))
    found = record_at_start(mine, OLDER, None, THEN_NS, HOUR)
    assert found.last is not None
    assert found.last.at.wall_ns == THEN_NS - DAY
    assert found.gaps.spans == ((THEN_NS - 9 * DAY, THEN_NS - DAY),)


def test_a_record_that_is_newer_than_that_of_an_older_version_stands() -> None:
    mine = LooksRecord(Look(THEN, ENGINE), Gaps(((1, 2),)))
    assert record_at_start(mine, OLDER, None, THEN_NS, HOUR) is mine
    assert record_at_start(mine, OURS, None, THEN_NS, HOUR) is mine


# Which boot it is, where the kernel does not tell.

UNNAMED = attrs.evolve(THEN, boot_id="")
KNOWN = ClockRecord("once", THEN.boot_ns - DAY, THEN_NS - DAY)


@pytest.mark.parametrize(
    ("moved", "boot_id"), [(0, "once"), (5 * MINUTE, "once"), (-5 * MINUTE, "once"), (5 * MINUTE + 1, "new")]
)
def test_the_boot_is_told_by_its_time_within_five_minutes(moved: int, boot_id: str) -> None:
    reading = attrs.evolve(UNNAMED, wall_ns=THEN_NS + moved)
    assert known_boot_id(KNOWN, reading, "new") == boot_id


def test_a_boot_that_the_kernel_names_has_that_name_and_one_without_a_record_is_new() -> None:
    assert known_boot_id(KNOWN, THEN, "new") == "boot"
    assert known_boot_id(None, UNNAMED, "new") == "new"
    rebooted = attrs.evolve(UNNAMED, boot_ns=MINUTE, wall_ns=THEN_NS)
    assert known_boot_id(KNOWN, rebooted, "new") == "new"
