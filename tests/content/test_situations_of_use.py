"""What keeps an image: references, leases and `mark_used`, by every spelling with which hypeman would boot it."""

from datetime import timedelta

import anyio
import pytest

import hmret
from hmret import Reason
from hmret.actors.threads import WorkerThreads
from hmret.disk.hypeman.documents import encode_state
from support.builders import DATA, FakeClock, digest, settle
from support.content_trees import FRESH, Host, content_path, legacy_path, state_path, without
from support.interruptions import Halt
from support.memory_filesystem import MemoryFilesystem
from support.patience import patiently

A = "docker.io/library/alpine"
B = "ghcr.io/kernel/base"
C = "quay.io/tools/c"
NOBODY = "example.com/x"
D = digest("d")


@pytest.fixture
def host(filesystem: MemoryFilesystem, clock: FakeClock) -> Host:
    return Host(filesystem, clock)


# References.


async def test_a_reference_under_another_repository_keeps_the_digest_for_all_its_owners(host: Host) -> None:
    host.content("d")
    host.link(B, "1", "d")
    cleared = host.state(B, "d")
    host.guest(f"{A}@{D}")
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {(B, D): Reason.REFERENCED}
    assert swept.verdicts[B, D].referenced_by == ("instance/vm",)
    assert (swept.report.stale_references, swept.report.protected_images) == (0, 1)
    assert host.files() == without(before, cleared)


async def test_the_image_that_a_virtual_machine_booted_stays_after_its_tag_has_moved_on(host: Host) -> None:
    host.content("d", name=f"{A}:latest")
    host.content("e", name=f"{A}:latest")
    host.link(A, "latest", "e")
    cleared = host.state(A, "d")
    host.guest(f"{A}:latest", resolved=f"{A}@{D}")
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons[A, D] is Reason.REFERENCED
    assert swept.deleted == []
    assert host.files() == without(before, cleared)


async def test_a_reference_to_a_copy_keeps_the_content_of_its_digest_too(host: Host) -> None:
    host.content("d")
    host.legacy(A, "d", linked=True)
    host.link(B, "1", "d")
    cleared = host.state(A, "d"), host.state(B, "d", FRESH)
    host.guest(f"{A}@{D}")
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.REFERENCED, (B, D): Reason.REFERENCED}
    assert host.files() == without(before, *cleared)


async def test_the_base_of_a_machine_image_is_in_use(host: Host) -> None:
    machine = {"machine": {"kind": "persona", "base": f"{A}@{D}"}}
    host.content("e", name=f"{B}:1", has_disk=False, metadata=machine, files={"persona.qcow2": b"delta"})
    host.link(B, "1", "e")
    host.content("d", name=f"{A}:1")
    host.link(A, "1", "d")
    cleared = host.state(A, "d")
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons[A, D] is Reason.REFERENCED
    (source,) = swept.verdicts[A, D].referenced_by
    assert source.startswith("image/")
    assert host.files() == without(before, cleared)


# mark_used.


async def test_mark_used_under_another_repository_clears_the_timers_of_all_owners(host: Host) -> None:
    host.content("d")
    for repository in (A, B):
        host.link(repository, "1", "d")
    cleared = [host.state(repository, "d") for repository in (A, B)]
    before = host.files()
    async with host.opened() as retention:
        used = await retention.mark_used(f"{NOBODY}@{D}")
        assert used == hmret.MarkedUsed(NOBODY, D, cleared=True)
        assert host.files() == without(before, *cleared)
        swept = await host.sweep_by(retention)
        assert (swept.deleted, swept.report.marked_unused) == ([], 2)


async def test_mark_used_of_a_copy_clears_the_timers_of_the_content_that_hypeman_boots(host: Host) -> None:
    host.legacy(C, "d")
    host.legacy_link(C, "1", "d")
    host.content("d")
    host.link(A, "1", "d")
    cleared = host.state(C, "d"), host.state(A, "d")
    before = host.files()
    async with host.opened() as retention:
        assert (await retention.mark_used(f"{C}@{D}")).cleared
        assert host.files() == without(before, *cleared)
        assert (await host.sweep_by(retention)).deleted == []


async def test_mark_used_and_a_deletion_of_the_same_digest_under_another_name_come_one_after_the_other(
    filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    outcomes: list[bool] = []
    # The call of a sweep at which somebody comes to use the image; enough to come before, within and after it.
    for number in range(5, 400, 15):
        host = Host(filesystem.crashed_copy(), clock)
        host.content("d")
        host.link(B, "1", "d")
        host.state(B, "d")
        before = host.files()
        is_used = await use_at(host, number, f"{A}@{D}")
        if is_used is None:
            break
        outcomes.append(is_used)
        left = host.files()
        # It is there whole, without its timer, or it is gone for good. A sweep that begins after the use starts it anew.
        timer = state_path(B, "d")
        expected = without(before, timer) if is_used else {}
        if is_used and timer in left:
            assert left[timer][1] == encode_state(B, D, clock.wall_ns), number
            left = without(left, timer)
        assert left == expected, number
    assert set(outcomes) == {True, False}


async def use_at(host: Host, number: int, image: str) -> bool | None:
    """Use an image while a sweep stands at one of its calls; None: it had ended before."""
    assert isinstance(host.place, MemoryFilesystem)
    outcomes: list[bool] = []
    async with host.opened(threads=WorkerThreads()) as retention:
        last = host.place.calls + number
        halt = Halt(host, lambda call: call.number >= last)

        async def use() -> None:
            try:
                await retention.mark_used(image)
            except hmret.ImageNotFoundError:
                outcomes.append(False)
            else:
                outcomes.append(True)

        async def sweep() -> None:
            await retention.sweep()
            halt.arrived.set()

        with patiently():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sweep)
                await halt.arrived.wait()
                if host.place.before is not None:
                    host.place.before = None
                    return None
                tasks.start_soon(use)
                await settle()
                halt.opened.set()
    return outcomes[0]


async def test_mark_used_waits_for_a_deletion_of_the_digest_that_is_under_way(host: Host) -> None:
    host.content("d")
    host.link(B, "1", "d")
    host.state(B, "d")
    refused: list[str] = []
    async with host.opened(threads=WorkerThreads()) as retention:
        halt = Halt(host, lambda call: call.name == "take_lease")

        async def use() -> None:
            try:
                await retention.mark_used(f"{A}@{D}")
            except hmret.ImageNotFoundError as error:
                refused.append(str(error))

        with patiently():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(retention.sweep)
                await halt.arrived.wait()
                tasks.start_soon(use)
                await settle()
                assert not refused
                halt.opened.set()
    assert len(refused) == 1
    assert host.files() == {}


# Open disks.


async def test_a_disk_that_is_open_by_its_older_name_keeps_the_whole_unit(
    host: Host, filesystem: MemoryFilesystem
) -> None:
    host.content("d", name=f"{A}:1")
    host.legacy(A, "d", linked=True)
    host.legacy_link(A, "1", "d")
    for repository in (A, B):
        host.link(repository, "1", "d")
    cleared = [host.state(repository, "d") for repository in (A, B)]
    before = host.files()
    opener = filesystem.hold_open(f"{DATA}/{legacy_path(A, 'd')}/rootfs.erofs")
    async with host.opened() as retention:
        swept = await host.sweep_by(retention)
        assert (swept.deleted, swept.report.open_images > 0) == ([], True)
        assert host.files() == without(before, *cleared)
        opener.close()
        assert (await retention.sweep()).marked_unused == 2


@pytest.mark.parametrize("name", ["rootfs.erofs", "manifest.json"])
async def test_the_kernel_tells_of_an_opener_by_either_name_of_a_promoted_disk(
    tmp_path_factory: pytest.TempPathFactory, clock: FakeClock, name: str
) -> None:
    host = Host(tmp_path_factory.mktemp("data"), clock)
    host.content("d", name=f"{A}:1", files={"manifest.json": b"{}"})
    host.legacy(A, "d", linked=True)
    if name == "manifest.json":
        host.hard_link(f"{content_path('d')}/{name}", f"{legacy_path(A, 'd')}/{name}")
    host.legacy_link(A, "1", "d")
    host.link(A, "1", "d")
    cleared = host.state(A, "d")
    before = host.files()
    assert not isinstance(host.place, MemoryFilesystem)
    async with host.opened() as retention:
        with (host.place / legacy_path(A, "d") / name).open("rb"):
            assert (await host.sweep_by(retention)).report.open_images > 0
            assert host.files() == without(before, cleared)
        host.state(A, "d")
        # With nobody there, one lease for the two names is given.
        clock.advance(timedelta(minutes=1))
        assert (await host.sweep_by(retention)).deleted == [(A, D)]
        assert host.files() == {}
        assert retention.statistics().leases_offered
