"""Streams that fail, close or cannot write what they are given."""

import os
import pathlib
import sys
from collections.abc import Callable, Iterator

import pytest

from hmret.cli.display.output import complain, escape_unprintable, printable, write_json, write_result

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pipe_without_reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        yield
        monkeypatch.undo()


@pytest.mark.usefixtures("pipe_without_reader")
def test_whatever_follows_a_broken_pipe_is_discarded() -> None:
    write_result("lost")
    write_json({"lost": "too"})


def test_a_stream_that_is_full_is_named(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    with pathlib.Path("/dev/full").open("w", encoding="utf-8") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        code, output, complaints = call("check-config")
    assert (code, output) == (1, "")
    assert complaints == "hmret: error: standard output: No space left on device\n"


def test_streams_that_were_closed_from_the_start_take_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    escape_unprintable()
    write_result("nothing")
    write_json({})
    complain("nothing")


def test_what_an_encoding_does_not_have_is_escaped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "output"
    with path.open("w", encoding="ascii") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        escape_unprintable()
        write_result("\u00e4\udcff")
    assert path.read_text(encoding="ascii") == "\\xe4\\udcff\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("plain text", "plain text"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\u202e", "\\u202e"),
        ("\udcff", "\\udcff"),
        ("\u00e4", "\u00e4"),
    ],
)
def test_nothing_that_moves_the_cursor_is_printable(text: str, told: str) -> None:
    assert printable(text) == told
