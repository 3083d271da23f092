"""What the values of a fleet's keys say, for operators: anything that cannot be read is not known."""

from datetime import datetime
from typing import TypeVar

import msgspec

from hmret.fleet.overview import DrainedHost, HostStatus
from hmret.model.times import SECOND, datetime_of, format_time, nanoseconds_of, parse_time

__all__ = ["encode_drain", "read_drain", "read_holding", "read_summary", "read_use"]

T = TypeVar("T")


class _Drain(msgspec.Struct, frozen=True):
    by: str = ""
    at: str = ""
    reason: str = ""


class _Summary(msgspec.Struct, frozen=True):
    copies: int | None = None
    bytes: int | None = None
    due: int | None = None
    due_24h: int | None = None
    policy: str | None = None
    version: str | None = None
    last_sweep: str | None = None


class _Holding(msgspec.Struct, frozen=True):
    b: int | None = None
    t: str = ""


def encode_drain(by: str, at: datetime, reason: str) -> str:
    """Write who drains a host as it stands in the store."""
    return msgspec.json.encode(_Drain(by, format_time(nanoseconds_of(at)), reason)).decode()


def read_drain(text: str) -> DrainedHost:
    """Read who drained a host; the host is drained whatever the value says."""
    document = _read(text, _Drain())
    return DrainedHost(by=document.by, at=_time(document.at), reason=document.reason)


def read_summary(holder: str, text: str | None, *, live: bool, drained: DrainedHost | None) -> HostStatus:
    """Make the status of a host of what it has told of itself; None: it has told nothing."""
    document = _read(text or "", _Summary())
    return HostStatus(
        holder=holder,
        live=live,
        drained=drained,
        copies=document.copies,
        disk_bytes=document.bytes,
        due=document.due,
        due_24h=document.due_24h,
        policy=document.policy,
        version=document.version,
        last_sweep=_time(document.last_sweep or ""),
    )


def read_holding(text: str) -> tuple[int | None, datetime | None]:
    """Return how many bytes a copy has, and when it was registered."""
    document = _read(text, _Holding())
    return document.b, _time(document.t)


def read_use(text: str | None) -> datetime | None:
    """Return the last use of an image."""
    if text is None or not (text.isascii() and text.isdigit()):
        return None
    return datetime_of(int(text) * SECOND)


def _read(text: str, nothing: T) -> T:
    try:
        return msgspec.json.decode(text, type=type(nothing))
    except (msgspec.DecodeError, UnicodeError):
        return nothing


def _time(text: str) -> datetime | None:
    try:
        return datetime_of(parse_time(text))
    except ValueError:
        return None
