"""Bringing an image back from quarantine, and settling what a stop cut off there.

The rename back is what brings it back, and it is the last step: cut off before, the image is in quarantine as it was, and
what was made for it (a timer, its tags) is undone, here or at the next start.
"""

import errno
from collections.abc import Callable, Iterable
from contextlib import suppress

import attrs

from hmret.disk.digest_folder import open_digest_folder
from hmret.disk.erasing import Freed
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import make_folders, open_folder, opened, remove_empty_folders, step_into
from hmret.disk.layout import HIDDEN_METADATA, IMAGES, METADATA, RETENTION, hex_of
from hmret.disk.quarantine import Held, HeldImages, drop_records, load_held, release
from hmret.disk.state_files import clear_state, look_at_state, write_states
from hmret.disk.tags import exists, remove_tags
from hmret.disk.trash import Place, find_places

__all__ = ["PutBack", "restore", "settle_quarantine"]

_TAKEN = frozenset((errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR))
_NO_IMAGE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))


@attrs.frozen
class PutBack:
    """What came back with an image."""

    tags: tuple[str, ...]
    """Those that went with it and point to it now."""
    taken_tags: tuple[str, ...]
    """Those that went with it and point elsewhere now, which they still do."""


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
    restoring = _Restoring(filesystem, data_fd, held, place, unused_since_ns)
    try:
        try:
            return restoring.put_back()
        except FileNotFoundError:
            # Whoever deleted the last other image of the repository at this moment has removed its folder.
            return restoring.put_back()
    except OSError:
        restoring.undo()
        raise


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
    for held in found.held:
        try:
            if _may_be_cut_off(filesystem, data_fd, held):
                _undo_restore(filesystem, data_fd, held)
        except OSError as error:
            errors.append((f"{IMAGES}/{held.repository}", error.strerror or str(error)))
        pause()
    freed = release(filesystem, data_fd, found.going, stopping=stopping, pause=pause)
    going = tuple(held for held, done in zip(found.going, freed.done, strict=True) if not done)
    # What was erased beside itself may have left folders empty.
    for repository in {held.repository for held in found.gone}:
        _remove_empty_folders(filesystem, data_fd, repository)
    drop_records(filesystem, data_fd, {held.token for held in (*found.gone, *found.going)})
    return HeldImages(found.held, going, (), tuple(errors)), freed


def _find_whole(filesystem: Filesystem, data_fd: int, held: Held) -> Place:
    """Find the folder of an image in quarantine, which must be that image by its metadata and its files.

    Raises:
        LookupError: it is not there, or something else is.
        OSError: it could not be told.
    """
    for place in find_places(filesystem, data_fd, held.intent):
        try:
            with opened(filesystem, step_into(filesystem, data_fd, place.folder)) as fd:
                folder = open_digest_folder(filesystem, fd, place.name)
        except OSError as error:
            if error.errno not in _NO_IMAGE:
                raise
            continue
        if folder is not None:
            try:
                metadata = METADATA if METADATA in folder.descriptors else HIDDEN_METADATA
                if folder.judge(held.repository, hex_of(held.digest), metadata) is None:
                    return place
            finally:
                folder.close()
    raise LookupError(f"{held.repository}@{held.digest}: not in quarantine any more")


@attrs.define(eq=False)
class _Restoring:
    """One image on its way back."""

    filesystem: Filesystem
    data_fd: int
    held: Held
    place: Place
    unused_since_ns: int
    _made_tags: list[str] = attrs.field(factory=list)
    _wrote_state: bool = False

    def put_back(self) -> PutBack:
        """Bring it back.

        Raises:
            FileExistsError: it is in the cache already.
            OSError: it could not be brought back.
        """
        filesystem, held, hexadecimal = self.filesystem, self.held, hex_of(self.held.digest)
        if self._is_here():
            raise _here_already()
        # First of all, so that whatever else a crash leaves is known by it.
        self._write_state()
        with (
            opened(filesystem, step_into(filesystem, self.data_fd, self.place.folder)) as place_fd,
            opened(filesystem, make_folders(filesystem, self.data_fd, self._repository)) as repository_fd,
        ):
            self._link_tags(repository_fd, hexadecimal)
            if self.place.is_beside:
                _rename_metadata(filesystem, place_fd, self.place.name, HIDDEN_METADATA, METADATA)
            # hypeman may pull it at any moment, and a rename would take the place of an empty folder.
            if exists(filesystem, repository_fd, hexadecimal):
                raise _here_already()
            try:
                filesystem.rename(self.place.name, hexadecimal, src_dir_fd=place_fd, dst_dir_fd=repository_fd)
            except OSError as error:
                if error.errno in _TAKEN:
                    raise _here_already() from None
                raise
            with suppress(OSError):
                # Only then its record may go.
                filesystem.fsync(repository_fd)
                filesystem.fsync(place_fd)
                drop_records(filesystem, self.data_fd, (held.token,))
            return self._tags_now(repository_fd, hexadecimal)

    def undo(self) -> None:
        """Take away what was made for it, as far as it is not back; what cannot be is so at the next start."""
        filesystem, key = self.filesystem, self.held.key
        with suppress(OSError):
            _undo_restore(filesystem, self.data_fd, self.held, self._made_tags)
        with suppress(OSError):
            # A fresh pull that has come meanwhile does not inherit this timer.
            if self._wrote_state and look_at_state(filesystem, self.data_fd, key) == self.unused_since_ns:
                clear_state(filesystem, self.data_fd, key)

    @property
    def _repository(self) -> str:
        return f"{IMAGES}/{self.held.repository}"

    def _is_here(self) -> bool:
        try:
            with opened(
                self.filesystem, step_into(self.filesystem, self.data_fd, self._repository)
            ) as repository_fd:
                return exists(self.filesystem, repository_fd, hex_of(self.held.digest))
        except FileNotFoundError:
            return False

    def _write_state(self) -> None:
        """Start its timer, durably: an older one must not come back with it."""
        self._wrote_state = True
        for _, error in write_states(
            self.filesystem, self.data_fd, (self.held.key,), self.unused_since_ns, durable=True
        ):
            raise error

    def _link_tags(self, repository_fd: int, hexadecimal: str) -> None:
        for tag in self.held.tags:
            with suppress(FileExistsError):
                self.filesystem.symlink(hexadecimal, tag, dir_fd=repository_fd)
                self._made_tags.append(tag)

    def _tags_now(self, repository_fd: int, hexadecimal: str) -> PutBack:
        back: list[str] = []
        taken: list[str] = []
        for tag in self.held.tags:
            target = ""
            with suppress(OSError):
                target = self.filesystem.readlink(tag, dir_fd=repository_fd)
            (back if target == hexadecimal else taken).append(tag)
        return PutBack(tuple(back), tuple(taken))


def _here_already() -> FileExistsError:
    return FileExistsError(errno.EEXIST, "in the cache already")


def _undo_restore(
    filesystem: Filesystem, data_fd: int, held: Held, made_tags: Iterable[str] | None = None
) -> None:
    """Undo what a restore that was cut off has left: metadata in sight, tags, a timer, and empty folders.

    `made_tags`: those that it made; None: any that it could have made. What belongs to an image that is here stays.
    """
    hexadecimal = hex_of(held.digest)
    for place in find_places(filesystem, data_fd, held.intent):
        if place.is_beside:
            with opened(filesystem, step_into(filesystem, data_fd, place.folder)) as fd:
                _rename_metadata(filesystem, fd, place.name, METADATA, HIDDEN_METADATA)
    tags = held.tags if made_tags is None else made_tags
    removed: list[str] = []
    with (
        suppress(FileNotFoundError, NotADirectoryError),
        opened(filesystem, step_into(filesystem, data_fd, f"{IMAGES}/{held.repository}")) as fd,
    ):
        if exists(filesystem, fd, hexadecimal):
            return
        removed, _ = remove_tags(filesystem, fd, hexadecimal, tags)
    # The timer is made first and goes last: without one, there is nothing else.
    if removed or _has_state(filesystem, data_fd, held):
        _remove_empty_folders(filesystem, data_fd, held.repository)
        clear_state(filesystem, data_fd, held.key)


def _may_be_cut_off(filesystem: Filesystem, data_fd: int, held: Held) -> bool:
    """Tell whether a restore may have left something: a quick look at what is there in nearly no case."""
    if _has_state(filesystem, data_fd, held):
        return True
    for tag in held.tags:
        with suppress(OSError):
            target = filesystem.readlink(f"{IMAGES}/{held.repository}/{tag}", dir_fd=data_fd)
            if target == hex_of(held.digest):
                return True
    return any(place.is_beside for place in find_places(filesystem, data_fd, held.intent))


def _has_state(filesystem: Filesystem, data_fd: int, held: Held) -> bool:
    path = f"{RETENTION}/{held.repository}/{hex_of(held.digest)}.json"
    try:
        filesystem.stat(path, dir_fd=data_fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _remove_empty_folders(filesystem: Filesystem, data_fd: int, repository: str) -> None:
    with suppress(OSError), opened(filesystem, step_into(filesystem, data_fd, IMAGES)) as fd:
        remove_empty_folders(filesystem, fd, repository)


def _rename_metadata(filesystem: Filesystem, parent_fd: int, name: str, source: str, target: str) -> None:
    """Hide the metadata of a folder, or show it; done already, it does nothing."""
    with (
        suppress(FileNotFoundError),
        opened(filesystem, open_folder(filesystem, name, parent_fd)) as fd,
    ):
        filesystem.rename(source, target, src_dir_fd=fd, dst_dir_fd=fd)
