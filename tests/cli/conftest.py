"""What every test of the command line stands on: an environment without settings, and a cache."""

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from cli.caches import Cache
from hmret.__main__ import main
from support.archives import unpack

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    for variable in tuple(os.environ):
        if variable.startswith(("HMRET", "IMAGES__")) or variable == "DATA_DIR":
            monkeypatch.delenv(variable)
    empty = tmp_path / "no-settings.yaml"
    empty.write_text("")
    monkeypatch.setenv("HMRET_CONFIG", str(empty))


@pytest.fixture
def cache(tmp_path: pathlib.Path) -> Cache:
    return Cache(tmp_path / "data")


@pytest.fixture
def before(tmp_path: pathlib.Path) -> pathlib.Path:
    """A data directory as a hypeman server left it; its guests and images are of 2026."""
    unpack(FIXTURES / "hypeman-data.tar.gz", tmp_path)
    return tmp_path / "before"


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    name = request.param
    assert isinstance(name, str)
    return name


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Carries out a command in this process; returns its exit code, its output and its complaints."""

    def call(*tokens: str | pathlib.Path) -> tuple[int, str, str]:
        code = main([str(token) for token in tokens])
        output, complaints = capsys.readouterr()
        return code, output, complaints

    return call


@pytest.fixture
def call_json(call: Call) -> Callable[..., tuple[int, Any]]:
    """Carries out a command with `--json`; returns its exit code and its document."""

    def call_json(*tokens: str | pathlib.Path) -> tuple[int, Any]:
        code, output, _ = call(*tokens, "--json")
        return code, json.loads(output)

    return call_json
