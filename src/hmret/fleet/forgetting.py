"""Forgetting a holder: all that the store has of it goes, its copies included."""

from collections.abc import Iterator, Sequence

from hmret.fleet.keys import FleetKeys, generation_key
from hmret.fleet.scanning import DigestCopies, scan_copies
from hmret.fleet.store import Compare, Delete, Operation, Store, Txn, TxnResult, mod_is, value_is

_BATCH = 40
"""Copies in one transaction: each takes two deletions and their comparisons, of 128 that there may be."""


async def forget_holder(
    store: Store, keys: FleetKeys, holder: str, conditions: Sequence[Compare] = ()
) -> int | None:
    """Delete all that there is of a holder; returns how many copies, None: a condition does not hold.

    First what makes its copies count: from then on none of them is a witness for anybody, and whoever runs under
    that name joins again and registers what it has. What it registers from then on is left alone. Its summary goes
    last, so that whoever repeats this after a failure finds it.

    Raises:
        StoreError: as `Store.transact` and `Store.range`; it may be forgotten in part.
    """
    is_ours = value_is(generation_key(keys.fleet), keys.generation)
    begun = await store.transact(
        Txn(
            (is_ours, *conditions),
            (Delete(keys.session(holder)), Delete(keys.live(holder)), Delete(keys.mark(holder))),
        )
    )
    if not begun.succeeded:
        return None
    forgotten = 0
    batch: list[Txn] = []
    async for group in scan_copies(store, keys):
        batch += _deletions(group, holder, begun.revision)
        if len(batch) >= _BATCH:
            forgotten += _carried_out(await store.transact(Txn((is_ours,), tuple(batch))))
            batch = []
    if batch:
        forgotten += _carried_out(await store.transact(Txn((is_ours,), tuple(batch))))
    await store.transact(Txn((is_ours,), (Delete(keys.summary(holder)), Delete(keys.drain(holder)))))
    return forgotten


def _deletions(group: DigestCopies, holder: str, revision: int) -> Iterator[Txn]:
    """Return what deletes a holder's copy of one digest, if it was registered before a revision."""
    for other, copy in group.copies:
        if other == holder and copy.mod_revision <= revision:
            gone: list[Operation] = [Delete(copy.key)]
            # When a digest was last used no longer matters once nobody holds it.
            if len(group.copies) == 1 and group.used is not None:
                gone.append(Delete(group.used.key))
            yield Txn((mod_is(copy.key, copy.mod_revision),), tuple(gone))


def _carried_out(answer: TxnResult) -> int:
    return sum(isinstance(one, TxnResult) and one.succeeded for one in answer.results)
