"""The event loop that an engine runs on, and the only one on which it may be called.

Events, channels and task groups belong to one event loop. Setting an event from another thread wakes no task
on asyncio, and corrupts the scheduler of the calling loop on trio.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio.lowlevel

_DETAIL = "this engine runs on another event loop: call it there, from a thread through anyio.from_thread.run or a BlockingPortal"


class OwnLoop:
    """The event loop on which this object was made."""

    def __init__(self) -> None:
        self._token = anyio.lowlevel.current_token()

    @property
    def is_current(self) -> bool:
        """Whether the caller runs on this event loop."""
        try:
            return bool(anyio.lowlevel.current_token() == self._token)
        except RuntimeError:
            # No event loop runs in this thread.
            return False

    def require(self) -> None:
        """Reject a call that is not made on this event loop.

        Raises:
            RuntimeError: it is made on another event loop, or in a thread without one.
        """
        # guard(foreign-loop-is-refused): A call from another event loop would fail to wake waiting tasks, or
        # corrupt the caller's scheduler, so it is rejected at once.
        if not self.is_current:
            raise RuntimeError(_DETAIL)

    def call(self, function: Callable[[], object]) -> None:
        """Call a function on this event loop, at once if the caller runs on it, otherwise as soon as possible.

        A loop that has ended calls nothing.
        """
        # guard(foreign-loop-hands-over): The end of a lease on another event loop is handed over to the
        # engine's loop, which might otherwise never notice it.
        if self.is_current:
            function()
            return
        native: Any = getattr(self._token, "native_token", self._token)
        hand_over = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon
        # asyncio raises it if the loop is closed; trio's error for a finished run is a RuntimeError too.
        with suppress(RuntimeError):
            hand_over(function)
