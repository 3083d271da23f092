"""What the time-lapse has found, as a picture: hits against what the cache holds, a mark for each policy."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any
from xml.sax.saxutils import escape

import attrs
from studies.candidates import KINDS, Kind
from studies.timelapse_table import hit_rate
from studies.vm_stream import GIB

__all__ = ["draw"]

_WIDTH, _HEIGHT = 940, 720
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 24, 64, 56
_FONT = 13
_LETTER = 7.3
"""About how wide a letter of that size is."""
_LINE = _FONT + 3
_NEAR = 6
"""Marks that are so close share one list of names."""
_FACE = f'role="img" font-family="system-ui, sans-serif" font-size="{_FONT}"'
_BEST = "nothing ever deleted, on a disk without end"
_FAINT = ' opacity="0.4"'

# Each kind has its own form as well as its color; the card has its own ground, so that it is legible on any page.
_COLORS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "card": ("#ffffff", "#0d1117"),
        "line": ("#d0d7de", "#30363d"),
        "text": ("#1f2328", "#e6edf3"),
        "soft": ("#59636e", "#9198a1"),
        "window": ("#0969da", "#58a6ff"),
        "disk": ("#bc4c00", "#f0883e"),
        "both": ("#1a7f37", "#3fb950"),
        "rules": ("#8250df", "#bc8cff"),
    }
)
"""On light pages and on dark ones."""
_FORMS: Mapping[Kind, str] = MappingProxyType(
    {
        "window": '<circle cx="{x:.1f}" cy="{y:.1f}" r="5.5"/>',
        "disk": '<rect x="{left:.1f}" y="{top:.1f}" width="10" height="10"/>',
        "both": '<path d="M{x:.1f} {above:.1f} l6.5 11 h-13 z"/>',
        "rules": '<path d="M{x:.1f} {above:.1f} l6.5 6.5 l-6.5 6.5 l-6.5 -6.5 z"/>',
    }
)


@attrs.frozen
class _Point:
    """One policy: the mean of all seeds, and what they lie between."""

    name: str
    kind: Kind
    held: tuple[float, float, float]
    """Lowest, mean and highest, in GiB."""
    hits: tuple[float, float, float]


@attrs.frozen
class _Axis:
    """Where a value stands in the picture."""

    low: float
    high: float
    step: float
    begin: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], ticks: int, begin: float, end: float) -> "_Axis":
        """Span some values, with about so many round numbers along it."""
        low, high = min(values), max(values)
        rough = max(high - low, 1e-9) / ticks
        power = 10.0 ** math.floor(math.log10(rough))
        step = power * min((size for size in (1, 2, 5, 10) if size * power >= rough), default=10)
        return cls(math.floor(low / step) * step, math.ceil(high / step) * step, step, begin, end)

    def place(self, value: float) -> float:
        """Tell where a value stands."""
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)

    def ticks(self) -> Iterator[float]:
        """List the round numbers."""
        for number in range(round((self.high - self.low) / self.step) + 1):
            yield self.low + number * self.step


Spot = tuple[float, float]
Box = tuple[float, float, float, float]


def draw(document: Mapping[str, Any]) -> str:
    """Draw the document that the time-lapse writes, as SVG."""
    points = [_point(policy) for policy in document["policies"] if policy["kind"] in _FORMS]
    best = [
        statistics.mean(map(hit_rate, policy["runs"]))
        for policy in document["policies"]
        if policy["kind"] == "nothing" and not any(figures["refused"] for figures in policy["runs"])
    ]
    hits = _Axis.over([*(hit for point in points for hit in point.hits), *best], 8, _HEIGHT - _BOTTOM, _TOP)
    held = _Axis.over([0, *(gib for point in points for gib in point.held)], 8, _LEFT, _WIDTH - _RIGHT)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" {_FACE}>',
        "<title>Hits of VM creations against what the cache holds, for each policy</title>",
        f"<style>{_style()}</style>",
        f'<rect class="card" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>',
        *_grid(held, hits),
        *_legend(),
        *_best(best, held, hits),
        *_marks(points, best, held, hits),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _style() -> str:
    """Give everything its color; names have a rim of the card's, so that lines do not cross them out."""

    def rules(scheme: int) -> str:
        colors = {name: both[scheme] for name, both in _COLORS.items()}
        marks = " ".join(f".{name} {{ fill: {color}; stroke: {color}; }}" for name, color in colors.items())
        return f"{marks} text[class] {{ stroke: {colors['card']}; stroke-width: 3px; paint-order: stroke; }}"

    return f"{rules(0)} @media (prefers-color-scheme: dark) {{ {rules(1)} }}"


def _point(policy: Mapping[str, Any]) -> _Point:
    runs = policy["runs"]
    return _Point(
        policy["name"],
        policy["kind"],
        _three([figures["mean_bytes"] / GIB for figures in runs]),
        _three([hit_rate(figures) for figures in runs]),
    )


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    return min(values), statistics.mean(values), max(values)


def _text(x: float, y: float, text: str, style: str = "text", anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(style: str, begin: Spot, end: Spot, more: str = "") -> str:
    (x1, y1), (x2, y2) = begin, end
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"{more}/>'


def _grid(held: _Axis, hits: _Axis) -> Iterator[str]:
    for value in held.ticks():
        x = held.place(value)
        yield _line("line", (x, hits.begin), (x, hits.end))
        yield _text(x, hits.begin + 20, f"{value:g}", "soft", "middle")
    for value in hits.ticks():
        y = hits.place(value)
        yield _line("line", (held.begin, y), (held.end, y))
        yield _text(held.begin - 8, y + 4, f"{value:g}", "soft", "end")
    yield _text(
        (held.begin + held.end) / 2, hits.begin + 42, "held by the cache on average, GiB", "text", "middle"
    )
    yield _text(8, _TOP - 12, "hits, % of VM creations")


def _legend() -> Iterator[str]:
    x: float = _LEFT
    for kind in _FORMS:
        yield _mark(kind, x + 6, 24)
        yield _text(x + 20, 28, KINDS[kind])
        x += 44 + _LETTER * len(KINDS[kind])


def _best(best: Sequence[float], held: _Axis, hits: _Axis) -> Iterator[str]:
    for value in best:
        y = hits.place(value)
        yield _line("soft", (held.begin, y), (held.end, y), ' stroke-dasharray="6 5"')
        yield _text(held.end - 6, y - 7, _BEST, "soft", "end")


def _mark(kind: Kind, x: float, y: float) -> str:
    form = _FORMS[kind].format(x=x, y=y, left=x - 5, top=y - 5, above=y - 6.5)
    return f'<g class="{kind}">{form}</g>'


def _marks(points: Sequence[_Point], best: Sequence[float], held: _Axis, hits: _Axis) -> Iterator[str]:
    groups: list[tuple[Spot, list[_Point]]] = []
    for point in points:
        x, y = held.place(point.held[1]), hits.place(point.hits[1])
        yield _line(point.kind, (held.place(point.held[0]), y), (held.place(point.held[2]), y), _FAINT)
        yield _line(point.kind, (x, hits.place(point.hits[0])), (x, hits.place(point.hits[2])), _FAINT)
        yield _mark(point.kind, x, y)
        near = (group for spot, group in groups if max(abs(spot[0] - x), abs(spot[1] - y)) < _NEAR)
        group = next(near, None)
        if group is None:
            groups.append(((x, y), [point]))
        else:
            group.append(point)
    taken: list[Box] = [(x - 8, y - 8, x + 8, y + 8) for (x, y), _ in groups]
    width = _LETTER * len(_BEST) + 12
    taken += [(held.end - width, hits.place(hit) - 22, held.end, hits.place(hit)) for hit in best]
    taken += [(held.begin, hits.place(hit) - 2, held.end, hits.place(hit) + 2) for hit in best]
    # Where there is much to write it is written first.
    for (x, y), group in sorted(groups, key=lambda one: -len(one[1])):
        width = _LETTER * max(len(point.name) for point in group)
        box = _free_box(x, y, (width, _LINE * len(group)), taken, held.end)
        taken.append(box)
        yield from _leader(x, y, box)
        for number, point in enumerate(group):
            yield _text(box[0], box[1] + _LINE * (number + 1) - 4, point.name, point.kind)


def _leader(x: float, y: float, box: Box) -> Iterator[str]:
    """Lead from a mark to its name where that stands further off."""
    near = min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3])
    if math.dist((x, y), near) > 14:
        yield _line("soft", (x, y), near, ' stroke-width="0.7"')


def _free_box(x: float, y: float, size: tuple[float, float], taken: Sequence[Box], end: float) -> Box:
    """Find a place for a name near a mark where it covers no other, and nothing else that is named or marked."""
    width, height = size
    boxes = []
    for away in range(10, 80, 6):
        for left, top in (
            (x + away, y - height / 2),
            (x - away - width, y - height / 2),
            (x - width / 2, y + away),
            (x - width / 2, y - away - height),
            (x + away / 2, y + away),
            (x + away / 2, y - away - height),
            (x - away / 2 - width, y + away),
            (x - away / 2 - width, y - away - height),
        ):
            box = left, top, left + width, top + height
            if left > _LEFT and box[2] < end and box[3] < _HEIGHT - _BOTTOM and top > _TOP - 30:
                boxes.append(box)
    return next((box for box in boxes if not any(_overlap(box, other) for other in taken)), boxes[0])


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
