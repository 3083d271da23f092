"""The state keeper: it reads and writes the retention states, and the record of the clocks."""

from collections.abc import Iterable, Mapping
from typing import assert_never

import attrs

from hmret.actors.mailbox import Actor, Request
from hmret.actors.threads import Threads
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import opened, step_into
from hmret.disk.layout import RETENTION, hex_of
from hmret.disk.own_files import load_clock_record, save_clock_record
from hmret.disk.state_files import StateFolder, clear_state, remove_strays, scan_states, write_states
from hmret.model.clock_watch import ClockRecord
from hmret.model.images import Key

__all__ = [
    "Clear",
    "LoadClock",
    "LoadStates",
    "Mark",
    "RemoveStrays",
    "SaveClock",
    "StateFault",
    "StateKeeper",
    "StatesLoaded",
]

# States handled in one thread hop: a few milliseconds of work.
_BATCH = 250


@attrs.frozen
class StateFault:
    """A state that could not be written or removed."""

    key: Key
    path: str
    error: str


@attrs.frozen
class StatesLoaded:
    """All states."""

    states: Mapping[Key, int | None]
    corrupt: tuple[tuple[str, str], ...]
    """Paths of states that could not be read, and why."""
    strays: tuple[str, ...] = ()
    """What a crash left behind, below `image-retention/`."""


@attrs.frozen(eq=False, kw_only=True)
class LoadStates(Request[StatesLoaded]):
    """Asks for all states."""


@attrs.frozen(eq=False, kw_only=True)
class Mark(Request[tuple[StateFault, ...]]):
    """Asks to start the timers of some images; the asker holds the claim to them."""

    keys: tuple[Key, ...]
    unused_since_ns: int


@attrs.frozen(eq=False, kw_only=True)
class Clear(Request[tuple[int, tuple[StateFault, ...]]]):
    """Asks to remove the states of some images; answers how many there were."""

    keys: tuple[Key, ...]
    durable: bool = False


@attrs.frozen(eq=False, kw_only=True)
class RemoveStrays(Request[None]):
    """Asks to remove what a crash left behind."""

    strays: tuple[str, ...]


@attrs.frozen(eq=False, kw_only=True)
class LoadClock(Request[ClockRecord | None]):
    """Asks what the clocks said at the last sweep."""


@attrs.frozen(eq=False, kw_only=True)
class SaveClock(Request[None]):
    """Asks to record what the clocks say."""

    record: ClockRecord


class StateKeeper(Actor[LoadStates | Mark | Clear | RemoveStrays | LoadClock | SaveClock]):
    """The state keeper actor."""

    def __init__(self, filesystem: Filesystem, data_fd: int, threads: Threads) -> None:
        super().__init__()
        self._filesystem = filesystem
        self._data_fd = data_fd
        self._threads = threads

    async def run(self) -> None:
        """Serve until closed."""
        await self._mailbox.serve(self._answer)

    async def load(self) -> StatesLoaded:
        """Read all states."""
        return await self._mailbox.ask(LoadStates())

    async def mark(self, keys: Iterable[Key], unused_since_ns: int) -> tuple[StateFault, ...]:
        """Start timers; returns those that could not be written. The caller holds the claim to the images."""
        return await self._mailbox.ask(Mark(keys=tuple(keys), unused_since_ns=unused_since_ns))

    async def clear(
        self, keys: Iterable[Key], *, durable: bool = False
    ) -> tuple[int, tuple[StateFault, ...]]:
        """Remove states; returns how many there were, and those that could not be removed."""
        chosen = tuple(keys)
        if not chosen:
            return 0, ()
        return await self._mailbox.ask(Clear(keys=chosen, durable=durable))

    async def remove_strays(self, strays: tuple[str, ...]) -> None:
        """Remove what a crash left behind."""
        if strays:
            await self._mailbox.ask(RemoveStrays(strays=strays))

    async def load_clock(self) -> ClockRecord | None:
        """Read what the clocks said at the last sweep."""
        return await self._mailbox.ask(LoadClock())

    async def save_clock(self, record: ClockRecord) -> None:
        """Record what the clocks say.

        Raises:
            OSError: it could not be written.
        """
        await self._mailbox.ask(SaveClock(record=record))

    async def _answer(
        self, request: LoadStates | Mark | Clear | RemoveStrays | LoadClock | SaveClock
    ) -> object:
        match request:
            case LoadStates():
                return await self._load()
            case Mark():
                return await self._mark(request)
            case Clear():
                return await self._clear(request)
            case RemoveStrays():
                await self._threads.run(remove_strays, self._filesystem, self._data_fd, request.strays)
                return None
            case LoadClock():
                return await self._threads.run(load_clock_record, self._filesystem, self._data_fd)
            case SaveClock():
                return await self._threads.run(
                    save_clock_record, self._filesystem, self._data_fd, request.record
                )
            case _:
                assert_never(request)

    async def _load(self) -> StatesLoaded:
        states: dict[Key, int | None] = {}
        corrupt: list[tuple[str, str]] = []
        strays: list[str] = []
        folders = [""]
        while folders:
            for found in await self._threads.run(self._load_batch, folders):
                states.update(found.states)
                corrupt.extend(found.corrupt)
                strays.extend(found.strays)
        return StatesLoaded(states, tuple(sorted(corrupt)), tuple(sorted(strays)))

    def _load_batch(self, folders: list[str]) -> list[StateFolder]:
        """Take folders off the list and read them and what is in them, until a batch is read or none is left."""
        try:
            retention_fd = step_into(self._filesystem, self._data_fd, RETENTION)
        except FileNotFoundError:
            folders.clear()
            return []
        except OSError as error:
            folders.clear()
            return [StateFolder(corrupt=((RETENTION, error.strerror or str(error)),))]
        batch: list[StateFolder] = []
        states = 0
        with opened(self._filesystem, retention_fd):
            while folders and states < _BATCH:
                batch.append(scan_states(self._filesystem, retention_fd, folders.pop()))
                folders.extend(batch[-1].subfolders)
                states += len(batch[-1].states) + 1
        return batch

    async def _mark(self, request: Mark) -> tuple[StateFault, ...]:
        failed = await self._threads.run(
            write_states, self._filesystem, self._data_fd, request.keys, request.unused_since_ns
        )
        return tuple(_fault(key, error) for key, error in failed)

    async def _clear(self, request: Clear) -> tuple[int, tuple[StateFault, ...]]:
        cleared = 0
        faults: list[StateFault] = []
        for start in range(0, len(request.keys), _BATCH):
            batch = request.keys[start : start + _BATCH]
            removed, failed = await self._threads.run(self._clear_batch, batch, request.durable)
            cleared += removed
            faults.extend(failed)
        return cleared, tuple(faults)

    def _clear_batch(self, keys: tuple[Key, ...], durable: bool) -> tuple[int, list[StateFault]]:
        cleared = 0
        faults: list[StateFault] = []
        for key in keys:
            try:
                cleared += clear_state(self._filesystem, self._data_fd, key, durable=durable)
            except OSError as error:
                faults.append(_fault(key, error))
        return cleared, faults


def _fault(key: Key, error: OSError) -> StateFault:
    repository, digest = key
    return StateFault(key, f"{RETENTION}/{repository}/{hex_of(digest)}.json", error.strerror or str(error))
