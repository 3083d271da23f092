"""The rules of retention, each asked of one image."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

import attrs

from hmret.model.images import Cause, Image, Inventory, Repository
from hmret.model.policy import Policy
from hmret.model.protection import Protection
from hmret.model.times import SECOND
from hmret.model.verdicts import ACTIONS, Reason, Verdict

__all__ = ["Judge"]

# How far in the future `unused_since` may lie before it is taken for wrong and the timer starts again.
_FUTURE_TOLERANCE_NS = 5 * 60 * SECOND


@attrs.frozen(eq=False)
class Judge:
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
        yield from self._needs(name, image)
        yield from self._choices(name)
        yield from self._times(name, image)

    def _needs(self, name: str, image: Image) -> Iterator[Reason]:
        """Ask whether it may be touched at all."""
        # Where no metadata could be read, that is what is wrong, and all that is told.
        if image.status != "ready" and not (image.status == "unknown" and image.broken is not None):
            yield Reason.NOT_READY
        if image.broken is not None:
            yield Reason.BROKEN
        key = (name, image.digest)
        if key in self.protection.sources:
            yield Reason.REFERENCED
        if key in self.inventory.leased:
            yield Reason.LEASED

    def _choices(self, name: str) -> Iterator[Reason]:
        """Ask what the operator has chosen for its repository."""
        pinned, allowed = self._patterns.get(name) or self._match(name)
        if pinned:
            yield Reason.PINNED
        if not allowed:
            yield Reason.NOT_ALLOWED

    def _times(self, name: str, image: Image) -> Iterator[Reason]:
        """Ask whether its time has come, and whether anything is deleted now."""
        since_ns = self.unused_since(name, image.digest)
        if since_ns is None:
            if not self._clock_jumped:
                yield Reason.NEWLY_UNUSED
        elif since_ns + self.policy.unused_for_ns > self.now_ns:
            yield Reason.RETENTION_WINDOW
        if self._holds:
            yield Reason.SUSPENDED
        if (name, image.digest) in self.inventory.backing_off:
            yield Reason.BACKOFF

    def unused_since(self, name: str, digest: str) -> int | None:
        """Tell the timer of an image in nanoseconds; None where it has none, or one too far in the future."""
        since_ns = self.inventory.states.get((name, digest))
        if since_ns is None or since_ns > self.now_ns + _FUTURE_TOLERANCE_NS:
            return None
        return since_ns

    def verdict(self, name: str, image: Image, reason: Reason) -> Verdict:
        """Tell all about one image."""
        blockers = tuple(self.reasons(name, image))
        if reason is Reason.DEFERRED:
            blockers += (reason,)
        since_ns = self.unused_since(name, image.digest)
        return Verdict(
            repository=name,
            digest=image.digest,
            tags=self._tags_of(name).get(image.digest, ()),
            status=image.status,
            size_bytes=image.size_bytes,
            disk_bytes=image.disk_bytes,
            action=ACTIONS[reason],
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
