"""What a plan foresees, and what is left of that after deletions."""

import random
from collections import Counter
from datetime import datetime, timedelta

import pytest

from hmret.model.images import Cause, Inventory, SharedDisk, Suspension
from hmret.model.plan.decide import plan
from hmret.model.plan.forecast import DAYS, HORIZONS, Due, Outlook, ReasonTotal, summarize
from hmret.model.policy.compiled import NEVER
from hmret.model.references import Key
from hmret.model.times import SECOND
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
    guest,
    make_image,
    make_inventory,
    make_policy,
    make_repository,
    make_rule,
)
from support.builders import digest

DAY_NS = 86_400 * SECOND
HOUR_NS = 3600 * SECOND


def foresee(inventory: Inventory, *, max_deletes: int = 0) -> Outlook:
    return summarize(plan(inventory, make_policy(max_deletes=max_deletes), NOW))


def due_in(nanoseconds: int) -> int:
    """Make a timer that runs out so long from now."""
    return DUE_NS + nanoseconds


def test_an_empty_cache_has_nothing_to_foresee() -> None:
    outlook = foresee(make_inventory())
    assert (outlook.images, outlook.disk_bytes, outlook.tracked, outlook.overdue) == (0, 0, 0, 0)
    assert outlook.within == {"24h": 0, "7d": 0, "30d": 0}
    assert outlook.days == tuple(Due(NOW.date() + timedelta(days=day), 0, 0) for day in range(DAYS))


def test_each_image_falls_due_on_the_utc_day_on_which_its_timer_runs_out() -> None:
    images = [make_image(digest, disk_bytes=size) for digest, size in ((A, 1), (B, 10), (C, 100))]
    to_midnight_ns = DAY_NS - NOW_NS % DAY_NS
    states = {
        (ALPINE, A): due_in(to_midnight_ns - 1),
        (ALPINE, B): due_in(to_midnight_ns),
        (ALPINE, C): due_in(to_midnight_ns + 5 * DAY_NS),
    }
    days = foresee(make_inventory(make_repository(*images), states=states)).days
    assert [(due.images, due.disk_bytes) for due in days[:8]] == [
        *((1, 1), (1, 10)),
        *((0, 0), (0, 0), (0, 0), (0, 0)),
        *((1, 100), (0, 0)),
    ]


def test_what_is_overdue_counts_on_the_first_day() -> None:
    repository = make_repository(make_image(A, disk_bytes=1), make_image(B, disk_bytes=10))
    states = {(ALPINE, A): due_in(-90 * DAY_NS), (ALPINE, B): due_in(0)}
    outlook = foresee(make_inventory(repository, states=states))
    assert outlook.days[0] == Due(NOW.date(), 2, 11)
    assert (outlook.tracked, outlook.overdue) == (2, 2)
    assert outlook.within == {"24h": 11, "7d": 11, "30d": 11}


def test_the_spans_count_from_the_time_of_the_plan_and_hold_what_the_shorter_ones_hold() -> None:
    images = [make_image(digest, disk_bytes=size) for digest, size in ((A, 1), (B, 10), (C, 100), (D, 1000))]
    states = {
        (ALPINE, A): due_in(24 * HOUR_NS),
        (ALPINE, B): due_in(24 * HOUR_NS + 1),
        (ALPINE, C): due_in(30 * DAY_NS),
        (ALPINE, D): due_in(30 * DAY_NS + 1),
    }
    outlook = foresee(make_inventory(make_repository(*images), states=states))
    assert outlook.within == {"24h": 1, "7d": 11, "30d": 111}


def test_one_whose_timer_starts_now_falls_due_after_the_whole_window() -> None:
    outlook = foresee(make_inventory(make_repository(make_image(A)), states={}))
    assert outlook.holdings == {(Action.MARK, Reason.NEWLY_UNUSED): ReasonTotal(1, 4096)}
    assert (outlook.tracked, outlook.overdue) == (1, 0)
    assert outlook.days[30].images == 1
    assert outlook.within["30d"] == 4096


def test_what_is_in_use_never_falls_due() -> None:
    repository = make_repository(make_image(A), tags={"latest": A})
    outlook = foresee(make_inventory(repository, references=[guest(f"{ALPINE}@{A}")]))
    assert outlook.holdings == {(Action.CLEAR, Reason.REFERENCED): ReasonTotal(1, 4096)}
    assert outlook.tracked == 0
    assert not any(due.images for due in outlook.days)


@pytest.mark.parametrize("cause", [Cause.UNREADABLE_REFERENCE, Cause.UNREADABLE_CACHE])
def test_what_a_suspension_holds_back_is_overdue(cause: Cause) -> None:
    outlook = foresee(
        make_inventory(make_repository(make_image(A)), suspensions=(Suspension(cause, "", ""),))
    )
    assert outlook.holdings == {(Action.NONE, Reason.SUSPENDED): ReasonTotal(1, 4096)}
    assert (outlook.tracked, outlook.overdue, outlook.days[0].images) == (1, 1, 1)


def test_while_no_timer_may_start_none_is_foreseen() -> None:
    jump = Suspension(Cause.CLOCK_JUMP, "", "")
    outlook = foresee(make_inventory(make_repository(make_image(A)), states={}, suspensions=(jump,)))
    assert (outlook.tracked, outlook.overdue) == (0, 0)


def test_what_is_deferred_is_overdue() -> None:
    outlook = foresee(make_inventory(make_repository(make_image(A), make_image(B))), max_deletes=1)
    assert outlook.overdue == 2
    assert outlook.holdings[Action.NONE, Reason.DEFERRED].images == 1


def test_a_disk_with_several_links_is_held_once_and_falls_due_with_the_last_of_them() -> None:
    shared = SharedDisk(1, 2, 2)
    repository = make_repository(make_image(A, shared_disk=shared), make_image(B, shared_disk=shared))
    states = {(ALPINE, A): due_in(3 * DAY_NS), (ALPINE, B): due_in(HOUR_NS)}
    outlook = foresee(make_inventory(repository, states=states))
    assert outlook.disk_bytes == 4096
    assert outlook.within == {"24h": 0, "7d": 4096, "30d": 4096}
    assert sum(due.disk_bytes for due in outlook.days) == 4096
    assert [due.images for due in outlook.days].count(1) == 2


def test_a_disk_with_a_link_elsewhere_never_comes_free() -> None:
    image = make_image(A, shared_disk=SharedDisk(1, 2, 3))
    outlook = foresee(make_inventory(make_repository(image)))
    assert outlook.days[0] == Due(NOW.date(), 1, 0)
    assert outlook.within["30d"] == 0


def test_what_has_been_deleted_is_no_longer_foreseen() -> None:
    repository = make_repository(
        make_image(A, disk_bytes=1), make_image(B, disk_bytes=10), make_image(C, disk_bytes=100)
    )
    states = {(ALPINE, A): DUE_NS, (ALPINE, B): DUE_NS, (ALPINE, C): due_in(3 * DAY_NS)}
    made = plan(make_inventory(repository, states=states), make_policy(), NOW)
    outlook = summarize(made, gone=[(ALPINE, B)])
    assert outlook.holdings[Action.DELETE, Reason.EXPIRED] == ReasonTotal(1, 1)
    assert (outlook.images, outlook.tracked, outlook.overdue) == (2, 2, 1)
    assert outlook.days[0] == Due(NOW.date(), 1, 1)
    assert outlook.within == {"24h": 1, "7d": 101, "30d": 101}


def test_what_has_gone_is_still_counted_as_none() -> None:
    made = plan(make_inventory(make_repository(make_image(A))), make_policy(), NOW)
    outlook = summarize(made, gone=[(ALPINE, A)])
    assert outlook.holdings == {(Action.DELETE, Reason.EXPIRED): ReasonTotal(0, 0)}
    assert (outlook.images, outlook.tracked, outlook.overdue) == (0, 0, 0)


def test_a_forecast_goes_as_far_as_it_is_asked_to() -> None:
    inventory = make_inventory(make_repository(make_image(A)), states={(ALPINE, A): NOW_NS})
    outlook = summarize(plan(inventory, make_policy(rules=(make_rule(window_ns=40 * DAY_NS),)), NOW), days=50)
    assert [number for number, due in enumerate(outlook.days) if due.images] == [40]


def test_what_stays_for_good_never_falls_due() -> None:
    policy = make_policy(keep_latest=1, rules=(make_rule(tags=("lts",), window_ns=NEVER),))
    images = [make_image(digest, created_ns=age) for digest, age in ((A, 1), (B, 2), (C, 3))]
    inventory = make_inventory(
        make_repository(*images, tags={"lts": A}),
        states={(ALPINE, image.digest): due_in(DAY_NS) for image in images},
    )
    outlook = summarize(plan(inventory, policy, NOW))
    assert [due.images for due in outlook.days if due.images] == [1]


def test_windows_of_rules_and_ages_are_foreseen() -> None:
    policy = make_policy(min_age_ns=5 * DAY_NS, rules=(make_rule(tags=("dev",), window_ns=2 * DAY_NS),))
    images = [make_image(A, created_ns=NOW_NS), make_image(B, created_ns=NOW_NS - 9 * DAY_NS)]
    inventory = make_inventory(make_repository(*images, tags={"dev": B, "dev-2": A}), states={})
    outlook = summarize(plan(inventory, policy, NOW))
    assert [number for number, due in enumerate(outlook.days) if due.images] == [2, 30]


def at_random(chance: random.Random) -> Inventory:
    """Make a cache of a few repositories, of all sorts of images."""
    digests = [digest(letters) for letters in "0123456789abcdef"]
    repositories = []
    states: dict[Key, int | None] = {}
    shares = chance.random() < 0.3
    for number in range(chance.randrange(1, 5)):
        name = f"{ALPINE}-{number}"
        images = []
        for one in chance.sample(digests, chance.randrange(1, 12)):
            shared = SharedDisk(1, chance.randrange(3), 2) if shares and chance.random() < 0.2 else None
            status = "pulling" if chance.random() < 0.1 else "ready"
            images.append(
                make_image(one, disk_bytes=chance.randrange(9999), status=status, shared_disk=shared)
            )
            if chance.random() < 0.9:
                states[name, one] = due_in(chance.randrange(-3 * DAY_NS, 35 * DAY_NS))
        repositories.append(make_repository(*images, name=name))
    return make_inventory(*repositories, states=states)


@pytest.mark.parametrize("seed", range(60))
def test_a_forecast_agrees_with_the_verdicts_also_where_a_plan_stands(seed: int) -> None:
    chance = random.Random(seed)
    inventory = at_random(chance)
    policy = make_policy(max_deletes=chance.choice((0, 1, 3)))
    made = None
    for days in (0, 0, 1, 2, 4):
        now = NOW + timedelta(days=days, hours=days and chance.randrange(24))
        made = plan(inventory, policy, now, made)
        outlook = summarize(made)
        due: list[tuple[datetime, int]] = []
        for verdict in made.verdicts:
            if verdict.action is Action.MARK:
                due.append((now + timedelta(days=30), verdict.disk_bytes))
            elif verdict.action is not Action.CLEAR and verdict.expires_at is not None:
                due.append((max(verdict.expires_at, now), verdict.disk_bytes))
        reasons = Counter(verdict.reason for verdict in made.verdicts)
        assert {reason: held.images for (_, reason), held in outlook.holdings.items()} == reasons
        assert (outlook.tracked, outlook.overdue) == (len(due), sum(moment <= now for moment, _ in due))
        by_day = Counter(moment.date() for moment, _ in due)
        assert [one.images for one in outlook.days] == [by_day[one.day] for one in outlook.days]
        if not any(
            image.shared_disk for one in inventory.repositories.values() for image in one.images.values()
        ):
            for name, span in HORIZONS.items():
                assert outlook.within[name] == sum(freed for moment, freed in due if moment <= now + span)
            for one in outlook.days:
                assert one.disk_bytes == sum(freed for moment, freed in due if moment.date() == one.day)
            assert outlook.disk_bytes == sum(verdict.disk_bytes for verdict in made.verdicts)


def test_the_same_cache_is_told_alike_in_whatever_order_its_repositories_come() -> None:
    shared = SharedDisk(1, 2, 2)
    rows = {
        name: make_repository(make_image(A, disk_bytes=4096, shared_disk=shared), name=name)
        for name in (ALPINE, "ghcr.io/o/x")
    }
    references = [guest("ghcr.io/o/x@" + A)]
    states = {(ALPINE, A): due_in(DAY_NS)}
    told = [
        foresee(make_inventory(*order, states=states, references=references))
        for order in (list(rows.values()), list(rows.values())[::-1])
    ]
    assert told[0].holdings == told[1].holdings
