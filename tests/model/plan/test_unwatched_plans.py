"""Plans that know of time that nobody watched, of images that were pulled again, and of reads that nobody saw."""

from datetime import timedelta
from typing import Any

import pytest

from hmret.model.clock.unwatched import NO_GAPS, Gaps
from hmret.model.images import DiskUsage, Inventory
from hmret.model.plan.decide import plan
from hmret.model.plan.forecast import summarize
from hmret.model.policy.limits import DiskLimits
from hmret.model.times import SECOND, datetime_of
from hmret.model.verdicts import Action, Reason
from model.inventories import (
    ALPINE,
    DUE_NS,
    NOW,
    NOW_NS,
    WINDOW_NS,
    A,
    B,
    make_image,
    make_inventory,
    make_policy,
    make_repository,
    make_rule,
)

DAY_NS = 86_400 * SECOND
WEEK = Gaps(((NOW_NS - 10 * DAY_NS, NOW_NS - 3 * DAY_NS),))
"""Seven days that nobody watched, until three days ago."""


def cache(*since_ns: int | None, gaps: Gaps = WEEK, **fields: object) -> Inventory:
    """Make a repository with an image for each timer."""
    images = [make_image(digest) for digest, _ in zip((A, B), since_ns, strict=False)]
    states = {(ALPINE, image.digest): since for image, since in zip(images, since_ns, strict=True)}
    return make_inventory(make_repository(*images), states=states, gaps=gaps, **fields)


def reason_of(inventory: Inventory, digest: str = A, **policy: Any) -> Reason:
    verdict = plan(inventory, make_policy(**policy), NOW).verdict(ALPINE, digest)
    assert verdict is not None
    return verdict.reason


# The window.


@pytest.mark.parametrize(
    ("since_ns", "reason"),
    [
        (DUE_NS - 7 * DAY_NS, Reason.EXPIRED),
        (DUE_NS - 7 * DAY_NS + 1, Reason.RETENTION_WINDOW),
        (DUE_NS, Reason.RETENTION_WINDOW),
    ],
)
def test_a_window_ends_later_by_what_nobody_watched_to_the_nanosecond(since_ns: int, reason: Reason) -> None:
    assert reason_of(cache(since_ns)) is reason
    assert reason_of(cache(since_ns), min_age_ns=1) in (reason, Reason.TOO_YOUNG)


def test_a_timer_from_within_that_time_counts_from_its_end() -> None:
    verdict = plan(cache(NOW_NS - 5 * DAY_NS), make_policy(), NOW).verdict(ALPINE, A)
    assert verdict is not None
    assert verdict.unused_since_ns == NOW_NS - 5 * DAY_NS
    assert verdict.expires_at_ns == NOW_NS - 3 * DAY_NS + WINDOW_NS


def test_a_verdict_says_how_much_does_not_count() -> None:
    verdict = plan(cache(DUE_NS), make_policy(), NOW).verdict(ALPINE, A)
    assert verdict is not None
    assert verdict.detail == "7d since then do not count: no engine watched whether it was in use"
    later = plan(cache(NOW_NS - DAY_NS), make_policy(), NOW).verdict(ALPINE, A)
    assert later is not None
    assert later.detail is None


def test_windows_of_rules_go_by_it_too() -> None:
    rule = make_rule("*", window_ns=DAY_NS)
    assert reason_of(cache(NOW_NS - 8 * DAY_NS), rules=(rule,)) is Reason.EXPIRED
    assert reason_of(cache(NOW_NS - 8 * DAY_NS), rules=(make_rule("*", window_ns=4 * DAY_NS),)) is (
        Reason.RETENTION_WINDOW
    )


@pytest.mark.parametrize(("days", "goes"), [(9, False), (12, True)])
def test_what_the_disk_needs_goes_only_after_min_unused_for_of_watched_time(days: int, goes: bool) -> None:
    limits = DiskLimits(high_watermark=0.5, min_unused_for=timedelta(days=4))
    inventory = cache(NOW_NS - days * DAY_NS, disk=DiskUsage(used_bytes=1 << 20, available_bytes=1 << 10))
    expected = Reason.DISK_PRESSURE if goes else Reason.RETENTION_WINDOW
    assert reason_of(inventory, disk=limits) is expected


# Other times.


def test_the_time_to_come_counts_as_watched() -> None:
    inventory = cache(DUE_NS)
    before, after = (datetime_of(NOW_NS + 7 * DAY_NS - one) for one in (1000, 0))
    assert plan(inventory, make_policy(), before).summary.delete == 0
    assert plan(inventory, make_policy(), after).summary.delete == 1


def test_of_an_earlier_time_what_came_after_it_is_not_known() -> None:
    then = datetime_of(NOW_NS - 8 * DAY_NS)
    inventory = cache(NOW_NS - 8 * DAY_NS - WINDOW_NS - 2 * DAY_NS)
    assert plan(inventory, make_policy(), then).summary.delete == 1


def test_a_forecast_goes_by_it() -> None:
    outlook = summarize(plan(cache(DUE_NS, NOW_NS), make_policy(), NOW))
    assert outlook.overdue == 0
    due = [day.images for day in outlook.days]
    assert (due[7], due[30]) == (1, 1)


def test_a_new_gap_makes_a_plan_that_was_kept_anew() -> None:
    inventory = cache(DUE_NS, NOW_NS - DAY_NS)
    first = plan(inventory, make_policy(), NOW)
    summarize(first)  # its due times are kept with it
    gaps = WEEK.with_gap(NOW_NS, NOW_NS + 2 * DAY_NS)
    later = datetime_of(NOW_NS + 8 * DAY_NS)
    changed = make_inventory(*inventory.repositories.values(), states=inventory.states, gaps=gaps)
    second = plan(changed, make_policy(), later, first)
    assert second.summary.delete == 0
    assert second.verdicts == plan(changed, make_policy(), later).verdicts
    assert summarize(second) == summarize(plan(changed, make_policy(), later))


def test_a_part_of_a_plan_ends_when_watched_time_makes_an_image_due() -> None:
    inventory = cache(DUE_NS)
    first = plan(inventory, make_policy(), NOW)
    due = datetime_of(NOW_NS + 7 * DAY_NS)
    assert plan(inventory, make_policy(), due, first).summary.delete == 1


# Pulled again.


@pytest.mark.parametrize(
    ("created_ns", "reason"),
    [
        (DUE_NS, Reason.EXPIRED),
        (DUE_NS + 1, Reason.NEWLY_UNUSED),
        (NOW_NS, Reason.NEWLY_UNUSED),
        (NOW_NS + 1, Reason.EXPIRED),
        (NOW_NS + 400 * DAY_NS, Reason.EXPIRED),
        (None, Reason.EXPIRED),
    ],
)
def test_a_timer_from_before_its_image_was_made_begins_again_unless_that_is_unknown(
    created_ns: int | None, reason: Reason
) -> None:
    image = make_image(A, created_ns=created_ns)
    inventory = make_inventory(make_repository(image))
    assert reason_of(inventory) is reason
    made = plan(inventory, make_policy(), NOW)
    assert made.marks == (((ALPINE, A),) if reason is Reason.NEWLY_UNUSED else ())
    assert made.mark_times == {}


def test_an_image_within_its_window_that_was_pulled_again_begins_again_too() -> None:
    image = make_image(A, created_ns=NOW_NS - DAY_NS)
    states = {(ALPINE, A): NOW_NS - 2 * DAY_NS}
    assert reason_of(make_inventory(make_repository(image), states=states)) is Reason.NEWLY_UNUSED


def test_a_plan_that_was_kept_ends_when_a_time_in_the_future_is_reached() -> None:
    image = make_image(A, created_ns=NOW_NS + DAY_NS)
    inventory = make_inventory(make_repository(image), states={(ALPINE, A): NOW_NS - DAY_NS})
    first = plan(inventory, make_policy(), NOW)
    assert first.marks == ()
    later = datetime_of(NOW_NS + DAY_NS)
    assert plan(inventory, make_policy(), later, first).marks == ((ALPINE, A),)


# When a timer starts.


@pytest.mark.parametrize(
    "policy",
    [{}, {"min_age_ns": 1}, {"min_age_ns": 1, "rules": (make_rule(window_ns=1),)}],
    ids=["one window", "a minimum age", "a rule"],
)
def test_a_timer_starts_at_the_sweep_that_writes_it_also_where_the_plan_was_kept(policy: Any) -> None:
    inventory = cache(None, gaps=NO_GAPS)
    first = plan(inventory, make_policy(**policy), NOW)
    later = plan(inventory, make_policy(**policy), datetime_of(NOW_NS + DAY_NS), first)
    assert later.marks == ((ALPINE, A),)
    assert (first.mark_times, later.mark_times) == ({}, {})


# Read while nobody watched.


def test_a_disk_that_was_read_unseen_begins_its_timer_again_when_it_was_read() -> None:
    read_ns = NOW_NS - 5 * DAY_NS
    inventory = cache(DUE_NS - 20 * DAY_NS, DUE_NS - 20 * DAY_NS, accessed={(ALPINE, A): read_ns})
    made = plan(inventory, make_policy(), NOW)
    assert made.marks == ((ALPINE, A),)
    assert made.mark_times == {(ALPINE, A): read_ns}
    assert (made.held_back, made.expired) == (1, 1)
    assert reason_of(inventory) is Reason.NEWLY_UNUSED
    assert reason_of(inventory, B) is Reason.EXPIRED


def test_what_is_not_due_is_not_held_back_by_a_read() -> None:
    inventory = cache(NOW_NS - 20 * DAY_NS, accessed={(ALPINE, A): NOW_NS - 5 * DAY_NS})
    made = plan(inventory, make_policy(), NOW)
    assert (made.held_back, made.mark_times) == (0, {(ALPINE, A): NOW_NS - 5 * DAY_NS})


def test_a_timer_that_a_read_begins_anew_is_one_that_patterns_stop() -> None:
    read_ns = NOW_NS - 5 * DAY_NS
    inventory = cache(DUE_NS, NOW_NS - DAY_NS, accessed={(ALPINE, A): read_ns})
    made = plan(inventory, make_policy(allowed=()), NOW)
    assert made.stopped_timers == {Reason.NOT_ALLOWED: 2}
    verdict = made.verdict(ALPINE, A)
    assert verdict is not None
    assert (verdict.action, verdict.unused_since_ns) == (Action.CLEAR, read_ns)


def test_a_timer_of_an_image_that_was_pulled_again_is_none_that_patterns_stop() -> None:
    image = make_image(A, created_ns=NOW_NS - 2 * DAY_NS)
    key = (ALPINE, A)
    inventory = make_inventory(
        make_repository(image), states={key: DUE_NS}, gaps=WEEK, accessed={key: NOW_NS - DAY_NS}
    )
    made = plan(inventory, make_policy(allowed=()), NOW)
    assert made.clears
    assert made.stopped_timers == {}


def test_a_forecast_counts_from_the_read() -> None:
    inventory = cache(DUE_NS, gaps=Gaps(), accessed={(ALPINE, A): NOW_NS - 5 * DAY_NS})
    outlook = summarize(plan(inventory, make_policy(), NOW))
    assert [day.images for day in outlook.days].index(1) == 25


def test_a_plan_after_the_read_does_not_keep_it() -> None:
    read = cache(DUE_NS, gaps=Gaps(), accessed={(ALPINE, A): NOW_NS - 5 * DAY_NS})
    first = plan(read, make_policy(), NOW)
    again = make_inventory(*read.repositories.values(), states=read.states)
    assert plan(again, make_policy(), NOW, first).summary.delete == 1
