"""The guard against a server that runs the control API on another event loop than the engine's."""

from starlette.types import ASGIApp, Receive, Scope, Send

from hmret.engine.retention import Retention

__all__ = ["LoopGuard"]


class LoopGuard:
    """Refuses every request that arrives on another event loop than that of the engine.

    The error is raised, so that the server that has made this mistake logs it; its client is answered with status 500.
    """

    def __init__(self, app: ASGIApp, retention: Retention) -> None:
        self._app = app
        self._retention = retention

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._retention.require_own_loop()
        await self._app(scope, receive, send)
