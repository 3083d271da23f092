"""Walking through a tree of folders: in threads where little is new, with reader processes where very much is."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

import anyio
import attrs

from hmret.actors.readers import Readers
from hmret.actors.threads import Threads
from hmret.disk.folder_cache import Folder, FolderCache
from hmret.disk.reading import Kind

__all__ = ["Found", "Walk"]

F = TypeVar("F", bound=Folder)
Found = tuple[Sequence[F], Sequence[str]]
"""What was found, and the paths that were left for another call."""

# Folders looked at in one thread hop: some milliseconds where nothing is new.
_FOLDERS = 1000
# Folders that a reader process is asked for at a time.
_ASKED = 32
# How much must have been read, or for how long on a slow disk, before it is worth while to start processes, and more
# is likely to come.
_MUCH = 4000
_LONG_SECONDS = 0.1


@attrs.define(eq=False)
class Walk(Generic[F]):
    """One look through a whole tree."""

    cache: FolderCache[F]
    threads: Threads
    readers: Readers
    kind: Kind
    look: Callable[[list[str]], Found[F]]
    """Looks at some folders, in a thread."""
    understand: Callable[[bytes], Found[F]]
    """Reads a reader process's answer."""
    weigh: Callable[[F], int]
    """Tells how much had to be read for a folder."""
    tell: Callable[[int], None] = lambda _: None
    """Is told how much more was found."""
    _busy: int = attrs.field(default=0, init=False)
    _news: anyio.Event = attrs.field(factory=anyio.Event, init=False)

    async def run(self) -> tuple[Mapping[str, F], bool]:
        """Look through the tree; returns all folders, and whether anything is not what it was."""
        self.cache.begin()
        read = 0
        began = time.perf_counter()
        while self.cache.waiting and not (self.readers.are_offered and _is_much(read, began)):
            found, rest = await self.threads.run_alone(self.look, self.cache.take(_FOLDERS))
            # Of what is known in part, most need not be read; a process would read all of it.
            read += sum(self.weigh(folder) for folder in found if self.cache.known(folder.path) is None)
            self._put(found, rest)
        if self.cache.waiting:
            async with anyio.create_task_group() as tasks:
                for _ in range(self.readers.lanes):
                    tasks.start_soon(self._read_on)
        return self.cache.end()

    async def _read_on(self) -> None:
        """Have folders read by a process until none is left, nor can come."""
        while self.cache.waiting or self._busy:
            if not self.cache.waiting:
                await self._news.wait()
                continue
            paths = self.cache.take(max(1, min(_ASKED, self.cache.waiting // self.readers.lanes)))
            self._busy += 1
            try:
                answer = await self.readers.read(self.kind, paths, self.understand)
                if answer is None:
                    answer = await self.threads.run_alone(self.look, paths)
                self._put(*answer)
            finally:
                self._busy -= 1
                self._news.set()
                self._news = anyio.Event()

    def _put(self, found: Sequence[F], rest: Sequence[str]) -> None:
        self.tell(sum(map(self.weigh, found)))
        self.cache.put(found)
        self.cache.give_back(rest)


def _is_much(read: int, began: float) -> bool:
    return read >= _MUCH or (read > 0 and time.perf_counter() - began > _LONG_SECONDS)
