"""The command line in a process that lacks something: a standard stream, threads, or arguments that are text."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from cli.caches import Cache
from cli.services import running_service
from support.children import run_program

DUE = timedelta(days=31)
ALL = ("--enable", "--allow", "*")
WITHOUT_POLICY = ("mark-used", "restore", "quarantine")


def policy_of(command: str) -> tuple[str, ...]:
    """Allow everything, where that means something to a command."""
    return () if command.split(maxsplit=1)[0] in WITHOUT_POLICY else ALL


NO_THREADS = """\
import sys, threading
from hmret.__main__ import main
def refuse(thread):
    raise RuntimeError("can't start new thread")
threading.Thread.start = refuse
sys.exit(main(sys.argv[1:]))
"""


def run_closed(closed: str, *arguments: object, program: Sequence[str] = ("-m", "hmret")) -> tuple[int, str]:
    """Run a command with some descriptors closed, as in `2>&-`; returns its exit code and its standard output."""
    shell = f'exec "$@" {closed}'
    command = ["sh", "-c", shell, "sh", sys.executable, *program, *map(str, arguments)]
    done = run_program(command)
    return done.returncode, done.stdout


# Closed streams.


@pytest.mark.parametrize("command", [("plan",), ("sweep",), ("explain", "ghcr.io/kernel/x:1"), ("status",)])
def test_with_standard_error_closed_standard_output_holds_the_result_alone(
    cache: Cache, command: tuple[str, ...]
) -> None:
    cache.image("ghcr.io/kernel/x", "a", "1")
    with running_service(cache.root, *ALL):
        code, output = run_closed("2>&-", *command, "--json", "--data-dir", cache.root)
    assert code == 0
    assert json.loads(output)


def test_so_it_does_where_no_engine_answers_and_log_lines_are_due(cache: Cache) -> None:
    cache.image("ghcr.io/kernel/x", "a", unused=DUE)
    flags = (*ALL, "--json", "--log-level", "debug", "--data-dir", cache.root)
    code, output = run_closed("2>&-", "sweep", *flags)
    assert (code, json.loads(output)["deleted_images"]) == (0, 1)


@pytest.mark.parametrize("arguments", [("plan", "--frob"), ("explain", "NO IMAGE"), ("status",), ("frob",)])
def test_a_complaint_that_nobody_hears_is_not_a_result(cache: Cache, arguments: tuple[str, ...]) -> None:
    code, output = run_closed("2>&-", *arguments, "--data-dir", cache.root)
    assert code != 0
    assert output == ""


def test_a_log_that_nobody_reads_goes_into_no_file(cache: Cache) -> None:
    # The first file that is opened gets the number of the stream that is closed.
    cache.image("ghcr.io/kernel/x", "a", unused=DUE)
    code, _ = run_closed("0<&- 2>&-", "sweep", *ALL, "--log-level", "debug", "--data-dir", cache.root)
    assert code == 0
    own = cache.root / "system/hmret"
    assert [path for path in own.rglob("*") if path.is_file() and b"image_deleted" in path.read_bytes()] == []
    assert all(json.loads(line) for line in (own / "journal.jsonl").read_text().splitlines())


def test_with_standard_output_closed_everything_is_done_all_the_same(cache: Cache) -> None:
    cache.image("ghcr.io/kernel/x", "a", unused=DUE)
    code, _ = run_closed(">&- 2>&-", "sweep", *ALL, "--json", "--data-dir", cache.root)
    assert code == 0
    assert not cache.has("ghcr.io/kernel/x", "a")


def test_a_reader_of_standard_error_that_has_gone_is_no_error(cache: Cache) -> None:
    cache.image("ghcr.io/kernel/x", "a", "1")
    reading, writing = os.pipe()
    os.close(reading)
    with running_service(cache.root, *ALL):
        command = [sys.executable, "-m", "hmret", "plan", "--json", "--data-dir", str(cache.root)]
        done = run_program(command, stderr=writing)
    os.close(writing)
    assert done.returncode == 0
    assert json.loads(done.stdout)["summary"]["images"] == 1


# Limits of processes.


@pytest.mark.parametrize("command", ["plan", "sweep", "run", "explain", "mark-used"])
def test_where_no_thread_can_be_started_that_is_told_in_one_line(
    cache: Cache, command: str, backend: str
) -> None:
    cache.image("ghcr.io/kernel/x", "a", "1", unused=DUE)
    images = ("ghcr.io/kernel/x:1",) if command in ("explain", "mark-used") else ()
    flags = ("--data-dir", str(cache.root), "--backend", backend, "--log-level", "error", *policy_of(command))
    program = [sys.executable, "-c", NO_THREADS, command, *images, *flags]
    done = run_program(program)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("hmret: error: ")
    assert "no thread can be started: check the limits on processes and tasks" in done.stderr
    assert cache.has("ghcr.io/kernel/x", "a")


# Arguments that are no text.


@pytest.mark.parametrize(
    "arguments",
    [
        [b"explain", b"\xff"],
        [b"mark-used", b"alpine:\xff"],
        [b"mark-used", b"alpine", b"--digest", b"\xff"],
        [b"lease", b"\xff"],
        [b"lease", b"alpine", b"--reason", b"\xff"],
        [b"unlease", b"\xff"],
        [b"restore", b"\xff"],
        [b"plan", b"--at", b"\xff"],
        [b"plan", b"--allow", b"\xff"],
        [b"plan", b"--\xff"],
        [b"confirm", b"\xff"],
        [b"\xff"],
    ],
)
def test_an_argument_that_is_no_text_is_one_line_and_exit_code_2_with_an_engine_too(
    served: Cache, arguments: list[bytes]
) -> None:
    common = [b"--data-dir", os.fsencode(served.root)]
    program = [os.fsencode(sys.executable), b"-m", b"hmret", *arguments, *common]
    done = run_program(program)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("hmret: error: ")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cache]:
    """A data directory with an engine."""
    cache = Cache(tmp_path_factory.mktemp("served") / "data")
    with running_service(cache.root, *ALL):
        yield cache


def test_a_config_file_may_have_a_name_that_is_no_text(cache: Cache, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.yaml"
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - a Path is text
        file.write(f"data_dir: {cache.root}\n")
    program = [os.fsencode(sys.executable), b"-m", b"hmret", b"check-config", b"--json", b"--config", path]
    done = run_program(program)
    assert done.returncode == 0
    assert json.loads(done.stdout)["settings"]["data_dir"]["source"] == "file"


# What is not there yet.


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        *(("run", 1), ("check-config", 0), ("plan", 2), ("sweep", 2), ("forecast", 2), ("quarantine", 2)),
        *(("explain alpine", 2), ("mark-used alpine", 2), ("restore alpine", 2)),
    ],
)
def test_a_data_directory_that_is_not_there_is_told_by_every_command(
    tmp_path: Path, command: str, expected: int
) -> None:
    program = [sys.executable, "-m", "hmret", *command.split(), "--data-dir", f"{tmp_path}/gone"]
    program += policy_of(command)
    done = run_program(program)
    assert done.returncode == expected
    told = done.stdout if command == "check-config" else done.stderr
    assert f"{tmp_path}/gone" in told
    assert "o such file or directory" in told
    assert command == "check-config" or done.stderr.count("\n") == 1


@pytest.mark.parametrize(("command", "expected"), [("run", 1), ("plan", 2), ("check-config", 2)])
def test_a_named_config_file_that_is_not_there_may_come_for_run(
    tmp_path: Path, command: str, expected: int
) -> None:
    program = [sys.executable, "-m", "hmret", command, "--config", f"{tmp_path}/gone.yaml"]
    done = run_program(program)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (expected, "", 1)
    assert "gone.yaml: expected a readable file, got no such file or directory" in done.stderr
