"""The keys of all settings: of what kind each is, and which part of the configuration it is a field of."""

from collections.abc import Collection, Mapping
from typing import Any

import attrs

from hmret.model.errors import ConfigError
from hmret.model.policy.config import AutoDelete, RetentionConfig
from hmret.model.policy.limits import DiskLimits
from hmret.model.policy.window import DeletionWindow
from hmret.model.values import frozen
from hmret.settings.kinds import (
    AMOUNT,
    BOOLEAN,
    COUNT,
    DURATION,
    HYPEMAN_BOOLEAN,
    HYPEMAN_DURATION,
    HYPEMAN_PATTERNS,
    PATTERNS,
    RULES,
    SHARE,
    SIZE,
    SPANS,
    ZERO_DURATION,
    SettingKind,
    tell,
    text_of,
)
from hmret.settings.raw_values import Value
from hmret.settings.source_location import SourceLocation

__all__ = [
    "ALL_SECTIONS",
    "KEYS",
    "PATH_KEYS",
    "SECTIONS",
    "SIZE_KEYS",
    "ReadSetting",
    "SettingKey",
    "change_config",
]

_PARTS: Mapping[str, tuple[str, type]] = {
    "images.auto_delete": ("auto_delete", AutoDelete),
    "hmret.disk": ("disk", DiskLimits),
    "hmret.window": ("window", DeletionWindow),
}
"""The sections whose keys are fields of a part of the configuration: that part, and its class."""

SECTIONS = (*_PARTS, "hmret")
"""The sections that hold no keys but ours; hypeman's own keys are everywhere else."""

ALL_SECTIONS = (*SECTIONS, "", "images", "registry", "build")
"""Those of a file in which nothing but hmret's keys stands, the whole file among them."""

_FLAGS = {
    "images.auto_delete.enabled": "--enable",
    "images.auto_delete.allowed": "--allow",
    "hmret.enabled": "--enable",
    "hmret.pinned": "--pin",
}


@frozen
class SettingKey:
    """A setting."""

    name: str
    """Dotted."""
    kind: SettingKind
    policy: bool = attrs.field(default=True, kw_only=True)
    """Whether it says what is deleted, and not how the engine goes about it."""
    in_force: str = attrs.field(default="", kw_only=True)
    """The property of the part that has the value in force where none is given; empty: the field itself."""
    attribute: str = attrs.field(default="", kw_only=True)
    """The field that has it, where that is not named as the last part of the key is."""

    @property
    def section(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def field(self) -> str:
        return self.attribute or self.name.rpartition(".")[2]

    @property
    def variable(self) -> str:
        return self.name.upper().replace(".", "__")

    @property
    def flag(self) -> str:
        return _FLAGS.get(self.name, f"--{self.field.replace('_', '-')}")

    @property
    def owner(self) -> type:
        """The class whose field this is."""
        return _PARTS[self.section][1] if self.section in _PARTS else RetentionConfig

    @property
    def may_be_unset(self) -> bool:
        """Whether None is a value, and the default."""
        return attrs.fields_dict(self.owner)[self.field].default is None

    def read(self, value: Value) -> Any:
        """Read a value of this setting; raises ConfigError with the value's place."""
        return self.kind.read(value, self._check)

    def value_in(self, config: RetentionConfig) -> object:
        """Give the value in force, ready for JSON."""
        return self._shown(getattr(self._part_of(config), self.in_force or self.field))

    def given_in(self, config: RetentionConfig) -> object:
        """Give the value as it was given, ready for JSON; None: unset."""
        return self._shown(getattr(self._part_of(config), self.field))

    def _shown(self, value: object) -> object:
        return None if value is None else self.kind.show(value)

    def _part_of(self, config: RetentionConfig) -> object:
        return getattr(config, _PARTS[self.section][0]) if self.section in _PARTS else config

    def _check(self, place: SourceLocation, value: object) -> Any:
        try:
            return getattr(self.owner(**{self.field: value}), self.field)
        except ConfigError as error:
            raise tell(place, error, self.field) from None


KEYS = (
    SettingKey("data_dir", text_of("a path"), policy=False),
    SettingKey("images.auto_delete.enabled", HYPEMAN_BOOLEAN),
    SettingKey("images.auto_delete.unused_for", HYPEMAN_DURATION),
    SettingKey("images.auto_delete.allowed", HYPEMAN_PATTERNS),
    SettingKey("registry.url", text_of("host:port"), attribute="registry_url"),
    SettingKey("build.builder_image", text_of("an image"), attribute="builder_image"),
    SettingKey("hmret.enabled", BOOLEAN),
    SettingKey("hmret.sweep_interval", DURATION, policy=False),
    SettingKey("hmret.pinned", PATTERNS),
    SettingKey("hmret.rules", RULES),
    SettingKey("hmret.keep_latest", COUNT),
    SettingKey("hmret.min_age", ZERO_DURATION),
    SettingKey("hmret.delete_unpullable", BOOLEAN),
    SettingKey("hmret.max_deletes_per_sweep", COUNT),
    SettingKey("hmret.max_bytes_per_sweep", SIZE),
    SettingKey("hmret.disk.high_watermark", SHARE),
    SettingKey("hmret.disk.low_watermark", SHARE, in_force="low"),
    SettingKey("hmret.disk.max_used", AMOUNT),
    SettingKey("hmret.disk.count", text_of("blocks or apparent")),
    SettingKey("hmret.disk.min_unused_for", DURATION),
    SettingKey("hmret.quarantine", ZERO_DURATION),
    SettingKey("hmret.window.hours", SPANS),
    SettingKey("hmret.window.time_zone", text_of("a time zone such as Europe/Berlin")),
    SettingKey("hmret.window.yields_to_pressure", BOOLEAN),
    SettingKey("hmret.brake", SHARE),
    SettingKey("hmret.brake_min_images", COUNT),
    SettingKey("hmret.brake_for", ZERO_DURATION),
    SettingKey("hmret.unreadable_references", text_of("suspend or ignore"), policy=False),
    SettingKey("hmret.access_time", text_of("gaps, always or never"), policy=False),
    SettingKey("hmret.leases", text_of("suspend or when-offered"), policy=False),
    SettingKey("hmret.control_socket", text_of("a path"), policy=False),
    SettingKey("hmret.control_socket_group", text_of("a group"), policy=False),
    SettingKey("hmret.control_socket_group_writes", BOOLEAN, policy=False),
    SettingKey("hmret.metrics_listen", text_of("host:port"), policy=False),
    SettingKey("hmret.journal", BOOLEAN, policy=False),
)

SIZE_KEYS: Collection[str] = frozenset(key.name for key in KEYS if key.kind in (SIZE, AMOUNT))
"""The settings whose whole numbers are bytes."""


PATH_KEYS: Collection[str] = frozenset(("data_dir", "hmret.control_socket"))
"""The settings that are paths, in which a leading `~/` is the home of the user."""


@frozen
class ReadSetting:
    """A value that was read, and where."""

    place: SourceLocation
    value: Any


def change_config(base: RetentionConfig, settings: Mapping[str, ReadSetting]) -> RetentionConfig:
    """Put settings, by dotted key, in the place of those that a configuration has.

    Raises:
        ConfigError: two settings contradict each other.
    """
    changes: dict[str, dict[str, Any]] = {section: {} for section in ("", *SECTIONS)}
    for key in KEYS:
        if key.name in settings:
            changes[key.section if key.section in changes else ""][key.field] = settings[key.name].value
    parts: dict[str, Any] = {}
    for section, (attribute, _) in _PARTS.items():
        try:
            parts[attribute] = attrs.evolve(getattr(base, attribute), **changes[section])
        except ConfigError as error:
            field, _, problem = str(error).partition(": ")
            name = f"{section}.{field}"
            place = settings[name].place if name in settings else SourceLocation(name)
            raise place.error(problem) from None
    return attrs.evolve(base, **changes[""], **changes["hmret"], **parts)
