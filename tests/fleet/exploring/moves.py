"""What all steps of a host are made of: other states, marks and records, and sending a transaction."""

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from fleet.exploring.mutants import Program
from fleet.exploring.shipped import GENERATION, holder_of, key_of
from fleet.exploring.storing import carry_out, is_hopeless, value_of
from fleet.exploring.worlds import (
    MARKS_OF_A_PLACE,
    Mind,
    Place,
    Record,
    Sent,
    Value,
    World,
)

__all__ = [
    "UNANSWERED",
    "Here",
    "Step",
    "changed",
    "idle",
    "last_done",
    "mark_age",
    "new_cache_id",
    "new_mark",
    "over",
    "used_marks",
    "with_done",
    "with_mark",
    "with_place",
    "with_standing",
]

T = TypeVar("T")

UNANSWERED = 0
"""The place of unanswered writes among the disturbances."""


class Step(NamedTuple):
    """A step from one state to the next."""

    label: str
    world: World
    committed: Sent | None = None
    """The transaction that was carried out by it."""


class Here(NamedTuple):
    """A state, and the host that takes the next step."""

    world: World
    number: int
    place: Place
    mind: Mind
    program: Program

    @property
    def record(self) -> Record:
        """The record; for steps at which there is one."""
        assert self.place.record is not None
        return self.place.record

    @property
    def holder(self) -> str:
        """The holder that this place is."""
        return holder_of(self.place.host, self.place.cache)

    @property
    def sent(self) -> Sent:
        """What is about to be sent; for steps at which something is."""
        assert self.mind.sent is not None
        return self.mind.sent

    def found(self, kind: str, *names: str | int) -> Value | None:
        """Read a key of the generation on record."""
        return value_of(self.world.store, key_of(self.record.generation, kind, *names))

    def generation(self) -> str:
        """Read the generation."""
        return str(value_of(self.world.store, GENERATION))

    def think(self, mind: Mind) -> World:
        """Return the state in which this host has another memory."""
        return with_place(self.world, self.number, self.place._replace(mind=mind))

    def about_to(self, step: str, sent: Sent) -> World:
        """Return the state in which this host is about to send something, or to do something before."""
        return self.think(self.mind._replace(step=step, sent=self.program.adapt(sent)))

    def write(self, place: Place, mind: Mind) -> World:
        """Return the state in which this host has written its disk, and thinks of something else."""
        return with_place(self.world, self.number, place._replace(mind=mind))

    def send(self) -> Iterator[tuple[str, "Here", bool | None, Sent | None]]:
        """Send what is to be sent; give what came of it, once with its answer, once without.

        Without, it is carried out at any later time, or never.
        """
        sent = self.sent
        outcome = carry_out(self.world, sent)
        if outcome.succeeded is not None:
            label = "done" if outcome.succeeded else "refused"
            yield label, self._in(outcome.world), outcome.succeeded, sent if outcome.succeeded else None
        left = self.world.left
        if left[UNANSWERED]:
            late = self.world._replace(left=(left[UNANSWERED] - 1, *left[UNANSWERED + 1 :]))
            if not is_hopeless(sent):
                late = late._replace(late=tuple(sorted((*late.late, sent))))
            yield "no answer", self._in(late), None, None

    def _in(self, world: World) -> "Here":
        place = world.places[self.number]
        assert place is not None
        assert place.mind is not None
        return self._replace(world=world, place=place, mind=place.mind)


def with_place(world: World, number: int, place: Place | None) -> World:
    """Return the state with another place in it."""
    places = list(world.places)
    places[number] = place
    return world._replace(places=tuple(places))


def changed(values: tuple[T, ...], numbers: tuple[int, ...], value: T) -> tuple[T, ...]:
    """Return a tuple with another value at some of its places."""
    return tuple(value if number in numbers else old for number, old in enumerate(values))


def idle(mind: Mind, step: str) -> Mind:
    """Return a memory that is about nothing."""
    return mind._replace(step=step, sent=None, before="", mark=0)


def over(mind: Mind) -> Mind:
    """Return a memory whose session has ended: it joins again. What was granted stays granted."""
    return mind._replace(step="read", sent=None, before="", session=0, is_live=False, spent=-1, mark=0)


def with_standing(place: Place, numbers: tuple[int, ...], standing: str) -> Place:
    """Put digests on record."""
    assert place.record is not None
    record = place.record
    return place._replace(record=record._replace(digests=changed(record.digests, numbers, standing)))


def with_mark(place: Place, mark: int) -> Place:
    """Put a new mark on record."""
    assert place.record is not None
    record = place.record
    return place._replace(record=record._replace(marks=(*record.marks, (mark, False))))


def with_done(place: Place, mark: int) -> Place:
    """Put on record that a mark is done: those before it are outdated."""
    assert place.record is not None
    record = place.record
    marks = [each for each, _ in record.marks]
    if mark not in marks:
        return place
    position = marks.index(mark)
    dated = tuple(
        (each, is_outdated or number < position) for number, (each, is_outdated) in enumerate(record.marks)
    )
    return place._replace(record=record._replace(marks=dated, has_done=True))


def last_done(record: Record) -> int:
    """Return the last mark that is done; 0: it is nowhere but on record."""
    return next((mark for mark, is_outdated in record.marks if not is_outdated and record.has_done), 0)


def mark_age(record: Record, mark: Value | None) -> str:
    """Return how a mark that was found relates to the record."""
    if mark is None:
        return "absent"
    for each, is_outdated in record.marks:
        if each == mark:
            return "outdated" if is_outdated else "current"
    return "unknown"


def used_marks(world: World) -> set[int]:
    """Collect the marks and leases that are anywhere but on records."""
    used = set(world.leases)
    stores = [world.store]
    if world.saved_store is not None:
        stores.append(world.saved_store[0])
        used |= world.saved_store[1]
    for store in stores:
        for _, (value, lease) in store:
            used.add(lease)
            _collect(used, value)
    sent = list(world.late)
    for place in world.places:
        if place is not None and place.mind is not None:
            used.update((place.mind.session, place.mind.mark))
            if place.mind.sent is not None:
                sent.append(place.mind.sent)
    for each in sent:
        for _, _, value in each.compares:
            _collect(used, value)
        for _, _, value, lease in each.operations:
            used.add(lease)
            _collect(used, value)
    return used


def _collect(used: set[int], value: Value) -> None:
    if isinstance(value, int):
        used.add(value)
    elif isinstance(value, tuple):
        used.add(value[1])


def new_mark(world: World, number: int) -> int:
    """Return the smallest mark of a place that is not anywhere."""
    used = used_marks(world)
    places = [*world.places, None if world.saved_place is None else world.saved_place[1]]
    for place in places:
        if place is not None and place.record is not None:
            used.update(mark for mark, _ in place.record.marks)
    first = (number + 1) * MARKS_OF_A_PLACE
    return next(mark for mark in range(first + 1, first + MARKS_OF_A_PLACE // 2) if mark not in used)


def new_cache_id(world: World) -> int:
    """Return the smallest cache id that no place has, and that the store knows nothing of."""
    places = [*world.places, None if world.saved_place is None else world.saved_place[1]]
    used = {place.cache for place in places if place is not None}
    stores = [world.store, () if world.saved_store is None else world.saved_store[0]]
    names = {key for store in stores for key, _ in store}
    names.update(key for sent in world.late for _, key, _ in sent.compares)
    names.update(key for sent in world.late for _, key, _, _ in sent.operations)
    for cache_id in range(1, 100):
        if cache_id not in used and not any(key.endswith(f".{cache_id:08x}") for key in names):
            return cache_id
    raise ValueError("all cache ids are used")
