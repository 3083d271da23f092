"""The history of looks at the cache, this engine's and earlier ones', and the unwatched time between them."""

from collections.abc import Awaitable, Callable

import attrs

from hmret.disk.filesystem import Filesystem
from hmret.disk.kernel.clock import with_boot_id
from hmret.disk.records.engine import load_clock_record
from hmret.disk.records.looks import load_looks_record, newest_timer, save_looks_record
from hmret.engine.platform import Platform
from hmret.engine.watch.saving import try_to_save
from hmret.model.clock.clock_guard import ClockReading, ClockRecord
from hmret.model.clock.looks import Look, LooksRecord, Watched, far_apart_ns, record_at_start, watch
from hmret.model.clock.unwatched import Gaps
from hmret.model.plan.plan import Plan
from hmret.model.policy.compiled import Policy
from hmret.model.policy.config import RetentionConfig
from hmret.model.times import timedelta_nanoseconds
from hmret.model.values import define

_LOOKS_IN_VAIN = 3
"""In how many consecutive looks reads must hold back most due images before that is reported."""


def apart_ns(config: RetentionConfig) -> int:
    """Return how far apart two looks must be, under some settings, for the time between them not to count."""
    return far_apart_ns(Policy.of(config).shortest_window_ns, timedelta_nanoseconds(config.sweep_interval))


@define(eq=False)
class LookHistory:
    """The history of looks; used on the event loop."""

    record: LooksRecord
    save: Callable[[LooksRecord], Awaitable[None]]
    """Writes the record durably; raises OSError if it cannot be written."""
    apart_ns: int
    """How far apart two looks must be for the time between them not to count."""
    by_engine: bool = False
    """Whether this engine sweeps periodically; otherwise its sweeps are one-shot."""
    gaps: Gaps = attrs.field(
        default=attrs.Factory(lambda self: self.record.gaps, takes_self=True), init=False
    )
    """All unwatched time, as of when the clocks were last read."""
    _held_back: tuple[int, int] = attrs.field(default=(0, 0), init=False)
    """In the last look that checked: how many due images were held back by reads, and how many were due."""

    def reconfigure(self, config: RetentionConfig) -> None:
        """Use other settings from now on."""
        self.apart_ns = apart_ns(config)
        if config.access_time == "never":
            self._held_back = (0, 0)

    def watch(self, reading: ClockReading, *, by_engine: bool | None = None) -> Watched:
        """Return which time up to now was unwatched if a look happens now; records nothing."""
        is_engine = self.by_engine if by_engine is None else by_engine
        watched = watch(self.record, Look(reading, is_engine), self.apart_ns)
        self.gaps = watched.gaps
        return watched

    async def note_suspended(self) -> None:
        """Note a suspended sweep, which does not count as a look."""
        if not self.record.was_suspended:
            await self._persist(attrs.evolve(self.record, was_suspended=True))

    async def note(self, reading: ClockReading, watched: Watched, plan: Plan, *, checks_reads: bool) -> None:
        """Record a look that has seen everything, before anything is deleted because of it.

        `checks_reads`: whether it has checked when disks were last read.
        """
        times = self.record.held_back_looks
        due = plan.held_back + plan.expired
        if checks_reads and due:
            self._held_back = plan.held_back, due
            times = times + 1 if 2 * plan.held_back > due else 0
        look = Look(reading, self.by_engine)
        await self._persist(LooksRecord(look, watched.gaps, held_back_looks=min(times, _LOOKS_IN_VAIN)))

    async def _persist(self, record: LooksRecord) -> None:
        self.record = record
        # Where that fails, this engine knows it all the same; one that comes after it takes more for
        # unwatched, not less.
        await try_to_save(self.save, record, "look_not_recorded")

    @property
    def held_back(self) -> int:
        """How many images stay beyond their window because their disks were read, look after look."""
        return self._held_back[0] if self.announcement is not None else 0

    @property
    def announcement(self) -> str | None:
        """The message that disks are read so often that hardly anything expires; None: they are not."""
        held_back, due = self._held_back
        if self.record.held_back_looks < _LOOKS_IN_VAIN or not held_back:
            return None
        return (
            f"{held_back} of {due} images are kept beyond their window because their disks keep being read; "
            "if that is a backup or a scanner, have it read with O_NOATIME, or set hmret.access_time: never"
        )


async def knowing_boot(platform: Platform, data_fd: int) -> Platform:
    """Give a platform a clock that identifies the current boot if the kernel does not."""
    if platform.clock.read().boot_id:
        return platform
    record = await platform.threads.run(load_clock_record, platform.filesystem, data_fd)
    return attrs.evolve(platform, clock=with_boot_id(platform.clock, record))


async def open_looks(
    config: RetentionConfig, platform: Platform, data_fd: int, clock: ClockRecord | None
) -> LookHistory:
    """Load the history of looks when an engine starts.

    `clock`: the clocks' readings at the last sweep.
    """
    threads, filesystem = platform.threads, platform.filesystem
    limit_ns = apart_ns(config)
    now_ns = platform.clock.now_ns()
    record = await threads.run_alone(_load, filesystem, data_fd, clock, now_ns, limit_ns)
    return LookHistory(
        record, lambda record: threads.run(save_looks_record, filesystem, data_fd, record), limit_ns
    )


def _load(
    filesystem: Filesystem, data_fd: int, clock: ClockRecord | None, now_ns: int, limit_ns: int
) -> LooksRecord:
    found = load_looks_record(filesystem, data_fd)
    is_unknown = found is None or found.last is None
    newest_ns = newest_timer(filesystem, data_fd, now_ns) if is_unknown else None
    return record_at_start(found, clock, newest_ns, now_ns, limit_ns)
