"""What goes in one sweep: the brake, the hours, and the limits of a sweep."""

import pytest

from hmret.model.images import Inventory, Repository
from hmret.model.plan.decide import plan
from hmret.model.plan.plan import Plan
from hmret.model.policy.brake import Brake, Braking
from hmret.model.policy.window import DeletionWindow
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
    make_image,
    make_inventory,
    make_policy,
    make_repository,
    make_rule,
)

GIB = 1 << 30
CLOSED = DeletionWindow(hours=["02:00-05:00"])


def four(*, size_bytes: int = GIB, **fields: object) -> Inventory:
    """Put four images that are due into a cache, each unused for longer than the one before."""
    images = [make_image(digest, disk_bytes=size_bytes) for digest in (A, B, C, D)]
    states = {(ALPINE, image.digest): DUE_NS - SECOND * number for number, image in enumerate(images)}
    return make_inventory(make_repository(*images), states=states, **fields)


def reasons(found: Plan) -> list[Reason]:
    return [verdict.reason for verdict in found.iterate()]


def going(found: Plan) -> list[str]:
    return [verdict.digest for verdict in found.deletions]


# The brake.


def test_the_brake_holds_all_that_has_expired_where_it_is_too_much() -> None:
    found = plan(four(), make_policy(brake=Brake(0.5, 1)), NOW)
    assert reasons(found) == [Reason.BRAKE] * 4
    assert found.braking == Braking(expired=4, eligible=4, is_released=False)
    assert found.summary.keep == 4


def test_the_brake_that_is_released_lets_go_and_still_says_what_it_sees() -> None:
    found = plan(four(brake_released_images=4), make_policy(brake=Brake(0.5, 1)), NOW)
    assert reasons(found) == [Reason.EXPIRED] * 4
    assert found.braking == Braking(expired=4, eligible=4, is_released=True)


def test_the_brake_holds_what_is_more_than_was_released() -> None:
    found = plan(four(brake_released_images=3), make_policy(brake=Brake(0.5, 1)), NOW)
    assert reasons(found) == [Reason.BRAKE] * 4


def test_the_newest_do_not_count_against_the_brake_in_their_window_either() -> None:
    images = [make_image(digest, created_ns=age) for age, digest in enumerate((A, B, C), 1)]
    states = {(ALPINE, A): DUE_NS, (ALPINE, B): NOW_NS, (ALPINE, C): NOW_NS}
    policy = make_policy(brake=Brake(0.5, 1), keep_latest=2)
    found = plan(make_inventory(make_repository(*images), states=states), policy, NOW)
    assert found.braking == Braking(expired=1, eligible=1, is_released=False)


@pytest.mark.parametrize(
    ("expired", "eligible", "holds"),
    [(19, 19, False), (20, 20, True), (20, 40, False), (21, 40, True), (20, 39, True), (0, 0, False)],
)
def test_it_takes_more_than_the_share_and_at_least_so_many(expired: int, eligible: int, holds: bool) -> None:
    assert Brake(0.5, 20).holds(expired, eligible) is holds


def test_what_cannot_go_at_all_does_not_count_against_the_brake() -> None:
    inventory = make_inventory(
        make_repository(make_image(A), make_image(B), make_image(C)),
        states={(ALPINE, A): DUE_NS, (ALPINE, B): DUE_NS, (ALPINE, C): NOW_NS},
        leased={(ALPINE, B)},
    )
    found = plan(inventory, make_policy(brake=Brake(0.5, 1)), NOW)
    assert found.braking is None
    assert going(found) == [A]


def test_a_limit_of_a_sweep_does_not_outwit_the_brake() -> None:
    found = plan(four(), make_policy(brake=Brake(0.5, 1), max_deletes=1), NOW)
    assert reasons(found) == [Reason.BRAKE] * 4


# The hours.


def test_outside_the_hours_nothing_goes_and_everything_says_so() -> None:
    inventory = four()
    found = plan(inventory, make_policy(window=CLOSED), NOW)
    assert reasons(found) == [Reason.OUTSIDE_WINDOW] * 4
    in_its_window = make_inventory(make_repository(make_image()), states={(ALPINE, A): NOW_NS})
    verdict = plan(in_its_window, make_policy(window=CLOSED), NOW).verdict(ALPINE, A)
    assert verdict is not None
    assert verdict.blockers == (Reason.RETENTION_WINDOW, Reason.OUTSIDE_WINDOW)


def test_within_the_hours_all_goes_as_without() -> None:
    night = NOW.replace(hour=2, minute=0, second=0)
    states = {(ALPINE, A): DUE_NS - 24 * 3600 * SECOND}
    found = plan(
        make_inventory(make_repository(make_image()), states=states), make_policy(window=CLOSED), night
    )
    assert going(found) == [A]


def test_marks_and_clears_go_on_outside_the_hours() -> None:
    inventory = make_inventory(
        make_repository(make_image(A), make_image(B)), states={(ALPINE, B): DUE_NS}, leased={(ALPINE, B)}
    )
    found = plan(inventory, make_policy(window=CLOSED), NOW)
    assert found.marks == ((ALPINE, A),)
    assert found.clears == (((ALPINE, B), Reason.LEASED),)


def test_the_brake_looks_outside_the_hours_too() -> None:
    found = plan(four(), make_policy(window=CLOSED, brake=Brake(0.5, 1)), NOW)
    assert found.braking is not None
    assert reasons(found) == [Reason.BRAKE] * 4
    verdict = found.verdict(ALPINE, A)
    assert verdict is not None
    assert verdict.blockers == (Reason.BRAKE, Reason.OUTSIDE_WINDOW)


# The limits of a sweep.


@pytest.mark.parametrize(
    ("max_bytes", "gone"),
    [
        (1, [D]),  # one always goes
        (GIB, [D]),
        (2 * GIB, [D, C]),
        (2 * GIB + 1, [D, C]),
        (4 * GIB, [D, C, B, A]),
        (0, [D, C, B, A]),
    ],
)
def test_a_limit_of_bytes_puts_off_what_does_not_fit(max_bytes: int, gone: list[str]) -> None:
    found = plan(four(), make_policy(max_bytes=max_bytes), NOW)
    assert going(found) == gone
    assert found.reasons[Reason.DEFERRED] == 4 - len(gone)


def test_both_limits_count() -> None:
    assert going(plan(four(), make_policy(max_bytes=3 * GIB, max_deletes=2), NOW)) == [D, C]
    assert going(plan(four(), make_policy(max_bytes=GIB, max_deletes=2), NOW)) == [D]


def test_the_summary_counts_what_the_steps_have_changed() -> None:
    found = plan(four(), make_policy(max_deletes=1), NOW)
    assert (found.summary.delete, found.summary.keep, found.summary.delete_bytes) == (1, 3, GIB)
    assert sum(found.reasons.values()) == 4


def test_the_verdicts_and_the_numbers_agree_whatever_the_steps() -> None:
    repository = Repository(
        ALPINE, {digest: make_image(digest) for digest in (A, B, C, D)}, {"dev": A, "v1": B}
    )
    states = {(ALPINE, A): NOW_NS - 10, (ALPINE, B): DUE_NS, (ALPINE, C): DUE_NS - 1}
    policy = make_policy(max_deletes=1, rules=(make_rule(tags=("dev",), window_ns=10),), keep_latest=1)
    found = plan(make_inventory(repository, states=states), policy, NOW)
    listed = [verdict.reason for verdict in found.iterate()]
    assert {reason: count for reason, count in found.reasons.items() if count} == {
        reason: listed.count(reason) for reason in set(listed)
    }
    assert all(verdict.action is Action.DELETE for verdict in found.deletions)
