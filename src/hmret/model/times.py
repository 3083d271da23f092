"""Times as whole nanoseconds since the epoch, and as RFC 3339 text with up to nine fractional digits.

Go writes nine digits where Python's `datetime` holds six, so decisions are made on nanoseconds and
`datetime` is only for people and for embedders.

Source of the format: RFC 3339, as Go's `time.RFC3339Nano` writes it.
"""

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

SECOND = 1_000_000_000
"""Nanoseconds in a second."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EARLIEST = -62_135_596_800 * SECOND  # 0001-01-01T00:00:00Z
_LATEST = 253_402_300_799 * SECOND + 999_999_999  # 9999-12-31T23:59:59.999999999Z

_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)T([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(?:\.(\d{1,9})\d*)?(?:Z|([+-])([01]\d|2[0-3]):([0-5]\d))",
    re.ASCII,
)


_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_UNFRACTIONED = len("2006-01-02T15:04:05Z")
_SIXTY = {f"{number:02}": number for number in range(60)}
_MINUTES = {
    f"T{hour:02}:{minute}:": hour * 3600 + seconds
    for hour in range(24)
    for minute, seconds in ((text, 60 * number) for text, number in _SIXTY.items())
}
"""The seconds from the start of a day to each of its minutes, written as between a date and the seconds."""
_DIGITS = 9
_TENS: tuple[int, ...] = tuple(10 ** (_DIGITS - length) for length in range(_DIGITS + 1))


def parse_time(text: str) -> int:
    """Read an RFC 3339 time; returns nanoseconds since the epoch, digits beyond the ninth cut off.

    Raises:
        ValueError: the text is not an RFC 3339 time.
    """
    nanoseconds = _parse_usual_time(text)
    if nanoseconds is not None:
        return nanoseconds
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 time: {text!r}")
    day, hours, minutes, seconds, fraction, sign, offset_hours, offset_minutes = match.groups()
    try:
        moment = _seconds_to(day) + int(hours) * 3600 + int(minutes) * 60 + int(seconds)
    except ValueError:
        raise ValueError(f"not an RFC 3339 time: {text!r}") from None
    if sign is not None:
        offset = int(offset_hours) * 3600 + int(offset_minutes) * 60
        moment -= offset if sign == "+" else -offset
    return moment * SECOND + (int(fraction.ljust(9, "0")) if fraction else 0)


def _parse_usual_time(text: str) -> int | None:
    """Read a time in the usual UTC form, in half the time of a general parse; None: it has another form."""
    length = len(text) - _UNFRACTIONED - 1
    if text[-1:] != "Z" or length > _DIGITS:
        return None
    try:
        seconds = _seconds_to(text[:10]) + _MINUTES[text[10:17]] + _SIXTY[text[17:19]]
    except (KeyError, ValueError):
        return None
    if length < 0:
        return seconds * SECOND
    digits = text[_UNFRACTIONED:-1]
    if text[19] != "." or not (digits.isdigit() and digits.isascii()):
        return None
    return seconds * SECOND + int(digits) * _TENS[length]


# The times in a cache fall on few distinct days: some years of days fit.
@lru_cache(maxsize=4096)
def _seconds_to(text: str) -> int:
    """Count the seconds from the epoch to the start of a day.

    Raises:
        ValueError: the text is not a day.
    """
    if _DATE.fullmatch(text) is None:
        raise ValueError(f"not a date: {text!r}")
    return (date.fromisoformat(text).toordinal() - _EPOCH.toordinal()) * 86_400


def format_time(nanoseconds: int) -> str:
    """Write nanoseconds since the epoch as RFC 3339 in UTC, without trailing zeros, as Go does.

    Times outside the years 1 to 9999 are written as the nearest one that the format has.
    """
    seconds, fraction = divmod(min(max(nanoseconds, _EARLIEST), _LATEST), SECOND)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    digits = f"{fraction:09d}".rstrip("0")
    return f"{text}.{digits}Z" if digits else f"{text}Z"


def nanoseconds_of(moment: datetime) -> int:
    """Convert an aware datetime to nanoseconds since the epoch.

    Raises:
        ValueError: the datetime has no time zone.
    """
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise ValueError(f"a time needs a time zone: {moment!r}")
    return timedelta_nanoseconds(moment - _EPOCH)


def datetime_of(nanoseconds: int) -> datetime:
    """Convert nanoseconds since the epoch to an aware datetime in UTC, cut to whole microseconds and to its range."""
    return _EPOCH + timedelta(microseconds=min(max(nanoseconds, _EARLIEST), _LATEST) // 1000)


def timedelta_nanoseconds(duration: timedelta) -> int:
    """Convert a timedelta to whole nanoseconds, exactly."""
    return (duration // _MICROSECOND) * 1000
