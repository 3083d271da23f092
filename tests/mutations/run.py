"""Takes away one safety check after the other, and shows that some test then fails.

`PYTHONPATH=tests python -m mutations.run [WORD …]` works on copies of `src` and `tests`; with words, on the mutations
whose names hold one of them. It exits with 1 where a mutation survives, or no longer finds the text that it replaces.
"""

# ruff: noqa: T201 - a program prints

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import attrs

from mutations.checks import MUTATIONS
from mutations.content import CONTENT_MUTATIONS
from mutations.deletion import DELETION_MUTATIONS
from mutations.fleet import FLEET_MUTATIONS
from mutations.fleet_gateway import GATEWAY_MUTATIONS
from mutations.fleet_keeper import KEEPER_MUTATIONS
from mutations.fleet_plan import FLEET_PLAN_MUTATIONS
from mutations.fleet_protocol import PROTOCOL_MUTATIONS
from mutations.mutation import Mutation
from mutations.native import NATIVE_MUTATIONS
from mutations.reading import READING_MUTATIONS
from mutations.volumes import VOLUME_MUTATIONS
from mutations.watching import WATCHING_MUTATIONS

__all__ = ["EVERY", "ROOT", "main"]

EVERY: tuple[Mutation, ...] = (
    *MUTATIONS,
    *CONTENT_MUTATIONS,
    *DELETION_MUTATIONS,
    *FLEET_MUTATIONS,
    *GATEWAY_MUTATIONS,
    *KEEPER_MUTATIONS,
    *FLEET_PLAN_MUTATIONS,
    *NATIVE_MUTATIONS,
    *PROTOCOL_MUTATIONS,
    *READING_MUTATIONS,
    *VOLUME_MUTATIONS,
    *WATCHING_MUTATIONS,
)

ROOT = Path(__file__).parent.parent.parent
AT_A_TIME = 2
# What one test may take before it counts as hanging; or four times what the slowest takes untouched, where that is
# longer: a slow machine must not pass for a test that has noticed something. All tests of a mutation: four times that.
LONGEST_TEST_SECONDS = 100
LONGEST_UNTOUCHED_SECONDS = 4 * 3600


@attrs.frozen
class Outcome:
    """What became of one mutation."""

    mutation: Mutation
    verdict: str
    """`red`, `SURVIVED`, `NOT FOUND`, or `BROKEN` where the tests could not even run."""
    seconds: float
    detail: str


def main(arguments: Sequence[str]) -> int:
    """Run the mutations and print a table; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="only the mutations whose names hold one of these")
    words = parser.parse_args(arguments).words
    chosen = [one for one in EVERY if not words or any(word in one.name for word in words)]
    tests = tuple(dict.fromkeys(test for mutation in chosen for test in mutation.tests))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        untouched = make_copy(ROOT, place / "untouched")
        status, failed, slowest = run_tests(untouched, tests, LONGEST_UNTOUCHED_SECONDS)
        if status != 0:
            print(f"the tests fail before anything is mutated: {failed}")
            return 1
        longest = max(LONGEST_TEST_SECONDS, 4 * slowest)
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            outcomes = []
            copies = [place / str(number) for number in range(len(chosen))]
            mutating = partial(mutate, untouched, longest=longest)
            for outcome in pool.map(mutating, copies, chosen):
                line = f"{outcome.verdict:9} {outcome.seconds:5.1f} s  {outcome.mutation.name:58} {outcome.detail}"
                print(line.rstrip(), flush=True)
                outcomes.append(outcome)
    bad = [outcome for outcome in outcomes if outcome.verdict != "red"]
    print(f"{len(outcomes)} mutations, {len(outcomes) - len(bad)} caught, {len(bad)} not")
    return 1 if bad else 0


def make_copy(tree: Path, place: Path) -> Path:
    """Copy what the tests need."""
    place.mkdir()
    shutil.copy(tree / "pyproject.toml", place)
    for name in ("src", "tests"):
        shutil.copytree(
            tree / name, place / name, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis")
        )
    return place


def mutate(untouched: Path, place: Path, mutation: Mutation, *, longest: float) -> Outcome:
    """Apply one mutation to a copy, and run its tests."""
    begin = time.monotonic()
    copy = make_copy(untouched, place)
    try:
        texts = mutation.apply(copy / "src/hmret")
    except LookupError as error:
        return Outcome(mutation, "NOT FOUND", 0.0, str(error))
    for path, text in texts.items():
        path.write_text(text)
        if path.suffix == ".c":
            build(path)
    status, failed, _ = run_tests(copy, mutation.tests, longest)
    shutil.rmtree(place)
    # Below zero it was killed by a signal; above one pytest itself could not work.
    verdict = "SURVIVED" if status == 0 else "red" if status <= 1 else "BROKEN"
    return Outcome(mutation, verdict, time.monotonic() - begin, failed)


def build(source: Path) -> None:
    """Build the native core of a copy, of which a source has changed."""
    include = f"-I{sysconfig.get_path('include')}"
    source, built = source.with_name("_native.c"), source.with_name("_native.abi3.so")
    subprocess.run(["cc", "-O1", "-fPIC", "-shared", include, str(source), "-o", str(built)], check=True)


def run_tests(copy: Path, tests: Sequence[str], longest: float) -> tuple[int, str, float]:
    """Run tests on a copy until one fails, or takes longer than so many seconds.

    Returns the exit status (0: none failed), what failed, and how long the slowest took.
    """
    path = os.pathsep.join([str(copy / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    program = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    # A test that is killed, or hangs, has failed too.
    program += [f"--timeout={longest}", "--durations=1", "--tb=no"]
    program += [test for test in tests if (copy / test).exists()]
    try:
        ended = subprocess.run(
            program,
            cwd=copy,
            env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=4 * longest,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 1, "it hangs", longest
    match = re.search(r"^(?:FAILED|ERROR) tests/(.+?)(?: - .*)?$", ended.stdout, re.MULTILINE)
    failed = match[1] if match else f"exit status {ended.returncode}" if ended.returncode else ""
    took = re.search(r"^([0-9.]+)s (?:call|setup|teardown) ", ended.stdout, re.MULTILINE)
    # A file that cannot even be imported shows nothing.
    status = 2 if ended.returncode == 1 and "::" not in failed else ended.returncode
    return status, failed, float(took[1]) if took else 0.0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
