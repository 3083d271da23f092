"""Timers that the operator's patterns stop: told by an engine, and not by a slip of a one-off sweep."""

import logging
from datetime import timedelta

import attrs
import msgspec
import pytest

from hmret.api.wire.convert_outcomes import status_document
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.model.errors import ConfigError, StopsTimersError
from hmret.model.policy.config import AutoDelete, RetentionConfig
from hmret.model.references import Key
from hmret.model.times import format_time, timedelta_nanoseconds
from hmret.model.verdicts import Reason
from support.builders import (
    DATA,
    START_NS,
    FakeClock,
    make_config,
    make_guest,
    make_image,
    make_state,
    state_of,
    told,
)
from support.memory_filesystem import MemoryFilesystem

ALPINE = "docker.io/library/alpine"
KERNEL = "ghcr.io/kernel/x"
ALLOW_ALPINE = f"pass a pattern that matches, such as --allow '{ALPINE}'"
HOUR_OLD_NS = START_NS - timedelta_nanoseconds(timedelta(hours=1))


@pytest.fixture(autouse=True)
def log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="hmret")


@pytest.fixture
def keys(filesystem: MemoryFilesystem) -> list[Key]:
    """Three images with timers, and one that a guest needs, with a timer from before."""
    keys = [make_image(filesystem, ALPINE, "a"), make_image(filesystem, ALPINE, "b")]
    keys.append(make_image(filesystem, KERNEL, "c"))
    used = make_image(filesystem, "gcr.io/needed/y", "d", tags=("used",))
    make_guest(filesystem, "vm", "gcr.io/needed/y:used")
    for key in (*keys, used):
        make_state(filesystem, key, HOUR_OLD_NS)
    return keys


def with_patterns(
    filesystem: MemoryFilesystem, *allowed: str, pinned: tuple[str, ...] = ()
) -> RetentionConfig:
    config = make_config(filesystem)
    auto_delete = AutoDelete(enabled=True, unused_for=timedelta(hours=720), allowed=allowed)
    return attrs.evolve(config, auto_delete=auto_delete, pinned=pinned)


def timers(filesystem: MemoryFilesystem, keys: list[Key]) -> int:
    return sum(state_of(filesystem, key) is not None for key in keys)


@pytest.mark.parametrize(
    ("allowed", "pinned", "words", "remedy"),
    [
        ((), (), "images.auto_delete.allowed: no image in the cache may be deleted", ALLOW_ALPINE),
        (
            ("alpine", "quay.io/*"),
            (),
            "3 as images.auto_delete.allowed, [alpine, quay.io/*], allows none of",
            ALLOW_ALPINE,
        ),
        (
            ("*",),
            ("*",),
            "hmret.pinned: no image in the cache may be deleted",
            "take patterns out of hmret.pinned",
        ),
        (
            ("docker.io/*",),
            ("docker.io/*",),
            "2 as hmret.pinned, [docker.io/*], pins their repositories; 1 as images",
            "pass a pattern that matches, such as --allow 'ghcr.io/kernel/x'",
        ),
    ],
)
async def test_a_sweep_that_may_not_stop_every_timer_is_refused_and_changes_none(
    platform: Platform,
    filesystem: MemoryFilesystem,
    keys: list[Key],
    allowed: tuple[str, ...],
    pinned: tuple[str, ...],
    words: str,
    remedy: str,
) -> None:
    config = with_patterns(filesystem, *allowed, pinned=pinned)
    async with open_engine(config, platform, scheduled=False) as retention:
        with pytest.raises(StopsTimersError) as caught:
            await retention.sweep(stop_timers=False)
        assert isinstance(caught.value, ConfigError)
        assert words in str(caught.value)
        assert "would stop all 3 timers" in str(caught.value)
        assert str(caught.value).endswith(f"; {remedy}, or pass --stop-timers if this is intended")
        assert timers(filesystem, keys) == 3
        assert retention.statistics().stopped_timers is None
        # The next one may, and is not held up by what was refused.
        assert (await retention.sweep()).status == "success"
    assert timers(filesystem, keys) == 0


async def test_a_sweep_whose_patterns_still_match_something_is_not_refused(
    platform: Platform, filesystem: MemoryFilesystem, keys: list[Key]
) -> None:
    async with open_engine(with_patterns(filesystem, "ghcr.io/*"), platform, scheduled=False) as retention:
        await retention.sweep(stop_timers=False)
    assert timers(filesystem, keys) == 1


async def test_a_sweep_where_no_timer_runs_is_not_refused(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    make_image(filesystem, ALPINE, "a")
    gone = make_image(filesystem, "gcr.io/needed/y", "c", tags=("used",))
    make_state(filesystem, gone, HOUR_OLD_NS)
    make_guest(filesystem, "vm", "gcr.io/needed/y:used")
    async with open_engine(with_patterns(filesystem), platform, scheduled=False) as retention:
        assert (await retention.sweep(stop_timers=False)).status == "success"
        assert retention.statistics().stopped_timers is None


def status_of(retention: Retention) -> object:
    document = status_document(
        retention,
        version="1",
        process=1,
        backend="trio",
        trash_bytes=0,
    )
    return msgspec.to_builtins(document.stopped_timers)


async def test_an_engine_stops_them_and_says_once_how_many_and_why(
    platform: Platform,
    filesystem: MemoryFilesystem,
    keys: list[Key],
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_engine(with_patterns(filesystem, "*"), platform, scheduled=False) as retention:
        await retention.sweep()
        assert (timers(filesystem, keys), status_of(retention)) == (3, None)
        assert told(caplog, "timers_stopped") == []
        with retention.listen() as listener:
            retention.reconfigure(with_patterns(filesystem, "ghcr.io/*"))
            await retention.sweep()
            await retention.sweep()
            listener.end()
            events = [event.facts async for batch in listener for event in batch]
        (fact,) = told(caplog, "timers_stopped")
        detail = "2 as images.auto_delete.allowed, [ghcr.io/*], allows none of their repositories"
        assert (fact["timers"], fact["detail"]) == (2, detail)
        (event,) = [event for event in events if event["event"] == "timers_stopped"]
        assert (event["timers"], event["detail"]) == (2, detail)
        assert status_of(retention) == {
            "at": format_time(clock.now_ns()),
            "timers": 2,
            "by_reason": {"not_allowed": 2},
            "detail": detail,
        }
        assert retention.counters.stopped_timers == {Reason.PINNED: 0, Reason.NOT_ALLOWED: 2}
        # Other settings have stopped nothing yet.
        retention.reconfigure(with_patterns(filesystem, "*"))
        assert status_of(retention) is None


async def test_timers_of_images_in_use_are_not_counted(
    platform: Platform,
    filesystem: MemoryFilesystem,
    keys: list[Key],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_engine(with_patterns(filesystem, "*"), platform, scheduled=False) as retention:
        plan = await retention.plan()
        assert dict(plan.stopped_timers) == {Reason.REFERENCED: 1}
        await retention.sweep()
    assert told(caplog, "timers_stopped") == []


async def test_a_timer_that_a_use_stops_is_told_with_the_name_of_the_vm(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    key = make_image(filesystem, ALPINE, "a", tags=("used",))
    make_state(filesystem, key, HOUR_OLD_NS)
    path = make_guest(filesystem, "k3v9", "alpine:used")
    filesystem.write_file(f"{DATA}/{path}", b'{"Name": "web-1", "Image": "alpine:used"}')
    async with open_engine(with_patterns(filesystem, "*"), platform, scheduled=False) as retention:
        with retention.listen() as listener:
            await retention.sweep()
            listener.end()
            events = [event.facts async for batch in listener for event in batch]
    (event,) = [event for event in events if event["event"] == "clear"]
    assert (event["reason"], event["referenced_by"]) == ("referenced", ["instance/k3v9"])
    assert event["vm_names"] == {"instance/k3v9": "web-1"}
