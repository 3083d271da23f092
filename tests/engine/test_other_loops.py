"""Calls that come from another event loop, or from a thread without one, are refused at once and harm nothing."""

import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from datetime import timedelta

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

import hmret
from hmret.engine.opening import open_engine
from hmret.engine.overview.overview import Overview
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.model.references import Key
from support.builders import (
    START,
    START_NS,
    FakeClock,
    has_image,
    make_config,
    make_image,
    make_state,
    settle,
)
from support.memory_filesystem import MemoryFilesystem
from support.patience import patiently

ALPINE = "docker.io/library/alpine"
HOUR = timedelta(hours=1)
LONG_AGO_NS = START_NS - 40 * 86_400 * 10**9
REFUSED = "another event loop"

Call = Callable[[Retention], Awaitable[object]]


async def hold(retention: Retention) -> None:
    async with retention.lease("alpine", reason="create vm-1"):
        raise AssertionError("a lease was granted to another event loop")


# Every call that waits; a name that is missing here fails the test below.
CALLS: dict[str, Call] = {
    "mark_used": lambda retention: retention.mark_used("alpine"),
    "confirm": lambda retention: retention.confirm("guests"),
    "lease": hold,
    "restore": lambda retention: retention.restore("alpine"),
    "sweep": lambda retention: retention.sweep(),
    "plan": lambda retention: retention.plan(),
    "compare": lambda retention: retention.compare(retention.config),
    "explain": lambda retention: retention.explain("alpine"),
    "explain_fully": lambda retention: retention.explain_fully("alpine"),
    "explain_with_names": lambda retention: retention.explain_with_names("alpine"),
    "search": lambda retention: retention.search("vm-1"),
    "wait_answer": lambda retention: retention.wait_answer(),
    "trash_bytes": lambda retention: retention.trash_bytes(),
    "grant_lease": lambda retention: retention.grant_lease("alpine", owner="o", reason="r", ttl=HOUR),
    "renew_lease": lambda retention: retention.renew_lease("0", HOUR),
    "end_lease": lambda retention: retention.end_lease("0"),
}

# Those that do not wait, and change what belongs to the engine's event loop.
CHANGES: dict[str, Callable[[Retention], object]] = {
    "reconfigure": lambda retention: retention.reconfigure(retention.config),
    "begin_sweeps": lambda retention: retention.begin_sweeps(),
    "listen": lambda retention: retention.listen(),
    "require_own_loop": lambda retention: retention.require_own_loop(),
}

# What may be read anywhere.
READINGS: dict[str, Callable[[Retention], object]] = {
    "statistics": lambda retention: retention.statistics(),
    "quarantined": lambda retention: retention.quarantined(),
    "search_quarantine": lambda retention: retention.search_quarantine("a" * 12),
    "granted_leases": lambda retention: retention.granted_leases(),
    "config": lambda retention: retention.config,
    "last_plan": lambda retention: retention.last_plan,
    "event_hub": lambda retention: retention.event_hub.last_number,
    "uptime_seconds": lambda retention: retention.uptime_seconds,
    "counters": lambda retention: retention.counters.outlook,
    "fleet": lambda retention: retention.fleet,
    "overview": lambda retention: retention.overview.now_ns(),
}

# What displays ask.
QUESTIONS: dict[str, Callable[[Retention], Awaitable[object]]] = {
    "past": lambda retention: retention.overview.past(timedelta(days=1)),
    "explain": lambda retention: retention.overview.explain("alpine"),
    "space": lambda retention: retention.overview.space(0, 0),
}


@pytest.fixture
async def retention(
    filesystem: MemoryFilesystem, platform: Platform, anyio_backend: str
) -> AsyncIterator[Retention]:
    """An engine that sweeps only when asked, with one image that nothing uses."""
    make_image(filesystem, ALPINE, "a")
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        yield retention


@pytest.fixture(params=["asyncio", "trio"])
def other_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


async def call_elsewhere(backend: str, work: Callable[[], Awaitable[object]]) -> Exception | None:
    """Call something on an event loop of another thread; returns what it raised."""

    def run() -> None:
        async def limited() -> None:
            with patiently():
                await work()

        anyio.run(limited, backend=backend)

    try:
        await anyio.to_thread.run_sync(run)
    except Exception as error:  # noqa: BLE001 - what it is, is what is tested
        return error
    return None


async def assert_alive(retention: Retention) -> None:
    """Check that the engine goes on: it answers, and it sweeps."""
    with patiently():
        sweeps = retention.statistics().sweeps
        await retention.mark_used("alpine")
        report = await retention.sweep()
        await retention.wait_answer()
    assert report.status is hmret.SweepStatus.SUCCESS
    assert retention.statistics().sweeps == sweeps + 1


def assert_refused(error: Exception | None) -> None:
    assert type(error) is RuntimeError
    assert REFUSED in str(error)


def test_every_public_name_of_the_engine_is_tried_here() -> None:
    public = {name for name in vars(Retention) if not name.startswith("_")}
    waiting = {
        name
        for name in public
        if inspect.iscoroutinefunction(inspect.unwrap(getattr(Retention, name)))
        or inspect.isasyncgenfunction(inspect.unwrap(getattr(Retention, name)))
    }
    assert waiting == set(CALLS)
    assert public - waiting == {*CHANGES, *READINGS}


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_from_another_event_loop_is_an_error_at_once_and_harms_nothing(
    retention: Retention, other_backend: str, name: str
) -> None:
    assert_refused(await call_elsewhere(other_backend, lambda: CALLS[name](retention)))
    assert retention.granted_leases() == ()
    await assert_alive(retention)


@pytest.mark.parametrize("name", QUESTIONS)
async def test_what_displays_ask_is_refused_on_another_event_loop(
    retention: Retention, other_backend: str, name: str
) -> None:
    assert_refused(await call_elsewhere(other_backend, lambda: QUESTIONS[name](retention)))
    await assert_alive(retention)


def test_every_question_of_displays_is_tried_here() -> None:
    waiting = {name for name, value in vars(Overview).items() if inspect.iscoroutinefunction(value)}
    assert waiting == set(QUESTIONS)


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_from_another_event_loop_is_an_error_and_harms_nothing(
    retention: Retention, other_backend: str, name: str
) -> None:
    async def change() -> None:
        CHANGES[name](retention)

    assert_refused(await call_elsewhere(other_backend, change))
    await assert_alive(retention)


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_from_a_thread_without_an_event_loop_is_an_error_and_harms_nothing(
    retention: Retention, name: str
) -> None:
    with pytest.raises(RuntimeError, match=REFUSED):
        await anyio.to_thread.run_sync(CHANGES[name], retention)
    await assert_alive(retention)


@pytest.mark.parametrize("name", READINGS)
async def test_what_is_only_read_may_be_read_in_any_thread(retention: Retention, name: str) -> None:
    await retention.sweep()
    here = READINGS[name](retention)
    there = await anyio.to_thread.run_sync(READINGS[name], retention)
    assert type(there) is type(here)


def test_the_class_lists_every_call_that_any_thread_may_make() -> None:
    listed = set(re.findall(r"`(\w+)`", inspect.getdoc(Retention) or ""))
    assert {name for name in READINGS if callable(getattr(Retention, name))} <= listed
    assert listed - {"open_retention"} <= set(READINGS)


async def test_the_calls_of_many_event_loops_are_refused_while_the_engine_is_busy(
    retention: Retention, other_backend: str
) -> None:
    errors: list[Exception | None] = []

    async def intrude(name: str) -> None:
        errors.append(await call_elsewhere(other_backend, lambda: CALLS[name](retention)))

    async with anyio.create_task_group() as tasks:
        for name in CALLS:
            tasks.start_soon(intrude, name)
        for _ in range(5):
            await assert_alive(retention)
    assert len(errors) == len(CALLS)
    for error in errors:
        assert_refused(error)


# Blocks that are entered here and left elsewhere.


def make_due(filesystem: MemoryFilesystem) -> Key:
    key = make_image(filesystem, ALPINE, "b", tags=("old",), created_at=START - timedelta(days=60))
    make_state(filesystem, key, LONG_AGO_NS)
    return key


async def test_a_lease_that_is_left_on_another_event_loop_ends_and_the_error_says_so(
    filesystem: MemoryFilesystem, retention: Retention, other_backend: str, clock: FakeClock
) -> None:
    key = make_due(filesystem)
    stack = AsyncExitStack()
    await stack.enter_async_context(retention.lease("alpine:old", reason="create vm-1"))
    assert_refused(await call_elsewhere(other_backend, stack.aclose))
    await settle()
    report = await retention.sweep()
    assert report.marked_unused >= 1  # the lease holds it no more
    assert has_image(filesystem, key)
    await assert_alive(retention)


async def test_a_lease_can_be_left_by_another_task(
    filesystem: MemoryFilesystem, retention: Retention
) -> None:
    make_due(filesystem)
    stack = AsyncExitStack()
    async with anyio.create_task_group() as tasks:

        async def enter() -> None:
            await stack.enter_async_context(retention.lease("alpine:old", reason="create vm-1"))

        tasks.start_soon(enter)
    assert (await retention.explain("alpine:old")).reason is hmret.Reason.LEASED
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stack.aclose)
    await settle()
    assert (await retention.explain("alpine:old")).reason is not hmret.Reason.LEASED


async def test_a_listener_is_not_read_on_another_event_loop(retention: Retention, other_backend: str) -> None:
    with retention.listen() as listener:

        async def read() -> None:
            await anext(listener)

        assert_refused(await call_elsewhere(other_backend, read))
        await assert_alive(retention)
        batch = await anext(listener)
    assert batch


async def test_listeners_that_threads_leave_do_not_disturb_what_the_engine_tells(
    retention: Retention,
) -> None:
    stack = ExitStack()
    for _ in range(50):
        stack.enter_context(retention.listen())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, stack.close)
        for _ in range(5):
            await assert_alive(retention)
    assert retention.event_hub.listening == 0


# How it is done.


async def test_a_worker_thread_calls_through_the_event_loop_of_the_engine(retention: Retention) -> None:
    def work() -> hmret.MarkedUsed:
        return anyio.from_thread.run(retention.mark_used, "alpine")

    used = await anyio.to_thread.run_sync(work)
    assert used.repository == ALPINE


async def test_another_event_loop_calls_through_a_portal(retention: Retention, other_backend: str) -> None:
    used: list[hmret.MarkedUsed] = []
    async with anyio.from_thread.BlockingPortal() as portal:

        def mark() -> hmret.MarkedUsed:
            return portal.call(retention.mark_used, "alpine")

        async def call() -> None:
            used.append(await anyio.to_thread.run_sync(mark))

        assert await call_elsewhere(other_backend, call) is None
    assert [one.repository for one in used] == [ALPINE]
