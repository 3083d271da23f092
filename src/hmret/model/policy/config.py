"""The settings of retention, validated when they are made and trusted afterwards."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Literal, Protocol, runtime_checkable

import attrs

from hmret.model.errors import ConfigError
from hmret.model.policy import kinds
from hmret.model.policy.fleet import FleetConfig
from hmret.model.policy.kinds import choice_of, declare, read_patterns, section_of, setting, text_of
from hmret.model.policy.limits import DiskLimits
from hmret.model.policy.rules import Rule, rules_of
from hmret.model.policy.window import DeletionWindow
from hmret.model.values import frozen


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


@frozen(kw_only=True)
class AutoDelete:
    """hypeman's own settings, `images.auto_delete` in its config file.

    Raises:
        ConfigError: a value is not usable.
    """

    enabled: bool = setting(kinds.BOOLEAN, False)
    """Whether anything is swept at all. Beside a hypeman server leave it false: it would start hypeman's own controller."""
    unused_for: timedelta = setting(kinds.DURATION, timedelta(hours=720))
    """The window: how long an image must have been unused before it is deleted; more than zero."""
    allowed: tuple[str, ...] = attrs.field(default=(), converter=_allowed, metadata=declare(kinds.PATTERNS))
    """Patterns of the repositories whose images may be deleted; empty: nothing is deleted."""


@frozen(kw_only=True)
class RetentionConfig:
    """All settings of one engine, each declared once: the keys of config files and their checks follow from here.

    Raises:
        ConfigError: a value is not usable.
    """

    data_dir: str = attrs.field(
        default="/var/lib/hypeman",
        converter=_data_dir,
        metadata=declare(kinds.PATH, key="data_dir", is_policy=False, needs_restart=True),
    )
    """hypeman's data directory."""
    auto_delete: AutoDelete = section_of(AutoDelete, "images.auto_delete")
    """hypeman's own settings."""
    registry_url: str = setting(text_of("host:port"), "localhost:8080", key="registry.url")
    """Host and port of hypeman's own registry, perhaps with a scheme. What was built here or pushed there cannot be
    pulled again; empty: no registry is known as hypeman's own.
    """
    builder_image: str = setting(text_of("an image"), "", key="build.builder_image")
    """The image in which hypeman builds, which was made on this host, too; empty: `internal/builder` of its registry."""
    enabled: bool | None = setting(kinds.BOOLEAN, None)
    """Whether hmret sweeps, whatever `images.auto_delete.enabled` says; unset: as that says."""
    sweep_interval: timedelta = setting(kinds.DURATION, timedelta(minutes=1), is_policy=False)
    """Time from the start of one sweep to the start of the next; more than zero."""
    pinned: tuple[str, ...] = attrs.field(default=(), converter=_pinned, metadata=declare(kinds.PATTERNS))
    """Patterns of repositories from which nothing is ever deleted, whatever other settings allow; empty: none."""
    max_deletes_per_sweep: int = setting(kinds.COUNT, 0, shown_before="disk")
    """The most images that one sweep deletes, longest unused first; 0: no limit."""
    max_bytes_per_sweep: int = setting(kinds.SIZE, 0, shown_before="disk")
    """The most bytes of images that one sweep deletes, longest unused first, but one image at least; 0: no limit."""
    rules: tuple[Rule, ...] = attrs.field(default=(), converter=rules_of, metadata=declare(kinds.RULES))
    """Settings for some images that replace the general ones. The first rule that matches counts; empty: no rule."""
    keep_latest: int = setting(kinds.COUNT, 0)
    """How many of the newest images of each repository stay, by `created_at`, whatever their age. Images of unknown age,
    or made in the future, stay as well; 0: none.
    """
    min_age: timedelta = setting(kinds.ZERO_DURATION, timedelta(0))
    """How old an image must be, since `created_at`, before it is due. One of unknown age never is; 0: any age will do."""
    disk: DiskLimits = section_of(DiskLimits, "hmret.disk")
    """How full the disk may get before images are deleted early."""
    quarantine: timedelta = setting(kinds.ZERO_DURATION, timedelta(0))
    """How long a deleted image can be brought back. Its bytes are freed only then, or when a limit of `hmret.disk` is
    exceeded; 0: its bytes are freed at once.
    """
    window: DeletionWindow = section_of(DeletionWindow, "hmret.window")
    """The hours in which images may be deleted."""
    brake: float = setting(kinds.SHARE, 0.5)
    """The share of the eligible images that may expire at once. If more would, all of them are held until that has been
    announced for `hmret.brake_for`. 100% never holds; 0: any number is held, from `hmret.brake_min_images` on.
    """
    brake_min_images: int = setting(kinds.COUNT, 20)
    """The brake never holds fewer expired images than this; 0: any number, from one on."""
    brake_for: timedelta = setting(kinds.ZERO_DURATION, timedelta(0))
    """For how long the brake holds after its announcement; 0: there is no brake."""
    delete_unpullable: bool = setting(kinds.BOOLEAN, False, shown_before="max_deletes_per_sweep")
    """Whether images that cannot be pulled again may be deleted, too."""
    unreadable_references: Literal["suspend", "ignore"] = setting(
        choice_of("suspend", "ignore"), "suspend", is_policy=False
    )
    """What a guest or snapshot that cannot be read does: `suspend` all deletion, or `ignore` it, as hypeman does."""
    access_time: Literal["gaps", "always", "never"] = setting(
        choice_of("gaps", "always", "never"), "gaps", is_policy=False
    )
    """Whether a read of a disk counts as a use: `always`, only in `gaps` in which no sweep watched, or `never`."""
    leases: Literal["suspend", "when-offered"] = setting(
        choice_of("suspend", "when-offered"), "suspend", is_policy=False
    )
    """The consequence of a file system on which a rename breaks the kernel's leases: `suspend` all deletion, or rely
    on references alone there (`when-offered`).
    """
    control_socket: str = setting(kinds.PATH, "", is_policy=False, needs_restart=True)
    """Path of the control socket, at most 107 bytes; empty: `$RUNTIME_DIRECTORY/hmret.sock`, or
    `DATA_DIR/system/hmret/hmret.sock` where that is not set.
    """
    control_socket_group: str = setting(text_of("a group"), "", is_policy=False, needs_restart=True)
    """Name or number of the group that may query the engine through its control socket; empty: root and the engine's user only."""
    control_socket_group_writes: bool = setting(kinds.BOOLEAN, False, is_policy=False)
    """Whether that group may also change something: mark, lease, sweep, restore, confirm."""
    metrics_listen: str = setting(kinds.LISTEN, "", is_policy=False, needs_restart=True)
    """`host:port` for Prometheus and the page, read-only; empty: on the control socket only."""
    journal: bool = setting(kinds.BOOLEAN, True, is_policy=False)
    """Whether `system/hmret/journal.jsonl` is written: a line for each mark, clear, deletion and failure."""
    fleet: FleetConfig = section_of(FleetConfig, "hmret.fleet")
    """The fleet of hosts that this one is part of."""

    @property
    def active(self) -> bool:
        """Whether this engine sweeps: `enabled` where it is set, else `auto_delete.enabled`."""
        return self.auto_delete.enabled if self.enabled is None else self.enabled
