"""Engines that share a fleet on a real etcd: the last copy stays, whoever deletes first."""

import platform as host_platform
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from hmret.engine.opening import open_engine
from hmret.engine.opening_inspection import open_inspection
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.fleet.gateway import Gateway
from hmret.fleet.keys import host_of
from hmret.fleet.operating import FleetOperator
from hmret.fleet.store import Put, Txn
from hmret.model.fleet import FleetState
from hmret.model.policy.config import RetentionConfig
from hmret.model.policy.fleet import FleetConfig
from hmret.model.references import Key
from hmret.model.times import nanoseconds_of
from hmret.model.verdicts import Reason
from support.builders import digest, has_image, make_config, make_image, make_state
from support.etcd import Cluster, missing_etcd
from support.patience import PATIENCE

pytestmark = pytest.mark.skipif(bool(missing_etcd()), reason=missing_etcd())

A, B = digest("a"), digest("b")
LONG_AGO = datetime.now(UTC) - timedelta(days=40)


@pytest.fixture
async def operator(
    etcd_cluster: Cluster, fleet_name: str, anyio_backend: str
) -> AsyncIterator[FleetOperator]:
    store = Gateway(etcd_cluster.endpoints, timeout=10)
    operator = FleetOperator(store, fleet_name)
    await operator.init()
    await operator.change("canary", "0s")
    yield operator
    await store.aclose()


def config_of(
    data_dir: Path, cluster: Cluster, fleet: str, host: str = "", min_copies: int = 1
) -> RetentionConfig:
    return make_config(
        data_dir,
        fleet=FleetConfig(
            endpoints=cluster.endpoints, name=fleet, host=host, min_copies=min_copies, last_copies_for="never"
        ),
    )


def make_host(folder: Path, name: str, *letters: str) -> tuple[Path, list[Key]]:
    """Make a data directory with images that have expired."""
    data_dir = folder / name
    data_dir.mkdir()
    keys = [make_image(data_dir, "ghcr.io/kernel/x", each, tags=(f"v{each}",)) for each in letters]
    for key in keys:
        make_state(data_dir, key, nanoseconds_of(LONG_AGO))
    return data_dir, keys


@asynccontextmanager
async def engines(configs: Sequence[RetentionConfig]) -> AsyncIterator[list[Retention]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(open_engine(config, Platform(), scheduled=False))
            for config in configs
        ]


async def test_of_three_engines_that_all_delete_an_image_one_keeps_it(
    etcd_cluster: Cluster, fleet_name: str, operator: FleetOperator, tmp_path: Path
) -> None:
    hosts = {name: make_host(tmp_path, name, "a") for name in ("h1", "h2", "h3")}
    configs = [config_of(folder, etcd_cluster, fleet_name, name) for name, (folder, _) in hosts.items()]
    async with engines(configs) as retentions:
        for _ in range(2):
            async with anyio.create_task_group() as tasks:
                for retention in retentions:
                    tasks.start_soon(retention.sweep)
        left = [name for name, (folder, (key,)) in hosts.items() if has_image(folder, key)]
        assert len(left) == 1
        found = await operator.holdings(A)
        assert [(host_of(copy.holder), copy.counted) for copy in found.holders] == [(left[0], True)]
        keeping = retentions[list(hosts).index(left[0])]
        verdict = await keeping.explain(f"ghcr.io/kernel/x@{A}")
        assert verdict.reason is Reason.LAST_COPY
        assert keeping.fleet is not None
        assert keeping.fleet.state is FleetState.JOINED
        assert [copy.holder for copy in await keeping.fleet.holders(A)] == [found.holders[0].holder]
        status = await keeping.fleet.status()
        assert sorted((host.host, host.live) for host in status.hosts) == [(name, True) for name in hosts]
        assert keeping.fleet.local_status().holder == found.holders[0].holder
    assert not any(host.live for host in (await operator.status()).hosts)


async def test_while_the_fleet_is_paused_nothing_goes(
    etcd_cluster: Cluster, fleet_name: str, operator: FleetOperator, tmp_path: Path
) -> None:
    folders = [make_host(tmp_path, name, "a") for name in ("h1", "h2")]
    configs = [config_of(folder, etcd_cluster, fleet_name, folder.name) for folder, _ in folders]
    async with engines(configs) as (one, other):
        await operator.pause("test", datetime.now(UTC), "to see")
        for retention in (one, other):
            report = await retention.sweep()
            assert report.deleted_images == 0
        await one.sweep()
        verdict = await one.explain(f"ghcr.io/kernel/x@{A}")
        assert verdict.reason is Reason.FLEET_PAUSED
        await operator.resume()
        assert (await one.sweep()).deleted_images == 1


async def test_without_an_engine_a_sweep_joins_deletes_and_leaves(
    etcd_cluster: Cluster, fleet_name: str, operator: FleetOperator, tmp_path: Path
) -> None:
    folder, (spare, last) = make_host(tmp_path, "h1", "a", "b")
    other, _ = make_host(tmp_path, "h2", "a")
    async with engines([config_of(other, etcd_cluster, fleet_name, "h2")]) as (running,):
        await running.sweep()
        async with engines([config_of(folder, etcd_cluster, fleet_name, "h1")]) as (once,):
            assert (await once.sweep()).deleted_images == 1
        assert (has_image(folder, spare), has_image(folder, last)) == (False, True)
        live = {host.host: host.live for host in (await operator.status()).hosts}
        assert live == {"h1": False, "h2": True}


async def test_a_plan_without_an_engine_reads_and_writes_nothing(
    etcd_cluster: Cluster, fleet_name: str, operator: FleetOperator, tmp_path: Path
) -> None:
    folder, _ = make_host(tmp_path, "h1", "a", "b")
    other, _ = make_host(tmp_path, "h2", "a")
    async with engines([config_of(other, etcd_cluster, fleet_name, "h2")]) as (running,):
        await running.sweep()
        async with open_inspection(
            config_of(folder, etcd_cluster, fleet_name, "h1"), Platform()
        ) as inspection:
            made = await inspection.plan()
            verdicts = {verdict.digest: verdict for verdict in made.verdicts}
            assert verdicts[A].reason is Reason.EXPIRED
            assert verdicts[B].reason is Reason.LAST_COPY
        assert {host.host for host in (await operator.status()).hosts} == {"h2"}
    assert not (folder / "system/hmret/cache-id").exists()


async def test_without_etcd_an_engine_opens_marks_and_keeps_everything(
    tmp_path: Path, anyio_backend: str
) -> None:
    folder, (key,) = make_host(tmp_path, "h1", "a")
    config = make_config(folder, fleet=FleetConfig(endpoints=["http://127.0.0.1:1"]))
    async with engines([config]) as (retention,):
        report = await retention.sweep()
        assert (report.deleted_images, report.status) == (0, "success")
        assert (await retention.mark_used(f"ghcr.io/kernel/x@{A}")).digest == A
        assert retention.fleet is not None
        local = retention.fleet.local_status()
        assert (local.state, local.host) == (FleetState.UNREACHABLE, host_platform.node())
        assert "127.0.0.1:1" in (local.detail or "")
    assert has_image(folder, key)


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_restore_of_etcd_is_noticed_and_nothing_goes_until_a_reset(
    etcd: Cluster, fleet_name: str, tmp_path: Path, anyio_backend: str
) -> None:
    backup = tmp_path / "backup"
    folders = [make_host(tmp_path, name, "a") for name in ("h1", "h2")]
    configs = [config_of(folder, etcd, fleet_name, folder.name) for folder, _ in folders]
    store = Gateway(etcd.endpoints, timeout=10)
    operator = FleetOperator(store, fleet_name)
    await operator.init()
    await operator.pause("test", datetime.now(UTC), "until it is put back")
    async with engines(configs) as (one, other):
        await one.sweep()
        await other.sweep()
        await anyio.to_thread.run_sync(etcd.ctl, "snapshot", "save", str(backup))
        # So many that what the hosts write after the restore does not reach what they have seen.
        for number in range(50):
            await store.transact(Txn((), (Put("/other", str(number)),)))
        make_image(folders[0][0], "ghcr.io/kernel/x", "b", tags=("vb",))
        await one.sweep()
        await until_registered(operator, B)
        await operator.resume()
        await anyio.to_thread.run_sync(etcd.restore, backup)
        store.forget_seen()
        make_image(folders[0][0], "ghcr.io/kernel/x", "c", tags=("vc",))
        await one.sweep()
        await until(one, FleetState.ROLLED_BACK)
        assert (await operator.status()).rolled_back
        for retention in (one, other):
            assert (await retention.sweep()).deleted_images == 0
        await until(other, FleetState.ROLLED_BACK)
        await operator.reset()
        await operator.resume()
        await until(one, FleetState.JOINED)
        await until(other, FleetState.JOINED)
        reports = [await one.sweep(), await other.sweep()]
        assert sum(report.deleted_images for report in reports) == 1
    await store.aclose()


async def until(retention: Retention, state: FleetState) -> None:
    """Wait until a host stands to its fleet in a way."""
    assert retention.fleet is not None
    with anyio.fail_after(PATIENCE):
        while retention.fleet.state is not state:  # noqa: ASYNC110 - nothing tells
            await anyio.sleep(0.05)


async def until_registered(operator: FleetOperator, digest: str) -> None:
    """Wait until somebody has registered an image."""
    with anyio.fail_after(PATIENCE):
        while not (await operator.holdings(digest)).holders:  # noqa: ASYNC110 - etcd tells nobody
            await anyio.sleep(0.05)
