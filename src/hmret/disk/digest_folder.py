"""One digest folder, held open and leased while it is looked at for the last time."""

import errno
import os
import stat

import attrs

from hmret.disk.filesystem import Filesystem, Lease, Stat
from hmret.disk.folders import let_go, open_folder, read_sized_file
from hmret.disk.image_scan import image_of
from hmret.disk.layout import METADATA, ROOTFS_NAMES
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

    @property
    def is_complete(self) -> bool:
        """Whether it has both metadata and a disk, which is not so any more once its erasing has begun."""
        return METADATA in self.descriptors and not self.descriptors.keys().isdisjoint(ROOTFS_NAMES)

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

    def judge(self, repository: str, hexadecimal: str, metadata_name: str = METADATA) -> Reason | None:
        """Say why this folder is not a whole image that is ready; None: it is, and may be deleted."""
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

    def is_still(self, parent_fd: int, name: str) -> bool:
        """Tell whether this folder now has that name, with the files that were looked at, none being opened."""
        moved = self.filesystem.stat(name, dir_fd=parent_fd, follow_symlinks=False)
        if moved.st_ino != self.filesystem.fstat(self.folder_fd).st_ino:
            return False
        with self.filesystem.scandir(self.folder_fd) as entries:
            names = {entry.name for entry in entries}
        return names == self.descriptors.keys() and all(
            self._is_unchanged(file_name, fd) for file_name, fd in self.descriptors.items()
        )

    def close(self) -> None:
        """Close the files, which releases their leases, and the folder."""
        for fd in self.descriptors.values():
            let_go(self.filesystem, fd)
        let_go(self.filesystem, self.folder_fd)

    def _is_unchanged(self, name: str, fd: int) -> bool:
        found = self.filesystem.stat(name, dir_fd=self.folder_fd, follow_symlinks=False)
        if found.st_ino != self.found[name].st_ino:
            return False
        return name not in self.leased or self.filesystem.ask_lease(fd) == Lease.HELD


def open_digest_folder(filesystem: Filesystem, parent_fd: int, name: str) -> DigestFolder | None:
    """Open a digest folder and each file in it, to be closed by the caller; None where it holds anything but files.

    Raises:
        OSError: the folder or a file cannot be opened.
    """
    folder = DigestFolder(filesystem, open_folder(filesystem, name, parent_fd))
    is_plain = False
    try:
        is_plain = _open_files(folder)
    finally:
        if not is_plain:
            folder.close()
    return folder if is_plain else None


def _open_files(folder: DigestFolder) -> bool:
    """Open each file; False where something is no file."""
    filesystem, folder_fd = folder.filesystem, folder.folder_fd
    with filesystem.scandir(folder_fd) as entries:
        names = [entry.name for entry in entries]
    for name in names:
        try:
            fd = filesystem.open(name, _FILE, dir_fd=folder_fd)
        except OSError as error:
            if error.errno in _NO_FILE:
                return False
            raise
        folder.descriptors[name] = fd
        found = folder.found[name] = filesystem.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return False
    return True
