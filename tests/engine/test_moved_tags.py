"""A guest that runs from yesterday's `latest` keeps its image, however often the tag has moved since."""

import errno
import json
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta

import pytest

import hmret
from hmret.engine.opening import open_engine
from hmret.engine.opening_inspection import open_inspection
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.model.references import Key
from hmret.model.times import SECOND, nanoseconds_of
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
    make_snapshot,
    make_state,
    make_surroundings,
    set_tag,
)
from support.memory_filesystem import Call, MemoryFilesystem

ALPINE = "docker.io/library/alpine"
LONG_AGO_NS = START_NS - 40 * 86_400 * SECOND
DAY = timedelta(days=1)
RECORD = f"{DATA}/system/hmret/references.json"
GUEST = f"{DATA}/guests/one/metadata.json"
BORN = START - 45 * DAY
"""When the guest was created."""
LATER = START - 41 * DAY
"""When images were made that came after it; right before their timers began."""


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read torn files and absent tags again at once."""
    monkeypatch.setattr("hmret.actors.reference_collector._TORN_PAUSE", 0)


@pytest.fixture(autouse=True)
def images(filesystem: MemoryFilesystem) -> Iterator[None]:
    """Four images of one repository, all due, of which `latest` is the first."""
    for letter, days in zip("abcd", (75, 70, 65, 60), strict=True):
        make_due(filesystem, letter, created_at=START - days * DAY)
    point(filesystem, "a", BORN - DAY)
    yield
    filesystem.before = None


def opened(platform: Platform) -> AbstractAsyncContextManager[Retention]:
    assert isinstance(platform.filesystem, MemoryFilesystem)
    return open_engine(make_config(platform.filesystem), platform, scheduled=False)


@pytest.fixture
async def retention(platform: Platform, anyio_backend: str) -> AsyncIterator[Retention]:
    """An engine that sweeps only when asked."""
    async with opened(platform) as retention:
        yield retention


def make_due(filesystem: MemoryFilesystem, letters: str, *, created_at: datetime) -> Key:
    key = make_image(filesystem, ALPINE, letters, tags=(), created_at=created_at)
    make_state(filesystem, key, LONG_AGO_NS)
    return key


def point(filesystem: MemoryFilesystem, letters: str, moment: datetime = START) -> None:
    """Point `latest` to a digest, with a link made at that moment."""
    set_tag(filesystem, ALPINE, "latest", letters)
    filesystem.set_mtime(f"{DATA}/images/{ALPINE}/latest", nanoseconds_of(moment))


def here(filesystem: MemoryFilesystem) -> str:
    """Tell which of the images are left."""
    return "".join(letter for letter in "abcd" if has_image(filesystem, (ALPINE, digest(letter))))


def make_all_due(filesystem: MemoryFilesystem) -> None:
    for letter in here(filesystem):
        make_state(filesystem, (ALPINE, digest(letter)), LONG_AGO_NS)


async def protected(retention: Retention) -> str:
    """Tell which of the images a plan finds referenced."""
    verdicts = (await retention.plan()).verdicts
    return "".join(one.digest[-1] for one in verdicts if one.reason is hmret.Reason.REFERENCED)


# The tag moves.


async def test_the_image_that_a_guest_was_started_from_stays_when_the_tag_moves(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_guest(filesystem, "one", "alpine", created_at=BORN)
    assert await protected(retention) == "a"
    await retention.sweep()
    assert here(filesystem) == "a"
    make_due(filesystem, "b", created_at=LATER)
    point(filesystem, "b")
    make_all_due(filesystem)
    await retention.sweep()
    assert here(filesystem) == "ab"
    assert await protected(retention) == "ab"


async def test_everything_that_the_tag_pointed_to_stays_when_it_moves_twice(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_guest(filesystem, "one", "alpine", created_at=BORN)
    await retention.sweep()
    for letter in "bc":
        make_due(filesystem, letter, created_at=LATER)
        point(filesystem, letter)
        await retention.sweep()
    make_due(filesystem, "d", created_at=LATER)
    make_all_due(filesystem)
    await retention.sweep()
    assert here(filesystem) == "abc"


async def test_a_tag_that_moves_back_protects_both(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_guest(filesystem, "one", "alpine", created_at=BORN)
    await retention.sweep()
    make_due(filesystem, "b", created_at=LATER)
    for letter in "bab":
        point(filesystem, letter)
        await retention.sweep()
    assert await protected(retention) == "ab"


async def test_a_snapshot_is_remembered_as_a_guest_is(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_snapshot(filesystem, "one", "alpine")
    await retention.sweep()
    point(filesystem, "b")
    make_all_due(filesystem)
    await retention.sweep()
    assert "a" in here(filesystem)


async def test_a_tag_that_goes_leaves_its_images_protected(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_guest(filesystem, "one", "alpine", created_at=BORN)
    await retention.sweep()
    filesystem.remove(f"{DATA}/images/{ALPINE}/latest")
    make_all_due(filesystem)
    await retention.sweep()
    assert here(filesystem) == "a"


async def test_a_tag_that_moves_between_the_plan_and_the_deletion_keeps_where_it_now_points(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_guest(filesystem, "one", "alpine", created_at=BORN)
    listed = 0

    def move(call: Call) -> None:
        nonlocal listed
        if call.name == "scandir" and call.path == f"{DATA}/guests":
            listed += 1
            if listed == 2:
                point(filesystem, "c")

    filesystem.before = move
    await retention.sweep()
    assert listed >= 2
    assert here(filesystem) == "ac"


async def test_where_a_guest_says_what_it_boots_the_past_of_its_tag_does_not_count(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_guest(filesystem, "one", "alpine", resolved_image=f"alpine@{digest('a')}", created_at=BORN)
    for letter in "bc":
        point(filesystem, letter)
        assert await protected(retention) == f"a{letter}"


# Over restarts.


async def test_the_memory_of_moved_tags_survives_restarts(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    make_guest(filesystem, "one", "alpine", created_at=BORN)
    async with opened(platform) as retention:
        await retention.sweep()
    for letter in "bc":
        make_due(filesystem, letter, created_at=LATER)
        point(filesystem, letter)
        async with opened(platform) as retention:
            await retention.sweep()
    make_due(filesystem, "d", created_at=LATER)
    make_all_due(filesystem)
    async with opened(platform) as retention:
        await retention.sweep()
    assert here(filesystem) == "abc"


async def test_the_memory_of_a_tag_that_moved_while_the_engine_was_down_survives(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    make_guest(filesystem, "one", "alpine", created_at=BORN)
    async with opened(platform) as retention:
        await retention.sweep()
    make_due(filesystem, "b", created_at=LATER)
    point(filesystem, "b")
    make_all_due(filesystem)
    async with opened(platform) as retention:
        await retention.sweep()
    assert here(filesystem) == "ab"


@pytest.mark.parametrize("seed", range(6))
async def test_the_memory_of_moved_tags_survives_a_power_loss_after_the_sweep(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock, seed: int
) -> None:
    make_guest(filesystem, "one", "alpine", created_at=BORN)
    await retention.sweep()
    after = filesystem.after_power_loss(random.Random(seed))
    make_due(after, "b", created_at=LATER)
    point(after, "b")
    make_all_due(after)
    async with opened(make_surroundings(after, clock)) as other:
        await other.sweep()
    assert here(after) == "ab"


async def test_an_inspection_knows_what_moved_tags_pointed_to(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    make_guest(filesystem, "one", "alpine", created_at=BORN)
    async with opened(platform) as retention:
        await retention.sweep()
    make_due(filesystem, "b", created_at=LATER)
    point(filesystem, "b")
    make_all_due(filesystem)
    async with open_inspection(make_config(filesystem), platform) as inspection:
        assert (await inspection.plan()).summary.delete == 0


# Seen for the first time, or the memory lost.


async def test_at_first_sight_a_link_older_than_the_guest_protects_what_it_points_to(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    point(filesystem, "b", BORN - DAY)
    make_guest(filesystem, "one", "alpine", created_at=BORN)
    await retention.sweep()
    assert here(filesystem) == "b"


async def test_at_first_sight_a_link_younger_than_the_guest_protects_all_that_was_there_before_it(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_due(filesystem, "c", created_at=BORN + DAY)
    make_due(filesystem, "d", created_at=BORN + 2 * DAY)
    point(filesystem, "d", BORN + 3 * DAY)
    make_guest(filesystem, "one", "alpine", created_at=BORN)
    await retention.sweep()
    assert here(filesystem) == "abd"


async def test_at_first_sight_a_guest_of_unknown_age_protects_every_digest_of_the_repository(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_guest(filesystem, "one", "alpine")
    await retention.sweep()
    assert here(filesystem) == "abcd"


@pytest.mark.parametrize("content", [None, b"", b"{", b"[7]", b'[{"source": "instance/one"}]', b"\xff"])
async def test_a_memory_that_is_lost_while_the_tag_moves_protects_all_that_was_there_before_the_guest(
    platform: Platform, filesystem: MemoryFilesystem, content: bytes | None
) -> None:
    make_guest(filesystem, "one", "alpine", created_at=BORN)
    async with opened(platform) as retention:
        await retention.sweep()
    assert here(filesystem) == "a"
    filesystem.remove(RECORD)
    if content is not None:
        filesystem.write_file(RECORD, content)
    make_due(filesystem, "b", created_at=LATER)
    make_due(filesystem, "c", created_at=LATER)
    point(filesystem, "b")
    make_all_due(filesystem)
    async with opened(platform) as retention:
        await retention.sweep()
    assert here(filesystem) == "ab"


async def test_a_memory_that_the_disk_refuses_protects_all_that_was_there_before_the_guest(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    make_guest(filesystem, "one", "alpine", created_at=BORN)
    async with opened(platform) as retention:
        await retention.sweep()
    filesystem.deny(RECORD, errno.EIO, call="read")
    point(filesystem, "b")
    make_all_due(filesystem)
    async with opened(platform) as retention:
        await retention.sweep()
    assert "a" in here(filesystem)


# The guest changes.


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_guest_that_is_torn_while_the_tag_moves_keeps_its_image(
    platform: Platform, filesystem: MemoryFilesystem, restarts: bool
) -> None:
    make_guest(filesystem, "one", "alpine", created_at=BORN)
    whole = filesystem.read_file(GUEST)
    async with opened(platform) as retention:
        await retention.sweep()
        filesystem.write_file(GUEST, whole[:9])
        make_due(filesystem, "b", created_at=LATER)
        point(filesystem, "b")
        assert (await retention.sweep()).status is hmret.SweepStatus.SUSPENDED
        filesystem.write_file(GUEST, whole)
        make_all_due(filesystem)
        if not restarts:
            await retention.sweep()
    if restarts:
        async with opened(platform) as retention:
            await retention.sweep()
    assert here(filesystem) == "ab"


async def test_a_folder_of_guests_that_cannot_be_listed_while_the_tag_moves_forgets_nothing(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_guest(filesystem, "one", "alpine", created_at=BORN)
    await retention.sweep()
    filesystem.deny(f"{DATA}/guests", errno.EACCES)
    make_due(filesystem, "b", created_at=LATER)
    point(filesystem, "b")
    await retention.sweep()
    filesystem.allow(f"{DATA}/guests")
    make_all_due(filesystem)
    await retention.sweep()
    assert here(filesystem) == "ab"


async def test_once_a_guest_says_what_it_boots_only_that_and_the_tag_are_protected(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_guest(filesystem, "one", "alpine", created_at=BORN)
    await retention.sweep()
    for letter in "bc":
        make_due(filesystem, letter, created_at=LATER)
        point(filesystem, letter)
        await retention.sweep()
    assert await protected(retention) == "abc"
    make_guest(filesystem, "one", "alpine", resolved_image=f"alpine@{digest('b')}", created_at=BORN)
    make_all_due(filesystem)
    await retention.sweep()
    assert here(filesystem) == "bc"


async def test_the_images_of_a_guest_that_is_gone_expire(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    make_guest(filesystem, "one", "alpine", created_at=BORN)
    await retention.sweep()
    make_due(filesystem, "b", created_at=LATER)
    point(filesystem, "b")
    await retention.sweep()
    filesystem.remove(f"{DATA}/guests/one")
    assert (await retention.sweep()).marked_unused == 2
    clock.advance(30 * DAY - timedelta(seconds=1))
    await retention.sweep()
    assert here(filesystem) == "ab"
    clock.advance(timedelta(seconds=1))
    await retention.sweep()
    assert here(filesystem) == ""
    assert json.loads(filesystem.read_file(RECORD)) == []


async def test_the_memory_of_a_tag_is_one_for_all_guests_that_name_it(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_guest(filesystem, "one", "alpine", created_at=BORN)
    await retention.sweep()
    make_due(filesystem, "b", created_at=LATER)
    point(filesystem, "b", START - DAY)
    make_guest(filesystem, "two", "alpine", created_at=START)
    filesystem.remove(f"{DATA}/guests/one")
    make_all_due(filesystem)
    await retention.sweep()
    assert here(filesystem) == "ab"


async def test_the_memory_of_a_tag_ends_with_the_last_guest_that_names_it(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_guest(filesystem, "one", "alpine", created_at=BORN)
    await retention.sweep()
    make_due(filesystem, "b", created_at=LATER)
    point(filesystem, "b", START - DAY)
    filesystem.remove(f"{DATA}/guests/one")
    for letter in "ab":
        make_guest(filesystem, f"holds-{letter}", f"{ALPINE}@{digest(letter)}")
    await retention.sweep()
    assert here(filesystem) == "ab"
    for letter in "ab":
        filesystem.remove(f"{DATA}/guests/holds-{letter}")
    make_guest(filesystem, "two", "alpine", created_at=START)
    make_all_due(filesystem)
    await retention.sweep()
    assert here(filesystem) == "b"


# The memory cannot be written.


async def test_a_memory_that_cannot_be_written_is_reported_and_holds_until_the_next_sweep_writes_it(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    make_guest(filesystem, "one", "alpine", created_at=BORN)
    filesystem.make_folder(f"{DATA}/system/hmret")
    filesystem.deny(f"{RECORD}.tmp", errno.ENOSPC, call="write")
    async with opened(platform) as retention:
        report = await retention.sweep()
        assert report.status is hmret.SweepStatus.PARTIAL
        assert [one.error for one in report.errors] == ["No space left on device"]
        make_due(filesystem, "b", created_at=LATER)
        point(filesystem, "b")
        make_all_due(filesystem)
        await retention.sweep()
        assert here(filesystem) == "ab"
        assert not filesystem.exists(RECORD)
        filesystem.allow(f"{RECORD}.tmp")
        assert (await retention.sweep()).status is hmret.SweepStatus.SUCCESS
    make_all_due(filesystem)
    async with opened(platform) as retention:
        await retention.sweep()
    assert here(filesystem) == "ab"


async def test_a_memory_that_has_not_changed_is_not_written_again(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_guest(filesystem, "one", "alpine", created_at=BORN)
    await retention.sweep()
    inode = filesystem.inode(RECORD)
    await retention.sweep()
    assert filesystem.inode(RECORD) == inode is not None


@pytest.mark.parametrize(("ahead", "kept"), [(timedelta(minutes=4), True), (timedelta(minutes=6), False)])
async def test_a_guest_by_an_absent_tag_that_claims_to_be_made_in_the_future_keeps_no_image_for_ever(
    filesystem: MemoryFilesystem, retention: Retention, clock: FakeClock, ahead: timedelta, kept: bool
) -> None:
    made_at = datetime.fromtimestamp(clock.now_ns() / SECOND, START.tzinfo) + ahead
    make_guest(filesystem, "one", "alpine:gone", created_at=made_at)
    await retention.sweep()
    report = await retention.sweep()
    assert report.stale_references == 1
    assert has_image(filesystem, (ALPINE, digest("a"))) is kept
