"""A pretend engine for the page: documents of as many images as wanted, served over HTTP as the control API does."""

import base64
import json
import queue
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import attrs

from hmret.api.http.page import load_page

__all__ = ["HOSTILE", "PretendHost", "make_images", "serving"]

Document = dict[str, Any]

HOSTILE = "<img src=x onerror=document.title='owned'>"
"""What would show if names of the host became markup."""

_WINDOW = timedelta(days=30)
_DISTRIBUTIONS = ("alpine", "debian", "ubuntu", "fedora", "python", "node", "postgres", "redis", "nginx")
_ACTIONS = {
    **dict.fromkeys(("referenced", "leased", "pinned", "not_allowed", "not_ready", "broken"), "clear"),
    "newly_unused": "mark",
    "retention_window": "none",
    "suspended": "none",
    "backoff": "none",
    "expired": "delete",
}


_STAYING = ("referenced", "leased", "pinned", "not_allowed", "not_ready", "broken", "latest")


def text_of(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def make_images(number: int, now: datetime, seed: int = 1) -> list[Document]:
    """Make the documents of a cache as a host may have it."""
    chance = random.Random(seed)
    chances = {
        "referenced": 34,
        "retention_window": 44,
        "not_allowed": 8,
        "pinned": 4,
        "newly_unused": 4,
        "leased": 1,
        "expired": 2,
        "backoff": 1,
        "not_ready": 1,
        "broken": 1,
    }
    return [
        _image(place, chance, chance.choices(list(chances), list(chances.values()))[0], now)
        for place in range(number)
    ]


def _image(place: int, chance: random.Random, reason: str, now: datetime) -> Document:
    name = chance.choice(_DISTRIBUTIONS)
    repository = chance.choice(
        (
            f"docker.io/library/{name}",
            f"ghcr.io/kernel/{name}-{place % 37}",
            f"registry.local:5000/ci/{name}-{place % 211}",
        )
    )
    since = None
    if reason in ("retention_window", "newly_unused"):
        since = now - timedelta(days=29.9 * chance.random() ** 1.6)
    elif reason in ("expired", "backoff", "suspended"):
        since = now - timedelta(days=30 + 3 * chance.random())
    size = int(chance.lognormvariate(19.5, 1.1))
    return {
        "repository": repository,
        "digest": f"sha256:{chance.getrandbits(256):064x}",
        "tags": [f"{chance.randrange(1, 20)}.{chance.randrange(40)}"] * (chance.random() < 0.7),
        "status": "pulling" if reason == "not_ready" else "ready",
        "size_bytes": size * 2,
        "disk_bytes": size,
        "action": _ACTIONS[reason],
        "reason": reason,
        "referenced_by": [f"instance/vm-{chance.randrange(1, 900)}" for _ in range(chance.randrange(1, 4))]
        if reason == "referenced"
        else [],
        "unused_since": None if since is None else text_of(since),
        "expires_at": None if since is None else text_of(since + _WINDOW),
        "shared_with": [],
        "held_by": [],
        "copies_elsewhere": None,
    }


@attrs.define(eq=False)
class PretendHost:
    """What the pretend engine knows; tests change it."""

    images: list[Document]
    suspended: list[Document] = attrs.field(factory=list)
    enabled: bool = True
    disk: Document | None = None
    brake: Document | None = None
    stopped_timers: Document | None = None
    fleet: Document | None = None
    """What `/v1/fleet` answers; None: the host is in no fleet."""
    vm_names: dict[str, str] = attrs.field(factory=dict)
    quarantined: list[Document] = attrs.field(factory=list)
    went: list[Document] = attrs.field(factory=list)
    past: list[Document] = attrs.field(factory=list)
    users: list[Document] = attrs.field(factory=list)
    repositories: list[Document] = attrs.field(factory=list)
    leases: list[Document] = attrs.field(factory=list)
    refused: str | None = None
    space: Document = attrs.field(factory=dict)
    """What of the disk is other than on one without limits."""
    asked: list[str] = attrs.field(factory=list)
    """The paths that were asked for, with their queries."""
    listeners: list["queue.Queue[bytes | None]"] = attrs.field(factory=list)
    is_broken: bool = False
    """Whether every question is answered with an error."""

    def tell(self, event: str, **facts: object) -> None:
        """Tell an event to whoever listens."""
        document = {"time": text_of(datetime.now(UTC)), "event": event, **facts}
        for listener in self.listeners:
            listener.put(f"event: {event}\ndata: {json.dumps(document)}\n\n".encode())

    def suspend(self, path: str, detail: str) -> None:
        """Suspend deletion, for a reference that cannot be read."""
        self.suspended = [{"cause": "unreadable_reference", "path": path, "detail": detail}]
        for image in self.images:
            if image["reason"] == "expired":
                image.update(action="none", reason="suspended")

    def status(self) -> Document:
        return {
            "version": "0.2.0",
            "host": "box-7",
            "data_dir": "/var/lib/hypeman",
            "enabled": self.enabled,
            "sweeping": False,
            "images_seen": len(self.images),
            "suspended": self.suspended,
            "quarantine": {
                "images": len(self.quarantined),
                "bytes": sum(image["disk_bytes"] for image in self.quarantined),
            },
            "disk": self.disk,
            "brake": self.brake,
            "stopped_timers": self.stopped_timers,
            "fleet": None if self.fleet is None else self.fleet["state"],
            "totals": {"sweeps": 12, "deleted_images": 318, "deleted_bytes": 412 << 30, "failed_deletes": 1},
            "last_sweep": {
                "status": "suspended" if self.suspended else "success",
                "started_at": text_of(datetime.now(UTC) - timedelta(seconds=37)),
                "errors": [],
                "duration_seconds": 1.25,
                "deleted_images": 3,
                "deleted_bytes": 3 << 30,
            },
        }

    def answers(self) -> dict[str, Callable[[], Document]]:
        """What is asked for beside the images, by path."""
        return {
            "/v1/status": self.status,
            "/v1/forecast": self.forecast,
            "/v1/space": self.disk_space,
            "/v1/history": self.history,
            "/v1/policy": self.policy,
            "/v1/quarantine": lambda: {"images": self.quarantined},
            "/v1/leases": lambda: {"leases": self.leases},
            "/v1/users": lambda: self._list("users", self.users),
            "/v1/repositories": lambda: self._list("repositories", self.repositories),
        }

    def _list(self, name: str, rows: list[Document]) -> Document:
        at = text_of(datetime.now(UTC))
        return {"at": at, "next": None, "total": len(rows), "matched": len(rows), name: rows}

    def disk_space(self) -> Document:
        return {
            "at": text_of(datetime.now(UTC)),
            "state": "no_limit",
            "detail": "no limit is set",
            "total_bytes": 1000 << 30,
            "used_bytes": 600 << 30,
            "available_bytes": 400 << 30,
            "images_bytes": 300 << 30,
            "quarantine_bytes": 20 << 30,
            "trash_bytes": 0,
            "other_bytes": 280 << 30,
            "excess_bytes": 0,
            "going_images": 0,
            "retry_seconds": None,
            **dict.fromkeys(("high_watermark", "low_watermark", "max_used")),
            **dict.fromkeys(("high_bytes", "low_bytes", "max_used_bytes")),
            **self.space,
        }

    def history(self) -> Document:
        return {
            "at": text_of(datetime.now(UTC)),
            "journal": True,
            "begins_at": None,
            "days": self.went,
            "events": self.past,
            "last_event_id": "pretend-0",
            "unreadable": [],
        }

    def policy(self) -> Document:
        return {
            "since": text_of(datetime.now(UTC)),
            "refused": self.refused,
            "restart_needed": [],
            "config_files": ["/etc/hmret.yaml"],
            "warnings": [],
            "settings": [
                {
                    "key": "hmret.pinned",
                    "value": ["a/*"],
                    "text": "[a/*]",
                    "source": "file",
                    "where": "/etc/hmret.yaml:3",
                    "description": "Patterns of repositories.",
                    "is_policy": True,
                }
            ],
        }

    def forecast(self) -> Document:
        now = datetime.now(UTC)
        days: list[Document] = [
            {"date": (now + timedelta(days=day)).date().isoformat(), "images": 0, "bytes": 0}
            for day in range(31)
        ]
        within = {"24h": 0, "7d": 0, "30d": 0}
        holdings: dict[str, Document] = {}
        for image in self.images:
            held = holdings.setdefault(
                image["reason"],
                {"action": image["action"], "reason": image["reason"], "images": 0, "bytes": 0},
            )
            held["images"] += 1
            held["bytes"] += image["disk_bytes"]
            if image["expires_at"] is not None:
                expires = datetime.fromisoformat(image["expires_at"])
                day = days[min(max((expires.date() - now.date()).days, 0), 30)]
                day["images"] += 1
                day["bytes"] += image["disk_bytes"]
                for name, span in (("24h", 1), ("7d", 7), ("30d", 30)):
                    within[name] += image["disk_bytes"] * (expires <= now + timedelta(days=span))
        return {
            "at": text_of(now),
            "images": len(self.images),
            "bytes": sum(image["disk_bytes"] for image in self.images),
            "days": days,
            "within": within,
            "holdings": list(holdings.values()),
        }

    def page(self, query: dict[str, str]) -> Document:
        wanted = query.get("q", "").lower()
        found = [
            image
            for image in self.images
            if all(not query.get(key) or image[key] == query[key] for key in ("action", "reason"))
            and (not wanted or any(wanted in text.lower() for text in _texts(image)))
        ]
        key = query.get("sort", "repository")
        if key == "goes_at":
            for image in found:
                image["goes_at"] = None if image["reason"] in _STAYING else image["expires_at"]
        found.sort(
            key=lambda image: (image[key] is None, image[key] or 0, image["repository"], image["digest"]),
            reverse=query.get("order") == "desc",
        )
        start = int(base64.b64decode(query["after"])) if "after" in query else 0
        end = start + int(query["limit"])
        return {
            "at": text_of(datetime.now(UTC)),
            "total": len(self.images),
            "matched": len(found),
            "images": found[start:end],
            "next": base64.b64encode(str(end).encode()).decode() if end < len(found) else None,
            "vm_names": self.vm_names,
        }

    def explain(self, named: str) -> Document:
        repository, _, digest = named.partition("@")
        for image in self.images:
            if (image["repository"], image["digest"]) == (repository, digest):
                gone = image["reason"] == "expired"
                return {
                    **image,
                    "blockers": [] if gone else [image["reason"], "not_allowed"],
                    "detail": None,
                    "rule": 2,
                    "vm_names": self.vm_names,
                    "paths": [f"/var/lib/hypeman/images/{repository}"],
                    "leases": [{"owner": "ci", "reason": "build 7", "expires_at": None}],
                }
        raise KeyError(named)


def _texts(image: Document) -> list[str]:
    return [image["repository"], image["digest"], *image["tags"], *image["referenced_by"]]


class _Answer(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"

    @property
    def host(self) -> PretendHost:
        return cast("_Server", self.server).host

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if parts.path == "/":
            body, headers = load_page()
            self.send(200, body, **headers)
            return
        self.host.asked.append(self.path)
        if self.host.is_broken:
            self.send(503, json.dumps({"detail": "the engine has stopped"}).encode())
        elif parts.path == "/v1/events":
            self.stream()
        elif parts.path == "/v1/fleet" and self.host.fleet is not None:
            self.send_document(self.host.fleet)
        elif (answer := self.host.answers().get(parts.path)) is not None:
            self.send_document(answer())
        elif parts.path == "/v1/images":
            self.send_document(self.host.page(query))
        elif parts.path.startswith("/v1/images/"):
            self.send_document(self.host.explain(unquote(parts.path.removeprefix("/v1/images/"))))
        else:
            self.send(404, b"{}")

    def send_document(self, document: Document) -> None:
        self.send(200, json.dumps(document).encode(), **{"content-type": "application/json"})

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self) -> None:
        mine: queue.Queue[bytes | None] = queue.Queue()
        self.close_connection = True
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b"retry: 200\n\n")
        self.wfile.flush()
        self.host.listeners.append(mine)
        while (part := mine.get()) is not None:
            self.wfile.write(part)
            self.wfile.flush()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name in the base class
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    host: PretendHost

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that go."""


@contextmanager
def serving(host: PretendHost) -> Iterator[str]:
    """Serve a host while the block lasts; returns where."""
    server = _Server(("127.0.0.1", 0), _Answer)
    server.host = host
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        for listener in host.listeners:
            listener.put(None)
        server.shutdown()
        thread.join()
        server.server_close()
