"""Time that passes only while everything waits, on both backends: a month of waiting takes no time."""

import asyncio
import selectors
from typing import Any

from trio.testing import MockClock

__all__ = ["VirtualLoop", "virtual_time"]


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop of asyncio whose clock jumps to the next timer where nothing else is to be done."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self.now


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        ready = super().select(0)
        if not ready:
            self._loop.now += timeout
        return ready


def virtual_time(backend: str) -> tuple[str, dict[str, Any]]:
    """Return a backend as a fixture `anyio_backend` does, for tests in which nothing runs in threads."""
    if backend == "trio":
        return backend, {"clock": MockClock(autojump_threshold=0)}
    return backend, {"loop_factory": VirtualLoop}
