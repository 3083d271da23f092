"""Tables that fit a width: the least important columns are dropped first, and no word is broken."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence

from hmret.cli.display.output import is_terminal, printable
from hmret.cli.display.tables import format_table
from hmret.model.values import frozen

_PIPE_WIDTH = 80
_DOTS = "..."
_MOST_NEEDED = 40
_USUAL = 32
"""Columns of little worth are dropped to leave shortenable cells this many characters."""
_CORE = 6
"""Columns of at least this worth are kept as long as shortening cells makes enough room."""
_GAP = 2
"""Spaces between columns."""


def shorten_end(text: str, width: int) -> str:
    """Truncate a text to a number of characters."""
    return text if len(text) <= width else f"{text[: max(width - len(_DOTS), 0)]}{_DOTS}"


def shorten_list(text: str, width: int) -> str:
    """Drop the last elements of a comma-separated list and count them: `3.20,latest,+2`."""
    if len(text) <= width:
        return text
    elements = text.split(",")
    for kept in range(len(elements) - 1, 0, -1):
        shown = f"{','.join(elements[:kept])},+{len(elements) - kept}"
        if len(shown) <= width:
            return shown
    return shorten_end(text, width)


def shorten_repository(name: str, width: int) -> str:
    """Drop leading parts of a repository's name until the rest fits into a number of characters."""
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
    """The columns with the lowest values are dropped first if not all fit."""
    is_right: bool = False
    least: int | None = None
    """Minimum width to which its cells may be shortened on a terminal; None: not shortened."""
    least_of: Callable[[str], int] = lambda _cell: 0
    """How many characters a cell needs if that is more than `least`; capped at 40."""
    shorten: Callable[[str, int], str] = shorten_end


REPOSITORY = Column(title="repository", worth=9, least=16, least_of=last_part, shorten=shorten_repository)
"""The repository of an image."""


def output_width() -> int:
    """Return the width of the terminal on standard output; if it is not one, COLUMNS, else 80."""
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
    """Lay out rows below titles, in as many columns as fit; each row is one line.

    On a terminal, cells are shortened where their columns allow it. In a pipe none is, so that programs read
    whole values; the columns are the same as on a terminal of that width.

    Args:
        columns: the available columns.
        rows: a cell for each column.
        styles: styles of highlighted cells on a terminal, by their text.
        whole: drop and shorten nothing, however wide the table gets.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    natural = [
        max(len(column.title), *(len(row[place]) for row in cells)) if cells else len(column.title)
        for place, column in enumerate(columns)
    ]
    kept = list(range(len(columns)))
    if not whole:
        # A table on a terminal ends with a space.
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
        is_whole=whole,
    )


def _leave_out(
    kept: list[int], worths: Sequence[int], sizes: Sequence[int], width: int, *, at_most: int
) -> None:
    """Drop columns up to some importance, the least important first, until the rest fits; one always stays."""
    while len(kept) > 1 and _total([sizes[place] for place in kept]) > width:
        worst = min(kept, key=lambda place: worths[place])
        if worths[worst] > at_most:
            return
        kept.remove(worst)


def _least(column: Column, cells: Sequence[str]) -> int:
    """Return the minimum width of a column, its title included."""
    natural = max(map(len, cells), default=0)
    if column.least is not None:
        needed = min(max(map(column.least_of, cells), default=0), _MOST_NEEDED)
        natural = min(natural, max(column.least, needed))
    return max(natural, len(column.title))


def _total(sizes: Sequence[int]) -> int:
    return sum(sizes) + _GAP * (len(sizes) - 1)


def _shared_out(natural: Sequence[int], least: Sequence[int], width: int) -> list[int]:
    """Distribute the excess over a width to the columns that can shrink, the widest first."""
    sizes = list(natural)
    while _total(sizes) > width and any(size > low for size, low in zip(sizes, least, strict=True)):
        able = [place for place, size in enumerate(sizes) if size > least[place]]
        widest = max(able, key=lambda place: sizes[place])
        sizes[widest] = max(least[widest], sizes[widest] - (_total(sizes) - width))
    return sizes
