"""Folders below the data directory that are held open while a batch is worked on."""

import errno

import attrs

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import let_go, make_folders, step_into

__all__ = ["OpenFolders"]

# An embedding server may have few descriptors to spare.
_MOST = 64

_ABSENT = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))


@attrs.define(eq=False)
class OpenFolders:
    """Opens each folder once; a descriptor lasts until some others have been asked for."""

    filesystem: Filesystem
    data_fd: int
    _open: dict[str, int] = attrs.field(factory=dict)

    def get(self, path: str) -> int:
        """Open a folder, a step at a time, following no link, or hand out the descriptor that is open.

        Raises:
            OSError: it cannot be opened.
        """
        fd = self._open.get(path)
        if fd is None:
            fd = self._keep(path, step_into(self.filesystem, self.data_fd, path))
        return fd

    def find(self, path: str) -> int | None:
        """Open a folder as `get` does; None: it is not here, or a link is in its place.

        Raises:
            OSError: it is here and cannot be opened.
        """
        try:
            return self.get(path)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise

    def make(self, path: str) -> int:
        """Open a folder, making what is missing of it; one that is held may have been removed since.

        Raises:
            OSError: it cannot be made.
        """
        self.drop(path)
        return self._keep(path, make_folders(self.filesystem, self.data_fd, path))

    def drop(self, path: str) -> None:
        """Close a folder."""
        fd = self._open.pop(path, None)
        if fd is not None:
            let_go(self.filesystem, fd)

    def close(self) -> None:
        """Close all of them."""
        while self._open:
            let_go(self.filesystem, self._open.popitem()[1])

    def _keep(self, path: str, fd: int) -> int:
        if len(self._open) >= _MOST:
            # Those that were opened first have their turn first.
            self.drop(next(iter(self._open)))
        self._open[path] = fd
        return fd
