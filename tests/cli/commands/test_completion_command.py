"""Completion: shells take the scripts, and complete what is typed, as it is typed."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from hmret.cli.commands.completion import Shell
from hmret.cli.parsing.app import make_app
from support.children import child, run_program
from support.terminals import open_terminal

Call = Callable[..., tuple[int, str, str]]

SHELLS = get_args(Shell)
COMMANDS = [name for name in make_app() if not name.startswith("-")]

# What a person would have in the shell's start file, and a program that tells how it was called.
BASH = """
PS1='ready> '
hmret() { printf 'called<%s>\\n' "$*"; }
source {folder}/hmret.bash
"""
ZSH = """
PS1='ready> '
fpath=({folder} $fpath)
autoload -Uz compinit && compinit -u -d {folder}/dump
hmret() { printf 'called<%s>\\n' "$*"; }
"""
START = {"bash": (".bashrc", BASH, ["bash", "--noprofile", "-i"]), "zsh": (".zshrc", ZSH, ["zsh", "-i"])}


def needs(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")


def script_in(folder: Path, shell: str) -> Path:
    """Tell where a script is; zsh looks for a function in the file of its name."""
    return folder / ("_cyclopts_hmret" if shell == "zsh" else f"hmret.{shell}")


_scripts: dict[str, str] = {}
"""What the command has printed for each shell."""


@pytest.fixture
def folder(tmp_path: Path, call: Call) -> Path:
    """A home with the scripts of all shells, and a data directory."""
    for shell in SHELLS:
        if shell not in _scripts:
            code, _scripts[shell], complaints = call("completion", shell)
            assert (code, complaints) == (0, "")
        script_in(tmp_path, shell).write_text(_scripts[shell])
    (tmp_path / "data").mkdir()
    return tmp_path


def type_into(shell: str, keys: str, folder: Path) -> str:
    """Type into a shell at a terminal; returns what the program was called with."""
    name, start, command = START[shell]
    (folder / name).write_text(start.replace("{folder}", str(folder)))
    ours, theirs = open_terminal()
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "xterm", "INPUTRC": os.devnull}
    seen = b""
    with child(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=folder):
        os.close(theirs)
        try:
            while not (called := re.search(rb"called<(.*)>", seen)):
                if keys and b"ready> " in seen:
                    os.write(ours, f"{keys}\n".encode())
                    keys = ""
                seen += os.read(ours, 65536)
        finally:
            os.close(ours)
    return called[1].decode().rstrip()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_takes_its_script(shell: str, folder: Path) -> None:
    needs(shell)
    checked = run_program([shell, "-n", script_in(folder, shell)])
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize(
    ("typed", "called"),
    [
        ("hmret sw\t", "sweep"),
        ("hmret mark\t", "mark-used"),
        ("hmret sweep --data\t", "sweep --data-dir"),
        ("hmret sweep --enable --log-f\t", "sweep --enable --log-format"),
        ("hmret run --backend t\t", "run --backend trio"),
        ("hmret plan --data-dir dat\tnew", "plan --data-dir data/new"),
        ("hmret completion f\t", "completion fish"),
    ],
)
def test_what_is_begun_is_completed(shell: str, typed: str, called: str, folder: Path) -> None:
    needs(shell)
    assert type_into(shell, typed, folder) == called


def test_options_before_the_command_do_not_hide_it(folder: Path) -> None:
    assert type_into("bash", "hmret --data-dir data --enable sweep --log-f\t", folder).endswith(
        "--log-format"
    )


def test_bash_proposes_every_command(folder: Path) -> None:
    program = f"source {script_in(folder, 'bash')}; COMP_WORDS=(hmret ''); COMP_CWORD=1; _hmret; echo ${{COMPREPLY[@]}}"
    found = run_program(["bash", "-c", program], check=True)
    assert found.stdout.split() == COMMANDS


@pytest.mark.parametrize(
    ("typed", "proposed"),
    [
        ("hmret ", set(COMMANDS)),
        ("hmret sw", {"sweep"}),
        ("hmret sweep --data", {"--data-dir"}),
        ("hmret run --backend t", {"trio"}),
        ("hmret plan --data-dir dat", {"data/"}),
        ("hmret completion f", {"fish"}),
    ],
)
def test_fish_proposes_what_may_be_meant(typed: str, proposed: set[str], folder: Path) -> None:
    needs("fish")
    program = f"source {script_in(folder, 'fish')}; complete -C '{typed}'"
    environment = {**os.environ, "HOME": str(folder)}
    found = run_program(["fish", "--no-config", "-c", program], check=True, env=environment, cwd=folder)
    assert {line.partition("\t")[0] for line in found.stdout.splitlines()} >= proposed
