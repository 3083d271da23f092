"""Commands that ask the running engine: the same documents and exit codes as without one."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.caches import Cache
from cli.services import Service, client_of, running_service
from hmret.cli import client as client_module
from support.children import child
from support.patience import PATIENCE

Call = Callable[..., tuple[int, str, str]]

DUE = timedelta(days=31)
ALPINE = "docker.io/library/alpine"


@pytest.fixture
def service(cache: Cache) -> Iterator[Service]:
    cache.image(ALPINE, "a", "3.20")
    cache.image(ALPINE, "b", "pulling", status="pulling")
    cache.image("ghcr.io/kernel/x", "c", "v1", rootfs=False)
    cache.guest("vm-1", {"Name": "web-1", "Image": "alpine:3.20"})
    cache.guest("vm-2", {"Image": "quay.io/gone:1"})
    with running_service(cache.root, "--enable", "--allow", "*") as service:
        service.wait_event("sweep_ended")
        yield service


def both(
    call: Call, cache: Cache, monkeypatch: pytest.MonkeyPatch, *tokens: str
) -> list[tuple[int, str, str]]:
    """Call a command that asks the engine, and one that works by itself."""
    answers = [call(*tokens, "--data-dir", cache.root)]
    monkeypatch.setattr("hmret.cli.engine_or_disk.find_engine", lambda *_: None)
    monkeypatch.setenv("HMRET__ENABLED", "true")
    monkeypatch.setenv("IMAGES__AUTO_DELETE__ALLOWED", "*")
    return [*answers, call(*tokens, "--data-dir", cache.root)]


def without_now(output: str) -> str:
    """Leave out when a document was made."""
    return re.sub(r'^\{"at": "[^"]*"', "", output)


def test_the_engine_answers_as_the_command_would_by_itself(
    service: Service, cache: Cache, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = f"hmret: the running engine answers (process {service.process.pid}, "
    commands = (
        ("plan", "--at", "2030-01-01T00:00:00Z"),
        ("plan", "--at", "2030-01-01T00:00:00Z", "--all", "-o", "wide"),
        ("images", "-o", "csv"),
        ("explain", "web-1"),
        ("explain", "c" * 12),
        ("explain", "alpine:3.20"),
        ("explain", "alpine:pulling"),
        ("explain", "ghcr.io/kernel/x:v1"),
    )
    for command in commands:
        for flags in ((), ("--json",)):
            with monkeypatch.context() as patch:
                (code, output, complaints), alone = both(call, cache, patch, *command, *flags)
            assert complaints.startswith(told) if not flags else complaints == ""
            assert (code, without_now(output)) == (alone[0], without_now(alone[1]))
            assert alone[2] == ""


def test_a_suspension_is_told_with_its_remedy_by_either(
    service: Service, cache: Cache, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.guest("vm-3", "{")
    at = ("--at", "2030-01-01T00:00:00Z")
    for command in (("plan", *at), ("explain", "ghcr.io/kernel/x:v1"), ("explain", "alpine:3.20")):
        with monkeypatch.context() as patch:
            (code, output, _), alone = both(call, cache, patch, *command)
        assert (code, output) == alone[:2]
        assert "deletion is suspended: unreadable_reference: " in output
        assert "repair it" in output
    assert call("sweep", "--data-dir", cache.root)[0] == 1
    code, output, _ = call("status", "--data-dir", cache.root)
    assert code == 1
    assert "repair it" in output


def test_a_plan_by_flags_is_ones_own(service: Service, cache: Cache, call: Call) -> None:
    code, output, complaints = call("plan", "--data-dir", cache.root, "--allow", "quay.io/*", "--json")
    assert (code, complaints) == (0, "")
    assert {image["reason"] for image in json.loads(output)["images"]} >= {"referenced", "not_ready"}
    code, _, complaints = call("sweep", "--data-dir", cache.root, "--enable")
    assert code == 3
    assert f"process {service.process.pid}" in complaints


def test_a_sweep_is_the_engines_and_its_report_is_told(service: Service, cache: Cache, call: Call) -> None:
    cache.image("ghcr.io/kernel/y", "d", "v2", unused=DUE)
    code, output, complaints = call("sweep", "--data-dir", cache.root)
    assert code == 0
    assert "success, after " in output
    assert f"deleted ghcr.io/kernel/y@sha256:{'d' * 64} (v2), 8.0 KiB, unused since " in output
    assert "the running engine answers" in complaints
    assert not cache.has("ghcr.io/kernel/y", "d")
    code, output, _ = call("sweep", "--data-dir", cache.root, "--json")
    assert (code, json.loads(output)["status"]) == (0, "success")
    assert service.wait_event("image_deleted")["repository"] == "ghcr.io/kernel/y"


def test_an_image_is_marked_used_through_the_engine(service: Service, cache: Cache, call: Call) -> None:
    digest = cache.image("ghcr.io/kernel/y", "d", "v2", unused=timedelta(days=1))
    told = call("mark-used", "ghcr.io/kernel/y:v2", "--data-dir", cache.root)
    assert told[:2] == (0, f"ghcr.io/kernel/y@{digest} cleared\n")
    told = call("mark-used", "ghcr.io/kernel/y", "--digest", digest, "--data-dir", cache.root)
    assert told[:2] == (0, f"ghcr.io/kernel/y@{digest} nothing to clear\n")
    code, _, complaints = call("mark-used", "alpine:pulling", "--data-dir", cache.root)
    assert (code, complaints.splitlines()[1]) == (1, "hmret: error: alpine:pulling: not ready: pulling")
    code, _, complaints = call("mark-used", "no reference", "--data-dir", cache.root)
    assert (code, complaints.splitlines()[1]) == (2, "hmret: error: not an image reference: 'no reference'")


def test_an_image_is_leased_and_let_go(service: Service, cache: Cache, call: Call) -> None:
    assert call("leases", "--data-dir", cache.root) == (0, "no leases\n", "")
    flags = ["--ttl", "10m", "--owner", "me", "--reason", "look at it"]
    code, output, complaints = call("lease", "alpine:3.20", *flags, "--data-dir", cache.root)
    assert (code, complaints) == (0, "")
    identity, image, until, _ = output.split()
    assert (image, until) == (f"{ALPINE}@sha256:{'a' * 64}", "until")
    code, output, _ = call("leases", "-o", "wide", "--data-dir", cache.root)
    assert all(word in output for word in (identity, f"sha256:{'a' * 64}", "me", "look at it"))
    code, output, _ = call("leases", "--data-dir", cache.root)
    assert all(word in output for word in (identity, ALPINE, "a" * 12, "me"))
    assert max(map(len, output.splitlines())) <= 80
    assert call("leases", "-q", "--data-dir", cache.root)[1] == f"{ALPINE}@sha256:{'a' * 64}\n"
    _, output, _ = call("leases", "-o", "csv", "--data-dir", cache.root)
    assert output.splitlines()[0] == "id,repository,digest,owner,reason,expires_at"
    assert output.splitlines()[1].startswith(f"{identity},{ALPINE},sha256:{'a' * 64},me,look at it,20")
    document = json.loads(call("leases", "--data-dir", cache.root, "--json")[1])
    assert document["leases"][0]["id"] == identity
    assert call("unlease", identity, "--data-dir", cache.root) == (0, "", "")
    code, output, complaints = call("unlease", identity, "--data-dir", cache.root)
    assert (code, output) == (1, "")
    assert complaints == f"hmret: error: {identity}: no such lease, or it has expired\n"
    assert call("lease", "alpine:gone", "--data-dir", cache.root)[0] == 1
    for ttl in ("1y", "0s"):
        code, _, complaints = call("lease", "alpine:3.20", "--ttl", ttl, "--data-dir", cache.root)
        assert (code, complaints.startswith("hmret: error: --ttl: ")) == (2, True)


def test_the_status_is_told(service: Service, cache: Cache, call: Call) -> None:
    code, output, complaints = call("status", "--data-dir", cache.root)
    assert (code, complaints) == (0, "")
    assert f"process {service.process.pid}, asyncio" in output
    assert "last sweep" in output
    document = json.loads(call("status", "--data-dir", cache.root, "--json")[1])
    assert (document["process"], document["totals"]["sweeps"]) == (service.process.pid, 1)


def test_the_status_tells_what_the_disk_and_the_brake_hold_to(cache: Cache, call: Call) -> None:
    cache.image(ALPINE, "a", "3.20", unused=DUE)
    config = cache.root.parent / "config.yaml"
    config.write_text(
        "images: {auto_delete: {enabled: true, allowed: ['*']}}\n"
        "hmret: {brake_for: 2h, brake_min_images: 1, disk: {high_watermark: 100%}}\n"
    )
    with running_service(cache.root, "--config", str(config)) as service:
        service.wait_event("sweep_ended")
        arguments = ("--config", config, "--data-dir", cache.root)
        _, output, _ = call("status", *arguments)
        assert re.search(r"^disk +[0-9.]+ .iB of [0-9.]+ .iB in use$", output, re.MULTILINE)
        assert "holds: 1 of 1 images have expired at once; they will be deleted in " in output
        document = json.loads(call("status", *arguments, "--json")[1])
        assert document["brake"]["released"] is False
        assert 0 < document["brake"]["seconds"] <= 7200
        assert document["disk"]["shortfall_bytes"] == 0
        assert call("sweep", "--release-brake", *arguments)[0] == 0
        assert not cache.has(ALPINE, "a")


def test_events_are_told_and_followed_until_the_engine_stops(
    service: Service, cache: Cache, call: Call
) -> None:
    code, output, _ = call("events", "--data-dir", cache.root)
    assert code == 0
    assert output.splitlines()[-1].split()[1] == "sweep"
    assert (
        json.loads(call("events", "--data-dir", cache.root, "--json")[1].splitlines()[-1])["event"] == "sweep"
    )
    command = [sys.executable, "-m", "hmret", "events", "--follow", "--json", "--data-dir", str(cache.root)]
    with child(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as follower:
        assert follower.stdout is not None
        assert json.loads(follower.stdout.readline())["event"] in ("mark", "clear", "sweep")
        cache.image("ghcr.io/kernel/y", "d", unused=DUE)
        call("sweep", "--data-dir", cache.root)
        seen = ""
        while seen != "delete":
            seen = json.loads(follower.stdout.readline())["event"]
        service.stop()
        _, complaints = follower.communicate(timeout=PATIENCE)
        assert (follower.returncode, complaints) == (0, "hmret: the engine has stopped\n")


NEEDING = [["status"], ["lease", "alpine"], ["leases"], ["unlease", "x"], ["events"]]


@pytest.mark.parametrize("command", NEEDING)
def test_without_an_engine_what_needs_one_says_so(cache: Cache, call: Call, command: list[str]) -> None:
    assert call(*command, "--data-dir", cache.root) == (
        1,
        "",
        f"hmret: error: no engine is running on {cache.root}; start one with hmret run\n",
    )


@pytest.mark.parametrize("command", NEEDING)
def test_a_missing_data_directory_is_a_wrong_setting_for_what_needs_an_engine(
    tmp_path: Path, call: Call, command: list[str]
) -> None:
    absent = tmp_path / "absent"
    told = call(*command, "--data-dir", absent)
    assert told == call("plan", "--data-dir", absent)
    problem = "No such file or directory"
    assert told == (2, "", f"hmret: error: data_dir: expected a folder, got {absent}: {problem}\n")


def test_a_socket_that_one_may_not_open_is_one_line(
    cache: Cache, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path, _seconds: float) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(client_module, "_probe", refuse)
    for command in ("status", "plan"):
        code, output, complaints = call(*command.split(), "--data-dir", cache.root)
        assert (code, output, complaints.count("\n")) == (1, "", 1)
        assert "no permission to open the control socket" in complaints


ASKING = [
    ["status"],
    ["sweep"],
    ["plan"],
    ["images"],
    ["du"],
    ["forecast"],
    ["explain", "alpine"],
    ["mark-used", "alpine"],
    ["confirm"],
    ["restore", "alpine"],
    ["quarantine"],
    ["lease", "alpine"],
    ["leases"],
    ["unlease", "x"],
    ["events"],
    ["events", "--follow"],
]


@pytest.fixture
def listening(cache: Cache) -> Iterator[socket.socket]:
    """The control socket of an engine that accepts nobody."""
    folder = cache.root / "system/hmret"
    folder.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "hmret.sock"))
        listening.listen()
        yield listening


@pytest.mark.parametrize("command", ASKING)
@pytest.mark.usefixtures("listening")
def test_an_engine_that_hangs_is_told_with_its_process_when_the_time_is_over(
    cache: Cache, call: Call, command: list[str]
) -> None:
    flags = ["--timeout", "100ms", "--data-dir", cache.root]
    code, output, complaints = call(*command, *flags)
    assert (code, output) == (1, "")
    assert complaints.splitlines()[-1] == (
        f"hmret: error: {cache.root / 'system/hmret/hmret.sock'}: "
        f"the engine does not answer (process {os.getpid()})"
    )
    code, output, complaints = call(*command, *flags, "--json")
    assert (code, output, list(json.loads(complaints))) == (1, "", ["error", "key"])


def test_an_engine_that_works_for_longer_and_says_that_it_lives_is_waited_for(
    cache: Cache, call: Call, listening: socket.socket
) -> None:
    answers = [
        b'{"id":"1","repository":"r","digest":"d","owner":"","reason":"","expires_at":null}',
        b'{"status":"ok"}',
    ]

    def serve() -> None:
        listening.accept()[0].close()  # it only sees whether somebody is there
        asking, _ = listening.accept()
        with asking:
            # The answer comes when it has been asked three times whether it lives.
            for _ in range(3):
                living, _ = listening.accept()
                with living:
                    assert living.recv(65536).startswith(b"GET /healthz ")
                    living.sendall(
                        b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(answers[1]), answers[1])
                    )
            assert asking.recv(65536).startswith(b"POST /v1/leases ")
            asking.sendall(b"HTTP/1.1 201 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(answers[0]), answers[0]))

    thread = threading.Thread(target=serve)
    thread.start()
    code, output, complaints = call("lease", "alpine", "--timeout", "400ms", "--data-dir", cache.root)
    thread.join(30)
    assert (code, output, complaints) == (0, "1 r@d until None\n", "")


HELD = (
    b'{"images": [{"repository": "r", "digest": "d", "tags": [], "disk_bytes": 0, '
    b'"retired_at": "yesterday", "until": "2026-12-24T00:00:00Z"}]}'
)


@pytest.mark.parametrize(
    ("command", "answer", "complaint"),
    [
        ("status", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]", "cannot be decoded"),
        ("status", b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\noops", "cannot be decoded"),
        ("status", b"HTTP/1.1 502 Bad\r\ncontent-length: 4\r\n\r\noops", "cannot be decoded"),
        (
            "quarantine --json",
            b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(HELD), HELD),
            "retired_at",
        ),
        ("status", b"not HTTP at all\r\n\r\n", "the connection to the engine broke"),
        ("status", b"", "the connection to the engine broke"),
    ],
)
def test_an_answer_that_makes_no_sense_is_one_line(
    cache: Cache, call: Call, command: str, answer: bytes, complaint: str
) -> None:
    folder = cache.root / "system/hmret"
    folder.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "hmret.sock"))
        listening.listen()

        def serve() -> None:
            for _ in range(2):  # the first only sees whether somebody is there
                connection, _ = listening.accept()
                with connection:
                    if connection.recv(65536):
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        code, output, complaints = call(*command.split(), "--data-dir", cache.root)
        thread.join(PATIENCE)
    assert (code, output, complaints.count("\n")) == (1, "", 1)
    assert complaint in complaints


def test_images_are_named_as_people_know_them(service: Service, cache: Cache, call: Call) -> None:
    digest = cache.image("ghcr.io/kernel/y", "d", "v2", unused=timedelta(days=1))
    for name in ("d" * 12, "sha256:" + "d" * 20, "D" * 64, digest):
        told = call("mark-used", name, "--data-dir", cache.root)
        assert (told[0], told[1].split()[0]) == (0, f"ghcr.io/kernel/y@{digest}")
    for name in ("web-1", "vm-1", "instance/vm-1", "a" * 12):
        code, output, _ = call("lease", name, "--data-dir", cache.root)
        assert (code, output.split()[1]) == (0, f"{ALPINE}@sha256:{'a' * 64}")
    code, _, complaints = call("mark-used", "e" * 64, "--data-dir", cache.root)
    assert (code, complaints.splitlines()[-1]) == (1, f"hmret: error: {'e' * 64}: not in the cache")
    cache.image("quay.io/other/z", "d")
    code, _, complaints = call("mark-used", "d" * 12, "--data-dir", cache.root)
    assert code == 2
    assert f"may mean several images: ghcr.io/kernel/y@{digest}, quay.io/other/z@{digest}" in complaints
    with client_of(cache.root / "system/hmret/hmret.sock") as client:
        call("sweep", "--data-dir", cache.root)
        found = client.get("/v1/images", params={"q": "WEB-1"}).json()
        # Of unknown age, it may run from any image of that repository.
        assert {image["digest"][7] for image in found["images"]} == {"a", "b"}
        assert found["vm_names"] == {"instance/vm-1": "web-1"}
        assert client.get("/v1/images/web-1").json()["vm_names"] == {"instance/vm-1": "web-1"}


def test_odd_names_come_through(service: Service, cache: Cache, call: Call) -> None:
    odd = os.fsdecode(b"torn-\xff")
    cache.guest(odd, "{")
    code, output, _ = call("plan", "--json", "--data-dir", cache.root)
    document: Any = json.loads(output)
    assert code == 1
    assert odd in document["suspended"][0]["path"]
    with client_of(cache.root / "system/hmret/hmret.sock") as client:
        assert client.get("/healthz").status_code == 200
