"""Anchors of the mutation table: comments in the sources, each above the statement that keeps a promise.

    # guard(sync-the-intent): Recovery relies on it: nothing is renamed before the intent is on the disk.

In C they are comments as well. Several of them may stand above one statement.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import attrs

__all__ = ["Anchor", "anchors_in", "anchors_of"]

_ANCHOR = re.compile(r"^[ \t]*(?:#|/\*) guard\(([^)\n]*)\)", re.MULTILINE)
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_BEFORE_BODY = re.compile(r"(?:\n[ \t]*(?:#[^\n]*)?)+\Z")
_C_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_C_TEXT = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|/\*.*?\*/", re.DOTALL)


@attrs.frozen
class Anchor:
    """One anchor, and the statement below it."""

    guard: str
    path: Path
    start: int
    """Where the statement begins in the text of its file."""
    header_end: int
    """Where it ends, or, where others stand in it, where the first of those begins."""
    end: int
    condition: tuple[int, int] | None
    """Where its condition stands; None: it has none."""


@cache
def anchors_of(source: Path) -> dict[str, Anchor]:
    """Find all anchors below a folder of sources.

    Raises:
        LookupError: one is named twice, or wrongly, or stands above nothing.
    """
    found: dict[str, Anchor] = {}
    for path in sorted((*source.rglob("*.py"), *source.rglob("*.c"))):
        for anchor in anchors_in(path, path.read_text()):
            if anchor.guard in found:
                raise LookupError(f"guard({anchor.guard}) stands in {found[anchor.guard].path} and in {path}")
            found[anchor.guard] = anchor
    return found


@cache
def anchors_in(path: Path, text: str) -> tuple[Anchor, ...]:
    """Find the anchors in the text of a file.

    Raises:
        LookupError: one is named wrongly, or stands above nothing.
    """
    places = [(match[1], match.end()) for match in _ANCHOR.finditer(text)]
    for guard, at in places:
        if _NAME.fullmatch(guard) is None or text[at : at + 2] != ": ":
            raise LookupError(f"{path}: not `guard(some-name): …`: {text[at - 20 : at + 10]!r}")
    if not places:
        return ()
    find = _in_c if path.suffix == ".c" else _in_python
    return tuple(find(path, text, places))


def _in_python(path: Path, text: str, places: list[tuple[str, int]]) -> Iterator[Anchor]:
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def at(line: int, column: int) -> int:
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    statements: dict[int, ast.stmt] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.stmt):
            # The outermost of those that begin in one line.
            statements.setdefault(node.lineno, node)
    for guard, place in places:
        above = text.count("\n", 0, place) + 1
        below = min((number for number in statements if number > above), default=0)
        between = lines[above : below - 1] if below else ["nothing"]
        if not all(one.lstrip().startswith("#") for one in between):
            raise LookupError(f"{path}: no statement below guard({guard})")
        node = statements[below]
        start = at(node.lineno, node.col_offset)
        end = at(node.end_lineno or below, node.end_col_offset or 0)
        body = getattr(node, "body", None)
        header_end = end
        if body:
            header = text[start : at(body[0].lineno, body[0].col_offset)]
            header_end = start + len(_BEFORE_BODY.sub("", header))
        test = getattr(node, "test", None)
        condition = None
        if test is not None:
            condition = (at(test.lineno, test.col_offset), at(test.end_lineno, test.end_col_offset))
        yield Anchor(guard, path, start, header_end, end, condition)


def _in_c(path: Path, text: str, places: list[tuple[str, int]]) -> Iterator[Anchor]:
    for guard, place in places:
        start = text.index("*/", place) + 2
        while True:
            start += len(text[start:]) - len(text[start:].lstrip())
            comment = _C_COMMENT.match(text, start)
            if comment is None:
                break
            start = comment.end()
        if text[start : start + 1] in ("", "}"):
            raise LookupError(f"{path}: no statement below guard({guard})")
        end, condition = _c_statement(text, start)
        yield Anchor(guard, path, start, end, end, condition)


def _c_statement(text: str, start: int) -> tuple[int, tuple[int, int] | None]:
    """Find the end of a statement in C, or that of its head where it has a body, and its first parenthesis."""
    if text[start] == "#":
        end = start
        while True:
            end = text.index("\n", end)
            if text[end - 1] != "\\":
                return end, None
            end += 1
    depth, at, opened = 0, start, -1
    condition = None
    while True:
        quoted = _C_TEXT.match(text, at)
        if quoted is not None:
            at = quoted.end()
            continue
        character = text[at]
        if character in "([":
            if depth == 0 and opened < 0:
                opened = at + 1
            depth += 1
        elif character in ")]":
            depth -= 1
            if depth == 0 and condition is None:
                condition = (opened, at)
        elif character in ";{" and depth == 0:
            is_condition = re.match(r"(?:\}?\s*else\s+)?(?:if|while)\b", text[start:])
            return at + 1, condition if is_condition else None
        at += 1
