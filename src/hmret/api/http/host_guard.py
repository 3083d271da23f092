"""Guards against DNS rebinding: checks the Host header where browsers can reach the API."""

import ipaddress
import socket
from collections.abc import Set as AbstractSet
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from hmret.api.problems import Problem, problem_response

# They contain nothing that another site's page could misuse, and scrapers and probes may use other host
# names.
_OPEN_TO_ALL = frozenset(("/metrics", "/healthz", "/readyz"))


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
