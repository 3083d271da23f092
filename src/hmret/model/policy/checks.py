"""Checks of single settings, which attrs runs when a configuration is made.

They accept `object`: settings come from files and from embedders' code, which may never have been
type-checked.
"""

import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import attrs

from hmret.model.errors import ConfigError
from hmret.model.policy.patterns import compile_patterns

__all__ = [
    "check_amount",
    "check_bool",
    "check_choice",
    "check_count",
    "check_duration",
    "check_listen",
    "check_positive",
    "check_share",
    "check_text",
    "read_patterns",
]

_LISTEN = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/]+):([0-9]{1,5})")


def check_bool(_owner: object, field: "attrs.Attribute[bool]", value: object) -> None:
    """Refuse anything but true and false."""
    if not isinstance(value, bool):
        raise ConfigError(f"{field.name}: expected true or false, got {value!r}")


def check_duration(_owner: object, field: "attrs.Attribute[timedelta]", value: object) -> None:
    """Refuse anything but a duration of zero or more."""
    if not isinstance(value, timedelta):
        raise ConfigError(f"{field.name}: expected a timedelta, got {value!r}")
    if value < timedelta(0):
        raise ConfigError(f"{field.name}: must be zero or more, got {value}")


def check_positive(_owner: object, field: "attrs.Attribute[timedelta]", value: object) -> None:
    """Refuse anything but a duration of more than zero."""
    if not isinstance(value, timedelta):
        raise ConfigError(f"{field.name}: expected a timedelta, got {value!r}")
    if value <= timedelta(0):
        raise ConfigError(f"{field.name}: must be more than zero, got {value}")


def check_count(_owner: object, field: "attrs.Attribute[int]", value: object) -> None:
    """Refuse anything but a whole number of zero or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"{field.name}: expected a whole number, 0 or more, got {value!r}")


def check_share(_owner: object, field: "attrs.Attribute[float]", value: object) -> None:
    """Refuse anything but a share of a whole, from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigError(f"{field.name}: expected a share from 0 to 1, got {value!r}")


def check_amount(owner: object, field: "attrs.Attribute[Any]", value: object) -> None:
    """Refuse anything but a whole number of zero or more, and a share of a whole, a float from 0 to 1."""
    if isinstance(value, float):
        check_share(owner, field, value)
    elif isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(
            f"{field.name}: expected a whole number, 0 or more, or a share from 0 to 1, got {value!r}"
        )


def check_choice(*choices: str) -> Callable[[object, "attrs.Attribute[str]", object], None]:
    """Make a check that refuses anything but one of the given texts."""

    def check(_owner: object, field: "attrs.Attribute[str]", value: object) -> None:
        if value not in choices:
            raise ConfigError(f"{field.name}: expected {' or '.join(choices)}, got {value!r}")

    return check


def check_text(_owner: object, field: "attrs.Attribute[str]", value: object) -> None:
    """Refuse anything but text."""
    if not isinstance(value, str) or "\0" in value:
        raise ConfigError(f"{field.name}: expected text, got {value!r}")


def check_listen(_owner: object, field: "attrs.Attribute[str]", value: str) -> None:
    """Refuse anything but `host:port` or an empty text."""
    check_text(_owner, field, value)
    match = _LISTEN.fullmatch(value)
    if value and (match is None or int(match[1]) > 65535):  # noqa: PLR2004 - the largest port
        raise ConfigError(f"{field.name}: expected host:port, got {value!r}")


def read_patterns(key: str, value: Iterable[str], *, of: str = "repository") -> tuple[str, ...]:
    """Trim the patterns of a key, and refuse a value that is no list of valid patterns."""
    try:
        return compile_patterns(value, of=of).texts
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from None
