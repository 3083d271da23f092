"""Carrying out a plan: what leaves the quarantine and the cache, and what goes in place of an image that cannot be deleted.

A plan says which images are deleted. Two things can change that while it is carried out: new settings, and images that
turn out not to be deletable. New settings count from the next image on: a plan is made by them, and only images that
both plans delete are still deleted. An image that cannot be deleted does not count towards any limit: the next image is
deleted instead, in the same sweep, until the limits are reached or none is left.
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
from hmret.engine.sweep.quarantine import Quarantine
from hmret.model.deletion import Deletion
from hmret.model.plan.decide import deletion_of
from hmret.model.plan.plan import Plan
from hmret.model.plan.pressure import without_state_of_other_policy
from hmret.model.plan.selection import BytesFreed, Choice, Substitute, apparent_bytes
from hmret.model.policy.config import RetentionConfig
from hmret.model.references import Key
from hmret.model.times import datetime_of
from hmret.model.values import define
from hmret.model.verdicts import Reason

_MOST_FAILURES = 512
"""After this many images that did not go the rest waits for the next sweep: the cause is no longer in single images."""


@define(eq=False)
class NewSettings:
    """Settings that a running sweep has not applied yet.

    They are set on the event loop; whether any are waiting can be queried from any thread.
    """

    _config: RetentionConfig | None = None

    @property
    def are_waiting(self) -> bool:
        """Whether settings were changed since the sweep last applied any."""
        return self._config is not None

    @property
    def switch_off(self) -> bool:
        """Whether they switch sweeping off."""
        return self._config is not None and not self._config.active

    def set(self, config: RetentionConfig) -> None:
        """Store new settings; of several changes the last one counts."""
        self._config = config

    def take(self) -> RetentionConfig | None:
        """Return the new settings, once; None: there are none."""
        config, self._config = self._config, None
        return config


@define(eq=False)
class PlanExecution:
    """Carries out one plan."""

    surveyor: Surveyor
    planner: Planner
    deletion_run: DeletionRun
    quarantine: Quarantine
    threads: Threads
    new_settings: NewSettings
    survey_again: Callable[[], Awaitable[Survey]]
    """Makes a new survey."""
    plan: Plan
    survey: Survey
    boot_ns: int
    ledger: SweepLedger
    is_over: bool = attrs.field(default=False, init=False)
    """Whether nothing more may be deleted in this sweep."""
    _allowed: frozenset[Key] | None = attrs.field(default=None, init=False)
    """The images that the settings now in force delete; None: those are the settings of the plan."""
    _is_outside_hours: bool = attrs.field(init=False)
    """Whether the plan was made outside the hours, so that its images go only to free disk space, at any hour."""
    _from_quarantine_bytes: int = attrs.field(init=False)
    """The bytes to free from the quarantine because of disk pressure."""
    _tried: dict[Key, Deletion] = attrs.field(factory=dict, init=False)
    """The units whose deletion was tried, by the key of their first row."""

    def __attrs_post_init__(self) -> None:
        plan = self.plan
        self._is_outside_hours = plan.is_closed
        self._from_quarantine_bytes = _quarantined_bytes(plan)

    async def run(self) -> None:
        """Free what the disk needs from the quarantine, delete what is due, and erase what was held for long enough."""
        await self._apply_new_settings()
        await self._free_quarantine()
        await self._delete_all()
        # guard(next-in-place-of-failed): A failed deletion does not count towards a limit; the next image is deleted
        # instead, so that a full disk still gets its space.
        await self._delete_substitutes()
        # guard(doubt-stops-emptying): While anything suspends deletion, nothing is erased from the quarantine: it may
        # be needed.
        while not (self.is_over or self.ledger.suspended):
            await self.deletion_run.check_folder()
            await self.quarantine.expire(self.ledger, self._goes_on)
            if not await self._apply_new_settings():
                break

    @property
    def is_inconclusive_for_disk(self) -> bool:
        """Whether what was freed says nothing about the limits of the disk.

        Settings other than those of the plan have decided, no intent could be written, or the fleet kept something.
        """
        has_changed = self._allowed is not None or self.is_over
        return has_changed or self.ledger.blocked is not None or self.deletion_run.was_refused

    @property
    def _has_ended(self) -> bool:
        """Whether no more images may be deleted in this sweep."""
        is_held = self.ledger.blocked is not None or self.deletion_run.refuses_all
        # guard(doubt-ends-the-sweep): A cause of suspension that appears during a sweep stops its further deletions
        # at once.
        return self.is_over or bool(self.ledger.suspended) or is_held

    def _goes_on(self) -> bool:
        """Return whether the next image may be started; may be called from any thread."""
        # guard(reload-stops-emptying): A longer quarantine counts at once: while new settings are waiting, nothing
        # more is erased by the old ones.
        return not self.new_settings.are_waiting

    def _may_start_batch(self) -> bool:
        """Return whether the hours allow the next batch.

        A plan made outside of them has only images that may be deleted at any hour, to free space; any other
        ends with them.
        """
        window = self.planner.policy.window
        return self._is_outside_hours or window.is_open(datetime_of(self.surveyor.now_ns()))

    async def _apply_new_settings(self) -> bool:
        """Apply new settings, and find out which images they delete; returns whether there were any."""
        has_changed = False
        while not self.is_over and (config := self.new_settings.take()) is not None:
            has_changed = True
            before = self.planner.policy
            self.planner.reconfigure(config)
            self.surveyor.reconfigure(config)
            # guard(switch-off-ends-sweep): An operator who switches deletion off stops the running sweep: no further
            # image is started.
            if not config.active:
                self._end("switched off")
                break
            await self.surveyor.invalidate(self.ledger.doubtful)
            survey = await self.survey_again()
            # The limits of one sweep apply to everything that it deletes; the fleet is asked about each image.
            policy = attrs.evolve(self.planner.policy, max_deletes=0, max_bytes=0)
            inventory = attrs.evolve(
                without_state_of_other_policy(policy, before, survey.inventory), fleet=None
            )
            made = await self.planner.decide(inventory, datetime_of(self.ledger.now_ns), policy=policy)
            if made.suspended:
                known = self.ledger.suspended
                known.extend(one for one in made.suspended if one not in known)
                self._end("suspended")
                break
            self._allowed = frozenset((row.repository, row.digest) for row in made.deletions)
            self._is_outside_hours = made.is_closed
            self._from_quarantine_bytes = min(self._from_quarantine_bytes, _quarantined_bytes(made))
        return has_changed

    def _end(self, why: str) -> None:
        """Delete nothing more in this sweep, and report why."""
        self.is_over = True
        self.ledger.enter(Entry("deletion_stopped", facts={"reason": why}))

    async def _free_quarantine(self) -> None:
        """Under disk pressure, erase what has been in quarantine the longest before anything else is deleted."""
        freed_bytes = 0
        while not self.is_over and freed_bytes < self._from_quarantine_bytes:
            freed_bytes += await self.quarantine.free_oldest(
                self._from_quarantine_bytes - freed_bytes, self.ledger, self._goes_on
            )
            earlier_bytes = self._from_quarantine_bytes
            if not await self._apply_new_settings():
                break
            # What has been freed is no longer part of what is wanted now.
            self._from_quarantine_bytes = min(earlier_bytes, freed_bytes + self._from_quarantine_bytes)

    async def _delete_all(self) -> None:
        # If very many images are deleted, this would hold up the event loop.
        deletions = await self.threads.run_alone(self._planned)
        await self._delete(await self._rechecked(deletions))

    def _planned(self) -> list[Deletion]:
        deletions: list[Deletion] = []
        for choice in self.plan.choices:
            deletion = deletion_of(self.plan, choice)
            if deletion is not None:
                deletions.append(deletion)
            self.threads.pause()
        return deletions

    async def _delete_substitutes(self) -> None:
        """Delete the next images in place of those that could not be deleted."""
        waiting = deque(self.plan.substitutes)
        while waiting and not self._has_ended:
            failures = len(self._tried) - len(self.deletion_run.gone_units)
            if not 0 < failures < _MOST_FAILURES:
                break
            deletions = await self._rechecked(self._next(waiting))
            if deletions:
                await self._delete(deletions)

    def _next(self, waiting: deque[Substitute]) -> list[Deletion]:
        """Take the next substitutes that fit into this sweep; those for disk space only while space is missing."""
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
        """Add up what disk pressure still asks for: blocks, and apparent sizes where those are limited."""
        pressure = self.plan.pressure
        if pressure is None:
            return 0, 0
        freed = list(self._freed())
        blocks = (
            pressure.asked_bytes - self.ledger.counts["released_bytes"] - BytesFreed.by(freed).total_bytes
        )
        return blocks, pressure.asked_sizes_bytes - apparent_bytes(freed)

    def _freed(self) -> Iterable[Deletion]:
        gone = self.deletion_run.gone_units - self.deletion_run.not_freed
        return (deletion for key, deletion in self._tried.items() if key in gone)

    def _fitting(self, images: Sequence[Choice | Deletion]) -> int:
        """Return how many, from the first on, fit into the limits of the sweep after what has gone.

        The first image of a sweep always fits its byte limit.
        """
        policy = self.planner.policy
        gone = len(self.deletion_run.gone_units)
        count = len(images)
        if policy.max_deletes:
            # guard(replacements-within-limit): Images deleted in place of failed ones count towards the limit of the
            # sweep, so no more are deleted than was allowed.
            count = min(count, max(policy.max_deletes - gone, 0))
        if not policy.max_bytes:
            return count
        freed = BytesFreed.by(self._freed())
        for place, image in enumerate(images[:count]):
            freed.add(image)
            if (gone or place) and freed.total_bytes > policy.max_bytes:
                return place
        return count

    async def _rechecked(self, deletions: Sequence[Deletion]) -> list[Deletion]:
        """Re-check the newest images, whose presence allows older ones to be deleted; returns which still may be."""
        kept, changed = await self.planner.recheck_newest(self.plan, deletions)
        self.ledger.doubtful |= changed
        return kept

    async def _delete(self, deletions: Sequence[Deletion]) -> None:
        """Delete images, as far as the settings in force and the limits of the sweep allow."""
        pressure = self.plan.pressure
        frees_at_once = pressure is not None and pressure.frees_at_once
        while deletions and not self._has_ended:
            chosen = await self.threads.run_alone(self._choose, deletions)
            # guard(reload-interrupts-batch): Settings changed during a sweep count from the next image on: the batch
            # ends so that they can be applied.
            left = await self.deletion_run.delete(
                chosen,
                self.survey.scan,
                self.boot_ns,
                self.ledger,
                holds=not frees_at_once,
                may_go_on=self._may_start_batch,
                is_interrupted=lambda: self.new_settings.are_waiting,
            )
            for key in left:
                self._tried.pop(key, None)
            if not await self._apply_new_settings():
                break
            deletions = [deletion for deletion in chosen if deletion.key in left]

    def _choose(self, deletions: Sequence[Deletion]) -> Sequence[Deletion]:
        """Choose which of some images to try now, and record them."""
        allowed = [deletion for deletion in deletions if self._allows(deletion)]
        fitting = allowed[: self._fitting(allowed)]
        self._tried.update((deletion.key, deletion) for deletion in fitting)
        return fitting

    def _allows(self, deletion: Deletion) -> bool:
        # guard(both-settings-let-go): After a reload only images that both the old and the new settings delete are
        # deleted; a new pin counts at once.
        return self._allowed is None or all(key in self._allowed for key in deletion.keys)


def _quarantined_bytes(plan: Plan) -> int:
    """Return how many bytes a plan frees from the quarantine because of disk pressure."""
    return 0 if plan.pressure is None else plan.pressure.quarantined_bytes
