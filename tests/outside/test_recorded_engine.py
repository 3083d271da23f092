"""What a running engine answers on two hosts, one of each layout, and what it writes, is what was recorded.

`HMRET_RECORD_OUTSIDE=1 pytest tests/outside` records it again.
"""

import json
import logging
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2

from outside.inner_parts import FakeClock, Served, short_path
from outside.recorded import Masks, answer_of, hold
from outside.recorded_hosts import RecordedHost
from outside.told import Told, timers_of, written_files
from support.patience import PATIENCE

DAY = timedelta(days=1)

LOOKING = (
    ("GET", "/"),
    ("GET", "/healthz"),
    ("HEAD", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/v1/status"),
    ("GET", "/v1/forecast"),
    ("GET", "/v1/forecast?days=2"),
    ("GET", "/v1/forecast?days=0"),
    ("GET", "/v1/forecast?days=soon"),
    ("GET", "/v1/images?limit=3"),
    ("GET", "/v1/images?limit=2&sort=size&order=desc&status=ready"),
    ("GET", "/v1/images?action=delete&q=library"),
    ("GET", "/v1/images?reason=referenced"),
    ("GET", "/v1/images?limit=0"),
    ("GET", "/v1/images?sort=colour"),
    ("GET", "/v1/images?order=up"),
    ("GET", "/v1/images?action=fly"),
    ("GET", "/v1/images?reason=none"),
    ("GET", "/v1/images?status=odd"),
    ("GET", "/v1/images?after=nothing"),
    ("GET", "/v1/images/nothing%2Fhere:1"),
    ("GET", "/v1/images/No%20Reference"),
    ("GET", "/v1/plan"),
    ("GET", "/v1/plan?at=2030-01-01T00:00:00Z"),
    ("GET", "/v1/plan?at=tomorrow"),
    ("GET", "/v1/quarantine"),
    ("GET", "/v1/leases"),
    ("GET", "/v1/leases/none"),
    ("GET", "/v1/events?after=zero&follow=false"),
    ("GET", "/v1/events?follow=maybe"),
    ("GET", "/v1/fleet"),
    ("GET", "/v1/fleet/holdings?image=alpine"),
    ("GET", "/v1/fleet/plan"),
    *(
        ("POST", f"/v1/fleet/{change}")
        for change in ("init", "reset", "set", "pause", "resume", "drain", "undrain", "forget")
    ),
    ("GET", "/v1/nothing"),
    ("PUT", "/v1/status"),
    ("DELETE", "/v1/plan"),
    ("GET", "/v1/history"),
    ("GET", "/v1/history?days=0"),
    ("GET", "/v1/space"),
    ("GET", "/v1/repositories?sort=bytes&order=desc&limit=2"),
    ("GET", "/v1/repositories?sort=odd"),
    ("GET", "/v1/users?limit=2"),
    ("GET", "/v1/users?q=nobody"),
    ("GET", "/v1/policy"),
    ("GET", "/v1/export?reason=expired"),
    ("GET", "/v1/export?format=csv&reason=expired"),
    ("GET", "/v1/export?format=xml"),
)
"""What changes nothing, as it should be asked for and otherwise."""


class Api:
    """A client of the control API, which records each answer."""

    def __init__(self, client: httpx2.Client, told: Told) -> None:
        self._client = client
        self._told = told
        self.asked: set[tuple[str, str]] = set()

    def ask(
        self, method: str, path: str, body: object = None, *, name: str = "", **more: Any
    ) -> httpx2.Response:
        """Ask, and record the answer."""
        self.asked.add((method, path.partition("?")[0]))
        if body is not None:
            more["json"] = body
        response = self._client.request(method, path, **more)
        words = "" if body is None else f" {json.dumps(body)}"
        self._told.put(name or f"{method} {path}{words}", told_response(response, self._told.masks))
        return response


_OTHERWISE = ("/openapi.json", "/v1/policy")
"""What is recorded elsewhere: the settings with their descriptions are those of the options."""


def told_response(response: httpx2.Response, masks: Masks) -> dict[str, Any]:
    """Put an answer into words."""
    passing = ("content-length", "content-type", "date")
    told: dict[str, Any] = {
        "status": response.status_code,
        "content-type": response.headers.get("content-type"),
        "headers": {
            # The methods come in no order.
            name: ", ".join(sorted(value.split(", "))) if name == "allow" else masks.text(value)
            for name, value in sorted(response.headers.items())
            if name not in passing
        },
    }
    if response.text and "json" in told["content-type"] and response.url.path not in _OTHERWISE:
        told |= answer_of(response.text, masks)
    return told


LAST = (("GET", "/healthz"), ("GET", "/v1/plan"), ("GET", "/v1/quarantine"), ("POST", "/v1/sweeps"))
"""What is asked of an engine that has been closed."""

READ_ONLY = (
    ("GET", "/healthz"),
    ("GET", "/v1/leases"),
    ("POST", "/v1/plan"),
    ("POST", "/v1/sweeps"),
    ("GET", "//elsewhere/healthz"),
)
"""What is asked of an application that can be looked at only, and by the name `hmret` only."""


def requests(asked: Iterable[tuple[str, str]]) -> list[httpx2.Request]:
    """Make requests; one without the name of a host is for `hmret`."""
    return [
        httpx2.Request(method, f"http:{path}" if path.startswith("//") else f"http://hmret{path}")
        for method, path in asked
    ]


def test_the_engine_answers_and_writes_as_recorded(host: RecordedHost, layout: str, clock: FakeClock) -> None:
    told, asked = Told(host), Told(host)
    place = host.root / "system/hmret/hmret.sock"
    served = Served(host.settings, place, read_only=requests(READ_ONLY), closed=requests(LAST))
    with logged() as lines, served.running(), client_of(place) as client:
        api = Api(client, told)
        for method, path in LOOKING:
            api.ask(method, path)
        look_by_commands(host, asked)
        change(host, api)
        change_by_commands(host, asked)
        description = api.ask("GET", "/openapi.json", name="GET /openapi.json")
        metrics = api.ask("GET", "/metrics")
        stream = api.ask("GET", "/v1/events?after=0&follow=false")
        assert not_asked(api.asked, description.json()) == []
        running = written_files(host.root, told.masks)
    for name, answers in served.answers.items():
        for answer in answers:
            told.put(
                f"{name}: {answer.request.method} {answer.request.url}", told_response(answer, told.masks)
            )
    clock.run(3 * DAY)
    for image in host.explained[:4]:
        asked.command("explain", image, name=f"explain {image} after a gap")
    hold(
        **{
            f"{layout}_api": told.seen,
            f"{layout}_asked": asked.seen,
            f"{layout}_events": told_events(stream.text, told.masks),
            f"{layout}_files": {"running": running, "ended": written_files(host.root, told.masks)},
            f"{layout}_left_timers": timers_of(host.root),
            f"{layout}_log": lines,
            "metrics": told_metrics(metrics.text),
            "openapi": told_description(description.json()),
        }
    )


def look_by_commands(host: RecordedHost, asked: Told) -> None:
    """Record what commands answer that ask the engine, and change nothing."""
    for command in ("status", "du", "quarantine", "leases", "events"):
        asked.command(command)
    asked.command("explain", host.due)
    asked.command("explain", "nothing/here:1")
    asked.command("plan", "--repository", host.repository)
    asked.command("plan", "--config", str(host.config), "--repository", host.repository)
    asked.command("images", "--limit", "2")
    asked.command("forecast")


def change(host: RecordedHost, api: Api) -> None:
    """Ask for everything that changes or promises something, as it should be asked for and otherwise."""
    for image in host.explained:
        api.ask("GET", f"/v1/images/{quote(image, safe='')}")
    policy = {"images.auto_delete.unused_for": "1h", "hmret.keep_latest": 1}
    for settings in (policy, {}, {"hmret.rules": "odd"}, {"hmret.journal": False}, {"no.such": 1}):
        api.ask("POST", "/v1/plan", {"settings": settings})
    ask_badly(api, "POST", "/v1/plan", {"settings": 1})
    ask_badly(api, "POST", "/v1/confirm", {"what": ["guests", 1]})
    for path, more in (("mark-used", {}), ("restore", {}), ("leases", {"ttl": 1})):
        ask_badly(api, "POST", f"/v1/{path}", {"image": 1, **more})
        for image in ("nothing/here:1", "No Reference"):
            api.ask("POST", f"/v1/{path}", {"image": image, **more})
        api.ask("POST", f"/v1/{path}", {"image": host.used, "digest": "sha256:short", **more})
    api.ask("POST", "/v1/mark-used", {"image": host.used})
    api.ask("POST", "/v1/mark-used", {"image": host.used})
    lease = api.ask(
        "POST", "/v1/leases", {"image": host.used, "ttl": "10m", "owner": "me", "reason": "tests"}
    )
    path = f"/v1/leases/{lease.json()['id']}"
    api.ask("POST", "/v1/leases", {"image": host.used, "ttl": 0})
    api.ask("POST", "/v1/leases", {"image": host.used, "ttl": "soon"})
    api.ask("POST", "/v1/leases", {"image": host.used, "ttl": 5, "owner": "x" * 2000}, name="long owner")
    api.ask("GET", path, name="GET /v1/leases/{id}")
    api.ask("PUT", path, {"ttl": 3600.5}, name="PUT /v1/leases/{id}")
    ask_badly(api, "PUT", path, {"ttl": []}, name="PUT /v1/leases/{id}")
    api.ask("GET", "/v1/leases")
    api.ask("PUT", "/v1/leases/none", {"ttl": 1})
    api.ask("POST", "/v1/confirm", {"what": []})
    api.ask("POST", "/v1/confirm", {"what": ["elsewhere"]})
    api.ask("POST", "/v1/sweeps?release_brake=perhaps")
    before = shutil.copytree(host.root / "images", host.root / "images-before", symlinks=True)
    api.ask("POST", "/v1/sweeps?release_brake=true")
    api.ask("DELETE", path, name="DELETE /v1/leases/{id}")
    api.ask("DELETE", path, name="DELETE /v1/leases/{id}")
    api.ask("POST", "/v1/sweeps")
    held = api.ask("GET", "/v1/quarantine").json()["images"]
    api.ask("GET", f"/v1/images/{quote(host.due, safe='')}")
    api.ask("POST", "/v1/restore", {"image": host.due})
    api.ask("POST", "/v1/restore", {"image": host.due})
    with pulled_again(before, host.root / "images", held[-1]["digest"]):
        api.ask("POST", "/v1/restore", {"image": held[-1]["repository"], "digest": held[-1]["digest"]})
    api.ask("POST", "/v1/restore", {"image": held[-1]["repository"], "digest": held[-1]["digest"]})


@contextmanager
def pulled_again(before: Path, images: Path, digest: str) -> Iterator[None]:
    """Have the folders of a digest in the cache as they were before it went."""
    all_folders = [path.relative_to(before) for path in before.rglob(digest.removeprefix("sha256:"))]
    folders = [folder for folder in all_folders if not (images / folder).exists()]
    for folder in folders:
        shutil.copytree(before / folder, images / folder)
    yield
    for folder in folders:
        shutil.rmtree(images / folder)


def ask_badly(api: Api, method: str, path: str, wrong: object, *, name: str = "") -> None:
    """Ask with bodies that are none, in each of the ways."""
    name = name or f"{method} {path}"
    kind = {"content-type": "application/json"}
    api.ask(method, path, name=f"{name} without a body")
    api.ask(method, path, content=b'{"', headers=kind, name=f"{name} cut off")
    api.ask(method, path, content=b"[]", headers=kind, name=f"{name} a list")
    api.ask(
        method, path, content=b"image=alpine", headers={"content-type": "text/plain"}, name=f"{name} text"
    )
    api.ask(method, path, wrong, name=f"{name} another kind")
    api.ask(method, path, {"odd": True}, name=f"{name} unknown field")
    api.ask(method, path, content=b" " * 70_000, headers=kind, name=f"{name} too large")


def change_by_commands(host: RecordedHost, asked: Told) -> None:
    """Record what commands answer that ask the engine for a change."""
    asked.command("lease", host.used, "--ttl", "2h", "--owner", "me", "--reason", "tests")
    asked.command("leases")
    asked.command("explain", host.used)
    asked.command("lease", "nothing/here:1")
    asked.command("unlease", "none")
    asked.command("mark-used", host.used)
    asked.command("mark-used", "nothing/here:1")
    asked.command("quarantine")
    asked.command("restore", host.due_too)
    asked.command("restore", host.due_too)
    asked.command("confirm")
    asked.command("confirm", "elsewhere")
    asked.command("sweep", "--yes")
    asked.command("status")
    asked.command("events")


@contextmanager
def client_of(place: Path) -> Iterator[httpx2.Client]:
    # One request a connection: the server closes one that is idle for long, which may be as the next is sent.
    limits = httpx2.Limits(max_keepalive_connections=0)
    with (
        short_path(place) as address,
        httpx2.Client(
            transport=httpx2.HTTPTransport(uds=address, limits=limits),
            base_url="http://hmret",
            timeout=PATIENCE,
        ) as client,
    ):
        yield client


@contextmanager
def logged() -> Iterator[dict[str, Any]]:
    """Collect the names of what is logged, each with its levels and sets of keys; complete when the block has ended."""
    logger = logging.getLogger("hmret")
    found: dict[str, set[str]] = {}
    lines: dict[str, Any] = {}

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            name, keys = getattr(record, "hmret_event", (record.getMessage(), {}))
            found.setdefault(name, set()).add(f"{record.levelname}: {' '.join(sorted(keys))}")

    handler, before = Collecting(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        lines.update({name: sorted(keys) for name, keys in sorted(found.items())})


def told_events(stream: str, masks: Masks) -> dict[str, Any]:
    """Put a stream of events into words: each with what its lines begin with, and its document."""
    events = []
    for block in stream.split("\n\n"):
        fields = [line.partition(": ") for line in block.splitlines()]
        data = [value for name, _, value in fields if name == "data"]
        others = [f"{name}: {'N' if name == 'id' else value}" for name, _, value in fields if name != "data"]
        events.append({"lines": others, **(answer_of(data[0], masks) if data else {})})
    return {"events": events}


def told_metrics(page: str) -> dict[str, Any]:
    """Put a page of metrics into words: what is said of each, and the names and labels of its samples, in order."""
    head = [line for line in page.splitlines() if line.startswith("#")]
    samples = [line.rpartition(" ")[0] for line in page.splitlines() if not line.startswith("#")]
    return {"head": head, "samples": [re.sub(r'(version|python)="[^"]*"', r'\1="…"', one) for one in samples]}


def told_description(document: Any) -> dict[str, Any]:
    """Put the description of the API into words: its calls with parameters, bodies and answers."""
    return {
        f"{method} {path}": {
            "parameters": {
                _named(document, one): told_schema(document, one["schema"])
                for one in call.get("parameters", [])
            },
            "body": _contents(document, call.get("requestBody", {})),
            "answers": {
                status: _contents(document, _followed(document, answer))
                for status, answer in call["responses"].items()
            },
        }
        for path, calls in document["paths"].items()
        for method, call in calls.items()
    }


def _contents(document: Any, holder: Any) -> dict[str, Any]:
    return {kind: told_schema(document, one["schema"]) for kind, one in holder.get("content", {}).items()}


def told_schema(document: Any, schema: Any) -> Any:
    """Put a schema into words: the kind of a value, its fields, `?` behind those that may be missing, and its alternatives.

    However the description is split into parts.
    """
    schema = _followed(document, schema)
    kinds = schema.get("type")
    options = schema.get("oneOf") or schema.get("anyOf")
    if isinstance(kinds, list):
        options = [{**schema, "type": kind} for kind in kinds]
    if options:
        told = [told_schema(document, one) for one in options]
        return {"one of": sorted(told, key=json.dumps)}
    words = [schema["const"]] if "const" in schema else schema.get("enum")
    if words is not None:
        return {"word of": sorted(words)}
    if kinds == "array":
        return [told_schema(document, schema["items"])]
    if "properties" in schema:
        required = schema.get("required", [])
        return {
            name if name in required else f"{name}?": told_schema(document, one)
            for name, one in schema["properties"].items()
        }
    if isinstance(schema.get("additionalProperties"), dict):
        return {"*": told_schema(document, schema["additionalProperties"])}
    return f"{kinds} {schema['format']}" if kinds == "string" and "format" in schema else kinds


def not_asked(asked: Iterable[tuple[str, str]], document: Any) -> list[str]:
    """List the calls of the description that nobody asked for."""
    words = [f"{method} {path}" for method, path in asked]
    return [
        f"{method} {path}"
        for path, calls in document["paths"].items()
        for method in calls
        if not any(re.fullmatch(f"{method.upper()} {re.sub('{[a-z]+}', '.+', path)}", one) for one in words)
    ]


def _named(document: Any, parameter: Any) -> str:
    parameter = _followed(document, parameter)
    return f"{parameter['in']} {parameter['name']}"


def _followed(document: Any, part: Any) -> Any:
    """Return a part of the description, or what it refers to."""
    path = part.get("$ref", "").removeprefix("#/")
    for name in filter(None, path.split("/")):
        document = document[name]
    return document if path else part
