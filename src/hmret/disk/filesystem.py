"""The system calls that hmret makes, as one value, so that tests can substitute a disk of their own.

`POSIX` holds the functions of `os` and `fcntl` themselves: a call through it costs one attribute look-up.

Some calls do whole-folder work. `FolderCalls` composes them of the single calls. Where the native core has
been built, it does each of them in one call with the interpreter's lock released.

**The native core's contract.** It replaces a series of single calls by one, and decides nothing.
`retire_folder` compares with what Python has found before; at the first difference it stops and reports how
far it has got, and Python continues from that very step, by the same code as without the core. Calls, their
order, their flags and their errno are those of `FolderCalls` and `hmret.disk.deletion.retirement`; tests run
both on equal disks. So a crash within a native call leaves what a crash between the single calls would leave,
and recovery needs to know of no other state. The core keeps nothing between calls, retries only EINTR, and
either returns or closes each descriptor that it opens; those that it is given stay open, except that
`retire_folder` closes an image's from `Step.CLOSED` on, and `close_all` closes all.
"""

import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import ModuleType

try:
    import hmret.disk._native as _built
except ImportError:  # the native core was not built
    _built = None  # type: ignore[assignment]  # a module, or none

from hmret.disk.kernel.barriers import find_barrier
from hmret.disk.kernel.folder_calls import FolderCalls
from hmret.disk.kernel.lock_holder import find_lock_holder
from hmret.disk.kernel.stamps import earliest_stamp_ns
from hmret.disk.kernel.system_calls import (
    DigestListing,
    FileFound,
    FileLease,
    FileRead,
    Filesystem,
    FilesystemSpace,
    FolderEntry,
    FolderRead,
    HeldFile,
    HeldFolder,
    ImageLook,
    Listing,
    Stat,
    Step,
)

__all__ = [
    "NATIVE",
    "POSIX",
    "DigestListing",
    "FileFound",
    "FileLease",
    "FileRead",
    "Filesystem",
    "FilesystemSpace",
    "FolderCalls",
    "FolderEntry",
    "FolderRead",
    "HeldFile",
    "HeldFolder",
    "ImageLook",
    "Listing",
    "Stat",
    "Step",
]


def _lock(fd: int) -> None:
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _unlock(fd: int) -> None:
    fcntl.flock(fd, fcntl.LOCK_UN)


def _take_lease(fd: int) -> None:
    # guard(opener-cannot-kill-service): A lease break sends SIGIO by default, which would kill this process
    # whenever another process opens a disk; SIGURG is ignored.
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)


def _ask_lease(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_GETLEASE)


def _scandir(fd: int) -> "AbstractContextManager[Iterator[os.DirEntry[str]]]":
    entries = os.scandir(fd)  # nothing is read yet
    try:
        # guard(listing-shows-latecomers): On btrfs a descriptor lists what was there when it was opened or
        # last rewound: without this, a file that a pull has put into a folder since would not be seen.
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError:
        entries.close()
        raise
    return entries


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
    scandir: Callable[[int], "AbstractContextManager[Iterator[os.DirEntry[str]]]"] = staticmethod(_scandir)
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


# The interface number of `_native.c`. A core with another number is ignored: an update of a checkout may
# leave one behind.
_INTERFACE = 3


def _usable(core: ModuleType | None) -> ModuleType | None:
    """Return the native core if it was built for this version and is not switched off; else None."""
    if os.environ.get("HMRET_NATIVE") == "0" or getattr(core, "INTERFACE", None) != _INTERFACE:
        return None
    return core


_core = _usable(_built)
NATIVE = _core is not None
"""Whether the native core does whole-folder work."""


def _posix() -> Filesystem:
    if _core is None:
        return _Posix()
    functions = {
        name: staticmethod(getattr(_core, name)) for name in vars(FolderCalls) if hasattr(_core, name)
    }
    native: Filesystem = type("_NativePosix", (_Posix,), functions)()
    return native


POSIX: Filesystem = _posix()
"""The real file system."""
