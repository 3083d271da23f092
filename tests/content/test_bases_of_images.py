"""What one image needs of another: the base that its metadata names stays for as long as it does."""

from collections.abc import Mapping
from datetime import timedelta

import pytest

from hmret import Reason
from support.builders import FakeClock, digest
from support.content_trees import DUE, Host, Swept, content_path, legacy_path
from support.memory_filesystem import MemoryFilesystem

A = "docker.io/library/alpine"
B = "ghcr.io/kernel/base"
P = "ghcr.io/kernel/persona"
D = digest("d")
MINUTE = timedelta(minutes=1)
BASE = {"machine": {"kind": "persona", "base": f"{A}@{D}"}}


@pytest.fixture
def host(filesystem: MemoryFilesystem, clock: FakeClock) -> Host:
    """A host with an image that is due."""
    host = Host(filesystem, clock)
    host.content("d", name=f"{A}:1")
    host.link(A, "1", "d")
    host.state(A, "d")
    return host


def needed_by(swept: Swept, letters: str) -> bool:
    """Return whether the base stays, and is cleared, for one image alone."""
    verdict = swept.verdicts[A, D]
    assert swept.report.stale_references == 0
    return (verdict.reason, verdict.referenced_by) == (Reason.REFERENCED, (f"image/{digest(letters)}",))


@pytest.mark.parametrize("layout", ["content", "legacy"])
async def test_the_base_of_an_image_stays(host: Host, layout: str) -> None:
    if layout == "content":
        host.content("a", name=f"{P}:1", metadata=BASE)
    else:
        host.legacy(P, "a", metadata=BASE)
    swept = await host.sweep()
    assert needed_by(swept, "a")
    assert host.exists(content_path("d"))
    assert host.state(A, "d")


@pytest.mark.parametrize("files", [{"persona.qcow2": b"disk"}, {"base.raw": b"disk"}])
async def test_it_stays_also_where_the_image_has_no_disk_of_a_known_kind(
    host: Host, files: dict[str, bytes]
) -> None:
    host.content("a", name=f"{P}:1", has_disk=False, files=files, metadata=BASE)
    swept = await host.sweep()
    assert swept.verdicts[P, digest("a")].reason is Reason.BROKEN
    assert needed_by(swept, "a")


@pytest.mark.parametrize("name", [A, B])
async def test_it_is_named_under_any_repository(host: Host, name: str) -> None:
    host.content("a", name=f"{P}:1", metadata={"machine": {"base": f"{name}@{D}"}})
    assert needed_by(await host.sweep(), "a")


@pytest.mark.parametrize(
    "machine", [None, "x", [], {}, {"base": None}, {"base": 5}, {"base": ""}, {"base": "No Reference"}]
)
async def test_what_names_no_base_needs_none(host: Host, machine: object) -> None:
    host.content("a", name=f"{P}:1", metadata={"machine": machine})
    swept = await host.sweep()
    assert swept.deleted == [(A, D)]
    assert not host.exists(content_path("d"))


async def test_the_timer_of_the_base_starts_when_the_image_has_gone(host: Host, clock: FakeClock) -> None:
    image = host.content("a", name=f"{P}:1", metadata=BASE)
    async with host.opened() as retention:
        assert needed_by(await host.sweep_by(retention), "a")
        host.hypeman.remove(image)
        clock.advance(MINUTE)
        assert (await host.sweep_by(retention)).reasons == {(A, D): Reason.NEWLY_UNUSED}


async def test_an_image_and_its_base_that_are_due_do_not_go_in_the_same_sweep(
    host: Host, clock: FakeClock
) -> None:
    host.content("a", name=f"{P}:1", metadata=BASE)
    host.state(P, "a")
    async with host.opened() as retention:
        swept = await host.sweep_by(retention)
        assert swept.deleted == [(P, digest("a"))]
        assert needed_by(swept, "a")
        clock.advance(MINUTE)
        assert (await host.sweep_by(retention)).reasons == {(A, D): Reason.NEWLY_UNUSED}
        clock.advance(DUE)
        assert (await host.sweep_by(retention)).deleted == [(A, D)]


@pytest.mark.parametrize("layout", ["content", "legacy"])
@pytest.mark.parametrize("before", ["pending", "pulling", "converting"])
async def test_an_image_that_was_being_pulled_at_the_last_sweep_needs_its_base_from_then_on(
    host: Host, clock: FakeClock, layout: str, before: str
) -> None:
    def put(status: str, metadata: Mapping[str, object] | None = None) -> None:
        if layout == "content":
            pull.content("a", name=f"{P}:1", status=status, has_disk=status == "ready", metadata=metadata)
        else:
            pull.legacy(P, "a", status=status, has_disk=status == "ready", metadata=metadata)

    pull = host.hypeman
    host.state(A, "d", timedelta(days=30) - MINUTE)
    put(before)
    clock.advance(MINUTE / 2)
    async with host.opened() as retention:
        assert (await host.sweep_by(retention)).verdicts[A, D].reason is Reason.RETENTION_WINDOW
        put("ready", BASE)
        clock.advance(2 * MINUTE)
        swept = await host.sweep_by(retention)
    assert swept.deleted == []
    assert needed_by(swept, "a")
    assert host.exists(content_path("d"))
    assert host.exists(content_path("a") if layout == "content" else legacy_path(P, "a"))
