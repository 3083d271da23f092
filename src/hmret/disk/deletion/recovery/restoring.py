"""Bringing an image back from quarantine, and settling what a stop cut off there.

The rename back is what brings it back. Cut off before, the image is in quarantine as it was, and what was made for it (its
timers, its tags) is undone, here or at the next start; cut off after it, the rest follows at the next start.
"""

import errno
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress

import attrs

from hmret.disk.deletion.digest_folder import open_digest_folder
from hmret.disk.deletion.open_folders import OpenFolders, exists
from hmret.disk.deletion.putting_back import follow
from hmret.disk.deletion.recovery.quarantine import (
    Held,
    HeldImages,
    drop_records,
    load_held,
    main_place,
    release,
)
from hmret.disk.deletion.renaming import (
    hide_metadata,
    is_hidden_in_place,
    rename_back,
    show_metadata,
)
from hmret.disk.deletion.tags.links import free_links, make_links, remove_links
from hmret.disk.deletion.trash.erasing import FreedFolders, erase
from hmret.disk.deletion.trash.intents import Link, TrashEntry, find_entries, repositories_of
from hmret.disk.deletion.wholeness import check_layers
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import open_data_folder, opened, remove_empty_folders
from hmret.disk.hypeman.scan import resolve_tag
from hmret.disk.hypeman.states import clear_state, look_at_state, write_states
from hmret.disk.layout import CONTENT, HIDDEN_METADATA, IMAGES, METADATA, RETENTION, hex_of
from hmret.model.images import Key
from hmret.model.values import define, frozen

__all__ = ["PutBack", "recover_quarantine", "restore"]

_NO_IMAGE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))


@frozen
class PutBack:
    """What came back with an image."""

    tags: Mapping[str, tuple[str, ...]]
    """By repository: those that went with it and point to it now."""
    taken_tags: Mapping[str, tuple[str, ...]]
    """By repository: those that went with it and point elsewhere now, which they still do."""


def restore(filesystem: Filesystem, data_fd: int, held: Held, unused_since_ns: int) -> PutBack:
    """Bring an image back whole, with those of its tags that are free; its timers start at `unused_since_ns`.

    The caller lets nobody else work on this image meanwhile, nor write its record. When this returns, no power loss
    takes the image away again.

    Raises:
        LookupError: it is not in quarantine any more, or not whole.
        FileExistsError: it is in the cache already, which stays as it is.
        LayersGoneError: its data has gone.
        OSError: it could not be brought back, and is in quarantine as before.
    """
    with closing(OpenFolders(filesystem, data_fd)) as folders:
        place = _find_whole(folders, held)
        restoring = _Restoring(folders, held, place, unused_since_ns)
        try:
            try:
                return restoring.put_back()
            except FileNotFoundError:
                # Whoever deleted the last other image of the repository at this moment has removed its folder.
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
) -> tuple[HeldImages, FreedFolders]:
    """Look what is in quarantine, finish releases that were cut off, and undo or finish restores that were.

    Nobody else works on it meanwhile. Returns what is held and still to be erased, and what came free.

    Raises:
        OSError: the trash cannot be listed.
    """
    found = load_held(filesystem, data_fd)
    errors = list(found.errors)
    with closing(OpenFolders(filesystem, data_fd)) as folders:
        for held in (*found.gone, *found.back, *found.held):
            try:
                _recover(folders, held, is_held=held in found.held)
            except OSError as error:
                errors.append((f"{IMAGES}/{held.repository}", error.strerror or str(error)))
            pause()
    freed = release(filesystem, data_fd, found.going, stopping=stopping, pause=pause)
    left = tuple(held for held, done in zip(found.going, freed.done, strict=True) if not done)
    # What was erased beside itself may have left folders empty.
    for repository in {held.repository for held in found.gone}:
        _remove_empty_folders(filesystem, data_fd, repository)
    done = (*found.gone, *found.back, *found.going)
    drop_records(filesystem, data_fd, {held.token for held in done})
    return HeldImages(found.held, left, (), tuple(errors)), freed


def _recover(folders: OpenFolders, held: Held, *, is_held: bool) -> None:
    """Settle what a restore of one image has left that was cut off."""
    for number, copy in enumerate(held.intent.all_copies):
        # It was cut off right after the rename back.
        if is_hidden_in_place(folders, held.intent, number):
            show_metadata(folders, copy.parent, hex_of(held.digest))
    if not is_held:
        _follow_back(folders, held)
    # guard(cut-off-restore-is-undone): What a restore that a crash cut off has made, such as tags that lead nowhere,
    # is undone; the image stays in quarantine.
    elif _may_be_cut_off(folders, held):
        _undo_restore(folders, held)


def _find_whole(folders: OpenFolders, held: Held) -> TrashEntry:
    """Find the folder of an image in quarantine, which must be that image by its metadata and its files.

    Raises:
        LookupError: it is not there, or something else is.
        LayersGoneError: its data has gone.
        OSError: it could not be told.
    """
    filesystem, data_fd = folders.filesystem, folders.data_fd
    place = main_place(held.intent, find_entries(filesystem, data_fd, held.intent))
    # guard(restore-the-right-image): Only the image that was retired is restored; whatever else stands in its place
    # in the trash is left alone.
    if place is None or not _is_that_image(folders, held, place):
        raise LookupError(f"{held.repository}@{held.digest}: not in quarantine any more")
    check_layers(filesystem, data_fd, folders.get(place.folder), place.name)
    return place


def _is_that_image(folders: OpenFolders, held: Held, place: TrashEntry) -> bool:
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
    """One image on its way back."""

    folders: OpenFolders
    held: Held
    place: TrashEntry
    unused_since_ns: int
    _made_links: tuple[Link, ...] = ()
    _earlier: dict[Key, int | None] = attrs.field(factory=dict)
    """The timers that its rows had, where it has others by now."""

    def put_back(self) -> PutBack:
        """Bring it back.

        Raises:
            FileExistsError: it is in the cache already.
            OSError: it could not be brought back.
        """
        folders, held = self.folders, self.held
        if folders.exists(f"{self.place.copy.parent}/{hex_of(held.digest)}"):
            raise _here_already()
        # First of all, so that whatever else a crash leaves is known by it.
        # guard(restore-starts-a-timer): A restored image starts a whole window: an old timer must not make it due.
        # The timer also shows what a crash has left.
        self._write_states()
        self._made_links += make_links(folders, free_links(folders, held.intent.all_links))
        # hypeman may pull it at any moment.
        if not rename_back(folders, self.place):
            raise _here_already()
        # guard(back-before-record-goes): Power may fail during a restore: the record of the image goes only after its
        # return is on the disk, or it could be lost.
        with suppress(OSError):
            # Only then its record may go.
            folders.filesystem.fsync(folders.get(self.place.copy.parent))
            folders.filesystem.fsync(folders.get(self.place.folder))
            _follow_back(folders, held)
            drop_records(folders.filesystem, folders.data_fd, (held.token,))
        return self._tags_now()

    def undo(self) -> None:
        """Take away what was made for it, as far as it is not back; what cannot be is so at the next start."""
        folders = self.folders
        with suppress(OSError):
            self._take_out_again()
        with suppress(OSError):
            _undo_restore(folders, self.held, self._made_links)
        for key, since_ns in self._earlier.items():
            with suppress(OSError):
                # A fresh pull that has come meanwhile does not inherit this timer.
                if look_at_state(folders.filesystem, folders.data_fd, key) == self.unused_since_ns:
                    clear_state(folders.filesystem, folders.data_fd, key)
                if since_ns is not None:
                    write_states(folders.filesystem, folders.data_fd, (key,), since_ns)

    def _take_out_again(self) -> None:
        """Rename it aside again where its metadata could not be shown in its place."""
        if is_hidden_in_place(self.folders, self.held.intent, self.place.number):
            self.folders.filesystem.rename(
                hex_of(self.held.digest),
                self.place.name,
                src_dir_fd=self.folders.get(self.place.copy.parent),
                dst_dir_fd=self.folders.get(self.place.folder),
            )

    def _write_states(self) -> None:
        """Start its timers, durably: an older one must not come back with it."""
        folders = self.folders
        for key in self.held.intent.keys:
            self._earlier.setdefault(key, look_at_state(folders.filesystem, folders.data_fd, key))
        for _, error in write_states(
            folders.filesystem, folders.data_fd, self._earlier, self.unused_since_ns, durable=True
        ):
            raise error

    def _tags_now(self) -> PutBack:
        back: dict[str, tuple[str, ...]] = {}
        taken: dict[str, tuple[str, ...]] = {}
        for repository, digest in self.held.intent.keys:
            tags = self.held.tags_of(repository)
            here = tuple(tag for tag in tags if self._target(repository, tag) == digest)
            elsewhere = tuple(tag for tag in tags if tag not in here)
            back |= {repository: here} if here else {}
            taken |= {repository: elsewhere} if elsewhere else {}
        return PutBack(back, taken)

    def _target(self, repository: str, tag: str) -> str | None:
        try:
            return resolve_tag(self.folders.filesystem, self.folders.get(IMAGES), repository, tag)
        except OSError:
            return None


def _here_already() -> FileExistsError:
    return FileExistsError(errno.EEXIST, "in the cache already")


def _follow_back(folders: OpenFolders, held: Held) -> None:
    """Put the owners' own folders back after their content; one whose place is taken is erased.

    Raises:
        OSError: one could not be.
    """
    filesystem, data_fd = folders.filesystem, folders.data_fd
    for place in find_entries(filesystem, data_fd, held.intent):
        if not follow(folders, place):
            erase(filesystem, data_fd, place.folder, place.name)


def _undo_restore(folders: OpenFolders, held: Held, made_links: Iterable[Link] | None = None) -> None:
    """Undo what a restore that was cut off has left: metadata in sight, tags, timers, and empty folders.

    `made_links`: those that it made; None: any that it could have made. What belongs to an image that is here stays.
    """
    filesystem, data_fd = folders.filesystem, folders.data_fd
    for place in find_entries(filesystem, data_fd, held.intent):
        if place.is_in_place:
            hide_metadata(folders, place.folder, place.name)
    parents = (CONTENT, *sorted(repositories_of(held.intent)))
    if any(_is_new(folders, held, f"{IMAGES}/{parent}") for parent in parents):
        return
    # The timers are made first and go last: without one, there is nothing else.
    if made_links is None and not _has_state(folders, held):
        return
    # guard(tags-before-timers): The timers show that a restore was cut off, so they go last; a second crash must not
    # leave tags behind.
    remove_links(folders, held.intent.all_links if made_links is None else made_links)
    folders.close()
    for name in repositories_of(held.intent):
        _remove_empty_folders(filesystem, data_fd, name)
    if made_links is None:
        for key in held.intent.keys:
            clear_state(filesystem, data_fd, key)


def _is_new(folders: OpenFolders, held: Held, parent: str) -> bool:
    """Return whether an image is in its place, or in that of a folder of it, and was not there when it was deleted."""
    inode = folders.inode(f"{parent}/{hex_of(held.digest)}")
    return inode is not None and all(
        (copy.parent, copy.inode) != (parent, inode) for copy in held.intent.staying
    )


def _may_be_cut_off(folders: OpenFolders, held: Held) -> bool:
    """Return whether a restore may have left something: a quick look at what is there in nearly no case."""
    places = find_entries(folders.filesystem, folders.data_fd, held.intent)
    return _has_state(folders, held) or any(place.is_in_place for place in places)


def _has_state(folders: OpenFolders, held: Held) -> bool:
    return any(
        folders.exists(f"{RETENTION}/{repository}/{hex_of(digest)}.json")
        for repository, digest in held.intent.keys
    )


def _remove_empty_folders(filesystem: Filesystem, data_fd: int, repository: str) -> None:
    with suppress(OSError), opened(filesystem, open_data_folder(filesystem, data_fd, IMAGES)) as fd:
        remove_empty_folders(filesystem, fd, repository)
