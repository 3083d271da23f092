"""Converts reports, quarantine, forecasts and an engine's status to JSON documents."""

import os
import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from hmret.api.wire import structs_outcomes as structs
from hmret.api.wire.convert import document_of, documents_of
from hmret.api.wire.structs import SuspensionDocument, encode_document
from hmret.model.policy.config import RetentionConfig
from hmret.model.report import Quarantined, SweepReport
from hmret.model.times import format_time

if TYPE_CHECKING:
    from hmret.engine.retention import Retention
    from hmret.engine.statistics import Statistics
    from hmret.model.plan.forecast import Outlook

_USUAL_DATA_DIR = RetentionConfig().data_dir

# How many deleted images and errors of a sweep a status lists; the counts next to them include all.
_MOST = 100


def sweep_document(report: SweepReport) -> structs.SweepReportDocument:
    """Convert the report of a sweep."""
    return document_of(
        structs.SweepReportDocument,
        report,
        suspended=documents_of(SuspensionDocument, report.suspended),
        deleted=tuple(
            document_of(structs.DeletedImageDocument, image, unused_since=format_time(image.unused_since_ns))
            for image in report.deleted
        ),
        errors=documents_of(structs.SweepErrorDocument, report.errors),
    )


def report_json(report: SweepReport) -> bytes:
    """Encode the report of a sweep as JSON on one line: the document that `hmret sweep --json` prints.

    Sizes are bytes, durations seconds, and times RFC 3339 in UTC.
    """
    return encode_document(sweep_document(report))


def quarantine_document(images: Iterable[Quarantined], data_dir: str) -> structs.QuarantineDocument:
    """Convert the content of the quarantine of a data directory."""
    return structs.QuarantineDocument(
        tuple(
            document_of(structs.QuarantinedDocument, image, command=_restoring(image, data_dir))
            for image in images
        )
    )


def _restoring(image: Quarantined, data_dir: str) -> str:
    elsewhere = () if data_dir == _USUAL_DATA_DIR else ("--data-dir", data_dir)
    return shlex.join(("hmret", "restore", f"{image.repository}@{image.digest}", *elsewhere))


def forecast_document(outlook: "Outlook") -> structs.ForecastDocument:
    """Convert what the cache holds and when images fall due."""
    return document_of(
        structs.ForecastDocument,
        outlook,
        bytes=outlook.disk_bytes,
        days=tuple(structs.DueDocument(due.day, due.images, due.disk_bytes) for due in outlook.days),
        within=structs.WithinDocument(*outlook.within.values()),
        holdings=tuple(
            structs.HoldingDocument(action, reason, holding.images, holding.disk_bytes)
            for (action, reason), holding in outlook.holdings.items()
        ),
    )


def status_document(
    retention: "Retention", *, version: str, process: int, backend: str, trash_bytes: int | None
) -> structs.StatusDocument:
    """Convert the status of an engine."""
    statistics, config = retention.statistics(), retention.config
    report = statistics.last_report
    last_sweep = None
    if report is not None:
        shown = attrs.evolve(report, deleted=report.deleted[:_MOST], errors=report.errors[:_MOST])
        last_sweep = sweep_document(shown)
    return document_of(
        structs.StatusDocument,
        statistics,
        version=version,
        process=process,
        backend=backend,
        uptime_seconds=retention.uptime_seconds,
        data_dir=config.data_dir,
        enabled=config.active,
        unused_for_seconds=config.auto_delete.unused_for.total_seconds(),
        sweep_interval_seconds=config.sweep_interval.total_seconds(),
        suspended=() if last_sweep is None else last_sweep.suspended,
        granted_leases=len(retention.granted_leases()),
        totals=document_of(structs.TotalsDocument, statistics),
        trash_bytes=trash_bytes,
        quarantine=structs.QuarantineSizeDocument(
            statistics.quarantined_images, statistics.quarantined_bytes
        ),
        disk=_disk(statistics),
        brake=_brake(statistics),
        stopped_timers=_stopped_timers(statistics),
        fleet=None if retention.fleet is None else retention.fleet.state,
        listeners=retention.event_hub.listening,
        last_sweep=last_sweep,
        host=os.uname().nodename,
    )


def _disk(statistics: "Statistics") -> structs.DiskDocument | None:
    disk, shortfall_bytes = statistics.disk, statistics.disk_shortfall_bytes
    if disk is None:
        return None
    flags = {"pressed": disk.is_pressed, "backing_off": disk.is_backing_off}
    return document_of(structs.DiskDocument, disk, **flags, shortfall_bytes=shortfall_bytes)


def _brake(statistics: "Statistics") -> structs.BrakeDocument | None:
    braking, seconds = statistics.braking, statistics.brake_seconds
    if braking is None:
        return None
    return structs.BrakeDocument(braking.expired, braking.eligible, braking.is_released, seconds)


def _stopped_timers(statistics: "Statistics") -> structs.StoppedTimersDocument | None:
    stopped = statistics.stopped_timers
    if stopped is None:
        return None
    by_reason = {reason.value: count for reason, count in stopped.by_reason.items()}
    return document_of(structs.StoppedTimersDocument, stopped, timers=stopped.count, by_reason=by_reason)
