"""Goes through every state that can be reached, nearest first, until a promise is broken or none is left."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping

import attrs

from fleet.exploring import copies, joining, releases
from fleet.exploring.disturbances import KINDS, disturb, normal
from fleet.exploring.moves import Here, Step, over, with_place
from fleet.exploring.mutants import Program
from fleet.exploring.promises import account, broken_at, broken_by
from fleet.exploring.shipped import GENERATION, SET, key_of
from fleet.exploring.worlds import Mind, Place, World

__all__ = ["Found", "Setup", "explore"]

_PROGRAM: Mapping[str, Callable[[Here], Iterator[Step]]] = {
    "read": joining.read,
    "end_former": joining.end_former,
    "renew": joining.renew,
    "note_mark": joining.note_mark,
    "join": joining.join,
    "joined": joining.joined,
    "reconcile": joining.reconcile,
    "go_live": joining.go_live,
    "rest": copies.differences,
    "take_out": copies.take_out,
    "note_gone": copies.note_gone,
    "note_out": copies.note_out,
    "note_new": copies.note_new,
    "register": copies.register,
    "note_registered": copies.note_registered,
    "take_token": releases.take_token,
    "note_release": releases.note_release,
    "send_release": releases.send_release,
    "settle": releases.settle,
    "note_released": releases.note_released,
    "note_kept": releases.note_kept,
}


@attrs.frozen
class Setup:
    """Where the exploration begins, and what may happen."""

    units: tuple[tuple[int, ...], ...]
    """For each place, how many units it has of each digest."""
    limits: Mapping[str, int]
    """How often something may happen, by kind of disturbance; what is not here does not."""
    program: Program
    """What the hosts do."""
    empty_places: int = 0
    """Places to which directories can be copied."""
    copied_to: str = ""
    """The name of the host of a copy; empty: that of the host whose directory was copied."""
    least: int = 0
    """How many copies there must be in each state; 0: what somebody else does may take all."""
    is_complete: bool = True
    stages: bool = False
    """Whether a pull can be cut off before the image is whole."""
    is_backed_up: bool = False
    """Whether etcd was backed up before anything happens; else that happens at any time."""
    joined: frozenset[int] = frozenset()
    """The places whose hosts have joined, and registered what they have."""

    def begin(self) -> World:
        """Return the first state: a fleet, and hosts that have joined, or have just been installed and do not run."""
        store = {GENERATION: ("g1", 0), key_of("g1", "settings"): (SET, 0)}
        places = [
            Place("ABC"[number], units, (False,) * len(units), (False,) * len(units), 0, None, None)
            for number, units in enumerate(self.units)
        ]
        left = tuple(self.limits.get(kind, 0) for kind in KINDS)
        world = World(
            tuple(sorted(store.items())), frozenset(), (*places, *(None,) * self.empty_places), (), left
        )
        for number in self.joined:
            world = self._join(world, number)
        return world._replace(saved_store=(world.store, world.leases)) if self.is_backed_up else world

    def _join(self, world: World, number: int) -> World:
        """Do what a host does until there is nothing to do."""
        place = world.places[number]
        assert place is not None
        count = len(place.units)
        mind = Mind("read", doomed=(False,) * count, dropping=(0,) * count, spent=-1)
        world = with_place(world, number, place._replace(mind=mind))
        while True:
            place = world.places[number]
            assert place is not None
            assert place.mind is not None
            here = Here(world, number, place, place.mind, Program(allowance=self.program.allowance))
            step = next(_PROGRAM[place.mind.step](here), None)
            if step is None:
                return world
            world = normal(step.world)


@attrs.frozen
class Found:
    """What an exploration has found."""

    states: int
    steps: int
    problem: str | None
    """The promise that is broken; None: none is, in any state."""
    trace: tuple[str, ...]
    """The shortest way there."""
    is_whole: bool = True
    """Whether every state was reached; False: it was cut off."""


def explore(setup: Setup, most_steps: int | None = None) -> Found:
    """Go through the states until a promise is broken, or all are done, or so many steps were made."""
    program = setup.program
    first = normal(setup.begin())
    known: dict[World, tuple[World | None, str]] = {first: (None, "")}
    waiting = deque([first])
    count = 0
    while waiting:
        world = waiting.popleft()
        for step in next_steps(world, setup):
            count += 1
            then, problem = step.world, None
            if step.committed is not None:
                then = account(then, step.committed)
                problem = broken_by(then, program, step.committed)
            then = normal(then)
            if then in known and problem is None:
                continue
            problem = problem or broken_at(then, program, least=setup.least, is_complete=setup.is_complete)
            if problem is not None:
                return Found(len(known), count, problem, (*_way(known, world), step.label))
            known[then] = (world, step.label)
            waiting.append(then)
        if most_steps is not None and count >= most_steps:
            return Found(len(known), count, None, (), is_whole=False)
    return Found(len(known), count, None, ())


def next_steps(world: World, setup: Setup) -> Iterator[Step]:
    """List all that may happen next."""
    for number, place in enumerate(world.places):
        if place is None or place.mind is None:
            continue
        here = Here(world, number, place, place.mind, setup.program)
        for label, then, committed in _host_steps(here):
            yield Step(f"place {number}: {label}", then, committed)
    yield from disturb(world, stages=setup.stages, copied_to=setup.copied_to)


def _host_steps(here: Here) -> Iterator[Step]:
    mind = here.mind
    yield from _PROGRAM[mind.step](here)
    if mind.step == "rest" and here.number in here.program.releasing:
        yield from releases.choose(here)
    if any(mind.doomed) or any(mind.dropping):
        yield from releases.delete(here)
    if mind.session and mind.session not in here.world.leases:
        yield Step("notices that its session is over", here.think(over(mind)))


def _way(known: Mapping[World, tuple[World | None, str]], world: World) -> Iterator[str]:
    labels = []
    at: World | None = world
    while at is not None:
        at, label = known[at]
        labels.append(label)
    yield from reversed(labels[:-1])
