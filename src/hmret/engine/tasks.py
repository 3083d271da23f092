"""Blocks that one task must both enter and leave, and the errors of task groups without the groups around them."""

from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import TypeVar

import anyio

__all__ = ["OneTask", "first_error", "sole_error"]

T_co = TypeVar("T_co", covariant=True)

_WAY = "keep it in a task of its own: docs/EMBEDDING.md, 'Start in one task, stop in another'"
_GOES_ON = f"one task must both enter and leave this block, which goes on as it was; {_WAY}"
_HAS_ENDED = f"one task must both enter and leave this block, which has been closed all the same; {_WAY}"


class OneTask(AbstractAsyncContextManager[T_co]):
    """A context manager with task groups inside, which belong to the task that enters them.

    Left by another task, asyncio would cancel the task that has entered them, and trio would end the whole run.
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
            RuntimeError: it was entered by another task. That one can still leave it; where it has ended, which only
                asyncio allows, the block is closed here, since no one else could.
        """
        # guard(same-task-leaves-block): A block closed by a foreign task would cancel the task that opened it, or end
        # the whole run; it stays open and the caller gets an error.
        if _task() is self._entered_by:
            return await self._block.__aexit__(kind, error, traceback)
        if not _has_ended(self._entered_by):
            raise RuntimeError(_GOES_ON)
        # All that is inside ends in order; then the task group notices whose it is, and raises.
        with suppress(RuntimeError):
            await self._block.__aexit__(kind, error, traceback)
        raise RuntimeError(_HAS_ENDED)


def _task() -> object:
    """Return the coroutine of the current task: unlike the number of a task, no later one has the same while it is kept."""
    return anyio.get_current_task().coro


def _has_ended(coroutine: object) -> bool:
    return getattr(coroutine, "cr_frame", coroutine) is None


def sole_error(error: BaseException) -> BaseException:
    """Take an error out of the groups around it, as far as those hold nothing else."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def first_error(group: ExceptionGroup[Exception]) -> Exception:
    """Take one error out of a group of those that came for the same cause."""
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
