"""The system calls that hmret makes, as one value, so that tests can put a disk of their own in its place.

`POSIX` holds the functions of `os` and `fcntl` themselves: a call through it costs one attribute look-up.
Everything takes directory file descriptors, so that a path is walked one checked step at a time.

Some calls do whole-folder work. `FolderCalls` does them by the single calls; the native core does each of them in one
call, with the interpreter's lock released, where it has been built.
"""

import errno
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import Protocol

try:
    import hmret.disk._native as _built
except ImportError:  # it was not built
    _built = None  # type: ignore[assignment]  # a module, or none

from hmret.disk.barriers import find_barrier
from hmret.disk.lock_holder import find_lock_holder
from hmret.disk.stamps import earliest_stamp_ns

__all__ = [
    "NATIVE",
    "POSIX",
    "Entry",
    "FileFound",
    "Filesystem",
    "FolderCalls",
    "ImageLook",
    "Lease",
    "Listing",
    "Space",
    "Stat",
]

ImageLook = tuple[int, bytes, int, int, int, int, int, int, int, int, int]
"""Of one image: errno of its metadata (0: it was read), what was read of it, its inode, its ctime in nanoseconds; which
name its disk has, by number (-1: none), errno of that, and the disk's mode, device, inode, number of links and blocks."""

FileFound = tuple[int, int, int, int, int, int]
"""Mode, device, inode, size in bytes, mtime and ctime in nanoseconds."""

Listing = tuple[list[str], list[str], list[str], list[int]]
"""What stands in a folder: links, folders, everything else, and the inodes of the folders."""


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
    def st_atime_ns(self) -> int: ...
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

    def unlock(self, fd: int) -> None:
        """Give a `flock` back, whoever else has the same open file."""
        ...

    def lock_holder(self, fd: int, written: int | None) -> int | None:
        """Return the process that has the `flock` of a file; `written` is what it wrote about itself. None: not known."""
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

    def find_barrier(self, path: str, *, dir_fd: int | None = None) -> str:
        """Say why what is at a path can be neither renamed nor removed, or nothing in it; empty: nothing is known to be so.

        Opens nothing, and raises nothing.
        """
        ...

    def now_ns(self) -> int:
        """Tell the time by the clock that stamps this file system's files, in nanoseconds since the epoch."""
        ...

    def earliest_stamp_ns(self, fd: int, /) -> int | None:
        """Return the earliest time that a change from now on can be stamped with, on the file system of an open file.

        In nanoseconds since the epoch. None: not known, as stamps are coarse there, or of another clock.
        """
        ...

    # Whole-folder work: no call of these raises for one of many names, each of which has its own errno.

    def list_folder(self, fd: int, /) -> Listing:
        """List an open folder, by kind; no link is followed."""
        ...

    def look_at_images(
        self, fd: int, names: list[str], metadata: str, disks: list[str], most: int, /
    ) -> list[ImageLook]:
        """Read at most `most` bytes of the metadata of each image in an open folder, and look at its disk.

        `disks`: the names that a disk can have, of which the first that is there counts. No last component is followed.
        """
        ...

    def read_files(
        self, fd: int, paths: list[str], most: int, /
    ) -> list[tuple[int, int, int, int, int, int, bytes] | int]:
        """Read at most `most` bytes of each file, none of them a link; in place of one that fails, its errno."""
        ...

    def stat_files(self, fd: int, paths: list[str], /) -> list[FileFound | int]:
        """Look at paths, following no link in the last component; in place of one that fails, its errno."""
        ...

    def read_links(self, fd: int, names: list[str], /) -> list[str | int]:
        """Read symbolic links; in place of one that fails, its errno."""
        ...


_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW


class FolderCalls:
    """The calls that do whole-folder work, by those that do not: what is made of this has those."""

    def list_folder(self: Filesystem, fd: int, /) -> Listing:
        """List an open folder, by kind; no link is followed."""
        links: list[str] = []
        folders: list[str] = []
        others: list[str] = []
        inodes: list[int] = []
        with self.scandir(fd) as entries:
            for entry in entries:
                if entry.is_symlink():
                    links.append(entry.name)
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                    inodes.append(entry.inode())
                else:
                    others.append(entry.name)
        return links, folders, others, inodes

    def look_at_images(
        self: Filesystem, fd: int, names: list[str], metadata: str, disks: list[str], most: int, /
    ) -> list[ImageLook]:
        """Read the metadata of each image in an open folder, and look at its disk."""
        answer: list[ImageLook] = []
        for name in names:
            fault, content, inode, changed_ns = 0, b"", 0, 0
            try:
                found, content = _read_one(self, fd, f"{name}/{metadata}", most)
                inode, changed_ns = found.st_ino, found.st_ctime_ns
            except OSError as error:
                fault = error.errno or errno.EIO
            answer.append((fault, content, inode, changed_ns, *_look_at_disk(self, fd, name, disks)))
        return answer

    def read_files(
        self: Filesystem, fd: int, paths: list[str], most: int, /
    ) -> list[tuple[int, int, int, int, int, int, bytes] | int]:
        """Read files; in place of one that fails, its errno."""
        answer: list[tuple[int, int, int, int, int, int, bytes] | int] = []
        for path in paths:
            try:
                found, content = _read_one(self, fd, path, most)
            except OSError as error:
                answer.append(error.errno or errno.EIO)
            else:
                answer.append((*_told(found), content))
        return answer

    def stat_files(self: Filesystem, fd: int, paths: list[str], /) -> list[FileFound | int]:
        """Look at paths; in place of one that fails, its errno."""
        answer: list[FileFound | int] = []
        for path in paths:
            try:
                answer.append(_told(self.stat(path, dir_fd=fd, follow_symlinks=False)))
            except OSError as error:
                answer.append(error.errno or errno.EIO)
        return answer

    def read_links(self: Filesystem, fd: int, names: list[str], /) -> list[str | int]:
        """Read symbolic links; in place of one that fails, its errno."""
        answer: list[str | int] = []
        for name in names:
            try:
                answer.append(self.readlink(name, dir_fd=fd))
            except OSError as error:
                answer.append(error.errno or errno.EIO)
        return answer


def _look_at_disk(
    filesystem: Filesystem, folder_fd: int, name: str, disks: list[str]
) -> tuple[int, int, int, int, int, int, int]:
    for number, disk in enumerate(disks):
        try:
            found = filesystem.stat(f"{name}/{disk}", dir_fd=folder_fd, follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                continue
            return number, error.errno or errno.EIO, 0, 0, 0, 0, 0
        return number, 0, found.st_mode, found.st_dev, found.st_ino, found.st_nlink, found.st_blocks
    return -1, 0, 0, 0, 0, 0, 0


def _read_one(filesystem: Filesystem, folder_fd: int, path: str, most: int) -> tuple[Stat, bytes]:
    fd = filesystem.open(path, _READ, dir_fd=folder_fd)
    try:
        return filesystem.fstat(fd), filesystem.read(fd, most)
    finally:
        # Nothing was written through it: whatever `close` says, it is gone.
        with suppress(OSError):
            filesystem.close(fd)


def _told(found: Stat) -> FileFound:
    return (
        found.st_mode,
        found.st_dev,
        found.st_ino,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )


def _lock(fd: int) -> None:
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _unlock(fd: int) -> None:
    fcntl.flock(fd, fcntl.LOCK_UN)


def _take_lease(fd: int) -> None:
    # The default signal of a lease break, SIGIO, kills the process; SIGURG is ignored unless asked for.
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)


def _ask_lease(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_GETLEASE)


class _Posix(FolderCalls):
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
    unlock = staticmethod(_unlock)
    lock_holder = staticmethod(find_lock_holder)
    take_lease = staticmethod(_take_lease)
    ask_lease = staticmethod(_ask_lease)
    find_barrier = staticmethod(find_barrier)
    now_ns = staticmethod(time.time_ns)
    earliest_stamp_ns = staticmethod(earliest_stamp_ns)


_core = None if os.environ.get("HMRET_NATIVE") == "0" else _built
NATIVE = _core is not None
"""Whether whole-folder work is done by the native core."""


def _posix() -> Filesystem:
    if _core is None:
        return _Posix()
    calls = ("list_folder", "look_at_images", "read_files", "stat_files", "read_links")
    functions = {name: staticmethod(getattr(_core, name)) for name in calls}
    native: Filesystem = type("_NativePosix", (_Posix,), functions)()
    return native


POSIX: Filesystem = _posix()
"""The real one."""
