"""The steps of a deletion for one image after the other, in the order that the head of `retirement` gives."""

import errno
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import attrs

from hmret.disk.deletion.cleaning import Cleaning
from hmret.disk.deletion.examination import Examined, Examiner
from hmret.disk.deletion.open_folders import KnownPaths, OpenFolders
from hmret.disk.deletion.open_image import OpenImage
from hmret.disk.deletion.outcomes import BatchRetired, Outcome
from hmret.disk.deletion.prefetch import Prefetch, PrefetchedImage
from hmret.disk.deletion.putting_back import erase_rest, mend, put_back
from hmret.disk.deletion.replacements import Replacement, find_replacement
from hmret.disk.deletion.tags.repository_tags import RepositoryTags
from hmret.disk.deletion.tags.tag_view import EMPTY_SNAPSHOT, TagFolders
from hmret.disk.deletion.trash.intents import Intent
from hmret.disk.deletion.trash.wholeness import LayersGoneError
from hmret.disk.filesystem import Step
from hmret.disk.hypeman.retention_states.rereading import HeldState, hold_state, look_at_state
from hmret.disk.hypeman.retention_states.writing import clear_state
from hmret.disk.layout import IMAGES, RETENTION, hex_of
from hmret.model.deletion import Deletion, DueRow, Failed, Kept, RetireCriteria
from hmret.model.values import define
from hmret.model.verdicts import Reason

_MOST_HELD = 8
"""Timers of one image that are held open; those of further rows are read again before they are removed."""


@define(eq=False)
class Batch:
    """One batch of deletions: the steps of `retirement` for each image."""

    folders: OpenFolders
    prefetch: Prefetch
    cleaning: Cleaning
    criteria: RetireCriteria
    lease_error: OSError | None = None

    def examine(
        self, batch_name: str, deletions: Iterable[Deletion], view: TagFolders, pause: Callable[[], None]
    ) -> list[Examined]:
        """Examine the images of the batch; those that will stay have a bare intent."""
        chosen = list(deletions)
        tag_snapshot = None
        if any(deletion.is_content for deletion in chosen):
            images_fd = self.folders.find(IMAGES)
            tag_snapshot = EMPTY_SNAPSHOT if images_fd is None else view.refresh(images_fd, pause)
        digests = {deletion.digest for deletion in chosen}
        known_paths = KnownPaths(self.folders)
        tags = RepositoryTags(self.folders, tag_snapshot, digests, known_paths)
        examiner = Examiner(self.folders, known_paths, tags, self.criteria.depends_on_tags)
        examiner.read_ahead(chosen)
        return [
            examiner.examine(deletion, f"{batch_name}.{number}") for number, deletion in enumerate(chosen)
        ]

    @staticmethod
    def none_begun(batch_name: str, deletions: Iterable[Deletion], path: str, error: OSError) -> BatchRetired:
        """Return the outcomes where nothing could be begun, because of one path."""
        outcomes = (Failed(deletion, path, error, is_unbegun=True) for deletion in deletions)
        return BatchRetired(batch_name, tuple(outcomes), None)

    def retire(self, target: Examined) -> Outcome:
        """Take the last look at one image, and rename it out of the cache if it may go."""
        intent = target.intent
        states: dict[str, HeldState] = {}
        prefetched = self.prefetch.take(target)
        try:
            # guard(newly-referenced-stays): An image that a guest, snapshot or lease needs by now stays,
            # whatever the plan said.
            if any(key in self.criteria.protected for key in intent.keys):
                return Kept(intent, Reason.REFERENCED)
            for row in intent.rows:
                reason = self._look_at_timer(row, intent.digest, states, prefetched)
                if reason is not None:
                    return Kept(intent, reason)
            if isinstance(target.stays, Kept):
                return self._staying(target.stays)
            return target.stays or self._retire(target, states, prefetched)
        except (FileNotFoundError, NotADirectoryError):
            return Kept(intent, None)
        except OSError as error:
            return Failed(intent, intent.path, error)
        finally:
            for state in states.values():
                state.close()
            if prefetched is not None:
                prefetched.close()

    def _look_at_timer(
        self, row: DueRow, digest: str, states: dict[str, HeldState], prefetched: PrefetchedImage | None
    ) -> Reason | None:
        """Return why a row's timer keeps its image; None: it does not. A held state is added to `states`."""
        key = row.repository, digest
        since_ns: int | None
        if prefetched is not None:
            since_ns = prefetched.timers[row.repository].unused_since_ns
        elif len(states) < _MOST_HELD:
            folder_fd = self.folders.find(f"{RETENTION}/{row.repository}")
            state = None if folder_fd is None else hold_state(self.folders.filesystem, folder_fd, key)
            if state is not None:
                states[row.repository] = state
            since_ns = None if state is None else state.unused_since_ns
        else:
            since_ns = look_at_state(self.folders.filesystem, self.folders.data_fd, key)
        if since_ns is None:
            return Reason.NEWLY_UNUSED
        is_due = since_ns + self.criteria.unused_for_ns <= self.criteria.now_ns
        # guard(timer-is-unchanged): A timer that was cleared or restarted since the plan means that the image
        # was used, so it stays.
        return None if since_ns == row.unused_since_ns and is_due else Reason.RETENTION_WINDOW

    def _retire(  # noqa: C901, PLR0911 - one rule after the other
        self, target: Examined, states: Mapping[str, HeldState], prefetched: PrefetchedImage | None = None
    ) -> Outcome:
        """Rename an image out of the cache, and clean up after it.

        A `prefetched` image is deleted in one call; where that call has stopped, the deletion continues here from
        the same step.
        """
        intent = target.intent
        image = OpenImage(self.folders, intent) if prefetched is None else prefetched.open_image()
        not_put_back = ""
        replacement = Replacement.NOTHING
        try:
            if prefetched is None:
                image.open_in_cache()
            step = self._begin(target, image, prefetched)
            if isinstance(step, Kept):
                return step
            if step is Step.NOT_BEGUN:
                image.close()
                return self._retire(target, states)
            stopped = self._rename_out(image) if step <= Step.RENAMED else None
            if stopped is not None:
                return stopped
            try:
                if step <= Step.CLOSED:
                    replacement = self._mend_if_replaced(image, is_closed=step is Step.CLOSED)
            except LayersGoneError as error:
                replacement, not_put_back = Replacement.LEAVE_ALONE, str(error.strerror)
            except OSError as error:
                return Failed(intent, image.places[-1].path, error, unfinished=True)
        finally:
            image.close()
        if replacement is Replacement.MENDED:
            return self._kept_after_return(intent)
        if step is Step.DONE:
            return self.cleaning.note_gone(intent, image.places, intent.links)
        absent: set[str] = set()
        if replacement is Replacement.NOTHING and step is not Step.LOOKED:
            absent = intent.repositories - {copy.repository for copy in intent.staying}
        # guard(removed-tags-reported): Tags removed by the single call belong to the image's record, so that
        # a restore from quarantine sets them again.
        gone = () if prefetched is None else prefetched.gone
        # guard(tags-aside-settled): Where the single call stopped among the tags, those already set aside are
        # resolved first; none is lost in the trash.
        timers = None if step is Step.LOOKED else states
        return attrs.evolve(
            self.cleaning.clean_up(intent, image.places, timers, absent, gone), not_put_back=not_put_back
        )

    def _begin(self, target: Examined, image: OpenImage, prefetched: PrefetchedImage | None) -> Step | Kept:
        """Judge an open image, then take its leases or delete it in one call; returns the step that was reached.

        Raises:
            OSError: nothing of it was changed.
        """
        kept = self._judge(target, image)
        if kept is not None:
            return kept
        if prefetched is not None:
            step = prefetched.carry_out(image, takes_leases=self.criteria.takes_leases)
            self.prefetch.learn(prefetched, step)
            return step
        if self.criteria.takes_leases:
            is_free = image.lease()
            self.lease_error = self.lease_error or image.lease_error
            if not is_free:
                return self._cleared(Kept(target.intent, Reason.OPEN))
        return Step.LEASED

    def _rename_out(self, image: OpenImage) -> Outcome | None:
        """Rename the folders of an image out of the cache; returns its outcome if they are not all out.

        Raises:
            OSError: one could not be renamed, and all are in their places.
        """
        try:
            is_out = image.rename_out()
        except OSError as error:
            image.undo()
            if image.is_left_out():
                return Failed(image.intent, image.intent.path, error, unfinished=True)
            raise
        return None if is_out else self._give_way(image)

    def _judge(self, target: Examined, image: OpenImage) -> Kept | None:
        """Return why an image may not be deleted, by the contents and metadata of its folders; None: it may."""
        intent = target.intent
        hexadecimal = hex_of(intent.digest)
        for number, folder in image.opened.items():
            copy = intent.copies[number]
            if copy.inode not in (0, folder.inode):
                return Kept(intent, None)
            # guard(metadata-right-before-move): Only a whole, ready image goes: one that a pull is writing by
            # now, or that is no longer that image, stays.
            reason = folder.judge(copy.repository or None, hexadecimal)
            if reason is not None:
                detail = "" if folder.fault is None else f"{copy.parent}/{hexadecimal}/{folder.fault[1]}"
                return self._staying(Kept(intent, reason, detail))
        main = image.opened[len(image.opened) - 1].image
        assert main is not None  # a folder without a reason to stay has one
        # guard(same-name-in-metadata): Untagged content belongs to the repository its metadata names; under
        # another name, another policy decides on it.
        if target.is_by_name and main.content_name != intent.repository:
            return Kept(intent, Reason.SHARED, "its metadata names another repository by now")
        for row in intent.rows:
            # guard(same-age-and-origin): An image whose metadata states another age or origin than the plan
            # knew may be kept by a rule; the next sweep decides.
            if not row.is_unchanged(main):
                return Kept(intent, Reason.RETENTION_WINDOW)
        return None

    def _kept_after_return(self, intent: Intent) -> Kept:
        """Clean up after an image that is in the cache again: erase what the trash still has of it, clear its timers."""
        is_left = False
        try:
            erase_rest(self.folders, intent)
        except OSError:
            is_left = True
        return self._cleared(Kept(intent, Reason.OPEN, unfinished=is_left))

    def _give_way(self, image: OpenImage) -> Outcome:
        """Leave an image alone in whose folder a pull has begun; its own remains are of no use to that pull."""
        image.undo()
        if image.is_left_out():
            error = OSError(errno.EBUSY, "a pull has begun in it, and the rest could not be put back")
            return Failed(image.intent, image.intent.path, error, unfinished=True)
        return self._cleared(Kept(image.intent, Reason.NOT_READY, "a pull has begun in it"))

    def _mend_if_replaced(self, image: OpenImage, *, is_closed: bool = False) -> Replacement:
        """Look for what has replaced an image since it was renamed, and mend it.

        Returns `MENDED` where the image is in the cache again, else what was found.

        `is_closed`: whether it was already closed, and no process had opened it by then.

        Raises:
            LayersGoneError: it should be put back but cannot be, so it stays out of the cache.
            OSError: it stays where it is, for the next recovery.
        """
        came_between = not is_closed and image.came_between()
        # A process that opens one of its files now waits for the lease; so would the look into it below.
        image.close()
        if not image.places:
            return Replacement.LEAVE_ALONE
        # guard(opener-gets-image-back): A process that opened the disk between the lease and the rename finds
        # its image whole in the cache again.
        if came_between and put_back(self.folders, image.intent, image.places):
            return Replacement.MENDED
        found = find_replacement(self.folders, image.intent, image.places)
        if found.replacement is not Replacement.NOTHING and mend(
            self.folders, image.intent, image.places, found
        ):
            return Replacement.MENDED
        return found.replacement

    def _cleared(self, kept: Kept) -> Kept:
        """Remove the timers of an image that stays: they start when it is next found unused."""
        for key in kept.deletion.keys:
            clear_state(self.folders.filesystem, self.folders.data_fd, key)
        return attrs.evolve(kept, cleared=True)

    def _staying(self, kept: Kept) -> Kept:
        """Return that an image stays; the timers of a broken one are removed, as by a plan that finds it broken."""
        if kept.reason is Reason.BROKEN:
            with suppress(OSError):
                return self._cleared(kept)
        return kept
