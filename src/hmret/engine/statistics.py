"""The engine in numbers."""

from collections.abc import Mapping
from typing import Protocol

from hmret.engine.counters import Counters
from hmret.engine.schedule import Schedule
from hmret.engine.surveyor import Surveyor
from hmret.engine.sweep.sweep import Sweep
from hmret.model.images import DiskUsage
from hmret.model.plan.differences import StoppedTimers
from hmret.model.policy.brake import Braking
from hmret.model.report import SweepReport
from hmret.model.values import frozen

__all__ = ["HasMailbox", "Statistics", "statistics_of"]


class HasMailbox(Protocol):
    """Something that is asked through a mailbox."""

    @property
    def waiting(self) -> int:
        """How many requests wait in it."""
        ...


@frozen(kw_only=True)
class Statistics:
    """The engine in numbers, since it was opened."""

    sweeping: bool
    """Whether a sweep runs now."""
    images_seen: int
    """Images that the sweep that runs, or the last one, has come to."""
    sweeps: int
    """Sweeps that have ended."""
    deleted_images: int
    deleted_bytes: int
    failed_deletes: int
    quarantined_images: int = 0
    """Deleted images that can be brought back."""
    quarantined_bytes: int = 0
    """Blocks that come free when those go for good."""
    last_report: SweepReport | None
    """What the last sweep did; None: none has ended yet."""
    leases_offered: bool | None
    """Whether the kernel's file leases work here; None: not tried yet."""
    waiting: dict[str, int]
    """Messages that wait in each actor's mailbox."""
    disk: DiskUsage | None = None
    """How full the disk was at the last look; None: no limit is set, or nobody can tell."""
    disk_used_ratio: float | None = None
    """The share of the file system of `images/` in use at the last look, whether or not a limit is set; None: nobody can tell."""
    disk_shortfall_bytes: int = 0
    """By how much the low mark was out of reach for the last sweep that tried; 0: it was not."""
    held_back_images: int = 0
    """Images whose window has passed and that stay because their disks were read, look after look."""
    stopped_timers: StoppedTimers | None = None
    """The timers that a sweep by the settings in force has stopped because of their patterns; None: none."""
    braking: Braking | None = None
    """What the brake saw in the last sweep; None: not too much has expired at once."""
    brake_seconds: float = 0.0
    """How long the brake still holds that; 0: not at all."""


def statistics_of(
    schedule: Schedule,
    sweeps: Sweep,
    surveyor: Surveyor,
    counters: Counters,
    mailboxes: Mapping[str, HasMailbox],
) -> Statistics:
    """Put an engine in numbers, as they stand at this moment."""
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
        leases_offered=sweeps.leases_offered,
        disk=disk.usage,
        disk_used_ratio=None
        if measured is None or not measured.total_bytes
        else measured.used_bytes / measured.total_bytes,
        disk_shortfall_bytes=disk.shortfall_bytes,
        held_back_images=surveyor.looks.held_back,
        stopped_timers=sweeps.stopped_timers,
        braking=brake.braking,
        brake_seconds=brake.remaining_seconds(surveyor.clock.read()),
        waiting={name: mailbox.waiting for name, mailbox in mailboxes.items()},
    )
