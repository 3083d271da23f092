"""The system calls that hmret makes, as one value, so that tests can put a disk of their own in its place.

`POSIX` holds the functions of `os` and `fcntl` themselves: a call through it costs one attribute look-up.
Everything takes directory file descriptors, so that a path is walked one checked step at a time.
"""

import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

__all__ = ["POSIX", "Entry", "Filesystem", "Lease", "Space", "Stat"]


class Stat(Protocol):
    """The fields of `os.stat_result` that are used."""

    @property
    def st_mode(self) -> int: ...
    @property
    def st_ino(self) -> int: ...
    @property
    def st_dev(self) -> int: ...
    @property
    def st_nlink(self) -> int: ...
    @property
    def st_size(self) -> int: ...
    @property
    def st_blocks(self) -> int: ...
    @property
    def st_mtime_ns(self) -> int: ...
    @property
    def st_ctime_ns(self) -> int: ...


class Space(Protocol):
    """The fields of `os.statvfs_result` that are used; numbers of units of `f_frsize` bytes."""

    @property
    def f_frsize(self) -> int: ...
    @property
    def f_blocks(self) -> int: ...
    @property
    def f_bfree(self) -> int: ...
    @property
    def f_bavail(self) -> int: ...


class Entry(Protocol):
    """One entry of a folder, as `os.DirEntry` has it."""

    @property
    def name(self) -> str: ...
    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Tell whether this is a folder."""
        ...

    def is_symlink(self) -> bool:
        """Tell whether this is a symbolic link."""
        ...

    def inode(self) -> int:
        """Return the inode number that the folder's listing states."""
        ...


class Lease:
    """The kernel's answers about a write lease on a file."""

    HELD = fcntl.F_WRLCK
    """Nobody but us has the file open."""


class Filesystem(Protocol):
    """The calls; each raises OSError as its namesake in `os` does."""

    def open(self, path: str, flags: int, mode: int = 0o666, *, dir_fd: int | None = None) -> int: ...
    def close(self, fd: int, /) -> None: ...
    def read(self, fd: int, length: int, /) -> bytes: ...
    def pread(self, fd: int, length: int, offset: int, /) -> bytes: ...
    def write(self, fd: int, content: bytes, /) -> int: ...
    def fsync(self, fd: int) -> None: ...
    def fstat(self, fd: int) -> Stat: ...
    def stat(self, path: str, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> Stat: ...
    def fstatvfs(self, fd: int, /) -> Space: ...
    def scandir(self, fd: int) -> "AbstractContextManager[Iterator[Entry]]":
        """List an open folder; closing it leaves the descriptor open."""
        ...

    def readlink(self, path: str, *, dir_fd: int | None = None) -> str: ...
    def symlink(self, target: str, path: str, *, dir_fd: int | None = None) -> None: ...
    def mkdir(self, path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None: ...
    def rmdir(self, path: str, *, dir_fd: int | None = None) -> None: ...
    def unlink(self, path: str, *, dir_fd: int | None = None) -> None: ...
    def rename(
        self, source: str, target: str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
    ) -> None: ...
    def lock(self, fd: int) -> None:
        """Take an exclusive `flock` without waiting; BlockingIOError where another process has it."""
        ...

    def take_lease(self, fd: int) -> None:
        """Take a write lease: BlockingIOError while anybody else has the file open or mapped.

        An opener who comes later is told to us by SIGURG, which is ignored by default, and waits until the
        lease is released (by closing the descriptor) or the kernel breaks it.
        """
        ...

    def ask_lease(self, fd: int) -> int:
        """Tell what is left of the lease: `Lease.HELD`, or anything else when somebody has begun to open the file."""
        ...

    def now_ns(self) -> int:
        """Tell the time by the clock that stamps this file system's files, in nanoseconds since the epoch."""
        ...


def _lock(fd: int) -> None:
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _take_lease(fd: int) -> None:
    # The default signal of a lease break, SIGIO, kills the process; SIGURG is ignored unless asked for.
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)


def _ask_lease(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_GETLEASE)


class _Posix:
    """The functions of the operating system, unwrapped wherever they can be."""

    open: Callable[..., int] = staticmethod(os.open)
    close = staticmethod(os.close)
    read = staticmethod(os.read)
    pread = staticmethod(os.pread)
    write = staticmethod(os.write)
    fsync = staticmethod(os.fsync)
    fstat = staticmethod(os.fstat)
    stat: Callable[..., os.stat_result] = staticmethod(os.stat)
    fstatvfs = staticmethod(os.fstatvfs)
    scandir: Callable[[int], "AbstractContextManager[Iterator[os.DirEntry[str]]]"] = staticmethod(os.scandir)  # type: ignore[assignment]  # the stub of scandir puts the path-less overload first
    readlink: Callable[..., str] = staticmethod(os.readlink)
    symlink: Callable[..., None] = staticmethod(os.symlink)
    mkdir: Callable[..., None] = staticmethod(os.mkdir)
    rmdir: Callable[..., None] = staticmethod(os.rmdir)
    unlink: Callable[..., None] = staticmethod(os.unlink)
    rename: Callable[..., None] = staticmethod(os.rename)
    lock = staticmethod(_lock)
    take_lease = staticmethod(_take_lease)
    ask_lease = staticmethod(_ask_lease)
    now_ns = staticmethod(time.time_ns)


POSIX: Filesystem = _Posix()
"""The real one."""
