"""More that refers to an image, in more ways, and what each of them keeps."""

import errno
from collections.abc import Iterable
from datetime import timedelta

import attrs
import pytest

import hmret
from hmret import Reason
from hmret.model.references import Reference
from support.builders import DATA, START, FakeClock, digest
from support.content_trees import (
    FRESH,
    Host,
    content_path,
    hex_of,
    link_path,
    state_path,
    without,
)
from support.interruptions import Between, disk_of, when
from support.memory_filesystem import MemoryFilesystem

A = "docker.io/library/alpine"
B = "ghcr.io/kernel/base"
C = "quay.io/tools/c"
NOBODY = "example.com/x"
D, E = digest("d"), digest("e")
DAY = timedelta(days=1)


@pytest.fixture
def host(filesystem: MemoryFilesystem, clock: FakeClock) -> Host:
    return Host(filesystem, clock)


def make_shared(host: Host) -> list[str]:
    """Make content of two due repositories; returns its timers."""
    host.content("d")
    for repository in (A, B):
        host.link(repository, "1", "d")
    return [host.state(repository, "d") for repository in (A, B)]


# References.


@pytest.mark.parametrize("is_content", [True, False])
async def test_a_guest_whose_volume_fails_and_is_then_unmounted_keeps_its_image(
    host: Host, is_content: bool
) -> None:
    """Its metadata is torn for one sweep, and missing from the next on."""
    if is_content:
        host.content("d")
        host.link(A, "1", "d")
    else:
        host.legacy(A, "d")
        host.legacy_link(A, "1", "d")
    metadata = host.guest(f"{A}:1")
    async with host.opened() as retention:
        assert (await retention.sweep()).suspended == ()
        host.write(metadata, b'{"Im')
        assert [one.cause for one in (await retention.sweep()).suspended] == ["unreadable_reference"]
        disk_of(host).remove(f"{DATA}/{metadata}")
        for _ in range(2):
            host.state(A, "d")
            swept = await host.sweep_by(retention)
            assert swept.report.suspended == ()
            assert swept.verdicts[A, D].reason is Reason.REFERENCED
            assert swept.deleted == []


@pytest.mark.parametrize("field", ["image", "resolved"])
async def test_a_snapshot_under_another_repository_keeps_the_digest_for_all_its_owners(
    host: Host, field: str
) -> None:
    cleared = make_shared(host)
    if field == "image":
        host.snapshot(f"{NOBODY}@{D}")
    else:
        host.snapshot(f"{NOBODY}:1", resolved=f"{NOBODY}@{D}")
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.REFERENCED, (B, D): Reason.REFERENCED}
    assert swept.verdicts[A, D].referenced_by == swept.verdicts[B, D].referenced_by == ("snapshot/snap",)
    assert (swept.report.stale_references, swept.report.protected_images) == (0, 1)
    assert host.files() == without(before, *cleared)


async def test_a_reference_under_an_owner_keeps_the_digest_and_the_other_owners_share_it(host: Host) -> None:
    cleared = make_shared(host)[0]
    host.guest(f"{A}:1", resolved=f"{A}@{D}")
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.REFERENCED, (B, D): Reason.SHARED}
    assert swept.held_by(B, "d") == [(A, Reason.REFERENCED)]
    assert host.files() == without(before, cleared)


async def test_a_reference_keeps_the_copy_of_its_repository_and_the_content_but_no_copy_of_another(
    host: Host,
) -> None:
    host.content("d")
    host.link(C, "1", "d")
    for repository in (A, B):
        host.legacy(repository, "d")
        host.legacy_link(repository, "1", "d")
    cleared = host.state(A, "d"), host.state(C, "d")
    gone = host.state(B, "d")
    host.guest(f"{A}@{D}")
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {
        (A, D): Reason.REFERENCED,
        (B, D): Reason.EXPIRED,
        (C, D): Reason.REFERENCED,
    }
    # B's tag leads to the content by now, and its timer goes on there.
    assert swept.deleted == [(B, D)]
    assert host.files() == without(before, *cleared, f"images/{B}/{hex_of('d')}")
    assert host.exists(gone)


async def test_a_tag_leads_where_todays_layout_says_whatever_the_older_one_says(host: Host) -> None:
    host.content("e", name=f"{A}:1")
    host.link(A, "1", "e")
    host.legacy(A, "d")
    host.legacy_link(A, "1", "d")
    gone = f"images/{A}/{hex_of('d')}", host.state(A, "d")
    host.state(A, "e", FRESH)
    # Younger than the link, so it proves nothing of what the tag has pointed to before.
    host.guest(f"{A}:1", created_at=START - DAY)
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.EXPIRED, (A, E): Reason.REFERENCED}
    # The link that nobody saw may go with the older image or stay; it must not come to be seen.
    left, shadowed = host.files(), f"images/{A}/1"
    assert left | {shadowed: before[shadowed]} == without(before, *gone, state_path(A, "e"))
    assert link_path(A, "1") in left


async def test_an_older_tag_without_a_folder_leads_to_the_content(host: Host) -> None:
    host.content("d", name=f"{C}:1")
    host.legacy_link(A, "1", "d")
    cleared = host.state(A, "d")
    host.guest(f"{A}:1", created_at=START - DAY)
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.REFERENCED}
    assert host.files() == without(before, cleared)


@pytest.mark.parametrize("what", ["a folder", "a link of another form"])
async def test_a_tag_that_is_no_link_protects_every_digest_of_its_repository(host: Host, what: str) -> None:
    cleared = []
    for letters in "de":
        host.content(letters, name=f"{A}:{letters}")
        host.link(A, letters, letters)
        cleared.append(host.state(A, letters))
    if what == "a folder":
        host.folder(link_path(A, "1"))
    else:
        host.symlink(link_path(A, "1"), f"{DATA}/{content_path('d')}")
    host.guest(f"{A}:1", resolved=f"{A}@{D}", created_at=START - DAY)
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.REFERENCED, (A, E): Reason.REFERENCED}
    assert host.files() == without(before, *cleared)


async def test_a_machine_that_runs_from_yesterdays_tag_keeps_what_the_tag_pointed_to(
    host: Host, clock: FakeClock
) -> None:
    host.content("d", name=f"{A}:latest")
    host.link(A, "latest", "d")
    host.guest(f"{A}:latest", created_at=START - DAY)
    async with host.opened() as retention:
        assert (await host.sweep_by(retention)).reasons == {(A, D): Reason.REFERENCED}
        clock.advance(timedelta(minutes=5))
        host.hypeman.content("e", name=f"{A}:latest")
        host.hypeman.link(A, "latest", "e")
        host.state(A, "d")
        swept = await host.sweep_by(retention)
        assert swept.reasons == {(A, D): Reason.REFERENCED, (A, E): Reason.REFERENCED}
        assert host.exists(content_path("d"))


async def test_a_promotion_makes_a_tag_look_young_and_costs_no_machine_its_image(host: Host) -> None:
    host.legacy(A, "d")
    host.legacy(A, "e", linked=False)
    host.legacy_link(A, "old", "d")
    cleared = host.state(A, "d"), host.state(A, "e")
    # Promoted an hour ago: the link is younger than the machine.
    host.content("e", name=f"{A}:1")
    host.legacy_link(A, "1", "e")
    host.age_to(host.link(A, "1", "e"), timedelta(hours=1))
    host.guest(f"{A}:1", created_at=START - DAY)
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.REFERENCED, (A, E): Reason.REFERENCED}
    assert host.files() == without(before, *cleared)


async def test_a_reference_is_stale_only_where_its_digest_is_nowhere(host: Host) -> None:
    make_shared(host)
    host.guest(f"{NOBODY}@{D}", name="one")
    host.guest(f"{NOBODY}@{E}", name="other")
    host.guest(f"{A}:absent", name="third", created_at=START - DAY)
    swept = await host.sweep()
    assert swept.report.stale_references == 2
    assert swept.deleted == []


async def test_a_machine_that_comes_between_the_scan_and_the_lock_under_another_repository_counts(
    host: Host,
) -> None:
    make_shared(host)
    before = host.files()
    source = Between(lambda: host.hypeman.guest(f"{NOBODY}@{D}"))
    swept = await host.sweep(sources=[source])
    assert (swept.deleted, source.asked >= 2) == ([], True)
    images = {path: about for path, about in before.items() if path.startswith("images/")}
    assert {path: about for path, about in host.files().items() if path.startswith("images/")} == images


@attrs.define
class Late:
    """An embedder that names an image only when it is asked a second time."""

    image: str
    asked: int = 0

    async def references(self) -> Iterable[Reference]:
        self.asked += 1
        return () if self.asked == 1 else (Reference("embedder", resolved_image=self.image),)


@pytest.mark.parametrize("repository", [A, NOBODY])
async def test_an_embedder_that_needs_the_image_at_the_last_moment_is_heard_by_any_spelling(
    host: Host, repository: str
) -> None:
    make_shared(host)
    source = Late(f"{repository}@{D}")
    swept = await host.sweep(sources=[source])
    assert (swept.deleted, source.asked >= 2) == ([], True)
    assert host.exists(content_path("d"))


# Leases and mark_used.


async def test_a_lease_under_another_repository_keeps_the_digest_for_all_its_owners(host: Host) -> None:
    cleared = make_shared(host)
    before = host.files()
    async with host.opened() as retention:
        async with retention.lease(f"{NOBODY}@{D}", reason="create vm") as leased:
            assert (leased.repository, leased.digest) == (NOBODY, D)
            # It counts as a use at once.
            assert host.files() == without(before, *cleared)
            for repository in (A, B):
                host.state(repository, "d")
            swept = await host.sweep_by(retention)
            assert swept.reasons == {(A, D): Reason.LEASED, (B, D): Reason.LEASED}
            assert host.files() == without(before, *cleared)
        swept = await host.sweep_by(retention)
        assert swept.reasons == {(A, D): Reason.NEWLY_UNUSED, (B, D): Reason.NEWLY_UNUSED}


async def test_a_lease_under_an_owner_keeps_the_digest_and_the_other_owners_share_it(host: Host) -> None:
    make_shared(host)
    async with host.opened() as retention, retention.lease(f"{A}:1"):
        host.state(B, "d")
        swept = await host.sweep_by(retention)
        assert swept.reasons == {(A, D): Reason.LEASED, (B, D): Reason.SHARED}
        assert swept.held_by(B, "d") == [(A, Reason.LEASED)]


async def test_a_granted_lease_under_another_repository_outlasts_the_engine(host: Host) -> None:
    make_shared(host)
    async with host.opened() as retention:
        await retention.grant_lease(f"{NOBODY}@{D}", owner="vm", reason="boot", ttl=DAY)
    for repository in (A, B):
        host.state(repository, "d")
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.LEASED, (B, D): Reason.LEASED}


async def test_mark_used_by_a_tag_uses_what_todays_layout_says(host: Host) -> None:
    host.content("e", name=f"{A}:1")
    host.link(A, "1", "e")
    host.legacy(A, "d")
    host.legacy_link(A, "1", "d")
    kept, cleared = host.state(A, "d"), host.state(A, "e")
    async with host.opened() as retention:
        assert await retention.mark_used(f"{A}:1") == hmret.MarkedUsed(A, E, cleared=True)
    assert (host.exists(kept), host.exists(cleared)) == (True, False)


async def test_mark_used_by_an_owner_clears_its_own_timer_alone(host: Host) -> None:
    cleared, kept = make_shared(host)
    async with host.opened() as retention:
        assert await retention.mark_used(f"{A}:1") == hmret.MarkedUsed(A, D, cleared=True)
        assert (host.exists(cleared), host.exists(kept)) == (False, True)
        # One row's window is enough to keep all of the digest.
        swept = await host.sweep_by(retention)
        assert swept.deleted == []
        assert swept.reasons[B, D] is Reason.SHARED


async def test_mark_used_by_a_digest_that_is_tagged_clears_its_own_timer_alone(host: Host) -> None:
    cleared, kept = make_shared(host)
    async with host.opened() as retention:
        assert await retention.mark_used(f"{A}@{D}") == hmret.MarkedUsed(A, D, cleared=True)
    assert (host.exists(cleared), host.exists(kept)) == (False, True)


@pytest.mark.parametrize("image", [f"{A}:1", f"{A}@{D}"])
async def test_mark_used_under_an_owner_whose_own_folder_is_unfinished_uses_the_content_that_boots(
    host: Host, image: str
) -> None:
    cleared, kept = make_shared(host)
    host.legacy(A, "d", status="converting", has_disk=False)
    async with host.opened() as retention:
        assert await retention.mark_used(image) == hmret.MarkedUsed(A, D, cleared=True)
        assert (host.exists(cleared), host.exists(kept)) == (False, True)
        swept = await host.sweep_by(retention)
    assert swept.deleted == []


async def test_mark_used_clears_a_timer_that_the_last_sweep_has_started_too(host: Host) -> None:
    """That of a folder of another repository's own, which comes to own the content later, by a pull."""
    host.content("d")
    host.link(B, "1", "d")
    host.legacy(A, "d")
    async with host.opened() as retention:
        assert (await retention.sweep()).marked_unused == 2
        assert host.exists(state_path(A, "d"))
        assert (await retention.mark_used(f"{NOBODY}@{D}")).cleared
    assert not host.exists(state_path(A, "d"))
    assert not host.exists(state_path(B, "d"))


async def test_what_was_used_under_an_owner_that_is_untied_since_stays_in_the_next_sweep(host: Host) -> None:
    """Its own timer was cleared, and no other had to be; now only the others' are asked for, which have run out."""
    make_shared(host)
    async with host.opened() as retention:
        await retention.plan()
        assert (await retention.mark_used(f"{A}:1")).cleared
        assert host.exists(state_path(B, "d"))
        host.remove(link_path(A, "1"))
        swept = await host.sweep_by(retention)
    assert swept.deleted == []
    assert host.exists(content_path("d"))


async def test_mark_used_under_what_was_an_owner_at_the_last_scan_clears_the_timers_of_the_others(
    host: Host,
) -> None:
    timers = make_shared(host)
    async with host.opened() as retention:
        await retention.plan()
        host.remove(link_path(A, "1"))
        assert (await retention.mark_used(f"{A}@{D}")).cleared
    # An engine that ends before its next sweep takes nothing along that it knew.
    assert [host.exists(timer) for timer in timers] == [False, False]
    assert (await host.sweep()).deleted == []


@pytest.mark.parametrize("name", [":1", f"@{D}"])
async def test_mark_used_under_an_owner_that_is_untied_meanwhile_clears_the_timers_of_the_others(
    host: Host, name: str
) -> None:
    timers = make_shared(host)
    async with host.opened() as retention:
        await retention.plan()
        untied = when(
            host, lambda: not host.exists(state_path(A, "d")), lambda: host.remove(link_path(A, "1"))
        )
        assert (await retention.mark_used(f"{A}{name}")).cleared
    assert untied.has_happened
    assert [host.exists(timer) for timer in timers] == [False, False]
    assert (await host.sweep()).deleted == []


@pytest.mark.parametrize(
    ("name", "owns"), [(f"{A}:1", True), (f"{A}@{D}", True), (f"{NOBODY}@{D}", False), (f"{C}:1", False)]
)
async def test_before_the_first_scan_a_use_under_a_name_that_owns_nothing_clears_every_timer_without_a_scan(
    host: Host, name: str, owns: bool
) -> None:
    timers = make_shared(host)
    host.legacy_link(C, "1", "d")
    listed: list[str] = []
    async with host.opened() as retention:
        disk_of(host).before = lambda call: listed.append(call.path) if call.name == "scandir" else None
        assert (await retention.mark_used(name)).cleared
        disk_of(host).before = None
    assert f"{DATA}/images/repositories" not in listed
    assert [host.exists(timer) for timer in timers] == [False, owns]
    assert (await host.sweep()).deleted == []


async def test_before_the_first_scan_a_use_waits_for_it_where_timers_cannot_be_listed(
    host: Host, filesystem: MemoryFilesystem
) -> None:
    timers = make_shared(host)
    host.content("e")
    host.link(C, "1", "e")
    host.state(C, "e")
    filesystem.deny(f"{DATA}/system/image-retention/{C}", errno.EACCES)
    async with host.opened() as retention:
        assert (await retention.mark_used(f"{NOBODY}@{D}")).cleared
    assert [host.exists(timer) for timer in timers] == [False, False]


async def test_before_the_first_scan_timers_are_listed_once_however_many_are_used(host: Host) -> None:
    make_shared(host)
    host.content("e")
    host.link(B, "2", "e")
    timer = host.state(B, "e")
    listed: list[str] = []
    async with host.opened() as retention:
        await retention.mark_used(f"{NOBODY}@{D}")
        disk_of(host).before = lambda call: listed.append(call.path) if call.name == "scandir" else None
        assert (await retention.mark_used(f"{NOBODY}@{E}")).cleared
        disk_of(host).before = None
    assert not any("image-retention" in path for path in listed)
    assert not host.exists(timer)


@pytest.mark.parametrize("name", [":1", f"@{D}"])
async def test_before_the_first_scan_a_use_under_an_owner_that_is_untied_meanwhile_keeps_it_for_the_others(
    host: Host, name: str
) -> None:
    timers = make_shared(host)
    async with host.opened() as retention:
        untied = when(
            host, lambda: not host.exists(state_path(A, "d")), lambda: host.remove(link_path(A, "1"))
        )
        assert (await retention.mark_used(f"{A}{name}")).cleared
    assert untied.has_happened
    assert [host.exists(timer) for timer in timers] == [False, False]
    assert (await host.sweep()).deleted == []


async def test_mark_used_clears_the_timer_of_what_has_come_to_own_the_content_since_the_last_scan(
    host: Host,
) -> None:
    make_shared(host)
    timer = host.state(C, "d")
    async with host.opened() as retention:
        await retention.plan()
        host.link(C, "1", "d")
        for repository in (A, B):
            host.remove(link_path(repository, "1"))
        assert (await retention.mark_used(f"{NOBODY}@{D}")).cleared
    assert not host.exists(timer)
    assert (await host.sweep()).deleted == []


async def test_mark_used_by_an_older_tag_without_a_folder_uses_the_content(host: Host) -> None:
    host.content("d", name=f"{C}:1")
    host.legacy_link(A, "1", "d")
    cleared = host.state(A, "d")
    async with host.opened() as retention:
        assert await retention.mark_used(f"{A}:1") == hmret.MarkedUsed(A, D, cleared=True)
    assert not host.exists(cleared)


@pytest.mark.parametrize("what", ["nothing", "pending", "failed", "no disk", "a link to nothing"])
@pytest.mark.parametrize("image", [f"{A}@{D}", f"{NOBODY}@{D}", f"{A}:1"])
async def test_mark_used_promises_nothing_of_what_hypeman_could_not_boot(
    host: Host, what: str, image: str
) -> None:
    if what in ("pending", "failed"):
        host.content("d", name=f"{A}:1", status=what, has_disk=False)
    if what == "no disk":
        host.content("d", name=f"{A}:1", has_disk=False)
    if what != "nothing":
        host.link(A, "1", "d")
    before = host.files()
    async with host.opened() as retention:
        with pytest.raises(hmret.ImageNotFoundError):
            await retention.mark_used(image)
    assert host.files() == before


async def test_mark_used_of_a_copy_beside_content_without_a_disk_promises_nothing(host: Host) -> None:
    host.content("d", name=f"{B}:1", has_disk=False)
    host.legacy(A, "d")
    host.legacy_link(A, "1", "d")
    async with host.opened() as retention:
        for image in (f"{A}:1", f"{A}@{D}"):
            with pytest.raises(hmret.ImageNotFoundError):
                await retention.mark_used(image)


async def test_mark_used_under_a_repository_without_a_copy_does_not_use_the_copy_of_another(
    host: Host,
) -> None:
    host.legacy(A, "d")
    host.legacy_link(A, "1", "d")
    kept = host.state(A, "d")
    async with host.opened() as retention:
        with pytest.raises(hmret.ImageNotFoundError):
            await retention.mark_used(f"{B}@{D}")
    assert host.exists(kept)


async def test_explain_names_those_that_share_the_digest(host: Host) -> None:
    make_shared(host)
    async with host.opened() as retention:
        verdict = await retention.explain(f"{A}:1")
        assert (verdict.repository, verdict.digest, verdict.shared_with) == (A, D, (B,))
        assert verdict.blockers == ()
        host.state(B, "d", FRESH)
        verdict = await retention.explain(f"{A}@{D}")
        assert verdict.reason is Reason.SHARED
        assert verdict.blockers == (Reason.SHARED,)


# Open disks.


async def test_the_open_disk_of_a_copy_keeps_that_copy_and_not_the_content_of_another(
    host: Host, filesystem: MemoryFilesystem
) -> None:
    gone = host.content("d"), host.link(A, "1", "d"), host.state(A, "d")
    copy = host.legacy(B, "d")
    host.legacy_link(B, "1", "d")
    cleared = host.state(B, "d")
    before = host.files()
    opener = filesystem.hold_open(f"{DATA}/{copy}/rootfs.erofs")
    swept = await host.sweep()
    opener.close()
    assert swept.deleted == [(A, D)]
    assert host.files() == without(before, *gone, cleared)


async def test_an_opener_between_two_renames_of_a_unit_gets_its_disk_back(
    host: Host, filesystem: MemoryFilesystem
) -> None:
    host.content("d", name=f"{A}:1")
    host.link(A, "1", "d")
    copy = host.legacy(A, "d", size_bytes=4096)
    cleared = host.state(A, "d")
    before = host.files()
    openers = []

    def look(call: object) -> None:
        if not host.exists(copy):
            filesystem.before = None
            openers.append(filesystem.begin_open(f"{DATA}/{content_path('d')}/rootfs.erofs"))

    filesystem.before = look
    swept = await host.sweep()
    assert [opener.is_open for opener in openers] == [True]
    openers[0].close()
    assert swept.deleted == []
    assert swept.report.open_images == 1
    assert host.files() == without(before, cleared)
    assert host.trash() == []
