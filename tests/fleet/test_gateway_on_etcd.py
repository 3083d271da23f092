"""The gateway and a real etcd: users, TLS, a full one, members that stand still, die or were put back."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fleet.gateways import PASSWORDS
from hmret.fleet.credentials import TlsFiles
from hmret.fleet.gateway import Gateway
from hmret.fleet.store import (
    Delete,
    Health,
    OutcomeUnknownError,
    Put,
    Range,
    RangeResult,
    RevisionWentBackError,
    StoreError,
    StoreRefusedError,
    StoreUnreachableError,
    Txn,
    WrongCredentialsError,
    absent,
    prefix_end,
    value_is,
)
from hmret.model.records.fleet import Seen
from support.etcd import Cluster, missing_etcd, start_etcd

pytestmark = pytest.mark.skipif(bool(missing_etcd()), reason=missing_etcd())


@asynccontextmanager
async def _gateway(cluster: Cluster, **options: Any) -> AsyncIterator[Gateway]:
    gateway = Gateway(cluster.endpoints, **{"timeout": 30, **options})
    try:
        yield gateway
    finally:
        await gateway.aclose()


async def test_keys_and_values_come_back_as_they_were(etcd_cluster: Cluster, fleet_name: str) -> None:
    key, value = f"{fleet_name}/sha256:0", '{"by":"Zoë \U0001f300","at":""}'
    async with _gateway(etcd_cluster) as gateway:
        lease = await gateway.grant(60)
        put = await gateway.transact(Txn((absent(key),), (Put(key, value, lease), Put(f"{key}!", ""))))
        assert put.succeeded
        found = await gateway.range(key, prefix_end(f"{fleet_name}/"), limit=1)
        (first,) = found.key_values
        assert (first.key, first.value, first.lease) == (key, value, lease)
        assert (first.create_revision, first.mod_revision, first.version) == (put.revision, put.revision, 1)
        assert (found.count, found.more) == (2, True)
        again = await gateway.transact(Txn((value_is(key, value),), (), (Range(key),)))
        assert (again.succeeded, again.results) == (True, ())
        refused = await gateway.transact(Txn((absent(key),), (), (Range(key, keys_only=True),)))
        (there,) = refused.results
        assert isinstance(there, RangeResult)
        assert [(each.key, each.value) for each in there.key_values] == [(key, "")]
        assert await gateway.keep_alive(lease) == 60
        await gateway.revoke(lease)
        assert await gateway.keep_alive(lease) == 0
        assert (await gateway.range(key)).key_values == ()


async def test_how_etcd_is_has_version_size_quota_and_alarms(etcd_cluster: Cluster) -> None:
    async with _gateway(etcd_cluster) as gateway:
        health = await gateway.health()
    assert isinstance(health, Health)
    assert re.fullmatch(r"3\.\d+\.\d+", health.version)
    assert health.size_bytes > 0
    assert health.quota_bytes == 2 << 30
    assert health.alarms == ()


def _tls(certificates: Path, *, has_client: bool = True, ca: str = "ca.pem") -> TlsFiles:
    if not has_client:
        return TlsFiles(ca_file=str(certificates / ca))
    return TlsFiles(
        str(certificates / ca), str(certificates / "client.pem"), str(certificates / "client.key")
    )


def _password_file(folder: Path, password: str) -> str:
    file = folder / "password"
    file.write_text(password + "\n")
    return str(file)


async def test_a_user_with_a_client_certificate_may_use_its_prefix(
    secured: Cluster, certificates: Path, tmp_path: Path
) -> None:
    file = _password_file(tmp_path, PASSWORDS["hmret"])
    async with _gateway(secured, tls=_tls(certificates), user="hmret", password_file=file) as gateway:
        assert (await gateway.transact(Txn((), (Put("/hmret/1/a", "1"),)))).succeeded
        assert (await gateway.range("/hmret/1/a")).value("/hmret/1/a") == "1"
        assert await gateway.keep_alive(await gateway.grant(60)) == 60
        assert (await gateway.health()).alarms == ()
        for call in (gateway.range("/other"), gateway.transact(Txn((), (Put("/other", "1"),)))):
            with pytest.raises(WrongCredentialsError, match=r"permission denied; grant the role"):
                await call


async def test_a_wrong_password_is_refused_by_etcd_and_no_message_has_it(
    secured: Cluster, certificates: Path, tmp_path: Path
) -> None:
    file = _password_file(tmp_path, "not-it-at-all")
    async with _gateway(secured, tls=_tls(certificates), user="hmret", password_file=file) as gateway:
        with pytest.raises(
            WrongCredentialsError, match=r"^https://127\S+: etcd does not accept user"
        ) as caught:
            await gateway.range("/hmret/1/a")
    assert "not-it-at-all" not in str(caught.value)


async def test_a_token_that_a_restart_of_its_member_has_lost_is_renewed(
    secured: Cluster, certificates: Path, tmp_path: Path
) -> None:
    file = _password_file(tmp_path, PASSWORDS["hmret"])
    async with _gateway(secured, tls=_tls(certificates), user="hmret", password_file=file) as gateway:
        await gateway.range("/hmret/1/a")
        gateway._credentials._token = "a-token-of-another-time.7"
        assert (await gateway.transact(Txn((), (Put("/hmret/1/a", "2"),)))).succeeded
        assert (await gateway.range("/hmret/1/a")).value("/hmret/1/a") == "2"


async def test_without_a_user_a_secured_etcd_refuses_with_the_remedy(
    secured: Cluster, certificates: Path
) -> None:
    async with _gateway(secured, tls=_tls(certificates)) as gateway:
        with pytest.raises(WrongCredentialsError, match=r"set hmret\.fleet\.user"):
            await gateway.range("/hmret/1/a")


async def test_without_a_client_certificate_nothing_is_answered(secured: Cluster, certificates: Path) -> None:
    async with _gateway(secured, tls=_tls(certificates, has_client=False)) as gateway:
        with pytest.raises(
            StoreUnreachableError, match=r"ended the connection .* check hmret\.fleet\.cert_file and key_file"
        ):
            await gateway.range("/hmret/1/a")


async def test_a_certificate_of_another_authority_is_not_accepted(
    secured: Cluster, certificates: Path
) -> None:
    async with _gateway(secured, tls=_tls(certificates, has_client=False, ca="client.pem")) as gateway:
        with pytest.raises(
            StoreUnreachableError, match=r"certificate is not accepted .* check hmret\.fleet\.ca_file"
        ):
            await gateway.transact(Txn((), (Put("/hmret/1/a", "1"),)))


async def test_a_client_certificate_with_a_name_is_refused_by_etcd_and_the_remedy_told(
    secured: Cluster, certificates: Path
) -> None:
    named = TlsFiles(
        str(certificates / "ca.pem"), str(certificates / "named.pem"), str(certificates / "named.key")
    )
    async with _gateway(secured, tls=named) as gateway:
        with pytest.raises(
            StoreRefusedError, match=r"has a CommonName; make hmret\.fleet\.cert_file one without"
        ):
            await gateway.range("/hmret/1/a")


async def test_http_where_etcd_speaks_https_is_told(secured: Cluster) -> None:
    gateway = Gateway([secured.endpoints[0].replace("https", "http")])
    with pytest.raises(
        StoreUnreachableError, match=r"check .* whether hmret\.fleet\.endpoints should say https"
    ):
        await gateway.range("a")
    await gateway.aclose()


async def _transact_all(gateway: Gateway, txns: Sequence[Txn]) -> None:
    for txn in txns:
        await gateway.transact(txn)


async def test_a_full_etcd_refuses_what_writes_and_does_what_deletes() -> None:
    with start_etcd(options=["--quota-backend-bytes", str(1 << 20)]) as cluster:
        async with _gateway(cluster) as gateway:
            await gateway.transact(Txn((), (Put("first", "1"),)))
            # It tells of the quota after the change that went beyond it was made.
            puts = [Txn((), (Put(f"big{number}", "x" * 100_000),)) for number in range(40)]
            with pytest.raises(
                OutcomeUnknownError, match=r"etcd is full .* compact and defragment"
            ) as caught:
                await _transact_all(gateway, puts)
            assert "\n" not in str(caught.value)
            assert (await gateway.health()).alarms == ("NOSPACE",)
            assert (await gateway.health()).quota_bytes == 1 << 20
            with pytest.raises(StoreUnreachableError, match=r"etcd is full"):
                await gateway.grant(60)
            deleted = await gateway.transact(Txn((value_is("first", "1"),), (Delete("first"),)))
            assert deleted.succeeded
            assert (await gateway.range("first")).key_values == ()


async def test_a_member_that_stands_still_is_left_for_another(etcd_cluster: Cluster, fleet_name: str) -> None:
    member = next(each for each in etcd_cluster.members if each is not etcd_cluster.leader())
    key = f"{fleet_name}/a"
    endpoints = [member.endpoint, *(set(etcd_cluster.endpoints) - {member.endpoint})]
    gateway = Gateway(endpoints, first=0, timeout=2)
    await gateway.transact(Txn((), (Put(key, "1"),)))
    member.freeze()
    try:
        # On a busy machine another member may have been asked by now.
        gateway._next = 0
        with pytest.raises(OutcomeUnknownError, match=r"did not answer \(time-out\)"):
            await gateway.transact(Txn((), (Put(key, "2"),)))
        assert (await gateway.transact(Txn((), (Put(key, "3"),)))).succeeded
        gateway._next = 0
        assert (await gateway.range(key)).value(key) == "3"
    finally:
        member.thaw()
    await gateway.aclose()
    etcd_cluster.wait()


@pytest.mark.parametrize("anyio_backend", ["trio"])  # elections take seconds
async def test_without_a_majority_nothing_is_read_or_written_and_with_one_again() -> None:
    """A killed leader, then no majority, then one again: what was acknowledged is there."""
    with start_etcd(3) as cluster:
        gateway = Gateway(cluster.endpoints, timeout=30)
        acknowledged = await gateway.transact(Txn((), (Put("a", "1"),)))
        leader = cluster.leader()
        leader.kill()
        assert (await gateway.range("a")).value("a") == "1"
        others = [member for member in cluster.members if member is not leader]
        others[0].kill()
        impatient = Gateway([others[1].endpoint], timeout=0.2)
        with pytest.raises(StoreUnreachableError, match=r"majority"):
            await impatient.range("a")
        with pytest.raises(OutcomeUnknownError, match=r"majority"):
            await impatient.transact(Txn((), (Put("a", "2"),)))
        await impatient.aclose()
        leader.start()
        cluster.wait([leader, others[1]])
        found = await gateway.range("a")
        await gateway.aclose()
    assert found.value("a") in {"1", "2"}
    assert found.revision >= acknowledged.revision


async def test_an_etcd_put_back_from_a_backup_is_noticed(etcd: Cluster, tmp_path: Path) -> None:
    async with _gateway(etcd) as gateway:
        await gateway.transact(Txn((), (Put("a", "1"),)))
        before = gateway.seen
        backup = tmp_path / "backup"
        etcd.ctl("snapshot", "save", str(backup))
        for number in range(3):
            await gateway.transact(Txn((), (Put("a", str(number)),)))
        etcd.restore(backup)
        with pytest.raises(RevisionWentBackError, match=r"revision went back from \d+ to \d+"):
            await gateway.range("a")
        with pytest.raises(RevisionWentBackError):
            await gateway.transact(Txn((), (Put("b", "1"),)))
        seen = gateway.seen
        gateway.forget_seen()
        assert (await gateway.range("a")).value("a") == "1"
    # So is it by one that was started since, from what it had on record; one that has seen less cannot notice.
    async with _gateway(etcd, seen=seen) as gateway:
        with pytest.raises(RevisionWentBackError):
            await gateway.range("a")
    async with _gateway(etcd, seen=before) as gateway:
        await gateway.range("a")


async def test_another_cluster_in_its_place_is_noticed(etcd: Cluster) -> None:
    async with _gateway(etcd, seen=Seen(cluster_id="12345", revision=1)) as gateway:
        with pytest.raises(RevisionWentBackError, match=r"cluster \d+, and it was 12345"):
            await gateway.range("a")


async def test_too_many_and_too_large_is_a_definite_no(etcd_cluster: Cluster, fleet_name: str) -> None:
    async with _gateway(etcd_cluster) as gateway:
        many = Txn((), tuple(Put(f"{fleet_name}/{number}", "1") for number in range(129)))
        large = Txn((), (Put(f"{fleet_name}/large", "x" * 1_600_000),))
        for txn in (many, large):
            with pytest.raises(StoreRefusedError):
                await gateway.transact(txn)
        assert (await gateway.range(f"{fleet_name}/", prefix_end(f"{fleet_name}/"))).count == 0
    assert issubclass(StoreRefusedError, StoreError)
