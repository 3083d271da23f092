"""Deleted images that can be brought back: how long they are held, what comes back with them, and what goes first."""

import errno
import json
import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import anyio
import attrs
import pytest

import hmret
from hmret.engine.opening import open_engine, open_quarantine
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.engine.sweep.ledger import SweepLedger
from hmret.model.plan.decide import deletion_of
from hmret.model.references import Key
from hmret.model.times import SECOND, format_time
from support.builders import (
    DATA,
    START,
    START_NS,
    FakeClock,
    GatedThreads,
    digest,
    has_image,
    make_config,
    make_guest,
    make_image,
    make_state,
    set_tag,
    settle,
    state_of,
    told,
)
from support.memory_filesystem import Call, MemoryFilesystem
from support.patience import patiently

ALPINE = "docker.io/library/alpine"
EDGE = "docker.io/library/edge"
LONG_AGO_NS = START_NS - 40 * 86_400 * SECOND
TRASH = f"{DATA}/system/hmret/trash"
JOURNAL = f"{DATA}/system/hmret/journal.jsonl"
DAY = timedelta(days=1)
SECONDS = timedelta(seconds=1)


def config_of(filesystem: MemoryFilesystem, quarantine: timedelta = DAY) -> hmret.RetentionConfig:
    return attrs.evolve(make_config(filesystem), quarantine=quarantine)


def opened(platform: Platform, quarantine: timedelta = DAY) -> AbstractAsyncContextManager[Retention]:
    assert isinstance(platform.filesystem, MemoryFilesystem)
    return open_engine(config_of(platform.filesystem, quarantine), platform, scheduled=False)


@pytest.fixture
async def retention(platform: Platform, anyio_backend: str) -> AsyncIterator[Retention]:
    """An engine with a day of quarantine, that sweeps only when asked."""
    async with opened(platform) as retention:
        yield retention


def make_due(
    filesystem: MemoryFilesystem,
    letters: str = "a",
    *,
    repository: str = ALPINE,
    tags: tuple[str, ...] = ("latest",),
    size_bytes: int = 4096,
) -> Key:
    created_at = START - timedelta(days=60)
    key = make_image(filesystem, repository, letters, tags=tags, created_at=created_at, size_bytes=size_bytes)
    make_state(filesystem, key, LONG_AGO_NS)
    return key


def journal(filesystem: MemoryFilesystem, event: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in filesystem.read_file(JOURNAL).splitlines()]
    return [line for line in lines if line["event"] == event]


def held_keys(retention: Retention) -> list[Key]:
    return [(image.repository, image.digest) for image in retention.quarantined()]


def trash_of(filesystem: MemoryFilesystem) -> list[str]:
    return sorted(filesystem.tree(TRASH)) if filesystem.exists(TRASH) else []


def images_of(filesystem: MemoryFilesystem) -> object:
    return filesystem.tree(f"{DATA}/images")


# Into quarantine and out of it.


async def test_what_is_deleted_is_held_and_its_bytes_are_not_free_yet(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem, tags=("3.20", "latest"))
    report = await retention.sweep()
    assert (report.status, report.deleted_images, report.deleted_bytes) == (hmret.SweepStatus.SUCCESS, 1, 0)
    assert (report.quarantined_images, report.quarantined_bytes, report.released_images) == (1, 4096, 0)
    assert report.deleted[0].disk_bytes == 0
    assert retention.quarantined() == (
        hmret.Quarantined(
            repository=ALPINE,
            digest=key[1],
            tags=("3.20", "latest"),
            disk_bytes=4096,
            retired_at=START,
            until=START + DAY,
        ),
    )
    numbers = retention.statistics()
    assert (numbers.quarantined_images, numbers.quarantined_bytes, numbers.deleted_bytes) == (1, 4096, 0)
    assert images_of(filesystem) == {}
    assert await retention.trash_bytes() == 0


async def test_without_quarantine_nothing_is_held(platform: Platform, filesystem: MemoryFilesystem) -> None:
    make_due(filesystem)
    async with opened(platform, timedelta(0)) as retention:
        report = await retention.sweep()
        assert (report.deleted_bytes, report.quarantined_images, retention.quarantined()) == (4096, 0, ())
    assert trash_of(filesystem) == []


async def test_what_has_been_held_for_long_enough_goes_for_good(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    key = make_due(filesystem)
    await retention.sweep()
    clock.advance(DAY - SECONDS)
    assert (await retention.sweep()).released_images == 0
    assert held_keys(retention) == [key]
    clock.advance(SECONDS)
    report = await retention.sweep()
    assert (report.released_images, report.released_bytes, report.deleted_images) == (1, 4096, 0)
    assert (retention.quarantined(), trash_of(filesystem)) == ((), [])
    assert retention.counters.deleted_bytes == retention.statistics().deleted_bytes == 4096
    assert (retention.counters.quarantined_images, retention.counters.quarantined_bytes) == (0, 0)


async def test_what_happens_to_an_image_in_quarantine_is_told_and_written_down(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "hmret")
    one, other = make_due(filesystem, "a", tags=("a",)), make_due(filesystem, "b", tags=("b",))
    await retention.sweep()
    await retention.restore("alpine:a")
    clock.advance(DAY)
    await retention.sweep()
    await settle()
    until = format_time(START_NS + 86_400 * SECOND)
    assert [line["quarantined_until"] for line in journal(filesystem, "delete")] == [until, until]
    (restored,) = journal(filesystem, "restore")
    assert (restored["image"], restored["tags"]) == ("@".join(one), ["a"])
    (released,) = journal(filesystem, "release")
    assert (released["image"], released["bytes"]) == ("@".join(other), 4096)
    assert [keys["quarantined_until"] for keys in told(caplog, "image_deleted")] == [until, until]
    assert [keys["digest"] for keys in told(caplog, "image_restored")] == [one[1]]
    assert [keys["digest"] for keys in told(caplog, "image_released")] == [other[1]]
    with retention.listen(after=0) as listener:
        names = [event.name for event in await anext(listener)]
    assert [name for name in names if name in ("delete", "restore", "release")] == [
        *("delete", "delete", "restore", "release"),
    ]


async def test_a_suspension_keeps_what_is_held(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    make_due(filesystem)
    await retention.sweep()
    path = make_guest(filesystem, "one", "No Reference")
    clock.advance(2 * DAY)
    assert (await retention.sweep()).released_images == 0
    filesystem.remove(f"{DATA}/{path}")
    assert (await retention.sweep()).released_images == 1


async def test_a_suspension_that_comes_before_the_deletions_keeps_what_is_held(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    make_due(filesystem, "a", tags=())
    await retention.sweep()
    clock.advance(DAY)
    make_due(filesystem, "b", tags=())
    path = make_guest(filesystem, "one", "busybox")
    listed: list[Call] = []

    def tear(call: Call) -> None:
        if call.name == "scandir" and call.path == f"{DATA}/guests":
            listed.append(call)
            if len(listed) == 2:  # under the images' locks
                filesystem.write_file(f"{DATA}/{path}", b"{")

    filesystem.before = tear
    report = await retention.sweep()
    filesystem.before = None
    assert len(listed) >= 2
    assert (report.status, report.released_images) == (hmret.SweepStatus.SUSPENDED, 0)
    assert len(retention.quarantined()) == 1


async def test_a_clock_that_jumped_does_not_empty_it(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    key = make_due(filesystem)
    await retention.sweep()
    clock.wall_ns += 30 * 86_400 * SECOND
    report = await retention.sweep()
    assert (report.status, report.released_images) == (hmret.SweepStatus.SUSPENDED, 0)
    assert held_keys(retention) == [key]


async def test_what_was_retired_in_the_future_counts_from_now(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    make_due(filesystem)
    async with opened(platform) as retention:
        await retention.sweep()
    (record,) = [path for path in trash_of(filesystem) if path.endswith(".held")]
    (held,) = json.loads(filesystem.read_file(record))
    future = [{**held, "retired_at_ns": START_NS + 400 * 86_400 * SECOND}]
    filesystem.write_file(record, json.dumps(future).encode())
    async with opened(platform) as retention:
        assert retention.quarantined()[0].retired_at > START + timedelta(days=300)
        await retention.sweep()
        assert retention.quarantined()[0].until == START + DAY
    async with opened(platform) as retention:
        assert retention.quarantined()[0].retired_at == START
        clock.advance(DAY)
        assert (await retention.sweep()).released_images == 1


@pytest.mark.parametrize(("quarantine", "left"), [(timedelta(0), 0), (timedelta(hours=1), 0), (2 * DAY, 1)])
async def test_the_setting_in_force_counts(
    retention: Retention,
    filesystem: MemoryFilesystem,
    clock: FakeClock,
    quarantine: timedelta,
    left: int,
) -> None:
    make_due(filesystem)
    await retention.sweep()
    clock.advance(timedelta(hours=1))
    retention.reconfigure(config_of(filesystem, quarantine))
    assert retention.quarantined()[0].until == START + quarantine
    clock.advance(timedelta(0) if not left else DAY)
    await retention.sweep()
    assert len(retention.quarantined()) == left


async def test_what_cannot_be_erased_is_tried_again_and_cannot_come_back(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    make_due(filesystem)
    await retention.sweep()
    clock.advance(DAY)
    (disk,) = [path for path in trash_of(filesystem) if path.endswith("rootfs.ext4")]
    filesystem.deny(disk, errno.EIO, call="unlink")
    report = await retention.sweep()
    assert (report.status, report.released_images) == (hmret.SweepStatus.PARTIAL, 0)
    assert retention.quarantined() == ()
    assert retention.counters.trash_bytes >= 4096
    with pytest.raises(hmret.ImageNotFoundError):
        await retention.restore("alpine")
    filesystem.allow(disk)
    report = await retention.sweep()
    assert (report.released_images, report.released_bytes, trash_of(filesystem)) == (1, 4096, [])


async def test_a_batch_that_cannot_be_held_is_held_by_the_next_sweep(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    filesystem.before = refuse_records
    report = await retention.sweep()
    filesystem.before = None
    assert (report.status, report.deleted_images, report.quarantined_images) == ("partial", 1, 0)
    assert not has_image(filesystem, key)
    await retention.sweep()
    assert held_keys(retention) == [key]
    assert (await retention.restore("alpine")).tags == ("latest",)


def refuse_records(call: object) -> None:
    if getattr(call, "name", "") == "open" and getattr(call, "path", "").endswith(".held.tmp"):
        raise OSError(errno.ENOSPC, "No space left on device")


# What is freed at once.


async def test_what_is_to_be_freed_at_once_does_not_go_into_quarantine(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    keys = [make_due(filesystem, letters, tags=()) for letters in "abcd"]
    sweeps = retention._sweeps
    plan = await retention.plan()
    scan = await sweeps.surveyor.scanner.scan()
    ledger = SweepLedger(START_NS, [], counters=sweeps.counters)
    going = [deletion for choice in plan.choices if (deletion := deletion_of(plan, choice)) is not None]
    await sweeps.deletion_run.delete(going, scan, 0, ledger, holds=False)
    report = ledger.report(plan, 0.0)
    assert (report.deleted_images, report.deleted_bytes) == (len(keys), len(keys) * 4096)
    assert (report.quarantined_images, report.quarantined_bytes) == (0, 0)
    assert held_keys(retention) == []
    assert images_of(filesystem) == {}


@pytest.mark.parametrize(("wanted", "gone"), [(0, 0), (1, 1), (8192, 1), (8193, 2), (1 << 40, 3)])
async def test_the_oldest_go_first_until_enough_is_free(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock, wanted: int, gone: int
) -> None:
    keys = []
    for letters in "cab":
        keys.append(make_due(filesystem, letters, tags=(letters,), size_bytes=8192))
        await retention.sweep()
        clock.advance(timedelta(minutes=1))
    sweeps = retention._sweeps
    ledger = SweepLedger(clock.now_ns(), [], counters=sweeps.counters)
    assert await sweeps.quarantine.free_oldest(wanted, ledger) == gone * 8192
    assert (ledger.counts["released_images"], ledger.counts["released_bytes"]) == (gone, gone * 8192)
    assert held_keys(retention) == keys[gone:]
    assert retention.counters.deleted_bytes == gone * 8192


# Back from quarantine.


@pytest.mark.parametrize("named", ["alpine", "alpine:3.20", f"alpine@{digest('a')}"])
async def test_what_is_restored_is_here_whole_with_its_tags_for_a_full_window(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock, named: str
) -> None:
    key = make_due(filesystem, tags=("3.20", "latest"))
    before = images_of(filesystem)
    await retention.sweep()
    clock.advance(timedelta(hours=3))
    restored = await retention.restore(named)
    now = START + timedelta(hours=3)
    assert restored == hmret.Restored(*key, tags=("3.20", "latest"), taken_tags=(), unused_since=now)
    assert images_of(filesystem) == before
    assert (retention.quarantined(), trash_of(filesystem)) == ((), [])
    clock.advance(timedelta(days=30) - SECONDS)
    await retention.sweep()
    assert has_image(filesystem, key)
    clock.advance(SECONDS)
    await retention.sweep()
    assert held_keys(retention) == [key]


async def test_a_digest_beside_the_reference_counts(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_due(filesystem, "a", tags=("latest",))
    other = make_due(filesystem, "b", tags=())
    await retention.sweep()
    assert (await retention.restore("alpine", "b" * 64)).digest == other[1]


async def test_what_is_restored_can_be_used_at_once(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    await retention.sweep()
    with pytest.raises(hmret.ImageNotFoundError):
        await retention.mark_used("alpine")
    await retention.restore("alpine")
    assert await retention.mark_used("alpine") == hmret.MarkedUsed(*key, cleared=True)
    assert state_of(filesystem, key) is None
    verdict = await retention.explain("alpine")
    assert (verdict.digest, verdict.tags) == (key[1], ("latest",))


async def test_of_several_with_a_tag_the_last_that_went_comes_back(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    for letters in "ba":
        make_due(filesystem, letters)
        await retention.sweep()
        clock.advance(timedelta(minutes=1))
    assert (await retention.restore("alpine")).digest == digest("a")
    assert held_keys(retention) == [(ALPINE, digest("b"))]


async def test_a_tag_that_was_taken_stays_and_is_told(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem, tags=("3.20", "latest"))
    await retention.sweep()
    make_image(filesystem, ALPINE, "b", tags=("latest",))
    restored = await retention.restore("alpine")
    assert (restored.digest, restored.tags, restored.taken_tags) == (key[1], ("3.20",), ("latest",))
    assert (await retention.mark_used("alpine")).digest == digest("b")


@pytest.mark.parametrize("named", ["alpine:other", "busybox", f"alpine@{digest('b')}"])
async def test_what_is_not_held_is_not_found(
    retention: Retention, filesystem: MemoryFilesystem, named: str
) -> None:
    make_due(filesystem)
    await retention.sweep()
    with pytest.raises(hmret.ImageNotFoundError, match="not in quarantine"):
        await retention.restore(named)
    with pytest.raises(hmret.InvalidReferenceError):
        await retention.restore("No Reference")


async def test_what_was_pulled_again_stays_and_what_is_held_goes_when_its_time_has_come(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    key = make_due(filesystem)
    await retention.sweep()
    make_image(filesystem, ALPINE, "a", size_bytes=10)
    await retention.mark_used("alpine")
    fresh = images_of(filesystem)
    with pytest.raises(hmret.ImageExistsError, match="in the cache already"):
        await retention.restore("alpine")
    assert (images_of(filesystem), held_keys(retention)) == (fresh, [key])
    clock.advance(DAY)
    assert (await retention.sweep()).released_bytes == 4096
    assert images_of(filesystem) == fresh


async def test_a_restore_that_fails_can_be_tried_again(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    await retention.sweep()
    filesystem.deny(f"{DATA}/images", errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        await retention.restore("alpine")
    filesystem.allow(f"{DATA}/images")
    assert held_keys(retention) == [key]
    await retention.restore("alpine")
    assert has_image(filesystem, key)


# Two at a time.


async def test_what_is_being_erased_is_not_restored(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock, threads: GatedThreads
) -> None:
    make_due(filesystem)
    await retention.sweep()
    clock.advance(DAY)
    gate = threads.hold("release")
    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(retention.sweep)
            await gate.arrived.wait()
            with pytest.raises(hmret.ImageNotFoundError):
                await retention.restore("alpine")
            gate.opened.set()
    assert (images_of(filesystem), trash_of(filesystem)) == ({}, [])


async def test_what_is_being_restored_is_not_erased(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock, threads: GatedThreads
) -> None:
    key = make_due(filesystem)
    await retention.sweep()
    clock.advance(DAY)
    gate = threads.hold("restore")
    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(retention.restore, "alpine")
            await gate.arrived.wait()
            assert (await retention.sweep()).released_images == 0
            gate.opened.set()
    assert (has_image(filesystem, key), trash_of(filesystem)) == (True, [])


async def test_a_sweep_neither_marks_nor_deletes_what_is_being_restored(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock, threads: GatedThreads
) -> None:
    """Not even where its plan saw the image that was here before."""
    key = make_due(filesystem)
    await retention.sweep()
    gate = threads.hold("restore")
    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(retention.restore, "alpine")
            await gate.arrived.wait()
            make_due(filesystem)
            assert (await retention.sweep()).deleted_images == 0
            assert has_image(filesystem, key)
            filesystem.remove(f"{DATA}/images/{ALPINE}/{'a' * 64}")
            gate.opened.set()
    assert has_image(filesystem, key)
    assert state_of(filesystem, key) == format_time(clock.now_ns())


async def test_of_two_who_restore_an_image_one_hears_that_it_is_not_held(
    retention: Retention, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    make_due(filesystem)
    await retention.sweep()
    gate = threads.hold("restore")
    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(retention.restore, "alpine")
            await gate.arrived.wait()
            with pytest.raises(hmret.ImageNotFoundError):
                await retention.restore("alpine")
            gate.opened.set()


async def test_a_restore_that_is_cancelled_is_done_or_not_begun(
    retention: Retention, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    key = make_due(filesystem)
    await retention.sweep()
    gate = threads.hold("restore")
    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(retention.restore, "alpine")
            await gate.arrived.wait()
            tasks.cancel_scope.cancel()
            gate.opened.set()
    assert has_image(filesystem, key)
    assert retention.quarantined() == ()
    await retention.mark_used("alpine")


# Over restarts.


async def test_what_is_held_outlasts_the_engine(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    one, other = make_due(filesystem, "a", tags=("a",)), make_due(filesystem, "b", tags=("b",))
    async with opened(platform) as retention:
        await retention.sweep()
        held = retention.quarantined()
    async with opened(platform) as retention:
        assert retention.quarantined() == held
        assert retention.counters.quarantined_images == 2
        await retention.restore("alpine:a")
    clock.advance(DAY)
    async with opened(platform) as retention:
        assert held_keys(retention) == [other]
        assert (await retention.sweep()).released_images == 1
    assert has_image(filesystem, one)
    assert trash_of(filesystem) == []


@pytest.mark.parametrize(("quarantine", "held"), [(DAY, 1), (timedelta(0), 0)])
async def test_what_the_start_finishes_is_held_where_quarantine_is_on(
    platform: Platform, filesystem: MemoryFilesystem, quarantine: timedelta, held: int
) -> None:
    make_due(filesystem)
    async with opened(platform, quarantine) as retention:
        filesystem.before = refuse_records if held else refuse_erasing
        await retention.sweep()
    filesystem.before = None
    async with opened(platform, quarantine) as retention:
        assert len(retention.quarantined()) == held
        assert retention.counters.deleted["recovered"] == 1
        assert retention.counters.deleted_bytes == (0 if held else 4096)
    (recovered,) = journal(filesystem, "recover")
    assert ("quarantined_until" in recovered) == bool(held)


def refuse_erasing(call: object) -> None:
    if getattr(call, "name", "") == "unlink" and "rootfs" in getattr(call, "path", ""):
        raise OSError(errno.EIO, "Input/output error")


async def test_without_quarantine_what_is_held_can_still_come_back_until_the_next_sweep(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    async with opened(platform) as retention:
        await retention.sweep()
    async with opened(platform, timedelta(0)) as retention:
        await retention.restore("alpine")
    assert has_image(filesystem, key)


async def test_a_record_that_is_damaged_keeps_its_images_and_is_told_once(
    platform: Platform,
    filesystem: MemoryFilesystem,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    make_due(filesystem)
    async with opened(platform) as retention:
        await retention.sweep()
    (record,) = [path for path in trash_of(filesystem) if path.endswith(".held")]
    filesystem.write_file(record, b"[{")
    before = trash_of(filesystem)
    async with opened(platform, timedelta(0)) as retention:
        for _ in range(3):
            clock.advance(DAY)
            await retention.sweep()
        assert retention.quarantined() == ()
    assert trash_of(filesystem) == before
    assert [keys["path"] for keys in told(caplog, "quarantine_unreadable")] == [
        record.removeprefix(f"{DATA}/")
    ]


async def test_an_inspection_tells_what_is_held_and_writes_nothing(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    async with opened(platform) as retention:
        await retention.sweep()
    before = filesystem.snapshot()
    async with open_quarantine(config_of(filesystem), platform) as quarantine:
        await quarantine.look()
        assert [image.digest for image in quarantine.images()] == [key[1]]
    assert filesystem.snapshot() == before


async def test_a_stop_leaves_what_is_due_for_the_next_start(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, threads: GatedThreads
) -> None:
    for letters in "abc":
        make_due(filesystem, letters, tags=())
    async with opened(platform) as retention:
        await retention.sweep()
        clock.advance(DAY)
        gate = threads.hold("release")
        async with anyio.create_task_group() as tasks:

            async def stop() -> None:
                await gate.arrived.wait()
                retention._sweeps.deleter.stop_early()
                gate.opened.set()

            tasks.start_soon(stop)
            assert (await retention.sweep()).released_images == 0
    async with opened(platform) as retention:
        assert (await retention.sweep()).released_images == 3
    assert trash_of(filesystem) == []


async def test_whatever_is_done_with_held_images_none_is_lost_and_none_is_left(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    """Deletions, restores, pulls, moved tags, restarts and settings at random; each image is here, held or released."""
    rng = random.Random(7)
    names = [(ALPINE, "a"), (ALPINE, "b"), (EDGE, "a"), (EDGE, "c")]
    for _ in range(12):
        async with opened(platform, rng.choice((DAY, 2 * DAY))) as retention:
            for _ in range(6):
                repository, letters = rng.choice(names)
                key = repository, digest(letters)
                match rng.choice(("pull", "sweep", "restore", "tag", "wait")):
                    case "pull" if not has_image(filesystem, key):
                        make_due(filesystem, letters, repository=repository, tags=("latest", letters))
                    case "restore" if key in held_keys(retention):
                        try:
                            await retention.restore(repository, key[1])
                        except hmret.ImageExistsError:
                            assert key in held_keys(retention)
                        assert has_image(filesystem, key)
                    case "tag" if has_image(filesystem, key):
                        set_tag(filesystem, repository, "latest", letters)
                    case "wait":
                        clock.advance(timedelta(hours=rng.randint(1, 30)))
                    case _:
                        here = [
                            (name, digest(one))
                            for name, one in names
                            if has_image(filesystem, (name, digest(one)))
                        ]
                        held = held_keys(retention)
                        report = await retention.sweep()
                        gone = [one for one in here if not has_image(filesystem, one)]
                        assert report.quarantined_images == len(gone) == report.deleted_images
                        assert len(held_keys(retention)) == len(held) + len(gone) - report.released_images
    async with opened(platform, timedelta(0)) as retention:
        await retention.sweep()
        assert retention.quarantined() == ()
    assert trash_of(filesystem) == []
    links = [path for path, entry in filesystem.tree(f"{DATA}/images").items() if entry[0] == "link"]
    assert all(
        filesystem.exists(f"{path.rpartition('/')[0]}/{filesystem.tree()[path][1]!s}") for path in links
    )
