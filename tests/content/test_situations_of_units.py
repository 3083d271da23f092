"""What goes as one: a digest that repositories share, with its older copies, their tags and their timers."""

import json
import logging
from datetime import timedelta

import pytest

from hmret import Reason, SweepStatus
from support.builders import FakeClock, digest
from support.content_trees import (
    FRESH,
    LINKS,
    Host,
    content_path,
    hex_of,
    legacy_path,
    link_path,
    without,
)
from support.hypeman_reader import Reader
from support.memory_filesystem import Call, MemoryFilesystem

A = "docker.io/library/alpine"
B = "ghcr.io/kernel/base"
C = "quay.io/tools/c"
D, E = digest("d"), digest("e")


@pytest.fixture
def host(filesystem: MemoryFilesystem, clock: FakeClock) -> Host:
    return Host(filesystem, clock)


# In today's layout alone.


async def test_a_due_image_goes_with_its_link_and_its_timer(host: Host) -> None:
    gone = host.content("d"), host.link(A, "1", "d"), host.state(A, "d")
    host.content("e")
    before = host.files()
    swept = await host.sweep()
    assert (swept.report.status, swept.deleted) == (SweepStatus.SUCCESS, [(A, D)])
    assert (swept.report.deleted_images, swept.report.deleted_bytes) == (1, 8192)
    assert swept.report.deleted[0].tags == ("1",)
    after = host.files()
    marked = [path for path in after if path not in before]
    assert {path: after[path] for path in before if path in after} == without(before, *gone)
    assert len(marked) == swept.report.marked_unused == 1
    assert host.trash() == []


async def test_two_due_repositories_of_one_digest_go_in_one_unit_and_its_bytes_count_once(host: Host) -> None:
    gone = [host.content("d")]
    for repository in (A, B):
        gone += [host.link(repository, "1", "d"), host.state(repository, "d")]
    before = host.files()
    swept = await host.sweep()
    assert swept.deleted == [(A, D), (B, D)]
    assert (swept.report.deleted_images, swept.report.deleted_bytes) == (2, 8192)
    assert sum(image.disk_bytes for image in swept.report.deleted) == 8192
    assert {verdict.reason for verdict in swept.verdicts.values()} == {Reason.EXPIRED}
    assert host.files() == without(before, *gone) == {}


async def test_a_due_repository_stays_while_another_holds_its_digest(host: Host) -> None:
    host.content("d")
    host.link(A, "1", "d")
    host.link(B, "1", "d")
    host.state(A, "d")
    host.state(B, "d", FRESH)
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.SHARED, (B, D): Reason.RETENTION_WINDOW}
    assert swept.verdicts[A, D].action == "none"
    assert swept.held_by(A, "d") == [(B, Reason.RETENTION_WINDOW)]
    assert swept.held_by(B, "d") == []
    assert (swept.verdicts[A, D].shared_with, swept.verdicts[B, D].shared_with) == ((B,), (A,))
    report = swept.report
    assert (report.deleted_images, report.marked_unused, report.cleared_states) == (0, 0, 0)
    assert host.files() == before


async def test_a_repository_that_is_not_allowed_holds_the_digest_for_one_that_is(host: Host) -> None:
    host.content("d")
    host.link(A, "1", "d")
    host.link(B, "1", "d")
    host.state(A, "d")
    cleared = host.state(B, "d")
    before = host.files()
    swept = await host.sweep(allowed=(A,))
    assert swept.reasons == {(A, D): Reason.SHARED, (B, D): Reason.NOT_ALLOWED}
    assert swept.held_by(A, "d") == [(B, Reason.NOT_ALLOWED)]
    assert host.files() == without(before, cleared)


async def test_what_no_tag_points_to_belongs_to_the_repository_of_its_name(host: Host) -> None:
    gone = host.content("d", name=f"{A}@{D}"), host.state(A, "d")
    before = host.files()
    swept = await host.sweep()
    assert (swept.reasons, swept.deleted) == ({(A, D): Reason.EXPIRED}, [(A, D)])
    assert swept.report.deleted[0].tags == ()
    assert host.files() == without(before, *gone)


async def test_a_name_makes_nobody_an_owner_where_a_tag_points_to_the_digest(host: Host) -> None:
    host.content("d", name=f"{A}:1")
    host.link(B, "1", "d")
    host.state(B, "d", FRESH)
    pruned = host.state(A, "d")
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {(B, D): Reason.RETENTION_WINDOW}
    assert swept.report.pruned_states == 1
    assert host.files() == without(before, pruned)


# With older folders.


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_timer_that_hypeman_kept_for_a_stage_that_was_left_behind_is_pruned(
    host: Host, is_there: bool
) -> None:
    host.content("d")
    host.link(A, "1", "d")
    if is_there:
        host.link(f"{A}/.tag-stage-114", "1", "d")
    before = host.files()
    pruned = host.state(f"{A}/.tag-stage-114", "d")
    swept = await host.sweep()
    assert swept.report.pruned_states == 1
    assert not host.exists(pruned)
    assert not host.exists(pruned.rpartition("/")[0])
    assert before.keys() <= host.files().keys()


async def test_an_image_of_the_older_layout_alone_goes_as_ever(host: Host) -> None:
    gone = host.legacy(A, "d"), host.legacy_link(A, "1", "d"), host.state(A, "d")
    before = host.files()
    swept = await host.sweep()
    assert (swept.deleted, swept.report.deleted_bytes) == ([(A, D)], 4096)
    assert swept.report.deleted[0].tags == ("1",)
    assert host.files() == without(before, *gone)
    assert not host.exists(f"images/{A}")


async def test_a_promoted_image_is_one_row_and_goes_with_both_folders_and_both_links(
    host: Host, filesystem: MemoryFilesystem
) -> None:
    host.content("d", name=f"{A}:1")
    host.legacy(A, "d", linked=True)
    host.legacy_link(A, "1", "d")
    host.link(A, "1", "d")
    host.state(A, "d")
    disk = host.inode(f"{content_path('d')}/rootfs.erofs")
    leased: list[int | None] = []

    def note(call: Call) -> None:
        if call.name == "take_lease":
            leased.append(filesystem.inode(call.path))

    filesystem.before = note
    swept = await host.sweep()
    assert (swept.reasons, swept.deleted) == ({(A, D): Reason.EXPIRED}, [(A, D)])
    assert (swept.report.deleted_images, swept.report.deleted_bytes) == (1, 8192)
    assert swept.report.deleted[0].tags == ("1",)
    # A second lease on the same disk would break the first.
    assert disk in leased
    assert len(leased) == len(set(leased))
    assert host.files() == {}
    assert not host.exists(f"images/{A}")


async def test_a_promoted_image_stays_whole_while_another_repository_holds_its_digest(host: Host) -> None:
    host.content("d", name=f"{A}:1")
    host.legacy(A, "d", linked=True)
    host.legacy_link(A, "1", "d")
    host.link(A, "1", "d")
    host.state(A, "d")
    host.link(B, "1", "d")
    host.state(B, "d", FRESH)
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.SHARED, (B, D): Reason.RETENTION_WINDOW}
    assert host.files() == before


async def test_an_untagged_older_folder_beside_the_content_goes_alone_and_frees_nothing_where_both_are_one_file(
    host: Host,
) -> None:
    host.content("d")
    gone = host.legacy(A, "d", linked=True), host.state(A, "d")
    host.link(B, "1", "d")
    host.state(B, "d", FRESH)
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.EXPIRED, (B, D): Reason.RETENTION_WINDOW}
    assert (swept.deleted, swept.report.deleted_bytes) == ([(A, D)], 0)
    assert host.files() == without(before, *gone)


async def test_an_older_folder_with_a_disk_of_its_own_goes_and_its_row_lives_on_in_the_content(
    host: Host,
) -> None:
    host.content("d")
    folder = host.legacy(A, "d", size_bytes=4096)
    tag, timer = host.legacy_link(A, "1", "d"), host.state(A, "d")
    host.link(B, "1", "d")
    host.state(B, "d", FRESH)
    before = host.files()
    async with host.opened() as retention:
        swept = await host.sweep_by(retention)
        assert (swept.deleted, swept.report.deleted_bytes) == ([(A, D)], 4096)
        # The tag leads to the content by now, and the timer goes on.
        assert host.files() == without(before, folder)
        assert host.files()[tag] == before[tag]
        assert host.files()[timer] == before[timer]
        swept = await host.sweep_by(retention)
        assert swept.reasons == {(A, D): Reason.SHARED, (B, D): Reason.RETENTION_WINDOW}
        assert swept.verdicts[A, D].tags == ("1",)
        assert host.files() == without(before, folder)


async def test_the_older_link_that_a_tag_shadows_goes_with_it_so_that_no_old_image_boots_again(
    host: Host,
) -> None:
    gone = host.content("e", name=f"{A}:1"), host.link(A, "1", "e"), host.state(A, "e")
    shadowed = host.legacy_link(A, "1", "d")
    host.legacy(A, "d")
    host.state(A, "d", FRESH)
    before = host.files()
    swept = await host.sweep()
    assert swept.deleted == [(A, E)]
    assert swept.reasons[A, D] is Reason.RETENTION_WINDOW
    assert host.files() == without(before, *gone, shadowed)
    assert Reader(host.entries()).find(f"{A}:1") is None


async def test_a_dangling_link_of_another_repository_neither_stops_a_deletion_nor_undoes_it(
    host: Host,
) -> None:
    gone = host.legacy(A, "d"), host.legacy_link(A, "1", "d"), host.state(A, "d")
    host.link(C, "1", "d")
    before = host.files()
    swept = await host.sweep()
    assert (swept.reasons, swept.deleted) == ({(A, D): Reason.EXPIRED}, [(A, D)])
    assert host.files() == without(before, *gone)
    assert host.trash() == []


# Links that are none, and what else lies in folders.


async def test_a_link_of_the_wrong_depth_makes_no_owner_and_stays(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    gone = host.content("d", name=f"{B}:1"), host.link(B, "1", "d"), host.state(B, "d")
    wrong = host.symlink(link_path(A, "bad"), f"../content/{hex_of('d')}")
    before = host.files()
    async with host.opened() as retention:
        swept = await host.sweep_by(retention)
        assert (swept.reasons, swept.deleted) == ({(B, D): Reason.EXPIRED}, [(B, D)])
        assert host.files() == without(before, *gone)
        await retention.sweep()
    assert len([record for record in caplog.records if wrong in record.getMessage()]) == 1


async def test_a_dangling_link_is_no_row_and_stays_and_a_reference_to_it_is_stale(host: Host) -> None:
    host.link(A, "1", "d")
    host.guest(f"{A}:1")
    before = host.files()
    swept = await host.sweep()
    assert (swept.reasons, swept.report.stale_references) == ({}, 1)
    assert host.files() == before


async def test_what_is_left_of_a_staged_tag_is_neither_tag_nor_owner_and_stays(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    gone = host.content("d", name=f"{A}@{D}"), host.state(A, "d")
    staged = host.symlink(
        f"{LINKS}/{A}/.tag-stage-9/v9", f"{'../' * (A.count('/') + 2)}content/{hex_of('d')}"
    )
    for path in (staged, f"{LINKS}/{A}/.tag-stage-9"):
        host.age_to(path, timedelta(hours=1))
    before = host.files()
    swept = await host.sweep()
    assert (swept.reasons, swept.deleted) == ({(A, D): Reason.EXPIRED}, [(A, D)])
    assert host.files() == without(before, *gone)
    assert any(".tag-stage-9" in record.getMessage() for record in caplog.records)


async def test_a_file_that_a_later_release_adds_goes_with_the_image(host: Host) -> None:
    gone = host.content("d", files={"sbom.json": b"{}"}), host.link(A, "1", "d"), host.state(A, "d")
    before = host.files()
    assert (await host.sweep()).deleted == [(A, D)]
    assert host.files() == without(before, *gone)


@pytest.mark.parametrize("what", ["a link", "a folder"])
async def test_a_link_or_a_folder_within_the_folder_of_an_image_keeps_all_of_it_and_is_named(
    host: Host, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    caplog.set_level(logging.INFO, logger="hmret")
    path = host.content("d", files={"sbom.json": b"{}"})
    host.link(A, "1", "d")
    if what == "a link":
        host.symlink(f"{path}/web-tag", f"../{hex_of('e')}")
    else:
        host.folder(f"{path}/web-tag")
    cleared = host.state(A, "d")
    before = host.files()
    swept = await host.sweep()
    assert (swept.deleted, swept.report.failed_deletes) == ([], 0)
    # It is seen with the image, or at the last look before the deletion.
    assert swept.reasons[A, D] in (Reason.BROKEN, Reason.EXPIRED)
    told = [record.getMessage() for record in caplog.records]
    verdict = swept.verdicts[A, D]
    assert any("web-tag" in text for text in (str(verdict.broken), str(verdict.detail), *told))
    assert host.files() == without(before, cleared)
    assert host.exists(f"{path}/web-tag")


# Folders that are left empty.


async def test_an_empty_folder_of_tags_stays_for_ten_minutes_in_which_a_pull_may_need_it(
    host: Host, clock: FakeClock
) -> None:
    host.content("d")
    host.link(A, "1", "d")
    host.state(A, "d")
    async with host.opened() as retention:
        assert (await host.sweep_by(retention)).deleted == [(A, D)]
        assert host.exists(f"{LINKS}/{A}")
        clock.advance(timedelta(minutes=9))
        await retention.sweep()
        assert host.exists(f"{LINKS}/{A}")
        clock.advance(timedelta(minutes=2))
        await retention.sweep()
        assert not host.exists(f"{LINKS}/{A}")
        assert host.exists(LINKS)


async def test_an_empty_folder_of_tags_in_which_a_pull_has_begun_stays(host: Host, clock: FakeClock) -> None:
    host.content("d")
    host.link(A, "1", "d")
    host.state(A, "d")
    async with host.opened() as retention:
        await retention.sweep()
        clock.advance(timedelta(minutes=9))
        staging = host.hypeman.folder(f"{LINKS}/{A}/.tag-stage-1")
        clock.advance(timedelta(minutes=2))
        await retention.sweep()
        assert host.exists(staging)


# How many go.


async def test_limits_count_units_and_the_youngest_timer_of_each_decides_which_go_first(host: Host) -> None:
    repositories = [f"ghcr.io/team/r{number}" for number in range(4)]
    # By the oldest timers d would be the first; by the youngest it is the last.
    ages = {"d": (59, 58, 57, 41), "e": (52, 53, 54, 55), "f": (50, 51, 56, 56)}
    for letters, days in ages.items():
        host.content(letters)
        for repository, day in zip(repositories, days, strict=True):
            host.link(repository, f"v{letters}", letters)
            host.state(repository, letters, timedelta(days=day))
    before = host.files()
    swept = await host.sweep(max_deletes_per_sweep=2)
    assert swept.report.deleted_images == 8
    assert {key[1] for key in swept.deleted} == {digest("e"), digest("f")}
    assert {swept.reasons[repository, D] for repository in repositories} == {Reason.DEFERRED}
    left = [content_path("d")]
    for repository in repositories:
        left += [link_path(repository, "vd"), f"system/image-retention/{repository}/{hex_of('d')}.json"]
    assert host.files() == {
        path: about
        for path, about in before.items()
        if any(path == one or path.startswith(f"{one}/") for one in left)
    }


async def test_metadata_says_what_a_row_is_and_an_older_copy_has_its_own(host: Host) -> None:
    path = host.content("d", status="failed", has_disk=False)
    host.link(B, "1", "d")
    gone = host.legacy(A, "d"), host.legacy_link(A, "1", "d"), host.state(A, "d")
    before = host.files()
    swept = await host.sweep()
    # What failed stays, and its repository with it; the older image is judged by itself.
    assert swept.reasons == {(A, D): Reason.EXPIRED, (B, D): Reason.NOT_READY}
    assert json.loads(before[f"{path}/metadata.json"][1])["status"] == "failed"
    # The failed content is there still, so the tag stays with it.
    assert host.files() == without(before, gone[0], gone[2]) | {gone[1]: before[gone[1]]}
    assert not host.exists(legacy_path(A, "d"))
