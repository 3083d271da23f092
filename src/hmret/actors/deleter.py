"""The deleter: renames images out of the cache, then frees their bytes or holds them in quarantine."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import TypeVar, TypeVarTuple, assert_never

import anyio
import msgspec

from hmret.actors.disk_actor import DiskActor
from hmret.actors.threads import Threads
from hmret.disk.deletion.check_before_erase import find_wanted
from hmret.disk.deletion.outcomes import BatchRetired, Outcome, Retired
from hmret.disk.deletion.putting_back import bring_back
from hmret.disk.deletion.recovery.quarantine import QuarantineContents, hold, load_held, release
from hmret.disk.deletion.recovery.quarantine_records import (
    HeldImage,
    change_record,
    drop_records,
    read_records,
)
from hmret.disk.deletion.recovery.recovering import Recovering, Recovery
from hmret.disk.deletion.recovery.restoring import Restoration, recover_quarantine, restore
from hmret.disk.deletion.recovery.returned_tags import clear_ghosts_with_tags, reopen_undone
from hmret.disk.deletion.retirement import retire
from hmret.disk.deletion.tags.tag_folders import remove_empty_tag_folders
from hmret.disk.deletion.tags.tag_view import TagFolders
from hmret.disk.deletion.trash.erasing import FreedFolders, free_entries
from hmret.disk.deletion.trash.intent_files import drop_intents, list_trash, new_batch_name, read_intents
from hmret.disk.deletion.trash.intents import Intent, Link, TrashEntry, find_entries
from hmret.disk.deletion.trash.past_deletions import deleted_lately, forget_deleted
from hmret.disk.deletion.trash.reserve import fill_reserve
from hmret.disk.filesystem import Filesystem
from hmret.disk.hypeman.scan import FolderScan
from hmret.disk.image_claim import UNCONTESTED, Claim
from hmret.disk.layout import TRASH
from hmret.model.deletion import Deletion, Failed, Kept, RetireCriteria

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Deleter(DiskActor):
    """The deleter actor.

    These bypass the mailbox:
        `stop_early` sets a flag that is never reset and that threads read before each image;
        `leave` is called by the sweep that retired the batch, before that sweep requests anything else for
        it; `has_unfinished` may be read at any time: a sweep that reads it too early leaves recovery to the
        next one; `new_view` reads nothing, and the view it returns belongs to the caller.
    """

    def __init__(
        self,
        filesystem: Filesystem,
        data_fd: int,
        threads: Threads,
        *,
        monotonic_ns: Callable[[], int] = lambda: 0,
    ) -> None:
        super().__init__(filesystem, data_fd, threads)
        self._monotonic_ns = monotonic_ns
        self._is_stopping = False
        self._kept_intents: set[str] = set()
        self._records = anyio.Lock()
        """Held while a record of what is in quarantine is written or dropped."""
        self.has_unfinished = False
        """Whether something waits in the trash for the next recovery."""

    def new_view(self, tag_folders: Mapping[str, FolderScan] = MappingProxyType({})) -> TagFolders:
        """Make a view of which repository links to which digest, shared by all batches of a sweep.

        `tag_folders`: the folders as a scan saw them; if empty, the first batch lists all of them. Later
        batches list only the folders that have changed.
        """
        return TagFolders(self._filesystem, tag_folders)

    def leave(self, batch_name: str) -> None:
        """Leave a retired batch in the trash for the next recovery."""
        self._kept_intents.add(batch_name)
        self.has_unfinished = True

    def stop_early(self) -> None:
        """Finish the current image and start no other; the trash is left for the next start."""
        self._is_stopping = True

    async def retire(
        self,
        deletions: Iterable[Deletion],
        criteria: RetireCriteria,
        claim: Claim = UNCONTESTED,
        *,
        view: TagFolders | None = None,
        within_ns: int | None = None,
        is_interrupted: Callable[[], bool] = lambda: False,
    ) -> BatchRetired:
        """Rename those images out of the cache that may still be deleted and that the claim still covers.

        Args:
            deletions: the images.
            criteria: what they are judged by, as found by re-checking them.
            claim: what the caller may delete; each image is begun and ended in it.
            view: which links exist below `repositories/`; one view for all batches of a sweep. None: nothing
                is known.
            within_ns: no image is started later than this after the first; None: no limit.
            is_interrupted: called in the thread before each image; once it returns true, no further image is
                started.
        """
        chosen = tuple(deletions)
        is_too_late = self._stopping if within_ns is None else self._stop_after(within_ns)

        async def retire_chosen() -> BatchRetired:
            batch = await self._on_disk(
                retire,
                chosen,
                criteria,
                batch_name=new_batch_name(),
                claim=claim,
                view=view,
                stopping=lambda: is_interrupted() or is_too_late(),
                pause=self._threads.pause,
            )
            if any(_is_unfinished(outcome) for outcome in batch.outcomes):
                self.leave(batch.batch_name)
            return batch

        return await self._ask(retire_chosen)

    async def free(self, batch_name: str, places: Iterable[TrashEntry]) -> FreedFolders:
        """Free the bytes of a retired batch."""
        return await self._ask(self._threads.run, self._free, batch_name, tuple(places))

    async def find_wanted(
        self, images: Iterable[tuple[Intent, Sequence[TrashEntry]]], view: TagFolders
    ) -> list[Intent]:
        """List the retired images that hypeman has started to need since they were retired.

        Raises:
            OSError: this could not be determined, so none of them may be erased.
        """
        return await self._ask(self._on_disk, find_wanted, tuple(images), view, self._threads.pause)

    async def find_held_wanted(self, images: Iterable[HeldImage], view: TagFolders) -> list[HeldImage]:
        """List the images in quarantine that hypeman has started to need since they were deleted.

        All batches that are checked together share one `view`.

        Raises:
            OSError: this could not be determined, so none of them may be erased.
        """
        return await self._ask(self._threads.run, self._find_held_wanted, tuple(images), view)

    async def bring_back(self, intent: Intent, beside: Iterable[Link] = ()) -> bool:
        """Put a retired image back into the cache whole, whether or not it is in quarantine.

        The caller has it in use and makes sure that nothing erases it concurrently.

        Args:
            intent: the image.
            beside: tags that were removed along with other repositories' own folders of the same digest; they
                are restored too, and point to the content.

        Returns:
            Whether it is back.

        Raises:
            LayersGoneError: its data is gone, so it stays where it is.
            OSError: it could not be put back.
        """
        return await self._ask(self._with_records, self._bring_back, intent, tuple(beside))

    async def clear_ghosts(self, ghosts: Mapping[str, int]) -> tuple[str, ...]:
        """Remove the ghosts of deleted digests, given with their deletion times, and the tags left for their sake.

        Nothing else may work on these digests until the call returns.
        """
        return await self._ask(self._on_disk, clear_ghosts_with_tags, dict(ghosts))

    async def deleted_lately(self, digests: Iterable[str], since_ns: int) -> Mapping[str, int]:
        """Return when a deletion of each digest was last begun, for those with one since `since_ns`.

        An image that stayed in the end is among them too.
        """
        return await self._ask(self._on_disk, deleted_lately, tuple(digests), since_ns)

    async def forget_deleted(self, before_ns: int) -> None:
        """Forget deletions from before `before_ns`."""
        await self._ask(self._on_disk, forget_deleted, before_ns)

    async def remove_empty_tag_folders(self, paths: Iterable[str]) -> None:
        """Remove folders below `repositories/` that have been empty for a long time."""
        await self._ask(self._on_disk, remove_empty_tag_folders, tuple(paths))

    async def fill_reserve(self) -> None:
        """Reserve the space that deletions need to start on a full disk, unless reserved or unavailable."""
        with suppress(OSError):
            await self._ask(self._on_disk, fill_reserve)

    async def unfinished(self) -> frozenset[str]:
        """List the digests whose deletion is on record but not finished."""
        return await self._ask(self._threads.run, self._list_unfinished)

    async def recover(self, *, hold_at_ns: int | None = None) -> Recovery:
        """Finish or undo interrupted deletions; nothing else may work on these images until the call returns.

        `hold_at_ns`: put finished deletions into quarantine as of this time; None: free their bytes.
        """
        return await self._ask(self._with_records, self._recover, hold_at_ns)

    async def reopen_undone(self) -> None:
        """Have the next recovery finish what a power loss has undone of recent deletions; for the start alone."""
        await self._ask(self._on_disk, reopen_undone)

    async def hold(
        self, batch_name: str, retired: Iterable[Retired], retired_at_ns: int
    ) -> tuple[HeldImage, ...]:
        """Put a retired batch into quarantine, in the order of the images.

        Raises:
            OSError: it could not be put on record; the batch stays as it is.
        """
        return await self._ask(self._with_records, self._hold, batch_name, tuple(retired), retired_at_ns)

    async def release(
        self, images: Iterable[HeldImage], may_go_on: Callable[[], bool] = lambda: True
    ) -> FreedFolders:
        """Free the bytes of images in quarantine; the caller ensures that they are not restored concurrently.

        `may_go_on` is called in the thread before each image; once it returns false, no further image is
        started.
        """
        return await self._ask(self._release, tuple(images), may_go_on)

    async def restore(self, held: HeldImage, unused_since_ns: int) -> Restoration:
        """Restore an image from quarantine; the caller has it in use and ensures that nothing releases it.

        Raises:
            LookupError: it is no longer in quarantine, or no longer whole.
            FileExistsError: it is already in the cache.
            OSError: it could not be restored.
        """
        return await self._ask(
            self._with_records, restore, self._filesystem, self._data_fd, held, unused_since_ns
        )

    async def redate(self, batch_name: str, latest_ns: int) -> tuple[HeldImage, ...]:
        """Record that no image of a quarantined batch was retired after `latest_ns`; returns the new record.

        Raises:
            OSError: it could not be written.
        """

        def change(held: HeldImage) -> HeldImage:
            return msgspec.structs.replace(held, retired_at_ns=min(held.retired_at_ns, latest_ns))

        return tuple(
            await self._ask(
                self._with_records, change_record, self._filesystem, self._data_fd, batch_name, change
            )
        )

    async def recover_quarantine(self) -> QuarantineContents:
        """List what is in quarantine, after finishing or undoing what was interrupted there."""
        return await self._ask(self._with_records, self._recover_quarantine)

    async def list_held(self) -> QuarantineContents:
        """List what is in quarantine; changes nothing.

        Raises:
            OSError: the trash cannot be listed.
        """
        return await self._ask(self._on_disk, load_held)

    async def _with_records(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Run a function in a thread, one at a time, with sole access to the quarantine's records."""
        # guard(one-writer-of-records): Two writers at once could lose a record of the quarantine, and with it
        # an image that is held.
        async with self._records:
            return await self._threads.run(function, *arguments)

    def _stopping(self) -> bool:
        return self._is_stopping

    def _stop_after(self, within_ns: int) -> Callable[[], bool]:
        """Return a function that is true once the engine stops, or `within_ns` after it was first called."""
        first_ns: int | None = None

        def stopping() -> bool:
            nonlocal first_ns
            now_ns = self._monotonic_ns()
            if first_ns is None:
                first_ns = now_ns
            # guard(look-must-be-fresh): References may have been written since they were read, so an image
            # that is reached too late waits for a fresh check.
            return self._is_stopping or now_ns - first_ns > within_ns

        return stopping

    def _free(self, batch_name: str, places: tuple[TrashEntry, ...]) -> FreedFolders:
        freed = free_entries(
            self._filesystem, self._data_fd, places, stopping=self._stopping, pause=self._threads.pause
        )
        if batch_name not in self._kept_intents and all(freed.done):
            self._forget(batch_name, _repositories(place.intent for place in places))
        else:
            self.has_unfinished = True
        return freed

    def _hold(self, batch_name: str, retired: Sequence[Retired], retired_at_ns: int) -> tuple[HeldImage, ...]:
        # An image whose tags or state still exist is finished by the next recovery, and quarantined then.
        chosen = [one for one in retired if not one.faults]
        held: list[HeldImage] = []
        if chosen:
            try:
                held = hold(self._filesystem, self._data_fd, batch_name, chosen, retired_at_ns)
            except OSError:
                self.has_unfinished = True
                raise
        if batch_name not in self._kept_intents:
            self._forget(batch_name, _repositories(one.intent for one in chosen))
        return tuple(held)

    async def _release(self, images: tuple[HeldImage, ...], may_go_on: Callable[[], bool]) -> FreedFolders:
        freed = await self._on_disk(
            release, images, may_go_on=may_go_on, stopping=self._stopping, pause=self._threads.pause
        )
        batch_names = {held.batch_name for held, done in zip(images, freed.done, strict=False) if done}
        await self._with_records(drop_records, self._filesystem, self._data_fd, batch_names)
        return freed

    def _bring_back(self, intent: Intent, beside: tuple[Link, ...]) -> bool:
        is_back = bring_back(self._filesystem, self._data_fd, intent, beside)
        if is_back:
            # It has a record if it was in quarantine.
            drop_records(self._filesystem, self._data_fd, (intent.batch_name,))
        return is_back

    def _recover_quarantine(self) -> QuarantineContents:
        try:
            return recover_quarantine(
                self._filesystem, self._data_fd, stopping=self._stopping, pause=self._threads.pause
            )
        except OSError as error:
            return QuarantineContents((), (), (), ((TRASH, error.strerror or str(error)),))

    def _forget(self, batch_name: str, repositories: Iterable[str]) -> None:
        """Drop intents that have been carried out; if that fails, the next recovery finds them done."""
        with suppress(OSError):
            drop_intents(self._filesystem, self._data_fd, batch_name, repositories)

    def _find_held_wanted(self, images: Sequence[HeldImage], view: TagFolders) -> list[HeldImage]:
        retired = [(held, find_entries(self._filesystem, self._data_fd, held)) for held in images]
        wanted = find_wanted(self._filesystem, self._data_fd, retired, view, self._threads.pause)
        names = {intent.name for intent in wanted}
        return [held for held in images if held.name in names]

    def _list_unfinished(self) -> frozenset[str]:
        batch_names, _ = list_trash(self._filesystem, self._data_fd)
        records = read_records(self._filesystem, self._data_fd)
        return frozenset(
            intent.digest
            for batch_name in batch_names
            for intent in read_intents(self._filesystem, self._data_fd, batch_name)
            if intent.name not in records.names_of(batch_name)
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
    return set().union(*(intent.repositories for intent in intents))


def _is_unfinished(outcome: Outcome) -> bool:
    """Return whether the next recovery has something left to do."""
    match outcome:
        case Retired():
            return bool(outcome.faults)
        case Failed() | Kept():
            return outcome.unfinished
        case _:
            assert_never(outcome)
