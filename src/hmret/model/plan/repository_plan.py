"""The part of a plan that is about one repository.

Each repository is decided independently. So a part with the same inputs as before, while it is still within
the time for which it was made, is also part of the next plan.
"""

from collections.abc import Callable, Iterator, Mapping, Set as AbstractSet
from functools import cached_property

from hmret.model.images import Image, Repository
from hmret.model.plan.due_times import DueTimes, add_up
from hmret.model.plan.effective_rules import next_dated_ns, tags_by_digest
from hmret.model.plan.evaluate import Evaluator, PlanContext
from hmret.model.plan.repository_inputs import RepositoryInputs
from hmret.model.policy.compiled import NEVER
from hmret.model.values import frozen
from hmret.model.verdicts import ACTIONS, ORDER, Action, Reason, Verdict

_REASONS = tuple(Reason)
_WAITING = ORDER[Reason.RETENTION_WINDOW]
_ELIGIBLE = tuple(
    ORDER[reason]
    for reason in (
        Reason.NEWLY_UNUSED,
        Reason.RETENTION_WINDOW,
        Reason.TOO_YOUNG,
        Reason.BACKOFF,
        Reason.EXPIRED,
    )
)
_NO_DIGESTS: AbstractSet[str] = frozenset()
_ALONE = ("",)

NO_FINALS: Mapping[str, Reason] = {}
"""No reasons decided beyond a repository, by digest."""

DUE = frozenset((Reason.SUSPENDED, Reason.BACKOFF, Reason.EXPIRED))
"""The reasons of a row that is due: it goes unless a host-wide reason or a failed attempt holds it back."""


@frozen(eq=False, kw_only=True)
class RepositoryPlan:
    """The decisions on the images of one repository."""

    name: str
    context: PlanContext
    now_ns: int
    """The time that the decisions were made for, in nanoseconds."""
    inputs: RepositoryInputs
    sources: Mapping[str, tuple[str, ...]]
    """The sources that need each image, sorted, by digest; only of images that are in the cache."""
    until_ns: int
    """When, in nanoseconds, time alone changes a decision."""
    ready_images: int
    """Images that are ready and complete."""
    marks: tuple[str, ...]
    """Digests whose timer starts in this sweep, sorted."""
    mark_times: Mapping[str, int]
    """When such a timer starts, where that is earlier than now, by digest."""
    held_back: int
    """How many of the marks would be due if their disks had not been read unseen."""
    clears: tuple[tuple[str, Reason], ...]
    """Digests that have a state although they should have none, and why, sorted."""
    due_alone: tuple[tuple[int, str], ...]
    """The images that go, each as the time since which it has been unused, and its digest; without those that share
    content.
    """
    due_shared: tuple[tuple[int, str, Reason], ...]
    """The images that share content and would go if their other repositories allow it: since when each has
    been unused, its digest, and what else keeps it; `EXPIRED`: nothing.
    """
    pruned: tuple[str, ...]
    """Digests of images that are gone but have a state, sorted."""
    _numbers: bytes
    """The reasons, in the order of the repository's images: one byte each, since there may be very many."""

    @cached_property
    def evaluator(self) -> Evaluator:
        """What evaluates single images again; made on first use, as most repositories are never asked."""
        return Evaluator(self.context, self.now_ns, self.name, self.inputs, self.sources)

    @property
    def repository(self) -> Repository | None:
        """The repository as it was; None where only timers or references name it."""
        return self.inputs.repository

    @property
    def images(self) -> Mapping[str, Image]:
        """Its images in the cache, by digest."""
        return self.inputs.images

    @property
    def eligible(self) -> int:
        """How many images may be deleted at all, now or later, as far as is known; shared content excluded."""
        policy, shared = self.context.policy, self.inputs.shared
        latest = self.evaluator.latest if policy.keeps_latest else _NO_DIGESTS
        if latest or shared:
            return sum(
                ORDER[reason] in _ELIGIBLE
                for image, reason in self.decisions
                if image.digest not in latest and image.digest not in shared
            )
        return sum(map(self._numbers.count, _ELIGIBLE))

    @property
    def eligible_shared(self) -> Iterator[str]:
        """List the digests that share content and that this repository allows to be deleted."""
        for digest in self.inputs.shared:
            reason = self.reason(digest)
            if ORDER[reason] in _ELIGIBLE and digest not in self.evaluator.latest:
                yield digest

    def reason(self, digest: str) -> Reason:
        """Return this repository's reason for an image in the cache."""
        return self.evaluator.first_reason(self.image(digest))

    def image(self, digest: str) -> Image:
        """Return an image that is in the cache."""
        return self.images[digest]

    def has(self, digest: str) -> bool:
        """Return whether an image is in the cache."""
        return digest in self.images

    @property
    def is_quiet(self) -> bool:
        """Return whether there is nothing to do and nothing to report."""
        return not (self.marks or self.clears or self.due_alone or self.due_shared or self.pruned)

    @property
    def decisions(self) -> Iterator[tuple[Image, Reason]]:
        """Each image with the decision on it, in no particular order."""
        for image, number in zip(self.images.values(), self._numbers, strict=True):
            yield image, _REASONS[number]

    @cached_property
    def due_times(self) -> DueTimes | None:
        """When its images fall due, added up once for all plans that this is a part of.

        None where one repository cannot tell, or the answer does not last: for disks with other links, and
        for timers that start now.
        """
        if self.marks or self.inputs.shared or any(map(_has_links, self.images.values())):
            return None
        return add_up(self.iterate_due_times(0, NO_FINALS))

    @cached_property
    def evictable(self) -> tuple[tuple[int, Image], ...]:
        """The images that only their window keeps, and since when each has been unused."""
        evaluator = self.evaluator
        found = []
        for image, reason in self.decisions:
            # guard(pressure-takes-only-waiting): To free space, only images go that nothing but their
            # window keeps: pins, leases and the newest hold on a full disk, too.
            if reason is Reason.RETENTION_WINDOW and tuple(evaluator.reasons(image)) == (reason,):
                found.append((evaluator.expiry.unused_since(image) or 0, image))
        return tuple(found)

    @cached_property
    def blocks(self) -> tuple[int, Mapping[object, int]]:
        """The blocks of the disks that nothing else shares, and those of every shared disk by its identity."""
        return self._add_up(lambda folder: folder.disk_bytes)

    @cached_property
    def sizes(self) -> tuple[int, Mapping[object, int]]:
        """The same for the apparent sizes of the images that are ready."""
        return self._add_up(lambda folder: folder.size_bytes if folder.status == "ready" else 0)

    def _add_up(self, bytes_of: Callable[[Image], int]) -> tuple[int, Mapping[object, int]]:
        own_bytes = 0
        linked: dict[object, int] = {}
        shared = self.inputs.shared
        for image in self.images.values():
            for folder in image.folders:
                if folder.shared_disk is not None:
                    linked[folder.shared_disk.identity] = bytes_of(folder)
                elif folder.is_content and image.digest in shared:
                    linked[image.digest] = bytes_of(folder)
                else:
                    own_bytes += bytes_of(folder)
        return own_bytes, linked

    def owners(self, digest: str) -> int:
        """Count the repositories that share the content of an image; 1: it is not shared."""
        return len(self.inputs.shared.get(digest, _ALONE))

    def iterate_due_times(
        self, now_ns: int, finals: Mapping[str, Reason]
    ) -> Iterator[tuple[Image, Reason, int | None]]:
        """Yield for each image why it stays or goes, and when it falls due; in no particular order.

        `finals`: the reasons decided beyond this repository, by digest.
        """
        # Not kept: this is asked once of each repository.
        evaluator = Evaluator(self.context, self.now_ns, self.name, self.inputs, self.sources)
        for image, reason in self.decisions:
            if ACTIONS[reason] is Action.CLEAR:
                yield image, reason, None
            else:
                since_ns = evaluator.expiry.unused_since(image)
                if reason is Reason.NEWLY_UNUSED:
                    since_ns = self.mark_times.get(image.digest, now_ns)
                yield image, finals.get(image.digest, reason), evaluator.goes_at(image, since_ns)

    def count(self, counts: dict[Reason, int]) -> None:
        """Add the number of images for each reason to the counts."""
        numbers = self._numbers
        for number in set(numbers):
            counts[_REASONS[number]] += numbers.count(number)

    def verdicts(self, finals: Mapping[str, Reason], everywhere: tuple[Reason, ...]) -> Iterator[Verdict]:
        """Yield the verdict on each image, sorted by digest; parameters as in `Evaluator.verdict`."""
        repository = self.repository
        if repository is None:
            return
        tags = tags_by_digest(repository.tags)
        for digest in sorted(repository.images):
            image = repository.images[digest]
            yield self.evaluator.verdict(image, finals.get(digest), tags.get(digest, ()), everywhere)

    def verdict(self, digest: str, final: Reason | None, everywhere: tuple[Reason, ...]) -> Verdict | None:
        """Return the full verdict on one image; None where it is not in the cache."""
        image = self.images.get(digest)
        if image is None:
            return None
        return self.evaluator.verdict(image, final, self._tags.get(digest, ()), everywhere)

    @cached_property
    def _tags(self) -> Mapping[str, tuple[str, ...]]:
        """The sorted tags of each digest; computed once, as very many images of one repository may go."""
        return {} if self.repository is None else tags_by_digest(self.repository.tags)


def plan_repository(name: str, inputs: RepositoryInputs, context: PlanContext, now_ns: int) -> RepositoryPlan:
    """Decide on every image of one repository."""
    sources = inputs.sources()
    evaluator = Evaluator(context, now_ns, name, inputs, sources)
    images, timers = inputs.images, inputs.timers
    unready, shared = inputs.unready, inputs.shared
    noted = {*sources, *inputs.accessed, *inputs.leased, *unready, *inputs.built}
    # guard(future-date-ends-plan): An image dated in the future takes its place by age once that time has
    # come; an earlier decision must not outlast it.
    until_ns = next_dated_ns(context.policy, inputs.repository, now_ns)
    expiry = evaluator.expiry
    after_ns, before_ns = evaluator.waiting_span()
    earliest_ns = NEVER
    numbers = bytearray()
    marks: list[str] = []
    mark_times: dict[str, int] = {}
    held_back = 0
    clears: list[tuple[str, Reason]] = []
    due_alone: list[tuple[int, str]] = []
    due_shared: list[tuple[int, str, Reason]] = []
    ready = 0
    for digest, image in images.items():
        since_ns = timers.get(digest)
        # guard(shortcut-only-keeps): An image within its window stays, whatever rules say. Only one that
        # nothing else can hold, and with no timer of an earlier pull, is settled here.
        if (
            since_ns is not None
            and after_ns < since_ns <= before_ns
            and image.status == "ready"
            and image.broken is None
            and image.foreign is None
            and image.making is None
            and image.pullable is not False
            and (image.created_ns is None or image.created_ns <= since_ns)
            and digest not in noted
        ):
            # Fast path: most images are inside their window, and no rule can change that.
            numbers.append(_WAITING)
            ready += 1
            if since_ns < earliest_ns:  # noqa: PLR1730 - a call for each of very many
                earliest_ns = since_ns
            continue
        reason = evaluator.first_reason(image)
        until_ns = min(until_ns, expiry.next_change(image))
        numbers.append(ORDER[reason])
        ready += image.is_plain and digest not in unready
        if reason is Reason.NEWLY_UNUSED:
            marks.append(digest)
            begins_ns = expiry.begins_at(image)
            # guard(kept-plan-starts-no-timer): A timer starts at the sweep that writes it. This part of the
            # plan may be kept for later ones, before which the image can have been used.
            if begins_ns != now_ns:
                mark_times[digest] = begins_ns
            held_back += expiry.was_read_when_due(image)
        elif digest in shared and reason in DUE:
            due_shared.append((expiry.unused_since(image) or 0, digest, reason))
        elif reason is Reason.EXPIRED:
            due_alone.append((expiry.unused_since(image) or 0, digest))
        elif digest in timers and ACTIONS[reason] is Action.CLEAR:
            clears.append((digest, reason))
    gone = () if inputs.is_unlisted else (digest for digest in timers if digest not in images)
    return RepositoryPlan(
        name=name,
        context=context,
        now_ns=now_ns,
        inputs=inputs,
        sources=sources,
        until_ns=min(until_ns, expiry.gaps.moved(earliest_ns) + expiry.rules.usual.window_ns),
        ready_images=ready,
        marks=tuple(sorted(marks)),
        mark_times=mark_times,
        held_back=held_back,
        clears=tuple(sorted(clears)),
        due_alone=tuple(sorted(due_alone)),
        due_shared=tuple(sorted(due_shared)),
        pruned=tuple(sorted(gone)),
        numbers=bytes(numbers),
    )


def _has_links(image: Image) -> bool:
    return image.shared_disk is not None or image.copy is not None
