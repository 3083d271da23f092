"""What one host knows of its fleet, and what follows from it for the copies that would go here.

A fleet can only keep: every answer here is a reason against a deletion, or none.
"""

import enum
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from hmret.model.values import frozen
from hmret.model.verdicts import Reason

_FUTURE_TOLERANCE = timedelta(minutes=5)
"""The clocks of a fleet's hosts may differ by this much; a use further ahead is taken for one now."""


class FleetState(enum.StrEnum):
    """The state of a host in its fleet."""

    JOINED = "joined"
    """It has a session: its copies count, and it may release some."""
    JOINING = "joining"
    UNREACHABLE = "unreachable"
    NOT_INITIALISED = "not_initialised"
    """etcd answers, and knows no fleet of this name."""
    ROLLED_BACK = "rolled_back"
    """etcd's data are older than what some host has seen: they were restored from a backup."""
    DUPLICATE_HOST = "duplicate_host"
    """Another host that runs on a copy of this data directory has the session."""
    STOPPED = "stopped"
    """No engine runs on this data directory."""


@frozen
class Paused:
    """Deletions of the whole fleet are paused."""

    by: str
    at: datetime
    reason: str


@frozen(kw_only=True)
class FleetSettings:
    """The settings that a fleet has in common, in etcd; the defaults are those of a new fleet."""

    min_copies: int = 1
    """Copies that have to be left on other live hosts; a host's own setting counts where it is larger."""
    budget: str = "5%"
    """The most releases in one token period: a share of all copies as `5%`, or a number as `40`."""
    tokens: int = 20
    """How many hosts may delete at a time."""
    canary: timedelta = timedelta(hours=1)
    """For how long a new policy may delete on one host only; zero: no such time."""
    forget_after: timedelta = timedelta(hours=720)
    """How long a host must have been away before another forgets it; zero: never."""
    paused: Paused | None = None

    def releases(self, copies: int) -> int:
        """Return the most releases in one token period in a fleet of `copies` copies; at least one a token."""
        share = self.budget.removesuffix("%")
        if share == self.budget:
            return max(int(self.budget), self.tokens)
        return max(int(round(copies * float(share) / 100, 6)), self.tokens)

    def releases_per_token(self, copies: int) -> int:
        """Return for how many releases one token is good in a fleet of `copies` copies."""
        return self.releases(copies) // self.tokens


@frozen(kw_only=True)
class CopyRules:
    """This host's own settings on which copies it keeps for the fleet."""

    min_copies: int = 1
    last_copies_for: timedelta | None = timedelta(hours=2160)
    """How long a last copy stays after the last use anywhere; None: for ever."""
    hot_for: timedelta = timedelta(0)
    """An image used anywhere within this time is hot; zero: none is."""
    hot_copies: int | None = 3
    """Copies of a hot image that have to be left elsewhere; None: all stay."""
    yields_to_pressure: bool = False
    """Whether the limits of the disk may take copies without regard to how many are left elsewhere."""

    @property
    def tells_uses(self) -> bool:
        """Whether the uses on this host are told to the fleet."""
        return self.hot_for > timedelta(0) or self.last_copies_for is not None

    def enough(self, settings: FleetSettings) -> int:
        """Return how many counted copies elsewhere suffice for an image that is not hot."""
        return max(self.min_copies, settings.min_copies)

    def is_hot(self, facts: "CopyFacts", now: datetime) -> bool:
        """Return whether an image was used anywhere within `hot_for`."""
        return self.hot_for > timedelta(0) and (
            facts.last_used is not None and now - facts.last_used_at(now) < self.hot_for
        )

    def needs_any(self, facts: "CopyFacts", now: datetime) -> bool:
        """Return whether copies have to be left at all: not once it was used nowhere for `last_copies_for`."""
        if self.last_copies_for is None:
            return True
        return facts.last_used_or_registered is None or now - facts.last_used_at(now) < self.last_copies_for

    def copies_required(self, settings: FleetSettings, facts: "CopyFacts", now: datetime) -> int | None:
        """Return how many counted copies have to be left elsewhere; None: the image stays, however many there are."""
        enough = self.enough(settings) if self.needs_any(facts, now) else 0
        if not self.is_hot(facts, now):
            return enough
        return None if self.hot_copies is None else max(enough, self.hot_copies)

    def reasons(self, settings: FleetSettings, facts: "CopyFacts", now: datetime) -> Iterator[Reason]:
        """List why a copy stays, by what is known of the other copies, in the order of reasons."""
        counted = facts.counted_elsewhere
        # guard(fleet-keeps-last-copies): With fewer copies on other live hosts than there are to be, this one
        # stays: the registry may no longer have the image.
        if counted < self.enough(settings) and self.needs_any(facts, now):
            yield Reason.LAST_COPY
        required = self.copies_required(settings, facts, now)
        # guard(fleet-keeps-hot-images): What was used lately anywhere in the fleet keeps as many copies as its
        # operator wants of such.
        if required is None or (self.is_hot(facts, now) and counted < required):
            yield Reason.USED_IN_FLEET


@frozen(kw_only=True)
class CopyFacts:
    """What etcd said of the copies of one image."""

    counted_elsewhere: int
    """The copies on other hosts that are live and not drained."""
    holders: tuple[str, ...] = ()
    """Those hosts' holders, sorted; of very many some."""
    uncounted: tuple[str, ...] = ()
    """Other holders of a copy, which are dead or drained, sorted; of very many some."""
    last_used: datetime | None = None
    """The last use that a host told; None: none is known."""
    newest_registered: datetime | None = None
    """When the newest of its copies was registered, this host's included; None: none is."""

    @property
    def last_used_or_registered(self) -> datetime | None:
        """The last use, or where none is known, when its newest copy was registered."""
        return self.newest_registered if self.last_used is None else self.last_used

    def last_used_at(self, now: datetime) -> datetime:
        """Return that time; `now` where none is known, or a wrong clock has put it too far ahead."""
        since = self.last_used_or_registered
        return now if since is None or since - now > _FUTURE_TOLERANCE else since


@frozen(kw_only=True)
class FleetView:
    """What a host knows of its fleet at one moment."""

    state: FleetState
    rules: CopyRules
    detail: str | None = None
    """What is wrong and what remedies it, in one line; None: nothing is."""
    settings: FleetSettings | None = None
    """The settings in etcd as last read; None: not read yet."""
    facts: Mapping[str, CopyFacts] = {}
    """The copies of the images that were asked about, by digest, as far as etcd answered."""
    token_free: bool | None = None
    """Whether this host has a deletion token that is good for more, or could take one; None: not known."""


@frozen
class ReleaseOutcome:
    """Whether a copy was taken out of the fleet's count, so that it may be deleted here."""

    reason: Reason | None = None
    """Why it stays; None: it was released."""
    detail: str | None = None
    """A further remark on that."""

    @property
    def is_released(self) -> bool:
        return self.reason is None


@frozen
class WholeCopy:
    """An image that stands ready and whole in this data directory."""

    digest: str
    disk_bytes: int
    """Its blocks."""


@frozen(kw_only=True)
class FleetSummary:
    """What a host tells the others of itself."""

    copies: int
    disk_bytes: int
    """The blocks of all its copies."""
    due: int
    """Images that are due, whatever else holds them back; not those that are kept for good."""
    due_24h: int
    """Images that are due or will be within a day, likewise."""
    policy: str
    """The fingerprint of its policy."""
    last_sweep: datetime | None
    """When its last sweep began; None: it has made none."""


class FleetLink(Protocol):
    """A host's membership in a fleet, as the engine uses it; where there is no fleet, there is none.

    Nothing here raises for what etcd does: what it refuses, or does not answer, keeps images.
    """

    @property
    def state(self) -> FleetState: ...

    def view(self) -> FleetView:
        """Return what is known now; never waits."""
        ...

    async def ask(self, digests: Collection[str], *, asks_all: bool = False) -> None:
        """Read about the copies of some images; the next view has what was answered.

        Images that the fleet held back at an earlier asking are asked about less and less often, and keep
        the facts that are known; `asks_all`: these are asked about too.
        """
        ...

    def use_policy(self, fingerprint: str) -> None:
        """Record the fingerprint of the policy in force, by which tokens are taken; never waits."""
        ...

    async def take_token(self, count: int) -> bool:
        """Make sure that this host may release copies; `count`: how many it is about to release. False: no token is free.

        The next view says the same.
        """
        ...

    async def release(
        self, digests: Sequence[str], *, for_space: Collection[str] = ()
    ) -> Mapping[str, ReleaseOutcome]:
        """Take copies of this host out of the count; there is an outcome for each digest.

        `for_space`: those of them that go early because a limit of the disk is exceeded.
        """
        ...

    async def give_back(self, digests: Collection[str]) -> None:
        """Register copies again that were released and stay after all."""
        ...

    async def saw(self, copies: Collection[WholeCopy]) -> None:
        """Record what a survey found: all copies here. New ones are registered, those gone taken out of the count."""
        ...

    def tell_use(self, digests: Collection[str], at: datetime) -> None:
        """Record the use of some images, to be told to the fleet later; never waits."""
        ...

    async def tell_summary(self, summary: FleetSummary) -> None:
        """Record what the others are to be told of this host."""
        ...
