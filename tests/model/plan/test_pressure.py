"""What goes before its window ends because the disk is too full."""

from datetime import timedelta
from typing import Any

import pytest

from hmret.model.images import Cause, DiskUsage, Image, Inventory, SharedDisk, Suspension
from hmret.model.plan.decide import plan
from hmret.model.plan.plan import Plan
from hmret.model.policy.brake import Brake
from hmret.model.policy.limits import DiskLimits
from hmret.model.policy.window import DeletionWindow
from hmret.model.verdicts import Action, Reason
from model.inventories import (
    ALPINE,
    DUE_NS,
    NOW,
    NOW_NS,
    A,
    B,
    C,
    D,
    make_image,
    make_inventory,
    make_policy,
    make_repository,
    make_rule,
)

HOUR = 3600 * 10**9
LIMITS = DiskLimits(high_watermark=0.85, low_watermark=0.8)


def usage(used: int, *, total: int = 1000, **fields: object) -> DiskUsage:
    return DiskUsage(used, total - used, **fields)  # type: ignore[arg-type]  # by name


def cache(*sizes: int, **fields: object) -> Inventory:
    """Put images into a cache that are in their window; the first has been unused for the longest."""
    images = [make_image(digest, disk_bytes=size) for digest, size in zip((A, B, C, D), sizes, strict=False)]
    states = {(ALPINE, image.digest): NOW_NS - (9 - number) * HOUR for number, image in enumerate(images)}
    return make_inventory(make_repository(*images), **{"states": states, **fields})  # type: ignore[arg-type]  # by name


def decide(inventory: Inventory, limits: DiskLimits = LIMITS, **fields: Any) -> Plan:
    return plan(inventory, make_policy(disk=limits, **fields), NOW)


def going(found: Plan) -> dict[str, Reason]:
    return {verdict.digest: verdict.reason for verdict in found.deletions}


def test_up_to_the_high_mark_nothing_goes_early() -> None:
    found = decide(cache(400, 400, disk=usage(850)))
    assert (going(found), found.pressure) == ({}, None)


def test_above_the_high_mark_the_longest_unused_go_down_to_the_low_one() -> None:
    found = decide(cache(30, 30, 30, 800, disk=usage(860)))
    assert going(found) == {A: Reason.DISK_PRESSURE, B: Reason.DISK_PRESSURE}
    assert found.pressure is not None
    assert (found.pressure.wanted_bytes, found.pressure.projected_bytes) == (60, 60)
    assert not found.pressure.is_out_of_reach
    verdict = found.verdict(ALPINE, A)
    assert verdict is not None
    assert (verdict.action, verdict.blockers) == (Action.DELETE, ())
    assert found.reasons[Reason.RETENTION_WINDOW] == 2


def test_between_the_marks_it_goes_on_until_the_low_one() -> None:
    assert going(decide(cache(30, 30, disk=usage(830)))) == {}
    assert going(decide(cache(30, 30, disk=usage(830, is_pressed=True)))) == {A: Reason.DISK_PRESSURE}
    assert going(decide(cache(30, 30, disk=usage(800, is_pressed=True)))) == {}


def test_an_image_that_was_in_use_lately_stays() -> None:
    states = {(ALPINE, A): NOW_NS - HOUR, (ALPINE, B): NOW_NS - HOUR + 1}
    found = decide(cache(400, 400, states=states, disk=usage(900)))
    assert going(found) == {A: Reason.DISK_PRESSURE}


def test_how_lately_is_for_the_operator_to_say() -> None:
    limits = DiskLimits(high_watermark=0.85, min_unused_for=timedelta(hours=9))
    assert list(going(decide(cache(300, 300, disk=usage(900)), limits))) == [A]


@pytest.mark.parametrize(
    "fields",
    [
        {"keep_latest": 1},
        {"min_age_ns": 1},
        {"allowed": ()},
        {"pinned": ("*",)},
        {"rules": (make_rule(window_ns=1 << 64),)},
    ],
)
def test_nothing_goes_that_something_else_keeps(fields: dict[str, Any]) -> None:
    assert going(decide(cache(900, disk=usage(900)), **fields)) == {}


def test_nothing_goes_while_deletion_is_suspended() -> None:
    torn = Suspension(Cause.UNREADABLE_REFERENCE, "guests/x/metadata.json", "torn")
    found = decide(cache(900, suspensions=(torn,), disk=usage(900)))
    assert going(found) == {}
    assert found.pressure is not None
    assert not found.pressure.is_out_of_reach


def test_what_has_expired_counts_first() -> None:
    states = {(ALPINE, A): DUE_NS, (ALPINE, B): NOW_NS - 9 * HOUR, (ALPINE, C): NOW_NS - 8 * HOUR}
    found = decide(cache(60, 60, 60, states=states, disk=usage(860)))
    assert going(found) == {A: Reason.EXPIRED}
    assert found.pressure is not None
    assert found.pressure.frees_at_once


def test_the_quarantine_goes_first() -> None:
    found = decide(cache(30, 30, 740, disk=usage(860, quarantined_bytes=40)))
    assert going(found) == {A: Reason.DISK_PRESSURE}
    assert found.pressure is not None
    assert (found.pressure.quarantined_bytes, found.pressure.frees_at_once) == (40, True)


def test_a_quarantine_that_is_enough_spares_the_images() -> None:
    states = {(ALPINE, A): DUE_NS, (ALPINE, B): NOW_NS - 9 * HOUR}
    found = decide(cache(30, 30, states=states, disk=usage(860, quarantined_bytes=90)))
    assert going(found) == {A: Reason.EXPIRED}
    assert found.pressure is not None
    assert (found.pressure.quarantined_bytes, found.pressure.frees_at_once) == (60, False)


# The cap of the cache's own.


def test_above_its_cap_the_cache_shrinks_to_it() -> None:
    found = decide(cache(30, 30, 30), DiskLimits(max_used=55))
    assert going(found) == {A: Reason.DISK_PRESSURE, B: Reason.DISK_PRESSURE}
    assert going(decide(cache(30, 30, 30), DiskLimits(max_used=90))) == {}


def test_the_quarantine_counts_towards_the_cap() -> None:
    found = decide(cache(30, 30, disk=usage(0, quarantined_bytes=30)), DiskLimits(max_used=60))
    assert going(found) == {}
    assert found.pressure is not None
    assert found.pressure.quarantined_bytes == 30


def test_a_disk_with_several_links_counts_once() -> None:
    disk = SharedDisk(1, 7, 2)
    images = [make_image(digest, disk_bytes=100, shared_disk=disk) for digest in (A, B)]
    states = {(ALPINE, A): NOW_NS - 9 * HOUR, (ALPINE, B): NOW_NS - 8 * HOUR}
    inventory = make_inventory(make_repository(*images), states=states)
    assert decide(inventory, DiskLimits(max_used=100)).pressure is None
    assert going(decide(inventory, DiskLimits(max_used=99))) == dict.fromkeys((A, B), Reason.DISK_PRESSURE)


def linked(digest: str, links: int) -> Image:
    return make_image(digest, disk_bytes=100, shared_disk=SharedDisk(1, 7, links))


def test_a_disk_whose_bytes_would_not_come_free_stays() -> None:
    images = (linked(A, 3), linked(B, 3), make_image(C, disk_bytes=100))
    states = {(ALPINE, image.digest): NOW_NS - (9 - number) * HOUR for number, image in enumerate(images)}
    found = decide(make_inventory(make_repository(*images), states=states), DiskLimits(max_used=150))
    assert going(found) == {C: Reason.DISK_PRESSURE}


def test_links_go_together_when_the_last_of_them_has_its_turn() -> None:
    images = (linked(A, 2), make_image(B, disk_bytes=100), linked(C, 2))
    states = {(ALPINE, image.digest): NOW_NS - (9 - number) * HOUR for number, image in enumerate(images)}
    inventory = make_inventory(make_repository(*images), states=states)
    assert going(decide(inventory, DiskLimits(max_used=100))) == {B: Reason.DISK_PRESSURE}
    assert set(going(decide(inventory, DiskLimits(max_used=99)))) == {A, B, C}


def test_a_link_that_goes_for_being_expired_makes_the_other_worth_it() -> None:
    states = {(ALPINE, A): DUE_NS, (ALPINE, B): NOW_NS - 9 * HOUR}
    inventory = make_inventory(make_repository(linked(A, 2), linked(B, 2)), states=states)
    found = decide(inventory, DiskLimits(max_used=99))
    assert going(found) == {A: Reason.EXPIRED, B: Reason.DISK_PRESSURE}
    assert found.summary.delete_bytes == 100


# Somebody else who fills the disk.


def test_somebody_elses_growth_takes_only_the_caches_share() -> None:
    found = decide(cache(25, 25, 25, 25, disk=usage(950)))
    assert list(going(found)) == [A]  # 100 of 950 in use: of the 150 above the mark that is 15
    assert found.pressure is not None
    assert (found.pressure.wanted_bytes, found.pressure.asked_bytes) == (150, 15)
    assert found.pressure.is_out_of_reach


def test_what_is_in_reach_is_asked_for_in_full() -> None:
    found = decide(cache(25, 25, 25, 25, disk=usage(890)))
    assert len(going(found)) == 4
    assert found.pressure is not None
    assert not found.pressure.is_out_of_reach


def test_a_cache_that_fills_the_disk_itself_gives_all_that_it_may() -> None:
    states = {(ALPINE, A): NOW_NS - 9 * HOUR, (ALPINE, B): NOW_NS - HOUR + 1}
    found = decide(cache(50, 900, states=states, disk=usage(950)))
    assert list(going(found)) == [A]
    assert found.pressure is not None
    assert found.pressure.is_out_of_reach


def test_after_it_fell_short_the_mark_waits_while_it_is_out_of_reach() -> None:
    backing_off = usage(950, is_backing_off=True)
    assert decide(cache(25, 25, disk=backing_off)).pressure is None
    found = decide(cache(25, 25, 25, 25, disk=usage(890, is_backing_off=True)))
    assert len(going(found)) == 4
    assert found.pressure is not None
    assert not found.pressure.is_out_of_reach


def test_where_nothing_came_free_the_mark_waits_in_any_case() -> None:
    assert decide(cache(400, 400, disk=usage(900, is_futile=True))).pressure is None


def test_the_cap_waits_for_nothing() -> None:
    backing_off = usage(950, is_backing_off=True, is_futile=True)
    limits = DiskLimits(high_watermark=0.85, max_used=25)
    assert list(going(decide(cache(25, 25, disk=backing_off), limits))) == [A]


def test_a_file_system_of_nothing_is_under_no_pressure() -> None:
    assert decide(cache(25, disk=DiskUsage(0, 0))).pressure is None


# With the other steps.


def test_pressure_waits_for_the_hours_unless_told_otherwise() -> None:
    closed = DeletionWindow(hours=["02:00-05:00"])
    found = decide(cache(100, disk=usage(900)), window=closed)
    assert going(found) == {}
    assert found.pressure is not None
    assert not found.pressure.is_out_of_reach
    yielding = DeletionWindow(hours=["02:00-05:00"], yields_to_pressure=True)
    assert going(decide(cache(100, disk=usage(900)), window=yielding)) == {A: Reason.DISK_PRESSURE}


def test_outside_the_hours_only_what_the_disk_needs_goes() -> None:
    yielding = DeletionWindow(hours=["02:00-05:00"], yields_to_pressure=True)
    inventory = cache(60, 60, states={(ALPINE, A): DUE_NS - 1, (ALPINE, B): DUE_NS}, disk=usage(860))
    found = decide(inventory, window=yielding)
    assert [(verdict.digest, verdict.reason) for verdict in found.iterate()] == [
        (A, Reason.DISK_PRESSURE),
        (B, Reason.OUTSIDE_WINDOW),
    ]


def test_the_brake_does_not_hold_what_the_disk_needs() -> None:
    inventory = cache(60, 60, states={(ALPINE, A): DUE_NS - 1, (ALPINE, B): DUE_NS}, disk=usage(860))
    found = decide(inventory, brake=Brake(0.5, 1))
    assert [(verdict.digest, verdict.reason) for verdict in found.iterate()] == [
        (A, Reason.DISK_PRESSURE),
        (B, Reason.BRAKE),
    ]


def test_the_limits_of_a_sweep_hold_under_pressure_too() -> None:
    found = decide(cache(30, 30, 740, disk=usage(860)), max_deletes=1)
    assert going(found) == {A: Reason.DISK_PRESSURE}
    second = found.verdict(ALPINE, B)
    assert second is not None
    assert second.reason is Reason.RETENTION_WINDOW
    assert found.pressure is not None
    assert (found.pressure.projected_bytes, found.pressure.is_out_of_reach) == (30, False)
    assert sum(found.reasons.values()) == 3


def test_what_the_brake_held_and_does_not_fit_is_held_by_the_brake_again() -> None:
    states = {(ALPINE, digest): DUE_NS - number for number, digest in enumerate((A, B, C))}
    inventory = cache(60, 60, 60, states=states, disk=usage(950))
    found = decide(inventory, brake=Brake(0.5, 1), max_deletes=1)
    assert going(found) == {C: Reason.DISK_PRESSURE}
    assert [verdict.reason for verdict in found.iterate()] == [
        Reason.BRAKE,
        Reason.BRAKE,
        Reason.DISK_PRESSURE,
    ]
    assert (found.summary.delete, found.summary.keep) == (1, 2)


def test_an_image_that_has_just_been_found_unused_stays() -> None:
    found = decide(cache(900, states={}, disk=usage(900)))
    assert (going(found), found.marks) == ({}, ((ALPINE, A),))


# The most that the cache may take.


def sized(*sizes: tuple[int, int], **fields: Any) -> Inventory:
    """Put images of some apparent size and blocks into a cache, all in their window; the first is unused the longest."""
    images = [
        make_image(digest, size_bytes=size, disk_bytes=blocks)
        for digest, (size, blocks) in zip((A, B, C, D), sizes, strict=False)
    ]
    states = {(ALPINE, image.digest): NOW_NS - (9 - number) * HOUR for number, image in enumerate(images)}
    return make_inventory(make_repository(*images), **{"states": states, **fields})


def test_a_share_of_the_file_system_is_the_most_that_the_cache_may_take() -> None:
    limits = DiskLimits(max_used=0.18)
    assert going(decide(cache(60, 60, 60, disk=usage(500)), limits)) == {}
    assert going(decide(cache(60, 60, 61, disk=usage(500)), limits)) == {A: Reason.DISK_PRESSURE}


def test_a_share_of_a_file_system_that_cannot_be_measured_is_no_limit() -> None:
    assert going(decide(cache(60, 60), DiskLimits(max_used=0.18))) == {}
    assert going(decide(cache(60, 60), DiskLimits(max_used=0.18, count="apparent"))) == {}


def test_apparent_sizes_count_where_they_are_to() -> None:
    images = sized((100, 10), (100, 10), (100, 10), disk=usage(500))
    assert going(decide(images, DiskLimits(max_used=200))) == {}
    found = decide(images, DiskLimits(max_used=200, count="apparent"))
    assert going(found) == {A: Reason.DISK_PRESSURE}
    assert found.pressure is not None
    assert (found.pressure.wanted_bytes, found.pressure.asked_sizes_bytes) == (100, 100)
    assert (found.pressure.asked_bytes, found.pressure.projected_bytes) == (0, 10)


def test_what_frees_none_of_the_sizes_does_not_go_for_them() -> None:
    images = sized((0, 50), (100, 10), (100, 10), disk=usage(500))
    assert going(decide(images, DiskLimits(max_used=100, count="apparent"))) == {B: Reason.DISK_PRESSURE}


def test_no_quarantine_counts_among_the_sizes_and_none_is_emptied_for_them() -> None:
    disk = usage(500, quarantined_bytes=1000)
    images = sized((100, 10), (100, 10), disk=disk)
    limits = DiskLimits(max_used=200, count="apparent")
    assert going(decide(images, limits)) == {}
    found = decide(sized((100, 10), (101, 10), disk=disk), limits)
    assert going(found) == {A: Reason.DISK_PRESSURE}
    assert found.pressure is not None
    assert (found.pressure.quarantined_bytes, found.pressure.frees_at_once) == (0, False)


def test_what_is_not_ready_has_no_size_yet() -> None:
    images = [
        make_image(A, size_bytes=100, disk_bytes=10),
        make_image(B, size_bytes=100, disk_bytes=10, status="converting"),
    ]
    inventory = make_inventory(make_repository(*images), states={(ALPINE, A): NOW_NS - 9 * HOUR})
    assert going(decide(inventory, DiskLimits(max_used=100, count="apparent"))) == {}


def test_a_disk_with_two_names_has_its_size_once() -> None:
    shared = SharedDisk(1, 7, 2)
    images = [make_image(digest, size_bytes=100, disk_bytes=10, shared_disk=shared) for digest in (A, B)]
    states = {(ALPINE, A): NOW_NS - 9 * HOUR, (ALPINE, B): NOW_NS - 8 * HOUR}
    inventory = make_inventory(make_repository(*images), states=states, disk=usage(500))
    assert going(decide(inventory, DiskLimits(max_used=100, count="apparent"))) == {}
    assert going(decide(inventory, DiskLimits(max_used=99, count="apparent"))) == dict.fromkeys(
        (A, B), Reason.DISK_PRESSURE
    )


def test_both_limits_hold_at_once() -> None:
    images = sized((10, 100), (100, 10), (100, 100), disk=usage(900))
    limits = DiskLimits(high_watermark=0.85, low_watermark=0.8, max_used=110, count="apparent")
    found = decide(images, limits)
    assert going(found) == dict.fromkeys((A, B), Reason.DISK_PRESSURE)
