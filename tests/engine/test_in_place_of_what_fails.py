"""What cannot be deleted takes no place: the next image goes in its stead, in the same sweep."""

import errno
from datetime import timedelta
from typing import Any

import pytest

from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.model.policy.limits import DiskLimits
from hmret.model.references import Key
from hmret.model.verdicts import Reason
from support.builders import FakeClock, make_config
from support.due_images import LAYOUTS, are_here, image_folder, make_due
from support.memory_filesystem import ForeignOpen, MemoryFilesystem

MIB = 1 << 20


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


LIMITS: list[dict[str, Any]] = [
    {"max_deletes_per_sweep": 2},
    {"max_bytes_per_sweep": 2 * MIB},
    {"max_deletes_per_sweep": 2, "max_bytes_per_sweep": 5 * MIB},
]


def break_deletion(filesystem: MemoryFilesystem, layout: str, keys: list[Key]) -> None:
    """Have the deletion of some images fail."""
    for key in keys:
        filesystem.deny(image_folder(layout, key), errno.EIO, call="rename")


@pytest.mark.parametrize("fields", LIMITS, ids="+".join)
async def test_a_deletion_that_fails_takes_no_place_under_a_limit(
    platform: Platform, filesystem: MemoryFilesystem, layout: str, fields: dict[str, Any]
) -> None:
    keys = make_due(filesystem, layout, 8, size_bytes=MIB)
    break_deletion(filesystem, layout, keys[:3])
    async with open_engine(make_config(filesystem, **fields), platform, scheduled=False) as retention:
        report = await retention.sweep()
        assert (report.deleted_images, report.failed_deletes) == (2, 3)
        # The longest unused of those that can be deleted.
        assert are_here(filesystem, layout, keys) == [True] * 3 + [False] * 2 + [True] * 3
        report = await retention.sweep()
        assert (report.deleted_images, report.failed_deletes) == (2, 0)


@pytest.mark.parametrize("fields", LIMITS, ids="+".join)
async def test_one_shot_sweeps_know_of_it_too(
    platform: Platform, filesystem: MemoryFilesystem, layout: str, fields: dict[str, Any]
) -> None:
    keys = make_due(filesystem, layout, 8, size_bytes=MIB)
    break_deletion(filesystem, layout, keys[:3])
    found = []
    for _ in range(3):
        async with open_engine(make_config(filesystem, **fields), platform, scheduled=False) as retention:
            report = await retention.sweep()
            found.append((report.deleted_images, report.failed_deletes))
    assert found == [(2, 3), (2, 0), (1, 0)]
    assert are_here(filesystem, layout, keys) == [True] * 3 + [False] * 5


@pytest.mark.parametrize("fields", LIMITS, ids="+".join)
async def test_an_image_that_is_open_takes_no_place_either(
    platform: Platform, filesystem: MemoryFilesystem, layout: str, fields: dict[str, Any]
) -> None:
    keys = make_due(filesystem, layout, 5, size_bytes=MIB)
    disk = "rootfs.ext4" if layout == "older" else "rootfs.erofs"
    opener: ForeignOpen = filesystem.hold_open(f"{image_folder(layout, keys[0])}/{disk}")
    async with open_engine(make_config(filesystem, **fields), platform, scheduled=False) as retention:
        report = await retention.sweep()
    opener.close()
    assert (report.deleted_images, report.open_images) == (2, 1)
    assert are_here(filesystem, layout, keys) == [True, False, False, True, True]


async def test_nothing_more_goes_where_all_went_that_was_planned(
    platform: Platform, filesystem: MemoryFilesystem, layout: str
) -> None:
    keys = make_due(filesystem, layout, 5)
    config = make_config(filesystem, max_deletes_per_sweep=2)
    async with open_engine(config, platform, scheduled=False) as retention:
        assert (await retention.sweep()).deleted_images == 2
    assert are_here(filesystem, layout, keys) == [False] * 2 + [True] * 3


@pytest.mark.parametrize(
    "limits",
    [DiskLimits(high_watermark=0.5, low_watermark=0.25), DiskLimits(max_used=5 * MIB)],
    ids=["mark", "max"],
)
async def test_under_pressure_the_next_image_comes_free_instead(
    platform: Platform, filesystem: MemoryFilesystem, layout: str, limits: DiskLimits
) -> None:
    filesystem.capacity_bytes = 20 * MIB
    keys = make_due(filesystem, layout, 8, size_bytes=MIB, days=3)
    filesystem.foreign_bytes = 3 * MIB
    break_deletion(filesystem, layout, keys[:2])
    async with open_engine(make_config(filesystem, disk=limits), platform, scheduled=False) as retention:
        report = await retention.sweep()
        went = report.deleted_images
        assert went >= 3
        assert are_here(filesystem, layout, keys) == [True] * 2 + [False] * went + [True] * (6 - went)
        assert report.deleted_bytes >= 3 * MIB


async def test_what_it_frees_is_no_more_than_the_disk_needs(
    platform: Platform, filesystem: MemoryFilesystem, layout: str
) -> None:
    keys = make_due(filesystem, layout, 8, size_bytes=MIB, days=3)
    break_deletion(filesystem, layout, keys[:1])
    config = make_config(filesystem, disk=DiskLimits(max_used=5 * MIB))
    async with open_engine(config, platform, scheduled=False) as retention:
        report = await retention.sweep()
    assert report.deleted_bytes < 5 * MIB
    assert are_here(filesystem, layout, keys).count(True) >= 4


async def test_what_fails_counts_in_no_plan_until_it_is_tried_again(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, layout: str
) -> None:
    keys = make_due(filesystem, layout, 2, size_bytes=MIB)
    break_deletion(filesystem, layout, keys[:1])
    config = make_config(filesystem, max_deletes_per_sweep=1)
    async with open_engine(config, platform, scheduled=False) as retention:
        await retention.sweep()
        plan = await retention.plan()
        assert (plan.summary.delete, plan.summary.delete_bytes) == (0, 0)
        assert (await retention.explain(keys[0][0])).reason is Reason.BACKOFF
        clock.advance(timedelta(minutes=1))
        assert (await retention.plan()).summary.delete == 1
