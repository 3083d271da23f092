"""What stands between a plan and its deletions, and what of it outlasts a loss of power."""

import random

import anyio
import pytest

from hmret import MarkedUsed
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.model.times import SECOND
from support.builders import (
    DATA,
    START_NS,
    GatedThreads,
    digest,
    has_image,
    make_config,
    make_guest,
    make_image,
    make_state,
    set_tag,
    state_of,
)
from support.memory_filesystem import Call, MemoryFilesystem
from support.patience import patiently

pytestmark = pytest.mark.anyio

ALPINE = "docker.io/library/alpine"
KEY = ALPINE, digest("a")
OLD_NS = START_NS - 60 * 24 * 3600 * SECOND


async def test_an_image_is_not_deleted_while_mark_used_works_on_it(
    filesystem: MemoryFilesystem, platform: Platform, threads: GatedThreads
) -> None:
    for letters in "ab":
        make_state(filesystem, make_image(filesystem, ALPINE, letters, tags=()), OLD_NS)
    used: list[MarkedUsed] = []
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:

        async def mark_used() -> None:
            used.append(await retention.mark_used(*KEY))

        gate = threads.hold("_confirm")
        with patiently():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(mark_used)
                await gate.arrived.wait()
                report = await retention.sweep()
                gate.opened.set()
    assert [image.digest for image in report.deleted] == [digest("b")]
    assert used == [MarkedUsed(*KEY, cleared=True)]
    assert has_image(filesystem, KEY)


async def test_a_tag_that_moved_to_another_image_since_the_plan_is_not_touched(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    make_state(filesystem, make_image(filesystem, ALPINE, "a"), OLD_NS)
    make_image(filesystem, ALPINE, "b", tags=())
    link = f"{DATA}/images/{ALPINE}/latest"
    moved: list[int | None] = []

    def move_tag(call: Call) -> None:
        if call.name == "rename" and "/aaa" in call.path and not moved:
            set_tag(filesystem, ALPINE, "latest", "b")
            moved.append(filesystem.inode(link))

    filesystem.before = move_tag
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        report = await retention.sweep()
    assert [image.digest for image in report.deleted] == [digest("a")]
    assert [filesystem.inode(link)] == moved


def lose_power(filesystem: MemoryFilesystem) -> list[str | None]:
    """Tell the timers of an image that a loss of power now can leave."""
    return [state_of(filesystem.after_power_loss(random.Random(seed)), KEY) for seed in range(30)]


async def test_a_timer_that_mark_used_cleared_stays_cleared_through_a_loss_of_power(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    make_state(filesystem, make_image(filesystem, ALPINE, "a"), OLD_NS)
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        await retention.mark_used(*KEY)
        assert set(lose_power(filesystem)) == {None}


async def test_a_timer_that_a_sweep_cleared_before_mark_used_stays_cleared_through_a_loss_of_power(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    make_state(filesystem, make_image(filesystem, ALPINE, "a"), OLD_NS)
    make_guest(filesystem, "vm", "alpine")
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        report = await retention.sweep()
        assert report.cleared_states == 1
        await retention.mark_used(*KEY)
        assert set(lose_power(filesystem)) == {None}
