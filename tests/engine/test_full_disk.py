"""A disk that is full to the last block: deletions begin in the room that was reserved, or it is said what helps."""

import errno
import logging
from datetime import timedelta

import pytest

from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.model.references import Key
from hmret.model.report import SweepStatus
from support.builders import DATA, make_config, told
from support.due_images import LAYOUTS, are_here, make_due
from support.memory_filesystem import Call, MemoryFilesystem

RESERVE = f"{DATA}/system/hmret/reserve"


class FullDisk:
    """No block is free until a disk has been erased; what is there can be written over, but for a disk that never is."""

    def __init__(
        self, filesystem: MemoryFilesystem, *, writes_in_place: bool = True, reserve: str = RESERVE
    ) -> None:
        self._filesystem = filesystem
        self._reserve = reserve
        self._writes_in_place = writes_in_place
        self.is_full = True
        filesystem.before = self._before

    def _before(self, call: Call) -> None:
        if call.name == "unlink" and "rootfs" in call.path:
            self.is_full = False
        is_there = call.name == "mkdir" and self._filesystem.exists(call.path)
        in_place = self._writes_in_place and call.path == self._reserve
        if self.is_full and call.name in ("write", "mkdir", "symlink") and not (in_place or is_there):
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


async def begin(platform: Platform, filesystem: MemoryFilesystem) -> None:
    """Have hmret been here while there was space."""
    async with open_engine(make_config(filesystem, allowed=()), platform, scheduled=False) as retention:
        await retention.sweep()


@pytest.mark.parametrize("quarantine", [timedelta(0), timedelta(days=1)], ids=["erased", "held"])
async def test_deletions_begin_on_a_full_disk(
    platform: Platform, filesystem: MemoryFilesystem, layout: str, quarantine: timedelta
) -> None:
    await begin(platform, filesystem)
    keys = make_due(filesystem, layout, 40)
    disk = FullDisk(filesystem)
    config = make_config(filesystem, quarantine=quarantine)
    async with open_engine(config, platform, scheduled=False) as retention:
        report = await retention.sweep()
    assert report.deleted_images > 0
    assert any(are_here(filesystem, layout, keys)) == disk.is_full
    assert disk.is_full == bool(quarantine)


@pytest.mark.parametrize("folder", ["system", "system/hmret"])
async def test_deletions_begin_on_a_full_disk_where_hmrets_folder_is_reached_through_a_link(
    platform: Platform, filesystem: MemoryFilesystem, folder: str
) -> None:
    filesystem.make_folder("/mnt/elsewhere/hmret")
    filesystem.make_folder(f"{DATA}/{folder}".rpartition("/")[0])
    filesystem.make_link(f"{DATA}/{folder}", f"/mnt/elsewhere{folder.removeprefix('system')}")
    await begin(platform, filesystem)
    make_due(filesystem, "older", 3)
    FullDisk(filesystem, reserve="/mnt/elsewhere/hmret/reserve")
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        assert (await retention.sweep()).deleted_images == 3


async def test_the_reserve_is_filled_again_afterwards(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    await begin(platform, filesystem)
    make_due(filesystem, "older", 3)
    FullDisk(filesystem)
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        assert (await retention.sweep()).deleted_images == 3
        assert len(filesystem.read_file(RESERVE)) == 64 * 1024


async def test_a_crash_after_the_reserve_was_used_is_finished_at_the_next_start(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    await begin(platform, filesystem)
    keys = make_due(filesystem, "older", 3)
    FullDisk(filesystem)
    renamed: list[str] = []
    full = filesystem.before
    assert full is not None

    def before(call: Call) -> None:
        full(call)
        if call.name == "unlink" and "metadata.json" in call.path:
            raise OSError(errno.EIO, "Input/output error")
        if call.name == "rename" and "/trash/" in call.path:
            renamed.append(call.path)

    filesystem.before = before
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        report = await retention.sweep()
        assert (report.status, report.deleted_images) == (SweepStatus.PARTIAL, 3)
    filesystem.before = None
    async with open_engine(make_config(filesystem), platform, scheduled=False):
        pass
    assert not any(are_here(filesystem, "older", keys))
    assert filesystem.tree(f"{DATA}/system/hmret/trash") == {}


async def test_where_nothing_is_written_in_place_it_is_said_what_helps(
    platform: Platform,
    filesystem: MemoryFilesystem,
    layout: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "hmret")
    await begin(platform, filesystem)
    keys = make_due(filesystem, layout, 40)
    disk = FullDisk(filesystem, writes_in_place=False)
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        for _ in range(2):
            report = await retention.sweep()
            assert (report.status, report.deleted_images) == (SweepStatus.PARTIAL, 0)
            (error,) = (one for one in report.errors if one.path == "system/hmret/trash")
            assert "No space left on device" in error.error
            assert "btrfs" in error.error
        assert all(are_here(filesystem, layout, keys))
        (blocked,) = told(caplog, "deletion_blocked")
        assert "free some MiB on that file system" in str(blocked["detail"])
        disk.is_full = False
        # Nothing backs off: it was nothing about the images.
        assert (await retention.sweep()).deleted_images == 40


async def test_a_batch_whose_intents_do_not_fit_goes_in_smaller_ones(
    platform: Platform, filesystem: MemoryFilesystem, layout: str
) -> None:
    await begin(platform, filesystem)
    keys = make_due(filesystem, layout, 32)
    for key in keys:
        for number in range(40):
            _add_tag(filesystem, layout, key, f"{'t' * 80}{number}")
    FullDisk(filesystem)
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        assert (await retention.sweep()).deleted_images == 32


async def test_a_first_start_on_a_full_disk_says_what_to_do(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    FullDisk(filesystem)
    with pytest.raises(
        OSError, match="cannot create its own folder: No space left on device; free some MiB"
    ) as raised:
        async with open_engine(make_config(filesystem), platform, scheduled=False):
            pass
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, f"{DATA}/system/hmret")


def _add_tag(filesystem: MemoryFilesystem, layout: str, key: Key, tag: str) -> None:
    hexadecimal = key[1].removeprefix("sha256:")
    if layout == "older":
        filesystem.make_link(f"{DATA}/images/{key[0]}/{tag}", hexadecimal)
    else:
        up = "../" * (key[0].count("/") + 2)
        filesystem.make_link(f"{DATA}/images/repositories/{key[0]}/{tag}", f"{up}content/{hexadecimal}")
