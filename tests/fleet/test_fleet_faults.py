"""Hosts that are killed and paused, and members of etcd that are: no release without enough other copies."""

import random
import time
from functools import partial
from pathlib import Path

import attrs
import pytest

from support.bounds import IS_WHOLE, bound
from support.etcd import Cluster, missing_etcd, start_etcd
from support.field_hosts import Field
from support.field_processes import Processes, end_tokens, found_fleet, holder_of, judge, tell, wait_settled
from support.partitions import missing_namespaces, start_divisible_etcd
from support.patience import wait_until

pytestmark = pytest.mark.skipif(bool(missing_etcd()), reason=missing_etcd())

_SESSION_SECONDS = 3
_COPIES = [f"h0~{number}" for number in range(bound(1, 10))]


def _field(cluster: Cluster, folder: Path, fleet: str, *, hosts: int = 3, copies: int = 1) -> Field:
    return Field(
        base=str(folder),
        hosts=[f"h{number}" for number in range(hosts)],
        endpoints=cluster.endpoints,
        fleet=fleet,
        copies=copies,
        images=10 * hosts,
        session_seconds=_SESSION_SECONDS,
        timeout=1,
    )


def _wait_releases(processes: Processes, count: int) -> None:
    """Wait for so many releases from now on."""
    processes.wait_events("released", processes.count("released") + count)


# All of it takes a quarter of an hour; each wait in it gives up by itself.
@pytest.mark.timeout(bound(900, 7200))
def test_hosts_that_are_killed_or_paused_beyond_their_lease_release_nothing_that_is_needed(
    etcd_cluster: Cluster, fleet_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = found_fleet(etcd_cluster, fleet_name)
    field = _field(etcd_cluster, tmp_path, fleet_name)
    processes = Processes(field, "asyncio", seed=3)
    with processes.running():
        for number in range(bound(6, 270)):
            _wait_releases(processes, processes.random.randint(1, 12))
            if number % bound(6, 2):
                processes.kill_one()
            else:
                processes.pause_one(_SESSION_SECONDS + 1)
            if number % 20 == 4:
                end_tokens(etcd_cluster, keys)
        wait_settled(etcd_cluster, field, keys)
    outcome = judge(etcd_cluster, field, keys)
    tell(capsys, "kills and pauses", outcome, f"{processes.kills} kills, {processes.pauses} pauses")
    assert outcome.violations == []
    assert outcome.releases > 30


def _are_apart(processes: Processes, original: str, copy: str) -> bool:
    states = [processes.state(original), processes.state(copy)]
    if sorted(map(str, states)) == ["duplicate_host", "joined"]:
        return True
    field = processes.field
    return states == ["joined", "joined"] and holder_of(field, original) != holder_of(field, copy)


def test_a_copy_of_a_running_host_s_data_directory_is_not_taken_for_it(
    etcd_cluster: Cluster, fleet_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of the two has the session, and the other waits; or, once they differ, they are two holders."""
    keys = found_fleet(etcd_cluster, fleet_name)
    field = attrs.evolve(_field(etcd_cluster, tmp_path, fleet_name), hosts=["h0", "h1", "h2", *_COPIES])
    processes = Processes(field, "trio", seed=7, hosts=["h0", "h1", "h2"])
    with processes.running():
        original = "h0"
        for copy in _COPIES:
            _wait_releases(processes, 20)
            processes.start_copy(original, copy)
            processes.wait_state(copy, "joined", "duplicate_host")
            _wait_releases(processes, 20)
            wait_until(partial(_are_apart, processes, original, copy), "the two are told from each other")
            processes.end(original)
            processes.wait_state(copy, "joined")
            original = copy
            end_tokens(etcd_cluster, keys)
        _wait_releases(processes, 20)
        wait_settled(etcd_cluster, field, keys, [original, "h1", "h2"])
    outcome = judge(etcd_cluster, field, keys)
    tell(capsys, "copied data directories", outcome, f"{len(_COPIES)} copies")
    assert outcome.violations == []


def _has_changed(cluster: Cluster, key: str, before: str) -> bool:
    return cluster.ctl("get", key) != before


def test_a_host_whose_record_was_put_back_from_a_backup_is_another_holder(
    etcd_cluster: Cluster, fleet_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = found_fleet(etcd_cluster, fleet_name)
    field = _field(etcd_cluster, tmp_path / "field", fleet_name)
    processes = Processes(field, "asyncio", seed=8)
    with processes.running():
        for number in range(bound(1, 30)):
            _wait_releases(processes, 10)
            host = processes.random.choice(field.hosts)
            former = holder_of(field, host)
            processes.back_up(host, tmp_path / f"backup{number}")
            mark = etcd_cluster.ctl("get", keys.mark(former))
            _wait_releases(processes, 30)
            # Until it has registered something, the record that is put back is as good as the one that is there.
            wait_until(
                partial(_has_changed, etcd_cluster, keys.mark(former), mark), "the host registers a copy"
            )
            joined = processes.count("state", host=host, state="joined")
            processes.put_back(host, tmp_path / f"backup{number}")
            processes.wait_events("state", joined + 1, host=host, state="joined")
            assert holder_of(field, host) != former
            end_tokens(etcd_cluster, keys)
        _wait_releases(processes, 10)
        wait_settled(etcd_cluster, field, keys)
    outcome = judge(etcd_cluster, field, keys)
    tell(capsys, "records put back", outcome, f"{bound(1, 30)} put back")
    assert outcome.violations == []


def test_while_the_leader_stands_still_or_dies_nothing_is_released_that_is_needed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with start_etcd(3) as cluster:
        keys = found_fleet(cluster, "leaders")
        field = _field(cluster, tmp_path, "leaders")
        processes = Processes(field, "trio", seed=4)
        with processes.running():
            for number in range(bound(2, 40)):
                _wait_releases(processes, 10)
                leader = cluster.leader()
                if number % 2:
                    leader.kill()
                    _wait_releases(processes, 10)
                    leader.start()
                else:
                    leader.freeze()
                    _wait_releases(processes, 10)
                    leader.thaw()
                cluster.wait()
            wait_settled(cluster, field, keys)
        outcome = judge(cluster, field, keys)
    tell(capsys, "leaders frozen and killed", outcome, f"{bound(2, 40)} leaders")
    assert outcome.violations == []


def test_a_leader_that_is_cut_off_from_its_peers_but_not_from_hosts_grants_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reason = missing_namespaces()
    if reason:
        pytest.skip(reason)
    with start_divisible_etcd() as (cluster, network):
        keys = found_fleet(cluster, "partition")
        field = _field(cluster, tmp_path, "partition")
        processes = Processes(field, "asyncio", seed=6)
        with processes.running():
            for number in range(bound(2, 40)):
                _wait_releases(processes, 10)
                leader = cluster.members.index(cluster.leader())
                if number % 2:
                    network.cut_clients(leader)
                    _wait_releases(processes, 10)
                    network.join_clients(leader)
                else:
                    network.isolate(leader)
                    _wait_releases(processes, 10)
                    network.heal()
                cluster.wait()
            wait_settled(cluster, field, keys)
        outcome = judge(cluster, field, keys)
    tell(capsys, "partitions", outcome, f"{bound(2, 40)} partitions")
    assert outcome.violations == []


@pytest.mark.skipif(not IS_WHOLE, reason="takes minutes; make prove")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_soak_with_all_faults_at_once_has_no_violation(
    backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = random.Random(backend)
    ends = time.monotonic() + 240
    with start_etcd(3) as cluster:
        keys = found_fleet(cluster, "soak", min_copies=2)
        field = _field(cluster, tmp_path, "soak", hosts=12, copies=1)
        processes = Processes(field, backend, seed=5, each=3)
        members = frozen = 0
        with processes.running():
            while time.monotonic() < ends:
                time.sleep(generator.uniform(0, 2))
                match generator.randrange(6):
                    case 0 | 1:
                        processes.kill_one()
                    case 2:
                        processes.pause_one(generator.uniform(0, _SESSION_SECONDS + 2))
                    case 3:
                        member = generator.choice(cluster.members)
                        member.kill()
                        time.sleep(generator.uniform(0, 3))
                        member.start()
                        cluster.wait()
                        members += 1
                    case 4:
                        end_tokens(cluster, keys)
                    case _:
                        member = generator.choice(cluster.members)
                        member.freeze()
                        time.sleep(generator.uniform(0, _SESSION_SECONDS + 2))
                        member.thaw()
                        cluster.wait()
                        frozen += 1
            wait_settled(cluster, field, keys)
        outcome = judge(cluster, field, keys)
    remarks = f"{processes.kills} kills, {processes.pauses} pauses, {members} members killed, {frozen} frozen"
    tell(capsys, f"soak on {backend}", outcome, remarks)
    assert outcome.violations == []
    assert outcome.releases > 500
