"""What happens, told to whoever listens: a hub that never waits for a listener.

Each listener has a queue of its own. One that falls behind is let go, and told so, rather than waited for: what the
engine does never depends on who watches it.
"""

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import anyio
import attrs

from hmret.actors.own_loop import OwnLoop
from hmret.model.values import define, frozen

__all__ = ["Event", "EventHub", "Listener"]

# Events that a listener who comes back can still be given: some minutes of a busy host, a few MiB.
_KEPT = 4096

# Events that may wait for one listener, beside the newest batch: what a reader that keeps up never comes near.
_PLACES = 8192


@frozen
class Event:
    """One thing that happened."""

    number: int
    """Counts from 1 since the engine was opened, without gaps."""
    facts: Mapping[str, object]
    """As in the journal: `time`, `event`, and what there is to say of `image`, `reason`, `bytes`, `path` and `error`."""

    @property
    def name(self) -> str:
        """What happened: `mark`, `clear`, `delete`, `failure`, `recover`, `sweep` and so on."""
        return str(self.facts["event"])


@define(eq=False)
class Listener:
    """One listener's queue; iterating it ends when the engine stops, or when it was let go."""

    missed: bool
    """Whether events that it asked for are no longer there."""
    fell_behind: bool = False
    """Whether it was let go because it did not keep up."""
    _places: int = _PLACES
    _queue: deque[Sequence[Event]] = attrs.field(factory=deque)
    _waiting: int = 0
    _has_ended: bool = False
    _changed: anyio.Event = attrs.field(factory=anyio.Event)
    _loop: OwnLoop = attrs.field(factory=OwnLoop)

    def __aiter__(self) -> "Listener":
        """Give the events in batches, in order."""
        return self

    async def __anext__(self) -> Sequence[Event]:
        """Wait for the next batch; a caller that is cancelled loses none.

        Raises:
            RuntimeError: the caller runs on another event loop than the engine.
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
        # The newest batch always has its place: one that is large says nothing about who reads it.
        if self._waiting > self._places:
            self.fell_behind = True
            self._queue.clear()
            self.end()
            return
        self._queue.append(batch)
        self._waiting += len(batch)
        self._changed.set()

    def end(self) -> None:
        """Let the iteration end once the queue is empty."""
        self._has_ended = True
        self._changed.set()


@define(eq=False)
class EventHub:
    """Numbers events, remembers the last of them, and hands them to listeners; all from the event loop's own thread."""

    instance: str = attrs.field(factory=lambda: os.urandom(4).hex())
    """Tells the numbers of one engine from those of the next."""
    _last: int = 0
    _kept: deque[Event] = attrs.field(factory=lambda: deque(maxlen=_KEPT))
    _listeners: set[Listener] = attrs.field(factory=set)
    _has_ended: bool = False

    @property
    def last_number(self) -> int:
        """The number of the newest event; 0: nothing has happened yet."""
        return self._last

    @property
    def listening(self) -> int:
        """How many listeners there are."""
        return len(self._listeners)

    def publish(self, entries: Sequence[Mapping[str, object]]) -> None:
        """Tell what happened; never waits."""
        batch = [Event(self._last + place, facts) for place, facts in enumerate(entries, start=1)]
        self._last += len(batch)
        self._kept.extend(batch)
        # A copy: a block that another thread leaves takes its listener out at any moment.
        for listener in tuple(self._listeners):
            listener.put(batch)

    @contextmanager
    def listen(self, after: int | None = None, *, places: int = _PLACES) -> Iterator[Listener]:
        """Listen while the block lasts: to what happens from now on, and, with `after`, to what has since that event."""
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
        """Let every listener end once it has been given what waits for it."""
        self._has_ended = True
        for listener in tuple(self._listeners):
            listener.end()
