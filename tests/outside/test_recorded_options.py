"""The options of each command, and what misuse comes to, are what was recorded.

`HMRET_RECORD_OUTSIDE=1 pytest tests/outside` records it again.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from outside.recorded import hold
from outside.told import call

MISUSE = (
    (),
    ("--help",),
    ("help", "plan"),
    ("--version",),
    ("version",),
    ("nothing",),
    ("plam",),
    ("plan", "--odd"),
    ("--odd", "plan"),
    ("plan", "extra"),
    ("--json",),
    ("plan", "--at", "tomorrow"),
    ("plan", "--limit", "few"),
    ("plan", "--reason", "odd"),
    ("plan", "--data-dir", "/no/such/folder"),
    ("plan", "--config", "/no/such/file"),
    ("plan", "--unused-for", "soon"),
    ("plan", "--allow", " "),
    ("plan", "--timeout", "0s"),
    ("plan", "--backend", "curio"),
    ("explain",),
    ("explain", "No Reference"),
    ("explain", "a:1", "b:2"),
    ("mark-used",),
    ("lease", "alpine", "--ttl", "0"),
    ("unlease",),
    ("status", "--enable"),
    ("completion", "tcsh"),
    ("check-config", "--data-dir", "/no/such/folder"),
    ("run", "--data-dir", "/no/such/folder"),
)


def options_of(page: str) -> dict[str, Any]:
    """Read the options, arguments and commands of a page of help, and what it says of their values."""
    found: dict[str, Any] = {}
    joined = re.sub(r"\n {5,}", " ", page)
    for line in joined.splitlines():
        if not re.match(r"  \S", line):
            continue
        head, _, rest = line.strip().partition(": ")
        choices = re.findall(r"\[(?:choices|default: (?!False)|required)[^\]]*\]", rest)
        found[head if head.startswith("-") else head.split("  ")[0]] = choices
    return {"usage": joined.splitlines()[0], "options": found}


@pytest.fixture
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("RUNTIME_DIRECTORY", "JOURNAL_STREAM"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("HMRET_CONFIG", os.devnull)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))


def test_commands_have_the_options_that_were_recorded(no_settings: None) -> None:
    code, page, _ = call("--help")
    assert code == 0
    seen = {"hmret": options_of(page)}
    names = [name for name in seen["hmret"]["options"] if not name.startswith("-")]
    for name in names:
        code, page, _ = call(name, "--help")
        assert code == 0
        seen[name] = options_of(page)
    hold(options=seen)


def test_misuse_ends_with_the_codes_that_were_recorded(no_settings: None, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    seen: dict[str, Any] = {}
    told: dict[str, Any]
    for tokens in MISUSE:
        code, output, complaints = call(*tokens)
        kinds = [name for name, text in (("output", output), ("complaint", complaints)) if text]
        seen[" ".join(tokens) or "(nothing)"] = told = {"exit": code, "writes": kinds}
        if code:
            # The words of the error are for people.
            told["with --json"] = {**json.loads(call(*tokens, "--json")[2]), "error": "<text>"}
    hold(misuse=seen)
