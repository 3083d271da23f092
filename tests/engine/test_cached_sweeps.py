"""Sweeps that rest on what earlier ones have read: nothing is deleted by it, and nothing stays wrong for long."""

import copy
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import attrs
import pytest

import hmret
from hmret.disk.layout import OWN
from hmret.engine.opening import open_engine
from hmret.engine.opening_inspection import open_inspection
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.model.references import Key, Reference
from hmret.model.times import SECOND, format_time
from support.builders import (
    DATA,
    START_NS,
    FakeClock,
    GatedThreads,
    digest,
    has_image,
    make_config,
    make_guest,
    make_image,
    make_state,
    set_tag,
    settle,
    state_of,
)
from support.memory_filesystem import Call, MemoryFilesystem
from support.patience import patiently

ALPINE, KERNEL = "docker.io/library/alpine", "ghcr.io/kernel/x"
A: Key = (ALPINE, digest("a"))
FOLDER = f"{DATA}/images/{ALPINE}/{'a' * 64}"
STATE = f"{DATA}/system/image-retention/{ALPINE}/{'a' * 64}.json"
WINDOW_NS = 30 * 86_400 * SECOND
DUE_IN = timedelta(hours=1)
RECORDS = (f"{DATA}/{OWN}/images.snapshot", f"{DATA}/{OWN}/states.snapshot")


@attrs.define(eq=False)
class Source:
    given: Iterable[Reference] = ()

    async def references(self) -> Iterable[Reference]:
        # Equal ones, and never the same objects.
        return [copy.copy(reference) for reference in self.given]


@attrs.define(eq=False)
class World:
    filesystem: MemoryFilesystem
    clock: FakeClock
    platform: Platform
    source: Source = attrs.field(factory=Source)

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[Retention]:
        async with open_engine(
            make_config(self.filesystem), self.platform, sources=(self.source,), scheduled=False
        ) as retention:
            yield retention

    def opened(self) -> list[str]:
        """Return the list to which all that is opened below `images/` or the states is added."""
        paths: list[str] = []

        def note(call: Call) -> None:
            if call.name == "open" and (ALPINE in call.path or KERNEL in call.path):
                paths.append(call.path)

        self.filesystem.before = note
        return paths


@pytest.fixture
def world(filesystem: MemoryFilesystem, clock: FakeClock, platform: Platform) -> World:
    """A cache with an image that is due in an hour, and others that are not."""
    make_image(filesystem, ALPINE, "a")
    make_image(filesystem, ALPINE, "b", tags=())
    make_image(filesystem, KERNEL, "c")
    make_guest(filesystem, "vm", KERNEL)
    make_state(filesystem, A, START_NS - WINDOW_NS + int(DUE_IN.total_seconds()) * SECOND)
    clock.advance(timedelta(seconds=10))
    return World(filesystem, clock, platform)


def change_metadata(world: World, **fields: str) -> None:
    """Write metadata in place, which no folder shows."""
    path = f"{FOLDER}/metadata.json"
    world.filesystem.write_file(
        path, json.dumps({**json.loads(world.filesystem.read_file(path)), **fields}).encode()
    )


def replace_disk(world: World) -> None:
    world.filesystem.remove(f"{FOLDER}/rootfs.ext4")
    world.filesystem.make_link(f"{FOLDER}/rootfs.ext4", "/etc/passwd")


def start_anew(world: World) -> None:
    content = {"repository": A[0], "digest": A[1], "unused_since": format_time(world.clock.now_ns())}
    world.filesystem.write_file(STATE, json.dumps(content).encode())


def point_guest_to(world: World) -> None:
    make_guest(world.filesystem, "vm", "alpine:v1")
    set_tag(world.filesystem, ALPINE, "v1", "a")


CHANGES: dict[str, tuple[Callable[[World], object], str]] = {
    "metadata not ready": (lambda world: change_metadata(world, status="pulling"), "not_ready"),
    "metadata of another digest": (lambda world: change_metadata(world, digest=digest("e")), "broken"),
    "metadata of another repository": (
        lambda world: change_metadata(world, name=f"{KERNEL}:latest"),
        "broken",
    ),
    "metadata torn": (lambda world: world.filesystem.write_file(f"{FOLDER}/metadata.json", b"{"), "broken"),
    "metadata gone": (lambda world: world.filesystem.remove(f"{FOLDER}/metadata.json"), "broken"),
    "disk gone": (lambda world: world.filesystem.remove(f"{FOLDER}/rootfs.ext4"), "broken"),
    "disk a link": (replace_disk, "broken"),
    "timer started anew in place": (start_anew, "retention_window"),
    "timer torn in place": (lambda world: world.filesystem.write_file(STATE, b"{"), "newly_unused"),
    "timer cleared": (lambda world: world.filesystem.remove(STATE), "newly_unused"),
    "guest written in place": (lambda world: make_guest(world.filesystem, "vm", "alpine"), "referenced"),
    "guest made": (lambda world: make_guest(world.filesystem, "new", f"alpine@{A[1]}"), "referenced"),
    "tag of a guest moved to it": (point_guest_to, "referenced"),
    "embedder's reference": (
        lambda world: setattr(world.source, "given", (Reference("pool", f"alpine@{A[1]}"),)),
        "referenced",
    ),
}


@pytest.mark.parametrize("restarts", [False, True], ids=["one engine", "two engines"])
@pytest.mark.parametrize("change", CHANGES)
async def test_what_no_folder_shows_keeps_an_image_that_is_due(
    world: World, change: str, restarts: bool
) -> None:
    happen, reason = CHANGES[change]
    async with world.engine() as retention:
        await retention.sweep()
        world.clock.advance(timedelta(minutes=30))
        await retention.sweep()
        if not restarts:
            await change_and_sweep(world, retention, happen, reason)
    if restarts:
        async with world.engine() as retention:
            await change_and_sweep(world, retention, happen, reason)


async def change_and_sweep(
    world: World, retention: Retention, happen: Callable[[World], object], reason: str
) -> None:
    happen(world)
    world.clock.advance(timedelta(minutes=40))
    report = await retention.sweep()
    assert report.deleted_images == 0
    assert has_image(world.filesystem, A)
    verdict = (await retention.plan()).verdict(*A)
    assert verdict is not None
    # What the last look has contradicted is told rightly by the next plan.
    expected = {reason, "retention_window"} if reason == "newly_unused" else {reason}
    assert verdict.reason in expected


@pytest.mark.parametrize("restarts", [False, True], ids=["one engine", "two engines"])
async def test_what_is_due_goes_though_nothing_was_read_again(world: World, restarts: bool) -> None:
    async with world.engine() as retention:
        await retention.sweep()
        world.clock.advance(timedelta(minutes=30))
        await retention.sweep()
        opened = world.opened()
        await retention.sweep()
        world.filesystem.before = None
        assert opened == []
        world.clock.advance(timedelta(minutes=40))
        if not restarts:
            assert [one.digest for one in (await retention.sweep()).deleted] == [A[1]]
    if restarts:
        async with world.engine() as retention:
            assert [one.digest for one in (await retention.sweep()).deleted] == [A[1]]
    assert not has_image(world.filesystem, A)
    assert state_of(world.filesystem, A) is None


async def test_a_fresh_pull_into_the_same_place_starts_a_timer_of_its_own(world: World) -> None:
    async with world.engine() as retention:
        await retention.sweep()
        world.clock.advance(timedelta(minutes=70))
        assert (await retention.sweep()).deleted_images == 1
        make_image(world.filesystem, ALPINE, "a")
        for _ in range(3):
            report = await retention.sweep()
            assert report.deleted_images == 0
            world.clock.advance(timedelta(minutes=1))
        assert has_image(world.filesystem, A)


async def test_an_embedders_reference_that_comes_and_goes_counts_while_it_is_there(world: World) -> None:
    async with world.engine() as retention:
        world.source.given = (Reference("pool", "alpine"), Reference("pool", "alpine"))
        for _ in range(2):
            await retention.sweep()
            verdict = await retention.explain("alpine")
            assert verdict.referenced_by == ("pool",)
        assert state_of(world.filesystem, A) is None
        world.source.given = (Reference("other", "alpine"),)
        assert (await retention.explain("alpine")).referenced_by == ("other",)
        world.source.given = ()
        await retention.sweep()
        assert (await retention.explain("alpine")).reason is hmret.Reason.RETENTION_WINDOW


async def test_a_dry_run_writes_no_record_and_changes_none(world: World) -> None:
    filesystem, config = world.filesystem, make_config(world.filesystem)
    async with open_inspection(config, world.platform) as inspection:
        await inspection.plan()
    assert not any(map(filesystem.exists, RECORDS))
    async with world.engine() as retention:
        await retention.sweep()
    assert all(map(filesystem.exists, RECORDS))
    make_image(filesystem, ALPINE, "e")
    world.clock.advance(timedelta(minutes=1))
    before = filesystem.snapshot()
    async with open_inspection(config, world.platform) as inspection:
        assert (await inspection.plan()).verdict(ALPINE, digest("e")) is not None
        world.clock.advance(timedelta(hours=5))
        await inspection.plan()
    assert filesystem.snapshot() == before


async def test_an_engine_that_is_switched_off_writes_no_record(world: World) -> None:
    config = make_config(world.filesystem, enabled=False)
    async with open_engine(config, world.platform, scheduled=True) as retention:
        await retention.sweep()
    assert not any(map(world.filesystem.exists, RECORDS))


@pytest.mark.parametrize(
    "fields",
    [
        {"created_at": "0001-01-01T00:00:00Z"},
        {"created_at": "9999-12-31T23:59:59Z"},
        {"size_bytes": 10**30},
    ],
)
async def test_odd_metadata_stops_neither_a_sweep_nor_the_end(world: World, fields: dict[str, str]) -> None:
    change_metadata(world, **fields)
    world.clock.advance(timedelta(seconds=10))
    async with world.engine() as retention:
        assert (await retention.sweep()).status is hmret.SweepStatus.SUCCESS
        world.clock.advance(timedelta(minutes=40))
        assert (await retention.sweep()).status is hmret.SweepStatus.SUCCESS
    assert all(map(world.filesystem.exists, RECORDS))
    opened = world.opened()
    async with world.engine() as retention:
        await retention.plan()
    world.filesystem.before = None
    assert opened == []


async def test_the_record_is_written_now_and_then_for_an_end_without_a_warning(world: World) -> None:
    async with world.engine() as retention:
        await retention.sweep()
        assert not any(map(world.filesystem.exists, RECORDS))
        world.clock.advance(timedelta(minutes=31))
        await retention.sweep()
        assert all(map(world.filesystem.exists, RECORDS))


async def test_a_stop_does_not_wait_for_a_long_look(
    world: World, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    for number in range(50):
        for letter in "abcdef":
            for more in "0123456789ab":
                make_image(filesystem, f"{KERNEL}-{number}", f"{letter}{more}", tags=())
    opened, leave = world.opened(), anyio.Event()
    # Of both trees, in the order in which their batches come.
    gates = [threads.hold("_look") for _ in range(20)]

    async def serve() -> None:
        async with open_engine(make_config(filesystem), world.platform, scheduled=True):
            await leave.wait()

    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            for gate in gates:
                await settle()
                if any(path.startswith(f"{DATA}/images/{KERNEL}") for path in opened):
                    break
                gate.opened.set()
            leave.set()
            # From here on all that the stop waits for is the batch in hand.
            await settle()
            before, begun = len(opened), sum(gate.arrived.is_set() for gate in gates)
            for gate in gates:
                gate.opened.set()
    world.filesystem.before = None
    assert len(opened) > before
    assert sum(gate.arrived.is_set() for gate in gates) == begun < len(gates)


async def test_two_engines_in_turn_see_what_the_other_did(world: World) -> None:
    for _ in range(3):
        async with world.engine() as retention:
            await retention.sweep()
            verdict = await retention.explain(f"alpine@{A[1]}")
            assert verdict.reason is hmret.Reason.RETENTION_WINDOW
        world.clock.advance(timedelta(minutes=5))
        # Beside them hypeman's own controller clears the timer, and starts it anew.
        world.filesystem.remove(STATE)
        make_state(world.filesystem, A, world.clock.now_ns())
        world.clock.advance(timedelta(minutes=5))
        async with world.engine() as retention:
            verdict = await retention.explain(f"alpine@{A[1]}")
            assert verdict.unused_since_ns == world.clock.now_ns() - 300 * SECOND
