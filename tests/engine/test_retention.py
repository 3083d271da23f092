"""The open engine, as an embedder holds it."""

import errno
import itertools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import anyio
import anyio.lowlevel
import attrs
import pytest
import trio
from trio.testing import MockClock

import hmret
from hmret.actors.deleter import Deleter
from hmret.engine.opening import open_engine
from hmret.engine.opening_inspection import open_inspection
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.model.deletion import RetireCriteria
from hmret.model.images import Cause
from hmret.model.references import Key, Reference
from hmret.model.times import SECOND, format_time
from support.builders import (
    DATA,
    START,
    START_NS,
    Asker,
    FakeClock,
    GatedThreads,
    digest,
    has_image,
    loop_clock,
    make_config,
    make_guest,
    make_image,
    make_state,
    make_surroundings,
    running,
    set_tag,
    settle,
    state_of,
)
from support.deletions import deletion
from support.inline_threads import InlineThreads
from support.memory_filesystem import Call, MemoryFilesystem
from support.patience import patiently

ALPINE = "docker.io/library/alpine"
LONG_AGO_NS = START_NS - 40 * 86_400 * 10**9
OPEN_DISK = f"{DATA}/images/{ALPINE}/{'a' * 64}/rootfs.ext4"


@attrs.define(eq=False)
class FakeSource:
    """An embedder's source, which may stand still, and tells whether it was ever asked twice at a time."""

    given: tuple[Reference, ...] = ()
    gate: anyio.Event | None = None
    asked: anyio.Event = attrs.field(factory=anyio.Event)
    at_a_time: int = 0
    most_at_a_time: int = 0

    async def references(self) -> Iterable[Reference]:
        self.asked.set()
        self.at_a_time += 1
        self.most_at_a_time = max(self.most_at_a_time, self.at_a_time)
        try:
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.at_a_time -= 1
        return self.given


@pytest.fixture
async def retention(
    filesystem: MemoryFilesystem, platform: Platform, anyio_backend: str
) -> AsyncIterator[Retention]:
    """An engine that sweeps only when asked."""
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        yield retention


def make_due(filesystem: MemoryFilesystem, letters: str = "a", *, tags: tuple[str, ...] = ("latest",)) -> Key:
    key = make_image(filesystem, ALPINE, letters, tags=tags, created_at=START - timedelta(days=60))
    make_state(filesystem, key, LONG_AGO_NS)
    return key


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().partition(" ")[0] for record in caplog.records]


# mark_used.


@pytest.mark.parametrize(
    ("image", "beside"),
    [
        ("alpine", None),
        ("alpine:3.20", None),
        ("docker.io/library/alpine:3.20", None),
        (f"alpine@{digest('a')}", None),
        (f"alpine:absent@{digest('a')}", None),
        ("alpine:absent", digest("a")),
        ("alpine:absent", "a" * 64),
        (f"alpine@{digest('b')}", digest("a")),
    ],
)
async def test_mark_used_finds_an_image_by_whatever_names_it(
    retention: Retention, filesystem: MemoryFilesystem, image: str, beside: str | None
) -> None:
    make_due(filesystem, tags=("latest", "3.20"))
    used = await retention.mark_used(image, beside)
    assert used == hmret.MarkedUsed(ALPINE, digest("a"), cleared=True)


async def test_mark_used_clears_the_timer(retention: Retention, filesystem: MemoryFilesystem) -> None:
    key = make_due(filesystem)
    await retention.mark_used("alpine")
    assert state_of(filesystem, key) is None
    assert not (await retention.mark_used("alpine")).cleared


async def test_a_marked_image_stays_for_its_window(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    key = make_due(filesystem)
    await retention.mark_used("alpine")
    await retention.sweep()
    assert state_of(filesystem, key) == format_time(clock.now_ns())


@pytest.mark.parametrize("image", ["alpine", "alpine:3.20", f"alpine@{digest('a')}", "ghcr.io/kernel/x"])
async def test_mark_used_of_what_is_absent_is_not_found(retention: Retention, image: str) -> None:
    with pytest.raises(hmret.ImageNotFoundError, match="not in the cache"):
        await retention.mark_used(image)


async def test_mark_used_of_a_tag_that_points_to_nothing_is_not_found(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    set_tag(filesystem, ALPINE, "latest", "a")
    with pytest.raises(hmret.ImageNotFoundError, match="not in the cache"):
        await retention.mark_used("alpine")


async def test_mark_used_of_what_is_not_ready_is_not_found(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_image(filesystem, ALPINE, "a", status="pulling", has_disk=False)
    with pytest.raises(hmret.ImageNotFoundError, match="not ready: pulling"):
        await retention.mark_used("alpine")


async def test_mark_used_of_what_is_broken_is_not_found(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_image(filesystem, ALPINE, "a", has_disk=False)
    with pytest.raises(hmret.ImageNotFoundError, match="broken: no rootfs"):
        await retention.mark_used("alpine")


@pytest.mark.parametrize(
    ("image", "beside"), [("Alpine", None), ("", None), ("alpine", "abc"), ("alpine", "")]
)
async def test_mark_used_of_what_is_no_reference_is_refused(
    retention: Retention, image: str, beside: str | None
) -> None:
    with pytest.raises(hmret.InvalidReferenceError):
        await retention.mark_used(image, beside)


async def test_mark_used_promises_nothing_where_the_timer_cannot_be_cleared(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    filesystem.deny(f"{DATA}/system/image-retention/{ALPINE}/{'a' * 64}.json", errno.EIO, call="unlink")
    with pytest.raises(OSError, match="Input/output error"):
        await retention.mark_used("alpine")
    assert state_of(filesystem, key) is not None


async def test_a_tag_that_moves_before_the_lock_is_got_is_resolved_again(
    retention: Retention, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    make_due(filesystem, "a")
    make_due(filesystem, "b", tags=())
    looks = [threads.hold("_resolve_tag"), threads.hold("_confirm")]
    asker = Asker()
    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(asker.ask, lambda: retention.mark_used("alpine"))
            looks[0].opened.set()
            await looks[1].arrived.wait()
            set_tag(filesystem, ALPINE, "latest", "b")
            looks[1].opened.set()
    assert asker.answer == hmret.MarkedUsed(ALPINE, digest("b"), cleared=True)


async def test_a_leased_tag_that_moves_before_the_lock_is_got_is_resolved_again(
    retention: Retention, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    make_due(filesystem, "a")
    make_due(filesystem, "b", tags=())
    looks = [threads.hold("_resolve_tag"), threads.hold("_confirm")]
    asker = Asker()

    async def lease() -> str:
        async with retention.lease("alpine") as leased:
            return leased.digest

    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(asker.ask, lease)
            looks[0].opened.set()
            await looks[1].arrived.wait()
            set_tag(filesystem, ALPINE, "latest", "b")
            looks[1].opened.set()
    assert asker.answer == digest("b")


async def test_mark_used_waits_for_a_deletion_of_that_image_and_comes_too_late(
    retention: Retention, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    make_due(filesystem, "a")
    make_due(filesystem, "b", tags=("other",))
    gate = threads.hold_within("retire", filesystem, "take_lease")
    refused: list[str] = []

    async def mark() -> None:
        try:
            await retention.mark_used(f"alpine@{digest('a')}")
        except hmret.ImageNotFoundError as error:
            refused.append(str(error))

    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(retention.sweep)
            await gate.arrived.wait()
            tasks.start_soon(mark)
            await settle()
            assert not refused
            gate.opened.set()
    assert len(refused) == 1


async def test_mark_used_of_another_digest_does_not_wait_for_a_deletion(
    retention: Retention, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    make_due(filesystem, "a")
    make_image(filesystem, ALPINE, "b", tags=("other",))
    gate = threads.hold("retire")
    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(retention.sweep)
            await gate.arrived.wait()
            assert (await retention.mark_used("alpine:other")).digest == digest("b")
            gate.opened.set()


async def test_mark_used_of_an_image_whose_turn_to_go_has_not_come_does_not_wait_and_keeps_it(
    retention: Retention, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    first, second = make_due(filesystem, "a"), make_due(filesystem, "b", tags=("other",))
    gate = threads.hold_within("retire", filesystem, "take_lease")
    sweeper = Asker()
    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sweeper.ask, retention.sweep)
            await gate.arrived.wait()
            assert (await retention.mark_used("alpine:other")).cleared
            gate.opened.set()
    assert isinstance(sweeper.answer, hmret.SweepReport)
    assert (sweeper.answer.deleted_images, sweeper.answer.errors) == (1, ())
    assert (has_image(filesystem, first), has_image(filesystem, second)) == (False, True)
    assert state_of(filesystem, second) is None


async def test_mark_used_of_an_image_whose_turn_to_be_marked_has_not_come_does_not_wait_and_leaves_no_timer(
    retention: Retention, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    keys = [make_image(filesystem, ALPINE, letters, tags=(f"v{letters}",)) for letters in "ab"]
    gate = threads.hold_within("write_states", filesystem, "rename")
    sweeper = Asker()
    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sweeper.ask, retention.sweep)
            await gate.arrived.wait()
            await retention.mark_used("alpine:vb")
            gate.opened.set()
    assert isinstance(sweeper.answer, hmret.SweepReport)
    assert sweeper.answer.marked_unused == 1
    assert [state_of(filesystem, key) is not None for key in keys] == [True, False]


async def test_what_was_not_come_to_while_the_look_was_fresh_is_looked_at_again_and_goes(
    filesystem: MemoryFilesystem, clock: FakeClock, threads: GatedThreads
) -> None:
    keys = [make_due(filesystem, letters, tags=(f"v{letters}",)) for letters in ("a", "b", "c")]
    # Each look at the clock finds that more time has passed than one look at the references is good for.
    seconds = itertools.count(0, SECOND)
    platform = attrs.evolve(make_surroundings(filesystem, clock, threads), monotonic_ns=lambda: next(seconds))
    deleted: list[str] = []

    def need_the_last(call: Call) -> None:
        if call.name == "rename" and "/trash/" in call.path and call.path.endswith(".0"):
            deleted.append(call.path)
            if len(deleted) == 2:
                filesystem.before = None
                make_guest(filesystem, "vm", "alpine:vc")

    filesystem.before = need_the_last
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        report = await retention.sweep()
    assert (report.deleted_images, report.status) == (2, hmret.SweepStatus.SUCCESS)
    assert [has_image(filesystem, key) for key in keys] == [False, False, True]


async def test_what_is_marked_used_while_a_sweep_runs_is_not_deleted_by_it(
    retention: Retention, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    key = make_due(filesystem)
    gate = threads.hold("plan")
    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(retention.sweep)
            await gate.arrived.wait()
            await retention.mark_used("alpine")
            gate.opened.set()
    assert has_image(filesystem, key)
    assert state_of(filesystem, key) is None


async def test_what_is_marked_used_while_a_sweep_runs_gets_no_timer_from_it(
    retention: Retention, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    key = make_image(filesystem, ALPINE, "a")
    gate = threads.hold("plan")
    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(retention.sweep)
            await gate.arrived.wait()
            await retention.mark_used("alpine")
            gate.opened.set()
    assert state_of(filesystem, key) is None
    assert (await retention.sweep()).marked_unused == 1


async def test_a_cancelled_mark_used_holds_its_lock_until_its_thread_has_ended(
    retention: Retention, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    key = make_due(filesystem)
    gate = threads.hold("_confirm")
    scope = anyio.CancelScope()

    async def mark() -> None:
        with scope:
            await retention.mark_used("alpine")

    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(mark)
            await gate.arrived.wait()
            scope.cancel()
            await settle()
            await retention.sweep()
            assert has_image(filesystem, key)
            gate.opened.set()
    assert state_of(filesystem, key) is None


# Leases.


async def reason_of(retention: Retention, image: str = "alpine") -> hmret.Reason:
    return (await retention.explain(image)).reason


async def test_a_lease_tells_what_it_covers(retention: Retention, filesystem: MemoryFilesystem) -> None:
    make_image(filesystem, ALPINE, "a")
    async with retention.lease("alpine", reason="create vm-1", owner="api") as leased:
        assert (leased.repository, leased.digest, leased.expires_at) == (ALPINE, digest("a"), None)
        assert leased.id


async def test_a_lease_marks_used(retention: Retention, filesystem: MemoryFilesystem) -> None:
    key = make_due(filesystem)
    async with retention.lease("alpine"):
        assert state_of(filesystem, key) is None


async def test_a_lease_keeps_an_image_that_is_due(retention: Retention, filesystem: MemoryFilesystem) -> None:
    key = make_due(filesystem)
    async with retention.lease("alpine"):
        make_state(filesystem, key, LONG_AGO_NS)
        report = await retention.sweep()
        assert (report.deleted_images, report.cleared_states) == (0, 1)
        assert await reason_of(retention) is hmret.Reason.LEASED
    assert has_image(filesystem, key)


async def test_a_lease_that_came_after_the_survey_keeps_an_image_that_is_due(
    retention: Retention, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    key = make_due(filesystem)
    gate = threads.hold("plan")
    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(retention.sweep)
            await gate.arrived.wait()
            async with retention.lease("alpine"):
                make_state(filesystem, key, LONG_AGO_NS)
                gate.opened.set()
                while not retention.statistics().sweeps:
                    await anyio.lowlevel.checkpoint()
    assert has_image(filesystem, key)


async def test_a_lease_ends_with_its_block(retention: Retention, filesystem: MemoryFilesystem) -> None:
    make_image(filesystem, ALPINE, "a")
    async with retention.lease("alpine"):
        pass
    await settle()
    assert await reason_of(retention) is hmret.Reason.NEWLY_UNUSED


async def test_a_lease_ends_with_a_block_that_raises(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_image(filesystem, ALPINE, "a")
    with pytest.raises(KeyError):
        async with retention.lease("alpine"):
            raise KeyError("vm-1")
    await settle()
    assert await reason_of(retention) is hmret.Reason.NEWLY_UNUSED


async def test_a_lease_ends_with_a_block_that_is_cancelled(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_image(filesystem, ALPINE, "a")
    with anyio.CancelScope() as scope:
        async with retention.lease("alpine"):
            scope.cancel()
            await anyio.sleep_forever()
    await settle()
    assert await reason_of(retention) is hmret.Reason.NEWLY_UNUSED


async def test_a_lease_with_a_time_limit_says_when_it_ends(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    make_image(filesystem, ALPINE, "a")
    async with retention.lease("alpine", ttl=timedelta(hours=1)) as leased:
        assert leased.expires_at == clock.now() + timedelta(hours=1)


async def test_a_lease_expires_when_its_time_is_up(
    retention: Retention, filesystem: MemoryFilesystem, caplog: pytest.LogCaptureFixture
) -> None:
    make_image(filesystem, ALPINE, "a")
    with patiently():
        async with retention.lease("alpine", ttl=timedelta(milliseconds=1)):
            while await reason_of(retention) is hmret.Reason.LEASED:
                pass
    assert "lease_expired" in events(caplog)


async def test_a_lease_that_expires_while_it_is_made_still_implies_mark_used(
    retention: Retention,
    filesystem: MemoryFilesystem,
    threads: GatedThreads,
    caplog: pytest.LogCaptureFixture,
) -> None:
    key = make_due(filesystem)
    gate = threads.hold("_confirm")

    async def lease() -> None:
        async with retention.lease("alpine", ttl=timedelta(milliseconds=1)):
            assert has_image(filesystem, key)

    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lease)
            await gate.arrived.wait()
            while "lease_expired" not in events(caplog):
                await anyio.lowlevel.checkpoint()
            await retention.sweep()
            assert has_image(filesystem, key)
            gate.opened.set()


@pytest.mark.parametrize("ttl", [timedelta(0), timedelta(seconds=-1)])
async def test_a_lease_needs_a_time_limit_of_more_than_nothing(retention: Retention, ttl: timedelta) -> None:
    with pytest.raises(ValueError, match="ttl must be more than zero"):
        async with retention.lease("alpine", ttl=ttl):
            pytest.fail("got in")


async def test_a_lease_of_what_is_absent_is_not_found(retention: Retention) -> None:
    with pytest.raises(hmret.ImageNotFoundError):
        async with retention.lease("alpine"):
            pytest.fail("got in")


async def test_a_lease_of_what_is_not_ready_leaves_no_lock_behind(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_image(filesystem, ALPINE, "a", status="pulling", has_disk=False)
    with pytest.raises(hmret.ImageNotFoundError):
        async with retention.lease("alpine"):
            pytest.fail("got in")
    await settle()
    assert hmret.Reason.LEASED not in (await retention.explain("alpine")).blockers


# Sweeps.


async def test_a_sweep_marks_deletes_clears_and_prunes(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    gone = make_due(filesystem, "a", tags=("old",))
    fresh = make_image(filesystem, ALPINE, "b", tags=())
    needed = make_due(filesystem, "c")
    make_state(filesystem, (ALPINE, digest("d")), LONG_AGO_NS)
    make_guest(filesystem, "one", "alpine", resolved_image=f"{ALPINE}@{digest('c')}")
    report = await retention.sweep()
    assert report.status is hmret.SweepStatus.SUCCESS
    assert (report.marked_unused, report.cleared_states, report.pruned_states) == (1, 1, 1)
    (deleted,) = report.deleted
    assert (deleted.repository, deleted.digest, deleted.tags) == (*gone, ("old",))
    assert not has_image(filesystem, gone)
    assert has_image(filesystem, fresh)
    assert has_image(filesystem, needed)


async def test_a_sweep_asked_for_while_one_runs_waits_and_has_its_own(
    retention: Retention, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    make_image(filesystem, ALPINE, "a")
    gate = threads.hold("plan")
    reports: list[int] = []

    async def sweep() -> None:
        reports.append((await retention.sweep()).ready_images)

    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sweep)
            await gate.arrived.wait()
            assert retention.statistics().sweeping
            make_image(filesystem, ALPINE, "b")
            tasks.start_soon(sweep)
            await settle()
            assert reports == []
            gate.opened.set()
    assert reports == [1, 2]
    assert retention.statistics().sweeps == 2


async def test_sweeps_never_overlap(filesystem: MemoryFilesystem, platform: Platform) -> None:
    source = FakeSource()
    config = make_config(filesystem, sweep_interval=timedelta(milliseconds=1))
    async with open_engine(config, platform, sources=[source], scheduled=True) as retention:
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(retention.sweep)
        assert retention.statistics().sweeps >= 20
    assert source.most_at_a_time == 1


async def test_the_engine_sweeps_at_the_start_and_then_again_and_again(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    config = make_config(filesystem, sweep_interval=timedelta(milliseconds=1))
    with patiently():
        async with open_engine(config, platform, scheduled=True) as retention:
            assert retention.statistics().sweeps == 0
            while retention.statistics().sweeps < 3:
                await anyio.lowlevel.checkpoint()


async def test_an_engine_that_is_not_scheduled_sweeps_only_when_asked(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    await settle()
    assert retention.statistics().sweeps == 0


def on_a_clock_that_jumps(test: Callable[[Platform, MemoryFilesystem], Awaitable[None]]) -> None:
    """Run a test on trio, with a host in memory, and with no time spent on waiting."""

    async def run() -> None:
        clock = loop_clock()
        filesystem = MemoryFilesystem(clock.now_ns)
        filesystem.make_folder(f"{DATA}/images")
        await test(Platform(filesystem=filesystem, clock=clock, threads=InlineThreads()), filesystem)
        assert filesystem.open_descriptors() == {}

    trio.run(run, clock=MockClock(autojump_threshold=0))


def test_a_sweep_begins_at_each_interval() -> None:
    async def test(platform: Platform, filesystem: MemoryFilesystem) -> None:
        config = make_config(filesystem, sweep_interval=timedelta(minutes=7))
        async with open_engine(config, platform, scheduled=True) as retention:
            begun = []
            for _ in range(4):
                await trio.sleep(60)
                report = retention.statistics().last_report
                assert report is not None
                begun.append(report.started_at - START)
                await trio.sleep(6 * 60)
        assert begun == [timedelta(minutes=7 * number) for number in range(4)]

    on_a_clock_that_jumps(test)


def test_a_sweep_that_takes_too_long_is_not_made_up_for() -> None:
    async def test(platform: Platform, filesystem: MemoryFilesystem) -> None:
        gate = anyio.Event()
        source = FakeSource(gate=gate)
        async with open_engine(
            make_config(filesystem), platform, sources=[source], scheduled=True
        ) as retention:
            await trio.sleep(150)
            gate.set()
            await trio.sleep(20)
            assert retention.statistics().sweeps == 1
            await trio.sleep(20)
            report = retention.statistics().last_report
            assert retention.statistics().sweeps == 2
            assert report is not None
            assert report.started_at == START + timedelta(minutes=3)

    on_a_clock_that_jumps(test)


def test_a_lease_lasts_as_long_as_it_says() -> None:
    async def test(platform: Platform, filesystem: MemoryFilesystem) -> None:
        make_image(filesystem, ALPINE, "a")
        async with (
            open_engine(make_config(filesystem), platform, scheduled=False) as retention,
            retention.lease("alpine", ttl=timedelta(hours=1)),
        ):
            await trio.sleep(3599)
            assert await reason_of(retention) is hmret.Reason.LEASED
            await trio.sleep(2)
            assert await reason_of(retention) is hmret.Reason.NEWLY_UNUSED

    on_a_clock_that_jumps(test)


async def test_an_unreadable_reference_suspends_deletion_and_names_the_file(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    due, fresh = make_due(filesystem), make_image(filesystem, ALPINE, "b", tags=())
    path = make_guest(filesystem, "one", "alpine")
    filesystem.write_file(f"{DATA}/{path}", b"{")
    report = await retention.sweep()
    assert report.status is hmret.SweepStatus.SUSPENDED
    assert [(one.cause, one.path) for one in report.suspended] == [
        (Cause.UNREADABLE_REFERENCE, f"{DATA}/{path}")
    ]
    assert has_image(filesystem, due)
    assert state_of(filesystem, fresh) is not None


async def test_an_unreadable_reference_may_be_ignored(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    due = make_due(filesystem)
    path = make_guest(filesystem, "one", "alpine")
    filesystem.write_file(f"{DATA}/{path}", b"{")
    config = make_config(filesystem, unreadable_references="ignore")
    async with open_engine(config, platform, scheduled=False) as retention:
        report = await retention.sweep()
    assert report.deleted_images == 1
    assert not has_image(filesystem, due)


async def test_a_reference_that_comes_after_the_survey_keeps_its_image(
    retention: Retention, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    key = make_due(filesystem)
    gate = threads.hold("plan")
    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(retention.sweep)
            await gate.arrived.wait()
            make_guest(filesystem, "one", "alpine")
            gate.opened.set()
    assert has_image(filesystem, key)


async def test_a_reference_that_becomes_unreadable_after_the_survey_suspends_deletion(
    retention: Retention, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    key = make_due(filesystem)
    gate = threads.hold("plan")
    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(retention.sweep)
            await gate.arrived.wait()
            filesystem.write_file(f"{DATA}/guests/one/metadata.json", b"{")
            gate.opened.set()
    report = retention.statistics().last_report
    assert report is not None
    assert report.status is hmret.SweepStatus.SUSPENDED
    assert has_image(filesystem, key)


async def test_a_clock_that_jumps_suspends_deletion(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    await retention.sweep()
    due = make_due(filesystem)
    clock.wall_ns += 10 * 60 * 10**9
    assert [one.cause for one in (await retention.plan()).suspended] == [Cause.CLOCK_JUMP]
    report = await retention.sweep()
    assert [one.cause for one in report.suspended] == [Cause.CLOCK_JUMP]
    assert has_image(filesystem, due)


async def test_an_open_image_is_kept_and_its_timer_cleared(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    opener = filesystem.hold_open(OPEN_DISK)
    report = await retention.sweep()
    opener.close()
    assert (report.open_images, report.deleted_images) == (1, 0)
    assert has_image(filesystem, key)
    assert state_of(filesystem, key) is None


async def test_a_failed_deletion_is_reported_and_tried_again_after_a_while(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    stuck, gone = make_due(filesystem, "a"), make_due(filesystem, "b")
    filesystem.deny(f"{DATA}/images/{ALPINE}/{'a' * 64}", errno.EIO, call="rename")
    report = await retention.sweep()
    assert (report.status, report.failed_deletes) == (hmret.SweepStatus.PARTIAL, 1)
    assert [(error.repository, error.digest) for error in report.errors] == [stuck]
    assert not has_image(filesystem, gone)
    filesystem.allow(f"{DATA}/images/{ALPINE}/{'a' * 64}")
    assert (await retention.sweep()).deleted_images == 0
    clock.advance(timedelta(minutes=1))
    assert (await retention.sweep()).deleted_images == 1
    assert not has_image(filesystem, stuck)


async def test_a_trash_that_is_in_the_way_is_reported_and_nothing_is_deleted(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    if filesystem.exists(f"{DATA}/system/hmret/trash"):
        filesystem.remove(f"{DATA}/system/hmret/trash")
    filesystem.write_file(f"{DATA}/system/hmret/trash", b"in the way")
    report = await retention.sweep()
    assert (report.status, report.failed_deletes) == (hmret.SweepStatus.PARTIAL, 1)
    assert has_image(filesystem, key)


def fail_at(name: str, path: str) -> Callable[[Call], None]:
    def fail(call: Call) -> None:
        if call.name == name and path in call.path:
            raise RuntimeError("nobody foresaw this")

    return fail


async def test_a_sweep_that_fails_unforeseen_becomes_a_report_and_the_next_one_works(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    filesystem.before = fail_at("open", "images")
    report = await retention.sweep()
    filesystem.before = None
    assert report.status is hmret.SweepStatus.ERROR
    assert len(report.errors) == 1
    assert (await retention.sweep()).status is hmret.SweepStatus.SUCCESS
    assert not has_image(filesystem, key)


async def test_a_sweep_that_fails_unforeseen_says_what_was_wrong(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    filesystem.before = fail_at("open", "images")
    report = await retention.sweep()
    filesystem.before = None
    assert report.errors[0].error == "RuntimeError: nobody foresaw this"


# Plans.


async def test_a_plan_changes_nothing(retention: Retention, filesystem: MemoryFilesystem) -> None:
    make_due(filesystem)
    make_image(filesystem, ALPINE, "b", tags=())
    before = filesystem.snapshot()
    plan = await retention.plan()
    assert (plan.summary.delete, plan.summary.mark) == (1, 1)
    assert filesystem.snapshot() == before


async def test_a_plan_for_another_time_tells_what_is_due_then(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_image(filesystem, ALPINE, "a")
    await retention.sweep()
    assert (await retention.plan(at=START + timedelta(days=29))).summary.delete == 0
    assert (await retention.plan(at=START + timedelta(days=30))).summary.delete == 1


async def test_a_plan_for_a_time_without_a_zone_is_refused(retention: Retention) -> None:
    with pytest.raises(ValueError, match="time zone"):
        await retention.plan(at=datetime(2026, 12, 24))  # noqa: DTZ001 - that is what is wrong


async def test_explain_tells_every_blocker(retention: Retention, filesystem: MemoryFilesystem) -> None:
    make_due(filesystem)
    make_guest(filesystem, "one", "alpine")
    async with retention.lease("alpine"):
        verdict = await retention.explain("alpine")
    assert verdict.action is hmret.Action.CLEAR
    assert verdict.reason is hmret.Reason.REFERENCED
    assert verdict.blockers == (hmret.Reason.REFERENCED, hmret.Reason.LEASED)
    assert verdict.referenced_by == ("instance/one",)


async def test_explain_takes_a_digest_beside(retention: Retention, filesystem: MemoryFilesystem) -> None:
    make_due(filesystem)
    verdict = await retention.explain("alpine:absent", "a" * 64)
    assert verdict.action is hmret.Action.DELETE
    assert verdict.blockers == ()


@pytest.mark.parametrize("image", ["alpine", f"alpine@{digest('b')}"])
async def test_explain_of_what_is_absent_is_not_found(retention: Retention, image: str) -> None:
    with pytest.raises(hmret.ImageNotFoundError):
        await retention.explain(image)


async def test_an_inspection_plans_and_writes_nothing(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    make_due(filesystem)
    before = filesystem.snapshot()
    async with open_inspection(make_config(filesystem), platform) as inspection:
        assert (await inspection.plan()).summary.delete == 1
        assert (await inspection.explain("alpine"))[0].action is hmret.Action.DELETE
    assert filesystem.snapshot() == before


async def test_an_inspection_looks_beside_an_open_engine(
    retention: Retention, filesystem: MemoryFilesystem, platform: Platform
) -> None:
    make_due(filesystem)
    async with open_inspection(make_config(filesystem), platform) as inspection:
        assert (await inspection.plan()).summary.delete == 1


async def test_the_error_of_an_inspections_block_comes_out_unchanged(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    error = KeyError("mine")
    with pytest.raises(KeyError) as raised:
        async with open_inspection(make_config(filesystem), platform):
            raise error
    assert raised.value is error


# Statistics.


async def test_statistics_add_up(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    make_due(filesystem)
    before = retention.statistics()
    assert (before.sweeps, before.sweeping, before.last_report) == (0, False, None)
    first = await retention.sweep()
    make_due(filesystem, "b")
    clock.advance(timedelta(minutes=1))
    second = await retention.sweep()
    after = retention.statistics()
    assert (after.sweeps, after.deleted_images, after.failed_deletes) == (2, 2, 0)
    assert after.deleted_bytes == first.deleted_bytes + second.deleted_bytes > 0
    assert after.images_seen == 1
    assert after.last_report is second
    assert after.leases_offered is True
    assert set(after.waiting.values()) == {0}


async def test_statistics_are_frozen(retention: Retention) -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        retention.statistics().sweeps = 7  # type: ignore[misc]


# Switched off.


async def test_switched_off_it_sweeps_nothing(filesystem: MemoryFilesystem, platform: Platform) -> None:
    key = make_due(filesystem)
    config = make_config(filesystem, enabled=False)
    async with open_engine(config, platform, scheduled=True) as retention:
        await settle()
        report = await retention.sweep()
        assert report.status is hmret.SweepStatus.DISABLED
        assert retention.statistics().sweeps == 0
    assert has_image(filesystem, key)


async def test_switched_off_mark_used_and_lease_still_work(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    key = make_due(filesystem)
    config = make_config(filesystem, enabled=False)
    async with open_engine(config, platform, scheduled=True) as retention:
        assert (await retention.mark_used("alpine")).cleared
        async with retention.lease("alpine") as leased:
            assert leased.digest == key[1]


# Opening and ending.


async def test_a_second_engine_on_the_directory_is_refused(
    retention: Retention, filesystem: MemoryFilesystem, platform: Platform
) -> None:
    with pytest.raises(hmret.DataDirLockedError, match=DATA):
        async with open_engine(make_config(filesystem), platform, scheduled=False):
            pytest.fail("two engines")


async def test_the_directory_is_free_again_after_the_end(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    for _ in range(2):
        async with open_engine(make_config(filesystem), platform, scheduled=True) as retention:
            await retention.sweep()


async def test_a_directory_that_is_not_there_is_a_config_error(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    filesystem.remove(DATA)
    with pytest.raises(hmret.ConfigError, match=r"data_dir: .*No such file"):
        async with open_engine(make_config(filesystem), platform, scheduled=False):
            pytest.fail("opened")


async def test_a_directory_that_cannot_be_written_is_an_os_error(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    filesystem.make_folder(f"{DATA}/system")
    filesystem.deny(f"{DATA}/system", errno.EROFS)
    with pytest.raises(OSError, match="Read-only"):
        async with open_engine(make_config(filesystem), platform, scheduled=False):
            pytest.fail("opened")


async def test_opening_finishes_what_was_left_unfinished(
    filesystem: MemoryFilesystem, platform: Platform, caplog: pytest.LogCaptureFixture, data_fd: int
) -> None:
    caplog.set_level(logging.INFO, logger="hmret")
    key = make_due(filesystem)
    async with running(Deleter(filesystem, data_fd, platform.threads)) as deleter:
        await deleter.retire([deletion(*key, LONG_AGO_NS)], RetireCriteria(frozenset(), 1, START_NS))
    async with open_engine(make_config(filesystem), platform, scheduled=False):
        assert "deletion_recovered" in events(caplog)
        assert filesystem.tree(f"{DATA}/system/hmret/trash") == {}


async def test_opening_goes_on_where_the_trash_cannot_be_listed(
    filesystem: MemoryFilesystem, platform: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    filesystem.make_folder(f"{DATA}/system/hmret/trash")
    filesystem.deny(f"{DATA}/system/hmret/trash", errno.EACCES)
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        await retention.sweep()
    assert "recovery_failed" in events(caplog)


@pytest.mark.parametrize(
    "error", [KeyError("mine"), ExceptionGroup("mine", [ValueError("one")]), hmret.EngineClosedError("mine")]
)
async def test_the_error_of_the_block_comes_out_unchanged(
    filesystem: MemoryFilesystem, platform: Platform, error: Exception
) -> None:
    with pytest.raises(type(error)) as raised:
        async with open_engine(make_config(filesystem), platform, scheduled=True):
            raise error
    assert raised.value is error


async def test_cancelling_the_block_is_clean(filesystem: MemoryFilesystem, platform: Platform) -> None:
    with patiently():
        with anyio.CancelScope() as scope:
            async with open_engine(make_config(filesystem), platform, scheduled=True):
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        async with open_engine(make_config(filesystem), platform, scheduled=True):
            pass


@pytest.mark.parametrize("steps", range(0, 60, 3))
async def test_cancelling_at_any_step_of_a_first_sweep_is_clean(
    filesystem: MemoryFilesystem, platform: Platform, steps: int
) -> None:
    make_due(filesystem)
    make_image(filesystem, ALPINE, "b", tags=())
    with patiently():
        with anyio.CancelScope() as scope:
            async with open_engine(make_config(filesystem), platform, scheduled=True):
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()
        async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
            await retention.sweep()
    assert not has_image(filesystem, (ALPINE, digest("a")))
    assert has_image(filesystem, (ALPINE, digest("b")))


async def test_cancelling_waits_for_the_deletion_in_hand(
    filesystem: MemoryFilesystem, platform: Platform, threads: GatedThreads
) -> None:
    key = make_due(filesystem)
    gate = threads.hold_within("retire", filesystem, "take_lease")
    scope = anyio.CancelScope()
    is_over = False

    async def embed() -> None:
        nonlocal is_over
        with scope:
            async with open_engine(make_config(filesystem), platform, scheduled=True):
                await anyio.sleep_forever()
        is_over = True

    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(embed)
            await gate.arrived.wait()
            scope.cancel()
            await settle()
            assert not is_over
            gate.opened.set()
    assert is_over
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        await retention.sweep()
    assert not has_image(filesystem, key)
    assert filesystem.tree(f"{DATA}/system/hmret/trash") == {}


async def test_after_the_block_every_call_is_refused(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    make_image(filesystem, ALPINE, "a")
    async with open_engine(make_config(filesystem), platform, scheduled=True) as retention:
        pass
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: retention.mark_used("alpine"),
        lambda: retention.mark_used("alpine", digest("a")),
        retention.sweep,
        retention.plan,
        lambda: retention.explain("alpine"),
        lambda: retention.explain("alpine", digest("a")),
    ]
    for call in calls:
        with pytest.raises(hmret.EngineClosedError):
            await call()
    for scope in (retention.lease("alpine"), retention.lease("alpine", digest("a"))):
        with pytest.raises(hmret.EngineClosedError):
            async with scope:
                pytest.fail("got in")
    assert not retention.statistics().sweeping or retention.statistics().sweeps == 0


async def test_after_the_block_durable_leases_are_refused(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    make_image(filesystem, ALPINE, "a")
    hour = timedelta(hours=1)
    async with open_engine(make_config(filesystem), platform, scheduled=True) as retention:
        leased = await retention.grant_lease("alpine", owner="api", reason="create vm-1", ttl=hour)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: retention.grant_lease("alpine", owner="api", reason="create vm-1", ttl=hour),
        lambda: retention.grant_lease("alpine", digest("a"), owner="api", reason="create vm-1", ttl=hour),
        lambda: retention.renew_lease(leased.id, hour),
        lambda: retention.end_lease(leased.id),
    ]
    for call in calls:
        with pytest.raises(hmret.EngineClosedError):
            await call()


@asynccontextmanager
async def asking(
    *calls: Callable[[Retention], Awaitable[object]],
) -> AsyncIterator[Callable[[Retention], Awaitable[list[Asker]]]]:
    """Make those who ask in tasks of their own, which outlive the engine."""
    async with anyio.create_task_group() as tasks:

        async def begin(retention: Retention) -> list[Asker]:
            askers = [Asker() for _ in calls]
            for asker, call in zip(askers, calls, strict=True):
                tasks.start_soon(asker.ask, lambda call=call: call(retention))
            await settle()
            return askers

        yield begin


async def test_whoever_waits_for_a_sweep_when_the_engine_ends_is_refused(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    source = FakeSource(gate=anyio.Event())
    with patiently():
        async with (
            asking(Retention.sweep, Retention.sweep) as begin,
            open_engine(make_config(filesystem), platform, sources=[source], scheduled=False) as retention,
        ):
            askers = await begin(retention)
    assert all(asker.is_refused for asker in askers)


async def test_whoever_waits_for_a_plan_when_the_engine_ends_is_refused(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    make_image(filesystem, ALPINE, "a")
    source = FakeSource(gate=anyio.Event())
    with patiently():
        async with (
            asking(Retention.plan, lambda retention: retention.explain("alpine")) as begin,
            open_engine(make_config(filesystem), platform, sources=[source], scheduled=False) as retention,
        ):
            askers = await begin(retention)
    assert all(asker.is_refused for asker in askers)


async def test_whoever_waits_for_a_lock_when_the_engine_ends_hears_of_it(
    filesystem: MemoryFilesystem, platform: Platform, threads: GatedThreads
) -> None:
    key = make_due(filesystem)
    gate = threads.hold_within("retire", filesystem, "take_lease")

    async def mark(retention: Retention) -> object:
        try:
            return await retention.mark_used("alpine")
        except hmret.ImageNotFoundError as error:
            return error

    async def open_gate() -> None:
        await settle()
        gate.opened.set()

    with patiently():
        async with (
            anyio.create_task_group() as tasks,
            asking(Retention.sweep, mark) as begin,
            open_engine(make_config(filesystem), platform, scheduled=False) as retention,
        ):
            askers = await begin(retention)
            tasks.start_soon(open_gate)
    assert all(asker.is_answered for asker in askers)
    assert has_image(filesystem, key) or not isinstance(askers[1].answer, hmret.MarkedUsed)


async def test_the_engine_ends_while_a_lease_is_held(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    make_image(filesystem, ALPINE, "a")
    let_go = anyio.Event()

    async def lease(retention: Retention) -> None:
        async with retention.lease("alpine"):
            await let_go.wait()

    with patiently():
        async with asking(lease) as begin:
            async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
                askers = await begin(retention)
            assert not askers[0].is_answered
            let_go.set()
    assert askers[0].answer is None


# On a real disk, in real threads.


def open_real(
    path: Path, sweep_interval: timedelta = timedelta(minutes=1)
) -> AbstractAsyncContextManager[Retention]:
    return hmret.open_retention(make_config(path, sweep_interval=sweep_interval))


async def test_a_real_directory_is_swept(tmp_path: Path) -> None:
    now_ns = time.time_ns()
    due = make_image(tmp_path, ALPINE, "a")
    fresh = make_image(tmp_path, ALPINE, "b", tags=("other",))
    needed = make_image(tmp_path, ALPINE, "c", tags=())
    for key in (due, needed):
        make_state(tmp_path, key, now_ns - 31 * 86_400 * 10**9)
    make_guest(tmp_path, "one", f"alpine@{digest('c')}")
    async with open_real(tmp_path) as retention:
        await retention.sweep()
        assert retention.statistics().deleted_images == 1
    assert not has_image(tmp_path, due)
    assert not (tmp_path / "images" / ALPINE / "latest").is_symlink()
    assert has_image(tmp_path, fresh)
    assert state_of(tmp_path, fresh) is not None
    assert has_image(tmp_path, needed)
    assert state_of(tmp_path, needed) is None


async def test_a_real_image_is_marked_used_and_leased(tmp_path: Path) -> None:
    key = make_image(tmp_path, ALPINE, "a")
    make_state(tmp_path, key, time.time_ns())
    async with hmret.open_retention(make_config(tmp_path, enabled=False)) as retention:
        assert await retention.mark_used("alpine") == hmret.MarkedUsed(*key, cleared=True)
        async with retention.lease("alpine", ttl=timedelta(hours=1)) as leased:
            assert leased.digest == key[1]
            assert await reason_of(retention) is hmret.Reason.LEASED
    assert state_of(tmp_path, key) is None


async def test_a_real_directory_has_one_engine(tmp_path: Path) -> None:
    async with open_real(tmp_path):
        with pytest.raises(hmret.DataDirLockedError):
            async with open_real(tmp_path):
                pytest.fail("two engines")
    async with open_real(tmp_path):
        pass


async def test_a_real_engine_ends_in_the_midst_of_many_callers(tmp_path: Path) -> None:
    for letter in "abcdef":
        make_image(tmp_path, ALPINE, letter, tags=(letter,))
    askers: list[Asker] = []
    with patiently():
        async with (
            anyio.create_task_group() as tasks,
            open_real(tmp_path, sweep_interval=timedelta(milliseconds=1)) as retention,
        ):
            for letter in "abcdef" * 20:
                askers.append(Asker())
                tasks.start_soon(
                    askers[-1].ask, lambda letter=letter: retention.mark_used(f"alpine:{letter}")
                )
            await retention.sweep()
    assert all(asker.is_answered for asker in askers)


async def test_the_error_of_a_real_engines_block_comes_out_unchanged(tmp_path: Path) -> None:
    error = KeyError("mine")
    with pytest.raises(KeyError) as raised:
        async with open_real(tmp_path):
            raise error
    assert raised.value is error
