"""The calls of a fleet, on an engine over a disk in memory and a store in memory."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import httpx2
import pytest

from api.serving import ALPINE, asking, told_problem
from hmret.api.app import make_app
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.fleet.keys import FleetKeys
from hmret.fleet.operating import FleetOperator
from hmret.fleet.overview import LocalStatus
from hmret.fleet.store import Put, Txn
from hmret.model.fleet import FleetState
from hmret.model.times import timedelta_nanoseconds
from support.builders import START_NS, digest, make_config, make_image, make_state
from support.memory_client import Client, Fate, Request
from support.memory_filesystem import MemoryFilesystem
from support.memory_store import MemoryStore

A, B = "a.0000000a", "b.0000000b"
CONTACT = datetime(2026, 11, 29, 10, 0, tzinfo=UTC)
CHANGES: Mapping[str, Mapping[str, str]] = {
    "set": {"key": "tokens", "value": "7"},
    "pause": {"by": "me", "reason": "why"},
    "drain": {"host": "a"},
    "undrain": {"host": "a"},
    "forget": {"host": "a"},
}
BODILESS = ("init", "reset", "resume")


class HostInFleet:
    """What an engine of a host in a fleet has for these calls."""

    def __init__(self, store: MemoryStore) -> None:
        self.client = Client(store)
        self.operator = FleetOperator(self.client, "prod")
        self.state = FleetState.JOINED
        self.detail: str | None = None
        self.requests: dict[tuple[str, str], int] = {}
        self.copies, self.counts = 1, True

    def local_status(self) -> LocalStatus:
        return LocalStatus(
            fleet="prod", state=self.state, detail=self.detail, host="a", holder=A, last_contact=CONTACT
        )


class WithFleet:
    """An engine that is in a fleet."""

    def __init__(self, retention: Retention, fleet: HostInFleet) -> None:
        self._retention = retention
        self.fleet = fleet

    def __getattr__(self, name: str) -> Any:
        return getattr(self._retention, name)


class Asked:
    """A fleet, and a client of the control API of a host in it."""

    def __init__(self, store: MemoryStore, fleet: HostInFleet, client: httpx2.AsyncClient) -> None:
        self.store, self.fleet, self.client = store, fleet, client
        self.keys: FleetKeys

    async def get(self, path: str) -> Any:
        response = await self.client.get(path)
        assert response.status_code == 200, response.text
        return response.json()

    async def post(self, path: str, body: object = None) -> Any:
        response = (
            await self.client.post(f"/v1/fleet/{path}", json=body)
            if body is not None
            else (await self.client.post(f"/v1/fleet/{path}"))
        )
        assert response.status_code == 200, response.text
        return response.json()

    def put(self, **values: str) -> None:
        self.store.carry_out(Txn((), tuple(Put(key, value) for key, value in values.items())))

    def host(self, holder: str, *digests: str) -> None:
        keys = self.keys
        self.put(**{keys.live(holder): "1", keys.mark(holder): "m", keys.summary(holder): '{"copies":4}'})
        for each in digests:
            self.put(**{keys.holding(each, holder): '{"b":4096,"t":"2026-11-01T00:00:00Z"}'})


@asynccontextmanager
async def in_fleet(
    platform: Platform, filesystem: MemoryFilesystem, *, is_made: bool = True, **options: Any
) -> AsyncIterator[Asked]:
    store = MemoryStore(lambda: 0.0)
    fleet = HostInFleet(store)
    async with asking(platform, make_config(filesystem)) as api:
        app = make_app(cast("Retention", WithFleet(api.retention, fleet)), **options)
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://hmret") as client:
            asked = Asked(store, fleet, client)
            if is_made:
                asked.keys = FleetKeys("prod", await fleet.operator.init())
            yield asked


async def test_an_engine_in_no_fleet_says_so_to_every_call(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    make_image(filesystem, ALPINE, "a")
    async with asking(platform, make_config(filesystem)) as api:
        for path in ("/v1/fleet", "/v1/fleet/holdings?image=alpine", "/v1/fleet/plan"):
            told_problem(await api.client.get(path), 404, "no-fleet")
        for change in (*CHANGES, *BODILESS):
            detail = told_problem(await api.client.post(f"/v1/fleet/{change}"), 404, "no-fleet")
            assert detail.startswith("this engine is in no fleet: hmret.fleet.endpoints was not set")
        assert (await api.get("/v1/status"))["fleet"] is None
        assert "hmret_fleet" not in (await api.client.get("/metrics")).text


async def test_the_status_is_that_of_the_host_and_of_the_fleet(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    async with in_fleet(platform, filesystem) as asked:
        asked.host(A)
        document = await asked.get("/v1/fleet")
        assert {
            name: document[name]
            for name in ("fleet", "generation", "state", "detail", "host", "holder", "last_contact")
        } == {
            "fleet": "prod",
            "generation": asked.keys.generation,
            "state": "joined",
            "detail": None,
            "host": "a",
            "holder": A,
            "last_contact": "2026-11-29T10:00:00Z",
        }
        assert [(host["holder"], host["copies"]) for host in document["hosts"]] == [(A, 4)]
        assert (await asked.get("/v1/status"))["fleet"] == "joined"
        assert 'hmret_fleet_state{state="joined"} 1.0' in (await asked.client.get("/metrics")).text


async def test_many_who_look_at_the_hosts_are_one_question_to_etcd(
    platform: Platform, filesystem: MemoryFilesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hmret.api.fleet_calls.FRESH_SECONDS", 300.0)
    async with in_fleet(platform, filesystem) as asked:
        asked.host(A)
        before = len(asked.fleet.client.requests)
        first = await asked.get("/v1/fleet")
        asked_once = len(asked.fleet.client.requests)
        assert asked_once > before
        asked.host(B)
        assert await asked.get("/v1/fleet") == first
        assert len(asked.fleet.client.requests) == asked_once
        # What is changed through this engine is seen at once.
        await asked.post("pause", {"by": "me", "reason": "why"})
        assert [host["holder"] for host in (await asked.get("/v1/fleet"))["hosts"]] == [A, B]


async def test_a_host_that_has_joined_is_shown_as_live(
    platform: Platform, filesystem: MemoryFilesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hmret.api.fleet_calls.FRESH_SECONDS", 300.0)
    async with in_fleet(platform, filesystem) as asked:
        asked.put(**{asked.keys.session(A): "1"})
        asked.fleet.state = FleetState.JOINING
        for _ in range(2):
            document = await asked.get("/v1/fleet")
            assert [(host["holder"], host["live"]) for host in document["hosts"]] == [(A, False)]
        asked.host(A)
        asked.fleet.state = FleetState.JOINED
        document = await asked.get("/v1/fleet")
        assert document["state"] == "joined"
        assert [(host["holder"], host["live"]) for host in document["hosts"]] == [(A, True)]


async def test_without_etcd_the_status_is_what_the_host_knows(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    async with in_fleet(platform, filesystem) as asked:
        asked.fleet.client.is_cut_off = True
        asked.fleet.state, asked.fleet.detail = FleetState.UNREACHABLE, "what the host knows"
        document = await asked.get("/v1/fleet")
        assert (document["state"], document["detail"], document["generation"]) == (
            "unreachable",
            "what the host knows",
            None,
        )
        assert (document["hosts"], document["settings"]) == ([], None)
    async with in_fleet(platform, filesystem) as asked:
        asked.fleet.client.is_cut_off = True
        assert (await asked.get("/v1/fleet"))["detail"] == "memory: cannot be reached"


async def test_holdings_are_found_by_digest_and_by_a_tag_that_is_here(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    make_image(filesystem, ALPINE, "a", tags=("3.20",))
    async with in_fleet(platform, filesystem) as asked:
        asked.host(A, digest("a"))
        asked.host(B, digest("a"))
        for image in (digest("a"), "alpine:3.20", f"nobody/has@{digest('a')}"):
            document = await asked.get(f"/v1/fleet/holdings?image={image}")
            assert [(one["holder"], one["here"], one["counted"]) for one in document["holders"]] == [
                (A, True, True),
                (B, False, True),
            ]
            assert (document["digest"], document["counted"], document["spare"]) == (digest("a"), 2, 1)
        detail = told_problem(
            await asked.client.get("/v1/fleet/holdings?image=busybox"), 404, "image-not-found"
        )
        assert detail == "busybox: not in the cache; elsewhere it is found by its digest"
        told_problem(
            await asked.client.get("/v1/fleet/holdings?image=No%20Reference"), 422, "invalid-reference"
        )
        told_problem(await asked.client.get("/v1/fleet/holdings"), 422, "invalid-parameter")


async def test_the_plan_has_this_hosts_images_that_have_expired(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    due = make_image(filesystem, ALPINE, "a")
    make_state(filesystem, due, START_NS - timedelta_nanoseconds(timedelta(days=31)))
    make_state(filesystem, make_image(filesystem, ALPINE, "b"), START_NS)
    async with in_fleet(platform, filesystem) as asked:
        asked.host(A)
        document = await asked.get("/v1/fleet/plan")
        assert [image["digest"] for image in document["images"]] == [due[1]]
        assert (document["budget"], document["braked"]) == ({"releases": 20, "taken": 0}, False)


async def test_the_budget_is_the_one_that_the_hosts_release_by(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    async with in_fleet(platform, filesystem) as asked:
        await asked.post("set", {"key": "tokens", "value": "1"})
        await asked.post("set", {"key": "budget", "value": "29%"})
        asked.put(**{asked.keys.summary(A): '{"copies":100}', asked.keys.token(0): f"{A} session"})

        document = await asked.get("/v1/fleet/plan")

        assert document["budget"] == {"releases": 29, "taken": 29}


async def test_what_an_operator_changes(platform: Platform, filesystem: MemoryFilesystem) -> None:
    async with in_fleet(platform, filesystem, is_made=False) as asked:
        made = await asked.post("init")
        asked.keys = FleetKeys("prod", made["generation"])
        asked.host(A, digest("a"))
        assert (await asked.post("set", CHANGES["set"]))["settings"]["tokens"] == 7
        paused = (await asked.post("pause", CHANGES["pause"]))["settings"]["paused"]
        assert (paused["by"], paused["reason"]) == ("me", "why")
        assert (await asked.post("resume"))["settings"]["paused"] is None
        paused = (await asked.post("pause"))["settings"]["paused"]
        assert (paused["by"], paused["reason"]) == ("", "")
        assert (await asked.post("resume"))["settings"]["paused"] is None
        assert await asked.post("drain", {"host": "a", "by": "me", "reason": "disk"}) == {
            "holders": [A],
            "last_copies": [{"holder": A, "digest": digest("a"), "bytes": 4096}],
        }
        assert (await asked.get("/v1/fleet"))["hosts"][0]["drained"]["reason"] == "disk"
        assert await asked.post("undrain", {"host": A}) == {"holders": [A]}
        assert await asked.post("forget", {"host": "a"}) == {"holders": [A]}
        again = await asked.post("reset")
        assert (again["fleet"], again["generation"] != made["generation"]) == ("prod", True)


async def test_what_cannot_be_is_a_problem_of_its_kind(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    async with in_fleet(platform, filesystem) as asked:
        client = asked.client
        told_problem(await client.post("/v1/fleet/init"), 409, "fleet-conflict")
        for change in ("drain", "undrain", "forget"):
            told_problem(await client.post(f"/v1/fleet/{change}", json={"host": "z"}), 404, "host-not-found")
        for key, value in (("tokens", "0"), ("zones", "3")):
            told_problem(
                await client.post("/v1/fleet/set", json={"key": key, "value": value}), 422, "invalid-setting"
            )
        for change, body in CHANGES.items():
            told_problem(
                await client.post(f"/v1/fleet/{change}", json={**body, "odd": "x"}), 422, "invalid-body"
            )
            told_problem(
                await client.post(f"/v1/fleet/{change}", json={next(iter(body)): "x" * 1025}),
                422,
                "invalid-body",
            )
            if change != "pause":  # which has no field that it needs
                told_problem(await client.post(f"/v1/fleet/{change}"), 415, "not-json")


async def test_where_there_is_no_fleet_yet_each_call_says_how_to_make_it(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    async with in_fleet(platform, filesystem, is_made=False) as asked:
        for change, body in {**CHANGES, "reset": None, "resume": None}.items():
            detail = told_problem(
                await asked.client.post(f"/v1/fleet/{change}", json=body), 409, "fleet-conflict"
            )
            assert detail.endswith("hmret fleet init")
        told_problem(await asked.client.get(f"/v1/fleet/holdings?image={digest('a')}"), 409, "fleet-conflict")
        assert (await asked.get("/v1/fleet"))["detail"].endswith("hmret fleet init")


async def test_an_etcd_that_does_not_answer_is_a_503(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    async with in_fleet(platform, filesystem) as asked:

        async def lost(request: Request) -> Fate:
            return Fate.LOST if isinstance(request, Txn) else Fate.DONE

        for is_cut_off in (False, True):
            asked.fleet.client.fate, asked.fleet.client.is_cut_off = lost, is_cut_off
            for change, body in CHANGES.items():
                told_problem(
                    await asked.client.post(f"/v1/fleet/{change}", json=body), 503, "fleet-unreachable"
                )
            told_problem(
                await asked.client.get(f"/v1/fleet/holdings?image={digest('a')}"), 503, "fleet-unreachable"
            )


@pytest.mark.parametrize("change", [*CHANGES, *BODILESS])
async def test_who_may_only_look_changes_nothing(
    change: str, platform: Platform, filesystem: MemoryFilesystem
) -> None:
    async with in_fleet(platform, filesystem, read_only=True) as asked:
        before = asked.store.items()
        assert (await asked.client.post(f"/v1/fleet/{change}", json=CHANGES.get(change))).status_code == 404
        assert asked.store.items() == before
        assert (await asked.get("/v1/fleet"))["state"] == "joined"
        assert (await asked.get(f"/v1/fleet/holdings?image={digest('a')}"))["holders"] == []
