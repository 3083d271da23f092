"""The rules of retention, each asked of one image."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Set as AbstractSet

import attrs

from hmret.model.images import Cause, Image, Inventory, Repository
from hmret.model.policy import Policy
from hmret.model.protection import RepositoryProtection
from hmret.model.times import SECOND
from hmret.model.verdicts import ACTIONS, Reason, Verdict

__all__ = ["NEVER", "Circumstances", "Judge", "tags_by_digest"]

NEVER = 1 << 64
"""Later than any time in nanoseconds."""

# How far in the future `unused_since` may lie before it is taken for wrong and the timer starts again.
_FUTURE_TOLERANCE_NS = 5 * 60 * SECOND


@attrs.frozen
class Circumstances:
    """What holds for all images of a sweep, but for the time."""

    policy: Policy
    is_suspended: bool
    clock_jumped: bool

    @classmethod
    def of(cls, inventory: Inventory, policy: Policy) -> "Circumstances":
        """Say under which circumstances an inventory is judged."""
        causes = {suspension.cause for suspension in inventory.suspensions}
        return cls(policy, bool(causes), Cause.CLOCK_JUMP in causes)


@attrs.frozen(eq=False)
class Judge:
    """The rules of the table, asked of the images of one repository at one time."""

    circumstances: Circumstances
    now_ns: int
    name: str
    timers: Mapping[str, int | None]
    """Those of this repository, by digest."""
    protection: RepositoryProtection
    leased: AbstractSet[str]
    backing_off: AbstractSet[str]
    _choices: tuple[Reason, ...] = attrs.field(init=False)
    """What the operator has chosen for this repository."""

    @_choices.default
    def _match(self) -> tuple[Reason, ...]:
        policy = self.circumstances.policy
        pinned = (Reason.PINNED,) if policy.pinned.matches(self.name) else ()
        return pinned if policy.allowed.matches(self.name) else (*pinned, Reason.NOT_ALLOWED)

    def reasons(self, image: Image) -> Iterator[Reason]:
        """List every reason against a deletion of this image now, in the order of the table."""
        # Whether it may be touched at all. Where no metadata could be read, that is what is wrong, and all that is told.
        if image.status != "ready" and not (image.status == "unknown" and image.broken is not None):
            yield Reason.NOT_READY
        if image.broken is not None:
            yield Reason.BROKEN
        digest = image.digest
        if digest in self.protection.sources:
            yield Reason.REFERENCED
        if digest in self.leased:
            yield Reason.LEASED
        yield from self._choices
        # Whether its time has come, and whether anything is deleted now.
        since_ns = self.unused_since(digest)
        if since_ns is None:
            if not self.circumstances.clock_jumped:
                yield Reason.NEWLY_UNUSED
        elif since_ns + self.circumstances.policy.unused_for_ns > self.now_ns:
            yield Reason.RETENTION_WINDOW
        if self.circumstances.is_suspended:
            yield Reason.SUSPENDED
        if digest in self.backing_off:
            yield Reason.BACKOFF

    def first_reason(self, image: Image) -> Reason:
        """Tell the reason that decides."""
        for reason in self.reasons(image):
            return reason
        return Reason.EXPIRED

    def waiting_span(self) -> tuple[int, int]:
        """Tell between which times, in nanoseconds, a timer has begun that has not run out.

        Later than the first and not later than the second: where nothing else holds, that is `RETENTION_WINDOW`.
        Nothing where it may be otherwise for want of the operator's leave.
        """
        if self._choices:
            return NEVER, NEVER
        return self.now_ns - self.circumstances.policy.unused_for_ns, self.now_ns

    def unused_since(self, digest: str) -> int | None:
        """Tell the timer of an image in nanoseconds; None where it has none, or one too far in the future."""
        since_ns = self.timers.get(digest)
        if since_ns is None or since_ns > self.now_ns + _FUTURE_TOLERANCE_NS:
            return None
        return since_ns

    def next_turn(self, digest: str) -> int:
        """Tell when, in nanoseconds, the time alone next changes what the rules say of an image."""
        since_ns = self.timers.get(digest)
        if since_ns is None:
            return NEVER
        if since_ns > self.now_ns + _FUTURE_TOLERANCE_NS:
            return since_ns - _FUTURE_TOLERANCE_NS
        expires_ns = since_ns + self.circumstances.policy.unused_for_ns
        return expires_ns if expires_ns > self.now_ns else NEVER

    def verdict(self, image: Image, reason: Reason, tags: tuple[str, ...]) -> Verdict:
        """Tell all about one image."""
        blockers = tuple(self.reasons(image))
        if reason is Reason.DEFERRED:
            blockers += (reason,)
        since_ns = self.unused_since(image.digest)
        return Verdict(
            repository=self.name,
            digest=image.digest,
            tags=tags,
            status=image.status,
            size_bytes=image.size_bytes,
            disk_bytes=image.disk_bytes,
            action=ACTIONS[reason],
            reason=reason,
            blockers=blockers,
            referenced_by=self.protection.sources.get(image.digest, ()),
            unused_since_ns=since_ns,
            expires_at_ns=None if since_ns is None else since_ns + self.circumstances.policy.unused_for_ns,
            broken=image.broken,
        )


def tags_by_digest(repository: Repository) -> Mapping[str, tuple[str, ...]]:
    """List the tags of each digest, sorted."""
    tags: defaultdict[str, list[str]] = defaultdict(list)
    for tag in sorted(repository.tags):
        tags[repository.tags[tag]].append(tag)
    return {digest: tuple(names) for digest, names in tags.items()}
