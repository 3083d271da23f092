"""More of what can own a digest, hold it, or lie beside it."""

import errno
from datetime import timedelta

import pytest

from hmret import Cause, Reason, SweepStatus
from support.builders import DATA, FakeClock, digest
from support.content_trees import (
    CONTENT,
    FRESH,
    LINKS,
    Host,
    content_path,
    hex_of,
    legacy_link_path,
    link_path,
    without,
)
from support.hypeman_reader import Reader
from support.memory_filesystem import MemoryFilesystem

A = "docker.io/library/alpine"
B = "ghcr.io/kernel/base"
C = "quay.io/tools/c"
D, E = digest("d"), digest("e")
HOUR = timedelta(hours=1)


@pytest.fixture
def host(filesystem: MemoryFilesystem, clock: FakeClock) -> Host:
    return Host(filesystem, clock)


# Owners.


async def test_three_due_owners_go_in_one_unit(host: Host) -> None:
    host.content("d")
    for repository in (A, B, C):
        host.link(repository, "1", "d")
        host.link(repository, "2", "d")
        host.state(repository, "d")
    swept = await host.sweep()
    assert swept.deleted == [(A, D), (B, D), (C, D)]
    assert {image.tags for image in swept.report.deleted} == {("1", "2")}
    assert swept.report.deleted_bytes == 8192
    assert host.files() == {}


async def test_of_three_owners_one_that_is_not_due_holds_the_digest_for_the_others(host: Host) -> None:
    host.content("d")
    for repository, unused_for in ((A, None), (B, FRESH), (C, None)):
        host.link(repository, "1", "d")
        host.state(repository, "d", *([] if unused_for is None else [unused_for]))
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {
        (A, D): Reason.SHARED,
        (B, D): Reason.RETENTION_WINDOW,
        (C, D): Reason.SHARED,
    }
    assert swept.held_by(A, "d") == swept.held_by(C, "d") == [(B, Reason.RETENTION_WINDOW)]
    assert swept.verdicts[C, D].shared_with == (A, B)
    assert host.files() == before


async def test_all_that_hold_a_digest_are_named(host: Host) -> None:
    host.content("d")
    for repository in (A, B, C):
        host.link(repository, "1", "d")
    host.state(A, "d")
    host.state(C, "d", FRESH)
    swept = await host.sweep()
    assert swept.held_by(A, "d") == [(B, Reason.NEWLY_UNUSED), (C, Reason.RETENTION_WINDOW)]
    assert swept.report.marked_unused == 1


async def test_an_older_link_without_a_folder_makes_an_owner(host: Host) -> None:
    gone = host.content("d"), host.legacy_link(A, "1", "d"), host.state(A, "d")
    before = host.files()
    swept = await host.sweep()
    assert (swept.deleted, swept.report.deleted[0].tags) == ([(A, D)], ("1",))
    assert host.files() == without(before, *gone)


@pytest.mark.parametrize("target", ["bare", "path"])
@pytest.mark.parametrize("layout", ["today's", "older"])
async def test_both_forms_of_a_link_are_tags_in_both_layouts(host: Host, layout: str, target: str) -> None:
    link, depth = (link_path(A, "1"), 4) if layout == "today's" else (legacy_link_path(A, "1"), 3)
    host.content("d", name=f"{C}:1")
    host.symlink(link, hex_of("d") if target == "bare" else f"{'../' * depth}content/{hex_of('d')}")
    host.state(A, "d")
    swept = await host.sweep()
    assert (swept.deleted, swept.report.deleted[0].tags) == ([(A, D)], ("1",))
    assert host.files() == {}


@pytest.mark.parametrize(
    "target",
    [
        f"{DATA}/{content_path('d')}",
        f"../../../../../content/{hex_of('d')}",
        f"../../../../content/{hex_of('d')[:-1]}",
        f"../../../../other/{hex_of('d')}",
        "latest",
    ],
)
async def test_links_of_any_other_form_are_no_tags_and_stay(host: Host, target: str) -> None:
    gone = host.content("d", name=f"{B}@{D}"), host.state(B, "d")
    host.symlink(link_path(A, "1"), target)
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {(B, D): Reason.EXPIRED}
    assert host.files() == without(before, *gone)


async def test_a_folder_where_a_tag_should_be_shadows_the_older_tag_and_stays(host: Host) -> None:
    gone = host.content("d", name=f"{B}@{D}"), host.state(B, "d")
    host.write(f"{link_path(A, '1')}/within", b"")
    host.legacy_link(A, "1", "d")
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {(B, D): Reason.EXPIRED}
    assert host.files() == without(before, *gone)
    assert host.exists(f"{link_path(A, '1')}/within")


async def test_an_older_tag_that_is_shadowed_makes_no_owner_and_stays(host: Host) -> None:
    gone = host.content("d"), host.link(A, "1", "d"), host.state(A, "d")
    host.content("e")
    host.link(B, "1", "e")
    host.state(B, "e", FRESH)
    host.legacy_link(B, "1", "d")
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.EXPIRED, (B, E): Reason.RETENTION_WINDOW}
    assert host.files() == without(before, *gone)


async def test_a_tag_may_look_like_a_digest(host: Host) -> None:
    host.content("d", name=f"{C}:1")
    host.link(A, hex_of("e"), "d")
    host.state(A, "d")
    swept = await host.sweep()
    assert (swept.deleted, swept.report.deleted[0].tags) == ([(A, D)], (hex_of("e"),))
    assert host.files() == {}


@pytest.mark.parametrize("name", ["", "No Reference", "/", "e" * 64])
async def test_content_without_tags_whose_name_is_no_reference_belongs_to_nobody_and_stays(
    host: Host, name: str
) -> None:
    host.content("d", name=name)
    before = host.files()
    swept = await host.sweep()
    assert (swept.reasons, swept.report.status) == ({}, SweepStatus.SUCCESS)
    assert host.files() == before


async def test_a_digest_whose_tag_has_moved_on_belongs_to_the_repository_of_its_name(host: Host) -> None:
    gone = host.content("d", name=f"{A}:latest"), host.state(A, "d")
    host.content("e", name=f"{A}:latest")
    host.link(A, "latest", "e")
    host.state(A, "e", FRESH)
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.EXPIRED, (A, E): Reason.RETENTION_WINDOW}
    assert host.files() == without(before, *gone)


# Copies.


async def test_the_copies_of_two_owners_go_with_the_content_and_one_file_counts_once(host: Host) -> None:
    host.content("d")
    for repository in (A, B):
        host.legacy(repository, "d", linked=True)
        host.legacy_link(repository, "1", "d")
        host.link(repository, "1", "d")
        host.state(repository, "d")
    swept = await host.sweep()
    assert swept.deleted == [(A, D), (B, D)]
    assert swept.report.deleted_bytes == 8192
    assert host.files() == {}


async def test_a_copy_of_an_owner_with_a_disk_of_its_own_counts_beside_the_content(host: Host) -> None:
    host.content("d", name=f"{A}:1")
    host.link(A, "1", "d")
    host.legacy(A, "d", size_bytes=4096)
    host.state(A, "d")
    swept = await host.sweep()
    assert (swept.deleted, swept.report.deleted_bytes) == ([(A, D)], 12288)
    assert host.files() == {}


async def test_a_copy_of_another_repository_outlives_the_content_and_keeps_its_tag(host: Host) -> None:
    gone = host.content("d"), host.link(A, "1", "d"), host.state(A, "d")
    host.legacy(B, "d", linked=True)
    host.legacy_link(B, "1", "d")
    host.state(B, "d", FRESH)
    before, was_read = host.files(), Reader(host.entries())
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.EXPIRED, (B, D): Reason.RETENTION_WINDOW}
    # The disk has a link left.
    assert (swept.deleted, swept.report.deleted_bytes) == ([(A, D)], 0)
    assert host.files() == without(before, *gone)
    read = Reader(host.entries())
    for image in (f"{B}:1", f"{B}@{D}"):
        assert read.find(image) == was_read.find(image) is not None


async def test_content_goes_before_the_copies_of_others_so_that_their_tags_go_with_them(host: Host) -> None:
    host.content("d")
    host.link(B, "1", "d")
    host.state(B, "d")
    host.legacy(A, "d")
    host.legacy_link(A, "1", "d")
    host.state(A, "d")
    swept = await host.sweep()
    assert swept.deleted == [(A, D), (B, D)]
    assert swept.report.deleted_bytes == 8192 + 4096
    assert (host.files(), host.trash()) == ({}, [])


@pytest.mark.parametrize("wrong", ["no disk", "another digest", "another repository", "failed"])
async def test_what_is_no_copy_belongs_to_no_unit_and_stays(host: Host, wrong: str) -> None:
    gone = host.content("d", name=f"{A}:1"), host.link(A, "1", "d")
    metadata = {"another digest": {"digest": E}, "another repository": {"name": f"{B}:1"}}.get(wrong, {})
    host.legacy(
        A,
        "d",
        has_disk=wrong != "no disk",
        status="failed" if wrong == "failed" else "ready",
        metadata=metadata,
    )
    host.state(A, "d")
    before = host.files()
    swept = await host.sweep()
    if (A, D) in swept.deleted:
        assert not any(path.startswith(gone[0]) for path in host.files())
    stays = {path: about for path, about in before.items() if path.startswith(f"images/{A}/{hex_of('d')}/")}
    assert stays
    assert {path: host.files().get(path) for path in stays} == stays


# Content that is not ready.


@pytest.mark.parametrize("status", ["pending", "pulling", "converting"])
async def test_no_copy_of_a_digest_goes_while_its_content_is_being_made(host: Host, status: str) -> None:
    host.content("d", status=status, has_disk=False)
    cleared = []
    for repository in (A, B):
        host.legacy(repository, "d")
        host.legacy_link(repository, "1", "d")
        cleared.append(host.state(repository, "d"))
    before = host.files()
    swept = await host.sweep()
    assert {swept.reasons[repository, D] for repository in (A, B)} == {Reason.NOT_READY}
    assert host.files() == without(before, *cleared)


async def test_no_copy_goes_while_content_may_be_about_to_begin(host: Host) -> None:
    host.hypeman.folder(content_path("d"))
    host.legacy(A, "d")
    host.legacy_link(A, "1", "d")
    cleared = host.state(A, "d")
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.NOT_READY}
    assert host.files() == without(before, cleared)


@pytest.mark.parametrize("metadata", [None, b"{", b"[]", b""])
async def test_a_copy_goes_by_itself_where_content_was_begun_long_ago_and_says_nothing(
    host: Host, metadata: bytes | None
) -> None:
    host.folder(content_path("d"))
    if metadata is not None:
        host.write(f"{content_path('d')}/metadata.json", metadata)
    gone = host.legacy(A, "d"), host.state(A, "d")
    tag = host.legacy_link(A, "1", "d")
    before = host.files()
    swept = await host.sweep()
    assert swept.deleted == [(A, D)]
    # As long as there is metadata, however wrong, the tag leads to it.
    left = host.files() if metadata is not None else host.files() | {tag: before[tag]}
    assert left == without(before, *gone)
    assert host.exists(content_path("d"))


async def test_metadata_that_cannot_be_read_makes_all_rows_of_the_digest_broken(
    host: Host, filesystem: MemoryFilesystem
) -> None:
    path = host.content("d")
    host.link(B, "1", "d")
    host.legacy(A, "d")
    host.legacy_link(A, "1", "d")
    for repository in (A, B):
        host.state(repository, "d")
    before = host.files()
    filesystem.deny(f"{DATA}/{path}/metadata.json", errno.EIO)
    swept = await host.sweep()
    filesystem.allow(f"{DATA}/{path}/metadata.json")
    assert swept.reasons == {(A, D): Reason.BROKEN, (B, D): Reason.BROKEN}
    assert swept.deleted == []
    images = {path: about for path, about in before.items() if path.startswith("images/")}
    assert {path: about for path, about in host.files().items() if path.startswith("images/")} == images


async def test_content_whose_metadata_names_another_digest_is_broken(host: Host) -> None:
    host.content("d", metadata={"digest": E})
    host.link(A, "1", "d")
    cleared = host.state(A, "d")
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.BROKEN}
    assert host.files() == without(before, cleared)


async def test_a_whole_copy_behind_content_without_a_disk_is_broken_as_hypeman_does_not_see_it(
    host: Host,
) -> None:
    host.content("d", name=f"{A}:1", has_disk=False)
    host.legacy(A, "d")
    host.legacy_link(A, "1", "d")
    cleared = host.state(A, "d")
    before = host.files()
    assert Reader(host.entries()).find(f"{A}:1") is None
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.BROKEN}
    assert host.files() == without(before, cleared)


@pytest.mark.parametrize("age", [timedelta(minutes=5), 2 * HOUR])
async def test_the_staging_folder_of_a_pull_goes_along_once_it_is_old(host: Host, age: timedelta) -> None:
    path = host.content("d", name=f"{A}:1")
    host.link(A, "1", "d")
    host.state(A, "d")
    staging = host.write(f"{path}/.install-42/rootfs.erofs", b"half").rpartition("/")[0]
    for inside in (f"{staging}/rootfs.erofs", staging):
        host.age_to(inside, age)
    images = {path: about for path, about in host.files().items() if path.startswith("images/")}
    swept = await host.sweep()
    if age > HOUR:
        assert swept.deleted == [(A, D)]
        assert host.files() == {}
    else:
        assert swept.deleted == []
        assert {path: about for path, about in host.files().items() if path.startswith("images/")} == images


# Folders that hide what is in them.


@pytest.mark.parametrize("folder", [CONTENT, LINKS])
@pytest.mark.parametrize("what", ["a link", "a file"])
async def test_a_layout_that_is_hidden_by_a_link_or_a_file_suspends_deletion_and_costs_no_timer(
    host: Host, filesystem: MemoryFilesystem, folder: str, what: str
) -> None:
    host.content("d")
    host.link(A, "1", "d")
    host.state(A, "d")
    host.legacy(B, "e")
    host.legacy_link(B, "1", "e")
    host.state(B, "e")
    filesystem.move(f"{DATA}/{folder}", f"{DATA}/elsewhere")
    if what == "a link":
        host.symlink(folder, "../elsewhere")
    else:
        host.write(folder, b"")
    before = host.files()
    swept = await host.sweep()
    assert swept.report.status is SweepStatus.SUSPENDED
    (suspension,) = swept.report.suspended
    assert suspension.cause is Cause.UNREADABLE_CACHE
    assert suspension.path.endswith(folder)
    assert "bind mount" in suspension.detail
    assert (swept.deleted, swept.report.pruned_states) == ([], 0)
    assert host.files().items() >= before.items()


@pytest.mark.parametrize(
    ("last", "place"), [("app", "elsewhere"), ("5" * 64, "elsewhere"), ("5" * 64, "5" * 64)]
)
async def test_a_repository_whose_tags_are_behind_a_link_suspends_deletion_whatever_its_name(
    host: Host, filesystem: MemoryFilesystem, last: str, place: str
) -> None:
    moved = f"docker.io/library/{last}"
    host.content("d")
    host.link(A, "1", "d")
    host.state(A, "d")
    host.link(moved, "2", "d")
    host.guest(f"{moved}:2")
    filesystem.move(f"{DATA}/{LINKS}/{moved}", f"{DATA}/{place}")
    host.symlink(f"{LINKS}/{moved}", f"../../../../{place}")
    swept = await host.sweep()
    assert swept.deleted == []
    (suspension,) = swept.report.suspended
    assert suspension.cause is Cause.UNREADABLE_CACHE
    assert suspension.path.endswith(moved)


async def test_a_plan_changes_nothing_of_a_mixed_tree(host: Host, filesystem: MemoryFilesystem) -> None:
    host.content("d", name=f"{A}:1")
    host.legacy(A, "d", linked=True)
    for repository in (A, B):
        host.legacy_link(repository, "1", "d")
        host.link(repository, "1", "d")
        host.state(repository, "d")
    host.content("e", status="pulling", has_disk=False)
    host.link(C, "2", "e")
    async with host.opened() as retention:
        was = filesystem.snapshot(f"{DATA}/images"), filesystem.snapshot(f"{DATA}/system/image-retention")
        made = await retention.plan()
        assert made.summary.delete == 2
        assert made.summary.delete_bytes == 8192
        assert was == (
            filesystem.snapshot(f"{DATA}/images"),
            filesystem.snapshot(f"{DATA}/system/image-retention"),
        )
