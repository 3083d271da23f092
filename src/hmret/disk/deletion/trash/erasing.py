"""Freeing the bytes of retired folders: step by step from hmret's own descriptors, following no symbolic link.

The metadata is removed first: from then on a folder is recognised as partly erased and is never put back,
even if a crash leaves its disk there. What is left is erased by the next recovery.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import closing

from hmret.disk.deletion.trash.intents import TrashEntry
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import let_go, open_data_folder, open_folder, opened, remove_empty_repositories
from hmret.disk.hypeman.scan import BLOCK
from hmret.disk.layout import HIDDEN_METADATA, METADATA, ROOTFS_NAMES
from hmret.model.values import define, frozen

# Errors of erasing a folder by known file names, if it holds other files or is not a folder.
_NOT_AS_KNOWN = frozenset(
    (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.EPERM)
)


@define(eq=False)
class Freeing:
    """Erases retired folders one after the other, keeping their parent folder open."""

    filesystem: Filesystem
    data_fd: int
    stopping: Callable[[], bool] = lambda: False
    _folder: str = ""
    _fd: int = -1

    def free(self, place: TrashEntry) -> int | None:
        """Erase a retired folder, and remove the folders that this leaves empty; otherwise as `erase`."""
        try:
            fd = self._open(place.folder)
        except FileNotFoundError:
            return 0
        freed = _erase_known(self.filesystem, fd, place.name, place.files, self.stopping)
        if freed is not None and place.is_aside and place.copy.repository:
            remove_empty_repositories(self.filesystem, self.data_fd, [place.copy.repository])
        return freed

    def close(self) -> None:
        """Close what is open."""
        if self._fd >= 0:
            let_go(self.filesystem, self._fd)
        self._fd = -1

    def _open(self, folder: str) -> int:
        if self._fd < 0 or folder != self._folder:
            self.close()
            self._fd = open_data_folder(self.filesystem, self.data_fd, folder)
            self._folder = folder
        return self._fd


@frozen
class FreedFolders:
    """The result of freeing some retired folders."""

    disk_bytes: tuple[int, ...]
    """The bytes that each freed, in order."""
    done: tuple[bool, ...]
    """Whether each has been erased; others are left for the next time."""
    errors: tuple[tuple[TrashEntry, str], ...]
    """Folders that could not be erased, and why."""


def free_entries(
    filesystem: Filesystem,
    data_fd: int,
    places: Iterable[TrashEntry],
    *,
    stopping: Callable[[], bool] = lambda: False,
    pause: Callable[[], None] = lambda: None,
) -> FreedFolders:
    """Erase retired folders, one after the other; a failure of one does not stop the others."""
    disk_bytes: list[int] = []
    done: list[bool] = []
    errors: list[tuple[TrashEntry, str]] = []
    with closing(Freeing(filesystem, data_fd, stopping)) as freeing:
        for place in places:
            try:
                came_free = freeing.free(place)
            except OSError as error:
                errors.append((place, error.strerror or str(error)))
                came_free = None
            disk_bytes.append(came_free or 0)
            done.append(came_free is not None)
            pause()
    return FreedFolders(tuple(disk_bytes), tuple(done), tuple(errors))


def erase(
    filesystem: Filesystem, data_fd: int, folder: str, name: str, stopping: Callable[[], bool] = lambda: False
) -> int | None:
    """Free the bytes of a retired folder; returns the freed blocks of its disks, in bytes.

    None where `stopping` ended it early; the rest is left for the next time. If nothing is there, nothing is
    done.

    Raises:
        OSError: something could not be removed.
    """
    try:
        fd = open_data_folder(filesystem, data_fd, folder)
    except FileNotFoundError:
        return 0
    with opened(filesystem, fd):
        return _erase(filesystem, fd, name, stopping)


def _erase_known(
    filesystem: Filesystem, parent_fd: int, name: str, files: tuple[str, ...], stopping: Callable[[], bool]
) -> int | None:
    """Erase a folder by its known file names, without listing it; if it holds others, by listing it."""
    if not files or stopping():
        return _erase(filesystem, parent_fd, name, stopping)
    error, blocks = filesystem.erase_folder(
        parent_fd, name, sorted(files, key=_metadata_first), [*ROOTFS_NAMES]
    )
    freed = blocks * BLOCK
    if not error:
        return freed
    if error not in _NOT_AS_KNOWN:
        raise OSError(error, os.strerror(error), name)
    rest = _erase(filesystem, parent_fd, name, stopping)
    return None if rest is None else freed + rest


def _metadata_first(name: str) -> tuple[bool, str]:
    """Sort key that puts metadata first: what is left of an image without metadata no longer looks like one."""
    return name not in (METADATA, HIDDEN_METADATA), name


def _erase(filesystem: Filesystem, parent_fd: int, name: str, stopping: Callable[[], bool]) -> int | None:
    try:
        fd = open_folder(filesystem, name, parent_fd)
    except FileNotFoundError:
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        filesystem.unlink(name, dir_fd=parent_fd)
        return 0
    freed = 0
    with opened(filesystem, fd):
        with filesystem.scandir(fd) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for entry_name, is_folder in sorted(found, key=lambda item: _metadata_first(item[0])):
            if stopping():
                return None
            if is_folder:
                below = _erase(filesystem, fd, entry_name, stopping)
                if below is None:
                    return None
                freed += below
            else:
                freed += _unlink(filesystem, fd, entry_name)
    filesystem.rmdir(name, dir_fd=parent_fd)
    return freed


def _unlink(filesystem: Filesystem, fd: int, name: str) -> int:
    """Remove one file; returns the bytes that this frees of a disk, 0 while it has other links."""
    freed = 0
    if name in ROOTFS_NAMES:
        status = filesystem.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            freed = status.st_blocks * BLOCK
    filesystem.unlink(name, dir_fd=fd)
    return freed
