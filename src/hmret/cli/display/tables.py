"""Tables, and the formats of sizes and times: rich on a terminal, aligned text everywhere else."""

import sys
from collections.abc import Iterable, Mapping, Sequence

from hmret.api.wire.structs import SuspensionDocument
from hmret.cli.display.output import is_terminal, printable
from hmret.model.durations import format_span
from hmret.model.images import Suspension
from hmret.model.times import SECOND, format_time

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_STEP = 1024
_ENDLESS = 1_000_000
"""Characters; more than any table needs."""
_SHORT = 12  # hex digits, as other tools show


def format_table(
    rows: Iterable[Sequence[str]],
    *,
    titles: Sequence[str] = (),
    right: Sequence[int] = (),
    styles: Mapping[str, str] | None = None,
    is_cut: bool = False,
    is_whole: bool = False,
) -> str:
    """Lay out rows in columns for standard output.

    Args:
        rows: the cells; each row becomes one line, whatever its cells contain.
        titles: a title for each column; empty: no title line.
        right: indexes of the right-aligned columns.
        styles: styles of highlighted cells on a terminal, by their text.
        is_cut: truncate cells that are too wide for a terminal instead of wrapping them.
        is_whole: do not limit the table to the width of a terminal, which wraps the lines that are longer.
    """
    titles = [title.upper() for title in titles]
    cells = [[printable(cell) for cell in row] for row in rows]
    if is_terminal(sys.stdout):
        return _on_terminal(cells, titles, right, styles or {}, is_cut=is_cut, is_whole=is_whole)
    if titles:
        cells.insert(0, titles)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(_aligned(row, widths, right) for row in cells)


def format_seconds(seconds: float) -> str:
    """Format a duration to the millisecond: `80ms`, `1m2.5s`."""
    return format_span(round(seconds * 1000) * (SECOND // 1000))


def format_size(size_bytes: int) -> str:
    """Format a size for people: `512 B`, `1.5 MiB`."""
    if size_bytes < _STEP:
        return f"{size_bytes} B"
    size, unit = size_bytes / _STEP, 0
    while size >= _STEP and unit < len(_UNITS) - 1:
        size, unit = size / _STEP, unit + 1
    return f"{size:.1f} {_UNITS[unit]}"


def format_when(nanoseconds: int | None) -> str:
    """Format a time to the second; `-` if there is none."""
    return "-" if nanoseconds is None else format_time(nanoseconds // SECOND * SECOND)


def format_suspension(suspension: Suspension | SuspensionDocument) -> str:
    """Format why deletion is suspended and how to fix it, in one line."""
    return f"deletion is suspended: {printable(put_suspension(suspension))}"


def put_suspension(suspension: Suspension | SuspensionDocument) -> str:
    """Describe a suspension in words."""
    return ": ".join(filter(None, (suspension.cause.value, suspension.path, suspension.detail)))


def shorten_digest(digest: str) -> str:
    """Shorten a digest to the form that other tools show and every command here accepts."""
    return digest.removeprefix("sha256:")[:_SHORT]


def terminal_digest(digest: str) -> str:
    """Shorten a digest on a terminal; files and programs get all of it."""
    return shorten_digest(digest) if is_terminal(sys.stdout) else digest


def format_day(nanoseconds: int | None) -> str:
    """Format the UTC day of a time; `-` if there is none."""
    return format_when(nanoseconds)[: len("2026-12-24")]


def format_minute(nanoseconds: int | None) -> str:
    """Format a time to the minute, in UTC; `-` if there is none."""
    return cut_to_minute(None if nanoseconds is None else format_time(nanoseconds))


def cut_to_minute(time: str | None) -> str:
    """Shorten an RFC 3339 time in UTC to the minute; `-` if there is none."""
    return "-" if time is None else f"{time[: len('2026-12-24T00:00')]}Z"


def _aligned(row: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> str:
    padded = [
        cell.rjust(width) if column in right else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()


def _on_terminal(
    cells: Sequence[Sequence[str]],
    titles: Sequence[str],
    right: Sequence[int],
    styles: Mapping[str, str],
    *,
    is_cut: bool,
    is_whole: bool,
) -> str:
    from rich import box  # noqa: PLC0415 - not needed without a terminal
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(
        box=box.SIMPLE_HEAD if titles else None,
        show_header=bool(titles),
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in range(len(titles) or len(cells[0])):
        table.add_column(
            titles[column] if titles else "",
            justify="right" if column in right else "left",
            overflow="ellipsis" if is_cut else "fold",
            no_wrap=is_cut,
        )
    for row in cells:
        table.add_row(*(Text(cell, style=styles.get(cell, "")) for cell in row))
    console = Console(file=sys.stdout, width=_ENDLESS if is_whole else None)
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip("\n")
