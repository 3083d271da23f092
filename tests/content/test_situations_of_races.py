"""What meets a deletion in its midst: the end of the process, a pull, a tag call, a tag that moves."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from hmret import Reason
from support.builders import DATA, FakeClock, digest
from support.content_trees import (
    CONTENT,
    LINKS,
    TRASH,
    Files,
    Host,
    content_path,
    hex_of,
    legacy_path,
    link_path,
    state_path,
    without,
)
from support.hypeman_reader import Reader
from support.interruptions import Between, killed_when, when
from support.memory_filesystem import Call, MemoryFilesystem

A = "docker.io/library/alpine"
B = "ghcr.io/kernel/base"
C = "quay.io/tools/c"
D, E = digest("d"), digest("e")

CONTENT_D = content_path("d")
MOMENTS = ["before its links go", "after its links have gone", "after a crash"]
"""When something comes: between the rename of the content and all that follows, before anything is erased."""


@pytest.fixture
def host(filesystem: MemoryFilesystem, clock: FakeClock) -> Host:
    return Host(filesystem, clock)


def make_promoted(host: Host) -> Files:
    """Make a promoted image of one repository, due."""
    host.content("d", name=f"{A}:1")
    host.legacy(A, "d", linked=True)
    host.legacy_link(A, "1", "d")
    host.link(A, "1", "d")
    host.state(A, "d")
    return host.files()


def make_unit(host: Host) -> Files:
    """Make content of two repositories, both due."""
    host.content("d", name=f"{A}:1", files={"manifest.json": b"{}"})
    for repository in (A, B):
        host.link(repository, "1", "d")
        host.state(repository, "d")
    return host.files()


def states(*repositories: str) -> list[str]:
    return [state_path(repository, "d") for repository in repositories]


async def sweep_with(host: Host, moment: str, act: Callable[[Host], object]) -> Host:
    """Sweep a unit of A and B, and have something happen at a moment; returns the host as it is afterwards."""
    links = [link_path(repository, "1") for repository in (A, B)]

    def is_gone() -> bool:
        return not host.exists(CONTENT_D)

    def is_untied() -> bool:
        return is_gone() and not any(host.exists(link) for link in links)

    if moment == "after a crash":
        dead = await killed_when(host, is_gone)
        act(dead.hypeman)
        await dead.recover()
        return dead
    interruption = when(
        host, is_gone if moment == "before its links go" else is_untied, lambda: act(host.hypeman)
    )
    await host.sweep()
    assert interruption.has_happened
    return host


# Killed.


async def test_killed_before_the_content_has_gone_the_copy_comes_back_and_nothing_has_happened(
    host: Host,
) -> None:
    before = make_promoted(host)
    was_read = Reader(host.entries())
    dead = await killed_when(
        host, lambda: not host.exists(legacy_path(A, "d")) and host.exists(f"{CONTENT_D}/metadata.json")
    )
    is_read = Reader(dead.entries())
    assert is_read.rows() == was_read.rows()
    for image in (f"{A}:1", f"{A}@{D}", f"{B}@{D}"):
        assert is_read.find(image) == was_read.find(image)
    await dead.recover()
    assert (dead.files(), dead.trash()) == (before, [])
    assert (await dead.sweep()).deleted == [(A, D)]
    assert (dead.files(), dead.trash()) == ({}, [])


async def test_killed_after_the_content_has_gone_the_start_removes_what_is_left_of_the_unit(
    host: Host,
) -> None:
    make_unit(host)
    dead = await killed_when(host, lambda: not host.exists(CONTENT_D))
    assert all(dead.exists(link_path(repository, "1")) for repository in (A, B))
    assert all(dead.exists(path) for path in states(A, B))
    assert Reader(dead.entries()).rows() == []
    await dead.recover()
    assert (dead.files(), dead.trash()) == ({}, [])


async def test_killed_after_the_content_has_gone_a_copy_that_is_still_there_follows(host: Host) -> None:
    make_promoted(host)
    dead = await killed_when(host, lambda: not host.exists(CONTENT_D))
    # As after a power cut that has lost the rename of the copy alone.
    (retired,) = [
        path.removesuffix("/metadata.json")
        for path, (_, content) in dead.entries().items()
        if path.startswith(TRASH) and path.endswith("/metadata.json") and f"{A}@{D}" in str(content)
    ]
    assert isinstance(dead.place, MemoryFilesystem)
    dead.place.move(f"{DATA}/{retired}", f"{DATA}/{legacy_path(A, 'd')}")
    await dead.recover()
    assert (dead.files(), dead.trash()) == ({}, [])


# A pull.


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_pull_of_the_digest_that_begins_after_the_content_has_gone_is_not_disturbed(
    host: Host, moment: str
) -> None:
    before = make_unit(host)

    def pull(server: Host) -> None:
        server.content("d", name=f"{A}:1", status="pending", has_disk=False)
        if moment == "after its links have gone":
            server.link(A, "1", "d")

    host = await sweep_with(host, moment, pull)
    after = host.files()
    expected = [f"{CONTENT_D}/metadata.json", link_path(A, "1")]
    if moment != "after its links have gone":
        # They lead to the new image by now.
        expected.append(link_path(B, "1"))
        assert {path: after[path] for path in expected[1:]} == {path: before[path] for path in expected[1:]}
    # A tag that went before the pull began may be back, as there is something again that it leads to.
    assert {*expected} <= {*after} <= {*expected, link_path(B, "1")}
    assert host.trash() == []
    assert (await host.sweep()).reasons[A, D] is Reason.NOT_READY
    assert host.files() == after


# A tag call: it sets its link, and then writes the metadata that it read before.


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_tag_call_that_comes_too_late_gets_the_image_back_whole(host: Host, moment: str) -> None:
    before = make_unit(host)
    metadata = before[f"{CONTENT_D}/metadata.json"][1]
    assert isinstance(metadata, bytes)

    def tag(server: Host) -> None:
        server.link(A, "mine", "d")
        server.write(f"{CONTENT_D}/metadata.json", metadata)

    host = await sweep_with(host, moment, tag)
    after = host.files()
    disk, manifest = f"{CONTENT_D}/rootfs.erofs", f"{CONTENT_D}/manifest.json"
    assert {path: after[path] for path in (disk, manifest)} == {
        path: before[path] for path in (disk, manifest)
    }
    assert sorted(after) == sorted([*without(before, *states(A, B)), link_path(A, "mine")])
    read = Reader(host.entries())
    for image in (f"{A}:1", f"{B}:1", f"{A}:mine"):
        found = read.find(image)
        assert found is not None
        assert found.status == "ready"
    assert host.trash() == []
    # Its rows start anew.
    assert (await host.sweep()).report.marked_unused == 2


# A new tag.


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_repository_that_tags_the_digest_after_the_content_has_gone_gets_all_of_it_back(
    host: Host, moment: str
) -> None:
    before = make_unit(host)
    host = await sweep_with(host, moment, lambda server: server.link(C, "1", "d"))
    after = host.files()
    kept = {path: about for path, about in before.items() if path.startswith(f"{CONTENT_D}/")}
    assert {path: after.get(path) for path in kept} == kept
    assert sorted(after) == sorted([*without(before, *states(A, B)), link_path(C, "1")])
    assert {row.name for row in Reader(host.entries()).rows()} == {f"{A}:1", f"{B}:1", f"{C}:1"}
    assert host.trash() == []
    assert (await host.sweep()).report.marked_unused == 3


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_tag_that_is_set_again_after_the_content_has_gone_brings_all_of_it_back(
    host: Host, moment: str
) -> None:
    before = make_unit(host)
    host = await sweep_with(host, moment, lambda server: server.link(A, "1", "d"))
    after = host.files()
    kept = {path: about for path, about in before.items() if path.startswith(f"{CONTENT_D}/")}
    assert {path: after.get(path) for path in kept} == kept
    assert sorted(after) == sorted(without(before, *states(A, B)))
    assert {row.name for row in Reader(host.entries()).rows()} == {f"{A}:1", f"{B}:1"}
    assert host.trash() == []


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("letters", ["d", "e"])
async def test_a_tag_that_an_older_server_sets_meanwhile_leads_where_that_says_when_all_is_back(
    host: Host, moment: str, letters: str
) -> None:
    make_unit(host)

    def pull(server: Host) -> None:
        server.legacy(A, letters)
        server.legacy_link(A, "1", letters)
        server.link(C, "1", "d")

    host = await sweep_with(host, moment, pull)
    assert host.exists(f"{CONTENT_D}/rootfs.erofs")
    found = [Reader(host.entries()).find(f"{repository}:1") for repository in (A, B, C)]
    assert [row and row.digest for row in found] == [digest(letters), D, D]
    assert host.trash() == []


async def test_what_is_put_back_is_not_counted_as_deleted(host: Host) -> None:
    make_unit(host)
    interruption = when(host, lambda: not host.exists(CONTENT_D), lambda: host.hypeman.link(C, "1", "d"))
    swept = await host.sweep()
    assert interruption.has_happened
    assert (swept.deleted, swept.report.deleted_images, swept.report.deleted_bytes) == ([], 0, 0)
    assert swept.report.failed_deletes == 0


# A tag that moves, and another owner, before the images are locked.


async def test_a_tag_that_moves_between_the_scan_and_the_lock_keeps_the_unit_this_time(
    host: Host, clock: FakeClock
) -> None:
    before = make_unit(host)
    host.content("e", name=f"{A}:1")
    source = Between(lambda: host.hypeman.link(A, "1", "e"))
    async with host.opened(sources=[source]) as retention:
        assert (await host.sweep_by(retention)).deleted == []
        assert source.asked >= 2
        kept = without(before, link_path(A, "1"))
        assert {path: host.files().get(path) for path in kept} == kept
        clock.advance(timedelta(minutes=1))
        # The new owners decide: B alone, whose timer has run on.
        swept = await host.sweep_by(retention)
        assert swept.deleted == [(B, D)]
        assert not host.exists(CONTENT_D)
        assert host.exists(content_path("e"))


@pytest.mark.parametrize("how", ["a link", "a staged link", "an older link"])
async def test_an_owner_that_comes_between_the_scan_and_the_lock_keeps_the_unit(host: Host, how: str) -> None:
    before = make_unit(host)

    def tag() -> None:
        server = host.hypeman
        if how == "a link":
            server.link(C, "1", "d")
        elif how == "an older link":
            server.legacy_link(A, "2", "d")
        else:
            up = "../" * (C.count("/") + 2)
            server.symlink(f"{LINKS}/{C}/.tag-stage-7/1", f"{up}content/{hex_of('d')}")

    source = Between(tag)
    swept = await host.sweep(sources=[source])
    assert swept.deleted == []
    assert source.asked >= 2
    assert host.files().items() >= before.items()


async def test_a_timer_that_is_cleared_between_the_scan_and_the_lock_keeps_the_unit(host: Host) -> None:
    before = make_unit(host)
    cleared = state_path(B, "d")
    source = Between(lambda: host.remove(cleared))
    assert (await host.sweep(sources=[source])).deleted == []
    assert host.files() == without(before, cleared)


# The trash on another file system.


@pytest.mark.parametrize("mounted", ["system/hmret", "images", CONTENT])
async def test_hypeman_never_lists_what_is_on_its_way_out_on_another_file_system(
    host: Host, filesystem: MemoryFilesystem, mounted: str
) -> None:
    make_promoted(host)
    host.link(B, "1", "d")
    host.state(B, "d")
    filesystem.mount(f"{DATA}/{mounted}")
    listed = Reader(host.entries()).rows()
    shown: list[list[str]] = []

    def look(call: Call) -> None:
        rows = Reader(host.entries()).rows()
        if rows not in (listed, []):
            shown.append([f"{call.name} {call.path}", *map(str, rows)])

    filesystem.before = look
    swept = await host.sweep()
    assert shown == []
    assert swept.deleted == [(A, D), (B, D)]
    assert (host.files(), host.trash()) == ({}, [])
    assert [path for path in host.entries() if ".hmret" in path] == []


def hidden(host: Host) -> bool:
    return host.exists(f"{CONTENT_D}/.hmret-hidden")


async def test_killed_after_the_metadata_was_hidden_the_start_finishes_the_deletion(
    host: Host, filesystem: MemoryFilesystem
) -> None:
    make_unit(host)
    filesystem.mount(f"{DATA}/system/hmret")
    dead = await killed_when(host, lambda: hidden(host))
    assert Reader(dead.entries()).rows() == []
    await dead.recover()
    assert (dead.files(), dead.trash()) == ({}, [])
    assert [path for path in dead.entries() if ".hmret" in path] == []


async def test_a_pull_that_begins_after_the_metadata_was_hidden_goes_on_in_its_folder(
    host: Host, filesystem: MemoryFilesystem
) -> None:
    before = make_unit(host)
    filesystem.mount(f"{DATA}/system/hmret")
    interruption = when(
        host,
        lambda: hidden(host),
        lambda: host.hypeman.content("d", name=f"{A}:1", status="pending", has_disk=False),
    )
    await host.sweep()
    assert interruption.has_happened
    assert '"pending"' in str(host.files()[f"{CONTENT_D}/metadata.json"][1])
    assert [path for path in host.entries() if ".hmret" in path and not path.startswith("system")] == []
    links = [link_path(repository, "1") for repository in (A, B)]
    assert {path: host.files().get(path) for path in links} == {path: before[path] for path in links}
    assert host.trash() == []
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.NOT_READY, (B, D): Reason.NOT_READY}
    assert not any(host.exists(path) for path in states(A, B))


# How much the look for new tags costs.


async def test_only_repositories_that_have_changed_are_listed_again_before_anything_is_erased(
    host: Host, filesystem: MemoryFilesystem
) -> None:
    letters = [f"{number:02x}" for number in range(40)]
    for name in letters:
        host.content(name)
        host.link(f"ghcr.io/team/r{name}", "1", name)
    for name in letters[:3]:
        host.state(f"ghcr.io/team/r{name}", name)
    listed: list[str] = []

    def note(call: Call) -> None:
        if call.name == "scandir" and call.path.startswith(f"{DATA}/{LINKS}/ghcr.io/team/"):
            listed.append(call.path.rpartition("/")[2])

    async with host.opened() as retention:
        # The first sweep has to read everything.
        await host.sweep_by(retention)
        for name in letters[3:6]:
            host.state(f"ghcr.io/team/r{name}", name)
        filesystem.before = note
        swept = await host.sweep_by(retention)
        filesystem.before = None
    assert len(swept.deleted) == 3
    assert set(listed) <= {f"r{name}" for name in letters[:6]}
