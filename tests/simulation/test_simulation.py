"""Some hundreds of seeds, and the promise that a seed is the same run wherever it runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SEEDS = "0:120"


def simulate(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the program in processes of its own: the order of sets is fixed there."""
    return subprocess.run(
        [sys.executable, "-m", "simulation", *arguments],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"},
    )


@pytest.mark.timeout(300)
def test_every_promise_holds_in_some_hundreds_of_seeds() -> None:
    done = simulate("--seeds", SEEDS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_seed_is_the_same_run_in_every_process() -> None:
    checksums = {tuple(re.findall(r"checksum (\w+)", simulate("--seeds", "3:6").stdout)) for _ in range(2)}
    assert len(checksums) == 1
    assert all(checksums)
