"""Each call of the control API, on an engine over a disk in memory."""

import json
from datetime import timedelta

import anyio
import attrs
import httpx2
import pytest
from starlette.applications import Starlette

from api.serving import ALPINE, asking, told_problem
from hmret import asgi
from hmret.api import app as api_app
from hmret.api.http.page import load_page
from hmret.engine.platform import Platform
from hmret.model.times import SECOND, format_time, timedelta_nanoseconds
from support.builders import (
    DATA,
    START,
    START_NS,
    FakeClock,
    GatedThreads,
    digest,
    has_image,
    make_config,
    make_guest,
    make_image,
    make_snapshot,
    make_state,
    settle,
    state_of,
)
from support.memory_filesystem import MemoryFilesystem

DUE_NS = START_NS - timedelta_nanoseconds(timedelta(days=31))


async def test_mark_used_clears_the_timer_and_says_so(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    key = make_image(filesystem, ALPINE, "a", tags=("3.20",))
    make_state(filesystem, key, DUE_NS)
    async with asking(platform, make_config(filesystem)) as api:
        used = await api.post("/v1/mark-used", {"image": "alpine:3.20"})
        assert used == {"repository": ALPINE, "digest": key[1], "cleared": True}
        again = await api.post("/v1/mark-used", {"image": "alpine", "digest": key[1]})
        assert again == {"repository": ALPINE, "digest": key[1], "cleared": False}
    assert state_of(filesystem, key) is None


async def test_what_is_lost_is_confirmed(platform: Platform, filesystem: MemoryFilesystem) -> None:
    make_image(filesystem, ALPINE, "a", tags=("3.20",))
    make_guest(filesystem, "vm", "alpine:3.20")
    make_snapshot(filesystem, "snap", "alpine:3.20")
    async with asking(platform, make_config(filesystem)) as api:
        assert (await api.client.post("/v1/sweeps")).json()["status"] == "success"
        for folder in ("guests", "snapshots"):
            filesystem.move(f"{DATA}/{folder}", f"/{folder}")
        report = (await api.client.post("/v1/sweeps")).json()
        assert [one["cause"] for one in report["suspended"]] == ["lost_references", "lost_references"]
        told_problem(await api.client.post("/v1/confirm", json={}), 422, "invalid-name")
        told_problem(await api.client.post("/v1/confirm", json={"what": ["etc"]}), 422, "invalid-name")
        assert await api.post("/v1/confirm", {"what": ["guests"]}) == {"confirmed": ["guests"]}
        for wrong in ("text/plain", "application/x-www-form-urlencoded"):
            response = await api.client.post("/v1/confirm", headers={"content-type": wrong})
            told_problem(response, 415, "not-json")
        told_problem(await api.client.post("/v1/confirm", content=b"{}"), 415, "not-json")
        response = await api.client.post("/v1/confirm")
        assert (response.status_code, response.json()) == (200, {"confirmed": ["snapshots"]})
        response = await api.client.post("/v1/confirm", headers={"content-type": "application/json"})
        assert (response.status_code, response.json()) == (200, {"confirmed": []})
        assert await api.post("/v1/confirm", {}) == {"confirmed": []}
        assert (await api.client.post("/v1/sweeps")).json()["status"] == "success"


async def test_a_deleted_image_is_listed_and_restored(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    key = make_image(filesystem, ALPINE, "a", tags=("3.20", "latest"))
    make_state(filesystem, key, DUE_NS)
    config = attrs.evolve(make_config(filesystem), quarantine=timedelta(days=1))
    async with asking(platform, config) as api:
        assert await api.get("/v1/quarantine") == {"images": []}
        report = (await api.client.post("/v1/sweeps")).json()
        assert (report["deleted_bytes"], report["quarantined_images"], report["quarantined_bytes"]) == (
            0,
            1,
            4096,
        )
        now = format_time(START_NS)
        assert await api.get("/v1/quarantine") == {
            "images": [
                {
                    "repository": ALPINE,
                    "digest": key[1],
                    "tags": ["3.20", "latest"],
                    "disk_bytes": 4096,
                    "retired_at": now,
                    "until": format_time(START_NS + 86_400 * SECOND),
                    "command": f"hmret restore {ALPINE}@{key[1]} --data-dir {DATA}",
                }
            ]
        }
        status = await api.get("/v1/status")
        assert (status["quarantine"], status["trash_bytes"]) == ({"images": 1, "bytes": 4096}, 0)
        metrics = (await api.client.get("/metrics")).text.splitlines()
        assert {"hmret_quarantined_images 1.0", "hmret_quarantined_bytes 4096.0"} <= set(metrics)
        assert "hmret_deleted_bytes_total 0.0" in metrics
        make_image(filesystem, ALPINE, "b", tags=("latest",))
        assert await api.post("/v1/restore", {"image": "alpine:3.20"}) == {
            "repository": ALPINE,
            "digest": key[1],
            "tags": ["3.20"],
            "unused_since": now,
            "taken_tags": ["latest"],
        }
        assert await api.get("/v1/quarantine") == {"images": []}
    assert has_image(filesystem, key)


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"image": "alpine"}, 409, "image-exists"),
        ({"image": "alpine", "digest": digest("a")}, 409, "image-exists"),
        ({"image": "alpine:gone"}, 404, "image-not-found"),
        ({"image": "no reference"}, 422, "invalid-reference"),
        ({"image": "alpine", "digest": "12"}, 422, "invalid-reference"),
        ({}, 422, "invalid-body"),
        ({"image": "alpine", "force": True}, 422, "invalid-body"),
    ],
)
async def test_what_cannot_be_restored_is_a_problem(
    platform: Platform,
    filesystem: MemoryFilesystem,
    body: dict[str, object],
    status: int,
    kind: str,
) -> None:
    make_state(filesystem, make_image(filesystem, ALPINE, "a"), DUE_NS)
    config = attrs.evolve(make_config(filesystem), quarantine=timedelta(days=1))
    async with asking(platform, config) as api:
        await api.client.post("/v1/sweeps")
        make_image(filesystem, ALPINE, "a")
        told_problem(await api.client.post("/v1/restore", json=body), status, kind)


async def test_who_may_only_look_restores_nothing(platform: Platform, filesystem: MemoryFilesystem) -> None:
    async with asking(platform, make_config(filesystem), read_only=True) as api:
        assert await api.get("/v1/quarantine") == {"images": []}
        assert (await api.client.post("/v1/restore", json={"image": "alpine"})).status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"image": "alpine:gone"}, 404, "image-not-found"),
        ({"image": "alpine:pulling"}, 404, "image-not-found"),
        ({"image": "no reference"}, 422, "invalid-reference"),
        ({"image": "alpine", "digest": "12"}, 422, "invalid-reference"),
        ({"image": ""}, 422, "invalid-reference"),
        ({}, 422, "invalid-body"),
        ({"image": 7}, 422, "invalid-body"),
        ({"image": "alpine", "tag": "latest"}, 422, "invalid-body"),
        ([], 422, "invalid-body"),
    ],
)
async def test_what_cannot_be_marked_used_is_a_problem(
    platform: Platform, filesystem: MemoryFilesystem, body: object, status: int, kind: str
) -> None:
    make_image(filesystem, ALPINE, "a", tags=("pulling",), status="pulling")
    async with asking(platform, make_config(filesystem)) as api:
        told_problem(await api.client.post("/v1/mark-used", json=body), status, kind)


@pytest.mark.parametrize(
    ("content", "media_type", "status", "kind"),
    [
        (b'{"image": "alp', "application/json", 400, "invalid-json"),
        (b"\xff", "application/json", 400, "invalid-json"),
        (b"[" * 5000, "application/json", 422, "invalid-body"),
        (b'{"image": "\\ud800"}', "application/json", 400, "invalid-json"),
        (b'{"image": "alpine"}', "text/plain", 415, "not-json"),
        (b'{"image": "alpine"}', "", 415, "not-json"),
        (b'{"image": "' + b"a" * 65536 + b'"}', "application/json", 413, "body-too-large"),
    ],
)
async def test_a_body_that_is_none_is_a_problem(
    platform: Platform,
    filesystem: MemoryFilesystem,
    content: bytes,
    media_type: str,
    status: int,
    kind: str,
) -> None:
    headers = {"content-type": media_type} if media_type else {}
    async with asking(platform, make_config(filesystem)) as api:
        response = await api.client.post("/v1/mark-used", content=content, headers=headers)
        told_problem(response, status, kind)


async def test_a_disk_that_fails_is_a_problem(platform: Platform, filesystem: MemoryFilesystem) -> None:
    key = make_image(filesystem, ALPINE, "a")
    filesystem.make_folder(f"{DATA}/system/image-retention/{ALPINE}/{key[1][7:]}.json/in the way")
    async with asking(platform, make_config(filesystem)) as api:
        response = await api.client.post("/v1/mark-used", json={"image": "alpine"})
        assert "image-retention" in told_problem(response, 500, "disk")


async def test_a_lease_is_granted_listed_renewed_and_ended(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    key = make_image(filesystem, ALPINE, "a")
    body = {"image": "alpine", "ttl": "10m", "owner": "vm-1", "reason": "create"}
    async with asking(platform, make_config(filesystem)) as api:
        response = await api.client.post("/v1/leases", json=body)
        assert response.status_code == 201
        lease = response.json()
        place = response.headers["location"]
        assert place == f"/v1/leases/{lease['id']}"
        assert lease == {
            "id": lease["id"],
            "repository": key[0],
            "digest": key[1],
            "owner": "vm-1",
            "reason": "create",
            "expires_at": format_time(START_NS + timedelta_nanoseconds(timedelta(minutes=10))),
        }
        assert await api.get("/v1/leases") == {"leases": [lease]}
        assert await api.get(place) == lease
        explained = await api.get("/v1/images/alpine")
        assert (explained["reason"], explained["blockers"][0]) == ("leased", "leased")
        clock.advance(timedelta(minutes=5))
        renewed = (await api.client.put(place, json={"ttl": 3600})).json()
        assert renewed["expires_at"] == format_time(
            clock.now_ns() + timedelta_nanoseconds(timedelta(hours=1))
        )
        ended = await api.client.delete(place)
        assert (ended.status_code, ended.content) == (204, b"")
        assert await api.get("/v1/leases") == {"leases": []}
        told_problem(await api.client.get(place), 404, "lease-not-found")
        told_problem(await api.client.delete(place), 404, "lease-not-found")
        told_problem(await api.client.put(place, json={"ttl": 1}), 404, "lease-not-found")


@pytest.mark.parametrize(
    "ttl", [0, -1, "0s", "-1m", "soon", "1y", "", 1e300, -1e308, True, None, [1], 9_300_000_000, "2562048h"]
)
async def test_a_lease_needs_a_time_to_live(
    platform: Platform, filesystem: MemoryFilesystem, ttl: object
) -> None:
    make_image(filesystem, ALPINE, "a")
    async with asking(platform, make_config(filesystem)) as api:
        response = await api.client.post("/v1/leases", json={"image": "alpine", "ttl": ttl})
        assert "ttl" in told_problem(
            response,
            422,
            "invalid-parameter" if isinstance(ttl, str | float | int) and ttl is not True else "invalid-body",
        )
        assert await api.get("/v1/leases") == {"leases": []}


async def test_the_smallest_time_to_live_is_not_nothing(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    make_image(filesystem, ALPINE, "a")
    async with asking(platform, make_config(filesystem)) as api:
        lease = await api.post("/v1/leases", {"image": "alpine", "ttl": "1ns"}, 201)
        assert lease["expires_at"] == format_time(START_NS + 1000)


async def test_a_sweep_is_waited_for_and_its_report_is_the_document_of_sweep(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    key = make_image(filesystem, ALPINE, "a", tags=("3.20",))
    make_state(filesystem, key, DUE_NS)
    async with asking(platform, make_config(filesystem)) as api:
        report = await api.post("/v1/sweeps", {})
        assert (report["status"], report["deleted_images"]) == ("success", 1)
        assert report["deleted"][0]["repository"] == ALPINE
        assert not has_image(filesystem, key)
        status = await api.get("/v1/status")
        assert status["last_sweep"] == report
        assert status["totals"]["deleted_images"] == 1
        # What went with that sweep is no image of the cache any more.
        assert await api.get("/v1/images") == {
            "at": report["started_at"],
            "total": 0,
            "matched": 0,
            "images": [],
            "next": None,
            "vm_names": {},
        }


async def test_a_plan_is_for_now_or_for_another_time(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    key = make_image(filesystem, ALPINE, "a")
    make_state(filesystem, key, START_NS)
    async with asking(platform, make_config(filesystem)) as api:
        now = await api.get("/v1/plan")
        assert now["images"][0]["reason"] == "retention_window"
        at = (START + timedelta(days=30)).isoformat()
        later = await api.get("/v1/plan", at=at)
        assert (later["images"][0]["action"], later["summary"]["delete"]) == ("delete", 1)
        # A plus sign that a client forgot to escape.
        response = await api.client.get(f"/v1/plan?at={at}")
        assert response.json() == later
        told_problem(await api.client.get("/v1/plan", params={"at": "tomorrow"}), 422, "invalid-parameter")
        assert has_image(filesystem, key)


async def test_a_plan_of_many_images_is_one_document(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    for number in range(1203):
        make_image(filesystem, f"ghcr.io/many/{number:04}", "a", tags=())
    async with asking(platform, make_config(filesystem)) as api:
        plan = await api.get("/v1/plan")
    names = [image["repository"] for image in plan["images"]]
    assert names == [f"ghcr.io/many/{number:04}" for number in range(1203)]


async def test_an_image_is_explained_by_whatever_names_it(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    key = make_image(filesystem, "ghcr.io/kernel/x", "a", tags=("v1",))
    make_guest(filesystem, "vm-1", "ghcr.io/kernel/x:v1")
    async with asking(platform, make_config(filesystem)) as api:
        for name in ("ghcr.io%2Fkernel%2Fx%3Av1", "ghcr.io/kernel/x:v1", f"ghcr.io/kernel/x@{key[1]}"):
            explained = await api.get(f"/v1/images/{name}")
            assert (explained["reason"], explained["referenced_by"]) == ("referenced", ["instance/vm-1"])
        told_problem(await api.client.get("/v1/images/ghcr.io/kernel/x:v2"), 404, "image-not-found")
        told_problem(await api.client.get("/v1/images/UPPER"), 422, "invalid-reference")


async def test_a_name_that_is_no_utf_8_does_not_break_an_answer(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    filesystem.write_file(f"{DATA}/guests/torn-\udcff/metadata.json", b"{")
    make_image(filesystem, ALPINE, "a")
    async with asking(platform, make_config(filesystem)) as api:
        plan = json.loads((await api.client.get("/v1/plan")).content)
        assert "torn-\udcff" in plan["suspended"][0]["path"]
        await api.post("/v1/sweeps", {})
        status = json.loads((await api.client.get("/v1/status")).content)
        (suspended,) = status["suspended"]
        assert "torn-\udcff" in suspended["path"]
        assert "unreadable_references: ignore" in suspended["detail"]


async def test_the_status_tells_the_engine(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, anyio_backend_name: str
) -> None:
    filesystem.write_file(f"{DATA}/system/hmret/trash/x/rootfs.ext4", bytes(10_000))
    async with asking(platform, make_config(filesystem)) as api:
        clock.advance(timedelta(seconds=90))
        filesystem.write_file(f"{DATA}/system/hmret/trash/x/rootfs.ext4", bytes(10_000))
        status = await api.get("/v1/status")
    assert status["backend"] == anyio_backend_name
    assert (status["data_dir"], status["enabled"], status["sweeping"]) == (DATA, True, False)
    assert status["uptime_seconds"] == 90
    assert status["trash_bytes"] >= 10_000
    assert status["last_sweep"] is None
    assert set(status["waiting"]) >= {"sweeps", "locks", "scanner", "deleter"}


async def test_it_is_healthy_and_ready_until_the_engine_stops(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    async with asking(platform, make_config(filesystem)) as api:
        assert await api.get("/healthz") == {"status": "ok"}
        assert await api.get("/readyz") == {"status": "ok"}
        app = api.app
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://x") as client:
        for path in ("/healthz", "/readyz", "/v1/plan"):
            assert "stopped" in told_problem(await client.get(path), 503, "engine-stopped")
        assert "stopped" in told_problem(await client.post("/v1/sweeps"), 503, "engine-stopped")


async def test_what_is_not_there_is_a_problem(platform: Platform, filesystem: MemoryFilesystem) -> None:
    async with asking(platform, make_config(filesystem)) as api:
        told_problem(await api.client.get("/v2"), 404, "")
        response = await api.client.patch("/v1/leases")
        told_problem(response, 405, "")
        assert response.headers["allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize(
    ("method", "path", "detail"),
    [
        (
            "GET",
            "/v1/images?limt=0",
            "limt: unknown, did you mean limit? known are limit, after, q, action, ",
        ),
        ("GET", "/v1/images?limit=1&Limit=1", "Limit: unknown, did you mean limit? "),
        ("GET", "/v1/plan?ta=xx", "ta: unknown, known are at"),
        ("HEAD", "/v1/plan?ta=xx", ""),
        ("POST", "/v1/plan?ta=xx", "ta: unknown, known are at"),
        ("GET", "/v1/export?reson=expired", "reson: unknown, did you mean reason? known are format, q, "),
        ("GET", "/v1/export?limit=1", "limit: unknown, "),
        (
            "GET",
            "/v1/images/alpine%3A3.20?at=2030-01-01T00:00:00Z",
            "at: unknown, this call takes no parameters",
        ),
        ("GET", "/v1/status?x", "x: unknown, this call takes no parameters"),
        ("GET", "/v1/events?fallow=false", "fallow: unknown, did you mean follow? known are after, follow"),
        ("GET", "/v1/fleet/holdings?imag=alpine", "imag: unknown, did you mean image? known are image"),
        ("POST", "/v1/sweeps?release=true", "release: unknown, did you mean release_brake? known are"),
        ("POST", "/v1/mark-used?image=alpine", "image: unknown, this call takes no parameters"),
        ("PUT", "/v1/leases/x?ttl=1m", "ttl: unknown, this call takes no parameters"),
        ("DELETE", "/v1/leases/x?force=1", "force: unknown, this call takes no parameters"),
    ],
)
async def test_a_parameter_that_a_call_does_not_know_is_a_problem_and_nothing_is_done(
    platform: Platform, filesystem: MemoryFilesystem, method: str, path: str, detail: str
) -> None:
    make_image(filesystem, ALPINE, "a", tags=("3.20",))
    async with asking(platform, make_config(filesystem)) as api:
        response = await api.client.request(method, path)
        assert response.status_code == 422
        if method != "HEAD":
            told_problem(response, 422, "invalid-parameter")
            assert response.json()["detail"].startswith(detail)
        assert api.retention.statistics().sweeps == 0


async def test_of_a_parameter_that_is_very_long_only_the_beginning_is_told(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    async with asking(platform, make_config(filesystem)) as api:
        response = await api.client.get("/v1/images", params={"x" * 5000: "1"})
        told_problem(response, 422, "invalid-parameter")
        assert len(response.json()["detail"]) < 300


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/openapi.json"])
async def test_browsers_scrapers_and_probes_may_ask_with_parameters_of_their_own(
    platform: Platform, filesystem: MemoryFilesystem, path: str
) -> None:
    async with asking(platform, make_config(filesystem)) as api:
        assert (await api.client.get(f"{path}?verbose=1")).status_code == 200


async def test_what_nobody_foresaw_is_a_problem_and_logged(
    platform: Platform,
    filesystem: MemoryFilesystem,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(api_app, "render_metrics", fail)
    async with asking(platform, make_config(filesystem)) as api:
        told_problem(await api.client.get("/metrics"), 500, "internal")
    assert "request_failed GET /metrics" in caplog.text


async def test_metrics_are_what_prometheus_reads(platform: Platform, filesystem: MemoryFilesystem) -> None:
    async with asking(platform, make_config(filesystem)) as api:
        response = await api.client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    assert "# TYPE hmret_" in response.text


async def test_to_be_read_only_leaves_out_what_changes_anything(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    make_image(filesystem, ALPINE, "a")
    async with asking(platform, make_config(filesystem), read_only=True) as api:
        for path in ("/v1/status", "/v1/images", "/v1/plan", "/v1/images/alpine", "/metrics", "/healthz"):
            assert (await api.client.get(path)).status_code == 200
        for path in ("/v1/mark-used", "/v1/sweeps"):
            told_problem(await api.client.post(path, json={"image": "alpine", "ttl": 1}), 404, "")
        told_problem(await api.client.post("/v1/leases", json={"image": "alpine", "ttl": 1}), 405, "")
        told_problem(await api.client.put("/v1/leases/x", json={"ttl": 1}), 404, "")
        told_problem(await api.client.delete("/v1/leases/x"), 404, "")
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            told_problem(await api.client.request(method, "/v1/status"), 405, "")


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1:9400", True),
        ("10.0.0.7", True),
        ("[::1]:9400", True),
        ("localhost:9400", True),
        ("LOCALHOST", True),
        ("box:9400", True),
        ("box.:9400", True),
        ("evil.example:9400", False),
        ("box.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
    ],
)
async def test_only_what_is_addressed_to_us_is_answered(
    platform: Platform, filesystem: MemoryFilesystem, host: str, ours: bool
) -> None:
    names = frozenset(("localhost", "box"))
    async with asking(platform, make_config(filesystem), host_names=names) as api:
        response = await api.client.get("/v1/status", headers={"host": host})
        if ours:
            assert response.status_code == 200
        else:
            told_problem(response, 421, "unknown-host")
        # A scraper has its own name for us, and learns no names from this.
        assert (await api.client.get("/metrics", headers={"host": host})).status_code == 200


async def test_plans_are_made_a_few_at_a_time(
    platform: Platform, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    make_image(filesystem, ALPINE, "a")
    gates = [threads.hold("plan") for _ in range(2)]
    answers: list[int] = []

    async with asking(platform, make_config(filesystem)) as api:

        async def ask() -> None:
            answers.append((await api.client.get("/v1/plan")).status_code)

        async with anyio.create_task_group() as tasks:
            for _ in range(19):
                tasks.start_soon(ask)
            for gate in gates:
                await gate.arrived.wait()
            await settle()
            # Two are made, sixteen wait; to one that is too much.
            assert answers == [503]
            for gate in gates:
                gate.opened.set()
    assert sorted(answers) == [200] * 18 + [503]


async def test_it_can_be_mounted_in_a_server_of_somebody_else(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    make_image(filesystem, ALPINE, "a")
    async with asking(platform, make_config(filesystem)) as api:
        server = Starlette()
        server.mount("/retention", asgi.make_app(api.retention))
        transport = httpx2.ASGITransport(app=server)
        async with httpx2.AsyncClient(transport=transport, base_url="http://embedder") as client:
            response = await client.post("/retention/v1/leases", json={"image": "alpine", "ttl": 60})
            assert response.status_code == 201
            again = await client.get(response.headers["location"])
            assert again.json() == response.json()
            told_problem(await client.get("/retention/v1/none"), 404, "")


async def test_the_page_is_served_with_the_policy_that_it_needs(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    page, headers = load_page()
    async with asking(platform, make_config(filesystem)) as api:
        response = await api.client.get("/")
        assert response.content == page
        assert {name: response.headers[name] for name in headers} == headers


async def test_a_forecast_is_made_where_nothing_is_swept(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    key = make_image(filesystem, ALPINE, "a")
    make_state(filesystem, key, START_NS - 40 * 86_400 * SECOND)
    async with asking(platform, make_config(filesystem, enabled=False)) as api:
        forecast = await api.get("/v1/forecast")
        assert api.retention.counters.outlook is None
    assert (forecast["images"], forecast["bytes"]) == (1, 4096)
    assert len(forecast["days"]) == 31
    assert forecast["days"][0] == {"date": START.date().isoformat(), "images": 1, "bytes": 4096}
    assert forecast["within"] == {"24h": 4096, "7d": 4096, "30d": 4096}
    assert forecast["holdings"] == [{"action": "delete", "reason": "expired", "images": 1, "bytes": 4096}]


async def test_a_forecast_is_what_the_last_sweep_has_left(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    make_state(filesystem, make_image(filesystem, ALPINE, "a"), START_NS - 40 * 86_400 * SECOND)
    make_image(filesystem, ALPINE, "b", tags=("b",))
    async with asking(platform, make_config(filesystem)) as api:
        await api.retention.sweep()
        forecast = await api.get("/v1/forecast")
    assert forecast["images"] == 1
    assert [(day["images"], day["bytes"]) for day in forecast["days"]] == [(0, 0)] * 30 + [(1, 4096)]
