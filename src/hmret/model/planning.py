"""The decision: what becomes of each image, and why.

Everything here is a function of its arguments. Whoever acts on a plan owes it one thing: to look again, under
the image's lock, right before a deletion.
"""

import enum
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

import attrs

from hmret.model.images import Cause, Image, Inventory, Key, Remembered, Repository, Suspension
from hmret.model.policy import Policy
from hmret.model.protection import Protection, StaleReference, protect
from hmret.model.times import SECOND, datetime_of, nanoseconds_of

__all__ = ["FUTURE_TOLERANCE", "Action", "Plan", "Reason", "Summary", "Verdict", "plan"]

FUTURE_TOLERANCE = timedelta(minutes=5)
"""How far in the future `unused_since` may lie before it is taken for wrong and the timer starts again."""

_FUTURE_TOLERANCE_NS = 5 * 60 * SECOND


class Action(enum.StrEnum):
    """What a sweep does with an image."""

    CLEAR = "clear"
    MARK = "mark"
    NONE = "none"
    DELETE = "delete"


class Reason(enum.StrEnum):
    """Why; in the order in which they are asked, the first that applies decides."""

    NOT_READY = "not_ready"
    BROKEN = "broken"
    REFERENCED = "referenced"
    LEASED = "leased"
    PINNED = "pinned"
    NOT_ALLOWED = "not_allowed"
    NEWLY_UNUSED = "newly_unused"
    RETENTION_WINDOW = "retention_window"
    SUSPENDED = "suspended"
    BACKOFF = "backoff"
    DEFERRED = "deferred"
    OPEN = "open"
    EXPIRED = "expired"


_ACTIONS = {
    Reason.NOT_READY: Action.CLEAR,
    Reason.BROKEN: Action.CLEAR,
    Reason.REFERENCED: Action.CLEAR,
    Reason.LEASED: Action.CLEAR,
    Reason.PINNED: Action.CLEAR,
    Reason.NOT_ALLOWED: Action.CLEAR,
    Reason.OPEN: Action.CLEAR,
    Reason.NEWLY_UNUSED: Action.MARK,
    Reason.RETENTION_WINDOW: Action.NONE,
    Reason.SUSPENDED: Action.NONE,
    Reason.BACKOFF: Action.NONE,
    Reason.DEFERRED: Action.NONE,
    Reason.EXPIRED: Action.DELETE,
}


@attrs.frozen
class Verdict:
    """What becomes of one image, and why."""

    repository: str
    digest: str
    tags: tuple[str, ...]
    status: str
    size_bytes: int
    """The size that the metadata states."""
    disk_bytes: int
    """The blocks that the disk occupies, whoever shares them."""
    action: Action
    reason: Reason
    """The first reason that applies."""
    blockers: tuple[Reason, ...]
    """Every reason that holds against a deletion now; empty where the image goes."""
    referenced_by: tuple[str, ...]
    """`instance/ID`, `snapshot/ID` or an embedder's own names, sorted."""
    unused_since_ns: int | None
    """The timer in nanoseconds since the epoch: as recorded, or now where it starts with this plan; None: no timer."""
    expires_at_ns: int | None
    """When the timer runs out, in nanoseconds since the epoch; None: no timer."""
    broken: str | None = None
    """What is wrong with the folder; None: nothing."""

    @property
    def unused_since(self) -> datetime | None:
        """The timer, cut to microseconds."""
        return None if self.unused_since_ns is None else datetime_of(self.unused_since_ns)

    @property
    def expires_at(self) -> datetime | None:
        """When the timer runs out, cut to microseconds."""
        return None if self.expires_at_ns is None else datetime_of(self.expires_at_ns)


@attrs.frozen
class Summary:
    """A plan in numbers."""

    images: int
    delete: int
    delete_bytes: int
    """Blocks that come free: a disk with several links counts when the last of them goes."""
    mark: int
    clear: int
    keep: int
    """Images to which nothing happens."""
    prune: int
    """States of images that are gone."""


@attrs.frozen(eq=False)
class Plan:
    """The verdicts on all images, sorted by repository and digest, and what else a sweep has to do."""

    at: datetime
    suspended: tuple[Suspension, ...]
    stale_references: tuple[StaleReference, ...]
    remembered: Mapping[tuple[str, str], Remembered]
    """What the next inventory carries as `remembered`."""
    pruned: tuple[Key, ...]
    """States of images that are gone."""
    ready_images: int
    """Images that are ready and whole."""
    protected_images: int
    """Images here that are referenced, ready or not."""
    _judge: "_Judge"
    _decisions: tuple[tuple[str, Image, Reason], ...]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Every image with its verdict; made anew at each call."""
        return tuple(self._verdict(*decision) for decision in self._decisions)

    @property
    def deletions(self) -> tuple[Verdict, ...]:
        """The images that go, longest unused first."""
        going = [self._verdict(*decision) for decision in self._decisions if decision[2] is Reason.EXPIRED]
        return tuple(sorted(going, key=lambda verdict: verdict.unused_since_ns or 0))

    @property
    def marks(self) -> tuple[Key, ...]:
        """The images whose timer starts now."""
        return tuple(
            (name, image.digest) for name, image, reason in self._decisions if reason is Reason.NEWLY_UNUSED
        )

    @property
    def clears(self) -> tuple[Key, ...]:
        """The images that have a state and should have none."""
        states = self._judge.inventory.states
        keys = (
            (name, image.digest)
            for name, image, reason in self._decisions
            if _ACTIONS[reason] is Action.CLEAR
        )
        return tuple(key for key in keys if key in states)

    @property
    def summary(self) -> Summary:
        """The plan in numbers."""
        counts = dict.fromkeys(Action, 0)
        for _name, _image, reason in self._decisions:
            counts[_ACTIONS[reason]] += 1
        return Summary(
            images=len(self._decisions),
            delete=counts[Action.DELETE],
            delete_bytes=_freed_bytes(
                image for _, image, reason in self._decisions if reason is Reason.EXPIRED
            ),
            mark=counts[Action.MARK],
            clear=counts[Action.CLEAR],
            keep=counts[Action.NONE],
            prune=len(self.pruned),
        )

    def verdict(self, repository: str, digest: str) -> Verdict | None:
        """Find the verdict on one image; None where it is not here."""
        for decision in self._decisions:
            if decision[0] == repository and decision[1].digest == digest:
                return self._verdict(*decision)
        return None

    def _verdict(self, repository: str, image: Image, reason: Reason) -> Verdict:
        return self._judge.verdict(repository, image, reason, self.at)


def plan(inventory: Inventory, policy: Policy, now: datetime) -> Plan:
    """Decide on every image of the inventory.

    The result does not depend on the order of anything in the inventory. An image whose `unused_since` plus window
    is exactly `now` is due. The caller looks again at whatever a deletion rests on, under the image's lock, before
    it acts.

    Raises:
        InvalidReferenceError: a reference does not parse.
        ValueError: `now` has no time zone.
    """
    judge = _Judge(inventory, policy, protect(inventory), nanoseconds_of(now))
    decisions: list[tuple[str, Image, Reason]] = []
    due: list[tuple[int, str, str, int]] = []
    for name in sorted(inventory.repositories):
        repository = inventory.repositories[name]
        for digest in sorted(repository.images):
            image = repository.images[digest]
            reason = next(judge.reasons(name, image), Reason.EXPIRED)
            if reason is Reason.EXPIRED:
                due.append((judge.unused_since(name, digest) or 0, name, digest, len(decisions)))
            decisions.append((name, image, reason))
    if policy.max_deletes and len(due) > policy.max_deletes:
        for _since, _name, _digest, position in sorted(due)[policy.max_deletes :]:
            name, image, _reason = decisions[position]
            decisions[position] = (name, image, Reason.DEFERRED)
    protection = judge.protection
    return Plan(
        at=now,
        suspended=inventory.suspensions,
        stale_references=protection.stale,
        remembered=protection.remembered,
        pruned=tuple(sorted(key for key in inventory.states if _is_gone(key, inventory))),
        ready_images=sum(image.status == "ready" and image.broken is None for _, image, _ in decisions),
        protected_images=len(protection.sources),
        judge=judge,
        decisions=tuple(decisions),
    )


@attrs.frozen(eq=False)
class _Judge:
    """The rules of the table, each asked of one image, over one inventory at one time."""

    inventory: Inventory
    policy: Policy
    protection: Protection
    now_ns: int
    _patterns: dict[str, tuple[bool, bool]] = attrs.field(factory=dict, init=False)
    _tags: dict[str, Mapping[str, tuple[str, ...]]] = attrs.field(factory=dict, init=False)
    _holds: bool = attrs.field(init=False)
    _clock_jumped: bool = attrs.field(init=False)

    @_holds.default
    def _any_suspension(self) -> bool:
        return bool(self.inventory.suspensions)

    @_clock_jumped.default
    def _any_clock_jump(self) -> bool:
        return any(suspension.cause is Cause.CLOCK_JUMP for suspension in self.inventory.suspensions)

    def reasons(self, name: str, image: Image) -> Iterator[Reason]:
        """List every reason against a deletion of this image now, in the order of the table."""
        if image.status not in ("ready", "unknown"):
            yield Reason.NOT_READY
        if image.broken is not None:
            yield Reason.BROKEN
        key = (name, image.digest)
        if key in self.protection.sources:
            yield Reason.REFERENCED
        if key in self.inventory.leased:
            yield Reason.LEASED
        pinned, allowed = self._patterns.get(name) or self._match(name)
        if pinned:
            yield Reason.PINNED
        if not allowed:
            yield Reason.NOT_ALLOWED
        since_ns = self.unused_since(name, image.digest)
        if since_ns is None:
            if not self._clock_jumped:
                yield Reason.NEWLY_UNUSED
        elif since_ns + self.policy.unused_for_ns > self.now_ns:
            yield Reason.RETENTION_WINDOW
        if self._holds:
            yield Reason.SUSPENDED
        if key in self.inventory.backing_off:
            yield Reason.BACKOFF

    def unused_since(self, name: str, digest: str) -> int | None:
        """Tell the timer of an image in nanoseconds; None where it has none, or one too far in the future."""
        since_ns = self.inventory.states.get((name, digest))
        if since_ns is None or since_ns > self.now_ns + _FUTURE_TOLERANCE_NS:
            return None
        return since_ns

    def verdict(self, name: str, image: Image, reason: Reason, now: datetime) -> Verdict:
        """Tell all about one image."""
        blockers = tuple(self.reasons(name, image))
        if reason is Reason.DEFERRED:
            blockers += (reason,)
        since_ns = self.unused_since(name, image.digest)
        if reason is Reason.NEWLY_UNUSED:
            since_ns = nanoseconds_of(now)
        return Verdict(
            repository=name,
            digest=image.digest,
            tags=self._tags_of(name).get(image.digest, ()),
            status=image.status,
            size_bytes=image.size_bytes,
            disk_bytes=image.disk_bytes,
            action=_ACTIONS[reason],
            reason=reason,
            blockers=blockers,
            referenced_by=self.protection.sources.get((name, image.digest), ()),
            unused_since_ns=since_ns,
            expires_at_ns=None if since_ns is None else since_ns + self.policy.unused_for_ns,
            broken=image.broken,
        )

    def _match(self, name: str) -> tuple[bool, bool]:
        verdict = self.policy.pinned.matches(name), self.policy.allowed.matches(name)
        self._patterns[name] = verdict
        return verdict

    def _tags_of(self, name: str) -> Mapping[str, tuple[str, ...]]:
        known = self._tags.get(name)
        if known is None:
            known = self._tags[name] = _tags_by_digest(self.inventory.repositories[name])
        return known


def _tags_by_digest(repository: Repository) -> Mapping[str, tuple[str, ...]]:
    tags: defaultdict[str, list[str]] = defaultdict(list)
    for tag in sorted(repository.tags):
        tags[repository.tags[tag]].append(tag)
    return {digest: tuple(names) for digest, names in tags.items()}


def _is_gone(key: Key, inventory: Inventory) -> bool:
    """Tell whether the image of a state is known not to be here."""
    name, digest = key
    repository = inventory.repositories.get(name)
    if repository is not None and digest in repository.images:
        return False
    return not any(not part or name == part or name.startswith(f"{part}/") for part in inventory.unlisted)


def _freed_bytes(images: Iterator[Image]) -> int:
    """Add up the blocks that come free when all these go."""
    total = 0
    links: defaultdict[tuple[int, int], int] = defaultdict(int)
    for image in images:
        disk = image.shared_disk
        if disk is None:
            total += image.disk_bytes
            continue
        links[disk.device, disk.inode] += 1
        if links[disk.device, disk.inode] == disk.links:
            total += image.disk_bytes
    return total
