"""The journal keeper: records what was done; a failure to write stops nothing else."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from hmret.actors.disk_actor import DiskActor
from hmret.actors.mailbox import Call, answer_call
from hmret.actors.threads import Threads
from hmret.disk.filesystem import Filesystem
from hmret.disk.records.journal import append_to_journal, deletions_on_record

__all__ = ["Entry", "JournalKeeper"]

Entry = Mapping[str, object]
"""One line: `time`, `event`, and whichever of `image`, `reason`, `bytes`, `path` and `error` apply."""

# Lines written in one thread hop: some 100 KiB.
_BATCH = 500


class JournalKeeper(DiskActor):
    """The journal keeper actor; when disabled, it accepts entries and drops them.

    These bypass the mailbox:
        `enabled` is set by a reload of the settings and affects only entries posted afterwards; those already
        posted are still written; `deletions` only reads, and does not wait for entries that are yet to be
        written.
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

    async def run(self) -> None:
        """Serve until closed; one call at a time, so that the lines keep their order."""
        await self._mailbox.serve_in_turn(answer_call)

    async def append(self, entries: Iterable[Entry]) -> None:
        """Write entries; those that cannot be written are lost.

        `on_failure` is called for each failure, with whether writing worked before.
        """
        chosen = tuple(entries)
        if self.enabled and chosen:
            await self._ask(self._append, chosen)

    async def note(self, entries: Iterable[Entry]) -> None:
        """Queue entries for writing, in order, without waiting for them to be written."""
        chosen = tuple(entries)
        if self.enabled and chosen:
            await self._mailbox.post(Call(make=partial(self._append, chosen)))

    async def deletions(self, digests: Iterable[str], since_ns: int) -> Mapping[str, int]:
        """Return when each digest was last deleted, omitting those that were not deleted since `since_ns`."""
        return await self._on_disk(deletions_on_record, tuple(digests), since_ns)

    async def _append(self, entries: Sequence[Entry]) -> None:
        for start in range(0, len(entries), _BATCH):
            try:
                await self._on_disk(append_to_journal, entries[start : start + _BATCH])
            except OSError as error:
                self._on_failure(error, not self._has_failed)
                self._has_failed = True
                return
            self._has_failed = False
