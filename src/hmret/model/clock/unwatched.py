"""Unwatched time: it lies between two looks at the cache, and no retention window counts it."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise

import attrs

from hmret.model.values import frozen

Gap = tuple[int, int]
"""Start and end, in nanoseconds since the epoch."""

MOST_GAPS = 128
"""How many gaps are kept apart: some four months of a host that is switched off each night."""


@frozen
class Gaps:
    """All unwatched time up to now.

    Gaps are sorted, do not touch, and are never empty. There are at most `MOST_GAPS`. Where there would be
    more, the two neighbours that span the least time, relative to their age, are merged. The merged gap is as
    long as both together and ends where the later one ended. So timers that started before both still lose
    exactly as much, and timers from between them at most as much as both gaps together; no unwatched time is
    ever forgotten.
    """

    spans: tuple[Gap, ...] = ()
    _starts: tuple[int, ...] = attrs.field(init=False, eq=False, repr=False)
    _left: tuple[int, ...] = attrs.field(init=False, eq=False, repr=False)
    """The length of each gap together with all later ones."""

    @_starts.default
    def _list_starts(self) -> tuple[int, ...]:
        return tuple(start_ns for start_ns, _ in self.spans)

    @_left.default
    def _add_up(self) -> tuple[int, ...]:
        lengths = (end_ns - start_ns for start_ns, end_ns in reversed(self.spans))
        return tuple(accumulate(lengths))[::-1]

    @classmethod
    def of(cls, spans: Iterable[Gap]) -> "Gaps":
        """Make gaps from spans in any order, which may overlap."""
        joined: list[Gap] = []
        for start_ns, end_ns in sorted(spans):
            if start_ns >= end_ns:
                continue
            if joined and start_ns <= joined[-1][1]:
                joined[-1] = joined[-1][0], max(joined[-1][1], end_ns)
            else:
                joined.append((start_ns, end_ns))
        while len(joined) > MOST_GAPS:
            _merge_nearest(joined)
        return cls(tuple(joined))

    def since(self, since_ns: int) -> int:
        """Return how much of the time since a moment was unwatched, in nanoseconds."""
        spans = self.spans
        if not spans or since_ns >= spans[-1][1]:
            return 0
        place = bisect_right(self._starts, since_ns)
        later_ns = self._left[place] if place < len(spans) else 0
        if place and since_ns < spans[place - 1][1]:
            later_ns += spans[place - 1][1] - since_ns
        return later_ns

    def moved(self, since_ns: int) -> int:
        """Return when something that began then would have begun if only watched time counted.

        Never earlier than it really began, and the order of beginnings is kept.
        """
        return since_ns + self.since(since_ns)

    def latest_moved_to(self, moment_ns: int) -> int:
        """Return the latest beginning that `moved` maps to a given moment or earlier."""
        later_ns = 0
        for start_ns, end_ns in reversed(self.spans):
            if moment_ns - later_ns >= end_ns:
                break
            later_ns += end_ns - start_ns
        return moment_ns - later_ns

    def until(self, now_ns: int) -> "Gaps":
        """Drop what lies after a moment, since the clock was ahead when it was recorded."""
        if not self.spans or self.spans[-1][1] <= now_ns:
            return self
        return Gaps.of((start_ns, min(end_ns, now_ns)) for start_ns, end_ns in self.spans)

    def with_gap(self, start_ns: int, end_ns: int) -> "Gaps":
        """Return these gaps with one more."""
        return Gaps.of((*self.spans, (start_ns, end_ns))) if start_ns < end_ns else self

    def __iter__(self) -> Iterator[Gap]:
        return iter(self.spans)


NO_GAPS = Gaps()
"""No unwatched time."""


def _merge_nearest(spans: list[Gap]) -> None:
    """Merge the two neighbours that span the least, by age; the earlier moves right before the later."""
    newest_ns = spans[-1][1]
    _, place = min(
        ((later[1] - earlier[0]) / (newest_ns - earlier[1] + 1), number)
        for number, (earlier, later) in enumerate(pairwise(spans))
    )
    earlier, later = spans[place : place + 2]
    spans[place : place + 2] = [(later[0] - (earlier[1] - earlier[0]), later[1])]
