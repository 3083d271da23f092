"""Uses, leases and plans of an engine whose etcd stands still."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.model.fleet import FleetState
from hmret.model.policy.fleet import FleetConfig
from hmret.model.times import nanoseconds_of
from support.builders import digest, has_image, make_config, make_image, make_state
from support.etcd import Cluster, missing_etcd
from support.field_processes import found_fleet_async
from support.patience import patiently

pytestmark = pytest.mark.skipif(bool(missing_etcd()), reason=missing_etcd())

_REPOSITORY = "ghcr.io/kernel/x"
_IMAGE = f"{_REPOSITORY}@{digest('a')}"
_LONG_AGO = datetime.now(UTC) - timedelta(days=40)


async def _wait_joined(retention: Retention) -> None:
    assert retention.fleet is not None
    with patiently():
        while retention.fleet.state is not FleetState.JOINED:  # noqa: ASYNC110 - an engine has no event for it
            await anyio.sleep(0.01)


async def test_uses_and_leases_do_not_wait_for_an_etcd_that_stands_still(
    etcd: Cluster, tmp_path: Path
) -> None:
    """It would be waited for for an hour, and whatever is asked of it while a sweep waits returns before it goes on."""
    await found_fleet_async(etcd, "still")
    keys = [make_image(tmp_path, _REPOSITORY, letter, tags=(f"v{letter}",)) for letter in "ab"]
    for key in keys:
        make_state(tmp_path, key, nanoseconds_of(_LONG_AGO))
    fleet = FleetConfig(
        endpoints=etcd.endpoints,
        name="still",
        host="h1",
        timeout=timedelta(hours=1),
        hot_for=timedelta(days=1),
    )
    (member,) = etcd.members
    async with open_engine(make_config(tmp_path, fleet=fleet), Platform(), scheduled=False) as retention:
        await retention.sweep()
        await _wait_joined(retention)
        has_swept = False

        async def sweep() -> None:
            nonlocal has_swept
            await retention.sweep()
            has_swept = True

        member.freeze()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sweep)
            try:
                with patiently():
                    for _ in range(20):
                        await retention.mark_used(_IMAGE)
                    async with retention.lease(_IMAGE):
                        pass
                assert member.is_standing_still
                assert not has_swept
            finally:
                member.thaw()
    assert all(has_image(tmp_path, key) for key in keys)
