"""Mailboxes: how requests reach an actor, with the guarantee that every request is answered.

A request carries its reply. Requests with a protocol of their own are message classes; all others are a
`Call`. An actor answers each request in a separate task. When it ends, for whatever reason, it answers the
requests waiting in its mailbox, and those in progress, with `EngineClosedError`.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Generic, ParamSpec, TypeVar

import anyio
import attrs
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from hmret.model.errors import EngineClosedError
from hmret.model.values import define, frozen

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R", bound="Request[Any]")

# Callers wait when it is full. A sweep has only a handful of requests to each actor in flight, so this leaves
# room for a few hundred concurrent callers of `mark_used`.
_PLACES = 256


@define(eq=False)
class Reply(Generic[T]):
    """A slot for the answer to one request."""

    _done: anyio.Event = attrs.field(factory=anyio.Event, init=False)
    _value: T | None = attrs.field(default=None, init=False)
    _error: Exception | None = attrs.field(default=None, init=False)

    def give(self, value: T) -> None:
        """Answer the request; later answers are dropped."""
        if not self._done.is_set():
            self._value = value
            self._done.set()

    def fail(self, error: Exception) -> None:
        """Answer the request with an error; later answers are dropped."""
        if not self._done.is_set():
            self._error = error
            self._done.set()

    async def wait(self) -> T:
        """Wait for the answer; raises it if it is an error."""
        await self._done.wait()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # set before the event


@frozen(eq=False, kw_only=True)
class Request(Generic[T]):
    """A request to an actor; subclasses say what for, and T is the type of the answer."""

    reply: Reply[T] = attrs.field(factory=Reply, repr=False)


@frozen(eq=False, kw_only=True)
class Call(Request[T]):
    """A call for the actor to make, for requests without a protocol; its result is the answer."""

    make: Callable[[], Awaitable[T]]


async def answer_call(call: Call[T]) -> T:
    """Answer a request that is a call."""
    return await call.make()


class Mailbox(Generic[R]):
    """One actor's mailbox, and the loop that serves it."""

    def __init__(self, places: int = _PLACES) -> None:
        self._sender: MemoryObjectSendStream[R]
        self._receiver: MemoryObjectReceiveStream[R]
        self._sender, self._receiver = anyio.create_memory_object_stream(places)

    async def ask(self, request: Request[T]) -> T:
        """Put a request into the mailbox and wait for its answer.

        Raises:
            EngineClosedError: the actor has ended, or ended before answering.
        """
        await self.post(request)
        return await request.reply.wait()

    async def post(self, request: Request[Any]) -> None:
        """Put a request into the mailbox without waiting for its answer.

        Raises:
            EngineClosedError: the actor has ended.
        """
        try:
            await self._sender.send(request)  # type: ignore[arg-type]  # an actor's methods send its own requests
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            raise EngineClosedError("the engine has stopped") from None

    def close(self) -> None:
        """Accept no more messages; those already in the mailbox are still served."""
        self._sender.close()

    @property
    def waiting(self) -> int:
        """How many messages are waiting in the mailbox."""
        return self._receiver.statistics().current_buffer_used

    async def serve(self, answer: Callable[[R], Awaitable[object]], *, wait: bool = True) -> None:
        """Answer requests, each in a separate task, until the mailbox is closed.

        Requests in progress are then finished, or cancelled if `wait` is false.
        """
        try:
            async with anyio.create_task_group() as tasks:
                async for request in self._receiver:
                    tasks.start_soon(self._serve_one, answer, request)
                if not wait:
                    tasks.cancel_scope.cancel()
        finally:
            self.abandon()

    async def serve_in_turn(self, answer: Callable[[R], Awaitable[object]]) -> None:
        """Answer requests one at a time, until the mailbox is closed and all of them are answered."""
        try:
            async for request in self._receiver:
                await self._serve_one(answer, request)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close both ends and refuse the requests that will no longer be served."""
        self._sender.close()
        while True:
            try:
                self._receiver.receive_nowait().reply.fail(EngineClosedError("the engine has stopped"))
            except (anyio.WouldBlock, anyio.EndOfStream, anyio.ClosedResourceError):
                break
        self._receiver.close()

    async def _serve_one(self, answer: Callable[[R], Awaitable[object]], request: R) -> None:
        try:
            request.reply.give(await answer(request))
        except Exception as error:  # noqa: BLE001 - raised at the caller; the actor goes on
            request.reply.fail(error)
        finally:
            request.reply.fail(EngineClosedError("the engine stopped before it answered"))


class Actor(ABC, Generic[R]):
    """Base class of all actors: a mailbox that is closed from outside and served by `run`."""

    def __init__(self) -> None:
        self._mailbox: Mailbox[R] = Mailbox()

    @abstractmethod
    async def run(self) -> None:
        """Answer requests until closed."""

    def close(self) -> None:
        """Accept no more requests."""
        self._mailbox.close()

    @property
    def waiting(self) -> int:
        """How many requests are waiting in the mailbox."""
        return self._mailbox.waiting


class CallActor(Actor[Call[Any]]):
    """An actor without a protocol of its own: each public coroutine posts one call with `_ask`, and returns its result."""

    async def run(self) -> None:
        """Serve until closed."""
        await self._mailbox.serve(answer_call)

    async def _ask(self, call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Post a call to the mailbox and wait for its result.

        Cancelling the caller does not cancel the call.

        Raises:
            EngineClosedError: the actor has ended, or ended before answering.
        """
        return await self._mailbox.ask(Call(make=partial(call, *args, **kwargs)))
