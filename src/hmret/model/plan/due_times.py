"""When the images of one repository fall due, added up once and queried for any number of times."""

from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from hmret.model.images import Image
from hmret.model.times import SECOND
from hmret.model.values import frozen
from hmret.model.verdicts import Reason

DAY_NS = 86_400 * SECOND


class Timed(NamedTuple):
    """One row with what a plan decided on it."""

    image: Image
    reason: Reason
    due_ns: int | None
    """When it falls due, in nanoseconds since the epoch; None: it has no timer, loses it, or stays for good.
    A row whose timer starts now falls due after a whole window.
    """
    owners: int
    """How many repositories share its content; 1: it is not shared."""


@frozen(eq=False)
class DueTimes:
    """A repository's part of a forecast while nothing in it changes; only for disks with one link each."""

    present: Mapping[Reason, tuple[int, int]]
    """The number of images and of bytes for each reason."""
    days: Mapping[int, tuple[int, int]]
    """The number of images and of bytes that fall due, by UTC day since the epoch."""
    _due_ns: Sequence[int]
    """The due times, ascending."""
    _freed_bytes: Sequence[int]
    """At each position, the bytes that all earlier ones free together."""

    @property
    def tracked(self) -> int:
        """How many images fall due at some time if nothing changes."""
        return len(self._due_ns)

    def until(self, end_ns: int) -> tuple[int, int]:
        """Return how many images fall due up to a time, and their bytes."""
        count = bisect_right(self._due_ns, end_ns)
        return count, self._freed_bytes[count]


def add_up(decided: Iterable[tuple[Image, Reason, int | None]]) -> DueTimes:
    """Add up the images of a repository, each with its reason and when it falls due."""
    present: defaultdict[Reason, list[int]] = defaultdict(lambda: [0, 0])
    days: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])
    due: list[tuple[int, int]] = []
    for image, reason, due_ns in decided:
        add_to(present[reason], 1, image.disk_bytes)
        if due_ns is not None:
            due.append((due_ns, image.disk_bytes))
            add_to(days[due_ns // DAY_NS], 1, image.disk_bytes)
    due.sort()
    freed = array("q", [0])
    for _, disk_bytes in due:
        freed.append(freed[-1] + disk_bytes)
    return DueTimes(
        present={reason: (count, disk_bytes) for reason, (count, disk_bytes) in present.items()},
        days={day: (count, disk_bytes) for day, (count, disk_bytes) in days.items()},
        due_ns=array("q", [due_ns for due_ns, _ in due]),
        freed_bytes=freed,
    )


def add_to(total: list[int], images: int, disk_bytes: int) -> None:
    """Add images and bytes to a total of both."""
    total[0] += images
    total[1] += disk_bytes
