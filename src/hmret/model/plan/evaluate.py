"""The evaluation of one repository's images at one time: what prevents the deletion of each.

Each blocker is a reason with a function, in the order of reasons.
"""

from collections.abc import Callable, Iterator, Mapping, Set as AbstractSet
from functools import cached_property
from typing import NamedTuple

import attrs

from hmret.model.clock.unwatched import NO_GAPS, Gaps
from hmret.model.durations import format_span
from hmret.model.images import Cause, Image, Inventory
from hmret.model.plan.effective_rules import effective_rules, latest_of
from hmret.model.plan.expiry import Expiry
from hmret.model.plan.repository_inputs import RepositoryInputs
from hmret.model.policy.compiled import NEVER, Policy
from hmret.model.times import SECOND
from hmret.model.values import frozen
from hmret.model.verdicts import ACTIONS, ORDER, Action, Reason, Verdict

# guard(no-marks-in-doubt): While the clock is wrong or a volume is missing, what is unused is not known, so
# no timer starts.
_SUPPRESS_MARKS = frozenset((Cause.CLOCK_JUMP, Cause.LOST_REFERENCES, Cause.LOST_IMAGES))


class Blocker(NamedTuple):
    """Something that can prevent the deletion of an image."""

    reason: Reason
    """The reason that a verdict gives for it."""
    blocks: "Callable[[Image, Evaluator], bool]"
    """Returns whether it prevents the deletion of an image."""


def _is_not_ready(image: Image, evaluator: "Evaluator") -> bool:
    """Return whether an image, or another folder of its digest, is not ready; unreadable metadata is `BROKEN`."""
    if image.digest in evaluator.inputs.unready:
        return True
    if image.making is not None and image.foreign is None:
        return True
    return image.status != "ready" and not (image.status == "unknown" and image.broken is not None)


def _is_broken(image: Image, _: "Evaluator") -> bool:
    """Return whether its folder is not a complete image, or holds something that must not be deleted with it."""
    return image.broken is not None or image.foreign is not None


def _is_referenced(image: Image, evaluator: "Evaluator") -> bool:
    """Return whether an instance, a snapshot or another source refers to it."""
    return image.digest in evaluator.sources


def _is_leased(image: Image, evaluator: "Evaluator") -> bool:
    """Return whether a live lease covers it."""
    return image.digest in evaluator.inputs.leased


def _always(_image: Image, _evaluator: "Evaluator") -> bool:
    """Give the same answer for all images of the repository."""
    return True


def _is_not_pullable(image: Image, evaluator: "Evaluator") -> bool:
    """Return whether it cannot be pulled again: its label says so, or it has none and was, or may have been, made here."""
    if image.pullable is not None:
        return not image.pullable
    return evaluator.is_local or image.digest in evaluator.inputs.built


def _is_newly_unused(image: Image, evaluator: "Evaluator") -> bool:
    """Return whether its timer starts now."""
    return evaluator.expiry.unused_since(image) is None


def _is_kept_by_rule(image: Image, evaluator: "Evaluator") -> bool:
    """Return whether a rule keeps it for ever."""
    # guard(rule-keeps-for-ever): An image that an operator's rule keeps for ever is never deleted.
    return evaluator.expiry.window_ns(image) == NEVER


def _is_waiting(image: Image, evaluator: "Evaluator") -> bool:
    """Return whether it has not been unused for long enough."""
    expiry = evaluator.expiry
    since_ns = expiry.unused_since(image)
    if since_ns is None or expiry.window_ns(image) == NEVER:
        return False
    # guard(whole-window-passes): An image that is unused waits for its whole retention window, and falls
    # due at the very end of it.
    return expiry.runs_out_at(image, since_ns) > expiry.now_ns


def _is_latest(image: Image, evaluator: "Evaluator") -> bool:
    """Return whether it is one of the newest of its repository."""
    # guard(newest-images-stay): The newest images of a repository stay, so that one to boot from is
    # always left.
    return image.digest in evaluator.latest


def _is_too_young(image: Image, evaluator: "Evaluator") -> bool:
    """Return whether it is younger than the minimum age, or its age is unknown."""
    # guard(minimum-age-is-respected): An image younger than the minimum age, or of unknown age, stays
    # even if its window has passed.
    return evaluator.expiry.grown_at(image) > evaluator.now_ns


def _is_backing_off(image: Image, evaluator: "Evaluator") -> bool:
    """Return whether its deletion failed lately, or an obstacle would make it fail."""
    return image.digest in evaluator.inputs.backing_off


_OF_ANY = (Blocker(Reason.NOT_READY, _is_not_ready), Blocker(Reason.BROKEN, _is_broken))
"""Checked for images that may not be ready or complete; images that are never need these."""
_IN_USE = (Blocker(Reason.REFERENCED, _is_referenced), Blocker(Reason.LEASED, _is_leased))
_PINNED, _NOT_ALLOWED = Blocker(Reason.PINNED, _always), Blocker(Reason.NOT_ALLOWED, _always)


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
                *_IN_USE,
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
            yield Blocker(Reason.NOT_PULLABLE, _is_not_pullable)
        # guard(doubt-starts-no-timer): A timer that starts by a wrong clock, or while a volume is missing,
        # would let its image go too early.
        if not self.suppresses_marks:
            yield Blocker(Reason.NEWLY_UNUSED, _is_newly_unused)
        if policy.rules:
            yield Blocker(Reason.KEPT_BY_RULE, _is_kept_by_rule)
        yield Blocker(Reason.RETENTION_WINDOW, _is_waiting)
        if policy.keeps_latest:
            yield Blocker(Reason.LATEST, _is_latest)
        if policy.min_age_ns:
            yield Blocker(Reason.TOO_YOUNG, _is_too_young)
        # guard(suspension-keeps-everything): While deletion is suspended, what is needed may be unknown, so
        # no image is due.
        if self.is_suspended:
            yield Blocker(Reason.SUSPENDED, _always)
        yield Blocker(Reason.BACKOFF, _is_backing_off)

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
        inputs, policy = self.inputs, self.policy
        rules = effective_rules(policy, self.name, inputs.repository)
        gaps = self.context.gaps
        return Expiry(inputs.timers, rules, policy.min_age_ns, self.now_ns, gaps, inputs.accessed)

    @_blockers.default
    def _list_blockers(self) -> tuple[Blocker, ...]:
        return self.context.blockers(self.name)

    @property
    def policy(self) -> Policy:
        """The policy by which they are evaluated."""
        return self.context.policy

    @cached_property
    def latest(self) -> AbstractSet[str]:
        """Digests that are kept for being among the newest."""
        return latest_of(self.policy, self.inputs.repository, self.expiry.rules, self.now_ns)

    @cached_property
    def is_local(self) -> bool:
        """Whether the images of this repository were made on this host."""
        return self.policy.origins.are_here(self.name)

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
        rules, gaps = self.expiry.rules, self.context.gaps
        if (
            rules.by_digest
            or rules.usual.window_ns == NEVER
            or self.policy.min_age_ns
            or self._blockers is not self.context.blockers_of_allowed
            or (self.policy.keeps_unpullable and self.is_local)
        ):
            return NEVER, NEVER
        return gaps.latest_moved_to(self.now_ns - rules.usual.window_ns), self.now_ns

    def goes_at(self, image: Image, since_ns: int | None) -> int | None:
        """Return when an image unused since then goes if nothing changes, in nanoseconds; None: never.

        Never, too, for one of the newest, which stays; `Verdict.expires_at_ns` tells when it falls due all the same.
        """
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
            blockers = tuple(sorted({*blockers, *also, *everywhere}, key=ORDER.__getitem__))
        # A timer that restarts because of a read is one that a sweep would stop.
        is_cleared = ACTIONS[reason] is Action.CLEAR
        inputs, expiry = self.inputs, self.expiry
        since_ns = (expiry.runs_since if is_cleared else expiry.unused_since)(image)
        owners = inputs.shared.get(image.digest, ())
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
            expires_at_ns=expiry.due_at(image, since_ns),
            broken=image.broken or image.foreign,
            rule=expiry.rules.of(image.digest).rule,
            created_ns=image.created_ns,
            pullable=image.pullable,
            shared_with=tuple(owner for owner in owners if owner != self.name),
            detail=inputs.unready.get(image.digest) or image.making or self._unwatched(since_ns),
        )

    def _unwatched(self, since_ns: int | None) -> str | None:
        """Return a remark on how much of the time since then was unwatched; None: none of it."""
        unwatched_ns = 0 if since_ns is None else self.context.gaps.since(since_ns)
        if not unwatched_ns:
            return None
        unwatched = format_span(max(round(unwatched_ns, -9), SECOND))
        return f"{unwatched} since then do not count: no engine watched whether it was in use"
