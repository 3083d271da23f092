"""The asynchronous part of a command: what it returns, and how its errors come out."""

import errno
import os
import signal
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from hmret.cli.backend import run_on, until_interrupted
from hmret.cli.interrupted import Interrupted
from hmret.model.errors import HmretError, ImageNotFoundError


def test_the_result_comes_back(backend: Any) -> None:
    async def work() -> str:
        await anyio.lowlevel.checkpoint()
        return "done"

    assert run_on(backend, "/data", lambda: until_interrupted(work)) == "done"


def test_an_error_comes_out_of_its_groups(backend: Any) -> None:
    async def work() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fail)

    async def fail() -> None:
        raise ImageNotFoundError("x: not in the cache")

    with pytest.raises(ImageNotFoundError, match="x: not in the cache"):
        run_on(backend, "/data", lambda: until_interrupted(work))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.EROFS, "Read-only file system", "hmret"), "/data: hmret: Read-only file system"),
        (OSError(errno.EIO, "Input/output error", b"\xff"), "/data: \udcff: Input/output error"),
        (OSError(errno.EIO, "Input/output error"), "/data: Input/output error"),
        (OSError("it failed"), "/data: it failed"),
    ],
)
def test_a_system_call_that_fails_names_the_data_directory(backend: Any, error: OSError, told: str) -> None:
    async def work() -> None:
        raise error

    with pytest.raises(HmretError) as raised:
        run_on(backend, "/data", work)
    assert str(raised.value) == told


@pytest.mark.parametrize("numbers", [(signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)])
def test_an_interrupt_lets_what_is_half_done_be_finished_however_often_it_comes(
    backend: Any, numbers: tuple[signal.Signals, signal.Signals]
) -> None:
    finished = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), numbers[0])
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                for number in numbers:
                    os.kill(os.getpid(), number)
                    # Long enough for the signal to come through.
                    await anyio.sleep(0.01)
                finished.append(True)

    with pytest.raises(Interrupted) as raised:
        run_on(backend, "/data", lambda: until_interrupted(work))
    assert (finished, raised.value.number) == ([True], numbers[0])
