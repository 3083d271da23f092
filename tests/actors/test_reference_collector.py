"""What needs an image: read from files again only where they changed, asked of an embedder's sources, and remembered."""

import errno
import json
import os
import random
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import anyio
import attrs
import pytest

from hmret.actors import reference_collector
from hmret.actors.reference_collector import Collected, ReferenceCollector, ReferenceSource
from hmret.disk.scans import checkpoints as cache_records
from hmret.model.errors import EngineClosedError
from hmret.model.images import Inventory, Remembered
from hmret.model.references import Key, Reference
from hmret.model.tag_history import put_together
from hmret.model.times import nanoseconds_of
from support.builders import (
    DATA,
    START,
    Asker,
    Ending,
    FakeClock,
    GatedThreads,
    data_fd_of,
    digest,
    end_while_queued,
    end_while_working,
    make_guest,
    make_image,
    make_snapshot,
    running,
    set_tag,
)
from support.memory_filesystem import Call, MemoryFilesystem
from support.patience import patiently

ALPINE = "docker.io/library/alpine"
KERNEL = "ghcr.io/kernel/x"
OWN = f"{DATA}/system/hmret"


@attrs.define(eq=False)
class FakeSource:
    """An embedder's source."""

    given: Iterable[Reference] = ()
    error: Exception | None = None
    hangs: bool = False
    asked: anyio.Event = attrs.field(factory=anyio.Event)

    async def references(self) -> Iterable[Reference]:
        self.asked.set()
        if self.hangs:
            await anyio.sleep_forever()
        if self.error is not None:
            raise self.error
        return self.given


@attrs.define(eq=False)
class World:
    """The disk and the threads that collectors are made on."""

    filesystem: MemoryFilesystem
    data_fd: int
    threads: GatedThreads
    clock: FakeClock

    def collector(self, *sources: ReferenceSource, read_files: bool = True) -> ReferenceCollector:
        return ReferenceCollector(
            self.filesystem,
            self.data_fd,
            self.threads,
            sources,
            read_files=read_files,
            boot_id=self.clock.boot_id,
        )

    def reads(self) -> list[str]:
        """Return the list to which every file that is opened is added, by its path."""
        opened: list[str] = []

        def note(call: Call) -> None:
            if call.name == "open" and call.path.endswith(".json"):
                opened.append(call.path.removeprefix(f"{DATA}/"))

        self.filesystem.before = note
        return opened


@pytest.fixture
def world(
    filesystem: MemoryFilesystem, data_fd: int, threads: GatedThreads, clock: FakeClock
) -> Iterator[World]:
    yield World(filesystem, data_fd, threads, clock)
    filesystem.before = None


def images_of(references: Iterable[Reference]) -> dict[str, str]:
    return {reference.source: reference.image for reference in references}


# Files.


async def test_guests_and_snapshots_are_collected(world: World) -> None:
    make_guest(world.filesystem, "one", "alpine")
    make_snapshot(world.filesystem, "two", "alpine:3.20")
    world.filesystem.make_folder(f"{DATA}/guests/being-made")
    async with running(world.collector()) as collector:
        collected = await collector.collect()
    assert images_of(collected.references) == {"instance/one": "alpine", "snapshot/two": "alpine:3.20"}
    assert collected.unreadable == ()


async def test_files_are_not_read_where_an_embedder_knows_better(world: World) -> None:
    make_guest(world.filesystem, "one", "alpine")
    source = FakeSource([Reference("vm/1", "busybox")])
    async with running(world.collector(source, read_files=False)) as collector:
        collected = await collector.collect()
    assert images_of(collected.references) == {"vm/1": "busybox"}


async def test_a_file_that_has_not_changed_is_not_read_again(world: World) -> None:
    path = make_guest(world.filesystem, "one", "alpine")
    world.clock.advance(timedelta(seconds=3))
    reads = world.reads()
    async with running(world.collector()) as collector:
        first = await collector.collect()
        assert path in reads
        reads.clear()
        second = await collector.collect()
    assert path not in reads
    assert first.references == second.references


async def test_a_file_that_has_changed_is_read_again(world: World) -> None:
    make_guest(world.filesystem, "one", "alpine")
    world.clock.advance(timedelta(seconds=3))
    async with running(world.collector()) as collector:
        await collector.collect()
        make_guest(world.filesystem, "one", "busybox")
        collected = await collector.collect()
    assert images_of(collected.references) == {"instance/one": "busybox"}


async def test_a_file_that_changed_within_two_seconds_is_read_again(world: World) -> None:
    path = make_guest(world.filesystem, "one", "alpine")
    world.clock.advance(timedelta(seconds=1))
    reads = world.reads()
    async with running(world.collector()) as collector:
        await collector.collect()
        reads.clear()
        await collector.collect()
    assert path in reads


async def test_a_change_that_its_time_stamp_does_not_show_is_seen(world: World) -> None:
    make_guest(world.filesystem, "one", "alpine:1")
    async with running(world.collector()) as collector:
        await collector.collect()
        make_guest(world.filesystem, "one", "alpine:2")  # as long, in the same instant
        collected = await collector.collect()
    assert images_of(collected.references) == {"instance/one": "alpine:2"}


async def test_a_guest_that_has_gone_is_no_reference(world: World) -> None:
    make_guest(world.filesystem, "one", "alpine")
    async with running(world.collector()) as collector:
        await collector.collect()
        world.filesystem.remove(f"{DATA}/guests/one")
        assert not (await collector.collect()).references


async def test_a_torn_file_is_read_again_until_it_is_whole(world: World) -> None:
    whole = make_guest(world.filesystem, "one", "alpine")
    content = world.filesystem.read_file(f"{DATA}/{whole}")
    world.filesystem.write_file(f"{DATA}/{whole}", content[:7])
    looks = [world.threads.hold("look_at_references") for _ in range(3)]
    asker = Asker()
    async with anyio.create_task_group() as tasks, running(world.collector()) as collector:
        tasks.start_soon(asker.ask, collector.collect)
        for look in looks:
            await look.arrived.wait()
            if look is looks[-1]:
                world.filesystem.write_file(f"{DATA}/{whole}", content)
            look.opened.set()
        while not asker.is_answered:
            await anyio.lowlevel.checkpoint()
    collected: Any = asker.answer
    assert images_of(collected.references) == {"instance/one": "alpine"}
    assert collected.unreadable == ()


async def test_a_file_that_stays_torn_is_unreadable_and_named(world: World) -> None:
    path = make_guest(world.filesystem, "one", "alpine")
    make_guest(world.filesystem, "two", "busybox")
    world.filesystem.write_file(f"{DATA}/{path}", b'{"Image": "alp')
    async with running(world.collector()) as collector:
        collected = await collector.collect()
    assert [name for name, _ in collected.unreadable] == [path]
    assert collected.unread_sources == {"instance/one"}
    assert images_of(collected.references) == {"instance/two": "busybox"}


# An embedder's sources.


async def test_sources_stand_beside_the_files(world: World) -> None:
    make_guest(world.filesystem, "one", "alpine")
    source = FakeSource(iter([Reference("vm/1", "busybox")]))
    async with running(world.collector(source)) as collector:
        collected = await collector.collect()
    assert images_of(collected.references) == {"instance/one": "alpine", "vm/1": "busybox"}


async def test_a_source_that_raises_is_unreadable_and_the_others_are_asked(world: World) -> None:
    broken = FakeSource(error=RuntimeError("no database"))
    sound = FakeSource([Reference("vm/1", "busybox")])
    async with running(world.collector(broken, sound)) as collector:
        collected = await collector.collect()
    assert collected.unreadable == (("FakeSource", "RuntimeError: no database"),)
    assert images_of(collected.references) == {"vm/1": "busybox"}


@pytest.mark.parametrize(
    "reference",
    [
        Reference("vm/1", "Not A Reference"),
        Reference("vm/1", resolved_image="Not A Reference"),
        Reference("vm/1", "alpine", created_at=datetime(2026, 1, 1)),  # noqa: DTZ001 - that is what is wrong
    ],
    ids=["image", "resolved image", "no time zone"],
)
async def test_a_source_that_gives_what_cannot_be_used_is_unreadable(
    world: World, reference: Reference
) -> None:
    async with running(world.collector(FakeSource([reference]))) as collector:
        collected = await collector.collect()
    (name, problem), *others = collected.unreadable
    assert not others
    assert name == "FakeSource"
    assert "vm/1" in problem
    assert not collected.references


# The memory.

MEMORY = {(ALPINE, "latest"): Remembered(frozenset({digest("a")}), frozenset({("instance/one", START)}))}


def kept(collected: Collected) -> Mapping[tuple[str, str], Remembered]:
    """Return what stays remembered of tags that nothing which could be read names."""
    inventory = Inventory({}, unread_sources=collected.unread_sources, remembered=collected.remembered)
    return put_together(inventory, ())


async def test_what_is_remembered_survives_a_restart(world: World) -> None:
    async with running(world.collector()) as collector:
        assert (await collector.collect()).remembered == {}
        await collector.remember(MEMORY)
    async with running(world.collector()) as collector:
        assert (await collector.collect()).remembered == MEMORY


async def test_what_has_not_changed_is_not_written_again(world: World) -> None:
    async with running(world.collector()) as collector:
        await collector.collect()
        await collector.remember(MEMORY)
        before = world.filesystem.snapshot()
        await collector.remember(dict(MEMORY))
    assert world.filesystem.snapshot() == before


async def test_what_could_not_be_written_is_known_and_written_the_next_time(world: World) -> None:
    world.filesystem.make_folder(OWN)
    world.filesystem.deny(OWN, errno.EROFS)
    async with running(world.collector()) as collector:
        await collector.collect()
        with pytest.raises(OSError, match="Read-only"):
            await collector.remember(MEMORY)
        assert (await collector.collect()).remembered == MEMORY
        world.filesystem.allow(OWN)
        await collector.remember(MEMORY)
    async with running(world.collector()) as collector:
        assert (await collector.collect()).remembered == MEMORY


async def test_a_slow_first_look_does_not_forget_what_was_remembered_meanwhile(world: World) -> None:
    gate = world.threads.hold("load_remembered")
    async with anyio.create_task_group() as tasks, running(world.collector()) as collector:
        asker = Asker()
        tasks.start_soon(asker.ask, collector.collect)
        await gate.arrived.wait()
        await collector.collect()
        await collector.remember(MEMORY)
        world.filesystem.remove(f"{OWN}/references.json")  # what the slow look reads is older than the memory
        gate.opened.set()
        while not asker.is_answered:
            await anyio.lowlevel.checkpoint()
        assert (await collector.collect()).remembered == MEMORY


async def test_the_memory_of_a_source_that_raises_is_kept(world: World) -> None:
    source = FakeSource(error=RuntimeError("no database"))
    async with running(world.collector(source)) as collector:
        await collector.collect()
        await collector.remember(MEMORY)
        assert kept(await collector.collect()) == MEMORY


async def test_the_memory_of_guests_that_cannot_be_listed_is_kept(world: World) -> None:
    make_guest(world.filesystem, "one", "alpine")
    async with running(world.collector()) as collector:
        await collector.collect()
        await collector.remember(MEMORY)
        world.filesystem.deny(f"{DATA}/guests", errno.EIO, call="scandir")
        assert kept(await collector.collect()) == MEMORY


async def test_the_memory_of_a_guest_that_has_gone_is_not_kept(world: World) -> None:
    async with running(world.collector()) as collector:
        await collector.collect()
        await collector.remember(MEMORY)
        collected = await collector.collect()
        assert collected.unread_sources == frozenset()
        assert kept(collected) == {}


# The look right before a deletion.

A: Key = (ALPINE, digest("a"))
B: Key = (ALPINE, digest("b"))
K: Key = (KERNEL, digest("a"))


async def protected(collector: ReferenceCollector, *keys: Key) -> frozenset[Key]:
    return (await collector.recheck(keys)).keys


async def test_what_is_referenced_by_digest_is_protected(world: World) -> None:
    make_guest(world.filesystem, "one", f"{ALPINE}@{A[1]}")
    make_snapshot(world.filesystem, "two", resolved_image=f"{KERNEL}@{K[1]}")
    async with running(world.collector()) as collector:
        assert await protected(collector, A, B, K) == {A, K}


async def test_what_a_tag_points_to_now_is_protected(world: World) -> None:
    make_image(world.filesystem, ALPINE, "a")
    make_image(world.filesystem, ALPINE, "b", tags=())
    make_guest(world.filesystem, "one", "alpine", resolved_image=f"{ALPINE}@{digest('c')}")
    async with running(world.collector()) as collector:
        assert await protected(collector, A, B) == {A}
        set_tag(world.filesystem, ALPINE, "latest", "b")
        assert await protected(collector, A, B) == {B}


async def test_what_guests_refer_to_is_known_anew_at_each_look(world: World) -> None:
    by_digest = f"{ALPINE}@{A[1]}"
    make_guest(world.filesystem, "one", f"{KERNEL}@{K[1]}")
    world.clock.advance(timedelta(minutes=1))
    async with running(world.collector()) as collector:
        assert await protected(collector, A, B, K) == {K}
        assert await protected(collector, A, B, K) == {K}
        make_guest(world.filesystem, "two", by_digest)
        assert await protected(collector, A, B, K) == {A, K}
        world.clock.advance(timedelta(minutes=1))
        assert await protected(collector, A, B, K) == {A, K}
        make_guest(world.filesystem, "one", f"{ALPINE}@{B[1]}")
        assert await protected(collector, A, B, K) == {A, B}
        world.clock.advance(timedelta(minutes=1))
        assert await protected(collector, A, B, K) == {A, B}
        world.filesystem.remove(f"{DATA}/guests/two")
        assert await protected(collector, A, B, K) == {B}


async def test_what_a_tag_has_pointed_to_is_protected(world: World) -> None:
    make_image(world.filesystem, ALPINE, "a", tags=())
    make_image(world.filesystem, ALPINE, "b")
    make_guest(world.filesystem, "one", "alpine", created_at=START)
    async with running(world.collector()) as collector:
        await collector.collect()
        await collector.remember(MEMORY)
        assert await protected(collector, A) == {A}


async def test_a_tag_that_is_absent_is_looked_for_again(world: World) -> None:
    make_image(world.filesystem, ALPINE, "a", tags=())
    make_guest(world.filesystem, "one", "alpine", resolved_image=f"{ALPINE}@{digest('c')}")
    looks = [world.threads.hold("find_protected") for _ in range(2)]
    asker = Asker()
    async with anyio.create_task_group() as tasks, running(world.collector()) as collector:
        tasks.start_soon(asker.ask, lambda: collector.recheck([A]))
        await looks[0].arrived.wait()
        looks[0].opened.set()
        await looks[1].arrived.wait()
        set_tag(world.filesystem, ALPINE, "latest", "a")
        looks[1].opened.set()
        while not asker.is_answered:
            await anyio.lowlevel.checkpoint()
    again: Any = asker.answer
    assert again.keys == {A}


@pytest.mark.parametrize(
    ("when", "created_at", "kept"),
    [
        ("after the scan", None, True),
        ("after the scan", START, True),
        ("before it", START + timedelta(seconds=1), True),
        ("before it", START + timedelta(minutes=15), True),
        ("before it", START + timedelta(minutes=15, seconds=1), False),
        ("before it", START, False),
        ("before it", None, False),
    ],
)
async def test_what_has_just_come_by_a_tag_that_stays_absent_may_run_from_any_image_of_its_repository(
    world: World, when: str, created_at: datetime | None, kept: bool
) -> None:
    make_image(world.filesystem, ALPINE, "a", tags=())
    make_image(world.filesystem, KERNEL, "k")
    async with running(world.collector()) as collector:
        if when == "before it":
            make_guest(world.filesystem, "one", "alpine", created_at=created_at)
        await collector.collect()
        if when == "after the scan":
            make_guest(world.filesystem, "one", "alpine", created_at=created_at)
        newcomer_ns = nanoseconds_of(START), nanoseconds_of(START + timedelta(minutes=15))
        again = await collector.recheck([A, K], newcomer_ns=newcomer_ns)
    assert again.keys == ({A} if kept else frozenset())


async def test_what_has_come_by_a_digest_and_a_tag_that_stays_absent_needs_that_digest_alone(
    world: World,
) -> None:
    make_image(world.filesystem, ALPINE, "a", tags=())
    make_image(world.filesystem, ALPINE, "b", tags=())
    async with running(world.collector()) as collector:
        await collector.collect()
        make_guest(world.filesystem, "one", "alpine", resolved_image=f"{ALPINE}@{B[1]}")
        assert await protected(collector, A, B) == {B}


async def test_content_that_a_newcomer_may_run_from_stays_for_all_its_owners(world: World) -> None:
    async with running(world.collector()) as collector:
        await collector.collect()
        make_guest(world.filesystem, "one", "alpine", created_at=START)
        other = KERNEL, A[1]
        again = await collector.recheck([other, K], {A[1]: ALPINE})
    assert again.keys == {other}


async def test_a_reference_that_cannot_be_read_is_told_by_the_last_look_too(world: World) -> None:
    path = make_guest(world.filesystem, "one", "alpine")
    world.filesystem.write_file(f"{DATA}/{path}", json.dumps({"Image": 7}).encode())
    async with running(world.collector()) as collector:
        again = await collector.recheck([A])
    assert [name for name, _ in again.unreadable] == [path]


# The end of the actor.


@pytest.mark.parametrize("ending", ["closed", "cancelled"])
async def test_the_end_answers_or_refuses_a_queued_request(world: World, ending: Ending) -> None:
    actor = world.collector()
    asker = await end_while_queued(actor, actor.collect, ending)
    assert asker.is_answered


@pytest.mark.parametrize("ending", ["closed", "cancelled"])
async def test_the_end_answers_or_refuses_a_request_being_worked_on(world: World, ending: Ending) -> None:
    actor = world.collector()
    gate = world.threads.hold("look_at_references")
    asker = await end_while_working(actor, actor.collect, ending, gate)
    assert asker.is_answered


@pytest.mark.parametrize("ending", ["closed", "cancelled"])
async def test_the_end_does_not_wait_for_a_source_that_hangs(world: World, ending: Ending) -> None:
    source = FakeSource(hangs=True)
    actor, asker = world.collector(source), Asker()
    with patiently():
        async with anyio.create_task_group() as tasks, anyio.create_task_group() as group:
            group.start_soon(actor.run)
            tasks.start_soon(asker.ask, actor.collect)
            await source.asked.wait()
            if ending == "closed":
                actor.close()
            else:
                group.cancel_scope.cancel()
    assert asker.is_refused


async def test_calls_after_the_end_are_refused(world: World) -> None:
    async with running(world.collector()) as actor:
        assert actor.waiting == 0
    with pytest.raises(EngineClosedError):
        await actor.collect()
    with pytest.raises(EngineClosedError):
        await actor.remember({})


# The record.


async def test_what_another_engine_of_this_boot_has_read_is_not_read_again(world: World) -> None:
    path = make_guest(world.filesystem, "one", "alpine")
    changed = make_guest(world.filesystem, "two", "alpine")
    world.clock.advance(timedelta(seconds=3))
    async with running(world.collector()) as collector:
        before = await collector.collect()
        await collector.save_cache()
    make_guest(world.filesystem, "two", "busybox")
    reads = world.reads()
    async with running(world.collector()) as collector:
        after = await collector.collect()
    assert path not in reads
    assert changed in reads
    assert images_of(before.references) == {"instance/one": "alpine", "instance/two": "alpine"}
    assert images_of(after.references) == {"instance/one": "alpine", "instance/two": "busybox"}


async def test_guests_are_read_again_whose_names_an_older_engine_did_not_put_on_record(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{DATA}/{make_guest(world.filesystem, 'one', 'alpine')}"
    world.filesystem.write_file(path, b'{"Name": "web-1", "Image": "alpine"}')
    world.clock.advance(timedelta(seconds=3))
    with monkeypatch.context() as older:
        older.setattr(cache_records, "_boot_frame", str.encode)
        async with running(world.collector()) as collector:
            await collector.collect()
            await collector.save_cache()
    reads = world.reads()
    async with running(world.collector()) as collector:
        assert (await collector.collect()).references.names == {"instance/one": "web-1"}
        await collector.save_cache()
    assert path.removeprefix(f"{DATA}/") in reads
    reads = world.reads()
    async with running(world.collector()) as collector:
        assert (await collector.collect()).references.names == {"instance/one": "web-1"}
    assert path.removeprefix(f"{DATA}/") not in reads


async def test_after_a_power_loss_guests_are_read_afresh_though_their_stamps_are_what_they_were(
    world: World,
) -> None:
    path = f"{DATA}/{make_guest(world.filesystem, 'one', 'alpine')}"
    old = world.filesystem.read_file(path)
    # In place and not forced to the disk, as hypeman writes it.
    fd = world.filesystem.open(path, os.O_WRONLY)
    world.filesystem.write(fd, old.replace(b"alpine", b"debian"))
    world.filesystem.close(fd)
    world.clock.advance(timedelta(seconds=3))
    async with running(world.collector()) as collector:
        assert images_of((await collector.collect()).references) == {"instance/one": "debian"}
        await collector.save_cache()
    record = world.filesystem.read_file(f"{OWN}/references.snapshot")
    disks = (world.filesystem.after_power_loss(random.Random(seed)) for seed in range(100))
    disk = next(disk for disk in disks if disk.read_file(path) == old)
    stamps = [filesystem.stat(path).st_ctime_ns for filesystem in (disk, world.filesystem)]
    assert stamps[0] == stamps[1]
    disk.write_file(f"{OWN}/references.snapshot", record)
    world.clock.boot_id = "second-boot"
    rebooted = attrs.evolve(world, filesystem=disk, data_fd=data_fd_of(disk))
    async with running(rebooted.collector()) as collector:
        assert images_of((await collector.collect()).references) == {"instance/one": "alpine"}
    disk.close(rebooted.data_fd)


@pytest.mark.parametrize("is_reboot", [True, False])
async def test_a_guest_whose_metadata_is_not_there_after_a_reboot_goes_on_protecting_what_it_named(
    world: World, is_reboot: bool
) -> None:
    path = f"{DATA}/{make_guest(world.filesystem, 'one', 'alpine')}"
    make_guest(world.filesystem, "gone", "busybox")
    content = world.filesystem.read_file(path)
    world.clock.advance(timedelta(seconds=3))
    async with running(world.collector()) as collector:
        await collector.collect()
        await collector.save_cache()
    # Its own volume is not mounted yet.
    world.filesystem.remove(path)
    world.filesystem.remove(f"{DATA}/guests/gone")
    if is_reboot:
        world.clock.boot_id = "second-boot"
    async with running(world.collector()) as collector:
        for _ in range(2):
            collected = await collector.collect()
            assert images_of(collected.references) == {"instance/one": "alpine"}
            assert collected.unreadable == ()
        await collector.save_cache()
    async with running(world.collector()) as collector:
        assert images_of((await collector.collect()).references) == {"instance/one": "alpine"}
        world.filesystem.write_file(path, content.replace(b"alpine", b"debian"))
        assert images_of((await collector.collect()).references) == {"instance/one": "debian"}


@pytest.mark.parametrize("is_reboot", [True, False])
@pytest.mark.parametrize("lanes", [1, 2])
async def test_a_guest_that_an_earlier_engine_could_no_longer_read_goes_on_protecting_what_it_named(
    world: World, is_reboot: bool, lanes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_collector, "_MANY", 1)
    world.threads.lanes = lanes
    path = f"{DATA}/{make_guest(world.filesystem, 'one', 'alpine')}"
    world.clock.advance(timedelta(seconds=3))
    async with running(world.collector()) as collector:
        await collector.collect()
        world.filesystem.write_file(path, b"{")
        assert len((await collector.collect()).unreadable) == 1
        await collector.save_cache()
    for _ in range(2):
        if is_reboot:
            world.clock.boot_id += "+"
        async with running(world.collector()) as collector:
            assert len((await collector.collect()).unreadable) == 1
            await collector.save_cache()
    world.filesystem.remove(path)
    async with running(world.collector()) as collector:
        collected = await collector.collect()
        assert images_of(collected.references) == {"instance/one": "alpine"}
        assert collected.unreadable == ()


@pytest.mark.parametrize("created_at", ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00Z", "soon"])
async def test_a_guest_of_an_odd_time_stops_no_record(world: World, created_at: str) -> None:
    content = json.dumps({"Image": "alpine", "CreatedAt": created_at}).encode()
    world.filesystem.write_file(f"{DATA}/guests/one/metadata.json", content)
    world.clock.advance(timedelta(seconds=3))
    async with running(world.collector()) as collector:
        before = await collector.collect()
        await collector.save_cache()
    reads = world.reads()
    async with running(world.collector()) as collector:
        after = await collector.collect()
    assert list(after.references) == list(before.references)
    assert "guests/one/metadata.json" not in reads
