"""Some seeds, of which `make prove` plays a thousand, and the promise that a seed is the same run wherever it runs."""

import os
import re
import sys
from pathlib import Path

from support.bounds import bound
from support.children import Ended, run_program

SEEDS = f"0:{bound(12, 24)}"


def simulate(*arguments: str) -> Ended:
    """Run the program in processes of its own: the order of sets is fixed there."""
    return run_program(
        [sys.executable, "-m", "simulation", *arguments],
        cwd=Path(__file__).parents[1],
        env={name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"},
    )


def test_every_promise_holds_in_each_seed() -> None:
    done = simulate("--seeds", SEEDS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_seed_is_the_same_run_in_every_process() -> None:
    checksums = {tuple(re.findall(r"checksum (\w+)", simulate("--seeds", "3").stdout)) for _ in range(2)}
    assert len(checksums) == 1
    assert all(checksums)
