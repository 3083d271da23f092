"""How long a test waits for what comes at once on an idle machine, before it counts as lost.

It says nothing of speed: a machine that is ten times slower, and busy besides, must not come near it. What is waited
for is told by an event or a line wherever there is one; where there is none, `wait_until` asks again and again.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import anyio

__all__ = ["PATIENCE", "patiently", "wait_until"]

PATIENCE = 300.0
"""Seconds; less than the time-out of a whole test, which could only say that something hangs, and not what."""


def patiently() -> AbstractContextManager[anyio.CancelScope]:
    """Return a context that fails if what is awaited in it does not come."""
    return anyio.fail_after(PATIENCE)


def wait_until(
    is_so: Callable[[], bool], what: str, *, pause: Callable[[], object] = lambda: time.sleep(0.01)
) -> None:
    """Wait for something of which nothing tells."""
    ends = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < ends, f"this did not come to be: {what}"
        pause()
