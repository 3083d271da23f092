"""The real file system, as it is for somebody who is not root: what has no permissions at all cannot be read."""

import errno
import os
import pathlib
import stat
from typing import Any, cast

from hmret.disk.filesystem import POSIX, Filesystem, FolderCalls
from support.builders import FakeClock

__all__ = ["dated", "with_locks"]


class _Dated:
    """The real file system, with the time of a clock of one's own."""

    def __init__(self, clock: FakeClock) -> None:
        self.now_ns = clock.now_ns

    def __getattr__(self, name: str) -> Any:
        return getattr(POSIX, name)


class _Locked(FolderCalls, _Dated):
    def open(self, path: str, flags: int, mode: int = 0o666, *, dir_fd: int | None = None) -> int:
        self._check(path, dir_fd, is_opened=True)
        return POSIX.open(path, flags, mode, dir_fd=dir_fd)

    def stat(self, path: str, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> Any:
        self._check(path, dir_fd)
        return POSIX.stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)

    def readlink(self, path: str, *, dir_fd: int | None = None) -> str:
        self._check(path, dir_fd)
        return POSIX.readlink(path, dir_fd=dir_fd)

    def unlink(self, path: str, *, dir_fd: int | None = None) -> None:
        self._check(path, dir_fd)
        POSIX.unlink(path, dir_fd=dir_fd)

    def _check(self, path: str, dir_fd: int | None, *, is_opened: bool = False) -> None:
        """Raise where a folder on the way, or what is opened, has no permissions."""
        place = pathlib.Path("." if dir_fd is None else f"/proc/self/fd/{dir_fd}")
        place = place.resolve() if dir_fd is None else place.readlink()
        *above, last = pathlib.PurePath(path).parts or (".",)
        for name in (*above, last) if is_opened else above:
            place /= name
            try:
                found = place.lstat().st_mode
            except OSError:
                return
            if not stat.S_ISLNK(found) and not found & 0o777:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def dated(clock: FakeClock) -> Filesystem:
    """Return the real file system with the time of a clock."""
    return cast(Filesystem, _Dated(clock))


def with_locks(clock: FakeClock) -> Filesystem:
    """Return the same, in which what has no permissions is locked also to root."""
    return cast(Filesystem, _Locked(clock))
