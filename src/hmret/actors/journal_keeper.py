"""The journal keeper: it writes down what was done, and never stops anything when it cannot."""

from collections.abc import Callable, Iterable, Mapping

from hmret.actors.mailbox import Actor, Request
from hmret.actors.threads import Threads
from hmret.disk.filesystem import Filesystem
from hmret.disk.records.journal import append_to_journal, deletions_on_record
from hmret.model.values import frozen

__all__ = ["Append", "Entry", "JournalKeeper"]

Entry = Mapping[str, object]
"""One line: `time`, `event`, and what there is to say of `image`, `reason`, `bytes`, `path` and `error`."""

# Lines written in one thread hop: some 100 KiB.
_BATCH = 500


@frozen(eq=False, kw_only=True)
class Append(Request[None]):
    """Asks to write entries."""

    entries: tuple[Entry, ...]


class JournalKeeper(Actor[Append]):
    """The journal keeper actor; switched off, it takes entries and drops them."""

    def __init__(
        self,
        filesystem: Filesystem,
        data_fd: int,
        threads: Threads,
        on_failure: Callable[[OSError], None],
        *,
        enabled: bool,
    ) -> None:
        super().__init__()
        self._filesystem = filesystem
        self._data_fd = data_fd
        self._threads = threads
        self._on_failure = on_failure
        self.enabled = enabled
        """Whether entries are written."""
        self._has_failed = False

    async def run(self) -> None:
        """Serve until closed; one at a time, so that the lines keep their order."""
        await self._mailbox.serve_in_turn(self._append)

    async def append(self, entries: Iterable[Entry]) -> None:
        """Write entries; those that cannot be written are lost, which is told once until it works again."""
        chosen = tuple(entries)
        if self.enabled and chosen:
            await self._mailbox.ask(Append(entries=chosen))

    async def deletions(self, digests: Iterable[str], since_ns: int) -> Mapping[str, int]:
        """Look when some digests were last deleted, since a moment; those that were not are left out."""
        chosen = tuple(digests)
        return await self._threads.run(deletions_on_record, self._filesystem, self._data_fd, chosen, since_ns)

    async def note(self, entries: Iterable[Entry]) -> None:
        """Have entries written, after those before them, without waiting until they are."""
        chosen = tuple(entries)
        if self.enabled and chosen:
            await self._mailbox.post(Append(entries=chosen))

    async def _append(self, request: Append) -> None:
        for start in range(0, len(request.entries), _BATCH):
            batch = request.entries[start : start + _BATCH]
            try:
                await self._threads.run(append_to_journal, self._filesystem, self._data_fd, batch)
            except OSError as error:
                if not self._has_failed:
                    self._on_failure(error)
                self._has_failed = True
                return
            self._has_failed = False
