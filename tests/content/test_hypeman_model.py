"""The model of today's hypeman: it reads what hypeman wrote as hypeman does, and its calls leave what hypeman's leave."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from hmret import parse_reference
from support.archives import unpack
from support.builders import START, FakeClock
from support.host_disk import HostDisk, MemoryDisk, RealDisk
from support.hypeman_lookup import CONTENT, DISK, METADATA, Reading
from support.hypeman_retention import sweep_as_hypeman
from support.hypeman_today import Call, Hypeman, finish
from support.memory_filesystem import MemoryFilesystem

APP, BASE = "docker.io/library/app", "ghcr.io/kernel/base"
ONE, TWO = "a" * 64, "b" * 64
FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture
def hypeman(filesystem: MemoryFilesystem, clock: FakeClock) -> Hypeman:
    for folder in ("guests", "system"):
        filesystem.make_folder(f"/data/{folder}")
    return Hypeman(MemoryDisk(filesystem), clock.now)


def do(*calls: Call) -> None:
    for call in calls:
        assert str(finish(call)) == "done"


def take(call: Call, before: str) -> None:
    """Take the steps of a call up to the one that has this in it."""
    for step in call:
        if before in step:
            return
    raise AssertionError(f"no such step: {before}")


# Reading.


@pytest.fixture(scope="module", params=["before", "after"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Reading, Any]:
    """A data directory that hypeman wrote, and what hypeman says of it."""
    folder = tmp_path_factory.mktemp("hypeman")
    unpack(FIXTURES / "hypeman-today.tar.gz", folder)
    said = json.loads((FIXTURES / "hypeman-today.json").read_bytes())
    return Reading(RealDisk(folder / request.param).tree()), said[request.param]


def test_it_lists_what_hypeman_lists(written: tuple[Reading, Any]) -> None:
    reading, said = written
    listed = sorted((row["name"], row["digest"], row["status"]) for row in said["list_images"])
    assert [(row.name, f"sha256:{row.hexadecimal}", row.status) for row in reading.rows()] == listed


def test_it_finds_what_hypeman_finds(written: tuple[Reading, Any]) -> None:
    reading, said = written
    for text, answer in said["get_image"].items():
        reference = parse_reference(text)
        found = reading.resolve(reference.repository, reference.tag or reference.digest or "")
        got = None if found is None else (f"sha256:{found.hexadecimal}", found.status)
        assert got == (None if "error" in answer else (answer["digest"], answer["status"])), text


# Calls, on both kinds of disk.


def pulled(hypeman: Hypeman) -> Iterator[Call]:
    yield hypeman.pull(APP, "1", ONE)
    yield hypeman.pull(BASE, "prod", ONE)
    yield hypeman.pull(APP, None, TWO)


def moved_by_a_pull(hypeman: Hypeman) -> Iterator[Call]:
    yield from pulled(hypeman)
    yield hypeman.pull(APP, "1", TWO, tags=("team",))


def moved_by_the_tag_call(hypeman: Hypeman) -> Iterator[Call]:
    yield hypeman.pull(APP, "1", ONE)
    yield hypeman.pull(APP, "2", TWO)
    yield hypeman.tag(APP, "2", APP, "1")


def promoted(hypeman: Hypeman) -> Iterator[Call]:
    yield hypeman.pull_as_older_server(APP, "1", ONE)
    yield hypeman.pull_as_older_server(APP, "2", TWO)
    yield hypeman.promote(APP, ONE, is_august=True)
    yield hypeman.tag(APP, "2", BASE, "prod")


def deleted(hypeman: Hypeman) -> Iterator[Call]:
    yield from promoted(hypeman)
    yield hypeman.delete(APP, ONE)
    yield hypeman.delete(APP, TWO)


def lived(hypeman: Hypeman) -> Iterator[Call]:
    yield from pulled(hypeman)
    yield hypeman.create("one", APP, "1")
    yield hypeman.create("two", BASE, f"sha256:{TWO}", has_resolved=False)
    yield hypeman.destroy("one")
    yield sweep_as_hypeman(hypeman, START, timedelta(days=30), lambda repository: True)


STORIES = (pulled, moved_by_a_pull, moved_by_the_tag_call, promoted, deleted, lived)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_disk_in_memory_and_a_real_one_come_out_alike(
    story: Callable[[Hypeman], Iterator[Call]], filesystem: MemoryFilesystem, tmp_path: Path
) -> None:
    trees = []
    disks: tuple[HostDisk, ...] = (MemoryDisk(filesystem), RealDisk(tmp_path))
    for disk in disks:
        for folder in ("images", "guests", "system"):
            disk.make_folders(folder)
        hypeman = Hypeman(disk, lambda: START, count(1).__next__)
        do(*story(hypeman))
        for running in hypeman.running.values():
            running.disk.close()
        found = {
            path: about for top in ("images", "guests", "system") for path, about in disk.tree(top).items()
        }
        # On a real disk a hole is read as zeros.
        trees.append(
            {path: (kind, b"" if path.endswith(DISK) else about) for path, (kind, about) in found.items()}
        )
    assert trees[0] == trees[1]


# What hmret must cope with.


def test_a_tag_call_makes_the_folder_again_that_has_gone_and_leaves_metadata_without_a_disk(
    hypeman: Hypeman,
) -> None:
    do(hypeman.pull(APP, "1", ONE))
    call = hypeman.tag(APP, "1", APP, "mine")
    take(call, "make images/repositories")
    hypeman.disk.rename(f"{CONTENT}/{ONE}", "system/gone")
    assert str(finish(call)) == "done"
    assert hypeman.reading().ghosts() == [ONE]
    assert hypeman.reading().hex_of_tag(APP, "mine") == ONE


def test_a_tag_call_into_another_repository_asks_for_the_disk_first(hypeman: Hypeman) -> None:
    do(hypeman.pull(APP, "1", ONE))
    call = hypeman.tag(APP, "1", BASE, "mine")
    take(call, "act on what is in")
    hypeman.disk.rename(f"{CONTENT}/{ONE}", "system/gone")
    assert str(finish(call)) == "failed: no such file"


def test_a_pull_of_what_is_here_only_sets_its_link(hypeman: Hypeman) -> None:
    do(hypeman.pull(APP, "1", ONE))
    inode = hypeman.disk.inode(f"{CONTENT}/{ONE}/{METADATA}")
    do(hypeman.pull(BASE, "prod", ONE))
    assert hypeman.disk.inode(f"{CONTENT}/{ONE}/{METADATA}") == inode
    assert hypeman.reading().tags_to(ONE) == [(APP, "1"), (BASE, "prod")]


def test_a_tag_appears_with_the_pull_and_moves_when_it_is_done(hypeman: Hypeman) -> None:
    call = hypeman.pull(APP, "1", ONE)
    take(call, f"write {CONTENT}/{ONE}/{DISK}.tmp")
    assert hypeman.reading().hex_of_tag(APP, "1") == ONE
    assert str(finish(call)) == "done"
    call = hypeman.pull(APP, "1", TWO)
    take(call, f"write {CONTENT}/{TWO}/{DISK}.tmp")
    assert hypeman.reading().hex_of_tag(APP, "1") == ONE
    assert str(finish(call)) == "done"
    assert hypeman.reading().hex_of_tag(APP, "1") == TWO


def test_the_content_stays_until_the_last_repository_is_untied(hypeman: Hypeman) -> None:
    do(hypeman.pull(APP, "1", ONE), hypeman.pull(BASE, "prod", ONE), hypeman.delete(APP, ONE))
    assert hypeman.reading().boots(BASE, "prod")
    do(hypeman.delete(BASE, ONE))
    assert not hypeman.disk.exists(f"{CONTENT}/{ONE}")


def test_a_promoted_image_has_one_disk_with_two_names(hypeman: Hypeman) -> None:
    do(hypeman.pull_as_older_server(APP, "1", ONE), hypeman.promote(APP, ONE))
    own, shared = f"images/{APP}/{ONE}/{DISK}", f"{CONTENT}/{ONE}/{DISK}"
    assert hypeman.disk.inode(own) == hypeman.disk.inode(shared) is not None


def test_a_server_takes_up_its_pulls_when_it_starts_and_no_promotion(hypeman: Hypeman) -> None:
    do(hypeman.pull_as_older_server(APP, "1", ONE))
    take(hypeman.promote(APP, ONE), f"link {CONTENT}/{ONE}/{DISK}")
    take(hypeman.pull(BASE, "prod", TWO), f"write {CONTENT}/{TWO}/{DISK}.tmp")
    assert hypeman.unfinished() == [f"{CONTENT}/{TWO}"]
    do(hypeman.resume(f"{CONTENT}/{TWO}"))
    assert hypeman.reading().boots(BASE, "prod")


def test_its_own_retention_deletes_what_a_guest_boots_whose_tag_has_moved_on(
    hypeman: Hypeman, clock: FakeClock
) -> None:
    def sweep() -> Call:
        return sweep_as_hypeman(hypeman, clock.now(), timedelta(days=30), lambda repository: True)

    do(hypeman.pull(APP, "1", ONE), hypeman.create("vm", APP, "1"), hypeman.pull(APP, "1", TWO), sweep())
    hypeman.running["vm"].disk.close()
    clock.advance(timedelta(days=31))
    do(sweep())
    assert not hypeman.disk.exists(f"{CONTENT}/{ONE}")
    assert hypeman.reading().boots(APP, "1")


def test_it_waits_for_a_file_that_hmret_has_a_lease_on(
    hypeman: Hypeman, filesystem: MemoryFilesystem
) -> None:
    do(hypeman.pull(APP, "1", ONE))
    fd = filesystem.open(f"/data/{CONTENT}/{ONE}/{METADATA}", 0)
    filesystem.take_lease(fd)
    call = hypeman.create("vm", APP, "1")
    steps = [next(call) for _ in range(4)]
    assert steps[-1] == steps[-2] == f"waits for {CONTENT}/{ONE}/{METADATA}"
    filesystem.close(fd)
    assert str(finish(call)) == "done"
    hypeman.running["vm"].disk.close()
