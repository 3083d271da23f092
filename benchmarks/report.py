"""The table: one layout with all of its figures, or two side by side."""

import statistics
from collections.abc import Iterable, Sequence

from benchmarks.measure import CORES, Core, Row
from benchmarks.trees import LAYOUTS, Layout

__all__ = ["show", "show_side_by_side"]

_HEADER = ["figure", "ours (min / median / max)", "floor (min / median / max)"]
_HEADER += ["value", "spread", "processor time", "goal", "verdict"]
_Variant = tuple[Layout, Core]


def show(rows: Sequence[Row]) -> None:
    """Print a row each."""
    _print([_HEADER, *(row.cells() for row in rows)])
    _print_notes(rows)


def show_side_by_side(rows: Sequence[Row]) -> None:
    """Print each figure once, with what it is in each layout and with each core that was measured."""
    figures: dict[str, dict[_Variant, Row]] = {}
    for row in rows:
        figures.setdefault(row.figure, {})[row.layout, row.core] = row
    measured = {variant for found in figures.values() for variant in found}
    variants = [(layout, core) for core in CORES for layout in LAYOUTS if (layout, core) in measured]
    header = ["figure"]
    for layout, core in variants:
        name = layout if core == "native" else f"{layout}, pure"
        header += [f"{name}: ours", "floor", "value", "processor", "goal", "verdict"]
    lines = [header]
    for figure, found in figures.items():
        line = [figure]
        for variant in variants:
            line += _short(found.get(variant))
        lines.append(line)
    _print(lines)
    _print_notes(rows)


def _short(row: Row | None) -> list[str]:
    if row is None:
        return ["-"] * 6
    floor = _amount(row, row.floor) if row.floor else "-"
    _, _, _, value, _, processor, goal, verdict = row.cells()
    return [_amount(row, row.ours), floor, value, processor, goal, verdict]


def _amount(row: Row, values: Sequence[float]) -> str:
    value = max(values) if row.worst else statistics.median(values)
    return f"{value * row.scale:.3g} {row.unit}"


def _print(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for number, line in enumerate(lines):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        if not number:
            print("  ".join("-" * width for width in widths))


def _print_notes(rows: Iterable[Row]) -> None:
    for row in rows:
        if row.note:
            print(f"{row.figure} ({row.layout}, {row.core}): {row.note}")
