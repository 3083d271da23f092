"""One digest folder, held open and leased while it is examined for the last time."""

import errno
import os
import stat
from collections.abc import Collection
from typing import NamedTuple

import attrs

from hmret.disk.filesystem import Filesystem, HeldFile, HeldFolder
from hmret.disk.fingerprints import SETTLING_NS
from hmret.disk.folders import CHUNK, let_go, read_sized_file
from hmret.disk.hypeman.folder_contents import INSTALLING_NS
from hmret.disk.hypeman.scan import image_of
from hmret.disk.layout import HIDDEN_METADATA, INSTALLING, METADATA, ROOTFS_NAMES
from hmret.model.images import Image
from hmret.model.values import define
from hmret.model.verdicts import Reason

_NO_FILE = frozenset((errno.ELOOP, errno.ENXIO))
"""The path is a symbolic link, or a socket."""

_NO_LEASES = frozenset(
    (errno.ENOLCK, errno.EINVAL, errno.EACCES, errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY)
)
"""The file system does not offer leases, or permissions forbid them."""


class _Found(NamedTuple):
    """The status of a file when it was opened."""

    st_mode: int
    st_dev: int
    st_ino: int
    st_nlink: int
    st_size: int
    st_blocks: int
    st_ctime_ns: int
    st_atime_ns: int = 0
    st_mtime_ns: int = 0
    """Unused, like `st_atime_ns`."""


@define(eq=False)
class DigestFolder:
    """The files of one digest folder, each held open until `close`."""

    filesystem: Filesystem
    folder_fd: int
    inode: int
    """The folder's inode."""
    stable_mtime_ns: int | None = None
    """The folder's mtime, if a later change would get a different stamp; None: it might not."""
    metadata_name: str = METADATA
    metadata: bytes = b""
    """The bytes read of the metadata."""
    descriptors: dict[str, int] = attrs.field(factory=dict)
    found: dict[str, _Found] = attrs.field(factory=dict)
    """The status of each file when it was opened."""
    leased: set[str] = attrs.field(factory=set)
    lease_errors: list[OSError] = attrs.field(factory=list)
    """Why leases are not offered here, by the file system or for lack of permission; empty: they are."""

    image: Image | None = None
    """The image by its metadata, once it has been judged."""
    elsewhere: set[str] = attrs.field(factory=set)
    """Files that are held open by another name of theirs, in this folder or in another of the same image."""
    other_entries: set[str] = attrs.field(factory=set)
    """Entries that are not files; only folders in which hypeman prepared something long ago are deleted with it,
    any other is a `fault`.
    """
    fault: tuple[Reason, str] | None = None
    """Why it must not be deleted: an entry that is not a file, or is being prepared."""

    @property
    def is_complete(self) -> bool:
        """Whether it has both metadata and a disk: once its erasing has begun, it has not."""
        return all(
            not self.found.keys().isdisjoint(names) for names in ((METADATA, HIDDEN_METADATA), ROOTFS_NAMES)
        )

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all its files; empty where it holds more, so that it must be listed to be erased."""
        return () if self.other_entries else tuple(self.found)

    @property
    def open_files(self) -> list[tuple[int, int]]:
        """Device and inode of each file that it holds open."""
        return [
            (found.st_dev, found.st_ino) for name, found in self.found.items() if name in self.descriptors
        ]

    def lease(self) -> bool:
        """Take write leases on all files; False if any other process has one of them open.

        While a lease is held, the kernel announces any process that opens the file. The leases are held until
        the files are closed. Where leases are not offered, the files count as not open.

        Raises:
            OSError: a lease failed for another reason.
        """
        # guard(ask-about-every-file): A process may have a disk open that no reference names, so the kernel
        # is asked about each file.
        answers = self.filesystem.take_leases([*self.descriptors.values()])
        for name, error in zip(self.descriptors, answers, strict=False):
            if error == errno.EAGAIN:
                # guard(open-file-keeps-image): An image stays while any process has one of its files open or
                # mapped.
                return False
            if error == 0:
                self.leased.add(name)
                continue
            refusal = OSError(error, os.strerror(error))
            if error not in _NO_LEASES:
                raise refusal
            self.lease_errors.append(refusal)
        return True

    def judge(self, repository: str | None, hexadecimal: str) -> Reason | None:
        """Return why this folder is not a complete image that is ready; None: it is, and may be deleted.

        `repository`: the one whose own folder it is; None: it is content.
        """
        if self.fault is not None:
            return self.fault[0]
        metadata_fd = self.descriptors.get(self.metadata_name)
        disks = [self.found[name] for name in ROOTFS_NAMES if name in self.found]
        if metadata_fd is None or not disks:
            return Reason.BROKEN
        content, size_bytes = self.metadata, self.found[self.metadata_name].st_size
        if len(content) < size_bytes:
            content = read_sized_file(self.filesystem, metadata_fd, size_bytes)
        image = image_of(content, disks[0], repository, hexadecimal)
        if image.broken is not None:
            return Reason.BROKEN
        self.image = image
        return None if image.status == "ready" else Reason.NOT_READY

    def is_unchanged(self, parent_fd: int, name: str, *, is_hidden: bool = False) -> bool:
        """Return whether the folder at a name is still this one with the examined files, opening none of them.

        `is_hidden`: whether its metadata has been hidden since.

        Raises:
            OSError: that could not be determined.
        """
        moved = self.filesystem.stat(name, dir_fd=parent_fd, follow_symlinks=False)
        if moved.st_ino != self.inode:
            return False
        renamed = {METADATA: HIDDEN_METADATA} if is_hidden else {}
        # guard(new-files-show-in-the-stamp): A rename keeps a folder's mtime; a file that arrives or leaves
        # changes it. So what a pull has put in by now is seen.
        if moved.st_mtime_ns != self.stable_mtime_ns or is_hidden:
            with self.filesystem.scandir(self.folder_fd) as entries:
                names = {entry.name for entry in entries}
            known = {renamed.get(name, name) for name in (*self.found, *self.other_entries)}
            # guard(only-known-files-go): A file that a pull has put into the folder since the last look is
            # not deleted with it.
            if names != known:
                return False
            if not all(self._is_same(name, renamed.get(name, name)) for name in self.found):
                return False
        # guard(leases-survive-the-move): A process that opened a file during the rename has broken its lease;
        # the image goes back to it.
        return self.filesystem.are_leased([self.descriptors[name] for name in self.leased])

    def close(self) -> None:
        """Close the files, which releases their leases, and the folder."""
        self.filesystem.close_all([*self.descriptors.values(), self.folder_fd])

    def _is_same(self, name: str, now: str) -> bool:
        """Return whether a file is still the examined one, under the name that it has now."""
        status = self.filesystem.stat(now, dir_fd=self.folder_fd, follow_symlinks=False)
        return status.st_ino == self.found[name].st_ino

    def note_folder(self, name: str) -> None:
        """Record a folder in it.

        Raises:
            OSError: it could not be examined.
        """
        self.other_entries.add(name)
        if not name.startswith(INSTALLING):
            self._note_fault(Reason.BROKEN, f"{name}: a folder")
            return
        status = self.filesystem.stat(name, dir_fd=self.folder_fd, follow_symlinks=False)
        if status.st_mtime_ns > self.filesystem.now_ns() - INSTALLING_NS:
            self._note_fault(Reason.NOT_READY, f"{name}: something is being made in it")

    def note_file(self, held: HeldFile, opened: Collection[tuple[int, int]]) -> None:
        """Record an entry that is not a folder; it is a fault unless a regular file. `opened`: see `open_digest_folder`.

        Raises:
            OSError: it could not be opened.
        """
        name, fd, error, *kinds = held
        if error:
            if error not in _NO_FILE:
                raise OSError(error, os.strerror(error), name)
            self.other_entries.add(name)
            self._note_fault(Reason.BROKEN, f"{name}: not a regular file")
            return
        self.descriptors[name] = fd
        found = _Found(*kinds)
        if not stat.S_ISREG(found.st_mode):
            self._note_fault(Reason.BROKEN, f"{name}: not a regular file")
        # guard(one-lease-per-inode): A file that is open twice gets no lease, so a disk with two names is
        # opened once; else it would seem in use for ever.
        elif found.st_nlink > 1 and (found.st_dev, found.st_ino) in (*opened, *self.open_files):
            # With two descriptors of one file, the kernel grants no lease.
            let_go(self.filesystem, self.descriptors.pop(name))
            self.elsewhere.add(name)
        self.found[name] = found

    def _note_fault(self, reason: Reason, text: str) -> None:
        """Record why it must not be deleted; a reason that will pass counts only if there is no other."""
        if self.fault is None or (self.fault[0] is Reason.NOT_READY and reason is Reason.BROKEN):
            self.fault = reason, text


def open_digest_folder(
    filesystem: Filesystem,
    parent_fd: int,
    name: str,
    opened: Collection[tuple[int, int]] = (),
    metadata_name: str = METADATA,
) -> DigestFolder:
    """Open a digest folder and each file in it; the caller closes it.

    Where it holds anything but files, and folders in which hypeman prepared something long ago, it has a
    `fault`.

    Args:
        filesystem: the system calls.
        parent_fd: the folder that holds it.
        name: its name there.
        opened: device and inode of files that other folders of the image hold open: other names of those are
            not held.
        metadata_name: the name of its metadata.

    Raises:
        OSError: the folder or a file cannot be opened.
    """
    looked_ns = filesystem.now_ns()
    held = filesystem.hold_folder(parent_fd, name, metadata_name, CHUNK)
    return make_digest_folder(filesystem, held, looked_ns, opened, metadata_name)


def make_digest_folder(
    filesystem: Filesystem,
    held: HeldFolder,
    looked_ns: int,
    opened: Collection[tuple[int, int]] = (),
    metadata_name: str = METADATA,
) -> DigestFolder:
    """Turn a folder that was opened and listed a moment ago into what `open_digest_folder` returns.

    Raises:
        OSError: a file in it could not be opened; then nothing of it is open.
    """
    fd, inode, changed_ns, files, folders, content = held
    # guard(fresh-folder-is-relisted): Two changes within two seconds may share a time stamp, so a folder that
    # has just changed is listed again after the rename.
    stable_mtime_ns = changed_ns if changed_ns <= looked_ns - SETTLING_NS else None
    folder = DigestFolder(filesystem, fd, inode, stable_mtime_ns, metadata_name, content)
    try:
        for file_name, file in sorted(
            [*((file[0], file) for file in files), *((one, None) for one in folders)]
        ):
            if file is None:
                folder.note_folder(file_name)
            else:
                folder.note_file(file, opened)
    except BaseException:
        # Files that the loop did not reach are open too; one that is open by another name has been closed.
        left = {file[1] for file in files if file[0] not in folder.found}
        filesystem.close_all(sorted(left - {-1}))
        folder.close()
        raise
    return folder
