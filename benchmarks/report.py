"""The table: one layout with all of its figures, or two side by side."""

import statistics
from collections.abc import Iterable, Sequence

from benchmarks.measure import Row
from benchmarks.trees import LAYOUTS, Layout

__all__ = ["show", "show_side_by_side"]

_HEADER = ["figure", "ours (min / median / max)", "floor (min / median / max)"]
_HEADER += ["value", "spread", "goal", "verdict"]


def show(rows: Sequence[Row]) -> None:
    """Print a row each."""
    _print([_HEADER, *(row.cells() for row in rows)])
    _print_notes(rows)


def show_side_by_side(rows: Sequence[Row]) -> None:
    """Print each figure once, with what it is in either layout, and how much longer ours takes in content."""
    figures: dict[str, dict[Layout, Row]] = {}
    for row in rows:
        figures.setdefault(row.figure, {})[row.layout] = row
    header = ["figure"]
    for layout in LAYOUTS:
        header += [f"{layout}: ours", "floor", "value", "verdict"]
    lines = [[*header, "goal", "ours, content / legacy"]]
    for figure, measured in figures.items():
        line = [figure]
        for layout in LAYOUTS:
            line += _short(measured.get(layout))
        [first, *_] = measured.values()
        lines.append([*line, first.cells()[5], _compare(measured)])
    _print(lines)
    _print_notes(rows)


def _short(row: Row | None) -> list[str]:
    if row is None:
        return ["-"] * 4
    floor = _amount(row, row.floor) if row.floor else "-"
    return [_amount(row, row.ours), floor, row.cells()[3], row.verdict]


def _amount(row: Row, values: Sequence[float]) -> str:
    value = max(values) if row.worst else statistics.median(values)
    return f"{value * row.scale:.3g} {row.unit}"


def _compare(measured: dict[Layout, Row]) -> str:
    if len(measured) < len(LAYOUTS):
        return "-"
    legacy, content = (statistics.median(measured[layout].ours) for layout in LAYOUTS)
    return f"{content / legacy:.2f}" if legacy else "-"


def _print(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for number, line in enumerate(lines):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        if not number:
            print("  ".join("-" * width for width in widths))


def _print_notes(rows: Iterable[Row]) -> None:
    for row in rows:
        if row.note:
            print(f"{row.figure} ({row.layout}): {row.note}")
