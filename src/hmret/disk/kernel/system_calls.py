"""The system calls that hmret makes, as a protocol, and the values that go in and out.

Everything takes directory file descriptors, so that a path is walked one checked step at a time.
"""

import enum
import fcntl
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

__all__ = [
    "DigestListing",
    "Entry",
    "FileFound",
    "FileLease",
    "Filesystem",
    "HeldFile",
    "HeldFolder",
    "ImageLook",
    "Listing",
    "Space",
    "Stat",
    "Step",
]

ImageLook = tuple[int, bytes, int, int, int, int, int, tuple[int, int, int] | None, bool]
"""Of one image: errno of its metadata (0: it was read), what was read of it, its inode, its ctime in nanoseconds; which
name its disk has, by number (-1: none), errno of that, and the disk's blocks (-1: it is no regular file); its device,
inode and number of links where it has more than one; and whether all of that is there, and nothing but regular files
beside it."""

FileFound = tuple[int, int, int, int, int, int]
"""Mode, device, inode, size in bytes, mtime and ctime in nanoseconds."""

HeldFile = tuple[str, int, int, int, int, int, int, int, int, int]
"""Of a file in a folder: its name, its descriptor (-1: it could not be opened), errno of that (0: it could); mode, device,
inode, number of links, size in bytes, blocks, ctime in nanoseconds."""

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
        """Return whether this is a folder."""
        ...

    def is_symlink(self) -> bool:
        """Return whether this is a symbolic link."""
        ...

    def inode(self) -> int:
        """Return the inode number that the folder's listing states."""
        ...


class FileLease:
    """The kernel's answers about a write lease on a file."""

    HELD = fcntl.F_WRLCK
    """Nobody but us has the file open."""


class Step(enum.IntEnum):
    """How far the deletion of an image has come that was to be carried out in one call; `_retiring.c` has the same numbers."""

    NOT_BEGUN = 0
    """Nothing was changed."""
    LEASED = 1
    """Every file is leased, and a rename has failed."""
    RENAMED = 2
    """It is out of the cache, and what has to be looked at then was not as expected."""
    SETTLED = 3
    """Nobody has opened it meanwhile; something has come in its place, or may have."""
    LOOKED = 4
    """Nothing has come in its place; those of its tags and timers are to follow that have not."""
    DONE = 5


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
        """Return what is left of the lease: `FileLease.HELD`, or anything else when somebody has begun to open the file."""
        ...

    def find_barrier(self, path: str, *, dir_fd: int | None = None) -> str:
        """Return why what is at a path can be neither renamed nor removed, or nothing in it; empty: nothing is known to be so.

        Opens nothing, and raises nothing.
        """
        ...

    def now_ns(self) -> int:
        """Return the time by the clock that stamps this file system's files, in nanoseconds since the epoch."""
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

    def hold_folders(
        self, fds: list[int], names: list[str], metadata: str, most: int, /
    ) -> list[HeldFolder | int]:
        """Open folders, each in an open one of its own, as `hold_folder` does; in place of one that fails, its errno.

        None at all where nothing is gained by it: then each is to be held when its turn comes.
        """
        ...

    def retire_folder(  # noqa: PLR0917 - each is of another kind
        self,
        fds: tuple[int, int, int, int, int],
        names: tuple[str, str],
        numbers: tuple[int, int, int, bool, bool],
        files: list[int],
        absent: list[str],
        tags: tuple[list[int], list[str], list[int], list[str], list[str]],
        timers: tuple[list[int], list[str], list[int]],
        /,
    ) -> tuple[int, int, int]:
        """Take leases, rename a folder out of the cache, and remove its tags and its timers, as long as all is as expected.

        Every call that `hmret.disk.deletion.retirement` makes of one folder that goes alone, in its order. Returns how far it has
        come, a `Step`; why it went no further (errno); and how many of the tags, the last ones, are gone for good. What
        `hold_folders` has held is closed from `Step.SETTLED` on.

        Args:
            fds: of the data directory, the folder that it stands in, the trash, itself, and its metadata.
            names: what it is called, and what in the trash.
            numbers: its inode; its mtime and its metadata's ctime, in nanoseconds; whether renames are to be on the disk
                before anything follows; whether leases are asked for.
            files: its open files.
            absent: paths below the data directory at which nothing may be once it has gone.
            tags: folders, names, inodes, and targets of its tags, and what each is called in the trash.
            timers: folders and names of its timers, and of each six numbers, as `FileFound`.
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
