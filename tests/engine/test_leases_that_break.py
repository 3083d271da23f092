"""A file system on which the rename itself breaks the kernel's leases: nothing is told as open that is not."""

import errno
import logging
import os
from pathlib import Path

import pytest

from hmret.disk.filesystem import POSIX
from hmret.disk.kernel_lease_trial import do_leases_break
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.model.report import SweepStatus
from support.builders import DATA, make_config, told
from support.due_images import LAYOUTS, are_here, make_due
from support.memory_filesystem import MemoryFilesystem


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


async def test_deletion_is_suspended_and_the_remedy_told(
    platform: Platform,
    filesystem: MemoryFilesystem,
    layout: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "hmret")
    filesystem.rename_breaks_leases = True
    keys = make_due(filesystem, layout, 3)
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        report = await retention.sweep()
        assert (report.status, report.open_images) == (SweepStatus.SUSPENDED, 0)
        (cause,) = report.suspended
        assert cause.cause == "leases_broken"
        assert "hmret.leases: when-offered" in cause.detail
        assert (await retention.plan()).suspended == report.suspended
        assert retention.statistics().leases_offered is False
    assert all(are_here(filesystem, layout, keys))
    assert len(told(caplog, "leases_broken")) == 1


async def test_by_the_operators_leave_references_alone_decide(
    platform: Platform, filesystem: MemoryFilesystem, layout: str
) -> None:
    filesystem.rename_breaks_leases = True
    keys = make_due(filesystem, layout, 3)
    config = make_config(filesystem, leases="when-offered")
    async with open_engine(config, platform, scheduled=False) as retention:
        report = await retention.sweep()
        assert (report.status, report.deleted_images) == (SweepStatus.SUCCESS, 3)
        assert retention.statistics().leases_offered is False
    assert not any(are_here(filesystem, layout, keys))


@pytest.mark.parametrize("leases", ["suspend", "when-offered"])
async def test_where_leases_are_not_offered_at_all_nothing_is_suspended(
    platform: Platform, filesystem: MemoryFilesystem, layout: str, leases: str
) -> None:
    filesystem.rename_breaks_leases = True
    filesystem.lease_error = errno.EINVAL
    make_due(filesystem, layout, 3)
    config = make_config(filesystem, leases=leases)
    async with open_engine(config, platform, scheduled=False) as retention:
        assert (await retention.sweep()).deleted_images == 3


@pytest.mark.parametrize("leases", ["suspend", "when-offered"])
async def test_where_leases_hold_an_open_disk_stays_whatever_the_setting(
    platform: Platform, filesystem: MemoryFilesystem, leases: str
) -> None:
    keys = make_due(filesystem, "older", 2)
    opener = filesystem.hold_open(
        f"{DATA}/images/{keys[0][0]}/{keys[0][1].removeprefix('sha256:')}/rootfs.ext4"
    )
    config = make_config(filesystem, leases=leases)
    async with open_engine(config, platform, scheduled=False) as retention:
        report = await retention.sweep()
    opener.close()
    assert (report.deleted_images, report.open_images) == (1, 1)


async def test_the_trial_leaves_nothing_behind(platform: Platform, filesystem: MemoryFilesystem) -> None:
    async with open_engine(make_config(filesystem), platform, scheduled=False):
        names = filesystem.tree(f"{DATA}/system/hmret")
    assert not [name for name in names if "trial" in name]


def test_on_a_real_disk_a_lease_survives_a_rename(tmp_path: Path) -> None:
    (tmp_path / "system/hmret").mkdir(parents=True)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert not do_leases_break(POSIX, fd)
    finally:
        os.close(fd)
    assert list((tmp_path / "system/hmret").iterdir()) == []
