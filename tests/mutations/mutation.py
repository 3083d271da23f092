"""One check that is taken away, and the tests that must notice."""

from pathlib import Path

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

    def apply(self, source: Path) -> dict[Path, str]:
        """Return the files below `source` that it changes, with their new texts.

        Raises:
            LookupError: a text does not stand in its file exactly once.
        """
        texts: dict[Path, str] = {}
        for file, old, new in self.edits:
            path = source / file
            text = texts[path] if path in texts else path.read_text() if path.exists() else ""
            if text.count(old) != 1:
                raise LookupError(f"{file}: stands there {text.count(old)} times: {old[:60]!r}")
            texts[path] = text.replace(old, new)
        return texts


def edit(name: str, file: str, old: str, new: str, *tests: tuple[str, ...]) -> Mutation:
    """Make a mutation of one place."""
    return Mutation(name, ((file, old, new),), tuple(one for group in tests for one in group))
