"""The control API where it is served on another event loop than the engine's."""

from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import anyio.to_thread
import httpx2
import pytest

from api.serving import ALPINE, Api, asking
from hmret.engine.platform import Platform
from support.builders import make_config, make_image
from support.memory_filesystem import MemoryFilesystem
from support.patience import patiently

REQUESTS = [
    ("GET", "/healthz"),
    ("GET", "/metrics"),
    ("GET", "/v1/status"),
    ("GET", "/v1/plan"),
    ("GET", "/v1/images"),
    ("GET", "/v1/images/alpine"),
    ("GET", "/v1/events"),
    ("POST", "/v1/mark-used"),
    ("POST", "/v1/sweeps"),
    ("POST", "/v1/leases"),
    ("DELETE", "/v1/leases/0"),
]


@contextmanager
def refused(messages: list[str]) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        messages.append(str(error))


@pytest.mark.parametrize("other_backend", ["asyncio", "trio"])
@pytest.mark.parametrize(("method", "path"), REQUESTS)
async def test_a_request_on_another_event_loop_is_an_error_at_once_and_the_engine_goes_on(
    filesystem: MemoryFilesystem, platform: Platform, method: str, path: str, other_backend: str
) -> None:
    make_image(filesystem, ALPINE, "a")
    async with asking(platform, make_config(filesystem)) as api:
        raised, statuses = await anyio.to_thread.run_sync(ask_elsewhere, api, method, path, other_backend)
        assert ["another event loop" in message for message in raised] == [True]
        assert statuses == [500]
        with patiently():
            assert (await api.post("/v1/mark-used", {"image": "alpine"}))["repository"] == ALPINE
            assert (await api.client.post("/v1/sweeps")).json()["status"] == "success"


def ask_elsewhere(api: Api, method: str, path: str, backend: str) -> tuple[list[str], list[int]]:
    """Ask on an event loop of this thread; returns what the application raised, and what its client was answered."""
    raised: list[str] = []
    statuses: list[int] = []

    async def ask() -> None:
        for raises in (True, False):
            transport = httpx2.ASGITransport(app=api.app, raise_app_exceptions=raises)
            async with httpx2.AsyncClient(transport=transport, base_url="http://hmret") as client:
                with patiently(), refused(raised):
                    response = await client.request(method, path, json={"image": "alpine"})
                    statuses.append(response.status_code)

    anyio.run(ask, backend=backend)
    return raised, statuses
