"""Pages of images: every image once, in order, whatever is asked for."""

import json
from datetime import timedelta
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from api.serving import ALPINE, Api, asking, told_problem
from hmret.api import image_index as catalog_module
from hmret.api.image_index import SORTS, ImageIndex, Query
from hmret.api.wire.convert import image_document
from hmret.api.wire.structs import encode_document
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.model.images import Image, Inventory, Repository
from hmret.model.plan.decide import plan
from hmret.model.plan.plan import Plan
from hmret.model.policy.compiled import Policy
from hmret.model.policy.config import AutoDelete, RetentionConfig
from hmret.model.times import timedelta_nanoseconds
from hmret.model.verdicts import Verdict
from support.builders import (
    START,
    START_NS,
    FakeClock,
    GatedThreads,
    digest,
    make_config,
    make_guest,
    make_image,
    make_state,
)
from support.inline_threads import InlineThreads
from support.memory_filesystem import MemoryFilesystem

NUMBERS = ("size_bytes", "disk_bytes", "unused_since", "expires_at", "goes_at")


def fill(filesystem: MemoryFilesystem) -> None:
    """Make a cache of every kind of image, with equal and with different values."""
    for number in range(40):
        letters = "abcdef0123456789"[number % 16] + "0123"[number // 16]
        key = make_image(
            filesystem,
            f"ghcr.io/{'kernel' if number % 3 else 'Build'.lower()}/{number % 7}",
            letters,
            tags=(f"V{number}",) if number % 2 else (),
            status="pulling" if number % 5 == 0 else "ready",
            size_bytes=4096 * (1 + number % 4),
        )
        if number % 4:
            make_state(filesystem, key, START_NS - timedelta_nanoseconds(timedelta(days=number % 6 * 9)))
        if number % 11 == 0:
            make_guest(filesystem, f"VM-{number}", resolved_image="@".join(key))


async def pages(api: Api, **parameters: str) -> list[Any]:
    """Page through all that is asked for."""
    found: list[Any] = []
    page = await api.get("/v1/images", parameters=parameters)
    while True:
        found += page["images"]
        if page["next"] is None:
            assert page["matched"] == len(found)
            return found
        assert page["images"]
        page = await api.get("/v1/images", parameters={**parameters, "after": page["next"]})


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort", sorted(SORTS))
async def test_every_image_is_on_one_page_in_order(
    platform: Platform, filesystem: MemoryFilesystem, sort: str, order: str
) -> None:
    fill(filesystem)
    async with asking(platform, make_config(filesystem)) as api:
        everything = (await api.get("/v1/plan"))["images"]
        verdicts = (await api.retention.plan()).verdicts
        naive = sorted(
            verdicts,
            key=lambda one: (SORTS[sort](one), one.repository, one.digest),
            reverse=order == "desc",
        )
        for limit in ("1", "7", "40", "1000"):
            found = await pages(api, sort=sort, order=order, limit=limit)
            assert found == [json.loads(encode_document(image_document(verdict))) for verdict in naive]
            assert sorted(found, key=lambda one: (one["repository"], one["digest"])) == everything


@pytest.mark.parametrize(
    ("parameters", "wanted"),
    [
        ({"q": "KERNEL"}, lambda one: "kernel" in one["repository"]),
        ({"q": "v3"}, lambda one: any("v3" in tag.lower() for tag in one["tags"])),
        ({"q": "vm-1"}, lambda one: any("VM-1" in source for source in one["referenced_by"])),
        ({"q": digest("a0")[7:40]}, lambda one: one["digest"] == digest("a0")),
        ({"q": "nothing like it"}, lambda _: False),
        ({"action": "mark"}, lambda one: one["action"] == "mark"),
        ({"reason": "not_ready"}, lambda one: one["reason"] == "not_ready"),
        ({"status": "pulling"}, lambda one: one["status"] == "pulling"),
        (
            {"action": "delete", "q": "kernel"},
            lambda one: one["action"] == "delete" and "kernel" in one["repository"],
        ),
    ],
)
async def test_only_what_is_asked_for_is_found(
    platform: Platform, filesystem: MemoryFilesystem, parameters: dict[str, str], wanted: Any
) -> None:
    fill(filesystem)
    async with asking(platform, make_config(filesystem)) as api:
        everything = (await api.get("/v1/plan"))["images"]
        expected = list(filter(wanted, everything))
        for _ in range(2):  # the second time from what was found out the first time
            assert await pages(api, **parameters, limit="3") == expected
        assert await pages(api, **parameters, order="desc", limit="4") == expected[::-1]


async def test_the_documents_of_a_page_are_those_of_the_last_sweep(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    make_image(filesystem, ALPINE, "a")
    async with asking(platform, make_config(filesystem)) as api:
        report = await api.retention.sweep()
        clock.advance(timedelta(minutes=1))
        make_image(filesystem, ALPINE, "b")
        page = await api.get("/v1/images")
        assert page["at"].startswith(report.started_at.strftime("%Y-%m-%dT%H:%M:%S"))
        assert (page["total"], page["images"][0]["reason"]) == (1, "newly_unused")
        await api.retention.sweep()
        assert [one["reason"] for one in (await api.get("/v1/images"))["images"]] == [
            "retention_window",
            "newly_unused",
        ]


async def test_where_nothing_is_swept_a_plan_is_made_and_kept_for_a_while(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    make_image(filesystem, ALPINE, "a")
    async with open_engine(make_config(filesystem, enabled=False), platform, scheduled=True) as retention:
        image_index = ImageIndex(retention, InlineThreads())
        first = await image_index.page(Query(), 10, None)
        make_image(filesystem, ALPINE, "b")
        second = await image_index.page(Query(), 10, None)
        assert (first.total, second.total, second.plan is first.plan) == (1, 1, True)
        assert image_index._rows is not None
        image_index._rows.made -= 61
        assert (await image_index.page(Query(), 10, None)).total == 2


async def test_those_who_ask_at_once_share_what_is_made(
    platform: Platform, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    make_image(filesystem, ALPINE, "a")
    gate = threads.hold("plan")
    plans: list[Plan] = []
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        image_index = ImageIndex(retention, InlineThreads())

        async def ask() -> None:
            plans.append((await image_index.page(Query(), 10, None)).plan)

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(ask)
            await gate.arrived.wait()
            gate.opened.set()
    assert len(plans) == 5
    assert len(set(map(id, plans))) == 1


@pytest.mark.parametrize(
    "parameters",
    [
        {"limit": "0"},
        {"limit": "1001"},
        {"limit": "-1"},
        {"limit": "ten"},
        {"limit": "9" * 5000},
        {"limit": "\u0663"},
        {"sort": "age"},
        {"order": "up"},
        {"action": "destroy"},
        {"reason": "why"},
        {"after": "x"},
        {"after": "%%%"},
        {"after": "WyJhIiwiYiJd"},  # two texts
        {"after": "WzEsImEiLCJiIl0"},  # a number, where the sort has texts
        {"after": "WyJhIiwiYSIsImIiXQ", "sort": "size_bytes"},  # a text, where it has numbers
        {"after": "\u00e4"},
    ],
)
async def test_what_cannot_be_asked_is_a_problem(
    platform: Platform, filesystem: MemoryFilesystem, parameters: dict[str, str]
) -> None:
    async with asking(platform, make_config(filesystem)) as api:
        response = await api.client.get("/v1/images", params=parameters)
        told_problem(response, 422, "invalid-parameter")


async def test_a_cursor_whose_image_has_gone_goes_on_behind_it(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    for letters in "abc":
        make_image(filesystem, ALPINE, letters, tags=(letters,))
    async with asking(platform, make_config(filesystem)) as api:
        await api.retention.sweep()
        page = await api.get("/v1/images", limit="2")
        assert [one["tags"] for one in page["images"]] == [["a"], ["b"]]
        filesystem.unlink(f"/data/images/{ALPINE}/b")
        for name in ("rootfs.ext4", "metadata.json"):
            filesystem.unlink(f"/data/images/{ALPINE}/{digest('b')[7:]}/{name}")
        filesystem.rmdir(f"/data/images/{ALPINE}/{digest('b')[7:]}")
        await api.retention.sweep()
        page = await api.get("/v1/images", limit="2", after=page["next"])
        assert [one["tags"] for one in page["images"]] == [["c"]]
        assert page["total"] == 2


NAMES = ("ghcr.io/a", "ghcr.io/b", "ghcr.io/b/c")

IMAGES = st.tuples(
    st.sampled_from(NAMES),
    st.sampled_from(["0", "1", "2"]),
    st.sampled_from(["ready", "failed"]),
    st.integers(0, 2),
    st.none() | st.integers(START_NS - 2, START_NS),
)


def make_plan(images: list[tuple[str, str, str, int, int | None]]) -> Plan:
    """Make a plan of images: repository, digest, status, size, and timer."""
    repositories = {}
    for name in {image[0] for image in images}:
        there = {
            digest(letters): Image(digest=digest(letters), status=status, size_bytes=size)
            for repository, letters, status, size, _ in images
            if repository == name
        }
        tags = {f"T{letters}": digest(letters) for repository, letters, *_ in images if repository == name}
        repositories[name] = Repository(name=name, images=there, tags=tags)
    states = {(name, digest(letters)): since for name, letters, _, _, since in images if since is not None}
    return plan(Inventory(repositories=repositories, states=states), Policy.of(CONFIG), START)


CONFIG = RetentionConfig(auto_delete=AutoDelete(enabled=True, allowed=("*",)), max_deletes_per_sweep=2)


def naively(query: Query, verdict: Verdict) -> bool:
    texts = (verdict.repository, verdict.digest, *verdict.tags, *verdict.referenced_by)
    return query.status in ("", verdict.status) and any(query.q in text.lower() for text in texts)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    images=st.lists(IMAGES, max_size=9, unique_by=lambda one: one[:2]),
    query=st.builds(
        Query,
        q=st.sampled_from(["", "b", "t1"]),
        status=st.sampled_from(["", "ready"]),
        sort=st.sampled_from(sorted(SORTS)),
        descending=st.booleans(),
    ),
    limit=st.integers(1, 5),
)
def test_pages_put_together_are_all_that_matches(
    images: list[tuple[str, str, str, int, int | None]],
    query: Query,
    limit: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catalog_module, "_RUN", 3)
    made = make_plan(images)
    columns = catalog_module._still_there(made, None, lambda: None)
    rows = catalog_module.ImageRows(made, None, 0.0, columns, lambda: None)
    found: list[Verdict] = []
    after: str | None = None
    while True:
        cursor = (
            None if after is None else catalog_module.decode_cursor(after, is_number=query.sort in NUMBERS)
        )
        page = rows.page(query, limit, cursor)
        found += page.verdicts
        after = page.next
        if after is None:
            break
    naive = sorted(
        (verdict for verdict in made.verdicts if naively(query, verdict)),
        key=lambda one: (SORTS[query.sort](one), one.repository, one.digest),
        reverse=query.descending,
    )
    assert found == naive
    assert page.matched == len(naive)
