"""Mailboxes: how actors are asked, and the promise that everyone who asked hears an answer.

A request carries its reply. Where what is asked has a protocol, the request is a message, a class of its own; else it is
a `Call`. An actor answers each request in a task of its own. When it ends, for whatever cause, it answers the requests
that wait in its mailbox, and those it is working on, with `EngineClosedError`.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import anyio
import attrs
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from hmret.model.errors import EngineClosedError
from hmret.model.values import define, frozen

__all__ = ["Actor", "Call", "Mailbox", "Reply", "Request", "answer_call"]

T = TypeVar("T")
R = TypeVar("R", bound="Request[Any]")

# Callers wait when it is full. One sweep asks each actor a handful of things at a time; this leaves room
# for a few hundred callers of `mark_used` without making any of them wait for a place.
_PLACES = 256


@define(eq=False)
class Reply(Generic[T]):
    """The place where one answer is waited for."""

    _done: anyio.Event = attrs.field(factory=anyio.Event, init=False)
    _value: T | None = attrs.field(default=None, init=False)
    _error: Exception | None = attrs.field(default=None, init=False)

    def give(self, value: T) -> None:
        """Answer; later answers to the same request are dropped."""
        if not self._done.is_set():
            self._value = value
            self._done.set()

    def fail(self, error: Exception) -> None:
        """Answer with an error."""
        if not self._done.is_set():
            self._error = error
            self._done.set()

    async def wait(self) -> T:
        """Wait for the answer; raises the error that it may be."""
        await self._done.wait()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # set by whoever set the event


@frozen(eq=False, kw_only=True)
class Request(Generic[T]):
    """What an actor is asked; a subclass says what, and T is the type of the answer."""

    reply: Reply[T] = attrs.field(factory=Reply, repr=False)


@frozen(eq=False, kw_only=True)
class Call(Request[T]):
    """A call that the actor makes, for what has no protocol of its own; the answer is what it returns or raises."""

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
            EngineClosedError: the actor has ended, or ended before it answered.
        """
        await self.post(request)
        return await request.reply.wait()

    async def post(self, request: Request[Any]) -> None:
        """Put a request into the mailbox, and do not wait for its answer.

        Raises:
            EngineClosedError: the actor has ended.
        """
        try:
            await self._sender.send(request)  # type: ignore[arg-type]  # an actor's methods send its own requests
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            raise EngineClosedError("the engine has stopped") from None

    def close(self) -> None:
        """Take no more messages; those that are in the mailbox are still served."""
        self._sender.close()

    @property
    def waiting(self) -> int:
        """How many messages wait in the mailbox."""
        return self._receiver.statistics().current_buffer_used

    async def serve(self, answer: Callable[[R], Awaitable[object]], *, wait: bool = True) -> None:
        """Answer requests, each in a task of its own, until the mailbox is closed.

        Then those being worked on are finished, or cancelled where `wait` is false.
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
        """Answer requests one after the other, until the mailbox is closed and everything is answered."""
        try:
            async for request in self._receiver:
                await self._serve_one(answer, request)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close both ends, and refuse what will not be served any more."""
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


class Actor(Generic[R]):
    """What all actors have: a mailbox, which is closed from outside and served by `run`."""

    def __init__(self) -> None:
        self._mailbox: Mailbox[R] = Mailbox()

    def close(self) -> None:
        """Take no more requests."""
        self._mailbox.close()

    @property
    def waiting(self) -> int:
        """How many requests wait in the mailbox."""
        return self._mailbox.waiting
