"""What etcd keeps and does, in memory, with a clock that a test has; `support.memory_client` is the way to it.

`tests/fleet/test_same_as_etcd.py` holds that it answers as etcd does.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence, Set as AbstractSet

import anyio

from hmret.fleet.store import (
    MOST_OPERATIONS,
    Answer,
    Compare,
    Delete,
    DeleteResult,
    Health,
    KeyValue,
    Operation,
    OutcomeUnknownError,
    Put,
    PutResult,
    Range,
    RangeResult,
    Result,
    StoreError,
    StoreRefusedError,
    StoreUnreachableError,
    Txn,
    TxnResult,
)
from hmret.model.values import define, frozen

__all__ = ["Change", "MemoryStore", "Snapshot"]


@frozen
class Change:
    """What one revision did to one key."""

    revision: int
    key: str
    now: KeyValue | None
    """None: it was deleted."""


@define
class _Lease:
    seconds: int
    ends: float


@frozen
class Snapshot:
    """The store as it was, to be put back."""

    keys: dict[str, KeyValue]
    revision: int
    leases: tuple[tuple[int, int], ...]


class MemoryStore:
    """Keys with revisions, and leases that end on a clock.

    Args:
        now: seconds of a clock that does not go back; by default that of the running event loop.
    """

    def __init__(self, now: Callable[[], float] = anyio.current_time) -> None:
        self._now = now
        self._keys: dict[str, KeyValue] = {}
        self._names: list[str] = []
        self._leases: dict[int, _Lease] = {}
        self._last_lease = 7_000_000
        self.revision = 1
        self.cluster_id = "c1"
        self.history: list[Change] = []
        """Every change, in order."""
        self.is_full = False
        """Whether etcd's quota is used up: what writes is answered like that, what only deletes is done."""
        self._late: list[Txn] = []

    # What a test looks at and does.

    def items(self, prefix: str = "") -> dict[str, str]:
        """Return all keys with their values."""
        self._end_leases()
        return {key: self._keys[key].value for key in self._names if key.startswith(prefix)}

    def keys_at(self, revision: int) -> dict[str, KeyValue]:
        """Return the keys as they were after a revision, leases that ended included."""
        keys: dict[str, KeyValue] = {}
        for change in self.history:
            if change.revision > revision:
                break
            if change.now is None:
                keys.pop(change.key, None)
            else:
                keys[change.key] = change.now
        return keys

    def leases(self) -> dict[int, float]:
        """Return the seconds that each lease has left."""
        self._end_leases()
        return {number: lease.ends - self._now() for number, lease in self._leases.items()}

    def end_lease(self, number: int) -> None:
        """End a lease before its time."""
        self._end_lease(number)

    def deliver_late(self) -> list[TxnResult | StoreError]:
        """Carry out what was sent and is late."""
        late, self._late = self._late, []
        outcomes: list[TxnResult | StoreError] = []
        for txn in late:
            try:
                outcomes.append(self.carry_out(txn))
            except (StoreRefusedError, OutcomeUnknownError) as error:
                outcomes.append(error)
        return outcomes

    def keep_for_later(self, txn: Txn) -> None:
        """Take a transaction that arrives late."""
        self._late.append(txn)

    def snapshot(self) -> Snapshot:
        """Make a backup."""
        self._end_leases()
        leases = tuple((number, lease.seconds) for number, lease in self._leases.items())
        return Snapshot(dict(self._keys), self.revision, leases)

    def restore(self, snapshot: Snapshot, *, cluster_id: str | None = None) -> None:
        """Put a backup back; leases begin again, as in etcd."""
        self._keys = dict(snapshot.keys)
        self._names = sorted(self._keys)
        self.revision = snapshot.revision
        self._leases = {number: _Lease(ttl, self._now() + ttl) for number, ttl in snapshot.leases}
        self.history = [change for change in self.history if change.revision <= snapshot.revision]
        self.cluster_id = cluster_id or self.cluster_id

    # What a client asks.

    def look(self, wanted: Range) -> RangeResult:
        """Read."""
        self._end_leases()
        return self._range(wanted, self._answer())

    def carry_out(self, txn: Txn) -> TxnResult:
        """Carry out a transaction, all of it at one revision.

        Raises:
            StoreRefusedError: etcd would answer with HTTP 400.
            OutcomeUnknownError: etcd would answer with another status: it is full, or a lease is over.
        """
        self._end_leases()
        _check_count(txn, MOST_OPERATIONS)
        _check_keys_written(txn.success)
        _check_keys_written(txn.failure)
        if self.is_full and _writes(txn):
            raise OutcomeUnknownError("memory: etcd is full (NOSPACE)")
        # All comparisons, nested ones too, are made before anything is changed.
        branch = self._choose(txn)
        if any(put.lease and put.lease not in self._leases for put in _puts(branch)):
            raise OutcomeUnknownError("memory: requested lease not found")
        if self._changes(branch):
            self.revision += 1
        return self._apply(branch, self._answer())

    def grant(self, seconds: int) -> int:
        """Make a lease."""
        self._end_leases()
        if self.is_full:
            raise StoreUnreachableError("memory: etcd is full (NOSPACE)")
        self._last_lease += 1
        self._leases[self._last_lease] = _Lease(seconds, self._now() + seconds)
        return self._last_lease

    def keep_alive(self, number: int) -> int:
        """Start a lease's time again; 0: it is over."""
        self._end_leases()
        lease = self._leases.get(number)
        if lease is None:
            return 0
        lease.ends = self._now() + lease.seconds
        return lease.seconds

    def revoke(self, number: int) -> None:
        """End a lease."""
        self._end_leases()
        self._end_lease(number)

    def health(self) -> Health:
        """Tell how it is."""
        size = sum(len(found.key) + len(found.value) for found in self._keys.values())
        return Health("3.5.21", size, None, ("NOSPACE",) if self.is_full else ())

    def _answer(self) -> Answer:
        return Answer(revision=self.revision, cluster_id=self.cluster_id)

    def _end_leases(self) -> None:
        now = self._now()
        for number in sorted(self._leases, key=lambda each: self._leases[each].ends):
            if self._leases[number].ends > now:
                break
            self._end_lease(number)

    def _end_lease(self, number: int) -> None:
        if self._leases.pop(number, None) is None:
            return
        keys = [found.key for found in self._keys.values() if found.lease == number]
        if keys:
            self.revision += 1
            for key in sorted(keys):
                self._delete(key, self.revision)

    def _names_of(self, key: str, range_end: str) -> list[str]:
        if not range_end:
            return [key] if key in self._keys else []
        end = len(self._names) if range_end == "\0" else bisect_left(self._names, range_end)
        return self._names[bisect_left(self._names, key) : end]

    def _range(self, wanted: Range, answer: Answer) -> RangeResult:
        names = self._names_of(wanted.key, wanted.range_end)
        taken = names[: wanted.limit or len(names)]
        found = (self._keys[name] for name in taken)
        key_values = tuple(_without_value(each) if wanted.keys_only else each for each in found)
        return RangeResult(
            key_values=key_values,
            count=len(names),
            revision=answer.revision,
            cluster_id=answer.cluster_id,
        )

    def _choose(self, txn: Txn) -> "_Branch":
        holds = all(self._holds(compare) for compare in txn.compares)
        operations = txn.success if holds else txn.failure
        return _Branch(
            holds, tuple(self._choose(each) if isinstance(each, Txn) else each for each in operations)
        )

    def _holds(self, compare: Compare) -> bool:
        found = self._keys.get(compare.key)
        if compare.target == "VALUE":
            return found is not None and _relates(compare.result, found.value, str(compare.value))
        number = 0
        if found is not None:
            number = {
                "MOD": found.mod_revision,
                "CREATE": found.create_revision,
                "VERSION": found.version,
            }[compare.target]
        return _relates(compare.result, number, int(compare.value))

    def _changes(self, branch: "_Branch") -> bool:
        return any(
            self._changes(each)
            if isinstance(each, _Branch)
            else isinstance(each, Put)
            or (isinstance(each, Delete) and bool(self._names_of(each.key, each.range_end)))
            for each in branch.operations
        )

    def _apply(self, branch: "_Branch", answer: Answer) -> TxnResult:
        results = tuple(
            self._apply(each, answer) if isinstance(each, _Branch) else self._apply_one(each, answer)
            for each in branch.operations
        )
        return TxnResult(
            succeeded=branch.succeeded,
            results=results,
            revision=answer.revision,
            cluster_id=answer.cluster_id,
        )

    def _apply_one(self, operation: Put | Delete | Range, answer: Answer) -> Result:
        if isinstance(operation, Put):
            self._put(operation, answer.revision)
            return PutResult(revision=answer.revision, cluster_id=answer.cluster_id)
        if isinstance(operation, Range):
            return self._range(operation, answer)
        names = self._names_of(operation.key, operation.range_end)
        for name in names:
            self._delete(name, answer.revision)
        return DeleteResult(deleted=len(names), revision=answer.revision, cluster_id=answer.cluster_id)

    def _put(self, put: Put, revision: int) -> None:
        old = self._keys.get(put.key)
        if old is None:
            insort(self._names, put.key)
        self._keys[put.key] = now = KeyValue(
            put.key,
            put.value,
            revision if old is None else old.create_revision,
            revision,
            1 if old is None else old.version + 1,
            put.lease,
        )
        self.history.append(Change(revision, put.key, now))

    def _delete(self, key: str, revision: int) -> None:
        del self._keys[key]
        del self._names[bisect_left(self._names, key)]
        self.history.append(Change(revision, key, None))


@frozen
class _Branch:
    """What of a transaction is to be done."""

    succeeded: bool
    operations: "tuple[Put | Delete | Range | _Branch, ...]"


def _puts(branch: _Branch) -> Iterator[Put]:
    for each in branch.operations:
        if isinstance(each, _Branch):
            yield from _puts(each)
        elif isinstance(each, Put):
            yield each


def _writes(txn: Txn) -> bool:
    """Whether etcd counts a transaction as one that needs room: whichever branch would be carried out."""
    return any(
        _writes(each) if isinstance(each, Txn) else isinstance(each, Put)
        for each in (*txn.success, *txn.failure)
    )


def _relates(relation: str, found: str | int, given: str | int) -> bool:
    if relation == "EQUAL":
        return found == given
    if relation == "NOT_EQUAL":
        return found != given
    return found > given if relation == "GREATER" else found < given  # type: ignore[operator]  # both are text, or numbers


def _without_value(found: KeyValue) -> KeyValue:
    return KeyValue(
        found.key, "", found.create_revision, found.mod_revision, version=found.version, lease=found.lease
    )


def _check_count(txn: Txn, most: int) -> None:
    """Refuse what has too many operations; nested ones may have what the outer one leaves."""
    count = max(len(txn.compares), len(txn.success), len(txn.failure))
    if count > most:
        raise StoreRefusedError("memory: too many operations in txn request")
    for each in (*txn.success, *txn.failure):
        if isinstance(each, Txn):
            _check_count(each, most - count)


def _check_keys_written(operations: Sequence[Operation]) -> tuple[set[str], list[Delete]]:
    """Refuse what writes a key twice, or writes and deletes it; returns what is written and deleted."""
    deletes = [each for each in operations if isinstance(each, Delete)]
    puts: set[str] = set()

    def put(key: str, but: AbstractSet[str] = frozenset()) -> None:
        if (key in puts and key not in but) or any(_covers(each, key) for each in deletes):
            raise StoreRefusedError("memory: duplicate key given in txn request")
        puts.add(key)

    for each in operations:
        if isinstance(each, Txn):
            puts_then, deletes_then = _check_keys_written(each.success)
            puts_else, deletes_else = _check_keys_written(each.failure)
            for key in puts_then:
                put(key)
            for key in puts_else:
                put(key, but=puts_then)
            deletes.extend([*deletes_then, *deletes_else])
    for each in operations:
        if isinstance(each, Put):
            put(each.key)
    return puts, deletes


def _covers(delete: Delete, key: str) -> bool:
    if not delete.range_end:
        return key == delete.key
    return delete.key <= key and (delete.range_end == "\0" or key < delete.range_end)
