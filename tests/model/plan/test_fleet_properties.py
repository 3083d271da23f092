"""The first promise of a fleet, under any policy and whatever is known of it: it only holds back."""

from collections.abc import Mapping
from datetime import timedelta

import attrs
from hypothesis import given, settings, strategies as st

from hmret.model.fleet import CopyFacts, CopyRules, FleetSettings, FleetState, FleetView, Paused
from hmret.model.images import Inventory
from hmret.model.plan.decide import plan
from hmret.model.plan.plan import Plan
from hmret.model.policy.compiled import Policy
from hmret.model.verdicts import Action, Reason
from model.inventories import NOW
from model.plan.test_policy_properties import DIGESTS, gone, inventories, policies
from support.bounds import bound

HOUR = timedelta(hours=1)
MAY_GO = frozenset((Reason.EXPIRED, Reason.RETENTION_WINDOW, Reason.BRAKE, Reason.OUTSIDE_WINDOW))
"""The reasons, without a fleet and without limits, of what has expired or may be evicted."""

moments = st.none() | st.sampled_from(
    (NOW - 1000 * HOUR, NOW - 2 * HOUR, NOW - HOUR / 2, NOW, NOW + HOUR / 30, NOW + 1000 * HOUR)
)
facts = st.builds(
    CopyFacts,
    counted_elsewhere=st.integers(0, 3),
    holders=st.just(("h.00000000",)),
    last_used=moments,
    newest_registered=moments,
)

views = st.builds(
    FleetView,
    state=st.sampled_from((FleetState.JOINED,) * 6 + tuple(FleetState)),
    rules=st.builds(
        CopyRules,
        min_copies=st.integers(0, 2),
        last_copies_for=st.none() | st.sampled_from((HOUR, 500 * HOUR)),
        hot_for=st.sampled_from((timedelta(0), HOUR)),
        hot_copies=st.none() | st.integers(0, 3),
        yields_to_pressure=st.booleans(),
    ),
    detail=st.none() | st.just("etcd does not answer"),
    settings=st.none()
    | st.builds(
        FleetSettings,
        min_copies=st.integers(0, 2),
        paused=st.sampled_from((None, None, None, Paused("root@h", NOW, ""))),
    ),
    facts=st.dictionaries(st.sampled_from(DIGESTS), facts),
    token_free=st.sampled_from((True, True, None, False)),
)


def without_fleet(inventory: Inventory, policy: Policy) -> Plan:
    return plan(attrs.evolve(inventory, fleet=None), policy, NOW)


def unlimited(policy: Policy) -> Policy:
    return attrs.evolve(policy, max_deletes=0, max_bytes=0, disk=None)


@settings(max_examples=bound(75, 500))
@given(inventories(), policies, views)
def test_without_limits_whatever_a_fleet_says_only_what_would_go_anyway_goes(
    inventory: Inventory, policy: Policy, view: FleetView
) -> None:
    policy = unlimited(policy)
    together = plan(attrs.evolve(inventory, fleet=view), policy, NOW)

    assert gone(together) <= gone(without_fleet(inventory, policy))


@settings(max_examples=bound(75, 500))
@given(inventories(), policies, views)
def test_with_limits_whatever_goes_has_expired_or_may_be_evicted_without_the_fleet(
    inventory: Inventory, policy: Policy, view: FleetView
) -> None:
    together = plan(attrs.evolve(inventory, fleet=view), policy, NOW)
    alone = without_fleet(inventory, unlimited(policy))

    for key in gone(together):
        verdict = alone.verdict(*key)
        assert verdict is not None
        assert verdict.reason in MAY_GO


def stays(view: FleetView, digest: str, *, for_space: bool) -> bool:
    """Return whether the fleet keeps a last copy here, put together on its own."""
    known, rules = view.settings, view.rules
    if view.state not in (FleetState.JOINED, FleetState.STOPPED) or known is None or known.paused:
        return True
    if view.token_free is False:
        return True
    if for_space and rules.yields_to_pressure:
        return False
    if digest not in view.facts:
        return True
    found = view.facts[digest]
    last = found.last_used or found.newest_registered
    age = None if last is None else NOW - min(last, NOW)
    least = max(rules.min_copies, known.min_copies)
    is_old = age is not None and rules.last_copies_for is not None and age >= rules.last_copies_for
    if found.counted_elsewhere < least and not is_old:
        return True
    is_hot = found.last_used is not None and age is not None and age < rules.hot_for
    return is_hot and (
        rules.hot_copies is None or found.counted_elsewhere < max(rules.hot_copies, 0 if is_old else least)
    )


def whole_units(inventory: Inventory) -> Mapping[str, int]:
    """Count in how many folders each digest stands ready and whole; each repository has its own here."""
    units: dict[str, int] = {}
    for repository in inventory.repositories.values():
        for digest, image in repository.images.items():
            if image.status == "ready" and image.broken is None:
                units[digest] = units.get(digest, 0) + 1
    return units


@settings(max_examples=bound(75, 500))
@given(inventories(), policies, views)
def test_a_digest_leaves_this_host_only_if_the_fleet_does_not_keep_it(
    inventory: Inventory, policy: Policy, view: FleetView
) -> None:
    together = plan(attrs.evolve(inventory, fleet=view), policy, NOW)

    left = dict(whole_units(inventory))
    early: dict[str, bool] = {}
    for verdict in together.deletions:
        left[verdict.digest] -= 1
        early[verdict.digest] = early.get(verdict.digest, False) or verdict.reason is Reason.DISK_PRESSURE
    last = {digest for digest in early if not left[digest]}
    for digest in last:
        assert not stays(view, digest, for_space=early[digest])
    assert together.to_release == len(last)


@settings(max_examples=bound(50, 300))
@given(inventories(), policies, views)
def test_a_fleet_changes_no_timer_and_no_other_verdict(
    inventory: Inventory, policy: Policy, view: FleetView
) -> None:
    together = plan(attrs.evolve(inventory, fleet=view), unlimited(policy), NOW)
    alone = without_fleet(inventory, unlimited(policy))

    assert (together.marks, together.clears, together.pruned) == (alone.marks, alone.clears, alone.pruned)
    for verdict in together.iterate():
        other = alone.verdict(verdict.repository, verdict.digest)
        assert other is not None
        if other.action is not Action.DELETE:
            assert (verdict.action, verdict.reason) == (other.action, other.reason)
        elif verdict.action is not Action.DELETE:
            assert verdict.action is Action.NONE
            assert verdict.reason in verdict.blockers
        assert verdict.unused_since_ns == other.unused_since_ns
        assert verdict.expires_at_ns == other.expires_at_ns


@settings(max_examples=bound(50, 300))
@given(inventories(), policies, views)
def test_the_numbers_of_a_plan_with_a_fleet_are_those_of_its_verdicts(
    inventory: Inventory, policy: Policy, view: FleetView
) -> None:
    found = plan(attrs.evolve(inventory, fleet=view), policy, NOW)
    listed = [verdict.reason for verdict in found.iterate()]

    assert {reason: count for reason, count in found.reasons.items() if count} == {
        reason: listed.count(reason) for reason in set(listed)
    }
