"""Log lines: one a line, whatever is in them, and gone with the command."""

import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hmret.__main__ import main
from hmret.cli.display.logs import LogFormat, LogLevel, logging_to_stderr
from hmret.engine.log import log_event
from support.children import run_program


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


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_under_systemd_each_line_begins_with_its_priority(log_format: str, tmp_path: Path) -> None:
    program = f"""
import logging, threading
from hmret.cli.display.logs import log_failure, logging_to_stderr
from hmret.engine.log import log_event
with logging_to_stderr({log_format!r}, "debug"):
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        log_event(level, "event")
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
log_failure({log_format!r}, "no such folder")
try:
    1 / 0
except ZeroDivisionError as error:
    log_failure({log_format!r}, "odd", error)
"""
    journal = tmp_path / "journal"
    with journal.open("w") as stream:
        found = os.fstat(stream.fileno())
        environment = {**os.environ, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        run_program([sys.executable, "-c", program], stderr=stream, env=environment, check=True)
    lines = journal.read_text().splitlines()
    assert [line[:3] for line in lines] == ["<7>", "<6>", "<4>", "<3>", "<3>", "<3>", "<3>"]
    if log_format == "json":
        told = [json.loads(line[3:]) for line in lines]
        assert [line["event"] for line in told[-2:]] == ["command_failed", "command_failed"]
        assert "ZeroDivisionError" in told[4]["exception"]
        assert "ZeroDivisionError" in told[-1]["exception"]


def test_where_something_else_reads_no_line_has_a_priority(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    with logging_to_stderr("json", "info"):
        log_event(logging.ERROR, "event")
    assert capsys.readouterr().err.startswith("{")


@pytest.mark.parametrize("option", [["--log-format", "json"], ["--log-format=json"]])
def test_what_ends_a_command_is_a_log_line_where_those_are_json(
    option: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["run", "--unused-for", "soon", *option]) == 2
    told = json.loads(capsys.readouterr().err)
    assert (told["level"], told["event"]) == ("error", "command_failed")
    assert "unused-for" in told["error"]

    def fail(**_: object) -> None:
        raise ZeroDivisionError("nobody foresaw that")

    monkeypatch.setattr("hmret.cli.parsing.options.load_settings", fail)
    assert main(["plan", *option]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert told["error"] == "ZeroDivisionError: nobody foresaw that"
    assert told["exception"].startswith("Traceback")


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
