"""Hosts that release the same images at the same time, on a real etcd: enough copies stay, and no more."""

from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from hmret.actors.fleet import releasing
from hmret.fleet.reading import CopyRead, FleetRead
from hmret.fleet.store import Txn
from hmret.fleet.transactions import Session, release
from support.bounds import bound
from support.etcd import Cluster, missing_etcd
from support.field_hosts import Field, FieldHost, Rounds, Tally, images_of, make_digest
from support.field_processes import change_settings, found_fleet, judge, tell

pytestmark = pytest.mark.skipif(bool(missing_etcd()), reason=missing_etcd())


def _field(cluster: Cluster, folder: Path, fleet: str, hosts: int, images: int, copies: int) -> Field:
    """Make hosts that all have all images."""
    names = [f"h{number}" for number in range(hosts)]
    field = Field(
        base=str(folder),
        hosts=names,
        endpoints=cluster.endpoints,
        fleet=fleet,
        copies=copies,
        images=images,
        session_seconds=60,
        timeout=30,
        stays=0,
    )
    for name in names:
        field.folder(name).mkdir(parents=True)
        for number in range(images):
            (field.folder(name) / make_digest(number).removeprefix("sha256:")).touch()
    return field


async def _empty_all(field: Field) -> None:
    hosts = [FieldHost(field, name, seed=7) for name in field.hosts]
    rounds = Rounds(len(hosts))
    async with anyio.create_task_group() as tasks:
        for host in hosts:
            tasks.start_soon(host.empty, rounds)


@pytest.mark.parametrize(
    ("backend", "hosts", "images", "copies"),
    [
        ("asyncio", 3, bound(40, 1000), 1),
        ("trio", 3, bound(40, 1000), 2),
        ("asyncio", 12, bound(12, 300), 1),
        ("trio", 12, bound(12, 300), 3),
    ],
)
def test_of_hosts_that_all_delete_the_same_images_just_enough_copies_stay(
    backend: str,
    hosts: int,
    images: int,
    copies: int,
    etcd_cluster: Cluster,
    fleet_name: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    keys = found_fleet(etcd_cluster, fleet_name)
    field = _field(etcd_cluster, tmp_path, fleet_name, hosts, images, copies)
    anyio.run(_empty_all, field, backend=backend)
    outcome = judge(etcd_cluster, field, keys)
    tell(capsys, request.node.name, outcome)
    assert outcome.violations == []
    left = [images_of(field, name) for name in field.hosts]
    counts = {digest: sum(digest in here for here in left) for digest in map(make_digest, range(images))}
    assert set(counts.values()) == {copies}
    assert outcome.releases == outcome.deleted == (hosts - copies) * images


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_once_a_pause_has_returned_nothing_is_released_until_somebody_resumes(
    backend: str, etcd_cluster: Cluster, fleet_name: str, tmp_path: Path
) -> None:
    keys = found_fleet(etcd_cluster, fleet_name)
    field = _field(etcd_cluster, tmp_path, fleet_name, hosts=3, images=40, copies=1)

    async def pause_and_resume() -> tuple[int, int]:
        tally = Tally()
        paused = {"by": "test", "at": "2026-01-01T00:00:00Z", "reason": "to see"}
        async with anyio.create_task_group() as tasks:
            for name in field.hosts:
                tasks.start_soon(FieldHost(field, name, seed=8, tally=tally).live)
            await tally.wait_more("released", 20)
            begin = await change_settings(etcd_cluster, keys, paused=paused)
            await tally.wait_more("fleet_paused", 20)
            end = await change_settings(etcd_cluster, keys)
            await tally.wait_more("released", 20)
            tasks.cancel_scope.cancel()
        return begin, end

    begin, end = anyio.run(pause_and_resume, backend=backend)
    outcome = judge(etcd_cluster, field, keys)
    assert outcome.violations == []
    assert [revision for revision in outcome.revisions if begin < revision < end] == []
    assert outcome.releases >= 40


def test_without_witnesses_in_the_transaction_the_same_race_is_lost(
    etcd_cluster: Cluster, fleet_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof can fail: hosts that only look, and do not compare, delete the last copies."""

    def release_blindly(
        session: Session, copy: CopyRead, read: FleetRead, witnesses: Sequence[str], token: int
    ) -> Txn:
        return release(session, copy, read, (), token)

    monkeypatch.setattr(releasing, "release", release_blindly)
    keys = found_fleet(etcd_cluster, fleet_name)
    field = _field(etcd_cluster, tmp_path, fleet_name, hosts=3, images=60, copies=1)
    anyio.run(_empty_all, field)
    outcome = judge(etcd_cluster, field, keys)
    assert any("0 others count, not 1" in violation for violation in outcome.violations)
    assert any('"violation"' in violation or "'violation'" in violation for violation in outcome.violations)
