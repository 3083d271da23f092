"""The settings that all hosts of a fleet share: their text in the store, and what an operator may set them to."""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import attrs
import msgspec

from hmret.model.durations import format_duration, go_duration, parse_span
from hmret.model.errors import ConfigError
from hmret.model.fleet import FleetSettings, Paused
from hmret.model.policy.fleet import MOST_COPIES
from hmret.model.sizes import parse_share
from hmret.model.times import datetime_of, format_time, nanoseconds_of, parse_time, timedelta_nanoseconds

MOST_TOKENS = 100
_MOST_DIGITS = 9


class _Paused(msgspec.Struct, frozen=True):
    by: str
    at: str
    reason: str


class _Settings(msgspec.Struct, frozen=True):
    """The JSON in the store."""

    min_copies: int = 1
    budget: str | int = "5%"
    tokens: int = 20
    canary: str = "1h"
    forget_after: str = "720h"
    paused: _Paused | None = None


def encode_settings(settings: FleetSettings) -> str:
    """Write settings as they stand in the store."""
    paused = settings.paused
    document = _Settings(
        settings.min_copies,
        settings.budget,
        settings.tokens,
        _duration_text(settings.canary),
        _duration_text(settings.forget_after),
        None if paused is None else _Paused(paused.by, format_time(nanoseconds_of(paused.at)), paused.reason),
    )
    return msgspec.json.encode(document).decode()


def decode_settings(text: str) -> FleetSettings:
    """Read settings as they stand in the store; unknown fields are those of a newer version, and left alone.

    Raises:
        ValueError: they are not readable, or a value is out of its range.
    """
    document = msgspec.json.decode(text, type=_Settings)
    paused = document.paused
    try:
        settings = FleetSettings(
            min_copies=document.min_copies,
            budget=str(document.budget),
            tokens=document.tokens,
            canary=_read_duration(document.canary),
            forget_after=_read_duration(document.forget_after),
            paused=None
            if paused is None
            else Paused(paused.by, datetime_of(parse_time(paused.at)), paused.reason),
        )
        _check(settings)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return settings


def change_setting(settings: FleetSettings, key: str, text: str) -> FleetSettings:
    """Set one of them to a value as an operator writes it.

    Raises:
        ConfigError: there is no such setting, or the value is not usable; the message names both.
    """
    if key not in SETTABLE:
        raise ConfigError(f"{key}: not a setting of a fleet; expected one of {', '.join(SETTABLE)}")
    changed: FleetSettings = attrs.evolve(settings, **{key: SETTABLE[key](text)})
    _check(changed)
    return changed


def _check(settings: FleetSettings) -> None:
    """Check what the settings must be, each and together.

    Raises:
        ConfigError: they are not.
    """
    for name, value, least, most in (
        ("min_copies", settings.min_copies, 0, MOST_COPIES),
        ("tokens", settings.tokens, 1, MOST_TOKENS),
    ):
        if not least <= value <= most:
            raise ConfigError(f"{name}: expected a number from {least} to {most}, got {value}")
    budget = _read_budget(settings.budget)
    if not budget.endswith("%") and int(budget) < settings.tokens:
        raise ConfigError(
            f"budget: expected a share, or a number not below tokens ({settings.tokens}), got {budget}: "
            "each token is good for at least one release"
        )


def _read_number(name: str, least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(rf"[0-9]{{1,{_MOST_DIGITS}}}", text) or not least <= int(text) <= most:
            raise ConfigError(f"{name}: expected a number from {least} to {most}, got {text!r}")
        return int(text)

    return read


def _read_budget(text: str) -> str:
    if text.endswith("%"):
        try:
            share = parse_share(text)
        except ValueError as error:
            raise ConfigError(f"budget: {error}") from None
        if not share:
            raise ConfigError(f"budget: expected more than nothing, got {text!r}: pause stops deletions")
        return text
    if not re.fullmatch(rf"[0-9]{{1,{_MOST_DIGITS}}}", text):
        raise ConfigError(f"budget: expected a share such as 5%, or a number of copies, got {text!r}")
    return str(int(text))


def _read_span(name: str) -> Callable[[str], timedelta]:
    def read(text: str) -> timedelta:
        try:
            return _read_duration(text)
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from None

    return read


def _read_duration(text: str) -> timedelta:
    """Read a duration, cut to whole seconds, as leases have them.

    Raises:
        ValueError: it is none, or negative.
    """
    seconds = parse_span(text) // 1_000_000_000
    if seconds < 0:
        raise ValueError(f"expected a duration of 0s or more, got {text!r}")
    return timedelta(seconds=seconds)


def _duration_text(duration: timedelta) -> str:
    return go_duration(format_duration(timedelta_nanoseconds(duration)))


SETTABLE: Mapping[str, Callable[[str], Any]] = {
    "min_copies": _read_number("min_copies", 0, MOST_COPIES),
    "budget": _read_budget,
    "tokens": _read_number("tokens", 1, MOST_TOKENS),
    "canary": _read_span("canary"),
    "forget_after": _read_span("forget_after"),
}
"""What an operator may set, each with what reads its value."""
