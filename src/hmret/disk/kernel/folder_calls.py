"""The whole-folder calls, composed of single calls of any `Filesystem`: they stand in for the native core."""

import errno
import os
import re
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from hmret.disk.kernel.single_looks import (
    FOLDER,
    READ,
    holds_files_only,
    look_at_disk,
    read_folder,
    read_one,
    status_of,
)
from hmret.disk.kernel.system_calls import (
    DigestListing,
    FileFound,
    FileLease,
    FileRead,
    Filesystem,
    FolderRead,
    HeldFile,
    HeldFolder,
    ImageLook,
    Listing,
    Step,
)

T = TypeVar("T")


class FolderCalls:
    """The whole-folder calls, composed of the single calls that a class derived from this one provides."""

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
        """Read the metadata of each image in an open folder, and examine its disk."""
        answer: list[ImageLook] = []
        for name in names:
            fault, content, inode, changed_ns, is_file = 0, b"", 0, 0, False
            try:
                found, content = read_one(self, fd, f"{name}/{metadata}", most)
                inode, changed_ns, is_file = found.st_ino, found.st_ctime_ns, stat.S_ISREG(found.st_mode)
            except OSError as error:
                fault = error.errno or errno.EIO
            disk = number, disk_fault, blocks, _ = look_at_disk(self, fd, name, disks)
            is_whole = is_file and not fault and number >= 0 and not disk_fault and blocks >= 0
            is_plain = is_whole and holds_files_only(self, fd, name, {metadata, disks[number]})
            answer.append((fault, content, inode, changed_ns, *disk, is_plain))
        return answer

    def read_files(self: Filesystem, fd: int, paths: list[str], most: int, /) -> list[FileRead | int]:
        """Read files; the result for a file that fails is its errno."""

        def read(path: str) -> FileRead:
            found, content = read_one(self, fd, path, most)
            return *status_of(found), content

        return _for_each(paths, read)

    def stat_files(self: Filesystem, fd: int, paths: list[str], /) -> list[FileFound | int]:
        """Return the status of paths; the result for a path that fails is its errno."""
        return _for_each(paths, lambda path: status_of(self.stat(path, dir_fd=fd, follow_symlinks=False)))

    def read_links(self: Filesystem, fd: int, names: list[str], /) -> list[str | int]:
        """Read symbolic links; the result for a link that fails is its errno."""
        return _for_each(names, lambda name: self.readlink(name, dir_fd=fd))

    def read_folders(
        self: Filesystem, fd: int, paths: list[str], suffix: str, most: int, most_read: int, /
    ) -> list[FolderRead | int | None]:
        """Read folders, with their links and some of their files; an errno for one that fails."""
        return _for_each(paths, lambda path: read_folder(self, fd, path, suffix, most, most_read))

    def hold_folder(self: Filesystem, fd: int, name: str, metadata: str, most: int, /) -> HeldFolder:
        """Open a folder, and everything in it that is not a folder."""
        folder_fd = self.open(name, FOLDER, dir_fd=fd)
        files: list[HeldFile] = []
        content = b""
        try:
            status = self.fstat(folder_fd)
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
        return folder_fd, status.st_ino, status.st_mtime_ns, files, folders, content

    def hold_folders(
        self: Filesystem, _fds: list[int], _names: list[str], _metadata: str, _most: int, /
    ) -> list[HeldFolder | int]:
        """Open none: with single calls this gains nothing, so each folder is opened when its turn comes."""
        return []

    def retire_folder(self: Filesystem, *_what: object) -> tuple[int, int, int]:
        """Report that nothing was begun: with single calls, `retirement` takes the steps one at a time."""
        return Step.NOT_BEGUN, 0, 0

    def hold_file(self: Filesystem, fd: int, name: str, most: int, /) -> tuple[int, FileFound, bytes]:
        """Open a file, and return its status and content."""
        file_fd = self.open(name, READ, dir_fd=fd)
        try:
            return file_fd, status_of(self.fstat(file_fd)), self.read(file_fd, most)
        except BaseException:
            self.close_all([file_fd])
            raise

    def take_leases(self: Filesystem, fds: list[int], /) -> list[int]:
        """Take write leases, up to the first that another process's open file prevents."""
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
        """Return whether each lease is still held."""
        return all(self.ask_lease(fd) == FileLease.HELD for fd in fds)

    def close_all(self: Filesystem, fds: list[int], /) -> None:
        """Close descriptors; invalid ones are skipped."""
        for fd in fds:
            with suppress(OSError):
                self.close(fd)

    def list_digests(self: Filesystem, fd: int, digits: int, known: bytes, /) -> DigestListing:
        """List an open folder of digests, divided into parts by their first digits."""
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
        """Return the numbers of the paths that have changed or cannot be examined."""
        names = [os.fsdecode(path) for path in paths.split(b"\0")[:-1]]
        form = _SHORT_MARK if len(marks) == len(names) * _SHORT_MARK.size else _MARK
        if len(marks) != len(names) * form.size or not (not paths or paths.endswith(b"\0")):
            raise ValueError("each path needs a zero byte and a mark")
        changed: list[int] = []
        for number, (name, mark) in enumerate(zip(names, form.iter_unpack(marks), strict=True)):
            try:
                status = self.stat(name, dir_fd=fd, follow_symlinks=follow)
            except OSError:
                changed.append(number)
                continue
            numbers = status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns
            if form is _SHORT_MARK:
                # guard(same-file-same-content): A file rewritten in place keeps its inode; its ctime shows
                # that what is known of it no longer holds.
                is_unchanged = mark == (status.st_ino & _INODE_BITS, status.st_ctime_ns)
            else:
                is_unchanged = mark == tuple(one & _BITS for one in numbers)
            if not is_unchanged:
                changed.append(number)
        return changed

    def set_aside(
        self: Filesystem, fd: int, tags: list[str], inodes: list[int], beside_fd: int, names: list[str], /
    ) -> list[tuple[int, int, int, str]]:
        """Rename links out of an open folder to names in another, each if it still has its inode."""
        answer: list[tuple[int, int, int, str]] = []
        for tag, inode, name in zip(tags, inodes, names, strict=True):
            try:
                # guard(newer-tag-is-not-touched): A tag that hypeman has set since stays in its place, so no
                # lookup fails for it.
                if self.stat(tag, dir_fd=fd, follow_symlinks=False).st_ino != inode:
                    answer.append((errno.ENOENT, 0, 0, ""))
                    continue
                self.rename(tag, name, src_dir_fd=fd, dst_dir_fd=beside_fd)
            except OSError as error:
                answer.append((error.errno or errno.EIO, 0, 0, ""))
                continue
            try:
                status = self.stat(name, dir_fd=beside_fd, follow_symlinks=False)
                answer.append((0, 0, status.st_ino, self.readlink(name, dir_fd=beside_fd)))
            except OSError as error:
                answer.append((0, error.errno or errno.EIO, 0, ""))
        return answer

    def erase_folder(
        self: Filesystem, fd: int, name: str, files: list[str], disks: list[str], /
    ) -> tuple[int, int]:
        """Remove a folder, given the names of all files in it."""
        blocks = 0
        try:
            folder_fd = self.open(name, FOLDER, dir_fd=fd)
            try:
                for file in files:
                    freed = 0
                    if file in disks:
                        status = self.stat(file, dir_fd=folder_fd, follow_symlinks=False)
                        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                            freed = status.st_blocks
                    self.unlink(file, dir_fd=folder_fd)
                    blocks += freed
            finally:
                self.close_all([folder_fd])
            self.rmdir(name, dir_fd=fd)
        except OSError as error:
            return error.errno or errno.EIO, blocks
        return 0, blocks


def _for_each(names: list[str], call: Callable[[str], T]) -> list[T | int]:
    """Call a function for each name; the result for one that fails is its errno."""
    answer: list[T | int] = []
    for name in names:
        try:
            answer.append(call(name))
        except OSError as error:
            answer.append(error.errno or errno.EIO)
    return answer


def _hold_one(filesystem: Filesystem, folder_fd: int, name: str) -> HeldFile:
    try:
        # guard(no-links-inside-images): A link inside an image's folder leads to something that is not the
        # image; it is refused, and the image stays.
        fd = filesystem.open(name, READ, dir_fd=folder_fd)
    except OSError as error:
        return name, -1, error.errno or errno.EIO, 0, 0, 0, 0, 0, 0, 0
    try:
        status = filesystem.fstat(fd)
    except BaseException:
        filesystem.close_all([fd])
        raise
    kinds = status.st_mode, status.st_dev, status.st_ino, status.st_nlink
    return name, fd, 0, *kinds, status.st_size, status.st_blocks, status.st_ctime_ns


_DIGEST = re.compile(r"[0-9a-f]{64}")
_SUM_DIGITS = 15
_MOST_DIGITS = 4
_PART = struct.Struct("=2Q")


def _sum(found: list[tuple[str, int]]) -> int:
    """Add up names and inodes in any order: names are random digits, so no two sums are equal by chance."""
    return sum(int(name[:_SUM_DIGITS], 16) * (2 * inode + 1) for name, inode in found) & _INODE_BITS


_MARK = struct.Struct("=4Q")
_SHORT_MARK = struct.Struct("=2q")
_INODE_BITS = 2**63 - 1
_BITS = 2**64 - 1
