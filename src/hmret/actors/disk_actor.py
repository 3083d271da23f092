"""What the actors that work on the disk share: their requests are calls, and blocking work is done in threads."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

from hmret.actors.mailbox import Actor, Call, answer_call
from hmret.actors.threads import Threads
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import open_data_folder, opened

__all__ = ["DiskActor"]

P = ParamSpec("P")
T = TypeVar("T")


class DiskActor(Actor[Call[Any]]):
    """An actor that works on the data directory.

    Each of its public coroutines posts one call, with `_ask`, and returns what that returned. What a subclass offers beside
    these is not served in the mailbox; its docstring lists it, and says why that is safe.
    """

    def __init__(self, filesystem: Filesystem, data_fd: int, threads: Threads) -> None:
        super().__init__()
        self._filesystem = filesystem
        self._data_fd = data_fd
        self._threads = threads

    async def run(self) -> None:
        """Serve until closed."""
        await self._mailbox.serve(answer_call)

    async def _ask(self, call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Post a call into the mailbox, and wait until it has been made.

        A caller that is cancelled meanwhile does not cancel the call.

        Raises:
            EngineClosedError: the actor has ended, or ended before it answered.
        """
        return await self._mailbox.ask(Call(make=partial(call, *args, **kwargs)))

    async def _on_disk(
        self, function: Callable[Concatenate[Filesystem, int, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function in a thread, with the data directory as its first arguments."""
        return await self._threads.run(partial(function, self._filesystem, self._data_fd, *args, **kwargs))

    def _opened(self, path: str) -> AbstractContextManager[int]:
        """Open a folder below the data directory while a block lasts; called in a thread.

        Raises:
            OSError: it cannot be opened.
        """
        return opened(self._filesystem, open_data_folder(self._filesystem, self._data_fd, path))
