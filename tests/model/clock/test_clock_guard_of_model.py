"""When the wall clock is not trusted, and for how long."""

import attrs
import pytest

from hmret.model.clock.clock_guard import ClockReading, ClockRecord, watch_clock
from hmret.model.times import SECOND
from support.builders import START_NS

MINUTE = 60 * SECOND
HOUR = 3600 * SECOND
DAY = 24 * HOUR
RECORD = ClockRecord("first", 10 * HOUR, START_NS)


def after(duration_ns: int, *, jump_ns: int = 0) -> ClockReading:
    """Read the clocks later in the same boot, the wall clock having jumped."""
    return ClockReading("first", RECORD.boot_ns + duration_ns, START_NS + duration_ns + jump_ns)


def rebooted(wall_ns: int, *, synchronised: bool = True) -> ClockReading:
    """Read the clocks right after a reboot."""
    return ClockReading("second", MINUTE, wall_ns, synchronised)


def test_the_first_reading_is_trusted() -> None:
    assert watch_clock(None, after(0)) == (RECORD, None)


def test_clocks_that_move_alike_are_trusted() -> None:
    assert watch_clock(RECORD, after(DAY)) == (
        ClockRecord("first", RECORD.boot_ns + DAY, START_NS + DAY),
        None,
    )


@pytest.mark.parametrize("jump_ns", [5 * MINUTE, -5 * MINUTE])
def test_a_jump_of_five_minutes_is_tolerated(jump_ns: int) -> None:
    assert watch_clock(RECORD, after(HOUR, jump_ns=jump_ns))[1] is None


@pytest.mark.parametrize("jump_ns", [5 * MINUTE + 1, -5 * MINUTE - 1])
def test_a_longer_jump_is_not_trusted_for_an_hour(jump_ns: int) -> None:
    record, fault = watch_clock(RECORD, after(HOUR, jump_ns=jump_ns))
    assert fault is not None
    assert "against the time since boot" in fault
    assert record.suspended_until_boot_ns == RECORD.boot_ns + 2 * HOUR


def test_a_clock_before_the_last_sweep_is_not_trusted_however_little_it_is() -> None:
    fault = watch_clock(RECORD, ClockReading("first", RECORD.boot_ns, START_NS - 1))[1]
    assert fault is not None
    assert "before the last sweep" in fault


def test_a_clock_before_the_last_sweep_is_not_trusted_after_a_reboot_either() -> None:
    assert watch_clock(RECORD, rebooted(START_NS - 1))[1] is not None


def test_after_a_reboot_a_synchronised_clock_is_trusted_however_long_it_took() -> None:
    assert watch_clock(RECORD, rebooted(START_NS + 400 * DAY))[1] is None


def test_after_a_reboot_an_unsynchronised_clock_is_trusted_for_a_day() -> None:
    assert watch_clock(RECORD, rebooted(START_NS + DAY, synchronised=False))[1] is None


def test_after_a_reboot_an_unsynchronised_clock_more_than_a_day_on_is_not_trusted() -> None:
    record, fault = watch_clock(RECORD, rebooted(START_NS + DAY + 1, synchronised=False))
    assert fault is not None
    assert "not synchronised" in fault
    assert record == ClockRecord("second", MINUTE, START_NS + DAY + 1, MINUTE + HOUR)


def test_without_a_reboot_it_does_not_matter_whether_the_clock_is_synchronised() -> None:
    reading = attrs.evolve(after(400 * DAY), synchronised=False)
    assert watch_clock(RECORD, reading)[1] is None


def test_the_hour_does_not_begin_anew_with_each_sweep() -> None:
    jumped, _ = watch_clock(RECORD, after(HOUR, jump_ns=DAY))
    later, fault = watch_clock(jumped, after(HOUR + 30 * MINUTE, jump_ns=DAY))
    assert fault == "the clock was found wrong less than an hour ago"
    assert later.suspended_until_boot_ns == jumped.suspended_until_boot_ns


def test_a_nanosecond_before_its_hour_is_over_the_clock_is_not_trusted() -> None:
    jumped, _ = watch_clock(RECORD, after(HOUR, jump_ns=DAY))
    assert watch_clock(jumped, after(2 * HOUR - 1, jump_ns=DAY))[1] is not None


def test_when_its_hour_is_over_the_clock_is_trusted_again() -> None:
    jumped, _ = watch_clock(RECORD, after(HOUR, jump_ns=DAY))
    record, fault = watch_clock(jumped, after(2 * HOUR, jump_ns=DAY))
    assert (record.suspended_until_boot_ns, fault) == (0, None)


def test_another_jump_begins_another_hour() -> None:
    jumped, _ = watch_clock(RECORD, after(HOUR, jump_ns=DAY))
    again, _ = watch_clock(jumped, after(HOUR + 30 * MINUTE))
    assert again.suspended_until_boot_ns == RECORD.boot_ns + 2 * HOUR + 30 * MINUTE


def test_an_hour_that_a_reboot_cut_short_begins_anew() -> None:
    jumped, _ = watch_clock(RECORD, after(HOUR, jump_ns=DAY))
    record, fault = watch_clock(jumped, rebooted(START_NS + 2 * DAY))
    assert fault is not None
    assert record.suspended_until_boot_ns == MINUTE + HOUR


def test_a_record_from_far_beyond_the_calendar_is_told_and_not_trusted() -> None:
    record = ClockRecord("first", 0, 10**24)
    fault = watch_clock(record, after(0))[1]
    assert fault is not None
    assert "9999-12-31" in fault
