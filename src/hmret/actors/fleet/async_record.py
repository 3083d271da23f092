"""The record of a data directory, written in threads, one call at a time."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

import anyio

from hmret.actors.threads import Threads
from hmret.disk.filesystem import Filesystem
from hmret.disk.records.fleet import FleetRecord
from hmret.model.records.fleet import Standing

T = TypeVar("T")


class AsyncFleetRecord:
    """The record; what it says is read from memory, once `load` has returned."""

    def __init__(self, filesystem: Filesystem, data_fd: int, threads: Threads) -> None:
        self._filesystem = filesystem
        self._data_fd = data_fd
        self._threads = threads
        self._lock = anyio.Lock()
        self._record: FleetRecord | None = None

    async def load(self) -> FleetRecord:
        """Read the record, once; what is read from it may change while one of the calls below is waiting."""
        async with self._lock:
            if self._record is None:
                self._record = await self._threads.run(FleetRecord, self._filesystem, self._data_fd)
            return self._record

    def see(self, cluster_id: str, revision: int) -> None:
        """Note what an answer has shown; it is written with whatever is written next."""
        if self._record is not None:
            self._record.see(cluster_id, revision)

    async def renew(self) -> None:
        """Take a new cache id, with an empty record.

        Raises:
            OSError: it could not be written.
        """
        await self._run(self._loaded.renew)

    async def start(self, generation: str) -> None:
        """Begin an empty record.

        Raises:
            OSError: it could not be written.
        """
        await self._run(partial(self._loaded.start, generation))

    async def note_request(self, digests: Iterable[str] = (), *, with_mark: bool) -> str:
        """Put on record what is about to be asked for; returns the new mark.

        Raises:
            OSError: it could not be written: the request must not be sent.
        """
        return await self._run(partial(self._loaded.note_request, digests, with_mark=with_mark))

    async def doubt(self) -> None:
        """Put on record that all that is on it may be registered or not.

        Raises:
            OSError: it could not be written.
        """
        record = self._loaded
        await self._run(lambda: record.note_request(record.digests, with_mark=False))

    async def digests(self) -> list[str]:
        """List what is on record, in order."""
        record = self._loaded
        async with self._lock:
            return await self._threads.run_alone(lambda: sorted(record.digests))

    async def note_outcomes(
        self, *, done: str = "", registered: Iterable[str] = (), unregistered: Iterable[str] = ()
    ) -> None:
        """Put on record what has come of it.

        Raises:
            OSError: it could not be written; it counts in memory nevertheless.
        """
        await self._run(
            partial(self._loaded.note_outcomes, done=done, registered=registered, unregistered=unregistered)
        )

    async def flush(self) -> None:
        """Write what was seen.

        Raises:
            OSError: it could not be written.
        """
        if self._record is not None:
            await self._run(self._record.flush)

    async def differences(self, here: Iterable[str]) -> tuple[list[str], list[str]]:
        """Compare the record with what is here; returns what is on record only, and what is not registered.

        Both in the order of digests, so that all that is interrupted goes on where it was.
        """
        async with self._lock:
            return await self._threads.run_alone(_differences, self._loaded, frozenset(here))

    @property
    def _loaded(self) -> FleetRecord:
        assert self._record is not None, "nobody uses a record before it was loaded"
        return self._record

    async def _run(self, function: Callable[[], T]) -> T:
        async with self._lock:
            return await self._threads.run(function)


def _differences(record: FleetRecord, here: frozenset[str]) -> tuple[list[str], list[str]]:
    known = record.digests
    gone = sorted(known.keys() - here)
    new = sorted(digest for digest in here if known.get(digest) is not Standing.REGISTERED)
    return gone, new
