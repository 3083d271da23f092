"""What an engine has done since it was opened, counted as plain numbers for whoever shows them."""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import attrs

from hmret.model.images import Cause, Key
from hmret.model.plan.forecast import Outlook, summarize
from hmret.model.plan.plan import Plan
from hmret.model.report import SweepReport, SweepStatus
from hmret.model.times import SECOND, nanoseconds_of
from hmret.model.values import define
from hmret.model.verdicts import Reason

__all__ = ["Counters", "Histogram"]

# hypeman's own for durations, so that what its dashboards reckon from them stays comparable.
_SWEEP_BOUNDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75),
    *(1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0),
)
# From a look at a warm disk to a wait for a deletion on a slow one.
_USE_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def _no_counts(histogram: "Histogram") -> list[int]:
    return [0] * (len(histogram.bounds) + 1)


@define(eq=False)
class Histogram:
    """Durations, in seconds, counted by how long they were."""

    bounds: Sequence[float]
    """Upper bounds of the buckets, ascending, each within its bucket; one more bucket has what is above the last."""
    counts: list[int] = attrs.field(default=attrs.Factory(_no_counts, takes_self=True), init=False)
    """How many fell into each bucket alone."""
    total_seconds: float = attrs.field(default=0.0, init=False)

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total_seconds += seconds

    @contextmanager
    def timing(self) -> Iterator[None]:
        """Count how long the block takes, however it ends."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.observe(time.perf_counter() - begin)


@define(eq=False)
class Counters:
    """Running counts; written by the engine on its event loop, read by anyone, in any thread; nothing here blocks."""

    sweeps: dict[str, Histogram] = attrs.field(
        factory=lambda: {status: Histogram(_SWEEP_BOUNDS) for status in ("success", "error")}, init=False
    )
    """Durations of sweeps that were carried out to their end (`success`) and that were not (`error`)."""
    deletes: Counter[str] = attrs.field(
        factory=lambda: Counter(dict.fromkeys(("success", "error", "not_found"), 0)), init=False
    )
    """Deletions tried, by what came of them; `not_found`: somebody else had deleted it before."""
    deleted: Counter[str] = attrs.field(
        factory=lambda: Counter({Reason.EXPIRED.value: 0, Reason.DISK_PRESSURE.value: 0, "recovered": 0}),
        init=False,
    )
    """Images that left the cache, by why; `recovered`: an earlier engine was cut off while it deleted them."""
    deleted_bytes: int = attrs.field(default=0, init=False)
    """Blocks that came free, those freed by recoveries included."""
    stopped_timers: Counter[Reason] = attrs.field(
        factory=lambda: Counter({Reason.PINNED: 0, Reason.NOT_ALLOWED: 0}), init=False
    )
    """Running timers that sweeps have stopped because of the operator's patterns, by the reason."""
    stale_references: int = attrs.field(default=0, init=False)
    """References to what is not here, added up over all sweeps."""
    mark_used: Histogram = attrs.field(factory=lambda: Histogram(_USE_BOUNDS), init=False)
    """How long calls of `mark_used` took, whatever came of them."""
    last_success_ns: int | None = attrs.field(default=None, init=False)
    """When the last sweep that was carried out to its end has ended; None: none was."""
    suspended: frozenset[Cause] = attrs.field(default=frozenset(), init=False)
    """The causes for which the last sweep deleted nothing."""
    trash_bytes: int = attrs.field(default=0, init=False)
    """Blocks that lay in the trash when the last sweep had ended."""
    quarantined_images: int = attrs.field(default=0, init=False)
    """Images in quarantine."""
    quarantined_bytes: int = attrs.field(default=0, init=False)
    """Blocks that come free when they leave it."""
    reload_succeeded: bool = attrs.field(default=True, init=False)
    """Whether the settings that were read last are in force; false: they were refused, and older ones are."""
    settings_since_ns: int | None = attrs.field(default=None, init=False)
    """Since when the settings in force are; None: the engine is being opened."""
    _planned: tuple[Plan, Callable[[], None]] | None = attrs.field(default=None, init=False)
    _gone: tuple[Key, ...] = attrs.field(default=(), init=False)
    """The images of that plan that its sweep has deleted."""
    _outlook: Outlook | None = attrs.field(default=None, init=False)

    @property
    def outlook(self) -> Outlook | None:
        """What the last sweep has left, and what falls due when; None: none was carried out.

        Made when it is first asked for after a sweep, which takes a tenth of a second at 100,000 images: not for an
        event loop.
        """
        if self._outlook is None and self._planned is not None:
            self._outlook = summarize(*self._planned, self._gone)
        return self._outlook

    def add_plan(self, plan: Plan, pause: Callable[[], None]) -> None:
        """Note what a sweep goes by; `pause` is called by whoever asks for its outlook, in small steps."""
        self._planned, self._gone, self._outlook = (plan, pause), (), None

    def add_deleted(self, reason: str, disk_bytes: int) -> None:
        """Count an image that left the cache in a sweep."""
        self.deletes["success"] += 1
        self.deleted[reason] += 1
        self.deleted_bytes += disk_bytes

    def add_stopped_timers(self, by_reason: Mapping[Reason, int]) -> None:
        """Count the timers that a sweep stops because of the operator's patterns."""
        self.stopped_timers.update(by_reason)

    def add_recovered(self, images: int, freed_bytes: int) -> None:
        """Count what a recovery has finished; images only where they were not counted when they left the cache."""
        self.deleted["recovered"] += images
        self.deleted_bytes += freed_bytes

    def add_settings(self, now_ns: int) -> None:
        """Note that settings are taken over."""
        self.reload_succeeded, self.settings_since_ns = True, now_ns

    def add_refused_settings(self) -> None:
        """Note that settings were refused; those in force stay."""
        self.reload_succeeded = False

    def add_quarantine(self, images: int, disk_bytes: int) -> None:
        """Note what is in quarantine."""
        self.quarantined_images, self.quarantined_bytes = images, disk_bytes

    def add_released(self, disk_bytes: int) -> None:
        """Count an image that left the quarantine for good."""
        self.deleted_bytes += disk_bytes

    def add_sweep(self, report: SweepReport) -> None:
        """Count a sweep that has ended."""
        if report.status is SweepStatus.ERROR:
            self.sweeps["error"].observe(report.duration_seconds)
            return
        self.sweeps["success"].observe(report.duration_seconds)
        self.last_success_ns = nanoseconds_of(report.started_at) + round(report.duration_seconds * SECOND)
        self.stale_references += report.stale_references
        self.suspended = frozenset(suspension.cause for suspension in report.suspended)
        self._gone = tuple((image.repository, image.digest) for image in report.deleted)
        self._outlook = None
