"""One check that is taken away, and the tests that must notice."""

from pathlib import Path
from typing import Protocol

import attrs

from mutations.anchors import Anchor, anchors_in, anchors_of

__all__ = ["ALWAYS", "DROP", "NEVER", "Become", "Change", "Mutation", "Swap", "edit"]


class Change(Protocol):
    """What becomes of the statement below an anchor."""

    def apply(self, text: str, anchor: Anchor) -> str:
        """Return the text of the file with the statement changed.

        Raises:
            LookupError: it is not a statement that can be changed so.
        """
        ...


@attrs.frozen
class Swap:
    """Has another text where one stands in the statement once, its body apart; code that stands there alone says so."""

    old: str
    new: str

    def apply(self, text: str, anchor: Anchor) -> str:
        head = text[anchor.start : anchor.header_end]
        if head.count(self.old) != 1:
            raise LookupError(
                f"guard({anchor.guard}): {self.old!r} stands there {head.count(self.old)} times"
            )
        return text[: anchor.start] + head.replace(self.old, self.new) + text[anchor.header_end :]


@attrs.frozen
class Become:
    """Has another statement in its place, or several; its lines but the first are indented as far as that."""

    statement: str

    def apply(self, text: str, anchor: Anchor) -> str:
        column = anchor.start - (text.rfind("\n", 0, anchor.start) + 1)
        statement = self.statement.replace("\n", "\n" + " " * column)
        return text[: anchor.start] + statement + text[anchor.end :]


@attrs.frozen
class _Condition:
    """Has a condition that never, or always, holds."""

    python: str
    c: str

    def apply(self, text: str, anchor: Anchor) -> str:
        if anchor.condition is None:
            raise LookupError(f"guard({anchor.guard}): the statement has no condition")
        start, end = anchor.condition
        return text[:start] + (self.c if anchor.path.suffix == ".c" else self.python) + text[end:]


@attrs.frozen
class _Drop:
    """Has nothing in its place."""

    def apply(self, text: str, anchor: Anchor) -> str:
        return text[: anchor.start] + (";" if anchor.path.suffix == ".c" else "pass") + text[anchor.end :]


NEVER: Change = _Condition("False", "0")
ALWAYS: Change = _Condition("True", "1")
DROP: Change = _Drop()


@attrs.frozen
class Mutation:
    """One safety check that is taken away."""

    name: str
    changes: tuple[tuple[str, Change], ...]
    """The names of guards, and what becomes of the statement below each."""
    tests: tuple[str, ...]
    """The files of which one test at least must fail."""

    def apply(self, source: Path) -> dict[Path, str]:
        """Return the files below `source` that it changes, with their new texts.

        Raises:
            LookupError: a guard is not there, or its statement cannot be changed so.
        """
        paths = {guard: anchor.path for guard, anchor in anchors_of(source).items()}
        texts: dict[Path, str] = {}
        for guard, change in self.changes:
            if guard not in paths:
                raise LookupError(f"no guard({guard})")
            path = paths[guard]
            text = texts[path] if path in texts else path.read_text()
            anchor = next(one for one in anchors_in(path, text) if one.guard == guard)
            texts[path] = change.apply(text, anchor)
        return texts


def edit(name: str, guard: str, change: Change, *tests: tuple[str, ...]) -> Mutation:
    """Make a mutation of one place."""
    return Mutation(name, ((guard, change),), tuple(one for group in tests for one in group))
