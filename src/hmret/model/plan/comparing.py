"""Two policies compared: which images only one of them would delete."""

from hmret.model.plan.decide import Plan
from hmret.model.values import frozen
from hmret.model.verdicts import Verdict

__all__ = ["Comparison", "Difference", "compare"]


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
