"""The deleter: it renames images out of the cache, frees their bytes, or holds them in quarantine for a while."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, assert_never

import anyio
import msgspec

from hmret.actors.deleter_requests import (
    BatchFreed,
    BatchRetired,
    BringBack,
    Free,
    Hold,
    ListHeld,
    Recover,
    RecoveredQuarantine,
    RecoverQuarantine,
    Redate,
    Release,
    Released,
    Restore,
    Retire,
)
from hmret.actors.mailbox import Actor, Work
from hmret.actors.threads import Threads
from hmret.disk.deletion.ghosts import clear_ghosts
from hmret.disk.deletion.outcomes import Candidate, Failed, Kept, Outcome, Recheck, Retired
from hmret.disk.deletion.recovery.quarantine import (
    Held,
    HeldImages,
    change_record,
    drop_records,
    hold,
    load_held,
    read_records,
    release,
)
from hmret.disk.deletion.recovery.recovering import Recovering, Recovery
from hmret.disk.deletion.recovery.restoring import PutBack, recover_quarantine, restore
from hmret.disk.deletion.retirement import retire
from hmret.disk.deletion.tags.tag_folders import remove_empty_tag_folders
from hmret.disk.deletion.tags.tag_view import TagView
from hmret.disk.deletion.trash import erasing
from hmret.disk.deletion.trash.erasing import free_entries
from hmret.disk.deletion.trash.intents import (
    Intent,
    Link,
    TrashEntry,
    drop_intents,
    find_entries,
    list_trash,
    new_token,
    read_intents,
    repositories_of,
)
from hmret.disk.deletion.trash.past_deletions import deleted_lately, forget_deleted
from hmret.disk.deletion.trash.reserve import fill_reserve
from hmret.disk.deletion.wanted import bring_back, find_wanted
from hmret.disk.filesystem import Filesystem
from hmret.disk.image_claim import UNCONTESTED, Claim
from hmret.disk.layout import OWN, TRASH

__all__ = ["Deleter"]


_WritesRecords = Hold | Restore | BringBack | Redate | RecoverQuarantine | Recover
_Asked = Retire | Free | Release | ListHeld | Work[Any] | _WritesRecords


class Deleter(Actor[_Asked]):
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
        self._records = anyio.Lock()
        """Held by whoever writes a record of what is in quarantine, or forgets one."""
        self.has_unfinished = False
        """Whether something waits in the trash for the next recovery."""

    @property
    def filesystem(self) -> Filesystem:
        """The disk on which it works."""
        return self._filesystem

    def leave(self, token: str) -> None:
        """Leave a retired batch in the trash for the next recovery."""
        self._kept_intents.add(token)
        self.has_unfinished = True

    async def run(self) -> None:
        """Serve until closed."""
        await self._mailbox.serve(self._answer)

    def stop_early(self) -> None:
        """Finish the image in hand and no other; what lies in the trash waits for the next start."""
        self._is_stopping = True

    async def retire(
        self,
        candidates: Iterable[Candidate],
        look: Recheck,
        claim: Claim = UNCONTESTED,
        *,
        view: TagView | None = None,
        within_ns: int | None = None,
        is_interrupted: Callable[[], bool] = lambda: False,
    ) -> BatchRetired:
        """Rename images out of the cache, those that still may go and that the claim leaves to us.

        No image is begun longer than `within_ns` after the first, nor once `is_interrupted` says so, which is asked in the
        thread. One `view` is given with all batches of a sweep.
        """
        return await self._mailbox.ask(
            Retire(
                candidates=tuple(candidates),
                look=look,
                claim=claim,
                view=view,
                within_ns=within_ns,
                is_interrupted=is_interrupted,
            )
        )

    async def free(self, token: str, places: Iterable[TrashEntry]) -> BatchFreed:
        """Free the bytes of a retired batch."""
        return await self._mailbox.ask(Free(token=token, places=tuple(places)))

    async def find_wanted(
        self, images: Iterable[tuple[Intent, Sequence[TrashEntry]]], view: TagView
    ) -> list[Intent]:
        """List those of some retired images that somebody has come to want since.

        Raises:
            OSError: it could not be told: then none of them may be erased.
        """
        chosen = tuple(images)
        pause = self._threads.pause
        return await self._mailbox.ask(
            Work(do=lambda: find_wanted(self._filesystem, self._data_fd, chosen, view, pause))
        )

    async def find_held_wanted(self, images: Iterable[Held], view: TagView) -> list[Held]:
        """List those of some images in quarantine that somebody has come to want since they were deleted.

        One `view` is given with all batches that are looked at in one go.

        Raises:
            OSError: it could not be told: then none of them may be erased.
        """
        chosen = tuple(images)
        return await self._mailbox.ask(Work(do=lambda: self._find_held_wanted(chosen, view)))

    async def bring_back(self, intent: Intent, beside: Iterable[Link] = ()) -> bool:
        """Put a retired image back whole, held or not; the caller uses it. Returns whether it is back.

        `beside`: tags that went with the folders that others had of the digest of content; they lead to it again.

        Raises:
            LayersGoneError: its data has gone, so it stays where it is.
            OSError: it could not be put back.
        """
        return await self._mailbox.ask(BringBack(intent=intent, beside=tuple(beside)))

    async def clear_ghosts(self, ghosts: Mapping[str, int]) -> tuple[str, ...]:
        """Take away the ghosts of digests that were deleted, each with when; the caller lets nobody else work on them."""
        chosen = dict(ghosts)
        return await self._mailbox.ask(Work(do=lambda: clear_ghosts(self._filesystem, self._data_fd, chosen)))

    async def deleted_lately(self, digests: Iterable[str], since_ns: int) -> Mapping[str, int]:
        """Look when some digests were last deleted, since a moment; those that were not are left out."""
        chosen = tuple(digests)
        return await self._mailbox.ask(
            Work(do=lambda: deleted_lately(self._filesystem, self._data_fd, chosen, since_ns))
        )

    async def forget_deleted(self, before_ns: int) -> None:
        """Forget what was deleted before a moment."""
        await self._mailbox.ask(Work(do=lambda: forget_deleted(self._filesystem, self._data_fd, before_ns)))

    async def remove_empty_tag_folders(self, paths: Iterable[str]) -> None:
        """Remove folders below `repositories/` that have been empty for long."""
        chosen = tuple(paths)
        await self._mailbox.ask(
            Work(do=lambda: remove_empty_tag_folders(self._filesystem, self._data_fd, chosen))
        )

    async def fill_reserve(self) -> None:
        """Take the room that lets deletions begin on a full disk, where it is not taken and there is some."""
        with suppress(OSError):
            await self._mailbox.ask(Work(do=lambda: fill_reserve(self._filesystem, self._data_fd)))

    async def unfinished(self) -> frozenset[str]:
        """List the digests of the images whose deletion is on record and not finished."""
        return await self._mailbox.ask(Work(do=self._list_unfinished))

    async def recover(self, *, hold_at_ns: int | None = None) -> Recovery:
        """Finish or undo what was cut off; the caller lets nobody else work on these images.

        `hold_at_ns`: when what is finished went into quarantine; None: its bytes are freed.
        """
        return await self._mailbox.ask(Recover(hold_at_ns=hold_at_ns))

    async def hold(self, token: str, retired: Iterable[Retired], retired_at_ns: int) -> tuple[Held, ...]:
        """Put a retired batch into quarantine instead of freeing it.

        Raises:
            OSError: it could not be written down; the next recovery tries again.
        """
        return await self._mailbox.ask(Hold(token=token, retired=tuple(retired), retired_at_ns=retired_at_ns))

    async def release(self, images: Iterable[Held], may_go_on: Callable[[], bool] = lambda: True) -> Released:
        """Free the bytes of images in quarantine; the caller lets nobody restore them.

        Once `may_go_on` says no, which is asked in the thread, no further image is begun.
        """
        return await self._mailbox.ask(Release(images=tuple(images), may_go_on=may_go_on))

    async def restore(self, held: Held, unused_since_ns: int) -> PutBack:
        """Bring an image back from quarantine; the caller uses it, and lets nobody release it.

        Raises:
            LookupError: it is not in quarantine any more, or not whole.
            FileExistsError: it is in the cache already.
            OSError: it could not be brought back.
        """
        return await self._mailbox.ask(Restore(held=held, unused_since_ns=unused_since_ns))

    async def redate(self, token: str, latest_ns: int) -> tuple[Held, ...]:
        """Write down of a batch in quarantine that it was retired at a moment at the latest; returns its record.

        Raises:
            OSError: it could not be written down.
        """
        return await self._mailbox.ask(Redate(token=token, latest_ns=latest_ns))

    async def recover_quarantine(self) -> RecoveredQuarantine:
        """List what is in quarantine, after finishing or undoing what a stop cut off there."""
        return await self._mailbox.ask(RecoverQuarantine())

    async def list_held(self) -> HeldImages:
        """List what is in quarantine; changes nothing.

        Raises:
            OSError: the trash cannot be listed.
        """
        return await self._mailbox.ask(ListHeld())

    async def _answer(self, request: _Asked) -> object:
        match request:
            case Retire():
                return await self._retire(request)
            case Free():
                return await self._threads.run(self._free, request.token, request.places)
            case Release():
                return await self._release(request)
            case ListHeld():
                return await self._threads.run(load_held, self._filesystem, self._data_fd)
            case Work():
                return await self._threads.run(request.do)
            case _:
                # guard(one-writer-of-records): Two writers at once could lose a record of the quarantine, and with it
                # an image that is held.
                async with self._records:
                    return await self._answer_alone(request)

    async def _answer_alone(self, request: _WritesRecords) -> object:
        match request:
            case Hold():
                return await self._threads.run(self._hold, request)
            case Restore():
                return await self._threads.run(self._restore, request)
            case BringBack():
                return await self._threads.run(self._bring_back, request)
            case Redate():
                return await self._threads.run(self._redate, request)
            case RecoverQuarantine():
                return await self._threads.run(self._recover_quarantine)
            case Recover():
                return await self._threads.run(self._recover, request.hold_at_ns)
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
            # guard(look-must-be-fresh): References may have been written since they were read, so what is reached too
            # late waits for a fresh look.
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
        is_too_late = self._stopping if request.within_ns is None else self._stop_after(request.within_ns)
        return retire(
            self._filesystem,
            self._data_fd,
            request.candidates,
            request.look,
            token=token,
            claim=request.claim,
            view=request.view,
            stopping=lambda: request.is_interrupted() or is_too_late(),
            pause=self._threads.pause,
        )

    def _free(self, token: str, places: tuple[TrashEntry, ...]) -> BatchFreed:
        freed = free_entries(
            self._filesystem, self._data_fd, places, stopping=self._stopping, pause=self._threads.pause
        )
        if token not in self._kept_intents and all(freed.done):
            self._forget(token, _repositories(place.intent for place in places))
        else:
            self.has_unfinished = True
        return BatchFreed(freed.disk_bytes, freed.errors)

    def _hold(self, request: Hold) -> tuple[Held, ...]:
        token = request.token
        # One whose tags or state are still there is finished by the next recovery, and held then.
        chosen = [one for one in request.retired if not one.faults]
        held: list[Held] = []
        if chosen:
            try:
                held = hold(self._filesystem, self._data_fd, token, chosen, request.retired_at_ns)
            except OSError:
                self.has_unfinished = True
                raise
        if token not in self._kept_intents:
            self._forget(token, _repositories(one.place.intent for one in chosen))
        return tuple(held)

    async def _release(self, request: Release) -> Released:
        freed = await self._threads.run(self._release_batch, request)
        async with self._records:
            tokens = {held.token for held, done in zip(request.images, freed.done, strict=False) if done}
            await self._threads.run(drop_records, self._filesystem, self._data_fd, tokens)
        return Released(freed.disk_bytes, freed.done, freed.errors)

    def _release_batch(self, request: Release) -> erasing.FreedFolders:
        return release(
            self._filesystem,
            self._data_fd,
            request.images,
            may_go_on=request.may_go_on,
            stopping=self._stopping,
            pause=self._threads.pause,
        )

    def _restore(self, request: Restore) -> PutBack:
        return restore(self._filesystem, self._data_fd, request.held, request.unused_since_ns)

    def _bring_back(self, request: BringBack) -> bool:
        intent = request.intent
        is_back = bring_back(self._filesystem, self._data_fd, intent, request.beside)
        if is_back:
            # There is one where it was in quarantine.
            drop_records(self._filesystem, self._data_fd, (intent.name.partition(".")[0],))
        return is_back

    def _redate(self, request: Redate) -> tuple[Held, ...]:
        def change(held: Held) -> Held:
            return msgspec.structs.replace(held, retired_at_ns=min(held.retired_at_ns, request.latest_ns))

        return tuple(change_record(self._filesystem, self._data_fd, request.token, change))

    def _recover_quarantine(self) -> RecoveredQuarantine:
        try:
            found, freed = recover_quarantine(
                self._filesystem, self._data_fd, stopping=self._stopping, pause=self._threads.pause
            )
        except OSError as error:
            return RecoveredQuarantine((), (), 0, ((f"{OWN}/{TRASH}", error.strerror or str(error)),))
        errors = (*found.errors, *((f"{place.folder}/{place.name}", error) for place, error in freed.errors))
        return RecoveredQuarantine(found.held, found.going, sum(freed.disk_bytes), errors)

    def _forget(self, token: str, repositories: Iterable[str]) -> None:
        """Drop intents that are carried out; those that stay on record are found done by the next recovery."""
        with suppress(OSError):
            drop_intents(self._filesystem, self._data_fd, token, repositories)

    def _find_held_wanted(self, images: Sequence[Held], view: TagView) -> list[Held]:
        retired = [
            (held.intent, find_entries(self._filesystem, self._data_fd, held.intent)) for held in images
        ]
        wanted = find_wanted(self._filesystem, self._data_fd, retired, view, self._threads.pause)
        names = {intent.name for intent in wanted}
        return [held for held in images if held.name in names]

    def _list_unfinished(self) -> frozenset[str]:
        tokens, _ = list_trash(self._filesystem, self._data_fd)
        records = read_records(self._filesystem, self._data_fd)
        return frozenset(
            intent.digest
            for token in tokens
            for intent in read_intents(self._filesystem, self._data_fd, token)
            if intent.name not in records.names_of(token)
        )

    def _recover(self, hold_at_ns: int | None = None) -> Recovery:
        self._kept_intents.clear()
        recovering = Recovering(
            self._filesystem, self._data_fd, self._stopping, self._threads.pause, hold_at_ns
        )
        self.has_unfinished = False
        recovery = recovering.recover()
        self.has_unfinished = recovering.has_unfinished
        return recovery


def _repositories(intents: Iterable[Intent]) -> set[str]:
    return {name for intent in intents for name in repositories_of(intent)}


def _is_unfinished(outcome: Outcome) -> bool:
    """Tell whether something is left to do for the next recovery."""
    match outcome:
        case Retired():
            return bool(outcome.faults)
        case Failed() | Kept():
            return outcome.unfinished
        case _:
            assert_never(outcome)
