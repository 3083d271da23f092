"""The clocks of this host."""

import ctypes
import os
import time
from functools import cache
from pathlib import Path
from typing import Protocol

import attrs

from hmret.model.clock.clock_guard import ClockReading, ClockRecord, known_boot_id
from hmret.model.values import frozen

_STA_UNSYNC = 0x40
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Clock(Protocol):
    """The source of the time."""

    def now_ns(self) -> int:
        """Return the wall clock, in nanoseconds since the epoch."""
        ...

    def read(self) -> ClockReading:
        """Read all clocks."""
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
            monotonic_ns=time.clock_gettime_ns(time.CLOCK_MONOTONIC),
        )


@frozen(eq=False)
class NamedBoot:
    """A clock with a boot id of its own, for systems whose kernel does not expose one."""

    clock: Clock
    boot_id: str

    def now_ns(self) -> int:
        return self.clock.now_ns()

    def read(self) -> ClockReading:
        return attrs.evolve(self.clock.read(), boot_id=self.boot_id)


def with_boot_id(clock: Clock, record: ClockRecord | None) -> Clock:
    """Give a clock a boot id if it has none: the record's if the boot has the same time, else a new one."""
    reading = clock.read()
    if reading.boot_id:
        return clock
    return NamedBoot(clock, known_boot_id(record, reading, f"unknown-{os.urandom(8).hex()}"))


@cache
def _boot_id() -> str:
    """Read the kernel's boot id; empty where it is not available: its file may be hidden or absent."""
    try:
        return Path(_BOOT_ID).read_text(encoding="ascii").strip()
    except (OSError, UnicodeError):
        return ""


def _synchronised() -> bool:
    """Ask the kernel whether its clock is synchronised; True where it does not say."""
    timex = _Timex(modes=0)
    if ctypes.CDLL(None).adjtimex(ctypes.byref(timex)) < 0:
        return True
    return not timex.status & _STA_UNSYNC


HOST_CLOCK: Clock = _HostClock()
"""The real clocks."""
