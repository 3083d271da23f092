"""A plan as a forecast: what the cache holds and why, and which images fall due when."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timedelta

import attrs

from hmret.model.images import Image, SharedDisk
from hmret.model.plan.due_times import DAY_NS, DueTimes, Timed, add_to
from hmret.model.plan.plan import Plan
from hmret.model.references import Key
from hmret.model.times import nanoseconds_of
from hmret.model.values import define, frozen
from hmret.model.verdicts import ACTIONS, Action, Reason

DAYS = 31
"""UTC days of a forecast: today and thirty more, so that a timer of 30 days that starts now is on it."""

HORIZONS = {"24h": timedelta(hours=24), "7d": timedelta(days=7), "30d": timedelta(days=30)}
"""The spans from the time of the plan over which due images are added up, by their names in metrics."""

_EPOCH = date(1970, 1, 1).toordinal()
_NOTHING = (0, 0)


@frozen
class ReasonTotal:
    """The images that a cache holds for one reason, added up."""

    images: int
    disk_bytes: int
    """The blocks of their disks; one that has several hard links counts once in a cache."""


@frozen
class Due:
    """What falls due on one UTC day."""

    day: date
    images: int
    disk_bytes: int
    """Blocks that are freed with them: a disk with several links counts when the last of them falls due."""


@frozen
class Outlook:
    """What a plan has found and expects, provided that nothing is used or pulled in between."""

    at: datetime
    holdings: Mapping[tuple[Action, Reason], ReasonTotal]
    """What the cache holds, by what happens to it and why; reasons that no image has are absent."""
    tracked: int
    """Images that fall due at some time if nothing changes, those included whose timer starts now."""
    overdue: int
    """Those of them that are due by now, whether or not anything else prevents their deletion."""
    within: Mapping[str, int]
    """Bytes that fall due within each of `HORIZONS`, including what is overdue."""
    days: tuple[Due, ...]
    """The UTC days from that of `at` on; overdue images count on the first."""

    @property
    def images(self) -> int:
        """All images of the cache."""
        return sum(holding.images for holding in self.holdings.values())

    @property
    def disk_bytes(self) -> int:
        """The blocks of all disks of the cache."""
        return sum(holding.disk_bytes for holding in self.holdings.values())


@define
class _Links:
    """The hard links of one disk that have been counted so far, and the latest time at which one falls due."""

    met: int = 0
    due_ns: int = 0


@define
class _Rows:
    """The rows of shared content counted so far, the latest time at which one falls due, and their folders."""

    met: int = 0
    due_ns: int = 0
    folders: list[Image] = attrs.field(factory=list)


@define(eq=False)
class _Account:
    """The running totals."""

    now_ns: int
    ends_ns: tuple[int, ...]
    """Where each of `HORIZONS` ends."""
    present: defaultdict[Reason, list[int]] = attrs.field(factory=lambda: defaultdict(lambda: [0, 0]))
    """Images and bytes."""
    days: defaultdict[int, list[int]] = attrs.field(factory=lambda: defaultdict(lambda: [0, 0]))
    """Images and bytes that fall due, by day since the epoch."""
    within: list[int] = attrs.field(factory=lambda: [0] * len(HORIZONS))
    tracked: int = 0
    overdue: int = 0
    links: defaultdict[SharedDisk, _Links] = attrs.field(factory=lambda: defaultdict(_Links))
    rows: defaultdict[str, _Rows] = attrs.field(factory=lambda: defaultdict(_Rows))
    """The rows of shared content, by digest."""
    seen: set[object] = attrs.field(factory=set)
    """The identities of the disks that have been counted."""

    def add_up(self, due_times: DueTimes) -> None:
        """Add the images of a repository from its cached totals."""
        for reason, (count, disk_bytes) in due_times.present.items():
            add_to(self.present[reason], count, disk_bytes)
        today = self.now_ns // DAY_NS
        for day, (count, disk_bytes) in due_times.days.items():
            add_to(self.days[max(day, today)], count, disk_bytes)
        self.tracked += due_times.tracked
        self.overdue += due_times.until(self.now_ns)[0]
        for place, end_ns in enumerate(self.ends_ns):
            self.within[place] += due_times.until(end_ns)[1]

    def add(self, timed: Iterable[Timed]) -> None:
        """Add images one at a time."""
        present, days, now_ns = self.present, self.days, self.now_ns
        for image, reason, due_ns, owners in timed:
            add_to(present[reason], 1, self._unseen_bytes(image, owners))
            if due_ns is None:
                continue
            self.tracked += 1
            if due_ns <= now_ns:
                self.overdue += 1
                due_ns = now_ns
            days[due_ns // DAY_NS][0] += 1
            folders: Iterable[Image] = image.folders
            if owners > 1:
                rows = self.rows[image.digest]
                rows.met += 1
                rows.due_ns = max(rows.due_ns, due_ns)
                rows.folders += image.folders if rows.met == 1 else image.folders[1:]
                folders, due_ns = (rows.folders if rows.met == owners else ()), rows.due_ns
            for folder in folders:
                if folder.shared_disk is None:
                    self._free(due_ns, folder.disk_bytes)
                else:
                    self._free_link(folder.shared_disk, due_ns, folder.disk_bytes)

    def _free(self, due_ns: int, disk_bytes: int) -> None:
        self.days[due_ns // DAY_NS][1] += disk_bytes
        for place, end_ns in enumerate(self.ends_ns):
            if due_ns <= end_ns:
                self.within[place] += disk_bytes

    def _free_link(self, disk: SharedDisk, due_ns: int, disk_bytes: int) -> None:
        """Count the bytes of a disk once its last link falls due."""
        links = self.links[disk]
        links.met += 1
        links.due_ns = max(links.due_ns, due_ns)
        if links.met == disk.links:
            self._free(links.due_ns, disk_bytes)

    def _unseen_bytes(self, image: Image, owners: int) -> int:
        """Return the blocks of a row's disks, except those that another link or row has already counted."""
        total = 0
        for folder in image.folders:
            identity: object = folder.shared_disk
            if identity is None and owners > 1 and folder.is_content:
                identity = image.digest
            if identity is None:
                total += folder.disk_bytes
            elif identity not in self.seen:
                self.seen.add(identity)
                total += folder.disk_bytes
        return total


def summarize(
    plan: Plan, pause: Callable[[], None] = lambda: None, gone: Iterable[Key] = (), days: int = DAYS
) -> Outlook:
    """Return the forecast of a plan over a number of UTC days, leaving out images that have `gone` since.

    Takes a tenth of a second at 100,000 images, and a tenth of that where most of the plan is reused from the
    one before: too long for an event loop. `pause` is called after each repository, so that a thread can
    yield to others.
    """
    now_ns = nanoseconds_of(plan.at)
    account = _Account(now_ns, tuple(nanoseconds_of(plan.at + span) for span in HORIZONS.values()))
    left_out: defaultdict[str, set[str]] = defaultdict(set)
    for name, digest in gone:
        left_out[name].add(digest)
    for found in plan.timers(left_out):
        if isinstance(found, DueTimes):
            account.add_up(found)
        else:
            account.add(found)
        pause()
    first = now_ns // DAY_NS
    return Outlook(
        at=plan.at,
        holdings={
            (ACTIONS[reason], reason): ReasonTotal(*account.present[reason])
            for reason, count in plan.reasons.items()
            if count or reason in account.present
        },
        tracked=account.tracked,
        overdue=account.overdue,
        within=dict(zip(HORIZONS, account.within, strict=True)),
        days=tuple(
            Due(date.fromordinal(_EPOCH + day), *account.days.get(day, _NOTHING))
            for day in range(first, first + days)
        ),
    )


def count_due(plan: Plan, span: timedelta) -> int:
    """Count the images that are due, or will be within a span from the time of a plan on, if nothing changes."""
    end_ns = nanoseconds_of(plan.at + span)
    count = 0
    for found in plan.timers():
        if isinstance(found, DueTimes):
            count += found.until(end_ns)[0]
        else:
            count += sum(due_ns is not None and due_ns <= end_ns for _, _, due_ns, _ in found)
    return count
