"""Images that a server left unfinished: what each is, and what is said of it."""

import json
from collections.abc import Mapping

import pytest

from disk.hosts import Host
from hmret.disk.folders import opened
from hmret.disk.hypeman.images import FolderScan
from hmret.disk.hypeman.rows import Rows
from hmret.disk.hypeman.unfinished import Unfinished, look_at_unfinished
from hmret.disk.layout import hex_of
from hmret.model.times import SECOND
from support.builders import DATA, FakeClock, digest
from support.content_files import content_of, put_content, put_legacy, put_link, scan_all

ALPINE, MIRROR = "docker.io/library/alpine", "ghcr.io/mirror/alpine"
A = digest("a")
HOUR = 3600 * SECOND
DAY = 24 * HOUR


@pytest.fixture(autouse=True)
def _images(memory: Host) -> None:
    memory.folder("images")


def look(host: Host) -> Unfinished:
    folders: Mapping[str, FolderScan] = scan_all(host)
    repositories = Rows().put_together(folders).repositories
    before = host.memory.snapshot()
    with opened(host.filesystem, host.open("images")) as fd:
        found = look_at_unfinished(host.filesystem, fd, folders, repositories)
    assert host.memory.snapshot() == before
    return found


def events(host: Host) -> list[tuple[str, str]]:
    found = look(host)
    assert all(found.details.values())
    return [(event, path) for event, path, _ in found.oddities]


def test_what_is_ready_and_whole_is_passed_over(memory: Host, clock: FakeClock) -> None:
    put_content(memory, "a")
    put_legacy(memory, ALPINE, "b")
    clock.wall_ns += 30 * DAY
    assert look(memory) == Unfinished()


def test_content_that_is_ready_without_a_disk_is_told_with_the_remedy(memory: Host) -> None:
    put_content(memory, "a", has_disk=False)
    found = look(memory)
    assert [(event, path) for event, path, _ in found.oddities] == [("content_broken", content_of("a"))]
    assert "no rootfs" in found.details[A]
    assert "pull it again" in found.details[A]


def test_content_without_metadata_is_told_after_an_hour(memory: Host, clock: FakeClock) -> None:
    memory.folder(content_of("a"))
    clock.wall_ns += HOUR - SECOND
    assert events(memory) == []
    clock.wall_ns += 2 * SECOND
    assert events(memory) == [("content_broken", content_of("a"))]
    assert look(memory).details == {A: "no metadata.json"}


@pytest.mark.parametrize("status", ["pending", "pulling", "converting"])
def test_content_that_stays_unfinished_is_told_after_a_day(
    memory: Host, clock: FakeClock, status: str
) -> None:
    put_content(memory, "a", status=status, has_disk=False)
    clock.wall_ns += DAY
    assert events(memory) == []
    clock.wall_ns += SECOND
    assert events(memory) == [("unfinished_image", content_of("a"))]
    assert status in look(memory).details[A]


@pytest.mark.parametrize("status", ["failed", "unheard of"])
def test_what_is_not_being_made_is_not_told(memory: Host, clock: FakeClock, status: str) -> None:
    put_content(memory, "a", status=status, has_disk=False)
    clock.wall_ns += 2 * DAY
    assert events(memory) == []


def test_a_folder_of_a_repository_is_told_only_beside_ready_content(memory: Host, clock: FakeClock) -> None:
    put_legacy(memory, ALPINE, "a", status="pulling", has_disk=False)
    put_legacy(memory, ALPINE, "b", status="pulling", has_disk=False)
    put_content(memory, "a", name=f"{MIRROR}:1")
    put_link(memory, MIRROR, "latest", "a")
    clock.wall_ns += DAY
    assert events(memory) == []
    clock.wall_ns += SECOND
    assert events(memory) == [("unfinished_image", f"images/{ALPINE}/{hex_of(A)}")]
    assert look(memory).details.keys() == {A}


# Promotions that were cut off.


def promote(host: Host, *, is_linked: bool = True) -> None:
    """Leave what a server leaves that was stopped while it moved a repository's image to content."""
    put_legacy(host, ALPINE, "a")
    own = f"images/{ALPINE}/{hex_of(A)}"
    metadata = json.loads(host.read(f"{own}/metadata.json"))
    metadata["status"] = "converting"
    host.write(f"{content_of('a')}/metadata.json", json.dumps(metadata).encode())
    if is_linked:
        host.hard_link(f"{own}/rootfs.erofs", f"{content_of('a')}/rootfs.erofs")


@pytest.mark.parametrize("is_linked", [True, False])
def test_a_promotion_that_was_cut_off_is_told_after_an_hour_with_the_remedy(
    memory: Host, clock: FakeClock, *, is_linked: bool
) -> None:
    promote(memory, is_linked=is_linked)
    clock.wall_ns += HOUR
    assert events(memory) == []
    clock.wall_ns += SECOND
    assert events(memory) == [("promotion_cut_off", content_of("a"))]
    detail = look(memory).details[A]
    assert ALPINE in detail
    assert content_of("a") in detail


@pytest.mark.parametrize("difference", ["disk", "metadata", "being written", "status", "own folder"])
def test_what_only_resembles_one_is_told_as_unfinished_after_a_day(
    memory: Host, clock: FakeClock, difference: str
) -> None:
    promote(memory)
    where = content_of("a")
    match difference:
        case "disk":
            memory.remove(f"{where}/rootfs.erofs")
            memory.write(f"{where}/rootfs.erofs", bytes(4096))
        case "metadata":
            metadata = json.loads(memory.read(f"{where}/metadata.json"))
            memory.write(f"{where}/metadata.json", json.dumps(metadata | {"size_bytes": 1}).encode())
        case "being written":
            memory.write(f"{where}/metadata.json.tmp-1")
        case "status":
            metadata = json.loads(memory.read(f"{where}/metadata.json"))
            memory.write(f"{where}/metadata.json", json.dumps(metadata | {"status": "pulling"}).encode())
        case _:
            memory.memory.remove(f"{DATA}/images/{ALPINE}")
    clock.wall_ns += HOUR + SECOND
    assert events(memory) == []
    clock.wall_ns += DAY
    assert events(memory) == [("unfinished_image", where)]
