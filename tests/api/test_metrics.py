"""The metrics page: what it says, in which names, and what it never says."""

import errno
import math
import shutil
from collections.abc import AsyncIterator
from datetime import timedelta

import attrs
import pytest
from anyio import wait_all_tasks_blocked
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from api.engines import ALPINE, KERNEL, retention_with_everything
from hmret.api.metrics import render_metrics
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.model.errors import ImageNotFoundError
from hmret.model.policy.limits import DiskLimits
from hmret.model.times import SECOND
from support.builders import DATA, START, START_NS, FakeClock, make_config, make_guest, make_image, make_state
from support.children import run_program
from support.memory_filesystem import MemoryFilesystem

PROMTOOL = shutil.which("promtool")
HYPEMANS_BUCKETS = [
    "0.001",
    "0.0025",
    "0.005",
    "0.01",
    "0.025",
    "0.05",
    "0.075",
    "0.1",
    "0.15",
    "0.2",
    "0.3",
    "0.5",
    "0.75",
    "1",
    "1.5",
    "2",
    "2.5",
    "3",
    "4",
    "5",
    "7.5",
    "10",
    "20",
    "30",
    "45",
    "60",
    "90",
    "120",
    "+Inf",
]

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
async def retention(anyio_backend: str) -> AsyncIterator[Retention]:
    async with retention_with_everything() as retention:
        yield retention


def samples_of(retention: Retention) -> Samples:
    page, _ = render_metrics(retention)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


async def test_hypemans_dashboards_go_on_working(retention: Retention) -> None:
    samples = samples_of(retention)
    prefix = "hypeman_image_retention"
    assert value(samples, f"{prefix}_sweeps_total", status="success") == 2
    assert value(samples, f"{prefix}_sweeps_total", status="error") == 0
    assert value(samples, f"{prefix}_deletes_total", status="success") == 1
    assert value(samples, f"{prefix}_deletes_total", status="error") == 1
    assert value(samples, f"{prefix}_deletes_total", status="not_found") == 0
    assert value(samples, f"{prefix}_stale_references_total") == 2
    assert value(samples, f"{prefix}_pending_images", state="tracked") == 3
    assert value(samples, f"{prefix}_pending_images", state="expired") == 1
    assert value(samples, f"{prefix}_sweep_duration_seconds_count", status="success") == 2
    assert value(samples, f"{prefix}_sweep_duration_seconds_bucket", status="success", le="+Inf") == 2
    assert value(samples, f"{prefix}_sweep_duration_seconds_count", status="error") == 0


async def test_sweeps_are_counted_in_hypemans_buckets(retention: Retention) -> None:
    name = "hypeman_image_retention_sweep_duration_seconds_bucket"
    bounds = [dict(labels)["le"] for sample, labels in samples_of(retention) if sample == name]
    assert bounds == HYPEMANS_BUCKETS * 2


async def test_our_own_say_what_was_done_and_what_is_to_come(retention: Retention) -> None:
    samples = samples_of(retention)
    assert value(samples, "hmret_deletes_total", reason="expired") == 1
    assert value(samples, "hmret_deleted_bytes_total") == 4096
    assert value(samples, "hmret_images", action="clear", reason="referenced") == 1
    assert value(samples, "hmret_images", action="none", reason="retention_window") == 2
    assert value(samples, "hmret_images", action="none", reason="suspended") == 1
    assert value(samples, "hmret_images", action="delete", reason="expired") == 0
    assert value(samples, "hmret_reclaimable_bytes", within="24h") == 2 * 4096
    assert value(samples, "hmret_reclaimable_bytes", within="7d") == 3 * 4096
    assert value(samples, "hmret_reclaimable_bytes", within="30d") == 3 * 4096
    assert value(samples, "hmret_suspended", cause="unreadable_reference") == 1
    assert value(samples, "hmret_suspended", cause="clock_jump") == 0
    assert value(samples, "hmret_suspended", cause="unreadable_cache") == 0
    assert value(samples, "hmret_last_success_timestamp_seconds") == START_NS / SECOND
    assert value(samples, "hmret_mark_used_seconds_count") == 1
    assert value(samples, "hmret_mark_used_seconds_bucket", le="+Inf") == 1
    assert value(samples, "hmret_trash_bytes") == 0
    assert value(samples, "hmret_mailbox_messages", actor="deleter") == 0
    assert [labels for name, labels in samples if name == "hmret_build_info"]


async def test_failed_deletions_are_counted_by_what_the_system_said(retention: Retention) -> None:
    samples = samples_of(retention)
    causes = {
        dict(labels)["cause"]: count
        for (name, labels), count in samples.items()
        if name == "hmret_failed_deletes_total"
    }
    assert causes == {"permission": 0, "read_only": 0, "no_space": 0, "io": 1, "busy": 0, "other": 0}


async def test_restored_images_are_counted(filesystem: MemoryFilesystem, platform: Platform) -> None:
    key = make_image(filesystem, ALPINE, "a", created_at=START - timedelta(days=60))
    make_state(filesystem, key, START_NS - 40 * 86_400 * SECOND)
    config = attrs.evolve(make_config(filesystem), quarantine=timedelta(days=7))
    async with open_engine(config, platform, scheduled=False) as retention:
        assert (await retention.sweep()).quarantined_images == 1
        assert value(samples_of(retention), "hmret_restores_total") == 0
        await retention.restore("@".join(key))
        assert value(samples_of(retention), "hmret_restores_total") == 1
        with pytest.raises(ImageNotFoundError):
            await retention.restore("@".join(key))
        assert value(samples_of(retention), "hmret_restores_total") == 1


async def test_leases_of_both_kinds_are_counted_while_they_last(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    make_image(filesystem, ALPINE, "a", tags=("1",))
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        granted = await retention.grant_lease("alpine:1", owner="x", reason="y", ttl=timedelta(hours=1))
        async with retention.lease("alpine:1", owner="z"):
            assert value(samples_of(retention), "hmret_leases") == 2
        await retention.end_lease(granted.id)
        await wait_all_tasks_blocked()
        assert value(samples_of(retention), "hmret_leases") == 0


async def test_the_phases_of_the_last_sweep_add_up_to_its_duration(
    filesystem: MemoryFilesystem, platform: Platform, clock: FakeClock
) -> None:
    filesystem.make_folder(f"{DATA}/images")
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        assert not [name for name, _ in samples_of(retention) if name == "hmret_sweep_phase_seconds"]
        filesystem.before = lambda call: (
            clock.advance(timedelta(seconds=1)) if call.name == "scandir" else None
        )
        report = await retention.sweep()
        samples = samples_of(retention)
    phases = {
        dict(labels)["phase"]: seconds
        for (name, labels), seconds in samples.items()
        if name == "hmret_sweep_phase_seconds"
    }
    assert list(phases) == ["survey", "plan", "timers", "delete", "record"]
    assert phases["survey"] > 0
    assert sum(phases.values()) == pytest.approx(report.duration_seconds)


async def test_each_failed_write_of_a_record_is_counted(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    filesystem.make_folder(f"{DATA}/images")
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        await retention.sweep()
        assert value(samples_of(retention), "hmret_record_errors_total") == 0
        filesystem.deny(f"{DATA}/system/hmret/clock.json.tmp", errno.ENOSPC, call="write")
        for sweeps in (1, 2):
            await retention.sweep()
            assert value(samples_of(retention), "hmret_record_errors_total") == sweeps
        make_state(filesystem, make_image(filesystem, ALPINE, "a"), START_NS)
        filesystem.deny(f"{DATA}/system/hmret/journal.jsonl", errno.EIO, call="open")
        make_guest(filesystem, "one", ALPINE)
        await retention.sweep()
        assert value(samples_of(retention), "hmret_record_errors_total") == 4


async def test_the_bytes_of_the_cache_are_told_by_reason(retention: Retention) -> None:
    samples = samples_of(retention)
    assert value(samples, "hmret_image_bytes", action="clear", reason="referenced") == 4096
    assert value(samples, "hmret_image_bytes", action="none", reason="retention_window") == 2 * 4096
    assert value(samples, "hmret_image_bytes", action="delete", reason="expired") == 0


async def test_settings_are_told_and_whether_they_are_those_that_were_read_last(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    limits = DiskLimits(high_watermark=0.85, max_used=10**9)
    config = attrs.evolve(
        make_config(filesystem), disk=limits, max_deletes_per_sweep=7, max_bytes_per_sweep=9
    )
    async with open_engine(config, platform, scheduled=False) as retention:
        samples = samples_of(retention)
        opened = value(samples, "hmret_config_last_reload_success_timestamp_seconds")
        assert opened == platform.clock.now_ns() / SECOND
        retention.counters.add_refused_settings()
        assert value(samples_of(retention), "hmret_config_last_reload_successful") == 0
        retention.reconfigure(attrs.evolve(config, enabled=False))
        after = samples_of(retention)
    expected = {
        "hmret_enabled": 1,
        "hmret_config_last_reload_successful": 1,
        "hmret_sweep_interval_seconds": config.sweep_interval.total_seconds(),
        "hmret_disk_high_watermark_ratio": 0.85,
        "hmret_disk_low_watermark_ratio": 0.8,
        "hmret_disk_max_used_bytes": 10**9,
        "hmret_max_deletes_per_sweep": 7,
        "hmret_max_bytes_per_sweep": 9,
    }
    assert {name: value(samples, name) for name in expected} == expected
    assert (value(after, "hmret_enabled"), value(after, "hmret_config_last_reload_successful")) == (0, 1)


async def test_how_full_the_disk_is_is_told_without_a_limit_too_and_is_always_a_number(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    filesystem.make_folder(f"{DATA}/images")
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        await retention.sweep()
        assert not retention.config.disk.is_set
        assert 0 <= value(samples_of(retention), "hmret_disk_used_ratio") <= 1
        assert not any(math.isnan(number) for number in samples_of(retention).values())


async def test_the_process_is_told_by_the_names_that_all_have(retention: Retention) -> None:
    names = {name for name, _ in samples_of(retention)}
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"} <= names


async def test_no_label_names_a_repository_or_a_digest(retention: Retention) -> None:
    page = render_metrics(retention)[0].decode()
    for text in (KERNEL, ALPINE, "secret", "sha256", "a" * 64):
        assert text not in page


async def test_series_do_not_come_and_go(filesystem: MemoryFilesystem, platform: Platform) -> None:
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        await retention.sweep()
        quiet = set(samples_of(retention))
    async with retention_with_everything() as retention:
        assert set(samples_of(retention)) == quiet


async def test_before_the_first_sweep_nothing_is_said_of_the_cache(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        names = {name for name, _ in samples_of(retention)}
    assert "hmret_build_info" in names
    assert not names & {
        "hmret_images",
        "hmret_last_success_timestamp_seconds",
        "hmret_reclaimable_bytes",
        "hypeman_image_retention_pending_images",
    }


async def test_the_global_registry_is_left_alone(retention: Retention) -> None:
    before = list(REGISTRY._names_to_collectors)
    render_metrics(retention)
    assert list(REGISTRY._names_to_collectors) == before


async def test_the_content_type_is_that_of_the_text_format(retention: Retention) -> None:
    assert render_metrics(retention)[1] == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
async def test_the_page_is_clean(retention: Retention) -> None:
    assert PROMTOOL is not None
    page, _ = render_metrics(retention)
    ran = run_program((PROMTOOL, "check", "metrics"), input=page.decode())
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
