"""Running counts of what an engine has done since it was opened, for metrics and status displays."""

import errno
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import attrs

from hmret.model.images import Cause
from hmret.model.plan.forecast import Outlook, summarize
from hmret.model.plan.plan import Plan
from hmret.model.references import Key
from hmret.model.report import SweepReport, SweepStatus
from hmret.model.times import SECOND, nanoseconds_of
from hmret.model.values import define
from hmret.model.verdicts import Reason

# hypeman's own buckets for durations, so that figures computed from them by its dashboards stay comparable.
_SWEEP_BOUNDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75),
    *(1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0),
)
# From a check on a warm disk to a wait for a deletion on a slow one.
_USE_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_FAILURES = {
    "permission": (errno.EACCES, errno.EPERM),
    "read_only": (errno.EROFS,),
    "no_space": (errno.ENOSPC, errno.EDQUOT),
    "io": (errno.EIO, errno.ESTALE, errno.ETIMEDOUT),
    "busy": (errno.EBUSY, errno.ETXTBSY),
}
_CAUSES = {number: cause for cause, numbers in _FAILURES.items() for number in numbers}
_OTHER = "other"

PHASES = ("survey", "plan", "timers", "delete", "record")
"""The phases of a sweep, in order: find what there is, decide, write timers, delete, and write down what was done."""


@define(eq=False)
class Histogram:
    """A histogram of durations in seconds."""

    bounds: Sequence[float]
    """Upper bounds of the buckets, ascending and inclusive; one more bucket holds everything above the last."""
    counts: list[int] = attrs.field(
        default=attrs.Factory(lambda self: [0] * (len(self.bounds) + 1), takes_self=True), init=False
    )
    """The count of each bucket, not cumulative."""
    total_seconds: float = attrs.field(default=0.0, init=False)

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total_seconds += seconds

    @contextmanager
    def timing(self) -> Iterator[None]:
        """Count the duration of the block, however it ends."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.observe(time.perf_counter() - begin)


@define(eq=False)
class Phases:
    """Measures how long each phase of a sweep takes."""

    _clock_ns: Callable[[], int]
    """A clock that only goes forward, in nanoseconds."""
    _seconds: dict[str, float] = attrs.field(factory=lambda: dict.fromkeys(PHASES, 0.0), init=False)
    _current: str = attrs.field(default=PHASES[0], init=False)
    _since_ns: int = attrs.field(
        default=attrs.Factory(lambda self: self._clock_ns(), takes_self=True), init=False
    )

    def begin(self, phase: str) -> None:
        """End the current phase, and begin another."""
        now_ns = self._clock_ns()
        self._seconds[self._current] += (now_ns - self._since_ns) / SECOND
        self._current, self._since_ns = phase, now_ns

    def end(self) -> Mapping[str, float]:
        """End the last phase; returns the seconds of each."""
        self.begin(self._current)
        return self._seconds


@define(eq=False)
class Counters:
    """Running counts; written by the engine on its event loop, readable in any thread. Nothing here blocks."""

    sweeps: dict[str, Histogram] = attrs.field(
        factory=lambda: {status: Histogram(_SWEEP_BOUNDS) for status in ("success", "error")}, init=False
    )
    """Durations of sweeps that completed (`success`) and of those that did not (`error`)."""
    deletes: Counter[str] = attrs.field(
        factory=lambda: Counter(dict.fromkeys(("success", "error", "not_found"), 0)), init=False
    )
    """Deletion attempts by outcome; `not_found`: something else had already deleted the image."""
    deleted: Counter[str] = attrs.field(
        factory=lambda: Counter({Reason.EXPIRED.value: 0, Reason.DISK_PRESSURE.value: 0, "recovered": 0}),
        init=False,
    )
    """Images removed from the cache, by reason; `recovered`: an earlier engine was interrupted deleting them."""
    deleted_bytes: int = attrs.field(default=0, init=False)
    """Blocks freed, including those freed by recovery."""
    failed_deletes: Counter[str] = attrs.field(
        factory=lambda: Counter(dict.fromkeys((*_FAILURES, _OTHER), 0)), init=False
    )
    """Deletions that failed, by what the operating system said."""
    restores: int = attrs.field(default=0, init=False)
    """Images that were restored from quarantine."""
    record_errors: int = attrs.field(default=0, init=False)
    """Failed writes of hmret's own records, the journal included."""
    phase_seconds: Mapping[str, float] = attrs.field(factory=dict, init=False)
    """How long each phase of the last completed sweep took; empty: none has completed."""
    stopped_timers: Counter[Reason] = attrs.field(
        factory=lambda: Counter({Reason.PINNED: 0, Reason.NOT_ALLOWED: 0}), init=False
    )
    """Running timers that sweeps have stopped because of the operator's patterns, by reason."""
    stale_references: int = attrs.field(default=0, init=False)
    """References to images that are not here, summed over all sweeps."""
    mark_used: Histogram = attrs.field(factory=lambda: Histogram(_USE_BOUNDS), init=False)
    """How long calls to `mark_used` took, whatever their outcome."""
    last_success_ns: int | None = attrs.field(default=None, init=False)
    """When the last completed sweep ended; None: none has completed."""
    suspended: frozenset[Cause] = attrs.field(default=frozenset(), init=False)
    """The causes that suspended deletion in the last sweep."""
    trash_bytes: int = attrs.field(default=0, init=False)
    """Blocks in the trash at the end of the last sweep."""
    quarantined_images: int = attrs.field(default=0, init=False)
    """Images in quarantine."""
    quarantined_bytes: int = attrs.field(default=0, init=False)
    """Blocks that are freed when they leave it."""
    reload_succeeded: bool = attrs.field(default=True, init=False)
    """Whether the most recently read settings are in force; false: they were refused, and older ones are."""
    settings_since_ns: int | None = attrs.field(default=None, init=False)
    """Since when the current settings have been in force; None: the engine is being opened."""
    _planned: tuple[Plan, Callable[[], None]] | None = attrs.field(default=None, init=False)
    _gone: tuple[Key, ...] = attrs.field(default=(), init=False)
    """The images of the last plan that its sweep has deleted."""
    _outlook: Outlook | None = attrs.field(default=None, init=False)

    @property
    def outlook(self) -> Outlook | None:
        """What the last sweep left in the cache and when it will expire; None: no sweep has completed.

        Computed on the first access after a sweep, which takes a tenth of a second for 100,000 images: do not
        access it on an event loop.
        """
        if self._outlook is None and self._planned is not None:
            self._outlook = summarize(*self._planned, self._gone)
        return self._outlook

    def add_plan(self, plan: Plan, pause: Callable[[], None]) -> None:
        """Note the plan that a sweep follows; `pause` is called now and then while its outlook is computed."""
        self._planned, self._gone, self._outlook = (plan, pause), (), None

    def add_entry(self, event: str, facts: Mapping[str, Any]) -> None:
        """Count what a sweep has entered into its ledger."""
        match event, facts.get("reason"):
            case "delete", reason:
                self.deletes["success"] += 1
                self.deleted[str(reason)] += 1
                self.deleted_bytes += facts["bytes"]
            case "failure", "deletion_failed":
                self.deletes["error"] += 1
                self.failed_deletes[_CAUSES.get(facts.get("errno", 0), _OTHER)] += 1
            case "record_not_written", _:
                self.record_errors += 1
            case "kept", "gone":
                self.deletes["not_found"] += 1
            case "release", _:
                self.deleted_bytes += facts["bytes"]

    def add_stopped_timers(self, by_reason: Mapping[Reason, int]) -> None:
        """Count the timers that a sweep stops because of the operator's patterns."""
        self.stopped_timers.update(by_reason)

    def add_recovered(self, images: int, freed_bytes: int) -> None:
        """Count what a recovery finished; images only if they were not counted when they were removed."""
        self.deleted["recovered"] += images
        self.deleted_bytes += freed_bytes

    def add_settings(self, now_ns: int) -> None:
        """Note that new settings are in force."""
        self.reload_succeeded, self.settings_since_ns = True, now_ns

    def add_refused_settings(self) -> None:
        """Note that settings were refused; those in force remain."""
        self.reload_succeeded = False

    def add_quarantine(self, images: int, disk_bytes: int) -> None:
        """Note what is in quarantine."""
        self.quarantined_images, self.quarantined_bytes = images, disk_bytes

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
