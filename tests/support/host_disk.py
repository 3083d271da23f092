"""The disk as another process on the host uses it: by path, below the data directory, in memory or for real.

The calls raise what their namesakes in `os` raise. On a disk in memory they are neither announced to its hook nor
counted, `deny` does not stop them, and what they write is as durable as what came before it.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from support.builders import DATA
from support.memory_filesystem import ForeignOpen, MemoryFilesystem

__all__ = ["HostDisk", "MemoryDisk", "OpenedFile", "RealDisk", "Tree", "host_disk"]

Tree = Mapping[str, tuple[str, bytes | str | None]]
"""Path below the data directory to ("folder", None), ("file", its bytes) or ("link", its target)."""


class OpenedFile(ABC):
    """A file that this process has open, or waits to open while hmret holds a lease on it."""

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """False while the kernel makes the opener wait, and after `close`."""

    @abstractmethod
    def read(self) -> bytes:
        """Read all of it, wherever the file has been moved to since it was opened."""

    @abstractmethod
    def close(self) -> None:
        """Close it, or give up waiting."""


class HostDisk(ABC):
    """A data directory, by paths below it."""

    @abstractmethod
    def tree(self, top: str = "images") -> Tree:
        """Return everything below a folder; empty where there is none."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """List a folder, sorted; empty where there is none."""

    @abstractmethod
    def inode(self, path: str) -> int | None:
        """Return the inode number of what has this path, of a link its own; None where nothing has."""

    @abstractmethod
    def open_file(self, path: str) -> OpenedFile:
        """Open a file, or begin to wait for it."""

    @abstractmethod
    def read_link(self, path: str) -> str:
        """Read where a link points."""

    @abstractmethod
    def make_folder(self, path: str) -> None:
        """Make one folder in a folder that is there."""

    @abstractmethod
    def make_folders(self, path: str) -> None:
        """Make a folder and those above it that are missing."""

    @abstractmethod
    def write(self, path: str, content: bytes, *, size_bytes: int = 0) -> None:
        """Write a file in place; with `size_bytes` it ends in a hole."""

    @abstractmethod
    def symlink(self, target: str, path: str) -> None:
        """Make a link."""

    @abstractmethod
    def hard_link(self, source: str, target: str) -> None:
        """Give a file a second name."""

    @abstractmethod
    def rename(self, source: str, target: str) -> None:
        """Rename a file, a link or a folder."""

    @abstractmethod
    def unlink(self, path: str) -> None:
        """Remove a file or a link."""

    @abstractmethod
    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""

    def exists(self, path: str) -> bool:
        """Return whether anything has this path, a dangling link included."""
        return self.inode(path) is not None


class _MemoryOpened(OpenedFile):
    def __init__(self, opened: ForeignOpen) -> None:
        self.opened = opened
        self.is_closed = False

    @property
    def is_open(self) -> bool:
        return self.opened.is_open

    @property
    def inode(self) -> int:
        return self.opened._file.ino

    def read(self) -> bytes:
        return bytes(self.opened._file.content)

    def close(self) -> None:
        self.is_closed = True
        self.opened.close()


class MemoryDisk(HostDisk):
    """A data directory on a disk in memory."""

    def __init__(self, filesystem: MemoryFilesystem) -> None:
        self.filesystem = filesystem
        self._opened: list[_MemoryOpened] = []

    def outlive(self, filesystem: MemoryFilesystem) -> None:
        """Go on with the disk as hmret's death left it: what was open still is, and no lease makes anyone wait."""
        self.filesystem = filesystem
        paths = {filesystem.inode(path): path for path in filesystem.tree(DATA)}
        self._opened = [one for one in self._opened if not one.is_closed and one.inode in paths]
        for one in self._opened:
            one.opened = filesystem.hold_open(paths[one.inode])

    def tree(self, top: str = "images") -> Tree:
        if not self.filesystem.exists(_at(top)):
            return {}
        found = self.filesystem.tree(_at(top))
        return {path.removeprefix(f"{DATA}/"): entry for path, entry in found.items()}

    def names(self, folder: str) -> list[str]:
        with self._unseen():
            try:
                fd = self.filesystem.open(_at(folder), os.O_RDONLY | os.O_DIRECTORY)
            except (FileNotFoundError, NotADirectoryError):
                return []
            with self.filesystem.scandir(fd) as entries:
                names = sorted(entry.name for entry in entries)
            self.filesystem.close(fd)
        return names

    def inode(self, path: str) -> int | None:
        return self.filesystem.inode(_at(path))

    def open_file(self, path: str) -> OpenedFile:
        opened = _MemoryOpened(self.filesystem.begin_open(_at(path)))
        self._opened.append(opened)
        return opened

    def read_link(self, path: str) -> str:
        with self._unseen():
            return self.filesystem.readlink(_at(path))

    def make_folder(self, path: str) -> None:
        with self._unseen():
            self.filesystem.mkdir(_at(path))

    def make_folders(self, path: str) -> None:
        self.filesystem.make_folder(_at(path))

    def write(self, path: str, content: bytes, *, size_bytes: int = 0) -> None:
        with self._unseen():
            self.filesystem.stat(_at(path.rpartition("/")[0]))  # the helper would make it
        self.filesystem.write_file(_at(path), content, size_bytes=size_bytes)

    def symlink(self, target: str, path: str) -> None:
        with self._unseen():
            self.filesystem.symlink(target, _at(path))

    def hard_link(self, source: str, target: str) -> None:
        self.filesystem.link(_at(source), _at(target))

    def rename(self, source: str, target: str) -> None:
        with self._unseen():
            self.filesystem.rename(_at(source), _at(target))

    def unlink(self, path: str) -> None:
        with self._unseen():
            self.filesystem.unlink(_at(path))

    def rmdir(self, path: str) -> None:
        with self._unseen():
            self.filesystem.rmdir(_at(path))

    @contextmanager
    def _unseen(self) -> Iterator[None]:
        """Make calls that are not hmret's."""
        filesystem = self.filesystem
        before, filesystem.before = filesystem.before, None
        calls = filesystem.calls
        try:
            with filesystem._aside():
                yield
        finally:
            filesystem.before = before
            filesystem.calls = calls


class _RealOpened(OpenedFile):
    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")

    @property
    def is_open(self) -> bool:
        return not self._file.closed

    def read(self) -> bytes:
        return self._file.read()

    def close(self) -> None:
        self._file.close()


class RealDisk(HostDisk):
    """A data directory on a real disk.

    Nothing here may be called by the thread that holds hmret's leases: it would wait for itself.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def tree(self, top: str = "images") -> Tree:
        found: dict[str, tuple[str, bytes | str | None]] = {}
        for path in sorted((self._root / top).rglob("*")):
            name = str(path.relative_to(self._root))
            if path.is_symlink():
                found[name] = ("link", os.readlink(path))  # noqa: PTH115 - a path would tidy the target up
            elif path.is_dir():
                found[name] = ("folder", None)
            else:
                found[name] = ("file", path.read_bytes())
        return found

    def names(self, folder: str) -> list[str]:
        path = self._root / folder
        return sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []

    def inode(self, path: str) -> int | None:
        try:
            return (self._root / path).lstat().st_ino
        except (FileNotFoundError, NotADirectoryError):
            return None

    def open_file(self, path: str) -> OpenedFile:
        return _RealOpened(self._root / path)

    def read_link(self, path: str) -> str:
        return os.readlink(self._root / path)  # noqa: PTH115 - a path would tidy the target up

    def make_folder(self, path: str) -> None:
        (self._root / path).mkdir()

    def make_folders(self, path: str) -> None:
        (self._root / path).mkdir(parents=True, exist_ok=True)

    def write(self, path: str, content: bytes, *, size_bytes: int = 0) -> None:
        (self._root / path).write_bytes(content)
        if size_bytes > len(content):
            os.truncate(self._root / path, size_bytes)

    def symlink(self, target: str, path: str) -> None:
        (self._root / path).symlink_to(target)

    def hard_link(self, source: str, target: str) -> None:
        (self._root / target).hardlink_to(self._root / source)

    def rename(self, source: str, target: str) -> None:
        (self._root / source).replace(self._root / target)

    def unlink(self, path: str) -> None:
        (self._root / path).unlink()

    def rmdir(self, path: str) -> None:
        (self._root / path).rmdir()


def host_disk(place: MemoryFilesystem | Path) -> HostDisk:
    """Return the disk of a host that is built in memory or in a real folder."""
    return MemoryDisk(place) if isinstance(place, MemoryFilesystem) else RealDisk(place)


def _at(path: str) -> str:
    return f"{DATA}/{path}"
