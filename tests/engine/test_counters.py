"""What the engine counts: each thing once, when it has happened, and what is left and foreseen after a sweep."""

import errno
from collections.abc import AsyncIterator
from datetime import timedelta

import anyio
import pytest

import hmret
from hmret.engine.counters import Counters, Histogram
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.model.images import Cause
from hmret.model.references import Key
from hmret.model.report import SweepReport, SweepStatus
from hmret.model.times import SECOND
from hmret.model.verdicts import Action, Reason
from support.builders import (
    DATA,
    START,
    START_NS,
    FakeClock,
    GatedThreads,
    make_config,
    make_guest,
    make_image,
    make_state,
)
from support.memory_filesystem import MemoryFilesystem

ALPINE = "docker.io/library/alpine"
LONG_AGO_NS = START_NS - 40 * 86_400 * SECOND
TRASH = f"{DATA}/system/hmret/trash"


@pytest.fixture
async def retention(
    filesystem: MemoryFilesystem, platform: Platform, anyio_backend: str
) -> AsyncIterator[Retention]:
    """An engine that sweeps only when asked."""
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        yield retention


def make_due(filesystem: MemoryFilesystem, letters: str) -> Key:
    key = make_image(filesystem, ALPINE, letters, tags=(letters,), created_at=START - timedelta(days=60))
    make_state(filesystem, key, LONG_AGO_NS)
    return key


def folder(key: Key) -> str:
    return f"{DATA}/images/{key[0]}/{key[1].removeprefix('sha256:')}"


# Histograms.


def test_a_duration_at_a_bound_is_within_its_bucket() -> None:
    durations = Histogram((1.0, 2.0))
    for seconds in (0.0, 1.0, 1.5, 2.0, 2.5, 100.0):
        durations.observe(seconds)
    assert durations.counts == [2, 2, 2]
    assert durations.total_seconds == 107.0


def test_a_block_is_counted_however_it_ends() -> None:
    durations = Histogram((1e9,))
    with durations.timing():
        pass
    with pytest.raises(ValueError, match="no"), durations.timing():
        raise ValueError("no")
    assert durations.counts == [2, 0]


# Sweeps.


def test_a_sweep_that_could_not_be_carried_out_is_no_success() -> None:
    counters = Counters()
    counters.add_sweep(SweepReport(status=SweepStatus.ERROR, started_at=START, duration_seconds=2.0))
    assert counters.last_success_ns is None
    assert sum(counters.sweeps["error"].counts) == 1
    assert sum(counters.sweeps["success"].counts) == 0


@pytest.mark.parametrize("status", [SweepStatus.SUCCESS, SweepStatus.PARTIAL, SweepStatus.SUSPENDED])
def test_a_sweep_that_was_carried_out_is_a_success_when_it_ends(status: SweepStatus) -> None:
    counters = Counters()
    counters.add_sweep(SweepReport(status=status, started_at=START, duration_seconds=2.0))
    assert counters.last_success_ns == START_NS + 2 * SECOND
    assert counters.sweeps["success"].total_seconds == 2.0


async def test_each_sweep_is_counted_with_the_stale_references_that_it_found(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_guest(filesystem, "one", "busybox")
    make_guest(filesystem, "two", "busybox:1")
    await retention.sweep()
    await retention.sweep()
    assert sum(retention.counters.sweeps["success"].counts) == 2
    assert retention.counters.stale_references == 4


async def test_an_unforeseen_failure_of_a_sweep_is_counted_as_an_error(
    retention: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("hmret.engine.planner.plan", fail)
    assert (await retention.sweep()).status is SweepStatus.ERROR
    assert sum(retention.counters.sweeps["error"].counts) == 1
    assert retention.counters.outlook is None


async def test_suspensions_are_those_of_the_last_sweep(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    path = make_guest(filesystem, "one", "Alpine")
    await retention.sweep()
    assert retention.counters.suspended == {Cause.UNREADABLE_REFERENCE}
    filesystem.remove(f"{DATA}/{path}")
    await retention.sweep()
    assert retention.counters.suspended == set()


# Deletions.


async def test_deletions_are_counted_by_what_came_of_them(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    gone, stuck = make_due(filesystem, "a"), make_due(filesystem, "b")
    filesystem.deny(folder(stuck), errno.EIO, call="rename")
    report = await retention.sweep()
    counters = retention.counters
    assert [image.digest for image in report.deleted] == [gone[1]]
    assert counters.deletes == {"success": 1, "error": 1, "not_found": 0}
    assert counters.deleted == {"expired": 1, "disk_pressure": 0, "recovered": 0}
    assert counters.deleted_bytes == report.deleted_bytes == 4096


async def test_an_image_that_somebody_else_deletes_first_is_not_found(
    retention: Retention, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    key = make_due(filesystem, "a")
    gate = threads.hold("retire")

    async def delete_it() -> None:
        await gate.arrived.wait()
        filesystem.remove(folder(key))
        gate.opened.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(delete_it)
        await retention.sweep()
    assert retention.counters.deletes == {"success": 0, "error": 0, "not_found": 1}


async def test_an_open_image_is_neither_deleted_nor_failed(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    opener = filesystem.hold_open(f"{folder(make_due(filesystem, 'a'))}/rootfs.ext4")
    await retention.sweep()
    opener.close()
    assert retention.counters.deletes.total() == 0


async def test_bytes_that_could_not_be_freed_wait_in_the_trash_and_count_once_they_are(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_due(filesystem, "a")

    def refuse(call: object) -> None:
        if getattr(call, "name", "") == "unlink" and "rootfs" in getattr(call, "path", ""):
            raise OSError(errno.EIO, "refused")

    filesystem.before = refuse
    await retention.sweep()
    filesystem.before = None
    counters = retention.counters
    assert (counters.deleted["expired"], counters.deleted_bytes) == (1, 0)
    assert counters.trash_bytes >= 4096
    await retention.sweep()
    assert counters.deleted == {"expired": 1, "disk_pressure": 0, "recovered": 0}
    assert (counters.deleted_bytes, counters.trash_bytes) == (4096, 0)


async def test_what_the_start_recovers_is_counted(filesystem: MemoryFilesystem, platform: Platform) -> None:
    make_due(filesystem, "a")

    def refuse(call: object) -> None:
        if getattr(call, "name", "") == "unlink" and "rootfs" in getattr(call, "path", ""):
            raise OSError(errno.EIO, "refused")

    config = make_config(filesystem)
    async with open_engine(config, platform, scheduled=False) as retention:
        filesystem.before = refuse
        await retention.sweep()
    filesystem.before = None
    async with open_engine(config, platform, scheduled=False) as retention:
        assert retention.counters.deleted == {"expired": 0, "disk_pressure": 0, "recovered": 1}
        assert retention.counters.deleted_bytes == 4096


async def test_a_trash_that_cannot_be_listed_fails_no_sweep(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_due(filesystem, "a")
    filesystem.deny(TRASH, errno.EIO, call="scandir")
    report = await retention.sweep()
    filesystem.allow(TRASH)
    assert (report.status, report.deleted_images) == (SweepStatus.SUCCESS, 1)
    assert retention.counters.trash_bytes == 0


# Uses, and what is foreseen.


async def test_each_mark_used_is_timed_whatever_comes_of_it(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_image(filesystem, ALPINE, "a")
    await retention.mark_used("alpine")
    with pytest.raises(hmret.ImageNotFoundError):
        await retention.mark_used("busybox")
    assert sum(retention.counters.mark_used.counts) == 2


async def test_nothing_is_foreseen_before_the_first_sweep(retention: Retention) -> None:
    assert retention.counters.outlook is None


async def test_what_is_foreseen_after_a_sweep_is_without_what_it_deleted(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    make_due(filesystem, "a")
    kept = make_image(filesystem, ALPINE, "b", tags=("b",))
    make_state(filesystem, kept, START_NS - 29 * 86_400 * SECOND)
    await retention.sweep()
    outlook = retention.counters.outlook
    assert outlook is not None
    assert (outlook.images, outlook.tracked, outlook.overdue) == (1, 1, 0)
    assert outlook.holdings[Action.DELETE, Reason.EXPIRED].images == 0
    assert outlook.within == {"24h": 4096, "7d": 4096, "30d": 4096}
    assert outlook.days[0].disk_bytes == 0
    clock.advance(timedelta(days=2))
    await retention.sweep()
    assert retention.counters.outlook is not None
    assert retention.counters.outlook.images == 0
