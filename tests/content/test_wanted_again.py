"""Shared images that somebody comes to want after their deletion: put back before they are erased, unless their data has gone."""

import errno
import json
import os
from collections.abc import Callable, Mapping
from datetime import timedelta

import anyio
import pytest

from hmret.engine.retention import Retention
from support.builders import DATA, FakeClock, GatedThreads, digest, told
from support.content_trees import (
    TRASH,
    Host,
    content_path,
    hex_of,
    legacy_link_path,
    legacy_path,
    link_path,
    state_path,
)
from support.interruptions import disk_of, killed_when, when
from support.memory_filesystem import Call, MemoryFilesystem
from support.patience import patiently

A = "docker.io/library/alpine"
B = "ghcr.io/kernel/base"
C = "quay.io/tools/c"
D = digest("d")
CONTENT_D = content_path("d")
DAY = timedelta(days=1)
JOURNAL = "system/hmret/journal.jsonl"
LAYER = f"images/layers/{hex_of('1')}"
MERGED = {
    "manifest.json": json.dumps({"rootfs_type": "fsmerge", "layers": [{"digest": digest("1")}]}).encode()
}


@pytest.fixture
def host(filesystem: MemoryFilesystem, clock: FakeClock) -> Host:
    return Host(filesystem, clock)


def metadata_of(host: Host) -> bytes:
    """The metadata of the content, which a tag call writes once more when it has gone."""
    written = host.files()[f"{CONTENT_D}/metadata.json"][1]
    assert isinstance(written, bytes)
    return written


def make_unit(host: Host, files: Mapping[str, bytes] | None = None) -> None:
    """Make promoted content of two repositories, both due."""
    host.content("d", name=f"{A}:1", files=files)
    host.legacy(A, "d", linked=True, files=files)
    for repository in (A, B):
        host.link(repository, "1", "d")
        host.state(repository, "d")


def events(host: Host, name: str) -> list[tuple[str, str]]:
    """List the journal's lines of an event, each with its image and reason."""
    found = host.entries().get(JOURNAL)
    lines = str(found[1], "utf-8").splitlines() if found and isinstance(found[1], bytes) else []
    entries = [json.loads(line) for line in lines]
    return [(entry.get("image", ""), entry.get("reason", "")) for entry in entries if entry["event"] == name]


def is_back(host: Host) -> bool:
    """Return whether all of the unit is in its place."""
    return all(
        host.exists(path)
        for path in (
            f"{CONTENT_D}/metadata.json",
            f"{CONTENT_D}/rootfs.erofs",
            f"{legacy_path(A, 'd')}/metadata.json",
            f"{legacy_path(A, 'd')}/rootfs.erofs",
            link_path(A, "1"),
            link_path(B, "1"),
        )
    )


# In quarantine.


async def test_what_is_tagged_while_it_is_in_quarantine_is_put_back_when_it_was_to_be_erased(
    host: Host, clock: FakeClock
) -> None:
    make_unit(host)
    async with host.opened(quarantine=DAY) as retention:
        assert len((await host.sweep_by(retention)).deleted) == 2
        host.hypeman.link(C, "mine", "d")
        clock.advance(DAY - timedelta(minutes=1))
        await retention.sweep()
        assert not is_back(host)
        clock.advance(timedelta(minutes=1))
        report = await retention.sweep()
        assert (report.released_images, report.released_bytes) == (0, 0)
        assert retention.quarantined() == ()
        assert is_back(host)
        assert host.exists(link_path(C, "mine"))
        assert not any(host.exists(state_path(name, "d")) for name in (A, B, C))
        assert host.trash() == []
        assert events(host, "recover") == [(f"{A}@{D}", "wanted"), (f"{B}@{D}", "wanted")]
        assert (await host.sweep_by(retention)).report.marked_unused == 3


@pytest.mark.parametrize("is_linked", [False, True], ids=["without a tag", "with a tag"])
async def test_what_an_older_server_has_pulled_for_one_owner_meanwhile_is_put_back_when_it_was_to_be_erased(
    host: Host, clock: FakeClock, is_linked: bool
) -> None:
    """Its folder hides nothing of today's layout: a later server would look for the content first."""
    make_unit(host)
    async with host.opened(quarantine=DAY) as retention:
        assert len((await host.sweep_by(retention)).deleted) == 2
        host.legacy(B, "d")
        if is_linked:
            host.legacy_link(B, "2", "d")
        pulled = host.files()[f"{legacy_path(B, 'd')}/metadata.json"]
        clock.advance(DAY)
        report = await retention.sweep()
        assert (report.released_images, report.released_bytes) == (0, 0)
        assert retention.quarantined() == ()
    assert is_back(host)
    assert host.files()[f"{legacy_path(B, 'd')}/metadata.json"] == pulled
    assert events(host, "recover") == [(f"{A}@{D}", "wanted"), (f"{B}@{D}", "wanted")]


async def test_an_older_folder_whose_promotion_was_cut_off_by_its_deletion_is_put_back_when_it_was_to_be_erased(
    host: Host, clock: FakeClock
) -> None:
    host.legacy(A, "d")
    host.legacy_link(A, "1", "d")
    host.state(A, "d")
    own = legacy_path(A, "d")
    written = host.files()[f"{own}/metadata.json"][1]
    assert isinstance(written, bytes)
    async with host.opened(quarantine=DAY) as retention:
        assert len((await host.sweep_by(retention)).deleted) == 1
        # A server of August had read it, and found no disk to link.
        unfinished = written.replace(b'"ready"', b'"converting"')
        assert unfinished != written
        host.hypeman.write(f"{CONTENT_D}/metadata.json", unfinished)
        clock.advance(DAY)
        assert (await retention.sweep()).released_images == 0
    assert host.exists(f"{own}/metadata.json")
    assert host.exists(f"{own}/rootfs.erofs")
    assert events(host, "recover") == [(f"{A}@{D}", "wanted")]


async def test_what_is_restored_while_it_is_looked_whether_it_is_wanted_is_not_erased(
    host: Host, clock: FakeClock
) -> None:
    make_unit(host)
    threads = GatedThreads()
    async with host.opened(quarantine=DAY, threads=threads) as retention:
        await host.sweep_by(retention)
        clock.advance(DAY)
        released: list[int] = []

        async def sweep() -> None:
            released.append((await retention.sweep()).released_images)

        # That look is the first thing that this sweep asks of the deleter, since nothing is due.
        gate = threads.hold("_find_held_wanted")
        with patiently():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sweep)
                await gate.arrived.wait()
                await retention.restore(f"{A}@{D}")
                gate.opened.set()
        assert released == [0]
        assert is_back(host)
        assert host.trash() == []


async def test_what_is_restored_while_it_is_put_back_comes_back_once(host: Host, clock: FakeClock) -> None:
    make_unit(host)
    threads = GatedThreads()
    async with host.opened(quarantine=DAY, threads=threads) as retention:
        await host.sweep_by(retention)
        host.hypeman.link(C, "mine", "d")
        clock.advance(DAY)
        gate = threads.hold("_bring_back")
        with patiently():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(retention.sweep)
                await gate.arrived.wait()
                with pytest.raises(LookupError):
                    await restore(retention)
                gate.opened.set()
        assert is_back(host)
        assert (host.trash(), retention.quarantined()) == ([], ())


async def restore(retention: Retention) -> None:
    await retention.restore(f"{A}@{D}")


async def test_what_cannot_be_put_back_stays_in_quarantine_until_it_can(
    host: Host, clock: FakeClock, filesystem: MemoryFilesystem
) -> None:
    make_unit(host)
    async with host.opened(quarantine=DAY) as retention:
        await host.sweep_by(retention)
        host.hypeman.link(C, "mine", "d")
        clock.advance(DAY)
        filesystem.before = refuse_renames_to(CONTENT_D)
        report = await retention.sweep()
        filesystem.before = None
        assert (report.status, report.released_images) == ("partial", 0)
        assert not host.exists(CONTENT_D)
        assert {one.repository for one in retention.quarantined()} == {A, B}
        clock.advance(timedelta(minutes=1))
        assert (await retention.sweep()).status == "success"
        assert is_back(host)


def refuse_renames_to(path: str) -> Callable[[Call], None]:
    def refuse(call: Call) -> None:
        if call.name == "rename" and call.path.endswith(f"-> {DATA}/{path}"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    return refuse


# Before the bytes of a batch are freed.


async def test_what_cannot_be_put_back_before_it_is_erased_waits_for_the_next_sweep(
    host: Host, clock: FakeClock, filesystem: MemoryFilesystem
) -> None:
    make_unit(host)

    def tag_and_refuse() -> None:
        host.hypeman.link(C, "mine", "d")
        filesystem.before = refuse_renames_to(CONTENT_D)

    async with host.opened() as retention:
        interruption = when(host, lambda: not host.exists(CONTENT_D), tag_and_refuse)
        swept = await host.sweep_by(retention)
        filesystem.before = None
        assert interruption.has_happened
        assert swept.report.status == "partial"
        assert not host.exists(CONTENT_D)
        assert host.trash() != []
        clock.advance(timedelta(minutes=1))
        assert (await retention.sweep()).status == "success"
        assert is_back(host)
        assert host.trash() == []


# An image whose data lies in layers that hypeman has collected.


@pytest.mark.parametrize("moment", ["before it is erased", "in quarantine", "after a crash"])
async def test_what_is_wanted_and_has_lost_a_layer_stays_out_and_is_reported(
    host: Host, clock: FakeClock, caplog: pytest.LogCaptureFixture, moment: str
) -> None:
    make_unit(host, MERGED)
    host.write(f"{LAYER}/layer.erofs", b"data")

    def collect_and_tag(host: Host) -> None:
        host.remove(LAYER)
        host.hypeman.link(C, "mine", "d")

    if moment == "after a crash":
        host = await killed_when(host, lambda: not host.exists(CONTENT_D))
        collect_and_tag(host)
        await host.recover()
        (fault,) = told(caplog, "recovery_failed")
    elif moment == "in quarantine":
        async with host.opened(quarantine=DAY) as retention:
            await host.sweep_by(retention)
            collect_and_tag(host)
            clock.advance(DAY)
            report = await retention.sweep()
            assert report.released_images == 2
        (fault,) = told(caplog, "not_put_back")
    else:
        when(host, lambda: not host.exists(CONTENT_D), lambda: collect_and_tag(host))
        swept = await host.sweep()
        assert [error.path for error in swept.report.errors] == [LAYER]
        (fault,) = told(caplog, "not_put_back")
    assert fault["error"] == f"its layer {hex_of('1')} has gone, so it cannot be brought back"
    assert not host.exists(CONTENT_D)
    assert not host.exists(legacy_path(A, "d"))
    assert host.exists(link_path(C, "mine"))
    assert host.trash() == []


@pytest.mark.parametrize("arrival", ["an opener", "a ghost"])
async def test_what_has_lost_a_layer_is_not_put_back_right_after_its_rename_either(
    host: Host, filesystem: MemoryFilesystem, caplog: pytest.LogCaptureFixture, arrival: str
) -> None:
    make_unit(host, MERGED)
    host.write(f"{LAYER}/layer.erofs", b"data")
    metadata = metadata_of(host)

    def come() -> None:
        host.remove(LAYER)
        if arrival == "a ghost":
            host.hypeman.write(f"{CONTENT_D}/metadata.json", metadata)
        else:
            (disk,) = [path for path in host.trash() if path.endswith(".1/rootfs.erofs")]
            filesystem.begin_open(f"{DATA}/{disk}")

    interruption = when(host, lambda: not host.exists(CONTENT_D), come)
    swept = await host.sweep()
    assert interruption.has_happened
    assert [error.error for error in swept.report.errors] == [
        f"its layer {hex_of('1')} has gone, so it cannot be brought back"
    ]
    assert len(told(caplog, "not_put_back")) == 1
    assert not host.exists(f"{CONTENT_D}/rootfs.erofs")
    assert host.trash() == []


async def test_with_all_its_layers_it_is_put_back(host: Host) -> None:
    make_unit(host, MERGED)
    host.write(f"{LAYER}/layer.erofs", b"data")
    when(host, lambda: not host.exists(CONTENT_D), lambda: host.hypeman.link(C, "mine", "d"))
    swept = await host.sweep()
    assert (swept.deleted, swept.report.errors) == ([], ())
    assert is_back(host)
    assert host.trash() == []


# A ghost.


async def test_a_ghost_gets_every_file_of_the_image_back(host: Host) -> None:
    """Its manifest, and what a later release adds; its metadata is that of the tag call."""
    files = {"manifest.json": b"{}", "sbom.json": b"{}"}
    make_unit(host, files)
    written = metadata_of(host)
    tagged = written.replace(b'"linux/amd64"', b'"linux/amd64", "tags": {"a": "b"}')

    def tag() -> None:
        host.hypeman.link(A, "mine", "d")
        host.hypeman.write(f"{CONTENT_D}/metadata.json", tagged)

    when(host, lambda: not host.exists(CONTENT_D), tag)
    await host.sweep()
    assert is_back(host)
    after = host.files()
    assert {name: after[f"{CONTENT_D}/{name}"][1] for name in files} == files
    assert after[f"{CONTENT_D}/metadata.json"][1] == tagged
    assert [path for path in host.entries() if path.startswith(f"{TRASH}/")] == []


async def test_a_ghost_gets_no_disk_before_its_manifest(host: Host) -> None:
    """A disk without its manifest would need no layers, as far as hypeman and hmret can tell."""
    files = {"manifest.json": b"{}"}
    make_unit(host, files)
    written = metadata_of(host)
    memory, failures = disk_of(host), 0

    def fail(call: Call) -> None:
        nonlocal failures
        if call.name == "rename" and call.path.endswith("/manifest.json"):
            failures += 1
            raise OSError(errno.EIO, "Input/output error")

    def tag() -> None:
        host.hypeman.link(A, "mine", "d")
        host.hypeman.write(f"{CONTENT_D}/metadata.json", written)
        memory.before = fail

    when(host, lambda: not host.exists(CONTENT_D), tag)
    await host.sweep()
    assert failures > 0
    assert not host.exists(f"{CONTENT_D}/rootfs.erofs")
    in_trash = [path.rpartition("/")[2] for path in host.entries() if path.startswith(f"{TRASH}/")]
    assert {"rootfs.erofs", "manifest.json"} <= {*in_trash}
    memory.before = None
    # The next start has it whole.
    await host.sweep()
    assert is_back(host)
    assert host.files()[f"{CONTENT_D}/manifest.json"][1] == b"{}"
    assert [path for path in host.entries() if path.startswith(f"{TRASH}/")] == []


async def test_a_disk_that_a_pull_brings_before_the_ghost_is_mended_is_not_replaced(host: Host) -> None:
    make_unit(host)
    written = metadata_of(host)
    disk, memory = f"{CONTENT_D}/rootfs.erofs", disk_of(host)

    def pull(call: Call) -> None:
        # Right before the ghost's folder is looked through for disks.
        if call.name == "stat" and call.path.startswith(f"{DATA}/{TRASH}/") and "/rootfs" in call.path:
            memory.before = None
            host.hypeman.write(disk, b"of a pull")

    def tag() -> None:
        host.hypeman.link(A, "mine", "d")
        host.hypeman.write(f"{CONTENT_D}/metadata.json", written)
        memory.before = pull

    when(host, lambda: not host.exists(CONTENT_D), tag)
    await host.sweep()
    assert memory.before is None  # the pull has come
    assert host.files()[disk][1] == b"of a pull"
    assert host.exists(f"{CONTENT_D}/metadata.json")
    assert [path for path in host.entries() if path.startswith(f"{TRASH}/")] == []


# Folders that others have of the digest go after the content, and their tags with them.


def make_twice(host: Host) -> None:
    """Make content of one repository, and a folder that another has for itself, of one digest; both due."""
    host.content("d", name=f"{B}:1")
    host.link(B, "1", "d")
    host.legacy(A, "d")
    host.legacy_link(A, "1", "d")
    for repository in (A, B):
        host.state(repository, "d")


@pytest.mark.parametrize(
    "moment", ["before it is erased", "after a crash", "while it is erased, then a crash"]
)
@pytest.mark.parametrize("arrival", ["a tag", "a ghost"])
async def test_content_that_is_back_has_the_tags_of_folders_that_went_after_it(
    host: Host, moment: str, arrival: str
) -> None:
    make_twice(host)
    metadata = metadata_of(host)

    def come(host: Host) -> None:
        host.hypeman.link(C, "mine", "d")
        if arrival == "a ghost":
            host.hypeman.write(f"{CONTENT_D}/metadata.json", metadata)

    def is_untied() -> bool:
        return not any(host.exists(path) for path in (CONTENT_D, link_path(B, "1"), legacy_link_path(A, "1")))

    def is_being_erased() -> bool:
        return is_untied() and not any(path.endswith(".0/metadata.json") for path in host.trash())

    if moment == "before it is erased":
        interruption = when(host, is_untied, lambda: come(host))
        await host.sweep()
        assert interruption.has_happened
    else:
        condition = is_untied if moment == "after a crash" else is_being_erased
        host = await killed_when(host, condition)
        come(host)
        await host.recover()
    is_erased = moment.startswith("while") and arrival == "a tag"
    # What was being erased has no metadata any more, and a tag brings none.
    assert host.exists(f"{CONTENT_D}/rootfs.erofs") == (not is_erased)
    assert host.exists(legacy_link_path(A, "1")) == (not is_erased)
    assert host.exists(link_path(B, "1")) == (not is_erased)
    assert not host.exists(legacy_path(A, "d"))
    assert host.trash() == []


# A ghost that comes when nothing is left to heal it with.


async def test_a_ghost_of_what_was_erased_when_all_ended_is_taken_away_by_a_later_sweep(
    host: Host, clock: FakeClock
) -> None:
    """Its deletion is in the journal only since that start."""
    make_unit(host)
    metadata = metadata_of(host)
    was_there: list[bool] = []

    def is_erased() -> bool:
        was_there.append(any(path.endswith("/rootfs.erofs") for path in host.trash()))
        return any(was_there) and not any(path.count("/") > 3 for path in host.trash())

    dead = await killed_when(host, is_erased)
    dead.hypeman.link(A, "mine", "d")
    dead.hypeman.write(f"{CONTENT_D}/metadata.json", metadata)
    clock.advance(timedelta(minutes=5))
    async with dead.opened() as retention:
        await retention.sweep()
        assert not dead.exists(CONTENT_D)
        assert dead.exists(link_path(A, "mine"))
        assert dead.trash() == []
