"""The images of one repository, judged at one time."""

from collections.abc import Iterator, Mapping, Set as AbstractSet

import attrs

from hmret.model.grounds import (
    Always,
    Among,
    Broken,
    Ground,
    KeptByRule,
    NewlyUnused,
    NotPullable,
    NotReady,
    TooYoung,
    Waiting,
)
from hmret.model.images import Cause, Image, Inventory, Repository
from hmret.model.origins import is_local
from hmret.model.policy import NEVER, Policy
from hmret.model.protection import RepositoryProtection
from hmret.model.terms import latest_of, terms_of
from hmret.model.timetable import Timetable
from hmret.model.verdicts import ACTIONS, Action, Reason, Verdict

__all__ = ["Circumstances", "Judge"]


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
    """The grounds of the table, asked of the images of one repository at one time."""

    circumstances: Circumstances
    now_ns: int
    name: str
    repository: Repository | None
    timers: Mapping[str, int | None]
    """Those of this repository, by digest."""
    protection: RepositoryProtection
    leased: AbstractSet[str]
    backing_off: AbstractSet[str]
    timetable: Timetable = attrs.field(init=False)
    latest: AbstractSet[str] = attrs.field(init=False)
    """Digests that stay for being among the newest."""
    _grounds: tuple[Ground, ...] = attrs.field(init=False)
    """Those that can hold here, in the order of the table."""

    @timetable.default
    def _make_timetable(self) -> Timetable:
        policy = self.circumstances.policy
        terms = terms_of(policy, self.name, self.repository)
        return Timetable(self.timers, terms, policy.min_age_ns, self.now_ns)

    @latest.default
    def _find_latest(self) -> AbstractSet[str]:
        return latest_of(self.circumstances.policy, self.repository, self.timetable.terms)

    @_grounds.default
    def _choose_grounds(self) -> tuple[Ground, ...]:
        return (*self._against_touching(), *self._against_deletion())

    def _against_touching(self) -> Iterator[Ground]:
        """List why an image may not even have a timer."""
        policy = self.circumstances.policy
        yield NotReady()
        yield Broken()
        yield Among(Reason.REFERENCED, self.protection.sources.keys())
        yield Among(Reason.LEASED, self.leased)
        if policy.pinned.matches(self.name):
            yield Always(Reason.PINNED)
        if not policy.allowed.matches(self.name):
            yield Always(Reason.NOT_ALLOWED)
        if policy.keeps_unpullable:
            yield NotPullable(is_local(self.name))

    def _against_deletion(self) -> Iterator[Ground]:
        """List why its time has not come, and why nothing is deleted now."""
        if not self.circumstances.clock_jumped:
            yield NewlyUnused(self.timetable)
        if self.circumstances.policy.rules:
            yield KeptByRule(self.timetable)
        yield Waiting(self.timetable)
        if self.latest:
            yield Among(Reason.LATEST, self.latest)
        if self.timetable.min_age_ns:
            yield TooYoung(self.timetable)
        if self.circumstances.is_suspended:
            yield Always(Reason.SUSPENDED)
        if self.backing_off:
            yield Among(Reason.BACKOFF, self.backing_off)

    def reasons(self, image: Image) -> Iterator[Reason]:
        """List every reason against a deletion of this image now, in the order of the table."""
        return (ground.reason for ground in self._grounds if ground.holds(image))

    def first_reason(self, image: Image) -> Reason:
        """Tell the reason that decides."""
        for ground in self._grounds:
            if ground.holds(image):
                return ground.reason
        return Reason.EXPIRED

    def waiting_span(self) -> tuple[int, int]:
        """Tell between which times, in nanoseconds, a timer has begun that has not run out.

        Later than the first and not later than the second: where nothing else holds, that is `RETENTION_WINDOW`.
        Nothing where it may be otherwise: for want of the operator's leave, because not all images have one window, or because
        the time changes more than that.
        """
        terms = self.timetable.terms
        for ground in self._grounds:
            match ground:
                case Always(reason=reason) if ACTIONS[reason] is Action.CLEAR:
                    return NEVER, NEVER
                case NotPullable(from_local_registry=True):
                    return NEVER, NEVER
        if terms.by_digest or terms.usual.window_ns == NEVER or self.timetable.min_age_ns:
            return NEVER, NEVER
        return self.now_ns - terms.usual.window_ns, self.now_ns

    def falls_due(self, image: Image, since_ns: int | None) -> int | None:
        """Tell when an image that is unused since then goes, in nanoseconds, if nothing changes; None: never."""
        return None if image.digest in self.latest else self.timetable.due_at(image, since_ns)

    def verdict(
        self, image: Image, final: Reason | None, tags: tuple[str, ...], everywhere: tuple[Reason, ...]
    ) -> Verdict:
        """Tell all about one image.

        `final` is what was decided for reasons that lie beyond this repository, None: nothing; `everywhere` holds
        against every deletion.
        """
        blockers = tuple(self.reasons(image))
        reason = final or next(iter(blockers), Reason.EXPIRED)
        if ACTIONS[reason] is Action.DELETE:
            blockers = ()
        else:
            also = () if final is None or final in everywhere else (final,)
            blockers += also + everywhere
        since_ns = self.timetable.unused_since(image.digest)
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
            expires_at_ns=self.timetable.due_at(image, since_ns),
            broken=image.broken,
            rule=self.timetable.terms.of(image.digest).rule,
        )
