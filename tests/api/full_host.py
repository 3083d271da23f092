"""A host on which everything is to be seen at once, its engine, and its control API in a thread, for the page."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import time_ns

import anyio
import anyio.abc
import attrs
from anyio.from_thread import start_blocking_portal

from hmret.api.app import make_app
from hmret.api.http.server import Server
from hmret.engine.opening import open_engine
from hmret.engine.retention import Retention
from hmret.model.policy.config import RetentionConfig
from hmret.model.policy.limits import DiskLimits
from hmret.model.policy.rules import Rule
from hmret.settings.in_force import SettingOrigin, SettingsInForce
from hmret.settings.setting_table import SETTING_SCHEMAS
from support.builders import DATA, FakeClock, digest, make_config, make_surroundings
from support.content_trees import FRESH, Host
from support.memory_filesystem import MemoryFilesystem
from support.patience import PATIENCE

__all__ = ["BUILD", "KERNEL", "OLD", "REFUSAL", "WEB", "FullHost", "full_host"]

MIB = 1 << 20
BUILD = "ghcr.io/kernel/build"
KERNEL = "ghcr.io/kernel/only-one"
OLD = "registry.local:5000/ci/app"
WEB = "docker.io/library/nginx"
CONFIG = "/etc/hmret/config.yaml"
REFUSAL = f"{CONFIG}:9: hmret.keep_latest: expected a whole number, got 'two'"


@attrs.frozen
class FullHost:
    """What a test needs to know of it."""

    address: str
    quarantined: str
    """The digest of what lies in quarantine, of `BUILD`."""
    user: str
    """Who keeps the image of `WEB`: `web-1`."""


def _build(host: Host) -> None:
    """Make images of both layouts, guests, and what is odd."""
    host.content("a", name=f"{WEB}:1.27", size_bytes=3 * MIB)
    host.link(WEB, "1.27", "a")
    host.link(WEB, "stable", "a")
    guest = host.guest(f"{WEB}:1.27", resolved=f"{WEB}@{digest('a')}", name="k3v9q2")
    assert isinstance(host.place, MemoryFilesystem)
    document = json.loads(host.place.read_file(f"{DATA}/{guest}"))
    host.write(guest, json.dumps({**document, "Name": "web-1"}).encode())
    host.guest("quay.io/gone/app:1", name="m7p1")
    # Content that two repositories share: due in one, kept by the other.
    host.content("d", name=f"{KERNEL}:6.1", size_bytes=2 * MIB)
    for repository in (KERNEL, f"{WEB}-mirror"):
        host.link(repository, "6.1", "d")
        host.state(repository, "d")
    host.snapshot(f"{WEB}-mirror:6.1", resolved=f"{WEB}-mirror@{digest('d')}", name="nightly")
    # Of the older layout: what goes into quarantine, what waits, what a rule keeps, one without a tag.
    host.legacy(BUILD, "b1", size_bytes=MIB)
    host.legacy_link(BUILD, "pr-7", "b1")
    host.state(BUILD, "b1")
    host.legacy(BUILD, "b2", size_bytes=MIB)
    host.legacy_link(BUILD, "v2.0", "b2")
    host.state(BUILD, "b2")
    host.legacy(BUILD, "b3", size_bytes=2 * MIB)
    host.state(BUILD, "b3", FRESH)
    host.legacy(BUILD, "b4", size_bytes=MIB, status="pulling")


def _expire_at_once(host: Host) -> None:
    """Make more due than the brake lets go."""
    for number in range(6):
        host.legacy(OLD, f"c{number}", size_bytes=MIB)
        host.legacy_link(OLD, f"build-{number}", f"c{number}")
        host.state(OLD, f"c{number}")


def _config(filesystem: MemoryFilesystem) -> RetentionConfig:
    return make_config(
        filesystem,
        quarantine=timedelta(days=2),
        pinned=("docker.io/library/nginx-pinned",),
        rules=(
            Rule(match=(BUILD,), tags=("v*",), keep_latest=2),
            Rule(match=("registry.local:5000/*",), unused_for=timedelta(days=5)),
        ),
        brake=0.3,
        brake_min_images=3,
        brake_for=timedelta(days=1),
        disk=DiskLimits(high_watermark=0.8, low_watermark=0.7, max_used=20 * MIB),
    )


def _in_force(config: RetentionConfig) -> SettingsInForce:
    """Tell of settings as a service does that has read a file, and refused what was in it later."""
    usual = RetentionConfig()
    lines = {
        one.key: number
        for number, one in enumerate(SETTING_SCHEMAS, start=3)
        if one.given_in(config) != one.given_in(usual)
    }
    return SettingsInForce(
        {
            one.key: SettingOrigin("file", f"{CONFIG}:{lines[one.key]}")
            if one.key in lines
            else SettingOrigin("default")
            for one in SETTING_SCHEMAS
        },
        (CONFIG,),
        ("hmret.rules: rule 2 is not used by any image here",),
        REFUSAL,
        ("hmret.metrics_listen",),
    )


async def _live(host: Host, retention: Retention) -> None:
    """Let the host go through some sweeps."""
    await retention.sweep()
    host.clock.advance(timedelta(minutes=1))
    await retention.grant_lease(
        f"{KERNEL}:6.1", owner="ci-runner", reason="boot test 17", ttl=timedelta(minutes=30)
    )
    _expire_at_once(host)
    await retention.sweep()
    # Somebody else fills the disk now; the next sweep will do something about it.
    assert isinstance(host.place, MemoryFilesystem)
    host.place.foreign_bytes += 10 * MIB


@contextmanager
def full_host(backend: str) -> Iterator[FullHost]:
    """Serve the control API of such a host on a TCP port of this one while the block lasts."""
    clock = FakeClock(wall_ns=time_ns())
    filesystem = MemoryFilesystem(clock.now_ns)
    filesystem.capacity_bytes, filesystem.foreign_bytes = 64 * MIB, 30 * MIB
    host = Host(filesystem, clock)
    _build(host)
    config = _config(filesystem)
    listening = socket.create_server(("127.0.0.1", 0))
    stop = anyio.Event()

    async def serve(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with (
            anyio.create_task_group() as tasks,
            open_engine(config, make_surroundings(filesystem, clock), scheduled=False) as retention,
        ):
            await _live(host, retention)
            server = Server(make_app(retention, in_force=lambda: _in_force(config)), listening)
            await tasks.start(server.run)
            task_status.started()
            await stop.wait()
            server.stop()

    with start_blocking_portal(backend) as portal:
        future, _ = portal.start_task(serve)
        try:
            address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
            yield FullHost(address, digest("b1"), "instance/k3v9q2")
        finally:
            portal.call(stop.set)
            future.result(PATIENCE)
