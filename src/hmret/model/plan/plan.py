"""The plan: what happens to each image and why, for those who show it and those who carry it out."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set as AbstractSet
from datetime import datetime

import attrs
import msgspec

from hmret.model.grouping import ReferenceIndex
from hmret.model.images import Image, Inventory, Obstacle, Remembered, Repository, Suspension
from hmret.model.plan.due_times import DueTimes, Timed
from hmret.model.plan.evaluate import PlanContext
from hmret.model.plan.fleet.judge import FleetJudge
from hmret.model.plan.fleet.remarks import with_fleet
from hmret.model.plan.gathering import Gathered, have_same_facts
from hmret.model.plan.repository_plan import DUE, NO_FINALS, RepositoryPlan
from hmret.model.plan.selection import (
    BytesFreed,
    Choice,
    Pressure,
    Substitute,
)
from hmret.model.policy.brake import Braking
from hmret.model.protection import (
    RepositoryProtection,
    StaleReference,
)
from hmret.model.references import ImageReference, Key, Reference
from hmret.model.tag_history import TagName
from hmret.model.values import frozen
from hmret.model.verdicts import ACTIONS, Action, Holder, Reason, Summary, Verdict

USERS_SHOWN = 10
"""How many sources that need an image an event lists."""
_NONE_GONE: Mapping[str, AbstractSet[str]] = {}


@frozen(eq=False)
class Plan:
    """The verdicts on all images, sorted by repository and digest, and whatever else a sweep has to do."""

    at: datetime
    """The time for which it was made, aware, in UTC."""
    suspended: tuple[Suspension, ...]
    """What suspends deletion; empty: nothing."""
    stale_references: tuple[StaleReference, ...]
    """References to images that are not here; they protect nothing."""
    remembered: Mapping[TagName, Remembered]
    """The `remembered` of the next inventory."""
    marks: tuple[Key, ...]
    """The images whose timer starts in this sweep."""
    mark_times: Mapping[Key, int]
    """The starts of those timers that begin in the past, when the disk was last read unseen, in nanoseconds; all
    others start now.
    """
    held_back: int
    """How many images would be due if their disks had not been read unseen."""
    expired: int
    """How many units are due, including those held back by the brake, the hours, the fleet or the limits of one sweep,
    but not those kept by a suspension or a failed attempt.
    """
    clears: tuple[tuple[Key, Reason], ...]
    """Images that have a state although they should have none, and why."""
    pruned: tuple[Key, ...]
    """States of images that no longer exist."""
    ready_images: int
    """Images that are ready and complete."""
    protected_images: int
    """Digests in the cache that are referenced, ready or not; one that several repositories have counts once."""
    _parts: Mapping[str, RepositoryPlan]
    _context: PlanContext
    _at_ns: int
    _going: tuple[Choice, ...]
    """Longest unused first."""
    _finals: Mapping[str, Mapping[str, Reason]]
    """The reasons decided on the whole cache, in place of the repositories' own, by repository and digest."""
    _shifts: Mapping[Reason, int]
    """By how much those decisions change the number of images for each reason."""
    _everywhere: tuple[Reason, ...]
    """The reasons against every deletion at this hour."""
    _protections: Mapping[str, "KnownProtection"]
    _inventory: Inventory
    _gathered: Gathered
    braking: Braking | None
    """Set where more has expired at once than the brake allows."""
    pressure: Pressure | None
    """Set where a limit of the disk is exceeded."""
    obstacles: Mapping[Key, Obstacle] = {}
    """What prevents the deletion of images that would go otherwise, by their rows."""
    substitutes: tuple[Substitute, ...] = ()
    """The units to delete next, in this order, if one that goes turns out not to be deletable: those beyond
    the limits of one sweep, and those that pressure on the disk would choose next.
    """
    unasked: tuple[str, ...] = ()
    """The digests that stay only because the fleet has not been asked yet about their other copies."""
    to_ask: tuple[str, ...] = ()
    """These, and the digests on which the fleet's answer may have changed."""
    fleet: FleetJudge | None = None
    """What the fleet says of copies; None: this host is in none."""
    to_release: int = 0
    """How many units that go are the last of their digest here, so that the fleet counts one copy less."""

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Every image with its verdict; computed at each call."""
        return tuple(self.iterate())

    def iterate(self) -> Iterator[Verdict]:
        """Yield the verdicts one at a time: there may be very many."""
        for name in sorted(self._parts):
            part = self._parts[name]
            for verdict in part.verdicts(self._finals.get(name, NO_FINALS), self._everywhere):
                yield self._completed(verdict)

    @property
    def deletions(self) -> tuple[Verdict, ...]:
        """The verdicts on the rows that go: those of `units`, one after another."""
        return tuple(verdict for rows in self.units for verdict in rows)

    @property
    def units(self) -> tuple[tuple[Verdict, ...], ...]:
        """The units that go, longest unused first, each as the verdicts on all its rows."""
        return tuple(map(self.rows, self._going))

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The units that go, longest unused first: the choices that this plan deletes."""
        return self._going

    @property
    def in_stead(self) -> Iterator[Choice]:
        """The units of `substitutes`, one at a time: what to delete next in place of others, in this order."""
        return (choice for substitute in self.substitutes for choice in substitute.choices)

    def rows(self, choice: Choice) -> tuple[Verdict, ...]:
        """Return the verdicts on the rows of a unit that goes, or that may go in place of another."""
        found = (self.verdict(*key) for key in choice.keys)
        return tuple(verdict for verdict in found if verdict is not None)

    def timers(
        self, gone: Mapping[str, AbstractSet[str]] = _NONE_GONE
    ) -> Iterator[DueTimes | Iterator[Timed]]:
        """Yield for each repository, by name, when its images fall due: added up, or each with its reason.

        These are due times; `mark_times` and an inventory's `states` are the times at which timers start. Images that
        are `gone`, by repository and digest, are left out. Costs much less than `verdicts`.
        """
        for name, part in sorted(self._parts.items()):
            finals, left = self._finals.get(name, NO_FINALS), gone.get(name)
            due_times = None if finals or left else part.due_times
            if due_times is not None:
                yield due_times
            else:
                yield (
                    Timed(image, reason, due_ns, part.owners(image.digest))
                    for image, reason, due_ns in part.iterate_due_times(self._at_ns, finals)
                    if left is None or image.digest not in left
                )

    @property
    def summary(self) -> Summary:
        """The plan in numbers."""
        reasons = self.reasons
        counts = dict.fromkeys(Action, 0)
        for reason, count in reasons.items():
            counts[ACTIONS[reason]] += count
        return Summary(
            images=sum(reasons.values()),
            delete=counts[Action.DELETE],
            delete_bytes=BytesFreed.by(self._going).total_bytes,
            mark=counts[Action.MARK],
            clear=counts[Action.CLEAR],
            keep=counts[Action.NONE],
            prune=len(self.pruned),
        )

    @property
    def reasons(self) -> Mapping[Reason, int]:
        """How many images there are for each reason."""
        counts = dict.fromkeys(Reason, 0)
        for part in self._parts.values():
            part.count(counts)
        for reason, count in self._shifts.items():
            counts[reason] += count
        return counts

    def verdict(self, repository: str, digest: str) -> Verdict | None:
        """Return the verdict on one image; None where the image is not in the cache."""
        part = self._parts.get(repository)
        if part is None:
            return None
        final = self._finals.get(repository, NO_FINALS).get(digest)
        verdict = part.verdict(digest, final, self._everywhere)
        return None if verdict is None else self._completed(verdict)

    def image(self, repository: str, digest: str) -> Image | None:
        """Return an image as it was found; None where it is not in the cache."""
        part = self._parts.get(repository)
        return None if part is None or not part.has(digest) else part.image(digest)

    def _completed(self, verdict: Verdict) -> Verdict:
        """Complete a verdict with the other repositories' part in it and with further remarks."""
        digest = verdict.digest
        if verdict.shared_with:
            rows = (verdict.repository, *verdict.shared_with)
            images = (self._parts[name].image(digest) for name in rows if self._parts[name].has(digest))
            # A row can stand for the repository's own folder while the content is unfinished.
            disk_bytes = _unit_bytes(image for image in images if image.is_content)
            verdict = attrs.evolve(verdict, disk_bytes=disk_bytes)
        if verdict.reason is Reason.SHARED:
            holders = ((name, self._parts[name].reason(digest)) for name in verdict.shared_with)
            held_by = tuple(Holder(name, reason) for name, reason in holders if reason not in DUE)
            verdict = attrs.evolve(verdict, held_by=held_by)
        obstacle = self.obstacles.get((verdict.repository, digest))
        if obstacle is not None and verdict.reason is Reason.BACKOFF:
            verdict = attrs.evolve(verdict, detail=f"{obstacle.path}: {obstacle.detail}")
        detail = self._inventory.details.get(digest)
        if detail is not None:
            verdict = attrs.evolve(verdict, detail=detail)
        return verdict if self.fleet is None else with_fleet(verdict, self.fleet)

    @property
    def vm_names(self) -> Mapping[str, str]:
        """The display names of sources that have one, by their names in `referenced_by`."""
        return self.references.names

    @property
    def references(self) -> ReferenceIndex:
        """The references that the plan was made with."""
        return self._inventory.references

    def users(self, repository: str, digest: str) -> Mapping[str, object]:
        """Return which sources need an image, and the display names of those that have one; empty where none does.

        Of very many sources it lists some.
        """
        part = self._parts.get(repository)
        sources = () if part is None else part.sources.get(digest, ())[:USERS_SHOWN]
        named = {source: self.vm_names[source] for source in sources if source in self.vm_names}
        return {"referenced_by": list(sources), **({"vm_names": named} if named else {})} if sources else {}

    def resolve(self, reference: ImageReference) -> Key | None:
        """Return the image that a reference names; None where it is not in the cache."""
        part = self._parts.get(reference.repository)
        repository = None if part is None else part.repository
        if repository is None:
            return None
        digest = reference.digest or repository.tags.get(reference.tag or "", "")
        return (repository.name, digest) if digest in repository.images else None

    def digests(self) -> Iterator[tuple[str, Iterable[str]]]:
        """List the digests of each repository."""
        for name, part in self._parts.items():
            if part.repository is not None:
                yield name, part.images

    def sources(self) -> Iterator[tuple[str, Mapping[str, tuple[str, ...]]]]:
        """List the sources that need each digest in the cache, by repository."""
        for name, part in self._parts.items():
            if part.sources:
                yield name, part.sources

    @property
    def stopped_timers(self) -> Mapping[Reason, int]:
        """The number of running timers that the sweep stops, by reason."""
        counts: Counter[Reason] = Counter()
        for (name, digest), reason in self.clears:
            part = self._parts[name]
            if part.evaluator.expiry.runs_since(part.image(digest)) is not None:
                counts[reason] += 1
        return counts

    @property
    def allows_nothing(self) -> bool:
        """Whether the operator's patterns allow no image in the cache to be deleted."""
        policy = self._context.policy
        return not any(
            policy.allowed.matches(name) and not policy.pinned.matches(name)
            for name, part in self._parts.items()
            if part.images
        )

    @property
    def is_closed(self) -> bool:
        """Whether nothing is deleted at this hour except, where that is allowed, to free space."""
        return Reason.OUTSIDE_WINDOW in self._everywhere

    def newest(self, repository: str) -> tuple[Image, ...]:
        """List the images of a repository that are kept for being among its newest."""
        part = self._parts.get(repository)
        return () if part is None else tuple(part.image(digest) for digest in sorted(part.evaluator.latest))

    def parts_for(
        self, inventory: Inventory, context: PlanContext, now_ns: int
    ) -> tuple[Mapping[str, RepositoryPlan], Mapping[str, "KnownProtection"]]:
        """Return the parts that a later plan may reuse, provided that nothing in them has changed."""
        # guard(tag-memory-renews-plan): Images that moved tags once pointed to stay; where that memory
        # changes, no decision of an earlier plan stands.
        is_alike = context == self._context and inventory.remembered == self.remembered
        return (self._parts, self._protections) if is_alike and now_ns >= self._at_ns else ({}, {})

    def stands(self, inventory: Inventory, context: PlanContext, now_ns: int) -> Gathered | None:
        """Return the combined decisions on all repositories if none can have changed; None: one can have."""
        # guard(time-ends-the-whole-plan): Time alone can make an image due or change which are the newest;
        # from that moment on an earlier plan no longer stands.
        if (
            have_same_facts(self._inventory, inventory)
            and context == self._context
            and inventory.remembered is self.remembered
            and self._at_ns <= now_ns < self._gathered.until_ns
            and all(protected.found.is_lasting for protected in self._protections.values())
        ):
            return self._gathered
        return None


class KnownProtection(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What the references to one repository protect, and the inputs on which that depends."""

    references: tuple[Reference, ...]
    repository: Repository | None
    names_above: tuple[str, ...]
    """The names of repositories that would be above it, whether or not they exist."""
    above: tuple[Repository | None, ...]
    found: RepositoryProtection


def _unit_bytes(images: Iterable[Image]) -> int:
    """Add up the blocks of all folders of shared content; a disk with several names counts once."""
    total = 0
    seen: set[object] = set()
    for image in images:
        for folder in image.folders:
            disk = folder.shared_disk
            identity: object = (
                disk.identity if disk is not None else folder.digest if folder.is_content else None
            )
            if identity is None or identity not in seen:
                total += folder.disk_bytes
                seen.add(identity)
    return total
