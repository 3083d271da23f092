"""Log lines: one a line, whatever is in them, and gone with the command."""

import json
import logging
import re
from collections.abc import Iterator

import pytest

from hmret.cli.logs import LogFormat, LogLevel, logging_to_stderr
from hmret.engine.log import log_event


@pytest.fixture(autouse=True)
def no_other_handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    handlers = tuple(logging.getLogger().handlers)
    yield
    assert tuple(logging.getLogger().handlers) == handlers
    assert logging.getLogger("hmret").level == logging.NOTSET


def test_people_get_time_level_event_and_keys(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr("console", "info"):
        log_event(logging.INFO, "image_deleted", repository="ghcr.io/x", bytes=7, reason="", path="a b")
    output, line = capsys.readouterr()
    assert output == ""
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z info    image_deleted "
        r'repository=ghcr\.io/x bytes=7 reason="" path="a b"\n',
        line,
    )


def test_programs_get_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr("json", "info"):
        log_event(logging.ERROR, "sweep_failed", error=OSError("no\nroom"), seconds=1.5)
    _, line = capsys.readouterr()
    assert line.count("\n") == 1
    document = json.loads(line)
    assert list(document) == ["timestamp", "level", "event", "error", "seconds"]
    assert document["timestamp"].endswith("Z")
    assert (document["level"], document["event"]) == ("error", "sweep_failed")
    assert (document["error"], document["seconds"]) == ("no\nroom", 1.5)


@pytest.mark.parametrize("text", ['a\nb"c', "\x1b[31m", "back\\slash", "\udcff", "\u2028", "a=b"])
@pytest.mark.parametrize("log_format", ["console", "json"])
def test_no_value_breaks_a_line(capsys: pytest.CaptureFixture[str], text: str, log_format: LogFormat) -> None:
    with logging_to_stderr(log_format, "info"):
        log_event(logging.WARNING, "odd", path=text)
    _, line = capsys.readouterr()
    assert len(line.splitlines()) == 1
    assert line[:-1].isprintable()
    if log_format == "json":
        assert json.loads(line)["path"] == text
    else:
        assert line.endswith('"\n')


@pytest.mark.parametrize(
    ("level", "events"),
    [("debug", "dwe"), ("info", "we"), ("warning", "we"), ("error", "e")],
)
def test_what_is_below_the_level_is_not_logged(
    capsys: pytest.CaptureFixture[str], level: LogLevel, events: str
) -> None:
    with logging_to_stderr("console", level):
        log_event(logging.DEBUG, "d")
        log_event(logging.WARNING, "w")
        log_event(logging.ERROR, "e")
    assert "".join(line.split()[2] for line in capsys.readouterr().err.splitlines()) == events


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_what_others_log_is_an_event_with_its_traceback(
    capsys: pytest.CaptureFixture[str], log_format: LogFormat
) -> None:
    with logging_to_stderr(log_format, "info"):
        try:
            int("odd")
        except ValueError:
            logging.getLogger("asyncio").exception("a task failed")
    _, line = capsys.readouterr()
    assert len(line.splitlines()) == 1
    assert "a task failed" in line
    assert "ValueError: invalid literal for int() with base 10: 'odd'" in line


def test_a_stream_that_fails_does_not_fail_who_logs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Gone:
        def write(self, _: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

    with logging_to_stderr("console", "info"):
        monkeypatch.setattr("sys.stderr", Gone())
        log_event(logging.WARNING, "lost")
        monkeypatch.undo()
    assert capsys.readouterr() == ("", "")
