"""The engine's key figures."""

from collections.abc import Mapping
from typing import Any

from hmret.actors.mailbox import Actor
from hmret.engine.schedule import Schedule
from hmret.engine.sweep.sweep import Sweep
from hmret.model.images import DiskUsage
from hmret.model.plan.differences import StoppedTimers
from hmret.model.policy.brake import Braking
from hmret.model.report import SweepReport
from hmret.model.values import frozen


@frozen(kw_only=True)
class Statistics:
    """The engine's key figures since it was opened."""

    sweeping: bool
    """Whether a sweep is running."""
    images_seen: int
    """How many images the current sweep, or the last one, has reached."""
    sweeps: int
    """The number of sweeps that have ended."""
    deleted_images: int
    """Images that were deleted since the engine was opened."""
    deleted_bytes: int
    """Bytes that came free by that."""
    failed_deletes: int
    """Deletions that failed since the engine was opened."""
    quarantined_images: int = 0
    """Deleted images that can be restored."""
    quarantined_bytes: int = 0
    """Blocks that are freed when those are erased."""
    last_report: SweepReport | None
    """The report of the last sweep; None: none has ended yet."""
    leases_offered: bool | None
    """Whether the kernel's file leases work here; None: not tried yet."""
    waiting: dict[str, int]
    """Messages waiting in each actor's mailbox."""
    disk: DiskUsage | None = None
    """How full the disk was when last measured; None: no limit is set, or it cannot be measured."""
    disk_used_ratio: float | None = None
    """The used share of the file system of `images/` when last measured, limit or not; None: cannot be measured."""
    disk_shortfall_bytes: int = 0
    """By how many bytes the last sweep that tried fell short of the low mark; 0: it did not."""
    held_back_images: int = 0
    """Images whose window has passed but that stay because their disks keep being read, look after look."""
    stopped_timers: StoppedTimers | None = None
    """The timers that a sweep stopped because of the patterns of the current settings; None: none."""
    braking: Braking | None = None
    """What the brake held in the last sweep; None: not too many images expired at once."""
    brake_seconds: float = 0.0
    """How long the brake will go on holding them; 0: it does not."""
    leases: int = 0
    """Leases in force."""


def statistics_of(schedule: Schedule, sweeps: Sweep, actors: Mapping[str, Actor[Any]]) -> Statistics:
    """Return an engine's key figures at this moment."""
    surveyor, counters = sweeps.surveyor, sweeps.counters
    disk, brake = surveyor.disk, surveyor.brake
    measured = disk.measured
    return Statistics(
        sweeping=schedule.is_sweeping,
        images_seen=surveyor.scanner.images_seen,
        sweeps=schedule.reports,
        deleted_images=schedule.deleted_images,
        deleted_bytes=schedule.deleted_bytes,
        failed_deletes=schedule.failed_deletes,
        quarantined_images=counters.quarantined_images,
        quarantined_bytes=counters.quarantined_bytes,
        last_report=schedule.last_report,
        leases_offered=sweeps.deletion_run.leases_offered,
        disk=disk.usage,
        disk_used_ratio=None
        if measured is None or not measured.total_bytes
        else measured.used_bytes / measured.total_bytes,
        disk_shortfall_bytes=disk.shortfall_bytes,
        held_back_images=surveyor.looks.held_back,
        stopped_timers=sweeps.stopped_timers,
        braking=brake.braking,
        brake_seconds=brake.remaining_seconds(surveyor.clock.read()),
        leases=surveyor.locks.lease_count,
        waiting={name: actor.waiting for name, actor in actors.items()},
    )
