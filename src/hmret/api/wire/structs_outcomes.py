"""The JSON documents of what an engine did, holds and forecasts; one class each, as in `structs`."""

import datetime as dt
from typing import Annotated, Literal

from msgspec import Meta

from hmret.api.wire.structs import (
    Count,
    Digest,
    Document,
    ImageDocument,
    Seconds,
    SuspensionDocument,
    Texts,
    Time,
    VmNames,
)
from hmret.model.fleet import FleetState
from hmret.model.report import SweepStatus
from hmret.model.verdicts import Action, Reason

LARGEST_PAGE = 1000
"""Maximum number of images in one page."""

MOST_DAYS = 366
"""Maximum number of days of a forecast that a client may ask for."""


class ProblemDocument(Document, frozen=True):
    """A problem as defined by RFC 9457."""

    type: str
    title: str
    status: Count
    detail: str


class HealthDocument(Document, frozen=True):
    """The engine responds."""

    status: Literal["ok"] = "ok"


class ImagesDocument(Document, frozen=True):
    """A page of images; `next` is the value of `after` for the next page, null: this is the last."""

    at: Time
    total: Count
    matched: Count
    images: Annotated[tuple[ImageDocument, ...], Meta(max_length=LARGEST_PAGE)]
    next: str | None
    vm_names: VmNames


class DueDocument(Document, frozen=True):
    """What expires on one UTC day."""

    date: dt.date
    images: Count
    bytes: Count


class HoldingDocument(Document, frozen=True):
    """Images that the cache holds for the same reason."""

    action: Action
    reason: Reason
    images: Count
    bytes: Count


class WithinDocument(Document, frozen=True, rename={"day": "24h", "week": "7d", "month": "30d"}):
    """What expires within this time, including overdue images."""

    day: Count
    week: Count
    month: Count


class ForecastDocument(Document, frozen=True):
    """What the cache holds and when it expires; sizes are blocks on disk, in bytes."""

    at: Time
    images: Count
    bytes: Count
    days: Annotated[
        tuple[DueDocument, ...],
        Meta(
            min_length=1,
            max_length=MOST_DAYS,
            description="UTC days, starting with that of `at`, which includes overdue images.",
        ),
    ]
    within: WithinDocument
    holdings: tuple[HoldingDocument, ...]


class DeletedImageDocument(Document, frozen=True):
    """An image that a sweep deleted."""

    repository: str
    digest: Digest
    tags: Texts
    disk_bytes: Count
    unused_since: Time


class SweepErrorDocument(Document, frozen=True):
    """Something that a sweep could not do."""

    repository: str
    digest: str
    path: str
    error: str


class SweepReportDocument(Document, frozen=True):
    """What a sweep did."""

    status: SweepStatus
    started_at: Time
    duration_seconds: float
    suspended: tuple[SuspensionDocument, ...]
    ready_images: Count
    protected_images: Count
    marked_unused: Count
    cleared_states: Count
    deleted_images: Count
    deleted_bytes: Count
    pruned_states: Count
    stale_references: Count
    open_images: Count
    failed_deletes: Count
    deleted: tuple[DeletedImageDocument, ...]
    errors: tuple[SweepErrorDocument, ...]
    quarantined_images: Count = 0
    quarantined_bytes: Count = 0
    released_images: Count = 0
    released_bytes: Count = 0


class MarkedUsedDocument(Document, frozen=True):
    """What marking an image used changed."""

    repository: str
    digest: Digest
    cleared: bool


class ConfirmedDocument(Document, frozen=True):
    """What was confirmed."""

    confirmed: Texts


class RestoredDocument(Document, frozen=True):
    """A restored image; `taken_tags` were deleted with it too, but point elsewhere by now."""

    repository: str
    digest: Digest
    tags: Texts
    unused_since: Time
    taken_tags: Texts


class QuarantinedDocument(Document, frozen=True):
    """A deleted image that can be restored."""

    repository: str
    digest: Digest
    tags: Texts
    disk_bytes: Count
    retired_at: Time
    until: Time
    command: Annotated[str, Meta(description="The command that brings it back.")] = ""


class QuarantineDocument(Document, frozen=True):
    """The deleted images that can be restored, in order of deletion."""

    images: tuple[QuarantinedDocument, ...]


class LeaseDocument(Document, frozen=True):
    """A lease in force; `expires_at` is null if it ends with its holder."""

    id: str
    repository: str
    digest: Digest
    owner: str
    reason: str
    expires_at: Time | None


class LeasesDocument(Document, frozen=True):
    """The leases in force, in order of expiry."""

    leases: tuple[LeaseDocument, ...]


class TotalsDocument(Document, frozen=True):
    """Totals of all sweeps since the engine was started."""

    sweeps: Count
    deleted_images: Count
    deleted_bytes: Count
    failed_deletes: Count


class QuarantineSizeDocument(Document, frozen=True):
    """The size of the quarantine."""

    images: Count
    bytes: Count


class DiskDocument(Document, frozen=True):
    """How full the disk is, if a limit is set."""

    used_bytes: Count
    available_bytes: Count
    pressed: bool
    backing_off: bool
    shortfall_bytes: Count


class BrakeDocument(Document, frozen=True):
    """What has expired at once, if that exceeds the brake's limit; `seconds`: how long the brake still holds it."""

    expired: Count
    eligible: Count
    released: bool
    seconds: Seconds


class StoppedTimersDocument(Document, frozen=True):
    """Timers that a sweep has stopped because of the patterns in the current settings."""

    at: Time
    timers: Count
    by_reason: dict[str, Count]
    detail: str


class StatusDocument(Document, frozen=True, kw_only=True):
    """The status of an engine; only the first hundred each of the last sweep's `deleted` and `errors`."""

    version: str
    process: Count
    backend: Annotated[str, Meta(extra_json_schema={"enum": ["asyncio", "trio"]})]
    uptime_seconds: Seconds
    data_dir: str
    enabled: bool
    unused_for_seconds: Seconds
    sweep_interval_seconds: Seconds
    sweeping: bool
    images_seen: Count
    suspended: tuple[SuspensionDocument, ...]
    leases_offered: bool | None
    granted_leases: Count
    totals: TotalsDocument
    trash_bytes: Count | None
    quarantine: QuarantineSizeDocument
    disk: DiskDocument | None
    brake: BrakeDocument | None
    stopped_timers: StoppedTimersDocument | None = None
    fleet: Annotated[
        FleetState | None, Meta(description="The state of this host in its fleet; null: it is in none.")
    ] = None
    waiting: dict[str, Count]
    listeners: Count
    last_sweep: SweepReportDocument | None
    host: Annotated[str, Meta(description="The name of the host.")] = ""
