"""`check-config`: every setting, its origin, and what is probably unintended."""

import os
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import attrs
from cyclopts import Parameter

from hmret.api.http.control_socket import check_control_socket
from hmret.cli.display.output import printable
from hmret.cli.display.tables import format_table
from hmret.cli.parsing.fewer_options import CHECKING, Checking
from hmret.disk.data_dir_warnings import try_leases
from hmret.disk.filesystem import NATIVE
from hmret.model.policy.config import RetentionConfig
from hmret.model.policy.kinds import RULES
from hmret.settings.load import Settings
from hmret.settings.setting_table import RULE_SCHEMAS, SETTING_SCHEMAS
from hmret.settings.writing import write_value


def check_config(
    *,
    quiet: Annotated[bool, Parameter(help="Print nothing if the settings are usable.", negative=())] = False,
    common: Checking = CHECKING,
) -> int:
    """Show every effective setting and where it came from."""
    settings = common.settings()
    doubts = _check_files(settings.config)
    if quiet:
        return 0
    # The only command that may test something on the disk for its result.
    settings = attrs.evolve(
        settings, warnings=(*settings.warnings, *doubts, *try_leases(settings.config.data_dir))
    )
    values = {
        key: {"value": one.value, "source": one.source} | ({} if one.path is None else {"path": one.path})
        for key, one in settings.values.items()
    }
    common.write({"settings": values, "warnings": list(settings.warnings)}, _tell(settings))
    return 0


def _check_files(config: RetentionConfig) -> tuple[str, ...]:
    """Look at what an engine finds only when it starts: its group, the place of its socket, its files for the fleet.

    Returns warnings.

    Raises:
        ConfigError: an engine would not start with these settings.
    """
    doubts: tuple[str, ...] = ()
    if config.fleet.is_set:
        from hmret.fleet.credentials import check_files  # noqa: PLC0415 - only where there is a fleet

        doubts = tuple(check_files(config.fleet))
    check_control_socket(config, os.environ)
    return doubts


def _tell(settings: Settings) -> Iterator[str]:
    rows = []
    for setting in SETTING_SCHEMAS:
        found = settings.values[setting.key]
        rules: list[Any] = found.value if setting.kind is RULES and isinstance(found.value, list) else []
        written = write_value(setting, found.value) or "unset"
        if rules:  # a line follows for each rule
            written = f"{len(rules)} rule{'s' if len(rules) > 1 else ''}"
        # With a single file, the line below the table is enough.
        is_one_of_two = found.path is not None and len(settings.config_files) > 1
        source = f"{found.source} {found.path}" if is_one_of_two else found.source
        rows.append([setting.key, written, source])
        rows.extend([f"  rule {number}", _put_rule(rule), ""] for number, rule in enumerate(rules, start=1))
    yield format_table(rows, titles=("setting", "value", "source"))
    yield f"config file: {printable(', '.join(settings.config_files) or 'none')}"
    if not NATIVE:
        yield "native core: none; hmret works without it, but scans a large cache more slowly"
    yield f"retention is {'enabled' if settings.config.active else 'disabled'}"
    for warning in settings.warnings:
        yield f"warning: {printable(warning)}"


def _put_rule(rule: Mapping[str, object]) -> str:
    values = {one.name: write_value(one, rule[one.name]) for one in RULE_SCHEMAS}
    return ", ".join(f"{name} {written}" for name, written in values.items() if written)
