"""Sweeps of a host that is part of a fleet: what it asks, releases, deletes and gives back."""

import errno
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio
import attrs
import pytest
from trio.testing import MockClock

from hmret.engine.opening import open_engine
from hmret.engine.opening_inspection import open_inspection
from hmret.engine.planner import FleetQuestions
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.model.errors import ImageNotFoundError
from hmret.model.fleet import FleetState
from hmret.model.plan.decide import plan as make_plan
from hmret.model.policy.fleet import FleetConfig
from hmret.model.references import Key
from hmret.model.report import SweepReport, SweepStatus
from hmret.model.verdicts import Reason
from hmret.settings.policy_document import policy_fingerprint
from model.inventories import make_image as inventory_image, make_inventory, make_policy, make_repository
from support.builders import (
    DATA,
    START,
    START_NS,
    digest,
    has_image,
    make_config,
    make_guest,
    make_image,
    make_state,
    state_of,
    told,
)
from support.fake_fleet import FakeFleet
from support.memory_filesystem import MemoryFilesystem
from support.patience import patiently

ALPINE = "docker.io/library/alpine"
OTHER = "quay.io/other/thing"
DAY_NS = 86_400 * 10**9
LONG_AGO_NS = START_NS - 40 * DAY_NS
A, B = digest("a"), digest("b")


@pytest.fixture
def fleet() -> FakeFleet:
    return FakeFleet()


@asynccontextmanager
async def engine(
    filesystem: MemoryFilesystem,
    platform: Platform,
    fleet: FakeFleet,
    *,
    scheduled: bool = False,
    **fields: Any,
) -> AsyncIterator[Retention]:
    """Open an engine that is part of a fleet."""
    config = make_config(filesystem, **fields)
    async with open_engine(config, platform, scheduled=scheduled, open_fleet=fleet.open) as retention:
        yield retention


def make_due(
    filesystem: MemoryFilesystem, letters: str = "a", *, repository: str = ALPINE, since_ns: int = LONG_AGO_NS
) -> Key:
    key = make_image(filesystem, repository, letters, tags=(letters,), created_at=START - timedelta(days=60))
    make_state(filesystem, key, since_ns)
    return key


def make_many(filesystem: MemoryFilesystem, count: int) -> list[Key]:
    """Make images that are due, the first unused for the longest."""
    return [make_due(filesystem, f"{number:02x}", since_ns=LONG_AGO_NS + number) for number in range(count)]


async def sweep_once(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet, **fields: Any
) -> SweepReport:
    async with engine(filesystem, platform, fleet, **fields) as retention:
        return await retention.sweep()


# What goes, and what stays.


async def test_a_copy_that_others_have_is_released_and_then_deleted(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    key = make_due(filesystem)
    seen: list[bool] = []
    fleet.on_release = lambda _: seen.append(has_image(filesystem, key))

    report = await sweep_once(filesystem, platform, fleet)

    assert (report.status, report.deleted_images) == (SweepStatus.SUCCESS, 1)
    assert (fleet.released, seen, fleet.given_back) == ([A], [True], [])
    assert not has_image(filesystem, key)
    assert fleet.registered == {}
    assert not fleet.is_open


async def test_a_last_copy_stays_and_its_timer_runs_on(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    key = make_due(filesystem)
    fleet.usual = 0
    before = state_of(filesystem, key)
    async with engine(filesystem, platform, fleet) as retention:
        report = await retention.sweep()
        verdict = await retention.explain(f"{ALPINE}@{A}")

    assert (report.status, report.deleted_images) == (SweepStatus.SUCCESS, 0)
    assert (fleet.released, fleet.told("take_token")) == ([], [])
    assert has_image(filesystem, key)
    assert state_of(filesystem, key) == before
    assert (verdict.reason, verdict.blockers) == (Reason.LAST_COPY, (Reason.LAST_COPY,))
    assert (verdict.copies_elsewhere, verdict.detail) == (0, "no other live host has a copy; 1 must")


async def test_a_plan_says_how_many_others_have_what_was_asked_about(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    make_due(filesystem)
    make_image(filesystem, ALPINE, "b")
    fleet.usual = 3
    async with engine(filesystem, platform, fleet) as retention:
        made = await retention.plan()
        explained = await retention.explain(f"{ALPINE}@{B}")

    assert {one.digest: one.copies_elsewhere for one in made.iterate()} == {A: 3, B: None}
    assert (explained.reason, explained.copies_elsewhere) == (Reason.NEWLY_UNUSED, 3)
    assert (fleet.released, fleet.told("take_token")) == ([], [])


@pytest.mark.parametrize("state", [FleetState.UNREACHABLE, FleetState.ROLLED_BACK, FleetState.DUPLICATE_HOST])
async def test_without_a_session_nothing_goes_and_all_else_goes_on(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet, state: FleetState
) -> None:
    due = make_due(filesystem)
    unmarked = make_image(filesystem, ALPINE, "b")
    fleet.state = state
    async with engine(filesystem, platform, fleet) as retention:
        report = await retention.sweep()
        used = await retention.mark_used(f"{ALPINE}@{A}")

    assert (report.deleted_images, report.marked_unused) == (0, 1)
    assert used.cleared
    assert has_image(filesystem, due)
    assert has_image(filesystem, unmarked)


async def test_a_host_that_is_joining_is_waited_for(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    key = make_due(filesystem)
    fleet.state, fleet.joins_when_asked = FleetState.JOINING, True

    report = await sweep_once(filesystem, platform, fleet)

    assert report.deleted_images == 1
    assert fleet.told("ask")[0] == (frozenset(), True)
    assert not has_image(filesystem, key)


async def test_nobody_waits_for_a_fleet_where_nothing_is_due(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    make_image(filesystem, ALPINE, "a")
    fleet.state = FleetState.JOINING

    await sweep_once(filesystem, platform, fleet)

    assert fleet.told("ask") == []


async def test_what_is_not_answered_stays_and_is_asked_once_in_a_sweep(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    key = make_due(filesystem)
    fleet.answers = False
    async with engine(filesystem, platform, fleet) as retention:
        report = await retention.sweep()
        asked = fleet.told("ask")
        verdict = await retention.explain(f"{ALPINE}@{A}")

    assert report.deleted_images == 0
    assert asked == [(frozenset({A}), True)]
    assert verdict.reason is Reason.FLEET_UNREACHABLE
    assert has_image(filesystem, key)


@pytest.mark.parametrize(
    "anyio_backend", [pytest.param(("trio", {"clock": MockClock(autojump_threshold=0)}), id="virtual time")]
)
@pytest.mark.parametrize("state", [FleetState.JOINED, FleetState.JOINING])
async def test_a_fleet_that_never_answers_holds_up_no_plan_for_ever(
    fleet: FakeFleet, state: FleetState
) -> None:
    fleet.hangs, fleet.state = True, state
    inventory = attrs.evolve(make_inventory(make_repository(inventory_image(A))), fleet=fleet.view())
    made = make_plan(inventory, make_policy(), START)
    asking = FleetQuestions(fleet, asks_all=False, seconds=10)
    begin = anyio.current_time()

    while await asking.ask(made):
        pass

    assert made.deletions == ()
    assert anyio.current_time() - begin == 10
    assert len(fleet.told("ask")) == 1


async def test_only_what_a_sweep_would_delete_is_asked_about(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    keys = make_many(filesystem, 5)
    fleet.others = {keys[0][1]: 0}

    report = await sweep_once(filesystem, platform, fleet, max_deletes_per_sweep=2)

    asked = fleet.asked()
    assert {keys[number][1] for number in range(3)} <= asked
    assert report.deleted_images == 2
    assert [has_image(filesystem, key) for key in keys] == [True, False, False, True, True]


async def test_what_the_fleet_holds_back_is_asked_about_in_each_sweep_and_goes_once_others_have_it(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    key = make_due(filesystem)
    fleet.usual = 0
    async with engine(filesystem, platform, fleet) as retention:
        await retention.sweep()
        fleet.usual = 1
        report = await retention.sweep()

    assert report.deleted_images == 1
    assert not has_image(filesystem, key)


async def test_a_sweep_that_somebody_asked_for_asks_about_all_and_one_by_itself_does_not(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    make_due(filesystem)
    fleet.usual = 0
    async with engine(filesystem, platform, fleet, scheduled=True) as retention:
        with retention.listen() as listener, patiently():
            async for batch in listener:
                if any(event.name == "sweep" for event in batch):
                    break
        asked = fleet.told("ask")
        await retention.sweep()

    assert asked == [(frozenset({A}), False)]
    assert fleet.told("ask")[len(asked) :] == [(frozenset({A}), True)]


# Tokens.


async def test_what_would_go_takes_a_token_first(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    make_many(filesystem, 3)

    await sweep_once(filesystem, platform, fleet)

    kinds = [kind for kind, _ in fleet.events if kind != "ask"]
    assert kinds == ["saw", "take_token", "release"]
    assert fleet.told("take_token") == [3]


async def test_without_a_token_nothing_goes_and_the_next_sweep_tries_again(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    key = make_due(filesystem)
    fleet.tokens = 0
    async with engine(filesystem, platform, fleet) as retention:
        report = await retention.sweep()
        verdict = await retention.explain(f"{ALPINE}@{A}")
        assert (report.deleted_images, fleet.told("release")) == (0, [])
        assert verdict.reason is Reason.FLEET_BRAKE
        fleet.tokens = 1
        report = await retention.sweep()

    assert report.deleted_images == 1
    assert not has_image(filesystem, key)


async def test_a_token_that_is_used_up_ends_the_deletions_of_a_sweep(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    keys = make_many(filesystem, 20)

    def use_up(_: Sequence[str]) -> None:
        fleet.has_token = False

    fleet.on_release = use_up
    report = await sweep_once(filesystem, platform, fleet)

    assert (report.status, report.deleted_images) == (SweepStatus.SUCCESS, 8)
    assert [len(batch) for batch in fleet.told("release")] == [8, 8]
    assert sum(has_image(filesystem, key) for key in keys) == 12


# While it is released.


async def test_copies_are_released_eight_at_a_time(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    make_many(filesystem, 20)

    await sweep_once(filesystem, platform, fleet)

    assert [len(batch) for batch in fleet.told("release")] == [8, 8, 4]


async def test_a_use_never_waits_for_a_release_and_what_is_used_is_given_back(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    key = make_due(filesystem)
    fleet.gate = anyio.Event()
    async with engine(filesystem, platform, fleet) as retention, anyio.create_task_group() as tasks:
        tasks.start_soon(retention.sweep)
        await fleet.arrived.wait()
        used = await retention.mark_used(f"{ALPINE}@{A}")
        async with retention.lease(f"{ALPINE}@{A}"):
            pass
        assert used.cleared
        fleet.gate.set()

    assert has_image(filesystem, key)
    assert (fleet.released, fleet.given_back) == ([A], [A])
    assert fleet.registered.keys() == {A}


async def test_no_use_waits_for_a_question_and_the_engine_stops_in_the_midst_of_it(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    key = make_due(filesystem)
    fleet.hangs = True
    with patiently() as waiting:
        async with (
            anyio.create_task_group() as tasks,
            engine(filesystem, platform, fleet) as retention,
        ):
            tasks.start_soon(retention.sweep)
            await fleet.arrived.wait()
            assert (await retention.mark_used(f"{ALPINE}@{A}")).cleared
            async with retention.lease(f"{ALPINE}@{A}"):
                pass
            tasks.cancel_scope.cancel()

    assert not waiting.cancelled_caught
    assert has_image(filesystem, key)
    assert not fleet.is_open


async def test_a_plan_and_an_explanation_never_wait_for_a_release(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    make_due(filesystem)
    fleet.gate = anyio.Event()
    async with engine(filesystem, platform, fleet) as retention, anyio.create_task_group() as tasks:
        tasks.start_soon(retention.sweep)
        await fleet.arrived.wait()
        assert (await retention.plan()).to_release == 1
        assert (await retention.explain(f"{ALPINE}@{A}")).reason is Reason.EXPIRED
        fleet.gate.set()


async def test_what_a_guest_has_come_to_need_is_given_back(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    key = make_due(filesystem)

    def start_guest(_: Sequence[str]) -> None:
        make_guest(filesystem, "vm", f"alpine@{A}")

    fleet.on_release = start_guest
    report = await sweep_once(filesystem, platform, fleet)

    assert report.deleted_images == 0
    assert has_image(filesystem, key)
    assert fleet.given_back == [A]


async def test_what_a_process_has_open_is_given_back(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    key = make_due(filesystem)
    opener = filesystem.hold_open(f"{DATA}/images/{ALPINE}/{A.removeprefix('sha256:')}/rootfs.ext4")

    report = await sweep_once(filesystem, platform, fleet)
    opener.close()

    assert (report.open_images, report.deleted_images) == (1, 0)
    assert has_image(filesystem, key)
    assert fleet.given_back == [A]


async def test_what_cannot_be_deleted_is_given_back(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    key = make_due(filesystem)

    folder = f"{DATA}/images/{ALPINE}/{A.removeprefix('sha256:')}"
    filesystem.deny(folder, errno.EIO, call="rename")

    report = await sweep_once(filesystem, platform, fleet)

    assert report.failed_deletes == 1
    assert has_image(filesystem, key)
    assert fleet.given_back == [A]


async def test_what_somebody_else_deleted_meanwhile_is_not_given_back(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    make_due(filesystem)
    folder = f"{DATA}/images/{ALPINE}/{A.removeprefix('sha256:')}"
    fleet.on_release = lambda _: filesystem.rename(folder, f"{DATA}/elsewhere")

    report = await sweep_once(filesystem, platform, fleet)

    assert report.deleted_images == 0
    assert (fleet.released, fleet.given_back) == ([A], [])


async def test_what_was_released_and_not_reached_is_given_back_when_the_engine_stops(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    keys = make_many(filesystem, 3)
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            async with engine(filesystem, platform, fleet) as retention:
                fleet.on_release = lambda _: tasks.cancel_scope.cancel()
                await retention.sweep()

        tasks.start_soon(run)

    left = {key[1] for key in keys if has_image(filesystem, key)}
    assert set(fleet.given_back) == left
    assert fleet.registered.keys() == left


async def test_a_release_that_is_cut_off_is_given_back_whatever_came_of_it(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    key = make_due(filesystem)
    fleet.gate = anyio.Event()
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            async with engine(filesystem, platform, fleet) as retention:
                await retention.sweep()

        tasks.start_soon(run)
        await fleet.arrived.wait()
        tasks.cancel_scope.cancel()

    assert has_image(filesystem, key)
    assert fleet.given_back == [A]


async def test_a_pause_between_plan_and_release_keeps_everything(
    filesystem: MemoryFilesystem,
    platform: Platform,
    fleet: FakeFleet,
    caplog: pytest.LogCaptureFixture,
) -> None:
    keys = make_many(filesystem, 20)
    fleet.gate = anyio.Event()
    caplog.set_level(logging.INFO)
    async with engine(filesystem, platform, fleet) as retention, anyio.create_task_group() as tasks:
        tasks.start_soon(retention.sweep)
        await fleet.arrived.wait()
        fleet.pause()
        fleet.gate.set()

    assert all(has_image(filesystem, key) for key in keys)
    assert (fleet.released, len(fleet.told("release"))) == ([], 1)
    kept = told(caplog, "image_kept")
    assert len(kept) == 8
    assert {(str(one["reason"]), one["detail"]) for one in kept} == {
        ("fleet_paused", "paused by root@host-9")
    }


async def test_what_was_released_before_a_pause_still_goes_and_nothing_after_it(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    make_many(filesystem, 20)
    fleet.on_release = lambda _: fleet.pause()

    report = await sweep_once(filesystem, platform, fleet)

    assert report.deleted_images == 8
    assert len(fleet.released) == 8


async def test_in_place_of_what_the_fleet_refuses_the_next_goes(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    keys = make_many(filesystem, 3)
    fleet.gate = anyio.Event()
    async with (
        engine(filesystem, platform, fleet, max_deletes_per_sweep=2) as retention,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(retention.sweep)
        await fleet.arrived.wait()
        fleet.others[keys[0][1]] = 0
        fleet.gate.set()

    assert [has_image(filesystem, key) for key in keys] == [True, False, False]


# What is here more than once.


async def test_a_deletion_that_leaves_the_image_here_is_not_told_to_the_fleet(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    key = make_due(filesystem)
    beside = make_image(filesystem, OTHER, "a")
    fleet.pause()

    report = await sweep_once(filesystem, platform, fleet)

    assert report.deleted_images == 1
    assert (has_image(filesystem, key), has_image(filesystem, beside)) == (False, True)
    assert (fleet.released, fleet.told("ask"), set(fleet.registered)) == ([], [], {A})


async def test_of_two_that_go_in_one_sweep_the_last_is_released(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    keys = [make_due(filesystem), make_due(filesystem, repository=OTHER)]

    report = await sweep_once(filesystem, platform, fleet)

    assert report.deleted_images == 2
    assert not any(has_image(filesystem, key) for key in keys)
    assert (fleet.told("release"), fleet.given_back) == ([(A,)], [])


async def test_of_two_that_go_in_one_sweep_the_last_stays_where_the_fleet_keeps_it(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    keys = [make_due(filesystem), make_due(filesystem, repository=OTHER)]
    fleet.usual = 0

    report = await sweep_once(filesystem, platform, fleet)

    assert report.deleted_images == 1
    assert [has_image(filesystem, key) for key in keys] == [False, True]


async def test_where_the_other_one_has_gone_meanwhile_this_is_the_last(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    key = make_due(filesystem)
    make_image(filesystem, OTHER, "a")
    make_due(filesystem, "b")
    folder = f"{DATA}/images/{OTHER}/{A.removeprefix('sha256:')}"
    fleet.others = {A: 0}
    async with engine(filesystem, platform, fleet) as retention:
        fleet.on_token = lambda: filesystem.rename(folder, f"{DATA}/elsewhere")
        report = await retention.sweep()

    assert report.deleted_images == 1
    assert has_image(filesystem, key)
    assert fleet.released == [B]


async def test_where_one_of_two_stays_after_all_the_image_is_given_back(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    keys = [make_due(filesystem), make_due(filesystem, repository=OTHER)]
    opener = filesystem.hold_open(f"{DATA}/images/{ALPINE}/{A.removeprefix('sha256:')}/rootfs.ext4")

    report = await sweep_once(filesystem, platform, fleet)
    opener.close()

    assert report.deleted_images == 1
    assert [has_image(filesystem, key) for key in keys] == [True, False]
    assert (fleet.released, fleet.given_back) == ([A], [A])


# What the fleet is told.


async def test_every_sweep_tells_the_copies_that_are_here_ready_and_whole(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    make_image(filesystem, ALPINE, "a")
    make_image(filesystem, OTHER, "a")
    make_image(filesystem, ALPINE, "b", status="pulling")
    make_image(filesystem, ALPINE, "c", has_disk=False)

    await sweep_once(filesystem, platform, fleet)

    assert fleet.told("saw") == [frozenset({A})]
    assert fleet.registered[A] > 0


async def test_what_is_in_quarantine_does_not_count_and_what_is_restored_does_again(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    make_due(filesystem)
    async with engine(filesystem, platform, fleet, quarantine=timedelta(days=1)) as retention:
        report = await retention.sweep()
        assert report.quarantined_images == 1
        await retention.sweep()
        await retention.restore(f"{ALPINE}:a")
        await retention.sweep()

    assert fleet.told("saw") == [frozenset({A}), frozenset(), frozenset({A})]


async def test_uses_of_guests_leases_and_callers_are_told(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    for letters in "abcd":
        make_image(filesystem, ALPINE, letters)
    make_guest(filesystem, "vm", f"alpine@{A}")
    async with engine(filesystem, platform, fleet) as retention:
        await retention.mark_used(f"{ALPINE}@{B}")
        assert fleet.uses == {B: START}
        async with retention.lease(f"{ALPINE}@{digest('c')}"):
            fleet.uses.clear()
            await retention.sweep()

    assert fleet.uses == {A: START, digest("c"): START}


async def test_no_use_is_told_where_no_setting_asks_for_it(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    make_image(filesystem, ALPINE, "a")
    make_guest(filesystem, "vm", f"alpine@{A}")
    config = make_config(filesystem, fleet=FleetConfig(last_copies_for="never"))
    async with open_engine(config, platform, scheduled=False, open_fleet=fleet.open) as retention:
        await retention.sweep()
        await retention.mark_used(f"{ALPINE}@{A}")

    assert fleet.uses == {}


async def test_an_image_that_is_not_here_is_no_use(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    async with engine(filesystem, platform, fleet) as retention:
        with pytest.raises(ImageNotFoundError):
            await retention.mark_used(f"{ALPINE}@{A}")

    assert fleet.uses == {}


async def test_a_host_that_joins_is_seen_with_its_first_sweep(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    make_image(filesystem, ALPINE, "a")
    seen: list[int] = []
    fleet.on_saw = lambda: seen.append(len(fleet.summaries))
    async with engine(filesystem, platform, fleet) as retention:
        await retention.sweep()
        await retention.sweep()

    assert (seen, len(fleet.summaries)) == ([1, 2], 3)


async def test_every_sweep_tells_how_this_host_fares(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    make_due(filesystem)
    make_due(filesystem, "b", since_ns=START_NS - 30 * DAY_NS + DAY_NS // 2)
    make_due(filesystem, "c", since_ns=START_NS - 28 * DAY_NS)
    fleet.usual = 0

    await sweep_once(filesystem, platform, fleet)

    first, summary = fleet.summaries
    assert (first.copies, first.policy, first.last_sweep) == (3, summary.policy, START)
    assert (summary.copies, summary.due, summary.due_24h) == (3, 1, 2)
    assert summary.disk_bytes == sum(fleet.registered.values())
    assert [summary.policy] == fleet.policies == [policy_fingerprint(make_config(filesystem))]
    assert summary.last_sweep == START


async def test_a_host_whose_deletion_is_suspended_tells_what_is_due_all_the_same(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    make_due(filesystem)
    filesystem.write_file(f"{DATA}/{make_guest(filesystem, 'one', 'alpine')}", b"{")

    report = await sweep_once(filesystem, platform, fleet)

    assert (report.status, report.deleted_images) == (SweepStatus.SUSPENDED, 0)
    assert [(one.due, one.due_24h) for one in fleet.summaries[1:]] == [(1, 1)]


# Without an engine, and other settings.


async def test_an_inspection_only_reads(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    make_due(filesystem)
    make_due(filesystem, "b")
    fleet.state, fleet.others = FleetState.STOPPED, {A: 0}
    async with open_inspection(make_config(filesystem), platform, open_reader=fleet.open) as inspection:
        made = await inspection.plan()
        verdict, _, _ = await inspection.explain(f"{ALPINE}@{A}")

    assert {one.digest: one.reason for one in made.iterate()} == {A: Reason.LAST_COPY, B: Reason.EXPIRED}
    assert verdict.copies_elsewhere == 0
    assert {kind for kind, _ in fleet.events} == {"ask"}
    assert (fleet.uses, fleet.summaries) == ({}, [])


async def test_other_settings_are_compared_with_what_the_fleet_says(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    make_due(filesystem, since_ns=START_NS - 20 * DAY_NS)
    make_due(filesystem, "b", since_ns=START_NS - 20 * DAY_NS)
    fleet.others = {A: 0}
    async with engine(filesystem, platform, fleet) as retention:
        shorter = make_config(filesystem, unused_for=timedelta(days=10))
        in_force, candidate = await retention.compare(shorter)

    assert in_force.deletions == ()
    assert [one.digest for one in candidate.deletions] == [B]
    verdict = candidate.verdict(ALPINE, A)
    assert verdict is not None
    assert verdict.reason is Reason.LAST_COPY


async def test_a_reload_in_a_sweep_keeps_to_the_fleet(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    keys = make_many(filesystem, 12)
    fleet.gate = anyio.Event()
    async with engine(filesystem, platform, fleet) as retention, anyio.create_task_group() as tasks:
        tasks.start_soon(retention.sweep)
        await fleet.arrived.wait()
        retention.reconfigure(make_config(filesystem, max_deletes_per_sweep=50))
        fleet.others = {keys[11][1]: 0}
        fleet.gate.set()

    assert [key for key in keys if has_image(filesystem, key)] == [keys[11]]
    assert set(fleet.released) == {key[1] for key in keys[:11]}
    assert fleet.registered.keys() == {keys[11][1]}


async def test_a_sweep_that_somebody_asked_for_looks_whether_the_fleet_is_still_paused(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> None:
    key = make_due(filesystem)
    fleet.pause()
    async with engine(filesystem, platform, fleet) as retention:
        assert (await retention.sweep()).deleted_images == 0
        told = len(fleet.told("ask"))
        assert (frozenset(), True) in fleet.told("ask")
        fleet.settings = attrs.evolve(fleet.settings, paused=None)
        assert (await retention.sweep()).deleted_images == 1
        assert len(fleet.told("ask")) > told
    assert not has_image(filesystem, key)
