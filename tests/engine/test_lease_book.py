"""Leases that outlive their asker: granted, renewed, ended, expired, and there again after a restart."""

import errno
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import anyio
import anyio.lowlevel
import pytest
import trio
from trio.testing import MockClock

import hmret
from hmret.engine.opening import open_engine
from hmret.engine.opening_inspection import open_inspection
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.model.images import Cause
from hmret.model.references import Key
from hmret.model.report import Leased
from hmret.model.times import SECOND
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
    make_image,
    make_state,
    make_surroundings,
    set_tag,
    settle,
    state_of,
    told,
)
from support.inline_threads import InlineThreads
from support.memory_filesystem import Call, MemoryFilesystem
from support.patience import patiently

ALPINE = "docker.io/library/alpine"
OWN = f"{DATA}/system/hmret"
LEASES = f"{OWN}/leases.json"
LONG_AGO_NS = START_NS - 40 * 86_400 * SECOND
HOUR = timedelta(hours=1)


def opened(platform: Platform) -> AbstractAsyncContextManager[Retention]:
    assert isinstance(platform.filesystem, MemoryFilesystem)
    return open_engine(make_config(platform.filesystem), platform, scheduled=False)


@pytest.fixture
async def retention(platform: Platform, anyio_backend: str) -> AsyncIterator[Retention]:
    """An engine that sweeps only when asked."""
    async with opened(platform) as retention:
        yield retention


def make_due(filesystem: MemoryFilesystem, letters: str = "a", *, tags: tuple[str, ...] = ("latest",)) -> Key:
    key = make_image(filesystem, ALPINE, letters, tags=tags, created_at=START - timedelta(days=60))
    make_state(filesystem, key, LONG_AGO_NS)
    return key


async def grant(retention: Retention, image: str = "alpine", ttl: timedelta = HOUR) -> Leased:
    return await retention.grant_lease(image, owner="api", reason="create vm-1", ttl=ttl)


async def reason_of(retention: Retention, image: str = "alpine") -> hmret.Reason:
    return (await retention.explain(image)).reason


# Granted.


async def test_a_granted_lease_tells_what_it_covers(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    make_image(filesystem, ALPINE, "a")
    leased = await grant(retention)
    assert (leased.repository, leased.digest) == (ALPINE, digest("a"))
    assert (leased.owner, leased.reason) == ("api", "create vm-1")
    assert leased.expires_at == clock.now() + HOUR
    assert retention.granted_leases() == (leased,)


async def test_a_granted_lease_marks_used(retention: Retention, filesystem: MemoryFilesystem) -> None:
    key = make_due(filesystem)
    await grant(retention)
    assert state_of(filesystem, key) is None


async def test_a_granted_lease_keeps_an_image_that_is_due(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    await grant(retention)
    make_state(filesystem, key, LONG_AGO_NS)
    report = await retention.sweep()
    assert (report.deleted_images, report.cleared_states) == (0, 1)
    assert await reason_of(retention) is hmret.Reason.LEASED
    assert has_image(filesystem, key)


async def test_a_lease_granted_after_the_survey_keeps_an_image_that_is_due(
    retention: Retention, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    key = make_due(filesystem)
    gate = threads.hold("plan")
    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(retention.sweep)
            await gate.arrived.wait()
            await grant(retention)
            make_state(filesystem, key, LONG_AGO_NS)
            gate.opened.set()
    assert has_image(filesystem, key)


async def test_granted_leases_are_listed_by_when_they_expire(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_image(filesystem, ALPINE, "a")
    granted = [await grant(retention, ttl=hours * HOUR) for hours in (2, 3, 1)]
    assert retention.granted_leases() == (granted[2], granted[0], granted[1])


async def test_a_tag_that_moves_before_a_lease_is_granted_is_resolved_again(
    retention: Retention, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    make_image(filesystem, ALPINE, "a")
    make_image(filesystem, ALPINE, "b", tags=())
    looks = [threads.hold("_resolve_tag"), threads.hold("_confirm")]
    asker = Asker()
    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(asker.ask, lambda: grant(retention))
            looks[0].opened.set()
            await looks[1].arrived.wait()
            set_tag(filesystem, ALPINE, "latest", "b")
            looks[1].opened.set()
    assert isinstance(asker.answer, Leased)
    assert asker.answer.digest == digest("b")
    assert retention.granted_leases() == (asker.answer,)


async def test_leases_granted_at_the_same_time_are_all_on_record(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    make_image(filesystem, ALPINE, "a")
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(grant, retention)
    after = filesystem.crashed_copy()
    async with opened(make_surroundings(after, clock)) as other:
        assert set(other.granted_leases()) == set(retention.granted_leases())
        assert len(other.granted_leases()) == 20


# Not granted.


@pytest.mark.parametrize("image", ["alpine", f"alpine@{digest('a')}"])
async def test_a_lease_on_what_is_absent_is_not_found_and_leaves_nothing_behind(
    retention: Retention, filesystem: MemoryFilesystem, image: str
) -> None:
    with pytest.raises(hmret.ImageNotFoundError, match="not in the cache"):
        await grant(retention, image)
    assert retention.granted_leases() == ()
    assert not filesystem.exists(LEASES)


@pytest.mark.parametrize(
    ("status", "fault"), [("pulling", "not ready: pulling"), ("ready", "broken: no rootfs")]
)
async def test_a_lease_on_what_is_not_ready_or_broken_is_not_found_and_leaves_nothing_behind(
    retention: Retention, filesystem: MemoryFilesystem, status: str, fault: str
) -> None:
    make_image(filesystem, ALPINE, "a", status=status, has_disk=False)
    with pytest.raises(hmret.ImageNotFoundError, match=fault):
        await grant(retention)
    await settle()
    assert retention.granted_leases() == ()
    assert not filesystem.exists(LEASES)
    assert hmret.Reason.LEASED not in (await retention.explain("alpine")).blockers


async def test_a_lease_that_waits_for_a_deletion_comes_too_late(
    retention: Retention, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    make_due(filesystem)
    gate = threads.hold_within("retire", filesystem, "take_lease")
    refused: list[str] = []

    async def ask() -> None:
        try:
            await grant(retention, f"alpine@{digest('a')}")
        except hmret.ImageNotFoundError as error:
            refused.append(str(error))

    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(retention.sweep)
            await gate.arrived.wait()
            tasks.start_soon(ask)
            await settle()
            assert not refused
            gate.opened.set()
    assert len(refused) == 1
    assert retention.granted_leases() == ()


@pytest.mark.parametrize("ttl", [timedelta(0), timedelta(seconds=-1)])
async def test_a_granted_lease_needs_a_time_limit_of_more_than_nothing(
    retention: Retention, filesystem: MemoryFilesystem, ttl: timedelta
) -> None:
    make_image(filesystem, ALPINE, "a")
    with pytest.raises(ValueError, match="ttl must be more than zero"):
        await grant(retention, ttl=ttl)
    assert retention.granted_leases() == ()


async def test_a_lease_that_cannot_be_recorded_is_not_granted(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    filesystem.deny(f"{LEASES}.tmp", errno.ENOSPC, call="write")
    with pytest.raises(OSError, match="No space left"):
        await grant(retention)
    await settle()
    assert retention.granted_leases() == ()
    make_state(filesystem, key, LONG_AGO_NS)
    await retention.sweep()
    assert not has_image(filesystem, key)


async def test_a_lease_whose_record_may_not_last_is_not_granted_and_taken_off_it(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    make_image(filesystem, ALPINE, "a")
    failures = [errno.EIO]

    def fail_once(call: Call) -> None:
        if (call.name, call.path) == ("fsync", OWN) and failures:
            raise OSError(failures.pop(), "Input/output error")

    filesystem.before = fail_once
    with pytest.raises(OSError, match="Input/output error"):
        await grant(retention)
    filesystem.before = None
    async with opened(make_surroundings(filesystem.crashed_copy(), clock)) as other:
        assert other.granted_leases() == ()


@pytest.mark.parametrize("step", ["_confirm", "save_leases"])
async def test_a_cancelled_grant_leaves_no_lease(
    retention: Retention,
    filesystem: MemoryFilesystem,
    threads: GatedThreads,
    clock: FakeClock,
    step: str,
) -> None:
    make_image(filesystem, ALPINE, "a")
    gate = threads.hold(step)
    scope = anyio.CancelScope()

    async def ask() -> None:
        with scope:
            await grant(retention)

    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await gate.arrived.wait()
            scope.cancel()
            await settle()
            gate.opened.set()
    await settle()
    assert scope.cancelled_caught
    assert retention.granted_leases() == ()
    assert await reason_of(retention) is hmret.Reason.NEWLY_UNUSED
    async with opened(make_surroundings(filesystem.crashed_copy(), clock)) as other:
        assert other.granted_leases() == ()


async def test_a_grant_that_is_cancelled_while_it_waits_for_its_image_leaves_no_lease(
    retention: Retention, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    make_due(filesystem)
    gate = threads.hold_within("retire", filesystem, "take_lease")
    scope = anyio.CancelScope()

    async def ask() -> None:
        with scope:
            await grant(retention, f"alpine@{digest('a')}")

    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(retention.sweep)
            await gate.arrived.wait()
            tasks.start_soon(ask)
            await settle()
            scope.cancel()
            await settle()
            assert scope.cancelled_caught
            gate.opened.set()
    assert retention.granted_leases() == ()
    assert not filesystem.exists(LEASES)


async def test_a_lease_that_is_being_granted_is_neither_listed_nor_recorded_with_others(
    retention: Retention, filesystem: MemoryFilesystem, threads: GatedThreads, clock: FakeClock
) -> None:
    make_image(filesystem, ALPINE, "a")
    make_image(filesystem, ALPINE, "b", tags=("other",))
    gate = threads.hold("_confirm")
    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(grant, retention)
            await gate.arrived.wait()
            other = await grant(retention, "alpine:other")
            assert retention.granted_leases() == (other,)
            after = filesystem.crashed_copy()
            gate.opened.set()
    async with opened(make_surroundings(after, clock)) as restarted:
        assert restarted.granted_leases() == (other,)


async def test_a_granted_lease_that_expires_while_it_is_made_still_implies_mark_used(
    retention: Retention,
    filesystem: MemoryFilesystem,
    threads: GatedThreads,
    caplog: pytest.LogCaptureFixture,
) -> None:
    key = make_due(filesystem)
    gate = threads.hold("_confirm")
    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(grant, retention, "alpine", timedelta(milliseconds=1))
            await gate.arrived.wait()
            while not told(caplog, "lease_expired"):
                await anyio.lowlevel.checkpoint()
            await retention.sweep()
            assert has_image(filesystem, key)
            gate.opened.set()
    assert retention.granted_leases() == ()


# Over a restart.


async def test_a_granted_lease_survives_a_restart(platform: Platform, filesystem: MemoryFilesystem) -> None:
    key = make_due(filesystem)
    async with opened(platform) as retention:
        leased = await grant(retention)
    make_state(filesystem, key, LONG_AGO_NS)
    async with opened(platform) as retention:
        assert retention.granted_leases() == (leased,)
        assert (await retention.sweep()).deleted_images == 0
        assert await reason_of(retention) is hmret.Reason.LEASED
    assert has_image(filesystem, key)


async def test_a_granted_lease_survives_a_kill(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    key = make_due(filesystem)
    leased = await grant(retention)
    after = filesystem.crashed_copy()
    make_state(after, key, LONG_AGO_NS)
    async with opened(make_surroundings(after, clock)) as other:
        assert other.granted_leases() == (leased,)
        await other.sweep()
    assert has_image(after, key)


@pytest.mark.parametrize("seed", range(8))
async def test_a_granted_lease_survives_a_power_loss(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock, seed: int
) -> None:
    key = make_due(filesystem)
    leased = await grant(retention)
    after = filesystem.after_power_loss(random.Random(seed))
    make_state(after, key, LONG_AGO_NS)
    async with opened(make_surroundings(after, clock)) as other:
        assert other.granted_leases() == (leased,)
        await other.sweep()
    assert has_image(after, key)


@pytest.mark.parametrize("seed", range(8))
async def test_a_power_loss_while_a_lease_is_recorded_keeps_those_granted_before(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock, seed: int
) -> None:
    make_image(filesystem, ALPINE, "a")
    leased = await grant(retention)
    rng = random.Random(seed)
    after: list[MemoryFilesystem] = []

    def cut(call: Call) -> None:
        if call.name in ("write", "fsync", "rename") and "leases.json" in call.path:
            after.append(filesystem.after_power_loss(rng))

    filesystem.before = cut
    await grant(retention)
    filesystem.before = None
    assert len(after) >= 3
    for one in after:
        async with opened(make_surroundings(one, clock)) as other:
            assert leased in other.granted_leases()


async def test_an_ended_lease_does_not_come_back(platform: Platform, filesystem: MemoryFilesystem) -> None:
    key = make_due(filesystem)
    async with opened(platform) as retention:
        await retention.end_lease((await grant(retention)).id)
        assert retention.granted_leases() == ()
    make_state(filesystem, key, LONG_AGO_NS)
    async with opened(platform) as retention:
        assert retention.granted_leases() == ()
        await retention.sweep()
    assert not has_image(filesystem, key)


async def test_a_lease_that_expired_while_the_engine_was_down_does_not_come_back_and_is_told(
    platform: Platform,
    filesystem: MemoryFilesystem,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    key = make_due(filesystem)
    async with opened(platform) as retention:
        await grant(retention)
    make_state(filesystem, key, LONG_AGO_NS)
    clock.advance(HOUR)
    async with opened(platform) as retention:
        assert retention.granted_leases() == ()
        await settle()
        await retention.sweep()
    assert not has_image(filesystem, key)
    (expiry,) = told(caplog, "lease_expired")
    assert (expiry["owner"], expiry["reason"]) == ("api", "create vm-1")


async def test_a_lease_on_an_image_that_is_gone_holds_up_nothing(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    make_due(filesystem, "a")
    other = make_due(filesystem, "b", tags=("other",))
    async with opened(platform) as retention:
        await grant(retention)
    filesystem.remove(f"{DATA}/images/{ALPINE}/{'a' * 64}")
    async with opened(platform) as retention:
        assert (await retention.sweep()).deleted_images == 1
    assert not has_image(filesystem, other)


# Expired, renewed, ended.


async def test_an_expired_lease_is_taken_off_the_record_and_told_once_over_restarts(
    platform: Platform,
    filesystem: MemoryFilesystem,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    make_due(filesystem)
    async with opened(platform) as retention:
        await grant(retention)
    clock.advance(HOUR)
    for _ in range(2):
        async with opened(platform):
            while b"owner" in filesystem.read_file(LEASES):
                await anyio.lowlevel.checkpoint()
    assert len(told(caplog, "lease_expired")) == 1


async def test_a_granted_lease_expires_when_its_time_is_up_and_is_told_with_owner_and_reason(
    retention: Retention, filesystem: MemoryFilesystem, caplog: pytest.LogCaptureFixture
) -> None:
    key = make_due(filesystem)
    with patiently():
        await grant(retention, ttl=timedelta(milliseconds=1))
        while retention.granted_leases():
            await anyio.lowlevel.checkpoint()
    assert told(caplog, "lease_expired") == [
        {"repository": ALPINE, "digest": digest("a"), "owner": "api", "reason": "create vm-1"}
    ]
    await settle()
    make_state(filesystem, key, LONG_AGO_NS)
    await retention.sweep()
    assert not has_image(filesystem, key)


async def test_an_ended_lease_is_not_told_as_expired(
    retention: Retention, filesystem: MemoryFilesystem, caplog: pytest.LogCaptureFixture
) -> None:
    make_image(filesystem, ALPINE, "a")
    await retention.end_lease((await grant(retention)).id)
    await settle()
    assert await reason_of(retention) is hmret.Reason.NEWLY_UNUSED
    assert told(caplog, "lease_expired") == []


async def test_of_two_leases_on_an_image_either_covers_it(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_image(filesystem, ALPINE, "a")
    first, second = await grant(retention), await grant(retention)
    await retention.end_lease(first.id)
    await settle()
    assert await reason_of(retention) is hmret.Reason.LEASED
    await retention.end_lease(second.id)
    await settle()
    assert await reason_of(retention) is hmret.Reason.NEWLY_UNUSED


async def test_a_renewed_lease_says_when_it_now_ends_also_after_a_restart(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    make_image(filesystem, ALPINE, "a")
    async with opened(platform) as retention:
        leased = await grant(retention)
        clock.advance(HOUR / 2)
        renewed = await retention.renew_lease(leased.id, 2 * HOUR)
        assert (renewed.id, renewed.expires_at) == (leased.id, clock.now() + 2 * HOUR)
    async with opened(platform) as retention:
        assert retention.granted_leases() == (renewed,)


async def test_a_renewal_that_cannot_be_recorded_is_an_error_and_lasts_until_a_restart(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    make_image(filesystem, ALPINE, "a")
    leased = await grant(retention)
    filesystem.deny(f"{LEASES}.tmp", errno.ENOSPC, call="write")
    with pytest.raises(OSError, match="No space left"):
        await retention.renew_lease(leased.id, 2 * HOUR)
    (listed,) = retention.granted_leases()
    assert listed.expires_at == clock.now() + 2 * HOUR


@pytest.mark.parametrize("what", ["renew", "end"])
async def test_what_is_no_lease_cannot_be_renewed_or_ended(
    retention: Retention, filesystem: MemoryFilesystem, what: str
) -> None:
    make_image(filesystem, ALPINE, "a")
    leased = await grant(retention)
    await retention.end_lease(leased.id)
    with pytest.raises(KeyError):
        await (retention.end_lease(leased.id) if what == "end" else retention.renew_lease(leased.id, HOUR))


async def test_a_lease_is_not_renewed_for_nothing(retention: Retention, filesystem: MemoryFilesystem) -> None:
    make_image(filesystem, ALPINE, "a")
    leased = await grant(retention)
    with pytest.raises(ValueError, match="ttl must be more than zero"):
        await retention.renew_lease(leased.id, timedelta(0))
    assert retention.granted_leases() == (leased,)


# The clock.


Test = Callable[[Platform, MemoryFilesystem, FakeClock], Awaitable[None]]


def on_a_clock_that_jumps(test: Test) -> None:
    """Run a test on trio, with a host in memory, and with no time spent on waiting."""

    async def run() -> None:
        clock = loop_clock()
        filesystem = MemoryFilesystem(clock.now_ns)
        make_image(filesystem, ALPINE, "a")
        platform = Platform(filesystem=filesystem, clock=clock, threads=InlineThreads())
        await test(platform, filesystem, clock)
        assert filesystem.open_descriptors() == {}

    trio.run(run, clock=MockClock(autojump_threshold=0))


def test_a_granted_lease_lasts_as_long_as_it_says() -> None:
    async def test(platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock) -> None:
        async with opened(platform) as retention:
            await grant(retention)
            await trio.sleep(3599)
            assert await reason_of(retention) is hmret.Reason.LEASED
            await trio.sleep(2)
            assert await reason_of(retention) is hmret.Reason.NEWLY_UNUSED

    on_a_clock_that_jumps(test)


def test_a_renewed_lease_lasts_from_its_renewal() -> None:
    async def test(platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock) -> None:
        async with opened(platform) as retention:
            leased = await grant(retention)
            await trio.sleep(3000)
            await retention.renew_lease(leased.id, HOUR)
            await trio.sleep(3599)
            assert await reason_of(retention) is hmret.Reason.LEASED
            await trio.sleep(2)
            assert await reason_of(retention) is hmret.Reason.NEWLY_UNUSED

    on_a_clock_that_jumps(test)


def test_a_renewal_may_shorten_a_lease() -> None:
    async def test(platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock) -> None:
        async with opened(platform) as retention:
            leased = await grant(retention)
            await retention.renew_lease(leased.id, timedelta(minutes=1))
            await trio.sleep(61)
            assert retention.granted_leases() == ()

    on_a_clock_that_jumps(test)


def test_a_restart_does_not_make_a_lease_last_longer() -> None:
    async def test(platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock) -> None:
        async with opened(platform) as retention:
            await grant(retention)
            await trio.sleep(1800)
        async with opened(platform) as retention:
            await trio.sleep(1799)
            assert await reason_of(retention) is hmret.Reason.LEASED
            await trio.sleep(2)
            assert await reason_of(retention) is hmret.Reason.NEWLY_UNUSED

    on_a_clock_that_jumps(test)


def test_after_the_clock_went_back_over_a_restart_a_lease_lasts_no_longer_than_it_was_granted_for() -> None:
    async def test(platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock) -> None:
        async with opened(platform) as retention:
            await grant(retention)
        clock.wall_ns -= 10 * 86_400 * SECOND
        async with opened(platform) as retention:
            await trio.sleep(3599)
            assert len(retention.granted_leases()) == 1
            await trio.sleep(2)
            assert retention.granted_leases() == ()

    on_a_clock_that_jumps(test)


async def test_a_wall_clock_that_jumps_forward_does_not_end_a_lease(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    make_image(filesystem, ALPINE, "a")
    await grant(retention)
    clock.wall_ns += 10 * 86_400 * SECOND
    await settle()
    assert len(retention.granted_leases()) == 1
    assert await reason_of(retention) is hmret.Reason.LEASED


async def test_a_wall_clock_that_jumps_forward_over_a_restart_does_not_end_a_lease(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    make_image(filesystem, ALPINE, "a")
    async with opened(platform) as retention:
        await retention.sweep()
        await grant(retention)
    clock.wall_ns += 10 * 86_400 * SECOND
    async with opened(platform) as retention:
        await settle()
        assert len(retention.granted_leases()) == 1
        assert await reason_of(retention) is hmret.Reason.LEASED


async def test_a_wrong_clock_after_a_reboot_does_not_end_a_lease(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    make_image(filesystem, ALPINE, "a")
    async with opened(platform) as retention:
        await retention.sweep()
        await grant(retention)
    clock.boot_id, clock.boot_ns, clock.synchronised = "second-boot", SECOND, False
    clock.wall_ns += 10 * 86_400 * SECOND
    async with opened(platform) as retention:
        await settle()
        assert await reason_of(retention) is hmret.Reason.LEASED


# A record that cannot be read.


async def test_leases_on_record_that_cannot_be_read_suspend_deletion_and_marks_go_on(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    due, fresh = make_due(filesystem), make_image(filesystem, ALPINE, "b", tags=())
    filesystem.write_file(LEASES, b'[{"id": 7')
    async with opened(platform) as retention:
        report = await retention.sweep()
    (suspension,) = report.suspended
    assert report.status is hmret.SweepStatus.SUSPENDED
    assert (suspension.cause, suspension.path) == (Cause.UNREADABLE_REFERENCE, LEASES)
    assert "remove the file once no lease in it matters any more, then restart hmret" in suspension.detail
    assert has_image(filesystem, due)
    assert state_of(filesystem, fresh) is not None


async def test_leases_on_record_that_the_disk_refuses_suspend_deletion(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    due = make_due(filesystem)
    filesystem.write_file(LEASES, b"[]")
    filesystem.deny(LEASES, errno.EIO)
    async with opened(platform) as retention:
        assert [one.path for one in (await retention.sweep()).suspended] == [LEASES]
    assert has_image(filesystem, due)


async def test_unreadable_leases_suspend_deletion_also_where_unreadable_references_are_ignored(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    due = make_due(filesystem)
    filesystem.write_file(LEASES, b"?")
    config = make_config(filesystem, unreadable_references="ignore")
    async with open_engine(config, platform, scheduled=False) as retention:
        assert (await retention.sweep()).status is hmret.SweepStatus.SUSPENDED
    assert has_image(filesystem, due)


async def test_unreadable_leases_are_not_written_over_by_a_new_one(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    make_image(filesystem, ALPINE, "a")
    filesystem.write_file(LEASES, b"?")
    async with opened(platform) as retention:
        with pytest.raises(OSError, match="remove the file once no lease in it matters any more") as raised:
            await grant(retention)
        assert retention.granted_leases() == ()
    assert raised.value.filename == "system/hmret/leases.json"
    assert filesystem.read_file(LEASES) == b"?"


async def test_unreadable_leases_that_are_removed_suspend_nothing_after_a_restart(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    due = make_due(filesystem)
    filesystem.write_file(LEASES, b"?")
    async with opened(platform) as retention:
        await retention.sweep()
    filesystem.remove(LEASES)
    async with opened(platform) as retention:
        await retention.sweep()
    assert not has_image(filesystem, due)


# Inspections.


async def test_an_inspection_sees_granted_leases_and_writes_nothing(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    async with opened(platform) as retention:
        await grant(retention)
    make_state(filesystem, key, LONG_AGO_NS)
    before = filesystem.snapshot()
    async with open_inspection(make_config(filesystem), platform) as inspection:
        (verdict,) = (await inspection.plan()).verdicts
        assert (verdict.action, verdict.reason) == (hmret.Action.CLEAR, hmret.Reason.LEASED)
        assert (await inspection.explain("alpine"))[0].reason is hmret.Reason.LEASED
    assert filesystem.snapshot() == before


async def test_an_inspection_sees_the_leases_of_an_engine_that_runs(
    retention: Retention, platform: Platform, filesystem: MemoryFilesystem
) -> None:
    make_image(filesystem, ALPINE, "a")
    await grant(retention)
    async with open_inspection(make_config(filesystem), platform) as inspection:
        assert (await inspection.explain("alpine"))[0].reason is hmret.Reason.LEASED


async def test_an_inspection_is_suspended_by_unreadable_leases(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    make_due(filesystem)
    filesystem.write_file(LEASES, b"?")
    async with open_inspection(make_config(filesystem), platform) as inspection:
        plan = await inspection.plan()
    assert [one.path for one in plan.suspended] == [LEASES]
    assert plan.summary.delete == 0


# The end.


async def test_whoever_waits_for_a_lease_when_the_engine_ends_is_refused(
    filesystem: MemoryFilesystem, platform: Platform, threads: GatedThreads
) -> None:
    make_due(filesystem)
    gate = threads.hold_within("retire", filesystem, "take_lease")
    asker, sweeper = Asker(), Asker()

    async def open_gate() -> None:
        await settle()
        gate.opened.set()

    with patiently():
        async with anyio.create_task_group() as tasks, opened(platform) as retention:
            tasks.start_soon(sweeper.ask, retention.sweep)
            await gate.arrived.wait()
            tasks.start_soon(asker.ask, lambda: _grant_or_tell(retention))
            await settle()
            tasks.start_soon(open_gate)
    assert isinstance(asker.answer, hmret.EngineClosedError | hmret.ImageNotFoundError)
    assert not filesystem.exists(LEASES)


async def _grant_or_tell(retention: Retention) -> object:
    try:
        return await grant(retention, f"alpine@{digest('a')}")
    except hmret.ImageNotFoundError as error:
        return error


async def test_the_engine_does_not_end_while_a_lease_is_being_recorded(
    filesystem: MemoryFilesystem, platform: Platform, threads: GatedThreads
) -> None:
    make_image(filesystem, ALPINE, "a")
    gate = threads.hold("save_leases")
    asker = Asker()
    is_over = False

    async def embed() -> None:
        nonlocal is_over
        async with opened(platform) as retention:
            tasks.start_soon(asker.ask, lambda: grant(retention))
            await gate.arrived.wait()
        is_over = True

    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(embed)
            await gate.arrived.wait()
            await settle()
            assert not is_over
            gate.opened.set()
    assert is_over
    assert isinstance(asker.answer, Leased)
    async with opened(platform) as retention:
        assert retention.granted_leases() == (asker.answer,)
