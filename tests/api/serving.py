"""The control API on a real engine: in this loop, without a network, and served by the real server in a thread."""

import json
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import attrs
import httpx2
from anyio.from_thread import start_blocking_portal
from starlette.applications import Starlette

from hmret.api.app import make_app
from hmret.api.http.server import Limits, Server
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.model.policy.config import RetentionConfig
from support.builders import make_config, make_image
from support.patience import PATIENCE

__all__ = ["ALPINE", "Api", "asking", "connect", "served", "serving_on", "told_problem"]

ALPINE = "docker.io/library/alpine"


@attrs.frozen
class Api:
    """An engine, and a client of its control API."""

    retention: Retention
    client: httpx2.AsyncClient
    app: Starlette

    async def get(self, path: str, *, parameters: Mapping[str, str] | None = None, **more: str) -> Any:
        """Get a document."""
        response = await self.client.get(path, params={**(parameters or {}), **more})
        assert response.status_code == 200, response.text
        return response.json()

    async def post(self, path: str, document: Mapping[str, object], status: int = 200) -> Any:
        """Post a document."""
        response = await self.client.post(path, json=document)
        assert response.status_code == status, response.text
        return response.json()


@asynccontextmanager
async def asking(
    platform: Platform, config: RetentionConfig, *, scheduled: bool = False, **options: Any
) -> AsyncIterator[Api]:
    """Open an engine, and ask its control API in this loop."""
    async with open_engine(config, platform, scheduled=scheduled) as retention:
        app = make_app(retention, **options)
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://hmret") as client:
            yield Api(retention, client, app)


@asynccontextmanager
async def serving_on(
    path: str, root: Path, limits: Limits | None = None, **options: Any
) -> AsyncIterator[tuple[Retention, Server]]:
    """Open an engine on a real disk, and serve its control API on a Unix socket, in this loop."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(path)
    listening.listen(512)
    async with (
        anyio.create_task_group() as tasks,
        open_engine(make_config(root), Platform(), scheduled=False) as retention,
    ):
        server = Server(make_app(retention, **options), listening, limits)
        await tasks.start(server.run)
        try:
            yield retention, server
        finally:
            server.stop()


@contextmanager
def served(root: Path, backend: str) -> Iterator[str]:
    """Serve the control API of an engine on a TCP port of this host, by a thread; gives its address."""
    make_image(root, ALPINE, "a", tags=("3.20",))
    make_image(root, ALPINE, "b", tags=("edge",), status="pulling")
    listening = socket.create_server(("127.0.0.1", 0))
    stop = anyio.Event()

    async def serve(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with (
            anyio.create_task_group() as tasks,
            open_engine(make_config(root), Platform(), scheduled=True) as retention,
        ):
            server = Server(make_app(retention), listening)
            await tasks.start(server.run)
            task_status.started()
            await stop.wait()
            server.stop()

    with start_blocking_portal(backend) as portal:
        future, _ = portal.start_task(serve)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            portal.call(stop.set)
            future.result(PATIENCE)


@contextmanager
def connect(path: str) -> Iterator[socket.socket]:
    """Connect to a Unix socket, as a client that is written by hand."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(PATIENCE)
        client.connect(path)
        yield client


def told_problem(response: httpx2.Response, status: int, kind: str) -> str:
    """Check that an answer is a problem of a kind; returns its detail."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = json.loads(response.content)
    assert set(document) == {"type", "title", "status", "detail"}
    assert document["status"] == status
    assert document["type"] == (f"urn:hmret:problem:{kind}" if kind else "about:blank")
    detail: str = document["detail"]
    return detail
