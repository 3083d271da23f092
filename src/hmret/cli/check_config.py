"""`check-config`: every setting, where it came from, and what is probably not meant."""

from collections.abc import Iterator

from hmret.api.documents import check_config_document
from hmret.cli.options import DEFAULTS, Common
from hmret.cli.output import printable, write_json, write_result
from hmret.cli.tables import format_table
from hmret.disk.settings import Settings
from hmret.model.durations import format_duration
from hmret.model.times import SECOND

__all__ = ["check_config"]


def check_config(*, common: Common = DEFAULTS) -> int:
    """Tell every effective setting and where it came from."""
    settings = common.settings()
    if common.json:
        write_json(check_config_document(settings))
    else:
        write_result("\n".join(_tell(settings)))
    return 0


def _tell(settings: Settings) -> Iterator[str]:
    rows = [[key, _put(setting.value), setting.source] for key, setting in settings.values.items()]
    yield format_table(rows, titles=("setting", "value", "source")).rstrip("\n")
    yield f"config file: {printable(settings.config_file or 'none')}"
    yield f"retention is {'enabled' if settings.config.active else 'disabled'}"
    for warning in settings.warnings:
        yield f"warning: {printable(warning)}"


def _put(value: object) -> str:
    match value:
        case None:
            return "unset"
        case bool():
            return "true" if value else "false"
        case float():  # only durations are: seconds
            return format_duration(round(value * SECOND))
        case list():
            return f"[{', '.join(map(str, value))}]"
        case "":
            return '""'
    return str(value)
