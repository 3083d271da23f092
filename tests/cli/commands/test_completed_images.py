"""Shells complete images of the running engine, at once or not at all."""

import io
import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Self

import pytest

from cli.caches import Cache
from cli.services import running_service
from hmret.__main__ import main
from hmret.cli import image_names
from hmret.cli.image_names import COMPLETED, TIME_SECONDS
from hmret.cli.parsing.command_table import COMMANDS, GROUPS
from support.children import run_program

Call = Callable[..., tuple[int, str, str]]

NAMES = ["docker.io/library/alpine:3.20", "docker.io/library/alpine:3.21", "ghcr.io/o/app:v1"]
# What a shell starts: the program tells its arguments and what it knows, and is given the time that it takes.
PROGRAM = f"""\
#!/bin/sh
echo "$*" >>"$HOME/asked"
for name in {" ".join(NAMES)}; do
    case $name in "$3"*) echo "$name" ;; esac
done
"""
TIMEOUT = """\
#!/bin/sh
echo "$1" >>"$HOME/seconds"
shift
exec "$@"
"""


@pytest.fixture(scope="module")
def scripts() -> dict[str, str]:
    """The script of each shell, made once."""
    found = {}
    for shell in ("bash", "zsh", "fish"):
        with redirect_stdout(io.StringIO()) as output:
            assert main(["completion", shell]) == 0
        found[shell] = output.getvalue()
    return found


@pytest.fixture
def home(tmp_path: Path, scripts: dict[str, str]) -> Path:
    for name, text in (("hmret", PROGRAM), ("timeout", TIMEOUT)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    for shell, script in scripts.items():
        (tmp_path / ("_cyclopts_hmret" if shell == "zsh" else shell)).write_text(script)
    return tmp_path


def run_shell(home: Path, *command: str) -> list[str]:
    environment = {"PATH": f"{home}:/usr/bin:/bin", "HOME": str(home), "TERM": "dumb"}
    return run_program([*command], check=True, env=environment, cwd=home).stdout.split()


def in_bash(home: Path, line: str, words: list[str]) -> list[str]:
    quoted = " ".join(f"'{word}'" for word in words)
    program = (
        f"source {home}/bash; COMP_LINE='{line}'; COMP_POINT={len(line)}; COMP_WORDS=({quoted}); "
        f"COMP_CWORD={len(words) - 1}; $(complete -p hmret | sed 's/.*-F \\([^ ]*\\) .*/\\1/'); printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    # As in a shell at a terminal: completion's own builtin complains outside of it.
    return run_shell(home, "bash", "-c", program)


@pytest.mark.parametrize(
    ("line", "words", "proposed"),
    [
        ("hmret explain ", ["hmret", "explain", ""], NAMES),
        ("hmret explain gh", ["hmret", "explain", "gh"], NAMES[2:]),
        # bash has split these at the colon, and puts what follows it in the place of its last word.
        (
            f"hmret lease {NAMES[0][:-1]}",
            ["hmret", "lease", "docker.io/library/alpine", ":", "3.2"],
            ["3.20", "3.21"],
        ),
        ("hmret lease ghcr.io/o/app:", ["hmret", "lease", "ghcr.io/o/app", ":"], ["v1"]),
        ("hmret --json explain gh", ["hmret", "--json", "explain", "gh"], NAMES[2:]),
        ("hmret explain --timeout ", ["hmret", "explain", "--timeout", ""], []),
        ("hmret explain --al", ["hmret", "explain", "--al"], ["--allow"]),
        ("hmret plan ", ["hmret", "plan", ""], []),
        ("hmret fleet holdings gh", ["hmret", "fleet", "holdings", "gh"], NAMES[2:]),
    ],
)
def test_bash_proposes_the_images_that_begin_so(
    home: Path, line: str, words: list[str], proposed: list[str]
) -> None:
    assert in_bash(home, line, words) == proposed


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_waits_no_longer_than_a_person_notices(home: Path, shell: str) -> None:
    script = (home / ("_cyclopts_hmret" if shell == "zsh" else shell)).read_text()
    (seconds,) = re.findall(r"timeout ([0-9.]+) hmret --complete-images", script)
    assert float(seconds) == TIME_SECONDS == 0.3


def test_fish_proposes_the_images_that_begin_so(home: Path) -> None:
    if run_program(["sh", "-c", "command -v fish"]).returncode != 0:
        pytest.skip("needs fish")
    for typed, proposed in (
        ("explain gh", NAMES[2:]),
        ("mark-used docker", NAMES[:2]),
        ("fleet holdings gh", NAMES[2:]),
    ):
        program = f"source {home}/fish; complete -C 'hmret {typed}'"
        assert run_shell(home, "fish", "--no-config", "-c", program) == proposed
    assert "--complete-images mark-used docker mark-used" in (home / "asked").read_text().splitlines()


def test_zsh_asks_for_the_images_of_each_command_that_takes_one(home: Path) -> None:
    script = (home / "_cyclopts_hmret").read_text()
    assert sorted(re.findall(r":\{_hmret_images ([a-z-]+)\}'", script)) == sorted(COMPLETED)
    if run_program(["sh", "-c", "command -v zsh"]).returncode != 0:
        pytest.skip("needs zsh")
    program = (
        f"source {home}/_cyclopts_hmret; _arguments() {{ }}; compadd() {{ shift; print -l -- $@ }}; words=(hmret); CURRENT=1; "
        "_cyclopts_hmret; PREFIX=ghcr; words=(explain ghcr); CURRENT=2; _hmret_images explain"
    )
    assert run_shell(home, "zsh", "-f", "-c", program) == NAMES[2:]


def test_the_commands_are_those_whose_argument_is_an_image(call: Call) -> None:
    paths = [(name,) for name in COMMANDS] + [(group, name) for group in GROUPS for name in GROUPS[group]]
    taking = {path[-1] for path in paths if re.search(r" IMAGE\b", call(*path, "--help")[1].splitlines()[0])}
    assert taking == set(COMPLETED)


# What the program says.


@pytest.fixture
def printed(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    monkeypatch.setattr(image_names, "TIME_SECONDS", 300.0)

    def printed(command: str, begun: str, *words: object) -> list[str]:
        try:
            image_names.print_names(command, begun, [str(word) for word in words])
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return capfd.readouterr().out.splitlines()

    return printed


def test_the_running_engine_is_asked(cache: Cache, printed: Callable[..., list[str]]) -> None:
    cache.image("docker.io/library/alpine", "a", "3.20")
    cache.image("docker.io/library/alpine", "b", "3.21")
    cache.image("docker.io/other/tool", "c", "1")
    cache.image("ghcr.io/o/app", "d")
    where = ("--data-dir", cache.root)
    assert printed("explain", "", *where) == []  # none runs
    with running_service(cache.root):
        bare = f"ghcr.io/o/app@sha256:{'d' * 64}"
        assert printed("explain", "", *where) == [*NAMES[:2], "docker.io/other/tool:1", bare]
        assert printed("explain", NAMES[0][:-1], *where) == NAMES[:2]
        assert printed("lease", "alp", f"--data-dir={cache.root}") == ["alpine:3.20", "alpine:3.21"]
        assert printed("lease", "other", *where) == ["other/tool:1"]
        assert printed("mark-used", bare[:20], *where) == [bare]
        assert printed("explain", "pine", *where) == []
        assert printed("restore", "", *where) == []


def test_an_engine_that_does_not_answer_in_time_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "system/hmret/hmret.sock"
    place.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as deaf:
        monkeypatch.chdir(place.parent)  # the path may be too long for an address
        deaf.bind(place.name)
        deaf.listen()
        ended = run_program(
            [sys.executable, "-m", "hmret", "--complete-images", "explain", ""],
            env={**os.environ, "DATA_DIR": os.path.relpath(tmp_path)},
        )
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGALRM, "", "")


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 503 Busy\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n[1]", b"HTTP/1.1 200 OK\r\n\r\n{"]
)
def test_an_answer_that_makes_no_sense_is_none(
    answer: bytes, tmp_path: Path, printed: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        monkeypatch.setattr("hmret.cli.image_names.socket.socket", lambda _: _Connected(ours))
        assert printed("explain", "", "--data-dir", tmp_path) == []


class _Connected:
    """A socket that is connected wherever it is asked to."""

    def __init__(self, connection: socket.socket) -> None:
        self.sendall, self.makefile = connection.sendall, connection.makefile

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave it to the test."""

    def connect(self, _: str) -> None:
        """It is."""
