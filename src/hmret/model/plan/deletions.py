"""From an image that a plan chose to the deletion that is asked for."""

from hmret.model.deletion import Deletion, DueRow
from hmret.model.plan.plan import Plan
from hmret.model.plan.selection import Choice
from hmret.model.verdicts import Reason

__all__ = ["deletion_of"]


def deletion_of(plan: Plan, choice: Choice, reason: Reason | None = None) -> Deletion | None:
    """Return the deletion of an image that a plan chose; None: a row of it has no timer.

    `reason`: why it goes, where it goes in place of another image; None: as the plan says.
    """
    rows: list[DueRow] = []
    images = (choice.image, *(image for _, image in choice.others))
    for image, row in zip(images, plan.rows(choice), strict=True):
        if row.unused_since_ns is None:
            return None
        rows.append(DueRow(row.repository, row.unused_since_ns, reason or row.reason, row.tags, image))
    return Deletion(choice.digest, tuple(rows), choice.image.is_content)
