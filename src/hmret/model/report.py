"""What a sweep did, and what a use of an image came to."""

import enum
from datetime import datetime

import attrs

from hmret.model.images import Suspension

__all__ = ["DeletedImage", "MarkedUsed", "SweepError", "SweepReport", "SweepStatus"]


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


@attrs.frozen(kw_only=True)
class DeletedImage:
    """One image that a sweep deleted."""

    repository: str
    digest: str
    tags: tuple[str, ...]
    """The tags that went with it."""
    disk_bytes: int
    """Blocks that came free; 0 while the disk has other hard links."""
    unused_since_ns: int


@attrs.frozen(kw_only=True)
class SweepError:
    """One thing that a sweep could not do."""

    path: str
    error: str
    repository: str = ""
    digest: str = ""


@attrs.frozen(kw_only=True)
class SweepReport:
    """What one sweep found and did; the counters with hypeman's names mean what they mean there."""

    status: SweepStatus
    started_at: datetime
    duration_seconds: float
    suspended: tuple[Suspension, ...] = ()
    ready_images: int = 0
    """Images that are ready and whole, before anything was deleted."""
    protected_images: int = 0
    """Images here that are referenced, ready or not."""
    marked_unused: int = 0
    cleared_states: int = 0
    deleted_images: int = 0
    deleted_bytes: int = 0
    pruned_states: int = 0
    stale_references: int = 0
    """Distinct references to what is not here."""
    open_images: int = 0
    """Images that were due and stay because a process has their disk open."""
    failed_deletes: int = 0
    deleted: tuple[DeletedImage, ...] = ()
    errors: tuple[SweepError, ...] = ()


@attrs.frozen
class MarkedUsed:
    """An image that is here and stays for at least its window from now."""

    repository: str
    digest: str
    cleared: bool
    """Whether it had a timer that was cleared."""
