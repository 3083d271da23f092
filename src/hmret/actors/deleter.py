"""The deleter: it renames images out of the cache, and frees their bytes."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import assert_never

import attrs

from hmret.actors.mailbox import Actor, Request
from hmret.actors.threads import Threads
from hmret.disk.filesystem import Filesystem
from hmret.disk.grip import FIRM, Grip
from hmret.disk.layout import OWN, TRASH
from hmret.disk.outcomes import Candidate, Failed, Kept, LastLook, Outcome, Retired
from hmret.disk.retirement import finish, retire
from hmret.disk.tags import KnownTags
from hmret.disk.trash import (
    Freeing,
    Place,
    drop_intents,
    erase,
    list_trash,
    new_token,
    places_of,
    read_intents,
)
from hmret.model.images import Key

__all__ = ["BatchRetired", "Deleter", "Free", "Freed", "ListUnfinished", "Recover", "Recovery", "Retire"]


@attrs.frozen
class BatchRetired:
    """What became of a batch."""

    token: str
    outcomes: tuple[Outcome, ...]
    lease_error: OSError | None
    """Why the kernel's leases are not offered here; None: they are."""


@attrs.frozen
class Freed:
    """The bytes that came free with each image of a batch."""

    disk_bytes: tuple[int, ...]
    """In the order of the retired images."""
    errors: tuple[tuple[Place, str], ...]
    """Folders that could not be erased, and why; they stay in the trash for the next time."""


@attrs.frozen
class Recovery:
    """What was found in the trash."""

    finished: tuple[Retired, ...]
    disk_bytes: Mapping[Key, int]
    """The bytes that came free with each of those."""
    restored: tuple[Key, ...]
    """Images that were put back, because somebody had begun to open them."""
    freed_bytes: int
    errors: tuple[tuple[str, str], ...]


@attrs.frozen(eq=False, kw_only=True)
class Retire(Request[BatchRetired]):
    """Asks to delete a batch of images, as far as the grip that the asker has of them allows."""

    candidates: tuple[Candidate, ...]
    look: LastLook
    grip: Grip = FIRM
    tags: KnownTags = attrs.field(factory=KnownTags)
    """What earlier batches of the same sweep have learned of tags."""
    within_ns: int | None = None
    """No image is begun longer than this after the first; None: that does not matter."""


@attrs.frozen(eq=False, kw_only=True)
class Free(Request[Freed]):
    """Asks to free the bytes of a retired batch."""

    token: str
    places: tuple[Place, ...]


@attrs.frozen(eq=False, kw_only=True)
class ListUnfinished(Request[frozenset[Key]]):
    """Asks which images have a deletion on record that is not finished."""


@attrs.frozen(eq=False, kw_only=True)
class Recover(Request[Recovery]):
    """Asks to finish or undo what was cut off; nobody else works on these images meanwhile."""


@attrs.define(eq=False)
class _Account:
    """What a recovery has come to so far."""

    finished: list[Retired] = attrs.field(factory=list)
    restored: list[Key] = attrs.field(factory=list)
    errors: list[tuple[str, str]] = attrs.field(factory=list)
    disk_bytes: dict[Key, int] = attrs.field(factory=dict)
    freed_bytes: int = 0


class Deleter(Actor[Retire | Free | ListUnfinished | Recover]):
    """The deleter actor."""

    def __init__(
        self,
        filesystem: Filesystem,
        data_fd: int,
        threads: Threads,
        *,
        monotonic_ns: Callable[[], int] = lambda: 0,
    ) -> None:
        super().__init__()
        self._monotonic_ns = monotonic_ns
        self._filesystem = filesystem
        self._data_fd = data_fd
        self._threads = threads
        self._is_stopping = False
        self._kept_intents: set[str] = set()
        self.has_unfinished = False
        """Whether something waits in the trash for the next recovery."""

    async def run(self) -> None:
        """Serve until closed."""
        await self._mailbox.serve(self._answer)

    def stop_early(self) -> None:
        """Finish the image in hand and no other; what lies in the trash waits for the next start."""
        self._is_stopping = True

    async def retire(
        self,
        candidates: Iterable[Candidate],
        look: LastLook,
        grip: Grip = FIRM,
        *,
        tags: KnownTags | None = None,
        within_ns: int | None = None,
    ) -> BatchRetired:
        """Rename images out of the cache, those that still may go and that the grip leaves to us.

        No image is begun longer than `within_ns` after the first. `tags` is given with each batch of one sweep.
        """
        return await self._mailbox.ask(
            Retire(
                candidates=tuple(candidates),
                look=look,
                grip=grip,
                tags=tags or KnownTags(),
                within_ns=within_ns,
            )
        )

    async def free(self, token: str, places: Iterable[Place]) -> Freed:
        """Free the bytes of a retired batch."""
        return await self._mailbox.ask(Free(token=token, places=tuple(places)))

    async def unfinished(self) -> frozenset[Key]:
        """List the images whose deletion is on record and not finished."""
        return await self._mailbox.ask(ListUnfinished())

    async def recover(self) -> Recovery:
        """Finish or undo what was cut off; the caller lets nobody else work on these images."""
        return await self._mailbox.ask(Recover())

    async def _answer(self, request: Retire | Free | ListUnfinished | Recover) -> object:
        match request:
            case Retire():
                return await self._retire(request)
            case Free():
                return await self._threads.run(self._free, request.token, request.places)
            case ListUnfinished():
                return await self._threads.run(self._list_unfinished)
            case Recover():
                return await self._threads.run(self._recover)
            case _:
                assert_never(request)

    def _stopping(self) -> bool:
        return self._is_stopping

    def _stop_after(self, within_ns: int) -> Callable[[], bool]:
        """Make what also says stop once so long has passed since it was first asked."""
        first_ns: int | None = None

        def stopping() -> bool:
            nonlocal first_ns
            now_ns = self._monotonic_ns()
            if first_ns is None:
                first_ns = now_ns
            return self._is_stopping or now_ns - first_ns > within_ns

        return stopping

    async def _retire(self, request: Retire) -> BatchRetired:
        token = new_token()
        outcomes, lease_error = await self._threads.run(self._retire_batch, request, token)
        if any(_is_unfinished(outcome) for outcome in outcomes):
            self._kept_intents.add(token)
            self.has_unfinished = True
        return BatchRetired(token, tuple(outcomes), lease_error)

    def _retire_batch(self, request: Retire, token: str) -> tuple[list[Outcome], OSError | None]:
        return retire(
            self._filesystem,
            self._data_fd,
            request.candidates,
            request.look,
            token=token,
            grip=request.grip,
            tags=request.tags,
            stopping=self._stopping if request.within_ns is None else self._stop_after(request.within_ns),
            pause=self._threads.pause,
        )

    def _free(
        self, token: str, places: tuple[Place, ...], repositories: frozenset[str] = frozenset()
    ) -> Freed:
        freed: list[int] = []
        errors: list[tuple[Place, str]] = []
        is_done = token not in self._kept_intents
        freeing = Freeing(self._filesystem, self._data_fd, self._stopping)
        try:
            for place in places:
                try:
                    came_free = freeing.free(place)
                except OSError as error:
                    errors.append((place, error.strerror or str(error)))
                    came_free = None
                is_done = is_done and came_free is not None
                freed.append(came_free or 0)
                self._threads.pause()
        finally:
            freeing.close()
        if is_done:
            self._forget(token, repositories or {place.intent.repository for place in places})
        else:
            self.has_unfinished = True
        return Freed(tuple(freed), tuple(errors))

    def _forget(self, token: str, repositories: Iterable[str]) -> None:
        """Drop intents that are carried out; those that stay on record are found done by the next recovery."""
        with suppress(OSError):
            drop_intents(self._filesystem, self._data_fd, token, repositories)

    def _list_unfinished(self) -> frozenset[Key]:
        tokens, _ = list_trash(self._filesystem, self._data_fd)
        return frozenset(
            (intent.repository, intent.digest)
            for token in tokens
            for intent in read_intents(self._filesystem, self._data_fd, token)
        )

    def _recover(self) -> Recovery:
        self._kept_intents.clear()
        self.has_unfinished = False
        account = _Account()
        tokens, _ = self._list_trash(account.errors)
        for token in tokens:
            try:
                self._recover_batch(token, account)
            except OSError as error:
                self.has_unfinished = True
                account.errors.append((f"{OWN}/{TRASH}/{token}.json", error.strerror or str(error)))
        account.freed_bytes += self._erase_strays(account.errors)
        return Recovery(
            tuple(account.finished),
            account.disk_bytes,
            tuple(account.restored),
            account.freed_bytes,
            tuple(account.errors),
        )

    def _recover_batch(self, token: str, account: _Account) -> None:
        """Finish or undo what one file of intents says, and forget it once all of that is done."""
        places: list[Place] = []
        is_whole = True
        intents = read_intents(self._filesystem, self._data_fd, token)
        for intent in intents:
            for place in filter(self._exists, places_of(intent)):
                match finish(self._filesystem, self._data_fd, place):
                    case Retired() as retired:
                        account.errors.extend(retired.faults)
                        if retired.faults:
                            is_whole = False
                        else:
                            account.finished.append(retired)
                            places.append(place)
                    case Kept() as kept:
                        account.restored.append(kept.key)
                    case Failed() as failed:
                        account.errors.append((failed.path, failed.error.strerror or str(failed.error)))
                        is_whole = False
                    case _ as never:
                        assert_never(never)
        if is_whole:
            # A crash may have left folders empty of images whose bytes are free already.
            freed = self._free(token, tuple(places), frozenset(intent.repository for intent in intents))
            account.freed_bytes += sum(freed.disk_bytes)
            for place, disk_bytes in zip(places, freed.disk_bytes, strict=True):
                account.disk_bytes[place.intent.repository, place.intent.digest] = disk_bytes
            account.errors.extend((f"{place.folder}/{place.name}", error) for place, error in freed.errors)
        else:
            self.has_unfinished = True

    def _erase_strays(self, errors: list[tuple[str, str]]) -> int:
        """Erase what lies in the trash without an intent on record."""
        freed_bytes = 0
        tokens, names = self._list_trash(errors)
        for name in names:
            if name.partition(".")[0] not in tokens:
                try:
                    freed_bytes += (
                        erase(self._filesystem, self._data_fd, f"{OWN}/{TRASH}", name, self._stopping) or 0
                    )
                except OSError as error:
                    errors.append((f"{OWN}/{TRASH}/{name}", error.strerror or str(error)))
        return freed_bytes

    def _list_trash(self, errors: list[tuple[str, str]]) -> tuple[list[str], list[str]]:
        """List the trash; what cannot be listed waits for another time, which is noted once."""
        try:
            return list_trash(self._filesystem, self._data_fd)
        except OSError as error:
            fault = f"{OWN}/{TRASH}", error.strerror or str(error)
            if fault not in errors:
                errors.append(fault)
            return [], []

    def _exists(self, place: Place) -> bool:
        try:
            self._filesystem.stat(f"{place.folder}/{place.name}", dir_fd=self._data_fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


def _is_unfinished(outcome: Outcome) -> bool:
    """Tell whether something is left to do for the next recovery."""
    match outcome:
        case Retired():
            return bool(outcome.faults)
        case Failed():
            return outcome.unfinished
        case Kept():
            return False
        case _:
            assert_never(outcome)
