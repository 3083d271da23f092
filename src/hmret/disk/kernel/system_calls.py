"""The system calls that hmret makes, as a protocol, with the values that they take and return.

Everything is relative to directory descriptors, so that a path is walked one checked step at a time.
"""

import enum
import fcntl
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

ImageLook = tuple[int, bytes, int, int, int, int, int, tuple[int, int, int] | None, bool]
"""One image: errno of reading its metadata (0: read), the bytes read, its inode, its ctime in nanoseconds;
the number of its disk's name (-1: none), errno of examining that, and the disk's blocks (-1: it is not a regular
file); the disk's device, inode and number of links where it has more than one; and whether all of it exists,
with only regular files beside it.
"""

FileFound = tuple[int, int, int, int, int, int]
"""Mode, device, inode, size in bytes, mtime and ctime in nanoseconds."""

FileRead = tuple[int, int, int, int, int, int, bytes]
"""The same of a file, and the bytes read of it."""

FolderRead = tuple[FileFound, list[str], list[str | int], list[str], list[str], list[FileRead | int]]
"""A folder that was read in one call: its status; its links, and the target of each, or an errno; its
folders; everything else; and what was read of the files among that, or an errno, in the same order.
"""

HeldFile = tuple[str, int, int, int, int, int, int, int, int, int]
"""A file in a folder: its name, its descriptor (-1: it could not be opened), errno of that (0: it could);
mode, device, inode, number of links, size in bytes, blocks, ctime in nanoseconds.
"""

HeldFolder = tuple[int, int, int, list[HeldFile], list[str], bytes]
"""A folder that is held open: its descriptor, its inode, its mtime in nanoseconds; its files and the names of
its folders, in no order; the bytes read of its metadata.
"""

DigestListing = tuple[list[tuple[int, int, int]], list[tuple[str, int]], list[str]]
"""The contents of a folder of digests: for each part its number, how many folders are in it, and their
checksum; names and inodes in the parts that have changed; and names of everything that is not a folder of a
digest.
"""

Listing = tuple[list[str], list[str], list[str], list[int]]
"""The contents of a folder: links, folders, everything else, and the inodes of the folders."""


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


class FilesystemSpace(Protocol):
    """The fields of `os.statvfs_result` that are used; numbers of units of `f_frsize` bytes."""

    @property
    def f_frsize(self) -> int: ...
    @property
    def f_blocks(self) -> int: ...
    @property
    def f_bfree(self) -> int: ...
    @property
    def f_bavail(self) -> int: ...


class FolderEntry(Protocol):
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
    """No other process has the file open."""


class Step(enum.IntEnum):
    """How far the deletion of an image in one call has got; `_retirement.c` has the same numbers."""

    NOT_BEGUN = 0
    """Nothing was changed."""
    LEASED = 1
    """The last look is over, with every file leased where leases are taken; it is still in its place."""
    RENAMED = 2
    """It is out of the cache, but the checks after the rename found something unexpected."""
    CLOSED = 3
    """No process has opened it during the rename; something has appeared in its place, or may have."""
    LOOKED = 4
    """Nothing has appeared in its place; tags and timers that have not been removed are still to be removed.
    """
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
    def fstatvfs(self, fd: int, /) -> FilesystemSpace: ...
    def scandir(self, fd: int) -> "AbstractContextManager[Iterator[FolderEntry]]":
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
        """Release a `flock`, even if other processes share the same open file."""
        ...

    def lock_holder(self, fd: int, written: int | None) -> int | None:
        """Return the process with the `flock` of a file; `written` is the id that it wrote there. None: unknown."""
        ...

    def take_lease(self, fd: int) -> None:
        """Take a write lease: BlockingIOError while any other process has the file open or mapped.

        A later opener makes the kernel send SIGURG, which is ignored by default. The opener waits until the
        lease is released (by closing the descriptor) or the kernel breaks it.
        """
        ...

    def ask_lease(self, fd: int) -> int:
        """Return the state of a lease: `FileLease.HELD`, or another once a process has begun to open the file."""
        ...

    def find_barrier(self, path: str, *, dir_fd: int | None = None) -> str:
        """Return why the kernel would refuse to rename or remove a path, or anything in it; empty: no reason is known.

        Opens nothing, and raises nothing.
        """
        ...

    def now_ns(self) -> int:
        """Return the time by the clock that stamps this file system's files, in nanoseconds since the epoch."""
        ...

    def earliest_stamp_ns(self, fd: int, /) -> int | None:
        """Return the earliest stamp that a change from now on can get, on an open file's file system.

        In nanoseconds since the epoch. None: unknown, because stamps are coarse there, or made by another
        clock.
        """
        ...

    # Whole-folder work. Where a call takes many names, it raises for none of them: each has its own errno.

    def list_folder(self, fd: int, /) -> Listing:
        """List an open folder, by kind; no link is followed."""
        ...

    def look_at_images(
        self, fd: int, names: list[str], metadata: str, disks: list[str], most: int, /
    ) -> list[ImageLook]:
        """Read at most `most` bytes of the metadata of each image in an open folder, and examine its disk.

        `disks`: the possible names of a disk, of which the first that exists counts. No last component is
        followed.
        """
        ...

    def read_files(self, fd: int, paths: list[str], most: int, /) -> list[FileRead | int]:
        """Read at most `most` bytes of each file, following no link; for one that fails, its errno."""
        ...

    def stat_files(self, fd: int, paths: list[str], /) -> list[FileFound | int]:
        """Return the status of paths, following no link in the last component; for one that fails, its errno."""
        ...

    def read_links(self, fd: int, names: list[str], /) -> list[str | int]:
        """Read symbolic links; the result for a link that fails is its errno."""
        ...

    def read_folders(
        self, fd: int, paths: list[str], suffix: str, most: int, most_read: int, /
    ) -> list[FolderRead | int | None]:
        """Read folders below an open one: list each, then read its links, then the files whose names end with a suffix.

        Each is opened and its status asked before it is listed. No link is followed in a last component.
        Returns for a folder that fails its errno; None for one with more than `most_read` links or than that
        many files to read.

        Args:
            fd: the open folder.
            paths: those of the folders.
            suffix: that of the files to read; empty: none is read.
            most: how many bytes are read of each file.
            most_read: how many links, and how many files, are read in each folder.
        """
        ...

    def list_digests(self, fd: int, digits: int, known: bytes, /) -> DigestListing:
        """List an open folder of digests, divided into parts by their first digits; no link is followed.

        The checksum of a part is the sum, over its folders, of the name (15 digits) times twice the inode (63
        bits) plus one, cut to 63 bits. `known`: count and checksum, 64 bits each, of every possible part; or
        empty.
        """
        ...

    def changed_paths(self, fd: int, paths: bytes, marks: bytes, follow: bool, /) -> list[int]:
        """Return the numbers of the paths that have changed or cannot be examined.

        Each path ends with a zero byte. Each mark consists of 64-bit numbers: device, inode, mtime and ctime
        in nanoseconds; or 63 bits of the inode, and the ctime. `follow`: whether a link in the last component
        is followed.
        """
        ...

    # Calls that belong together in a deletion.

    def hold_folder(self, fd: int, name: str, metadata: str, most: int, /) -> HeldFolder:
        """Open a folder, and everything in it that is not a folder; read at most `most` bytes of its metadata.

        No link is followed, and a pipe does not block. The caller closes what was opened.

        Raises:
            OSError: the folder cannot be opened or listed; then nothing of it is open.
        """
        ...

    def hold_folders(
        self, fds: list[int], names: list[str], metadata: str, most: int, /
    ) -> list[HeldFolder | int]:
        """Open folders as `hold_folder` does, each in an open one of its own; for one that fails, its errno.

        Returns an empty list where this gains nothing: then the caller opens each when its turn comes.
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
        """Take leases, rename a folder out of the cache, remove its tags and timers; stop at anything unexpected.

        These are the calls that `hmret.disk.deletion.retirement` makes for one folder that goes alone, in the
        same order. Returns how far it has got, a `Step`; the errno that stopped it; and how many of the tags,
        counted from the last, have been removed for good. The descriptors from `hold_folders` are closed from
        `Step.CLOSED` on.

        Args:
            fds: of the data directory, the parent folder, the trash, the folder itself, and its metadata.
            names: the folder's name, and its name in the trash.
            numbers: its inode; its mtime and its metadata's ctime, in nanoseconds; whether renames must be on
                the disk before anything follows; whether leases are used.
            files: its open files.
            absent: paths below the data directory at which nothing may exist once the folder has gone.
            tags: folders, names, inodes, and targets of its tags, and the name of each in the trash.
            timers: folders and names of its timers, and for each six numbers, as `FileFound`.
        """
        ...

    def hold_file(self, fd: int, name: str, most: int, /) -> tuple[int, FileFound, bytes]:
        """Open a file that is not a link; returns its status and at most `most` bytes of it. The caller closes it.

        Raises:
            OSError: that failed; then it is not open.
        """
        ...

    def take_leases(self, fds: list[int], /) -> list[int]:
        """Take write leases as `take_lease` does; returns errno for each (0: granted), up to the first EAGAIN."""
        ...

    def are_leased(self, fds: list[int], /) -> bool:
        """Return whether each lease is still held, as `ask_lease` reports.

        Raises:
            OSError: one of them could not be queried.
        """
        ...

    def close_all(self, fds: list[int], /) -> None:
        """Close descriptors that nothing was written through; they are closed even if `close` reports an error."""
        ...

    def set_aside(
        self, fd: int, tags: list[str], inodes: list[int], beside_fd: int, names: list[str], /
    ) -> list[tuple[int, int, int, str]]:
        """Rename links to names in another open folder, each if it still has its inode, and examine them there.

        Returns for each: errno (0: renamed; ENOENT also where another link was in its place); then for the
        renamed link errno of examining it (EINVAL: it is not a link), its inode, and its target.
        """
        ...

    def erase_folder(self, fd: int, name: str, files: list[str], disks: list[str], /) -> tuple[int, int]:
        """Remove a folder in an open one, given the names of all files in it, in that order, following no link.

        Returns errno (0: removed), and the blocks that were freed by those of its files that are `disks`.
        """
        ...
