"""A tree of folders that is looked through again and again, and what is known of it from one look to the next."""

from collections.abc import Callable, Mapping, Sequence, Set as AbstractSet
from contextlib import suppress
from typing import Generic, TypeVar

import anyio
import attrs

from hmret.actors.lanes import Lanes
from hmret.actors.threads import Threads
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import open_data_folder, opened
from hmret.disk.scans.checkpoints import CacheRecord
from hmret.disk.scans.folder_cache import Folder, FolderCache
from hmret.model.values import define

__all__ = ["Found", "KnownTree"]

F = TypeVar("F", bound=Folder)
R = TypeVar("R")
Found = tuple[Sequence[F], Sequence[str]]
"""What was found, and the paths that were left for another call."""

# Folders looked at in one thread hop: some milliseconds where nothing is new.
_FOLDERS = 1000


@define(eq=False)
class KnownTree(Generic[F, R]):
    """Looks through a tree, one look at a time; begins with what an earlier engine has written down."""

    filesystem: Filesystem
    data_fd: int
    threads: Threads
    root: str
    """The top of the tree, below the data directory."""
    record: CacheRecord[F]
    look: Callable[[list[str]], Found[F]]
    """Looks at some folders, in a thread."""
    weigh: Callable[[F], int]
    """Tells how much had to be read for a folder."""
    put_together: Callable[[Mapping[str, F]], R]
    """Makes one value of all folders; called where anything is not what it was."""
    share: Callable[[F], F] | None = None
    """Is handed each folder of the record, and hands on what is to be known of it; None: that is the same."""
    tell: Callable[[int], None] = lambda _: None
    """Is told how much more was found."""
    cache: FolderCache[F] = attrs.field(init=False)
    last: R | None = attrs.field(default=None, init=False)
    """What the last look has come to; the same object where nothing was new."""
    _kept: R | None = attrs.field(default=None, init=False)
    """What stands in the record."""
    _is_fresh: bool = attrs.field(default=True, init=False)
    _looking: anyio.Lock = attrs.field(factory=anyio.Lock, init=False)

    @cache.default
    def _new_cache(self) -> FolderCache[F]:
        return FolderCache(self.filesystem)

    async def look_through(self, begin: Callable[[], None] = lambda: None) -> R:
        """Look through the tree; `begin` is called when this look has its turn."""
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
        """Read some folders afresh the next time: what is known of them is not so."""
        async with self._looking:
            self.cache.invalidate(paths)

    async def keep(self) -> None:
        """Write down what is known, for the next start.

        Raises:
            OSError: it could not be written.
        """
        async with self._looking:
            await self.threads.run_alone(self.write_record)

    def write_record(self) -> None:
        """Write down what is known; nobody looks through the tree meanwhile.

        Raises:
            OSError: it could not be written.
        """
        if self.last is not self._kept:
            self.record.save(self.filesystem, self.data_fd, self.cache, self.threads.pause)
            self._kept = self.last

    def _find_changed(self) -> None:
        # Where it cannot be opened, whoever looks at it tells.
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
