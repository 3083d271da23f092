"""The settings of one engine, gathered from flags, the environment, hypeman's config file and the defaults.

Flags win over the environment, the environment over the file, the file over the defaults. Every value is checked
where it was read, even if another one wins over it, so that an error can name the line, the variable or the flag.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from hmret.model.policy.config import RetentionConfig
from hmret.model.values import frozen
from hmret.settings.config_files import HYPEMAN_FILES, OWN_FILE, ConfigFile, find_config_files, in_home
from hmret.settings.keys import ALL_SECTIONS, KEYS, PATH_KEYS, SECTIONS, ReadSetting, change_config
from hmret.settings.neighbours import neighbour_values
from hmret.settings.raw_values import OptionValue, Value, VariableValue
from hmret.settings.source_location import SourceLocation, name_unknown
from hmret.settings.warnings import Setting, Source, warnings_about

if TYPE_CHECKING:
    from hmret.settings.yaml_values import NodeValue

__all__ = ["Settings", "load_settings"]

_PREFIXES = ("IMAGES__AUTO_DELETE__", "HMRET__")


@frozen
class Settings:
    """All settings of one engine."""

    config: RetentionConfig
    values: Mapping[str, Setting]
    """Every setting by its dotted key, always in the same order."""
    config_file: str | None
    """The file that was read, the first where there were two; None: none."""
    warnings: tuple[str, ...]
    """What is allowed but probably not meant; one line each."""
    config_files: Mapping[str, bool] = attrs.field(factory=dict)
    """Each file that was read, and whether anything stood in it."""


def load_settings(
    *,
    config_file: str | None,
    environment: Mapping[str, str],
    flags: Mapping[str, object],
    default_files: Sequence[str] = HYPEMAN_FILES,
    own_file: str | None = OWN_FILE,
    earlier: Settings | None = None,
    ask_disk: Callable[[RetentionConfig], Sequence[str]] = lambda _: (),
) -> Settings:
    """Gather the settings of one engine; reads at most two config files.

    The files are `config_file`, else what the variable HMRET_CONFIG names; else what the variable CONFIG_PATH names, or
    the first of `default_files` that is there, and `own_file` beside it where that is there. `flags` are values by dotted
    key, typed as the command line has them, durations as text; None: not given. A variable that is empty is not given.

    With the settings of `earlier`, which are to be replaced, no file keeps its reader waiting: one that is no regular file
    is refused. So is one that has become empty or has gone: what stood in it would be lost in silence.

    `ask_disk` looks whether the disk bears out what the settings say, and returns warnings.

    Raises:
        UnavailableError: a config file that is named is not there.
        ConfigError: the file cannot be read or a setting is not usable; the message is one line.
        KeyError: `flags` holds a key that is no setting.
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
    documents = [_Document.of(file) for file in files]
    if earlier is not None:
        _refuse_lost(earlier.config_files, documents)
    given: tuple[tuple[Source, Mapping[str, Value]], ...] = (
        ("file", _file_values(documents)),
        ("environment", _variable_values(environment)),
        ("flag", _flag_values(flags)),
    )
    found: dict[str, ReadSetting] = {}
    sources: dict[str, Source] = {}
    for source, values in given:
        for key in KEYS:
            if key.name in values:
                value = values[key.name]
                read = key.read(value)
                if key.name in PATH_KEYS:
                    read = in_home(read, environment)
                found[key.name] = ReadSetting(value.place, read)
                sources[key.name] = source
    config = change_config(RetentionConfig(), found)
    effective = {key.name: Setting(key.value_in(config), sources.get(key.name, "default")) for key in KEYS}
    neighbours = neighbour_values([document.root for document in documents], environment)
    warnings = (
        *(warning for document in documents for warning in document.warnings()),
        *ask_disk(config),
        *warnings_about(config, effective, neighbours),
    )
    return Settings(
        config,
        effective,
        files[0].path if files else None,
        warnings,
        {document.file.path: document.root is not None for document in documents},
    )


@frozen(eq=False)
class _Document:
    """A config file, and what stands in it."""

    file: ConfigFile
    root: "NodeValue | None"
    """None: nothing."""

    @classmethod
    def of(cls, file: ConfigFile) -> "_Document":
        from hmret.settings.yaml_values import read_yaml  # noqa: PLC0415 - where there is no file nobody waits for it

        return cls(file, read_yaml(file.path, file.text(), "the file"))

    def values(self) -> "Mapping[str, NodeValue]":
        if self.root is None:
            return {}
        from hmret.settings.yaml_values import find_values  # noqa: PLC0415 - the same

        sections = ALL_SECTIONS if self.file.is_own else SECTIONS
        return find_values(self.root, [key.name for key in KEYS], sections)

    def warnings(self) -> Sequence[str]:
        if not self.file.writable_by_all:
            return ()
        return (f"{self.file.path!r}: every user of this host may write it, and so choose what is deleted",)


def _file_values(documents: Sequence[_Document]) -> "Mapping[str, NodeValue]":
    """Put together what the files say.

    Raises:
        ConfigError: two of them say something of one key.
    """
    together: dict[str, NodeValue] = {}
    for document in documents:
        values = document.values()
        for key, value in values.items():
            if key in together:
                raise value.place.error(f"expected in one file, got it at {together[key].place.text} as well")
        together.update(values)
    return together


def _refuse_lost(earlier: Mapping[str, bool], documents: Sequence[_Document]) -> None:
    """Refuse to go on without what stood in a file that was read before."""
    now = {document.file.path: document.root is not None for document in documents}
    for path, held_anything in earlier.items():
        # guard(lost-config-is-refused): Without a config file that was read before, pins and rules would be gone in
        # silence; a reload keeps those in force.
        if path not in now:
            raise SourceLocation(path).error("expected the config file that was read before, got none")
        # guard(emptied-config-is-refused): A config file may be empty for a moment while it is written; a reload
        # keeps the pins and rules in force.
        if held_anything and not now[path]:
            raise SourceLocation(path).error("expected settings, got a file that has become empty")


def _variable_values(environment: Mapping[str, str]) -> Mapping[str, VariableValue]:
    keys = {key.variable: key.name for key in KEYS}
    values = {}
    for variable in sorted(environment):
        place = SourceLocation(f"environment variable {variable}")
        prefix = next((prefix for prefix in _PREFIXES if variable.startswith(prefix)), None)
        # guard(empty-variable-not-given): Compose and unit files set variables to nothing; that must not take away a
        # pin, a rule or a limit.
        if not environment[variable]:
            continue  # as hypeman's loader has it; compose files and unit files make such variables
        if variable in keys:
            values[keys[variable]] = VariableValue(place, environment[variable])
        elif prefix is not None:
            inside = [known for known in keys if known.startswith(f"{variable}__")]
            if inside:
                raise place.error(f"expected a variable for each of its keys, which are {', '.join(inside)}")
            raise place.error(name_unknown(variable, [known for known in keys if known.startswith(prefix)]))
    return values


def _flag_values(flags: Mapping[str, object]) -> Mapping[str, OptionValue]:
    keys = {key.name: key for key in KEYS}
    return {
        name: OptionValue(SourceLocation(keys[name].flag), value)
        for name, value in flags.items()
        if value is not None
    }
