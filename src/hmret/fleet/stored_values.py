"""The values of a fleet's keys, written and read: anything that cannot be read is not known."""

from datetime import datetime
from typing import TypeVar

import msgspec

from hmret.fleet.overview import DrainedHost, HostStatus
from hmret.model.fleet import FleetSummary
from hmret.model.times import SECOND, datetime_of, format_time, nanoseconds_of, parse_time

_USED_DIGITS = 10

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


class _Notice(msgspec.Struct, frozen=True):
    by: str
    at: str


def encode_holding(disk_bytes: int, now_ns: int) -> str:
    """Write the value of a copy that is registered now."""
    return msgspec.json.encode(_Holding(disk_bytes, _whole_seconds(now_ns))).decode()


def encode_use(seconds: int) -> str:
    """Write a last use, in seconds since the epoch; the store compares it as text."""
    return f"{seconds:0{_USED_DIGITS}}"


def encode_notice(by: str, now_ns: int) -> str:
    """Write who noticed something, and when."""
    return msgspec.json.encode(_Notice(by, _whole_seconds(now_ns))).decode()


def encode_summary(summary: FleetSummary, version: str) -> str:
    """Write what a host tells of itself, and which version of hmret it runs."""
    last_sweep = summary.last_sweep
    document = _Summary(
        summary.copies,
        summary.disk_bytes,
        summary.due,
        summary.due_24h,
        summary.policy,
        version,
        None if last_sweep is None else _whole_seconds(nanoseconds_of(last_sweep)),
    )
    return msgspec.json.encode(document).decode()


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


def _whole_seconds(now_ns: int) -> str:
    return format_time(now_ns // SECOND * SECOND)
