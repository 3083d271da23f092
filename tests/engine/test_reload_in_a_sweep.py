"""Settings that are changed in the midst of a sweep: what they forbid counts from the next image on."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio
import attrs
import pytest

from hmret.disk.layout import HEX_DIGITS
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.model.policy.config import RetentionConfig
from hmret.model.policy.limits import DiskLimits
from hmret.model.policy.rules import Rule
from hmret.model.policy.window import DeletionWindow
from hmret.model.references import Key
from hmret.model.report import SweepReport
from support.builders import FakeClock, GatedThreads, make_config, told
from support.due_images import LAYOUTS, are_here, make_due
from support.memory_filesystem import Call, MemoryFilesystem

COUNT = 12
GONE = 3
"""The image that is in hand while the settings change is the third."""


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def keys(filesystem: MemoryFilesystem, layout: str) -> list[Key]:
    return make_due(filesystem, layout, COUNT)


def when_the_third_goes(filesystem: MemoryFilesystem, do: Callable[[], object]) -> None:
    """Do something right before the third image is renamed out of the cache."""
    count = 0

    def before(call: Call) -> None:
        nonlocal count
        source, _, target = call.path.partition(" -> ")
        if call.name == "rename" and "/trash/" in target and len(source.rpartition("/")[2]) == HEX_DIGITS:
            count += 1
            if count == GONE:
                do()

    filesystem.before = before


async def swept_with_a_reload(
    platform: Platform,
    filesystem: MemoryFilesystem,
    config: RetentionConfig,
    changed: RetentionConfig,
) -> SweepReport:
    """Sweep by some settings, and change them while the third image is on its way out."""
    async with open_engine(config, platform, scheduled=False) as retention:
        answers: list[bool] = []
        when_the_third_goes(filesystem, lambda: answers.append(retention.reconfigure(changed)))
        report = await retention.sweep()
        filesystem.before = None
        assert answers == [False]
        assert retention.config == changed
    return report


@asynccontextmanager
async def sweeping(retention: Retention) -> AsyncIterator[list[SweepReport]]:
    """Sweep in the background while the block lasts."""
    reports: list[SweepReport] = []

    async def sweep() -> None:
        reports.append(await retention.sweep())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sweep)
        yield reports


FORBIDDING: list[dict[str, Any]] = [
    {"enabled": False},
    {"pinned": ("*",)},
    {"allowed": ()},
    {"allowed": ("docker.io/*",)},
    {"unused_for": timedelta(days=365)},
    {"rules": (Rule(match=("ghcr.io/*",), unused_for="never"),)},
    {"keep_latest": 1},
    {"min_age": timedelta(days=500)},
    {"max_deletes_per_sweep": 1},
    {"max_deletes_per_sweep": GONE},
    {"max_bytes_per_sweep": 4096},
    {"window": DeletionWindow(hours=("00:00-00:01",))},
    {"brake": 0.0, "brake_min_images": 1, "brake_for": timedelta(days=1)},
]


@pytest.mark.parametrize("fields", FORBIDDING, ids="+".join)
async def test_what_new_settings_forbid_stays_from_the_next_image_on(
    platform: Platform,
    filesystem: MemoryFilesystem,
    layout: str,
    keys: list[Key],
    fields: dict[str, Any],
) -> None:
    report = await swept_with_a_reload(
        platform, filesystem, make_config(filesystem), make_config(filesystem, **fields)
    )
    assert report.deleted_images == GONE
    assert are_here(filesystem, layout, keys) == [False] * GONE + [True] * (COUNT - GONE)


async def test_only_what_they_forbid_stays(
    platform: Platform, filesystem: MemoryFilesystem, layout: str, keys: list[Key]
) -> None:
    pinned = make_config(filesystem, pinned=(keys[5][0], keys[7][0]))
    report = await swept_with_a_reload(platform, filesystem, make_config(filesystem), pinned)
    assert report.deleted_images == COUNT - 2
    assert are_here(filesystem, layout, keys) == [number in (5, 7) for number in range(COUNT)]


async def test_what_they_allow_beyond_the_plan_waits_for_the_next_sweep(
    platform: Platform, filesystem: MemoryFilesystem, layout: str, keys: list[Key]
) -> None:
    narrow = make_config(filesystem, allowed=tuple(repository for repository, _ in keys[:6]))
    report = await swept_with_a_reload(platform, filesystem, narrow, make_config(filesystem))
    assert report.deleted_images == 6
    assert are_here(filesystem, layout, keys) == [False] * 6 + [True] * 6


async def test_a_lower_limit_counts_what_has_gone_before_it(
    platform: Platform, filesystem: MemoryFilesystem, layout: str, keys: list[Key]
) -> None:
    limited = make_config(filesystem, max_deletes_per_sweep=5)
    report = await swept_with_a_reload(platform, filesystem, make_config(filesystem), limited)
    assert report.deleted_images == 5
    assert are_here(filesystem, layout, keys) == [False] * 5 + [True] * 7


async def test_a_quarantine_holds_what_goes_from_then_on(
    platform: Platform, filesystem: MemoryFilesystem, keys: list[Key]
) -> None:
    held = make_config(filesystem, quarantine=timedelta(days=7))
    report = await swept_with_a_reload(platform, filesystem, make_config(filesystem), held)
    assert report.deleted_images == COUNT
    # Those that were on their way are held too: their bytes had not been freed.
    assert report.quarantined_images == COUNT


async def test_a_quarantine_that_is_switched_off_counts_from_the_next_sweep(
    platform: Platform, filesystem: MemoryFilesystem, keys: list[Key]
) -> None:
    held = make_config(filesystem, quarantine=timedelta(days=7))
    report = await swept_with_a_reload(platform, filesystem, held, make_config(filesystem))
    assert (report.quarantined_images, report.released_images) == (COUNT, 0)


async def test_settings_that_change_while_a_sweep_looks_count_for_all_of_it(
    platform: Platform,
    filesystem: MemoryFilesystem,
    threads: GatedThreads,
    layout: str,
    keys: list[Key],
) -> None:
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        gate = threads.hold("plan")
        async with sweeping(retention) as reports:
            await gate.arrived.wait()
            retention.reconfigure(make_config(filesystem, pinned=("*",)))
            gate.opened.set()
        assert reports[0].deleted_images == 0
    assert all(are_here(filesystem, layout, keys))


async def test_a_sweep_that_is_switched_off_in_its_midst_says_so(
    platform: Platform,
    filesystem: MemoryFilesystem,
    keys: list[Key],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "hmret")
    off = make_config(filesystem, enabled=False)
    await swept_with_a_reload(platform, filesystem, make_config(filesystem), off)
    assert [line["detail"] for line in told(caplog, "deletion_stopped")] == [
        "by settings changed in the midst of it: switched off"
    ]


async def test_of_two_changes_in_the_midst_of_a_sweep_the_last_counts(
    platform: Platform, filesystem: MemoryFilesystem, layout: str, keys: list[Key]
) -> None:
    config = make_config(filesystem)
    async with open_engine(config, platform, scheduled=False) as retention:

        def change_twice() -> None:
            retention.reconfigure(make_config(filesystem, enabled=False))
            retention.reconfigure(config)

        when_the_third_goes(filesystem, change_twice)
        report = await retention.sweep()
        filesystem.before = None
    assert report.deleted_images == COUNT


async def test_a_reference_that_may_no_longer_be_ignored_suspends_the_rest(
    platform: Platform, filesystem: MemoryFilesystem, layout: str, keys: list[Key]
) -> None:
    filesystem.write_file("/data/guests/vm-1/metadata.json", b"{")
    ignoring = make_config(filesystem, unreadable_references="ignore")
    report = await swept_with_a_reload(platform, filesystem, ignoring, make_config(filesystem))
    assert [one.cause for one in report.suspended] == ["unreadable_reference"]
    assert are_here(filesystem, layout, keys) == [False] * GONE + [True] * (COUNT - GONE)


async def test_what_goes_for_want_of_space_stays_where_the_limit_is_lifted(
    platform: Platform, filesystem: MemoryFilesystem, layout: str
) -> None:
    keys = make_due(filesystem, layout, COUNT, days=5)
    pressed = make_config(filesystem, disk=DiskLimits(max_used=4096))
    report = await swept_with_a_reload(platform, filesystem, pressed, make_config(filesystem))
    assert report.deleted_images == GONE
    assert are_here(filesystem, layout, keys) == [False] * GONE + [True] * (COUNT - GONE)


@pytest.mark.parametrize(
    "fields", [{"enabled": False}, {"quarantine": timedelta(days=30)}], ids=["off", "longer"]
)
@pytest.mark.parametrize("pressed", [False, True])
async def test_nothing_more_leaves_the_quarantine(
    platform: Platform,
    filesystem: MemoryFilesystem,
    clock: FakeClock,
    keys: list[Key],
    fields: dict[str, Any],
    pressed: bool,
) -> None:
    held = make_config(filesystem, quarantine=timedelta(hours=2))
    async with open_engine(held, platform, scheduled=False) as retention:
        await retention.sweep()
        assert len(retention.quarantined()) == COUNT
        if pressed:
            retention.reconfigure(attrs.evolve(held, disk=DiskLimits(max_used=4096)))
        else:
            clock.advance(timedelta(hours=3))
        count = 0

        def before(call: Call) -> None:
            nonlocal count
            if call.name == "unlink" and call.path.endswith("metadata.json"):
                count += 1
                if count == GONE:
                    retention.reconfigure(
                        make_config(filesystem, **{"quarantine": held.quarantine, **fields})
                    )

        filesystem.before = before
        report = await retention.sweep()
        filesystem.before = None
        assert report.released_images == GONE
        assert len(retention.quarantined()) == COUNT - GONE
        # What has not been begun can still be brought back.
        assert (await retention.restore(keys[-1][0])).digest == keys[-1][1]
