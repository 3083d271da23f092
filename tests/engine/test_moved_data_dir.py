"""An engine whose data directory is not the one at its path any more: it ends, and takes nothing from either."""

from datetime import timedelta

import anyio
import pytest

import hmret
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.engine.sweep import deletion_run as deleting
from hmret.model.references import Key
from hmret.model.times import SECOND
from support.builders import (
    DATA,
    START,
    START_NS,
    FakeClock,
    GatedThreads,
    make_config,
    make_image,
    make_state,
    make_surroundings,
)
from support.memory_filesystem import Call, MemoryFilesystem
from support.patience import patiently

ALPINE = "docker.io/library/alpine"
LONG_AGO_NS = START_NS - 40 * 86_400 * SECOND


def make_due(filesystem: MemoryFilesystem, letters: str) -> Key:
    key = make_image(filesystem, ALPINE, letters, tags=(letters,), created_at=START - timedelta(days=60))
    make_state(filesystem, key, LONG_AGO_NS)
    return key


def move_aside(filesystem: MemoryFilesystem, path: str) -> None:
    """Move something aside, and leave an empty folder or file in its place."""
    filesystem.move(path, "/aside")
    if path.endswith("/lock"):
        filesystem.write_file(path, b"")
    else:
        filesystem.make_folder(path)


def images_in(filesystem: MemoryFilesystem) -> int:
    return sum(path.endswith("/rootfs.ext4") for path in filesystem.tree("/"))


PARTS = [DATA, f"{DATA}/images", f"{DATA}/system", f"{DATA}/system/hmret/lock"]


@pytest.mark.parametrize("part", PARTS)
async def test_a_sweep_in_a_folder_that_was_moved_aside_is_refused(
    filesystem: MemoryFilesystem, platform: Platform, part: str
) -> None:
    async def work() -> None:
        async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
            make_due(filesystem, "a")
            make_image(filesystem, ALPINE, "b")
            move_aside(filesystem, part)
            with pytest.raises(hmret.DataDirMovedError):
                await retention.sweep()
            await anyio.sleep_forever()

    with pytest.raises(hmret.DataDirMovedError, match=part):
        await work()
    assert images_in(filesystem) == 2
    # Nor does a timer begin.
    assert [path for path in filesystem.tree("/") if path.endswith(".json") and f"/{'b' * 64}" in path] == [
        path for path in filesystem.tree("/") if path.endswith(f"{'b' * 64}/metadata.json")
    ]


async def test_the_block_of_an_embedder_is_cancelled_and_says_why(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    make_image(filesystem, ALPINE, "a")
    cancelled = []

    async def work() -> None:
        async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
            await retention.sweep()
            filesystem.move(DATA, "/aside")
            retention.begin_sweeps()
            try:
                await anyio.sleep_forever()
            finally:
                cancelled.append(True)

    with patiently(), pytest.raises(hmret.DataDirMovedError, match=DATA):
        await work()
    assert cancelled


async def test_a_folder_that_is_moved_between_two_batches_loses_no_more_than_the_first(
    filesystem: MemoryFilesystem, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleting, "_FEWEST", 1)
    monkeypatch.setattr(deleting, "_MOST", 1)
    for letter in "abcd":
        make_due(filesystem, letter)

    def move(call: Call) -> None:
        if call.name == "rename" and "/trash/" in call.path and filesystem.exists(DATA):
            filesystem.before = None
            move_aside(filesystem, DATA)

    async def work() -> None:
        async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
            retention._sweeps.deletion_run._batch = 1
            filesystem.before = move
            await retention.sweep()

    with pytest.raises(hmret.DataDirMovedError):
        await work()
    here = [path for path in filesystem.tree("/aside/images") if path.endswith("/rootfs.ext4")]
    assert len(here) == 3


async def test_a_folder_that_came_back_is_opened_again(clock: FakeClock, threads: GatedThreads) -> None:
    filesystem = MemoryFilesystem(clock.now_ns)
    filesystem.make_folder(f"{DATA}/images")
    make_due(filesystem, "a")
    platform = make_surroundings(filesystem, clock, threads)

    async def work() -> None:
        async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
            filesystem.move(DATA, "/aside")
            await retention.sweep()

    with pytest.raises(hmret.DataDirMovedError):
        await work()
    filesystem.move("/aside", DATA)
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        assert (await retention.sweep()).deleted_images == 1


async def test_two_data_directories_with_the_same_images_have_one_engine(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    filesystem.make_folder("/other")
    filesystem.make_link("/other/images", f"{DATA}/images")
    config = make_config(filesystem)
    other = hmret.RetentionConfig(data_dir="/other", auto_delete=config.auto_delete)
    async with open_engine(config, platform, scheduled=False):
        with pytest.raises(hmret.DataDirLockedError, match="/other/images"):
            async with open_engine(other, platform, scheduled=False):
                pytest.fail("two engines")


async def test_images_that_come_while_another_engine_has_them_end_this_one(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    filesystem.make_folder("/other")
    config = make_config(filesystem)
    other = hmret.RetentionConfig(data_dir="/other", auto_delete=config.auto_delete)

    async def work() -> None:
        async with open_engine(other, platform, scheduled=False) as retention:
            filesystem.make_link("/other/images", f"{DATA}/images")
            await retention.sweep()

    async with open_engine(config, platform, scheduled=False):
        with pytest.raises(hmret.DataDirLockedError, match="/other/images"):
            await work()


async def test_that_images_cannot_be_locked_is_told_once(
    filesystem: MemoryFilesystem, platform: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    filesystem.deny(f"{DATA}/images", 9, call="lock")
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        for _ in range(3):
            assert (await retention.sweep()).status is hmret.SweepStatus.SUCCESS
    assert [record.getMessage().partition(" ")[0] for record in caplog.records].count(
        "images_not_locked"
    ) == 1
