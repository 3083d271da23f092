"""The journal keeper: records what was done; a failure to write stops nothing else."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import anyio

from hmret.actors.batches import batches
from hmret.actors.disk_actor import DiskActor
from hmret.actors.mailbox import Call, answer_call
from hmret.actors.threads import Threads
from hmret.disk.filesystem import Filesystem
from hmret.disk.records.history import HistoryReader
from hmret.disk.records.journal import append_to_journal, deletions_on_record
from hmret.model.records.history import History

Line = Mapping[str, object]
"""One line: `time`, `event`, and whichever of `image`, `reason`, `bytes`, `path` and `error` apply."""

# Lines written in one thread hop: some 100 KiB.
_BATCH = 500


class JournalKeeper(DiskActor):
    """The journal keeper actor; when disabled, it accepts entries and drops them.

    These bypass the mailbox:
        `enabled` is set by a reload of the settings and affects only entries posted afterwards; those already
        posted are still written; `deletion_times` and `history` only read, and do not wait for entries that are
        yet to be written.
    """

    def __init__(
        self,
        filesystem: Filesystem,
        data_fd: int,
        threads: Threads,
        on_failure: Callable[[OSError, bool], None],
        *,
        enabled: bool,
    ) -> None:
        super().__init__(filesystem, data_fd, threads)
        self._on_failure = on_failure
        self.enabled = enabled
        """Whether entries are written."""
        self._has_failed = False
        self._history = HistoryReader()
        self._reading = anyio.Lock()

    async def run(self) -> None:
        """Serve until closed; one call at a time, so that the lines keep their order."""
        await self._mailbox.serve_in_turn(answer_call)

    async def append(self, entries: Iterable[Line]) -> None:
        """Write entries; those that cannot be written are lost.

        `on_failure` is called for each failure, with whether writing worked before.
        """
        chosen = tuple(entries)
        if self.enabled and chosen:
            await self._ask(self._append, chosen)

    async def note(self, entries: Iterable[Line]) -> None:
        """Queue entries for writing, in order, without waiting for them to be written."""
        chosen = tuple(entries)
        if self.enabled and chosen:
            await self._mailbox.post(Call(make=partial(self._append, chosen)))

    async def deletion_times(self, digests: Iterable[str], since_ns: int) -> Mapping[str, int]:
        """Return when each digest was last deleted, omitting those that were not deleted since `since_ns`."""
        return await self._on_disk(deletions_on_record, tuple(digests), since_ns)

    async def history(self, since_ns: int) -> History:
        """Add up what went since a moment, from all files of the journal; one reads it at a time."""
        async with self._reading:
            read = partial(self._history.read, self._filesystem, self._data_fd, since_ns, self._threads.pause)
            return await self._threads.read(read)

    async def _append(self, entries: Sequence[Line]) -> None:
        for batch in batches(entries, _BATCH):
            try:
                await self._on_disk(append_to_journal, batch)
            except OSError as error:
                self._on_failure(error, not self._has_failed)
                self._has_failed = True
                return
            self._has_failed = False
