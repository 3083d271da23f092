"""The guard against a wall clock that cannot be trusted, in one process and over restarts and reboots."""

import errno
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import pytest

import hmret
from hmret.engine.opening import open_engine
from hmret.engine.opening_inspection import open_inspection
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.model.images import Cause
from hmret.model.references import Key
from hmret.model.times import SECOND, format_time, timedelta_nanoseconds
from support.builders import (
    DATA,
    START,
    START_NS,
    FakeClock,
    digest,
    has_image,
    make_config,
    make_guest,
    make_image,
    make_state,
    state_of,
    told,
)
from support.memory_filesystem import MemoryFilesystem

ALPINE = "docker.io/library/alpine"
LONG_AGO_NS = START_NS - 40 * 86_400 * SECOND
MINUTE_NS = 60 * SECOND
HOUR_NS = 60 * MINUTE_NS
DAY_NS = 24 * HOUR_NS
RECORD = f"{DATA}/system/hmret/clock.json"


def opened(platform: Platform) -> AbstractAsyncContextManager[Retention]:
    assert isinstance(platform.filesystem, MemoryFilesystem)
    return open_engine(make_config(platform.filesystem), platform, scheduled=False)


@pytest.fixture
async def retention(platform: Platform, anyio_backend: str) -> AsyncIterator[Retention]:
    """An engine that has swept once, so that the clocks are on record."""
    async with opened(platform) as retention:
        await retention.sweep()
        yield retention


def reboot(clock: FakeClock, *, wall: timedelta, synchronised: bool = True) -> None:
    """Boot the host again, with its wall clock moved on by so much."""
    clock.boot_id += "-again"
    clock.boot_ns = 10 * SECOND
    clock.wall_ns += timedelta_nanoseconds(wall)
    clock.synchronised = synchronised


def make_due(filesystem: MemoryFilesystem, letters: str = "a") -> Key:
    key = make_image(filesystem, ALPINE, letters, tags=(letters,), created_at=START - timedelta(days=60))
    make_state(filesystem, key, LONG_AGO_NS)
    return key


def causes(report: hmret.SweepReport | hmret.Plan) -> list[Cause]:
    return [one.cause for one in report.suspended]


# In one process.


@pytest.mark.parametrize("moved_ns", [5 * MINUTE_NS + 1, -5 * MINUTE_NS - 1, 365 * DAY_NS, -9 * MINUTE_NS])
async def test_a_wall_clock_that_moves_against_the_time_since_boot_suspends_deletion(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock, moved_ns: int
) -> None:
    key = make_due(filesystem)
    clock.advance(timedelta(minutes=10))
    clock.wall_ns += moved_ns
    report = await retention.sweep()
    assert report.status is hmret.SweepStatus.SUSPENDED
    assert causes(report) == [Cause.CLOCK_JUMP]
    assert has_image(filesystem, key)


@pytest.mark.parametrize("moved_ns", [5 * MINUTE_NS, -5 * MINUTE_NS, SECOND, -SECOND])
async def test_a_wall_clock_that_moves_by_five_minutes_or_less_is_trusted(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock, moved_ns: int
) -> None:
    key = make_due(filesystem)
    clock.advance(timedelta(minutes=10))
    clock.wall_ns += moved_ns
    assert causes(await retention.sweep()) == []
    assert not has_image(filesystem, key)


async def test_a_host_that_slept_for_a_month_is_trusted(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    key = make_due(filesystem)
    clock.advance(timedelta(days=30))
    assert causes(await retention.sweep()) == []
    assert not has_image(filesystem, key)


async def test_a_wall_clock_before_the_last_sweep_suspends_deletion(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    key = make_due(filesystem)
    clock.wall_ns -= 1
    assert causes(await retention.sweep()) == [Cause.CLOCK_JUMP]
    assert has_image(filesystem, key)


async def test_what_a_jump_makes_due_at_once_is_kept(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    key = make_image(filesystem, ALPINE, "a")
    await retention.sweep()
    clock.wall_ns += 400 * DAY_NS
    assert causes(await retention.sweep()) == [Cause.CLOCK_JUMP]
    assert has_image(filesystem, key)


async def test_the_remedy_is_told_with_a_clock_jump(retention: Retention, clock: FakeClock) -> None:
    clock.wall_ns += HOUR_NS
    (suspension,) = (await retention.sweep()).suspended
    assert suspension.path == ""
    assert suspension.detail == (
        "the clock moved by 1h0m0s against the time since boot, since the last sweep at 2026-05-28T20:26:40Z; "
        "check the time; deletion resumes by itself one hour after the clock is stable; or, if it is right, run: "
        "hmret confirm clock"
    )


async def test_nothing_is_suspended_where_no_sweep_is_on_record(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    key = make_due(filesystem)
    clock.synchronised = False
    async with opened(platform) as retention:
        assert causes(await retention.sweep()) == []
    assert not has_image(filesystem, key)


# The hour after it.


async def test_deletion_resumes_after_one_hour_of_boot_time(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    key = make_due(filesystem)
    clock.wall_ns += HOUR_NS
    for _ in range(60):
        assert causes(await retention.sweep()) == [Cause.CLOCK_JUMP]
        clock.advance(timedelta(minutes=1))
    assert causes(await retention.sweep()) == []
    assert not has_image(filesystem, key)


async def test_in_that_hour_nothing_is_marked(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    key = make_image(filesystem, ALPINE, "a")
    clock.wall_ns += HOUR_NS
    for _ in range(2):
        assert (await retention.sweep()).marked_unused == 0
        assert state_of(filesystem, key) is None
        clock.advance(timedelta(minutes=30))
    assert (await retention.sweep()).marked_unused == 1
    assert state_of(filesystem, key) == format_time(clock.now_ns())


async def test_in_that_hour_existing_timers_are_kept(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    due = make_due(filesystem)
    running = make_image(filesystem, ALPINE, "b", tags=())
    make_state(filesystem, running, START_NS - DAY_NS)
    clock.wall_ns -= 300 * DAY_NS
    await retention.sweep()
    assert state_of(filesystem, due) == format_time(LONG_AGO_NS)
    assert state_of(filesystem, running) == format_time(START_NS - DAY_NS)


async def test_in_that_hour_clears_and_prunes_go_on(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    needed = make_due(filesystem)
    gone = ALPINE, digest("d")
    make_state(filesystem, gone, LONG_AGO_NS)
    make_guest(filesystem, "one", f"alpine@{needed[1]}")
    clock.wall_ns += HOUR_NS
    report = await retention.sweep()
    assert (report.cleared_states, report.pruned_states) == (1, 1)
    assert state_of(filesystem, needed) is None


async def test_in_that_hour_mark_used_still_clears(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    key = make_due(filesystem)
    clock.wall_ns += HOUR_NS
    await retention.sweep()
    assert (await retention.mark_used("alpine:a")).cleared
    assert state_of(filesystem, key) is None


async def test_a_clock_that_is_set_right_again_begins_another_hour(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    make_due(filesystem)
    clock.wall_ns += HOUR_NS
    await retention.sweep()
    clock.advance(timedelta(minutes=50))
    clock.wall_ns -= HOUR_NS
    await retention.sweep()
    clock.advance(timedelta(minutes=59))
    assert causes(await retention.sweep()) == [Cause.CLOCK_JUMP]
    clock.advance(timedelta(minutes=1))
    assert causes(await retention.sweep()) == []


async def test_a_clock_jump_is_told_once_while_it_lasts_and_when_it_ends(
    retention: Retention, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="hmret")
    clock.wall_ns += HOUR_NS
    for _ in range(6):
        await retention.sweep()
        clock.advance(timedelta(minutes=10))
    assert [one["cause"] for one in told(caplog, "deletion_suspended")] == ["clock_jump"]
    assert told(caplog, "no_longer") == []
    await retention.sweep()
    assert told(caplog, "no_longer") == [{"what": "deletion_suspended", "cause": "clock_jump"}]


# Over a restart.


async def test_a_jump_while_the_engine_was_down_suspends_deletion(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    key = make_due(filesystem)
    async with opened(platform) as retention:
        await retention.mark_used("alpine:a")
        await retention.sweep()
    make_state(filesystem, key, LONG_AGO_NS)
    clock.advance(timedelta(days=3))
    clock.wall_ns += 6 * MINUTE_NS
    async with opened(platform) as retention:
        assert causes(await retention.sweep()) == [Cause.CLOCK_JUMP]
    assert has_image(filesystem, key)


async def test_an_engine_that_was_down_for_a_week_trusts_the_clock(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    async with opened(platform) as retention:
        await retention.sweep()
    key = make_due(filesystem)
    clock.advance(timedelta(days=7))
    async with opened(platform) as retention:
        assert causes(await retention.sweep()) == []
    assert not has_image(filesystem, key)


async def test_the_hour_goes_on_over_a_restart_in_the_same_boot(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    async with opened(platform) as retention:
        await retention.sweep()
        clock.wall_ns += HOUR_NS
        await retention.sweep()
    key = make_due(filesystem)
    clock.advance(timedelta(minutes=59))
    async with opened(platform) as retention:
        assert causes(await retention.sweep()) == [Cause.CLOCK_JUMP]
    clock.advance(timedelta(minutes=1))
    async with opened(platform) as retention:
        assert causes(await retention.sweep()) == []
    assert not has_image(filesystem, key)


@pytest.mark.parametrize(
    ("wall", "synchronised"),
    [
        (timedelta(minutes=2), True),
        (timedelta(minutes=2), False),
        (timedelta(days=1), False),
        (timedelta(days=1, seconds=1), True),
        (timedelta(days=400), True),
    ],
)
async def test_after_a_reboot_a_clock_is_trusted_within_a_day_or_where_it_is_synchronised(
    platform: Platform,
    filesystem: MemoryFilesystem,
    clock: FakeClock,
    wall: timedelta,
    synchronised: bool,
) -> None:
    async with opened(platform) as retention:
        await retention.sweep()
    key = make_due(filesystem)
    reboot(clock, wall=wall, synchronised=synchronised)
    async with opened(platform) as retention:
        assert causes(await retention.sweep()) == []
    assert not has_image(filesystem, key)


@pytest.mark.parametrize(
    ("wall", "synchronised"),
    [
        (timedelta(days=1, seconds=1), False),
        (timedelta(days=400), False),
        (timedelta(seconds=-1), True),
        (timedelta(days=-9000), True),
        (timedelta(days=-9000), False),
    ],
)
async def test_after_a_reboot_a_clock_that_went_back_or_far_unsynchronised_suspends_deletion(
    platform: Platform,
    filesystem: MemoryFilesystem,
    clock: FakeClock,
    wall: timedelta,
    synchronised: bool,
) -> None:
    async with opened(platform) as retention:
        await retention.sweep()
    key = make_due(filesystem)
    reboot(clock, wall=wall, synchronised=synchronised)
    async with opened(platform) as retention:
        assert causes(await retention.sweep()) == [Cause.CLOCK_JUMP]
    assert has_image(filesystem, key)


async def test_an_hour_that_a_reboot_cut_short_begins_anew(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    async with opened(platform) as retention:
        await retention.sweep()
        clock.wall_ns += HOUR_NS
        await retention.sweep()
    key = make_due(filesystem)
    clock.advance(timedelta(minutes=59))
    reboot(clock, wall=timedelta(minutes=2))
    async with opened(platform) as retention:
        assert causes(await retention.sweep()) == [Cause.CLOCK_JUMP]
        clock.advance(timedelta(minutes=59))
        assert causes(await retention.sweep()) == [Cause.CLOCK_JUMP]
        assert has_image(filesystem, key)
        clock.advance(timedelta(minutes=1))
        assert causes(await retention.sweep()) == []
    assert not has_image(filesystem, key)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"boot_id": 7}', b"\xff"])
async def test_a_record_of_the_clocks_that_cannot_be_read_is_made_anew(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, content: bytes
) -> None:
    filesystem.write_file(RECORD, content)
    async with opened(platform) as retention:
        assert causes(await retention.sweep()) == []
    clock.wall_ns += HOUR_NS
    async with opened(platform) as retention:
        assert causes(await retention.sweep()) == [Cause.CLOCK_JUMP]


async def test_a_record_of_the_clocks_that_cannot_be_written_stops_no_sweep_and_the_guard_goes_on(
    retention: Retention,
    filesystem: MemoryFilesystem,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    key = make_due(filesystem)
    filesystem.deny(f"{RECORD}.tmp", errno.ENOSPC, call="write")
    await retention.sweep()
    assert not has_image(filesystem, key)
    assert [one["error"] for one in told(caplog, "clock_not_recorded")] == ["No space left on device"]
    kept = make_due(filesystem, "b")
    clock.wall_ns += HOUR_NS
    assert causes(await retention.sweep()) == [Cause.CLOCK_JUMP]
    assert has_image(filesystem, kept)


# Looking only.


async def test_a_plan_sees_a_jump_and_writes_nothing(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    make_due(filesystem)
    clock.wall_ns += HOUR_NS
    before = filesystem.snapshot()
    for _ in range(2):
        plan = await retention.plan()
        assert causes(plan) == [Cause.CLOCK_JUMP]
        assert plan.summary.delete == 0
    assert filesystem.snapshot() == before


async def test_a_plan_does_not_take_a_jump_away_from_the_sweep_after_it(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    key = make_due(filesystem)
    clock.wall_ns += HOUR_NS
    await retention.plan()
    assert causes(await retention.sweep()) == [Cause.CLOCK_JUMP]
    assert has_image(filesystem, key)


async def test_an_inspection_sees_a_jump_since_the_sweep_on_record_and_writes_nothing(
    retention: Retention, platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    make_due(filesystem)
    clock.wall_ns += HOUR_NS
    before = filesystem.snapshot()
    async with open_inspection(make_config(filesystem), platform) as inspection:
        assert causes(await inspection.plan()) == [Cause.CLOCK_JUMP]
    assert filesystem.snapshot() == before


# Timers that begin in the future.


async def test_a_timer_four_minutes_in_the_future_is_kept(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_image(filesystem, ALPINE, "a")
    make_state(filesystem, key, START_NS + 4 * MINUTE_NS)
    assert (await retention.sweep()).marked_unused == 0
    assert state_of(filesystem, key) == format_time(START_NS + 4 * MINUTE_NS)


async def test_a_timer_six_minutes_in_the_future_starts_again(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_image(filesystem, ALPINE, "a")
    make_state(filesystem, key, START_NS + 6 * MINUTE_NS)
    assert (await retention.explain("alpine")).reason is hmret.Reason.NEWLY_UNUSED
    assert (await retention.sweep()).marked_unused == 1
    assert state_of(filesystem, key) == format_time(START_NS)
