"""Log lines on standard error: one event a line, for people or as JSON."""

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

from hmret.cli.output import printable
from hmret.disk.settings import Settings
from hmret.engine.log import log_event
from hmret.model.times import format_time

__all__ = ["LogFormat", "LogLevel", "log_warnings", "logging_to_stderr"]

LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

_LEVELS: Mapping[LogLevel, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_traceback = logging.Formatter()


@contextmanager
def logging_to_stderr(log_format: LogFormat, level: LogLevel) -> Iterator[None]:
    """Write what is logged inside the block to standard error; `level` is that of our own events."""
    root, own = logging.getLogger(), logging.getLogger("hmret")
    before = own.level
    handler = _Lines(_for_programs if log_format == "json" else _for_people)
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
    """Writes to whatever standard error is at the moment: a progress bar puts itself in its place."""

    def __init__(self, render: Callable[[logging.LogRecord], str]) -> None:
        super().__init__()
        self._render = render

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self._render(record), file=sys.stderr, flush=True)
        except Exception:  # noqa: BLE001 - the boundary: a line that cannot be written never fails who logs it
            self.handleError(record)


def _for_people(record: logging.LogRecord) -> str:
    event, keys = _read(record)
    pairs = [f"{key}={_quoted(value)}" for key, value in keys.items()]
    return " ".join([_time(record), f"{record.levelname.lower():<7}", printable(event), *pairs])


def _for_programs(record: logging.LogRecord) -> str:
    event, keys = _read(record)
    head = {"timestamp": _time(record), "level": record.levelname.lower(), "event": event}
    return json.dumps({**head, **keys}, default=str)


def _read(record: logging.LogRecord) -> tuple[str, Mapping[str, object]]:
    """Take the event and its keys from a record; what others have logged is an event without keys."""
    event, keys = getattr(record, "hmret_event", None) or (record.getMessage(), {})
    if record.exc_info:
        keys = {**keys, "exception": _traceback.formatException(record.exc_info)}
    return event, keys


def _quoted(value: object) -> str:
    text = str(value)
    if text and text.isprintable() and not set(text) & set(' "=\\'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(escaped)}"'


def _time(record: logging.LogRecord) -> str:
    return format_time(int(record.created * 1e6) * 1000)
