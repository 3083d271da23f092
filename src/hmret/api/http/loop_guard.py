"""Guards against a server that runs the control API on an event loop other than the engine's."""

from starlette.types import ASGIApp, Receive, Scope, Send

from hmret.engine.retention import Retention


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
