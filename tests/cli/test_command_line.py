"""The command line as a whole: usage, help, exit codes, and what goes where."""

import importlib
import json
import os
import platform
import re
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import attrs
import cyclopts
import pytest

from cli.caches import Cache
from hmret.__main__ import main
from hmret.cli.parsing import app, command_table as commands
from hmret.cli.parsing.options import Common
from hmret.disk.filesystem import NATIVE
from hmret.model.errors import HmretError
from support.children import Ended, run_program

Call = Callable[..., tuple[int, str, str]]

DUE = timedelta(days=31)
POLICY = {"--enable", "--unused-for", "--allow"}
ASKING = {*POLICY, "--backend", "--log-level"}
ALL = {*commands.WITH_VALUE, *commands.WITHOUT_VALUE}
WITHOUT = {
    "run": {"--timeout"},
    "status": ASKING,
    "sweep": set(),
    "plan": set(),
    "images": set(),
    "du": set(),
    "forecast": set(),
    "explain": set(),
    "mark-used": POLICY,
    "confirm": POLICY,
    "restore": POLICY,
    "quarantine": POLICY,
    "lease": ASKING,
    "leases": ASKING,
    "unlease": ASKING,
    "events": ASKING,
    "check-config": {"--backend", "--timeout", "--log-level"},
    "unit": ALL - {"--data-dir"},
    "demo": ALL - {"--json"},
    "completion": ALL,
}
"""By command: the common options that mean nothing to it."""
COMMANDS = list(WITHOUT)


def run_hmret(*arguments: object, **options: Any) -> Ended:
    return run_program([sys.executable, "-m", "hmret", *map(str, arguments)], **options)


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


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_shows_the_options_that_mean_something_to_it(call: Call, command: str) -> None:
    _, output, _ = call(command, "--help")
    shown = set(re.findall(r"^  (--[a-z-]+)", output, re.MULTILINE))
    assert shown & ALL == ALL - WITHOUT[command]


VALUES = {
    "--config": "/dev/null",
    "--data-dir": "/",
    "--unused-for": "24h",
    "--allow": "*",
    "--backend": "trio",
    "--timeout": "9s",
    "--log-format": "json",
    "--log-level": "error",
}


@pytest.mark.parametrize(
    ("command", "option"), [(command, option) for command in COMMANDS for option in sorted(WITHOUT[command])]
)
def test_an_option_that_means_nothing_to_a_command_is_refused_wherever_it_stands(
    call: Call, command: str, option: str
) -> None:
    behind = [option, VALUES[option]] if option in VALUES else [option]
    code, output, complaints = call(command, *behind)
    said = f"{command} does not accept {option}"
    assert (code, output, complaints.count("\n")) == (2, "", 1)
    assert said in complaints
    before = f"{option}={VALUES[option]}" if option in VALUES else option
    code, output, complaints = call(before, command)
    assert (code, output, complaints.count("\n")) == (2, "", 1)
    assert said in complaints


def test_which_option_means_nothing_is_told_in_json_too(call: Call) -> None:
    code, output, complaints = call("status", "--allow", "*", "--json")
    assert (code, output) == (2, "")
    assert json.loads(complaints) == {"error": "status does not accept --allow", "key": "--allow"}


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_in_a_pipe_is_wrapped_once(call: Call, command: str) -> None:
    _, output, _ = call(*filter(None, (command, "--help")))
    lines = output.splitlines()
    assert max(map(len, lines)) <= 80
    for line, following in pairwise(lines):
        # A line ends where the first word of the next one has no more room.
        if line and following and (not following.startswith("  ") or following.startswith("      ")):
            assert len(line) + 1 + len(following.split()[0]) > 80 or line.endswith(":")


@pytest.mark.parametrize("tokens", [[], ["-h"], ["--help"], ["help"], ["--json", "-h"], ["help", "--json"]])
def test_help_is_where_a_hand_looks_for_it(call: Call, tokens: list[str]) -> None:
    code, output, complaints = call(*tokens)
    assert (code, complaints) == (0, "")
    assert output.startswith("Usage: hmret COMMAND\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_short_flag_for_help_works_everywhere(call: Call, command: str) -> None:
    whole = call(command, "--help")
    assert whole[0] == 0
    assert call(command, "-h") == call("help", command) == whole
    assert call("--data-dir", "x", command, "-h") == whole


@pytest.mark.parametrize("tokens", [["-V"], ["version"], ["--json", "--version"]])
def test_the_version_is_told_however_it_is_asked_for(call: Call, tokens: list[str]) -> None:
    assert call(*tokens) == call("--version")


def test_the_version_is_that_of_the_package(call: Call) -> None:
    code, output, _ = call("--version")
    assert code == 0
    core = "native core" if NATIVE else "no native core"
    version, python = importlib.metadata.version("hmret"), platform.python_version()
    assert output == f"hmret {version} (Python {python}, {core})\n"


def test_the_version_says_where_there_is_no_native_core() -> None:
    done = run_program(
        [sys.executable, "-m", "hmret", "--version"], env=os.environ | {"HMRET_NATIVE": "0"}, check=True
    )
    assert done.stdout.endswith(", no native core)\n")


def test_options_that_may_stand_before_the_command_are_the_common_ones() -> None:
    names = {f"--{field.name.replace('_', '-')}": field.type for field in attrs.fields(Common)}
    assert set(names) == ALL
    assert {name for name, kind in names.items() if "bool" in str(kind).partition(",")[0]} == {
        *commands.WITHOUT_VALUE
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
        (["--enable"], "expected a command; --help lists them"),
        (["--data-dir"], "expected a command; --help lists them"),
        (["--frob", "sweep"], "unknown option: --frob"),
        (["explian"], 'unknown command "explian". Did you mean explain?'),
        (["prune"], 'unknown command "prune". --help lists them'),
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
    bad = run_hmret("check-config", "--unused-for", "1y")
    assert (bad.returncode, bad.stdout, bad.stderr.count("\n")) == (2, "", 1)


@pytest.mark.parametrize(
    "typo",
    [
        "swep",
        "sweeps",
        "sweeep",
        "ru",
        "rnu",
        "runn",
        "prune",
        "unlese",
        "confrim",
        "confirms",
        "delete",
        "gc",
        "rm",
    ],
)
def test_a_typo_suggests_no_command_that_deletes_or_runs(call: Call, typo: str) -> None:
    code, _, complaints = call(typo)
    assert code == 2
    assert not re.search(r"Did you mean (sweep|run|confirm|unlease)\?", complaints)


@pytest.mark.parametrize(
    "typo",
    [
        "--enabel",
        "--ye",
        "--yess",
        "--alow",
        "--allowed",
        "--unused",
        "--release-brak",
        "--stop-timer",
        "--stop-timers=",
    ],
)
def test_a_typo_suggests_no_option_by_which_more_goes(call: Call, typo: str) -> None:
    for tokens in (("sweep", typo), (typo, "sweep")):
        code, _, complaints = call(*tokens)
        assert code == 2
        assert "Did you mean" not in complaints


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("plna", "plan"),
        ("explian", "explain"),
        ("quarentine", "quarantine"),
        ("--verison", "--version"),
        ("--hlep", "--help"),
        ("--jsn", "--json"),
        ("--data_dir=/", "--data-dir"),
    ],
)
def test_a_typo_suggests_what_was_meant(call: Call, typo: str, meant: str) -> None:
    code, _, complaints = call(typo)
    assert code == 2
    assert complaints.endswith(f"Did you mean {meant}?\n")


@pytest.mark.parametrize(
    ("tokens", "key"),
    [
        (["plan", "--unused-for", "1y"], "--unused-for"),
        (["plan", "--at", "tomorrow"], "--at"),
        (["plan", "--jsn"], "--jsn"),
        (["status", "--timeout", "0s"], "--timeout"),
        (["plan", "--data-dir", "/nowhere"], "data_dir"),
        (["frobnicate"], None),
    ],
)
def test_an_error_with_json_is_one_document_on_one_line(
    call: Call, tokens: list[str], key: str | None
) -> None:
    code, output, complaints = call(*tokens, "--json")
    assert (code, output, complaints.count("\n")) == (2, "", 1)
    document = json.loads(complaints)
    assert list(document) == ["error", "key"]
    assert document["key"] == key
    _, _, words = call(*tokens)
    assert words == f"hmret: error: {document['error']}\n"


def test_an_error_with_json_names_the_key_of_a_setting(
    call: Call, monkeypatch: pytest.MonkeyPatch, cache: Cache
) -> None:
    monkeypatch.setenv("HMRET__SWEEP_INTERVAL", "soon")
    flags = ["--data-dir", cache.root, "-o", "json"]
    _, _, complaints = call("plan", *flags)
    assert json.loads(complaints)["key"] == "HMRET__SWEEP_INTERVAL"
    monkeypatch.delenv("HMRET__SWEEP_INTERVAL")
    file = cache.root.parent / "config.yaml"
    file.write_text("hmret:\n  sweep_interval: soon\n")
    _, _, complaints = call("plan", *flags, "--config", file)
    assert json.loads(complaints)["key"] == "hmret.sweep_interval"
    code, _, complaints = call("explain", "alpine", "--data-dir", cache.root, "--json")
    assert (code, json.loads(complaints)) == (1, {"error": "alpine: not in the cache", "key": None})


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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_sweep_says_what_it_has_done(
    cache: Cache,
    call: Call,
    backend: str,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    code: int,
) -> None:
    # The signal comes as soon as the engine is open, and then once more.
    def interrupt(_: object) -> None:
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)

    for command in ("commands.sweep", "planning"):
        monkeypatch.setattr(f"hmret.cli.{command}.log_warnings", interrupt)
    earlier = signal.getsignal(number)
    flags = ["--enable", "--data-dir", cache.root, "--backend", backend]
    told = "interrupted: 0 images deleted; the next sweep finishes the rest"
    assert call("sweep", *flags) == (code, "", f"hmret: {told}\n")
    assert call("sweep", *flags, "--json") == (code, "", json.dumps({"error": told, "key": None}) + "\n")
    # What only looks has nothing to tell.
    assert call("plan", *flags) == (code, "", "")
    assert signal.getsignal(number) is earlier
    assert call("mark-used", "alpine", *flags[1:])[0] == 1


def test_an_error_that_is_nobodys_fault_in_advance_is_one_line_and_1(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise HmretError("two\nlines")

    monkeypatch.setattr("hmret.cli.parsing.options.write_result", fail)
    assert call("check-config") == (1, "", "hmret: error: two\\nlines\n")


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_reader_that_goes_away_is_no_error(cache: Cache, flags: list[str]) -> None:
    cache.image("ghcr.io/kernel/x", "a")
    reader, writer = os.pipe()
    os.close(reader)
    process = run_program(
        [sys.executable, "-m", "hmret", "plan", "--data-dir", str(cache.root), *flags], stdout=writer
    )
    os.close(writer)
    assert (process.returncode, process.stderr) == (0, "")


def test_a_closed_standard_output_is_no_error(cache: Cache) -> None:
    command = f'exec "{sys.executable}" -m hmret check-config --json --data-dir "{cache.root}" >&-'
    process = run_program(["/bin/sh", "-c", command])
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
    seen: list[tuple[bool, str | None, str | None]] = []

    def show(*, as_json: bool, keep: str | None, serve: str | None) -> int:
        seen.append((as_json, keep, serve))
        return 1

    monkeypatch.setattr("hmret.cli.demo.running.run", show)
    assert call("demo", "--json")[0] == 1
    assert call("demo")[0] == 1
    assert call("demo", "--keep", "here", "--serve")[0] == 1
    assert seen == [(True, None, None), (False, None, None), (False, "here", "127.0.0.1:9874")]


def test_the_errors_of_cyclopts_are_not_printed_by_it() -> None:
    with pytest.raises(cyclopts.CycloptsError):
        app.make_app()(["sweep", "--nothing"], exit_on_error=False, print_error=False)
