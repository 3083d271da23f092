"""A disk in memory with the calls of `Filesystem`: quick, deterministic, and able to fail at any call.

It keeps to Linux, errno by errno; `disk/test_filesystem.py` holds it to that against the real one. What is simpler:
one process (a foreign one is a `ForeignOpen`), no permissions but `deny`, no access times, and the working folder
is the root.

Durability is that of a journalling file system with ordered metadata (ext4). Namespace operations become durable in
their order: a power cut loses some last ones of those since the last `fsync` of anything. Contents become durable
by the `fsync` of their own file. The helpers (`write_file`, `make_folder`, …) stand for a world that was there before:
what they write is durable, unless namespace operations that are not yet durable came before it.
"""

import copy
import errno
import fcntl
import os
import random
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import update_wrapper
from itertools import count
from types import TracebackType
from typing import Concatenate, NamedTuple, NoReturn, ParamSpec, Self, TypeVar

import attrs

from hmret.disk.filesystem import FileLease, FolderCalls, FolderEntry

__all__ = ["Call", "Crash", "FileStat", "ForeignOpen", "MemoryFilesystem", "Tree"]

P = ParamSpec("P")
R = TypeVar("R")

Tree = dict[str, tuple[str, bytes | str | None]]
"""Path to ("folder", None), ("file", its bytes) or ("link", its target)."""

_BLOCK_BYTES = 4096
_SECTOR_BYTES = 512
_MAX_NAME_BYTES = 255
_MAX_PATH_BYTES = 4095
_MAX_LINKS_FOLLOWED = 40
_UMASK = 0o022
_FIRST_FD = 1_000_000  # no real descriptor is that high: one that strays into `os` is refused there
_ON_THE_WAY = ""  # the name of no call: what a denial of one call does not stop
_SPECIAL = frozenset({"/", ".", ".."})  # "/" stands for the last name of the root's own path
_PATH_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Crash(BaseException):
    """The process ends here, as with kill -9: raised by `before`, and from then on by every call."""


@attrs.frozen
class Call:
    """One call that is about to be made."""

    name: str
    path: str
    """The path as far as it is known without walking it; `source -> target` of a rename."""
    number: int
    """1 is the file system's first call."""


class FileStat(NamedTuple):
    """What `stat` answers."""

    st_mode: int
    st_ino: int
    st_dev: int
    st_nlink: int
    st_size: int
    st_blocks: int
    st_mtime_ns: int
    st_ctime_ns: int
    st_atime_ns: int = 0


class FileSpace(NamedTuple):
    """What `fstatvfs` answers."""

    f_frsize: int
    f_blocks: int
    f_bfree: int
    f_bavail: int


@attrs.define(eq=False, kw_only=True)
class _Inode:
    ino: int
    dev: int
    mode: int
    mtime_ns: int
    ctime_ns: int
    atime_ns: int = 0
    """When it was last read, where a test says so: no read notes it, as on a disk that is mounted `noatime`."""
    nlink: int = 1
    lock: "_Description | None" = None

    @property
    def size_bytes(self) -> int:
        return _BLOCK_BYTES

    @property
    def sectors(self) -> int:
        return _BLOCK_BYTES // _SECTOR_BYTES


@attrs.define(eq=False, kw_only=True)
class _Folder(_Inode):
    nlink: int = 2
    entries: dict[str, _Inode] = attrs.field(factory=dict)
    parent: "_Folder | None" = None
    """None only of the root."""
    name: str = "/"
    mounted: bool = False

    def path(self) -> str:
        """Tell where this folder is now, or was when it was removed."""
        if self.parent is None:
            return "/"
        above = self.parent.path()
        return f"{above}{self.name}" if above == "/" else f"{above}/{self.name}"

    def lies_in(self, folder: _Inode) -> bool:
        """Tell whether this is `folder` or somewhere below it."""
        here: _Folder | None = self
        while here is not None and here is not folder:
            here = here.parent
        return here is not None


@attrs.define(eq=False, kw_only=True)
class _Symlink(_Inode):
    target: str

    @property
    def size_bytes(self) -> int:
        return len(os.fsencode(self.target))

    @property
    def sectors(self) -> int:
        return 0


@attrs.define
class _Unsynced:
    """What a power cut may take of a file: everything changed since it was last durable."""

    size_bytes: int
    start: int
    """The first byte that may differ from the durable content."""
    content: bytes | None = None
    """The durable content; None while bytes were only added behind it."""
    truncated: bool = False


@attrs.define(eq=False, kw_only=True)
class _File(_Inode):
    content: bytes | bytearray = b""
    hole_end: int = 0
    """The apparent size where it is larger than the content: zeros follow."""
    blocks: int | None = None
    opens: int = 0
    """Open descriptions, ours and foreign ones, without those of O_PATH."""
    lease: "_Description | None" = None
    lease_breaking: bool = False
    waiting: "list[ForeignOpen]" = attrs.field(factory=list)
    unsynced: _Unsynced | None = None

    @property
    def size_bytes(self) -> int:
        return max(len(self.content), self.hole_end)

    @property
    def sectors(self) -> int:
        if self.blocks is not None:
            return self.blocks
        return -(-self.size_bytes // _BLOCK_BYTES) * (_BLOCK_BYTES // _SECTOR_BYTES)

    def read(self, offset: int, length: int) -> bytes:
        length = min(length, max(0, self.size_bytes - offset))
        return bytes(self.content[offset : offset + length]).ljust(length, b"\0")

    def write(self, offset: int, content: bytes) -> None:
        self._about_to_change(offset)
        if not isinstance(self.content, bytearray):
            self.content = bytearray(self.content)
        if offset > len(self.content):
            self.content.extend(bytes(offset - len(self.content)))
        self.content[offset : offset + len(content)] = content
        self.blocks = None

    def truncate(self) -> None:
        self._about_to_change(0)
        assert self.unsynced is not None
        self.unsynced.truncated = True
        self.content, self.hole_end, self.blocks = b"", 0, None

    def _about_to_change(self, offset: int) -> None:
        size_bytes = len(self.content)
        if self.unsynced is None:
            self.unsynced = _Unsynced(size_bytes=size_bytes, start=min(offset, size_bytes))
        unsynced = self.unsynced
        unsynced.start = min(unsynced.start, offset)
        if unsynced.content is None and offset < unsynced.size_bytes:
            unsynced.content = bytes(self.content[: unsynced.size_bytes])

    def lose_power(self, rng: random.Random) -> None:
        """Become one of the contents that a power cut can leave."""
        unsynced, self.unsynced = self.unsynced, None
        if unsynced is None:
            return
        new = bytes(self.content)
        old = new[: unsynced.size_bytes] if unsynced.content is None else unsynced.content
        cut = rng.randint(min(unsynced.start, len(new)), len(new))
        torn = new[:cut] if unsynced.truncated else new[:cut] + old[cut:]
        self.content = rng.choice((old, torn, new))


@attrs.define(eq=False)
class _Description:
    """An open file description."""

    inode: _Inode
    flags: int
    folder: _Folder
    name: str
    offset: int = 0

    def path(self) -> str:
        if isinstance(self.inode, _Folder):
            return self.inode.path()
        return f"{self.folder.path().rstrip('/')}/{self.name}"


class ForeignOpen:
    """A file that another process has open or mapped, or waits to open until our lease on it ends."""

    def __init__(self, file: _File) -> None:
        self._file = file
        self.is_open = False
        """False while it waits for the lease, and after `close`."""
        if file.lease is None:
            self._admit()
        else:
            file.lease_breaking = True
            file.waiting.append(self)

    def _admit(self) -> None:
        self.is_open = True
        self._file.opens += 1

    def close(self) -> None:
        """Let go of the file, or give up waiting."""
        if self.is_open:
            self._file.opens -= 1
        elif self in self._file.waiting:
            self._file.waiting.remove(self)
        self.is_open = False


class _Entry:
    __slots__ = ("_filesystem", "_folder", "_inode", "name")

    def __init__(self, filesystem: "MemoryFilesystem", folder: _Folder, name: str, inode: _Inode) -> None:
        self.name = name
        self._filesystem = filesystem
        self._folder = folder
        self._inode = inode

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        if follow_symlinks and isinstance(self._inode, _Symlink):
            return self._filesystem._leads_to_folder(self._folder, self.name)
        return isinstance(self._inode, _Folder)

    def is_symlink(self) -> bool:
        return isinstance(self._inode, _Symlink)

    def inode(self) -> int:
        return self._inode.ino


class _Listing:
    """What `scandir` returns: the entries as they were at the call."""

    def __init__(self, entries: list[FolderEntry]) -> None:
        self._entries = iter(entries)

    def __enter__(self) -> Iterator[FolderEntry]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entries = iter(())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> FolderEntry:
        return next(self._entries)


def _fail(code: int, path: str | None = None) -> NoReturn:
    raise OSError(code, os.strerror(code), path)


def _call(
    function: Callable[Concatenate["MemoryFilesystem", P], R],
) -> Callable[Concatenate["MemoryFilesystem", P], R]:
    """Make a method one of the calls: numbered, announced to `before`, and one at a time."""
    name = function.__name__

    def call(self: "MemoryFilesystem", /, *args: P.args, **kwargs: P.kwargs) -> R:
        self.calls = number = next(self._numbers)
        if self.before is not None:
            self._announce(name, number, args, kwargs)
        with self._mutex:
            self._calling = name
            return function(self, *args, **kwargs)

    update_wrapper(call, function)
    return call


def _undo(changes: "_Changes") -> None:
    for folder, name, inode, stamps in reversed(changes):
        if inode is None:
            folder.entries.pop(name, None)  # it may have been removed durably since
        else:
            folder.entries[name] = inode
        folder.mtime_ns, folder.ctime_ns = stamps


_Change = tuple[_Folder, str, _Inode | None, tuple[int, int]]
_Changes = list[_Change]
"""How a namespace operation is undone: the folder, a name in it, what was there, and the folder's mtime and ctime."""


class MemoryFilesystem(FolderCalls):
    """`Filesystem` without a disk.

    Args:
        clock: Tells the time in nanoseconds; stamps the files and answers `now_ns`.
        order: Shuffles what `scandir` lists; None lists in the order of creation.
    """

    def __init__(self, clock: Callable[[], int], *, order: random.Random | None = None) -> None:
        self.now_ns = clock
        self.before: Callable[[Call], None] | None = None
        """Called before each call, outside of the mutex; what it raises is the call's failure."""
        self.shorten: Callable[[int], int] | None = None
        """Given how many bytes a read or a write is about, tells how many it may do; None: all."""
        self.lease_error: int | None = None
        """The errno of every `take_lease`, of a file system that offers none; None: leases work."""
        self.rename_breaks_leases = False
        """Whether a rename breaks the leases on what is renamed, as on sshfs."""
        self.capacity_bytes = 1 << 40
        """What `fstatvfs` takes for the size of the file system; each mount has it."""
        self.foreign_bytes = 0
        """What others occupy on it."""
        self.calls = 0
        """How many calls were made."""
        self._order = order
        self._numbers = count(1)
        self._inos = count(2)
        self._devs = count(2)
        self._fds = count(_FIRST_FD)
        self._open: dict[int, _Description] = {}
        self._denied: dict[tuple[_Folder, str], dict[str | None, int]] = {}
        self._barred: dict[int, str] = {}
        self._undurable: list[_Changes] = []
        self._mutex = threading.RLock()
        self._calling = _ON_THE_WAY
        self._links_followed = 0
        now_ns = clock()
        self._root = _Folder(ino=1, dev=1, mode=stat.S_IFDIR | 0o755, mtime_ns=now_ns, ctime_ns=now_ns)

    # The calls of `Filesystem`.

    @_call
    def open(self, path: str, flags: int, mode: int = 0o666, *, dir_fd: int | None = None) -> int:
        if flags & os.O_PATH:
            flags &= _PATH_FLAGS
        creates = flags & os.O_CREAT
        if creates and flags & os.O_DIRECTORY:
            _fail(errno.EINVAL, path)
        follow = not flags & os.O_NOFOLLOW and not (creates and flags & os.O_EXCL)
        folder, name, slash, inode = self._find(path, dir_fd, follow=follow, creates=bool(creates))
        if inode is None:
            if not creates or folder.nlink == 0:
                _fail(errno.ENOENT, path)
            inode = self._new_file(folder, mode)
            self._add(folder, name, inode)
        else:
            self._check_open(inode, flags, path, folder_wanted=slash or bool(flags & os.O_DIRECTORY))
        if isinstance(inode, _File) and not flags & os.O_PATH:
            inode.opens += 1
        fd = next(self._fds)
        self._open[fd] = _Description(inode, flags, folder, name)
        return fd

    def _check_open(self, inode: _Inode, flags: int, path: str, *, folder_wanted: bool) -> None:
        is_folder = isinstance(inode, _Folder)
        if flags & os.O_CREAT:
            if flags & os.O_EXCL:
                _fail(errno.EEXIST, path)
            if is_folder:
                _fail(errno.EISDIR, path)
        if folder_wanted and not is_folder:
            _fail(errno.ENOTDIR, path)
        if flags & os.O_PATH:
            return
        if isinstance(inode, _Symlink):
            _fail(errno.ELOOP, path)
        if is_folder and flags & (os.O_ACCMODE | os.O_TRUNC):
            _fail(errno.EISDIR, path)
        if isinstance(inode, _File):
            if inode.lease is not None:
                inode.lease_breaking = True
                if not flags & os.O_NONBLOCK:
                    raise RuntimeError(f"opening {path} waits for a lease that this process holds itself")
                _fail(errno.EWOULDBLOCK, path)
            if flags & os.O_TRUNC:
                inode.truncate()
                inode.mtime_ns = inode.ctime_ns = self.now_ns()

    def close(self, fd: int, /) -> None:
        self.calls = number = next(self._numbers)
        try:
            if self.before is not None:
                self._announce("close", number, (fd,), {})
        except OSError:
            self._close(fd)  # as Linux does: whatever close() says, the descriptor is gone
            raise
        self._close(fd)

    def _close(self, fd: int) -> None:
        with self._mutex:
            description = self._open.pop(fd, None)
            if description is None:
                _fail(errno.EBADF)
            inode = description.inode
            if inode.lock is description:
                inode.lock = None
            if not isinstance(inode, _File) or description.flags & os.O_PATH:
                return
            inode.opens -= 1
            if inode.lease is description:
                inode.lease, inode.lease_breaking = None, False
                waiting, inode.waiting = inode.waiting, []
                for opener in waiting:
                    opener._admit()

    @_call
    def read(self, fd: int, length: int, /) -> bytes:
        description = self._description(fd, forbidden=os.O_WRONLY)
        if isinstance(description.inode, _Folder):
            _fail(errno.EISDIR)
        assert isinstance(description.inode, _File)
        content = description.inode.read(description.offset, self._shortened(length))
        description.offset += len(content)
        return content

    @_call
    def pread(self, fd: int, length: int, offset: int, /) -> bytes:
        file = self._description(fd, forbidden=os.O_WRONLY).inode
        if isinstance(file, _Folder):
            _fail(errno.EISDIR)
        assert isinstance(file, _File)
        return file.read(offset, self._shortened(length))

    @_call
    def write(self, fd: int, content: bytes, /) -> int:
        description = self._description(fd, forbidden=os.O_RDONLY)
        file = description.inode
        assert isinstance(file, _File)
        if not content:
            return 0
        if description.flags & os.O_APPEND:
            description.offset = file.size_bytes
        content = content[: self._shortened(len(content))]
        file.write(description.offset, content)
        file.mtime_ns = file.ctime_ns = self.now_ns()
        description.offset += len(content)
        return len(content)

    @_call
    def fsync(self, fd: int) -> None:
        inode = self._description(fd).inode
        self._undurable.clear()
        if isinstance(inode, _File):
            inode.unsynced = None

    @_call
    def fstat(self, fd: int) -> FileStat:
        return self._stat(self._description(fd, path_suffices=True).inode)

    @_call
    def stat(self, path: str, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> FileStat:
        return self._stat(self._existing(path, dir_fd, follow=follow_symlinks))

    @_call
    def fstatvfs(self, fd: int, /) -> FileSpace:
        self._description(fd, path_suffices=True)
        used = (self.used_bytes() + self.foreign_bytes) // _BLOCK_BYTES
        blocks = self.capacity_bytes // _BLOCK_BYTES
        return FileSpace(_BLOCK_BYTES, blocks, max(blocks - used, 0), max(blocks - used, 0))

    @_call
    def scandir(self, fd: int) -> AbstractContextManager[Iterator[FolderEntry]]:
        description = self._description(fd, path_suffices=True)
        folder = description.inode
        if not isinstance(folder, _Folder):
            _fail(errno.ENOTDIR)
        if description.flags & os.O_PATH:
            _fail(errno.EBADF)
        entries: list[FolderEntry] = [
            _Entry(self, folder, name, inode) for name, inode in folder.entries.items()
        ]
        if self._order is not None:
            self._order.shuffle(entries)
        return _Listing(entries)

    @_call
    def readlink(self, path: str, *, dir_fd: int | None = None) -> str:
        inode = self._existing(path, dir_fd, follow=False)
        if not isinstance(inode, _Symlink):
            _fail(errno.EINVAL, path)
        return inode.target

    @_call
    def symlink(self, target: str, path: str, *, dir_fd: int | None = None) -> None:
        if not target:
            _fail(errno.ENOENT, path)
        if len(os.fsencode(target)) > _MAX_PATH_BYTES:
            _fail(errno.ENAMETOOLONG, path)
        folder, name, slash = self._new_name(path, dir_fd)
        if slash:
            _fail(errno.ENOENT, path)
        self._add(folder, name, self._new_symlink(folder, target))

    @_call
    def mkdir(self, path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        folder, name, _ = self._new_name(path, dir_fd)
        self._add(folder, name, self._new_folder(folder, name, mode))

    @_call
    def rmdir(self, path: str, *, dir_fd: int | None = None) -> None:
        folder, name, _ = self._parent(path, dir_fd)
        if name in _SPECIAL:
            _fail({"/": errno.EBUSY, ".": errno.EINVAL, "..": errno.ENOTEMPTY}[name], path)
        inode = self._child(folder, name)
        if inode is None:
            _fail(errno.ENOENT, path)
        if not isinstance(inode, _Folder):
            _fail(errno.ENOTDIR, path)
        if inode.mounted:
            _fail(errno.EBUSY, path)
        if inode.entries:
            _fail(errno.ENOTEMPTY, path)
        self._remove(folder, name, inode)

    @_call
    def unlink(self, path: str, *, dir_fd: int | None = None) -> None:
        folder, name, slash = self._parent(path, dir_fd)
        inode = self._child(folder, name)
        if inode is None:
            _fail(errno.ENOENT, path)
        if isinstance(inode, _Folder):
            _fail(errno.EISDIR, path)
        if slash:
            _fail(errno.ENOTDIR, path)
        self._remove(folder, name, inode)

    @_call
    def rename(
        self, source: str, target: str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
    ) -> None:
        old_folder, old_name, old_slash = self._parent(source, src_dir_fd)
        new_folder, new_name, new_slash = self._parent(target, dst_dir_fd)
        if old_folder.dev != new_folder.dev:
            _fail(errno.EXDEV, source)
        if old_name in _SPECIAL or new_name in _SPECIAL:
            _fail(errno.EBUSY, source)
        inode = self._child(old_folder, old_name)
        if inode is None or new_folder.nlink == 0:
            _fail(errno.ENOENT, source)
        replaced = self._child(new_folder, new_name)
        if not isinstance(inode, _Folder) and (old_slash or new_slash):
            _fail(errno.ENOTDIR, source)
        if old_folder is not new_folder:
            if new_folder.lies_in(inode):
                _fail(errno.EINVAL, source)
            if replaced is not None and old_folder.lies_in(replaced):
                _fail(errno.ENOTEMPTY, target)
        if inode is replaced:
            return
        self._check_replaced(inode, replaced, target)
        if isinstance(inode, _Folder) and inode.mounted:
            _fail(errno.EBUSY, source)
        self._move((old_folder, old_name), (new_folder, new_name), inode, replaced)
        if self.rename_breaks_leases:
            for one in self._inodes(inode) if isinstance(inode, _Folder) else (inode,):
                if isinstance(one, _File) and one.lease is not None:
                    one.lease_breaking = True

    def _check_replaced(self, inode: _Inode, replaced: _Inode | None, target: str) -> None:
        if replaced is None:
            return
        if isinstance(inode, _Folder) and not isinstance(replaced, _Folder):
            _fail(errno.ENOTDIR, target)
        if isinstance(replaced, _Folder):
            if not isinstance(inode, _Folder):
                _fail(errno.EISDIR, target)
            if replaced.mounted:
                _fail(errno.EBUSY, target)
            if replaced.entries:
                _fail(errno.ENOTEMPTY, target)

    @_call
    def lock(self, fd: int) -> None:
        description = self._description(fd)
        if description.inode.lock not in (None, description):
            _fail(errno.EWOULDBLOCK)
        description.inode.lock = description

    @_call
    def unlock(self, fd: int) -> None:
        description = self._description(fd)
        if description.inode.lock is description:
            description.inode.lock = None

    def lock_holder(self, _fd: int, written: int | None) -> int | None:
        return written

    @_call
    def take_lease(self, fd: int) -> None:
        description = self._description(fd)
        file = description.inode
        if self.lease_error is not None:
            _fail(self.lease_error)
        if not isinstance(file, _File):
            _fail(errno.EINVAL)
        if file.opens > 1 or file.lease_breaking:
            _fail(errno.EAGAIN)
        file.lease = description

    @_call
    def ask_lease(self, fd: int) -> int:
        description = self._description(fd)
        file = description.inode
        held = isinstance(file, _File) and file.lease is description and not file.lease_breaking
        return FileLease.HELD if held else fcntl.F_UNLCK

    def earliest_stamp_ns(self, _fd: int, /) -> int | None:
        """Return the time: that is what the next change is stamped with at the earliest."""
        return self.now_ns()

    def find_barrier(self, path: str, *, dir_fd: int | None = None) -> str:
        """Say what `bar` has said of what is at a path."""
        if not self._barred:
            return ""
        with self._aside():
            try:
                _, _, _, inode = self._find(path, dir_fd, follow=False)
            except OSError:
                return ""
        return "" if inode is None else self._barred.get(inode.ino, "")

    def bar(self, path: str, detail: str) -> None:
        """Make what is at a path immutable, or the like; empty: as any other."""
        with self._aside():
            _, _, _, inode = self._find(path, None, follow=False)
        assert inode is not None
        if detail:
            self._barred[inode.ino] = detail
            self.deny(path, errno.EPERM, call="rename")
            self.deny(path, errno.EPERM, call="unlink")
        else:
            self._barred.pop(inode.ino)
            self.allow(path)

    # A path's way to its inode.

    def used_bytes(self) -> int:
        """Add up the blocks of everything; what has several links counts once."""
        found = {id(inode): inode.sectors for inode in self._inodes(self._root)}
        return sum(found.values()) * _SECTOR_BYTES

    def _inodes(self, folder: _Folder) -> Iterator[_Inode]:
        """List a folder and all that is in it; what has several links comes several times."""
        yield folder
        for inode in folder.entries.values():
            if isinstance(inode, _Folder):
                yield from self._inodes(inode)
            else:
                yield inode

    def _description(
        self, fd: int, *, forbidden: int | None = None, path_suffices: bool = False
    ) -> _Description:
        description = self._open.get(fd)
        if description is None:
            _fail(errno.EBADF)
        flags = description.flags
        if (flags & os.O_PATH and not path_suffices) or flags & os.O_ACCMODE == forbidden:
            _fail(errno.EBADF)
        if self._denied:
            inode = description.inode
            if isinstance(inode, _Folder) and inode.parent is not None:
                self._check_denied(inode.parent, inode.name)
            else:
                self._check_denied(description.folder, description.name)
        return description

    def _parent(self, path: str, dir_fd: int | None) -> tuple[_Folder, str, bool]:
        """Walk to the last name: the folder it is in, the name, and whether a slash follows it."""
        self._links_followed = 0
        if not path:
            _fail(errno.ENOENT, path)
        if dir_fd is None or path[0] == "/":
            start: _Inode = self._root
        else:
            description = self._open.get(dir_fd)
            if description is None:
                _fail(errno.EBADF, path)
            start = description.inode
        return self._walk(start, path)

    def _walk(self, start: _Inode, path: str) -> tuple[_Folder, str, bool]:
        if not isinstance(start, _Folder):
            _fail(errno.ENOTDIR, path)
        if "/" not in path:
            return start, path, False
        if len(path) > _MAX_PATH_BYTES // 4 and len(os.fsencode(path)) > _MAX_PATH_BYTES:
            _fail(errno.ENAMETOOLONG, path)
        names = [name for name in path.split("/") if name]
        if not names:
            return self._root, "/", False
        folder = start
        calling, self._calling = self._calling, _ON_THE_WAY
        for name in names[:-1]:
            inode = folder.entries.get(name)
            if type(inode) is not _Folder or self._denied:
                inode = self._follow(folder, name)[3]
            if inode is None:
                _fail(errno.ENOENT, path)
            if not isinstance(inode, _Folder):
                _fail(errno.ENOTDIR, path)
            folder = inode
        self._calling = calling
        return folder, names[-1], path[-1] == "/"

    def _child(self, folder: _Folder, name: str) -> _Inode | None:
        if self._denied:
            self._check_denied(folder, name)
        inode = folder.entries.get(name)
        if inode is not None:
            return inode
        if name == ".":
            return folder
        if name in {"..", "/"}:
            return folder.parent or folder
        if "\0" in name:
            raise ValueError("embedded null byte")
        if len(name) > _MAX_NAME_BYTES // 4 and len(os.fsencode(name)) > _MAX_NAME_BYTES:
            _fail(errno.ENAMETOOLONG, name)
        return None

    def _follow(
        self, folder: _Folder, name: str, *, creates: bool = False
    ) -> tuple[_Folder, str, bool, _Inode | None]:
        """Follow the symlinks that `name` leads to: where the last one points, and what is there."""
        inode = self._child(folder, name)
        slash = False
        while isinstance(inode, _Symlink):
            self._links_followed += 1
            if self._links_followed > _MAX_LINKS_FOLLOWED:
                _fail(errno.ELOOP, name)
            start = self._root if inode.target[0] == "/" else folder
            folder, name, ends_in_slash = self._walk(start, inode.target)
            if creates and ends_in_slash and name not in _SPECIAL:
                _fail(errno.EISDIR, name)
            slash = slash or ends_in_slash
            inode = self._child(folder, name)
        if slash and inode is not None and not isinstance(inode, _Folder):
            _fail(errno.ENOTDIR, name)
        return folder, name, slash, inode

    def _find(
        self, path: str, dir_fd: int | None, *, follow: bool, creates: bool = False
    ) -> tuple[_Folder, str, bool, _Inode | None]:
        folder, name, slash = self._parent(path, dir_fd)
        if slash and creates and name not in _SPECIAL:
            _fail(errno.EISDIR, path)
        if not (follow or slash):
            return folder, name, slash, self._child(folder, name)
        folder, name, ends_in_slash, inode = self._follow(folder, name, creates=creates)
        return folder, name, slash or ends_in_slash, inode

    def _existing(self, path: str, dir_fd: int | None, *, follow: bool) -> _Inode:
        if "/" not in path and dir_fd in self._open and not self._denied:
            start = self._open[dir_fd].inode
            inode = start.entries.get(path) if isinstance(start, _Folder) else None
            if inode is not None and not (follow and isinstance(inode, _Symlink)):
                return inode
        _, _, slash, inode = self._find(path, dir_fd, follow=follow)
        if inode is None:
            _fail(errno.ENOENT, path)
        if slash and not isinstance(inode, _Folder):
            _fail(errno.ENOTDIR, path)
        return inode

    def _new_name(self, path: str, dir_fd: int | None) -> tuple[_Folder, str, bool]:
        folder, name, slash = self._parent(path, dir_fd)
        if self._child(folder, name) is not None:
            _fail(errno.EEXIST, path)
        if folder.nlink == 0:
            _fail(errno.ENOENT, path)
        return folder, name, slash

    def _leads_to_folder(self, folder: _Folder, name: str) -> bool:
        with self._mutex:
            self._calling, self._links_followed = "stat", 0
            try:
                return isinstance(self._follow(folder, name)[3], _Folder)
            except FileNotFoundError:
                return False

    # Inodes, and the namespace's changes.

    def _stat(self, inode: _Inode) -> FileStat:
        return FileStat(
            inode.mode,
            inode.ino,
            inode.dev,
            inode.nlink,
            inode.size_bytes,
            inode.sectors,
            inode.mtime_ns,
            inode.ctime_ns,
            inode.atime_ns,
        )

    def _new_file(self, folder: _Folder, mode: int) -> _File:
        now_ns = self.now_ns()
        mode = stat.S_IFREG | (mode & ~_UMASK)
        return _File(ino=next(self._inos), dev=folder.dev, mode=mode, mtime_ns=now_ns, ctime_ns=now_ns)

    def _new_symlink(self, folder: _Folder, target: str) -> _Symlink:
        now_ns = self.now_ns()
        mode = stat.S_IFLNK | 0o777
        return _Symlink(
            ino=next(self._inos), dev=folder.dev, mode=mode, mtime_ns=now_ns, ctime_ns=now_ns, target=target
        )

    def _new_folder(self, parent: _Folder, name: str, mode: int) -> _Folder:
        now_ns = self.now_ns()
        mode = stat.S_IFDIR | (mode & ~_UMASK)
        folder = _Folder(ino=next(self._inos), dev=parent.dev, mode=mode, mtime_ns=now_ns, ctime_ns=now_ns)
        folder.parent, folder.name = parent, name
        return folder

    def _add(self, folder: _Folder, name: str, inode: _Inode) -> None:
        now_ns = self.now_ns()
        self._undurable.append([self._set_entry(folder, name, inode, now_ns)])
        if isinstance(inode, _Folder):
            folder.nlink += 1

    def _remove(self, folder: _Folder, name: str, inode: _Inode) -> None:
        now_ns = self.now_ns()
        self._undurable.append([self._set_entry(folder, name, None, now_ns)])
        self._drop_link(folder, inode, now_ns)

    def _move(
        self, old: tuple[_Folder, str], new: tuple[_Folder, str], inode: _Inode, replaced: _Inode | None
    ) -> None:
        now_ns = self.now_ns()
        self._undurable.append(
            [self._set_entry(*old, None, now_ns), self._set_entry(*new, inode, now_ns)],
        )
        inode.ctime_ns = now_ns
        if replaced is not None:
            self._drop_link(new[0], replaced, now_ns)
        if isinstance(inode, _Folder):
            inode.parent, inode.name = new
            old[0].nlink -= 1
            new[0].nlink += 1

    def _set_entry(self, folder: _Folder, name: str, inode: _Inode | None, now_ns: int) -> _Change:
        change = folder, name, folder.entries.get(name), (folder.mtime_ns, folder.ctime_ns)
        if inode is None:
            del folder.entries[name]
        else:
            folder.entries[name] = inode
        folder.mtime_ns = folder.ctime_ns = now_ns
        return change

    def _drop_link(self, folder: _Folder, inode: _Inode, now_ns: int) -> None:
        inode.ctime_ns = now_ns
        if isinstance(inode, _Folder):
            folder.nlink -= 1
            inode.nlink = 0
        else:
            inode.nlink -= 1

    # Faults.

    def _announce(self, name: str, number: int, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        match name:
            case "rename":
                source = self._text(args[0], kwargs.get("src_dir_fd"))
                path = f"{source} -> {self._text(args[1], kwargs.get('dst_dir_fd'))}"
            case "symlink":
                path = self._text(args[1], kwargs.get("dir_fd"))
            case _:
                path = self._text(args[0], kwargs.get("dir_fd"))
        assert self.before is not None
        try:
            self.before(Call(name, path, number))
        except Crash:
            self.before = _is_dead
            raise

    def _text(self, path_or_fd: object, dir_fd: object) -> str:
        if isinstance(path_or_fd, int):
            description = self._open.get(path_or_fd)
            return f"descriptor {path_or_fd}" if description is None else description.path()
        path = str(path_or_fd)
        if path.startswith("/"):
            return path
        above = self._text(dir_fd, None) if isinstance(dir_fd, int) else "/"
        return f"{above.rstrip('/')}/{path}"

    def _shortened(self, length: int) -> int:
        if self.shorten is None or length == 0:
            return length
        return max(1, min(length, self.shorten(length)))

    def _check_denied(self, folder: _Folder, name: str) -> None:
        codes = self._denied.get((folder, name))
        if codes:
            code = codes.get(self._calling, codes.get(None))
            if code is not None:
                _fail(code, name)

    def deny(self, path: str, code: int, *, call: str | None = None) -> None:
        """Make every call that meets this name fail with `code`, also on the way to something below it.

        Its folder must be there. With `call` ("scandir", "unlink", …) only that one fails: also one that is given
        a descriptor which was opened by this name.
        """
        with self._aside():
            folder, name, _ = self._parent(path, None)
        self._denied.setdefault((folder, name), {})[call] = code

    def allow(self, path: str) -> None:
        """Undo every `deny` of this path."""
        with self._aside():
            folder, name, _ = self._parent(path, None)
        self._denied.pop((folder, name), None)

    def mount(self, path: str) -> None:
        """Make this folder, with all that is in it, another device."""
        top = self.make_folder(path)
        top.mounted = True
        dev = next(self._devs)
        for _, inode in _below(top, path):
            inode.dev = dev
        top.dev = dev

    def hold_open(self, path: str) -> ForeignOpen:
        """Have another process open or map this file already; RuntimeError where a lease would make it wait."""
        file = self._file(path)
        if file.lease is not None:
            raise RuntimeError(f"{path} has a lease: a foreign opener waits (`begin_open`)")
        return ForeignOpen(file)

    def begin_open(self, path: str) -> ForeignOpen:
        """Have another process open this file; with a lease on it that breaks the lease, and it waits."""
        return ForeignOpen(self._file(path))

    def crashed_copy(self) -> "MemoryFilesystem":
        """Return the disk as the next process finds it after kill -9: the same, with nothing open, locked or leased.

        No knob is carried over. What was not durable still is not.
        """
        return self._copy()

    def after_power_loss(self, rng: random.Random) -> "MemoryFilesystem":
        """Return a disk that a power cut now could leave, drawn by `rng`."""
        after = self._copy()
        for _ in range(rng.randint(0, len(after._undurable))):
            _undo(after._undurable.pop())
        after._undurable.clear()
        after._count_links()
        for _, inode in _below(after._root, "/"):
            if isinstance(inode, _File):
                inode.lose_power(rng)
        return after

    def _copy(self) -> "MemoryFilesystem":
        after = MemoryFilesystem(self.now_ns, order=self._order)
        twins: dict[_Inode, _Inode] = {}
        root = _twin(self._root, twins)
        assert isinstance(root, _Folder)
        after._root = root
        for changes in self._undurable:
            copied: _Changes = []
            for folder, name, inode, stamps in changes:
                where = _twin(folder, twins)
                assert isinstance(where, _Folder)
                copied.append((where, name, None if inode is None else _twin(inode, twins), stamps))
            after._undurable.append(copied)
        after._inos = count(max(inode.ino for inode in twins) + 1)
        after._devs = count(max(inode.dev for inode in twins) + 1)
        after._fds = self._fds  # a descriptor of the dead process is nobody's
        after._count_links()
        return after

    def _count_links(self) -> None:
        """Work out again what follows from the entries: parents, names and link counts."""
        links: dict[_Inode, int] = {}
        self._root.nlink = 2
        for _, inode in _below(self._root, "/"):
            if isinstance(inode, _Folder):
                inode.nlink = 2
        for _, folder in [("/", self._root), *_below(self._root, "/")]:
            if not isinstance(folder, _Folder):
                continue
            for name, inode in folder.entries.items():
                if isinstance(inode, _Folder):
                    inode.parent, inode.name = folder, name
                    folder.nlink += 1
                else:
                    inode.nlink = links[inode] = links.get(inode, 0) + 1

    # Helpers for tests: no call is counted or announced, and a missing folder is made.

    def write_file(
        self, path: str, content: bytes = b"", *, size_bytes: int = 0, blocks: int | None = None
    ) -> None:
        """Write a file in place; with `size_bytes` it ends in a hole, and `blocks` of 512 bytes is what it takes."""
        with self._aside():
            folder, name = self._place(path)
            file = folder.entries.get(name)
            if file is None:
                file = self._new_file(folder, 0o666)
                self._add(folder, name, file)
            assert isinstance(file, _File), path
            file.content, file.hole_end, file.blocks, file.unsynced = content, size_bytes, blocks, None
            file.mtime_ns = file.ctime_ns = self.now_ns()

    def read_file(self, path: str) -> bytes:
        """Return the content of a file, without the hole that may end it."""
        return bytes(self._file(path).content)

    def make_folder(self, path: str) -> _Folder:
        """Make a folder and those above it; one that is there is left alone."""
        with self._aside():
            folder = self._root
            for name in path.split("/"):
                if not name:
                    continue
                inode = self._follow(folder, name)[3]
                if inode is None:
                    inode = self._new_folder(folder, name, 0o777)
                    self._add(folder, name, inode)
                assert isinstance(inode, _Folder), path
                folder = inode
            return folder

    def make_link(self, path: str, target: str) -> None:
        """Make a symlink, in the place of one that is there."""
        with self._aside():
            folder, name = self._place(path)
            old = folder.entries.get(name)
            assert old is None or isinstance(old, _Symlink), path
            if old is not None:
                self._remove(folder, name, old)
            self._add(folder, name, self._new_symlink(folder, target))

    def link(self, source: str, target: str) -> None:
        """Give a file a second name, as `os.link` does."""
        with self._aside():
            inode = self._existing(source, None, follow=False)
            folder, name, slash = self._new_name(target, None)
            if slash:
                _fail(errno.ENOENT, target)
            if inode.dev != folder.dev:
                _fail(errno.EXDEV, source)
            if isinstance(inode, _Folder):
                _fail(errno.EPERM, source)
            self._add(folder, name, inode)
            inode.nlink += 1
            inode.ctime_ns = folder.ctime_ns

    def remove(self, path: str) -> None:
        """Remove whatever is there, with all that is in it."""
        with self._aside():
            folder, name = self._place(path)
            inode = folder.entries[name]
            if isinstance(inode, _Folder):
                for below in list(inode.entries):
                    self.remove(f"{path}/{below}")
            self._remove(folder, name, inode)

    def move(self, source: str, target: str) -> None:
        """Rename a file, a folder or a symlink, in the place of a file that is there, as `os.replace` does."""
        with self._aside():
            old_folder, old_name, _ = self._parent(source, None)
            new_folder, new_name = self._place(target)
            inode = old_folder.entries[old_name]
            replaced = new_folder.entries.get(new_name)
            self._check_replaced(inode, replaced, target)
            self._move((old_folder, old_name), (new_folder, new_name), inode, replaced)

    def set_mtime(self, path: str, mtime_ns: int) -> None:
        """Set when a file, a folder or a symlink (which is not followed) was last modified."""
        with self._aside():
            inode = self._existing(path, None, follow=False)
            inode.mtime_ns, inode.ctime_ns = mtime_ns, self.now_ns()

    def set_atime(self, path: str, atime_ns: int) -> None:
        """Set when a file was last read."""
        with self._aside():
            self._existing(path, None, follow=False).atime_ns = atime_ns

    def set_inode(self, path: str, ino: int) -> None:
        """Give what has this path another inode number: a disk may give one away again that has come free."""
        with self._aside():
            self._existing(path, None, follow=False).ino = ino

    def change_mode(self, path: str) -> None:
        """Change the permissions of a file or a folder, which nobody is held to."""
        with self._aside():
            self._existing(path, None, follow=True).ctime_ns = self.now_ns()

    @contextmanager
    def durably(self) -> Iterator[None]:
        """Have all that is done by these helpers meanwhile outlast a power cut, and leave what came before as it is.

        So volumes come and go: where one is mounted is no entry of a folder.
        """
        with self._mutex:
            before = len(self._undurable)
            yield
            del self._undurable[before:]

    def sync(self) -> None:
        """Make everything durable that is not."""
        with self._mutex:
            self._undurable.clear()
            for _, inode in _below(self._root, "/"):
                if isinstance(inode, _File):
                    inode.unsynced = None

    def exists(self, path: str) -> bool:
        """Tell whether anything has this path, a dangling symlink too."""
        with self._aside():
            try:
                self._existing(path, None, follow=False)
            except (FileNotFoundError, NotADirectoryError):
                return False
            return True

    def inode(self, path: str) -> int | None:
        """Return the inode number of what has this path, of a symlink its own; None where nothing has."""
        with self._aside():
            try:
                return self._existing(path, None, follow=False).ino
            except (FileNotFoundError, NotADirectoryError):
                return None

    def tree(self, top: str = "/") -> Tree:
        """Return all that is below a folder, by absolute path, in order; files without the hole that may end them."""
        found: Tree = {}
        for path, inode in self._all_below(top):
            match inode:
                case _File():
                    found[path] = ("file", bytes(inode.content))
                case _Symlink():
                    found[path] = ("link", inode.target)
                case _:
                    found[path] = ("folder", None)
        return found

    def snapshot(self, top: str = "/") -> dict[str, tuple[int, int, int]]:
        """Return (ino, size, mtime) of all that is below a folder: equal when nothing was changed."""
        return {path: (inode.ino, inode.size_bytes, inode.mtime_ns) for path, inode in self._all_below(top)}

    def open_descriptors(self) -> dict[int, str]:
        """Return every open descriptor with its path: empty when nothing leaks."""
        return {fd: description.path() for fd, description in self._open.items()}

    def _all_below(self, top: str) -> list[tuple[str, _Inode]]:
        with self._aside():
            folder = self._existing(top, None, follow=True)
            assert isinstance(folder, _Folder), top
            return sorted(_below(folder, top), key=lambda found: found[0])

    def _file(self, path: str) -> _File:
        with self._aside():
            file = self._existing(path, None, follow=True)
        assert isinstance(file, _File), path
        return file

    def _place(self, path: str) -> tuple[_Folder, str]:
        above, _, name = path.rpartition("/")
        return self.make_folder(above), name

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Do what the world outside does: `deny` does not stop it, and it is durable when all before it is."""
        with self._mutex:
            denied, self._denied = self._denied, {}
            self._links_followed = 0
            was_durable = not self._undurable
            try:
                yield
            finally:
                self._denied = denied
                if was_durable:
                    self._undurable.clear()


def _is_dead(call: Call) -> NoReturn:
    raise Crash(f"{call.name} of a process that has ended")


def _below(top: _Folder, path: str) -> Iterator[tuple[str, _Inode]]:
    path = path.rstrip("/")
    for name, inode in top.entries.items():
        yield f"{path}/{name}", inode
        if isinstance(inode, _Folder):
            yield from _below(inode, f"{path}/{name}")


def _twin(inode: _Inode, twins: dict[_Inode, _Inode]) -> _Inode:
    """Copy an inode and all below it, once: without what processes have on it."""
    known = twins.get(inode)
    if known is not None:
        return known
    twin = twins[inode] = copy.copy(inode)
    twin.lock = None
    match twin:
        case _Folder():
            twin.entries = {name: _twin(below, twins) for name, below in twin.entries.items()}
        case _File():
            twin.content = bytes(twin.content)
            twin.opens, twin.lease, twin.lease_breaking, twin.waiting = 0, None, False, []
            twin.unsynced = copy.copy(twin.unsynced)
    return twin
