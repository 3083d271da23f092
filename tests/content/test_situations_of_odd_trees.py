"""What is unfinished, half there or no image at all: kept, reported with a remedy, and in the way of nothing else."""

import errno
import json
import logging
from datetime import timedelta

import pytest

import hmret
from hmret import Cause, Reason, SweepStatus
from support.builders import DATA, FakeClock, digest
from support.content_trees import (
    CONTENT,
    FRESH,
    Host,
    content_path,
    hex_of,
    without,
)
from support.memory_filesystem import MemoryFilesystem

A = "docker.io/library/alpine"
B = "ghcr.io/kernel/base"
D, E = digest("d"), digest("e")
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


@pytest.fixture
def host(filesystem: MemoryFilesystem, clock: FakeClock) -> Host:
    return Host(filesystem, clock)


@pytest.fixture(autouse=True)
def log_what_matters(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="hmret")


def reported(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    """List what was logged of something."""
    return [record.getMessage() for record in caplog.records if text in record.getMessage()]


# Pulls and promotions.


async def test_an_older_image_is_not_ready_while_a_pull_of_its_digest_runs_and_is_judged_afterwards(
    host: Host, clock: FakeClock
) -> None:
    host.legacy(A, "d")
    host.legacy_link(A, "1", "d")
    cleared = host.state(A, "d")
    pull = host.hypeman
    path = pull.content("d", name=f"{B}:1", status="pulling", has_disk=False)
    pull.link(B, "1", "d")
    before = host.files()
    async with host.opened() as retention:
        swept = await host.sweep_by(retention)
        assert swept.reasons == {(A, D): Reason.NOT_READY, (B, D): Reason.NOT_READY}
        assert host.files() == without(before, cleared)
        clock.advance(MINUTE)
        pull.content("d", name=f"{B}:1")
        assert host.exists(f"{path}/rootfs.erofs")
        swept = await host.sweep_by(retention)
        assert swept.reasons == {(A, D): Reason.NEWLY_UNUSED, (B, D): Reason.NEWLY_UNUSED}


def make_promotion(host: Host, age: timedelta) -> tuple[str, str]:
    """Make what a promotion leaves that was cut off so long ago; returns the content and the timer."""
    legacy = host.legacy(A, "d")
    host.legacy_link(A, "1", "d")
    found = host.entries()[f"{legacy}/metadata.json"][1]
    assert isinstance(found, bytes)
    path = f"{content_path('d')}/metadata.json"
    host.write(path, json.dumps(json.loads(found) | {"status": "converting"}).encode())
    for changed in (path, content_path("d")):
        host.age_to(changed, age)
    return content_path("d"), host.state(A, "d")


@pytest.mark.parametrize("disk", ["none", "hard link"])
async def test_a_promotion_that_was_cut_off_stays_and_is_reported_with_the_remedy(
    host: Host, caplog: pytest.LogCaptureFixture, disk: str
) -> None:
    path, cleared = make_promotion(host, 2 * HOUR)
    if disk == "hard link":
        host.hard_link(f"images/{A}/{hex_of('d')}/rootfs.erofs", f"{path}/rootfs.erofs")
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.NOT_READY}
    detail = swept.verdicts[A, D].detail or ""
    assert path in detail
    assert "remove" in detail
    assert reported(caplog, path)
    assert host.files() == without(before, cleared)


async def test_a_promotion_that_may_still_run_is_not_called_cut_off(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    path, cleared = make_promotion(host, 5 * MINUTE)
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.NOT_READY}
    assert "remove" not in (swept.verdicts[A, D].detail or "")
    assert not reported(caplog, path)
    assert host.files() == without(before, cleared)


async def test_the_copy_into_which_an_older_server_pulls_makes_its_row_not_ready_beside_ready_content(
    host: Host,
) -> None:
    host.content("d", name=f"{A}:1")
    host.link(A, "1", "d")
    host.legacy(A, "d", status="pulling", has_disk=False)
    cleared = host.state(A, "d")
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.NOT_READY}
    assert host.files() == without(before, cleared)


# What is no whole image.


async def test_content_without_a_disk_is_broken_and_is_reported_with_the_remedy(host: Host) -> None:
    host.content("d", name=f"{A}:1", has_disk=False)
    host.link(A, "1", "d")
    cleared = host.state(A, "d")
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.BROKEN}
    assert "pull" in (swept.verdicts[A, D].detail or "")
    assert host.files() == without(before, cleared)


async def test_a_machine_image_has_no_disk_of_the_known_kind_and_is_left_alone(host: Host) -> None:
    machine = {"machine": {"kind": "base"}}
    host.content("d", name=f"{A}:1", has_disk=False, metadata=machine, files={"base.raw": b"disk"})
    host.link(A, "1", "d")
    cleared = host.state(A, "d")
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.BROKEN}
    assert host.files() == without(before, cleared)


async def test_folders_that_are_no_hosts_hold_no_images_whatever_lies_in_them(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.write(f"images/layers/{hex_of('a')}/artifact.erofs.json", b"{}")
    host.write(f"images/bases/{hex_of('b')}/base.raw", b"disk")
    host.legacy("whatever/library/app", "c")
    before = host.files()
    async with host.opened() as retention:
        for _ in range(2):
            swept = await host.sweep_by(retention)
            assert (swept.reasons, swept.deleted) == ({}, [])
    assert host.files() == before
    # One line names them all, and says so once.
    (line,) = reported(caplog, "whatever")
    assert "bases" in line


async def test_content_that_cannot_be_listed_suspends_deletion_and_costs_no_timer(
    host: Host, filesystem: MemoryFilesystem
) -> None:
    host.content("d")
    host.link(A, "1", "d")
    host.state(A, "d")
    host.legacy(B, "e")
    host.legacy_link(B, "1", "e")
    host.state(B, "e")
    before = host.files()
    filesystem.deny(f"{DATA}/{CONTENT}", errno.EIO, call="scandir")
    swept = await host.sweep()
    assert swept.report.status is SweepStatus.SUSPENDED
    assert {one.cause for one in swept.report.suspended} == {Cause.UNREADABLE_CACHE}
    assert any(one.path.endswith(CONTENT) for one in swept.report.suspended)
    assert (swept.report.pruned_states, swept.deleted) == (0, [])
    filesystem.allow(f"{DATA}/{CONTENT}")
    assert host.files() == before


# Layers.


async def test_an_image_that_needs_a_layer_that_is_gone_does_not_come_back_from_quarantine(
    host: Host, filesystem: MemoryFilesystem
) -> None:
    layers = [digest("1"), digest("2")]
    manifest = {
        "schema_version": 1,
        "digest": D,
        "rootfs_type": "fsmerge",
        "layers": [{"digest": layer, "size": 1, "diff_id": layer} for layer in layers],
    }
    host.content("d", name=f"{A}:1", files={"manifest.json": json.dumps(manifest).encode()})
    host.link(A, "1", "d")
    host.state(A, "d")
    for layer in "12":
        host.write(f"images/layers/{hex_of(layer)}/layer.erofs", b"data")
    before = host.files()
    async with host.opened(quarantine=timedelta(days=1)) as retention:
        assert (await host.sweep_by(retention)).deleted == [(A, D)]
        taken = f"{DATA}/images/layers/{hex_of('2')}"
        filesystem.move(taken, f"{DATA}/elsewhere")
        with pytest.raises((hmret.HmretError, OSError), match=hex_of("2")):
            await retention.restore(f"{A}@{D}")
        assert not host.exists(content_path("d"))
        assert [image.digest for image in retention.quarantined()] == [D]
        filesystem.move(f"{DATA}/elsewhere", taken)
        await retention.restore(f"{A}@{D}")
    after = host.files()
    assert {path: about for path, about in after.items() if path.startswith("images/")} == {
        path: about for path, about in before.items() if path.startswith("images/")
    } | {path: after[path] for path in after if path.endswith("/1")}


# What a tag call leaves of an image that was deleted under it.


def make_late_ghost(host: Host, letters: str) -> tuple[str, str]:
    """Have a tag call write the metadata that it read before the deletion."""
    server = host.hypeman
    return (
        server.content(letters, name=f"{A}:1", has_disk=False),
        server.link(A, "mine", letters),
    )


async def test_what_a_late_tag_call_leaves_of_a_deleted_image_is_taken_away_a_minute_later(
    host: Host, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    host.content("d", name=f"{A}:1")
    host.link(A, "1", "d")
    host.state(A, "d")
    async with host.opened() as retention:
        assert (await host.sweep_by(retention)).deleted == [(A, D)]
        clock.advance(MINUTE)
        ghost, tag = make_late_ghost(host, "d")
        await retention.sweep()
        assert host.exists(f"{ghost}/metadata.json")
        caplog.clear()
        clock.advance(MINUTE + timedelta(seconds=1))
        await retention.sweep()
        assert not host.exists(ghost)
        assert host.exists(tag)
        assert reported(caplog, hex_of("d"))
        assert host.trash() == []


@pytest.mark.parametrize("set_again", [False, True])
async def test_a_tag_that_the_deletion_left_for_its_sake_goes_with_it_and_one_that_was_set_since_stays(
    host: Host, clock: FakeClock, set_again: bool
) -> None:
    host.content("d", name=f"{A}:1")
    tag = host.link(A, "1", "d")
    host.state(A, "d")
    host.hard_link(tag, "kept")
    async with host.opened() as retention:
        assert (await host.sweep_by(retention)).deleted == [(A, D)]
        clock.advance(MINUTE)
        ghost, theirs = make_late_ghost(host, "d")
        # As if the tag call had written its metadata by the time the deletion came to the tags.
        if set_again:
            host.hypeman.link(A, "1", "d")
        else:
            host.hard_link("kept", tag)
        clock.advance(MINUTE + timedelta(seconds=1))
        await retention.sweep()
        assert not host.exists(ghost)
        assert host.exists(tag) == set_again
        assert host.exists(theirs)
        assert host.trash() == []


async def test_what_looks_like_it_but_was_never_deleted_here_stays(host: Host, clock: FakeClock) -> None:
    host.content("d", name=f"{A}:1")
    host.link(A, "1", "d")
    host.state(A, "d")
    async with host.opened() as retention:
        assert (await host.sweep_by(retention)).deleted == [(A, D)]
        clock.advance(MINUTE)
        make_late_ghost(host, "e")
        before = host.files()
        clock.advance(2 * MINUTE)
        swept = await host.sweep_by(retention)
        assert swept.reasons == {(A, E): Reason.BROKEN}
        assert host.files() == before


@pytest.mark.parametrize("why", ["a day has passed", "it has a disk", "deletion is suspended"])
async def test_what_a_late_tag_call_leaves_stays_where_it_is_not_certain_that_it_is_that(
    host: Host, clock: FakeClock, why: str
) -> None:
    host.content("d", name=f"{A}:1")
    host.link(A, "1", "d")
    host.state(A, "d")
    async with host.opened() as retention:
        assert (await host.sweep_by(retention)).deleted == [(A, D)]
        if why == "a day has passed":
            clock.advance(timedelta(days=1, hours=1))
        else:
            clock.advance(MINUTE)
        ghost, _ = make_late_ghost(host, "d")
        if why == "it has a disk":
            host.hypeman.content("d", name=f"{A}:1")
        if why == "deletion is suspended":
            host.hypeman.guest("No Reference")
        before = host.files()
        clock.advance(2 * MINUTE)
        await retention.sweep()
        assert host.files().items() >= before.items()
        assert host.exists(ghost)


async def test_what_a_late_tag_call_leaves_stays_while_retention_is_switched_off(
    host: Host, clock: FakeClock
) -> None:
    host.content("d", name=f"{A}:1")
    host.link(A, "1", "d")
    host.state(A, "d")
    assert (await host.sweep()).deleted == [(A, D)]
    clock.advance(MINUTE)
    make_late_ghost(host, "d")
    before = host.files()
    clock.advance(2 * MINUTE)
    async with host.opened(enabled=False) as retention:
        assert (await retention.sweep()).status is SweepStatus.DISABLED
    assert host.files() == before


async def test_an_image_that_is_ready_goes_however_much_beside_it_is_not(host: Host) -> None:
    gone = host.content("d", name=f"{A}:1"), host.link(A, "1", "d"), host.state(A, "d")
    host.content("e", status="pending", has_disk=False)
    host.state("docker.io/library/first-puller", "e", FRESH)
    host.folder(content_path("f"))
    host.write(f"{CONTENT}/not-hex/metadata.json", b"{}")
    before = host.files()
    swept = await host.sweep()
    assert swept.deleted == [(A, D)]
    cleared = f"system/image-retention/docker.io/library/first-puller/{hex_of('e')}.json"
    assert host.files() == without(before, *gone, cleared)
