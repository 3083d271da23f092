"""All that the tests of this folder know of the inside: an engine that sweeps when asked, its server, and its clock.

Whoever moves or renames one of these changes this module, and no other one here.
"""

import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.abc
import attrs
import httpx2
import pytest
from anyio.from_thread import start_blocking_portal
from starlette.types import ASGIApp

import hmret
from hmret.api.http.server import Server
from hmret.asgi import make_app
from hmret.disk.kernel.clock import HOST_CLOCK
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from support.builders import FakeClock
from support.patience import PATIENCE

__all__ = ["FakeClock", "Served", "set_clock", "short_path"]


def set_clock(patch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    """Let every engine of this process go by a clock."""
    patch.setattr(type(HOST_CLOCK), "now_ns", lambda _: clock.now_ns())
    patch.setattr(type(HOST_CLOCK), "read", lambda _: clock.read())


@contextmanager
def short_path(place: Path) -> Iterator[str]:
    """Give another path of a socket: the kernel takes none of more than 107 bytes."""
    folder = os.open(place.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{place.name}"
    finally:
        os.close(folder)


@attrs.define(eq=False)
class Served:
    """The control API of an engine, served on a Unix socket by a thread; the engine sweeps only when asked."""

    config: hmret.RetentionConfig
    place: Path
    read_only: Sequence[httpx2.Request]
    """Asked of an application that can be looked at only, right before the engine is closed."""
    closed: Sequence[httpx2.Request]
    """Asked when it has been closed."""
    answers: dict[str, list[httpx2.Response]] = attrs.field(factory=dict)
    """To these requests, when `running` has ended."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serve while the block lasts."""
        self.place.parent.mkdir(parents=True, exist_ok=True)
        stop = anyio.Event()
        with start_blocking_portal("asyncio") as portal:
            future, _ = portal.start_task(self._serve, stop)
            try:
                yield
            finally:
                portal.call(stop.set)
                future.result(PATIENCE)
                self.place.unlink()

    async def _serve(self, stop: anyio.Event, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with short_path(self.place) as address:
            listening.bind(address)
        listening.listen()
        # No time passes in a batch of deletions, so a busy machine does not make two of it, with a record each.
        platform = Platform(monotonic_ns=lambda: 0)
        async with (
            anyio.create_task_group() as tasks,
            open_engine(self.config, platform, scheduled=False) as retention,
        ):
            app = make_app(retention)
            server = Server(app, listening)
            await tasks.start(server.run)
            task_status.started()
            await stop.wait()
            server.stop()
            reading = make_app(retention, read_only=True, host_names={"hmret"})
            self.answers["read only"] = await _answers(reading, self.read_only)
        self.answers["closed"] = await _answers(app, self.closed)


async def _answers(app: ASGIApp, requests: Iterable[httpx2.Request]) -> list[httpx2.Response]:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app)) as client:
        return [await client.send(request) for request in requests]
