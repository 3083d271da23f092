"""Blocking work with a time limit: a file on a hung mount cannot keep the service from stopping."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

import anyio

T = TypeVar("T")


async def in_time(work: Callable[[], T], seconds: float) -> T:
    """Run blocking work in a thread of its own; returns its result.

    On timeout or cancellation the thread is abandoned. It does not keep the process alive: no pool waits for
    it, nor does the interpreter at exit.

    Raises:
        TimeoutError: the work did not finish in time.
        RuntimeError: no thread can be started.
        BaseException: whatever the work raised.
    """
    future: Future[T] = Future()
    ended, end = os.pipe()

    def carry_out() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - passed on to the waiting caller
            future.set_exception(error)
        finally:
            os.close(end)

    try:
        try:
            threading.Thread(target=carry_out, name="hmret settings", daemon=True).start()
        except BaseException:
            os.close(end)
            raise
        with anyio.fail_after(seconds):
            # Readable once the thread has closed its end, whether the work succeeded or not.
            await anyio.wait_readable(ended)
        return future.result()
    finally:
        with suppress(OSError):
            os.close(ended)
