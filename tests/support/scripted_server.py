"""A server that answers HTTP requests as a test says: with what a broken or strange etcd, or none at all, would."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.abc import SocketAttribute, SocketStream

from hmret.model.values import frozen

__all__ = ["CLOSE", "CUT_OFF", "SILENCE", "Asked", "ScriptedServer", "answer", "serve"]

CLOSE = b""
"""The connection is closed without an answer."""
CUT_OFF = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"
"""The connection is closed in the midst of the answer."""
SILENCE = b"silence"
"""Nothing comes, and the connection stays."""


@frozen
class Asked:
    """A request."""

    path: str
    token: str
    document: object


def answer(document: object, status: int = 200) -> bytes:
    """Make an answer; what is text already is sent as it is."""
    content = document if isinstance(document, str) else json.dumps(document)
    body = content.encode()
    head = f"HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class ScriptedServer:
    """What was asked, and how it is answered."""

    def __init__(self, endpoint: str, reply: Callable[[Asked], bytes]) -> None:
        self.endpoint = endpoint
        self.reply = reply
        self.asked: list[Asked] = []

    async def handle(self, stream: SocketStream) -> None:
        """Answer the requests of a connection."""
        async with stream:
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                rest = b""
                while True:
                    while b"\r\n\r\n" not in rest:
                        rest += await stream.receive()
                    head, _, rest = rest.partition(b"\r\n\r\n")
                    first, *lines = head.decode().split("\r\n")
                    headers = {
                        name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
                    }
                    length = int(headers.get("content-length", "0"))
                    while len(rest) < length:
                        rest += await stream.receive()
                    body, rest = rest[:length], rest[length:]
                    asked = Asked(
                        first.split()[1], headers.get("authorization", ""), json.loads(body) if body else None
                    )
                    self.asked.append(asked)
                    reply = self.reply(asked)
                    if reply == CLOSE:
                        return
                    if reply == SILENCE:
                        await anyio.sleep_forever()
                    await stream.send(reply)
                    if reply == CUT_OFF:
                        return


@asynccontextmanager
async def serve(reply: Callable[[Asked], bytes]) -> AsyncIterator[ScriptedServer]:
    """Run a server while the block lasts."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    server = ScriptedServer(f"http://127.0.0.1:{port}", reply)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, server.handle)
        try:
            yield server
        finally:
            tasks.cancel_scope.cancel()
