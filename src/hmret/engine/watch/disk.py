"""Watching disk usage: in each sweep, and between sweeps while it is close to the high mark."""

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

_NEAR = 0.05
"""How close below the high mark the disk is checked between sweeps."""

_FIRST_WAIT_NS = 600 * SECOND
_LONGEST_WAIT_NS = 6 * 3600 * SECOND

_MOST_INEFFECTIVE = 2
"""After this many sweeps in a row that freed far less than they deleted, deleting is futile; one may be chance."""


@frozen
class _Promise:
    """What a sweep should have freed."""

    used_bytes: int
    """Before the sweep."""
    freed_bytes: int


@define(eq=False)
class DiskWatch:
    """Tracks disk usage, and the effect of earlier attempts to relieve pressure.

    Above the high mark, images are deleted until the low mark is reached. If it stays out of reach after
    every eligible image was deleted, or if deletions free no space, other data fills the disk and would drain
    the cache. Attempts then back off, for ten minutes at first, doubling each time up to six hours, until the
    low mark is reached or in reach.
    """

    measure: Callable[[], Awaitable[DiskUsage | None]]
    save: Callable[[DiskRecord], Awaitable[None]]
    quarantined_bytes: Callable[[], int]
    """Returns the size of what is in quarantine."""
    limits: DiskLimits
    record: DiskRecord = attrs.field(factory=DiskRecord)
    usage: DiskUsage | None = attrs.field(default=None, init=False)
    """The last measurement; None: not measured, or it could not be."""
    measured: DiskUsage | None = attrs.field(default=None, init=False)
    """The same, even if there is no limit."""
    _saved: DiskRecord = attrs.field(
        default=attrs.Factory(lambda self: self.record, takes_self=True), init=False
    )
    _promise: _Promise | None = attrs.field(default=None, init=False)

    @property
    def is_pressed(self) -> bool:
        """Whether the high mark was exceeded and the low one has not been reached since."""
        return self.record.is_pressed

    @property
    def shortfall_bytes(self) -> int:
        """By how much the last sweep that tried fell short of the low mark; 0: it did not, or did not try."""
        return self.record.shortfall_bytes

    def change_limits(self, limits: DiskLimits) -> None:
        """Use other limits; the history under the old ones no longer counts."""
        if limits != self.limits:
            self.limits = limits
            self.record = DiskRecord()
            self._promise = None

    async def look(self, reading: ClockReading) -> DiskUsage | None:
        """Measure the disk; None: there is no limit, or it cannot be measured."""
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
            usage = self._in_context(usage, reading)
        self.usage = usage
        return usage

    async def look_before_sweep(self, reading: ClockReading) -> DiskUsage | None:
        """Measure the disk, and check whether the last sweep's deletions freed space."""
        usage = await self.look(reading)
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
        self.usage = self._in_context(usage, reading)
        return self.usage

    async def peek_usage(self, reading: ClockReading, *, anyway: bool = False) -> DiskUsage | None:
        """Measure the disk without noting the result, if there is a limit or `anyway` is set."""
        if not (anyway or self.limits.is_set):
            return None
        try:
            usage = await self.measure()
        except OSError:
            return None
        return None if usage is None else self._in_context(usage, reading)

    @property
    def is_near(self) -> bool:
        """Whether the disk should be checked between sweeps, because it may soon exceed the high mark."""
        usage, high = self.usage, self.limits.high_watermark
        if usage is None or not high or self.is_pressed:
            return False
        return usage.used_bytes > (high - _NEAR) * usage.total_bytes

    @property
    def announcement(self) -> str:
        """The message to operators while the low mark is out of reach; empty: it is not."""
        if not self.shortfall_bytes:
            return ""
        return (
            f"{self.shortfall_bytes} bytes short of the low mark although every eligible image has been deleted; "
            "something else is filling the disk"
        )

    async def is_newly_pressed(self, reading: ClockReading) -> bool:
        """Measure the disk between sweeps; returns whether it exceeds the high mark and did not before."""
        was_pressed = self.is_pressed
        await self.look(reading)
        return self.is_pressed and not was_pressed

    async def note(self, pressure: Pressure | None, freed_bytes: int, reading: ClockReading) -> None:
        """Note what a sweep achieved, and measure the disk again."""
        if pressure is not None and pressure.is_watermark and self.usage is not None:
            if freed_bytes:
                self._promise = _Promise(self.usage.used_bytes, freed_bytes)
            if pressure.is_out_of_reach:
                missing = pressure.wanted_bytes - pressure.quarantined_bytes - pressure.projected_bytes
                self._back_off(reading, missing)
            elif not self.record.ineffective_sweeps:
                self._give_up()
            await self.look(reading)
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

    def _in_context(self, usage: DiskUsage, reading: ClockReading) -> DiskUsage:
        record = self.record
        # The age of an attempt from another boot is unknown, so it is tried again.
        # guard(pause-while-others-fill-disk): While other data fills the disk, attempts back off, so that the
        # cache does not shrink with every sweep.
        waits = record.boot_id == reading.boot_id and reading.boot_ns < record.again_boot_ns
        # guard(stop-where-none-comes-free): If deletions free no space on the disk, more of them would only
        # drain the cache, so they pause.
        return attrs.evolve(
            usage,
            quarantined_bytes=self.quarantined_bytes(),
            is_pressed=record.is_pressed,
            is_backing_off=waits,
            is_futile=waits and record.ineffective_sweeps >= _MOST_INEFFECTIVE,
        )

    def _note_level(self, usage: DiskUsage) -> None:
        used, total, high = usage.used_bytes, usage.total_bytes, self.limits.high_watermark
        # guard(pause-until-low-mark): The backoff lasts until the low mark is reached; otherwise the cache
        # would shrink with each new rise of other data.
        if not high or used <= self.limits.low * total:
            self.record = DiskRecord()
        elif used > high * total:
            self.record = attrs.evolve(self.record, is_pressed=True)

    def _give_up(self) -> None:
        """Forget that the low mark was out of reach."""
        self.record = DiskRecord(is_pressed=self.record.is_pressed)
