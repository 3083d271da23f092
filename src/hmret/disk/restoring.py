"""Bringing an image back from quarantine, and settling what a stop cut off there.

The rename back is what brings it back, and it is the last step: cut off before, the image is in quarantine as it was, and
what was made for it (a timer, its tags) is undone, here or at the next start.
"""

import errno
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import attrs

from hmret.disk.deletion.arrivals import exists
from hmret.disk.deletion.links import free_links, make_links, remove_links
from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.deletion.putting_back import hide_metadata, put_back, show_metadata
from hmret.disk.digest_folder import DigestFolder, open_digest_folder
from hmret.disk.erasing import Freed, erase
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import opened, remove_empty_folders, step_into
from hmret.disk.hypeman.manifests import layers_needed
from hmret.disk.image_scan import resolve_tag
from hmret.disk.layout import CONTENT, HIDDEN_METADATA, IMAGES, METADATA, RETENTION, hex_of
from hmret.disk.quarantine import Held, HeldImages, drop_records, load_held, release
from hmret.disk.state_files import clear_state, look_at_state, write_states
from hmret.disk.trash import Link, Place, find_places, repositories_of
from hmret.model.images import Key

__all__ = ["PutBack", "restore", "settle_quarantine"]

_TAKEN = frozenset((errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR))
_NO_IMAGE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))


@attrs.frozen
class PutBack:
    """What came back with an image."""

    tags: Mapping[str, tuple[str, ...]]
    """By repository: those that went with it and point to it now."""
    taken_tags: Mapping[str, tuple[str, ...]]
    """By repository: those that went with it and point elsewhere now, which they still do."""


def restore(filesystem: Filesystem, data_fd: int, held: Held, unused_since_ns: int) -> PutBack:
    """Bring an image back whole, with those of its tags that are free; its timer starts at `unused_since_ns`.

    The caller lets nobody else work on this image meanwhile, nor write its record. When this returns, no power loss
    takes the image away again.

    Raises:
        LookupError: it is not in quarantine any more, or not whole.
        FileExistsError: it is in the cache already, which stays as it is.
        OSError: it could not be brought back, and is in quarantine as before.
    """
    place = _find_whole(filesystem, data_fd, held)
    folders = OpenFolders(filesystem, data_fd)
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
    finally:
        folders.close()


def settle_quarantine(
    filesystem: Filesystem,
    data_fd: int,
    *,
    stopping: Callable[[], bool] = lambda: False,
    pause: Callable[[], None] = lambda: None,
) -> tuple[HeldImages, Freed]:
    """Look what is in quarantine, finish releases that were cut off, and undo restores that were.

    Nobody else works on it meanwhile. Returns what is held and still to be erased, and what came free.

    Raises:
        OSError: the trash cannot be listed.
    """
    found = load_held(filesystem, data_fd)
    errors = list(found.errors)
    going, kept, gone = list(found.going), list(found.held), list(found.gone)
    folders = OpenFolders(filesystem, data_fd)
    for held in (*found.going, *found.held, *found.gone):
        try:
            if _finish_restore(folders, held):
                for images in (going, kept):
                    if held in images:
                        images.remove(held)
                        gone.append(held)
            elif held in kept and _may_be_cut_off(filesystem, data_fd, held):
                _undo_restore(folders, held)
        except OSError as error:
            errors.append((f"{IMAGES}/{held.repository}", error.strerror or str(error)))
            if held in going:
                # Whether it is back nobody can tell: it is not erased.
                going.remove(held)
        pause()
    folders.close()
    freed = release(filesystem, data_fd, going, stopping=stopping, pause=pause)
    left = tuple(held for held, done in zip(going, freed.done, strict=True) if not done)
    # What was erased beside itself may have left folders empty.
    for repository in {name for held in gone for name in repositories_of(held.intent)}:
        _remove_empty_folders(filesystem, data_fd, repository)
    drop_records(filesystem, data_fd, {held.token for held in (*gone, *found.going)})
    return HeldImages(tuple(kept), left, (), tuple(errors)), freed


def _finish_restore(folders: OpenFolders, held: Held) -> bool:
    """Finish a restore that was cut off after its rename back; returns whether it was.

    Raises:
        OSError: it could not be finished, or nobody can tell.
    """
    hexadecimal = hex_of(held.digest)
    for copy in held.intent.all_copies:
        parent_fd = folders.find(copy.parent)
        # Of a folder that is out of the cache nothing else leaves this in its place.
        with suppress(NotADirectoryError):
            if parent_fd is not None and exists(
                folders.filesystem, parent_fd, f"{hexadecimal}/{HIDDEN_METADATA}"
            ):
                show_metadata(folders, parent_fd, hexadecimal)
    if not _is_back(folders, held):
        return False
    # What else may have been cut off is that its owners' own folders follow.
    follow_back(folders, held)
    return True


def _is_back(folders: OpenFolders, held: Held) -> bool:
    """Return whether the content of an image in quarantine stands in its place, and is that which was recorded."""
    if not held.intent.is_content:
        return False
    content = held.intent.all_copies[-1]
    parent_fd = folders.find(content.parent)
    if parent_fd is None:
        return False
    try:
        found = folders.filesystem.stat(hex_of(held.digest), dir_fd=parent_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return found.st_ino == content.inode


def _find_whole(filesystem: Filesystem, data_fd: int, held: Held) -> Place:
    """Find the folder of an image in quarantine, which must be that image by its metadata and its files.

    Raises:
        LookupError: it is not there, or something else is.
        OSError: it could not be told, or its data lies in layers that are not all here.
    """
    places = find_places(filesystem, data_fd, held.intent)
    last = max((place.number for place in places), default=0)
    for place in places:
        if place.number != last:
            continue
        try:
            with opened(filesystem, step_into(filesystem, data_fd, place.folder)) as fd:
                folder = open_digest_folder(filesystem, fd, place.name)
        except OSError as error:
            if error.errno not in _NO_IMAGE:
                raise
            continue
        try:
            metadata = METADATA if METADATA in folder.descriptors else HIDDEN_METADATA
            whose = place.copy.repository or None
            if folder.judge(whose, hex_of(held.digest), metadata) is None:
                _check_layers(filesystem, data_fd, folder)
                return place
        finally:
            folder.close()
    raise LookupError(f"{held.repository}@{held.digest}: not in quarantine any more")


def _check_layers(filesystem: Filesystem, data_fd: int, folder: DigestFolder) -> None:
    """Refuse an image whose disk is but an index of layers, where one of those has gone.

    Raises:
        OSError: one has.
    """
    for layer in layers_needed(filesystem, folder.folder_fd):
        path = f"{IMAGES}/layers/{layer}"
        try:
            filesystem.stat(path, dir_fd=data_fd, follow_symlinks=False)
        except FileNotFoundError:
            raise OSError(errno.ENOENT, f"its layer {layer} has gone, so it cannot be brought back", path) from None


@attrs.define(eq=False)
class _Restoring:
    """One image on its way back."""

    folders: OpenFolders
    held: Held
    place: Place
    unused_since_ns: int
    _made_links: tuple[Link, ...] = ()
    _wrote_states: list[Key] = attrs.field(factory=list)

    def put_back(self) -> PutBack:
        """Bring it back.

        Raises:
            FileExistsError: it is in the cache already.
            OSError: it could not be brought back.
        """
        folders, held, hexadecimal = self.folders, self.held, hex_of(self.held.digest)
        filesystem, data_fd = folders.filesystem, folders.data_fd
        copy = self.place.copy
        if self._is_here():
            raise _here_already()
        # First of all, so that whatever else a crash leaves is known by it.
        self._write_states()
        self._made_links += make_links(folders, free_links(filesystem, data_fd, held.intent.all_links))
        parent_fd = folders.make(copy.parent)
        place_fd = parent_fd if self.place.folder == copy.parent else folders.get(self.place.folder)
        # hypeman may pull it at any moment, and a rename would take the place of an empty folder.
        if exists(filesystem, parent_fd, hexadecimal):
            raise _here_already()
        try:
            filesystem.rename(self.place.name, hexadecimal, src_dir_fd=place_fd, dst_dir_fd=parent_fd)
        except OSError as error:
            if error.errno in _TAKEN:
                raise _here_already() from None
            raise
        if self.place.is_beside:
            # Only in its place: a folder with metadata and disk is listed wherever it lies below `images/`.
            try:
                show_metadata(folders, parent_fd, hexadecimal)
            except OSError:
                filesystem.rename(hexadecimal, self.place.name, src_dir_fd=parent_fd, dst_dir_fd=place_fd)
                raise
        with suppress(OSError):
            # Only then its record may go.
            filesystem.fsync(parent_fd)
            filesystem.fsync(folders.get(self.place.folder))
            follow_back(folders, held)
            drop_records(filesystem, data_fd, (held.token,))
        return self._tags_now()

    def undo(self) -> None:
        """Take away what was made for it, as far as it is not back; what cannot be is so at the next start."""
        filesystem, data_fd = self.folders.filesystem, self.folders.data_fd
        with suppress(OSError):
            _undo_restore(self.folders, self.held, self._made_links)
        for key in self._wrote_states:
            with suppress(OSError):
                # A fresh pull that has come meanwhile does not inherit this timer.
                if look_at_state(filesystem, data_fd, key) == self.unused_since_ns:
                    clear_state(filesystem, data_fd, key)

    def _is_here(self) -> bool:
        """Return whether its place has been taken."""
        fd = self.folders.find(self.place.copy.parent)
        return fd is not None and exists(self.folders.filesystem, fd, hex_of(self.held.digest))

    def _write_states(self) -> None:
        """Start its timers, durably: an older one must not come back with it."""
        self._wrote_states = list(self.held.intent.keys)
        for _, error in write_states(
            self.folders.filesystem,
            self.folders.data_fd,
            self._wrote_states,
            self.unused_since_ns,
            durable=True,
        ):
            raise error

    def _tags_now(self) -> PutBack:
        back: dict[str, list[str]] = {}
        taken: dict[str, list[str]] = {}
        filesystem, data_fd = self.folders.filesystem, self.folders.data_fd
        for repository, _ in self.held.intent.keys:
            for tag in self.held.tags_of(repository):
                target = None
                with (
                    suppress(OSError),
                    opened(filesystem, step_into(filesystem, data_fd, IMAGES)) as images_fd,
                ):
                    target = resolve_tag(filesystem, images_fd, repository, tag)
                (back if target == self.held.digest else taken).setdefault(repository, []).append(tag)
        return PutBack(
            {name: tuple(tags) for name, tags in back.items()},
            {name: tuple(tags) for name, tags in taken.items()},
        )


def _here_already() -> FileExistsError:
    return FileExistsError(errno.EEXIST, "in the cache already")


def follow_back(folders: OpenFolders, held: Held) -> None:
    """Put the owners' own folders back after their content; one whose place is taken is erased.

    Raises:
        OSError: one could not be.
    """
    filesystem, data_fd = folders.filesystem, folders.data_fd
    for place in find_places(filesystem, data_fd, held.intent):
        if not put_back(folders, held.intent, (place,)):
            erase(filesystem, data_fd, place.folder, place.name)


def _undo_restore(folders: OpenFolders, held: Held, made_links: Iterable[Link] | None = None) -> None:
    """Undo what a restore that was cut off has left: metadata in sight, tags, a timer, and empty folders.

    `made_links`: those that it made; None: any that it could have made. What belongs to an image that is here stays.
    """
    filesystem, data_fd = folders.filesystem, folders.data_fd
    for place in find_places(filesystem, data_fd, held.intent):
        if place.is_beside:
            hide_metadata(folders, folders.get(place.folder), place.name)
    hexadecimal = hex_of(held.digest)
    parents = {f"{IMAGES}/{CONTENT}", *(f"{IMAGES}/{name}" for name, _ in held.intent.keys)}
    for parent in parents:
        fd = folders.find(parent)
        if fd is not None and exists(filesystem, fd, hexadecimal):
            return
    links = held.intent.all_links if made_links is None else tuple(made_links)
    removed = remove_links(folders, links)
    # The timers are made first and go last: without one, there is nothing else.
    if removed or _has_state(filesystem, data_fd, held):
        folders.close()
        for name in repositories_of(held.intent):
            _remove_empty_folders(filesystem, data_fd, name)
        for key in held.intent.keys:
            clear_state(filesystem, data_fd, key)


def _may_be_cut_off(filesystem: Filesystem, data_fd: int, held: Held) -> bool:
    """Tell whether a restore may have left something: a quick look at what is there in nearly no case."""
    if _has_state(filesystem, data_fd, held):
        return True
    for link in held.intent.all_links:
        with suppress(OSError):
            if filesystem.readlink(f"{link.parent}/{link.tag}", dir_fd=data_fd) == link.target:
                return True
    return any(place.is_beside for place in find_places(filesystem, data_fd, held.intent))


def _has_state(filesystem: Filesystem, data_fd: int, held: Held) -> bool:
    for repository, digest in held.intent.keys:
        path = f"{RETENTION}/{repository}/{hex_of(digest)}.json"
        try:
            filesystem.stat(path, dir_fd=data_fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            continue
        return True
    return False


def _remove_empty_folders(filesystem: Filesystem, data_fd: int, repository: str) -> None:
    with suppress(OSError), opened(filesystem, step_into(filesystem, data_fd, IMAGES)) as fd:
        remove_empty_folders(filesystem, fd, repository)
