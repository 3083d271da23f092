"""Durations as Go writes and reads them, `720h0m0s`, `1h30m`, `1.5s`, and with days and weeks besides: `30d`, `1w12h`.

Source of Go's syntax and of its arithmetic: Go's `time.ParseDuration` and `time.Duration.String`.
"""

import re
from collections.abc import Mapping

from hmret.model.errors import quoted

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,  # the micro sign
    "\u03bcs": 1_000,  # the Greek letter
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_LONG_UNITS = {"d": 24 * _UNITS["h"], "w": 7 * 24 * _UNITS["h"]}
_LIMIT = 1 << 63
_LIMIT_DIGITS = len(str(_LIMIT))

_TERM = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]+)")


def parse_duration(text: str) -> int:
    """Read a Go duration; returns whole nanoseconds. Each term is truncated to whole nanoseconds, as Go does.

    Raises:
        ValueError: the text is not a Go duration, or does not fit into 64 bits.
    """
    return _parse(text, _UNITS, "a Go duration such as 720h, 1h30m or 90s; days are not a unit")


def parse_span(text: str) -> int:
    """Read a duration in Go's syntax, with days (24 hours) and weeks (7 days) too; returns whole nanoseconds.

    Raises:
        ValueError: the text is not a duration, or does not fit into 64 bits.
    """
    return _parse(text, {**_UNITS, **_LONG_UNITS}, "one such as 30d, 1w, 720h, 1h30m or 90s")


def go_duration(text: str) -> str:
    """Write a duration with days or weeks as Go takes it, `720h` for `30d`; empty where the text is not a duration."""
    try:
        written = format_duration(parse_span(text))
    except ValueError:
        return ""
    for nothing in ("0s", "0m"):
        if len(written) > len(nothing) and not written[-3].isdigit():
            written = written.removesuffix(nothing)
    return written


def _parse(text: str, units: Mapping[str, int], expected: str) -> int:
    negative = text.startswith("-")
    unsigned = text[1:] if text.startswith(("-", "+")) else text
    if unsigned == "0":
        return 0
    total = 0
    position = 0
    while position < len(unsigned) or position == 0:
        term = _TERM.match(unsigned, position)
        unit = units.get(term[3]) if term is not None and (term[1] or term[2]) else None
        if term is None or unit is None:
            raise ValueError(f"not a duration: {quoted(text)}; expected {expected}")
        total += _whole(term[1]) * unit + _fraction(term[2] or "", unit)
        position = term.end()
    if total > _LIMIT or (total == _LIMIT and not negative):
        raise ValueError(
            f"duration out of range: {quoted(text)}; expected one of at most 2562047h, some 292 years"
        )
    return -total if negative else total


def format_duration(nanoseconds: int) -> str:
    """Write whole nanoseconds as Go does: hours, minutes and seconds, or one smaller unit below a second."""
    sign = "-" if nanoseconds < 0 else ""
    size = abs(nanoseconds)
    if size == 0:
        return "0s"
    for symbol in ("ns", "\u00b5s", "ms"):
        if size < 1000 * _UNITS[symbol]:
            return f"{sign}{_decimal(size, _UNITS[symbol])}{symbol}"
    minutes, rest = divmod(size, _UNITS["m"])
    text = f"{_decimal(rest, _UNITS['s'])}s"
    if minutes:
        hours, minutes = divmod(minutes, 60)
        text = f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"
    return sign + text


def format_span(nanoseconds: int) -> str:
    """Write a duration for people, with days, and without units that are zero: `30d`, `1d12h`, `1m30s`, `0s`."""
    sign = "-" if nanoseconds < 0 else ""
    days, rest = divmod(abs(nanoseconds), _LONG_UNITS["d"])
    text = format_duration(rest)
    if "h" in text:
        text = text.replace("h0m", "h")
    if text.endswith(("m0s", "h0s")):
        text = text.removesuffix("0s")
    if not days:
        return sign + text
    return f"{sign}{days}d" + ("" if text == "0s" else text)


def _whole(digits: str) -> int:
    # Python refuses to convert thousands of digits, and any number longer than the limit exceeds it anyway.
    return int(digits.lstrip("0")[: _LIMIT_DIGITS + 1] or "0")


def _fraction(digits: str, unit: int) -> int:
    # Go's own steps, float rounding included: "0.3333333333333333333h" must be the same to the nanosecond.
    value = 0
    scale = 1.0
    for digit in digits:
        grown = value * 10 + int(digit)
        if grown > _LIMIT:
            break
        value = grown
        scale *= 10
    return int(value * (unit / scale))


def _decimal(size: int, unit: int) -> str:
    whole, rest = divmod(size, unit)
    fraction = str(unit + rest)[1:].rstrip("0")
    return f"{whole}.{fraction}" if fraction else str(whole)
