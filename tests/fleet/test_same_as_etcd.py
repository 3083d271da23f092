"""The store in memory answers the same transactions as a real etcd does, so that what is tested on it holds there."""

import random
from typing import Literal

import pytest

from hmret.fleet.gateway import Gateway
from hmret.fleet.store import (
    Compare,
    Delete,
    DeleteResult,
    Operation,
    Put,
    Range,
    RangeResult,
    Result,
    Store,
    StoreError,
    Txn,
    TxnResult,
    absent,
    exists,
    prefix_end,
)
from support.bounds import IS_WHOLE
from support.etcd import Cluster
from support.memory_client import Client
from support.memory_store import MemoryStore

_KEYS = tuple(f"k/{letter}" for letter in "abcdef")
_TARGETS: tuple[Literal["VALUE", "MOD", "CREATE", "VERSION"], ...] = ("VALUE", "MOD", "CREATE", "VERSION")
_RELATIONS: tuple[Literal["EQUAL", "GREATER", "LESS", "NOT_EQUAL"], ...] = (
    "EQUAL",
    "GREATER",
    "LESS",
    "NOT_EQUAL",
)
_COUNT = 20_000 if IS_WHOLE else 2_000


class _Both:
    """The two stores, which are asked the same; leases have numbers of their own in each."""

    def __init__(self, real: Store, generator: random.Random) -> None:
        self.real = real
        self.memory = MemoryStore(lambda: 0.0)
        self.client = Client(self.memory)
        self.random = generator
        self.leases: list[tuple[int, int]] = []
        """The numbers there and here; some are over."""

    async def grant(self) -> None:
        self.leases.append((await self.real.grant(3600), await self.client.grant(3600)))

    async def revoke(self) -> None:
        if self.leases:
            there, here = self.random.choice(self.leases)
            await self.real.revoke(there)
            await self.client.revoke(here)

    async def keep_alive(self) -> None:
        if self.leases:
            there, here = self.random.choice(self.leases)
            assert await self.real.keep_alive(there) == await self.client.keep_alive(here)

    async def transact(self) -> str:
        """Carry out a transaction on both; returns what became of it."""
        txn = self._txn(0)
        there = await _outcome(self.real, self._renumbered(txn, 0))
        here = await _outcome(self.client, self._renumbered(txn, 1))
        numbers = dict(self.leases)
        assert _plain(there, numbers) == _plain(here, {}), txn
        return type(here).__name__

    def _txn(self, depth: int) -> Txn:
        generator = self.random
        compares = tuple(self._compare() for _ in range(generator.choice((0, 1, 1, 2))))
        return Txn(compares, self._operations(depth), self._operations(depth))

    def _compare(self) -> Compare:
        generator = self.random
        key = generator.choice(_KEYS)
        target = generator.choice(_TARGETS)
        relation = generator.choice(_RELATIONS)
        if target == "VALUE":
            return Compare(key, "VALUE", relation, generator.choice("0123"))
        number = (
            generator.randrange(4)
            if target == "VERSION"
            else max(0, self.memory.revision - generator.randrange(9))
        )
        return Compare(key, target, relation, generator.choice((0, number, number)))

    def _operations(self, depth: int) -> tuple[Operation, ...]:
        generator = self.random
        if depth == 0 and generator.random() < 0.02:
            return tuple(Range(_KEYS[0]) for _ in range(generator.randrange(126, 131)))
        return tuple(self._operation(depth) for _ in range(generator.choice((0, 1, 1, 2, 3))))

    def _operation(self, depth: int) -> Operation:
        generator = self.random
        key = generator.choice(_KEYS)
        end = generator.choice(("", "", prefix_end("k/"), prefix_end(key), generator.choice(_KEYS)))
        if depth < 2 and generator.random() < 0.2:
            return self._txn(depth + 1)
        kind = generator.random()
        if kind < 0.45:
            lease = generator.randrange(-3, len(self.leases)) if self.leases else -1
            return Put(key, generator.choice("0123"), lease=max(0, lease + 1))
        if kind < 0.65:
            return Delete(key, end if end > key else "")
        keys = generator.random() < 0.2
        return Range(key, end, generator.choice((0, 0, 1, 2)), keys_only=keys)

    def _renumbered(self, txn: Txn, side: int) -> Txn:
        """Put the lease's number on one side where the transaction has its place in the list."""

        def renumber(operation: Operation) -> Operation:
            if isinstance(operation, Txn):
                return self._renumbered(operation, side)
            if isinstance(operation, Put) and operation.lease:
                return Put(operation.key, operation.value, self.leases[operation.lease - 1][side])
            return operation

        return Txn(txn.compares, tuple(map(renumber, txn.success)), tuple(map(renumber, txn.failure)))


async def _outcome(store: Store, txn: Txn) -> TxnResult | StoreError:
    try:
        return await store.transact(txn)
    except StoreError as error:
        return error


def _plain(outcome: Result | StoreError, numbers: dict[int, int]) -> object:
    """Make a value of what matters, with the leases' numbers here."""
    if isinstance(outcome, StoreError):
        return type(outcome)
    if isinstance(outcome, TxnResult):
        return outcome.revision, outcome.succeeded, [_plain(each, numbers) for each in outcome.results]
    if isinstance(outcome, RangeResult):
        found = [
            (
                each.key,
                each.value,
                each.create_revision,
                each.mod_revision,
                each.version,
                numbers.get(each.lease, each.lease),
            )
            for each in outcome.key_values
        ]
        return found, outcome.count
    return outcome.deleted if isinstance(outcome, DeleteResult) else "put"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_same_transactions_have_the_same_answers(etcd: Cluster) -> None:
    generator = random.Random(17)
    gateway = Gateway(etcd.endpoints)
    both = _Both(gateway, generator)
    became: dict[str, int] = {}
    for number in range(_COUNT):
        kind = generator.random()
        if kind < 0.02 or number < 3:
            await both.grant()
        elif kind < 0.035:
            await both.revoke()
        elif kind < 0.05:
            await both.keep_alive()
        outcome = await both.transact()
        became[outcome] = became.get(outcome, 0) + 1
    everything = await gateway.range("\0", "\0")
    assert _plain(everything, dict(both.leases)) == _plain(await both.client.range("\0", "\0"), {})
    await gateway.aclose()
    # Each way that a transaction can go was taken often enough to say something.
    assert became["TxnResult"] > _COUNT // 2
    assert became["StoreRefusedError"] > _COUNT // 100
    assert became["OutcomeUnknownError"] > _COUNT // 100


@pytest.mark.parametrize("nested", [64, 127, 128])
async def test_so_many_nested_transactions_are_taken_by_neither_or_both(
    nested: int, etcd_cluster: Cluster, fleet_name: str
) -> None:
    puts = tuple(
        Txn((absent(f"{fleet_name}/{each}"),), (Put(f"{fleet_name}/{each}", "1"),)) for each in range(nested)
    )
    gateway = Gateway(etcd_cluster.endpoints)
    there = await _outcome(gateway, Txn((), puts))
    here = await _outcome(Client(MemoryStore()), Txn((), puts))
    await gateway.aclose()
    assert isinstance(there, TxnResult) == isinstance(here, TxnResult) == (nested < 128)


async def test_a_lease_that_ends_takes_its_keys_in_one_revision_in_both(
    etcd_cluster: Cluster, fleet_name: str
) -> None:
    first, second = f"{fleet_name}/1", f"{fleet_name}/2"

    async def play(store: Store) -> tuple[int, int]:
        lease = await store.grant(60)
        put = await store.transact(Txn((absent(first),), (Put(first, "1", lease), Put(second, "2", lease))))
        assert put.succeeded
        await store.revoke(lease)
        await store.revoke(lease)
        gone = await store.transact(Txn((exists(first),), (), (Range(first, prefix_end(second)),)))
        assert not gone.succeeded
        assert await store.keep_alive(lease) == 0
        found = gone.results[0]
        assert isinstance(found, RangeResult)
        return found.count, gone.revision - put.revision

    gateway = Gateway(etcd_cluster.endpoints)
    there = await play(gateway)
    await gateway.aclose()
    assert there[0] == 0
    assert await play(Client(MemoryStore())) == (0, 1)
