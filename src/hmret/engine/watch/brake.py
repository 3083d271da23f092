"""The brake over time: what it holds is announced first, and goes when that has lasted for long enough."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import attrs

from hmret.engine.watch.saving import try_to_save
from hmret.model.clock.clock_guard import ClockReading
from hmret.model.durations import format_duration
from hmret.model.policy.brake import BrakeRecord, Braking
from hmret.model.times import SECOND, timedelta_nanoseconds
from hmret.model.values import define

__all__ = ["BrakeWatch"]

_ALL = 1 << 62
"""More images than there are."""


@define(eq=False)
class BrakeWatch:
    """Tells whether what the brake holds may go all the same."""

    hold_for: timedelta
    """How long it must have been announced; 0: there is no brake."""
    save: Callable[[BrakeRecord | None], Awaitable[None]]
    record: BrakeRecord | None = None
    """None: the brake does not hold."""
    braking: Braking | None = attrs.field(default=None, init=False)
    """What the last sweep saw."""

    def released_images(self, reading: ClockReading) -> int:
        """Tell up to how many expired images may go: half as many again as were announced, once that was for long enough."""
        record = self.record
        if record is None:
            return 0
        if record.is_released:
            return _ALL
        # guard(brake-needs-full-notice): The operator has the whole announced time to object before a mass expiry
        # goes.
        return _reach(record) if self._remaining_ns(record, reading) <= 0 else 0

    def remaining_seconds(self, reading: ClockReading) -> float:
        """Tell how long what it holds will stay."""
        if self.record is None or self.record.is_released:
            return 0.0
        return max(self._remaining_ns(self.record, reading), 0) / SECOND

    @property
    def announcement(self) -> str:
        """What people are told while it holds; empty: it does not."""
        braking = self.braking
        if braking is None or braking.is_released:
            return ""
        return (
            f"{braking.expired} of {braking.eligible} images have expired at once; they go in "
            f"{format_duration(timedelta_nanoseconds(self.hold_for))}, or with: hmret sweep --release-brake"
        )

    async def note(self, braking: Braking | None, reading: ClockReading) -> None:
        """Note what a sweep saw: what is new is on record from now on, and what is over is forgotten."""
        self.braking = braking
        await self._keep(self._record_of(braking, reading))

    async def release(self, reading: ClockReading) -> None:
        """Let go what it holds, until that has gone."""
        record = self.record or BrakeRecord(reading.boot_id, reading.boot_ns, 0)
        await self._keep(attrs.evolve(record, is_released=True))

    def _record_of(self, braking: Braking | None, reading: ClockReading) -> BrakeRecord | None:
        record = self.record
        if braking is None:
            return None
        if record is not None and (
            record.is_released or (record.boot_id == reading.boot_id and braking.expired <= _reach(record))
        ):
            return record
        # New, or so many more than were announced that it is something else.
        return BrakeRecord(reading.boot_id, reading.boot_ns, braking.expired)

    def _remaining_ns(self, record: BrakeRecord, reading: ClockReading) -> int:
        hold_ns = timedelta_nanoseconds(self.hold_for)
        # guard(reboot-restarts-notice): How long a reboot took is not known, so the notice of a mass expiry runs in
        # full after it.
        if record.boot_id != reading.boot_id:
            return hold_ns
        return hold_ns - (reading.boot_ns - record.announced_boot_ns)

    async def _keep(self, record: BrakeRecord | None) -> None:
        if record != self.record:
            self.record = record
            await try_to_save(self.save, record, "brake_not_recorded")


def _reach(record: BrakeRecord) -> int:
    """Tell how many images count as those that were announced."""
    # guard(release-fits-the-notice): After the notice, no more goes than was announced and half as much again; a
    # larger wave gets a notice of its own.
    return record.announced_images * 3 // 2
