"""The results of a sweep, and of a use of an image."""

import enum
from datetime import datetime

import attrs

from hmret.model.images import Suspension
from hmret.model.values import frozen


class SweepStatus(enum.StrEnum):
    """How a sweep ended."""

    SUCCESS = "success"
    PARTIAL = "partial"
    """Something failed; the rest was done."""
    SUSPENDED = "suspended"
    """Nothing was deleted, for the causes that the report names; the rest was done."""
    DISABLED = "disabled"
    """Retention is switched off; nothing was touched."""
    ERROR = "error"
    """The sweep could not be carried out."""


@frozen(kw_only=True)
class DeletedImage:
    """One image that a sweep deleted."""

    repository: str
    """Normalised: `docker.io/library/alpine`."""
    digest: str
    """`sha256:` and 64 hex digits."""
    tags: tuple[str, ...]
    """The tags that went with it."""
    disk_bytes: int
    """Blocks that were freed; 0 while the disk has other hard links, and while the image is in quarantine."""
    unused_since_ns: int
    """Its timer, in nanoseconds since the epoch."""


@frozen(kw_only=True)
class SweepError:
    """One thing that a sweep could not do."""

    path: str
    """What it was about; empty: nothing in particular."""
    error: str
    """What the operating system said."""
    repository: str = ""
    """The image's repository; empty: it is about no image."""
    digest: str = ""
    """The image's digest; empty: it is about no image."""


@frozen(kw_only=True)
class SweepReport:
    """What one sweep found and did; counters named like hypeman's have the same meaning."""

    status: SweepStatus
    """How it ended."""
    started_at: datetime
    """When it began, aware, in UTC."""
    duration_seconds: float
    """How long it took."""
    suspended: tuple[Suspension, ...] = ()
    """What suspended deletion; empty: nothing."""
    ready_images: int = 0
    """Images that are ready and whole, before anything was deleted."""
    protected_images: int = 0
    """Digests in the cache that are referenced, ready or not; one that several repositories have counts once."""
    marked_unused: int = 0
    """Timers that were started."""
    cleared_states: int = 0
    """Timers that were stopped."""
    deleted_images: int = 0
    """Images that were deleted, each row of shared content counted."""
    deleted_bytes: int = 0
    """Bytes that came free by that; what went into quarantine comes free later."""
    pruned_states: int = 0
    """Timers of images that are gone, which were removed."""
    stale_references: int = 0
    """Distinct references to images that are not in the cache."""
    open_images: int = 0
    """Images that were due but stay because a process has their disk open, or because a client brought them back."""
    failed_deletes: int = 0
    """Deletions that failed; each is in `errors`."""
    deleted: tuple[DeletedImage, ...] = ()
    """What was deleted, an entry for each row."""
    errors: tuple[SweepError, ...] = ()
    """What failed."""
    quarantined_images: int = 0
    """Those of the deleted images that went into quarantine."""
    quarantined_bytes: int = 0
    """Blocks that will be freed when they leave it."""
    released_images: int = 0
    """Images that left the quarantine for good."""
    released_bytes: int = 0
    """Blocks that were freed with them."""


@frozen
class MarkedUsed:
    """An image that is in the cache and stays for at least its window from now."""

    repository: str
    """Normalised: `docker.io/library/alpine`."""
    digest: str
    """`sha256:` and 64 hex digits."""
    cleared: bool
    """Whether it had a timer that was cleared."""


@frozen(kw_only=True)
class Quarantined:
    """A deleted image that can be restored."""

    repository: str
    """Normalised: `docker.io/library/alpine`."""
    digest: str
    """`sha256:` and 64 hex digits."""
    tags: tuple[str, ...]
    """The tags that went with it."""
    disk_bytes: int
    """Blocks that are freed when it is erased; 0 where its disk had other hard links when it was deleted."""
    retired_at: datetime
    """When it was deleted."""
    until: datetime
    """When it may be erased, by the setting as it is now: the next sweep after that erases it."""


@frozen
class Restored:
    """An image that has been restored to the cache, and stays for a full window from then."""

    repository: str
    """Normalised: `docker.io/library/alpine`."""
    digest: str
    """`sha256:` and 64 hex digits."""
    tags: tuple[str, ...] = attrs.field(kw_only=True)
    """The tags that were deleted with it and point to it again."""
    taken_tags: tuple[str, ...] = attrs.field(kw_only=True)
    """The tags that were deleted with it but point elsewhere by now, and continue to."""
    unused_since: datetime = attrs.field(kw_only=True)
    """When its window begins."""


@frozen
class Leased:
    """An image that a lease covers."""

    id: str
    """The name of the lease, for renewing and ending it."""
    repository: str
    """Normalised: `docker.io/library/alpine`."""
    digest: str
    """`sha256:` and 64 hex digits."""
    expires_at: datetime | None
    """None: the lease ends with its `async with` block."""
    owner: str = ""
    """Who holds it, as given."""
    reason: str = ""
    """What it is for, as given."""
