"""The one file takes a Python that it has libraries for, and names those in one line where there is none."""

import shutil
import sys
from pathlib import Path

import pytest

from support.children import Ended, run_program
from support.packaging_programs import load

one_file = load("one_file")

# As pex begins its files: what follows is its own search, which takes what ours has found.
PEX = b'#!/bin/sh\nset -eu\nfind_python() {\n    :\n}\necho "took $PEX_PYTHON"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hmret.pyz").write_bytes(one_file._with_search(PEX))
    return tmp_path


def put_python(folder: Path, name: str, answer: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{answer}\n")
    (folder / name).chmod(0o755)


def start(folder: Path) -> Ended:
    shell = shutil.which("sh") or "/bin/sh"
    return run_program([shell, str(folder / "hmret.pyz")], env={"PATH": str(folder)})


def test_a_host_without_such_a_python_gets_one_line_that_names_those_it_has(folder: Path) -> None:
    put_python(folder, "python3", "echo False")
    put_python(folder, "python3.12", "echo broken >&2; exit 127")
    ended = start(folder)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "hmret: error: this file is for Python 3.11, 3.12 or 3.13 on Linux x86_64, and finds none of them\n"
    )


def test_the_newest_that_works_is_taken(folder: Path) -> None:
    put_python(folder, "python3", "echo True")
    assert start(folder).stdout == f"took {folder}/python3\n"
    put_python(folder, "python3.11", "echo True")
    put_python(folder, "python3.13", "exit 127")
    assert start(folder).stdout == f"took {folder}/python3.11\n"
    put_python(folder, "python3.13", "echo True")
    assert start(folder).stdout == f"took {folder}/python3.13\n"


def test_a_python_is_asked_what_it_is(folder: Path) -> None:
    put_python(folder, "python", f'exec "{sys.executable}" "$@"')
    is_had = sys.version_info[:2] in one_file.PYTHONS and sys.implementation.name == "cpython"
    ended = start(folder)
    assert (ended.returncode == 0) == (is_had and "x86_64" in run_program(["uname", "-m"]).stdout)


def test_a_pex_that_begins_otherwise_is_not_taken_apart() -> None:
    with pytest.raises(SystemExit, match="in another way"):
        one_file._with_search(b"#!/usr/bin/env python3\n")
