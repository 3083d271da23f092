"""Time that nobody watched counts in no window: engines that were away, hosts that were off, clocks that jumped, sleep."""

import errno
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

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
    START_NS,
    FakeClock,
    make_config,
    make_state,
    make_surroundings,
    state_of,
    told,
)
from support.due_images import LAYOUTS, are_here, image_folder, make_due, make_in
from support.memory_filesystem import Call, MemoryFilesystem

ALPINE = "docker.io/library/alpine"
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
DAY_NS = timedelta_nanoseconds(DAY)
RECORD = f"{DATA}/system/hmret/looks.json"
CLOCK = f"{DATA}/system/hmret/clock.json"

pytestmark = pytest.mark.anyio


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def image(filesystem: MemoryFilesystem, layout: str) -> Key:
    """An image that nothing needs."""
    return make_in(filesystem, layout, ALPINE, "a")


@asynccontextmanager
async def engine(platform: Platform, *, once: bool = False, **fields: Any) -> AsyncIterator[Retention]:
    """Open an engine that goes on, or one that sweeps once; sweeps happen when asked for."""
    assert isinstance(platform.filesystem, MemoryFilesystem)
    config = make_config(platform.filesystem, **fields)
    async with open_engine(config, platform, scheduled=not once) as retention:
        await retention.sweep()
        yield retention


async def sweep_once(platform: Platform, **fields: Any) -> hmret.SweepReport:
    """Sweep as cron does."""
    async with engine(platform, once=True, **fields) as retention:
        report = retention.statistics().last_report
        assert report is not None
        return report


def is_here(filesystem: MemoryFilesystem, layout: str, key: Key) -> bool:
    return are_here(filesystem, layout, [key]) == [True]


def reboot(clock: FakeClock, off: timedelta, *, synchronised: bool = True) -> None:
    clock.boot_id += "-again"
    clock.boot_ns = clock.monotonic_ns = 60 * SECOND
    clock.wall_ns += timedelta_nanoseconds(off)
    clock.synchronised = synchronised


def gaps_on_record(filesystem: MemoryFilesystem) -> list[list[int]]:
    found: list[list[int]] = json.loads(filesystem.read_file(RECORD))["gaps"]
    return found


# An engine that was away.


async def test_an_image_outlives_an_engine_that_was_away_for_longer_than_its_window(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, layout: str, image: Key
) -> None:
    async with engine(platform):
        assert state_of(filesystem, image) == format_time(START_NS)
    clock.run(40 * DAY)
    async with engine(platform) as retention:
        assert is_here(filesystem, layout, image)
        verdict = await retention.explain("alpine")
        assert verdict.expires_at_ns == START_NS + 70 * DAY_NS
        assert verdict.detail == "40d since then do not count: no engine watched whether it was in use"
        assert state_of(filesystem, image) == format_time(START_NS)  # hypeman's file stays as it was
        clock.advance(30 * DAY - MINUTE)  # asleep, so that nothing is missed
        await retention.sweep()
        assert is_here(filesystem, layout, image)
        clock.run(MINUTE)
        await retention.sweep()
    assert not is_here(filesystem, layout, image)


@pytest.mark.parametrize("first_is_engine", [True, False])
async def test_a_single_sweep_after_or_before_an_engine_counts_no_more(
    platform: Platform,
    filesystem: MemoryFilesystem,
    clock: FakeClock,
    layout: str,
    image: Key,
    first_is_engine: bool,
) -> None:
    async with engine(platform, once=not first_is_engine):
        pass
    clock.run(40 * DAY)
    async with engine(platform, once=first_is_engine):
        assert is_here(filesystem, layout, image)


async def test_a_host_that_was_off_for_longer_than_the_window_loses_nothing(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, layout: str, image: Key
) -> None:
    async with engine(platform):
        pass
    reboot(clock, 40 * DAY)
    async with engine(platform):
        assert is_here(filesystem, layout, image)


async def test_a_host_that_slept_for_longer_than_the_window_has_missed_nothing(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, layout: str, image: Key
) -> None:
    async with engine(platform) as retention:
        clock.advance(40 * DAY)
        await retention.sweep()
    assert not is_here(filesystem, layout, image)


async def test_a_long_suspension_does_not_count(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, layout: str, image: Key
) -> None:
    async with engine(platform) as retention:
        filesystem.write_file(f"{DATA}/guests/odd/metadata.json", b"{")
        for _ in range(4):
            clock.run(10 * DAY)
            assert (await retention.sweep()).status is hmret.SweepStatus.SUSPENDED
        filesystem.remove(f"{DATA}/guests/odd")
        assert (await retention.sweep()).status is hmret.SweepStatus.SUCCESS
        assert (await retention.explain("alpine")).expires_at_ns == START_NS + 70 * DAY_NS
    assert is_here(filesystem, layout, image)


async def test_a_short_suspension_counts(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, image: Key
) -> None:
    async with engine(platform) as retention:
        filesystem.write_file(f"{DATA}/guests/odd/metadata.json", b"{")
        clock.run(MINUTE)
        await retention.sweep()
        filesystem.remove(f"{DATA}/guests/odd")
        clock.run(MINUTE)
        await retention.sweep()
        assert (await retention.explain("alpine")).expires_at_ns == START_NS + 30 * DAY_NS


# Pulled again.


async def test_an_image_that_was_pulled_again_has_a_timer_of_its_own(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, layout: str
) -> None:
    (key,) = make_due(filesystem, layout, 1)
    metadata = f"{image_folder(layout, key)}/metadata.json"
    document = json.loads(filesystem.read_file(metadata))
    filesystem.write_file(
        metadata, json.dumps({**document, "created_at": (clock.now() - HOUR).isoformat()}).encode()
    )
    await sweep_once(platform)
    assert is_here(filesystem, layout, key)
    assert state_of(filesystem, key) == format_time(START_NS)


# Clocks.


async def test_a_clock_that_was_behind_until_it_was_set_makes_nothing_due(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, layout: str, image: Key
) -> None:
    async with engine(platform) as retention:
        clock.wall_ns += 90 * DAY_NS
        clock.run(MINUTE)
        assert [one.cause for one in (await retention.sweep()).suspended] == [Cause.CLOCK_JUMP]
        clock.run(HOUR)
        assert (await retention.sweep()).suspended == ()
        assert is_here(filesystem, layout, image)
        expires_ns = (await retention.explain("alpine")).expires_at_ns
    assert expires_ns == clock.wall_ns + 30 * DAY_NS


async def test_single_sweeps_do_not_count_what_the_clock_skipped_between_them(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, layout: str, image: Key
) -> None:
    clock.synchronised = False
    await sweep_once(platform)
    clock.wall_ns += 90 * DAY_NS
    for _ in range(4):
        clock.run(20 * MINUTE)
        await sweep_once(platform)
    assert is_here(filesystem, layout, image)


async def test_a_clock_that_was_ahead_leaves_no_gap_in_the_future(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, image: Key
) -> None:
    async with engine(platform) as retention:
        clock.wall_ns += 300 * DAY_NS
        for _ in range(3):
            clock.run(40 * MINUTE)
            await retention.sweep()
        assert gaps_on_record(filesystem) == [[START_NS, clock.wall_ns]]
        clock.wall_ns -= 300 * DAY_NS
        for _ in range(3):
            clock.run(40 * MINUTE)
            await retention.sweep()
        assert gaps_on_record(filesystem) == [[START_NS, clock.wall_ns]]
        expires_ns = (await retention.explain("alpine")).expires_at_ns
        assert expires_ns == clock.wall_ns + 30 * DAY_NS


async def test_single_sweeps_count_across_a_boot_only_where_the_clock_was_synchronised(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, image: Key
) -> None:
    await sweep_once(platform)
    clock.run(DAY)
    await sweep_once(platform)
    reboot(clock, DAY)
    await sweep_once(platform)
    assert gaps_on_record(filesystem) == []
    reboot(clock, HOUR, synchronised=False)
    await sweep_once(platform)
    assert gaps_on_record(filesystem) == [[clock.wall_ns - timedelta_nanoseconds(HOUR), clock.wall_ns]]


async def test_single_sweeps_do_not_count_what_lies_around_a_suspended_one(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, image: Key
) -> None:
    await sweep_once(platform)
    filesystem.write_file(f"{DATA}/guests/odd/metadata.json", b"{")
    clock.run(DAY)
    await sweep_once(platform)
    filesystem.remove(f"{DATA}/guests/odd")
    clock.run(DAY)
    await sweep_once(platform)
    assert gaps_on_record(filesystem) == [[START_NS, START_NS + 2 * DAY_NS]]


async def test_single_sweeps_alone_let_everything_fall_due(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, layout: str, image: Key
) -> None:
    for _ in range(31):
        await sweep_once(platform)
        clock.run(DAY)
    assert not is_here(filesystem, layout, image)


# Without a kernel that tells its boots.


async def test_without_a_boot_id_the_hour_after_a_jump_ends_also_for_single_sweeps(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, layout: str, image: Key
) -> None:
    clock.boot_id = ""
    await sweep_once(platform)
    clock.wall_ns -= timedelta_nanoseconds(HOUR)
    causes = []
    for _ in range(8):
        report = await sweep_once(platform)
        causes.append([str(one.cause) for one in report.suspended])
        clock.run(10 * MINUTE)
    assert causes == [["clock_jump"]] * 6 + [[], []]


async def test_without_a_boot_id_an_engine_knows_its_own_boot(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, layout: str, image: Key
) -> None:
    clock.boot_id = ""
    async with engine(platform) as retention:
        clock.advance(40 * DAY)
        await retention.sweep()
        assert not is_here(filesystem, layout, image)
        clock.wall_ns += timedelta_nanoseconds(HOUR)
        assert [one.cause for one in (await retention.sweep()).suspended] == [Cause.CLOCK_JUMP]


# The record.


async def test_where_nobody_looked_before_the_newest_timer_says_when_somebody_did(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, layout: str
) -> None:
    keys = make_due(filesystem, layout, 2)
    clock.run(40 * DAY)
    report = await sweep_once(platform)
    assert report.deleted_images == 2  # two hundred days were counted by then
    image = make_in(filesystem, layout, ALPINE, "c")
    make_state(filesystem, image, START_NS)
    filesystem.set_mtime(f"{DATA}/system/image-retention/{ALPINE}/{image[1][7:]}.json", START_NS)
    filesystem.remove(RECORD)
    await sweep_once(platform)
    assert is_here(filesystem, layout, image)
    assert not any(are_here(filesystem, layout, keys))


async def test_a_timer_that_is_written_while_the_engine_starts_hides_no_older_one(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, layout: str, image: Key
) -> None:
    make_state(filesystem, image, START_NS)
    filesystem.set_mtime(f"{DATA}/system/image-retention/{image[0]}/{image[1][7:]}.json", START_NS)
    clock.run(40 * DAY)
    fresh = make_in(filesystem, layout, ALPINE, "c")
    make_state(filesystem, fresh, clock.wall_ns)
    path = f"{DATA}/system/image-retention/{ALPINE}/{fresh[1][7:]}.json"
    filesystem.set_mtime(path, clock.wall_ns + 1)
    await sweep_once(platform)
    assert is_here(filesystem, layout, image)


async def test_the_record_of_an_older_version_is_the_last_look_of_an_engine(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, layout: str, image: Key
) -> None:
    make_state(filesystem, image, START_NS - 29 * DAY_NS)
    older = {"boot_id": clock.boot_id, "boot_ns": clock.boot_ns, "wall_ns": clock.wall_ns}
    filesystem.write_file(CLOCK, json.dumps({**older, "suspended_until_boot_ns": 0}).encode())
    clock.run(2 * DAY)
    await sweep_once(platform)
    assert gaps_on_record(filesystem) == [[START_NS, clock.wall_ns]]
    assert is_here(filesystem, layout, image)


async def test_the_record_is_on_the_disk_before_anything_is_deleted(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, layout: str
) -> None:
    due = make_due(filesystem, layout, 1)
    async with engine(platform, enabled=False):
        pass
    seen: list[bool] = []

    def look(call: Call) -> None:
        if call.name == "rename" and "/trash/" in call.path:
            seen.append(filesystem.exists(RECORD))

    filesystem.before = look
    await sweep_once(platform)
    filesystem.before = None
    assert seen
    assert all(seen)
    assert not any(are_here(filesystem, layout, due))


async def test_killed_between_the_look_and_its_record_nothing_counts_that_nobody_watched(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, layout: str, image: Key
) -> None:
    async with engine(platform):
        pass
    clock.run(40 * DAY)
    copies: list[MemoryFilesystem] = []

    def copy(call: Call) -> None:
        if call.name == "rename" and call.path.endswith("looks.json"):
            copies.append(filesystem.crashed_copy())

    filesystem.before = copy
    await sweep_once(platform)
    filesystem.before = None
    clock.run(MINUTE)
    for killed in copies:
        async with engine(make_surroundings(killed, clock)) as retention:
            assert is_here(killed, layout, image)
            verdict = await retention.explain("alpine")
        assert verdict.expires_at_ns == START_NS + 70 * DAY_NS + timedelta_nanoseconds(MINUTE)
    assert copies


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"gaps": 7}', b"\xff"])
async def test_a_record_that_cannot_be_read_is_none(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, layout: str, content: bytes
) -> None:
    image = make_in(filesystem, layout, ALPINE, "a")
    async with engine(platform):
        pass
    clock.run(40 * DAY)
    filesystem.write_file(RECORD, content)
    async with engine(platform):
        assert is_here(filesystem, layout, image)


async def test_a_record_that_cannot_be_written_stops_no_sweep_and_what_is_known_goes_on(
    platform: Platform,
    filesystem: MemoryFilesystem,
    clock: FakeClock,
    image: Key,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with engine(platform) as retention:
        clock.run(2 * DAY)
        filesystem.deny(f"{RECORD}.tmp", errno.ENOSPC, call="write")
        assert (await retention.sweep()).status is hmret.SweepStatus.SUCCESS
        assert {one["error"] for one in told(caplog, "look_not_recorded")} == {"No space left on device"}
        assert (await retention.explain("alpine")).expires_at_ns == START_NS + 32 * DAY_NS


async def test_looking_only_counts_as_a_sweep_would_and_writes_nothing(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, image: Key
) -> None:
    async with engine(platform):
        pass
    clock.run(40 * DAY)
    before = filesystem.snapshot()
    async with open_inspection(make_config(filesystem), platform) as inspection:
        assert (await inspection.plan()).summary.delete == 0
        assert (await inspection.plan(clock.now() + 30 * DAY)).summary.delete == 1
    assert filesystem.snapshot() == before


# What goes by the same record.


async def test_a_quarantine_lasts_as_long_in_time_that_was_watched(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, layout: str
) -> None:
    make_due(filesystem, layout, 1)
    async with engine(platform, quarantine=2 * DAY) as retention:
        assert len(retention.quarantined()) == 1
    clock.run(5 * DAY)
    async with engine(platform, quarantine=2 * DAY) as retention:
        (held,) = retention.quarantined()
        assert held.until == clock.now() + 2 * DAY
        clock.advance(2 * DAY - MINUTE)
        await retention.sweep()
        assert len(retention.quarantined()) == 1
        clock.run(MINUTE)
        await retention.sweep()
        assert retention.quarantined() == ()


async def test_a_lease_lasts_as_long_in_time_that_was_watched(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, layout: str, image: Key
) -> None:
    async with engine(platform) as retention:
        granted = await retention.grant_lease("alpine", owner="me", reason="soon", ttl=2 * DAY)
    clock.run(5 * DAY)
    async with engine(platform) as retention:
        (lease,) = retention.granted_leases()
        assert lease.id == granted.id
        assert lease.expires_at == clock.now() + 2 * DAY
        assert (await retention.explain("alpine")).reason is hmret.Reason.LEASED
    async with engine(platform) as retention:
        assert [one.expires_at for one in retention.granted_leases()] == [clock.now() + 2 * DAY]


# Reads that nobody saw.


def read_disk(filesystem: MemoryFilesystem, layout: str, key: Key, at_ns: int) -> None:
    name = "rootfs.ext4" if layout == "older" else "rootfs.erofs"
    filesystem.set_atime(f"{image_folder(layout, key)}/{name}", at_ns)


async def test_a_disk_that_was_read_while_nobody_watched_begins_its_timer_again_at_that_time(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, layout: str
) -> None:
    read, unread = make_due(filesystem, layout, 2, days=29)
    async with engine(platform):
        pass
    clock.run(2 * DAY)
    read_disk(filesystem, layout, read, START_NS + DAY_NS)
    async with open_inspection(make_config(filesystem), platform) as inspection:
        verdict = (await inspection.plan()).verdict(*read)
    assert verdict is not None
    assert verdict.reason is hmret.Reason.NEWLY_UNUSED
    async with engine(platform) as retention:
        assert state_of(filesystem, read) == format_time(START_NS + DAY_NS)
        assert state_of(filesystem, unread) != format_time(START_NS + DAY_NS)
        later = (await retention.plan()).verdict(*read)
        assert later is not None
        assert later.expires_at_ns == START_NS + 2 * DAY_NS + 30 * DAY_NS


@pytest.mark.parametrize("at_ns", [START_NS, START_NS - DAY_NS, START_NS + 3 * DAY_NS])
async def test_a_read_before_the_earlier_look_or_in_the_future_tells_nothing(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, layout: str, at_ns: int
) -> None:
    (key,) = make_due(filesystem, layout, 1, days=20)
    async with engine(platform):
        pass
    before = state_of(filesystem, key)
    clock.run(2 * DAY)
    read_disk(filesystem, layout, key, at_ns)
    async with engine(platform):
        assert state_of(filesystem, key) == before


@pytest.mark.parametrize(
    ("access_time", "watched", "counts"),
    [("gaps", True, False), ("always", True, True), ("never", False, False), ("gaps", False, True)],
)
async def test_reads_count_in_gaps_always_or_never(
    platform: Platform,
    filesystem: MemoryFilesystem,
    clock: FakeClock,
    layout: str,
    access_time: str,
    watched: bool,
    counts: bool,
) -> None:
    (key,) = make_due(filesystem, layout, 1, days=29)
    async with engine(platform, access_time=access_time):
        pass
    clock.run(MINUTE if watched else 2 * DAY)
    read_disk(filesystem, layout, key, START_NS + 30 * SECOND)
    async with engine(platform, access_time=access_time):
        assert (state_of(filesystem, key) == format_time(START_NS + 30 * SECOND)) is counts


async def test_single_sweeps_that_lie_far_apart_ask_for_reads_though_the_time_counts(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, layout: str
) -> None:
    (key,) = make_due(filesystem, layout, 1, days=29)
    await sweep_once(platform)
    clock.run(2 * DAY)
    read_disk(filesystem, layout, key, START_NS + DAY_NS)
    await sweep_once(platform)
    assert is_here(filesystem, layout, key)
    assert state_of(filesystem, key) == format_time(START_NS + DAY_NS)


async def test_where_a_read_cannot_be_put_on_record_the_next_sweep_asks_again(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, layout: str
) -> None:
    (key,) = make_due(filesystem, layout, 1, days=20)
    async with engine(platform):
        pass
    clock.run(2 * DAY)
    read_disk(filesystem, layout, key, START_NS + DAY_NS)
    state = f"{DATA}/system/image-retention/{key[0]}/{key[1][7:]}.json"
    filesystem.deny(f"{state}.tmp", errno.EACCES, call="open")
    async with engine(platform) as retention:
        assert state_of(filesystem, key) != format_time(START_NS + DAY_NS)
        filesystem.allow(f"{state}.tmp")
        clock.run(MINUTE)
        await retention.sweep()
        assert state_of(filesystem, key) == format_time(START_NS + DAY_NS)


async def test_reads_that_hold_back_most_of_what_is_due_are_told_with_the_remedy_after_three_looks(
    platform: Platform,
    filesystem: MemoryFilesystem,
    clock: FakeClock,
    layout: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    keys = make_due(filesystem, layout, 3, days=29)
    await sweep_once(platform, unused_for=30 * DAY)
    for night in range(3):
        assert told(caplog, "reads_hold_back") == [], night
        clock.run(40 * DAY)
        for key in keys:
            read_disk(filesystem, layout, key, clock.wall_ns - 31 * DAY_NS)
        await sweep_once(platform, unused_for=30 * DAY)
    (one,) = told(caplog, "reads_hold_back")
    detail = str(one["detail"])
    assert "3 of 3 images" in detail
    assert "O_NOATIME" in detail
    assert "hmret.access_time: never" in detail
