"""Deleting images: the last look at each, the rename out of the cache, and what must follow it.

Every removal below `images/` begins here, a step at a time from its own descriptor, following no symbolic link, and
only of a folder that is a digest folder by its name, its metadata and its contents. Callers have a grip on the images
of a batch, and have looked at the references after they got it.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import groupby

import attrs

from hmret.disk.digest_folder import DigestFolder, open_digest_folder
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import let_go, make_folders, open_folder, opened, remove_empty_folders, step_into
from hmret.disk.grip import FIRM, Grip
from hmret.disk.layout import DIGEST_HEX, HIDDEN_METADATA, IMAGES, METADATA, RETENTION, hex_of
from hmret.disk.outcomes import Candidate, Chosen, Failed, Kept, LastLook, Outcome, Retired
from hmret.disk.state_files import (
    HeldState,
    clear_state,
    hold_state,
    look_at_state,
    remove_empty_state_folders,
)
from hmret.disk.tags import KnownTags, exists, find_tags, link_tags, remove_tags, settle_tags_aside
from hmret.disk.trash import Intent, Place, open_trash, place_beside, place_in_trash, write_intents
from hmret.model.images import Key
from hmret.model.verdicts import Reason

__all__ = ["finish", "retire"]

_TAKEN = frozenset((errno.EEXIST, errno.ENOTEMPTY))

# There is no folder of states, or a link in its place, which is not followed.
_NO_FOLDER = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))

# Repositories of a batch that are held open between the look at their tags and their turn; an embedding server may
# have few descriptors to spare.
_HELD_OPEN = 64


def retire(
    filesystem: Filesystem,
    data_fd: int,
    candidates: Sequence[Candidate],
    look: LastLook,
    *,
    token: str,
    grip: Grip = FIRM,
    tags: KnownTags | None = None,
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
        tags: what earlier batches of the same sweep have learned; None: this is the only one.
        stopping: asked before each image.
        pause: called after each image, so that other threads have their turn.
    """
    with ExitStack() as stack:
        batch = _Batch(filesystem, data_fd, look, stack, tags or KnownTags())
        try:
            intents = batch.announce(token, candidates)
        except OSError as error:
            return [Failed(candidate.key, IMAGES, error) for candidate in candidates], None
        outcomes: list[Outcome] = []
        for repository, group in groupby(intents, key=lambda intent: intent.repository):
            first = len(outcomes)
            done: set[str] = set()
            with batch.states_of(repository):
                for intent in group:
                    if stopping():
                        break
                    done.add(hex_of(intent.digest))
                    key = intent.repository, intent.digest
                    if not grip.begin(key):
                        continue
                    try:
                        outcomes.append(batch.retire(intent))
                    finally:
                        grip.end(key)
                    pause()
            outcomes[first:] = batch.settle_tags(repository, done, outcomes[first:])
            batch.leave(repository)
        return outcomes, batch.lease_error


def finish(filesystem: Filesystem, data_fd: int, place: Place) -> Outcome:
    """Finish a deletion that was cut off, or undo it where somebody has the disk open.

    The caller lets nobody else work on this image meanwhile.
    """
    intent = place.intent
    look = LastLook(frozenset(), 0, 0)
    with ExitStack() as stack:
        batch = _Batch(filesystem, data_fd, look, stack)
        try:
            return batch.finish(place)
        except OSError as error:
            key = intent.repository, intent.digest
            return Failed(key, f"{place.folder}/{place.name}", error, unfinished=True)


@attrs.define(eq=False)
class _Batch:
    """The open folders of one batch."""

    filesystem: Filesystem
    data_fd: int
    look: LastLook
    stack: ExitStack
    tags: KnownTags = attrs.field(factory=KnownTags)
    lease_error: OSError | None = None
    _images_fd: int = -1
    _trash_fd: int = -1
    _states_fd: int = -1
    """The folder of states of the repository that has its turn; -1: there is none."""
    _states_error: OSError | None = None
    """Why that folder could not be opened: then its images stay."""
    _open: dict[str, int] = attrs.field(factory=dict)
    """Repositories that are held open."""
    _retired_from: set[str] = attrs.field(factory=set)
    _unread: dict[str, OSError] = attrs.field(factory=dict)
    """Repositories whose tags could not be read: their images stay."""
    _chosen: dict[Key, Chosen] = attrs.field(factory=dict)
    """What each was chosen with, where that matters."""
    _retagged: set[Key] = attrs.field(factory=set)
    """Images that have other tags than they were chosen with: they stay."""

    def announce(self, token: str, candidates: Iterable[Candidate]) -> list[Intent]:
        """Write the intents of the batch; what is not here any more, or will stay, has one without tags."""
        intents: list[Intent] = []
        for repository, group in groupby(candidates, key=lambda candidate: candidate.repository):
            chosen = list(group)
            hexadecimals = {hex_of(candidate.digest) for candidate in chosen}
            decide = any(one.chosen is not None and one.chosen.tags is not None for one in chosen)
            tags = self._tags_of(repository, hexadecimals, afresh=decide)
            for one in chosen:
                name = f"{token}.{len(intents)}"
                pointing = tags.get(hex_of(one.digest), [])
                if one.chosen is not None:
                    self._chosen[one.key] = one.chosen
                    if one.chosen.tags is not None and sorted(pointing) != [*one.chosen.tags]:
                        self._retagged.add(one.key)
                intents.append(Intent(repository, one.digest, pointing, one.unused_since_ns, name))
        write_intents(self.filesystem, self.data_fd, token, intents)
        self._open_trash()
        return intents

    @contextmanager
    def states_of(self, repository: str) -> Iterator[None]:
        """Hold the folder of a repository's states open."""
        try:
            self._states_fd = step_into(self.filesystem, self.data_fd, f"{RETENTION}/{repository}")
        except OSError as error:
            self._states_error = None if error.errno in _NO_FOLDER else error
        try:
            yield
        finally:
            if self._states_fd >= 0:
                let_go(self.filesystem, self._states_fd)
            self._states_fd, self._states_error = -1, None

    def retire(self, intent: Intent) -> Outcome:
        """Take the last look at one image, and rename it out of the cache if it may go."""
        key = intent.repository, intent.digest
        state = None
        try:
            if key in self.look.protected:
                return Kept(key, Reason.REFERENCED)
            state = self._hold_state(key)
            if state is None:
                return Kept(key, Reason.NEWLY_UNUSED)
            since_ns = state.unused_since_ns
            if intent.repository in self._unread:
                raise self._unread[intent.repository]
            if (
                since_ns != intent.unused_since_ns
                or since_ns + self.look.unused_for_ns > self.look.now_ns
                or key in self._retagged
            ):
                return Kept(key, Reason.RETENTION_WINDOW)
            return self._rename_out(intent, key, state)
        except (FileNotFoundError, NotADirectoryError):
            return Kept(key, None)
        except OSError as error:
            return Failed(key, f"{IMAGES}/{intent.repository}/{hex_of(intent.digest)}", error)
        finally:
            if state is not None:
                state.close()

    def finish(self, place: Place) -> Outcome:
        """Finish a deletion, or put the image back where its disk is open and its place is free."""
        intent = place.intent
        with opened(self.filesystem, step_into(self.filesystem, self.data_fd, place.folder)) as fd:
            folder = open_digest_folder(self.filesystem, fd, place.name)
            is_open = False
            if folder is not None:
                try:
                    # What is not complete is being erased already: that disk is open through another hard link.
                    is_open = folder.is_complete and not self._lease(folder)
                finally:
                    folder.close()
            if is_open and self._put_back(intent, fd, place.name, restored_tags=intent.tags):
                return self._keep_open((intent.repository, intent.digest))
            if place.is_beside:
                self._hide(fd, place.name)
        retired = self._clean_up(place, held=None)
        self.leave(intent.repository)
        return retired

    def _rename_out(self, intent: Intent, key: Key, state: HeldState) -> Outcome:
        hexadecimal = hex_of(intent.digest)
        repository_fd = self._repository(intent.repository)
        folder = open_digest_folder(self.filesystem, repository_fd, hexadecimal)
        if folder is None:
            return Kept(key, Reason.BROKEN)
        try:
            if not self._lease(folder):
                return self._keep_open(key)
            reason = self._judge(folder, key)
            if reason is not None:
                return Kept(key, reason)
            place, place_fd = self._move(intent, repository_fd, tuple(folder.descriptors))
            try:
                is_back = self._came_between(folder, place, place_fd) and self._put_back(
                    intent, place_fd, place.name
                )
                if not is_back and place.is_beside:
                    self._hide(repository_fd, place.name)
            except OSError as error:
                return Failed(key, f"{place.folder}/{place.name}", error, unfinished=True)
        finally:
            folder.close()
        if is_back:
            return self._keep_open(key)
        return self._clean_up(place, held=state)

    def _judge(self, folder: DigestFolder, key: Key) -> Reason | None:
        """Say why an image may not be deleted, by what its folder holds and what it says of itself; None: it may."""
        reason = folder.judge(key[0], hex_of(key[1]))
        chosen = self._chosen.get(key)
        if reason is None and chosen is not None and folder.image is not None:
            return None if chosen.is_still(folder.image) else Reason.RETENTION_WINDOW
        return reason

    def _came_between(self, folder: DigestFolder, place: Place, place_fd: int) -> bool:
        """Tell whether anybody opened or changed the folder between the last look and the rename, or might have."""
        try:
            return not folder.is_still(place_fd, place.name)
        except OSError:
            return True

    def _keep_open(self, key: Key) -> Kept:
        """Keep an image that somebody has open; its time starts again when it is next found unused."""
        clear_state(self.filesystem, self.data_fd, key)
        return Kept(key, Reason.OPEN)

    def _lease(self, folder: DigestFolder) -> bool:
        """Take the kernel's word that nobody has any of the files open; False where somebody has."""
        is_free = folder.lease()
        if folder.refusals:
            self.lease_error = folder.refusals[0]
        return is_free

    def _move(self, intent: Intent, repository_fd: int, files: tuple[str, ...]) -> tuple[Place, int]:
        """Rename a digest folder into the trash, or beside itself where that is another file system."""
        in_trash = place_in_trash(intent, files)
        hexadecimal = hex_of(intent.digest)
        if not DIGEST_HEX.fullmatch(hexadecimal):
            raise OSError(errno.EINVAL, "not the name of a digest folder")
        try:
            self.filesystem.rename(
                hexadecimal, in_trash.name, src_dir_fd=repository_fd, dst_dir_fd=self._trash_fd
            )
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            beside = place_beside(intent, files)
            self.filesystem.rename(
                hexadecimal, beside.name, src_dir_fd=repository_fd, dst_dir_fd=repository_fd
            )
            return beside, repository_fd
        return in_trash, self._trash_fd

    def _put_back(self, intent: Intent, place_fd: int, name: str, restored_tags: Sequence[str] = ()) -> bool:
        """Rename an image back to where it was; False where a fresh one has come there meanwhile.

        Its tags are made first, where nothing has taken their names: cut off in between, all this is done again.
        """
        path = f"{IMAGES}/{intent.repository}"
        hexadecimal = hex_of(intent.digest)
        with opened(self.filesystem, make_folders(self.filesystem, self.data_fd, path)) as repository_fd:
            if restored_tags and exists(self.filesystem, repository_fd, hexadecimal):
                return False
            if restored_tags:
                link_tags(self.filesystem, repository_fd, hexadecimal, restored_tags)
                settle_tags_aside(self.filesystem, repository_fd, hexadecimal)
            try:
                self.filesystem.rename(name, hexadecimal, src_dir_fd=place_fd, dst_dir_fd=repository_fd)
            except OSError as error:
                if error.errno in _TAKEN:
                    return False
                raise
        return True

    def _hide(self, repository_fd: int, name: str) -> None:
        """Hide the metadata of a folder that had to stay below `images/`: nobody then takes it for an image."""
        with (
            suppress(FileNotFoundError),
            opened(self.filesystem, open_folder(self.filesystem, name, repository_fd)) as fd,
        ):
            self.filesystem.rename(METADATA, HIDDEN_METADATA, src_dir_fd=fd, dst_dir_fd=fd)

    def _clean_up(self, place: Place, held: HeldState | None) -> Retired:
        """Remove the tags and the state of an image that is out of the cache; without `held`, in a recovery."""
        intent = place.intent
        path = f"{IMAGES}/{intent.repository}"
        hexadecimal = hex_of(intent.digest)
        faults: list[tuple[str, str]] = []
        tags: list[str] = []
        try:
            repository_fd = self._repository(intent.repository)
            names: Iterable[str] = intent.tags
            if held is None:
                names = find_tags(self.filesystem, repository_fd, (hexadecimal,)).get(hexadecimal, ())
                settle_tags_aside(self.filesystem, repository_fd, hexadecimal)
            tags, unremoved = remove_tags(self.filesystem, repository_fd, hexadecimal, names)
            faults.extend((f"{path}/{tag}", error) for tag, error in unremoved)
        except FileNotFoundError:
            pass
        except OSError as error:
            faults.append((path, os.strerror(error.errno or 0)))
        try:
            self._remove_state(intent, held)
        except OSError as error:
            faults.append((f"state of {intent.repository}@{intent.digest}", os.strerror(error.errno or 0)))
        self._retired_from.add(intent.repository)
        return Retired(place, tuple(tags), tuple(faults))

    def _remove_state(self, intent: Intent, held: HeldState | None) -> None:
        """Remove the state that the intent names; what has come in its place since is another's."""
        key = intent.repository, intent.digest
        if held is not None and held.is_still():
            held.remove()
        elif look_at_state(self.filesystem, self.data_fd, key) == intent.unused_since_ns:
            clear_state(self.filesystem, self.data_fd, key)

    def settle_tags(self, repository: str, done: set[str], outcomes: list[Outcome]) -> list[Outcome]:
        """Remove what has come to point to the images of a repository since its tags were read for many batches.

        Returns the outcomes, the last that has gone with the faults of this.
        """
        gone = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Retired)]
        hexadecimals = {hex_of(outcomes[number].key[1]) for number in gone}
        path = f"{IMAGES}/{repository}"
        try:
            faults = self.tags.leave(
                self.filesystem, lambda: self._repository(repository), repository, done, hexadecimals
            )
        except FileNotFoundError:
            return outcomes
        except OSError as error:
            faults = [("", os.strerror(error.errno or 0))]
        if faults and gone:
            last = outcomes[gone[-1]]
            assert isinstance(last, Retired)
            told = tuple((f"{path}/{tag}".rstrip("/"), error) for tag, error in faults)
            outcomes[gone[-1]] = attrs.evolve(last, faults=last.faults + told)
        return outcomes

    def leave(self, repository: str) -> None:
        """Let go of a repository, and remove the folders that were left empty by what has gone from it."""
        if repository in self._open:
            let_go(self.filesystem, self._open.pop(repository))
        if repository in self._retired_from:
            with suppress(OSError):
                remove_empty_folders(self.filesystem, self._open_images(), repository)
            with suppress(OSError):
                remove_empty_state_folders(self.filesystem, self.data_fd, repository)

    def _hold_state(self, key: Key) -> HeldState | None:
        if self._states_error is not None:
            raise self._states_error
        return None if self._states_fd < 0 else hold_state(self.filesystem, self._states_fd, key)

    def _tags_of(self, repository: str, hexadecimals: set[str], *, afresh: bool) -> Mapping[str, list[str]]:
        """Find the tags of some images; `afresh`: whatever an earlier batch has learned of them, as they decide."""
        try:
            repository_fd = self._repository(repository)
            tags = self.tags.find(self.filesystem, repository_fd, repository, hexadecimals)
            return find_tags(self.filesystem, repository_fd, hexadecimals) if afresh else tags
        except OSError as error:
            self._unread[repository] = error
            return {}

    def _repository(self, name: str) -> int:
        """Open a repository, or hand out the descriptor that is open; it lasts until another is asked for."""
        fd = self._open.get(name)
        if fd is None:
            if len(self._open) >= _HELD_OPEN:
                # Those that were opened first have their turn first.
                let_go(self.filesystem, self._open.popitem()[1])
            fd = self._open[name] = step_into(self.filesystem, self._open_images(), name)
        return fd

    def _open_images(self) -> int:
        if self._images_fd < 0:
            self._images_fd = step_into(self.filesystem, self.data_fd, IMAGES)
            self.stack.callback(let_go, self.filesystem, self._images_fd)
            self.stack.callback(self._let_go_repositories)
        return self._images_fd

    def _let_go_repositories(self) -> None:
        while self._open:
            let_go(self.filesystem, self._open.popitem()[1])

    def _open_trash(self) -> None:
        self._trash_fd = open_trash(self.filesystem, self.data_fd)
        self.stack.callback(let_go, self.filesystem, self._trash_fd)
