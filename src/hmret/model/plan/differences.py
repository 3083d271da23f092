"""What an operator's settings change: two policies compared, and the timers that patterns stop."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from hmret.model.plan.plan import Plan
from hmret.model.policy.compiled import Policy
from hmret.model.values import frozen
from hmret.model.verdicts import Reason, Verdict

PATTERN_KEYS: Mapping[Reason, str] = {
    Reason.PINNED: "hmret.pinned",
    Reason.NOT_ALLOWED: "images.auto_delete.allowed",
}
"""The settings with the patterns, by the reason that follows from them."""

_SHOWN = 5
"""How many patterns a message repeats."""


@frozen
class Difference:
    """An image that only one of two plans deletes."""

    in_force: Verdict
    candidate: Verdict


@frozen
class Comparison:
    """What a candidate policy would change."""

    newly_go: tuple[Difference, ...]
    """The images that only the candidate deletes, by repository and digest."""
    newly_stay: tuple[Difference, ...]
    """The images that only the policy in force deletes, by repository and digest."""


def compare(in_force: Plan, candidate: Plan) -> Comparison:
    """Compare two plans of one inventory at one time."""
    goes, would_go = (
        {(verdict.repository, verdict.digest) for verdict in made.deletions} for made in (in_force, candidate)
    )
    return Comparison(
        tuple(_difference(in_force, candidate, key) for key in sorted(would_go - goes)),
        tuple(_difference(in_force, candidate, key) for key in sorted(goes - would_go)),
    )


def _difference(in_force: Plan, candidate: Plan, key: tuple[str, str]) -> Difference:
    first, second = in_force.verdict(*key), candidate.verdict(*key)
    assert first is not None  # both plans are of the same inventory
    assert second is not None
    return Difference(first, second)


@frozen
class StoppedTimers:
    """Running timers stopped because no pattern allows their images; each then waits a whole window again."""

    at: datetime
    by_reason: Mapping[Reason, int]
    """The number of timers, separately for `pinned` and `not_allowed`."""
    patterns: Mapping[Reason, tuple[str, ...]]
    """The patterns at fault, by reason."""
    allows_nothing: bool
    """Whether the patterns allow no image in the cache to be deleted."""
    not_allowed: str = ""
    """A repository whose timers are stopped since no pattern allows it; empty: there is none."""

    @classmethod
    def of(cls, plan: Plan, policy: Policy) -> "StoppedTimers | None":
        """Extract them from a plan made by a policy; None: it stops no timer because of patterns."""
        counts = plan.stopped_timers
        by_reason = {reason: counts[reason] for reason in PATTERN_KEYS if counts.get(reason)}
        if not by_reason:
            return None
        texts = {Reason.PINNED: policy.pinned.texts, Reason.NOT_ALLOWED: policy.allowed.texts}
        patterns = {reason: texts[reason] for reason in by_reason}
        return cls(plan.at, by_reason, patterns, plan.allows_nothing, _first_not_allowed(plan))

    @property
    def count(self) -> int:
        """The number of timers."""
        return sum(self.by_reason.values())

    @property
    def detail(self) -> str:
        """One line about the patterns that stop them."""
        return "; ".join(self._by_patterns())

    @property
    def refusal(self) -> str:
        """Return why a sweep does not stop them unless asked to; begins with the key of the setting."""
        key = PATTERN_KEYS[Reason.NOT_ALLOWED if Reason.NOT_ALLOWED in self.by_reason else Reason.PINNED]
        timers = "the one timer" if self.count == 1 else f"all {self.count} timers"
        remedy = f"pass a pattern that matches, such as --allow '{self.not_allowed}'"
        if not self.not_allowed:
            remedy = f"take patterns out of {key}"
        return (
            f"{key}: no image in the cache may be deleted, so this sweep would stop {timers} "
            f"({self.detail}), and each image would have to wait for its full window again; "
            f"{remedy}, or pass --stop-timers if this is intended"
        )

    def _by_patterns(self) -> Iterator[str]:
        for reason, count in self.by_reason.items():
            patterns = self.patterns[reason]
            shown = ", ".join(patterns[:_SHOWN]) + (", …" if len(patterns) > _SHOWN else "")
            verb = "pins" if reason is Reason.PINNED else "allows"
            whose = "their repositories" if reason is Reason.PINNED else "none of their repositories"
            yield f"{count} as {PATTERN_KEYS[reason]}, [{shown}], {verb} {whose}"


def _first_not_allowed(plan: Plan) -> str:
    """Return the first repository whose running timers a plan stops since no pattern allows it; empty: none."""
    keys = [key for key, reason in plan.clears if reason is Reason.NOT_ALLOWED]
    running = (name for name, digest in keys if _has_timer(plan.verdict(name, digest)))
    # A timer that began anew at the last read of the disk is not in the verdict.
    return next(running, keys[0][0] if keys else "")


def _has_timer(verdict: Verdict | None) -> bool:
    return verdict is not None and verdict.unused_since_ns is not None
