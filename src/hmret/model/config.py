"""The settings of retention, validated when they are made and trusted afterwards."""

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Literal, Protocol, runtime_checkable

import attrs

from hmret.model.errors import ConfigError
from hmret.model.patterns import compile_patterns

__all__ = ["AutoDelete", "RetentionConfig"]

_LISTEN = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/]+):([0-9]{1,5})")


@runtime_checkable
class _PathLike(Protocol):
    """What `os.PathLike` is, which this layer does not import."""

    def __fspath__(self) -> str: ...


# The checks take `object`: settings come from files and from embedders that no type checker has seen.


def _check_bool(_owner: object, field: "attrs.Attribute[bool]", value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"{field.name}: expected true or false, got {value!r}")


def _check_positive(_owner: object, field: "attrs.Attribute[timedelta]", value: object) -> None:
    if not isinstance(value, timedelta):
        raise ConfigError(f"{field.name}: expected a timedelta, got {value!r}")
    if value <= timedelta(0):
        raise ConfigError(f"{field.name}: must be more than zero, got {value}")


def _patterns(key: str, value: Iterable[str]) -> tuple[str, ...]:
    try:
        return compile_patterns(value).texts
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from None


def _allowed(value: Iterable[str]) -> tuple[str, ...]:
    return _patterns("allowed", value)


def _pinned(value: Iterable[str]) -> tuple[str, ...]:
    return _patterns("pinned", value)


def _data_dir(value: str | _PathLike) -> str:
    text: object = value.__fspath__() if isinstance(value, _PathLike) else value
    if not isinstance(text, str) or not text or "\0" in text:
        raise ConfigError(f"data_dir: expected a path, got {value!r}")
    return text


def _check_count(_owner: object, field: "attrs.Attribute[int]", value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"{field.name}: expected a whole number, 0 or more, got {value!r}")


def _check_choice(_owner: object, field: "attrs.Attribute[str]", value: object) -> None:
    if value not in ("suspend", "ignore"):
        raise ConfigError(f"{field.name}: expected suspend or ignore, got {value!r}")


def _check_text(_owner: object, field: "attrs.Attribute[str]", value: object) -> None:
    if not isinstance(value, str) or "\0" in value:
        raise ConfigError(f"{field.name}: expected text, got {value!r}")


def _check_listen(_owner: object, field: "attrs.Attribute[str]", value: str) -> None:
    _check_text(_owner, field, value)
    match = _LISTEN.fullmatch(value)
    if value and (match is None or int(match[1]) > 65535):  # noqa: PLR2004 - the largest port
        raise ConfigError(f"{field.name}: expected host:port, got {value!r}")


def _check_auto_delete(_owner: object, field: "attrs.Attribute[AutoDelete]", value: object) -> None:
    if not isinstance(value, AutoDelete):
        raise ConfigError(f"{field.name}: expected an AutoDelete, got {value!r}")


@attrs.frozen(kw_only=True)
class AutoDelete:
    """hypeman's own settings, `images.auto_delete` in its config file.

    Raises:
        ConfigError: a value is not usable.
    """

    enabled: bool = attrs.field(default=False, validator=_check_bool)
    """Whether anything is swept at all. Default: false."""
    unused_for: timedelta = attrs.field(default=timedelta(hours=720), validator=_check_positive)
    """How long an image must have been unused before it is deleted; more than zero. Default: 720 hours."""
    allowed: tuple[str, ...] = attrs.field(default=(), converter=_allowed)
    """Patterns of the repositories that may be deleted from; empty: none. Default: empty."""


@attrs.frozen(kw_only=True)
class RetentionConfig:
    """All settings of one engine.

    Raises:
        ConfigError: a value is not usable.
    """

    data_dir: str = attrs.field(default="/var/lib/hypeman", converter=_data_dir)
    """hypeman's data directory. Default: `/var/lib/hypeman`."""
    auto_delete: AutoDelete = attrs.field(factory=AutoDelete, validator=_check_auto_delete)
    """hypeman's own settings. Default: off, as hypeman's are."""
    enabled: bool | None = attrs.field(default=None, validator=attrs.validators.optional(_check_bool))
    """Whether hmret sweeps. None: as `auto_delete.enabled`. Default: None."""
    sweep_interval: timedelta = attrs.field(default=timedelta(minutes=1), validator=_check_positive)
    """Time from the start of one sweep to the start of the next; more than zero. Default: one minute."""
    pinned: tuple[str, ...] = attrs.field(default=(), converter=_pinned)
    """Patterns of repositories that are never deleted from, whatever else says so; empty: none. Default: empty."""
    max_deletes_per_sweep: int = attrs.field(default=0, validator=_check_count)
    """The most images that one sweep deletes, longest unused first; 0: no limit. Default: 0."""
    unreadable_references: Literal["suspend", "ignore"] = attrs.field(
        default="suspend", validator=_check_choice
    )
    """What a reference that cannot be read does: `suspend` all deletion, or `ignore` as hypeman does."""
    control_socket: str = attrs.field(default="", validator=_check_text)
    """Path of the control socket; empty: `$RUNTIME_DIRECTORY/hmret.sock`, else below the data directory."""
    metrics_listen: str = attrs.field(default="", validator=_check_listen)
    """`host:port` for Prometheus; empty: only on the control socket. Default: empty."""
    journal: bool = attrs.field(default=True, validator=_check_bool)
    """Whether `system/hmret/journal.jsonl` is written. Default: true."""

    @property
    def active(self) -> bool:
        """Whether this engine sweeps: `enabled` where it is set, else `auto_delete.enabled`."""
        return self.auto_delete.enabled if self.enabled is None else self.enabled
