"""Verdicts: what happens to an image, and the possible reasons."""

import enum
from datetime import datetime

from hmret.model.times import datetime_of
from hmret.model.values import frozen


class Action(enum.StrEnum):
    """What a sweep does with an image."""

    CLEAR = "clear"
    MARK = "mark"
    NONE = "none"
    DELETE = "delete"


class Reason(enum.StrEnum):
    """Why an image stays or goes, in the order in which the reasons are checked and listed.

    The first that applies to its row decides, unless a decision on the whole cache takes its place: other owners of its
    content, the brake, the hours, the fleet or the limits of one sweep keep it, or it must go to free disk space.
    """

    NOT_READY = "not_ready"
    BROKEN = "broken"
    REFERENCED = "referenced"
    LEASED = "leased"
    PINNED = "pinned"
    NOT_ALLOWED = "not_allowed"
    NOT_PULLABLE = "not_pullable"
    NEWLY_UNUSED = "newly_unused"
    KEPT_BY_RULE = "kept_by_rule"
    RETENTION_WINDOW = "retention_window"
    LATEST = "latest"
    TOO_YOUNG = "too_young"
    SHARED = "shared"
    SUSPENDED = "suspended"
    BACKOFF = "backoff"
    BRAKE = "brake"
    OUTSIDE_WINDOW = "outside_window"
    DUPLICATE_HOST = "duplicate_host"
    FLEET_UNREACHABLE = "fleet_unreachable"
    FLEET_PAUSED = "fleet_paused"
    LAST_COPY = "last_copy"
    USED_IN_FLEET = "used_in_fleet"
    FLEET_BRAKE = "fleet_brake"
    DEFERRED = "deferred"
    OPEN = "open"
    EXPIRED = "expired"
    DISK_PRESSURE = "disk_pressure"


ACTIONS = {
    Reason.NOT_READY: Action.CLEAR,
    Reason.BROKEN: Action.CLEAR,
    Reason.REFERENCED: Action.CLEAR,
    Reason.LEASED: Action.CLEAR,
    Reason.PINNED: Action.CLEAR,
    Reason.NOT_ALLOWED: Action.CLEAR,
    Reason.NOT_PULLABLE: Action.CLEAR,
    Reason.OPEN: Action.CLEAR,
    Reason.NEWLY_UNUSED: Action.MARK,
    Reason.KEPT_BY_RULE: Action.NONE,
    Reason.RETENTION_WINDOW: Action.NONE,
    Reason.LATEST: Action.NONE,
    Reason.TOO_YOUNG: Action.NONE,
    Reason.SHARED: Action.NONE,
    Reason.SUSPENDED: Action.NONE,
    Reason.BACKOFF: Action.NONE,
    Reason.BRAKE: Action.NONE,
    Reason.OUTSIDE_WINDOW: Action.NONE,
    Reason.DUPLICATE_HOST: Action.NONE,
    Reason.FLEET_UNREACHABLE: Action.NONE,
    Reason.FLEET_PAUSED: Action.NONE,
    Reason.LAST_COPY: Action.NONE,
    Reason.USED_IN_FLEET: Action.NONE,
    Reason.FLEET_BRAKE: Action.NONE,
    Reason.DEFERRED: Action.NONE,
    Reason.EXPIRED: Action.DELETE,
    Reason.DISK_PRESSURE: Action.DELETE,
}
"""The action that follows from each reason."""

ORDER = {reason: number for number, reason in enumerate(Reason)}
"""The place of each reason in the order in which they are checked."""


@frozen
class Holder:
    """A repository whose row keeps content that it shares."""

    repository: str
    reason: Reason


@frozen
class Verdict:
    """What happens to one image, and why."""

    repository: str
    """Normalised: `docker.io/library/alpine`."""
    digest: str
    """`sha256:` and 64 hex digits."""
    tags: tuple[str, ...]
    """The tags of this repository that point to it."""
    status: str
    """As its metadata says: `ready`, `pulling` and so on."""
    size_bytes: int
    """The size that the metadata states."""
    disk_bytes: int
    """The blocks of all its folders' disks, whether or not other links share them; of shared content, those of the
    folders of all its rows. A disk with two names here counts once.
    """
    action: Action
    """What a sweep does with it."""
    reason: Reason
    """The first reason that applies, or the decision on the whole cache that takes its place."""
    blockers: tuple[Reason, ...]
    """Every reason against deleting the image now; empty where the image goes."""
    referenced_by: tuple[str, ...]
    """`instance/ID`, `snapshot/ID` or an embedder's own names, sorted."""
    unused_since_ns: int | None
    """The start of its timer, in nanoseconds since the epoch; None: no timer, or one that does not count. Where the
    timer is to be cleared, the last unseen read of its disk if that is later.
    """
    expires_at_ns: int | None
    """When it falls due, whatever else keeps it: at the end of its window or, if that is later, when it reaches the
    minimum age. In nanoseconds since the epoch; None: no timer, or it never falls due.
    """
    broken: str | None = None
    """What is wrong with the folder; None: nothing."""
    rule: int | None = None
    """The position, from 1, of the rule that applies to it; None: no rule does."""
    created_ns: int | None = None
    """When the image was made, in nanoseconds since the epoch; None: not known."""
    pullable: bool | None = None
    """Whether its metadata says that it can be pulled again; None: it does not."""
    shared_with: tuple[str, ...] = ()
    """The other repositories whose rows hold the same content, sorted."""
    held_by: tuple["Holder", ...] = ()
    """Those of them that keep it although it is due here, and why; set where the reason is `shared`."""
    detail: str | None = None
    """A further remark on it; None: nothing."""
    copies_elsewhere: int | None = None
    """How many live hosts of the fleet have it too; None: not asked, not known, or no fleet."""

    @property
    def unused_since(self) -> datetime | None:
        """The timer, truncated to microseconds."""
        return None if self.unused_since_ns is None else datetime_of(self.unused_since_ns)

    @property
    def expires_at(self) -> datetime | None:
        """When it falls due, truncated to microseconds; None also where that is beyond the year 9999."""
        return None if self.expires_at_ns is None else datetime_of(self.expires_at_ns)


@frozen
class Summary:
    """A plan in numbers."""

    images: int
    """All images."""
    delete: int
    """Those that would be deleted."""
    delete_bytes: int
    """Blocks that are freed: a disk with several links counts when the last of them goes."""
    mark: int
    """Those whose timer would start."""
    clear: int
    """Those that have no timer, or whose timer would stop."""
    keep: int
    """Images to which nothing happens."""
    prune: int
    """States of images that are gone."""
