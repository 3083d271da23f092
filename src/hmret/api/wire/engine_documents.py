"""The JSON documents of a running engine: its state, its leases and its events."""

from collections.abc import Iterable

import attrs

from hmret.api.wire.documents import Document, sweep_document
from hmret.engine.events import Event
from hmret.engine.statistics import Statistics
from hmret.model.policy.config import RetentionConfig
from hmret.model.report import Leased
from hmret.model.times import format_time, nanoseconds_of

__all__ = ["event_document", "lease_document", "leases_document", "status_document"]

# Of what a sweep deleted or could not do: what a status shows; the numbers beside count all.
_MOST = 100


def lease_document(leased: Leased) -> Document:
    """Write a lease."""
    expires_at = leased.expires_at
    return {
        "id": leased.id,
        "repository": leased.repository,
        "digest": leased.digest,
        "owner": leased.owner,
        "reason": leased.reason,
        "expires_at": None if expires_at is None else format_time(nanoseconds_of(expires_at)),
    }


def leases_document(leases: Iterable[Leased]) -> Document:
    """Write leases, by when they expire."""
    return {"leases": [lease_document(leased) for leased in leases]}


def event_document(event: Event) -> Document:
    """Write an event: the line that the journal has of it."""
    return dict(event.facts)


def status_document(
    statistics: Statistics,
    config: RetentionConfig,
    *,
    version: str,
    process: int,
    backend: str,
    uptime_seconds: float,
    trash_bytes: int | None,
    granted_leases: int,
    listeners: int,
) -> Document:
    """Write the state of an engine; of the last sweep's `deleted` and `errors` only the first hundred each."""
    report = statistics.last_report
    last_sweep = None
    if report is not None:
        shown = attrs.evolve(report, deleted=report.deleted[:_MOST], errors=report.errors[:_MOST])
        last_sweep = sweep_document(shown)
    return {
        "version": version,
        "process": process,
        "backend": backend,
        "uptime_seconds": uptime_seconds,
        "data_dir": config.data_dir,
        "enabled": config.active,
        "unused_for_seconds": config.auto_delete.unused_for.total_seconds(),
        "sweep_interval_seconds": config.sweep_interval.total_seconds(),
        "sweeping": statistics.sweeping,
        "images_seen": statistics.images_seen,
        "suspended": [] if last_sweep is None else last_sweep["suspended"],
        "leases_offered": statistics.leases_offered,
        "granted_leases": granted_leases,
        "totals": {
            "sweeps": statistics.sweeps,
            "deleted_images": statistics.deleted_images,
            "deleted_bytes": statistics.deleted_bytes,
            "failed_deletes": statistics.failed_deletes,
        },
        "trash_bytes": trash_bytes,
        "quarantine": {
            "images": statistics.quarantined_images,
            "bytes": statistics.quarantined_bytes,
        },
        "disk": _disk(statistics),
        "brake": _brake(statistics),
        "stopped_timers": _stopped_timers(statistics),
        "waiting": dict(statistics.waiting),
        "listeners": listeners,
        "last_sweep": last_sweep,
    }


def _disk(statistics: Statistics) -> Document | None:
    disk = statistics.disk
    if disk is None:
        return None
    return {
        "used_bytes": disk.used_bytes,
        "available_bytes": disk.available_bytes,
        "pressed": disk.is_pressed,
        "backing_off": disk.is_backing_off,
        "shortfall_bytes": statistics.disk_shortfall_bytes,
    }


def _brake(statistics: Statistics) -> Document | None:
    braking = statistics.braking
    if braking is None:
        return None
    return {
        "expired": braking.expired,
        "eligible": braking.eligible,
        "released": braking.is_released,
        "seconds": statistics.brake_seconds,
    }


def _stopped_timers(statistics: Statistics) -> Document | None:
    stopped = statistics.stopped_timers
    if stopped is None:
        return None
    return {
        "at": format_time(nanoseconds_of(stopped.at)),
        "timers": stopped.count,
        "by_reason": {reason.value: count for reason, count in stopped.by_reason.items()},
        "detail": stopped.detail,
    }
