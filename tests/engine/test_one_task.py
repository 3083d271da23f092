"""The block of an open engine: the task that enters it leaves it, and any other is told how."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

import hmret
from support.builders import make_config, make_image

ALPINE = "docker.io/library/alpine"


@pytest.fixture
def config(tmp_path: Path) -> hmret.RetentionConfig:
    make_image(tmp_path, ALPINE, "a")
    return make_config(tmp_path)


async def in_another_task(work: Callable[[], Awaitable[object]]) -> None:
    """Do something in a task of its own; raises what it raises, out of its group."""
    errors: list[Exception] = []

    async def catch() -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(catch)
    for error in errors:
        raise error


async def test_a_block_that_another_task_leaves_goes_on_and_the_right_task_can_leave_it(
    config: hmret.RetentionConfig, anyio_backend: str
) -> None:
    stack = AsyncExitStack()
    block = hmret.open_retention(config)
    retention = await block.__aenter__()
    stack.push_async_exit(block)
    with pytest.raises(RuntimeError, match="the same task must enter and leave this block; it stays open"):
        await in_another_task(stack.aclose)
    # This task has not been cancelled, and the engine lives.
    await retention.mark_used("alpine")
    assert (await retention.sweep()).status is hmret.SweepStatus.SUCCESS
    await block.__aexit__(None, None, None)
    with pytest.raises(hmret.EngineClosedError):
        await retention.mark_used("alpine")
    async with hmret.open_retention(config) as again:
        await again.mark_used("alpine")


async def test_a_block_that_another_event_loop_leaves_goes_on(
    config: hmret.RetentionConfig, anyio_backend: str
) -> None:
    block = hmret.open_retention(config)
    retention = await block.__aenter__()

    async def leave() -> None:
        await block.__aexit__(None, None, None)

    for other_backend in ("asyncio", "trio"):
        with pytest.raises(
            RuntimeError, match="the same task must enter and leave this block; it stays open"
        ):
            await anyio.to_thread.run_sync(lambda: anyio.run(leave, backend=other_backend))  # noqa: B023 - called at once
        await retention.wait_answer()
    await leave()


def test_a_block_whose_task_has_ended_is_closed_by_another_one_which_is_told_how_it_is_done(
    config: hmret.RetentionConfig,
) -> None:
    async def run() -> None:
        stack = AsyncExitStack()
        retention = await asyncio.create_task(stack.enter_async_context(hmret.open_retention(config)))
        await retention.mark_used("alpine")
        with pytest.raises(RuntimeError, match="closed nevertheless; run it in a dedicated task"):
            await asyncio.create_task(stack.aclose())
        with pytest.raises(hmret.EngineClosedError):
            await retention.mark_used("alpine")
        async with hmret.open_retention(config) as again:
            await again.mark_used("alpine")

    asyncio.run(run())


async def test_what_the_body_raises_comes_out_of_the_block(
    config: hmret.RetentionConfig, anyio_backend: str
) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with hmret.open_retention(config):
            raise KeyError("mine")
