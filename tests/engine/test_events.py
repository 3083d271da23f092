"""What the engine tells to those who listen, and that it never waits for them."""

from datetime import timedelta

import anyio
import pytest

from hmret.engine.events import Event, EventHub, Listener
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.model.times import timedelta_nanoseconds
from support.builders import (
    DATA,
    START_NS,
    FakeClock,
    has_image,
    make_config,
    make_guest,
    make_image,
    make_state,
    settle,
    state_of,
)
from support.memory_filesystem import MemoryFilesystem

ALPINE = "docker.io/library/alpine"
DUE_NS = START_NS - timedelta_nanoseconds(timedelta(days=31))


def fact(number: int) -> dict[str, object]:
    return {"event": "mark", "image": str(number)}


async def take(listener: Listener) -> list[Event]:
    """Take everything that waits; the hub has ended."""
    return [event async for batch in listener for event in batch]


async def test_events_are_numbered_and_come_in_order() -> None:
    hub = EventHub()
    hub.publish([fact(1)])
    with hub.listen() as listener:
        hub.publish([fact(2), fact(3)])
        hub.publish([])
        hub.publish([fact(4)])
        hub.end()
        events = await take(listener)
    assert [(event.number, event.facts["image"]) for event in events] == [(2, "2"), (3, "3"), (4, "4")]
    assert (hub.last_number, hub.listening) == (4, 0)


async def test_who_comes_back_is_given_what_has_passed() -> None:
    hub = EventHub()
    hub.publish([fact(number) for number in range(1, 6)])
    with hub.listen(after=3) as listener:
        hub.publish([fact(6)])
        hub.end()
        assert [event.number for event in await take(listener)] == [4, 5, 6]
        assert not listener.missed


async def test_who_comes_back_too_late_hears_that_something_is_missing() -> None:
    hub = EventHub()
    hub.publish([fact(number) for number in range(1, 5001)])
    with hub.listen(after=1) as listener:
        hub.end()
        assert listener.missed
        assert [event.number for event in await take(listener)] == list(range(5001 - 4096, 5001))


async def test_who_falls_behind_is_let_go_and_nobody_else() -> None:
    hub = EventHub()
    with hub.listen(places=10) as slow, hub.listen() as quick:
        for number in range(1, 20):
            hub.publish([fact(number)])
        assert slow.fell_behind
        assert await take(slow) == []
        hub.end()
        assert len(await take(quick)) == 19
        assert not quick.fell_behind


async def test_a_batch_of_any_size_has_its_place_where_nothing_waits() -> None:
    hub = EventHub()
    with hub.listen(places=10) as listener:
        hub.publish([fact(number) for number in range(100)])
        assert not listener.fell_behind
        assert len(await anext(listener)) == 100


async def test_a_wait_that_is_cancelled_loses_no_event() -> None:
    hub = EventHub()
    with hub.listen() as listener:
        with anyio.move_on_after(0):
            await anext(listener)
        hub.publish([fact(1)])
        assert [event.number for event in await anext(listener)] == [1]


async def test_a_listener_that_waits_wakes_up_and_ends_with_the_engine(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    heard: list[Event] = []
    async with (
        anyio.create_task_group() as tasks,
        open_engine(make_config(filesystem), platform, scheduled=False) as retention,
    ):

        async def listen() -> None:
            with retention.listen() as listener:
                heard.extend([event async for batch in listener for event in batch])

        tasks.start_soon(listen)
        await settle()
        await retention.sweep()
    assert [event.name for event in heard] == ["sweep"]


async def test_each_thing_that_a_sweep_does_is_told_when_it_is_done(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    due = make_image(filesystem, ALPINE, "a", tags=("old",))
    make_state(filesystem, due, DUE_NS)
    used = make_image(filesystem, ALPINE, "b", tags=("used",))
    make_state(filesystem, used, DUE_NS)
    make_guest(filesystem, "vm", resolved_image="@".join(used))
    fresh = make_image(filesystem, ALPINE, "c", tags=("fresh",))
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        with retention.listen() as listener:
            await retention.sweep()
            await retention.mark_used("alpine:fresh")
        listener.end()
        events = await take(listener)
    assert [(event.name, event.facts.get("image")) for event in events] == [
        ("clear", "@".join(used)),
        ("mark", "@".join(fresh)),
        ("delete", "@".join(due)),
        ("sweep", None),
        ("clear", "@".join(fresh)),
    ]
    assert events[3].facts["status"] == "success"
    assert not has_image(filesystem, due)


async def test_a_use_that_clears_a_timer_is_told(platform: Platform, filesystem: MemoryFilesystem) -> None:
    key = make_image(filesystem, ALPINE, "a")
    make_state(filesystem, key, DUE_NS)
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        with retention.listen() as listener:
            await retention.mark_used("alpine")
            await retention.mark_used("alpine")
        listener.end()
        (event,) = await take(listener)
    assert (event.name, event.facts["reason"], event.facts["image"]) == ("clear", "used", "@".join(key))


async def test_a_suspension_and_its_end_are_told(platform: Platform, filesystem: MemoryFilesystem) -> None:
    path = f"{DATA}/guests/vm/metadata.json"
    filesystem.write_file(path, b"{")
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        with retention.listen() as listener:
            await retention.sweep()
            filesystem.write_file(path, b"{}")
            await retention.sweep()
        listener.end()
        told = [(event.name, event.facts.get("path")) for event in await take(listener)]
    assert told == [("deletion_suspended", path), ("sweep", None), ("no_longer", path), ("sweep", None)]


async def test_what_an_earlier_engine_left_is_told_to_whoever_asks_later(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    filesystem.write_file(f"{DATA}/system/hmret/trash/0123456789abcdef.json", b"{")
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        await retention.sweep()
        with retention.listen(after=0) as listener:
            listener.end()
            names = [event.name for event in await take(listener)]
    assert names[-1] == "sweep"


async def test_a_listener_that_does_not_read_does_not_slow_a_sweep(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    for number in range(300):
        make_image(filesystem, f"ghcr.io/x/{number}", "a", tags=())
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        with retention.event_hub.listen(places=5) as listener:
            report = await retention.sweep()
    assert (report.marked_unused, listener.fell_behind) == (300, True)


@pytest.mark.parametrize("scheduled", [True, False])
async def test_sweeps_begin_by_themselves_only_where_they_are_to(
    platform: Platform, filesystem: MemoryFilesystem, scheduled: bool
) -> None:
    key = make_image(filesystem, ALPINE, "a")
    async with open_engine(make_config(filesystem), platform, scheduled=scheduled) as retention:
        await settle()
        assert (state_of(filesystem, key) is not None) is scheduled
        retention.begin_sweeps()
        await settle()
        assert retention.statistics().sweeps == 1


async def test_the_uptime_is_told_by_the_clock_since_boot(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        clock.wall_ns += timedelta_nanoseconds(timedelta(days=7))
        assert retention.uptime_seconds == 0
        clock.advance(timedelta(seconds=3))
        assert retention.uptime_seconds == 3
