"""When a folder is lost: another one, or gone, and half or more of what was in it missing."""

from collections.abc import Mapping

import pytest

from hmret.model.clock.clock_guard import ClockReading
from hmret.model.images import Cause
from hmret.model.records.folders import (
    FolderMark,
    FolderOnRecord,
    FolderSeen,
    LostFolder,
    find_lost,
    renewed,
)

BOOT, LATER_BOOT = "boot", "later boot"
MARK = FolderMark(inode=12, device=5, modified_ns=1000)
OTHER = FolderMark(inode=2, device=9, modified_ns=900)
CONTENT, TAGS, HOST = "images/content", "images/repositories", "images/docker.io"


def on_record(
    *names: str, mark: FolderMark = MARK, boot_id: str = BOOT, is_volume: bool = False
) -> FolderOnRecord:
    return FolderOnRecord(boot_id, mark, frozenset(names), is_volume)


def seen(*names: str, mark: FolderMark | None = MARK, is_volume: bool = False) -> FolderSeen:
    return FolderSeen(mark, frozenset(names), is_volume)


def none_missing(_folder: str) -> tuple[int, int]:
    return 0, 0


def lost(
    record: Mapping[str, FolderOnRecord],
    now: Mapping[str, FolderSeen],
    boot_id: str = BOOT,
    missing: Mapping[str, tuple[int, int]] | None = None,
    now_ns: int = 9000,
) -> dict[str, tuple[Cause, int, int]]:
    counts = missing or {}
    found = find_lost(
        record, now, ClockReading(boot_id, 0, now_ns), lambda folder: counts.get(folder, (0, 0))
    )
    return {one.name: (one.cause, one.missing, one.known) for one in found}


# Guests and snapshots.


@pytest.mark.parametrize("folder", ["guests", "snapshots"])
@pytest.mark.parametrize(
    "mark", [None, OTHER, FolderMark(13, 5, 1000), FolderMark(12, 6, 1000), FolderMark(12, 5, 999)]
)
def test_another_folder_without_those_on_record_is_lost(folder: str, mark: FolderMark | None) -> None:
    found = lost({folder: on_record("a", "b")}, {folder: seen(mark=mark)})
    assert found == {folder: (Cause.LOST_REFERENCES, 2, 2)}


@pytest.mark.parametrize("mark", [MARK, FolderMark(12, 5, 5000)])
def test_the_same_folder_without_any_guest_is_an_ordinary_day(mark: FolderMark) -> None:
    assert lost({"guests": on_record("a", "b")}, {"guests": seen(mark=mark)}) == {}


def test_another_device_tells_nothing_beyond_one_boot() -> None:
    now = {"guests": seen(mark=FolderMark(12, 77, 5000))}
    assert lost({"guests": on_record("a", "b")}, now, LATER_BOOT) == {}
    assert lost({"guests": on_record("a", "b")}, now, BOOT)


@pytest.mark.parametrize("mark", [FolderMark(13, 5, 5000), FolderMark(12, 5, 999)])
def test_another_inode_and_an_earlier_time_tell_beyond_a_boot_too(mark: FolderMark) -> None:
    assert lost({"guests": on_record("a")}, {"guests": seen(mark=mark)}, LATER_BOOT)


def test_a_time_on_record_that_lies_ahead_tells_nothing() -> None:
    now = {"guests": seen(mark=FolderMark(12, 5, 500))}
    assert lost({"guests": on_record("a")}, now, now_ns=1000)
    assert lost({"guests": on_record("a")}, now, now_ns=999) == {}


@pytest.mark.parametrize(
    ("here", "is_lost"), [("", True), ("a", True), ("ab", True), ("abc", False), ("abcd", False)]
)
def test_half_of_those_on_record_must_be_missing(here: str, is_lost: bool) -> None:
    found = lost({"guests": on_record(*"abcd")}, {"guests": seen(*here, mark=OTHER)})
    assert bool(found) is is_lost


def test_new_guests_in_the_folder_below_the_mount_make_up_for_none_on_record() -> None:
    found = lost({"guests": on_record("a", "b")}, {"guests": seen(*"cdefgh", mark=OTHER)})
    assert found == {"guests": (Cause.LOST_REFERENCES, 2, 2)}


def test_a_folder_in_which_nothing_was_is_never_lost() -> None:
    assert lost({"guests": on_record()}, {"guests": seen(mark=None)}) == {}


def test_a_folder_that_is_not_on_record_or_could_not_be_looked_at_is_not_lost() -> None:
    assert lost({}, {"guests": seen(mark=None)}) == {}
    assert lost({"guests": on_record("a")}, {}) == {}


# Images.


@pytest.mark.parametrize("folder", ["images", CONTENT])
@pytest.mark.parametrize("mark", [None, OTHER])
def test_a_folder_of_images_is_lost_where_half_of_the_timers_have_none(
    folder: str, mark: FolderMark | None
) -> None:
    for missing, present, is_lost in ((3, 0, True), (2, 2, True), (2, 3, False), (0, 3, False)):
        found = lost({folder: on_record()}, {folder: seen(mark=mark)}, missing={folder: (missing, present)})
        assert found == ({folder: (Cause.LOST_IMAGES, missing, missing + present)} if is_lost else {})


def test_timers_are_counted_only_where_the_folder_is_another_one() -> None:
    def fail(folder: str) -> tuple[int, int]:
        pytest.fail(folder)

    record = {"images": on_record(), CONTENT: on_record(), HOST: on_record()}
    assert find_lost(record, {name: seen("x") for name in record}, ClockReading(BOOT, 0, 9000), fail) == ()


def test_what_lies_below_a_lost_folder_is_told_with_it() -> None:
    record = {
        "images": on_record(),
        CONTENT: on_record(),
        TAGS: on_record("docker.io"),
        "guests": on_record("a"),
    }
    counts = {"images": (4, 0), CONTENT: (4, 0)}
    gone = {name: seen(mark=None) for name in record}
    assert sorted(lost(record, gone, missing=counts)) == ["guests", "images"]


def test_the_folder_of_tags_goes_by_the_registries_in_it() -> None:
    record = {TAGS: on_record("docker.io", "ghcr.io")}
    assert lost(record, {TAGS: seen(mark=OTHER)}) == {TAGS: (Cause.LOST_IMAGES, 2, 2)}
    assert lost(record, {TAGS: seen("docker.io", "ghcr.io", mark=OTHER)}) == {}


@pytest.mark.parametrize("is_volume", [True, False])
def test_a_registry_whose_folder_was_removed_is_lost_only_where_it_was_a_volume(is_volume: bool) -> None:
    record = {HOST: on_record("library", is_volume=is_volume)}
    for now in (seen(mark=None), seen("library", mark=OTHER)):
        assert bool(lost(record, {HOST: now}, missing={HOST: (3, 0)})) is is_volume


@pytest.mark.parametrize("is_volume", [True, False])
def test_a_registry_whose_folder_is_another_one_and_empty_is_lost(is_volume: bool) -> None:
    record = {HOST: on_record("library", is_volume=is_volume)}
    assert lost(record, {HOST: seen(mark=OTHER)}, missing={HOST: (3, 0)})
    assert not lost(record, {HOST: seen()}, missing={HOST: (3, 0)})


# The record.


def test_the_next_record_holds_what_is_there_now() -> None:
    after = renewed({"guests": on_record("a")}, {"guests": seen("b", mark=OTHER)}, LATER_BOOT, frozenset())
    assert after == {"guests": on_record("b", mark=OTHER, boot_id=LATER_BOOT)}


def test_what_is_lost_stays_on_record_as_it_was_and_all_else_is_renewed() -> None:
    record = {"guests": on_record("a"), "snapshots": on_record("s")}
    now = {"guests": seen(mark=OTHER), "snapshots": seen("t")}
    after = renewed(record, now, BOOT, frozenset(("guests",)))
    assert after == {"guests": on_record("a"), "snapshots": on_record("t")}


def test_below_lost_images_nothing_is_renewed() -> None:
    record = {"images": on_record(), CONTENT: on_record(), HOST: on_record("library")}
    now = {"images": seen(mark=OTHER), CONTENT: seen(mark=None), "images/new.io": seen("x")}
    assert renewed(record, now, BOOT, frozenset(("images",))) == record


def test_what_could_not_be_looked_at_stays_on_record_and_what_is_gone_does_not() -> None:
    record = {"guests": on_record("a"), "snapshots": on_record()}
    assert renewed(record, {"snapshots": seen(mark=None)}, BOOT, frozenset()) == {"guests": on_record("a")}


def test_a_record_that_is_not_new_is_the_very_same() -> None:
    record = {"guests": on_record("a")}
    assert renewed(record, {"guests": seen("a")}, BOOT, frozenset()) is record


@pytest.mark.parametrize(
    ("name", "cause", "words"),
    [
        ("guests", Cause.LOST_REFERENCES, ("guests or snapshots", "hmret confirm guests")),
        ("images", Cause.LOST_IMAGES, ("timers of images", "hmret confirm images")),
        (TAGS, Cause.LOST_IMAGES, ("registries", f"hmret confirm {TAGS}")),
    ],
)
@pytest.mark.parametrize("is_gone", [True, False])
def test_what_is_wrong_is_told_with_the_remedy(
    name: str, cause: Cause, words: tuple[str, ...], is_gone: bool
) -> None:
    detail = LostFolder(name, cause, 3, 4, is_gone).detail
    assert all(word in detail for word in (*words, "3 of 4", "mount its volume"))
    assert ("is gone" in detail) is is_gone
