"""Tables of columns that fit a width: what is worth least is left out first, and no word is broken."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence

from hmret.cli.display.output import is_terminal, printable
from hmret.cli.display.tables import format_table
from hmret.model.values import frozen

__all__ = [
    "Column",
    "format_columns",
    "last_part",
    "output_width",
    "shorten_end",
    "shorten_list",
    "shorten_repository",
]

_PIPE_WIDTH = 80
_DOTS = "..."
_MOST_NEEDED = 40
_USUAL = 32
"""For how many characters of a cell that can be shortened columns of less worth make room."""
_CORE = 6
"""Of what worth columns are that shortening others makes room for."""
_GAP = 2
"""Spaces between two columns."""


def shorten_end(text: str, width: int) -> str:
    """Cut a text off at a number of characters."""
    return text if len(text) <= width else f"{text[: max(width - len(_DOTS), 0)]}{_DOTS}"


def shorten_list(text: str, width: int) -> str:
    """Leave out the last elements of a list with commas, and count them: `3.20,latest,+2`."""
    if len(text) <= width:
        return text
    elements = text.split(",")
    for kept in range(len(elements) - 1, 0, -1):
        shown = f"{','.join(elements[:kept])},+{len(elements) - kept}"
        if len(shown) <= width:
            return shown
    return shorten_end(text, width)


def shorten_repository(name: str, width: int) -> str:
    """Leave out the first parts of a repository's name, so that its last ones fit into a number of characters."""
    if len(name) <= width:
        return name
    rest = name
    while "/" in rest:
        rest = rest.partition("/")[2]
        if len(rest) + len(_DOTS) + 1 <= width:
            return f"{_DOTS}/{rest}"
    return shorten_end(rest, width)


def last_part(name: str) -> int:
    """Return how many characters it takes to show the last part of a repository's name."""
    _, slash, last = name.rpartition("/")
    return len(last) + (len(_DOTS) + 1 if slash else 0)


@frozen(kw_only=True)
class Column:
    """One column of a table."""

    title: str
    worth: int
    """Columns of least worth are left out first where not all fit."""
    is_right: bool = False
    least: int | None = None
    """To how many characters its cells may be shortened at a terminal; None: not at all."""
    least_of: Callable[[str], int] = lambda _cell: 0
    """How many characters a cell needs besides; no more than 40 are taken for it."""
    shorten: Callable[[str, int], str] = shorten_end


def output_width() -> int:
    """Return how many columns the reader of standard output has: 80, where that is no terminal and COLUMNS says nothing."""
    given = os.environ.get("COLUMNS", "")
    if given.isascii() and given.isdigit() and 0 < len(given) <= len("10000") and int(given):
        return int(given)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or _PIPE_WIDTH
    except (OSError, ValueError, AttributeError):
        return _PIPE_WIDTH


def format_columns(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    styles: Mapping[str, str] | None = None,
    whole: bool = False,
) -> str:
    """Lay out rows below titles, in as many of the columns as fit; each row is one line.

    At a terminal cells are shortened where their columns say so. In a pipe none is, so that what a program finds there
    is whole; the columns are the same as at a terminal of that width.

    Args:
        columns: what there is to show.
        rows: a cell for each column.
        styles: cells that stand out on a terminal, by their text.
        whole: leave out nothing and shorten nothing, however wide it gets.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    natural = [
        max(len(column.title), *(len(row[place]) for row in cells)) if cells else len(column.title)
        for place, column in enumerate(columns)
    ]
    kept = list(range(len(columns)))
    if not whole:
        # The table of a terminal ends with a space.
        width = output_width() - is_terminal(sys.stdout)
        least = [_least(column, [row[place] for row in cells]) for place, column in enumerate(columns)]
        usual = [
            size if column.least is None else min(size, max(_USUAL, low))
            for column, size, low in zip(columns, natural, least, strict=True)
        ]
        _leave_out(kept, [column.worth for column in columns], usual, width, at_most=_CORE - 1)
        _leave_out(kept, [column.worth for column in columns], least, width, at_most=_CORE + len(columns))
        if is_terminal(sys.stdout):
            sizes = _shared_out([natural[place] for place in kept], [least[place] for place in kept], width)
            for place, size in zip(kept, sizes, strict=True):
                for row in cells:
                    row[place] = columns[place].shorten(row[place], size)
    return format_table(
        [[row[place] for place in kept] for row in cells],
        titles=[columns[place].title for place in kept],
        right=[number for number, place in enumerate(kept) if columns[place].is_right],
        styles=styles,
        is_cut=True,
    ).rstrip("\n")


def _leave_out(
    kept: list[int], worths: Sequence[int], sizes: Sequence[int], width: int, *, at_most: int
) -> None:
    """Leave out columns of at most some worth, those of least worth first, until the others fit; one always stays."""
    while len(kept) > 1 and _total([sizes[place] for place in kept]) > width:
        worst = min(kept, key=lambda place: worths[place])
        if worths[worst] > at_most:
            return
        kept.remove(worst)


def _least(column: Column, cells: Sequence[str]) -> int:
    """Return how many characters a column needs at least, its title included."""
    natural = max(map(len, cells), default=0)
    if column.least is not None:
        needed = min(max(map(column.least_of, cells), default=0), _MOST_NEEDED)
        natural = min(natural, max(column.least, needed))
    return max(natural, len(column.title))


def _total(sizes: Sequence[int]) -> int:
    return sum(sizes) + _GAP * (len(sizes) - 1)


def _shared_out(natural: Sequence[int], least: Sequence[int], width: int) -> list[int]:
    """Take what is too much for a width from the columns that can do with less, the widest first."""
    sizes = list(natural)
    while _total(sizes) > width and any(size > low for size, low in zip(sizes, least, strict=True)):
        able = [place for place, size in enumerate(sizes) if size > least[place]]
        widest = max(able, key=lambda place: sizes[place])
        sizes[widest] = max(least[widest], sizes[widest] - (_total(sizes) - width))
    return sizes
