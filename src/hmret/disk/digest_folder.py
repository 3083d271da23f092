"""One digest folder, held open and leased while it is looked at for the last time."""

import errno
import os
import stat
from collections.abc import Collection

import attrs

from hmret.disk.filesystem import Filesystem, Lease, Stat
from hmret.disk.folders import let_go, open_folder, read_sized_file
from hmret.disk.hypeman.contents import INSTALLING_NS
from hmret.disk.image_scan import image_of
from hmret.disk.layout import HIDDEN_METADATA, INSTALLING, METADATA, ROOTFS_NAMES
from hmret.model.images import Image
from hmret.model.verdicts import Reason

__all__ = ["DigestFolder", "open_digest_folder"]

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY

_NO_FILE = frozenset((errno.ELOOP, errno.ENXIO))
"""A symbolic link, or a socket."""

_NO_LEASES = frozenset(
    (errno.ENOLCK, errno.EINVAL, errno.EACCES, errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY)
)
"""The file system, or our permissions, do not offer leases."""


@attrs.define(eq=False)
class DigestFolder:
    """The files of one digest folder, each open until `close`."""

    filesystem: Filesystem
    folder_fd: int
    descriptors: dict[str, int] = attrs.field(factory=dict)
    found: dict[str, Stat] = attrs.field(factory=dict)
    """What each file was when it was opened."""
    leased: set[str] = attrs.field(factory=set)
    refusals: list[OSError] = attrs.field(factory=list)
    """Why leases are not offered here, by the file system or for want of permission; empty: they are."""

    image: Image | None = None
    """What its metadata says, once it was judged."""
    elsewhere: set[str] = attrs.field(factory=set)
    """Files that are held open by another name of theirs, in this folder or in another of the same image."""
    besides: set[str] = attrs.field(factory=set)
    """What is in it that is no file: folders in which hypeman made something long ago go along."""
    fault: tuple[Reason, str] | None = None
    """Why it must not be deleted: what is in it that is no file, or is being made."""
    inode: int = attrs.field(init=False)
    """Of the folder."""

    _names: dict[str, str] = attrs.field(factory=dict)
    """What files are called by now, where that is another name."""

    @inode.default
    def _inode_of_folder(self) -> int:
        return self.filesystem.fstat(self.folder_fd).st_ino

    @property
    def is_complete(self) -> bool:
        """Whether it has both metadata and a disk, which is not so any more once its erasing has begun."""
        return all(
            not self.found.keys().isdisjoint(names) for names in ((METADATA, HIDDEN_METADATA), ROOTFS_NAMES)
        )

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all files in it; empty where there is more than files, so that it is to be listed to be erased."""
        return () if self.besides else tuple(self.found)

    @property
    def open_files(self) -> list[tuple[int, int]]:
        """Device and inode of each file that it holds open."""
        return [
            (found.st_dev, found.st_ino) for name, found in self.found.items() if name in self.descriptors
        ]

    def lease(self) -> bool:
        """Take the kernel's word that nobody else has any of the files open; False where somebody has.

        The word is kept, as leases, until the files are closed. Where leases are not offered, nobody is taken
        to have the file open.

        Raises:
            OSError: a lease failed for another reason.
        """
        for name, fd in self.descriptors.items():
            try:
                self.filesystem.take_lease(fd)
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno not in _NO_LEASES:
                    raise
                self.refusals.append(error)
            else:
                self.leased.add(name)
        return True

    def judge(self, repository: str | None, hexadecimal: str, metadata_name: str = METADATA) -> Reason | None:
        """Say why this folder is not a whole image that is ready; None: it is, and may be deleted.

        `repository`: whose own folder it is; None: it is content.
        """
        if self.fault is not None:
            return self.fault[0]
        metadata_fd = self.descriptors.get(metadata_name)
        disks = [self.found[name] for name in ROOTFS_NAMES if name in self.found]
        if metadata_fd is None or not disks:
            return Reason.BROKEN
        content = read_sized_file(self.filesystem, metadata_fd, self.found[metadata_name].st_size)
        image = image_of(content, disks[0], "", repository, hexadecimal)
        if image.broken is not None:
            return Reason.BROKEN
        self.image = image
        return None if image.status == "ready" else Reason.NOT_READY

    def is_still(self, parent_fd: int, name: str, *, is_hidden: bool = False) -> bool:
        """Tell whether this folder now has that name, with the files that were looked at, none being opened.

        `is_hidden`: whether its metadata has been hidden since.
        """
        self._names = {METADATA: HIDDEN_METADATA} if is_hidden else {}
        moved = self.filesystem.stat(name, dir_fd=parent_fd, follow_symlinks=False)
        if moved.st_ino != self.inode:
            return False
        with self.filesystem.scandir(self.folder_fd) as entries:
            names = {entry.name for entry in entries}
        known = {*self.found, *self.besides}
        return names == {self._names.get(known_name, known_name) for known_name in known} and all(
            map(self._is_unchanged, self.found)
        )

    def close(self) -> None:
        """Close the files, which releases their leases, and the folder."""
        for fd in self.descriptors.values():
            let_go(self.filesystem, fd)
        let_go(self.filesystem, self.folder_fd)

    def _is_unchanged(self, name: str) -> bool:
        now = self._names.get(name, name)
        found = self.filesystem.stat(now, dir_fd=self.folder_fd, follow_symlinks=False)
        if found.st_ino != self.found[name].st_ino:
            return False
        return name not in self.leased or self.filesystem.ask_lease(self.descriptors[name]) == Lease.HELD

    def open_files_in(self, opened: Collection[tuple[int, int]]) -> None:
        """Open each file; what is none is a fault. As for `open_digest_folder`."""
        with self.filesystem.scandir(self.folder_fd) as entries:
            names = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        for name, is_folder in names:
            if is_folder:
                self._note_folder(name)
            else:
                self._open_file(name, opened)

    def _note_folder(self, name: str) -> None:
        self.besides.add(name)
        if not name.startswith(INSTALLING):
            self._note_fault(Reason.BROKEN, f"{name}: a folder")
            return
        found = self.filesystem.stat(name, dir_fd=self.folder_fd, follow_symlinks=False)
        if found.st_mtime_ns > self.filesystem.now_ns() - INSTALLING_NS:
            self._note_fault(Reason.NOT_READY, f"{name}: something is being made in it")

    def _open_file(self, name: str, opened: Collection[tuple[int, int]]) -> None:
        try:
            fd = self.filesystem.open(name, _FILE, dir_fd=self.folder_fd)
        except OSError as error:
            if error.errno not in _NO_FILE:
                raise
            self.besides.add(name)
            self._note_fault(Reason.BROKEN, f"{name}: no file")
            return
        self.descriptors[name] = fd
        found = self.filesystem.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            self._note_fault(Reason.BROKEN, f"{name}: no file")
        elif found.st_nlink > 1 and (found.st_dev, found.st_ino) in (*opened, *self.open_files):
            # With two descriptors of one file no lease is given.
            let_go(self.filesystem, self.descriptors.pop(name))
            self.elsewhere.add(name)
        self.found[name] = found

    def _note_fault(self, reason: Reason, text: str) -> None:
        """Note why it must not be deleted: what will pass is told where nothing else is wrong."""
        if self.fault is None or (self.fault[0] is Reason.NOT_READY and reason is Reason.BROKEN):
            self.fault = reason, text


def open_digest_folder(
    filesystem: Filesystem,
    parent_fd: int,
    name: str,
    opened: Collection[tuple[int, int]] = (),
) -> DigestFolder:
    """Open a digest folder and each file in it, to be closed by the caller.

    Where it holds anything but files, and folders in which hypeman made something long ago, it has a `fault`.

    Args:
        filesystem: the disk.
        parent_fd: the folder that it stands in.
        name: its name there.
        opened: device and inode of files that other folders of the image hold open: another name of one is not held open.

    Raises:
        OSError: the folder or a file cannot be opened.
    """
    fd = open_folder(filesystem, name, parent_fd)
    try:
        folder = DigestFolder(filesystem, fd)
    except BaseException:
        let_go(filesystem, fd)
        raise
    try:
        folder.open_files_in(opened)
    except BaseException:
        folder.close()
        raise
    return folder
