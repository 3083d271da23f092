"""What one sweep takes away: from the quarantine, from the cache, and in place of what cannot be deleted.

A plan says what goes. Two things can change that while it is carried out: settings that are changed meanwhile, and
images that turn out not to be deletable. The first count from the next image on: everything is looked at again by the
new settings, and only what they let go as well goes on. The second take no place: the next image goes instead, in the
same sweep, until its limits are reached or nothing is left.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence

import attrs

from hmret.actors.threads import Threads
from hmret.engine.log import log_event
from hmret.engine.planner import Planner
from hmret.engine.surveyor import Survey, Surveyor
from hmret.engine.sweep.delete import DeletionRun
from hmret.engine.sweep.ledger import SweepLedger, journal_entry
from hmret.engine.sweep.new_settings import NewSettings
from hmret.engine.sweep.quarantine import Quarantine
from hmret.model.images import Key
from hmret.model.plan.plan import Plan
from hmret.model.plan.pressure import seen_by
from hmret.model.plan.selection import BytesFreed, Choice, Substitute, apparent_bytes
from hmret.model.policy.compiled import Policy
from hmret.model.times import datetime_of
from hmret.model.values import define
from hmret.model.verdicts import Reason, Verdict

__all__ = ["Removal"]

_MOST_FAILURES = 512
"""After so many images that could not be deleted, the rest waits for the next sweep: then it is not about single images."""


@define(eq=False)
class Removal:
    """Carries out what one plan wants gone."""

    surveyor: Surveyor
    planner: Planner
    deletions: DeletionRun
    quarantine: Quarantine
    threads: Threads
    new_settings: NewSettings
    survey_again: Callable[[], Awaitable[Survey]]
    """Takes the inventory again."""
    plan: Plan
    survey: Survey
    boot_ns: int
    ledger: SweepLedger
    is_over: bool = attrs.field(default=False, init=False)
    """Whether nothing more may go in this sweep."""
    _policy: Policy = attrs.field(init=False)
    _allowed: frozenset[Key] | None = attrs.field(default=None, init=False)
    """What the settings of now let go; None: they are those of the plan."""
    _is_closed: bool = attrs.field(init=False)
    """Whether the hours do not allow it, and what goes is for want of space."""
    _wanted_bytes: int = attrs.field(init=False)
    """What is to come free of the quarantine for want of space."""
    _choices: dict[Key, Choice] = attrs.field(factory=dict, init=False)
    """What was tried, by its first row."""

    @_policy.default
    def _policy_of_plan(self) -> Policy:
        return self.planner.policy

    @_is_closed.default
    def _as_planned(self) -> bool:
        return self.plan.is_closed

    @_wanted_bytes.default
    def _as_pressed(self) -> int:
        return 0 if self.plan.pressure is None else self.plan.pressure.quarantined_bytes

    async def run(self) -> None:
        """Empty the quarantine as far as the disk needs it, delete what is due, and erase what was held long enough."""
        await self._take_note()
        await self._free_quarantine()
        await self._delete_all()
        # guard(next-in-place-of-failed): An image that fails takes no place under a limit; the next one goes instead,
        # so a full disk still gets its space.
        await self._delete_substitutes()
        # guard(doubt-stops-emptying): While anything suspends deletion, nothing leaves the quarantine for good: it
        # may be needed.
        while not (self.is_over or self.ledger.suspended):
            await self.deletions.check_folder()
            await self.quarantine.expire(self.ledger, self._goes_on)
            if not await self._take_note():
                break

    @property
    def has_changed(self) -> bool:
        """Whether this was carried out by other settings than those of the plan, at least in part."""
        return self._allowed is not None or self.is_over

    @property
    def _has_ended(self) -> bool:
        """Whether no image may be deleted any more in this sweep."""
        # guard(doubt-ends-the-sweep): A reason for suspension that turns up in the middle of a sweep stops its
        # further deletions at once.
        return self.is_over or bool(self.ledger.suspended) or self.ledger.blocked is not None

    def _goes_on(self) -> bool:
        """Return whether the next image may be begun; may be asked from any thread."""
        # guard(reload-stops-emptying): A longer quarantine counts at once: once new settings wait, nothing more
        # leaves the quarantine by the old ones.
        return not self.new_settings.are_waiting

    def _is_open(self) -> bool:
        window = self._policy.window
        return self._is_closed or window.is_open(datetime_of(self.surveyor.clock.now_ns()))

    async def _take_note(self) -> bool:
        """Find out what the settings of now let go, where they were changed; returns whether they were."""
        has_changed = False
        while not self.is_over and (config := self.new_settings.take()) is not None:
            has_changed = True
            before = self.planner.policy
            self.planner.reconfigure(config)
            self.surveyor.reconfigure(config)
            self._policy = self.planner.policy
            # guard(switch-off-ends-sweep): An operator who switches deletion off stops the running sweep: no further
            # image is begun.
            if not config.active:
                self._end("switched off")
                break
            await self.surveyor.invalidate(self.ledger.doubtful)
            survey = await self.survey_again()
            # The limits of one sweep are asked of what has gone in all of it.
            policy = attrs.evolve(self._policy, max_deletes=0, max_bytes=0)
            inventory = seen_by(policy, before, survey.inventory)
            made = await self.planner.decide(inventory, datetime_of(self.ledger.now_ns), policy=policy)
            if made.suspended:
                self.ledger.suspended.extend(
                    one for one in made.suspended if one not in self.ledger.suspended
                )
                self._end("suspended")
                break
            self._allowed = frozenset((row.repository, row.digest) for row in made.deletions)
            self._is_closed = made.is_closed
            pressure = made.pressure
            self._wanted_bytes = min(
                self._wanted_bytes, 0 if pressure is None else pressure.quarantined_bytes
            )
        return has_changed

    def _end(self, why: str) -> None:
        """Delete nothing more in this sweep."""
        self.is_over = True
        log_event(
            logging.WARNING, "deletion_stopped", detail=f"by settings changed in the midst of it: {why}"
        )
        self.ledger.note(journal_entry(self.ledger.now_ns, "deletion_stopped", None, reason=why))

    async def _free_quarantine(self) -> None:
        """Under pressure, free what has been in quarantine the longest before anything else goes."""
        freed_bytes = 0
        while not self.is_over and freed_bytes < self._wanted_bytes:
            freed_bytes += await self.quarantine.free_oldest(
                self._wanted_bytes - freed_bytes, self.ledger, self._goes_on
            )
            wanted_bytes = self._wanted_bytes
            if not await self._take_note():
                break
            # What is wanted by now is less what has come free.
            self._wanted_bytes = min(wanted_bytes, freed_bytes + self._wanted_bytes)

    async def _delete_all(self) -> None:
        # Where very much goes, what is made of it here and below would hold up the event loop.
        units = await self.threads.run_alone(self._planned_units)
        await self._delete(await self._confirmed(units))

    def _planned_units(self) -> list[tuple[Choice, tuple[Verdict, ...]]]:
        units: list[tuple[Choice, tuple[Verdict, ...]]] = []
        for choice in self.plan.choices:
            units.append((choice, self.plan.rows(choice)))
            self.threads.pause()
        return units

    async def _delete_substitutes(self) -> None:
        """Delete what comes next in place of what could not be deleted."""
        waiting = deque(self.plan.substitutes)
        while waiting and not self._has_ended:
            failures = len(self._choices) - len(self.deletions.gone)
            if not 0 < failures < _MOST_FAILURES:
                break
            units = await self._confirmed(self._next_units(waiting))
            if units:
                await self._delete(units)

    def _next_units(self, waiting: deque[Substitute]) -> list[tuple[Choice, tuple[Verdict, ...]]]:
        """Take from those that wait what fits into this sweep now; those that go for want of space while that is missing."""
        blocks, sizes = self._missing_bytes()
        chosen: list[tuple[Choice, tuple[Verdict, ...]]] = []
        while waiting:
            substitute = waiting[0]
            if substitute.for_space and blocks <= 0 and sizes <= 0:
                waiting.popleft()
                continue
            choices = [choice for choice, _ in chosen]
            together = [*choices, *substitute.choices]
            if len(self._fitting(together)) < len(together):
                if not choices:
                    waiting.clear()
                break
            waiting.popleft()
            reason = Reason.DISK_PRESSURE if substitute.for_space else Reason.EXPIRED
            for choice in substitute.choices:
                rows = (attrs.evolve(row, reason=reason) for row in self.plan.rows(choice))
                chosen.append((choice, tuple(rows)))
            if substitute.for_space:
                blocks -= BytesFreed.by(substitute.choices).total_bytes
                sizes -= apparent_bytes(substitute.choices)
        return chosen

    def _missing_bytes(self) -> tuple[int, int]:
        """Add up what is still to come free for want of space: blocks, and apparent sizes where those count."""
        pressure = self.plan.pressure
        if pressure is None:
            return 0, 0
        freed = list(self._freed_choices())
        blocks = pressure.asked_bytes - self.ledger.released_bytes - BytesFreed.by(freed).total_bytes
        return blocks, pressure.asked_sizes_bytes - apparent_bytes(freed)

    def _freed_choices(self) -> Iterable[Choice]:
        gone = self.deletions.gone - self.deletions.not_freed
        return (choice for key, choice in self._choices.items() if key in gone)

    def _fitting(self, choices: Sequence[Choice]) -> Sequence[Choice]:
        """Cut off what does not fit into the limits of one sweep, beside what has gone in it; one always fits."""
        gone = len(self.deletions.gone)
        if self._policy.max_deletes:
            # guard(replacements-within-limit): What goes in place of failed deletions counts towards the limit of the
            # sweep, so no more goes than was allowed.
            choices = choices[: max(self._policy.max_deletes - gone, 0)]
        if not self._policy.max_bytes:
            return choices
        freed = BytesFreed.by(self._freed_choices())
        for place, choice in enumerate(choices):
            freed.add(choice)
            if (gone or place) and freed.total_bytes > self._policy.max_bytes:
                return choices[:place]
        return choices

    async def _confirmed(
        self, units: Sequence[tuple[Choice, tuple[Verdict, ...]]]
    ) -> list[tuple[Choice, tuple[Verdict, ...]]]:
        """Look again at the newest images, for which older ones may go; leaves out where they are not what they were."""
        rows, otherwise = await self.planner.confirm_newest(self.plan, [rows for _, rows in units])
        self.ledger.doubtful |= otherwise
        kept = {id(one) for one in rows}
        return [unit for unit in units if id(unit[1]) in kept]

    async def _delete(self, units: Sequence[tuple[Choice, tuple[Verdict, ...]]]) -> None:
        """Delete images, as far as the settings of now and the limits of one sweep allow."""
        frees_at_once = self.plan.pressure is not None and self.plan.pressure.frees_at_once
        while units and not self._has_ended:
            chosen = await self.threads.run_alone(self._choose, units)
            # guard(reload-interrupts-batch): Settings changed during a sweep count from the next image on: the batch
            # ends so that they can be applied.
            left = await self.deletions.delete(
                [rows for _, rows in chosen],
                self.survey.scan,
                self.boot_ns,
                self.ledger,
                holds=not frees_at_once,
                may_go_on=self._is_open,
                is_interrupted=lambda: self.new_settings.are_waiting,
            )
            for key in left:
                self._choices.pop(key, None)
            if not await self._take_note():
                break
            units = [unit for unit in chosen if unit[0].keys[0] in left]

    def _choose(
        self, units: Sequence[tuple[Choice, tuple[Verdict, ...]]]
    ) -> Sequence[tuple[Choice, tuple[Verdict, ...]]]:
        """Choose what of some images is tried, and take note of it."""
        allowed = [unit for unit in units if self._allows(unit[0])]
        fitting = self._fitting([choice for choice, _ in allowed])
        self._choices.update((choice.keys[0], choice) for choice in fitting)
        return allowed[: len(fitting)]

    def _allows(self, choice: Choice) -> bool:
        # guard(both-settings-let-go): After a reload only what both the old and the new settings let go is deleted; a
        # new pin counts at once.
        return self._allowed is None or all(key in self._allowed for key in choice.keys)
