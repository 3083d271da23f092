"""Log lines on standard error: one event a line, for people or as JSON."""

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Literal

from hmret.cli.output import printable
from hmret.disk.settings import Settings
from hmret.engine.log import log_event
from hmret.model.times import format_time

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

__all__ = ["LogFormat", "LogLevel", "log_warnings", "logging_to_stderr"]

LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

_LEVELS: Mapping[LogLevel, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_LEVEL_WIDTH = 7


@contextmanager
def logging_to_stderr(log_format: LogFormat, level: LogLevel) -> Iterator[None]:
    """Write what is logged inside the block to standard error; `level` is that of our own events."""
    root, own = logging.getLogger(), logging.getLogger("hmret")
    before = own.level
    handler = _Lines(log_format)
    own.setLevel(_LEVELS[level])
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        own.setLevel(before)


def log_warnings(settings: Settings) -> None:
    """Log what is allowed in the settings but probably not meant."""
    for warning in settings.warnings:
        log_event(logging.WARNING, "setting_doubtful", detail=warning)


class _Lines(logging.Handler):
    """Writes to whatever standard error is at the moment: a progress bar puts itself in its place.

    What makes the lines is loaded with the first of them: most commands have nothing to log.
    """

    def __init__(self, log_format: LogFormat) -> None:
        super().__init__()
        self._log_format = log_format

    def format(self, record: logging.LogRecord) -> str:
        """Make a line of a record."""
        if self.formatter is None:
            self.formatter = _formatter(self._log_format)
        return self.formatter.format(record)

    def emit(self, record: logging.LogRecord) -> None:
        if sys.stderr is None:
            return
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:  # noqa: BLE001 - the boundary: a line that cannot be written never fails who logs it
            self.handleError(record)


def _formatter(log_format: LogFormat) -> logging.Formatter:
    from structlog.processors import JSONRenderer, format_exc_info  # noqa: PLC0415 - only those that log wait for it
    from structlog.stdlib import ProcessorFormatter  # noqa: PLC0415

    rendering = [JSONRenderer(default=str)] if log_format == "json" else [_keep_on_the_line, _console()]
    return ProcessorFormatter(processors=[_take_event, format_exc_info, *rendering])


def _console() -> "Processor":
    """Make what writes a line for people: time, level and event, and then keys with their values."""
    from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter  # noqa: PLC0415

    bare = partial(KeyValueColumnFormatter, None, "", "")
    columns = [
        Column("timestamp", bare(str)),
        Column("level", bare(str, width=_LEVEL_WIDTH)),
        Column("event", bare(printable)),
        Column("", KeyValueColumnFormatter("", "", "", _quoted)),
    ]
    return ConsoleRenderer(columns=columns, sort_keys=False)


def _take_event(_logger: object, _method: str, line: "EventDict") -> "EventDict":
    """Take the event and its keys from a record; what others have logged is an event without keys."""
    record: logging.LogRecord = line["_record"]
    event, keys = getattr(record, "hmret_event", None) or (line["event"], {})
    head = {"timestamp": _time(record), "level": record.levelname.lower(), "event": event}
    return {**head, **keys, **({"exc_info": line["exc_info"]} if "exc_info" in line else {})}


def _keep_on_the_line(_logger: object, _method: str, line: "EventDict") -> "EventDict":
    """Call a traceback something that is not written below the line."""
    if "exception" in line:
        line["traceback"] = line.pop("exception")
    return line


def _quoted(value: object) -> str:
    text = str(value)
    if text and text.isprintable() and not set(text) & set(' "=\\'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(escaped)}"'


def _time(record: logging.LogRecord) -> str:
    return format_time(int(record.created * 1e6) * 1000)
