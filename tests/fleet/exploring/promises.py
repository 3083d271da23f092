"""What has to hold in each state and at each release, whatever happens (F2 to F7 in docs/SAFETY.md)."""

from collections.abc import Iterator

from fleet.exploring.moves import mark_age
from fleet.exploring.mutants import Program
from fleet.exploring.releases import look
from fleet.exploring.shipped import GENERATION, PAUSED, USED, digest, holder_of, key_of
from fleet.exploring.storing import carry_out, value_of
from fleet.exploring.worlds import Place, Sent, Value, World, owner_of

__all__ = ["SPENT", "account", "broken_at", "broken_by"]

SPENT = "spent"
"""A key of the explorer's own: how many releases were made under the token that is taken. It ends with it."""


def _has(place: Place | None, about: int) -> bool:
    """Return whether a place has a copy that is there to stay."""
    if place is None or not (place.units[about] or place.lost[about]):
        return False
    return place.mind is None or not place.mind.doomed[about]


def broken_at(world: World, program: Program, *, least: int = 0, is_complete: bool = False) -> str | None:
    """Say which promise a state breaks; None: it breaks none.

    Args:
        world: the state.
        program: what the hosts do.
        least: how many copies of each digest there must be.
        is_complete: whether all that is registered by the record has to be registered.
    """
    return next(_broken(world, program, least, is_complete=is_complete), None)


def _broken(world: World, program: Program, least: int, *, is_complete: bool) -> Iterator[str]:
    generation = str(value_of(world.store, GENERATION))
    items = dict(world.store)
    if world.is_put_back:
        yield from _hiding_an_old_store(world, items)
        return
    live = key_of(generation, "lives")
    counted = [(key.removeprefix(live), lease) for key, (_, lease) in world.store if key.startswith(live)]
    for about in range(_digests(world)):
        owners = []
        for holder, lease in counted:
            if key_of(generation, "holding", digest(about), holder) in items:
                owner = owner_of(lease)
                owners.append(owner)
                if not _has(world.places[owner], about):
                    yield f"F2: {holder} is counted, and place {owner} does not have it"
        if len(set(owners)) < len(owners):
            yield f"F2: one copy of {'DEF'[about]} is counted twice"
        if least and sum(_has(place, about) for place in world.places) < least:
            yield f"F3: fewer than {least} copies of {'DEF'[about]} are left"
    for number, place in enumerate(world.places if is_complete else ()):
        if place is not None and _rests(items, place):
            yield from _forgotten(items, number, place)


def _hiding_an_old_store(world: World, items: dict[str, tuple[Value, int]]) -> Iterator[str]:
    for number, place in enumerate(world.places):
        if place is None or place.record is None or place.mind is None:
            continue
        if _rests(items, place):
            yield from _counted_unnoticed(items, number, place)
        if place.mind.sent is None:
            continue
        if (
            place.mind.step not in ("join", "register", "take_out", "settle")
            or not carry_out(world, place.mind.sent).succeeded
        ):
            continue
        mark = items.get(key_of(place.record.generation, "mark", holder_of(place.host, place.cache)))
        if mark is not None and mark_age(place.record, mark[0]) == "outdated":
            yield f"an older store: place {number} hides its mark by a {place.mind.step}, and its record knows it"


def _counted_unnoticed(items: dict[str, tuple[Value, int]], number: int, place: Place) -> Iterator[str]:
    assert place.record is not None
    generation, holder = place.record.generation, holder_of(place.host, place.cache)
    mark = items.get(key_of(generation, "mark", holder))
    if mark is None or mark_age(place.record, mark[0]) != "current":
        return
    for about, standing in enumerate(place.record.digests):
        if not standing and key_of(generation, "holding", digest(about), holder) in items:
            yield f"an older store: it counts {'DEF'[about]} of place {number} again, and no mark shows it"


def _rests(items: dict[str, tuple[Value, int]], place: Place) -> bool:
    """Return whether a host has nothing to do, and its session stands."""
    mind, record = place.mind, place.record
    if mind is None or record is None or mind.step != "rest":
        return False
    if items[GENERATION][0] != record.generation:
        return False
    session = items.get(key_of(record.generation, "session", holder_of(place.host, place.cache)))
    return session is not None and session[0] == mind.session


def _forgotten(items: dict[str, tuple[Value, int]], number: int, place: Place) -> Iterator[str]:
    assert place.record is not None
    holder = holder_of(place.host, place.cache)
    for about, standing in enumerate(place.record.digests):
        key = key_of(place.record.generation, "holding", digest(about), holder)
        if standing == "+" and key not in items:
            yield f"record: place {number} believes that it has registered {'DEF'[about]}"
        if key in items and not standing:
            yield f"record: place {number} has registered {'DEF'[about]}, and has it not on record"


def broken_by(world: World, program: Program, sent: Sent) -> str | None:
    """Say which promise a transaction breaks that has just been carried out; `world` is the state after it."""
    return next(_broken_by(world, program, sent), None) if sent.kind == "release" else None


def _broken_by(world: World, program: Program, sent: Sent) -> Iterator[str]:
    about = sent.about[0]
    deleted = next(key for what, key, _, _ in sent.operations if what == "DELETE")
    generation, _, rest = deleted.partition("/")
    me = rest.rpartition("/")[2]
    view = look(world, generation, about, len(world.places))
    wanted = program.terms.min_copies
    if program.terms.hot_copies and value_of(world.store, key_of(generation, "used", digest(about))) == USED:
        wanted = max(wanted, program.terms.hot_copies)
    counted = {*view.holders} & {*view.live} - {*view.drained, me}
    if len(counted) < wanted:
        yield f"F3: released while {len(counted)} others count"
    others = [place for number, place in enumerate(world.places) if number != sent.place]
    if not world.is_put_back and sum(_has(place, about) for place in others) < wanted:
        yield "F3: released while too few others have it"
    if value_of(world.store, GENERATION) != generation:
        yield "F5: a release of a former generation was carried out"
    if view.settings == PAUSED:
        yield "F6: released after a pause had returned"
    if view.is_rolled_back:
        yield "an older store: a copy was released though it is known to be one"
    if program.allowance:
        spent = value_of(world.store, SPENT)
        if spent is None or int(str(spent)) > program.allowance:
            yield f"F7: {spent} releases under one token, which is good for {program.allowance}"


def account(world: World, sent: Sent) -> World:
    """Write down what a transaction means that has just been carried out, for the promises."""
    if sent.kind == "join":
        # What somebody else deleted is known from the next session on.
        places = [
            place._replace(lost=(False,) * len(place.lost))
            if place is not None and number == sent.place and any(place.lost)
            else place
            for number, place in enumerate(world.places)
        ]
        world = world._replace(places=tuple(places))
    items = dict(world.store)
    if sent.kind == "token":
        # Whoever takes a token that another one has adds to what that one has spent.
        count, _ = items.get(SPENT, ("0", 0))
        items[SPENT] = (count, next(lease for _, _, _, lease in sent.operations))
    elif sent.kind == "release" and SPENT in items:
        count, lease = items[SPENT]
        items[SPENT] = (str(int(str(count)) + 1), lease)
    else:
        return world
    return world._replace(store=tuple(sorted(items.items())))


def _digests(world: World) -> int:
    return next(len(place.units) for place in world.places if place is not None)
