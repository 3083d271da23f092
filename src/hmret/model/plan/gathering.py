"""The decisions on all repositories taken together, at any hour, and whether the next plan may reuse them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain

from hmret.model.images import Inventory, Remembered
from hmret.model.plan.repository_plan import RepositoryPlan
from hmret.model.plan.selection import Choice
from hmret.model.plan.units import DueShared
from hmret.model.protection import RepositoryProtection, StaleReference, stale_references
from hmret.model.references import Key
from hmret.model.tag_history import TagName, put_together
from hmret.model.values import frozen
from hmret.model.verdicts import Reason


def have_same_facts(earlier: Inventory, inventory: Inventory) -> bool:
    """Return whether two inventories give the same inputs to the decisions on all repositories.

    They do if their large objects are identical, and the other values are equal.
    """
    # guard(whole-plan-needs-same-facts): A plan that ignored a new guest, lease, timer or fault could
    # delete what is in use, so it stands only while nothing changed.
    return (
        earlier.repositories is inventory.repositories
        and earlier.states is inventory.states
        and earlier.references is inventory.references
        and earlier.contents is inventory.contents
        and earlier.builds is inventory.builds
        and earlier.leased == inventory.leased
        and earlier.backing_off == inventory.backing_off
        and earlier.accessed == inventory.accessed
        and earlier.unlisted == inventory.unlisted
        and earlier.unread_sources == inventory.unread_sources
    )


@frozen(eq=False)
class Gathered:
    """The decisions on all repositories, added up."""

    due_shared: DueShared
    expired: tuple[Choice, ...]
    """The units that are due, longest unused first, but not those kept by a suspension or a failed attempt. The brake,
    the hours, the fleet and the limits of one sweep may still hold some back.
    """
    stale_references: tuple[StaleReference, ...]
    remembered: Mapping[TagName, Remembered]
    marks: tuple[Key, ...]
    mark_times: Mapping[Key, int]
    held_back: int
    """How many of the marks would be due if their disks had not been read unseen."""
    clears: tuple[tuple[Key, Reason], ...]
    pruned: tuple[Key, ...]
    ready_images: int
    protected_images: int
    until_ns: int
    """When the passing of time may first change any of it."""

    @classmethod
    def of(
        cls,
        inventory: Inventory,
        parts: Mapping[str, RepositoryPlan],
        protections: Mapping[str, RepositoryProtection],
    ) -> "Gathered":
        """Add up the decisions on all repositories."""
        busy = sorted((name, part) for name, part in parts.items() if not part.is_quiet)
        due_shared = DueShared.of(busy, inventory.contents)
        expired = sorted(
            chain(
                (
                    Choice(since_ns, name, digest, part.image(digest))
                    for name, part in busy
                    for since_ns, digest in part.due_alone
                ),
                due_shared.units(parts),
            )
        )
        return cls(
            due_shared=due_shared,
            expired=tuple(expired),
            stale_references=stale_references(inventory, protections),
            remembered=_remembered(inventory, protections.values()),
            marks=tuple((name, digest) for name, part in busy for digest in part.marks),
            mark_times={
                (name, digest): begins_ns
                for name, part in busy
                for digest, begins_ns in part.mark_times.items()
            },
            held_back=sum(part.held_back for _, part in busy),
            clears=tuple(((name, digest), reason) for name, part in busy for digest, reason in part.clears),
            pruned=tuple((name, digest) for name, part in busy for digest in part.pruned),
            ready_images=sum(part.ready_images for part in parts.values()),
            protected_images=_count_protected(parts.values()),
            until_ns=min((part.until_ns for part in parts.values()), default=0),
        )


def shifts_of(
    finals: Mapping[str, Mapping[str, Reason]], parts: Mapping[str, RepositoryPlan]
) -> Mapping[Reason, int]:
    """Count by how much decisions that look at the whole cache change the number of images for each reason."""
    shifts: Counter[Reason] = Counter()
    for name, reasons in finals.items():
        for digest, reason in reasons.items():
            shifts[reason] += 1
            shifts[parts[name].reason(digest)] -= 1
    return shifts


def _count_protected(parts: Iterable[RepositoryPlan]) -> int:
    """Count the distinct digests in the cache that something refers to."""
    return len(set().union(*(part.sources for part in parts if part.sources)))


def _remembered(
    inventory: Inventory, protections: Iterable[RepositoryProtection]
) -> Mapping[TagName, Remembered]:
    """Combine all repositories' tag histories; while a source cannot be read, what was known is kept."""
    remembered = put_together(inventory, (protection.remembered for protection in protections))
    # The same object where nothing has changed, so that whatever rests on it can be reused.
    return inventory.remembered if remembered == inventory.remembered else remembered
