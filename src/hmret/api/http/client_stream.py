"""A client's connection, in which nothing is waited for longer than it may take.

On the bare socket, and not on anyio's own stream over it: on asyncio that one logs an error where a client goes in
the moment in which it is closed.
"""

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
from anycorn.worker_context import WorkerContext

from hmret.api.http.group_guard import peer_of

__all__ = ["ClientStream", "accept"]


class ClientStream(anyio.abc.ByteStream):
    """One client; `send` gives up on a client that does not read, also where its caller is shielded."""

    def __init__(self, connected: socket.socket, send_seconds: float) -> None:
        self._socket = connected
        self._send_seconds = send_seconds
        self.context = WorkerContext(None)
        """What anycorn looks at to see whether the connection is to end."""

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """What anycorn asks of a connection: its socket."""
        return {anyio.abc.SocketAttribute.raw_socket: lambda: self._socket}

    @property
    def peer(self) -> int:
        """The user at the other end of a Unix socket."""
        return peer_of(self._socket)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Receive some bytes.

        Raises:
            EndOfStream: the client sends no more.
            BrokenResourceError: the connection is broken.
            ClosedResourceError: it was closed here.
        """
        try:
            content = await self._receive(max_bytes)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self.context.terminated.set()
            raise
        if not content:
            await self.context.terminated.set()
            raise anyio.EndOfStream
        return content

    async def _receive(self, max_bytes: int) -> bytes:
        await anyio.lowlevel.checkpoint()
        while True:
            try:
                return self._socket.recv(max_bytes)
            except BlockingIOError:
                await anyio.wait_readable(self._socket)
            except OSError as error:
                raise self._broken() from error

    async def send(self, item: bytes) -> None:
        """Send all of some bytes.

        Raises:
            BrokenResourceError: the connection is broken, or the client took too long to read.
            ClosedResourceError: it was closed here.
        """
        await anyio.lowlevel.checkpoint()
        rest = memoryview(item)
        with anyio.move_on_after(self._send_seconds):
            while rest:
                try:
                    rest = rest[self._socket.send(rest) :]
                except BlockingIOError:
                    await anyio.wait_writable(self._socket)
                except OSError as error:
                    raise self._broken() from error
        if rest:
            self.close()
            raise anyio.BrokenResourceError

    async def send_eof(self) -> None:
        """Tell the client that nothing more comes."""
        await anyio.lowlevel.checkpoint()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        """Close the connection, at once."""
        self.close()
        await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close the connection, at once; whoever waits for this client waits no longer, shielded or not."""
        if self._socket.fileno() != -1:
            anyio.notify_closing(self._socket)
            self._socket.close()

    def _broken(self) -> Exception:
        is_closed = self._socket.fileno() == -1
        return anyio.ClosedResourceError() if is_closed else anyio.BrokenResourceError()


async def accept(listening: socket.socket) -> socket.socket:
    """Wait for the next client of a listening socket that does not block.

    Raises:
        OSError: no client could be accepted.
    """
    await anyio.lowlevel.checkpoint()
    while True:
        try:
            connected, _ = listening.accept()
        except BlockingIOError:
            await anyio.wait_readable(listening)
            continue
        connected.setblocking(False)
        return connected
