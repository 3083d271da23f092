"""What listeners and the journal are told of a fleet."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import attrs

from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from support.builders import START, START_NS, make_config, make_image, make_state
from support.fake_fleet import FakeFleet
from support.memory_filesystem import MemoryFilesystem

ALPINE = "docker.io/library/alpine"
LONG_AGO_NS = START_NS - 40 * 86_400 * 10**9


@asynccontextmanager
async def engine(
    filesystem: MemoryFilesystem, platform: Platform, fleet: FakeFleet
) -> AsyncIterator[Retention]:
    config = make_config(filesystem)
    async with open_engine(config, platform, scheduled=False, open_fleet=fleet.open) as retention:
        yield retention


def make_due(filesystem: MemoryFilesystem) -> str:
    key = make_image(filesystem, ALPINE, "a", created_at=START - timedelta(days=60))
    make_state(filesystem, key, LONG_AGO_NS)
    return "@".join(key)


async def events_of(retention: Retention, *names: str) -> list[dict[str, Any]]:
    """Return what listeners were told so far, of some kinds."""
    with retention.listen(after=0) as listener:
        batch = await anext(listener)
    return [dict(event.facts) for event in batch if event.name in names]


async def test_a_release_is_told_before_the_deletion(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    image = make_due(filesystem)
    async with engine(filesystem, platform, FakeFleet()) as retention:
        await retention.sweep()
        events = await events_of(retention, "released", "delete")
    assert [(event["event"], event["image"]) for event in events] == [("released", image), ("delete", image)]


async def test_what_was_not_released_is_not_told_as_such(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    make_due(filesystem)
    async with engine(filesystem, platform, FakeFleet(usual=0)) as retention:
        await retention.sweep()
        assert await events_of(retention, "released", "delete") == []


async def test_a_pause_is_told_once_with_who_and_why_and_its_end_too(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    make_due(filesystem)
    fleet = FakeFleet()
    fleet.pause("the registry is down")
    async with engine(filesystem, platform, fleet) as retention:
        for _ in range(3):
            await retention.sweep()
        (paused,) = await events_of(retention, "fleet_paused")
        fleet.settings = attrs.evolve(fleet.settings, paused=None)
        await retention.sweep()
        ended = [
            event for event in await events_of(retention, "no_longer") if event["what"] == "fleet_paused"
        ]
    assert paused["detail"].startswith("by root@host-9 since 2")
    assert paused["detail"].endswith("Z: the registry is down")
    assert len(ended) == 1


async def test_a_host_in_no_fleet_is_told_of_no_pause(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    make_due(filesystem)
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        await retention.sweep()
        assert await events_of(retention, "fleet_paused", "released") == []
