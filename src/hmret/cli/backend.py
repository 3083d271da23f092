"""Runs the asynchronous part of a command on the chosen backend, with errors that fit on one line."""

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import anyio

from hmret.cli.interrupted import Interrupted
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
    """Run work that SIGINT and SIGTERM cancel: what is in progress is finished, nothing new is started.

    Further signals change nothing, as under `run`: what was done is to be on record.

    Raises:
        Interrupted: it was interrupted.
    """
    numbers: list[signal.Signals] = []
    results: list[T] = []

    async def listen(received: AsyncIterator[signal.Signals], working: anyio.CancelScope) -> None:
        async for number in received:
            numbers.append(number)
            working.cancel()

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as working:
                tasks.start_soon(listen, received, working)
                results.append(await work())
            tasks.cancel_scope.cancel()
    if not results:
        raise Interrupted(numbers[0])
    return results[0]
