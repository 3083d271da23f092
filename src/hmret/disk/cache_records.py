"""What a `FolderCache` knows, on the disk, for the next start."""

import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import attrs
import msgspec

from hmret.disk.filesystem import Filesystem
from hmret.disk.folder_cache import Folder, FolderCache
from hmret.disk.snapshots import load_snapshot, save_snapshot

__all__ = ["CacheRecord"]

F = TypeVar("F", bound=Folder)

# Folders in a frame: little enough to be read without holding anybody up.
_FOLDERS = 8
_FORMAT = 1
_COUNT = struct.Struct("!I")
_FAULTS = (msgspec.MsgspecError, ValueError, OverflowError, struct.error)


@attrs.frozen
class CacheRecord(Generic[F]):
    """The record of one cache."""

    name: str
    """Of the file, below hmret's own folder."""
    pack: Callable[[Sequence[F]], bytes]
    unpack: Callable[[bytes], Sequence[F]]
    """Takes what `pack` made.

    Raises:
        msgspec.MsgspecError, ValueError: it is not that.
    """

    def save(
        self, filesystem: Filesystem, data_fd: int, cache: FolderCache[F], pause: Callable[[], None]
    ) -> None:
        """Write down what is known.

        Raises:
            OSError: it could not be written.
        """
        save_snapshot(filesystem, data_fd, self.name, self._head, self._frames(cache, pause))

    def load(
        self, filesystem: Filesystem, data_fd: int, cache: FolderCache[F], pause: Callable[[], None]
    ) -> None:
        """Know what was written down; nothing where that cannot be read."""
        cache.restore(self._folders(filesystem, data_fd, pause))

    @property
    def _head(self) -> bytes:
        return f"hmret {self.name} {_FORMAT} {sys.byteorder}".encode()

    def _frames(self, cache: FolderCache[F], pause: Callable[[], None]) -> Iterator[bytes]:
        waiting: list[tuple[F, int]] = []
        for known in cache.export():
            waiting.append(known)
            if len(waiting) == _FOLDERS:
                yield from self._frame(waiting)
                waiting.clear()
                pause()
        yield from self._frame(waiting)

    def _frame(self, known: Sequence[tuple[F, int]]) -> Iterator[bytes]:
        """Pack some folders; what cannot be packed is left out, and then read at the next start."""
        trusted_until = struct.pack(f"!{len(known)}q", *(until_ns for _, until_ns in known))
        try:
            packed = self.pack([folder for folder, _ in known])
        except _FAULTS:
            return
        yield _COUNT.pack(len(known)) + trusted_until + packed

    def _folders(
        self, filesystem: Filesystem, data_fd: int, pause: Callable[[], None]
    ) -> Iterator[tuple[F, int]]:
        for frame in load_snapshot(filesystem, data_fd, self.name, self._head):
            try:
                (count,) = _COUNT.unpack_from(frame)
                trusted_until = struct.unpack_from(f"!{count}q", frame, _COUNT.size)
                folders = self.unpack(frame[_COUNT.size + 8 * count :])
            except _FAULTS:
                return
            yield from zip(folders, trusted_until, strict=False)
            pause()
