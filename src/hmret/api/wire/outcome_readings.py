"""The JSON documents of what was done read back, by those who asked an engine to do it."""

from collections.abc import Mapping
from typing import Any

import attrs

from hmret.api.wire.readings import read_suspensions
from hmret.model.report import (
    DeletedImage,
    MarkedUsed,
    Quarantined,
    Restored,
    SweepError,
    SweepReport,
    SweepStatus,
)
from hmret.model.times import datetime_of, parse_time

__all__ = ["read_confirmed", "read_mark_used", "read_quarantine", "read_report", "read_restored"]

Read = Mapping[str, Any]
"""A document as a JSON decoder gives it; what is missing in it raises KeyError, what is wrong ValueError or TypeError."""


def read_report(document: Read) -> SweepReport:
    """Read what a sweep did."""
    plain = {
        field.name: document[field.name]
        for field in attrs.fields(SweepReport)
        if field.type in (int, float) and field.name in document
    }
    return SweepReport(
        status=SweepStatus(document["status"]),
        started_at=datetime_of(parse_time(document["started_at"])),
        suspended=tuple(read_suspensions(document["suspended"])),
        deleted=tuple(_deleted_image(image) for image in document["deleted"]),
        errors=tuple(SweepError(**error) for error in document["errors"]),
        **plain,
    )


def _deleted_image(document: Read) -> DeletedImage:
    return DeletedImage(
        repository=document["repository"],
        digest=document["digest"],
        tags=tuple(document["tags"]),
        disk_bytes=document["disk_bytes"],
        unused_since_ns=parse_time(document["unused_since"]),
    )


def read_mark_used(document: Read) -> MarkedUsed:
    """Read what a use of an image came to."""
    return MarkedUsed(document["repository"], document["digest"], document["cleared"])


def read_confirmed(document: Read) -> tuple[str, ...]:
    """Read what was confirmed."""
    return tuple(document["confirmed"])


def read_restored(document: Read) -> Restored:
    """Read what came back from quarantine."""
    return Restored(
        document["repository"],
        document["digest"],
        tags=tuple(document["tags"]),
        taken_tags=tuple(document["taken_tags"]),
        unused_since=datetime_of(parse_time(document["unused_since"])),
    )


def read_quarantine(document: Read) -> list[Quarantined]:
    """Read what is in quarantine."""
    return [
        Quarantined(
            repository=image["repository"],
            digest=image["digest"],
            tags=tuple(image["tags"]),
            disk_bytes=image["disk_bytes"],
            retired_at=datetime_of(parse_time(image["retired_at"])),
            until=datetime_of(parse_time(image["until"])),
        )
        for image in document["images"]
    ]
