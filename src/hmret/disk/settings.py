"""The settings of one engine, gathered from flags, the environment, hypeman's config file and the defaults.

Flags win over the environment, the environment over the file, the file over the defaults. Every value is checked
where it was read, even if another one wins over it, so that an error can name the line, the variable or the flag.
"""

import os
import pathlib
import stat
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

import attrs

from hmret.disk.setting_warnings import Setting, Source, reason_of, warnings_about
from hmret.disk.yaml_nodes import (
    COUNT,
    COUNT_EXPECTED,
    NodeValue,
    Place,
    compose,
    find_values,
    name_unknown,
    show,
)
from hmret.model.config import AutoDelete, RetentionConfig
from hmret.model.durations import parse_duration
from hmret.model.errors import ConfigError

__all__ = ["Settings", "load_settings"]

_AUTO_DELETE = "images.auto_delete"
_SECTIONS = (_AUTO_DELETE, "hmret")  # hypeman's own keys are everywhere else
_PREFIXES = ("IMAGES__AUTO_DELETE__", "HMRET__")
_COUNT_END = 10**18
_MAX_FILE_BYTES = 1 << 20
_MAX_PROBLEM = 160  # characters
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
_FLAGS = {
    "images.auto_delete.enabled": "--enable",
    "images.auto_delete.allowed": "--allow",
    "hmret.enabled": "--enable",
    "hmret.pinned": "--pin",
}


@attrs.frozen
class Settings:
    """All settings of one engine."""

    config: RetentionConfig
    values: Mapping[str, Setting]
    """Every setting by its dotted key, always in the same order."""
    config_file: str | None
    """The file that was read; None: none."""
    warnings: tuple[str, ...]
    """What is allowed but probably not meant; one line each."""


class _Value(Protocol):
    """A value as its source has it; each call raises ConfigError where it is something else."""

    @property
    def place(self) -> Place: ...
    def boolean(self) -> bool: ...
    def count(self) -> int: ...
    def text(self, expected: str) -> str: ...
    def texts(self, expected: str) -> list[tuple[Place, str]]: ...


@attrs.frozen
class _VariableValue:
    """The text of an environment variable."""

    place: Place
    content: str

    def boolean(self) -> bool:
        if self.content not in _TRUE + _FALSE:  # the spellings of Go's strconv.ParseBool
            raise self.place.error(f"expected true or false, got {show(self.content)!r}")
        return self.content in _TRUE

    def count(self) -> int:
        if COUNT.fullmatch(self.content) is None:
            raise self.place.error(f"expected {COUNT_EXPECTED}, got {show(self.content)!r}")
        return int(self.content)

    def text(self, expected: str) -> str:  # noqa: ARG002 - a variable is always a text
        return self.content

    def texts(self, expected: str) -> list[tuple[Place, str]]:
        elements = self.content.split(",") if self.content else []
        if not all(element.strip() for element in elements):
            raise self.place.error(f"expected {expected} between commas, got {show(self.content)!r}")
        return [(self.place, element) for element in elements]


@attrs.frozen
class _FlagValue:
    """A value that the command line has typed already."""

    place: Place
    content: object

    def boolean(self) -> bool:
        if not isinstance(self.content, bool):
            raise self._unexpected("true or false")
        return self.content

    def count(self) -> int:
        if isinstance(self.content, bool) or not isinstance(self.content, int):
            raise self._unexpected(COUNT_EXPECTED)
        if not 0 <= self.content < _COUNT_END:
            raise self.place.error(f"expected {COUNT_EXPECTED}, got one out of range")
        return self.content

    def text(self, expected: str) -> str:
        if not isinstance(self.content, str):
            raise self._unexpected(expected)
        return self.content

    def texts(self, expected: str) -> list[tuple[Place, str]]:
        if isinstance(self.content, str) or not isinstance(self.content, Sequence):
            raise self._unexpected(f"a list, each element {expected}")
        elements = [_FlagValue(self.place, element) for element in self.content]
        return [(self.place, element.text(expected)) for element in elements]

    def _unexpected(self, expected: str) -> ConfigError:
        return self.place.error(f"expected {expected}, got {show(repr(self.content))}")


@attrs.frozen
class _Key:
    """A setting: its dotted key, how it is read, and what a text of it must be."""

    name: str
    read: "Callable[[_Key, _Value], object]"
    expected: str = ""

    @property
    def field(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def owner(self) -> Callable[..., Any]:
        """The class whose field this is."""
        return AutoDelete if self.name.startswith(_AUTO_DELETE) else RetentionConfig

    def value_in(self, config: RetentionConfig) -> object:
        """The effective value, ready for JSON."""
        value = getattr(config.auto_delete if self.owner is AutoDelete else config, self.field)
        match value:
            case timedelta():
                return value.total_seconds()
            case tuple():
                return list(value)
        return value

    @property
    def variable(self) -> str:
        return self.name.upper().replace(".", "__")

    @property
    def flag(self) -> str:
        return _FLAGS.get(self.name, f"--{self.field.replace('_', '-')}")

    def check(self, place: Place, value: object) -> Any:
        """Let the owner check the value; what it finds is told with the place."""
        try:
            return getattr(self.owner(**{self.field: value}), self.field)
        except ConfigError as error:
            raise place.error(show(str(error).removeprefix(f"{self.field}: "), _MAX_PROBLEM)) from None


def _read_boolean(_key: _Key, value: _Value) -> bool:
    return value.boolean()


def _read_count(_key: _Key, value: _Value) -> int:
    return value.count()


def _read_text(key: _Key, value: _Value) -> object:
    return key.check(value.place, _check_unicode(value.place, value.text(key.expected)))


def _read_duration(key: _Key, value: _Value) -> object:
    text = value.text(key.expected)
    try:
        nanoseconds = parse_duration(text)
    except ValueError:
        raise value.place.error(f"expected {key.expected}, got {show(text)!r}") from None
    if nanoseconds <= 0:
        raise value.place.error(f"expected a duration of more than zero, got {show(text)!r}")
    return timedelta(microseconds=-(-nanoseconds // 1000))


def _read_patterns(key: _Key, value: _Value) -> tuple[str, ...]:
    patterns: list[str] = []
    for place, text in value.texts(key.expected):
        patterns.extend(key.check(place, [_check_unicode(place, text)]))
    return tuple(patterns)


def _check_unicode(place: Place, text: str) -> str:
    # Bytes of the environment that are not UTF-8 arrive as lone surrogates, which no report could print.
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise place.error(f"expected UTF-8, got {show(text)!r}")
    return text


_DURATION = "a Go duration of at most 2562047h, such as 720h or 1h30m (days are not a unit)"
_PATTERN = "a repository pattern"
_KEYS = (
    _Key("data_dir", _read_text, "a path"),
    _Key("images.auto_delete.enabled", _read_boolean),
    _Key("images.auto_delete.unused_for", _read_duration, _DURATION),
    _Key("images.auto_delete.allowed", _read_patterns, _PATTERN),
    _Key("hmret.enabled", _read_boolean),
    _Key("hmret.sweep_interval", _read_duration, _DURATION),
    _Key("hmret.pinned", _read_patterns, _PATTERN),
    _Key("hmret.max_deletes_per_sweep", _read_count),
    _Key("hmret.unreadable_references", _read_text, "suspend or ignore"),
    _Key("hmret.control_socket", _read_text, "a path"),
    _Key("hmret.metrics_listen", _read_text, "host:port"),
    _Key("hmret.journal", _read_boolean),
)


def load_settings(
    *,
    config_file: str | None,
    environment: Mapping[str, str],
    flags: Mapping[str, object],
    default_files: Sequence[str] = ("/etc/hypeman/config.yaml",),
) -> Settings:
    """Gather the settings of one engine; reads at most one config file.

    The file is `config_file`, else what the variable HMRET_CONFIG names, else the first of `default_files` that is
    there. `flags` are values by dotted key, typed as the command line has them, durations as text; None: not given.

    Raises:
        ConfigError: the file cannot be read or a setting is not usable; the message is one line.
        KeyError: `flags` holds a key that is no setting.
    """
    file = _open_config_file(config_file, environment, default_files)
    given: tuple[tuple[Source, Mapping[str, _Value]], ...] = (
        ("file", {} if file is None else file.values()),
        ("environment", _variable_values(environment)),
        ("flag", _flag_values(flags)),
    )
    found: dict[str, tuple[Source, Any]] = {}
    for source, values in given:
        found |= {key.name: (source, key.read(key, values[key.name])) for key in _KEYS if key.name in values}
    auto_delete, own = (
        {key.field: found[key.name][1] for key in _KEYS if key.name in found and key.owner is owner}
        for owner in (AutoDelete, RetentionConfig)
    )
    config = RetentionConfig(auto_delete=AutoDelete(**auto_delete), **own)
    effective = {
        key.name: Setting(key.value_in(config), found[key.name][0] if key.name in found else "default")
        for key in _KEYS
    }
    warnings = warnings_about(config, effective)
    if file is None:
        return Settings(config, effective, None, warnings)
    if file.writable_by_all:
        warnings = (
            f"{file.path!r}: every user of this host may write it, and so choose what is deleted",
            *warnings,
        )
    return Settings(config, effective, file.path, warnings)


@attrs.frozen
class _ConfigFile:
    """The config file as it was read."""

    path: str
    content: bytes
    writable_by_all: bool

    def values(self) -> Mapping[str, NodeValue]:
        try:
            text = self.content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            byte = error.object[error.start]
            raise Place(f"{self.path}:{line}").error(f"expected UTF-8, got the byte 0x{byte:02x}") from None
        root = compose(self.path, text)
        return {} if root is None else find_values(root, [key.name for key in _KEYS], _SECTIONS)


def _open_config_file(
    config_file: str | None, environment: Mapping[str, str], default_files: Sequence[str]
) -> _ConfigFile | None:
    named = config_file if config_file is not None else environment.get("HMRET_CONFIG") or None
    for path in default_files if named is None else (named,):
        try:
            return _read_config_file(path)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            absent = isinstance(error, FileNotFoundError | NotADirectoryError)
            if named is not None or not absent:
                raise Place(path or "the config file").error(
                    f"expected a readable file, got {reason_of(error)}"
                ) from None
    return None


def _read_config_file(path: str) -> _ConfigFile:
    with pathlib.Path(path).open("rb") as file:
        content = file.read(_MAX_FILE_BYTES + 1)
        mode = os.fstat(file.fileno()).st_mode
    if len(content) > _MAX_FILE_BYTES:
        raise Place(path).error(f"expected at most {_MAX_FILE_BYTES} bytes, got more")
    return _ConfigFile(path, content, stat.S_ISREG(mode) and bool(mode & stat.S_IWOTH))


def _variable_values(environment: Mapping[str, str]) -> Mapping[str, _VariableValue]:
    keys = {key.variable: key.name for key in _KEYS}
    values = {}
    for variable in sorted(environment):
        place = Place(f"environment variable {variable}")
        prefix = next((prefix for prefix in _PREFIXES if variable.startswith(prefix)), None)
        if variable in keys:
            values[keys[variable]] = _VariableValue(place, environment[variable])
        elif prefix is not None:
            raise place.error(name_unknown(variable, [known for known in keys if known.startswith(prefix)]))
    return values


def _flag_values(flags: Mapping[str, object]) -> Mapping[str, _FlagValue]:
    keys = {key.name: key for key in _KEYS}
    return {
        name: _FlagValue(Place(keys[name].flag), value) for name, value in flags.items() if value is not None
    }
