"""How a host joins, step by step."""

from collections.abc import Iterator

from fleet.exploring import shipped
from fleet.exploring.copies import differences
from fleet.exploring.moves import (
    Here,
    Step,
    idle,
    mark_age,
    new_cache_id,
    new_mark,
    over,
    with_done,
    with_mark,
)
from fleet.exploring.shipped import key_of
from fleet.exploring.storing import change
from fleet.exploring.worlds import Record, Sent, Value, World
from hmret.fleet.reading import JoinStep

__all__ = ["end_former", "go_live", "join", "joined", "note_mark", "read", "reconcile", "renew", "started"]


def started(generation: str, digests: int) -> Record:
    """Return an empty record."""
    return Record(generation, False, (), ("",) * digests)


def read(here: Here) -> Iterator[Step]:
    """Read the generation, and what the store has of this holder; judge whose record this is."""
    place = here.place
    if not place.cache:
        yield Step("takes a cache id", _renewed(here, here.generation()))
        return
    if place.record is None:
        yield from _become_another(here, here.generation())
        return
    generation = here.generation()
    if place.record.generation != generation:
        yield Step("begins a record for the generation", _emptied(here, generation))
        return
    if here.found("rolled_back") is not None:
        return
    session, mark = here.found("session", here.holder), here.found("mark", here.holder)
    age, has_done = mark_age(here.record, mark), here.record.has_done
    if "no_e" in here.program.mutants:
        age, has_done = "absent", False
    if "outdated_mark_is_fine" in here.program.mutants and age == "outdated":
        age = "current"
    match shipped.judge_found(mark_age(here.record, session), age, has_done):
        case JoinStep.JOIN:
            sent = _join_after(here, generation, session, mark)
            yield Step("finds its record right", here.about_to("note_mark", sent))
        case JoinStep.REGISTER_ALL:
            is_emptied = "forgets_what_it_was_forgotten_with" in here.program.mutants
            doubted = tuple("?" if each and not is_emptied else "" for each in here.record.digests)
            doubting = here._replace(place=place._replace(record=here.record._replace(digests=doubted)))
            sent = _join_after(here, generation, session, mark)
            yield Step("was forgotten: doubts its record", doubting.about_to("note_mark", sent))
        case JoinStep.NEW_HOLDER:
            yield from _become_another(here, generation)
        case JoinStep.ROLLED_BACK:
            key = key_of(generation, "rolled_back")
            yield Step("tells that the store was put back", change(here.world, [(key, "")]))
        case JoinStep.DUPLICATE:
            return


def _join_after(here: Here, generation: str, session: Value | None, mark: Value | None) -> Sent:
    made = new_mark(here.world, here.number)
    return shipped.join_session(
        here.number, generation, here.holder, made, session is not None, mark is not None
    )


def _become_another(here: Here, generation: str) -> Iterator[Step]:
    session = key_of(generation, "session", here.holder)
    if "former_goes_on" in here.program.mutants or not any(key == session for key, _ in here.world.store):
        yield Step("takes another cache id", _renewed(here, generation))
    else:
        sent = shipped.end_former(here.number, generation, here.holder)
        yield Step("has a record that is not its own", here.about_to("end_former", sent))


def end_former(here: Here) -> Iterator[Step]:
    """End the session of the holder that this place will no longer be."""
    for label, then, succeeded, sent in here.send():
        step = "renew" if succeeded else "read"
        yield Step(f"ends its former session: {label}", then.think(idle(then.mind, step)), sent)


def renew(here: Here) -> Iterator[Step]:
    """Take another cache id, after the former session has ended."""
    yield Step("takes another cache id", _renewed(here, here.generation()))


def _renewed(here: Here, generation: str) -> World:
    record = started(generation, len(here.place.units))
    place = here.place._replace(cache=new_cache_id(here.world), record=record)
    return here.write(place, idle(here.mind, "read"))


def _emptied(here: Here, generation: str) -> World:
    record = started(generation, len(here.place.units))
    return here.write(here.place._replace(record=record), idle(here.mind, "read"))


def note_mark(here: Here) -> Iterator[Step]:
    """Get a lease, and put the mark on record."""
    mark = lease_in(here)
    granted = here._replace(world=here.world._replace(leases=here.world.leases | {mark}))
    place = with_mark(here.place, mark)
    yield Step("gets a lease and notes its mark", granted.write(place, here.mind._replace(step="join")))


def lease_in(here: Here) -> int:
    """Return the lease that the session is to have, which is its mark too."""
    return max(lease for _, _, _, lease in here.sent.operations)


def join(here: Here) -> Iterator[Step]:
    """Put session and mark into the store."""
    session = lease_in(here)
    for label, then, succeeded, sent in here.send():
        mind = idle(then.mind, "joined")._replace(session=session) if succeeded else over(then.mind)
        yield Step(f"joins: {label}", then.think(mind), sent)


def joined(here: Here) -> Iterator[Step]:
    """Put on record that the mark is done."""
    place = with_done(here.place, here.mind.session)
    yield Step("notes that it has joined", here.write(place, idle(here.mind, "reconcile")))


def reconcile(here: Here) -> Iterator[Step]:
    """Take out what is not here, register what is new, then go live."""
    if not (here.mind.is_live or "live_before_reconciling" in here.program.mutants):
        found = next(differences(here), None)
        if found is not None:
            yield found
            return
    sent = shipped.live(here.number, here.record.generation, here.holder, here.mind.session)
    yield Step("has set all right", here.about_to("go_live", sent))


def go_live(here: Here) -> Iterator[Step]:
    """Have its copies count."""
    for label, then, succeeded, sent in here.send():
        if not succeeded:
            yield Step(f"goes live: {label}", then.think(over(then.mind)), sent)
            continue
        world = then.think(idle(then.mind, "rest")._replace(is_live=True))
        if not here.program.allowance:
            world = _with_own_token(then._replace(world=world))
        yield Step(f"goes live: {label}", world, sent)


def _with_own_token(here: Here) -> World:
    """Give a session a token that is good for ever, where tokens are not what is explored."""
    key = key_of(here.record.generation, "token", here.number)
    return change(here.world, [(key, (here.holder, here.mind.session))])
