"""Who may do what through the control socket: its owner and root everything, others may ask.

Others get that far only where the socket has a group. The kernel says which user has connected: unix(7), SO_PEERCRED.
"""

import socket
import struct
from collections.abc import Callable
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from hmret.api.problems import Problem, problem_response

__all__ = ["GroupGuard", "peer_of"]

_ASKING = frozenset(("GET", "HEAD"))
# They change nothing, whatever their method says.
_QUESTIONS = frozenset(("/v1/plan",))
_CREDENTIALS = struct.Struct("3i")  # process, user, group
_REFUSAL = (
    "user {} may only ask: run this as root or as the user that the engine runs as, or set "
    "hmret.control_socket_group_writes to true and reload"
)


class GroupGuard:
    """Refuses what changes something to everyone but root and the user that the engine runs as."""

    def __init__(self, app: ASGIApp, owner: int, group_writes: Callable[[], bool]) -> None:
        self._app = app
        self._trusted = (0, owner)
        self._group_writes = group_writes

    def of(self, user: int) -> ASGIApp:
        """Return what a user who has connected may call."""

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
    """Return the user at the other end of a Unix socket, as it was when the connection was made."""
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    user: int = _CREDENTIALS.unpack(credentials)[1]
    return user
