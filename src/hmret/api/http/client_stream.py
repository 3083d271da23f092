"""A client connection on which no operation waits longer than its time limit.

Works on the plain socket instead of anyio's stream: on asyncio, that stream logs an error if the client
disconnects at the moment it is closed.
"""

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
from anycorn.worker_context import WorkerContext
from anyio.abc import ByteStream, SocketAttribute

from hmret.api.http.guards import peer_of


class ClientStream(ByteStream):
    """One client connection; `send` gives up on a client that does not read, even if its caller is shielded."""

    def __init__(self, connected: socket.socket, send_seconds: float) -> None:
        self._socket = connected
        self._send_seconds = send_seconds
        self.context = WorkerContext(None)
        """anycorn checks it to see whether the connection is to be closed."""

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """The attributes that anycorn asks for: the socket."""
        return {SocketAttribute.raw_socket: lambda: self._socket}

    @property
    def peer(self) -> int:
        """The uid of the peer of a Unix socket."""
        return peer_of(self._socket)

    async def terminate(self) -> None:
        """Let anycorn close the connection once it has no request in progress."""
        await self.context.terminated.set()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Receive up to `max_bytes` bytes.

        Raises:
            EndOfStream: the client has closed its sending side.
            BrokenResourceError: the connection is broken.
            ClosedResourceError: it was closed on this side.
        """
        try:
            content = await self._receive(max_bytes)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self.terminate()
            raise
        if not content:
            await self.terminate()
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
        """Send all bytes of `item`.

        Raises:
            BrokenResourceError: the connection is broken, or the client did not read in time.
            ClosedResourceError: it was closed on this side.
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
        """Shut down the sending side."""
        await anyio.lowlevel.checkpoint()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        """Close the connection immediately."""
        self.close()
        await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close the connection immediately; every pending operation on it ends, even if shielded."""
        if self._socket.fileno() != -1:
            anyio.notify_closing(self._socket)
            self._socket.close()

    def _broken(self) -> Exception:
        is_closed = self._socket.fileno() == -1
        return anyio.ClosedResourceError() if is_closed else anyio.BrokenResourceError()


async def accept(listening: socket.socket) -> socket.socket:
    """Wait for the next client of a non-blocking listening socket.

    Raises:
        OSError: accepting a client failed.
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
