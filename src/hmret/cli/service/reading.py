"""Blocking work that nobody has to wait for: a file on a mount that hangs cannot keep the service from stopping."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import anyio

__all__ = ["in_time"]

T = TypeVar("T")


async def in_time(work: Callable[[], T], seconds: float) -> T:
    """Carry out blocking work in a thread of its own; returns what it returns.

    Where the time is over, or the caller is cancelled, the thread is left to itself. It keeps the process from nothing: no
    pool waits for it, nor does the interpreter at its end.

    Raises:
        TimeoutError: the work has not ended within so many seconds.
        RuntimeError: no thread can be started.
        BaseException: whatever the work has raised.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    ended, end = os.pipe()

    def carry_out() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - handed on to who waits
            errors.append(error)
        finally:
            os.close(end)

    try:
        try:
            threading.Thread(target=carry_out, name="hmret settings", daemon=True).start()
        except BaseException:
            os.close(end)
            raise
        with anyio.fail_after(seconds):
            # The end of the pipe can be read once it has been closed, whatever was written.
            await anyio.wait_readable(ended)
        for error in errors:
            raise error
        return results[0]
    finally:
        with suppress(OSError):
            os.close(ended)
