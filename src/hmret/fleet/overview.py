"""What an operator is shown of a fleet: its hosts, who holds an image, and the state of etcd."""

from collections.abc import Sequence
from datetime import datetime

from hmret.fleet.keys import host_of
from hmret.model.fleet import FleetSettings, FleetState
from hmret.model.values import frozen


@frozen(kw_only=True)
class DrainedHost:
    """Who has drained a host, when, and why."""

    by: str
    at: datetime | None
    """None: not readable."""
    reason: str


@frozen(kw_only=True)
class HostStatus:
    """A host of the fleet, as far as it has told of itself; None: not known."""

    holder: str
    """Its name and the id of its data directory."""
    live: bool
    """Whether its key `l/` is there: its copies count unless it is drained."""
    drained: DrainedHost | None = None
    copies: int | None = None
    disk_bytes: int | None = None
    due: int | None = None
    due_24h: int | None = None
    policy: str | None = None
    """The fingerprint of its policy."""
    version: str | None = None
    last_sweep: datetime | None = None

    @property
    def host(self) -> str:
        return host_of(self.holder)

    @property
    def last_seen(self) -> datetime | None:
        """When it last swept, by its own account; when it was last heard from is not recorded separately."""
        return self.last_sweep


@frozen
class TakenToken:
    """A deletion token that a host has taken."""

    token: str
    holder: str


@frozen(kw_only=True)
class EtcdStatus:
    """The state of the member of etcd that answered; None: not known."""

    version: str | None = None
    size_bytes: int | None = None
    quota_bytes: int | None = None
    alarms: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    """What an operator has to do something about, with the remedy."""


@frozen(kw_only=True)
class FleetStatus:
    """A fleet, as it stands in etcd."""

    fleet: str
    generation: str
    settings: FleetSettings
    tokens_taken: tuple[TakenToken, ...]
    etcd: EtcdStatus
    hosts: tuple[HostStatus, ...]
    """In the order of their holders."""
    rolled_back: bool
    """Whether a host has told that etcd was restored from a backup."""

    @property
    def copies(self) -> int:
        """All copies of the fleet, as far as hosts have told of theirs."""
        return sum(host.copies or 0 for host in self.hosts)


@frozen(kw_only=True)
class LocalStatus:
    """The state of this host in its fleet, as its engine knows it."""

    fleet: str
    state: FleetState
    detail: str | None
    """What is wrong, with the remedy; None: nothing."""
    host: str
    holder: str | None
    """None: this data directory has no id yet."""
    last_contact: datetime | None = None
    """When etcd last answered the engine; None: it never did, or none runs."""
    settings: FleetSettings | None = None
    """The settings of the fleet as last read; None: not read yet."""


@frozen(kw_only=True)
class HeldCopy:
    """A host's copy of an image."""

    holder: str
    since: datetime | None
    """When it was registered; None: not readable."""
    disk_bytes: int | None
    not_counted: str | None
    """Why it does not count: `dead` or `drained`; None: it counts."""

    @property
    def host(self) -> str:
        return host_of(self.holder)

    @property
    def counted(self) -> bool:
        return self.not_counted is None


@frozen(kw_only=True)
class HoldersOfImage:
    """Who holds an image."""

    digest: str
    min_copies: int
    """How many counted copies a release has to leave on other hosts."""
    last_used: datetime | None
    """The latest use on any host; None: none is known."""
    holders: Sequence[HeldCopy]

    @property
    def counted(self) -> int:
        return sum(copy.counted for copy in self.holders)

    @property
    def spare(self) -> int:
        """How many of the counted copies there are above `min_copies`."""
        return max(self.counted - self.min_copies, 0)


@frozen(kw_only=True)
class LastCopy:
    """A copy on a drained host without which too few would be left."""

    holder: str
    digest: str
    disk_bytes: int | None
