"""Blocks that the same task must enter and leave, and unwrapping the errors of task groups."""

from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import TypeVar

import anyio

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
