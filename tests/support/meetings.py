"""hmret's deletion and one of hypeman's calls on a small host, so that each step of one can meet each of the other.

A `Meeting` says before which of hmret's calls to the file system hypeman's steps come: some early, and the rest at
another one, where hmret may die. `play` plays it.
"""

import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Literal

import anyio
import attrs

from hmret.engine import opening
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.model.report import SweepReport
from support.builders import make_config
from support.hypeman_lookup import Reading
from support.hypeman_today import Call, Outcome, is_waiting
from support.inline_threads import InlineThreads
from support.memory_filesystem import Call as DiskCall, Crash
from support.small_hosts import Scene, World
from support.witness import TRASH, Witness

__all__ = ["End", "Meeting", "Played", "Span", "play", "span_of"]

_BEFORE_THE_TRASH = 40
"""How many calls before the first one on the trash hmret's last look at an image may begin."""
_LATER = (timedelta(minutes=2), timedelta(minutes=12))
"""When hmret sweeps again: what it leaves alone for a minute, or for ten, has gone by then."""


End = Literal["none", "killed", "power lost"]
"""What becomes of hmret."""


@attrs.frozen(kw_only=True)
class Meeting:
    """When hypeman's steps come."""

    early: tuple[tuple[int, int], ...] = ()
    """A call of hmret's in the sweep (1: the first), and how many steps hypeman has taken before it; in order."""
    at: int = 0
    """Before which call the others come; 0: after all of them."""
    end: End = "none"
    """What becomes of hmret there."""
    rest: Literal["there", "before the start", "after the sweep"] = "there"
    """When the others come if hmret is killed."""
    seed: int = 0
    """What is lost with the power."""


@attrs.define(eq=False)
class Played:
    """One meeting as it goes."""

    scene: Scene
    meeting: Meeting
    world: World = attrs.field(init=False)
    witness: Witness = attrs.field(init=False)
    call: Call = attrs.field(init=False)
    outcome: Outcome | None = None
    """How hypeman's call has ended."""
    step: str = ""
    """What hypeman is about to do."""
    taken: int = 0
    calls: list[str] = attrs.field(factory=list)
    """What hmret has called in the sweep."""
    report: SweepReport | None = None
    """Of the sweep, where it came to its end."""
    left: Reading = attrs.field(init=False)
    """What was there when both had ended; hmret sweeps again after that."""
    _is_watched: bool = False
    _have_met: bool = False

    def __attrs_post_init__(self) -> None:
        self.world = World(is_apart=self.scene.is_apart)
        self.scene.build(self.world)
        self.witness = Witness(self.scene, self.world)
        self.call = self.scene.call(self.world.hypeman)

    @property
    def faults(self) -> list[str]:
        """What was broken."""
        return self.witness.faults

    # What hypeman does.

    def _advance(self, steps: int) -> None:
        """Take some of hypeman's steps, as far as hmret's leases admit."""
        while self.taken < steps and self._take_step():
            continue

    def _finish(self) -> None:
        """Take all that are left, as far as hmret's leases admit."""
        while self._take_step():
            continue

    def _take_step(self) -> bool:
        """Take one step; False where hypeman waits for hmret, or has done all."""
        if self.outcome is not None:
            return False
        waited = is_waiting(self.step)
        try:
            self.step = next(self.call)
        except StopIteration as stop:
            self.outcome, self.step = stop.value, ""
            return False
        self.taken += not (waited and is_waiting(self.step))
        return not is_waiting(self.step)

    # What hmret does.

    def before(self, call: DiskCall) -> None:
        """Come right before one of hmret's calls."""
        if not self._is_watched:
            return
        self.calls.append(f"{call.name} {call.path}")
        self.witness.see(call)
        if not self._have_met:
            self._meet(len(self.calls))
        elif is_waiting(self.step):
            self._finish()

    def _meet(self, number: int) -> None:
        meeting = self.meeting
        self._advance(max((steps for call, steps in meeting.early if call <= number), default=0))
        if number == meeting.at:
            self._have_met = True
            if meeting.end == "none" or meeting.rest == "there":
                self._finish()
            if meeting.end != "none":
                raise Crash

    async def live(self) -> None:
        """Play it all, and check what is left."""
        try:
            await self._serve(self._sweep)
        except BaseException as error:
            if not _has_crashed(error):
                raise
            self._start_again()
            await self._serve(self._sweep)
        self._finish()
        assert self.outcome is not None, f"hypeman hangs: {self.step}"
        self.left = self.world.reading()
        self.witness.check()
        if self.outcome.kind == "failed" and self.scene.must_succeed and self.meeting.end != "power lost":
            self.faults.append(f"hypeman's call fails: {self.outcome}")
        await self._serve(self._sweep_later)
        self.witness.check_at_rest()

    async def _serve(self, act: Callable[[Retention], Awaitable[None]]) -> None:
        filesystem = self.world.filesystem
        filesystem.before = self.before
        platform = Platform(
            filesystem=filesystem, clock=self.world.clock, threads=InlineThreads(), monotonic_ns=lambda: 0
        )
        self._is_watched = self._have_met
        async with opening.open_engine(make_config(filesystem), platform, scheduled=False) as retention:
            await act(retention)
        self._is_watched = False

    async def _sweep(self, retention: Retention) -> None:
        self._is_watched = True
        self.report = await retention.sweep()

    async def _sweep_later(self, retention: Retention) -> None:
        for pause in _LATER:
            self.world.clock.advance(pause)
            await retention.sweep()

    def _start_again(self) -> None:
        """Go on with what hmret's death, or a loss of power, has left."""
        meeting = self.meeting
        self.witness.forget(is_hypeman_dead=meeting.end == "power lost")
        if meeting.end == "killed":
            self.world.outlive_hmret()
        else:
            self.world.lose_power(self.world.filesystem.after_power_loss(random.Random(meeting.seed)))
            self.call.close()
            self.outcome = self.outcome or Outcome("failed", "the power has gone")
        if meeting.rest == "before the start":
            self._finish()


def play(scene: Scene, meeting: Meeting) -> Played:
    """Play a meeting; what was broken stands in `faults`."""
    played = Played(scene, meeting)
    anyio.run(played.live)
    return played


@attrs.frozen
class Span:
    """A deletion that no one disturbs, and hypeman's call on a host of its own."""

    calls: tuple[str, ...]
    """hmret's calls in the sweep."""
    steps: tuple[str, ...]
    """hypeman's steps."""

    @property
    def begin(self) -> int:
        """The call at which hmret's scan is over."""
        return max(1, self.call_at(TRASH) - _BEFORE_THE_TRASH)

    @property
    def end(self) -> int:
        """The call after the last one on the trash."""
        return 1 + max(number for number, call in enumerate(self.calls, 1) if TRASH in call)

    def call_at(self, text: str) -> int:
        """Find hmret's first call that has this in it."""
        return next(number for number, call in enumerate(self.calls, 1) if text in call)

    def steps_before(self, text: str) -> int:
        """Count the steps after which hypeman is about to do what has this in it."""
        return next(number for number, step in enumerate(self.steps, 1) if text in step)

    def meetings(self, count: int, rng: random.Random) -> list[Meeting]:
        """Draw meetings of each step with each call: all of them if there are not more than `count`.

        Other steps come before the scan, right after it, or between it and the others.
        """
        firsts, calls = range(len(self.steps) + 1), range(self.begin, self.end + 1)
        if count >= len(firsts) * len(calls):
            every = [(first, at) for first in firsts for at in calls]
        else:
            every = [(rng.choice(firsts), rng.choice(calls)) for _ in range(count)]
        return [Meeting(early=self._early(first, at, rng), at=at) for first, at in every]

    def _early(self, first: int, at: int, rng: random.Random) -> tuple[tuple[int, int], ...]:
        early = rng.choice((1, self.begin, rng.randint(self.begin, at)))
        begun = 1 if early == 1 else rng.randint(self.begin, early)
        return (begun, rng.randint(0, first)), (early, first)


def span_of(scene: Scene) -> Span:
    """Learn where the steps of both lie."""
    calm = Played(scene, Meeting())
    anyio.run(calm.live)
    assert calm.witness.has_erased, f"nothing is erased: {scene.name}"
    alone = World(is_apart=scene.is_apart)
    scene.build(alone)
    return Span(tuple(calm.calls), tuple(scene.call(alone.hypeman)))


def _has_crashed(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_has_crashed(one) for one in error.exceptions)
    return isinstance(error, Crash)
