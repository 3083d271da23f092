"""How a host registers its copies, and takes out of the count what is not there."""

from collections.abc import Iterator

from fleet.exploring import shipped
from fleet.exploring.moves import (
    Here,
    Step,
    idle,
    last_done,
    new_mark,
    over,
    with_done,
    with_mark,
    with_standing,
)
from fleet.exploring.worlds import Mind

__all__ = [
    "back",
    "differences",
    "names_of",
    "note_gone",
    "note_new",
    "note_out",
    "note_registered",
    "register",
    "take_out",
]


def names_of(numbers: tuple[int, ...]) -> str:
    """Name some digests."""
    return ", ".join("DEF"[number] for number in numbers)


def back(mind: Mind) -> Mind:
    """Return a memory that goes on with what it did before."""
    return idle(mind, "rest" if mind.is_live else "reconcile")


def differences(here: Here) -> Iterator[Step]:
    """Find what is on record and not here, then what is here and not registered."""
    place, mind, record = here.place, here.mind, here.record
    counts_staged = "counts_what_is_staged" in here.program.mutants
    # What the present sweep is deleting is no part of what a survey finds: surveys and deletions take turns.
    is_here = [
        units > 0 or (staged and counts_staged)
        for units, staged in zip(place.units, place.staged, strict=True)
    ]
    gone = tuple(each for each, standing in enumerate(record.digests) if standing and not is_here[each])
    if gone:
        mark = new_mark(here.world, here.number)
        sent = shipped.take_copies_out(
            here.number, record.generation, here.holder, mind.session, gone, mark, last_done(record)
        )
        mark_is_known = here._replace(mind=mind._replace(before=str(mark)))
        yield Step(f"misses {names_of(gone)}", mark_is_known.about_to("note_gone", sent))
    registers_doomed = "registers_what_is_doomed" in here.program.mutants
    new = tuple(
        each
        for each, standing in enumerate(record.digests)
        if standing != "+"
        and is_here[each]
        and (registers_doomed or not (mind.doomed[each] or mind.dropping[each]))
    )
    if new:
        mark = new_mark(here.world, here.number)
        sent = shipped.register_copies(
            here.number, record.generation, here.holder, mind.session, new, mark, last_done(record)
        )
        mark_is_known = here._replace(mind=mind._replace(before=str(mark)))
        yield Step(f"finds {names_of(new)} new", mark_is_known.about_to("note_new", sent))


def note_gone(here: Here) -> Iterator[Step]:
    """Put the mark on record with which copies are about to be taken out."""
    place = with_mark(here.place, int(here.mind.before))
    label = f"notes that it takes {names_of(here.sent.about)} out"
    yield Step(label, here.write(place, here.mind._replace(step="take_out")))


def take_out(here: Here) -> Iterator[Step]:
    """Take copies out of the count."""
    about = names_of(here.sent.about)
    for label, then, succeeded, sent in here.send():
        mind = then.mind._replace(step="note_out") if succeeded else _given_up(then, succeeded)
        yield Step(f"takes {about} out: {label}", then.think(mind), sent)


def note_out(here: Here) -> Iterator[Step]:
    """Put on record that they are out, and that the mark is done."""
    place = with_done(with_standing(here.place, here.sent.about, ""), int(here.mind.before))
    yield Step(f"notes that {names_of(here.sent.about)} is out", here.write(place, back(here.mind)))


def note_new(here: Here) -> Iterator[Step]:
    """Put on record what is about to be registered, with a new mark."""
    place = with_mark(here.place, int(here.mind.before))
    if "registers_before_the_record" not in here.program.mutants:
        place = with_standing(place, here.sent.about, "?")
    label = f"notes that it asks for {names_of(here.sent.about)}"
    yield Step(label, here.write(place, here.mind._replace(step="register")))


def register(here: Here) -> Iterator[Step]:
    """Register copies."""
    about = names_of(here.sent.about)
    for label, then, succeeded, sent in here.send():
        mind = then.mind._replace(step="note_registered") if succeeded else _given_up(then, succeeded)
        yield Step(f"registers {about}: {label}", then.think(mind), sent)


def note_registered(here: Here) -> Iterator[Step]:
    """Put on record that they are registered, and that the mark is done."""
    place, mark = here.place, int(here.mind.before)
    place = with_done(with_standing(place, here.sent.about, "+"), mark)
    yield Step(f"notes that {names_of(here.sent.about)} is registered", here.write(place, back(here.mind)))


def _given_up(here: Here, succeeded: bool | None) -> Mind:
    """Return the memory after a write that was refused, or was not answered."""
    if succeeded is None and "session_goes_on" in here.program.mutants:
        return back(here.mind)
    return over(here.mind)
