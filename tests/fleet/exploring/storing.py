"""The store of the explored fleet: carries a transaction out, and lets leases end."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from fleet.exploring.worlds import Compare, Place, Sent, Store, Value, World

__all__ = ["Outcome", "carry_out", "change", "end_lease", "is_hopeless", "value_of"]


class Outcome(NamedTuple):
    """What came of a transaction."""

    succeeded: bool | None
    """None: the store answered with an error, as where a lease is over; nothing was changed."""
    world: World


def value_of(store: Store, key: str) -> Value | None:
    """Return the value of a key; None: it is not there."""
    for name, (value, _) in store:
        if name == key:
            return value
    return None


def carry_out(world: World, sent: Sent) -> Outcome:
    """Carry a transaction out."""
    items = dict(world.store)
    if not all(_holds(items, compare) for compare in sent.compares):
        return Outcome(False, world)
    if any(lease and lease not in world.leases for _, _, _, lease in sent.operations):
        return Outcome(None, world)
    changed = set()
    for what, key, value, lease in sent.operations:
        if what == "PUT":
            items[key] = (value, lease)
            changed.add(key)
        elif items.pop(key, None) is not None:
            changed.add(key)
    return Outcome(True, _with_items(world, items, changed))


def change(world: World, puts: Iterable[tuple[str, Value]], deletes: Iterable[str] = ()) -> World:
    """Change keys, as an operator does who compares nothing."""
    items = dict(world.store)
    changed = set()
    for key, value in puts:
        items[key] = (value, 0)
        changed.add(key)
    for key in deletes:
        if items.pop(key, None) is not None:
            changed.add(key)
    return _with_items(world, items, changed)


def end_lease(world: World, lease: int) -> World:
    """End a lease, with all keys that are attached to it."""
    items = dict(world.store)
    changed = {key for key, (_, attached) in items.items() if attached == lease}
    for key in changed:
        del items[key]
    return _with_items(world._replace(leases=world.leases - {lease}), items, changed)


def is_hopeless(sent: Sent) -> bool:
    """Return whether something that a transaction compares has changed since it was read."""
    return any(relation == "NEVER" for relation, _, _ in sent.compares)


def _holds(items: dict[str, tuple[Value, int]], compare: Compare) -> bool:
    relation, key, value = compare
    if relation == "FRESH" or relation == "EXISTS":  # noqa: PLR1714 - the quickest
        return key in items
    if relation == "ABSENT":
        return key not in items
    if relation == "VALUE":
        found = items.get(key)
        return found is not None and found[0] == value
    return False


def _with_items(world: World, items: dict[str, tuple[Value, int]], changed: Collection[str]) -> World:
    """Put keys back into a world, and make stale whatever was read of those that have changed."""
    if not changed:
        return world
    return world._replace(
        store=tuple(sorted(items.items())),
        places=tuple(None if place is None else _stale_mind(place, changed) for place in world.places),
        late=tuple(fresh for sent in world.late if (fresh := _stale(sent, changed)) is sent),
    )


def _stale_mind(place: Place, changed: Collection[str]) -> Place:
    mind = place.mind
    if mind is None or mind.sent is None:
        return place
    sent = _stale(mind.sent, changed)
    return place if sent is mind.sent else place._replace(mind=mind._replace(sent=sent))


def _stale(sent: Sent, changed: Collection[str]) -> Sent:
    """Return a transaction that can never succeed if it compares a revision that has changed."""
    for relation, key, _ in sent.compares:
        if relation == "FRESH" and key in changed:
            return sent._replace(compares=(("NEVER", "", ""),))
    return sent
