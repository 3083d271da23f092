"""What the time-lapse has found, as a table in Markdown."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from studies.candidates import KINDS
from studies.vm_stream import GIB

__all__ = ["describe", "hit_rate", "put_into_page", "show", "tabulate"]

_BEGIN, _END = "<!-- timelapse: begin -->\n", "<!-- timelapse: end -->\n"
_TIB = 1024 * GIB

Figures = Mapping[str, int]


def hit_rate(figures: Figures) -> float:
    """Tell for how many of a hundred creations the image was in the cache."""
    return 100 * figures["hits"] / figures["creations"]


_COLUMNS: Sequence[tuple[str, Callable[[Figures], float], int]] = (
    ("hits, %", hit_rate, 1),
    ("pulled, TiB", lambda figures: figures["pulled_bytes"] / _TIB, 1),
    ("again, TiB", lambda figures: figures["pulled_again_bytes"] / _TIB, 2),
    ("held, mean, GiB", lambda figures: figures["mean_bytes"] / GIB, 0),
    ("held, most, GiB", lambda figures: figures["largest_bytes"] / GIB, 0),
    ("deleted", lambda figures: figures["deletions"], 0),
    ("early", lambda figures: figures["deleted_early"], 0),
    ("above the mark, % of time", lambda figures: 100 * figures["above_mark_ns"] / figures["passed_ns"], 1),
    ("refused, % of creations", lambda figures: 100 * figures["refused"] / figures["creations"], 1),
)


def show(document: Mapping[str, Any]) -> str:
    """Show the document that the time-lapse writes: what it was made of, and the table."""
    return f"{describe(document)}\n{tabulate(document)}"


def describe(document: Mapping[str, Any]) -> str:
    """Say what was run."""
    seeds, shape, host = document["seeds"], document["shape"], document["host"]
    return (
        f"Seeds {', '.join(map(str, seeds))}; {shape['days']} days, after {shape['warm_up_days']} that are not counted; "
        f"{shape['repositories']} repositories;\n"
        f"{shape['creations_a_day']:g} creations a day; a disk of {host['disk_gib']} GiB, of which "
        f"{host['base_gib']} belong to something else; a sweep every\n{host['sweep_minutes']} minutes; "
        f"the mark is at {100 * document['mark']:g} %.\n"
    )


def tabulate(document: Mapping[str, Any]) -> str:
    """Make a table of the document that the time-lapse writes: the mean of all seeds, lowest and highest beside it."""
    lines = [["what decides", "policy", *(title for title, _, _ in _COLUMNS)]]
    lines += [list(_row(policy)) for policy in document["policies"]]
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    lines.insert(1, ["-" * width for width in widths])
    return "".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |\n"
        for line in lines
    )


def put_into_page(page: str, document: Mapping[str, Any]) -> str:
    """Put the table where a page has one already."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise SystemExit(f"the page has no place for the table: {_BEGIN.strip()} … {_END.strip()}")
    return f"{before}{begin}{show(document)}{end}{after}"


def _row(policy: Mapping[str, Any]) -> Iterator[str]:
    yield KINDS[policy["kind"]]
    yield policy["name"]
    for _, figure, digits in _COLUMNS:
        yield _cell([figure(figures) for figures in policy["runs"]], digits)


def _cell(values: Sequence[float], digits: int) -> str:
    mean, lowest, highest = (
        f"{value:.{digits}f}" for value in (statistics.mean(values), min(values), max(values))
    )
    return mean if lowest == highest else f"{mean} ({lowest} to {highest})"
