"""The schema of all settings, as declared by the fields of the configuration: keys, variables, kinds and defaults."""

import ast
import inspect
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import attrs

from hmret.model.errors import ConfigError
from hmret.model.policy.config import RetentionConfig
from hmret.model.policy.kinds import Declaration, Kind
from hmret.model.policy.rules import Rule
from hmret.model.values import frozen
from hmret.settings.source_location import SourceLocation, show

_MAX_PROBLEM = 160  # characters
_FLAGS = {
    "images.auto_delete.enabled": "--enable",
    "images.auto_delete.allowed": "--allow",
    "hmret.enabled": "--enable",
    "hmret.pinned": "--pin",
}


@frozen(eq=False)
class SettingSchema:
    """A setting, or a key of a rule."""

    key: str
    """Dotted."""
    owner: type
    """The class that has the field."""
    field: "attrs.Attribute[Any]"
    declared: Declaration
    part: str = ""
    """The field of the configuration that holds an instance of that class; empty: the class is the configuration itself, or a
    rule.
    """

    @property
    def name(self) -> str:
        """The name of the field."""
        return self.field.name

    @property
    def kind(self) -> Kind:
        return self.declared.kind

    @property
    def is_hypemans(self) -> bool:
        """Whether hypeman itself reads this key, from the same file or variable."""
        return not self.key.startswith("hmret.")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return self.key.upper().replace(".", "__")

    @property
    def flag(self) -> str:
        return _FLAGS.get(self.key, f"--{self.name.replace('_', '-')}")

    @property
    def may_be_unset(self) -> bool:
        """Whether None is a value, and the default."""
        return self.field.default is None

    @property
    def description(self) -> str:
        """What it means, and what 0 or empty does."""
        return _descriptions(self.owner).get(self.name, "")

    def check(self, place: SourceLocation, value: object) -> Any:
        """Check a value as the configuration would; returns what it makes of it.

        Raises:
            ConfigError: it is not usable; the message begins with `place`.
        """
        field: Any = self.field
        try:
            if field.converter is not None:
                value = field.converter(value)
            if field.validator is not None:
                field.validator(None, field, value)
        except ConfigError as error:
            raise place.error(show(str(error).removeprefix(f"{field.name}: "), _MAX_PROBLEM)) from None
        return value

    def given_in(self, config: RetentionConfig) -> Any:
        """Return the value that was given; None: unset."""
        return getattr(self._holder(config), self.name)

    def in_force_in(self, config: RetentionConfig) -> Any:
        """Return the value that counts."""
        return getattr(self._holder(config), self.declared.in_force or self.name)

    def _holder(self, config: RetentionConfig) -> object:
        return getattr(config, self.part) if self.part else config


@cache
def _descriptions(cls: type) -> Mapping[str, str]:
    """Return the docstrings of the fields of a class, which are read from its source."""
    (body,) = ast.parse(inspect.getsource(cls)).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(
                value=ast.Constant(value=str(description))
            ):
                found[name] = " ".join(description.split())
    return found


def _settings_of(cls: type, section: str, part: str = "") -> Iterator[SettingSchema]:
    for field in _fields_in_order(cls):
        declared = field.metadata[Declaration]
        if declared.kind.name == "section":
            assert field.type is not None
            yield from _settings_of(field.type, declared.key, field.name)
        else:
            yield SettingSchema(declared.key or f"{section}.{field.name}", cls, field, declared, part)


def _fields_in_order(cls: type) -> "Iterable[attrs.Attribute[Any]]":
    fields = {field.name: field for field in attrs.fields(cls) if Declaration in field.metadata}
    names = [*fields]
    for name, field in fields.items():
        following = field.metadata[Declaration].shown_before
        if following:
            names.remove(name)
            names.insert(names.index(following), name)
    return [fields[name] for name in names]


SETTING_SCHEMAS = tuple(_settings_of(RetentionConfig, "hmret"))
"""The schemas of all settings, in the order in which they are shown."""

RULE_SCHEMAS = tuple(_settings_of(Rule, "hmret.rules"))
"""The schemas of the keys of a rule."""

SECTIONS = ("hmret", *sorted({setting.key.rpartition(".")[0] for setting in SETTING_SCHEMAS if setting.part}))
"""The sections in which an unknown key is an error; everywhere else it is one of hypeman's own."""

ALL_SECTIONS = frozenset(
    ".".join(setting.key.split(".")[:depth])
    for setting in SETTING_SCHEMAS
    for depth in range(setting.key.count(".") + 1)
)
"""The same for a file that may hold only hmret's keys; the empty one is the file itself."""


def change_config(
    base: RetentionConfig,
    values: Mapping[str, object],
    places: Mapping[str, SourceLocation] = MappingProxyType({}),
) -> RetentionConfig:
    """Replace settings of a configuration by others, given by dotted key.

    Raises:
        ConfigError: two settings contradict each other; the message begins with the place of one of them.
    """
    changes: dict[str, dict[str, Any]] = {"": {}}
    for setting in SETTING_SCHEMAS:
        if setting.key in values:
            changes.setdefault(setting.part, {})[setting.name] = values[setting.key]
    parts: dict[str, Any] = {}
    for part in filter(None, changes):
        try:
            parts[part] = attrs.evolve(getattr(base, part), **changes[part])
        except ConfigError as error:
            field, _, problem = str(error).partition(": ")
            (key,) = (one.key for one in SETTING_SCHEMAS if (one.part, one.name) == (part, field))
            raise places.get(key, SourceLocation(key)).error(problem) from None
    return attrs.evolve(base, **changes[""], **parts)
