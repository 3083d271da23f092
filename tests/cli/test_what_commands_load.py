"""How a command starts: with nothing loaded that it has no use for, and without looking for garbage among what is."""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager

import pytest

from cli.caches import Cache
from hmret.cli.backend import run_on
from hmret.cli.engines import opened_engine, opened_inspection, opened_quarantine
from hmret.cli.parsing.app import make_app
from hmret.cli.parsing.whole_help import whole_help
from hmret.model.policy.config import RetentionConfig
from support.children import run_program

Call = Callable[..., tuple[int, str, str]]
Opened = Callable[[RetentionConfig], AbstractAsyncContextManager[object]]

SERVING = {"starlette", "anycorn", "httpx2", "structlog", "prometheus_client"}
PARSING = {"cyclopts", "rich", "docstring_parser"}
ENGINE = {"anyio", "asyncio", "trio", "hmret.engine.opening_inspection", "hmret.disk.filesystem"}
DELETING = {
    "hmret.actors.deleter",
    "hmret.disk.deletion.recovery.quarantine_records",
    "hmret.disk.deletion.recovery.quarantine",
    "hmret.disk.deletion.recovery.recovering",
    "hmret.engine.opening",
    "hmret.engine.sweep.sweep",
}
FLEET = {"hmret.fleet", "hmret.actors.fleet", "hmret.cli.commands.fleet", "hmret.cli.demo.fleet"}
HEAVY = {
    *SERVING,
    *FLEET,
    *PARSING,
    *ENGINE,
    *DELETING,
    "attrs",
    "hmret.api.app",
    "hmret.cli.commands.completion",
    "hmret.cli.demo",
    "hmret.cli.service.serving",
    "hmret.settings.load",
    "hmret.model.plan.forecast",
    "logging",
    "msgspec",
    "rich",
    "socket",
    "ssl",
    "yaml",
}


def loaded_by(*tokens: object) -> set[str]:
    """Carry out a command in a process of its own; returns what it has loaded of the modules that take long."""
    program = (
        "import sys; sys.argv = ['hmret', *sys.argv[1:]]; from hmret.__main__ import main; main();"
        f"print(*(set({sorted(HEAVY)}) & set(sys.modules)))"
    )
    found = run_program([sys.executable, "-c", program, *map(str, tokens)], check=True)
    return set(found.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("tokens", [["--help"], []])
def test_help_in_a_pipe_waits_for_nothing(tokens: list[str]) -> None:
    assert loaded_by(*tokens) == set()


def test_the_help_of_a_command_loads_no_engine() -> None:
    assert not loaded_by("plan", "--help") & {
        *SERVING,
        *DELETING,
        "trio",
        "yaml",
        "hmret.engine.opening_inspection",
    }


def test_the_version_loads_no_engine() -> None:
    assert not loaded_by("--version") & {
        *SERVING,
        *DELETING,
        "trio",
        "yaml",
        "hmret.engine.opening_inspection",
    }


def test_the_settings_are_shown_without_an_engine(cache: Cache) -> None:
    loaded = loaded_by("check-config", "--data-dir", cache.root)
    assert not loaded & {*SERVING, *DELETING, "anyio", "trio", "hmret.engine.opening_inspection"}


@pytest.mark.parametrize("tokens", [["plan"], ["plan", "--json"], ["images"], ["explain", "alpine"]])
def test_a_look_loads_nothing_that_deletes_or_serves(tokens: list[str], cache: Cache) -> None:
    cache.image("docker.io/library/alpine", "a", "latest")
    loaded = loaded_by(*tokens, "--data-dir", cache.root)
    assert not loaded & {*SERVING, *DELETING, *FLEET, "trio", "rich", "hmret.model.plan.forecast"}
    assert loaded >= {"anyio", "cyclopts"}


@pytest.mark.parametrize("width", [24, 40, 79, 80, 81, 132, 200])
def test_the_help_for_a_pipe_is_that_which_the_parser_prints(
    width: int, monkeypatch: pytest.MonkeyPatch, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    make_app()(["--help"], exit_on_error=False)
    printed = capsys.readouterr().out
    assert call("--help") == (0, printed, "")
    assert whole_help(width) == printed


@pytest.fixture
def switched_off() -> Iterator[None]:
    """The collector is off, as it is when a command's process has begun."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


@pytest.mark.usefixtures("switched_off")
@pytest.mark.parametrize("opened", [opened_engine, opened_inspection, opened_quarantine])
def test_an_engine_has_the_garbage_collector(opened: Opened, backend: str, cache: Cache) -> None:
    async def work() -> bool:
        async with opened(RetentionConfig(data_dir=str(cache.root))):
            return gc.isenabled()

    assert not gc.isenabled()
    assert run_on("trio" if backend == "trio" else "asyncio", str(cache.root), work)


def test_a_process_that_is_somebody_elses_keeps_its_garbage_collector(call: Call) -> None:
    frozen = gc.get_freeze_count()
    assert call("--help")[0] == 0
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen


def test_a_command_that_ends_at_once_collects_nothing() -> None:
    program = (
        "import gc, sys; sys.argv = ['hmret', '--help']; from hmret.__main__ import main; main();"
        "print(gc.isenabled(), gc.get_freeze_count() > 0, [one['collections'] for one in gc.get_stats()][2])"
    )
    found = run_program([sys.executable, "-c", program], check=True)
    assert found.stdout.splitlines()[-1] == "False True 0"
