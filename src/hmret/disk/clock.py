"""The clocks of this host."""

import ctypes
import time
from functools import cache
from pathlib import Path
from typing import Protocol

from hmret.model.clock_watch import ClockReading

__all__ = ["HOST_CLOCK", "Clock"]

_STA_UNSYNC = 0x40
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Clock(Protocol):
    """Where the time comes from."""

    def now_ns(self) -> int:
        """Tell the wall clock, in nanoseconds since the epoch."""
        ...

    def read(self) -> ClockReading:
        """Tell all clocks."""
        ...


class _Timex(ctypes.Structure):
    """The head of the kernel's `struct timex` (see adjtimex(2)), with room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("frequency", ctypes.c_long),
        ("largest_error", ctypes.c_long),
        ("estimated_error", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    )


class _HostClock:
    """The kernel's clocks."""

    def now_ns(self) -> int:
        return time.time_ns()

    def read(self) -> ClockReading:
        return ClockReading(
            boot_id=_boot_id(),
            boot_ns=time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            wall_ns=time.time_ns(),
            synchronised=_synchronised(),
        )


@cache
def _boot_id() -> str:
    return Path(_BOOT_ID).read_text(encoding="ascii").strip()


def _synchronised() -> bool:
    """Ask the kernel whether its clock is synchronised; True where it does not say."""
    timex = _Timex(modes=0)
    if ctypes.CDLL(None).adjtimex(ctypes.byref(timex)) < 0:
        return True
    return not timex.status & _STA_UNSYNC


HOST_CLOCK: Clock = _HostClock()
"""The real one."""
