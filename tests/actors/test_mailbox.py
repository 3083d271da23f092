"""Everyone who asks an actor hears an answer, whatever becomes of the actor."""

from collections.abc import Callable

import anyio
import anyio.lowlevel
import attrs
import pytest

from hmret.actors.mailbox import Mailbox, Request
from hmret.actors.threads import WorkerThreads
from hmret.model.errors import EngineClosedError
from support.builders import Asker, Ending, settle
from support.inline_threads import InlineThreads
from support.patience import patiently


@attrs.frozen(eq=False, kw_only=True)
class Double(Request[int]):
    number: int


class Doubler:
    """An actor that doubles numbers, refuses 13, and at 0 stands still until it is let go."""

    def __init__(self, *, places: int = 8, in_turn: bool = False, wait: bool = True) -> None:
        self.mailbox: Mailbox[Double] = Mailbox(places)
        self.let_go = anyio.Event()
        self.arrived = anyio.Event()
        self.served: list[int] = []
        self._in_turn = in_turn
        self._wait = wait

    async def run(self) -> None:
        if self._in_turn:
            await self.mailbox.serve_in_turn(self._answer)
        else:
            await self.mailbox.serve(self._answer, wait=self._wait)

    def close(self) -> None:
        self.mailbox.close()

    async def double(self, number: int) -> int:
        return await self.mailbox.ask(Double(number=number))

    async def _answer(self, request: Double) -> int:
        self.served.append(request.number)
        if request.number == 13:
            raise ValueError("13 is not doubled")
        if request.number == 0:
            self.arrived.set()
            await self.let_go.wait()
        return 2 * request.number


@pytest.fixture(params=[False, True], ids=["each in its task", "in turn"])
def make_doubler(request: pytest.FixtureRequest) -> Callable[[], Doubler]:
    return lambda: Doubler(in_turn=request.param)


async def end(actor: Doubler, ending: Ending, scope: anyio.CancelScope) -> None:
    if ending == "closed":
        actor.close()
    else:
        scope.cancel()
    await settle()


async def test_a_request_is_answered(make_doubler: Callable[[], Doubler]) -> None:
    doubler = make_doubler()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(doubler.run)
        assert await doubler.double(21) == 42
        doubler.close()


async def test_an_error_is_the_askers_and_the_actor_goes_on(make_doubler: Callable[[], Doubler]) -> None:
    doubler = make_doubler()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(doubler.run)
        with pytest.raises(ValueError, match="13 is not doubled"):
            await doubler.double(13)
        assert await doubler.double(21) == 42
        doubler.close()


async def test_requests_wait_for_one_another_when_served_in_turn() -> None:
    doubler = Doubler(in_turn=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(doubler.run)
        tasks.start_soon(doubler.double, 0)
        await doubler.arrived.wait()
        tasks.start_soon(doubler.double, 1)
        await settle()
        assert doubler.served == [0]
        assert doubler.mailbox.waiting == 1
        doubler.let_go.set()
        await settle()
        assert doubler.served == [0, 1]
        doubler.close()


async def test_requests_do_not_wait_for_one_another_when_each_has_its_task() -> None:
    doubler = Doubler()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(doubler.run)
        tasks.start_soon(doubler.double, 0)
        await doubler.arrived.wait()
        assert await doubler.double(1) == 2
        doubler.let_go.set()
        doubler.close()


async def test_asking_after_the_end_is_refused(make_doubler: Callable[[], Doubler]) -> None:
    doubler = make_doubler()
    doubler.close()
    await doubler.run()
    with pytest.raises(EngineClosedError):
        await doubler.double(1)


async def test_asking_between_the_close_and_the_end_is_refused(make_doubler: Callable[[], Doubler]) -> None:
    doubler = make_doubler()
    doubler.close()
    with pytest.raises(EngineClosedError):
        await doubler.double(1)
    doubler.mailbox.abandon()


async def test_asking_whose_other_end_is_gone_is_refused() -> None:
    doubler = Doubler()
    doubler.mailbox._receiver.close()
    with pytest.raises(EngineClosedError):
        await doubler.double(1)
    doubler.close()


async def test_what_waits_in_a_closed_mailbox_is_still_served(make_doubler: Callable[[], Doubler]) -> None:
    doubler, asker = make_doubler(), Asker()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(asker.ask, lambda: doubler.double(1))
        await settle()
        doubler.close()
        await doubler.run()
    assert asker.answer == 2


async def test_what_waits_in_an_abandoned_mailbox_is_refused() -> None:
    doubler, asker = Doubler(), Asker()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(asker.ask, lambda: doubler.double(1))
        await settle()
        doubler.mailbox.abandon()
    assert asker.is_refused


async def test_whoever_waits_for_a_place_in_an_abandoned_mailbox_is_refused() -> None:
    doubler = Doubler(places=1)
    askers = [Asker() for _ in range(4)]
    async with anyio.create_task_group() as tasks:
        for asker in askers:
            tasks.start_soon(asker.ask, lambda: doubler.double(1))
        await settle()
        assert doubler.mailbox.waiting == 1
        doubler.mailbox.abandon()
    assert all(asker.is_refused for asker in askers)


async def test_whoever_waits_for_a_place_gets_one(make_doubler: Callable[[], Doubler]) -> None:
    doubler = Doubler(places=1)
    askers = [Asker() for _ in range(4)]
    async with anyio.create_task_group() as tasks:
        for asker in askers:
            tasks.start_soon(asker.ask, lambda: doubler.double(1))
        await settle()
        tasks.start_soon(doubler.run)
        await settle()
        assert [asker.answer for asker in askers] == [2] * 4
        doubler.close()


async def test_closing_finishes_what_is_being_worked_on(make_doubler: Callable[[], Doubler]) -> None:
    doubler, asker = make_doubler(), Asker()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(doubler.run)
        tasks.start_soon(asker.ask, lambda: doubler.double(0))
        await doubler.arrived.wait()
        doubler.close()
        await settle()
        assert not asker.is_answered
        doubler.let_go.set()
    assert asker.answer == 0


async def test_closing_without_waiting_refuses_what_is_being_worked_on() -> None:
    doubler, asker = Doubler(wait=False), Asker()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(doubler.run)
        tasks.start_soon(asker.ask, lambda: doubler.double(0))
        await doubler.arrived.wait()
        doubler.close()
    assert asker.is_refused


async def test_cancelling_refuses_what_is_being_worked_on_and_what_waits(
    make_doubler: Callable[[], Doubler],
) -> None:
    doubler, first, second = make_doubler(), Asker(), Asker()
    async with anyio.create_task_group() as tasks, anyio.create_task_group() as actor:
        actor.start_soon(doubler.run)
        tasks.start_soon(first.ask, lambda: doubler.double(0))
        await doubler.arrived.wait()
        tasks.start_soon(second.ask, lambda: doubler.double(0))
        await settle()
        actor.cancel_scope.cancel()
    assert first.is_refused
    assert second.is_refused


@pytest.mark.parametrize("places", [1, 8])
@pytest.mark.parametrize("steps", range(12))
async def test_an_end_at_any_step_leaves_no_asker_without_an_answer(places: int, steps: int) -> None:
    doubler = Doubler(places=places)
    askers = [Asker() for _ in range(6)]
    with patiently():
        async with anyio.create_task_group() as tasks, anyio.create_task_group() as actor:
            actor.start_soon(doubler.run)
            for number, asker in enumerate(askers, 1):
                tasks.start_soon(asker.ask, lambda number=number: doubler.double(number))
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
            actor.cancel_scope.cancel()
    assert all(asker.is_answered for asker in askers)


async def test_a_second_answer_is_dropped() -> None:
    request = Double(number=1)
    request.reply.give(1)
    request.reply.give(2)
    request.reply.fail(ValueError("too late"))
    assert await request.reply.wait() == 1


async def test_an_answer_after_an_error_is_dropped() -> None:
    request = Double(number=1)
    request.reply.fail(ValueError("first"))
    request.reply.give(2)
    with pytest.raises(ValueError, match="first"):
        await request.reply.wait()


@pytest.mark.parametrize("make_threads", [InlineThreads, WorkerThreads])
async def test_threads_return_what_the_function_returns(
    make_threads: type[InlineThreads] | type[WorkerThreads],
) -> None:
    threads = make_threads()
    assert [await threads.run(divmod, number, 3) for number in (7, 8)] == [(2, 1), (2, 2)]


@pytest.mark.parametrize("make_threads", [InlineThreads, WorkerThreads])
async def test_threads_raise_what_the_function_raises(
    make_threads: type[InlineThreads] | type[WorkerThreads],
) -> None:
    with pytest.raises(ZeroDivisionError):
        await make_threads().run(divmod, 1, 0)


async def test_worker_threads_run_no_more_at_a_time_than_they_may() -> None:
    threads = WorkerThreads(1)
    running = 0
    most = 0

    def count() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        running -= 1

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(threads.run, count)
    assert most == 1
