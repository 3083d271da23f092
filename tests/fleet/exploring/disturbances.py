"""What happens to a fleet: kills, leases that end, late writes, directories that are copied, and what operators do."""

from collections.abc import Iterator

from fleet.exploring.moves import Step, changed, used_marks, with_place
from fleet.exploring.releases import TOKEN_LEASE
from fleet.exploring.shipped import GENERATION, PAUSED, SET, USED, digest, holder_of, key_of
from fleet.exploring.storing import carry_out, change, end_lease, value_of
from fleet.exploring.worlds import MARKS_OF_A_PLACE, Mind, Operation, Place, Record, Sent, World, owner_of

__all__ = ["KINDS", "disturb", "normal"]

KINDS = (
    "unanswered",
    "kills",
    "expiries",
    "copies",
    "backups",
    "pulls",
    "losses",
    "pauses",
    "drains",
    "forgets",
    "resets",
    "rollbacks",
    "uses",
    "token_ends",
    "lost_records",
    "lost_ids",
)
"""What can be limited, in the order of `World.left`."""
_AT = {kind: number for number, kind in enumerate(KINDS)}


def disturb(world: World, *, stages: bool = False, copied_to: str = "") -> Iterator[Step]:
    """List what may happen next that no host does."""
    for sent in dict.fromkeys(world.late):
        yield from _arrive(world, sent)
    for number, place in enumerate(world.places):
        if place is not None:
            yield from _disturb_place(world, number, place, stages=stages, copied_to=copied_to)
    for lease in world.leases:
        yield from _end(world, lease)
    yield from _operate(world)


def _may(world: World, kind: str) -> bool:
    return world.left[_AT[kind]] > 0


def _spent(world: World, kind: str) -> World:
    at = _AT[kind]
    return world._replace(left=changed(world.left, (at,), world.left[at] - 1))


def _arrive(world: World, sent: Sent) -> Iterator[Step]:
    late = list(world.late)
    late.remove(sent)
    outcome = carry_out(world._replace(late=tuple(late)), sent)
    if outcome.succeeded:
        yield Step(f"late, of place {sent.place}: {sent.kind}", outcome.world, sent)


def _disturb_place(
    world: World, number: int, place: Place, *, stages: bool, copied_to: str
) -> Iterator[Step]:
    name = f"place {number}"
    if place.mind is None:
        mind = Mind("read", doomed=(False,) * len(place.units), dropping=(0,) * len(place.units), spent=-1)
        yield Step(f"{name}: starts", with_place(world, number, place._replace(mind=mind)))
        if world.saved_place is not None and world.saved_place[0] == number:
            saved_units = world.saved_place[1].units
            lost = tuple(now > then for now, then in zip(place.units, saved_units, strict=True))
            back = world.saved_place[1]._replace(lost=lost)
            yield Step(
                f"{name}: is put back from its backup",
                with_place(world, number, back)._replace(saved_place=None),
            )
        if _may(world, "lost_records") and place.record is not None:
            unread = place._replace(record=None)
            yield Step(
                f"{name}: its record becomes unreadable",
                with_place(_spent(world, "lost_records"), number, unread),
            )
        # Before that a lease may count its copies under both ids: an operator is told to wait.
        if _may(world, "lost_ids") and place.cache and not _is_live(world, number):
            unread = place._replace(cache=0, record=None)
            yield Step(f"{name}: loses its cache id", with_place(_spent(world, "lost_ids"), number, unread))
    elif _may(world, "kills"):
        yield Step(f"{name}: is killed", with_place(_spent(world, "kills"), number, _still(place)))
    if _may(world, "backups") and world.saved_place is None:
        saved = _spent(world, "backups")._replace(saved_place=(number, _still(place)))
        yield Step(f"{name}: is backed up", saved)
    if _may(world, "copies") and None in world.places:
        to = world.places.index(None)
        copy = _still(place)._replace(host=copied_to or place.host)
        copied = with_place(_spent(world, "copies"), to, copy)
        yield Step(f"{name}: is copied to place {to}", copied)
    for about, units in enumerate(place.units):
        if place.staged[about]:
            whole = place._replace(
                units=changed(place.units, (about,), units + 1),
                staged=changed(place.staged, (about,), False),
            )
            yield Step(f"{name}: has pulled", with_place(world, number, whole))
        elif _may(world, "pulls") and not units and place.mind is not None:
            pulled = changed(place.units, (about,), 1)
            begun = (
                place._replace(staged=changed(place.staged, (about,), True))
                if stages
                else place._replace(units=pulled, lost=changed(place.lost, (about,), False))
            )
            yield Step(f"{name}: pulls", with_place(_spent(world, "pulls"), number, begun))
        if units and _may(world, "losses"):
            emptied = place._replace(
                units=changed(place.units, (about,), 0), lost=changed(place.lost, (about,), True)
            )
            yield Step(f"{name}: somebody deletes", with_place(_spent(world, "losses"), number, emptied))


def _still(place: Place) -> Place:
    """Return a place as a killed engine leaves it: what is not whole is of no use to anybody."""
    return place._replace(mind=None, staged=(False,) * len(place.staged))


def _is_live(world: World, number: int) -> bool:
    return any(key.split("/")[1:2] == ["l"] and owner_of(lease) == number for key, (_, lease) in world.store)


def _end(world: World, lease: int) -> Iterator[Step]:
    if lease % MARKS_OF_A_PLACE > TOKEN_LEASE:
        if _may(world, "token_ends"):
            yield Step(f"the token of lease {lease} ends", end_lease(_spent(world, "token_ends"), lease))
        return
    place = world.places[owner_of(lease)]
    is_kept = place is not None and place.mind is not None and _keeps(place.mind, lease)
    if not is_kept:
        yield Step(f"lease {lease} ends", end_lease(world, lease))
    elif _may(world, "expiries"):
        yield Step(
            f"lease {lease} ends while its host stands still", end_lease(_spent(world, "expiries"), lease)
        )


def _keeps(mind: Mind, lease: int) -> bool:
    if mind.session == lease:
        return True
    sent = mind.sent
    return sent is not None and sent.kind == "join" and any(each[3] == lease for each in sent.operations)


def _operate(world: World) -> Iterator[Step]:
    generation = str(value_of(world.store, GENERATION))
    settings = key_of(generation, "settings")
    if _may(world, "pauses"):
        paused = value_of(world.store, settings) == PAUSED
        word = "resumes" if paused else "pauses"
        yield Step(
            f"an operator {word} the fleet",
            change(_spent(world, "pauses"), [(settings, SET if paused else PAUSED)]),
        )
    holders = dict.fromkeys(holder_of(place.host, place.cache) for place in world.places if place is not None)
    for holder in holders:
        drain = key_of(generation, "drain", holder)
        if _may(world, "drains") and value_of(world.store, drain) is None:
            yield Step(f"an operator drains {holder}", change(_spent(world, "drains"), [(drain, "")]))
        if _may(world, "forgets"):
            yield _forget(_spent(world, "forgets"), generation, holder)
    for about in _digests(world):
        used = key_of(generation, "used", digest(about))
        if _may(world, "uses"):
            yield Step("a use elsewhere is told", change(_spent(world, "uses"), [(used, USED)]))
    if world.saved_store is None:
        if _may(world, "resets") or _may(world, "rollbacks"):
            yield Step("etcd is backed up", world._replace(saved_store=(world.store, world.leases)))
    elif _may(world, "resets"):
        back = _put_back(_spent(world, "resets"))
        fresh = {GENERATION: "g2", key_of("g2", "settings"): SET}
        yield Step("etcd is put back and reset", change(back, fresh.items()))
    elif _may(world, "rollbacks"):
        back = _put_back(_spent(world, "rollbacks"))
        yield Step("etcd is put back", back._replace(is_put_back=True))


def _forget(world: World, generation: str, holder: str) -> Step:
    first = [key_of(generation, kind, holder) for kind in ("session", "live", "mark")]
    rest: tuple[Operation, ...] = tuple(
        ("DELETE", key_of(generation, "holding", digest(about), holder), "", 0) for about in _digests(world)
    )
    world = change(world, (), first)
    late = Sent("forget", -1, (), (("EXISTS", GENERATION, ""),), rest)
    return Step(f"an operator forgets {holder}", world._replace(late=tuple(sorted((*world.late, late)))))


def _digests(world: World) -> range:
    return range(next(len(place.units) for place in world.places if place is not None))


def _put_back(world: World) -> World:
    """Put etcd's backup back; whatever was read before is of another revision."""
    assert world.saved_store is not None
    store, leases = world.saved_store
    keys = {key for key, _ in world.store} | {key for key, _ in store}
    emptied = change(world, (), keys)
    return emptied._replace(store=store, leases=leases, saved_store=None)


def normal(world: World) -> World:
    """Leave out what can make no difference any more."""
    used = used_marks(world)
    places = tuple(None if place is None else _pruned(place, used) for place in world.places)
    if places != world.places:
        world = world._replace(places=places)
    if world.saved_place is not None:
        number, saved = world.saved_place
        world = world._replace(saved_place=(number, _pruned(saved, used)))
    if world.late and world.saved_store is None:
        hopeful = tuple(sent for sent in world.late if not _is_hopeless(world, sent))
        if len(hopeful) < len(world.late):
            world = world._replace(late=hopeful)
    attached = {lease for _, (_, lease) in world.store}
    idle = world.leases - attached
    if idle and world.saved_store is None:
        needed = {lease for sent in world.late for _, _, _, lease in sent.operations}
        for place in world.places:
            if place is not None and place.mind is not None:
                needed.add(place.mind.session)
                if place.mind.sent is not None:
                    needed.update(lease for _, _, _, lease in place.mind.sent.operations)
        if idle - needed:
            world = world._replace(leases=world.leases - (idle - needed))
    return world


def _pruned(place: Place, used: set[int]) -> Place:
    record = place.record
    if record is None or all(mark in used for mark, _ in record.marks):
        return place
    marks = tuple(each for each in record.marks if each[0] in used)
    return place._replace(record=Record(record.generation, record.has_done, marks, record.digests))


def _is_hopeless(world: World, sent: Sent) -> bool:
    """Return whether a write that is late names a session or a generation that will never be again."""
    coming = {(key, value) for each in world.late for what, key, value, _ in each.operations if what == "PUT"}
    for relation, key, value in sent.compares:
        if relation == "VALUE" and value_of(world.store, key) != value and (key, value) not in coming:
            return True
    return False
