"""Access control of the control socket: the owner and root may do everything, others may only read.

Others can connect only if the socket has a group. The kernel reports the uid of the peer: unix(7),
SO_PEERCRED.
"""

import socket
import struct
from collections.abc import Callable
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from hmret.api.problems import Problem, problem_response

_ASKING = frozenset(("GET", "HEAD"))
# They change nothing, although they are POST requests.
_QUESTIONS = frozenset(("/v1/plan",))
_CREDENTIALS = struct.Struct("3i")  # process, user, group
_REFUSAL = (
    "user {} has read-only access: run this as root or as the engine's user, or set "
    "hmret.control_socket_group_writes to true and reload"
)


class GroupGuard:
    """Rejects requests that change something, except from root and the user that the engine runs as."""

    def __init__(self, app: ASGIApp, owner: int, group_writes: Callable[[], bool]) -> None:
        self._app = app
        self._trusted = (0, owner)
        self._group_writes = group_writes

    def of(self, user: int) -> ASGIApp:
        """Return the application for a connected user."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and self._is_forbidden(scope):
                problem = Problem(HTTPStatus.FORBIDDEN, "read-only", _REFUSAL.format(user))
                await problem_response(problem)(scope, receive, send)
                return
            await self._app(scope, receive, send)

        return self._app if user in self._trusted else guarded

    def _is_forbidden(self, scope: Scope) -> bool:
        asks = scope["method"] in _ASKING or scope["path"] in _QUESTIONS
        return not asks and not self._group_writes()


def peer_of(connected: socket.socket) -> int:
    """Return the uid of the peer of a Unix socket, as of when it connected."""
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    user: int = _CREDENTIALS.unpack(credentials)[1]
    return user
