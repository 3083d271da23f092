"""Every mutation can be applied to the sources as they are, and the tests that must notice it are there."""

from collections import Counter
from collections.abc import Iterator
from importlib import import_module

from mutations.mutation import Mutation
from mutations.run import EVERY, ROOT

SOURCE = ROOT / "src/hmret"


def listed() -> Iterator[Mutation]:
    """Go through all tables that stand beside the program."""
    for path in sorted((ROOT / "tests/mutations").glob("*.py")):
        for name, value in vars(import_module(f"mutations.{path.stem}")).items():
            if name.endswith("MUTATIONS"):
                yield from value


def complaint(mutation: Mutation) -> str | None:
    """Say why a mutation cannot be applied; None: it can."""
    try:
        mutation.apply(SOURCE)
    except LookupError as error:
        return f"{mutation.name}: {error}"
    return None


def test_the_text_that_a_mutation_replaces_stands_exactly_once() -> None:
    assert list(filter(None, map(complaint, EVERY))) == []


def test_a_mutation_changes_something() -> None:
    assert [one.name for one in EVERY if any(old == new for _, old, new in one.edits)] == []


def test_the_tests_of_a_mutation_are_there() -> None:
    assert [one.name for one in EVERY if not one.tests] == []
    assert {test for one in EVERY for test in one.tests if not (ROOT / test).is_file()} == set()


def test_a_mutation_has_a_name_of_its_own() -> None:
    assert [name for name, count in Counter(one.name for one in EVERY).items() if count > 1] == []


def test_every_table_is_run() -> None:
    assert set(listed()) == set(EVERY)
