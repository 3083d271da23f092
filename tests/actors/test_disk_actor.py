"""A call posted to an actor is made there, whatever becomes of the caller."""

from collections.abc import AsyncIterator

import anyio
import pytest

from hmret.actors.disk_actor import DiskActor
from hmret.disk.filesystem import Filesystem
from support.builders import GatedThreads, running, settle
from support.memory_filesystem import MemoryFilesystem
from support.patience import patiently


def divide(filesystem: Filesystem, data_fd: int, number: int, *, by: int) -> tuple[Filesystem, int, float]:
    return filesystem, data_fd, number / by


class Divider(DiskActor):
    """An actor that divides numbers."""

    def __init__(self, filesystem: Filesystem, data_fd: int, threads: GatedThreads) -> None:
        super().__init__(filesystem, data_fd, threads)
        self.divided: list[float] = []

    async def divide(self, number: int, by: int) -> tuple[Filesystem, int, float]:
        return await self._ask(self._divide, number, by=by)

    async def _divide(self, number: int, by: int) -> tuple[Filesystem, int, float]:
        answer = await self._on_disk(divide, number, by=by)
        self.divided.append(answer[2])
        return answer


@pytest.fixture
async def divider(
    filesystem: MemoryFilesystem, data_fd: int, threads: GatedThreads, anyio_backend: str
) -> AsyncIterator[Divider]:
    async with running(actor := Divider(filesystem, data_fd, threads)):
        yield actor


async def test_a_call_is_answered_with_what_it_returns(
    divider: Divider, filesystem: MemoryFilesystem, data_fd: int
) -> None:
    assert await divider.divide(6, 2) == (filesystem, data_fd, 3.0)


async def test_a_call_that_fails_raises_at_the_caller_and_the_actor_goes_on(divider: Divider) -> None:
    with pytest.raises(ZeroDivisionError):
        await divider.divide(6, 0)
    assert (await divider.divide(6, 2))[2] == 3.0


async def test_a_cancelled_caller_does_not_cancel_the_call(divider: Divider, threads: GatedThreads) -> None:
    gate = threads.hold("divide")
    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(divider.divide, 6, 2)
            await gate.arrived.wait()
            tasks.cancel_scope.cancel()
        assert divider.divided == []
        gate.opened.set()
        await settle()
    assert divider.divided == [3.0]


async def test_a_call_does_not_wait_for_the_one_before_it(divider: Divider, threads: GatedThreads) -> None:
    gate = threads.hold("divide")
    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(divider.divide, 6, 2)
            await gate.arrived.wait()
            assert (await divider.divide(8, 2))[2] == 4.0
            gate.opened.set()
    assert divider.divided == [4.0, 3.0]
