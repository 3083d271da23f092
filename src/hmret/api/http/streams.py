"""Streamed responses: plans of very many images in chunks, and events for as long as a client listens.

Neither is a generator that someone else must close: each is a task that ends with its client.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import islice

import anyio
import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hmret.actors.batches import batches
from hmret.actors.threads import Threads
from hmret.api.image_index import paced
from hmret.api.wire.convert import comparison_document, image_document, plan_head
from hmret.api.wire.structs import encode_document
from hmret.engine.events import Event, EventHub, Listener
from hmret.model.plan.plan import Plan
from hmret.model.policy.config import RetentionConfig
from hmret.model.verdicts import Verdict

# Images and events written at a time: one or two milliseconds.
_IMAGES = 500
_EVENTS = 200

_RETRY = b"retry: 2000\n\n"
_HEARTBEAT = b": heartbeat\n\n"


class Stream(Response):
    """A response whose body is sent in chunks, until it ends or the client disconnects."""

    def __init__(self, media_type: str) -> None:
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.init_headers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_there = True

        async def send_piece(content: bytes) -> None:
            await send({"type": "http.response.body", "body": content, "more_body": True})

        async def watch(tasks: anyio.abc.TaskGroup) -> None:
            nonlocal is_there
            while (await receive())["type"] != "http.disconnect":
                pass
            is_there = False
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch, tasks)
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            if scope["method"] != "HEAD":
                await self.send_body(send_piece)
            tasks.cancel_scope.cancel()
        if is_there:
            # No one waits for the disconnect any more. This tells the server that the response is complete,
            # so that the task is not cancelled while the server prepares the connection for the next request.
            await send({"type": "http.response.body", "body": b""})

    async def send_body(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        """Send the chunks of the body."""
        raise NotImplementedError


class PieceStream(Stream):
    """A response whose body is made in pieces, in threads, while it is sent."""

    def __init__(self, media_type: str, pieces: Iterator[bytes], threads: Threads) -> None:
        super().__init__(media_type)
        self._pieces = pieces
        self._threads = threads

    async def send_body(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        while piece := await self._threads.run(next, self._pieces, b""):
            await send(piece)


def encode_images(verdicts: Iterator[Verdict]) -> Iterator[bytes]:
    """Encode the elements of a JSON array of images, in pieces."""
    comma = b""
    # One at a time: many documents at once would trigger a full garbage collection.
    while images := [encode_document(image_document(verdict)) for verdict in islice(verdicts, _IMAGES)]:
        yield comma + b",".join(images)
        comma = b","


def plan_stream(
    plan: Plan, config: RetentionConfig, threads: Threads, in_force: Plan | None = None
) -> PieceStream:
    """Make the response for a plan; that of a candidate includes the comparison with the plan in force."""
    pieces = _plan_pieces(plan, config, threads.pause, in_force)
    return PieceStream("application/json", pieces, threads)


def _plan_pieces(
    plan: Plan, config: RetentionConfig, pause: Callable[[], None], in_force: Plan | None
) -> Iterator[bytes]:
    yield encode_document(plan_head(plan, config)).removesuffix(b"}") + b',"images":['
    yield from encode_images(paced(plan.iterate(), pause))
    if in_force is not None:
        yield b'],"comparison":' + encode_document(comparison_document(in_force, plan)) + b"}"
    else:
        yield b"]}"


class EventStream(Stream):
    """Events as they happen, as server-sent events.

    Source of the format: the HTML standard, "Server-sent events".
    """

    def __init__(
        self, hub: EventHub, after: int | None, *, heartbeat_seconds: float, follow: bool = True
    ) -> None:
        super().__init__("text/event-stream")
        self.headers["cache-control"] = "no-store"
        self._hub = hub
        self._after = after
        self._heartbeat_seconds = heartbeat_seconds
        self._follow = follow

    async def send_body(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        with self._hub.listen(self._after) as listener:
            if not self._follow:
                listener.end()
            await send(_RETRY)
            if listener.missed:
                await send(_notice("missed", "events have been missed; reload the images"))
            while (batch := await self._next(listener)) is not None:
                if not batch:
                    await send(_HEARTBEAT)
                for part in batches(batch, _EVENTS):
                    await send(b"".join(map(self._write, part)))
            if listener.fell_behind:
                await send(_notice("dropped", "this client did not keep up; reconnect"))

    async def _next(self, listener: Listener) -> Sequence[Event] | None:
        """Wait for events; empty: nothing happened within the heartbeat interval; None: the stream is over."""
        with anyio.move_on_after(self._heartbeat_seconds):
            try:
                return await anext(listener)
            except StopAsyncIteration:
                return None
        return ()

    def _write(self, event: Event) -> bytes:
        head = f"id: {write_event_id(self._hub, event.number)}\nevent: {event.name}\n".encode()
        return head + b"data: " + encode_document(event.facts) + b"\n\n"


def write_event_id(hub: EventHub, number: int) -> str:
    """Format an event id that another engine does not mistake for its own."""
    return f"{hub.instance}-{number}"


def read_event_id(hub: EventHub, text: str | None) -> int | None:
    """Parse the id of the last event that a client has seen; None: the client wants no past events.

    An id from before a restart of the engine gives 0: every event is new to that client.
    """
    if not text:
        return None
    instance, _, number = text.rpartition("-")
    is_ours = instance == hub.instance and number.isascii() and number.isdigit() and len(number) < _DIGITS
    return int(number) if is_ours else 0


_DIGITS = 19


def _notice(name: str, detail: str) -> bytes:
    return (
        f"event: {name}\ndata: ".encode() + msgspec.json.encode({"event": name, "detail": detail}) + b"\n\n"
    )
