"""The evaluation of one repository's images at one time."""

from collections.abc import Iterator, Mapping, Set as AbstractSet
from functools import cached_property

import attrs

from hmret.model.clock.unwatched import NO_GAPS, Gaps
from hmret.model.durations import format_span
from hmret.model.images import Cause, Image, Inventory
from hmret.model.plan.blockers import (
    Always,
    BackingOff,
    Blocker,
    Broken,
    HeldByLease,
    KeptByRule,
    Latest,
    NewlyUnused,
    NotPullable,
    NotReady,
    Referenced,
    TooYoung,
    Waiting,
)
from hmret.model.plan.effective_rules import effective_rules, latest_of
from hmret.model.plan.expiry import Expiry
from hmret.model.plan.repository_inputs import RepositoryInputs
from hmret.model.policy.compiled import NEVER, Policy
from hmret.model.times import SECOND
from hmret.model.values import frozen
from hmret.model.verdicts import ACTIONS, Action, Reason, Verdict

_OF_ANY: tuple[Blocker, ...] = (NotReady(), Broken())
"""Checked for images that may not be ready or complete; images that are never need these."""
# guard(no-marks-in-doubt): While the clock is wrong or a volume is missing, what is unused is not known, so
# no timer starts.
_SUPPRESS_MARKS = frozenset((Cause.CLOCK_JUMP, Cause.LOST_REFERENCES, Cause.LOST_IMAGES))
_ORDER = {reason: number for number, reason in enumerate(Reason)}
_PINNED, _NOT_ALLOWED = Always(Reason.PINNED), Always(Reason.NOT_ALLOWED)


@frozen
class PlanContext:
    """Everything that applies to all images of a sweep, except the time."""

    policy: Policy
    is_suspended: bool
    suppresses_marks: bool
    """Whether no timer may start, because the time, or what the cache holds, is in doubt."""
    gaps: Gaps = NO_GAPS
    """Time up to now that no sweep watched."""
    _blockers: Mapping[tuple[bool, bool], tuple[Blocker, ...]] = attrs.field(init=False, eq=False)
    """By whether a repository is pinned, and allowed; made once, since there may be very many repositories.
    """

    @_blockers.default
    def _combine_blockers(self) -> Mapping[tuple[bool, bool], tuple[Blocker, ...]]:
        against_deletion = tuple(self._against_deletion())
        return {
            (pinned, allowed): (
                Referenced(),
                HeldByLease(),
                *((_PINNED,) if pinned else ()),
                *(() if allowed else (_NOT_ALLOWED,)),
                *against_deletion,
            )
            for pinned in (False, True)
            for allowed in (False, True)
        }

    def _against_deletion(self) -> Iterator[Blocker]:
        """List the possible blockers, beside users of the image and the operator's repository patterns."""
        policy = self.policy
        # guard(unpullable-stays): What no registry has, such as a local build, would be lost for good; it
        # stays unless the operator said otherwise.
        if policy.keeps_unpullable:
            yield NotPullable()
        # guard(doubt-starts-no-timer): A timer that starts by a wrong clock, or while a volume is missing,
        # would let its image go too early.
        if not self.suppresses_marks:
            yield NewlyUnused()
        if policy.rules:
            yield KeptByRule()
        yield Waiting()
        if policy.keeps_latest:
            yield Latest()
        if policy.min_age_ns:
            yield TooYoung()
        # guard(suspension-keeps-everything): While deletion is suspended, what is needed may be unknown, so
        # no image is due.
        if self.is_suspended:
            yield Always(Reason.SUSPENDED)
        yield BackingOff()

    @classmethod
    def of(cls, inventory: Inventory, policy: Policy, now_ns: int) -> "PlanContext":
        """Return the context in which an inventory is evaluated at a time."""
        causes = {suspension.cause for suspension in inventory.suspensions}
        # guard(new-gap-renews-the-plan): A plan made before a gap was found counts unwatched time as unused,
        # so it is not kept.
        return cls(policy, bool(causes), not causes.isdisjoint(_SUPPRESS_MARKS), inventory.gaps.until(now_ns))

    @property
    def blockers_of_allowed(self) -> tuple[Blocker, ...]:
        """The blockers for a repository that is allowed and not pinned; always the same object."""
        return self._blockers[False, True]

    def blockers(self, repository: str) -> tuple[Blocker, ...]:
        """List the blockers that can apply to a complete image of a repository, in the order of reasons."""
        policy = self.policy
        # guard(operator-patterns-hold): Images of a pinned repository, or of one that the operator has not
        # allowed, are never deleted.
        return self._blockers[policy.pinned.matches(repository), policy.allowed.matches(repository)]


@frozen(eq=False)
class Evaluator:
    """Evaluates the blockers for the images of one repository at one time."""

    context: PlanContext
    now_ns: int
    name: str
    inputs: RepositoryInputs
    sources: Mapping[str, tuple[str, ...]]
    """The sources that need each digest, sorted."""
    expiry: Expiry = attrs.field(init=False)
    _blockers: tuple[Blocker, ...] = attrs.field(init=False)
    """The blockers that can apply to an image that is ready and complete, in the order of reasons."""

    @expiry.default
    def _make_expiry(self) -> Expiry:
        inputs, policy = self.inputs, self.context.policy
        rules = effective_rules(policy, self.name, inputs.repository)
        gaps = self.context.gaps
        return Expiry(inputs.timers, rules, policy.min_age_ns, self.now_ns, gaps, inputs.accessed)

    @_blockers.default
    def _list_blockers(self) -> tuple[Blocker, ...]:
        return self.context.blockers(self.name)

    @cached_property
    def latest(self) -> AbstractSet[str]:
        """Digests that are kept for being among the newest."""
        return latest_of(self.context.policy, self.inputs.repository, self.expiry.rules, self.now_ns)

    @cached_property
    def is_local(self) -> bool:
        """Whether the images of this repository were made on this host."""
        return self.context.policy.origins.are_here(self.name)

    def reasons(self, image: Image) -> Iterator[Reason]:
        """List every reason against deleting this image now, in the order of reasons.

        `NEWLY_UNUSED` is listed only where nothing stops timers: no sweep starts the timer of an image in
        use.
        """
        can_start = True
        for blocker in (*_OF_ANY, *self._blockers):
            if (can_start or blocker.reason is not Reason.NEWLY_UNUSED) and blocker.blocks(image, self):
                can_start = can_start and ACTIONS[blocker.reason] is not Action.CLEAR
                yield blocker.reason

    def first_reason(self, image: Image) -> Reason:
        """Return the first reason that applies, which decides."""
        for blocker in self._blockers if self._is_plain(image) else (*_OF_ANY, *self._blockers):
            if blocker.blocks(image, self):
                return blocker.reason
        return Reason.EXPIRED

    def _is_plain(self, image: Image) -> bool:
        """Return whether an image is ready and complete, with nothing else in its folder."""
        return image.is_plain and image.digest not in self.inputs.unready

    def waiting_span(self) -> tuple[int, int]:
        """Return the range of start times, in nanoseconds, of timers that have not run out.

        The start lies after the first time and not after the second; if nothing else applies, such an image
        has the reason `RETENTION_WINDOW`. The range is empty where this shortcut may be wrong: the operator
        does not allow deletion, images have different windows, or time alone can change more than that.
        """
        rules = self.expiry.rules
        if (
            rules.by_digest
            or rules.usual.window_ns == NEVER
            or self.expiry.min_age_ns
            or self._blockers is not self.context.blockers_of_allowed
            or (self.context.policy.keeps_unpullable and self.is_local)
        ):
            return NEVER, NEVER
        return self.expiry.gaps.latest_moved_to(self.now_ns - rules.usual.window_ns), self.now_ns

    def expires_at(self, image: Image, since_ns: int | None) -> int | None:
        """Return when an image unused since then goes if nothing changes, in nanoseconds; None: never."""
        return None if image.digest in self.latest else self.expiry.due_at(image, since_ns)

    def verdict(
        self, image: Image, final: Reason | None, tags: tuple[str, ...], everywhere: tuple[Reason, ...]
    ) -> Verdict:
        """Return the full verdict on one image.

        `final` is the reason decided beyond this repository, None: there is none; `everywhere` lists the
        reasons against every deletion.
        """
        blockers = tuple(self.reasons(image))
        reason = final or next(iter(blockers), Reason.EXPIRED)
        if ACTIONS[reason] is Action.DELETE:
            blockers = ()
        else:
            also = () if final is None or final in everywhere else (final,)
            blockers = tuple(sorted({*blockers, *also, *everywhere}, key=_ORDER.__getitem__))
        # A timer that restarts because of a read is one that a sweep would stop.
        is_cleared = ACTIONS[reason] is Action.CLEAR
        since_ns = (self.expiry.runs_since if is_cleared else self.expiry.unused_since)(image)
        return Verdict(
            repository=self.name,
            digest=image.digest,
            tags=tags,
            status=image.status,
            size_bytes=image.size_bytes,
            disk_bytes=image.total_bytes,
            action=ACTIONS[reason],
            reason=reason,
            blockers=blockers,
            referenced_by=self.sources.get(image.digest, ()),
            unused_since_ns=since_ns,
            expires_at_ns=self.expiry.due_at(image, since_ns),
            broken=image.broken or image.foreign,
            rule=self.expiry.rules.of(image.digest).rule,
            created_ns=image.created_ns,
            pullable=image.pullable,
            shared_with=self._shared_with(image.digest),
            detail=self._detail(image) or self._unwatched(since_ns),
        )

    def _shared_with(self, digest: str) -> tuple[str, ...]:
        return tuple(owner for owner in self.inputs.shared.get(digest, ()) if owner != self.name)

    def _unwatched(self, since_ns: int | None) -> str | None:
        """Return a remark on how much of the time since then was unwatched; None: none of it."""
        unwatched_ns = 0 if since_ns is None else self.expiry.gaps.since(since_ns)
        if not unwatched_ns:
            return None
        unwatched = format_span(max(round(unwatched_ns, -9), SECOND))
        return f"{unwatched} since then do not count: no engine watched whether it was in use"

    def _detail(self, image: Image) -> str | None:
        return self.inputs.unready.get(image.digest) or image.making
