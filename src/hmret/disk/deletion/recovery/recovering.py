"""Recovery: finishing or undoing interrupted deletions, by the intents on record and the contents of the trash.

For each intent, the places of its folders show how far the deletion had got, and so what is to be done:

1. A folder is in its place with its metadata hidden: the crash was between hiding and renaming. It is moved
   out now.
2. No folder is in the trash. If the image is in its place, nothing had been renamed, and there is nothing to
   do. Otherwise its bytes have been freed: tags and timers that are left are removed.
3. Content is in its place, and only folders that its owners have of their own are in the trash: the crash was
   between the renames. Those folders are renamed back, and the next sweep decides again.
4. Otherwise the image is out of the cache, and its deletion is finished as it would have been: if a process
   has a disk open, or something has arrived, the image is put back or completed; if not, tags go, then
   timers.

Then follows the last look for new users, as in every deletion, before bytes are freed or the image goes into
quarantine. An intent is dropped only when nothing is left to do for any image of its batch, so a crash during
recovery, at any point, leaves nothing but one of these situations, and the next recovery starts over. What cannot be read
decides nothing: if the records of the quarantine cannot be listed, every folder in the trash might be held,
so nothing is touched at all. Only last, what lies in the trash without an intent and without a record is
erased: no image that could still come back is among it.
"""

from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from typing import assert_never

import attrs

from hmret.disk.deletion.check_before_erase import find_wanted
from hmret.disk.deletion.ghosts import is_parked_ghost, resolve_parked_ghosts
from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.deletion.outcomes import Retired
from hmret.disk.deletion.putting_back import bring_back
from hmret.disk.deletion.recovery.finishing import (
    finish,
    finish_gone,
    finish_hidden,
    resolve_tags,
    undo_copies,
)
from hmret.disk.deletion.recovery.quarantine import entry_has_metadata_and_disk, hold
from hmret.disk.deletion.recovery.quarantine_records import HeldImage, QuarantineRecords, read_records
from hmret.disk.deletion.tags.links import make_links
from hmret.disk.deletion.tags.tag_view import TagFolders
from hmret.disk.deletion.trash.erasing import erase, free_entries
from hmret.disk.deletion.trash.intent_files import drop_intents, list_trash, read_intents
from hmret.disk.deletion.trash.intents import Intent, TrashEntry, find_entries
from hmret.disk.deletion.trash.wholeness import LayersGoneError
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import inode_of
from hmret.disk.layout import IMAGES, TRASH
from hmret.model.deletion import Failed, Kept
from hmret.model.references import Key
from hmret.model.values import define, frozen


@frozen
class Recovery:
    """The results of a recovery."""

    finished: tuple[Retired, ...]
    disk_bytes: dict[Key, int]
    """The bytes that each of those freed; none for held images."""
    put_back: tuple[Key, ...]
    """Images that were put back, because a process or a client had begun to use them."""
    freed_bytes: int
    errors: tuple[tuple[str, str], ...]
    held: tuple[HeldImage, ...] = ()
    """Those of the finished ones that are in quarantine now."""


@define(eq=False)
class Recovering:
    """One recovery; nothing else works on the images that have intents at the same time."""

    filesystem: Filesystem
    data_fd: int
    stopping: Callable[[], bool] = lambda: False
    pause: Callable[[], None] = lambda: None
    hold_at_ns: int | None = None
    """The time at which finished images enter quarantine; None: their bytes are freed."""
    has_unfinished: bool = False
    """Whether something is left for the next recovery."""
    _finished: list[Retired] = attrs.field(factory=list)
    _put_back: list[Key] = attrs.field(factory=list)
    _held: list[HeldImage] = attrs.field(factory=list)
    _seen: list[Intent] = attrs.field(factory=list)
    _back: set[str] = attrs.field(factory=set)
    """Digests of the content that is back."""
    _errors: list[tuple[str, str]] = attrs.field(factory=list)
    _disk_bytes: dict[Key, int] = attrs.field(factory=dict)
    _freed_bytes: int = 0

    def recover(self) -> Recovery:
        """Finish or undo interrupted deletions; images in quarantine stay there."""
        batch_names, _ = self._list_trash()
        records = self._records()
        if records is not None:
            for batch_name in batch_names:
                try:
                    self._recover_batch(batch_name, records)
                except OSError as error:
                    self.has_unfinished = True
                    self._errors.append((f"{TRASH}/{batch_name}.json", error.strerror or str(error)))
            if self._back:
                self._make_links_beside()
            ghosts = resolve_parked_ghosts(self.filesystem, self.data_fd)
            self.has_unfinished = self.has_unfinished or bool(ghosts)
            self._errors.extend(ghosts)
            self._erase_strays()
        return Recovery(
            tuple(self._finished),
            self._disk_bytes,
            tuple(self._put_back),
            self._freed_bytes,
            tuple(self._errors),
            tuple(self._held),
        )

    def _recover_batch(self, batch_name: str, records: QuarantineRecords) -> None:
        """Finish or undo one file of intents, and drop it once all of it is done."""
        if records.is_doubtful(batch_name):
            # It is unknown which images of it are held, and which were still to be finished.
            return
        is_done = True
        held_names = records.names_of(batch_name)
        intents = read_intents(self.filesystem, self.data_fd, batch_name)
        retired: list[Retired] = []
        # guard(crash-is-cleaned-up): A deletion that a crash cut off is finished or undone at the next start,
        # so no image stays half gone.
        for intent in intents:
            # guard(held-is-already-settled): A crash can leave intents for images that are in quarantine
            # already; they stay held and are not erased.
            if intent.name not in held_names:
                self._seen.append(intent)
                is_done &= self._finish(intent, retired)
                continue
            # guard(tags-of-held-go-again): After a power loss the record of a held image can be on the disk
            # while the removal of its tags is not; they would lead nowhere.
            is_done &= self._finish_gone(intent, is_held=True)
        if is_done:
            # guard(recovery-looks-before-erase): After a crash, too, an image that a client has begun to use
            # again is put back before its bytes are freed.
            retired = self._without_wanted(retired)
            self._finished += retired
            rest = self._hold(batch_name, retired)
            # A crash may have left empty folders of images whose bytes have already been freed.
            names = {name for intent in intents for name in intent.repositories}
            is_done = self._free(batch_name, rest, names)
        else:
            self._finished += retired
        if not is_done:
            self.has_unfinished = True

    def _finish(self, intent: Intent, retired: list[Retired]) -> bool:
        """Finish or undo the deletion of one image; returns whether all of it is done."""
        # guard(finish-hidden-folders): A folder whose metadata was hidden right before a crash is taken out
        # now; otherwise it stays for ever and is not an image.
        finish_hidden(self.filesystem, self.data_fd, intent)
        places = find_entries(self.filesystem, self.data_fd, intent)
        is_standing = self._is_standing(intent)
        if not places:
            # Either nothing was renamed, or what was renamed has been erased.
            # guard(tags-of-standing-return): An earlier recovery may have been cut off between the image's
            # return and that of a tag: what is set aside is no stray.
            if is_standing:
                resolve_tags(self.filesystem, self.data_fd, intent)
            # guard(tags-of-erased-go): When a crash came after the erase, the tags and timers that are left
            # go too; a tag without its image boots nothing.
            return is_standing or intent.is_bare or self._finish_gone(intent)
        # guard(standing-content-undoes): If a crash came before the content was renamed, all is still whole:
        # the folders go back and the next sweep decides.
        if intent.is_content and is_standing and all(place.copy.repository for place in places):
            # Interrupted before its content was renamed: everything is complete, and the next sweep decides
            # again.
            undo_copies(self.filesystem, self.data_fd, places)
            resolve_tags(self.filesystem, self.data_fd, intent)
            return True
        match finish(self.filesystem, self.data_fd, places):
            case Retired() as image:
                self._errors.extend(image.faults)
                if image.not_put_back:
                    self._errors.append((image.place.path, image.not_put_back))
                if image.faults:
                    return False
                retired.append(image)
            case Kept():
                self._note_put_back(intent)
            case Failed() as failed:
                self._errors.append((failed.path, failed.error.strerror or str(failed.error)))
                return False
            case _ as never:
                assert_never(never)
        return True

    def _finish_gone(self, intent: Intent, *, is_held: bool = False) -> bool:
        """Remove the tags and timers of an image that has gone; returns whether all of it is done.

        `is_held`: whether it is in quarantine; else nothing is left of it, and its deletion is finished.
        """
        gone = finish_gone(self.filesystem, self.data_fd, intent)
        self._errors.extend(gone.faults)
        if not gone.faults and not is_held:
            self._finished.append(gone)
        return not gone.faults

    def _is_standing(self, intent: Intent) -> bool:
        """Return whether an intent's image is in its place, and is the recorded one as far as is known."""
        inode = inode_of(self.filesystem, self.data_fd, intent.path)
        return inode is not None and intent.copies[-1].inode in (0, inode)

    def _note_put_back(self, intent: Intent) -> None:
        """Record that an image is back; tags that went with other folders of its digest lead to it again."""
        self._put_back.extend(intent.keys)
        if intent.is_content:
            self._back.add(intent.digest)

    def _make_links_beside(self) -> None:
        links = [
            link
            for intent in self._seen
            if intent.digest in self._back and not intent.is_content
            for link in intent.links
        ]
        with closing(OpenFolders(self.filesystem, self.data_fd)) as folders:
            try:
                make_links(folders, links)
            except OSError as error:
                self._errors.append((IMAGES, error.strerror or str(error)))

    def _without_wanted(self, retired: list[Retired]) -> list[Retired]:
        """Put back images that a client has begun to use again; returns the others.

        Raises:
            OSError: that could not be determined, or an image could not be put back; all of them wait.
        """
        if not retired:
            return retired
        wanted = find_wanted(
            self.filesystem,
            self.data_fd,
            [(image.intent, image.places) for image in retired if not image.not_put_back],
            TagFolders(self.filesystem, {}),
            self.pause,
        )
        names = set()
        for intent in wanted:
            try:
                is_back = bring_back(self.filesystem, self.data_fd, intent)
            except LayersGoneError as error:
                self._errors.append((f"{TRASH}/{intent.name}", str(error.strerror)))
                continue
            if is_back:
                names.add(intent.name)
                self._note_put_back(intent)
        return [image for image in retired if image.intent.name not in names]

    def _hold(self, batch_name: str, retired: list[Retired]) -> list[TrashEntry]:
        """Put complete images into quarantine; returns the folders to be freed.

        Raises:
            OSError: the record could not be written; all of them wait.
        """
        places = [place for image in retired for place in image.places]
        if self.hold_at_ns is None:
            return places
        # guard(half-erased-is-not-held): An image whose erasing had begun cannot be restored, so it is erased
        # and not held in quarantine.
        whole = [
            image
            for image in retired
            if entry_has_metadata_and_disk(self.filesystem, self.data_fd, image.place)
        ]
        if whole:
            # Which of its tags went before the interruption is unknown; those that have moved on are no
            # longer free.
            chosen = [attrs.evolve(image, links=image.intent.links) for image in whole]
            self._held += hold(self.filesystem, self.data_fd, batch_name, chosen, self.hold_at_ns)
        held = {image.intent.name for image in whole}
        return [place for place in places if place.intent.name not in held]

    def _free(self, batch_name: str, places: Iterable[TrashEntry], repositories: set[str]) -> bool:
        chosen = tuple(places)
        freed = free_entries(self.filesystem, self.data_fd, chosen, stopping=self.stopping, pause=self.pause)
        for place, disk_bytes in zip(chosen, freed.disk_bytes, strict=True):
            key = place.intent.key
            self._disk_bytes[key] = self._disk_bytes.get(key, 0) + disk_bytes
        self._freed_bytes += sum(freed.disk_bytes)
        self._errors.extend((place.path, error) for place, error in freed.errors)
        if not all(freed.done):
            return False
        # Those that stay on record are found done by the next recovery.
        with suppress(OSError):
            drop_intents(self.filesystem, self.data_fd, batch_name, repositories)
        return True

    def _erase_strays(self) -> None:
        """Erase whatever is in the trash without an intent on record and is not held."""
        batch_names, names = self._list_trash()
        records = self._records()
        if records is None:
            return
        for name in names:
            # guard(held-folders-are-no-strays): An image in quarantine has no intent any more; its record
            # keeps it from being erased as a leftover.
            is_ours = name.partition(".")[0] in batch_names or records.covers(name)
            if not is_ours and not is_parked_ghost(name):
                try:
                    self._freed_bytes += erase(self.filesystem, self.data_fd, TRASH, name, self.stopping) or 0
                except OSError as error:
                    self.has_unfinished = True
                    self._errors.append((f"{TRASH}/{name}", error.strerror or str(error)))

    def _records(self) -> QuarantineRecords | None:
        """Read the quarantine's records; None where they are unreadable: then nothing may be touched."""
        try:
            return read_records(self.filesystem, self.data_fd)
        except OSError as error:
            self._note_trash(error)
            # guard(unlisted-records-keep-all): If the records of the quarantine cannot be listed, any folder
            # in the trash may be held, so none is erased.
            return None

    def _list_trash(self) -> tuple[list[str], list[str]]:
        """List the trash; if it cannot be listed, that is recorded once and left for another time."""
        try:
            return list_trash(self.filesystem, self.data_fd)
        except OSError as error:
            self._note_trash(error)
            return [], []

    def _note_trash(self, error: OSError) -> None:
        self.has_unfinished = True
        fault = TRASH, error.strerror or str(error)
        if fault not in self._errors:
            self._errors.append(fault)
