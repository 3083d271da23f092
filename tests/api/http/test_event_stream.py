"""Server-sent events: what clients are told, and when they are let go."""

import json
from typing import Any

import anyio
import anyio.lowlevel

from api.serving import ALPINE, Api, asking, told_problem
from hmret.api.http.streams import EventStream, read_event_id, write_event_id
from hmret.engine.events import EventHub
from hmret.engine.platform import Platform
from support.builders import make_config, make_image, settle
from support.memory_filesystem import MemoryFilesystem
from support.patience import patiently


def parse(text: str) -> list[tuple[str, str, Any]]:
    """Read a stream: id, name and document of each event."""
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and line[0] != ":")
        if "data" in fields:
            events.append((fields.get("id", ""), fields["event"], json.loads(fields["data"])))
    return events


async def passed(api: Api, after: str = "0", **headers: str) -> list[tuple[str, str, Any]]:
    """Read what has passed since an event."""
    parameters = {"follow": "false", "after": after}
    response = await api.client.get("/v1/events", params=parameters, headers=headers)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.text.startswith("retry: 2000\n\n")
    return parse(response.text)


async def test_what_has_passed_is_told_from_where_the_client_was(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    key = make_image(filesystem, ALPINE, "a")
    async with asking(platform, make_config(filesystem)) as api:
        assert await passed(api) == []
        await api.retention.sweep()
        events = await passed(api)
        assert [name for _, name, _ in events] == ["mark", "sweep"]
        instance = api.retention.event_hub.instance
        assert [number for number, _, _ in events] == [f"{instance}-1", f"{instance}-2"]
        assert events[0][2]["image"] == "@".join(key)
        assert events[0][2]["event"] == "mark"
        assert await passed(api, after=f"{instance}-1") == events[1:]
        assert await passed(api, **{"last-event-id": f"{instance}-1"}) == events[1:]
        assert await passed(api, after=f"{instance}-2") == []
        # Of an engine before this one: everything is new.
        assert await passed(api, after="00000000-2") == events
        told_problem(await api.client.get("/v1/events?follow=perhaps"), 422, "invalid-parameter")


async def test_head_does_not_wait_for_anything(platform: Platform, filesystem: MemoryFilesystem) -> None:
    async with asking(platform, make_config(filesystem)) as api:
        response = await api.client.head("/v1/events")
        assert (response.status_code, response.content) == (200, b"")
        assert (await api.client.head("/v1/plan")).status_code == 200


def test_ids_are_read_as_they_were_written() -> None:
    hub = EventHub()
    assert read_event_id(hub, write_event_id(hub, 7)) == 7
    assert read_event_id(hub, None) is None
    assert read_event_id(hub, "") is None
    for text in ("7", f"{hub.instance}-", f"{hub.instance}-x", f"{hub.instance}--1", "-", "9" * 9999):
        assert read_event_id(hub, text) == 0
    assert read_event_id(hub, f"{hub.instance}-{'9' * 9999}") == 0


class Client:
    """An ASGI client that reads only when it is told to."""

    def __init__(self) -> None:
        self.content = b""
        self.may_read = anyio.Event()
        self.may_read.set()
        self.gone = anyio.Event()
        self.has_ended = False

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.may_read.wait()
        self.content += message.get("body", b"")
        self.has_ended |= message["type"] == "http.response.body" and not message.get("more_body", False)

    async def follow(self, stream: EventStream) -> None:
        await stream({"type": "http", "method": "GET"}, self.receive, self.send)


def fact(number: int) -> dict[str, object]:
    return {"event": "mark", "image": str(number)}


async def test_events_come_as_they_happen_until_the_engine_stops() -> None:
    hub, client = EventHub(), Client()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.follow, EventStream(hub, None, heartbeat_seconds=3600))
        await settle()
        hub.publish([fact(number) for number in range(450)])
        await settle()
        assert [event["image"] for _, _, event in parse(client.content.decode())] == list(
            map(str, range(450))
        )
        assert not client.has_ended
        hub.end()
    assert client.has_ended


async def test_a_client_that_goes_is_forgotten() -> None:
    hub, client = EventHub(), Client()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.follow, EventStream(hub, None, heartbeat_seconds=3600))
        await settle()
        assert hub.listening == 1
        client.gone.set()
    assert hub.listening == 0


async def test_a_client_that_does_not_read_is_dropped_and_told_so() -> None:
    hub, slow, quick = EventHub(), Client(), Client()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(slow.follow, EventStream(hub, None, heartbeat_seconds=3600))
        tasks.start_soon(quick.follow, EventStream(hub, None, heartbeat_seconds=3600))
        await settle()
        slow.may_read = anyio.Event()
        for _ in range(12):
            hub.publish([fact(number) for number in range(1000)])
            for _ in range(100):
                await anyio.lowlevel.checkpoint()
        await settle()
        slow.may_read.set()
        await settle()
        assert slow.has_ended
        assert parse(slow.content.decode())[-1][1] == "dropped"
        assert len(parse(quick.content.decode())) == 12_000
        hub.end()


async def test_who_comes_back_too_late_is_told_so() -> None:
    hub, client = EventHub(), Client()
    hub.publish([fact(number) for number in range(5000)])
    await client.follow(EventStream(hub, 3, heartbeat_seconds=3600, follow=False))
    events = parse(client.content.decode())
    assert (events[0][1], len(events)) == ("missed", 1 + 4096)


async def test_an_event_stream_shows_that_it_lives() -> None:
    hub, client = EventHub(), Client()
    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.follow, EventStream(hub, None, heartbeat_seconds=0.01))
            while client.content.count(b": heartbeat\n\n") < 3:  # noqa: ASYNC110 - nothing else tells
                await anyio.sleep(0.01)
            client.gone.set()


async def test_the_stream_of_the_application_follows(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    async with asking(platform, make_config(filesystem)) as api, anyio.create_task_group() as tasks:
        client = Client()
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/v1/events",
            "query_string": b"",
            "headers": [],
        }
        tasks.start_soon(api.app, scope, client.receive, client.send)
        await settle()
        await api.retention.sweep()
        await settle()
        assert [name for _, name, _ in parse(client.content.decode())] == ["sweep"]
        client.gone.set()
