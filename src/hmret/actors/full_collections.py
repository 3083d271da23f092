"""Keeps full garbage collections out of bulk work.

A full collection visits every container in the process, with the interpreter's lock held: tens of milliseconds
for what a server has loaded and a large cache adds, in which its event loop does nothing. Bulk work makes
containers by the hundred thousand, so it is bulk work that triggers them.
"""

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_FROZEN_ON_PURPOSE = 2000
"""A process that freezes objects has more of them than this; Python 3.12 itself sets some hundred immortal objects
aside at each full collection.
"""
_LONGEST_SECONDS = 60.0
"""For how long garbage of the embedding process may stay uncollected because of bulk work."""


class FullCollections:
    """Postpones full collections during bulk work, for all engines of a process together.

    Objects that exist when bulk work begins are hidden from the collector (`gc.freeze`), as is, after each
    part of the work, what that part created; a collection in between finds next to nothing to traverse. At
    the end all of them are visible again; no collection is delayed by more than a minute. If the process has
    frozen objects itself or disabled its collector, nothing is done, since `gc.unfreeze` would undo that too.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._until: float | None = None
        """Until when objects may stay frozen, by the monotonic clock; None: none are."""

    @contextmanager
    def put_off(self) -> Iterator[None]:
        """Put full collections off while the block runs."""
        with self._lock:
            self._running += 1
            if self._running == 1 and gc.isenabled() and gc.get_freeze_count() < _FROZEN_ON_PURPOSE:
                self._until = time.monotonic() + _LONGEST_SECONDS
                gc.freeze()
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if not self._running:
                    self._end()

    def part_ended(self) -> None:
        """Move what a part of the work has made out of the collector's sight, too."""
        with self._lock:
            if self._until is None:
                return
            if time.monotonic() < self._until:
                gc.freeze()
            else:
                self._end()

    def _end(self) -> None:
        if self._until is not None:
            self._until = None
            gc.unfreeze()
