"""The system calls that hmret makes, as one value, so that tests can put a disk of their own in its place.

`POSIX` holds the functions of `os` and `fcntl` themselves: a call through it costs one attribute look-up.
Everything takes directory file descriptors, so that a path is walked one checked step at a time.

Some calls do whole-folder work. `FolderCalls` does them by the single calls; the native core does each of them in one
call, with the interpreter's lock released, where it has been built.
"""

import errno
import fcntl
import os
import re
import signal
import stat
import struct
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
    "DigestListing",
    "Entry",
    "FileFound",
    "Filesystem",
    "FolderCalls",
    "HeldFile",
    "HeldFolder",
    "ImageLook",
    "Lease",
    "Listing",
    "Space",
    "Stat",
]

ImageLook = tuple[int, bytes, int, int, int, int, int, tuple[int, int, int] | None, bool]
"""Of one image: errno of its metadata (0: it was read), what was read of it, its inode, its ctime in nanoseconds; which
name its disk has, by number (-1: none), errno of that, and the disk's blocks (-1: it is no regular file); its device,
inode and number of links where it has more than one; and whether all of that is there, and nothing but regular files
beside it."""

FileFound = tuple[int, int, int, int, int, int]
"""Mode, device, inode, size in bytes, mtime and ctime in nanoseconds."""

HeldFile = tuple[str, int, int, int, int, int, int, int, int]
"""Of a file in a folder: its name, its descriptor (-1: it could not be opened), errno of that (0: it could); mode, device,
inode, number of links, size in bytes, blocks."""

HeldFolder = tuple[int, int, int, list[HeldFile], list[str], bytes]
"""Of a folder that is held open: its descriptor, its inode, its mtime in nanoseconds; its files and the names of its
folders, in no order; what was read of its metadata."""

DigestListing = tuple[list[tuple[int, int, int]], list[tuple[str, int]], list[str]]
"""What stands in a folder of digests: of each part its number, how many folders are in it, and what they add up to; names
and inodes in the parts that are not as they were; and names of what is no folder of a digest."""

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

    def list_digests(self, fd: int, digits: int, known: bytes, /) -> DigestListing:
        """List an open folder of digests, in parts by their first digits; no link is followed.

        A part's folders add up to 63 bits of the sum of their names (15 digits) times twice their inodes (63 bits) plus one.
        `known`: count and sum, 64 bits each, of each part that there can be; or nothing.
        """
        ...

    def changed_paths(self, fd: int, paths: bytes, marks: bytes, follow: bool, /) -> list[int]:
        """Look which paths are not what they were; returns the numbers of those, and of what cannot be looked at.

        Each path has a zero byte behind it, and a mark, of 64 bits each: device, inode, mtime and ctime in nanoseconds; or
        63 bits of the inode, and ctime.
        `follow`: whether a link in the last component is followed.
        """
        ...

    # What belongs together in a deletion.

    def hold_folder(self, fd: int, name: str, metadata: str, most: int, /) -> HeldFolder:
        """Open a folder in an open one, and all that is in it and is no folder; read at most `most` bytes of its metadata.

        No link is followed, nor does a pipe make this wait. What was opened is the caller's to close.

        Raises:
            OSError: it cannot be opened or listed; then nothing of it is open.
        """
        ...

    def hold_file(self, fd: int, name: str, most: int, /) -> tuple[int, FileFound, bytes]:
        """Open a file that is no link, look at it, and read at most `most` bytes of it; the caller closes it.

        Raises:
            OSError: that failed; then it is not open.
        """
        ...

    def take_leases(self, fds: list[int], /) -> list[int]:
        """Take write leases, as `take_lease` does; returns errno for each (0: it was given), up to the first EAGAIN."""
        ...

    def are_leased(self, fds: list[int], /) -> bool:
        """Return whether each is leased still, as `ask_lease` tells.

        Raises:
            OSError: that could not be told of one.
        """
        ...

    def close_all(self, fds: list[int], /) -> None:
        """Close descriptors that nothing was written through: whatever `close` says, they are gone."""
        ...

    def set_aside(
        self, fd: int, tags: list[str], inodes: list[int], beside_fd: int, names: list[str], /
    ) -> list[tuple[int, int, int, str]]:
        """Rename links out of an open folder, each if it is the one of its inode, to names in another, and look at them there.

        Returns for each errno (0: it stands there now; ENOENT also where it was another), and of what stands there errno of
        the look at it (EINVAL: it is no link), its inode, and where it leads.
        """
        ...

    def erase_folder(self, fd: int, name: str, files: list[str], disks: list[str], /) -> tuple[int, int]:
        """Remove a folder in an open one by the names of all files in it, in their order, following no link.

        Returns errno (0: it has gone), and the blocks that came free of those of its files that are `disks`.
        """
        ...


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
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
            fault, content, inode, changed_ns, is_file = 0, b"", 0, 0, False
            try:
                found, content = _read_one(self, fd, f"{name}/{metadata}", most)
                inode, changed_ns, is_file = found.st_ino, found.st_ctime_ns, stat.S_ISREG(found.st_mode)
            except OSError as error:
                fault = error.errno or errno.EIO
            disk = number, disk_fault, blocks, _ = _look_at_disk(self, fd, name, disks)
            is_whole = is_file and not fault and number >= 0 and not disk_fault and blocks >= 0
            is_plain = is_whole and _holds_files_only(self, fd, name, {metadata, disks[number]})
            answer.append((fault, content, inode, changed_ns, *disk, is_plain))
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

    def hold_folder(self: Filesystem, fd: int, name: str, metadata: str, most: int, /) -> HeldFolder:
        """Open a folder, and all that is in it and is no folder."""
        folder_fd = self.open(name, _FOLDER, dir_fd=fd)
        files: list[HeldFile] = []
        content = b""
        try:
            found = self.fstat(folder_fd)
            with self.scandir(folder_fd) as entries:
                kinds = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
            for entry, is_folder in kinds:
                if not is_folder:
                    files.append(_hold_one(self, folder_fd, entry))
                    if entry == metadata and stat.S_ISREG(files[-1][3]):
                        content = self.pread(files[-1][1], most, 0)
        except BaseException:
            self.close_all([folder_fd, *(file[1] for file in files)])
            raise
        folders = [entry for entry, is_folder in kinds if is_folder]
        return folder_fd, found.st_ino, found.st_mtime_ns, files, folders, content

    def hold_file(self: Filesystem, fd: int, name: str, most: int, /) -> tuple[int, FileFound, bytes]:
        """Open a file, look at it, and read it."""
        file_fd = self.open(name, _READ, dir_fd=fd)
        try:
            return file_fd, _told(self.fstat(file_fd)), self.read(file_fd, most)
        except BaseException:
            self.close_all([file_fd])
            raise

    def take_leases(self: Filesystem, fds: list[int], /) -> list[int]:
        """Take write leases, up to the first that somebody else is in the way of."""
        answer: list[int] = []
        for fd in fds:
            try:
                self.take_lease(fd)
                answer.append(0)
            except OSError as error:
                answer.append(error.errno or errno.EIO)
                if error.errno == errno.EAGAIN:
                    break
        return answer

    def are_leased(self: Filesystem, fds: list[int], /) -> bool:
        """Return whether each is leased still."""
        return all(self.ask_lease(fd) == Lease.HELD for fd in fds)

    def close_all(self: Filesystem, fds: list[int], /) -> None:
        """Close descriptors; those that are none are passed over."""
        for fd in fds:
            with suppress(OSError):
                self.close(fd)

    def list_digests(self: Filesystem, fd: int, digits: int, known: bytes, /) -> DigestListing:
        """List an open folder of digests, in parts by their first digits."""
        if not 1 <= digits <= _MOST_DIGITS or len(known) not in (0, _PART.size << 4 * digits):
            raise ValueError("out of range")
        links, folders, others, inodes = self.list_folder(fd)
        parts: dict[int, list[tuple[str, int]]] = {}
        for name, inode in zip(folders, inodes, strict=True):
            if _DIGEST.fullmatch(name):
                parts.setdefault(int(name[:digits], 16), []).append((name, inode & _INODE_BITS))
            else:
                others.append(name)
        prints = [(number, len(found), _sum(found)) for number, found in sorted(parts.items())]
        before = dict(enumerate(_PART.iter_unpack(known)))
        fresh = [
            one
            for number, count, total in prints
            if before.get(number) != (count, total)
            for one in parts[number]
        ]
        return prints, fresh, [*links, *others]

    def changed_paths(self: Filesystem, fd: int, paths: bytes, marks: bytes, follow: bool, /) -> list[int]:
        """Look which paths are not what they were; returns the numbers of those, and of what cannot be looked at."""
        names = [os.fsdecode(path) for path in paths.split(b"\0")[:-1]]
        form = _SHORT_MARK if len(marks) == len(names) * _SHORT_MARK.size else _MARK
        if len(marks) != len(names) * form.size or not (not paths or paths.endswith(b"\0")):
            raise ValueError("each path needs a zero byte and a mark")
        changed: list[int] = []
        for number, (name, mark) in enumerate(zip(names, form.iter_unpack(marks), strict=True)):
            try:
                found = self.stat(name, dir_fd=fd, follow_symlinks=follow)
            except OSError:
                changed.append(number)
                continue
            numbers = found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns
            if form is _SHORT_MARK:
                is_still = mark == (found.st_ino & _INODE_BITS, found.st_ctime_ns)
            else:
                is_still = mark == tuple(one & _BITS for one in numbers)
            if not is_still:
                changed.append(number)
        return changed

    def set_aside(
        self: Filesystem, fd: int, tags: list[str], inodes: list[int], beside_fd: int, names: list[str], /
    ) -> list[tuple[int, int, int, str]]:
        """Rename links out of an open folder, each if it is the one of its inode, to names in another."""
        answer: list[tuple[int, int, int, str]] = []
        for tag, inode, name in zip(tags, inodes, names, strict=True):
            try:
                if self.stat(tag, dir_fd=fd, follow_symlinks=False).st_ino != inode:
                    answer.append((errno.ENOENT, 0, 0, ""))
                    continue
                self.rename(tag, name, src_dir_fd=fd, dst_dir_fd=beside_fd)
            except OSError as error:
                answer.append((error.errno or errno.EIO, 0, 0, ""))
                continue
            try:
                found = self.stat(name, dir_fd=beside_fd, follow_symlinks=False)
                answer.append((0, 0, found.st_ino, self.readlink(name, dir_fd=beside_fd)))
            except OSError as error:
                answer.append((0, error.errno or errno.EIO, 0, ""))
        return answer

    def erase_folder(
        self: Filesystem, fd: int, name: str, files: list[str], disks: list[str], /
    ) -> tuple[int, int]:
        """Remove a folder by the names of all files in it."""
        blocks = 0
        try:
            folder_fd = self.open(name, _FOLDER, dir_fd=fd)
            try:
                for file in files:
                    freed = 0
                    if file in disks:
                        found = self.stat(file, dir_fd=folder_fd, follow_symlinks=False)
                        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
                            freed = found.st_blocks
                    self.unlink(file, dir_fd=folder_fd)
                    blocks += freed
            finally:
                self.close_all([folder_fd])
            self.rmdir(name, dir_fd=fd)
        except OSError as error:
            return error.errno or errno.EIO, blocks
        return 0, blocks


def _hold_one(filesystem: Filesystem, folder_fd: int, name: str) -> HeldFile:
    try:
        fd = filesystem.open(name, _READ, dir_fd=folder_fd)
    except OSError as error:
        return name, -1, error.errno or errno.EIO, 0, 0, 0, 0, 0, 0
    try:
        found = filesystem.fstat(fd)
    except BaseException:
        filesystem.close_all([fd])
        raise
    kinds = found.st_mode, found.st_dev, found.st_ino, found.st_nlink
    return name, fd, 0, *kinds, found.st_size, found.st_blocks


_DIGEST = re.compile(r"[0-9a-f]{64}")
_SUM_DIGITS = 15
_MOST_DIGITS = 4
_PART = struct.Struct("=2Q")


def _sum(found: list[tuple[str, int]]) -> int:
    """Add up names and inodes, in whatever order: names are random digits, and no two sums are alike by chance."""
    return sum(int(name[:_SUM_DIGITS], 16) * (2 * inode + 1) for name, inode in found) & _INODE_BITS


_MARK = struct.Struct("=4Q")
_SHORT_MARK = struct.Struct("=2q")
_INODE_BITS = 2**63 - 1
_BITS = 2**64 - 1


_DiskLook = tuple[int, int, int, tuple[int, int, int] | None]
"""The disk's part of an `ImageLook`."""


def _look_at_disk(filesystem: Filesystem, folder_fd: int, name: str, disks: list[str]) -> _DiskLook:
    for number, disk in enumerate(disks):
        try:
            found = filesystem.stat(f"{name}/{disk}", dir_fd=folder_fd, follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                continue
            return number, error.errno or errno.EIO, 0, None
        if not stat.S_ISREG(found.st_mode):
            return number, 0, -1, None
        links = found.st_nlink
        shared = (found.st_dev, found.st_ino, links) if links > 1 else None
        return number, 0, found.st_blocks, shared
    return -1, 0, 0, None


def _holds_files_only(filesystem: Filesystem, folder_fd: int, name: str, known: set[str]) -> bool:
    """Tell whether nothing but regular files is in a folder, as some are known to be; not so where that is not known."""
    try:
        fd = filesystem.open(name, _READ | os.O_DIRECTORY, dir_fd=folder_fd)
    except OSError:
        return False
    try:
        links, folders, others, _ = filesystem.list_folder(fd)
        others = [other for other in others if other not in known]
        if links or folders:
            return False
        return all(
            not isinstance(found, int) and stat.S_ISREG(found[0])
            for found in filesystem.stat_files(fd, others)
        )
    except OSError:
        return False
    finally:
        with suppress(OSError):
            filesystem.close(fd)


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
    functions = {
        name: staticmethod(getattr(_core, name)) for name in vars(FolderCalls) if hasattr(_core, name)
    }
    native: Filesystem = type("_NativePosix", (_Posix,), functions)()
    return native


POSIX: Filesystem = _posix()
"""The real one."""
