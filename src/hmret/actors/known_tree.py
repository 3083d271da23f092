"""A tree of folders that is scanned repeatedly, and what is cached of it from one scan to the next."""

from collections.abc import Callable, Mapping, Sequence, Set as AbstractSet
from contextlib import suppress
from typing import Generic, TypeVar

import anyio
import attrs

from hmret.actors.disk_actor import DiskActor
from hmret.actors.lanes import Lanes
from hmret.actors.threads import Threads
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import open_data_folder, opened
from hmret.disk.scans.checkpoints import CacheRecord
from hmret.disk.scans.folder_cache import Folder, FolderCache
from hmret.model.values import define

F = TypeVar("F", bound=Folder)
R = TypeVar("R")
Found = tuple[Sequence[F], Sequence[str]]
"""What was found, and the paths left for another call."""

# Folders inspected in one thread hop: a few milliseconds if nothing has changed.
_FOLDERS = 1000


@define(eq=False)
class KnownTree(Generic[F, R]):
    """Scans a tree, one scan at a time; starts from what an earlier engine recorded."""

    filesystem: Filesystem
    data_fd: int
    threads: Threads
    root: str
    """The root of the tree, relative to the data directory."""
    record: CacheRecord[F]
    look: Callable[[list[str]], Found[F]]
    """Inspects some folders, in a thread."""
    weigh: Callable[[F], int]
    """Returns how much had to be read for a folder."""
    put_together: Callable[[Mapping[str, F]], R]
    """Combines all folders into one value; called if anything has changed."""
    share: Callable[[F], F] | None = None
    """Converts each folder of the record to what is cached of it; None: the two are the same."""
    tell: Callable[[int], None] = lambda _: None
    """Called with how much more was found."""
    cache: FolderCache[F] = attrs.field(init=False)
    last: R | None = attrs.field(default=None, init=False)
    """The result of the last scan; the same object if nothing has changed."""
    _saved: R | None = attrs.field(default=None, init=False)
    """What the record on disk holds."""
    _is_fresh: bool = attrs.field(default=True, init=False)
    _looking: anyio.Lock = attrs.field(factory=anyio.Lock, init=False)

    @cache.default
    def _new_cache(self) -> FolderCache[F]:
        return FolderCache(self.filesystem)

    async def look_through(self, begin: Callable[[], None] = lambda: None) -> R:
        """Scan the tree; `begin` is called when it is this scan's turn."""
        async with self._looking:
            begin()
            if self._is_fresh:
                self._is_fresh = False
                await self.threads.run_alone(self._read_record)
            self.cache.begin()
            await self.threads.read(self._find_changed)
            lanes = Lanes(self.threads, self._take, self.look, self._put)
            await lanes.run()
            folders, is_new = self.cache.end()
            if is_new or self.last is None:
                self.last = await self.threads.run_alone(self.put_together, folders)
            return self.last

    async def invalidate(self, paths: AbstractSet[str]) -> None:
        """Read some folders again at the next scan, since what is cached of them is wrong."""
        async with self._looking:
            self.cache.invalidate(paths)

    async def save_cache(self) -> None:
        """Write what is cached to disk, for the next start.

        Raises:
            OSError: it could not be written.
        """
        async with self._looking:
            await self.threads.run_alone(self.write_record)

    def write_record(self) -> None:
        """Write what is cached to disk; the tree is not being scanned concurrently.

        Raises:
            OSError: it could not be written.
        """
        if self.last is not self._saved:
            self.record.save(self.filesystem, self.data_fd, self.cache, self.threads.pause)
            self._saved = self.last

    def _find_changed(self) -> None:
        # If it cannot be opened, the inspection of that folder reports it.
        with (
            suppress(OSError),
            opened(self.filesystem, open_data_folder(self.filesystem, self.data_fd, self.root)) as fd,
        ):
            self.cache.find_changed(fd)

    def _take(self, lanes: int) -> list[str]:
        waiting = self.cache.waiting
        return self.cache.take(min(_FOLDERS, -(-waiting // lanes)))

    def _put(self, answer: Found[F]) -> int:
        found, rest = answer
        weight = sum(map(self.weigh, found))
        self.tell(weight)
        self.cache.put(found)
        self.cache.give_back(rest)
        return weight + len(found)

    def _read_record(self) -> None:
        self.record.load(self.filesystem, self.data_fd, self.cache, self.threads.pause)
        if self.share is not None:
            self.cache.restore([(self.share(folder), until_ns) for folder, until_ns in self.cache.export()])


class TreeActor(DiskActor, Generic[F, R]):
    """An actor that knows one tree."""

    _tree: KnownTree[F, R]

    async def save_cache(self) -> None:
        """Write what is cached to disk, for the next start.

        Raises:
            OSError: it could not be written.
        """
        await self._ask(self._tree.save_cache)

    def write_record(self) -> None:
        """Write the same after the actor has ended, in a thread.

        Raises:
            OSError: it could not be written.
        """
        self._tree.write_record()
