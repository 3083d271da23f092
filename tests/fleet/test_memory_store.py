"""What tests make go wrong on the way to the store in memory, and what its clock does."""

import pytest

from hmret.fleet.store import (
    Delete,
    OutcomeUnknownError,
    Put,
    RevisionWentBackError,
    Store,
    StoreRefusedError,
    StoreUnreachableError,
    Txn,
    absent,
)
from support.memory_client import Client, Fate, Request
from support.memory_store import MemoryStore


class _Hand:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> _Hand:
    return _Hand()


@pytest.fixture
def store(now: _Hand) -> MemoryStore:
    return MemoryStore(now)


def _doomed(fate: Fate, store: MemoryStore) -> Client:
    client = Client(store)

    async def decide(request: Request) -> Fate:
        return fate

    client.fate = decide
    return client


_FIRST = Txn((absent("a"),), (Put("a", "1"),))


async def test_a_client_is_a_store(store: MemoryStore) -> None:
    client: Store = Client(store)
    result = await client.transact(_FIRST)
    assert result.succeeded
    assert (await client.range("a")).value("a") == "1"


async def test_a_key_goes_with_its_lease_when_the_clock_says_so(store: MemoryStore, now: _Hand) -> None:
    client = Client(store)
    lease = await client.grant(60)
    await client.transact(Txn((), (Put("live", "1", lease), Put("stays", "1"))))
    now.seconds = 59
    assert await client.keep_alive(lease) == 60
    now.seconds = 118
    assert store.items() == {"live": "1", "stays": "1"}
    now.seconds = 119
    assert store.items() == {"stays": "1"}
    assert await client.keep_alive(lease) == 0


async def test_an_answer_that_is_lost_was_a_write_all_the_same(store: MemoryStore) -> None:
    with pytest.raises(OutcomeUnknownError):
        await _doomed(Fate.UNANSWERED, store).transact(_FIRST)
    assert store.items() == {"a": "1"}


async def test_a_late_request_is_carried_out_when_the_test_says_so(store: MemoryStore) -> None:
    with pytest.raises(OutcomeUnknownError):
        await _doomed(Fate.LATE, store).transact(_FIRST)
    assert store.items() == {}
    store.deliver_late()
    assert store.items() == {"a": "1"}


@pytest.mark.parametrize(
    ("fate", "error"),
    [
        (Fate.LOST, OutcomeUnknownError),
        (Fate.UNREACHABLE, StoreUnreachableError),
        (Fate.REFUSED, StoreRefusedError),
    ],
)
async def test_what_does_not_arrive_changes_nothing(
    fate: Fate, error: type[Exception], store: MemoryStore
) -> None:
    with pytest.raises(error):
        await _doomed(fate, store).transact(_FIRST)
    store.deliver_late()
    assert store.items() == {}


async def test_a_backup_that_is_put_back_is_noticed_by_who_saw_more(store: MemoryStore) -> None:
    client = Client(store)
    await client.transact(_FIRST)
    backup = store.snapshot()
    await client.transact(Txn((), (Delete("a"),)))
    store.restore(backup)
    with pytest.raises(RevisionWentBackError, match="fleet reset"):
        await client.range("a")
    assert (await Client(store).range("a")).count == 1
    client.forget_seen()
    assert (await client.range("a")).count == 1


async def test_a_full_store_still_deletes(store: MemoryStore) -> None:
    client = Client(store)
    await client.transact(_FIRST)
    store.is_full = True
    with pytest.raises(OutcomeUnknownError, match="NOSPACE"):
        await client.transact(Txn((), (Put("b", "1"),)))
    assert (await client.transact(Txn((), (Delete("a"),)))).succeeded
    assert store.items() == {}


async def test_the_keys_as_they_were_at_a_revision_can_be_looked_up(store: MemoryStore) -> None:
    client = Client(store)
    first = await client.transact(_FIRST)
    await client.transact(Txn((), (Put("a", "2"),)))
    assert store.keys_at(first.revision)["a"].value == "1"
