"""A data directory to work on, in memory or on a real disk, with one set of words for both."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from hmret.disk.filesystem import POSIX, Filesystem
from support.builders import DATA, Place, data_fd_of
from support.memory_filesystem import MemoryFilesystem

__all__ = ["Host", "open_host"]


@attrs.frozen(eq=False)
class Host:
    """A data directory, open; paths are below it."""

    filesystem: Filesystem
    place: Place
    """For `builders`."""
    data_fd: int

    @property
    def memory(self) -> MemoryFilesystem:
        """The disk in memory; only for tests of that one."""
        assert isinstance(self.filesystem, MemoryFilesystem)
        return self.filesystem

    def write(self, path: str, content: bytes = b"") -> None:
        """Write a file, and make the folders above it."""
        if isinstance(self.place, MemoryFilesystem):
            self.place.write_file(f"{DATA}/{path}", content)
        else:
            (self.place / path).parent.mkdir(parents=True, exist_ok=True)
            (self.place / path).write_bytes(content)

    def read(self, path: str) -> bytes:
        """Read a file."""
        if isinstance(self.place, MemoryFilesystem):
            return self.place.read_file(f"{DATA}/{path}")
        return (self.place / path).read_bytes()

    def folder(self, path: str) -> None:
        """Make a folder and those above it."""
        if isinstance(self.place, MemoryFilesystem):
            self.place.make_folder(f"{DATA}/{path}")
        else:
            (self.place / path).mkdir(parents=True, exist_ok=True)

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link, and the folders above it."""
        self.folder(os.path.dirname(path))  # noqa: PTH120 - a path in either place
        if isinstance(self.place, MemoryFilesystem):
            self.place.make_link(f"{DATA}/{path}", target)
        else:
            (self.place / path).symlink_to(target)

    def hard_link(self, source: str, target: str) -> None:
        """Give a file a second name."""
        self.folder(os.path.dirname(target))  # noqa: PTH120 - a path in either place
        if isinstance(self.place, MemoryFilesystem):
            self.place.link(f"{DATA}/{source}", f"{DATA}/{target}")
        else:
            os.link(self.place / source, self.place / target)

    def remove(self, path: str) -> None:
        """Remove a file, a link or an empty folder."""
        if isinstance(self.place, MemoryFilesystem):
            self.place.remove(f"{DATA}/{path}")
        elif (self.place / path).is_dir() and not (self.place / path).is_symlink():
            (self.place / path).rmdir()
        else:
            (self.place / path).unlink()

    def exists(self, path: str) -> bool:
        """Tell whether anything is there, a dangling link too."""
        if isinstance(self.place, MemoryFilesystem):
            return self.place.exists(f"{DATA}/{path}")
        return os.path.lexists(self.place / path)

    def names(self, path: str) -> list[str]:
        """List all paths below a folder; nothing where it is absent."""
        if isinstance(self.place, MemoryFilesystem):
            top = f"{DATA}/{path}".rstrip("/")
            return (
                [name.removeprefix(f"{top}/") for name in self.place.tree(top)] if self.exists(path) else []
            )
        top_path = self.place / path
        return sorted(str(found.relative_to(top_path)) for found in top_path.rglob("*"))

    def open(self, path: str) -> int:
        """Open a folder; the caller closes it."""
        above = str(self.place) if isinstance(self.place, Path) else DATA
        return self.filesystem.open(f"{above}/{path}", os.O_RDONLY | os.O_DIRECTORY)

    def close(self, fd: int) -> None:
        """Close a folder."""
        self.filesystem.close(fd)


@contextmanager
def open_host(place: Place) -> Iterator[Host]:
    """Open a data directory; in memory, whatever is opened on it must be closed again."""
    if isinstance(place, MemoryFilesystem):
        place.make_folder(DATA)
        host = Host(place, place, data_fd_of(place))
    else:
        host = Host(POSIX, place, os.open(place, os.O_RDONLY | os.O_DIRECTORY))
    yield host
    host.close(host.data_fd)
    if isinstance(place, MemoryFilesystem):
        assert place.open_descriptors() == {}
