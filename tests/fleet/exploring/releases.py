"""How a host releases a copy, and deletes it."""

from collections.abc import Iterator

from fleet.exploring import shipped
from fleet.exploring.copies import back, names_of
from fleet.exploring.moves import (
    Here,
    Step,
    changed,
    last_done,
    new_mark,
    over,
    with_done,
    with_mark,
    with_standing,
)
from fleet.exploring.shipped import GENERATION, View, holder_of, key_of
from fleet.exploring.storing import value_of
from fleet.exploring.worlds import Sent, World

__all__ = [
    "TOKEN_LEASE",
    "choose",
    "delete",
    "look",
    "note_kept",
    "note_release",
    "note_released",
    "send_release",
    "settle",
    "take_token",
]

TOKEN_LEASE = 50
"""Added to a session's mark: the lease of the token that it takes."""
_MOST_CACHES = 6


def choose(here: Here) -> Iterator[Step]:
    """Choose what is to go: all of it is due at any time."""
    mind, program = here.mind, here.program
    for about, units in enumerate(here.place.units):
        left = units - mind.dropping[about]
        if not units or mind.doomed[about]:
            continue
        if left > 1 or (units > 1 and left and "each_is_not_the_last" in program.mutants):
            dropping = changed(mind.dropping, (about,), mind.dropping[about] + 1)
            label = f"is to delete one of its units of {names_of((about,))}"
            yield Step(label, here.think(mind._replace(dropping=dropping)))
        elif left == 1 and (not program.allowance or _has_token(here)):
            judged = _judge(here, about)
            if judged is not None and not (program.allowance and mind.spent >= program.allowance):
                before = here._replace(mind=mind._replace(before=here.record.digests[about]))
                yield Step(f"reads that {names_of((about,))} may go", before.about_to("note_release", judged))
        elif left == 1:
            lease = mind.session + TOKEN_LEASE
            sent = shipped.taken_token(
                here.number, here.record.generation, here.holder, mind.session, 0, lease
            )
            yield Step("wants a token", here.about_to("take_token", sent))


def _has_token(here: Here) -> bool:
    """Return whether this host believes that it has a token: it is told only by a refusal that it has none."""
    return here.mind.spent >= 0


def take_token(here: Here) -> Iterator[Step]:
    """Take a token, under a lease that nobody renews."""
    lease = here.mind.session + TOKEN_LEASE
    granted = here._replace(world=here.world._replace(leases=here.world.leases | {lease}))
    for label, then, succeeded, sent in granted.send():
        mind = back(then.mind)._replace(spent=0) if succeeded else back(then.mind)
        if succeeded is None:
            mind = over(then.mind)
        elif not succeeded:
            then = then._replace(world=then.world._replace(leases=then.world.leases - {lease}))
        yield Step(f"takes the token: {label}", then.think(mind), sent)


def look(world: World, generation: str, about: int, places: int) -> View:
    """Read what one reads before a release."""
    store = dict(world.store)
    hosts = sorted({place.host for place in world.places if place is not None})
    holders = [holder_of(host, cache) for host in hosts for cache in range(1, _MOST_CACHES + places)]
    name = shipped.digest(about)
    used = store.get(key_of(generation, "used", name))
    settings = store.get(key_of(generation, "settings"))
    return View(
        tuple(each for each in holders if key_of(generation, "holding", name, each) in store),
        tuple(each for each in holders if key_of(generation, "live", each) in store),
        tuple(each for each in holders if key_of(generation, "drain", each) in store),
        "" if settings is None else str(settings[0]),
        key_of(generation, "rolled_back") in store,
        None if used is None else str(used[0]),
    )


def _judge(here: Here, about: int) -> Sent | None:
    generation = here.record.generation
    return shipped.release_copy(
        here.number,
        generation,
        here.holder,
        here.mind.session,
        about,
        0 if here.program.allowance else here.number,
        look(here.world, generation, about, len(here.world.places)),
        here.program.terms,
    )


def note_release(here: Here) -> Iterator[Step]:
    """Put on record that a copy may not be registered any more."""
    place = here.place
    if "releases_before_the_record" not in here.program.mutants:
        place = with_standing(place, here.sent.about, "?")
    spent = here.mind.spent + bool(here.program.allowance)
    mark = new_mark(here.world, here.number)
    mind = here.mind._replace(step="send_release", spent=spent, mark=mark)
    place = with_mark(place, mark)
    yield Step(f"notes that it asks to release {names_of(here.sent.about)}", here.write(place, mind))


def send_release(here: Here) -> Iterator[Step]:
    """Release a copy; if that is refused, judge by what there is now."""
    about = here.sent.about[0]
    for label, then, succeeded, sent in here.send():
        label = f"releases {names_of((about,))}: {label}"
        mind = then.mind
        if succeeded:
            doomed = changed(mind.doomed, (about,), True)
            doing = then._replace(mind=mind._replace(doomed=doomed))
            yield Step(label, _then_settle(doing, about), sent)
        elif succeeded is None:
            is_kept = "session_goes_on" in here.program.mutants
            yield Step(label, then.think(mind._replace(step="note_kept") if is_kept else over(mind)), sent)
        else:
            yield Step(label, _after_refusal(then, about), sent)


def _after_refusal(here: Here, about: int) -> World:
    mind, generation = here.mind, here.record.generation
    is_over = (
        value_of(here.world.store, GENERATION) != generation
        or here.found("session", here.holder) != mind.session
        or here.found("rolled_back") is not None
    )
    # Without its fence, a program does not read whether it is in its session.
    if is_over and "no_fence" not in here.program.mutants:
        return here.think(over(mind))
    judged = _judge(here, about)
    token = here.found("token", 0 if here.program.allowance else here.number)
    has_token = token == (here.holder, mind.session)
    if judged is None or not has_token:
        spent = -1 if here.program.allowance and not has_token else mind.spent - bool(here.program.allowance)
        return here.think(mind._replace(step="note_kept", spent=spent))
    return here.about_to("send_release", judged)


def _then_settle(here: Here, about: int) -> World:
    mind, record = here.mind, here.record
    if "releases_leave_no_mark" in here.program.mutants:
        return here.think(mind._replace(step="note_released", mark=0))
    sent = shipped.settle_release(
        here.number, record.generation, here.holder, mind.session, about, mind.mark, last_done(record)
    )
    return here.about_to("settle", sent)


def settle(here: Here) -> Iterator[Step]:
    """Mark a release that was granted; if that is refused, or not answered, it stays open on the record."""
    about = names_of(here.sent.about)
    for label, then, succeeded, sent in here.send():
        mind = then.mind._replace(step="note_released") if succeeded else over(then.mind)
        yield Step(f"marks its release of {about}: {label}", then.think(mind), sent)


def note_released(here: Here) -> Iterator[Step]:
    """Put on record that a copy is not registered, and that the mark is done."""
    place = with_done(with_standing(here.place, here.sent.about, ""), here.mind.mark)
    yield Step(f"notes that {names_of(here.sent.about)} is released", here.write(place, back(here.mind)))


def note_kept(here: Here) -> Iterator[Step]:
    """Put on record what was there before."""
    place = with_standing(here.place, here.sent.about, here.mind.before)
    yield Step(f"notes that {names_of(here.sent.about)} stays", here.write(place, back(here.mind)))


def delete(here: Here) -> Iterator[Step]:
    """Delete what was released, or keep it after all; delete what others of its digest are left of."""
    mind = here.mind
    for about, units in enumerate(here.place.units):
        if mind.dropping[about] and units:
            dropping = changed(mind.dropping, (about,), mind.dropping[about] - 1)
            place = here.place._replace(units=changed(here.place.units, (about,), units - 1))
            label = f"deletes one of its units of {names_of((about,))}"
            yield Step(label, here.write(place, mind._replace(dropping=dropping)))
        if mind.doomed[about] and mind.step not in ("settle", "note_released"):
            settled = mind._replace(doomed=changed(mind.doomed, (about,), False))
            place = here.place._replace(units=changed(here.place.units, (about,), max(units - 1, 0)))
            yield Step(f"deletes {names_of((about,))}", here.write(place, settled))
            yield Step(f"keeps {names_of((about,))} after all", here.think(settled))
