"""Restoring an image from quarantine, and resolving interrupted restores.

The rename back is the moment at which the image is restored. Its timers and tags are made before. After a
crash before the rename, the image is in quarantine as it was, and what was made for it is undone, at once or
at the next start; after a crash that comes later, the next start does the rest.
"""

import errno
from collections.abc import Callable, Mapping
from contextlib import closing, suppress

import attrs
import msgspec

from hmret.disk.deletion.cleaning import is_here
from hmret.disk.deletion.digest_folder import open_digest_folder
from hmret.disk.deletion.folder_renames import (
    hide_metadata,
    is_hidden_in_place,
    rename_back,
    show_metadata,
)
from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.deletion.putting_back import follow
from hmret.disk.deletion.recovery.quarantine import QuarantineContents, load_held, main_place, release
from hmret.disk.deletion.recovery.quarantine_records import HeldImage, drop_records
from hmret.disk.deletion.tags.links import make_links, remove_made_links, resolve_parked_beside
from hmret.disk.deletion.trash.erasing import erase
from hmret.disk.deletion.trash.intents import Link, TrashEntry, find_entries
from hmret.disk.deletion.trash.wholeness import check_layers
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import exists, remove_empty_repositories
from hmret.disk.hypeman.retention_states.rereading import look_at_state
from hmret.disk.hypeman.retention_states.writing import clear_state, write_states
from hmret.disk.hypeman.scan import resolve_tag
from hmret.disk.layout import CONTENT, HIDDEN_METADATA, IMAGES, METADATA, RETENTION, hex_of
from hmret.model.references import Key
from hmret.model.values import define, frozen

_NO_IMAGE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))


@frozen
class Restoration:
    """What came back with an image."""

    tags: Mapping[str, tuple[str, ...]]
    """By repository: the tags that went with it and point to it now."""
    tags_elsewhere: Mapping[str, tuple[str, ...]]
    """By repository: the tags that went with it but point elsewhere now, and continue to."""


def restore(filesystem: Filesystem, data_fd: int, held: HeldImage, unused_since_ns: int) -> Restoration:
    """Restore an image whole, with those of its tags whose names are free; its timers start at `unused_since_ns`.

    The caller makes sure that nothing else works on this image, or writes its record. When this returns, no
    power loss takes the image away again.

    Raises:
        LookupError: it is no longer in quarantine, or not complete.
        FileExistsError: it is in the cache already, and stays as it is.
        LayersGoneError: a layer that it needs has gone.
        OSError: it could not be restored, and is in quarantine as before.
    """
    with closing(OpenFolders(filesystem, data_fd)) as folders:
        place = _find_whole(folders, held)
        restoring = _Restoring(folders, held, place, unused_since_ns)
        try:
            try:
                return restoring.put_back()
            except FileNotFoundError:
                # A thread that deleted the last other image of the repository at this moment has removed its
                # folder.
                return restoring.put_back()
        except OSError:
            restoring.undo()
            raise


def recover_quarantine(
    filesystem: Filesystem,
    data_fd: int,
    *,
    stopping: Callable[[], bool] = lambda: False,
    pause: Callable[[], None] = lambda: None,
) -> QuarantineContents:
    """Read what is in quarantine, finish interrupted releases, and undo or finish interrupted restores.

    Nothing else works on it concurrently. Returns what is held then, and what is still to be erased.

    Raises:
        OSError: the trash cannot be listed.
    """
    found = load_held(filesystem, data_fd)
    errors = list(found.errors)
    with closing(OpenFolders(filesystem, data_fd)) as folders:
        for held in (*found.vanished, *found.back, *found.held):
            try:
                _recover(folders, held, is_held=held in found.held)
            except OSError as error:
                errors.append((f"{IMAGES}/{held.repository}", error.strerror or str(error)))
            pause()
    freed = release(filesystem, data_fd, found.erasing, stopping=stopping, pause=pause)
    left = tuple(held for held, done in zip(found.erasing, freed.done, strict=True) if not done)
    # Images that were erased beside their place may have left empty folders.
    remove_empty_repositories(filesystem, data_fd, {held.repository for held in found.vanished})
    done = (*found.vanished, *found.back, *found.erasing)
    drop_records(filesystem, data_fd, {held.batch_name for held in done})
    errors += ((place.path, error) for place, error in freed.errors)
    return QuarantineContents(found.held, left, (), tuple(errors), sum(freed.disk_bytes))


def _recover(folders: OpenFolders, held: HeldImage, *, is_held: bool) -> None:
    """Resolve the remains of an interrupted restore of one image."""
    for number, copy in enumerate(held.copies):
        # The restore was interrupted right after the rename back.
        if is_hidden_in_place(folders, held, number):
            show_metadata(folders, copy.parent, hex_of(held.digest))
    if not is_held:
        _follow_back(folders, held)
    # guard(cut-off-restore-is-undone): What a restore that a crash cut off has made, such as tags that lead
    # nowhere, is undone; the image stays in quarantine.
    elif _may_be_cut_off(folders, held):
        _undo_cut_off(folders, held)


def _find_whole(folders: OpenFolders, held: HeldImage) -> TrashEntry:
    """Return the folder of an image in quarantine, which must be that image by its metadata and its files.

    Raises:
        LookupError: it does not exist, or something else is in its place.
        LayersGoneError: a layer that it needs has gone.
        OSError: that could not be determined.
    """
    filesystem, data_fd = folders.filesystem, folders.data_fd
    place = main_place(held, find_entries(filesystem, data_fd, held))
    # guard(restore-the-right-image): Only the image that was retired is restored; whatever else stands in its
    # place in the trash is left alone.
    if place is None or not _is_that_image(folders, held, place):
        raise LookupError(f"{held.repository}@{held.digest}: not in quarantine any more")
    check_layers(filesystem, data_fd, folders.get(place.folder), place.name)
    return place


def _is_that_image(folders: OpenFolders, held: HeldImage, place: TrashEntry) -> bool:
    filesystem, place_fd = folders.filesystem, folders.get(place.folder)
    try:
        metadata = METADATA if exists(filesystem, place_fd, f"{place.name}/{METADATA}") else HIDDEN_METADATA
        folder = open_digest_folder(filesystem, place_fd, place.name, metadata_name=metadata)
    except OSError as error:
        if error.errno not in _NO_IMAGE:
            raise
        return False
    try:
        return folder.judge(place.copy.repository or None, hex_of(held.digest)) is None
    finally:
        folder.close()


@define(eq=False)
class _Restoring:
    """One image that is being restored."""

    folders: OpenFolders
    held: HeldImage
    place: TrashEntry
    unused_since_ns: int
    _made_links: list[Link] = attrs.field(factory=list)
    _earlier: dict[Key, int | None] = attrs.field(factory=dict)
    """The timers that its rows had, where new ones have replaced them."""

    def put_back(self) -> Restoration:
        """Restore it.

        Raises:
            FileExistsError: it is in the cache already.
            OSError: it could not be restored.
        """
        folders, held, parent = self.folders, self.held, self.place.parent
        if folders.exists(f"{parent}/{hex_of(held.digest)}"):
            raise _here_already()
        # First of all, since the timers tell recovery that there may be more to undo.
        # guard(restore-starts-a-timer): A restored image starts a whole window: an old timer must not make it
        # due. The timer also shows what a crash has left.
        self._write_states()
        make_links(folders, held.links, self._made_links)
        # guard(restored-tags-survive-power-loss): The tags are on the disk before the image returns: a file
        # system that syncs one folder alone, such as btrfs, could lose them otherwise.
        for folder in dict.fromkeys(link.parent for link in self._made_links):
            folders.filesystem.fsync(folders.get(folder))
        # hypeman may pull it at any moment.
        if not rename_back(folders, self.place):
            raise _here_already()
        # guard(back-before-record-goes): Power may fail during a restore: the record of the image goes only
        # after its return is on the disk, or it could be lost.
        with suppress(OSError):
            # Only after this sync may its record be removed.
            folders.filesystem.fsync(folders.get(parent))
            folders.filesystem.fsync(folders.get(self.place.folder))
            _follow_back(folders, held)
            drop_records(folders.filesystem, folders.data_fd, (held.batch_name,))
        return self._tags_now()

    def undo(self) -> None:
        """Remove what was made for it, unless it is back; what cannot be removed is left to the next start."""
        folders = self.folders
        with suppress(OSError):
            self._take_out_again()
        try:
            _hide_again(folders, self.held)
            remove_made_links(folders, self._made_links, is_here(folders, self.held))
            if not _has_come(folders, self.held):
                _remove_empty_folders(folders, self.held)
        except OSError:
            # guard(timers-tell-what-is-left): By the timers the next start knows that something is left to undo.
            return
        for key, since_ns in self._earlier.items():
            with suppress(OSError):
                # A fresh pull in between does not inherit this timer.
                if look_at_state(folders.filesystem, folders.data_fd, key) == self.unused_since_ns:
                    clear_state(folders.filesystem, folders.data_fd, key)
                if since_ns is not None:
                    write_states(folders.filesystem, folders.data_fd, (key,), since_ns)

    def _take_out_again(self) -> None:
        """Rename it aside again where its metadata could not be made visible in its place."""
        if is_hidden_in_place(self.folders, self.held, self.place.number):
            place = self.place
            self.folders.rename(place.parent, hex_of(self.held.digest), place.folder, place.name)

    def _write_states(self) -> None:
        """Start its timers, durably: an older one must not come back with it."""
        folders = self.folders
        for key in self.held.keys:
            self._earlier.setdefault(key, look_at_state(folders.filesystem, folders.data_fd, key))
        for _, error in write_states(
            folders.filesystem, folders.data_fd, self._earlier, self.unused_since_ns, durable=True
        ):
            raise error

    def _tags_now(self) -> Restoration:
        back: dict[str, tuple[str, ...]] = {}
        tags_elsewhere: dict[str, tuple[str, ...]] = {}
        for repository, digest in self.held.keys:
            tags = self.held.tags_of(repository)
            here = tuple(tag for tag in tags if self._target(repository, tag) == digest)
            elsewhere = tuple(tag for tag in tags if tag not in here)
            back |= {repository: here} if here else {}
            tags_elsewhere |= {repository: elsewhere} if elsewhere else {}
        return Restoration(back, tags_elsewhere)

    def _target(self, repository: str, tag: str) -> str | None:
        try:
            return resolve_tag(self.folders.filesystem, self.folders.get(IMAGES), repository, tag)
        except OSError:
            return None


def _here_already() -> FileExistsError:
    return FileExistsError(errno.EEXIST, "in the cache already")


def _follow_back(folders: OpenFolders, held: HeldImage) -> None:
    """Put the owners' own folders back after their content; one whose place is taken is erased.

    Raises:
        OSError: one could not be put back or erased.
    """
    filesystem, data_fd = folders.filesystem, folders.data_fd
    for place in find_entries(filesystem, data_fd, held):
        if not follow(folders, place):
            erase(filesystem, data_fd, place.folder, place.name)


def _undo_cut_off(folders: OpenFolders, held: HeldImage) -> None:
    """Undo the remains of a restore that a crash has cut off: visible metadata, tags, timers, and empty folders.

    Whatever belongs to an image in the cache stays.

    Raises:
        OSError: something is left.
    """
    _hide_again(folders, held)
    # The timers are made first and removed last: without one, there is nothing else.
    if not _has_state(folders, held):
        return
    # It is not on record which tags it has made.
    links = [msgspec.structs.replace(link, inode=0) for link in held.links]
    # guard(tags-of-new-image-stay): Where the digest has come in the meantime, tags may have come with it, or show
    # that the rest of the image is wanted.
    if _has_come(folders, held):
        resolve_parked_beside(folders, links, is_here(folders, held))
        return
    # guard(tags-before-timers): The timers show that a restore was cut off, so they go last; a second crash
    # must not leave tags behind.
    remove_made_links(folders, links, is_here(folders, held))
    _remove_empty_folders(folders, held)
    for key in held.keys:
        clear_state(folders.filesystem, folders.data_fd, key)


def _hide_again(folders: OpenFolders, held: HeldImage) -> None:
    """Hide the metadata of folders that are set aside beside their place."""
    for place in find_entries(folders.filesystem, folders.data_fd, held):
        if place.is_aside:
            hide_metadata(folders, place.folder, place.name)


def _remove_empty_folders(folders: OpenFolders, held: HeldImage) -> None:
    """Remove what was made for its tags and timers and is empty now."""
    folders.close()
    remove_empty_repositories(folders.filesystem, folders.data_fd, held.repositories)


def _has_come(folders: OpenFolders, held: HeldImage) -> bool:
    """Return whether its place, or that of one of its folders, has an image that came after its deletion."""
    hexadecimal = hex_of(held.digest)
    for parent in (f"{IMAGES}/{CONTENT}", *(f"{IMAGES}/{name}" for name in sorted(held.repositories))):
        inode = folders.inode(f"{parent}/{hexadecimal}")
        if inode is not None and all((copy.parent, copy.inode) != (parent, inode) for copy in held.staying):
            return True
    return False


def _may_be_cut_off(folders: OpenFolders, held: HeldImage) -> bool:
    """Return whether a restore may have left something: a quick check, which nearly always says no."""
    places = find_entries(folders.filesystem, folders.data_fd, held)
    return _has_state(folders, held) or any(place.is_aside for place in places)


def _has_state(folders: OpenFolders, held: HeldImage) -> bool:
    return any(
        folders.exists(f"{RETENTION}/{repository}/{hex_of(digest)}.json") for repository, digest in held.keys
    )
