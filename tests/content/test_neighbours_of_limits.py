"""Shared digests under rules, limits, the brake, pressure, backoff and quarantine: what is counted, and what holds."""

import errno
from datetime import timedelta
from typing import Any

import pytest

import hmret
from hmret import DeletionWindow, DiskLimits, Reason, Rule
from support.builders import DATA, FakeClock, digest
from support.content_trees import (
    FRESH,
    Files,
    Host,
    content_path,
    legacy_path,
    link_path,
    state_path,
    without,
)
from support.memory_filesystem import MemoryFilesystem

A = "docker.io/library/alpine"
B = "ghcr.io/kernel/base"
C = "quay.io/tools/c"
OWNERS = (A, B, C)
D, E, F = digest("d"), digest("e"), digest("f")
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
MIB = 1 << 20


@pytest.fixture
def host(filesystem: MemoryFilesystem, clock: FakeClock) -> Host:
    return Host(filesystem, clock)


def make_unit(
    host: Host,
    letters: str,
    owners: tuple[str, ...] = (A, B),
    *,
    days: int = 40,
    size_bytes: int = 8192,
) -> None:
    """Make content of some repositories, each with a tag of the digest's name, all unused for so many days."""
    host.content(letters, name=f"{owners[0]}:v{letters}", size_bytes=size_bytes)
    for repository in owners:
        host.link(repository, f"v{letters}", letters)
        host.state(repository, letters, timedelta(days=days))


def images(files: Files) -> Files:
    return {path: about for path, about in files.items() if path.startswith("images/")}


# Rules of one owner hold the digest for all.


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"pinned": (B,)}, Reason.PINNED),
        ({"rules": (Rule(match=(B,), unused_for="never"),)}, Reason.KEPT_BY_RULE),
        ({"rules": (Rule(match=(B,), unused_for=timedelta(days=90)),)}, Reason.RETENTION_WINDOW),
        ({"rules": (Rule(match=(B,), keep_latest=1),)}, Reason.LATEST),
    ],
)
async def test_a_rule_that_keeps_the_image_of_one_owner_keeps_it_for_all(
    host: Host, settings: dict[str, Any], reason: Reason
) -> None:
    make_unit(host, "d")
    before = host.files()
    swept = await host.sweep(**settings)
    assert swept.reasons == {(A, D): Reason.SHARED, (B, D): reason}
    assert swept.held_by(A, "d") == [(B, reason)]
    assert images(host.files()) == images(before)
    assert host.exists(state_path(A, "d"))


async def test_rows_that_are_too_young_stay_and_go_together_once_they_are_old_enough(host: Host) -> None:
    make_unit(host, "d")
    swept = await host.sweep(min_age=timedelta(days=90))
    assert set(swept.reasons.values()) == {Reason.TOO_YOUNG}
    assert (await host.sweep(min_age=timedelta(days=50))).deleted == [(A, D), (B, D)]


async def test_an_older_image_goes_although_the_newest_of_its_repository_is_shared(host: Host) -> None:
    make_unit(host, "d", (A,))
    host.age -= DAY
    make_unit(host, "e", (A, B))
    swept = await host.sweep(rules=(Rule(match=(A,), keep_latest=1),))
    assert swept.reasons == {(A, D): Reason.EXPIRED, (A, E): Reason.LATEST, (B, E): Reason.SHARED}
    assert swept.deleted == [(A, D)]


# What concerns the whole host stops all rows of a unit.


@pytest.mark.parametrize("cause", ["a guest that cannot be read", "a closed window"])
async def test_what_stops_deletion_everywhere_stops_all_rows(host: Host, cause: str) -> None:
    make_unit(host, "d")
    settings: dict[str, Any] = {}
    reason = Reason.SUSPENDED
    if cause == "a closed window":
        # The clock of these tests stands at 20:26 UTC.
        settings = {"window": DeletionWindow(hours=("02:00-03:00",), time_zone="UTC")}
        reason = Reason.OUTSIDE_WINDOW
    else:
        host.guest("No Reference")
    before = host.files()
    swept = await host.sweep(**settings)
    assert swept.reasons == {(A, D): reason, (B, D): reason}
    assert host.files() == before


# Counts and bytes.


async def test_a_limit_of_bytes_counts_the_bytes_of_a_unit_once(host: Host) -> None:
    for letters, days in (("d", 50), ("e", 45), ("f", 40)):
        make_unit(host, letters, OWNERS, days=days)
    swept = await host.sweep(max_bytes_per_sweep=2 * 8192)
    assert {key[1] for key in swept.deleted} == {D, E}
    assert (swept.report.deleted_images, swept.report.deleted_bytes) == (6, 2 * 8192)
    assert {swept.reasons[repository, F] for repository in OWNERS} == {Reason.DEFERRED}


async def test_a_unit_that_stays_takes_no_place_among_those_that_may_go(host: Host) -> None:
    make_unit(host, "d", days=60)
    host.state(B, "d", FRESH)
    make_unit(host, "e", days=50)
    swept = await host.sweep(max_deletes_per_sweep=1)
    assert swept.deleted == [(A, E), (B, E)]
    assert swept.reasons[A, D] is Reason.SHARED


async def test_the_brake_counts_units(host: Host) -> None:
    # Four rows, two units: fewer than it takes.
    make_unit(host, "d")
    make_unit(host, "e")
    settings: dict[str, Any] = {"brake": 0.5, "brake_min_images": 3, "brake_for": HOUR}
    assert (await host.sweep(**settings)).report.deleted_images == 4


async def test_the_brake_holds_all_rows_of_all_units(host: Host, clock: FakeClock) -> None:
    for letters in "def":
        make_unit(host, letters)
    before = host.files()
    settings: dict[str, Any] = {"brake": 0.5, "brake_min_images": 3, "brake_for": HOUR}
    async with host.opened(**settings) as retention:
        swept = await host.sweep_by(retention)
        assert set(swept.reasons.values()) == {Reason.BRAKE}
        assert host.files() == before
        clock.advance(HOUR)
        assert (await retention.sweep()).deleted_images == 6


async def test_a_deletion_that_fails_undoes_the_renames_of_copies_and_backs_off_for_all_rows(
    host: Host, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    make_unit(host, "d")
    host.legacy(A, "d", linked=True)
    host.legacy_link(A, "vd", "d")
    make_unit(host, "e")
    before = host.files()
    filesystem.deny(f"{DATA}/{content_path('d')}", errno.EIO, call="rename")
    async with host.opened() as retention:
        swept = await host.sweep_by(retention)
        assert swept.deleted == [(A, E), (B, E)]
        assert swept.report.failed_deletes > 0
        assert {error.digest for error in swept.report.errors} == {D}
        gone = [content_path("e"), *(link_path(one, "ve") for one in (A, B))]
        left = without(before, *gone, *(state_path(one, "e") for one in (A, B)))
        assert (host.files(), host.trash()) == (left, [])
        swept = await host.sweep_by(retention)
        assert swept.reasons == {(A, D): Reason.BACKOFF, (B, D): Reason.BACKOFF}
        filesystem.allow(f"{DATA}/{content_path('d')}")
        clock.advance(2 * MINUTE)
        assert (await host.sweep_by(retention)).deleted == [(A, D), (B, D)]
    assert host.files() == {}


async def test_a_copy_that_cannot_be_renamed_keeps_the_whole_unit(
    host: Host, filesystem: MemoryFilesystem
) -> None:
    make_unit(host, "d")
    host.legacy(A, "d", linked=True)
    before = host.files()
    filesystem.deny(f"{DATA}/{legacy_path(A, 'd')}", errno.EIO, call="rename")
    swept = await host.sweep()
    assert (swept.deleted, swept.report.failed_deletes > 0) == ([], True)
    assert (host.files(), host.trash()) == (before, [])


# Pressure.


def press(filesystem: MemoryFilesystem) -> dict[str, Any]:
    filesystem.capacity_bytes = 10 * MIB
    return {"disk": DiskLimits(high_watermark=0.8, low_watermark=0.6)}


async def test_under_pressure_units_go_early_and_their_bytes_count_once(
    host: Host, filesystem: MemoryFilesystem
) -> None:
    for number, letters in enumerate("abcdef012"):
        make_unit(host, letters, OWNERS, days=20 - number, size_bytes=MIB)
    swept = await host.sweep(**press(filesystem))
    # Nine of ten are in use, and six may be; what else lies there takes a little of that.
    assert {key[1] for key in swept.deleted} == {digest(letters) for letters in "abcd"}
    assert (swept.report.deleted_images, swept.report.deleted_bytes) == (12, 4 * MIB)
    reasons = {swept.reasons[repository, digest("a")] for repository in OWNERS}
    assert reasons == {Reason.DISK_PRESSURE}


async def test_pressure_takes_nothing_that_one_owner_has_used_just_now(
    host: Host, filesystem: MemoryFilesystem
) -> None:
    for number, letters in enumerate("abcdef012"):
        make_unit(host, letters, days=20 - number, size_bytes=MIB)
    host.state(B, "a", MINUTE)
    swept = await host.sweep(**press(filesystem))
    assert {key[1] for key in swept.deleted} == {digest(letters) for letters in "bcde"}
    assert host.exists(content_path("a"))


# Quarantine.


def make_promoted(host: Host) -> Files:
    make_unit(host, "d")
    host.legacy(A, "d", linked=True)
    host.legacy_link(A, "vd", "d")
    return host.files()


@pytest.mark.parametrize("image", [f"{A}@{D}", f"{B}@{D}", f"{A}:vd", f"{B}:vd"])
async def test_a_unit_comes_back_from_quarantine_with_all_its_copies_tags_and_owners(
    host: Host, image: str
) -> None:
    before = make_promoted(host)
    async with host.opened(quarantine=DAY) as retention:
        swept = await host.sweep_by(retention)
        assert swept.deleted == [(A, D), (B, D)]
        assert (swept.report.deleted_bytes, swept.report.quarantined_bytes) == (0, 8192)
        assert host.files() == {}
        assert {one.digest for one in retention.quarantined()} == {D}
        restored = await retention.restore(image)
        assert (restored.digest, restored.taken_tags) == (D, ())
        assert retention.quarantined() == ()
        after = images(host.files())
        assert set(after) == set(images(before))
        for path, about in images(before).items():
            # Links are made again; everything else is the same file.
            assert after[path][:2] == about[:2]
            assert about[0] == "link" or after[path] == about
        # A full window for every row.
        swept = await host.sweep_by(retention)
        assert swept.deleted == []
        assert set(swept.reasons.values()) <= {Reason.NEWLY_UNUSED, Reason.RETENTION_WINDOW}
    assert host.trash() == []


async def test_a_tag_that_was_taken_meanwhile_stays_with_the_other_image(host: Host) -> None:
    make_unit(host, "d")
    async with host.opened(quarantine=DAY) as retention:
        await retention.sweep()
        host.hypeman.content("e", name=f"{A}:vd")
        taken = host.hypeman.link(A, "vd", "e")
        was = host.files()[taken]
        restored = await retention.restore(f"{B}:vd")
        assert host.files()[taken] == was
        assert host.exists(link_path(B, "vd"))
        assert (await retention.mark_used(f"{B}:vd")).digest == D
        assert (await retention.mark_used(f"{A}:vd")).digest == E
        assert restored.digest == D


async def test_a_unit_whose_digest_was_pulled_again_does_not_come_back_over_it(host: Host) -> None:
    make_unit(host, "d")
    async with host.opened(quarantine=DAY) as retention:
        await retention.sweep()
        host.hypeman.content("d", name=f"{A}:vd")
        host.hypeman.link(A, "vd", "d")
        before = host.files()
        with pytest.raises(hmret.ImageExistsError):
            await retention.restore(f"{A}@{D}")
        assert host.files() == before


async def test_a_unit_that_was_held_for_long_enough_goes_for_good_and_counts_once(
    host: Host, clock: FakeClock
) -> None:
    make_promoted(host)
    async with host.opened(quarantine=DAY) as retention:
        await retention.sweep()
        clock.advance(DAY + MINUTE)
        report = await retention.sweep()
        assert report.released_bytes == 8192
        assert (retention.quarantined(), host.trash()) == ((), [])


async def test_a_unit_in_quarantine_outlasts_the_engine(host: Host) -> None:
    before = make_promoted(host)
    async with host.opened(quarantine=DAY) as retention:
        await retention.sweep()
    async with host.opened(quarantine=DAY) as retention:
        await retention.restore(f"{B}@{D}")
    assert set(images(host.files())) == set(images(before))


async def test_a_new_tag_before_the_end_of_the_batch_takes_a_unit_out_of_quarantine(
    host: Host, filesystem: MemoryFilesystem
) -> None:
    before = make_promoted(host)

    def look(call: object) -> None:
        if not host.exists(content_path("d")):
            filesystem.before = None
            host.hypeman.link(C, "1", "d")

    filesystem.before = look
    async with host.opened(quarantine=DAY) as retention:
        await retention.sweep()
        assert retention.quarantined() == ()
    assert images(host.files()).keys() == {*images(before), link_path(C, "1")}


@pytest.mark.parametrize("mounted", ["system/hmret", "images/content"])
async def test_a_unit_comes_back_from_quarantine_on_another_file_system(
    host: Host, filesystem: MemoryFilesystem, mounted: str
) -> None:
    make_unit(host, "d")
    before = host.files()
    filesystem.mount(f"{DATA}/{mounted}")
    async with host.opened(quarantine=DAY) as retention:
        assert (await host.sweep_by(retention)).deleted == [(A, D), (B, D)]
        await retention.restore(f"{A}@{D}")
        after = images(host.files())
        assert {path: about[:2] for path, about in after.items()} == {
            path: about[:2] for path, about in images(before).items()
        }
    assert [path for path in host.entries() if ".hmret-" in path] == []
