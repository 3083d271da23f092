"""Actors that run for as long as a block, blocks that one task must enter and leave, and the errors of task groups."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from types import TracebackType
from typing import Any, TypeVar

import anyio
import anyio.abc

from hmret.actors.mailbox import Actor

T_co = TypeVar("T_co", covariant=True)

_WAY = "run it in a dedicated task: docs/EMBEDDING.md, 'Start in one task, stop in another'"
_GOES_ON = f"the same task must enter and leave this block; it stays open; {_WAY}"
_HAS_ENDED = f"the same task must enter and leave this block; it has been closed nevertheless; {_WAY}"


class OneTask(AbstractAsyncContextManager[T_co]):
    """A context manager that contains task groups, which belong to the task that enters them.

    If another task left it, asyncio would cancel the task that entered it, and trio would end the whole run.
    """

    def __init__(self, block: AbstractAsyncContextManager[T_co]) -> None:
        self._block = block
        self._entered_by: object = None

    async def __aenter__(self) -> T_co:
        self._entered_by = _task()
        return await self._block.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Leave the block.

        Raises:
            RuntimeError: it was entered by another task. That task can still leave it; if it has ended, which
                only asyncio allows, the block is closed here, since nothing else could.
        """
        # guard(same-task-leaves-block): Closing the block from a foreign task would cancel the task that
        # opened it, or end the whole run; it stays open and the caller gets an error.
        if _task() is self._entered_by:
            return await self._block.__aexit__(kind, error, traceback)
        if not _has_ended(self._entered_by):
            raise RuntimeError(_GOES_ON)
        # Everything inside ends in order; then the task group notices that it belongs to another task, and
        # raises.
        with suppress(RuntimeError):
            await self._block.__aexit__(kind, error, traceback)
        raise RuntimeError(_HAS_ENDED)


def _task() -> object:
    """Return the current task's coroutine; unlike a task's id, it is not reused as long as it is referenced."""
    return anyio.get_current_task().coro


def _has_ended(coroutine: object) -> bool:
    return getattr(coroutine, "cr_frame", coroutine) is None


@asynccontextmanager
async def running(
    actors: Iterable[Actor[Any]], *, closed_first: Iterable[Actor[Any]] = ()
) -> AsyncIterator[anyio.abc.TaskGroup]:
    """Run actors for the duration of the block; an error in the block is raised as it is, not in a group.

    They are shielded from cancellation of the embedder: a sweep that is being stopped still needs them. At
    the end those in `closed_first` are closed before the others, so that no caller waits in vain.
    """
    actors = tuple(actors)
    failure: Exception | None = None
    try:
        async with anyio.create_task_group() as tasks:
            scopes = [anyio.CancelScope(shield=True) for _ in actors]
            for scope, actor in zip(scopes, actors, strict=True):
                tasks.start_soon(_run_in, scope, actor.run)
            try:
                yield tasks
            except Exception as error:  # noqa: BLE001 - the block's own, raised again as it is below
                failure = error
            finally:
                for actor in dict.fromkeys((*closed_first, *actors)):
                    actor.close()
                for scope in (tasks.cancel_scope, *scopes):
                    scope.cancel()
    except BaseExceptionGroup as group:
        raise sole_error(group) from None
    if failure is not None:
        raise failure


async def _run_in(scope: anyio.CancelScope, run: Callable[[], Awaitable[None]]) -> None:
    with scope:
        await run()


def sole_error(error: BaseException) -> BaseException:
    """Unwrap an error from the groups around it, as long as these contain nothing else."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def first_error(error: BaseException) -> BaseException:
    """Unwrap one error from a group whose errors all have the same cause."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
