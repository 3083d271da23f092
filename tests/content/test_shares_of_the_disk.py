"""The most that the cache may take, as a share of its file system and in apparent sizes, in both layouts."""

from datetime import timedelta

import pytest

from hmret import DiskLimits, Reason
from support.builders import digest
from support.content_trees import Host

APP = "ghcr.io/acme/app"
D, E = digest("d"), digest("e")
GIB = 1 << 30

pytestmark = pytest.mark.anyio


def make_sparse(host: Host, layout: str, letters: str, *, days: int) -> None:
    """Make an image of one GiB that occupies two blocks, unused for so many days."""
    fields = {"size_bytes": GIB}
    if layout == "content":
        host.content(letters, name=f"{APP}@{digest(letters)}", metadata=fields)
    else:
        host.legacy(APP, letters, size_bytes=8192, metadata=fields)
    host.state(APP, letters, timedelta(days=days))


async def test_apparent_sizes_count_towards_the_most_that_may_be_used(host: Host, layout: str) -> None:
    make_sparse(host, layout, "d", days=3)
    make_sparse(host, layout, "e", days=2)
    assert (await host.sweep(disk=DiskLimits(max_used=GIB))).deleted == []
    swept = await host.sweep(disk=DiskLimits(max_used=GIB, count="apparent"))
    assert swept.reasons == {(APP, D): Reason.DISK_PRESSURE, (APP, E): Reason.RETENTION_WINDOW}
    assert swept.deleted == [(APP, D)]
    assert (await host.sweep(disk=DiskLimits(max_used=GIB, count="apparent"))).deleted == []


async def test_what_goes_for_its_apparent_size_can_be_brought_back(host: Host, layout: str) -> None:
    make_sparse(host, layout, "d", days=3)
    make_sparse(host, layout, "e", days=2)
    limits = DiskLimits(max_used=GIB, count="apparent")
    async with host.opened(disk=limits, quarantine=timedelta(days=1)) as retention:
        report = await retention.sweep()
        assert [one.digest for one in report.deleted] == [D]
        await retention.restore(f"{APP}@{D}")


async def test_a_share_of_the_file_system_is_taken_of_its_size(host: Host, layout: str) -> None:
    make_sparse(host, layout, "d", days=3)
    make_sparse(host, layout, "e", days=2)
    async with host.opened(disk=DiskLimits(max_used=1.0)) as retention:
        await retention.sweep()
        usage = retention.statistics().disk
    assert usage is not None
    share = 8192 / usage.total_bytes
    assert (await host.sweep(disk=DiskLimits(max_used=2.5 * share))).deleted == []
    assert (await host.sweep(disk=DiskLimits(max_used=1.5 * share))).deleted == [(APP, D)]
