"""Settings that change while the engine runs."""

import logging
from datetime import timedelta

import anyio
import attrs
import pytest

from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.model.errors import ConfigError
from hmret.model.policy.config import RetentionConfig
from hmret.model.policy.fleet import FleetConfig
from hmret.model.report import SweepReport, SweepStatus
from hmret.model.times import timedelta_nanoseconds
from support.builders import (
    START_NS,
    GatedThreads,
    has_image,
    loop_clock,
    make_config,
    make_image,
    make_state,
    settle,
    state_of,
    told,
)
from support.memory_filesystem import MemoryFilesystem

ALPINE = "docker.io/library/alpine"
HOUR_OLD_NS = START_NS - timedelta_nanoseconds(timedelta(hours=1))


async def test_the_next_sweep_goes_by_the_new_policy(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    key = make_image(filesystem, ALPINE, "a")
    make_state(filesystem, key, HOUR_OLD_NS)
    config = make_config(filesystem)
    async with open_engine(config, platform, scheduled=False) as retention:
        await retention.sweep()
        assert has_image(filesystem, key)
        shorter = make_config(filesystem, unused_for=timedelta(minutes=30))
        assert retention.reconfigure(shorter)
        assert retention.config == shorter
        assert (await retention.explain("alpine")).action == "delete"
        await retention.sweep()
        assert not has_image(filesystem, key)


async def test_a_sweep_under_way_ends_by_the_policy_that_it_began_with(
    platform: Platform, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    key = make_image(filesystem, ALPINE, "a")
    make_state(filesystem, key, HOUR_OLD_NS)
    reports: list[SweepReport] = []
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:

        async def sweep() -> None:
            reports.append(await retention.sweep())

        gate = threads.hold("plan")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sweep)
            await gate.arrived.wait()
            tasks.start_soon(sweep)
            shorter = make_config(filesystem, unused_for=timedelta(minutes=30))
            assert not retention.reconfigure(shorter)
            assert retention.config == shorter
            gate.opened.set()
    assert [report.deleted_images for report in reports] == [0, 1]


async def test_of_two_changes_the_last_counts(
    platform: Platform, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    key = make_image(filesystem, ALPINE, "a")
    make_state(filesystem, key, HOUR_OLD_NS)
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        gate = threads.hold("plan")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(retention.sweep)
            await gate.arrived.wait()
            retention.reconfigure(make_config(filesystem, unused_for=timedelta(minutes=30)))
            retention.reconfigure(make_config(filesystem, unused_for=timedelta(minutes=30), allowed=()))
            gate.opened.set()
        await retention.sweep()
    assert has_image(filesystem, key)


async def test_another_data_directory_is_refused_and_nothing_changes(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    config = make_config(filesystem)
    async with open_engine(config, platform, scheduled=False) as retention:
        with pytest.raises(
            ConfigError, match=r"^data_dir: cannot change while the engine runs, from /data to /else$"
        ):
            retention.reconfigure(RetentionConfig(data_dir="/else"))
        assert retention.config == config


async def test_another_fleet_is_refused_and_nothing_changes(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    config = make_config(filesystem)
    async with open_engine(config, platform, scheduled=False) as retention:
        with pytest.raises(ConfigError, match=r"^fleet: cannot change while the engine runs$"):
            retention.reconfigure(attrs.evolve(config, fleet=FleetConfig(min_copies=2)))
        assert retention.config == config


async def test_switched_off_it_sweeps_no_more_and_switched_on_it_does_at_once(
    filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    platform = Platform(filesystem=filesystem, clock=loop_clock(), threads=threads)
    on = make_config(filesystem, sweep_interval=timedelta(hours=1))
    async with open_engine(on, platform, scheduled=True) as retention:
        await settle()
        assert retention.statistics().sweeps == 1
        retention.reconfigure(make_config(filesystem, enabled=False))
        await settle()
        assert (await retention.sweep()).status is SweepStatus.DISABLED
        key = make_image(filesystem, ALPINE, "a")
        assert (await retention.mark_used("alpine")).digest == key[1]
        assert retention.statistics().sweeps == 1
        retention.reconfigure(on)
        await settle()
        assert retention.statistics().sweeps == 2
        assert state_of(filesystem, key) is not None


async def test_the_journal_can_be_switched_off_and_on(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    config = make_config(filesystem)
    async with open_engine(attrs.evolve(config, journal=False), platform, scheduled=False) as retention:
        make_image(filesystem, ALPINE, "a")
        await retention.sweep()
        assert not filesystem.exists("/data/system/hmret/journal.jsonl")
        retention.reconfigure(config)
        make_image(filesystem, ALPINE, "b")
        await retention.sweep()
        assert b'"mark"' in filesystem.read_file("/data/system/hmret/journal.jsonl")


async def test_a_sweep_is_told_aloud_only_where_something_came_of_it(
    platform: Platform, filesystem: MemoryFilesystem, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "hmret")
    make_image(filesystem, ALPINE, "a")
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        await retention.sweep()
        await retention.sweep()
    levels = [record.levelname for record in caplog.records if "sweep_ended" in record.getMessage()]
    assert levels == ["INFO", "DEBUG"]
    first, second = told(caplog, "sweep_ended")
    assert (first["marked"], second["marked"]) == (1, 0)
