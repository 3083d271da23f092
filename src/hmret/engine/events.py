"""An event hub that never waits for a listener.

Each listener has its own queue. A slow listener is disconnected and told why: what the engine does never
depends on who is watching.
"""

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import anyio
import attrs

from hmret.actors.own_loop import OwnLoop
from hmret.model.values import define, frozen

# Events kept for listeners that reconnect: some minutes of a busy host, a few MiB.
_KEPT = 4096

# Events that may be queued for one listener, besides the newest batch: far more than for any reader that
# keeps up.
_PLACES = 8192


@frozen
class Event:
    """Something that happened."""

    number: int
    """Counts from 1 since the engine was opened, with no gaps."""
    facts: Mapping[str, object]
    """As in the journal: `time`, `event`, and whichever of `image`, `reason`, `bytes`, `path` and `error` apply."""

    @property
    def name(self) -> str:
        """What happened: `mark`, `clear`, `delete`, `failure`, `recover`, `sweep` and so on."""
        return str(self.facts["event"])


@define(eq=False)
class Listener:
    """One listener's queue; iterating over it ends when the engine stops or the listener is disconnected."""

    missed: bool
    """Whether some of the events that it asked for are no longer available."""
    fell_behind: bool = False
    """Whether it was disconnected because it did not keep up."""
    _places: int = _PLACES
    _queue: deque[Sequence[Event]] = attrs.field(factory=deque)
    _waiting: int = 0
    _has_ended: bool = False
    _changed: anyio.Event = attrs.field(factory=anyio.Event)
    _loop: OwnLoop = attrs.field(factory=OwnLoop)

    def __aiter__(self) -> "Listener":
        """Iterate over the events in batches, in order."""
        return self

    async def __anext__(self) -> Sequence[Event]:
        """Wait for the next batch; a caller that is cancelled misses none.

        Raises:
            RuntimeError: the caller runs on a different event loop than the engine.
        """
        self._loop.require()
        while not self._queue:
            if self._has_ended:
                raise StopAsyncIteration
            self._changed = anyio.Event()
            await self._changed.wait()
        batch = self._queue.popleft()
        self._waiting -= len(batch)
        return batch

    def put(self, batch: Sequence[Event]) -> None:
        """Queue a batch; never waits."""
        if self._has_ended or not batch:
            return
        # There is always room for the newest batch: its size says nothing about how fast the listener reads.
        if self._waiting > self._places:
            self.fell_behind = True
            self._queue.clear()
            self.end()
            return
        self._queue.append(batch)
        self._waiting += len(batch)
        self._changed.set()

    def end(self) -> None:
        """End the iteration once the queue is empty."""
        self._has_ended = True
        self._changed.set()


@define(eq=False)
class EventHub:
    """Numbers events, keeps the most recent, and passes them to listeners; only on the event loop's thread."""

    instance: str = attrs.field(factory=lambda: os.urandom(4).hex())
    """Distinguishes the event numbers of one engine from those of the next."""
    _last: int = 0
    _kept: deque[Event] = attrs.field(factory=lambda: deque(maxlen=_KEPT))
    _listeners: set[Listener] = attrs.field(factory=set)
    _has_ended: bool = False

    @property
    def last_number(self) -> int:
        """The number of the newest event; 0: there has been none."""
        return self._last

    @property
    def listening(self) -> int:
        """How many listeners there are."""
        return len(self._listeners)

    def recent(self) -> Sequence[Event]:
        """List the events that are kept: some thousands at most, oldest first."""
        return tuple(self._kept)

    def publish(self, entries: Sequence[Mapping[str, object]]) -> None:
        """Publish an event; never waits."""
        batch = [Event(self._last + place, facts) for place, facts in enumerate(entries, start=1)]
        self._last += len(batch)
        self._kept.extend(batch)
        # A copy: a listener may be removed at any moment by a block that ends in another thread.
        for listener in tuple(self._listeners):
            listener.put(batch)

    @contextmanager
    def listen(self, after: int | None = None, *, places: int = _PLACES) -> Iterator[Listener]:
        """Listen for the duration of the block: from now on or, with `after`, from that event on."""
        missed = False
        past: list[Event] = []
        if after is not None and after < self._last:
            past = [event for event in self._kept if event.number > after]
            missed = not past or past[0].number > after + 1
        listener = Listener(missed=missed, places=places)
        listener.put(past)
        if self._has_ended:
            listener.end()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    def end(self) -> None:
        """End every listener once its queue is empty."""
        self._has_ended = True
        for listener in tuple(self._listeners):
            listener.end()
