"""Logging to standard error: one event a line, for people or as JSON, with priorities for the journal."""

import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Literal

from hmret.cli.display.output import complain, printable
from hmret.cli.service.systemd import priority_prefix
from hmret.engine.log import log_event
from hmret.model.times import format_time

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

    from hmret.settings.load import Settings

LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

_LEVEL_WIDTH = 7


@contextmanager
def logging_to_stderr(log_format: LogFormat, level: LogLevel) -> Iterator[None]:
    """Write log records inside the block to standard error; `level` applies to our own events."""
    own, root = logging.getLogger("hmret"), logging.getLogger()
    before, handler = own.level, _Lines(log_format)
    own.setLevel(level.upper())
    root.addHandler(handler)
    try:
        with _logging_what_is_uncaught():
            yield
    finally:
        root.removeHandler(handler)
        own.setLevel(before)


@contextmanager
def _logging_what_is_uncaught() -> Iterator[None]:
    """Log what Python would write to standard error in its own format: errors in threads and destructors."""

    def log_of_thread(uncaught: threading.ExceptHookArgs) -> None:
        if uncaught.exc_type is not SystemExit:
            _log_uncaught(getattr(uncaught.thread, "name", "a thread"), uncaught.exc_value)

    def log_of_destructor(uncaught: "sys.UnraisableHookArgs") -> None:
        _log_uncaught(uncaught.err_msg or repr(uncaught.object), uncaught.exc_value)

    before = threading.excepthook, sys.unraisablehook
    threading.excepthook, sys.unraisablehook = log_of_thread, log_of_destructor
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook = before


def _log_uncaught(where: str, error: BaseException | None) -> None:
    logging.getLogger("hmret").error("exception_not_caught in %s", where, exc_info=error)


def wanted_format(tokens: Sequence[str]) -> LogFormat:
    """Return the log format that a command line asks for, even if the rest of it is invalid."""
    pairs = zip(("", *tokens), tokens, strict=False)
    wants_json = "--log-format=json" in tokens or ("--log-format", "json") in pairs
    return "json" if wants_json else "console"


def log_failure(log_format: LogFormat, message: str, error: BaseException | None = None) -> None:
    """Log why a command ends: a log line if JSON is requested or the journal reads, else one line for people.

    `error`: an unexpected exception, logged with its traceback; None: the message says everything.
    """
    if log_format == "json" or priority_prefix(logging.ERROR, os.environ):
        exc_info = None if error is None else (type(error), error, error.__traceback__)
        record = logging.LogRecord("hmret", logging.ERROR, "", 0, message, None, exc_info)
        record.hmret_event = ("command_failed", {"error": message})
        _Lines(log_format).handle(record)
        return
    if error is not None:
        sys.excepthook(type(error), error, error.__traceback__)
        return
    complain(message)


def log_warnings(settings: "Settings") -> None:
    """Log warnings about settings that are valid but probably unintended."""
    for warning in settings.warnings:
        log_event(logging.WARNING, "setting_doubtful", detail=warning)


class _Lines(logging.Handler):
    """Writes to the current `sys.stderr`: a progress bar replaces it temporarily.

    The formatter is loaded with the first record: most commands log nothing.
    """

    def __init__(self, log_format: LogFormat) -> None:
        super().__init__()
        self._log_format = log_format

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as a line."""
        if self.formatter is None:
            self.formatter = _formatter(self._log_format)
        return self.formatter.format(record)

    def emit(self, record: logging.LogRecord) -> None:
        if sys.stderr is None:
            return
        try:
            prefix = priority_prefix(record.levelno, os.environ)
            print(f"{prefix}{self.format(record)}", file=sys.stderr, flush=True)
        except Exception:  # noqa: BLE001 - the boundary: a failed write must not fail the caller
            self.handleError(record)


def _formatter(log_format: LogFormat) -> logging.Formatter:
    from structlog.processors import JSONRenderer, format_exc_info  # noqa: PLC0415 - only needed for logging
    from structlog.stdlib import ProcessorFormatter  # noqa: PLC0415

    rendering = [JSONRenderer(default=str)] if log_format == "json" else [_keep_on_the_line, _console()]
    return ProcessorFormatter(processors=[_take_event, format_exc_info, *rendering])


def _console() -> "Processor":
    """Make the renderer of lines for people: time, level and event, then keys with their values."""
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
    """Extract the event and its keys from a record; a record of another library is an event without keys."""
    record: logging.LogRecord = line["_record"]
    event, keys = getattr(record, "hmret_event", None) or (line["event"], {})
    time = format_time(int(record.created * 1e6) * 1000)
    head = {"timestamp": time, "level": record.levelname.lower(), "event": event}
    return {**head, **keys, **({"exc_info": line["exc_info"]} if "exc_info" in line else {})}


def _keep_on_the_line(_logger: object, _method: str, line: "EventDict") -> "EventDict":
    """Rename the traceback's key, so that it is written on the line and not below it."""
    if "exception" in line:
        line["traceback"] = line.pop("exception")
    return line


def _quoted(value: object) -> str:
    text = str(value)
    if text and text.isprintable() and not set(text) & set(' "=\\'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(escaped)}"'
