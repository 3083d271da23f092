"""Watching how full the disk is: in each sweep, and between sweeps while it is nearly too full."""

import logging
from collections.abc import Awaitable, Callable

import attrs

from hmret.engine.log import log_event
from hmret.engine.watch.saving import try_to_save
from hmret.model.clock.clock_guard import ClockReading
from hmret.model.images import DiskUsage
from hmret.model.plan.selection import Pressure
from hmret.model.policy.limits import DiskLimits
from hmret.model.records.disk import DiskRecord
from hmret.model.times import SECOND
from hmret.model.values import define, frozen

__all__ = ["DiskWatch"]

_NEAR = 0.05
"""So close below the high mark the disk is looked at between sweeps."""

_FIRST_WAIT_NS = 600 * SECOND
_LONGEST_WAIT_NS = 6 * 3600 * SECOND

_MOST_INEFFECTIVE = 2
"""So many sweeps in a row after which little has come free of what went are taken for futile; one may be chance."""


@frozen
class _Promise:
    """What should have come free since a sweep."""

    used_bytes: int
    """Before it."""
    freed_bytes: int


@define(eq=False)
class DiskWatch:
    """What is known of the disk, and what came of earlier pressure.

    Above the high mark images go until the low one is reached. Where that is out of reach although all went that may, or
    what went does not come free, somebody else fills the disk and would empty the cache: then it is not tried again for
    ten minutes, then for twice as long each time, up to six hours, until the low mark is in reach or reached.
    """

    measure: Callable[[], Awaitable[DiskUsage | None]]
    save: Callable[[DiskRecord], Awaitable[None]]
    limits: DiskLimits
    record: DiskRecord = attrs.field(factory=DiskRecord)
    usage: DiskUsage | None = attrs.field(default=None, init=False)
    """As it was found by the last look; None: not looked at, or it could not be."""
    measured: DiskUsage | None = attrs.field(default=None, init=False)
    """The same, also where there is no limit."""
    _saved: DiskRecord = attrs.field(init=False)
    _promise: _Promise | None = attrs.field(default=None, init=False)

    @_saved.default
    def _as_loaded(self) -> DiskRecord:
        return self.record

    @property
    def is_pressed(self) -> bool:
        """Whether the high mark was exceeded and the low one has not been reached since."""
        return self.record.is_pressed

    @property
    def shortfall_bytes(self) -> int:
        """By how much the last sweep that tried could not reach the low mark; 0: it could, or need not."""
        return self.record.shortfall_bytes

    def change_limits(self, limits: DiskLimits) -> None:
        """Go by other limits; by them, what was before counts no more."""
        if limits != self.limits:
            self.limits = limits
            self.record = DiskRecord()
            self._promise = None

    async def look(self, reading: ClockReading, quarantined_bytes: int = 0) -> DiskUsage | None:
        """Look at the disk; None: there is no limit, or nobody can tell how full it is."""
        try:
            usage = await self.measure()
        except OSError as error:
            usage = None
            if self.usage is not None:
                log_event(logging.WARNING, "disk_not_measured", error=error.strerror)
        self.measured = usage
        if not self.limits.is_set:
            self.usage, self.record = None, DiskRecord()
            return None
        if usage is not None:
            self._note_level(usage)
            usage = self._in_context(usage, reading, quarantined_bytes)
        self.usage = usage
        return usage

    async def look_before_sweep(self, reading: ClockReading, quarantined_bytes: int) -> DiskUsage | None:
        """Look at the disk, and whether what went in the last sweep has come free."""
        usage = await self.look(reading, quarantined_bytes)
        promise, self._promise = self._promise, None
        if usage is None or promise is None:
            return usage
        came_free = promise.used_bytes - usage.used_bytes
        if 2 * came_free >= promise.freed_bytes:
            self.record = attrs.evolve(self.record, ineffective_sweeps=0)
            return usage
        ineffective_sweeps = self.record.ineffective_sweeps + 1
        self.record = attrs.evolve(self.record, ineffective_sweeps=ineffective_sweeps)
        if ineffective_sweeps >= _MOST_INEFFECTIVE and self.is_pressed:
            missing = usage.used_bytes - int(self.limits.low * usage.total_bytes)
            self._back_off(reading, missing)
        self.usage = self._in_context(usage, reading, quarantined_bytes)
        return self.usage

    async def peek_usage(
        self, reading: ClockReading, quarantined_bytes: int = 0, *, anyway: bool = False
    ) -> DiskUsage | None:
        """Look at the disk without noting what is found, where there is a limit, or anyway."""
        if not (anyway or self.limits.is_set):
            return None
        try:
            usage = await self.measure()
        except OSError:
            return None
        return None if usage is None else self._in_context(usage, reading, quarantined_bytes)

    @property
    def is_near(self) -> bool:
        """Whether the disk should be looked at between sweeps: it may soon be too full, and was not yet."""
        usage, high = self.usage, self.limits.high_watermark
        if usage is None or not high or self.is_pressed:
            return False
        return usage.used_bytes > (high - _NEAR) * usage.total_bytes

    @property
    def announcement(self) -> str:
        """What people are told while the low mark is out of reach; empty: it is not."""
        if not self.shortfall_bytes:
            return ""
        return (
            f"{self.shortfall_bytes} bytes are missing to the low mark although all went that may; "
            "something else fills the disk"
        )

    async def is_newly_pressed(self, reading: ClockReading, quarantined_bytes: int) -> bool:
        """Look at the disk between sweeps; tells whether the high mark is exceeded now and was not before."""
        was_pressed = self.is_pressed
        await self.look(reading, quarantined_bytes)
        return self.is_pressed and not was_pressed

    async def note(
        self, pressure: Pressure | None, freed_bytes: int, reading: ClockReading, quarantined_bytes: int
    ) -> None:
        """Note what a sweep could do about it, and look how full the disk is now."""
        if pressure is not None and pressure.is_watermark and self.usage is not None:
            if freed_bytes:
                self._promise = _Promise(self.usage.used_bytes, freed_bytes)
            if pressure.is_out_of_reach:
                missing = pressure.wanted_bytes - pressure.quarantined_bytes - pressure.projected_bytes
                self._back_off(reading, missing)
            elif not self.record.ineffective_sweeps:
                self._give_up()
            await self.look(reading, quarantined_bytes)
        if self.record != self._saved:
            self._saved = self.record
            await try_to_save(self.save, self.record, "disk_record_not_written")

    def _back_off(self, reading: ClockReading, missing_bytes: int) -> None:
        wait_ns = min(_FIRST_WAIT_NS << min(self.record.failures, 10), _LONGEST_WAIT_NS)
        self.record = attrs.evolve(
            self.record,
            failures=self.record.failures + 1,
            boot_id=reading.boot_id,
            again_boot_ns=reading.boot_ns + wait_ns,
            shortfall_bytes=max(missing_bytes, 1),
        )

    def _in_context(self, usage: DiskUsage, reading: ClockReading, quarantined_bytes: int) -> DiskUsage:
        record = self.record
        # By the clock of another boot nobody knows how long ago that was: it is tried again.
        # guard(pause-while-others-fill-disk): While other data fills the disk, the cache waits between attempts and
        # does not shrink with every sweep.
        waits = record.boot_id == reading.boot_id and reading.boot_ns < record.again_boot_ns
        # guard(stop-where-none-comes-free): Where deletions free no space on the disk, more of them would only empty
        # the cache, so they pause.
        return attrs.evolve(
            usage,
            quarantined_bytes=quarantined_bytes,
            is_pressed=record.is_pressed,
            is_backing_off=waits,
            is_futile=waits and record.ineffective_sweeps >= _MOST_INEFFECTIVE,
        )

    def _note_level(self, usage: DiskUsage) -> None:
        used, total, high = usage.used_bytes, usage.total_bytes, self.limits.high_watermark
        # guard(pause-until-low-mark): Other data that fills the disk counts until the low mark is reached, or the
        # cache would shrink with each new rise.
        if not high or used <= self.limits.low * total:
            self.record = DiskRecord()
        elif used > high * total:
            self.record = attrs.evolve(self.record, is_pressed=True)

    def _give_up(self) -> None:
        """Forget that the low mark was out of reach."""
        self.record = DiskRecord(is_pressed=self.record.is_pressed)
