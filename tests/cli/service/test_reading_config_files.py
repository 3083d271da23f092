"""Blocking work that is left to itself when its time is over."""

import os
import threading
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from hmret.cli.service.reading import in_time
from support.patience import PATIENCE

pytestmark = pytest.mark.anyio


async def test_what_the_work_returns_is_returned() -> None:
    assert await in_time(lambda: 7, 30) == 7


async def test_what_the_work_raises_is_raised() -> None:
    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await in_time(fail, 30)


class Hanging:
    """Work that does not end before it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.thread: threading.Thread | None = None

    def __call__(self) -> None:
        self.thread = threading.current_thread()
        self.let_go.wait(PATIENCE)

    def end(self) -> None:
        self.let_go.set()
        while self.thread is None:
            os.sched_yield()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


async def test_work_that_hangs_is_left_to_itself() -> None:
    work = Hanging()
    with pytest.raises(TimeoutError):
        await in_time(work, 0)
    work.end()


async def test_work_that_hangs_does_not_hold_up_a_cancelled_caller() -> None:
    work = Hanging()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(in_time, work, 3600)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert not work.let_go.is_set()
    work.end()


async def test_work_that_hangs_keeps_no_process_from_its_end() -> None:
    work = Hanging()
    with pytest.raises(TimeoutError):
        await in_time(work, 0)
    while work.thread is None:
        await anyio.lowlevel.checkpoint()
    assert work.thread.daemon
    work.end()


async def test_no_descriptor_is_left() -> None:
    def descriptors() -> list[str]:
        return [path.name for path in Path("/proc/self/fd").iterdir()]

    await in_time(lambda: None, 30)
    before = len(descriptors())
    for _ in range(10):
        await in_time(lambda: None, 30)
    assert len(descriptors()) == before


async def test_where_no_thread_can_be_started_that_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        await in_time(lambda: None, 30)
