"""The largest transactions of each kind on a real etcd, and what it answers them with."""

from collections.abc import AsyncIterator

import pytest

from hmret.fleet.gateway import Gateway
from hmret.fleet.keys import FleetKeys, generation_key
from hmret.fleet.operating import FleetOperator
from hmret.fleet.reading import (
    MOST_DIGESTS,
    HolderRead,
    holder_operations,
    judge_release,
    parse_reading,
    read_operations,
)
from hmret.fleet.store import Put, RangeResult, Txn
from hmret.fleet.stored_values import encode_use
from hmret.fleet.transactions import (
    MOST_HOLDINGS,
    MOST_USES,
    NewMark,
    Session,
    check_registered,
    go_live,
    join,
    register,
    release,
    take_out,
    take_token,
    tell_uses,
)
from hmret.model.fleet import CopyRules, ReleaseOutcome
from hmret.model.times import SECOND
from support.builders import START, START_NS, digest
from support.etcd import Cluster, missing_etcd

pytestmark = pytest.mark.skipif(bool(missing_etcd()), reason=missing_etcd())

NOW = START_NS // SECOND
DIGESTS = [digest(f"{number:04x}") for number in range(MOST_HOLDINGS)]


@pytest.fixture
async def store(etcd_cluster: Cluster, anyio_backend: str) -> AsyncIterator[Gateway]:
    store = Gateway(etcd_cluster.endpoints, timeout=10)
    yield store
    await store.aclose()


@pytest.fixture
async def keys(store: Gateway, fleet_name: str) -> FleetKeys:
    return FleetKeys(fleet_name, await FleetOperator(store, fleet_name).init())


async def begin(store: Gateway, keys: FleetKeys, holder: str, mark: str = "5e551045e5510405") -> Session:
    """Have a holder join."""
    found = HolderRead.of((await store.transact(Txn((), holder_operations(keys, holder)))).results)
    session = Session(keys, holder, mark, await store.grant(600))
    assert (await store.transact(join(session, found))).succeeded
    assert (await store.transact(go_live(session, "{}"))).succeeded
    return session


async def test_the_largest_batches_are_taken(store: Gateway, keys: FleetKeys) -> None:
    session = await begin(store, keys, "a.00000001")
    assert (
        await store.transact(
            register(session, dict.fromkeys(DIGESTS, 1), NewMark("a1", session.id), START_NS)
        )
    ).succeeded
    found = await store.transact(Txn((), check_registered(session, DIGESTS).success))
    assert all(isinstance(each, RangeResult) and each.key_values for each in found.results)
    asked = read_operations(keys, session.holder, DIGESTS[:MOST_DIGESTS], token=0)
    _, copies = parse_reading(
        keys,
        session.id,
        DIGESTS[:MOST_DIGESTS],
        (await store.transact(Txn((), asked))).results,
        holder=session.holder,
    )
    assert all(copy.is_last(session.holder) for copy in copies.values())
    assert (await store.transact(take_out(session, DIGESTS, NewMark("a2", "a1")))).succeeded
    found = await store.transact(check_registered(session, DIGESTS))
    assert not any(isinstance(each, RangeResult) and each.key_values for each in found.results)


async def test_uses_are_noted_where_they_are_news(store: Gateway, keys: FleetKeys) -> None:
    session = await begin(store, keys, "a.00000001")
    known = {DIGESTS[0]: NOW, DIGESTS[1]: NOW - 61, DIGESTS[2]: NOW - 60}
    puts = tuple(Put(keys.used(each), encode_use(at)) for each, at in known.items())
    await store.transact(Txn((), puts))
    told = dict.fromkeys(DIGESTS[:MOST_USES], NOW)
    assert (await store.transact(tell_uses(session, told, 60))).succeeded
    noted = [(await store.range(keys.used(each))).value(keys.used(each)) for each in DIGESTS[:4]]
    assert noted == [encode_use(NOW), encode_use(NOW), encode_use(NOW - 60), encode_use(NOW)]


async def test_a_release_with_as_many_witnesses_as_there_can_be(store: Gateway, keys: FleetKeys) -> None:
    session = await begin(store, keys, "a.00000001")
    others = [await begin(store, keys, f"h{number}.{number:08x}") for number in range(41)]
    for each in (session, *others):
        await store.transact(register(each, {DIGESTS[0]: 1}, NewMark(each.id, each.id), START_NS))
    assert (await store.transact(take_token(session, 0, await store.grant(3600), "00ff"))).succeeded
    asked = read_operations(keys, session.holder, DIGESTS[:1], token=0)
    results = (await store.transact(Txn((), asked))).results
    read, copies = parse_reading(keys, session.id, DIGESTS[:1], results, holder=session.holder)
    copy = copies[DIGESTS[0]]
    witnesses = judge_release(
        copy, read, CopyRules(min_copies=40, last_copies_for=None), session.holder, START
    )
    assert not isinstance(witnesses, ReleaseOutcome)
    txn = release(session, copy, read, witnesses, 0)
    assert len(txn.compares) == 126
    await store.revoke(others[int(witnesses[0][1:].partition(".")[0])].lease)
    refused = await store.transact(txn)
    assert not refused.succeeded
    read, copies = parse_reading(keys, session.id, DIGESTS[:1], refused.results, holder=session.holder)
    assert witnesses[0] not in read.live
    again = judge_release(
        copies[DIGESTS[0]], read, CopyRules(min_copies=40, last_copies_for=None), session.holder, START
    )
    assert not isinstance(again, ReleaseOutcome)
    assert (await store.transact(release(session, copies[DIGESTS[0]], read, again, 0))).succeeded
    assert not (await store.range(keys.holding(DIGESTS[0], session.holder))).key_values


async def test_what_an_earlier_session_writes_is_refused(store: Gateway, keys: FleetKeys) -> None:
    session = await begin(store, keys, "a.00000001")
    later = await begin(store, keys, "a.00000001", "1a7e01a7e01a7e01")
    assert not (
        await store.transact(register(session, {DIGESTS[0]: 1}, NewMark("a1", later.id), START_NS))
    ).succeeded
    assert (
        await store.transact(register(later, {DIGESTS[0]: 1}, NewMark("a2", later.id), START_NS))
    ).succeeded
    assert (await store.range(generation_key(keys.fleet))).value(
        generation_key(keys.fleet)
    ) == keys.generation
