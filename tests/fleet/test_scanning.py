"""A scan of all copies of a fleet: none is torn or left out, whatever a page holds."""

import pytest

from hmret.fleet.keys import FleetKeys
from hmret.fleet.scanning import scan_copies, scan_keys
from hmret.fleet.store import Put, Txn
from support.memory_client import Client
from support.memory_store import MemoryStore

KEYS = FleetKeys("prod", "g")


def filled() -> tuple[MemoryStore, dict[str, tuple[bool, list[str]]]]:
    """A store with digests of 0 to 9 copies, some with a last use, and keys of no known kind among them."""
    store = MemoryStore(lambda: 0.0)
    held: dict[str, tuple[bool, list[str]]] = {}
    for number in range(30):
        digest = f"sha256:{number:064x}"
        holders = [f"host-{place}.0000000{place}" for place in range(number % 10)]
        keys = [KEYS.holding(digest, holder) for holder in holders]
        if number % 3 == 0:
            keys.append(KEYS.used(digest))
        if number % 7 == 0:
            keys += (f"{KEYS.copies(digest)}NOT A HOLDER/{place}" for place in range(12))
        for key in keys:
            store.carry_out(Txn((), (Put(key, "{}"),)))
        if holders or number % 3 == 0:
            held[digest] = (number % 3 == 0, holders)
    for key in (f"{KEYS.root}c/x", f"{KEYS.root}e/host.00000000"):
        store.carry_out(Txn((), (Put(key, "{}"),)))
    return store, held


@pytest.mark.parametrize("page", [1, 2, 3, 7, 11, 64, 10_000])
async def test_each_digest_comes_once_with_all_its_copies(page: int, anyio_backend: str) -> None:
    store, held = filled()
    seen = [group async for group in scan_copies(Client(store), KEYS, page)]
    assert [group.digest for group in seen] == sorted(held)
    assert {
        group.digest: (group.used is not None, [holder for holder, _ in group.copies]) for group in seen
    } == held


@pytest.mark.parametrize("page", [1, 7, 10_000])
async def test_each_key_comes_once(page: int, anyio_backend: str) -> None:
    store, _ = filled()
    seen = [one.key async for page_of in scan_keys(Client(store), KEYS.root, page) for one in page_of]
    assert seen == [*store.items(KEYS.root)]


async def test_a_fleet_without_copies_has_none(anyio_backend: str) -> None:
    client = Client(MemoryStore(lambda: 0.0))
    assert [group async for group in scan_copies(client, KEYS)] == []
    assert [one async for one in scan_keys(client, KEYS.root)] == []
