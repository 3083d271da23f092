"""What a deletion would refuse is found before: no plan promises it, and it keeps nothing else."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.model.report import SweepStatus
from hmret.model.verdicts import Action, Reason
from support.builders import FakeClock, make_config, state_of, told
from support.due_images import LAYOUTS, are_here, image_folder, make_due, make_in
from support.memory_filesystem import MemoryFilesystem

IMMUTABLE = "immutable (run chattr -i)"

Obstruct = Callable[[MemoryFilesystem, str], None]


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def put_folder(filesystem: MemoryFilesystem, folder: str) -> None:
    filesystem.make_folder(f"{folder}/backup")


def put_link(filesystem: MemoryFilesystem, folder: str) -> None:
    filesystem.make_link(f"{folder}/latest", "metadata.json")


def put_link_to_a_folder(filesystem: MemoryFilesystem, folder: str) -> None:
    filesystem.make_link(f"{folder}/.install-1", "/data/guests")


def begin_install(filesystem: MemoryFilesystem, folder: str) -> None:
    filesystem.write_file(f"{folder}/.install-7/manifest.json", b"{}")


def bar_folder(filesystem: MemoryFilesystem, folder: str) -> None:
    filesystem.bar(folder, IMMUTABLE)


def bar_file(filesystem: MemoryFilesystem, folder: str) -> None:
    filesystem.bar(f"{folder}/metadata.json", IMMUTABLE)


def bar_parent(filesystem: MemoryFilesystem, folder: str) -> None:
    filesystem.bar(folder.rpartition("/")[0], IMMUTABLE)


BROKEN: list[Obstruct] = [put_folder, put_link, put_link_to_a_folder]
BARRED: list[Obstruct] = [bar_folder, bar_file]
LIMITS: list[dict[str, Any]] = [{}, {"max_deletes_per_sweep": 1}, {"max_bytes_per_sweep": 4096}]


@pytest.mark.parametrize("fields", LIMITS, ids="+".join)
@pytest.mark.parametrize("obstruct", BROKEN)
@pytest.mark.parametrize("is_known", [False, True], ids=["before the first scan", "after it"])
async def test_a_folder_that_holds_more_than_files_is_broken_and_takes_no_place(
    platform: Platform,
    filesystem: MemoryFilesystem,
    layout: str,
    obstruct: Obstruct,
    fields: dict[str, Any],
    is_known: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "hmret")
    keys = make_due(filesystem, layout, 3)
    async with open_engine(make_config(filesystem, **fields), platform, scheduled=False) as retention:
        if is_known:
            await retention.plan()
        obstruct(filesystem, image_folder(layout, keys[0]))
        plan = await retention.plan()
        verdict = plan.verdict(*keys[0])
        assert verdict is not None
        assert (verdict.action, verdict.reason) == (Action.CLEAR, Reason.BROKEN)
        assert verdict.broken
        promised = plan.summary.delete
        report = await retention.sweep()
        assert report.deleted_images == promised == (1 if fields else 2)
        assert (report.status, report.failed_deletes) == (SweepStatus.SUCCESS, 0)
        await retention.sweep()
        await retention.sweep()
    assert are_here(filesystem, layout, keys) == [True, False, False]
    assert state_of(filesystem, keys[0]) is None
    assert len(told(caplog, "image_not_plain")) == 1


@pytest.mark.parametrize("obstruct", BROKEN)
async def test_it_is_broken_long_before_it_is_due(
    platform: Platform, filesystem: MemoryFilesystem, layout: str, obstruct: Obstruct
) -> None:
    key = make_in(filesystem, layout, "ghcr.io/acme/app", "a")
    obstruct(filesystem, image_folder(layout, key))
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        assert (await retention.explain(key[0])).reason is Reason.BROKEN
        # It boots all the same, so a use of it is one.
        assert (await retention.mark_used(key[0])).digest == key[1]


async def test_what_is_taken_out_of_it_lets_it_go_again_in_its_time(
    platform: Platform, filesystem: MemoryFilesystem, layout: str
) -> None:
    (key,) = make_due(filesystem, layout, 1)
    put_folder(filesystem, image_folder(layout, key))
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        await retention.sweep()
        filesystem.remove(f"{image_folder(layout, key)}/backup")
        assert (await retention.explain(key[0])).reason is Reason.NEWLY_UNUSED


async def test_a_folder_in_which_hypeman_is_at_work_is_not_ready_until_it_is_left_over(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, layout: str
) -> None:
    keys = make_due(filesystem, layout, 2)
    begin_install(filesystem, image_folder(layout, keys[0]))
    config = make_config(filesystem, max_deletes_per_sweep=1, unused_for=timedelta(minutes=30))
    async with open_engine(config, platform, scheduled=False) as retention:
        found = await retention.explain(keys[0][0])
        assert (found.action, found.reason) == (Action.CLEAR, Reason.NOT_READY)
        assert (await retention.sweep()).deleted_images == 1
        assert are_here(filesystem, layout, keys) == [True, False]
        for _ in range(100):
            clock.advance(timedelta(minutes=1))
            await retention.sweep()
    assert are_here(filesystem, layout, keys) == [False, False]


@pytest.mark.parametrize("fields", LIMITS, ids="+".join)
@pytest.mark.parametrize("obstruct", BARRED)
async def test_what_the_kernel_would_refuse_is_not_tried_and_every_sweep_says_so(
    platform: Platform,
    filesystem: MemoryFilesystem,
    layout: str,
    obstruct: Obstruct,
    fields: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "hmret")
    keys = make_due(filesystem, layout, 4)
    obstruct(filesystem, image_folder(layout, keys[0]))
    async with open_engine(make_config(filesystem, **fields), platform, scheduled=False) as retention:
        plan = await retention.plan()
        verdict = plan.verdict(*keys[0])
        assert verdict is not None
        assert (verdict.action, verdict.reason) == (Action.NONE, Reason.BACKOFF)
        assert IMMUTABLE in (verdict.detail or "")
        for _ in range(3):
            report = await retention.sweep()
            assert (report.status, report.failed_deletes) == (SweepStatus.PARTIAL, 0)
            (error,) = report.errors
            assert (error.digest, error.error) == (keys[0][1], f"cannot be deleted: {IMMUTABLE}")
            assert image_folder(layout, keys[0]).endswith(error.path.partition("/metadata")[0])
        assert are_here(filesystem, layout, keys) == [True, False, False, False]
        assert len(told(caplog, "not_deletable")) == 1
        folder = image_folder(layout, keys[0])
        filesystem.bar(folder if obstruct is bar_folder else f"{folder}/metadata.json", "")
        # Its timer has gone on.
        assert (await retention.sweep()).deleted_images == 1


async def test_a_folder_in_which_nothing_can_be_changed_keeps_all_that_is_in_it(
    platform: Platform, filesystem: MemoryFilesystem, layout: str
) -> None:
    keys = make_due(filesystem, layout, 3)
    bar_parent(filesystem, image_folder(layout, keys[0]))
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        report = await retention.sweep()
        kept = 1 if layout == "older" else 3
        assert report.deleted_images == 3 - kept
        assert report.failed_deletes == 0
        assert len(report.errors) == 1
    assert are_here(filesystem, layout, keys).count(True) == kept


async def test_many_that_cannot_be_deleted_keep_nothing_else(
    platform: Platform, filesystem: MemoryFilesystem, layout: str
) -> None:
    keys = make_due(filesystem, layout, 60)
    for number, key in enumerate(keys[:58]):
        (put_folder if number % 2 else bar_folder)(filesystem, image_folder(layout, key))
    config = make_config(filesystem, max_deletes_per_sweep=1)
    async with open_engine(config, platform, scheduled=False) as retention:
        for left in (1, 0):
            assert (await retention.sweep()).deleted_images == 1
            assert are_here(filesystem, layout, keys[58:]).count(True) == left
