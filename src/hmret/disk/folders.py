"""Opening folders and reading files step by step, so that nothing is removed through a symbolic link."""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial

from hmret.disk.filesystem import Filesystem
from hmret.disk.layout import IMAGES, MAY_BE_LINKS, OWN

LARGEST_FILE = 16 * 1024 * 1024
"""In bytes; no metadata comes close to this size, and reading a larger file would only cost memory."""

_NOWHERE = "a dangling symbolic link"

NOTHING_THERE = frozenset((errno.ENOENT, errno.ENOTDIR))
"""Errors that say that nothing is at a path."""

CHUNK = 16 * 1024
"""Bytes read in one call: nearly always the whole file."""
_LARGE_CHUNK = 1 << 20
BATCH = 32
"""How many files or folders one call handles: each call releases the interpreter's lock and has to get it
back.
"""

_WHEREVER = os.O_RDONLY | os.O_DIRECTORY
# guard(no-links-between-folders): A link in the place of a folder could lead a deletion out of the cache, so
# no step follows one.
_STEP = _WHEREVER | os.O_NOFOLLOW
_FOLLOW = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
# guard(no-links-when-reading): A link in the place of a file could show what belongs to something else, so
# nothing is decided by it.
READ = _FOLLOW | os.O_NOFOLLOW
"""Flags to open a file for reading: a pipe in its place does not block the reader, and a link is refused."""


@contextmanager
def opened(filesystem: Filesystem, fd: int) -> Iterator[int]:
    """Yield a descriptor that nothing is written through, and close it at the end."""
    try:
        yield fd
    finally:
        let_go(filesystem, fd)


def let_go(filesystem: Filesystem, fd: int) -> None:
    """Close a descriptor that nothing was written through; it is closed even if `close` reports an error."""
    try:
        filesystem.close(fd)
    except OSError:
        return


def open_folder(filesystem: Filesystem, path: str, dir_fd: int | None = None) -> int:
    """Open the folder at a path whose last component must not be a symbolic link."""
    return filesystem.open(path, _STEP, dir_fd=dir_fd)


def opened_folder(filesystem: Filesystem, path: str, dir_fd: int) -> AbstractContextManager[int]:
    """Open a folder as `open_folder` does, and close it at the end of the `with` statement."""
    return opened(filesystem, open_folder(filesystem, path, dir_fd))


def opened_data_folder(filesystem: Filesystem, data_fd: int, path: str) -> AbstractContextManager[int]:
    """Open a folder as `open_data_folder` does, and close it at the end of the `with` statement."""
    return opened(filesystem, open_data_folder(filesystem, data_fd, path))


def opened_own_folder(filesystem: Filesystem, data_fd: int, path: str = OWN) -> AbstractContextManager[int]:
    """Open hmret's own folder or one below it, creating what is missing, for one `with` statement."""
    return opened(filesystem, make_data_folders(filesystem, data_fd, path, 0o700))


def step_into(filesystem: Filesystem, root_fd: int, path: str) -> int:
    """Open a folder below an open one step by step, following no symbolic link.

    Raises:
        ValueError: the path has components that are not plain names.
        OSError: a step fails; ENOTDIR or ELOOP where it is a symbolic link.
    """
    if not path:
        return open_folder(filesystem, ".", root_fd)
    fd = root_fd
    for name in path.split("/"):
        try:
            # guard(paths-lead-only-downwards): A path with dots in a record could lead out of the cache to
            # the data of others, so it is refused.
            if name in ("", ".", ".."):
                raise ValueError(f"not a path of plain names: {path!r}")
            next_fd = open_folder(filesystem, name, fd)
        finally:
            if fd != root_fd:
                let_go(filesystem, fd)
        fd = next_fd
    return fd


def make_folders(filesystem: Filesystem, root_fd: int, path: str, mode: int = 0o755) -> int:
    """Open a folder below an open one, creating what is missing and following no symbolic link."""
    fd = open_folder(filesystem, ".", root_fd)
    for name in path.split("/") if path else ():
        try:
            with suppress(FileExistsError):
                filesystem.mkdir(name, mode, dir_fd=fd)
            next_fd = step_into(filesystem, fd, name)
        finally:
            let_go(filesystem, fd)
        fd = next_fd
    return fd


def open_data_folder(filesystem: Filesystem, data_fd: int, path: str) -> int:
    """Open a folder below the data directory step by step.

    The folders that an operator may have moved to another disk can be symbolic links, since hypeman finds
    them by their paths; below them no link is followed.

    Raises:
        ValueError: the path has components that are not plain names.
        OSError: a step fails; ENOTDIR or ELOOP where it is a symbolic link.
    """
    top, below = _parted(path)
    if not top:
        return step_into(filesystem, data_fd, path)
    return _beyond(filesystem, _open_top(filesystem, data_fd, top), below, step_into)


def make_data_folders(filesystem: Filesystem, data_fd: int, path: str, mode: int = 0o755) -> int:
    """Open a folder below the data directory as `open_data_folder` does, creating what is missing."""
    top, below = _parted(path)
    if not top:
        return make_folders(filesystem, data_fd, path, mode)
    for folder in _down_to(top):
        try:
            filesystem.mkdir(folder, mode, dir_fd=data_fd)
        except (FileExistsError, FileNotFoundError):
            continue  # it exists, or lies below a dangling link, which opening it will report
    return _beyond(filesystem, _open_top(filesystem, data_fd, top), below, partial(make_folders, mode=mode))


def _parted(path: str) -> tuple[str, str]:
    """Split a path below the data directory: the folder that may be reached through links, and the rest."""
    top = ""
    for candidate in MAY_BE_LINKS:
        if len(candidate) > len(top) and (path == candidate or path.startswith(f"{candidate}/")):
            top = candidate
    return top, path[len(top) + 1 :]


def _down_to(path: str) -> Iterator[str]:
    """List the folders on the way to a path, and the path itself."""
    names = path.split("/")
    return ("/".join(names[:count]) for count in range(1, len(names) + 1))


def _open_top(filesystem: Filesystem, data_fd: int, top: str) -> int:
    """Open a folder that may be reached through links; a dangling link is an error, not an absent folder."""
    try:
        return filesystem.open(top, _WHEREVER, dir_fd=data_fd)
    except FileNotFoundError:
        for folder in _down_to(top):
            with suppress(FileNotFoundError, NotADirectoryError):
                if stat.S_ISLNK(filesystem.stat(folder, dir_fd=data_fd, follow_symlinks=False).st_mode):
                    raise OSError(errno.ELOOP, _NOWHERE, folder) from None
        raise


def _beyond(filesystem: Filesystem, fd: int, below: str, step: Callable[[Filesystem, int, str], int]) -> int:
    """Continue below an open folder, and close that folder."""
    if not below:
        return fd
    with opened(filesystem, fd):
        return step(filesystem, fd, below)


def remove_empty_folders(filesystem: Filesystem, root_fd: int, path: str) -> None:
    """Remove a folder below an open one, and its parents as far as they are empty; never the open one."""
    while path:
        above, _, name = path.rpartition("/")
        try:
            with opened(filesystem, step_into(filesystem, root_fd, above)) as fd:
                filesystem.rmdir(name, dir_fd=fd)
        except FileNotFoundError:
            pass
        except OSError:
            return
        path = above


def remove_empty_repositories(filesystem: Filesystem, data_fd: int, repositories: Iterable[str]) -> None:
    """Remove the folders of some repositories below `images/`, as far as they are empty; a failure is ignored."""
    with suppress(OSError), opened_data_folder(filesystem, data_fd, IMAGES) as images_fd:
        for repository in repositories:
            remove_empty_folders(filesystem, images_fd, repository)


def read_file(filesystem: Filesystem, path: str, dir_fd: int, *, follow: bool = False) -> bytes:
    """Read a whole file, by default only where its last component is not a symbolic link.

    Raises:
        OSError: as `open` and `read`; EFBIG beyond `LARGEST_FILE`.
    """
    flags = _FOLLOW if follow else READ
    fd = filesystem.open(path, flags, dir_fd=dir_fd)
    try:
        return read_open_file(filesystem, fd)
    finally:
        let_go(filesystem, fd)


def read_sized_file(filesystem: Filesystem, fd: int, size_bytes: int) -> bytes:
    """Read an open file from its current position, up to the size that `fstat` has just returned.

    Raises:
        OSError: as `read`; EFBIG beyond `LARGEST_FILE`.
    """
    if size_bytes > LARGEST_FILE:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    content = filesystem.read(fd, size_bytes)
    while len(content) < size_bytes and (more := filesystem.read(fd, size_bytes - len(content))):
        content += more
    return content


def read_open_file(filesystem: Filesystem, fd: int) -> bytes:
    """Read an open file from its current position to its end."""
    parts = [filesystem.read(fd, CHUNK)]
    length = len(parts[0])
    # Nearly every file ends here, which is no reason to make room for a large one.
    while more := filesystem.read(fd, CHUNK if length < CHUNK else _LARGE_CHUNK) if length else b"":
        parts.append(more)
        length += len(more)
        if length > LARGEST_FILE:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return b"".join(parts)


def exists(filesystem: Filesystem, folder_fd: int, path: str) -> bool:
    """Return whether anything is at a path below an open folder; its last component is not followed.

    Raises:
        OSError: that could not be determined.
    """
    return inode_of(filesystem, folder_fd, path) is not None


def inode_of(filesystem: Filesystem, folder_fd: int, path: str) -> int | None:
    """Return the inode of a path below an open folder, its last component not followed; None: nothing is there.

    Raises:
        OSError: that could not be determined.
    """
    [inode] = inodes_of(filesystem, folder_fd, [path])
    return inode


def inodes_of(filesystem: Filesystem, folder_fd: int, paths: list[str]) -> list[int | None]:
    """Return the inodes of some paths, as `inode_of` does.

    Raises:
        OSError: one could not be determined.
    """
    found: list[int | None] = []
    for path, answer in zip(paths, filesystem.stat_files(folder_fd, paths), strict=True):
        if not isinstance(answer, int):
            found.append(answer[2])
        elif answer in NOTHING_THERE:
            found.append(None)
        else:
            raise OSError(answer, os.strerror(answer), path)
    return found


def write_file(filesystem: Filesystem, name: str, content: bytes, dir_fd: int, *, durable: bool) -> None:
    """Write a file atomically: to a `.tmp` file beside it, which is then renamed.

    With `durable`, content and name are on the disk when this returns. Without, a power loss may leave an
    empty file.
    """
    beside = f"{name}.tmp"
    # guard(no-links-when-writing): A link planted in our folder must not make us overwrite a file elsewhere.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    try:
        fd = filesystem.open(beside, flags, 0o644, dir_fd=dir_fd)
        try:
            write_all(filesystem, fd, content)
            if durable:
                filesystem.fsync(fd)
        finally:
            filesystem.close(fd)
        filesystem.rename(beside, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except OSError:
        with suppress(OSError):
            filesystem.unlink(beside, dir_fd=dir_fd)
        raise
    if durable:
        filesystem.fsync(dir_fd)


def write_all(filesystem: Filesystem, fd: int, content: bytes) -> None:
    """Write bytes to an open file, in as many calls as that takes."""
    while content:
        content = content[filesystem.write(fd, content) :]
