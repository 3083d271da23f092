"""The clocks of this host."""

import ctypes
import time
from pathlib import Path

import pytest

from hmret.disk.kernel import clock
from hmret.disk.kernel.clock import HOST_CLOCK


class _Kernel:
    """A kernel that answers adjtimex with one status."""

    def __init__(self, status: int, answer: int = 0) -> None:
        self._status = status
        self._answer = answer

    def adjtimex(self, timex: object) -> int:
        timex._obj.status = self._status  # type: ignore[attr-defined]  # what ctypes.byref wraps
        return self._answer


def test_the_wall_clock_is_that_of_the_host() -> None:
    before = time.time_ns()
    assert before <= HOST_CLOCK.now_ns() <= time.time_ns()


def test_a_reading_has_all_clocks() -> None:
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns()
    reading = HOST_CLOCK.read()
    assert reading.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert before[0] <= reading.boot_ns <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert before[1] <= reading.wall_ns <= time.time_ns()


@pytest.mark.parametrize(
    ("kernel", "synchronised"),
    [
        (_Kernel(0), True),
        (_Kernel(0x2001), True),
        (_Kernel(0x40), False),
        (_Kernel(0x41, answer=5), False),
        (_Kernel(0x40, answer=-1), True),
    ],
)
def test_the_clock_is_unsynchronised_where_the_kernel_says_so(
    monkeypatch: pytest.MonkeyPatch, kernel: _Kernel, synchronised: bool
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: kernel)
    assert HOST_CLOCK.read().synchronised is synchronised


def test_the_kernel_answers_here() -> None:
    assert ctypes.sizeof(clock._Timex) >= 208
    assert HOST_CLOCK.read().synchronised in (True, False)
