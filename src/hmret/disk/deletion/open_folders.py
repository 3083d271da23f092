"""Folders below the data directory that are held open while a batch is processed."""

import errno
from collections.abc import Iterable

import attrs

from hmret.disk.filesystem import FileFound, Filesystem
from hmret.disk.folders import (
    NOTHING_THERE,
    inode_of,
    inodes_of,
    let_go,
    make_data_folders,
    open_data_folder,
    step_into,
)
from hmret.disk.layout import IMAGES, RETENTION
from hmret.model.values import define

# An embedding server may have few descriptors to spare.
_MOST = 64

_ROOTS = (IMAGES, RETENTION)
"""These stay open while anything below them is used: hmret never removes them."""

_ABSENT = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))


@define(eq=False)
class OpenFolders:
    """Opens each folder once.

    A descriptor is valid until many other folders have been opened: use it at once, and do not keep it.
    """

    filesystem: Filesystem
    data_fd: int
    _open: dict[str, int] = attrs.field(factory=dict)
    """In order of use, the most recent last."""

    def get(self, path: str) -> int:
        """Open a folder step by step, following no link, or return its open descriptor.

        Raises:
            OSError: it cannot be opened.
        """
        fd = self._open.pop(path, None)
        if fd is None:
            fd = self._step_into(path)
            self._make_room()
        self._open[path] = fd
        return fd

    def find(self, path: str) -> int | None:
        """Open a folder as `get` does; None: it does not exist, or a link is in its place.

        Raises:
            OSError: it exists but cannot be opened.
        """
        try:
            return self.get(path)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise

    def make(self, path: str) -> int:
        """Open a folder, creating what is missing of it; one that is held open may have been removed since.

        Raises:
            OSError: it cannot be made.
        """
        self.drop(path)
        fd = make_data_folders(self.filesystem, self.data_fd, path)
        self._make_room()
        self._open[path] = fd
        return fd

    def exists(self, path: str) -> bool:
        """Return whether anything is at a path below the data directory, with links above followed as by hypeman.

        Raises:
            OSError: that could not be determined.
        """
        return self.inode(path) is not None

    def any_exists(self, *paths: str) -> bool:
        """Return whether anything is at one of some paths, as `exists` does.

        Raises:
            OSError: that could not be determined.
        """
        return any(inode is not None for inode in inodes_of(self.filesystem, self.data_fd, [*paths]))

    def inode(self, path: str) -> int | None:
        """Return the inode of what is at a path, found as `exists` does; None: nothing is.

        Raises:
            OSError: that could not be determined.
        """
        return inode_of(self.filesystem, self.data_fd, path)

    def rename(self, source_folder: str, source: str, target_folder: str, target: str) -> None:
        """Rename what has a name in one folder to a name in another, or in the same.

        Raises:
            OSError: a folder cannot be opened, or the rename failed.
        """
        source_fd, target_fd = self.get(source_folder), self.get(target_folder)
        self.filesystem.rename(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)

    def drop(self, path: str) -> None:
        """Close a folder."""
        fd = self._open.pop(path, None)
        if fd is not None:
            let_go(self.filesystem, fd)

    def close(self) -> None:
        """Close all of them."""
        while self._open:
            let_go(self.filesystem, self._open.popitem()[1])

    def _step_into(self, path: str) -> int:
        for root in _ROOTS:
            if path.startswith(f"{root}/"):
                return step_into(self.filesystem, self.get(root), path[len(root) + 1 :])
        return open_data_folder(self.filesystem, self.data_fd, path)

    def _make_room(self) -> None:
        if len(self._open) >= _MOST:
            self.drop(next(iter(self._open)))


@define(eq=False)
class KnownPaths:
    """The status of many paths below the data directory, queried together in one call.

    It is of one moment, for the work of that moment: code that needs the current status asks the folders
    themselves.
    """

    folders: OpenFolders
    _found: dict[str, FileFound | int] = attrs.field(factory=dict)

    def query(self, paths: Iterable[str]) -> None:
        """Query some paths."""
        chosen, folders = list(dict.fromkeys(paths)), self.folders
        answers = folders.filesystem.stat_files(folders.data_fd, chosen) if chosen else []
        self._found.update(zip(chosen, answers, strict=True))

    def is_absent(self, path: str) -> bool:
        """Return whether nothing was at a path when it was queried; False where it was not."""
        return self._found.get(path) in NOTHING_THERE

    def inode(self, path: str) -> int | None:
        """Return the inode of what is at a path, as `OpenFolders.inode` does.

        Raises:
            OSError: that could not be determined.
        """
        found = self._found.get(path)
        if isinstance(found, tuple):
            return found[2]
        return None if found in NOTHING_THERE else self.folders.inode(path)
