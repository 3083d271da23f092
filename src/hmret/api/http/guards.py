"""Guards in front of the control API, which reject requests before any call of it sees them.

A server must run on the engine's event loop. Where browsers can reach the API, DNS rebinding must not: the Host header is
checked. On the control socket the owner and root may do everything, others may only read: they can connect only if the
socket has a group, and the kernel reports the uid of the peer (unix(7), SO_PEERCRED).
"""

import ipaddress
import socket
import struct
from collections.abc import Callable, Set as AbstractSet
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from hmret.api.problems import Problem, problem_response
from hmret.engine.retention import Retention

# For these paths any host name will do: they contain nothing that another site's page could misuse, and scrapers and
# probes may use other names.
_OPEN_TO_ALL = frozenset(("/metrics", "/healthz", "/readyz"))

_ASKING = frozenset(("GET", "HEAD"))
# They change nothing, although they are POST requests.
_QUESTIONS = frozenset(("/v1/plan",))
_CREDENTIALS = struct.Struct("3i")  # process, user, group
_REFUSAL = (
    "user {} has read-only access: run this as root or as the engine's user, or set "
    "hmret.control_socket_group_writes to true and reload"
)


class LoopGuard:
    """Rejects every request that arrives on an event loop other than the engine's.

    The error is raised so that the misconfigured server logs it; the client gets status 500.
    """

    def __init__(self, app: ASGIApp, retention: Retention) -> None:
        self._app = app
        self._retention = retention

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._retention.require_own_loop()
        await self._app(scope, receive, send)


class HostGuard:
    """Rejects requests whose Host is not one of our names; numeric addresses cannot be rebound and are allowed."""

    def __init__(self, app: ASGIApp, names: AbstractSet[str]) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in _OPEN_TO_ALL:
            host = Headers(scope=scope).get("host", "")
            if not self._is_ours(host):
                detail = f"this server is not {host[:100]!r}; use its numeric address"
                problem = Problem(HTTPStatus.MISDIRECTED_REQUEST, "unknown-host", detail)
                await problem_response(problem)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_ours(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and ":" in host else host
        name = name.removeprefix("[").removesuffix("]").rstrip(".").lower()
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def own_names(listen: str) -> frozenset[str]:
    """List the host names that are valid for a listener on `host:port`."""
    host = listen.rpartition(":")[0].removeprefix("[").removesuffix("]").lower()
    return frozenset((host, "localhost", socket.gethostname().lower()))


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
