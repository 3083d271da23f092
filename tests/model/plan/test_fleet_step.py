"""What a fleet keeps: it only ever holds back, and asks before anything goes."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import attrs
import pytest

from hmret.model.fleet import CopyFacts, CopyRules, FleetSettings, FleetState, FleetView, Paused
from hmret.model.images import DiskUsage, Inventory, SharedDisk
from hmret.model.plan.decide import plan
from hmret.model.plan.plan import Plan
from hmret.model.policy.brake import Brake
from hmret.model.policy.limits import DiskLimits
from hmret.model.policy.window import DeletionWindow
from hmret.model.times import SECOND
from hmret.model.verdicts import Action, Reason, Verdict
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
)
from support.shared_content import BASE, TOOL, host

HOUR = 3600 * SECOND
KEPT = CopyFacts(counted_elsewhere=0)
SPARE = CopyFacts(counted_elsewhere=1, holders=("host-2.0a1b2c3d",))
RULES = CopyRules(last_copies_for=None)
PAUSED = Paused("root@host-1", NOW - timedelta(hours=1), "new registry")
LIMITS = DiskLimits(high_watermark=0.85, low_watermark=0.8)


def view(facts: Mapping[str, CopyFacts] | None = None, **fields: Any) -> FleetView:
    """Make what a host knows that has joined, and may release."""
    return FleetView(
        **{
            "state": FleetState.JOINED,
            "rules": RULES,
            "settings": FleetSettings(),
            "facts": facts or {},
            "token_free": True,
            **fields,
        }
    )


def cache(fleet: FleetView | None, count: int = 2, **fields: Any) -> Inventory:
    """Put images into a cache that are due, each unused for longer than the one before."""
    images = [make_image(digest) for digest in (A, B, C, D)[:count]]
    states = {(ALPINE, image.digest): DUE_NS - SECOND * number for number, image in enumerate(images)}
    return make_inventory(make_repository(*images), **{"states": states, "fleet": fleet, **fields})


def decide(fleet: FleetView | None, count: int = 2, **policy: Any) -> Plan:
    return plan(cache(fleet, count), make_policy(**policy), NOW)


def going(found: Plan) -> set[str]:
    return {verdict.digest for verdict in found.deletions}


def verdict_of(found: Plan, digest: str = A, repository: str = ALPINE) -> Verdict:
    verdict = found.verdict(repository, digest)
    assert verdict is not None
    return verdict


def reasons(found: Plan) -> dict[str, Reason]:
    return {verdict.digest: verdict.reason for verdict in found.iterate()}


# What is held back.


def test_what_others_have_goes_and_a_last_copy_stays() -> None:
    found = decide(view({A: KEPT, B: SPARE}))

    assert reasons(found) == {A: Reason.LAST_COPY, B: Reason.EXPIRED}
    assert verdict_of(found).action is Action.NONE
    assert found.to_release == 1


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"state": FleetState.DUPLICATE_HOST}, Reason.DUPLICATE_HOST),
        ({"state": FleetState.JOINING}, Reason.FLEET_UNREACHABLE),
        ({"state": FleetState.UNREACHABLE}, Reason.FLEET_UNREACHABLE),
        ({"state": FleetState.NOT_INITIALISED}, Reason.FLEET_UNREACHABLE),
        ({"state": FleetState.ROLLED_BACK}, Reason.FLEET_UNREACHABLE),
        ({"settings": None}, Reason.FLEET_UNREACHABLE),
        ({"settings": FleetSettings(paused=PAUSED)}, Reason.FLEET_PAUSED),
        ({"token_free": False}, Reason.FLEET_BRAKE),
        ({"rules": CopyRules(min_copies=2)}, Reason.LAST_COPY),
        ({"settings": FleetSettings(min_copies=2)}, Reason.LAST_COPY),
    ],
)
def test_what_holds_for_the_whole_fleet_holds_everything(fields: Mapping[str, Any], reason: Reason) -> None:
    facts = attrs.evolve(SPARE, newest_registered=NOW)
    found = decide(view({A: facts, B: facts}, **fields))

    assert reasons(found) == {A: reason, B: reason}
    assert (found.deletions, found.unasked, found.to_release) == ((), (), 0)


def test_where_no_engine_runs_what_was_read_counts() -> None:
    assert reasons(decide(view({A: KEPT, B: SPARE}, state=FleetState.STOPPED))) == {
        A: Reason.LAST_COPY,
        B: Reason.EXPIRED,
    }


def test_whether_a_token_is_free_need_not_be_known() -> None:
    assert going(decide(view({A: SPARE, B: SPARE}, token_free=None))) == {A, B}


def test_timers_run_on_and_nothing_else_changes() -> None:
    alone, together = decide(None), decide(view({A: KEPT, B: KEPT}))

    assert (together.marks, together.clears, together.pruned) == (alone.marks, alone.clears, alone.pruned)
    assert verdict_of(together).unused_since_ns == DUE_NS
    assert verdict_of(together).expires_at_ns == NOW_NS
    assert together.expired == alone.expired


def test_what_has_not_expired_has_no_reason_of_the_fleet() -> None:
    inventory = cache(
        view({A: KEPT}, state=FleetState.DUPLICATE_HOST, settings=FleetSettings(paused=PAUSED)),
        count=1,
        states={(ALPINE, A): NOW_NS},
    )
    verdict = verdict_of(plan(inventory, make_policy(), NOW))

    assert (verdict.reason, verdict.blockers) == (Reason.RETENTION_WINDOW, (Reason.RETENTION_WINDOW,))
    assert (verdict.copies_elsewhere, verdict.detail) == (0, None)


# What has to be asked.


def test_what_was_not_asked_about_stays_and_is_named() -> None:
    found = decide(view({A: SPARE}))

    assert reasons(found) == {A: Reason.EXPIRED, B: Reason.FLEET_UNREACHABLE}
    assert found.unasked == (B,)
    assert verdict_of(found, B).blockers == (Reason.FLEET_UNREACHABLE,)


def test_only_what_would_go_in_this_sweep_is_asked_about() -> None:
    found = decide(view(), count=4, max_deletes=2)

    assert set(found.unasked) == {C, D}
    assert (reasons(found)[A], reasons(found)[B]) == (Reason.DEFERRED, Reason.DEFERRED)


def test_what_the_fleet_keeps_takes_no_place_in_the_limits_of_a_sweep() -> None:
    found = decide(view({D: KEPT, C: SPARE, B: SPARE}), count=4, max_deletes=2)

    assert reasons(found) == {
        A: Reason.DEFERRED,
        B: Reason.EXPIRED,
        C: Reason.EXPIRED,
        D: Reason.LAST_COPY,
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"state": FleetState.UNREACHABLE},
        {"settings": FleetSettings(paused=PAUSED)},
        {"token_free": False},
    ],
)
def test_nothing_is_asked_while_everything_stays_anyway(fields: Mapping[str, Any]) -> None:
    assert decide(view(**fields)).unasked == ()


def test_nothing_is_asked_at_hours_at_which_nothing_goes() -> None:
    found = decide(view(), window=DeletionWindow(hours=["02:00-05:00"]))

    assert found.unasked == ()
    assert verdict_of(found).reason is Reason.OUTSIDE_WINDOW


def test_nothing_is_asked_while_the_brake_of_this_host_holds() -> None:
    found = decide(view(), brake=Brake(0.0, 1))

    assert found.unasked == ()
    assert verdict_of(found).reason is Reason.BRAKE


# What explains it.


def test_every_reason_that_holds_and_is_known_is_told_in_order() -> None:
    rules = attrs.evolve(RULES, hot_for=timedelta(days=1))
    hot = attrs.evolve(KEPT, last_used=NOW - timedelta(hours=1))
    found = decide(view({A: hot}, rules=rules, settings=FleetSettings(paused=PAUSED), token_free=False))

    verdict = verdict_of(found)
    assert verdict.reason is Reason.FLEET_PAUSED
    assert verdict.blockers == (
        Reason.FLEET_PAUSED,
        Reason.LAST_COPY,
        Reason.USED_IN_FLEET,
        Reason.FLEET_BRAKE,
    )
    assert verdict.copies_elsewhere == 0
    assert verdict_of(found, B).blockers == (Reason.FLEET_PAUSED, Reason.FLEET_BRAKE)
    assert verdict_of(found, B).copies_elsewhere is None


@pytest.mark.parametrize(
    ("policy", "inventory", "reason"),
    [
        ({"brake": Brake(0.0, 1)}, {}, Reason.BRAKE),
        ({"window": DeletionWindow(hours=["02:00-05:00"])}, {}, Reason.OUTSIDE_WINDOW),
        ({}, {"backing_off": {(ALPINE, A)}}, Reason.BACKOFF),
    ],
)
def test_what_else_holds_an_expired_image_comes_first_and_the_fleet_is_told_too(
    policy: Mapping[str, Any], inventory: Mapping[str, Any], reason: Reason
) -> None:
    found = plan(cache(view({A: KEPT, B: KEPT}), **inventory), make_policy(**policy), NOW)

    verdict = verdict_of(found)
    assert verdict.reason is reason
    assert set(verdict.blockers) == {reason, Reason.LAST_COPY}


def test_who_paused_the_fleet_is_told() -> None:
    verdict = verdict_of(decide(view({A: SPARE}, settings=FleetSettings(paused=PAUSED))))

    assert verdict.detail is not None
    assert verdict.detail.startswith("paused by root@host-1 at ")
    assert verdict.detail.endswith(": new registry; to go on: hmret fleet resume")


def test_what_is_wrong_with_etcd_is_told_as_the_link_says_it() -> None:
    fleet = view(state=FleetState.UNREACHABLE, detail="etcd is full: compact and defragment it")

    assert verdict_of(decide(fleet)).detail == "etcd is full: compact and defragment it"


def test_that_the_fleet_has_not_answered_yet_is_told() -> None:
    assert verdict_of(decide(view())).detail == "the fleet has not said yet who else has a copy"


@pytest.mark.parametrize(
    ("facts", "detail"),
    [
        (KEPT, "no other live host has a copy; 2 must"),
        (SPARE, "1 other live host has a copy (host-2.0a1b2c3d); 2 must"),
        (
            attrs.evolve(KEPT, uncounted=("host-3.00000001",)),
            "no other live host has a copy, not counted: host-3.00000001 (dead or drained); 2 must",
        ),
    ],
)
def test_which_hosts_have_a_last_copy_is_told(facts: CopyFacts, detail: str) -> None:
    rules = attrs.evolve(RULES, min_copies=2)

    assert verdict_of(decide(view({A: facts}, rules=rules))).detail == detail


def test_until_when_a_last_copy_stays_is_told() -> None:
    rules = CopyRules(last_copies_for=timedelta(days=90))
    facts = attrs.evolve(KEPT, newest_registered=NOW)
    verdict = verdict_of(decide(view({A: facts}, rules=rules)))

    assert verdict.detail is not None
    assert "; goes as a last copy if it is used nowhere until " in verdict.detail


def test_how_long_ago_it_was_used_and_how_many_copies_it_needs_is_told() -> None:
    rules = attrs.evolve(RULES, hot_for=timedelta(days=1))
    hot = attrs.evolve(SPARE, last_used=NOW - timedelta(minutes=90))

    assert verdict_of(decide(view({A: hot}, rules=rules))).detail == (
        "1 other live host has a copy (host-2.0a1b2c3d); used in the fleet 1h30m ago, so 3 must"
    )
    rules = attrs.evolve(rules, hot_copies=None)
    told = verdict_of(decide(view({A: hot}, rules=rules))).detail
    assert told is not None
    assert told.endswith("used in the fleet 1h30m ago, so all copies stay")


def test_of_very_many_holders_some_are_named() -> None:
    names = tuple(f"host-{number}.00000000" for number in range(9))
    rules = attrs.evolve(RULES, min_copies=40)
    found = decide(view({A: CopyFacts(counted_elsewhere=30, holders=names)}, rules=rules))

    assert verdict_of(found).detail == (
        f"30 other live hosts have a copy ({', '.join(names[:5])} and 25 more); 40 must"
    )


# What stands here more than once.


def twice(fleet: FleetView, *, states: Mapping[tuple[str, str], int], **fields: Any) -> Inventory:
    """Put one image into two repositories of the older layout, each with a folder of its own."""
    repositories = (make_repository(make_image(A), name=name) for name in (BASE, TOOL))
    return make_inventory(*repositories, states=states, fleet=fleet, **fields)


def test_a_deletion_that_leaves_the_image_here_is_none_of_the_fleets() -> None:
    fleet = view({A: KEPT}, token_free=False, settings=FleetSettings(paused=PAUSED))
    found = plan(twice(fleet, states={(BASE, A): DUE_NS, (TOOL, A): NOW_NS}), make_policy(), NOW)

    assert [(one.repository, one.reason) for one in found.deletions] == [(BASE, Reason.EXPIRED)]
    assert (found.unasked, found.to_release) == ((), 0)


def test_of_several_that_go_in_one_sweep_the_last_is_the_fleets() -> None:
    states = {(BASE, A): DUE_NS, (TOOL, A): DUE_NS}
    found = plan(twice(view({A: KEPT}), states=states), make_policy(), NOW)

    assert [one.repository for one in found.deletions] == [BASE]
    assert verdict_of(found, A, TOOL).reason is Reason.LAST_COPY
    assert plan(twice(view(), states=states), make_policy(), NOW).unasked == (A,)
    assert plan(twice(view({A: SPARE}), states=states), make_policy(), NOW).to_release == 1


def test_an_image_that_is_not_whole_keeps_no_other_from_being_the_last() -> None:
    whole = make_repository(make_image(A), name=BASE)
    torn = make_repository(make_image(A, broken="no rootfs"), name=TOOL)
    states = {(BASE, A): DUE_NS, (TOOL, A): DUE_NS}
    inventory = make_inventory(whole, torn, states=states, fleet=view({A: KEPT}))

    assert verdict_of(plan(inventory, make_policy(), NOW), A, BASE).reason is Reason.LAST_COPY


def test_content_of_several_repositories_is_one_copy() -> None:
    inventory = attrs.evolve(
        host({(ALPINE, A): DUE_NS, (BASE, A): DUE_NS, (TOOL, A): DUE_NS}), fleet=view({A: KEPT})
    )
    found = plan(inventory, make_policy(), NOW)

    assert {one.reason for one in found.iterate()} == {Reason.LAST_COPY}
    assert found.deletions == ()


# A disk that is too full.


def full(fleet: FleetView, *, count: int = 4, **fields: Any) -> Inventory:
    """Put images of 30 bytes into a cache whose disk lacks 60; all are in their window, A has been unused the longest."""
    images = [make_image(digest, disk_bytes=30) for digest in (A, B, C, D)[:count]]
    states = {(ALPINE, image.digest): NOW_NS - (9 - number) * HOUR for number, image in enumerate(images)}
    disk = DiskUsage(860, 140)
    return make_inventory(
        make_repository(*images), **{"states": states, "fleet": fleet, "disk": disk, **fields}
    )


def press(inventory: Inventory, **policy: Any) -> Plan:
    return plan(inventory, make_policy(disk=LIMITS, **policy), NOW)


def test_what_the_disk_would_take_is_asked_about_first() -> None:
    found = press(full(view()))

    assert (going(found), set(found.unasked)) == (set(), {A, B})
    assert verdict_of(found).reason is Reason.RETENTION_WINDOW
    assert verdict_of(found).blockers == (Reason.RETENTION_WINDOW,)
    assert found.pressure is not None
    assert found.pressure.projected_bytes == 0


def test_the_disk_takes_others_in_place_of_last_copies() -> None:
    found = press(full(view({A: KEPT, B: SPARE, C: SPARE})))

    assert reasons(found) == {
        A: Reason.RETENTION_WINDOW,
        B: Reason.DISK_PRESSURE,
        C: Reason.DISK_PRESSURE,
        D: Reason.RETENTION_WINDOW,
    }
    assert found.unasked == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"state": FleetState.UNREACHABLE},
        {"state": FleetState.DUPLICATE_HOST},
        {"settings": FleetSettings(paused=PAUSED)},
        {"token_free": False},
    ],
)
@pytest.mark.parametrize("yields", [False, True])
def test_pause_and_tokens_hold_on_a_full_disk_too(fields: Mapping[str, Any], yields: bool) -> None:
    rules = attrs.evolve(RULES, yields_to_pressure=yields)
    found = press(full(view(dict.fromkeys((A, B, C, D), SPARE), rules=rules, **fields)))

    assert (going(found), found.unasked) == (set(), ())
    assert set(reasons(found).values()) == {Reason.RETENTION_WINDOW}


def test_last_copies_go_for_space_where_the_operator_says_so_and_nothing_is_asked() -> None:
    rules = attrs.evolve(RULES, yields_to_pressure=True)
    found = press(full(view({A: KEPT}, rules=rules)))

    assert (going(found), found.unasked) == ({A, B}, ())
    assert found.to_release == 2


def test_expired_last_copies_go_for_space_only_where_the_operator_says_so() -> None:
    states = {(ALPINE, digest): DUE_NS for digest in (A, B)}
    for yields, gone in ((False, set()), (True, {A, B})):
        rules = attrs.evolve(RULES, yields_to_pressure=yields)
        found = press(full(view({A: KEPT, B: KEPT}, rules=rules), count=2, states=states))
        assert going(found) == gone
        assert set(reasons(found).values()) == {Reason.DISK_PRESSURE if yields else Reason.LAST_COPY}


def test_what_is_held_back_at_its_hour_too_is_what_it_was_before() -> None:
    closed = DeletionWindow(hours=["02:00-05:00"], yields_to_pressure=True)
    states = {(ALPINE, digest): DUE_NS for digest in (A, B)}
    found = press(full(view({A: KEPT, B: KEPT}), count=2, states=states), window=closed)

    assert going(found) == set()
    assert set(reasons(found).values()) == {Reason.OUTSIDE_WINDOW}


def test_of_two_that_the_disk_would_take_the_last_is_the_fleets() -> None:
    states = {(BASE, A): NOW_NS - 9 * HOUR, (TOOL, A): NOW_NS - 8 * HOUR}
    all_of_it = DiskLimits(high_watermark=0.5, low_watermark=0.0)
    for facts, gone in ((KEPT, [BASE]), (SPARE, [BASE, TOOL])):
        inventory = twice(view({A: facts}), states=states, disk=DiskUsage(8192, 1))
        found = plan(inventory, make_policy(disk=all_of_it), NOW)
        assert [one.repository for one in found.deletions] == gone
        assert found.to_release == len(gone) - 1
    inventory = twice(view({A: KEPT}), states=states, disk=DiskUsage(8192, 1))
    found = plan(inventory, make_policy(disk=all_of_it), NOW)
    assert verdict_of(found, A, TOOL).reason is Reason.RETENTION_WINDOW


def test_images_with_links_to_one_disk_go_together_or_not_at_all() -> None:
    linked = SharedDisk(1, 1, 2)
    images = [make_image(digest, disk_bytes=30, shared_disk=linked) for digest in (A, B)]
    states = {(ALPINE, A): NOW_NS - 9 * HOUR, (ALPINE, B): NOW_NS - 8 * HOUR}
    for facts, gone in (({A: SPARE, B: KEPT}, set()), ({A: SPARE, B: SPARE}, {A, B})):
        inventory = make_inventory(
            make_repository(*images), states=states, fleet=view(facts), disk=DiskUsage(860, 140)
        )
        assert going(press(inventory)) == gone
