"""The brake over time: what it holds is announced first, and goes when that has lasted for long enough."""

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

import attrs

from hmret.engine.log import log_event
from hmret.model.brake import BrakeRecord, Braking
from hmret.model.clock_watch import ClockReading
from hmret.model.times import SECOND, timedelta_nanoseconds

__all__ = ["BrakeWatch"]


@attrs.define(eq=False)
class BrakeWatch:
    """Tells whether what the brake holds may go all the same."""

    hold_for: timedelta
    """How long it must have been announced; 0: there is no brake."""
    save: Callable[[BrakeRecord | None], Awaitable[None]]
    record: BrakeRecord | None = None
    """None: the brake does not hold."""
    braking: Braking | None = attrs.field(default=None, init=False)
    """What the last sweep saw."""

    def is_released(self, reading: ClockReading) -> bool:
        """Tell whether it has been announced for long enough, or was released."""
        record = self.record
        if record is None or record.boot_id != reading.boot_id:
            return record is not None and record.is_released
        held_ns = reading.boot_ns - record.announced_boot_ns
        return record.is_released or held_ns >= timedelta_nanoseconds(self.hold_for)

    def remaining_seconds(self, reading: ClockReading) -> float:
        """Tell how long what it holds will stay."""
        if self.record is None or self.is_released(reading):
            return 0.0
        begun_ns = self.record.announced_boot_ns
        if self.record.boot_id != reading.boot_id:
            begun_ns = reading.boot_ns
        return max(self.hold_for.total_seconds() - (reading.boot_ns - begun_ns) / SECOND, 0.0)

    @property
    def announcement(self) -> str:
        """What people are told while it holds; empty: it does not."""
        braking = self.braking
        if braking is None or braking.is_released:
            return ""
        return (
            f"{braking.expired} of {braking.eligible} images have expired at once; they go in "
            f"{self.hold_for}, or with: hmret sweep --release-brake"
        )

    async def note(self, braking: Braking | None, reading: ClockReading, *, release: bool) -> None:
        """Note what a sweep saw: what is new is on record from now on, and what is over is forgotten."""
        self.braking = braking
        record = self.record
        if braking is None:
            record = None
        elif record is None or (record.boot_id != reading.boot_id and not record.is_released):
            record = BrakeRecord(reading.boot_id, reading.boot_ns, release)
        elif release:
            record = attrs.evolve(record, is_released=True)
        if record == self.record:
            return
        self.record = record
        try:
            await self.save(record)
        except OSError as error:
            log_event(logging.WARNING, "brake_not_recorded", error=error.strerror)
