"""The server: many clients, slow ones, those that go, and its end; on a real socket."""

import json
import socket
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread
import httpx2
import pytest

from api.serving import ALPINE, connect, serving_on, told_problem
from hmret.api.http import requests as bodies
from hmret.api.http.client_stream import accept as real_accept
from hmret.api.http.server import Limits
from hmret.engine.retention import Retention
from support.builders import make_image, settle
from support.patience import PATIENCE, patiently

CLIENTS = 200


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "s.sock")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    return root


def client_of(path: str, clients: int = 1) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)
    transport = httpx2.AsyncHTTPTransport(uds=path, limits=limits)
    return httpx2.AsyncClient(transport=transport, base_url="http://hmret", timeout=PATIENCE)


def read_all(client: socket.socket) -> bytes:
    content = b""
    while piece := client.recv(65536):
        content += piece
    return content


async def wait_clients(server: object, number: int) -> None:
    """Wait until so many clients are connected."""
    with patiently():
        while getattr(server, "clients") != number:  # noqa: ASYNC110, B009 - nothing else tells
            await anyio.sleep(0.01)


async def wait_listener(retention: Retention) -> None:
    """Wait until somebody follows the events."""
    with patiently():
        while retention.event_hub.listening == 0:  # noqa: ASYNC110 - nothing else tells
            await anyio.sleep(0.01)


async def test_two_hundred_clients_at_once_are_served(path: str, root: Path) -> None:
    key = make_image(root, ALPINE, "a", tags=("3.20",))
    answers: list[object] = []
    async with serving_on(path, root) as (_, server), client_of(path, CLIENTS) as client:
        events = []

        async def follow() -> None:
            async with await anyio.connect_unix(path) as follower:
                await follower.send(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n")
                content = b""
                while b"retry: 2000" not in content:
                    content += await follower.receive()
                events.append(content.partition(b"\r\n")[0])

        async def ask() -> None:
            response = await client.post("/v1/mark-used", json={"image": "alpine:3.20"})
            answers.append(response.json()["digest"])

        async with anyio.create_task_group() as tasks:
            for _ in range(CLIENTS):
                tasks.start_soon(ask)
            for _ in range(20):
                tasks.start_soon(follow)
        assert answers == [key[1]] * CLIENTS
        assert events == [b"HTTP/1.1 200 "] * 20
    assert server.clients == 0


async def test_two_hundred_connections_that_do_nothing_keep_nobody_out(path: str, root: Path) -> None:
    limits = Limits(request_seconds=60)
    async with serving_on(path, root, limits) as (_, server):
        idle = [socket.socket(socket.AF_UNIX) for _ in range(CLIENTS)]
        for one in idle:
            one.connect(path)
        await wait_clients(server, CLIENTS)
        async with client_of(path) as client:
            assert (await client.get("/healthz")).status_code == 200
        for one in idle:
            one.close()
        await wait_clients(server, 0)


async def test_more_clients_than_there_is_room_for_are_turned_away(path: str, root: Path) -> None:
    async with serving_on(path, root, Limits(clients=2, request_seconds=60)) as (_, server):
        with connect(path) as one, connect(path) as other:
            await wait_clients(server, 2)
            with connect(path) as third:
                assert await anyio.to_thread.run_sync(third.recv, 1) == b""
            one.close()
            other.close()
            await wait_clients(server, 0)
        async with client_of(path) as client:
            assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nhost: x\r\n"])
async def test_a_client_that_does_not_finish_its_request_is_cut_off(
    path: str, root: Path, sent: bytes
) -> None:
    async with serving_on(path, root, Limits(request_seconds=0.2)):
        with connect(path) as client:
            client.sendall(sent)
            assert await anyio.to_thread.run_sync(client.recv, 1) == b""


async def test_a_body_that_does_not_come_is_answered(
    path: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.2)
    async with serving_on(path, root):
        with connect(path) as client:
            client.sendall(
                b"POST /v1/mark-used HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                b'content-length: 100\r\n\r\n{"image"'
            )
            answer = await anyio.to_thread.run_sync(read_all, client)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"urn:hmret:problem:slow-body" in answer


@pytest.mark.parametrize("size_bytes", [70_000, 900_000])
async def test_a_body_that_is_too_large_is_refused_and_its_sender_hears_it(
    path: str, root: Path, size_bytes: int
) -> None:
    async with serving_on(path, root), client_of(path) as client:
        body = json.dumps({"image": "a" * size_bytes})
        headers = {"content-type": "application/json"}
        response = await client.post("/v1/mark-used", content=body, headers=headers)
        told_problem(response, 413, "body-too-large")
        assert (await client.get("/healthz")).status_code == 200


async def test_a_body_without_end_is_cut_off(path: str, root: Path) -> None:
    def flood() -> None:
        with connect(path) as client:
            client.sendall(
                b"POST /v1/mark-used HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                b"transfer-encoding: chunked\r\n\r\n"
            )
            chunk = b"1000\r\n" + b"a" * 0x1000 + b"\r\n"
            with suppress(BrokenPipeError, ConnectionResetError):
                for _ in range(100_000):
                    client.sendall(chunk)
                raise AssertionError("400 MB were taken")

    async with serving_on(path, root) as (_, server):
        await anyio.to_thread.run_sync(flood)
        await wait_clients(server, 0)


async def test_a_request_head_without_end_is_refused(path: str, root: Path) -> None:
    async with serving_on(path, root):
        with connect(path) as client:
            client.sendall(b"GET /" + b"a" * 20_000)
            answer = await anyio.to_thread.run_sync(client.recv, 100)
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_a_client_that_does_not_read_is_cut_off_and_nobody_waits_for_it(path: str, root: Path) -> None:
    limits = Limits(send_seconds=0.2)
    async with serving_on(path, root, limits) as (retention, server):
        with connect(path) as client:
            client.sendall(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n")
            await wait_listener(retention)
            for number in range(4000):
                retention.event_hub.publish([{"event": "mark", "image": "x" * 500, "number": number}])
            assert (await retention.sweep()).status == "success"
            await wait_clients(server, 0)
            assert retention.event_hub.listening == 0


async def test_a_client_that_goes_leaves_nothing_behind(path: str, root: Path) -> None:
    async with serving_on(path, root) as (retention, server):
        with connect(path) as client:
            client.sendall(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n")
            await wait_listener(retention)
        await wait_clients(server, 0)
        assert retention.event_hub.listening == 0


@pytest.mark.parametrize(
    "sent", [b"\x00\xff\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET /a b HTTP/1.1\r\nhost: x\r\n\r\n", b"PRI"]
)
async def test_what_is_no_request_does_no_harm(path: str, root: Path, sent: bytes) -> None:
    async with serving_on(path, root, Limits(request_seconds=0.2)) as (_, server):
        with connect(path) as client:
            client.sendall(sent)
            await anyio.to_thread.run_sync(read_all, client)
        await wait_clients(server, 0)
        async with client_of(path) as client:
            assert (await client.get("/healthz")).status_code == 200


async def test_an_answer_under_way_is_sent_before_the_end_and_followers_are_let_go(
    path: str, root: Path
) -> None:
    lines: list[str] = []
    async with client_of(path) as client:
        async with serving_on(path, root) as (retention, server), anyio.create_task_group() as tasks:

            async def follow() -> None:
                async with client.stream("GET", "/v1/events") as response:
                    lines.extend([line async for line in response.aiter_lines()])

            tasks.start_soon(follow)
            await wait_listener(retention)
            await retention.sweep()
            server.stop()
            retention.event_hub.end()
            await wait_clients(server, 0)
        with pytest.raises(httpx2.ConnectError):
            await client.get("/healthz")
    assert any(line == "event: sweep" for line in lines)


async def test_a_client_that_does_not_read_does_not_hold_up_the_end(path: str, root: Path) -> None:
    limits = Limits(send_seconds=3600, stop_seconds=0.1)
    with patiently():
        async with serving_on(path, root, limits) as (retention, _):
            client = socket.socket(socket.AF_UNIX)
            client.connect(path)
            client.sendall(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n")
            await wait_listener(retention)
            for _ in range(4000):
                retention.event_hub.publish([{"event": "mark", "image": "x" * 500}])
            await settle()
    client.close()


async def test_running_out_of_descriptors_passes(
    path: str, root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [OSError(24, "Too many open files")]

    async def accept(listening: socket.socket) -> socket.socket:
        if failures:
            raise failures.pop()
        return await real_accept(listening)

    monkeypatch.setattr("hmret.api.http.server.accept", accept)
    async with serving_on(path, root), client_of(path) as client:
        assert (await client.get("/healthz")).status_code == 200
    assert "client_not_accepted error=Too many open files" in caplog.text
