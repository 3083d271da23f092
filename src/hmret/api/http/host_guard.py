"""The guard against DNS rebinding: whom a request must be addressed to where browsers can reach us."""

import ipaddress
import socket
from collections.abc import Set as AbstractSet
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from hmret.api.problems import Problem, problem_response

__all__ = ["HostGuard", "own_names"]

# They say nothing that a page elsewhere could misuse, and scrapers and probes have names of their own for us.
_OPEN_TO_ALL = frozenset(("/metrics", "/healthz", "/readyz"))


class HostGuard:
    """Refuses requests that are addressed to a name that is not ours; an address in figures cannot be rebound."""

    def __init__(self, app: ASGIApp, names: AbstractSet[str]) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in _OPEN_TO_ALL:
            host = Headers(scope=scope).get("host", "")
            if not self._is_ours(host):
                detail = f"this is not {host[:100]!r}; use the address in figures"
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
    """List the names that a listener on `host:port` answers to."""
    host = listen.rpartition(":")[0].removeprefix("[").removesuffix("]").lower()
    return frozenset((host, "localhost", socket.gethostname().lower()))
