"""One check that is taken away, and the tests that must notice."""

import attrs

__all__ = ["Mutation", "edit"]


@attrs.frozen
class Mutation:
    """One safety check that is taken away."""

    name: str
    edits: tuple[tuple[str, str, str], ...]
    """A file below `src/hmret`, a text that stands in it exactly once, and what takes its place."""
    tests: tuple[str, ...]
    """The files of which one test at least must fail."""


def edit(name: str, file: str, old: str, new: str, *tests: tuple[str, ...]) -> Mutation:
    """Make a mutation of one place."""
    return Mutation(name, ((file, old, new),), tuple(one for group in tests for one in group))
