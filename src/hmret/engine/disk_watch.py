"""Watching how full the disk is: in each sweep, and between sweeps while it is nearly too full."""

import logging
from collections.abc import Awaitable, Callable

import attrs

from hmret.engine.log import log_event
from hmret.model.images import DiskUsage
from hmret.model.limits import DiskLimits
from hmret.model.selection import Pressure
from hmret.model.times import SECOND

__all__ = ["DiskWatch"]

_NEAR = 0.05
"""So close below the high mark the disk is looked at between sweeps."""

_FIRST_WAIT_NS = 600 * SECOND
_LONGEST_WAIT_NS = 6 * 3600 * SECOND


@attrs.define(eq=False)
class DiskWatch:
    """What is known of the disk, and what came of earlier pressure.

    Above the high mark images go until the low one is reached. Where it could not be reached although all was done that
    may be, it is not tried again for ten minutes, then for twice as long each time, up to six hours, unless the disk
    gets below the high mark in between: somebody else fills it, and would empty the cache.
    """

    measure: Callable[[], Awaitable[DiskUsage | None]]
    limits: DiskLimits
    usage: DiskUsage | None = attrs.field(default=None, init=False)
    """As it was found by the last look; None: not looked at, or it could not be."""
    shortfall_bytes: int = attrs.field(default=0, init=False)
    """By how much the last sweep that tried could not reach the low mark; 0: it could, or need not."""
    is_pressed: bool = attrs.field(default=False, init=False)
    """Whether the high mark was exceeded and the low one has not been reached since."""
    _failures: int = attrs.field(default=0, init=False)
    _again_ns: int = attrs.field(default=0, init=False)
    """From when on, by the boot-time clock, the low mark is tried again."""

    async def look(self, boot_ns: int, quarantined_bytes: int = 0) -> DiskUsage | None:
        """Look at the disk, where there is a limit; None: there is none, or nobody can tell how full it is."""
        if not self.limits.is_set:
            self._calm_down()
            self.usage = None
            return None
        try:
            usage = await self.measure()
        except OSError as error:
            usage = None
            if self.usage is not None:
                log_event(logging.WARNING, "disk_not_measured", error=error.strerror)
        if usage is None:
            self.usage = None
            return None
        self._note_level(usage)
        self.usage = self._in_context(usage, boot_ns, quarantined_bytes)
        return self.usage

    async def glance(
        self, boot_ns: int, quarantined_bytes: int = 0, *, anyway: bool = False
    ) -> DiskUsage | None:
        """Look at the disk without noting what is found, where there is a limit, or anyway."""
        if not (anyway or self.limits.is_set):
            return None
        try:
            usage = await self.measure()
        except OSError:
            return None
        return None if usage is None else self._in_context(usage, boot_ns, quarantined_bytes)

    def _in_context(self, usage: DiskUsage, boot_ns: int, quarantined_bytes: int) -> DiskUsage:
        return attrs.evolve(
            usage,
            quarantined_bytes=quarantined_bytes,
            is_pressed=self.is_pressed,
            is_backing_off=boot_ns < self._again_ns,
        )

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
            f"{self.shortfall_bytes} bytes are missing to the low mark although all went that may go; "
            "something else fills the disk"
        )

    async def has_become_too_full(self, boot_ns: int) -> bool:
        """Look at the disk between sweeps; tells whether the high mark is exceeded now and was not before."""
        was_pressed = self.is_pressed
        await self.look(boot_ns)
        return self.is_pressed and not was_pressed

    def note(self, pressure: Pressure | None, boot_ns: int) -> None:
        """Note what a sweep could do about it."""
        if pressure is None or not pressure.is_watermark or pressure.is_limited:
            return
        if not pressure.falls_short:
            self._settle()
            return
        self.shortfall_bytes = pressure.wanted_bytes - pressure.quarantined_bytes - pressure.projected_bytes
        wait_ns = min(_FIRST_WAIT_NS << min(self._failures, 10), _LONGEST_WAIT_NS)
        self._failures += 1
        self._again_ns = boot_ns + wait_ns

    def _note_level(self, usage: DiskUsage) -> None:
        used, total = usage.used_bytes, usage.total_bytes
        if not self.limits.high_watermark:
            self._calm_down()
        elif used > self.limits.high_watermark * total:
            self.is_pressed = True
        else:
            if self._failures:
                self._settle()
            if used <= self.limits.low * total:
                self._calm_down()

    def _settle(self) -> None:
        """Forget that the low mark was out of reach."""
        self._failures, self._again_ns, self.shortfall_bytes = 0, 0, 0

    def _calm_down(self) -> None:
        self._settle()
        self.is_pressed = False
