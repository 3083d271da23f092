"""`check-config`: every setting, where it came from, and what is probably not meant."""

from collections.abc import Iterator, Mapping
from typing import Annotated

import attrs
from cyclopts import Parameter

from hmret.api.wire.documents import check_config_document
from hmret.cli.display.output import printable, write_json, write_result
from hmret.cli.display.tables import format_table
from hmret.cli.parsing.fewer_options import CHECKING, Checking
from hmret.disk.data_dir_warnings import try_leases
from hmret.disk.filesystem import NATIVE
from hmret.model.durations import format_duration, format_span
from hmret.model.sizes import format_exact_size
from hmret.model.times import SECOND
from hmret.settings.keys import SIZE_KEYS
from hmret.settings.load import Settings

__all__ = ["check_config"]

_OF_RULES = ("unused_for",)
"""Durations within a rule of hmret's own, by the names that they have there."""
_WORDS: Mapping[object, str] = {None: "unset", True: "true", False: "false", "": '""'}


def check_config(
    *,
    quiet: Annotated[
        bool, Parameter(help="Print nothing where the settings can be used.", negative=())
    ] = False,
    common: Checking = CHECKING,
) -> int:
    """Tell every effective setting and where it came from."""
    settings = common.settings()
    if quiet:
        return 0
    # The one command that may try something on the disk for an answer.
    settings = attrs.evolve(settings, warnings=(*settings.warnings, *try_leases(settings.config.data_dir)))
    if common.json:
        write_json(check_config_document(settings))
    else:
        write_result("\n".join(_tell(settings)))
    return 0


def _tell(settings: Settings) -> Iterator[str]:
    rows = []
    for key, setting in settings.values.items():
        value = setting.value
        rows.append([key, _put(key, value), setting.source])
        if isinstance(value, list):
            rules = [element for element in value if isinstance(element, Mapping)]
            rows.extend(
                [f"  rule {number}", _put_rule(rule), ""] for number, rule in enumerate(rules, start=1)
            )
    yield format_table(rows, titles=("setting", "value", "source")).rstrip("\n")
    yield f"config file: {printable(', '.join(settings.config_files) or 'none')}"
    if not NATIVE:
        yield "native core: none; hmret works without it, and reads a large cache more slowly"
    yield f"retention is {'enabled' if settings.config.active else 'disabled'}"
    for warning in settings.warnings:
        yield f"warning: {printable(warning)}"


def _put(key: str, value: object) -> str:
    match value:
        case None | bool() | "":
            return _WORDS[value]
        case int() if key in SIZE_KEYS:
            return format_exact_size(value)
        case float():  # only durations are: seconds
            # As the file that the key stands in has it.
            write = format_span if key.startswith("hmret.") or key in _OF_RULES else format_duration
            return write(round(value * SECOND))
        case [Mapping(), *others]:  # a line follows for each
            return f"{1 + len(others)} rule{'s' if others else ''}"
        case list():
            return f"[{', '.join(map(str, value))}]"
    return str(value)


def _put_rule(rule: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {_put(name, value)}" for name, value in rule.items() if value is not None)
