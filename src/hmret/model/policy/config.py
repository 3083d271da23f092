"""The settings of retention, validated when they are made and trusted afterwards."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Literal, Protocol, runtime_checkable

import attrs

from hmret.model.errors import ConfigError
from hmret.model.policy.checks import (
    check_bool,
    check_choice,
    check_count,
    check_duration,
    check_listen,
    check_positive,
    check_share,
    check_text,
    read_patterns,
)
from hmret.model.policy.limits import DiskLimits
from hmret.model.policy.rules import Rule, rules_of
from hmret.model.policy.window import DeletionWindow
from hmret.model.values import frozen

__all__ = ["AutoDelete", "RetentionConfig"]


@runtime_checkable
class _PathLike(Protocol):
    """The interface of `os.PathLike`, which this layer does not import."""

    def __fspath__(self) -> str: ...


def _data_dir(value: str | _PathLike) -> str:
    text: object = value.__fspath__() if isinstance(value, _PathLike) else value
    if not isinstance(text, str) or not text or "\0" in text:
        raise ConfigError(f"data_dir: expected a path, got {value!r}")
    return text


def _allowed(value: Iterable[str]) -> tuple[str, ...]:
    return read_patterns("allowed", value)


def _pinned(value: Iterable[str]) -> tuple[str, ...]:
    return read_patterns("pinned", value)


def _check_made(kind: type) -> Callable[[object, "attrs.Attribute[Any]", Any], None]:
    """Make a check that refuses anything but an instance of one of our own classes."""

    def check(_owner: object, field: "attrs.Attribute[Any]", value: Any) -> None:
        if not isinstance(value, kind):
            article = "an" if kind is AutoDelete else "a"
            raise ConfigError(f"{field.name}: expected {article} {kind.__name__}, got {value!r}")

    return check


@frozen(kw_only=True)
class AutoDelete:
    """hypeman's own settings, `images.auto_delete` in its config file.

    Raises:
        ConfigError: a value is not usable.
    """

    enabled: bool = attrs.field(default=False, validator=check_bool)
    """Whether anything is swept at all. Default: false."""
    unused_for: timedelta = attrs.field(default=timedelta(hours=720), validator=check_positive)
    """How long an image must have been unused before it is deleted; more than zero. Default: 720 hours."""
    allowed: tuple[str, ...] = attrs.field(default=(), converter=_allowed)
    """Patterns of the repositories that may be deleted from; empty: none. Default: empty."""


@frozen(kw_only=True)
class RetentionConfig:
    """All settings of one engine.

    Raises:
        ConfigError: a value is not usable.
    """

    data_dir: str = attrs.field(default="/var/lib/hypeman", converter=_data_dir)
    """hypeman's data directory. Default: `/var/lib/hypeman`."""
    auto_delete: AutoDelete = attrs.field(factory=AutoDelete, validator=_check_made(AutoDelete))
    """hypeman's own settings. Default: off, as hypeman's are."""
    registry_url: str = attrs.field(default="localhost:8080", validator=check_text)
    """Host and port of hypeman's own registry, perhaps with a scheme. Default: `localhost:8080`, as hypeman's is."""
    builder_image: str = attrs.field(default="", validator=check_text)
    """The image in which hypeman builds; empty: `internal/builder` of its registry. Default: empty."""
    enabled: bool | None = attrs.field(default=None, validator=attrs.validators.optional(check_bool))
    """Whether hmret sweeps. None: as `auto_delete.enabled`. Default: None."""
    sweep_interval: timedelta = attrs.field(default=timedelta(minutes=1), validator=check_positive)
    """Time from the start of one sweep to the start of the next; more than zero. Default: one minute."""
    pinned: tuple[str, ...] = attrs.field(default=(), converter=_pinned)
    """Patterns of repositories from which nothing is ever deleted, whatever other settings allow; empty:
    none. Default: empty.
    """
    max_deletes_per_sweep: int = attrs.field(default=0, validator=check_count)
    """The most images that one sweep deletes, longest unused first; 0: no limit. Default: 0."""
    max_bytes_per_sweep: int = attrs.field(default=0, validator=check_count)
    """The most bytes of images that one sweep deletes, longest unused first; 0: no limit. Default: 0."""
    rules: tuple[Rule, ...] = attrs.field(default=(), converter=rules_of)
    """Settings for some images that replace the general ones; the first rule that matches counts. Default:
    empty.
    """
    keep_latest: int = attrs.field(default=0, validator=check_count)
    """How many of the newest images of each repository stay, whatever their age; 0: none. Default: 0."""
    min_age: timedelta = attrs.field(default=timedelta(0), validator=check_duration)
    """How old an image must be, since `created_at`, before it is due; 0: off. Default: 0."""
    disk: DiskLimits = attrs.field(factory=DiskLimits, validator=_check_made(DiskLimits))
    """How full the disk may get before images are deleted early. Default: no limit."""
    quarantine: timedelta = attrs.field(default=timedelta(0), validator=check_duration)
    """How long a deleted image can be brought back before its bytes are freed; 0: not at all. Default: 0."""
    window: DeletionWindow = attrs.field(factory=DeletionWindow, validator=_check_made(DeletionWindow))
    """The hours in which images may be deleted. Default: all."""
    brake: float = attrs.field(default=0.5, validator=check_share)
    """Share of the eligible images that may expire at once before the brake holds them all. Default: one half."""
    brake_min_images: int = attrs.field(default=20, validator=check_count)
    """The brake never holds fewer expired images than this. Default: 20."""
    brake_for: timedelta = attrs.field(default=timedelta(0), validator=check_duration)
    """For how long the brake holds after its announcement; 0: there is no brake. Default: 0."""
    delete_unpullable: bool = attrs.field(default=False, validator=check_bool)
    """Whether images that cannot be pulled again may be deleted too. Default: false."""
    unreadable_references: Literal["suspend", "ignore"] = attrs.field(
        default="suspend", validator=check_choice("suspend", "ignore")
    )
    """What a reference that cannot be read does: `suspend` all deletion, or `ignore` as hypeman does."""
    access_time: Literal["gaps", "always", "never"] = attrs.field(
        default="gaps", validator=check_choice("gaps", "always", "never")
    )
    """Whether a read of a disk counts as a use: `always`, only in `gaps` in which no sweep watched, or
    `never`.
    """
    leases: Literal["suspend", "when-offered"] = attrs.field(
        default="suspend", validator=check_choice("suspend", "when-offered")
    )
    """The consequence of a file system on which a rename breaks the kernel's leases: `suspend` all deletion,
    or rely on references alone there (`when-offered`). Default: `suspend`.
    """
    control_socket: str = attrs.field(default="", validator=check_text)
    """Path of the control socket; empty: `$RUNTIME_DIRECTORY/hmret.sock`, else below the data directory."""
    control_socket_group: str = attrs.field(default="", validator=check_text)
    """Name or number of the group that may query the engine through its control socket; empty: none. Default:
    empty.
    """
    control_socket_group_writes: bool = attrs.field(default=False, validator=check_bool)
    """Whether that group may also change something: mark, lease, sweep, restore, confirm. Default: false."""
    metrics_listen: str = attrs.field(default="", validator=check_listen)
    """`host:port` for Prometheus; empty: only on the control socket. Default: empty."""
    journal: bool = attrs.field(default=True, validator=check_bool)
    """Whether `system/hmret/journal.jsonl` is written. Default: true."""

    @property
    def active(self) -> bool:
        """Whether this engine sweeps: `enabled` where it is set, else `auto_delete.enabled`."""
        return self.auto_delete.enabled if self.enabled is None else self.enabled
