"""A real Prometheus watches an engine: each alert fires when its cause is there, and clears when it is gone.

The engine works on a disk in memory, so that each cause can be made; only hours are made seconds. All of it is a long
proof: `make prove`.
"""

import errno
import re
import shutil
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import attrs
import httpx2
import pytest
import yaml

from cli.services import free_port
from hmret.api.metrics import render_metrics
from hmret.engine.opening import open_engine
from hmret.engine.retention import Retention
from hmret.model.policy.config import AutoDelete
from hmret.model.policy.limits import DiskLimits
from hmret.model.times import SECOND
from monitoring.test_prometheus import RULES, prometheus
from support.bounds import IS_WHOLE
from support.builders import (
    DATA,
    START,
    START_NS,
    FakeClock,
    make_config,
    make_guest,
    make_image,
    make_state,
    make_surroundings,
)
from support.memory_filesystem import MemoryFilesystem
from support.patience import wait_until

pytestmark = [
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed"),
    pytest.mark.skipif(not IS_WHOLE, reason="a long proof: make prove"),
]

ALPINE = "docker.io/library/alpine"
DAY_NS = 86_400 * SECOND
MIB = 1 << 20
OWN = f"{DATA}/system/hmret"
MINUTE = timedelta(minutes=1)


def in_seconds(rules: str) -> str:
    """Have an alert wait for seconds where it waits for hours, so that it can be waited for."""
    rules = re.sub(r"for: \d+[mhd]", "for: 1s", rules)
    rules = re.sub(r"\[7d\] offset 1h", "[5m] offset 12s", rules)
    rules = re.sub(r"\[\d+h\]", "[12s]", rules)
    return rules.replace("6 * 3600", "6").replace("10 * hmret_sweep", "0.05 * hmret_sweep")


@attrs.define(eq=False)
class Host:
    """A host in memory, whose engine's metrics are served while it is open."""

    clock: FakeClock = attrs.field(factory=FakeClock)
    filesystem: MemoryFilesystem = attrs.field(init=False)
    retention: Retention | None = attrs.field(default=None, init=False)

    def renew(self) -> None:
        """Begin with an empty cache."""
        self.clock = FakeClock()
        self.filesystem = MemoryFilesystem(self.clock.now_ns)
        self.filesystem.make_folder(f"{DATA}/images")

    def images(self, count: int, days: float, repository: str = ALPINE) -> list[tuple[str, str]]:
        """Make images that have been unused for so many days, a MiB each."""
        keys = []
        for number in range(count):
            key = make_image(
                self.filesystem,
                repository,
                f"{number:02x}",
                size_bytes=MIB,
                created_at=START - timedelta(days=200),
            )
            make_state(self.filesystem, key, START_NS - round(days * DAY_NS))
            keys.append(key)
        return keys

    @asynccontextmanager
    async def engine(self, **settings: Any) -> AsyncIterator[Retention]:
        """Open the engine, and have its metrics served."""
        config = make_config(self.filesystem, **settings)
        platform = make_surroundings(self.filesystem, self.clock)
        async with open_engine(config, platform, scheduled=False) as retention:
            self.retention = retention
            try:
                yield retention
            finally:
                self.retention = None


@contextmanager
def served(host: Host) -> Iterator[str]:
    """Serve a host's metrics, as long as its engine is open; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            retention = host.retention
            page, kind = (b"", "text/plain") if retention is None else render_metrics(retention)
            self.send_response(503 if retention is None else 200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@attrs.frozen(eq=False)
class Watch:
    """What Prometheus says of the alerts."""

    client: httpx2.Client
    seen: list[tuple[str, str]] = attrs.field(factory=list)

    async def fires(self, alert: str, *, again: Callable[[], Awaitable[object]] | None = None) -> None:
        """Wait until an alert fires; `again` is awaited each time it does not yet."""
        await self._wait(alert, True, again)
        self.seen.append((alert, "fired"))

    async def clears(self, alert: str, *, again: Callable[[], Awaitable[object]] | None = None) -> None:
        """Wait until an alert has cleared."""
        await self._wait(alert, False, again)
        self.seen.append((alert, "cleared"))

    async def _wait(self, alert: str, is_wanted: bool, again: Callable[[], Awaitable[object]] | None) -> None:
        with anyio.fail_after(120):
            while await anyio.to_thread.run_sync(self._is_firing, alert) is not is_wanted:
                await anyio.sleep(0.3)
                if again is not None:
                    await again()

    def _is_firing(self, alert: str) -> bool:
        alerts = self.client.get("/alerts").json()["data"]["alerts"]
        return (alert, "firing") in {(one["labels"]["alertname"], one["state"]) for one in alerts}


async def gone(host: Host, watch: Watch) -> None:
    async with host.engine():
        await watch.clears("HmretGone")
    await watch.fires("HmretGone")
    async with host.engine():
        await watch.clears("HmretGone")


async def reload_failed(host: Host, watch: Watch) -> None:
    async with host.engine() as retention:
        retention.counters.add_refused_settings()
        await watch.fires("HmretReloadFailed")
        retention.reconfigure(attrs.evolve(retention.config, pinned=("x",)))
        await watch.clears("HmretReloadFailed")


async def suspended(host: Host, watch: Watch) -> None:
    async with host.engine() as retention:
        guest = make_guest(host.filesystem, "one", "No Reference")
        await retention.sweep()
        await watch.fires("HmretDeletionSuspended")
        host.filesystem.remove(f"{DATA}/{guest}")
        await retention.sweep()
        await watch.clears("HmretDeletionSuspended")


async def without_success(host: Host, watch: Watch) -> None:
    async with host.engine() as retention:
        await watch.fires("HmretNeverSucceeded")
        await retention.sweep()
        await watch.clears("HmretNeverSucceeded")
        # By Prometheus' clock that was long ago.
        await watch.fires("HmretNoSuccess")
    host.renew()
    host.clock.wall_ns = time.time_ns()
    async with host.engine() as retention:
        await retention.sweep()
        await watch.clears("HmretNoSuccess")


async def deletions_failing(host: Host, watch: Watch) -> None:
    async with host.engine() as retention:
        await retention.sweep()
        (key,) = host.images(1, 40)
        stuck = f"{DATA}/images/{key[0]}/{key[1][7:]}"
        host.filesystem.deny(stuck, errno.EIO, call="rename")

        async def once_more() -> None:
            host.clock.advance(timedelta(hours=2))
            await retention.sweep()

        await once_more()
        await watch.fires("HmretDeletionsFailing", again=once_more)
        host.filesystem.allow(stuck)
        await watch.clears("HmretDeletionsFailing")


async def many_deletions(host: Host, watch: Watch) -> None:
    async with host.engine(brake=1.0) as retention:
        await retention.sweep()
        await anyio.sleep(3)
        host.images(90, 40)
        await retention.sweep()
        await watch.fires("HmretUnusuallyManyDeletions")
        await watch.clears("HmretUnusuallyManyDeletions")


async def braked(host: Host, watch: Watch) -> None:
    host.images(30, 40)
    async with host.engine(brake=0.2, brake_min_images=5, brake_for=timedelta(days=2)) as retention:
        await retention.sweep()
        await watch.fires("HmretBrakeHolds")
        await watch.fires("HmretBrakeHoldsForADay")
        await retention.sweep(release_brake=True)
        await watch.clears("HmretBrakeHolds")
        await watch.clears("HmretBrakeHoldsForADay")


async def timers_held(host: Host, watch: Watch) -> None:
    keys = host.images(3, 29)
    async with host.engine() as retention:
        await retention.sweep()
    for night in (1, 2, 3):
        host.clock.run(timedelta(days=40))
        for repository, digest in keys:
            path = f"{DATA}/images/{repository}/{digest[7:]}/rootfs.ext4"
            host.filesystem.set_atime(path, host.clock.wall_ns - 31 * DAY_NS)
        async with host.engine() as retention:
            await retention.sweep()
            if night == 3:
                await watch.fires("HmretTimersHeld")
    host.renew()
    async with host.engine() as retention:
        await retention.sweep()
        await watch.clears("HmretTimersHeld")


async def timers_stopped(host: Host, watch: Watch) -> None:
    host.images(5, 10)
    host.images(1, 10, "ghcr.io/kernel/x")
    async with host.engine() as retention:
        await retention.sweep()
        await anyio.sleep(3)
        narrow = AutoDelete(enabled=True, unused_for=timedelta(days=30), allowed=("ghcr.io/*/*",))
        retention.reconfigure(attrs.evolve(retention.config, auto_delete=narrow))
        await retention.sweep()
        await watch.fires("HmretTimersStopped")
        await watch.clears("HmretTimersStopped")


async def disk_full(host: Host, watch: Watch) -> None:
    host.images(2, 1)
    host.filesystem.capacity_bytes, host.filesystem.foreign_bytes = 100 * MIB, 95 * MIB
    limits = DiskLimits(high_watermark=0.8, low_watermark=0.6)
    async with host.engine(disk=limits, min_age=timedelta(days=400)) as retention:
        await retention.sweep()
        await watch.fires("HmretDiskStaysFull")
        await watch.fires("HmretDiskAboveHighMark")
        host.filesystem.foreign_bytes = 10 * MIB
        host.clock.run(timedelta(hours=7))
        await retention.sweep()
        await watch.clears("HmretDiskStaysFull")
        await watch.clears("HmretDiskAboveHighMark")


async def quarantine_held(host: Host, watch: Watch) -> None:
    host.images(10, 40)
    host.filesystem.capacity_bytes = 100 * MIB
    limits = DiskLimits(high_watermark=0.8, low_watermark=0.6)
    async with host.engine(disk=limits, quarantine=timedelta(days=7)) as retention:
        await retention.sweep()
        assert retention.statistics().quarantined_images == 10
        host.filesystem.foreign_bytes = 85 * MIB
        guest = make_guest(host.filesystem, "one", "No Reference")
        await retention.sweep()
        await watch.fires("HmretQuarantineHoldsSpace")
        host.filesystem.remove(f"{DATA}/{guest}")
        host.filesystem.foreign_bytes = 10 * MIB
        await retention.sweep()
        await watch.clears("HmretQuarantineHoldsSpace")


async def records_not_written(host: Host, watch: Watch) -> None:
    async with host.engine() as retention:
        await retention.sweep()
        await anyio.sleep(3)
        host.filesystem.deny(f"{OWN}/clock.json.tmp", errno.ENOSPC, call="write")
        await watch.fires("HmretRecordsNotWritten", again=retention.sweep)
        host.filesystem.allow(f"{OWN}/clock.json.tmp")
        await watch.clears("HmretRecordsNotWritten")


SCENES = (
    gone,
    reload_failed,
    suspended,
    without_success,
    deletions_failing,
    many_deletions,
    braked,
    timers_held,
    timers_stopped,
    disk_full,
    quarantine_held,
    records_not_written,
)


def test_each_alert_fires_and_clears(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(in_seconds(RULES.read_text()))
    alerts = [rule["alert"] for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]]
    host = Host()
    host.renew()
    seen: list[tuple[str, str]] = []

    async def play() -> None:
        watch = Watch(client, seen)
        for scene in SCENES:
            host.renew()
            await scene(host, watch)

    with served(host) as target, prometheus(tmp_path, target, rules) as client:
        wait_until(lambda: _answers(client), "an answer of Prometheus")
        anyio.run(play)
    for alert in alerts:
        assert (alert, "fired") in seen
        assert (alert, "cleared") in seen[seen.index((alert, "fired")) :]


def _answers(client: httpx2.Client) -> bool:
    try:
        return client.get("/alerts").is_success
    except httpx2.TransportError:
        return False
