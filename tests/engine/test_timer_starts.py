"""A timer starts at the sweep that writes it, however long ago the image was first found to be unused."""

import errno
from datetime import timedelta
from typing import Any

import pytest

import hmret
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.model.times import format_time
from support.builders import DATA, FakeClock, make_config, make_image, state_of
from support.memory_filesystem import MemoryFilesystem

pytestmark = pytest.mark.anyio

ALPINE = "docker.io/library/alpine"
TIMERS = f"{DATA}/system/image-retention"
SOON = timedelta(minutes=40)

SETTINGS: dict[str, dict[str, Any]] = {
    "one window": {},
    "a minimum age": {"min_age": timedelta(days=3)},
    "windows by tag": {"rules": (hmret.Rule(match=("*",), tags=("v*",), unused_for=timedelta(days=90)),)},
    "never": {"rules": (hmret.Rule(match=("docker.io/*",), unused_for="never"),)},
}


@pytest.fixture(params=SETTINGS)
def config(filesystem: MemoryFilesystem, request: pytest.FixtureRequest) -> hmret.RetentionConfig:
    return make_config(filesystem, **SETTINGS[request.param])


async def test_an_image_that_was_used_after_its_timer_had_started_starts_it_again_at_the_next_sweep(
    filesystem: MemoryFilesystem, clock: FakeClock, platform: Platform, config: hmret.RetentionConfig
) -> None:
    key = make_image(filesystem, ALPINE, "a", tags=("v1",))
    async with open_engine(config, platform, scheduled=False) as retention:
        await retention.sweep()
        assert state_of(filesystem, key) == format_time(clock.now_ns())
        clock.run(SOON)
        assert (await retention.mark_used("alpine:v1")).cleared
        await retention.sweep()
    assert state_of(filesystem, key) == format_time(clock.now_ns())


async def test_an_image_that_was_used_while_timers_could_not_be_written_gets_its_whole_window(
    filesystem: MemoryFilesystem, clock: FakeClock, platform: Platform, config: hmret.RetentionConfig
) -> None:
    key = make_image(filesystem, ALPINE, "a", tags=("v1",))
    async with open_engine(config, platform, scheduled=False) as retention:
        filesystem.deny(TIMERS, errno.ENOSPC, call="mkdir")
        assert (await retention.sweep()).errors
        clock.run(SOON)
        await retention.mark_used("alpine:v1")
        filesystem.allow(TIMERS)
        await retention.sweep()
    assert state_of(filesystem, key) == format_time(clock.now_ns())
