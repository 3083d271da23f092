"""The brake over time: what it holds is announced first, and deleted once the notice period is over."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import attrs

from hmret.engine.watch.saving import try_to_save
from hmret.model.clock.clock_guard import ClockReading
from hmret.model.durations import format_duration
from hmret.model.policy.brake import BrakeRecord, Braking
from hmret.model.times import SECOND, timedelta_nanoseconds
from hmret.model.values import define

_ALL = 1 << 62
"""More images than there are."""


@define(eq=False)
class BrakeWatch:
    """Decides when images held by the brake may be deleted."""

    hold_for: timedelta
    """The notice period; 0: there is no brake."""
    save: Callable[[BrakeRecord | None], Awaitable[None]]
    record: BrakeRecord | None = None
    """None: the brake holds nothing."""
    braking: Braking | None = attrs.field(default=None, init=False)
    """What the last sweep found."""

    def released_images(self, reading: ClockReading) -> int:
        """Return how many expired images may be deleted: 1.5 times those announced, after the notice period."""
        record = self.record
        if record is None:
            return 0
        if record.is_released:
            return _ALL
        # guard(brake-needs-full-notice): The operator has the full notice period to object to a mass expiry.
        return _reach(record) if self._remaining_ns(record, reading) <= 0 else 0

    def remaining_seconds(self, reading: ClockReading) -> float:
        """Return how long the images that it holds will stay."""
        if self.record is None or self.record.is_released:
            return 0.0
        return max(self._remaining_ns(self.record, reading), 0) / SECOND

    @property
    def announcement(self) -> str:
        """The message to operators while it holds images; empty: it does not."""
        braking = self.braking
        if braking is None or braking.is_released:
            return ""
        return (
            f"{braking.expired} of {braking.eligible} images have expired at once; they will be deleted in "
            f"{format_duration(timedelta_nanoseconds(self.hold_for))}, or with: hmret sweep --release-brake"
        )

    async def note(self, braking: Braking | None, reading: ClockReading) -> None:
        """Note what a sweep found: records what is new and forgets what is over."""
        self.braking = braking
        await self._persist(self._record_of(braking, reading))

    async def release(self, reading: ClockReading) -> None:
        """Release what it holds, until all of it has been deleted."""
        record = self.record or BrakeRecord(reading.boot_id, reading.boot_ns, 0)
        await self._persist(attrs.evolve(record, is_released=True))

    def _record_of(self, braking: Braking | None, reading: ClockReading) -> BrakeRecord | None:
        record = self.record
        if braking is None:
            return None
        if record is not None and (
            record.is_released or (record.boot_id == reading.boot_id and braking.expired <= _reach(record))
        ):
            return record
        # New, or so many more than announced that it is a new wave.
        return BrakeRecord(reading.boot_id, reading.boot_ns, braking.expired)

    def _remaining_ns(self, record: BrakeRecord, reading: ClockReading) -> int:
        hold_ns = timedelta_nanoseconds(self.hold_for)
        # guard(reboot-restarts-notice): The length of a reboot is unknown, so the notice period of a mass
        # expiry starts over after it.
        if record.boot_id != reading.boot_id:
            return hold_ns
        return hold_ns - (reading.boot_ns - record.announced_boot_ns)

    async def _persist(self, record: BrakeRecord | None) -> None:
        if record != self.record:
            self.record = record
            await try_to_save(self.save, record, "brake_not_recorded")


def _reach(record: BrakeRecord) -> int:
    """Return how many images the announcement covers."""
    # guard(release-fits-the-notice): After the notice period at most 1.5 times as many images are deleted as
    # were announced; a larger wave gets its own notice.
    return record.announced_images * 3 // 2
