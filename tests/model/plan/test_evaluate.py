"""The table of rules: every row, their order, and the edges of time."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from itertools import combinations
from typing import Any

import attrs
import msgspec
import pytest

from hmret.model.fleet import CopyFacts, CopyRules, FleetSettings, FleetState, FleetView, Paused
from hmret.model.images import Cause, Image, Inventory, Suspension
from hmret.model.plan.decide import plan
from hmret.model.plan.plan import Plan
from hmret.model.policy.brake import Brake
from hmret.model.policy.compiled import NEVER
from hmret.model.policy.window import DeletionWindow
from hmret.model.references import Reference
from hmret.model.times import SECOND
from hmret.model.verdicts import ACTIONS, Action, Reason, Verdict
from model.inventories import (
    ALPINE,
    DUE_NS,
    NOW,
    NOW_NS,
    WINDOW_NS,
    A,
    B,
    guest,
    make_image,
    make_inventory,
    make_policy,
    make_repository,
    make_rule,
)

OTHER = "quay.io/other/thing"
FUTURE_TOLERANCE_NS = 300 * SECOND
UNREADABLE = Suspension(Cause.UNREADABLE_REFERENCE, "guests/x/metadata.json", "torn")
JUMP = Suspension(Cause.CLOCK_JUMP, "", "the clock jumped")


@attrs.frozen
class World:
    """One image that is due, and another one elsewhere that has been unused for longer."""

    image: Image = attrs.field(factory=make_image)
    has_state: bool = True
    since_ns: int | None = DUE_NS
    references: tuple[Reference, ...] = ()
    is_leased: bool = False
    is_backing_off: bool = False
    suspensions: tuple[Suspension, ...] = ()
    fleet: FleetView | None = None
    allowed: tuple[str, ...] = ("*",)
    pinned: tuple[str, ...] = ()
    policy: Mapping[str, object] = attrs.field(factory=dict)
    """Fields of the policy."""

    def inventory(self) -> Inventory:
        states: dict[tuple[str, str], int | None] = {(OTHER, B): DUE_NS - SECOND}
        if self.has_state:
            states[ALPINE, A] = self.since_ns
        return make_inventory(
            make_repository(self.image),
            make_repository(make_image(B), name=OTHER),
            states=states,
            references=self.references,
            leased={(ALPINE, A)} if self.is_leased else frozenset(),
            backing_off={(ALPINE, A)} if self.is_backing_off else frozenset(),
            suspensions=self.suspensions,
            fleet=self.fleet,
        )

    def plan(self) -> Plan:
        policy = make_policy(allowed=self.allowed, pinned=self.pinned, **self.policy)
        return plan(self.inventory(), policy, NOW)

    def verdict(self) -> Verdict:
        verdict = self.plan().verdict(ALPINE, A)
        assert verdict is not None
        return verdict


def with_policy(world: World, **fields: object) -> World:
    return attrs.evolve(world, policy={**world.policy, **fields})


def with_fleet(world: World, **fields: Any) -> World:
    """Change what is known of the fleet; others have many copies of the image that nothing is said of."""
    fleet = world.fleet or FleetView(
        state=FleetState.JOINED,
        rules=CopyRules(last_copies_for=None),
        settings=FleetSettings(),
        facts={digest: CopyFacts(counted_elsewhere=9) for digest in (A, B)},
        token_free=True,
    )
    return attrs.evolve(world, fleet=attrs.evolve(fleet, **fields))


def with_copies(world: World, **facts: Any) -> World:
    """Change what is known of the image's copies elsewhere."""
    world = with_fleet(world)
    assert world.fleet is not None
    facts_of_a = attrs.evolve(world.fleet.facts[A], **facts)
    return with_fleet(world, facts={**world.fleet.facts, A: facts_of_a})


CONDITIONS: dict[Reason, Callable[[World], World]] = {
    Reason.NOT_READY: lambda world: attrs.evolve(
        world, image=msgspec.structs.replace(world.image, status="pulling")
    ),
    Reason.BROKEN: lambda world: attrs.evolve(
        world, image=msgspec.structs.replace(world.image, broken="no rootfs")
    ),
    Reason.REFERENCED: lambda world: attrs.evolve(world, references=(guest(f"alpine@{A}"),)),
    Reason.LEASED: lambda world: attrs.evolve(world, is_leased=True),
    Reason.PINNED: lambda world: attrs.evolve(world, pinned=(ALPINE,)),
    Reason.NOT_ALLOWED: lambda world: attrs.evolve(world, allowed=("quay.io/*",)),
    Reason.NOT_PULLABLE: lambda world: attrs.evolve(
        world, image=msgspec.structs.replace(world.image, pullable=False)
    ),
    Reason.NEWLY_UNUSED: lambda world: attrs.evolve(world, has_state=False),
    Reason.KEPT_BY_RULE: lambda world: with_policy(world, rules=(make_rule(window_ns=NEVER),)),
    Reason.RETENTION_WINDOW: lambda world: attrs.evolve(world, since_ns=NOW_NS - WINDOW_NS + 1),
    Reason.LATEST: lambda world: with_policy(world, keep_latest=1),
    Reason.TOO_YOUNG: lambda world: with_policy(world, min_age_ns=1),
    Reason.SUSPENDED: lambda world: attrs.evolve(world, suspensions=(UNREADABLE,)),
    Reason.BACKOFF: lambda world: attrs.evolve(world, is_backing_off=True),
    Reason.BRAKE: lambda world: with_policy(world, brake=Brake(0.0, 1)),
    Reason.OUTSIDE_WINDOW: lambda world: with_policy(world, window=DeletionWindow(hours=["02:00-02:01"])),
    Reason.DUPLICATE_HOST: lambda world: with_fleet(world, state=FleetState.DUPLICATE_HOST),
    Reason.FLEET_UNREACHABLE: lambda world: with_fleet(world, state=FleetState.UNREACHABLE),
    Reason.FLEET_PAUSED: lambda world: with_fleet(
        world, settings=FleetSettings(paused=Paused("root@host", NOW, "a test"))
    ),
    Reason.LAST_COPY: lambda world: with_copies(world, counted_elsewhere=0),
    Reason.USED_IN_FLEET: lambda world: with_copies(
        with_fleet(world, rules=CopyRules(hot_for=timedelta(hours=1), hot_copies=None)), last_used=NOW
    ),
    Reason.FLEET_BRAKE: lambda world: with_fleet(world, token_free=False),
    Reason.DEFERRED: lambda world: with_policy(world, max_deletes=1),
}
"""What brings each reason about, in the order of the table."""

# A timer that has not begun is not running, a host has one state in its fleet, one that never runs out has no window, and only whole images count as new.
NOT_TOGETHER = [
    (Reason.NOT_READY, Reason.LATEST),
    (Reason.BROKEN, Reason.LATEST),
    (Reason.NEWLY_UNUSED, Reason.RETENTION_WINDOW),
    (Reason.KEPT_BY_RULE, Reason.RETENTION_WINDOW),
    (Reason.DUPLICATE_HOST, Reason.FLEET_UNREACHABLE),
]
PAIRS = [pair for pair in combinations(CONDITIONS, 2) if pair not in NOT_TOGETHER]

# Told only of what would go without them.
OF_THE_FLEET = (
    *(Reason.DUPLICATE_HOST, Reason.FLEET_UNREACHABLE, Reason.FLEET_PAUSED),
    *(Reason.LAST_COPY, Reason.USED_IN_FLEET, Reason.FLEET_BRAKE),
)
OF_WHAT_IS_DUE = (Reason.BRAKE, *OF_THE_FLEET, Reason.DEFERRED)


def test_what_nothing_holds_is_deleted() -> None:
    verdict = World().verdict()
    assert (verdict.action, verdict.reason, verdict.blockers) == (Action.DELETE, Reason.EXPIRED, ())


@pytest.mark.parametrize("reason", CONDITIONS)
def test_each_reason_alone_decides(reason: Reason) -> None:
    verdict = CONDITIONS[reason](World()).verdict()
    assert (verdict.action, verdict.reason, verdict.blockers) == (ACTIONS[reason], reason, (reason,))


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_of_two_reasons_the_first_of_the_table_decides(first: Reason, second: Reason) -> None:
    verdict = CONDITIONS[first](CONDITIONS[second](World())).verdict()
    assert (verdict.action, verdict.reason) == (ACTIONS[first], first)


@pytest.mark.parametrize(
    ("first", "second"), [(first, second) for first, second in PAIRS if second not in OF_WHAT_IS_DUE]
)
def test_of_two_reasons_both_are_told(first: Reason, second: Reason) -> None:
    verdict = CONDITIONS[first](CONDITIONS[second](World())).verdict()
    starts = second is not Reason.NEWLY_UNUSED or ACTIONS[first] is not Action.CLEAR
    assert verdict.blockers == ((first, second) if starts else (first,))


def test_every_reason_that_holds_is_told_in_the_order_of_the_table() -> None:
    world = World()
    for reason, condition in CONDITIONS.items():
        if reason is not Reason.RETENTION_WINDOW:
            world = condition(world)
    # No timer starts where so much stops timers.
    left_out = (Reason.NEWLY_UNUSED, Reason.RETENTION_WINDOW, Reason.LATEST, *OF_WHAT_IS_DUE)
    assert world.verdict().blockers == tuple(reason for reason in CONDITIONS if reason not in left_out)


def test_that_its_timer_starts_is_told_only_of_an_image_whose_timer_the_next_sweep_starts() -> None:
    without_timer = CONDITIONS[Reason.NEWLY_UNUSED](World())
    assert without_timer.verdict().blockers == (Reason.NEWLY_UNUSED,)
    for reason, condition in CONDITIONS.items():
        verdict = condition(without_timer).verdict()
        if ACTIONS[reason] is Action.CLEAR:
            assert Reason.NEWLY_UNUSED not in verdict.blockers
        else:
            assert verdict.action is Action.MARK or Reason.NEWLY_UNUSED not in verdict.blockers


def test_the_order_of_the_reasons_is_that_of_the_table() -> None:
    order = [reason for reason in Reason if reason in CONDITIONS]
    assert order == list(CONDITIONS)


def test_every_reason_comes_to_an_action() -> None:
    assert set(ACTIONS) == set(Reason)
    assert ACTIONS[Reason.OPEN] is Action.CLEAR


@pytest.mark.parametrize("status", ["pending", "pulling", "converting", "failed", "", "READY", "unknown"])
def test_whatever_is_not_ready_stays(status: str) -> None:
    assert World(image=make_image(status=status)).verdict().reason is Reason.NOT_READY


def test_what_has_no_readable_metadata_is_broken() -> None:
    world = World(image=make_image(status="unknown", broken="no metadata.json"))
    assert world.verdict().blockers == (Reason.BROKEN,)


# Time.


def test_at_exactly_the_end_of_the_window_an_image_is_due() -> None:
    assert World(since_ns=NOW_NS - WINDOW_NS).verdict().reason is Reason.EXPIRED


def test_a_nanosecond_before_the_end_of_the_window_an_image_stays() -> None:
    verdict = World(since_ns=NOW_NS - WINDOW_NS + 1).verdict()
    assert (verdict.reason, verdict.expires_at_ns) == (Reason.RETENTION_WINDOW, NOW_NS + 1)


def test_a_timer_that_started_long_before_the_epoch_is_due() -> None:
    assert World(since_ns=-62_135_596_799 * SECOND).verdict().reason is Reason.EXPIRED


def test_a_timer_that_started_with_the_epoch_is_due() -> None:
    assert World(since_ns=0).verdict().reason is Reason.EXPIRED


def test_a_timer_five_minutes_in_the_future_is_kept() -> None:
    verdict = World(since_ns=NOW_NS + FUTURE_TOLERANCE_NS).verdict()
    assert verdict.reason is Reason.RETENTION_WINDOW
    assert verdict.unused_since_ns == NOW_NS + FUTURE_TOLERANCE_NS


def test_a_timer_further_in_the_future_starts_again() -> None:
    world = World(since_ns=NOW_NS + FUTURE_TOLERANCE_NS + 1)
    assert world.verdict().reason is Reason.NEWLY_UNUSED
    assert world.plan().marks == ((ALPINE, A),)


def test_a_timer_that_is_not_set_starts() -> None:
    world = World(since_ns=None)
    assert world.verdict().reason is Reason.NEWLY_UNUSED
    assert world.plan().marks == ((ALPINE, A),)


def test_a_timer_that_is_yet_to_start_is_not_told() -> None:
    verdict = World(has_state=False).verdict()
    assert (verdict.unused_since_ns, verdict.expires_at_ns) == (None, None)


# Suspension.


@pytest.mark.parametrize("cause", Cause)
def test_each_cause_suspends_every_deletion(cause: Cause) -> None:
    suspension = Suspension(cause, "", "wrong")
    found = World(suspensions=(suspension,)).plan()
    assert found.deletions == ()
    assert {verdict.reason for verdict in found.verdicts} == {Reason.SUSPENDED}
    assert found.suspended == (suspension,)


@pytest.mark.parametrize("cause", [Cause.UNREADABLE_REFERENCE, Cause.UNREADABLE_CACHE])
def test_marking_goes_on_while_deletion_is_suspended(cause: Cause) -> None:
    found = World(has_state=False, suspensions=(Suspension(cause, "", "wrong"),)).plan()
    assert found.marks == ((ALPINE, A),)


@pytest.mark.parametrize("cause", Cause)
def test_clearing_goes_on_while_deletion_is_suspended(cause: Cause) -> None:
    found = World(is_leased=True, suspensions=(Suspension(cause, "", "wrong"),)).plan()
    assert found.clears == (((ALPINE, A), Reason.LEASED),)


def test_a_clock_that_jumped_starts_no_timer() -> None:
    world = World(has_state=False, suspensions=(UNREADABLE, JUMP))
    assert world.plan().marks == ()
    assert world.verdict().blockers == (Reason.SUSPENDED,)
    assert world.verdict().expires_at_ns is None


def test_a_clock_that_jumped_back_leaves_a_timer_that_now_lies_in_the_future() -> None:
    found = World(since_ns=NOW_NS + 10**18, suspensions=(JUMP,)).plan()
    assert (found.marks, found.clears, found.pruned) == ((), (), ())
