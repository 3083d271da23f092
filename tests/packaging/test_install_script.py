"""Where `packaging/install.sh` would put things: an interpreter that only notes what it is called with tells."""

import os
import subprocess
from pathlib import Path

import pytest

from support.packaging_programs import PACKAGING

PYTHON = """\
#!/bin/sh
echo "$*" >>"$CALLS"
[ "$1" = -c ]
"""


def prefix_of(tmp_path: Path, action: str = "install", **variables: str) -> str:
    """Return the folder for the environment, or what is said of it; nothing is made in it."""
    calls = tmp_path / "calls"
    calls.write_text("")
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    done = subprocess.run(
        ["sh", str(PACKAGING / "install.sh"), action],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHON": str(python), "CALLS": str(calls), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    venv = [line for line in calls.read_text().splitlines() if line.startswith("-m venv")]
    return venv[0].removeprefix("-m venv --clear ") if venv else done.stderr


@pytest.mark.parametrize("root", ["{}", "{}/", "."])
def test_below_another_root_the_environment_is_below_it_too(tmp_path: Path, root: str) -> None:
    place = prefix_of(tmp_path, ROOT=root.format(tmp_path / "root") if root != "." else "root")
    assert place == f"{tmp_path}/root/opt/hmret"


def test_a_prefix_that_is_given_is_taken_as_it_is(tmp_path: Path) -> None:
    assert prefix_of(tmp_path, ROOT=str(tmp_path / "root"), PREFIX=f"{tmp_path}/own") == f"{tmp_path}/own"
    assert "expected a path from /, got own" in prefix_of(tmp_path, PREFIX="own")


def test_what_is_below_another_root_is_removed_there(tmp_path: Path) -> None:
    told = prefix_of(tmp_path, "uninstall", ROOT=str(tmp_path / "root"))
    assert told.startswith(f"hmret: {tmp_path}/root/opt/hmret: no installation of hmret")
