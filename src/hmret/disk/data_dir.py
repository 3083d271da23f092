"""The data directory of one engine: held open, locked, and checked repeatedly against its path.

An engine works through open descriptors. If the folder is moved aside, or a volume is mounted over it, the
descriptors still lead to the old folder, while hypeman and the next engine follow the path. So before
anything is deleted, the folders that are held open are compared with those at the paths.
"""

import os
from contextlib import suppress
from typing import Self
from weakref import WeakSet

import attrs

from hmret.disk.filesystem import POSIX, Filesystem
from hmret.disk.folders import let_go, opened_own_folder
from hmret.disk.layout import IMAGES, LOCK, OWN
from hmret.model.errors import DataDirLockedError, DataDirMovedError
from hmret.model.values import define

_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
_NONE = -1


@define(eq=False)
class DataDir:
    """A data directory that belongs to this engine, from `claim` to `close`."""

    filesystem: Filesystem
    path: str
    """The absolute path."""
    fd: int
    """An open descriptor of the directory; the caller that opened it closes it."""
    lock_error: OSError | None = None
    """Why the folder of images could not be locked; then only the data directory is locked."""
    _lock_fd: int = attrs.field(default=_NONE, init=False)
    _images_fd: int = attrs.field(default=_NONE, init=False)
    _is_lost: bool = attrs.field(default=False, init=False)
    """Whether this is a forked child of the process that made the claim."""

    @classmethod
    def claim(cls, filesystem: Filesystem, fd: int, path: str) -> Self:
        """Claim an open data directory, and the images in it, for this engine.

        Raises:
            DataDirLockedError: another engine has one of them.
            OSError: the lock file cannot be made.
        """
        claimed = cls(filesystem, path if path.startswith("/") else os.path.abspath(path), fd)  # noqa: PTH100 - links stay
        try:
            claimed._lock()
            # guard(one-engine-per-cache): Two data directories can share their images; two engines there
            # would delete what the other one protects.
            claimed._hold_images()
        except BaseException:
            claimed.close()
            raise
        if filesystem is POSIX:
            _claimed.add(claimed)
        return claimed

    def check(self) -> None:
        """Compare the folders that are held open with those at the paths; claim images that have appeared since.

        Raises:
            DataDirMovedError: a path leads elsewhere, or nowhere.
            DataDirLockedError: images have appeared, and another engine has them; or this is a forked child
                of the process that made the claim.
            OSError: the comparison failed.
        """
        if self._is_lost:
            raise DataDirLockedError(f"{self.path}: a forked child has no lock on it")
        held = [(self.path, self.fd), (f"{self.path}/{OWN}/{LOCK}", self._lock_fd)]
        if self._images_fd != _NONE:
            held.append((f"{self.path}/{IMAGES}", self._images_fd))
        for path, fd in held:
            if not self._leads_to(path, fd):
                raise DataDirMovedError(
                    f"{path}: no longer the folder that this engine opened: it was moved, removed or mounted over; "
                    "restart the engine to work on what is there now"
                )
        if self._images_fd == _NONE:
            self._hold_images()

    def close(self) -> None:
        """Release the claim, even if a forked child still has the files open."""
        for fd in (self._images_fd, self._lock_fd):
            if fd != _NONE:
                with suppress(OSError):
                    # guard(lock-ends-with-engine): A child process that has inherited the lock must not keep
                    # the next engine from starting.
                    self.filesystem.unlock(fd)
        self._let_go()

    def _lock(self) -> None:
        filesystem = self.filesystem
        with opened_own_folder(filesystem, self.fd) as own_fd:
            fd = filesystem.open(LOCK, _FILE, 0o600, dir_fd=own_fd)
        try:
            # guard(one-engine-per-directory): Two engines on one directory would know nothing of each other's
            # locks, and delete what the other has in use.
            filesystem.lock(fd)
        except BlockingIOError:
            written = ""
            with suppress(OSError):
                written = filesystem.pread(fd, 32, 0).decode("ascii", "replace").strip()
            whose = self._whose(fd, int(written) if written.isdecimal() else None)
            let_go(filesystem, fd)
            raise DataDirLockedError(
                f"{self.path}: another engine{whose} works on this data directory"
            ) from None
        except OSError:
            let_go(filesystem, fd)
            raise
        self._lock_fd = fd
        with suppress(OSError):
            filesystem.write(fd, f"{os.getpid():<31}\n".encode())

    def _hold_images(self) -> None:
        """Open and lock the folder of images, if it exists: another data directory may share it."""
        filesystem = self.filesystem
        try:
            fd = filesystem.open(IMAGES, _FOLDER, dir_fd=self.fd)
        except OSError:
            return  # absent, or no folder: a scan reports what is wrong with it
        try:
            filesystem.lock(fd)
        except BlockingIOError:
            whose = self._whose(fd, None)
            let_go(filesystem, fd)
            raise DataDirLockedError(
                f"{self.path}/{IMAGES}: another engine{whose} works on these images, from another data directory"
            ) from None
        except OSError as error:
            self.lock_error = error
        self._images_fd = fd

    def _whose(self, fd: int, written: int | None) -> str:
        holder = self.filesystem.lock_holder(fd, written)
        return "" if holder is None else f" (process {holder})"

    def _leads_to(self, path: str, fd: int) -> bool:
        try:
            status = self.filesystem.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        held = self.filesystem.fstat(fd)
        return (status.st_dev, status.st_ino) == (held.st_dev, held.st_ino)

    def _let_go(self) -> None:
        for fd in (self._images_fd, self._lock_fd):
            if fd != _NONE:
                let_go(self.filesystem, fd)
        self._images_fd = self._lock_fd = _NONE

    def _let_go_in_child(self) -> None:
        """Close the descriptors that a forked child has inherited; the parent keeps the lock until it ends."""
        self._let_go()
        self._is_lost = True


_claimed: WeakSet[DataDir] = WeakSet()


def _let_go_in_child() -> None:
    for claimed in list(_claimed):
        claimed._let_go_in_child()  # noqa: SLF001 - of this module
    _claimed.clear()


# guard(forked-child-has-no-claim): A forked child that went on as the engine would delete beside its parent,
# both under one lock.
os.register_at_fork(after_in_child=_let_go_in_child)
