"""What one sweep takes away: from the quarantine, from the cache, and in place of what cannot be deleted.

A plan says what goes. Two things can change that while it is carried out: settings that are changed meanwhile, and
images that turn out not to be deletable. The first count from the next image on: everything is looked at again by the
new settings, and only what they let go as well goes on. The second take no place: the next image goes instead, in the
same sweep, until its limits are reached or nothing is left.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence

import attrs

from hmret.actors.threads import Threads
from hmret.engine.planner import Planner
from hmret.engine.surveyor import Survey, Surveyor
from hmret.engine.sweep.deletion_run import DeletionRun
from hmret.engine.sweep.entries import Entry
from hmret.engine.sweep.ledger import SweepLedger
from hmret.engine.sweep.new_settings import NewSettings
from hmret.engine.sweep.quarantine import Quarantine
from hmret.model.deletion import Deletion
from hmret.model.images import Key
from hmret.model.plan.deletions import deletion_of
from hmret.model.plan.plan import Plan
from hmret.model.plan.pressure import seen_by
from hmret.model.plan.selection import BytesFreed, Choice, Substitute, apparent_bytes
from hmret.model.policy.compiled import Policy
from hmret.model.times import datetime_of
from hmret.model.values import define
from hmret.model.verdicts import Reason

__all__ = ["PlanExecution"]

_MOST_FAILURES = 512
"""After so many images that could not be deleted, the rest waits for the next sweep: then it is not about single images."""


@define(eq=False)
class PlanExecution:
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
    _tried: dict[Key, Deletion] = attrs.field(factory=dict, init=False)
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
        return self._is_closed or window.is_open(datetime_of(self.surveyor.now_ns()))

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
        self.ledger.enter(Entry("deletion_stopped", facts={"reason": why}))

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
        deletions = await self.threads.run_alone(self._planned)
        await self._delete(await self._confirmed(deletions))

    def _planned(self) -> list[Deletion]:
        deletions: list[Deletion] = []
        for choice in self.plan.choices:
            deletion = deletion_of(self.plan, choice)
            if deletion is not None:
                deletions.append(deletion)
            self.threads.pause()
        return deletions

    async def _delete_substitutes(self) -> None:
        """Delete what comes next in place of what could not be deleted."""
        waiting = deque(self.plan.substitutes)
        while waiting and not self._has_ended:
            failures = len(self._tried) - len(self.deletions.gone)
            if not 0 < failures < _MOST_FAILURES:
                break
            deletions = await self._confirmed(self._next(waiting))
            if deletions:
                await self._delete(deletions)

    def _next(self, waiting: deque[Substitute]) -> list[Deletion]:
        """Take from those that wait what fits into this sweep now; those that go for want of space while that is missing."""
        blocks, sizes = self._missing_bytes()
        chosen: list[Deletion] = []
        while waiting:
            substitute = waiting[0]
            if substitute.for_space and blocks <= 0 and sizes <= 0:
                waiting.popleft()
                continue
            together: list[Choice | Deletion] = [*chosen, *substitute.choices]
            if self._fitting(together) < len(together):
                if not chosen:
                    waiting.clear()
                break
            waiting.popleft()
            reason = Reason.DISK_PRESSURE if substitute.for_space else Reason.EXPIRED
            few = (deletion_of(self.plan, choice, reason) for choice in substitute.choices)
            chosen += [deletion for deletion in few if deletion is not None]
            if substitute.for_space:
                blocks -= BytesFreed.by(substitute.choices).total_bytes
                sizes -= apparent_bytes(substitute.choices)
        return chosen

    def _missing_bytes(self) -> tuple[int, int]:
        """Add up what is still to come free for want of space: blocks, and apparent sizes where those count."""
        pressure = self.plan.pressure
        if pressure is None:
            return 0, 0
        freed = list(self._freed())
        blocks = (
            pressure.asked_bytes - self.ledger.counts["released_bytes"] - BytesFreed.by(freed).total_bytes
        )
        return blocks, pressure.asked_sizes_bytes - apparent_bytes(freed)

    def _freed(self) -> Iterable[Deletion]:
        gone = self.deletions.gone - self.deletions.not_freed
        return (deletion for key, deletion in self._tried.items() if key in gone)

    def _fitting(self, images: Sequence[Choice | Deletion]) -> int:
        """Return how many, from the first on, fit into the limits of one sweep, beside what has gone; one always fits."""
        gone = len(self.deletions.gone)
        count = len(images)
        if self._policy.max_deletes:
            # guard(replacements-within-limit): What goes in place of failed deletions counts towards the limit of the
            # sweep, so no more goes than was allowed.
            count = min(count, max(self._policy.max_deletes - gone, 0))
        if not self._policy.max_bytes:
            return count
        freed = BytesFreed.by(self._freed())
        for place, image in enumerate(images[:count]):
            freed.add(image)
            if (gone or place) and freed.total_bytes > self._policy.max_bytes:
                return place
        return count

    async def _confirmed(self, deletions: Sequence[Deletion]) -> list[Deletion]:
        """Look again at the newest images, for which older ones may go; leaves out where they are not what they were."""
        kept, otherwise = await self.planner.confirm_newest(self.plan, deletions)
        self.ledger.doubtful |= otherwise
        return kept

    async def _delete(self, deletions: Sequence[Deletion]) -> None:
        """Delete images, as far as the settings of now and the limits of one sweep allow."""
        frees_at_once = self.plan.pressure is not None and self.plan.pressure.frees_at_once
        while deletions and not self._has_ended:
            chosen = await self.threads.run_alone(self._choose, deletions)
            # guard(reload-interrupts-batch): Settings changed during a sweep count from the next image on: the batch
            # ends so that they can be applied.
            left = await self.deletions.delete(
                chosen,
                self.survey.scan,
                self.boot_ns,
                self.ledger,
                holds=not frees_at_once,
                may_go_on=self._is_open,
                is_interrupted=lambda: self.new_settings.are_waiting,
            )
            for key in left:
                self._tried.pop(key, None)
            if not await self._take_note():
                break
            deletions = [deletion for deletion in chosen if deletion.key in left]

    def _choose(self, deletions: Sequence[Deletion]) -> Sequence[Deletion]:
        """Choose what of some images is tried, and take note of it."""
        allowed = [deletion for deletion in deletions if self._allows(deletion)]
        fitting = allowed[: self._fitting(allowed)]
        self._tried.update((deletion.key, deletion) for deletion in fitting)
        return fitting

    def _allows(self, deletion: Deletion) -> bool:
        # guard(both-settings-let-go): After a reload only what both the old and the new settings let go is deleted; a
        # new pin counts at once.
        return self._allowed is None or all(key in self._allowed for key in deletion.keys)
