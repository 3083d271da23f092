"""Explores the protocol of the fleet over every interleaving: `python -m fleet.exploring [--steps N] [WORD …]`.

The small scenarios are explored whole, the large ones up to a number of steps; then each mutant has to break a
promise. It exits with 1 where a promise is broken, or a mutant breaks none. With words, only the scenarios and
mutants whose names hold one of them.
"""

# ruff: noqa: T201 - a program prints

import argparse
import sys
import time
from collections.abc import Sequence

from fleet.exploring.mutants import MUTANTS
from fleet.exploring.scenarios import DEATHS, LARGE, SMALL, mutated
from fleet.exploring.search import Found, Setup, explore

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Explore, and print a line for each scenario; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2_000_000, help="of each large scenario, at most")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args(arguments)
    failed = 0
    for name, setup in {**SMALL, **LARGE}.items():
        if _is_chosen(name, options.words):
            found = _explored(name, setup, None if name in SMALL else options.steps)
            failed += found.problem is not None
    for mutant in DEATHS:
        if _is_chosen(mutant, options.words):
            found = _explored(f"{mutant} ({MUTANTS[mutant]})", mutated(mutant), options.steps)
            failed += found.problem is None
    print(f"{failed} not as they should be" if failed else "all as it should be")
    return 1 if failed else 0


def _is_chosen(name: str, words: Sequence[str]) -> bool:
    return not words or any(word in name for word in words)


def _explored(name: str, setup: Setup, most_steps: int | None) -> Found:
    begin = time.process_time()
    found = explore(setup, most_steps)
    seconds = time.process_time() - begin
    whole = "whole" if found.is_whole else "not whole"
    outcome = whole if found.problem is None else found.problem
    print(f"{found.states:9,} states {found.steps:10,} steps {seconds:6.1f} s  {name}: {outcome}", flush=True)
    for number, label in enumerate(found.trace, 1):
        print(f"    {number:3} {label}")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
