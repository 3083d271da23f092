"""Base class of the actors that scan a tree of folders repeatedly, with what is cached of it from one scan to the next."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence, Set as AbstractSet
from contextlib import suppress
from typing import Generic, TypeVar

import anyio

from hmret.actors.disk_actor import DiskActor
from hmret.actors.lanes import Lanes
from hmret.actors.threads import Threads
from hmret.disk.filesystem import Filesystem
from hmret.disk.hypeman.retention_states.scanning import StateFolder
from hmret.disk.hypeman.scan import FolderScan
from hmret.disk.scans.checkpoints import CacheRecord
from hmret.disk.scans.folder_cache import FolderCache
from hmret.disk.scans.packing import weigh

F = TypeVar("F", FolderScan, StateFolder)
R = TypeVar("R")
Found = tuple[Sequence[F], Sequence[str]]
"""What was found, and the paths left for another call."""

# Folders inspected in one thread hop: a few milliseconds if nothing has changed.
_FOLDERS = 1000


class TreeActor(DiskActor, Generic[F, R]):
    """An actor that scans one tree, one scan at a time; starts from what an earlier engine recorded.

    A subclass says how folders are read, and what they are combined into.

    Args:
        filesystem, data_fd, threads: where the tree is, and how it is read.
        root: the root of the tree, relative to the data directory.
        record: how what is cached is written to disk.
    """

    def __init__(
        self, filesystem: Filesystem, data_fd: int, threads: Threads, root: str, record: CacheRecord[F]
    ) -> None:
        super().__init__(filesystem, data_fd, threads)
        self._root = root
        self._record: CacheRecord[F] = record
        self._cache: FolderCache[F] = FolderCache(filesystem)
        self._last: R | None = None
        """The result of the last scan; the same object if nothing has changed."""
        self._saved: R | None = None
        """What the record on disk holds."""
        self._is_fresh = True
        self._looking = anyio.Lock()

    @abstractmethod
    def _look(self, paths: list[str]) -> Found[F]:
        """Inspect some folders, in a thread."""

    @abstractmethod
    def _put_together(self, folders: Mapping[str, F]) -> R:
        """Combine all folders into one value, in a thread; called if anything has changed."""

    def _count(self, weight: int) -> None:
        """Note how much more was found."""

    async def save_cache(self) -> None:
        """Write what is cached to disk, for the next start.

        Raises:
            OSError: it could not be written.
        """
        await self._ask(self._save_cache)

    def write_record(self) -> None:
        """Write what is cached to disk, in a thread; the tree is not being scanned concurrently.

        Raises:
            OSError: it could not be written.
        """
        if self._last is not self._saved:
            self._record.save(self._filesystem, self._data_fd, self._cache, self._threads.pause)
            self._saved = self._last

    async def _look_through(self, begin: Callable[[], None] = lambda: None) -> R:
        """Scan the tree; `begin` is called when it is this scan's turn."""
        async with self._looking:
            begin()
            if self._is_fresh:
                self._is_fresh = False
                await self._threads.run_alone(self._read_record)
            self._cache.begin()
            await self._threads.read(self._find_changed)
            await Lanes(self._threads, self._take, self._look, self._put).run()
            folders, is_new = self._cache.end()
            if is_new or self._last is None:
                self._last = await self._threads.run_alone(self._put_together, folders)
            return self._last

    async def _invalidate(self, paths: AbstractSet[str]) -> None:
        """Read some folders again at the next scan, since what is cached of them is wrong."""
        async with self._looking:
            self._cache.invalidate(paths)

    async def _save_cache(self) -> None:
        async with self._looking:
            await self._threads.run_alone(self.write_record)

    def _find_changed(self) -> None:
        # If it cannot be opened, the inspection of that folder reports it.
        with suppress(OSError), self._opened(self._root) as root_fd:
            self._cache.find_changed(root_fd)

    def _take(self, lanes: int) -> list[str]:
        waiting = self._cache.waiting
        return self._cache.take(min(_FOLDERS, -(-waiting // lanes)))

    def _put(self, answer: Found[F]) -> int:
        found, rest = answer
        weight = sum(map(weigh, found))
        self._count(weight)
        self._cache.put(found)
        self._cache.give_back(rest)
        return weight + len(found)

    def _read_record(self) -> None:
        """Take over what an earlier engine has recorded."""
        self._record.load(self._filesystem, self._data_fd, self._cache, self._threads.pause)
