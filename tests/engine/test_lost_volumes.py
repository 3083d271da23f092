"""A volume that is not mounted: what is missing with it was not removed, so nothing follows from that."""

import json
from datetime import timedelta

import anyio
import pytest

import hmret
from hmret.model.images import Cause
from hmret.model.times import SECOND
from support.builders import DATA, FakeClock, GatedThreads, make_guest, make_snapshot
from support.content_trees import Host
from support.memory_filesystem import MemoryFilesystem
from support.patience import patiently

ALPINE = "docker.io/library/alpine"
APP = "ghcr.io/acme/app"
FOLDERS = ["guests", "snapshots"]
OWN = f"{DATA}/system/hmret"


@pytest.fixture(params=["legacy", "content"])
def layout(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def host(filesystem: MemoryFilesystem, clock: FakeClock) -> Host:
    for folder in FOLDERS:
        filesystem.make_folder(f"{DATA}/{folder}")
    return Host(filesystem, clock)


def make_image(host: Host, layout: str, repository: str, letters: str) -> None:
    if layout == "legacy":
        host.legacy(repository, letters)
        host.legacy_link(repository, letters, letters)
    else:
        host.content(letters, name=f"{repository}:{letters}")
        host.link(repository, letters, letters)


def make_user(host: Host, folder: str, name: str, image: str) -> None:
    make = make_guest if folder == "guests" else make_snapshot
    make(host.place, name, image)


def unmount(host: Host, folder: str, *, away: str = "/away") -> None:
    """Put the folder below the mount point in the place of a volume: an empty one."""
    assert isinstance(host.place, MemoryFilesystem)
    host.place.move(f"{DATA}/{folder}", away)
    host.place.make_folder(f"{DATA}/{folder}")


def mount_again(host: Host, folder: str, *, away: str = "/away") -> None:
    assert isinstance(host.place, MemoryFilesystem)
    host.place.remove(f"{DATA}/{folder}")
    host.place.move(away, f"{DATA}/{folder}")


def timers(host: Host) -> dict[str, object]:
    tree = host.tree("system/image-retention") if hasattr(host, "tree") else host.entries()
    return {
        path: content
        for path, (kind, content) in tree.items()
        if kind == "file" and path.startswith(("system/image-retention", "/data/system/image-retention"))
    }


def causes(report: hmret.SweepReport) -> list[tuple[str, str]]:
    return [(one.cause.value, one.path.removeprefix(f"{DATA}/")) for one in report.suspended]


def counts(report: hmret.SweepReport) -> tuple[int, int, int, int]:
    return report.marked_unused, report.cleared_states, report.pruned_states, report.deleted_images


async def seen(host: Host, layout: str, folder: str) -> None:
    """Have a host with users of images known, an image that is due, and one that is clear of both."""
    for letters in ("a", "b"):
        make_image(host, layout, ALPINE, letters)
        make_user(host, folder, f"vm-{letters}", f"alpine:{letters}")
    make_image(host, layout, APP, "c")
    report = (await host.sweep()).report
    assert (report.status, counts(report)) == (hmret.SweepStatus.SUCCESS, (1, 0, 0, 0))
    host.state(APP, "c")


async def waited_for(host: Host, cause: str, folder: str) -> hmret.SweepReport:
    """Have a volume away for two sweeps, which wait for it and change nothing; returns what the one does that finds it again."""
    before = timers(host)
    unmount(host, folder)
    for _ in range(2):
        report = (await host.sweep()).report
        assert causes(report) == [(cause, folder)]
        assert f"hmret confirm {folder}" in report.suspended[0].detail
        assert counts(report) == (0, 0, 0, 0)
    assert timers(host) == before
    mount_again(host, folder)
    return (await host.sweep()).report


# Guests and snapshots.


@pytest.mark.parametrize("folder", FOLDERS)
async def test_guests_whose_volume_is_not_mounted_are_waited_for(
    host: Host, layout: str, folder: str
) -> None:
    await seen(host, layout, folder)
    host.state(ALPINE, "dd")
    report = await waited_for(host, "lost_references", folder)
    assert (report.status, counts(report)) == (hmret.SweepStatus.SUCCESS, (0, 0, 1, 1))
    assert report.protected_images == 2


@pytest.mark.parametrize("folder", FOLDERS)
async def test_guests_that_ended_while_the_clock_was_behind_are_waited_for_until_that_is_confirmed(
    host: Host, layout: str, clock: FakeClock, folder: str
) -> None:
    await seen(host, layout, folder)
    clock.wall_ns -= 120 * SECOND
    for letters in ("a", "b"):
        host.remove(f"{folder}/vm-{letters}")
    # Their folder is as old now as one below a mount point may be.
    clock.advance(timedelta(minutes=3))
    async with host.opened() as retention:
        report = await retention.sweep()
        assert causes(report) == [("lost_references", folder)]
        assert counts(report) == (0, 0, 0, 0)
        assert await retention.confirm(folder) == (folder,)
        report = await retention.sweep()
        assert (report.status, counts(report)) == (hmret.SweepStatus.SUCCESS, (2, 0, 0, 1))


@pytest.mark.parametrize("folder", FOLDERS)
async def test_guests_whose_end_is_seen_while_the_clock_is_behind_keep_nobody_waiting(
    host: Host, layout: str, clock: FakeClock, folder: str
) -> None:
    await seen(host, layout, folder)
    clock.wall_ns -= 120 * SECOND
    for letters in ("a", "b"):
        host.remove(f"{folder}/vm-{letters}")
    async with host.opened() as retention:
        for _ in range(2):
            assert causes(await retention.sweep()) == [("clock_jump", "")]
            clock.advance(timedelta(minutes=3))
        assert await retention.confirm() == ("clock",)
        report = await retention.sweep()
        assert (report.status, report.marked_unused) == (hmret.SweepStatus.SUCCESS, 2)


@pytest.mark.parametrize("folder", FOLDERS)
async def test_a_folder_of_guests_that_is_gone_is_waited_for(host: Host, layout: str, folder: str) -> None:
    await seen(host, layout, folder)
    host.remove(folder)
    assert causes((await host.sweep()).report) == [("lost_references", folder)]


@pytest.mark.parametrize("folder", FOLDERS)
async def test_one_engine_waits_as_one_that_is_started_again_does(
    host: Host, layout: str, folder: str
) -> None:
    await seen(host, layout, folder)
    async with host.opened() as retention:
        unmount(host, folder)
        assert causes(await retention.sweep()) == [("lost_references", folder)]
        mount_again(host, folder)
        assert counts(await retention.sweep()) == (0, 0, 0, 1)


async def test_what_an_upgrade_or_a_lost_cache_forgets_is_not_what_is_on_record(
    host: Host, layout: str, filesystem: MemoryFilesystem
) -> None:
    await seen(host, layout, "guests")
    unmount(host, "guests")
    for name in [path for path in filesystem.tree(OWN) if path.endswith(".snapshot")]:
        filesystem.remove(name)
    assert causes((await host.sweep()).report) == [("lost_references", "guests")]


async def test_new_guests_made_meanwhile_do_not_make_up_for_those_that_are_away(
    host: Host, layout: str
) -> None:
    await seen(host, layout, "guests")
    unmount(host, "guests")
    for number in range(5):
        make_user(host, "guests", f"new-{number}", "alpine:b")
    report = (await host.sweep()).report
    assert (causes(report), report.protected_images > 0) == ([("lost_references", "guests")], True)
    assert counts(report) == (0, 0, 0, 0)


async def test_a_timer_of_an_image_that_a_new_guest_needs_is_not_cleared_while_guests_are_away(
    host: Host, layout: str
) -> None:
    await seen(host, layout, "guests")
    unmount(host, "guests")
    make_user(host, "guests", "another", "ghcr.io/acme/app:c")
    before = timers(host)
    report = (await host.sweep()).report
    assert counts(report) == (0, 0, 0, 0)
    assert timers(host) == before != {}


async def test_a_move_to_another_disk_is_taken_over(
    host: Host, layout: str, filesystem: MemoryFilesystem
) -> None:
    await seen(host, layout, "guests")
    filesystem.move(f"{DATA}/guests", "/before")
    for letters in ("a", "b"):
        make_user(host, "guests", f"vm-{letters}", f"alpine:{letters}")
    assert (await host.sweep()).report.status is hmret.SweepStatus.SUCCESS
    unmount(host, "guests")
    assert causes((await host.sweep()).report) == [("lost_references", "guests")]


async def test_guests_that_end_one_after_the_other_are_an_ordinary_day(host: Host, layout: str) -> None:
    await seen(host, layout, "guests")
    for letters in ("a", "b"):
        host.remove(f"guests/vm-{letters}")
    report = (await host.sweep()).report
    assert (report.status, report.marked_unused) == (hmret.SweepStatus.SUCCESS, 2)


async def test_guests_that_end_with_a_reboot_keep_nobody_waiting(
    host: Host, layout: str, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    filesystem.remove(f"{DATA}/guests")
    filesystem.mount(f"{DATA}/guests")
    await seen(host, layout, "guests")
    inode = filesystem.inode(f"{DATA}/guests")
    assert inode is not None
    filesystem.remove(f"{DATA}/guests")
    clock.advance(timedelta(minutes=1))
    clock.boot_id = "second-boot"
    filesystem.mount(f"{DATA}/guests")  # which gives it another device number
    filesystem.set_inode(f"{DATA}/guests", inode)
    report = (await host.sweep()).report
    assert (report.status, report.marked_unused) == (hmret.SweepStatus.SUCCESS, 2)


async def test_empty_volumes_in_turn_are_told_apart_by_their_devices(
    host: Host, layout: str, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    filesystem.remove(f"{DATA}/guests")
    filesystem.mount(f"{DATA}/guests")
    await seen(host, layout, "guests")
    inode = filesystem.inode(f"{DATA}/guests")
    assert inode is not None
    for _ in range(2):
        filesystem.move(f"{DATA}/guests", f"/volume-{clock.wall_ns}")
        clock.advance(timedelta(minutes=1))
        filesystem.mount(f"{DATA}/guests")
        filesystem.set_inode(f"{DATA}/guests", inode)
        assert causes((await host.sweep()).report) == [("lost_references", "guests")]


async def test_a_volume_that_goes_between_the_plan_and_the_last_look_stops_the_sweep(
    host: Host, layout: str
) -> None:
    await seen(host, layout, "guests")
    threads = GatedThreads()
    async with host.opened(threads=threads) as retention:
        await retention.plan()
        gate = threads.hold("plan")
        reports = []
        with patiently():
            async with anyio.create_task_group() as tasks:

                async def sweep() -> None:
                    reports.append(await retention.sweep())

                tasks.start_soon(sweep)
                await gate.arrived.wait()
                unmount(host, "guests")
                gate.opened.set()
    assert causes(reports[0]) == [("lost_references", "guests")]
    assert reports[0].deleted_images == 0


async def test_a_plan_tells_what_is_lost_and_writes_nothing(
    host: Host, layout: str, filesystem: MemoryFilesystem
) -> None:
    await seen(host, layout, "guests")
    unmount(host, "guests")
    async with host.opened() as retention:
        before = filesystem.snapshot(DATA)
        plan = await retention.plan()
        assert [one.cause for one in plan.suspended] == [Cause.LOST_REFERENCES]
        assert (plan.summary.mark, plan.summary.delete, plan.summary.prune) == (0, 0, 0)
        assert filesystem.snapshot(DATA) == before


async def test_what_moved_tags_have_pointed_to_is_not_forgotten_while_guests_are_away(
    host: Host, filesystem: MemoryFilesystem
) -> None:
    host.legacy(ALPINE, "a")
    host.legacy_link(ALPINE, "latest", "a")
    make_user(host, "guests", "vm", "alpine")
    await host.sweep()
    host.legacy(ALPINE, "b")
    host.hypeman.legacy_link(ALPINE, "latest", "b")
    await host.sweep()
    remembered = json.loads(filesystem.read_file(f"{OWN}/references.json"))
    unmount(host, "guests")
    await host.sweep()
    assert json.loads(filesystem.read_file(f"{OWN}/references.json")) == remembered


async def test_an_image_is_marked_used_while_guests_are_away(host: Host, layout: str) -> None:
    await seen(host, layout, "guests")
    unmount(host, "guests")
    async with host.opened() as retention:
        assert (await retention.mark_used("ghcr.io/acme/app:c")).cleared


async def test_a_record_that_cannot_be_written_is_told_and_stops_nothing(
    host: Host, layout: str, filesystem: MemoryFilesystem
) -> None:
    await seen(host, layout, "guests")
    make_user(host, "guests", "new", "alpine:a")
    filesystem.write_file(f"{OWN}/folders.json.tmp", b"")
    filesystem.deny(f"{OWN}/folders.json.tmp", 28)
    report = (await host.sweep()).report
    assert [error.path for error in report.errors] == ["system/hmret/folders.json"]
    assert report.deleted_images == 1


# Images.


async def with_timers(host: Host, layout: str) -> None:
    for letters in ("a", "b", "c"):
        make_image(host, layout, ALPINE, letters)
        host.state(ALPINE, letters, timedelta(days=1))
    assert (await host.sweep()).report.status is hmret.SweepStatus.SUCCESS


PARTS = [
    ("legacy", "images"),
    ("content", "images"),
    ("content", "images/content"),
    ("content", "images/repositories"),
    ("legacy", "images/docker.io"),
]


@pytest.mark.parametrize(("layout", "part"), PARTS)
async def test_images_whose_volume_is_not_mounted_keep_their_timers(
    host: Host, layout: str, part: str
) -> None:
    await with_timers(host, layout)
    before = timers(host)
    report = await waited_for(host, "lost_images", part)
    assert (report.status, report.ready_images) == (hmret.SweepStatus.SUCCESS, 3)
    assert timers(host) == before


async def test_images_that_are_gone_with_their_folder_keep_their_timers(host: Host, layout: str) -> None:
    await with_timers(host, layout)
    before = timers(host)
    host.remove("images")
    assert causes((await host.sweep()).report) == [("lost_images", "images")]
    assert timers(host) == before


async def test_images_that_are_pulled_meanwhile_get_no_timer(host: Host, layout: str) -> None:
    await with_timers(host, layout)
    before = timers(host)
    unmount(host, "images")
    make_image(host, layout, APP, "d")
    report = (await host.sweep()).report
    assert (causes(report), report.ready_images) == ([("lost_images", "images")], 1)
    assert timers(host) == before


async def test_a_cache_on_another_disk_is_taken_over(
    host: Host, layout: str, filesystem: MemoryFilesystem
) -> None:
    await with_timers(host, layout)
    before = timers(host)
    filesystem.move(f"{DATA}/images", "/before")
    for letters in ("a", "b"):
        make_image(host, layout, ALPINE, letters)
    report = (await host.sweep()).report
    assert (report.status, report.pruned_states) == (hmret.SweepStatus.SUCCESS, 1)
    assert len(timers(host)) == len(before) - 1


async def test_a_registry_whose_images_hypeman_has_deleted_is_an_ordinary_day(
    host: Host, filesystem: MemoryFilesystem
) -> None:
    await with_timers(host, "legacy")
    make_image(host, "legacy", APP, "d")
    await host.sweep()
    filesystem.remove(f"{DATA}/images/docker.io")
    report = (await host.sweep()).report
    assert (report.status, report.pruned_states) == (hmret.SweepStatus.SUCCESS, 3)
    host.state(APP, "d")
    filesystem.remove(f"{DATA}/images/ghcr.io")
    make_image(host.hypeman, "legacy", APP, "e")
    report = (await host.sweep()).report
    assert (report.status, report.pruned_states) == (hmret.SweepStatus.SUCCESS, 1)


async def test_a_registry_on_a_volume_of_its_own_is_waited_for(
    host: Host, filesystem: MemoryFilesystem
) -> None:
    filesystem.mount(f"{DATA}/images/docker.io")
    await with_timers(host, "legacy")
    unmount(host, "images/docker.io")
    make_image(host, "legacy", ALPINE, "d")
    assert causes((await host.sweep()).report) == [("lost_images", "images/docker.io")]


# Confirming.


async def test_what_is_confirmed_is_right_from_then_on(host: Host, layout: str) -> None:
    await seen(host, layout, "guests")
    unmount(host, "guests")
    await host.sweep()
    async with host.opened() as retention:
        assert await retention.confirm() == ("guests",)
        report = await retention.sweep()
        assert (report.status, counts(report)) == (hmret.SweepStatus.SUCCESS, (2, 0, 0, 1))
        assert await retention.confirm() == ()
    assert (await host.sweep()).report.status is hmret.SweepStatus.SUCCESS


async def test_guests_that_are_confirmed_to_be_gone_with_their_folder_protect_nothing_after_a_restart(
    host: Host, layout: str
) -> None:
    await seen(host, layout, "guests")
    for folder in FOLDERS:
        host.remove(folder)
    async with host.opened() as retention:
        assert await retention.confirm() == ("guests",)
        report = await retention.sweep()
        assert (report.status, counts(report)) == (hmret.SweepStatus.SUCCESS, (2, 0, 0, 1))
        assert report.protected_images == 0


@pytest.mark.parametrize(("layout", "part"), PARTS)
async def test_images_that_are_confirmed_to_be_gone_lose_their_timers(
    host: Host, layout: str, part: str
) -> None:
    await with_timers(host, layout)
    unmount(host, part)
    async with host.opened() as retention:
        assert await retention.confirm(part) == (part,)
        report = await retention.sweep()
    # Without its tags, content still says whose it is.
    assert (report.status, report.pruned_states) == (
        hmret.SweepStatus.SUCCESS,
        0 if part.endswith("repositories") else 3,
    )


async def test_of_several_only_those_that_are_named_are_confirmed(host: Host, layout: str) -> None:
    await seen(host, layout, "guests")
    make_user(host, "snapshots", "snap", "alpine:a")
    await host.sweep()
    unmount(host, "guests")
    unmount(host, "snapshots", away="/snapshots-away")
    async with host.opened() as retention:
        with pytest.raises(ValueError, match="name those that are correct: guests snapshots"):
            await retention.confirm()
        assert await retention.confirm("guests") == ("guests",)
        assert causes(await retention.sweep()) == [("lost_references", "snapshots")]
        assert await retention.confirm("guests") == ()
        assert await retention.confirm(f"{DATA}/snapshots/") == ("snapshots",)
        assert (await retention.sweep()).status is hmret.SweepStatus.SUCCESS


@pytest.mark.parametrize("name", ["", "guest", "system", "../guests", "imagesx"])
async def test_what_can_never_be_lost_is_no_name(host: Host, name: str) -> None:
    async with host.opened() as retention:
        with pytest.raises(ValueError, match="expected one of guests, snapshots, images"):
            await retention.confirm(name)


async def test_a_volume_that_is_back_is_nothing_to_confirm(host: Host, layout: str) -> None:
    await seen(host, layout, "guests")
    async with host.opened() as retention:
        unmount(host, "guests")
        await retention.sweep()
        mount_again(host, "guests")
        assert await retention.confirm("guests") == ()
        unmount(host, "guests")
        assert causes(await retention.sweep()) == [("lost_references", "guests")]


async def test_what_cannot_be_put_on_record_is_not_confirmed(
    host: Host, layout: str, filesystem: MemoryFilesystem
) -> None:
    await seen(host, layout, "guests")
    unmount(host, "guests")
    filesystem.write_file(f"{OWN}/folders.json.tmp", b"")
    filesystem.deny(f"{OWN}/folders.json.tmp", 28)
    async with host.opened() as retention:
        with pytest.raises(OSError, match="No space"):
            await retention.confirm()
        assert causes(await retention.sweep()) == [("lost_references", "guests")]


async def test_a_clock_that_jumped_is_believed_once_it_is_confirmed(host: Host, clock: FakeClock) -> None:
    await host.sweep()
    clock.wall_ns += 3 * 3600 * SECOND
    async with host.opened() as retention:
        assert causes(await retention.sweep()) == [("clock_jump", "")]
        assert await retention.confirm("guests") == ()
        assert await retention.confirm("clock") == ("clock",)
        assert (await retention.sweep()).status is hmret.SweepStatus.SUCCESS
    assert (await host.sweep()).report.status is hmret.SweepStatus.SUCCESS
