"""The settings of one engine, gathered from flags, the environment, hypeman's config file and the defaults.

Flags win over the environment, the environment over the file, the file over the defaults. Every value is checked
where it was read, even if another one wins over it, so that an error can name the line, the variable or the flag.
"""

import os
import pathlib
import stat
from collections.abc import Mapping, Sequence

import attrs

from hmret.disk.places import Place, name_unknown
from hmret.disk.setting_keys import KEYS, SECTIONS, ReadSetting, change_config
from hmret.disk.setting_values import TypedValue, Value, VariableValue
from hmret.disk.setting_warnings import Setting, Source, reason_of, warnings_about
from hmret.disk.yaml_values import NodeValue, find_values, read_yaml
from hmret.model.config import RetentionConfig

__all__ = ["Settings", "load_settings"]

_PREFIXES = ("IMAGES__AUTO_DELETE__", "HMRET__")
_MAX_FILE_BYTES = 1 << 20


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
    given: tuple[tuple[Source, Mapping[str, Value]], ...] = (
        ("file", {} if file is None else file.values()),
        ("environment", _variable_values(environment)),
        ("flag", _flag_values(flags)),
    )
    found: dict[str, ReadSetting] = {}
    sources: dict[str, Source] = {}
    for source, values in given:
        for key in KEYS:
            if key.name in values:
                value = values[key.name]
                found[key.name] = ReadSetting(value.place, key.read(value))
                sources[key.name] = source
    config = change_config(RetentionConfig(), found)
    effective = {key.name: Setting(key.value_in(config), sources.get(key.name, "default")) for key in KEYS}
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
        root = read_yaml(self.path, text, "the file")
        return {} if root is None else find_values(root, [key.name for key in KEYS], SECTIONS)


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


def _variable_values(environment: Mapping[str, str]) -> Mapping[str, VariableValue]:
    keys = {key.variable: key.name for key in KEYS}
    values = {}
    for variable in sorted(environment):
        place = Place(f"environment variable {variable}")
        prefix = next((prefix for prefix in _PREFIXES if variable.startswith(prefix)), None)
        if variable in keys:
            values[keys[variable]] = VariableValue(place, environment[variable])
        elif prefix is not None:
            inside = [known for known in keys if known.startswith(f"{variable}__")]
            if inside:
                raise place.error(f"expected a variable for each of its keys, which are {', '.join(inside)}")
            raise place.error(name_unknown(variable, [known for known in keys if known.startswith(prefix)]))
    return values


def _flag_values(flags: Mapping[str, object]) -> Mapping[str, TypedValue]:
    keys = {key.name: key for key in KEYS}
    return {
        name: TypedValue(Place(keys[name].flag), value) for name, value in flags.items() if value is not None
    }
