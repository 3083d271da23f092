"""Serves an application on a listening socket, with limits on clients, on their slowness and on shutdown.

anycorn speaks HTTP; this module has the accept loop around it. anycorn's own loop ends with the first failed
`accept`, and waits without limit for a client that does not read, shielded from cancellation.
"""

import errno
import logging
import socket

import anyio
import anyio.abc
from anycorn import Config
from anycorn.tcp_server import TCPServer
from anycorn.typing import ConnectionState, LifespanState
from anycorn.utils import wrap_app
from starlette.types import ASGIApp

from hmret.api.http.client_stream import ClientStream, accept
from hmret.api.http.guards import GroupGuard
from hmret.engine.log import log_event
from hmret.model.values import frozen

# `accept` fails because of a shortage that may be over in a moment.
_PASSING = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED))
_PAUSE = 0.1


@frozen(kw_only=True)
class Limits:
    """Limits on clients; excess clients are rejected, slow ones disconnected."""

    clients: int = 400
    """Concurrent clients; each takes a file descriptor, and the default limit of a process is 1024."""
    request_seconds: float = 5.0
    """From the connection, or the previous response, to the end of a request's head."""
    send_seconds: float = 10.0
    """For the client to read each chunk of a response."""
    stop_seconds: float = 2.0
    """For responses in progress when the server stops."""


class Server:
    """Serves one application on one listening socket."""

    def __init__(
        self, app: ASGIApp | GroupGuard, listening: socket.socket, limits: Limits | None = None
    ) -> None:
        self._limits = limits or Limits()
        self._app = app
        self._socket = listening
        self._next_socket: socket.socket | None = None
        self._accepting = anyio.CancelScope()
        self._streams: set[ClientStream] = set()
        self._emptied = anyio.Event()
        self._config = Config()
        self._config.keep_alive_timeout = self._limits.request_seconds
        self._config.include_server_header = False
        self._config.errorlog = logging.getLogger("hmret.api.http.server")
        self._config.alpn_protocols = ["http/1.1"]

    @property
    def clients(self) -> int:
        """The number of connected clients."""
        return len(self._streams)

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until stopped; closes the socket. Ends once every response in progress was sent or cut off."""
        self._socket.setblocking(False)
        async with anyio.create_task_group() as clients:
            try:
                task_status.started()
                while True:
                    with self._accepting:
                        await self._accept(clients)
                    if self._next_socket is None:
                        break
                    self._socket.close()
                    self._socket, self._next_socket = self._next_socket, None
                    self._accepting = anyio.CancelScope()
            finally:
                self._socket.close()
                clients.start_soon(self._end, clients.cancel_scope)

    def listen_on(self, listening: socket.socket) -> None:
        """Accept clients on another socket from now on and close the previous one; connected clients stay."""
        listening.setblocking(False)
        self._next_socket = listening
        self._accepting.cancel()

    def stop(self) -> None:
        """Stop accepting clients and close idle connections; responses in progress get `stop_seconds`."""
        if self._next_socket is not None:
            self._next_socket.close()
            self._next_socket = None
        self._accepting.cancel()

    async def _end(self, scope: anyio.CancelScope) -> None:
        with anyio.CancelScope(shield=True):
            for stream in tuple(self._streams):
                await stream.terminate()
            with anyio.move_on_after(self._limits.stop_seconds):
                if self._streams:
                    await self._emptied.wait()
        for stream in tuple(self._streams):
            stream.close()
        scope.cancel()

    async def _accept(self, clients: anyio.abc.TaskGroup) -> None:
        while True:
            try:
                accepted = await accept(self._socket)
            except OSError as error:
                if error.errno not in _PASSING:
                    raise
                log_event(logging.WARNING, "client_not_accepted", error=error.strerror)
                await anyio.sleep(_PAUSE)
                continue
            if len(self._streams) >= self._limits.clients:
                accepted.close()
                continue
            stream = ClientStream(accepted, self._limits.send_seconds)
            self._streams.add(stream)
            self._emptied = anyio.Event()
            clients.start_soon(self._serve, stream)

    async def _serve(self, stream: ClientStream) -> None:
        state = ConnectionState(LifespanState())
        try:
            app = self._app.of(stream.peer) if isinstance(self._app, GroupGuard) else self._app
            wrapped = wrap_app(app, 0, "asgi")  # type: ignore[arg-type]  # two type definitions of the same protocol
            await TCPServer(wrapped, self._config, stream.context, state, stream).run()  # type: ignore[arg-type]  # our stream has what it uses of a socket stream
        except Exception as error:  # noqa: BLE001 - the boundary: one client's failure must not end the server
            log_event(logging.WARNING, "client_failed", error=f"{type(error).__name__}: {error}")
        finally:
            stream.close()
            self._streams.discard(stream)
            if not self._streams:
                self._emptied.set()
