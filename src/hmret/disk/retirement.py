"""Deleting images: the last look at each, the rename out of the cache, and what must follow it.

Every removal below `images/` happens here, a step at a time from its own descriptor, following no symbolic link, and
only to a folder that is a digest folder by its name, its metadata and its contents. Callers hold the locks of all
images of a batch, and have looked at the references after they got them.
"""

import errno
import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Set as AbstractSet
from contextlib import ExitStack, suppress

import attrs

from hmret.disk.digest_folder import DigestFolder, open_digest_folder
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import let_go, make_folders, open_folder, opened, remove_empty_folders, step_into
from hmret.disk.image_scan import read_tags
from hmret.disk.layout import DIGEST_HEX, IMAGES, METADATA, hex_of
from hmret.disk.state_files import clear_state, look_at_state
from hmret.disk.trash import Intent, Place, open_trash, places_of, write_intents
from hmret.model.images import Key
from hmret.model.verdicts import Reason

__all__ = ["Candidate", "Failed", "Kept", "LastLook", "Outcome", "Retired", "finish", "retire"]

_ASIDE = ".hmret-tag-"
"""Begins the name of a tag while it is removed; no scan looks at such names."""

_TAKEN = frozenset((errno.EEXIST, errno.ENOTEMPTY))


@attrs.frozen(order=True)
class Candidate:
    """An image that a plan wants deleted."""

    repository: str
    digest: str
    unused_since_ns: int

    @property
    def key(self) -> Key:
        """The image."""
        return self.repository, self.digest


@attrs.frozen
class LastLook:
    """What a batch is judged by, right before it goes."""

    protected: AbstractSet[Key]
    """Referenced, as found after the locks were got."""
    unused_for_ns: int
    now_ns: int


@attrs.frozen
class Retired:
    """An image that is out of the cache; its bytes wait in the trash."""

    place: Place
    tags: tuple[str, ...]
    """The tags that went with it."""
    faults: tuple[tuple[str, str], ...] = ()
    """Paths of what should have gone with it and did not, and why."""

    @property
    def key(self) -> Key:
        """The image."""
        return self.place.intent.repository, self.place.intent.digest


@attrs.frozen
class Kept:
    """An image that stays after all."""

    key: Key
    reason: Reason | None
    """None: it has gone by itself."""


@attrs.frozen
class Failed:
    """An image whose deletion failed; it is whole, and in its place unless it is `unfinished`."""

    key: Key
    path: str
    error: OSError
    unfinished: bool = False
    """Whether it stands in the trash, where the next recovery finishes or undoes its deletion."""


Outcome = Retired | Kept | Failed


def retire(
    filesystem: Filesystem,
    data_fd: int,
    candidates: Sequence[Candidate],
    look: LastLook,
    *,
    token: str,
    stopping: Callable[[], bool] = lambda: False,
) -> tuple[list[Outcome], OSError | None]:
    """Rename the images of a batch out of the cache, those that still may go.

    Returns what became of each that was come to before it was told to stop, and the error with which leases are
    refused here, None where they are offered.
    """
    with ExitStack() as stack:
        batch = _Batch(filesystem, data_fd, look, stack)
        try:
            intents = batch.announce(token, candidates)
        except OSError as error:
            return [Failed(candidate.key, IMAGES, error) for candidate in candidates], None
        outcomes: list[Outcome] = []
        for intent in intents:
            if stopping():
                break
            outcomes.append(batch.retire(intent))
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
    lease_error: OSError | None = None
    _images_fd: int = -1
    _trash_fd: int = -1
    _repositories: dict[str, tuple[int, Mapping[str, list[str]]]] = attrs.field(factory=dict)
    _unread: dict[str, OSError] = attrs.field(factory=dict)
    """Repositories whose tags could not be read: their images stay."""

    def announce(self, token: str, candidates: Iterable[Candidate]) -> list[Intent]:
        """Write the intents of the batch; what is not here any more, or will stay, has one without tags."""
        intents = []
        for number, candidate in enumerate(candidates):
            try:
                tags = self._repository(candidate.repository)[1].get(candidate.digest, [])
            except OSError as error:
                self._unread[candidate.repository] = error
                tags = []
            name = f"{token}.{number}"
            intents.append(
                Intent(candidate.repository, candidate.digest, tags, candidate.unused_since_ns, name)
            )
        write_intents(self.filesystem, self.data_fd, token, intents)
        self._open_trash()
        return intents

    def retire(self, intent: Intent) -> Outcome:
        """Take the last look at one image, and rename it out of the cache if it may go."""
        key = intent.repository, intent.digest
        try:
            if key in self.look.protected:
                return Kept(key, Reason.REFERENCED)
            since_ns = look_at_state(self.filesystem, self.data_fd, key)
            if since_ns is None:
                return Kept(key, Reason.NEWLY_UNUSED)
            if since_ns != intent.unused_since_ns or since_ns + self.look.unused_for_ns > self.look.now_ns:
                return Kept(key, Reason.RETENTION_WINDOW)
            if intent.repository in self._unread:
                raise self._unread[intent.repository]
            return self._rename_out(intent, key)
        except (FileNotFoundError, NotADirectoryError):
            return Kept(key, None)
        except OSError as error:
            return Failed(key, f"{IMAGES}/{intent.repository}/{hex_of(intent.digest)}", error)

    def finish(self, place: Place) -> Outcome:
        """Finish a deletion, or put the image back where its disk is open and its place is free."""
        intent = place.intent
        with opened(self.filesystem, step_into(self.filesystem, self.data_fd, place.folder)) as fd:
            with ExitStack() as leases:
                folder = open_digest_folder(self.filesystem, fd, place.name, leases)
                # What is not complete is being erased already: that disk is open through another hard link.
                is_open = folder is not None and folder.is_complete and not self._lease(folder)
            if is_open and self._put_back(intent, fd, place.name, restored_tags=intent.tags):
                return self._keep_open((intent.repository, intent.digest))
            if place == places_of(intent)[1]:
                self._hide(fd, place.name)
        return self._clean_up(place, is_finishing=True)

    def _rename_out(self, intent: Intent, key: Key) -> Outcome:
        hexadecimal = hex_of(intent.digest)
        repository_fd = self._repository(intent.repository)[0]
        with ExitStack() as leases:
            folder = open_digest_folder(self.filesystem, repository_fd, hexadecimal, leases)
            if folder is None:
                return Kept(key, Reason.BROKEN)
            if not self._lease(folder):
                return self._keep_open(key)
            reason = folder.judge(intent.repository, hexadecimal)
            if reason is not None:
                return Kept(key, reason)
            place, place_fd = self._move(intent, repository_fd)
            try:
                is_back = self._came_between(folder, place, place_fd) and self._put_back(
                    intent, place_fd, place.name
                )
                if not is_back and place == places_of(intent)[1]:
                    self._hide(repository_fd, place.name)
            except OSError as error:
                return Failed(key, f"{place.folder}/{place.name}", error, unfinished=True)
        if is_back:
            return self._keep_open(key)
        return self._clean_up(place, is_finishing=False)

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

    def _move(self, intent: Intent, repository_fd: int) -> tuple[Place, int]:
        """Rename a digest folder into the trash, or beside itself where that is another file system."""
        in_trash, beside = places_of(intent)
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
            if restored_tags and self._exists(repository_fd, hexadecimal):
                return False
            if restored_tags:
                self._link(repository_fd, hexadecimal, restored_tags)
                self._settle_tags_aside(repository_fd, hexadecimal)
            try:
                self.filesystem.rename(name, hexadecimal, src_dir_fd=place_fd, dst_dir_fd=repository_fd)
            except OSError as error:
                if error.errno in _TAKEN:
                    return False
                raise
        return True

    def _hide(self, repository_fd: int, name: str) -> None:
        """Remove the metadata of a folder that had to stay below `images/`: nobody then takes it for an image."""
        with (
            suppress(FileNotFoundError),
            opened(self.filesystem, open_folder(self.filesystem, name, repository_fd)) as fd,
        ):
            self.filesystem.unlink(METADATA, dir_fd=fd)

    def _clean_up(self, place: Place, *, is_finishing: bool) -> Retired:
        """Remove the tags and the state of an image that is out of the cache, and the folders left empty."""
        intent = place.intent
        key = intent.repository, intent.digest
        faults: list[tuple[str, str]] = []
        tags: list[str] = []
        try:
            repository_fd, known = self._repository(intent.repository)
            names: Iterable[str] = intent.tags
            if is_finishing:
                names = known.get(intent.digest, [])
                self._settle_tags_aside(repository_fd, hex_of(intent.digest))
            tags = self._remove_tags(repository_fd, intent, names, faults)
        except FileNotFoundError:
            pass
        except OSError as error:
            faults.append((f"{IMAGES}/{intent.repository}", os.strerror(error.errno or 0)))
        try:
            if look_at_state(self.filesystem, self.data_fd, key) == intent.unused_since_ns:
                clear_state(self.filesystem, self.data_fd, key)
        except OSError as error:
            faults.append((f"state of {intent.repository}@{intent.digest}", os.strerror(error.errno or 0)))
        self._tidy(intent.repository)
        return Retired(place, tuple(tags), tuple(faults))

    def _remove_tags(
        self, repository_fd: int, intent: Intent, tags: Iterable[str], faults: list[tuple[str, str]]
    ) -> list[str]:
        """Remove the tags that still point to a digest, while its folder is absent."""
        hexadecimal = hex_of(intent.digest)
        removed: list[str] = []
        for tag in tags:
            try:
                if self.filesystem.readlink(tag, dir_fd=repository_fd) != hexadecimal:
                    continue
                if self._exists(repository_fd, hexadecimal):
                    break
                # Set aside first: between the look and now it may have been moved to another image.
                self.filesystem.rename(tag, _ASIDE + tag, src_dir_fd=repository_fd, dst_dir_fd=repository_fd)
                if self._settle_tag(repository_fd, tag, hexadecimal):
                    removed.append(tag)
            except OSError as error:
                # One that is gone, or is no link any more, has been taken by somebody.
                if error.errno not in (errno.ENOENT, errno.EINVAL):
                    faults.append((f"{IMAGES}/{intent.repository}/{tag}", os.strerror(error.errno or 0)))
        # hypeman may have pulled the digest again between the look and the removal: then its tags are wanted.
        if removed and self._exists(repository_fd, hexadecimal):
            self._link(repository_fd, hexadecimal, removed)
            return []
        return removed

    def _settle_tag(self, repository_fd: int, tag: str, hexadecimal: str) -> bool:
        """Remove a tag that was set aside, if it points to the digest and that is absent; else put it back.

        Tells whether it was removed.
        """
        aside = _ASIDE + tag
        try:
            target = self.filesystem.readlink(aside, dir_fd=repository_fd)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # A folder has taken the tag's name: it is not ours.
            self.filesystem.rename(aside, tag, src_dir_fd=repository_fd, dst_dir_fd=repository_fd)
            return False
        goes = target == hexadecimal and not self._exists(repository_fd, hexadecimal)
        if not goes:
            self._link(repository_fd, target, (tag,))
        self.filesystem.unlink(aside, dir_fd=repository_fd)
        return goes

    def _settle_tags_aside(self, repository_fd: int, hexadecimal: str) -> None:
        """Settle the tags that a crash left set aside."""
        with self.filesystem.scandir(repository_fd) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(_ASIDE)]
        for name in names:
            self._settle_tag(repository_fd, name.removeprefix(_ASIDE), hexadecimal)

    def _link(self, repository_fd: int, hexadecimal: str, tags: Iterable[str]) -> None:
        for tag in tags:
            with suppress(FileExistsError):
                self.filesystem.symlink(hexadecimal, tag, dir_fd=repository_fd)

    def _exists(self, repository_fd: int, hexadecimal: str) -> bool:
        try:
            self.filesystem.stat(hexadecimal, dir_fd=repository_fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _tidy(self, repository: str) -> None:
        with suppress(OSError):
            remove_empty_folders(self.filesystem, self._open_images(), repository)

    def _repository(self, name: str) -> tuple[int, Mapping[str, list[str]]]:
        """Open a repository and read its tags, once a batch."""
        known = self._repositories.get(name)
        if known is None:
            fd = step_into(self.filesystem, self._open_images(), name)
            self.stack.callback(let_go, self.filesystem, fd)
            known = self._repositories[name] = fd, read_tags(self.filesystem, fd)
        return known

    def _open_images(self) -> int:
        if self._images_fd < 0:
            self._images_fd = step_into(self.filesystem, self.data_fd, IMAGES)
            self.stack.callback(let_go, self.filesystem, self._images_fd)
        return self._images_fd

    def _open_trash(self) -> None:
        self._trash_fd = open_trash(self.filesystem, self.data_fd)
        self.stack.callback(let_go, self.filesystem, self._trash_fd)
