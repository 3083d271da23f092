"""A plan as a forecast: what the cache holds and why, and what falls due when."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import date, datetime, timedelta

import attrs

from hmret.model.images import Image, SharedDisk
from hmret.model.planning import Plan
from hmret.model.times import SECOND, datetime_of, nanoseconds_of
from hmret.model.verdicts import ACTIONS, Action, Reason

__all__ = ["DAYS", "HORIZONS", "Due", "Holding", "Outlook", "summarize"]

DAYS = 31
"""UTC days of a forecast: today and thirty more, so that a timer of 30 days that starts now is on it."""

HORIZONS = {"24h": timedelta(hours=24), "7d": timedelta(days=7), "30d": timedelta(days=30)}
"""The spans from the time of the plan over which what falls due is added up, by the name each has in metrics."""

_DAY_NS = 86_400 * SECOND


@attrs.frozen
class Holding:
    """Images that a cache holds for the same reason."""

    images: int
    disk_bytes: int
    """The blocks of their disks; one that has several hard links counts once in a cache."""


@attrs.frozen
class Due:
    """What falls due on one UTC day."""

    day: date
    images: int
    disk_bytes: int
    """Blocks that come free with them: a disk with several links counts when the last of them falls due."""


@attrs.frozen
class Outlook:
    """What a plan has found and foresees, if nothing is used or pulled meanwhile."""

    at: datetime
    holdings: Mapping[tuple[Action, Reason], Holding]
    """What the cache holds, by what happens to it and why; reasons that no image has are absent."""
    tracked: int
    """Images with a timer, those included whose timer starts now."""
    overdue: int
    """Those of them whose timer has run out, whether or not anything else holds against their deletion."""
    within: Mapping[str, int]
    """Bytes that fall due within each of `HORIZONS`, what is overdue included."""
    days: tuple[Due, ...]
    """`DAYS` UTC days from that of `at` on; what is overdue counts on the first."""

    @property
    def images(self) -> int:
        """All images of the cache."""
        return sum(holding.images for holding in self.holdings.values())

    @property
    def disk_bytes(self) -> int:
        """The blocks of all disks of the cache."""
        return sum(holding.disk_bytes for holding in self.holdings.values())

    def after_deleting(self, images: int, disk_bytes: int) -> "Outlook":
        """Say what is left once so much of what this plan wanted gone has gone."""
        going = Action.DELETE, Reason.EXPIRED
        held = self.holdings.get(going, Holding(0, 0))
        first = self.days[0]
        return attrs.evolve(
            self,
            holdings={
                **self.holdings,
                going: Holding(max(held.images - images, 0), max(held.disk_bytes - disk_bytes, 0)),
            },
            tracked=max(self.tracked - images, 0),
            overdue=max(self.overdue - images, 0),
            within={name: max(due_bytes - disk_bytes, 0) for name, due_bytes in self.within.items()},
            days=(
                Due(first.day, max(first.images - images, 0), max(first.disk_bytes - disk_bytes, 0)),
                *self.days[1:],
            ),
        )


@attrs.define
class _Links:
    """The hard links of one disk that have been met so far, and the latest time at which one falls due."""

    met: int = 0
    due_ns: int = 0


@attrs.define(eq=False)
class _Account:
    """What falls due, as it is added up."""

    now_ns: int
    ends_ns: Mapping[str, int]
    images: Counter[int] = attrs.field(factory=Counter)
    disk_bytes: Counter[int] = attrs.field(factory=Counter)
    within: Counter[str] = attrs.field(factory=Counter)
    links: defaultdict[SharedDisk, _Links] = attrs.field(factory=lambda: defaultdict(_Links))

    def add(self, image: Image, due_ns: int) -> None:
        """Count an image, and its bytes once every link of its disk has been met."""
        due_ns = max(due_ns, self.now_ns)
        self.images[due_ns // _DAY_NS] += 1
        disk = image.shared_disk
        if disk is not None:
            links = self.links[disk]
            links.met += 1
            due_ns = links.due_ns = max(links.due_ns, due_ns)
            if links.met != disk.links:
                return
        self.disk_bytes[due_ns // _DAY_NS] += image.disk_bytes
        for name, end_ns in self.ends_ns.items():
            if due_ns <= end_ns:
                self.within[name] += image.disk_bytes


def summarize(plan: Plan) -> Outlook:
    """Add up what a plan has found and foresees.

    Takes some tenths of a second at 100,000 images: not for an event loop.
    """
    now_ns = nanoseconds_of(plan.at)
    account = _Account(
        now_ns, {name: nanoseconds_of(plan.at + horizon) for name, horizon in HORIZONS.items()}
    )
    images: Counter[Reason] = Counter()
    disk_bytes: Counter[Reason] = Counter()
    seen: set[tuple[int, int]] = set()
    overdue = 0
    for image, reason, due_ns in plan.timers():
        images[reason] += 1
        disk_bytes[reason] += _unseen_bytes(image, seen)
        if due_ns is not None:
            overdue += due_ns <= now_ns
            account.add(image, due_ns)
    first = now_ns // _DAY_NS
    return Outlook(
        at=plan.at,
        holdings={
            (ACTIONS[reason], reason): Holding(images[reason], disk_bytes[reason])
            for reason in Reason
            if reason in images
        },
        tracked=account.images.total(),
        overdue=overdue,
        within={name: account.within[name] for name in HORIZONS},
        days=tuple(
            Due(datetime_of(day * _DAY_NS).date(), account.images[day], account.disk_bytes[day])
            for day in range(first, first + DAYS)
        ),
    )


def _unseen_bytes(image: Image, seen: set[tuple[int, int]]) -> int:
    """Tell the blocks of a disk, or 0 where another link of it has been counted."""
    disk = image.shared_disk
    if disk is None:
        return image.disk_bytes
    identity = disk.device, disk.inode
    if identity in seen:
        return 0
    seen.add(identity)
    return image.disk_bytes
