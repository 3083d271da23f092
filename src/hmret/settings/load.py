"""The settings of one engine, gathered from flags, the environment, config files and the defaults.

The config files are hypeman's and `/etc/hmret/config.yaml`, or the one file that is named instead. Flags win over the
environment, the environment over the files, the files over the defaults. Every value is checked
where it was read, even if another one wins over it, so that an error can name the line, the variable or the flag.
"""

import os
from collections.abc import Callable, Collection, Mapping, Sequence

import attrs

from hmret.model.policy.config import RetentionConfig
from hmret.model.policy.kinds import PATH
from hmret.model.values import frozen
from hmret.settings.config_files import HYPEMAN_FILES, OWN_FILE, ConfigFile, find_config_files, in_home
from hmret.settings.effective import EffectiveSetting, Source
from hmret.settings.given_values import Form, GivenValue, Node, typed_node
from hmret.settings.hypeman_settings import neighbour_values
from hmret.settings.reading import read_setting
from hmret.settings.setting_table import ALL_SECTIONS, SECTIONS, SETTING_SCHEMAS, change_config
from hmret.settings.source_location import SourceLocation, name_unknown, show
from hmret.settings.unread_keys import doubt_keys
from hmret.settings.warnings import warnings_about
from hmret.settings.writing import show_value

_PREFIXES = ("IMAGES__AUTO_DELETE__", "HMRET__")


@frozen
class Settings:
    """All settings of one engine."""

    config: RetentionConfig
    values: Mapping[str, EffectiveSetting]
    """Every setting by its dotted key, always in the same order."""
    warnings: tuple[str, ...]
    """What is valid but probably not intended; one line each."""
    config_files: Mapping[str, bool] = attrs.field(factory=dict)
    """Each file that was read, and whether it held anything."""


def load_settings(
    *,
    config_file: str | None,
    environment: Mapping[str, str],
    flags: Mapping[str, object],
    default_files: Sequence[str] = HYPEMAN_FILES,
    own_file: str | None = OWN_FILE,
    earlier: Settings | None = None,
    ask_disk: Callable[[RetentionConfig], Sequence[str]] = lambda _: (),
    disk_size: Callable[[RetentionConfig], int | None] = lambda _: None,
    node_name: Callable[[], str] = lambda: os.uname().nodename,
) -> Settings:
    """Gather the settings of one engine; reads at most two config files.

    The file is `config_file`, else the one that HMRET_CONFIG names; else the one that CONFIG_PATH names, or the first of
    `default_files` that exists, and in addition `own_file` if it exists. `flags` are values by dotted key, typed as the
    command line has them, durations as text; None: not given. An empty variable is not given either.

    At a reload, `earlier` are the settings to be replaced. Then a file that is not a regular one is refused, since reading
    it may block, and so is one that has become empty or is gone, since its settings would be lost silently.

    `ask_disk` returns warnings about settings that the disk contradicts; `disk_size` the bytes of the images' file
    system, None where unknown, with which other warnings compare sizes; `node_name` what this host calls itself, which
    is its name in a fleet where none is given.

    Raises:
        UnavailableError: a config file that is named does not exist.
        ConfigError: the file cannot be read or a setting is not usable; the message is one line.
        KeyError: `flags` holds a key that is not a setting.
    """
    # guard(reload-reads-plain-files): A pipe in the place of a config file would make a running service wait for
    # ever, so a reload reads regular files only.
    files = find_config_files(
        config_file,
        environment,
        hypeman_files=default_files,
        own_file=own_file,
        regular_only=earlier is not None,
    )
    documents = [(file, _read_document(file)) for file in files]
    from_files, paths = _file_values(documents)
    held = {file.path: root is not None for file, root in documents}
    if earlier is not None:
        _refuse_lost(earlier.config_files, held)
    given: tuple[tuple[Source, Mapping[str, GivenValue]], ...] = (
        ("file", from_files),
        ("environment", _variable_values(environment)),
        ("flag", _flag_values(flags)),
    )
    found: dict[str, object] = {}
    places: dict[str, SourceLocation] = {}
    sources: dict[str, Source] = {}
    for source, values in given:
        for setting in SETTING_SCHEMAS:
            value = values.get(setting.key)
            if value is not None:
                read = read_setting(setting, value)
                read = in_home(read, environment) if setting.kind is PATH else read
                found[setting.key], places[setting.key], sources[setting.key] = read, value.place, source
    config = change_config(RetentionConfig(), found, places)
    if config.fleet.is_set:
        host = config.fleet.host_on(node_name())
        config = attrs.evolve(config, fleet=attrs.evolve(config.fleet, host=host))
    effective = {
        one.key: EffectiveSetting(
            show_value(one, one.in_force_in(config)),
            source := sources.get(one.key, "default"),
            paths[one.key] if source == "file" else None,
            places[one.key].text.removesuffix(f": {one.key}") if one.key in places else None,
        )
        for one in SETTING_SCHEMAS
    }
    neighbours = neighbour_values([root for _, root in documents], environment)
    open_to_all = "every user of this host may write it, and so choose what is deleted"
    warnings = (
        *(f"{file.path!r}: {open_to_all}" for file in files if file.writable_by_all),
        *(warning for file, root in documents if not file.is_own for warning in doubt_keys(root)),
        *ask_disk(config),
        *warnings_about(config, effective, neighbours, disk_size(config)),
    )
    return Settings(config, effective, warnings, held)


def _read_document(file: ConfigFile) -> GivenValue | None:
    from hmret.settings.yaml_nodes import read_yaml  # noqa: PLC0415 - without a file PyYAML is not loaded

    return read_yaml(file.path, file.text(), "the file")


def _file_values(
    documents: Sequence[tuple[ConfigFile, GivenValue | None]],
) -> tuple[Mapping[str, GivenValue], Mapping[str, str]]:
    """Merge the values of the files; returns them and the path of each. Raises ConfigError where two files set one key."""
    together: dict[str, GivenValue] = {}
    paths: dict[str, str] = {}
    for file, root in documents:
        values = {} if root is None else _values_in(root, ALL_SECTIONS if file.is_own else SECTIONS)
        for key, value in values.items():
            if key in together:
                raise value.place.error(f"set in two files; also at {together[key].place.text}")
        together.update(values)
        paths.update(dict.fromkeys(values, file.path))
    return together, paths


def _values_in(root: GivenValue, sections: Collection[str]) -> Mapping[str, GivenValue]:
    """Collect the values that a document gives to our keys; one that is null, or below a null, is not given.

    In `sections` unknown keys are refused; in the other mappings on the way they are hypeman's own.
    """
    keys = [setting.key for setting in SETTING_SCHEMAS]
    found = {}
    pending = [("", root)]
    while pending:
        prefix, mapping = pending.pop()
        names = dict.fromkeys(key[len(prefix) :].split(".")[0] for key in keys if key.startswith(prefix))
        for value in mapping.fields(names, prefix=prefix, strict=prefix.rstrip(".") in sections):
            if value.name in keys:
                found[value.name] = value
            else:
                pending.append((f"{value.name}.", value))
    return found


def _refuse_lost(earlier: Mapping[str, bool], now: Mapping[str, bool]) -> None:
    """Refuse a reload that would lose the settings of a file that was read before."""
    for path, held_anything in earlier.items():
        # guard(lost-config-is-refused): Without a config file that was read before, pins and rules would be gone in
        # silence; a reload keeps those in force.
        if path not in now:
            raise SourceLocation(path).error("expected the config file that was read before, got none")
        # guard(emptied-config-is-refused): A config file may be empty for a moment while it is written; a reload
        # keeps the pins and rules in force.
        if held_anything and not now[path]:
            raise SourceLocation(path).error("expected settings, got a file that has become empty")


def _variable_values(environment: Mapping[str, str]) -> Mapping[str, GivenValue]:
    keys = {setting.variable: setting.key for setting in SETTING_SCHEMAS}
    values = {}
    for variable in sorted(environment):
        name = f"environment variable {variable}"
        prefix = next((prefix for prefix in _PREFIXES if variable.startswith(prefix)), None)
        # guard(empty-variable-not-given): Compose and unit files set variables to nothing; that must not take away a
        # pin, a rule or a limit.
        if not environment[variable]:
            continue  # as hypeman's loader has it
        if variable in keys:
            text = environment[variable]
            values[keys[variable]] = GivenValue(Node(text, repr(show(text))), name, Form.VARIABLE)
        elif prefix is not None:
            inside = [known for known in keys if known.startswith(f"{variable}__")]
            known = [known for known in keys if known.startswith(prefix)]
            raise SourceLocation(name).error(
                f"expected a variable for each of its keys, which are {', '.join(inside)}"
                if inside
                else name_unknown(variable, known)
            )
    return values


def _flag_values(flags: Mapping[str, object]) -> Mapping[str, GivenValue]:
    keys = {setting.key: setting for setting in SETTING_SCHEMAS}
    return {
        key: GivenValue(typed_node(value), keys[key].flag, Form.OPTION)
        for key, value in flags.items()
        if value is not None
    }
