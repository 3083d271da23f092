"""What displays ask for beside the plan, on an engine over a disk in memory."""

import csv
import json
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import attrs
import pytest

from api.serving import ALPINE, asking, told_problem
from hmret.api.export import safe_cell
from hmret.disk.records.journal import JOURNAL
from hmret.engine.platform import Platform
from hmret.model.policy.limits import DiskLimits
from hmret.model.policy.rules import Rule
from hmret.model.times import format_time, timedelta_nanoseconds
from support.builders import (
    DATA,
    START,
    START_NS,
    FakeClock,
    digest,
    make_config,
    make_guest,
    make_image,
    make_snapshot,
    make_state,
)
from support.memory_filesystem import MemoryFilesystem

MIB = 1 << 20
KERNEL = "ghcr.io/kernel/build"
TODAY = START.date().isoformat()
DUE_NS = START_NS - timedelta_nanoseconds(timedelta(days=31))
WAITING_NS = START_NS - timedelta_nanoseconds(timedelta(days=3))


# What went.


async def test_what_a_sweep_deletes_is_in_the_history_by_day_and_reason(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    for letters in ("a", "b"):
        make_state(filesystem, make_image(filesystem, ALPINE, letters, tags=(letters,)), DUE_NS)
    async with asking(platform, make_config(filesystem)) as api:
        before = await api.get("/v1/history")
        assert (before["days"], before["events"], before["begins_at"]) == ([], [], None)
        await api.client.post("/v1/sweeps")
        history = await api.get("/v1/history")
    row = {"date": TODAY, "event": "delete", "reason": "expired", "images": 2, "bytes": 8192}
    assert (history["days"], history["journal"], history["unreadable"]) == ([row], True, [])
    assert history["begins_at"] == format_time(START_NS)
    assert [one["event"] for one in history["events"]] == ["delete", "delete", "sweep"]


async def test_history_outlasts_a_restart_and_no_event_is_told_twice(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    make_state(filesystem, make_image(filesystem, ALPINE, "a"), DUE_NS)
    async with asking(platform, make_config(filesystem)) as api:
        await api.client.post("/v1/sweeps")
    clock.advance(timedelta(hours=2))
    make_image(filesystem, ALPINE, "b")
    async with asking(platform, make_config(filesystem)) as api:
        await api.client.post("/v1/sweeps")
        history = await api.get("/v1/history")
        told = [(one["event"], one.get("image")) for one in history["events"]]
        assert told == [
            ("delete", f"{ALPINE}@{digest('a')}"),
            ("mark", f"{ALPINE}@{digest('b')}"),
            ("sweep", None),
        ]
        # A listener that goes on from there misses nothing and gets nothing twice.
        stream = await api.client.get(
            "/v1/events", params={"after": history["last_event_id"], "follow": "false"}
        )
        assert "event: " not in stream.text
        await api.post("/v1/mark-used", {"image": "alpine"})
        stream = await api.client.get(
            "/v1/events", params={"after": history["last_event_id"], "follow": "false"}
        )
        assert stream.text.count("event: ") == stream.text.count("event: clear") == 1


async def test_a_quiet_host_tells_of_what_happened_and_not_of_its_sweeps(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    make_state(filesystem, make_image(filesystem, ALPINE, "a"), DUE_NS)
    async with asking(platform, make_config(filesystem)) as api:
        for _ in range(4):
            await api.client.post("/v1/sweeps")
        events = (await api.get("/v1/history"))["events"]
    assert [one["event"] for one in events] == ["delete", "sweep"]


async def test_the_days_of_the_past_are_bounded(platform: Platform, filesystem: MemoryFilesystem) -> None:
    filesystem.make_folder(f"{DATA}/images")
    lines = [
        {
            "time": format_time(START_NS - timedelta_nanoseconds(timedelta(days=days))),
            "event": "delete",
            "image": f"{ALPINE}@{digest('a')}",
            "reason": "expired",
            "bytes": 10,
        }
        for days in (40, 29, 1, 0)
    ]
    async with asking(platform, make_config(filesystem)) as api:
        content = "".join(json.dumps(line) + "\n" for line in lines)
        filesystem.write_file(f"{DATA}/system/hmret/{JOURNAL}", content.encode())
        month = await api.get("/v1/history")
        assert [row["date"] for row in month["days"]] == [
            (START - timedelta(days=days)).date().isoformat() for days in (0, 1, 29)
        ]
        assert month["begins_at"] == lines[0]["time"]
        assert len((await api.get("/v1/history", days="41"))["days"]) == 4
        assert len((await api.get("/v1/history", days="1"))["days"]) == 1
        told_problem(await api.client.get("/v1/history?days=367"), 422, "invalid-parameter")


# The disk.


async def test_a_disk_without_a_limit_is_told_with_what_fills_it(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    make_state(filesystem, make_image(filesystem, ALPINE, "a", tags=("old",)), DUE_NS)
    make_image(filesystem, ALPINE, "b")
    filesystem.capacity_bytes = 1000 * MIB
    config = attrs.evolve(make_config(filesystem), quarantine=timedelta(days=1))
    async with asking(platform, config) as api:
        await api.client.post("/v1/sweeps")
        space = await api.get("/v1/space")
    assert (space["state"], space["high_bytes"], space["max_used"], space["excess_bytes"]) == (
        "no_limit",
        None,
        None,
        0,
    )
    assert "hmret.disk.high_watermark" in space["detail"]
    assert (space["images_bytes"], space["quarantine_bytes"], space["trash_bytes"]) == (4096, 4096, 0)
    assert space["used_bytes"] == space["other_bytes"] + 8192
    assert space["total_bytes"] == space["used_bytes"] + space["available_bytes"]


async def test_a_disk_above_its_high_mark_says_what_has_to_go(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    for number, letters in enumerate("abcdef01"):
        key = make_image(filesystem, ALPINE, letters, tags=(letters,), size_bytes=MIB)
        make_state(filesystem, key, WAITING_NS + number)
    filesystem.capacity_bytes = 10 * MIB
    limits = DiskLimits(high_watermark=0.7, low_watermark=0.5, max_used=9 * MIB)
    async with asking(platform, make_config(filesystem, disk=limits)) as api:
        space = await api.get("/v1/space")
        assert (space["state"], space["high_watermark"], space["low_watermark"], space["max_used"]) == (
            "pressed",
            "70%",
            "50%",
            str(9 * MIB),
        )
        assert (space["high_bytes"], space["low_bytes"], space["max_used_bytes"]) == (
            7 * MIB,
            5 * MIB,
            9 * MIB,
        )
        assert space["excess_bytes"] == space["used_bytes"] - 5 * MIB > 0
        assert space["detail"].startswith("what is in quarantine goes first")
        await api.client.post("/v1/sweeps")
        space = await api.get("/v1/space")
        assert (space["state"], space["excess_bytes"], space["detail"]) == (
            "within",
            0,
            "no limit is exceeded",
        )


async def test_pressure_that_gives_up_says_why_and_when_it_goes_on(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    make_image(filesystem, ALPINE, "a", size_bytes=MIB)
    filesystem.write_file("/other", size_bytes=9 * MIB, blocks=9 * MIB // 512)
    filesystem.capacity_bytes = 10 * MIB
    limits = DiskLimits(high_watermark=0.7, low_watermark=0.5)
    async with asking(platform, make_config(filesystem, disk=limits)) as api:
        await api.client.post("/v1/sweeps")
        space = await api.get("/v1/space")
    assert space["state"] == "out_of_reach"
    assert space["retry_seconds"] == 600
    assert "tried again in 0:10:00" in space["detail"]
    assert "something else fills the disk" in space["detail"]


async def test_a_full_disk_says_that_a_suspension_holds_everything_up(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    for letters in "abcdef01":
        make_state(
            filesystem, make_image(filesystem, ALPINE, letters, tags=(letters,), size_bytes=MIB), WAITING_NS
        )
    make_guest(filesystem, "vm", "No Reference")
    filesystem.capacity_bytes = 10 * MIB
    async with asking(platform, make_config(filesystem, disk=DiskLimits(high_watermark=0.7))) as api:
        await api.client.post("/v1/sweeps")
        space = await api.get("/v1/space")
    assert space["state"] == "held_up"
    assert "deletion is suspended" in space["detail"]


async def test_a_limit_that_nothing_can_go_for_says_why(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    make_image(filesystem, ALPINE, "a", size_bytes=4 * MIB)
    make_guest(filesystem, "vm", "alpine")
    filesystem.capacity_bytes = 100 * MIB
    async with asking(platform, make_config(filesystem, disk=DiskLimits(max_used=MIB))) as api:
        await api.client.post("/v1/sweeps")
        space = await api.get("/v1/space")
    assert (space["state"], space["excess_bytes"]) == ("held_up", 3 * MIB)
    assert "every image is in use, kept by the policy" in space["detail"]


# Who needs what, and repositories.


async def test_a_vm_is_found_by_name_and_by_id_with_the_images_that_it_keeps(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    alpine = make_image(filesystem, ALPINE, "a", tags=("3.20",))
    kernel = make_image(filesystem, KERNEL, "b", tags=("v1",))
    path = make_guest(filesystem, "k3v9", resolved_image="@".join(alpine))
    document = json.loads(filesystem.read_file(f"{DATA}/{path}"))
    filesystem.write_file(f"{DATA}/{path}", json.dumps({**document, "Name": "web-1"}).encode())
    make_snapshot(filesystem, "nightly", resolved_image="@".join(kernel))
    make_guest(filesystem, "z1", "docker.io/library/busybox:1")
    async with asking(platform, make_config(filesystem)) as api:
        everyone = await api.get("/v1/users")
        assert [one["user"] for one in everyone["users"]] == [
            "instance/k3v9",
            "instance/z1",
            "snapshot/nightly",
        ]
        assert (everyone["total"], everyone["matched"], everyone["next"]) == (3, 3, None)
        web = {
            "user": "instance/k3v9",
            "name": "web-1",
            "images": [{"repository": ALPINE, "digest": alpine[1], "tags": ["3.20"], "disk_bytes": 4096}],
            "total": 1,
            "missing": [],
        }
        for text in ("WEB-1", "k3v9"):
            assert (await api.get("/v1/users", q=text))["users"] == [web]
        (gone,) = (await api.get("/v1/users", q="z1"))["users"]
        assert (gone["images"], gone["missing"]) == ([], ["docker.io/library/busybox:1"])
        pages: list[str] = []
        after = None
        while after is not None or not pages:
            page = await api.get("/v1/users", limit="1", **({"after": after} if after else {}))
            pages.append(page["users"][0]["user"])
            after = page["next"]
        assert pages == [one["user"] for one in everyone["users"]]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort", ["repository", "images", "bytes", "newest", "next"])
async def test_every_repository_is_on_one_page_in_order(
    platform: Platform, filesystem: MemoryFilesystem, sort: str, order: str
) -> None:
    for number in range(14):
        key = make_image(
            filesystem,
            f"ghcr.io/kernel/{number % 5}",
            "abcdef01234567"[number],
            tags=(f"v{number}",),
            created_at=START - timedelta(days=100 + number % 3),
            size_bytes=4096 * (1 + number % 2),
        )
        if number % 5:
            make_state(filesystem, key, WAITING_NS - number)
    async with asking(platform, make_config(filesystem)) as api:
        whole = await api.get("/v1/repositories", sort=sort, order=order)
        assert (whole["total"], whole["matched"], len(whole["repositories"])) == (5, 5, 5)
        found: list[Any] = []
        after = None
        while after is not None or not found:
            page = await api.get(
                "/v1/repositories", sort=sort, order=order, limit="2", **({"after": after} if after else {})
            )
            found += page["repositories"]
            after = page["next"]
        assert found == whole["repositories"]
    keys: dict[str, Callable[[Any], Any]] = {
        "repository": lambda row: row["repository"],
        "images": lambda row: (row["images"], row["repository"]),
        "bytes": lambda row: (row["bytes"], row["repository"]),
        "newest": lambda row: (row["newest"], row["repository"]),
        "next": lambda row: (
            row["next"] is None,
            row["next"] and row["next"]["expires_at"],
            row["repository"],
        ),
    }
    assert found == sorted(found, key=keys[sort], reverse=order == "desc")


async def test_a_repository_tells_its_rule_and_what_goes_next(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    first = make_image(filesystem, KERNEL, "a", tags=("pr-1",), created_at=START - timedelta(days=9))
    make_state(filesystem, first, START_NS - timedelta_nanoseconds(timedelta(days=2)))
    second = make_image(filesystem, KERNEL, "b", tags=("v2",), created_at=START - timedelta(days=8))
    make_state(filesystem, second, DUE_NS)
    newest = make_image(filesystem, KERNEL, "c", tags=("v3",), created_at=START - timedelta(days=7))
    make_state(filesystem, newest, DUE_NS)
    config = make_config(
        filesystem,
        rules=(
            Rule(match=("ghcr.io/*",), tags=("pr-*",), unused_for=timedelta(days=3)),
            Rule(match=("ghcr.io/*",), unused_for="never"),
        ),
    )
    async with asking(platform, config) as api:
        (row,) = (await api.get("/v1/repositories", q="KERNEL"))["repositories"]
    assert (row["images"], row["bytes"], row["shared_bytes"]) == (3, 3 * 4096, 0)
    assert row["newest"] == format_time(START_NS - timedelta_nanoseconds(timedelta(days=7)))
    assert (row["rules"], row["unruled_images"]) == ([1, 2], 0)
    assert row["next"] == {
        "digest": first[1],
        "tags": ["pr-1"],
        "reason": "retention_window",
        "expires_at": format_time(START_NS + timedelta_nanoseconds(timedelta(days=1))),
    }


# One image.


async def test_an_image_is_explained_with_its_folder_and_its_leases(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    key = make_image(filesystem, ALPINE, "a", tags=("3.20",))
    async with asking(platform, make_config(filesystem)) as api:
        body = {"image": "alpine:3.20", "owner": "ci", "reason": "build 7", "ttl": "10m"}
        await api.post("/v1/leases", body, 201)
        async with api.retention.lease("alpine:3.20", owner="hypeman", reason="create vm-1"):
            found = await api.get("/v1/images/alpine:3.20")
    assert found["paths"] == [f"{DATA}/images/{ALPINE}/{key[1].removeprefix('sha256:')}"]
    assert sorted(found["leases"], key=lambda lease: lease["owner"]) == [
        {"owner": "ci", "reason": "build 7", "expires_at": format_time(START_NS + 600 * 10**9)},
        {"owner": "hypeman", "reason": "create vm-1", "expires_at": None},
    ]


# The policy.


async def test_the_settings_of_a_program_are_told_apart_from_defaults(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    rule = Rule(match=("a/*",), tags=("v*",), unused_for=timedelta(days=90))
    async with asking(platform, make_config(filesystem, pinned=("ghcr.io/*",), rules=(rule,))) as api:
        policy = await api.get("/v1/policy")
    settings = {one["key"]: one for one in policy["settings"]}
    pinned = settings["hmret.pinned"]
    assert (pinned["value"], pinned["source"], pinned["where"], pinned["is_policy"]) == (
        ["ghcr.io/*"],
        "program",
        None,
        True,
    )
    assert pinned["description"]
    assert settings["hmret.brake"]["source"] == "default"
    assert settings["hmret.rules"]["text"] == "1. match [a/*], tags [v*], unused_for 90d"
    assert (policy["refused"], policy["restart_needed"], policy["config_files"]) == (None, [], [])
    assert policy["since"] == format_time(START_NS)


# All that matches, as a file.


@pytest.mark.parametrize("form", ["csv", "json"])
async def test_what_is_filtered_comes_as_one_file(
    platform: Platform, filesystem: MemoryFilesystem, form: str
) -> None:
    for number in range(1203):
        make_image(
            filesystem, f"ghcr.io/kernel/{number}", f"{number:064x}", tags=(), has_disk=number % 3 != 0
        )
    async with asking(platform, make_config(filesystem)) as api:
        response = await api.client.get(
            "/v1/export", params={"format": form, "reason": "newly_unused", "sort": "disk_bytes"}
        )
        wanted = await api.get("/v1/images", reason="newly_unused", limit="1000", sort="disk_bytes")
    assert response.headers["content-disposition"].endswith(f'.{form}"')
    assert wanted["matched"] == 802
    digests = [image["digest"] for image in wanted["images"]]
    if form == "json":
        assert response.json()["images"] == wanted["images"]
    else:
        rows = list(csv.DictReader(response.text.splitlines()))
        assert [row["digest"] for row in rows] == digests
        assert (rows[0]["expires_at"], rows[0]["action"]) == (wanted["images"][0]["expires_at"] or "", "mark")


def test_no_cell_becomes_a_formula_of_a_spreadsheet() -> None:
    for text in ("=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "\tx"):
        assert safe_cell(text) == f"'{text}"
    assert safe_cell("instance/=1") == "instance/=1"


async def test_what_displays_ask_for_is_there_to_be_read_only_too(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    make_image(filesystem, ALPINE, "a")
    async with asking(platform, make_config(filesystem), read_only=True) as api:
        for name in ("history", "space", "repositories", "users", "policy", "export", "leases", "quarantine"):
            assert (await api.client.get(f"/v1/{name}")).status_code == 200


async def test_the_status_names_the_host(platform: Platform, filesystem: MemoryFilesystem) -> None:
    make_image(filesystem, ALPINE, "a")
    async with asking(platform, make_config(filesystem)) as api:
        assert (await api.get("/v1/status"))["host"] == os.uname().nodename
