"""Holds anchors and mutations against each other, without running a test.

`PYTHONPATH=tests python -m mutations.check` prints what is wrong, a line each, and exits with 1 where anything is: an anchor
that no mutation takes away, a mutation that finds no anchor or changes nothing, a test that is not there.
"""

# ruff: noqa: T201 - a program prints

import ast
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from mutations.anchors import anchors_of
from mutations.mutation import Mutation
from mutations.run import EVERY, ROOT

__all__ = ["complaints"]


def complaints(source: Path, mutations: Sequence[Mutation]) -> Iterator[str]:
    """Say what is wrong with the anchors below a folder of sources, or with the mutations of them."""
    try:
        anchors = anchors_of(source)
    except LookupError as error:
        yield str(error)
        return
    used = {guard for mutation in mutations for guard, _ in mutation.changes}
    yield from (
        f"{anchors[guard].path}: no mutation takes guard({guard}) away" for guard in sorted({*anchors} - used)
    )
    names = Counter(mutation.name for mutation in mutations)
    yield from (f"{name}: stands in the table {count} times" for name, count in names.items() if count > 1)
    for mutation in mutations:
        yield from (f"{mutation.name}: {complaint}" for complaint in _complaints_of(source, mutation))
    yield from _unknown_names(source, mutations)


def _complaints_of(source: Path, mutation: Mutation) -> Iterator[str]:
    if not mutation.tests:
        yield "no test is to notice it"
    yield from (f"there is no {test}" for test in mutation.tests if not (ROOT / test).is_file())
    try:
        texts = mutation.apply(source)
    except LookupError as error:
        yield str(error)
        return
    for path, text in texts.items():
        if path.suffix == ".py" and _meaning(text) == _meaning(path.read_text()):
            yield f"it changes nothing in {path}"


def _unknown_names(source: Path, mutations: Sequence[Mutation]) -> Iterator[str]:
    """Look for names that nothing has: such a mutation would be noticed for the wrong reason."""
    with tempfile.TemporaryDirectory() as folder:
        for number, mutation in enumerate(mutations):
            try:
                texts = mutation.apply(source)
            except LookupError:
                continue  # which has been said
            for path, text in texts.items():
                if path.suffix == ".py":
                    (Path(folder) / f"{number}-{path.name}").write_text(text)
        program = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "F821"]
        found = subprocess.run(
            [*program, "--output-format", "concise", "--quiet", folder],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
    for number, complaint in re.findall(
        r"^\D*?(\d+)-[^:/]*\.py:\S+ (.*)$", found.replace(f"{folder}/", ""), re.MULTILINE
    ):
        yield f"{mutations[int(number)].name}: {complaint}"


@cache
def _meaning(text: str) -> str:
    return ast.dump(ast.parse(text))


if __name__ == "__main__":
    found = list(complaints(ROOT / "src/hmret", EVERY))
    print("\n".join(found) or f"{len(EVERY)} mutations, each with its anchors")
    sys.exit(1 if found else 0)
