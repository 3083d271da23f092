"""The command line as a whole: usage, help, exit codes, and what goes where."""

import importlib
import json
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta

import attrs
import cyclopts
import pytest

from cli.caches import Cache
from hmret.__main__ import main
from hmret.cli import app
from hmret.cli.options import Common
from hmret.disk.filesystem import NATIVE
from hmret.model.errors import HmretError

Call = Callable[..., tuple[int, str, str]]

DUE = timedelta(days=31)
COMMANDS = [
    "run",
    "status",
    "sweep",
    "plan",
    "explain",
    "mark-used",
    "confirm",
    "lease",
    "leases",
    "unlease",
    "events",
    "check-config",
    "demo",
    "completion",
]


def run_hmret(*arguments: object, **options: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "hmret", *map(str, arguments)]
    found = subprocess.run(command, text=True, capture_output=True, timeout=60, check=False, **options)  # type: ignore[call-overload]
    assert isinstance(found, subprocess.CompletedProcess)
    return found


def test_help_lists_every_command(call: Call) -> None:
    code, output, complaints = call("--help")
    assert (code, complaints) == (0, "")
    assert all(f"  {command}: " in output for command in COMMANDS)
    assert "Exit codes: 0 done; 1 something failed or is suspended;" in output
    assert output.isascii()


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_its_help(call: Call, command: str) -> None:
    code, output, _ = call(command, "--help")
    assert code == 0
    assert output.startswith(f"Usage: hmret {command} ")
    # It says what the command does, and what each of its arguments and options means.
    told = " ".join(output.split())
    assert " ".join(app.make_app()[command].help.split()) in told
    named = re.findall(r"^  (--[a-z-]+|[A-Z]{2,})([^:\n]*: \w)?", output, re.MULTILINE)
    assert named
    assert [name for name, meaning in named if not meaning] == []
    assert ("--json" in output) is (command != "completion")
    if command not in ("demo", "completion"):
        assert all(option in output for option in (*app.WITH_VALUE, *app.WITHOUT_VALUE))


def test_the_version_is_that_of_the_package(call: Call) -> None:
    code, output, _ = call("--version")
    assert code == 0
    core = "native core" if NATIVE else "no native core"
    version, python = importlib.metadata.version("hmret"), platform.python_version()
    assert output == f"hmret {version} (Python {python}, {core})\n"


def test_the_version_says_where_there_is_no_native_core() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hmret", "--version"],
        env=os.environ | {"HMRET_NATIVE": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith(", no native core)\n")


def test_options_that_may_stand_before_the_command_are_the_common_ones() -> None:
    names = {f"--{field.name.replace('_', '-')}": field.type for field in attrs.fields(Common)}
    assert set(names) == {*app.WITH_VALUE, *app.WITHOUT_VALUE}
    assert {name for name, kind in names.items() if "bool" in str(kind).partition(",")[0]} == {
        *app.WITHOUT_VALUE
    }


def test_options_stand_before_or_behind_the_command(cache: Cache, call: Call) -> None:
    cache.image("ghcr.io/kernel/x", "a")
    before = ["--json", "--data-dir", cache.root, "--allow=ghcr.io/*", "plan", "--allow", "quay.io/*"]
    code, output, _ = call(*before)
    assert code == 0
    assert json.loads(output)["images"][0]["reason"] == "newly_unused"
    assert call("--json", "--help")[1].startswith("Usage: hmret COMMAND")


@pytest.mark.parametrize(
    ("tokens", "complaint"),
    [
        ([], "expected a command; --help lists them"),
        (["--json"], "expected a command; --help lists them"),
        (["--data-dir"], "expected a command; --help lists them"),
        (["--frob", "sweep"], "unknown option: --frob"),
        (["swep"], 'unknown command "swep". Did you mean "sweep"? Available commands: '),
        (["sweep", "--jsn"], "unknown option: --jsn. Did you mean --json?"),
        (["sweep", "--no-json"], "unknown option: --no-json"),
        (["sweep", "now", "please"], "unexpected: now please"),
        (["sweep", "--backend", "curio"], 'invalid value "curio" for --backend'),
        (["sweep", "--log-level", "loud"], 'invalid value "loud" for --log-level'),
        (["sweep", "--log-format", "xml"], 'invalid value "xml" for --log-format'),
        (["sweep", "--data-dir"], "--data-dir"),
        (["sweep", "--data-dir", "a", "--data-dir", "b"], "parameter --data-dir specified multiple times"),
        (["explain"], "IMAGE"),
        (["sweep", "--a\nb"], "unknown option: --a\\nb"),
        (["sweep", "--allow", "\udcff"], "--allow"),
    ],
)
def test_bad_usage_is_one_line_and_2(call: Call, tokens: list[str], complaint: str) -> None:
    code, output, complaints = call(*tokens)
    assert (code, output) == (2, "")
    assert complaints.startswith("hmret: error: ")
    assert complaint in complaints
    assert complaints.count("\n") == 1


def test_the_process_ends_with_the_code_of_the_command(cache: Cache) -> None:
    done = run_hmret("check-config", "--data-dir", cache.root)
    assert (done.returncode, done.stderr) == (0, "")
    bad = run_hmret("check-config", "--unused-for", "1d")
    assert (bad.returncode, bad.stdout, bad.stderr.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("package", ["cyclopts", "httpx2", "rich", "starlette", "structlog"])
def test_without_its_packages_it_says_what_to_install(
    package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["--help"]) == 2
    output, complaints = capsys.readouterr()
    assert output == ""
    assert complaints == (
        "hmret: error: the command line needs more than is installed: pip install '.[server]' in a checkout of hmret\n"
    )


def test_an_interrupt_ends_with_130_and_no_word(
    cache: Cache, call: Call, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The signal comes as soon as the engine is open.
    monkeypatch.setattr("hmret.cli.sweep.log_warnings", lambda _: os.kill(os.getpid(), signal.SIGINT))
    earlier = signal.getsignal(signal.SIGINT)
    flags = ["--enable", "--data-dir", cache.root, "--backend", backend]
    assert call("sweep", *flags) == (130, "", "")
    assert signal.getsignal(signal.SIGINT) is earlier
    assert call("mark-used", "alpine", *flags)[0] == 1


def test_an_error_that_is_nobodys_fault_in_advance_is_one_line_and_1(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise HmretError("two\nlines")

    monkeypatch.setattr("hmret.cli.check_config.write_result", fail)
    assert call("check-config") == (1, "", "hmret: error: two\\nlines\n")


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_reader_that_goes_away_is_no_error(cache: Cache, flags: list[str]) -> None:
    cache.image("ghcr.io/kernel/x", "a")
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "hmret", "plan", "--data-dir", str(cache.root), *flags],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(writer)
    assert (process.returncode, process.stderr) == (0, "")


def test_a_closed_standard_output_is_no_error(cache: Cache) -> None:
    command = f'exec "{sys.executable}" -m hmret check-config --json --data-dir "{cache.root}" >&-'
    process = subprocess.run(
        ["/bin/sh", "-c", command], stderr=subprocess.PIPE, text=True, check=False, timeout=60
    )
    assert (process.returncode, process.stderr) == (0, "")


def test_a_name_that_no_encoding_has_does_not_stop_the_printing(cache: Cache) -> None:
    odd = os.fsdecode(b"torn-\xff\n")
    cache.image("ghcr.io/kernel/x", "a")
    cache.guest(odd, "{")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    told = run_hmret("plan", "--data-dir", cache.root, env=environment)
    assert told.returncode == 1
    assert "guests/torn-\\udcff\\n/metadata.json" in told.stdout
    document = run_hmret("plan", "--data-dir", cache.root, "--json", env=environment)
    assert odd in json.loads(document.stdout)["suspended"][0]["path"]
    swept = run_hmret("sweep", "--enable", "--data-dir", cache.root, env=environment)
    assert swept.returncode == 1
    assert swept.stderr.count("deletion_suspended") == swept.stderr.count("torn-\\udcff\\n") == 1


def test_the_demonstration_is_called_with_its_option(monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    seen: list[bool] = []

    def show(*, as_json: bool) -> int:
        seen.append(as_json)
        return 1

    monkeypatch.setattr("hmret.cli.demo_command.main", show)
    assert call("demo", "--json")[0] == 1
    assert call("demo")[0] == 1
    assert seen == [True, False]


def test_the_errors_of_cyclopts_are_not_printed_by_it() -> None:
    with pytest.raises(cyclopts.CycloptsError):
        app.make_app()(["sweep", "--nothing"], exit_on_error=False, print_error=False)
