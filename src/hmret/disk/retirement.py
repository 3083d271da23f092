"""Deleting images: the last look at each, the renames out of the cache, and what must follow them.

Every removal below `images/` begins here, a step at a time from its own descriptor, following no symbolic link, and
only of a folder that is a digest folder by its name, its metadata and its contents. Callers have a grip on the images
of a batch, and have looked at the references after they got it.

An image is content with the folders that its owners have of their own, or one such folder alone. Its steps, in this order:

1. All is looked at again: owners, tags, timers, metadata, files. What is not as the plan had it keeps the image.
2. The intent is on the disk: all folders, tags and timers. A crash before the first rename leaves the image as it was.
3. Write leases are held on each file, one for each inode, from before the renames until after them.
4. The repositories' own folders are renamed first, content last. While content stands every lookup has the answer it had;
   its rename is the one moment at which the image is gone, for all repositories at once. A crash in between renames back
   what was renamed.
5. What has come meanwhile is looked at: an opener, a pull, a ghost. Each is a reason to put back, or to leave alone. A crash
   from here on is finished at the next start: the same look, then the rest.
6. Tags go, each set aside by a rename and looked at there; then the timers, each only with the time that was recorded.

The bytes are freed later, after one more look (`hmret.disk.deletion.wanted`).
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress

import attrs

from hmret.disk.deletion.announcing import Announced, Announcing
from hmret.disk.deletion.arrivals import (
    Arrival,
    content_status,
    exists,
    has_new_folder,
    heal,
    look_at_folder,
)
from hmret.disk.deletion.links import TakenLinks, settle_aside, take_links
from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.deletion.putting_back import hide_metadata, put_back, show_metadata
from hmret.disk.deletion.tag_view import TagView
from hmret.disk.digest_folder import DigestFolder, open_digest_folder
from hmret.disk.erasing import erase
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import let_go, remove_empty_folders, step_into
from hmret.disk.grip import FIRM, Grip
from hmret.disk.hypeman.links import Layout, tag_folder
from hmret.disk.layout import CONTENT, DIGEST_HEX, HIDDEN_METADATA, IMAGES, METADATA, RETENTION, hex_of
from hmret.disk.outcomes import Candidate, Failed, Kept, LastLook, Outcome, Retired
from hmret.disk.state_files import (
    HeldState,
    clear_state,
    hold_state,
    look_at_state,
    remove_empty_state_folders,
)
from hmret.disk.trash import (
    NO_CONTENT,
    Copy,
    Intent,
    Link,
    Place,
    find_places,
    open_trash,
    place_beside,
    place_in_trash,
    repositories_of,
    write_intents,
)
from hmret.model.images import Key
from hmret.model.verdicts import Reason

__all__ = ["finish", "finish_gone", "finish_hidden", "retire", "undo_copies"]

_ABSENT = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))
"""There is no folder, or a link in its place, which is not followed."""


def retire(
    filesystem: Filesystem,
    data_fd: int,
    candidates: Sequence[Candidate],
    look: LastLook,
    *,
    token: str,
    grip: Grip = FIRM,
    view: TagView | None = None,
    stopping: Callable[[], bool] = lambda: False,
    pause: Callable[[], None] = lambda: None,
) -> tuple[list[Outcome], OSError | None]:
    """Rename the images of a batch out of the cache, those that still may go.

    Each is begun with the grip's leave, or not at all. Returns what became of each that was begun before this was
    told to stop, and the error with which leases are refused here, None where they are offered.

    Args:
        filesystem: the disk.
        data_fd: the data directory.
        candidates: the batch; those of one repository one after the other.
        look: what they are judged by.
        token: names the intents; no batch before had it.
        grip: the hold that the caller has of the images.
        view: who links to what below `repositories/`, as the scan saw it; None: nothing is known.
        stopping: asked before each image.
        pause: called after each image, so that other threads have their turn.
    """
    with ExitStack() as stack:
        batch = _Batch(filesystem, data_fd, look, stack)
        try:
            announced = batch.announce(token, candidates, view or TagView(filesystem, {}), pause)
        except OSError as error:
            return [Failed(candidate.key, IMAGES, error) for candidate in candidates], None
        outcomes: dict[int, Outcome] = {}
        for digest, group in _by_digest(announced):
            if stopping():
                break
            if not grip.begin(digest):
                continue
            try:
                for number, one in group:
                    outcomes[number] = batch.retire(one)
            finally:
                grip.end(digest)
            pause()
        batch.remove_empty_folders()
        return [outcomes[number] for number in sorted(outcomes)], batch.lease_error


def finish(filesystem: Filesystem, data_fd: int, place: Place, others: Sequence[Place] = ()) -> Outcome:
    """Finish a deletion that was cut off, or undo it where somebody has a disk open or the image is wanted.

    The caller lets nobody else work on this image meanwhile. `place` and `others` are where its folders stand, one of them
    where its content does if that stands anywhere.
    """
    intent = place.intent
    with ExitStack() as stack:
        batch = _Batch(filesystem, data_fd, LastLook(frozenset(), 0, 0), stack)
        try:
            return batch.finish(intent, (place, *others))
        except OSError as error:
            return Failed(intent.keys[0], f"{place.folder}/{place.name}", error, unfinished=True)


def finish_hidden(filesystem: Filesystem, data_fd: int, intent: Intent) -> None:
    """Rename the folders of an image out of sight whose metadata was hidden right before a crash; hidden counts as renamed.

    Metadata beside it is that of a pull, which has begun in the folder since: the folder is the pull's then.

    Raises:
        OSError: one could not be.
    """
    with ExitStack() as stack:
        batch = _Batch(filesystem, data_fd, LastLook(frozenset(), 0, 0), stack)
        batch.finish_hidden(intent)


def undo_copies(filesystem: Filesystem, data_fd: int, places: Sequence[Place]) -> None:
    """Rename the owners' own folders back where their content still stands; one whose place is taken is erased.

    Raises:
        OSError: one could not be.
    """
    folders = OpenFolders(filesystem, data_fd)
    try:
        for place in places:
            if not put_back(folders, place.intent, (place,)):
                erase(filesystem, data_fd, place.folder, place.name)
    finally:
        folders.close()


def finish_gone(filesystem: Filesystem, data_fd: int, intent: Intent) -> tuple[tuple[str, str], ...]:
    """Take the tags and the timers of an image whose folders stand nowhere any more; returns what could not be, and why."""
    with ExitStack() as stack:
        batch = _Batch(filesystem, data_fd, LastLook(frozenset(), 0, 0), stack)
        batch.open_trash()
        return batch.clean_up(intent, (), None).faults


def _by_digest(announced: Sequence[Announced]) -> Iterator[tuple[str, list[tuple[int, Announced]]]]:
    """Group the images of a batch by digest, content first: the links of what goes after it then lead nowhere."""
    groups: dict[str, list[tuple[int, Announced]]] = {}
    for number, one in enumerate(announced):
        groups.setdefault(one.intent.digest, []).append((number, one))
    for digest, group in groups.items():
        yield digest, sorted(group, key=lambda item: not item[1].candidate.is_content)


@attrs.define(eq=False)
class _Opened:
    """The folders of one image, open and leased."""

    folders: list[tuple[Copy, DigestFolder]] = attrs.field(factory=list)
    places: list[Place] = attrs.field(factory=list)
    """Where those that were renamed stand."""

    def close(self) -> None:
        """Close them, which releases the leases."""
        for _, folder in self.folders:
            folder.close()
        self.folders = []


def _unfinished(one: Announced, opened: _Opened, error: OSError) -> Failed:
    """Say that the next recovery finishes or undoes a deletion."""
    intent = one.intent
    path = f"{intent.all_copies[-1].parent}/{hex_of(intent.digest)}"
    if opened.places:
        path = f"{opened.places[-1].folder}/{opened.places[-1].name}"
    keys = one.candidate.keys if one.candidate.others else ()
    return Failed(one.candidate.key, path, error, unfinished=True, keys=keys)


@attrs.define(eq=False)
class _Batch:
    """The open folders of one batch."""

    filesystem: Filesystem
    data_fd: int
    look: LastLook
    stack: ExitStack
    lease_error: OSError | None = None
    folders: OpenFolders = attrs.field(init=False)
    _trash_fd: int = -1
    _touched: set[str] = attrs.field(factory=set)
    """Repositories from which something has gone."""

    @folders.default
    def _open_folders(self) -> OpenFolders:
        folders = OpenFolders(self.filesystem, self.data_fd)
        self.stack.callback(folders.close)
        return folders

    def announce(
        self, token: str, candidates: Iterable[Candidate], view: TagView, pause: Callable[[], None]
    ) -> list[Announced]:
        """Look at the images of the batch, and write their intents; what will stay has one without folders."""
        chosen = list(candidates)
        linkers = None
        if any(candidate.is_content for candidate in chosen):
            linkers = view.look(self.folders.get(IMAGES), pause)
        announcing = Announcing(self.folders, linkers)
        announced = [
            announcing.announce(candidate, f"{token}.{number}") for number, candidate in enumerate(chosen)
        ]
        write_intents(self.filesystem, self.data_fd, token, [one.intent for one in announced])
        self.open_trash()
        return announced

    def open_trash(self) -> None:
        """Open the trash."""
        self._trash_fd = open_trash(self.filesystem, self.data_fd)
        self.stack.callback(let_go, self.filesystem, self._trash_fd)

    def retire(self, one: Announced) -> Outcome:
        """Take the last look at one image, and rename it out of the cache if it may go."""
        candidate, intent = one.candidate, one.intent
        key = candidate.key
        states: dict[str, HeldState] = {}
        try:
            if any(row_key in self.look.protected for row_key in candidate.keys):
                return self._kept(one, Reason.REFERENCED)
            for row in candidate.rows:
                state = self._hold_state((row.repository, candidate.digest))
                if state is None:
                    return self._kept(one, Reason.NEWLY_UNUSED)
                states[row.repository] = state
                if (
                    state.unused_since_ns != row.unused_since_ns
                    or state.unused_since_ns + self.look.unused_for_ns > self.look.now_ns
                ):
                    return self._kept(one, Reason.RETENTION_WINDOW)
            if one.error is not None:
                raise one.error
            if one.is_gone:
                return self._kept(one, None)
            if one.reason is not None:
                return self._kept(one, one.reason, one.detail)
            return self._rename_out(one, states)
        except (FileNotFoundError, NotADirectoryError):
            return self._kept(one, None)
        except OSError as error:
            parent = intent.all_copies[-1].parent
            keys = candidate.keys if candidate.others else ()
            return Failed(key, f"{parent}/{hex_of(intent.digest)}", error, keys=keys)
        finally:
            for state in states.values():
                state.close()

    def _kept(self, one: Announced, reason: Reason | None, detail: str = "") -> Kept:
        if reason is Reason.BROKEN:
            # As a plan has it for what it sees to be broken.
            for key in one.candidate.keys:
                with suppress(OSError):
                    clear_state(self.filesystem, self.data_fd, key)
        return Kept(one.candidate.key, reason, one.candidate.keys if one.candidate.others else (), detail)

    def _rename_out(self, one: Announced, states: Mapping[str, HeldState]) -> Outcome:
        intent = one.intent
        opened = _Opened()
        try:
            for copy in intent.all_copies:
                self._open_folder(opened, copy, self.folders.get(copy.parent), hex_of(intent.digest))
            kept = self._judge(one, opened)
            if kept is not None:
                return kept
            if not self._lease(opened):
                return self._keep_open(intent)
            try:
                self._move(intent, opened)
            except OSError as error:
                if not self._undo(opened, hex_of(intent.digest)):
                    return _unfinished(one, opened, error)
                raise
            try:
                back = self._settle(intent, opened)
            except OSError as error:
                return _unfinished(one, opened, error)
        finally:
            opened.close()
        if back:
            self._erase_rest(intent)
            return self._keep_open(intent)
        return self.clean_up(intent, opened.places, states)

    def _open_folder(self, opened: _Opened, copy: Copy, parent_fd: int, name: str) -> None:
        """Open one folder; a file that another of the image's folders has open is not opened by its other name."""
        others = {
            (found.st_dev, found.st_ino): folder
            for _, folder in opened.folders
            for name, found in folder.found.items()
            if name in folder.descriptors
        }
        opened.folders.append((copy, open_digest_folder(self.filesystem, parent_fd, name, others)))

    def _judge(self, one: Announced, opened: _Opened) -> Kept | None:
        """Say why an image may not be deleted, by what its folders hold and what they say of themselves; None: it may."""
        hexadecimal = hex_of(one.intent.digest)
        for copy, folder in opened.folders:
            if copy.inode and folder.inode != copy.inode:
                return self._kept(one, None)
            reason = folder.judge(copy.repository or None, hexadecimal)
            if reason is not None:
                detail = "" if folder.fault is None else f"{copy.parent}/{hexadecimal}/{folder.fault[1]}"
                return self._kept(one, reason, detail)
        image = opened.folders[-1][1].image
        assert image is not None  # a folder that was judged well has one
        if one.is_by_name and image.content_name != one.candidate.repository:
            return self._kept(one, Reason.SHARED, "its metadata names another repository by now")
        for row in one.candidate.rows:
            chosen = one.candidate.chosen_with(row.repository)
            if chosen is not None and not chosen.is_still(image):
                return self._kept(one, Reason.RETENTION_WINDOW)
        return None

    def _lease(self, opened: _Opened) -> bool:
        """Take the kernel's word that nobody has any of the files open; False where somebody has."""
        held: set[tuple[int, int]] = set()
        for _, folder in opened.folders:
            is_free = folder.lease(held)
            if folder.refusals:
                self.lease_error = folder.refusals[0]
            if not is_free:
                return False
        return True

    def _move(self, intent: Intent, opened: _Opened) -> None:
        """Rename the folders of an image out of the cache, content last.

        One that is gone, or is another, has been deleted by somebody, and perhaps pulled again: it stays as it is.
        """
        hexadecimal = hex_of(intent.digest)
        if not DIGEST_HEX.fullmatch(hexadecimal):
            raise OSError(errno.EINVAL, "not the name of a digest folder")
        for number, (copy, folder) in enumerate(opened.folders):
            parent_fd = self.folders.get(copy.parent)
            if intent.is_content and not self._is_inode(parent_fd, hexadecimal, folder.inode):
                continue
            place = self._rename(intent, number, parent_fd, hexadecimal, folder.files)
            opened.places.append(place)
            place_fd = self._fd_of(place, parent_fd)
            if self._is_of_pull(place, place_fd):
                raise OSError(errno.EBUSY, "a pull has begun in it")
            if intent.is_content and not self._is_inode(place_fd, place.name, folder.inode):
                # Another has come to its place in that very moment.
                put_back(self.folders, intent, (place,))
                opened.places.remove(place)
        if intent.is_content:
            for copy, _ in opened.folders:
                self.filesystem.fsync(self.folders.get(copy.parent))
            self.filesystem.fsync(self._trash_fd)

    def _rename(
        self, intent: Intent, number: int, parent_fd: int, hexadecimal: str, files: tuple[str, ...]
    ) -> Place:
        """Rename a folder into the trash, or, where that is another file system, out of the sight of hypeman."""
        in_trash = place_in_trash(intent, files, number)
        try:
            self.filesystem.rename(
                hexadecimal, in_trash.name, src_dir_fd=parent_fd, dst_dir_fd=self._trash_fd
            )
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        else:
            return in_trash
        return self._rename_aside(intent, number, parent_fd, hexadecimal)

    def _rename_aside(self, intent: Intent, number: int, parent_fd: int, hexadecimal: str) -> Place:
        """Rename a folder to where it is no image for hypeman, on its own file system."""
        # From here on it is gone for hypeman: a folder with metadata and disk is listed wherever it lies below `images/`.
        hide_metadata(self.folders, parent_fd, hexadecimal)
        if not intent.all_copies[number].repository:
            aside = place_beside(intent, number=number, within=IMAGES)
            try:
                images_fd = self.folders.get(IMAGES)
                self.filesystem.rename(hexadecimal, aside.name, src_dir_fd=parent_fd, dst_dir_fd=images_fd)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
            else:
                return aside
        beside = place_beside(intent, number=number)
        self.filesystem.rename(hexadecimal, beside.name, src_dir_fd=parent_fd, dst_dir_fd=parent_fd)
        return beside

    def _is_of_pull(self, place: Place, place_fd: int) -> bool:
        """Return whether a pull had begun in a folder after its metadata was hidden: then it is the pull's."""
        return place.is_beside and all(
            exists(self.filesystem, place_fd, f"{place.name}/{name}") for name in (METADATA, HIDDEN_METADATA)
        )

    def _undo(self, opened: _Opened, digest_name: str) -> bool:
        """Rename back what was renamed, in reverse, and show metadata that was hidden before a rename that failed.

        Returns whether all is as it was; what is not is finished or undone by the next recovery.
        """
        try:
            for place in reversed(opened.places):
                put_back(self.folders, place.intent, (place,))
            for copy, folder in opened.folders:
                parent_fd = self.folders.find(copy.parent)
                if (
                    parent_fd is not None
                    and HIDDEN_METADATA not in folder.descriptors
                    and exists(self.filesystem, parent_fd, f"{digest_name}/{HIDDEN_METADATA}")
                ):
                    show_metadata(self.folders, parent_fd, digest_name)
        except NotADirectoryError:
            return True
        except OSError:
            return False
        return True

    def _settle(self, intent: Intent, opened: _Opened) -> bool:
        """Look what has come while the image was renamed; returns whether it has been put back, or made whole again."""
        if not opened.places:
            return False
        if self._came_between(opened):
            return put_back(self.folders, intent, opened.places) or self._settle_arrivals(intent, opened.places)
        return self._settle_arrivals(intent, opened.places)

    def _settle_arrivals(self, intent: Intent, places: Sequence[Place]) -> bool:
        """Put an image back, or make it whole again, where something has come that needs it; as `_settle`."""
        digest = intent.digest
        content_fd = self.folders.find(f"{IMAGES}/{CONTENT}")
        main = places[-1]
        if intent.is_content:
            if main.copy.repository:
                # Somebody has deleted the content: its owners' folders go as well.
                return False
            arrival = Arrival.NOTHING if content_fd is None else look_at_folder(self.filesystem, content_fd, None, digest)
            if arrival is Arrival.GHOST and content_fd is not None:
                return self._heal(main, content_fd, digest, places[:-1])
            if arrival is Arrival.OTHER:
                return False
            if any(has_new_folder(self.folders, intent, name) for name in repositories_of(intent)):
                return put_back(self.folders, intent, places)
            return False
        if self._has_own_folder(intent.repository, digest):
            own_fd = self.folders.get(main.copy.parent)
            if look_at_folder(self.filesystem, own_fd, intent.repository, digest) is Arrival.GHOST:
                return self._heal(main, own_fd, digest, ())
            return False
        # What stood there and is gone has not come: content goes before the folders of others.
        if content_status(self.filesystem, content_fd, digest) in (NO_CONTENT, intent.beside):
            return False
        if content_fd is not None and look_at_folder(self.filesystem, content_fd, None, digest) is Arrival.GHOST:
            return self._heal(main, content_fd, digest, ())
        return put_back(self.folders, intent, places)

    def _heal(self, main: Place, parent_fd: int, digest: str, others: Sequence[Place]) -> bool:
        """Make the ghost in the place of an image whole again."""
        place_fd = self._fd_of(main, parent_fd)
        if not heal(self.filesystem, place_fd, main, parent_fd, digest):
            return False
        for place in others:
            put_back(self.folders, place.intent, (place,))
        return True

    def _erase_rest(self, intent: Intent) -> None:
        """Erase what is left in the trash of an image that is back; what cannot be is erased at the next start."""
        with suppress(OSError):
            for place in find_places(self.filesystem, self.data_fd, intent):
                erase(self.filesystem, self.data_fd, place.folder, place.name)

    def _has_own_folder(self, repository: str, digest: str) -> bool:
        own_fd = self.folders.find(f"{IMAGES}/{repository}")
        return own_fd is not None and exists(self.filesystem, own_fd, hex_of(digest))

    def _came_between(self, opened: _Opened) -> bool:
        """Tell whether anybody opened or changed a folder between the last look and the rename, or might have."""
        by_number = {place.number: place for place in opened.places}
        for number, (copy, folder) in enumerate(opened.folders):
            place = by_number.get(number)
            if place is None:
                continue
            try:
                place_fd = self._fd_of(place, self.folders.get(copy.parent))
                if not folder.is_still(place_fd, place.name, is_hidden=place.is_beside):
                    return True
            except OSError:
                return True
        return False

    def finish(self, intent: Intent, places: Sequence[Place]) -> Outcome:
        """Finish a deletion, or put the image back where its disk is open and its place is free."""
        self.open_trash()
        opened = _Opened(places=sorted(places, key=lambda place: place.number))
        is_open = False
        try:
            for place in opened.places:
                self._open_folder(opened, place.copy, self.folders.get(place.folder), place.name)
            held: set[tuple[int, int]] = set()
            for _, folder in opened.folders:
                # What is not complete is being erased already: that disk is open through another hard link.
                if folder.fault is None and folder.is_complete and not folder.lease(held):
                    is_open = True
        finally:
            opened.close()
        if is_open and put_back(self.folders, intent, opened.places, intent.all_links):
            settle_aside(self.folders, self._trash_fd, intent, self._is_here(intent))
            self._erase_rest(intent)
            return self._keep_open(intent)
        self._follow(intent, opened)
        for place in opened.places:
            if place.is_beside:
                hide_metadata(self.folders, self.folders.get(place.folder), place.name)
        if opened.places and self._settle_arrivals(intent, opened.places):
            settle_aside(self.folders, self._trash_fd, intent, self._is_here(intent))
            self._erase_rest(intent)
            return self._keep_open(intent)
        return self.clean_up(intent, opened.places, None)

    def finish_hidden(self, intent: Intent) -> None:
        """Rename the folders out of sight whose metadata is hidden; one in which a pull has begun is left to that."""
        hexadecimal = hex_of(intent.digest)
        for number, copy in enumerate(intent.all_copies):
            parent_fd = self.folders.find(copy.parent)
            if parent_fd is None:
                continue
            try:
                self.filesystem.stat(
                    f"{hexadecimal}/{HIDDEN_METADATA}", dir_fd=parent_fd, follow_symlinks=False
                )
            except (FileNotFoundError, NotADirectoryError):
                continue
            if exists(self.filesystem, parent_fd, f"{hexadecimal}/{METADATA}"):
                show_metadata(self.folders, parent_fd, hexadecimal)
            else:
                self._rename_aside(intent, number, parent_fd, hexadecimal)
        for place in find_places(self.filesystem, self.data_fd, intent):
            if place.is_beside and self._is_of_pull(place, self.folders.get(place.folder)):
                put_back(self.folders, intent, (place,))

    def _follow(self, intent: Intent, opened: _Opened) -> None:
        """Rename the owners' own folders that are still in place after their content."""
        standing = {place.number for place in opened.places}
        for number, copy in enumerate(intent.all_copies):
            if number in standing or not copy.repository or not copy.inode or not intent.is_content:
                continue
            parent_fd = self.folders.find(copy.parent)
            if parent_fd is not None and self._is_inode(parent_fd, hex_of(intent.digest), copy.inode):
                opened.places.append(self._rename(intent, number, parent_fd, hex_of(intent.digest), ()))
        opened.places.sort(key=lambda place: place.number)

    def _keep_open(self, intent: Intent) -> Kept:
        """Keep an image that somebody has open; its time starts again when it is next found unused."""
        for key in intent.keys:
            clear_state(self.filesystem, self.data_fd, key)
        return Kept(intent.keys[0], Reason.OPEN, intent.keys if intent.others else ())

    def clean_up(
        self, intent: Intent, places: Sequence[Place], held: Mapping[str, HeldState] | None
    ) -> Retired:
        """Remove the tags and the timers of an image that is out of the cache; without `held`, in a recovery."""
        faults: list[tuple[str, str]] = []
        is_here = self._is_here(intent)
        settled: tuple[object, ...] = ()
        found = TakenLinks((), ())
        try:
            if held is None:
                settled = settle_aside(self.folders, self._trash_fd, intent, is_here)
            found = take_links(self.folders, self._trash_fd, intent, is_here)
            faults.extend(found.faults)
        except OSError as error:
            faults.append((IMAGES, os.strerror(error.errno or 0)))
        links = (*found.taken, *(link for link in intent.all_links if link in settled))
        for row in intent.rows:
            if self._lives_on(intent, row.repository):
                continue
            try:
                self._remove_state(intent, row.repository, row.unused_since_ns, held)
            except OSError as error:
                state = f"state of {row.repository}@{intent.digest}"
                faults.append((state, os.strerror(error.errno or 0)))
        self._touched |= repositories_of(intent)
        ordered = sorted(places, key=lambda place: place.copy.repository != "")
        if not ordered:
            ordered = [place_in_trash(intent, number=len(intent.all_copies) - 1)]
        return Retired(
            ordered[0],
            intent.tags_of(intent.repository, links),
            tuple(faults),
            tuple(ordered[1:]),
            links,
        )

    def _lives_on(self, intent: Intent, repository: str) -> bool:
        """Return whether a row goes on as one of the content that stands beside its own folder, with its timer."""
        if intent.is_content or intent.beside != "ready":
            return False
        content_fd = self.folders.find(f"{IMAGES}/{CONTENT}")
        return (
            content_fd is not None
            and exists(self.filesystem, content_fd, hex_of(intent.digest))
            and any(
                self._is_seen(link) for link in intent.all_links if link.tag in intent.tags_of(repository)
            )
        )

    def _is_seen(self, link: Link) -> bool:
        """Return whether nothing shadows a tag of the older layout."""
        path = f"{tag_folder(Layout.CONTENT, link.repository)}/{link.tag}"
        try:
            return link.layout is Layout.LEGACY and not exists(self.filesystem, self.data_fd, path)
        except NotADirectoryError:
            return True

    def _is_here(self, intent: Intent) -> Callable[[str], bool]:
        """Make what tells whether a repository's tags to this digest lead to something now."""
        hexadecimal = hex_of(intent.digest)

        def is_here(repository: str) -> bool:
            for parent in (f"{IMAGES}/{CONTENT}", f"{IMAGES}/{repository}"):
                try:
                    self.filesystem.stat(f"{parent}/{hexadecimal}", dir_fd=self.data_fd, follow_symlinks=False)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                return True
            return False

        return is_here

    def _remove_state(
        self, intent: Intent, repository: str, since_ns: int, held: Mapping[str, HeldState] | None
    ) -> None:
        """Remove the state that the intent names; what has come in its place since is another's."""
        key: Key = repository, intent.digest
        state = None if held is None else held.get(repository)
        if state is not None and state.is_still():
            state.remove()
        elif look_at_state(self.filesystem, self.data_fd, key) == since_ns:
            clear_state(self.filesystem, self.data_fd, key)

    def remove_empty_folders(self) -> None:
        """Remove the folders that were left empty by what has gone.

        Not those below `repositories/`: hypeman makes such a folder before it makes the tag in it, and a client that finds
        an image gone pulls it again in that very second.
        """
        self.folders.close()
        for repository in sorted(self._touched):
            with suppress(OSError):
                remove_empty_folders(self.filesystem, self.folders.get(IMAGES), repository)
            with suppress(OSError):
                remove_empty_state_folders(self.filesystem, self.data_fd, repository)

    def _hold_state(self, key: Key) -> HeldState | None:
        try:
            states_fd = self.folders.get(f"{RETENTION}/{key[0]}")
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise
        return hold_state(self.filesystem, states_fd, key)

    def _fd_of(self, place: Place, parent_fd: int) -> int:
        if not place.is_beside:
            return self._trash_fd
        return parent_fd if place.folder == place.copy.parent else self.folders.get(place.folder)

    def _is_inode(self, parent_fd: int, name: str, inode: int) -> bool:
        try:
            return self.filesystem.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_ino == inode
        except FileNotFoundError:
            return False
