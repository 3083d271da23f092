"""Base class of the actors that work on the disk: requests are calls, and blocking work runs in threads."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

from hmret.actors.mailbox import CallActor
from hmret.actors.threads import Threads
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import open_data_folder, opened

P = ParamSpec("P")
T = TypeVar("T")


class DiskActor(CallActor):
    """An actor that works on the data directory.

    Whatever a subclass offers besides calls bypasses the mailbox; its docstring lists those members and says why
    they are safe.
    """

    def __init__(self, filesystem: Filesystem, data_fd: int, threads: Threads) -> None:
        super().__init__()
        self._filesystem = filesystem
        self._data_fd = data_fd
        self._threads = threads

    async def _on_disk(
        self, function: Callable[Concatenate[Filesystem, int, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function in a thread, passing the data directory as its first arguments."""
        return await self._threads.run(partial(function, self._filesystem, self._data_fd, *args, **kwargs))

    async def _on_disk_alone(
        self, function: Callable[Concatenate[Filesystem, int, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do the same with a function that computes a lot, as `Threads.run_alone` does."""
        return await self._threads.run_alone(
            partial(function, self._filesystem, self._data_fd, *args, **kwargs)
        )

    def _opened(self, path: str) -> AbstractContextManager[int]:
        """Open a folder below the data directory for the duration of a block; called in a thread.

        Raises:
            OSError: it cannot be opened.
        """
        return opened(self._filesystem, open_data_folder(self._filesystem, self._data_fd, path))
