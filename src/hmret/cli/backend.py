"""Runs the asynchronous part of a command on the chosen backend, with errors that fit on one line."""

import os
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import anyio.abc

from hmret.cli.parsing.options import Backend
from hmret.engine.tasks import first_error
from hmret.model.errors import HmretError

T = TypeVar("T")


def run_on(backend: Backend, data_dir: str, work: Callable[[], Awaitable[T]]) -> T:
    """Run a command's asynchronous part and return its result.

    Raises:
        HmretError: a system call failed; the message names the data directory.
        BaseException: the first exception that the work raised, unwrapped from any exception groups.
    """
    try:
        try:
            return anyio.run(work, backend=backend)
        except BaseExceptionGroup as group:
            raise first_error(group) from group
    except OSError as error:
        problem = error.strerror or str(error)
        where = data_dir if error.filename is None else f"{data_dir}: {os.fsdecode(error.filename)}"
        raise HmretError(f"{where}: {problem}") from error


async def until_interrupted(work: Callable[[], Awaitable[T]]) -> T:
    """Run work that SIGINT cancels: what is in progress is finished, nothing new is started.

    Raises:
        KeyboardInterrupt: it was interrupted.
    """
    results: list[T] = []
    async with anyio.create_task_group() as tasks:
        await tasks.start(_cancel_when_interrupted, tasks.cancel_scope)
        results.append(await work())
        tasks.cancel_scope.cancel()
    if not results:
        raise KeyboardInterrupt
    return results[0]


async def _cancel_when_interrupted(
    scope: anyio.CancelScope, *, task_status: anyio.abc.TaskStatus[None]
) -> None:
    with anyio.open_signal_receiver(signal.SIGINT) as received:
        task_status.started()
        async for _ in received:
            # Leaving the loop closes the receiver, so that a second SIGINT takes effect immediately.
            break
    scope.cancel()
