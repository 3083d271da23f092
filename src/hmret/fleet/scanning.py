"""A scan of all copies of a fleet, a page at a time: for operators, and for forgetting a host; never for a sweep."""

from collections.abc import AsyncIterator, Sequence

from hmret.fleet.keys import FleetKeys
from hmret.fleet.store import KeyValue, RangeResult, Store, prefix_end
from hmret.model.values import frozen

PAGE = 500
"""Keys in one request: some 75 KB, which are read in a few milliseconds; an engine's event loop does nothing else then."""


@frozen
class DigestCopies:
    """All that is known of the copies of one digest."""

    digest: str
    used: KeyValue | None
    """Its last use."""
    copies: Sequence[tuple[str, KeyValue]]
    """Each holder with its key."""


async def scan_copies(store: Store, keys: FleetKeys, page: int = PAGE) -> AsyncIterator[DigestCopies]:
    """Read the copies of all digests, in the order of digests.

    Each page is read as of its own moment. The last one of a page is read again with the next, so that no digest is
    torn, unless it has more copies than fit into a page: then it is read by itself.

    Raises:
        StoreError: as `Store.range`.
    """
    start, end = keys.holdings, prefix_end(keys.holdings)
    while True:
        found = await store.range(start, end, limit=page)
        groups = _by_digest(keys, found.key_values)
        if not found.more:
            for group in groups:
                yield group
            return
        *whole, torn = groups or [DigestCopies("", None, ())]
        for group in whole:
            yield group
        if whole:
            start = keys.copies(torn.digest)
            continue
        # All of a page, and more, is of one digest, or of none.
        last = found.key_values[-1].key
        if not torn.digest:
            start = _behind(last)
            continue
        prefix = keys.copies(torn.digest)
        (group,) = _by_digest(keys, (await store.range(prefix, prefix_end(prefix))).key_values) or [torn]
        yield group
        start = prefix_end(prefix)


async def scan_keys(store: Store, prefix: str, page: int = PAGE) -> AsyncIterator[Sequence[KeyValue]]:
    """Read all keys with a prefix, without their values; yields a page at a time.

    Raises:
        StoreError: as `Store.range`.
    """
    start, end = prefix, prefix_end(prefix)
    found: RangeResult | None = None
    while found is None or found.more:
        found = await store.range(start, end, limit=page, keys_only=True)
        if not found.key_values:
            return
        yield found.key_values
        start = _behind(found.key_values[-1].key)


def _behind(key: str) -> str:
    """Return the first key that comes after a key."""
    return f"{key}\0"


def _by_digest(keys: FleetKeys, key_values: Sequence[KeyValue]) -> list[DigestCopies]:
    used: dict[str, KeyValue] = {}
    copies: dict[str, list[tuple[str, KeyValue]]] = {}
    for key_value in key_values:
        holding = keys.holding_of(key_value.key)
        digest = keys.used_of(key_value.key)
        if holding is not None:
            copies.setdefault(holding[0], []).append((holding[1], key_value))
        elif digest is not None:
            used[digest] = key_value
            copies.setdefault(digest, [])
    return [DigestCopies(digest, used.get(digest), found) for digest, found in copies.items()]
