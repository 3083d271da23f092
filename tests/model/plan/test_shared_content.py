"""Content that several repositories share: it goes with all its rows, or not at all."""

import itertools
import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import attrs
import msgspec
import pytest

from hmret.model.grouping import Timers
from hmret.model.images import Cause, ContentOwners, DiskUsage, Inventory, Repository, SharedDisk, Suspension
from hmret.model.origins import Builds
from hmret.model.plan.decide import plan
from hmret.model.policy.brake import Brake
from hmret.model.policy.compiled import NEVER, Policy
from hmret.model.policy.limits import DiskLimits
from hmret.model.policy.window import DeletionWindow
from hmret.model.verdicts import Action, Holder, Reason
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
    make_policy,
    make_rule,
)
from support.shared_content import (
    BASE,
    BOTH_DUE,
    TOOL,
    TORN,
    WAITING,
    content,
    host,
    reasons,
    units,
    verdict,
)

CLOCK_JUMP = Suspension(Cause.CLOCK_JUMP, "", "wrong")


# All rows, or none.


def test_content_goes_when_it_is_due_in_every_repository() -> None:
    found = plan(host({(ALPINE, A): DUE_NS, (BASE, A): DUE_NS - 1, (TOOL, A): DUE_NS}), make_policy(), NOW)
    assert units(found) == [[(ALPINE, A), (BASE, A), (TOOL, A)]]
    assert reasons(found) == dict.fromkeys((ALPINE, BASE, TOOL), Reason.EXPIRED)
    for one in found.verdicts:
        assert (one.action, one.blockers, one.held_by) == (Action.DELETE, (), ())
        assert one.shared_with == tuple(name for name in (ALPINE, BASE, TOOL) if name != one.repository)
    assert (found.summary.delete, found.summary.delete_bytes) == (3, 4096)


def test_content_of_one_repository_shares_with_none() -> None:
    found = plan(host({(ALPINE, A): DUE_NS}), make_policy(), NOW)
    assert verdict(found, ALPINE).shared_with == ()
    assert units(found) == [[(ALPINE, A)]]


def test_where_one_repository_holds_it_nothing_happens_to_it_in_the_others() -> None:
    found = plan(host({(ALPINE, A): DUE_NS, (BASE, A): DUE_NS + 1}), make_policy(), NOW)
    due = verdict(found, ALPINE)
    assert (due.action, due.reason, due.blockers) == (Action.NONE, Reason.SHARED, (Reason.SHARED,))
    assert (due.shared_with, due.held_by) == ((BASE,), (Holder(BASE, Reason.RETENTION_WINDOW),))
    assert (due.unused_since_ns, due.expires_at_ns) == (DUE_NS, NOW_NS)
    holds = verdict(found, BASE)
    assert (holds.reason, holds.shared_with, holds.held_by) == (Reason.RETENTION_WINDOW, (ALPINE,), ())
    assert (found.deletions, found.marks, found.clears, found.pruned) == ((), (), (), ())
    assert found.summary.keep == 2


def test_all_who_hold_it_are_named_and_those_where_it_is_due_are_not() -> None:
    states = {(ALPINE, A): DUE_NS, (BASE, A): NOW_NS, (TOOL, A): DUE_NS, ("a.b/c", A): None}
    found = plan(host(states), make_policy(pinned=("ghcr.io/*",)), NOW)
    expected = (Holder("a.b/c", Reason.NEWLY_UNUSED), Holder(BASE, Reason.PINNED))
    assert verdict(found, ALPINE).held_by == verdict(found, TOOL).held_by == expected
    assert found.marks == (("a.b/c", A),)
    assert found.clears == (((BASE, A), Reason.PINNED),)


def pushed() -> Builds:
    return Builds.of((), (f"{BASE}:built",))


HELD: dict[Reason, tuple[Callable[[], Inventory], dict[str, Any]]] = {
    Reason.NOT_READY: (lambda: host(BOTH_DUE, unready={BASE: {A: "an older server pulls"}}), {}),
    Reason.REFERENCED: (lambda: host(BOTH_DUE, references=[guest(f"{BASE}@{A}")]), {}),
    Reason.LEASED: (lambda: host(BOTH_DUE, leased={(BASE, A)}), {}),
    Reason.PINNED: (lambda: host(BOTH_DUE), {"pinned": (BASE,)}),
    Reason.NOT_ALLOWED: (lambda: host(BOTH_DUE), {"allowed": (ALPINE,)}),
    Reason.NOT_PULLABLE: (lambda: host(BOTH_DUE, tags={BASE: {"built": A}}, builds=pushed()), {}),
    Reason.NEWLY_UNUSED: (lambda: host({(ALPINE, A): DUE_NS, (BASE, A): None}), {}),
    Reason.KEPT_BY_RULE: (lambda: host(BOTH_DUE), {"rules": (make_rule(BASE, window_ns=NEVER),)}),
    Reason.RETENTION_WINDOW: (lambda: host({(ALPINE, A): DUE_NS, (BASE, A): NOW_NS}), {}),
    Reason.LATEST: (lambda: host(BOTH_DUE), {"rules": (make_rule(BASE, keep_latest=1),)}),
}


@pytest.mark.parametrize("reason", HELD)
def test_whatever_holds_it_in_one_repository_holds_it_in_all(reason: Reason) -> None:
    make, policy = HELD[reason]
    found = plan(make(), make_policy(**policy), NOW)
    assert reasons(found) == {ALPINE: Reason.SHARED, BASE: reason}
    assert verdict(found, ALPINE).held_by == (Holder(BASE, reason),)
    assert found.deletions == ()
    assert found.reasons[Reason.SHARED] == found.reasons[reason] == 1
    assert found.reasons[Reason.EXPIRED] == 0


def test_a_row_that_is_not_ready_for_another_folder_of_its_digest_is_so_in_its_window_too() -> None:
    inventory = host({(ALPINE, A): NOW_NS, (BASE, A): NOW_NS}, unready={BASE: {A: "an older server pulls"}})
    found = plan(inventory, make_policy(), NOW)
    assert reasons(found) == {ALPINE: Reason.RETENTION_WINDOW, BASE: Reason.NOT_READY}
    assert (found.clears, found.ready_images) == ((((BASE, A), Reason.NOT_READY),), 1)
    assert verdict(found, BASE).detail == "an older server pulls"


def test_what_is_broken_is_so_in_every_repository() -> None:
    broken = {key: content(A, broken="no rootfs") for key in BOTH_DUE}
    found = plan(host(BOTH_DUE, broken), make_policy(), NOW)
    assert set(reasons(found).values()) == {Reason.BROKEN}
    assert len(found.clears) == 2


def test_a_folder_that_a_repository_has_of_its_own_is_no_part_of_the_content() -> None:
    own = make_image(A)
    found = plan(host({**BOTH_DUE, (TOOL, A): NOW_NS}, {(TOOL, A): own}), make_policy(), NOW)
    assert units(found) == [[(ALPINE, A), (BASE, A)]]
    assert verdict(found, TOOL).shared_with == ()
    found = plan(host({(ALPINE, A): NOW_NS, (TOOL, A): DUE_NS}, {(TOOL, A): own}), make_policy(), NOW)
    assert units(found) == [[(TOOL, A)]]


# By the name of a repository that does not have it.


def test_who_names_it_by_another_repository_needs_it_in_each_that_has_it() -> None:
    found = plan(host(BOTH_DUE, references=[guest(f"{TOOL}@{A}")]), make_policy(), NOW)
    assert reasons(found) == dict.fromkeys((ALPINE, BASE), Reason.REFERENCED)
    assert {one.referenced_by for one in found.verdicts} == {("instance/vm",)}
    assert {key for key, _ in found.clears} == set(BOTH_DUE)
    assert (found.stale_references, found.protected_images) == ((), 1)


def test_who_leases_it_by_another_repository_covers_it_in_each_that_has_it() -> None:
    found = plan(host(BOTH_DUE, leased={(TOOL, A)}), make_policy(), NOW)
    assert reasons(found) == dict.fromkeys((ALPINE, BASE), Reason.LEASED)


def test_a_name_of_another_repository_does_not_protect_what_a_third_has_of_its_own() -> None:
    inventory = host(
        {(ALPINE, A): DUE_NS, (BASE, A): DUE_NS},
        {(BASE, A): make_image(A)},
        references=[guest(f"{TOOL}@{A}")],
        leased={(TOOL, A)},
    )
    found = plan(inventory, make_policy(), NOW)
    assert reasons(found) == {ALPINE: Reason.REFERENCED, BASE: Reason.EXPIRED}


def test_nor_what_an_owner_has_of_its_own_while_the_content_is_no_image() -> None:
    failed = host(
        BOTH_DUE,
        {(ALPINE, A): content(A, status="failed"), (BASE, A): make_image(A)},
        references=[guest(f"{TOOL}@{A}")],
        leased={("a.b/c", A)},
    )
    failed = attrs.evolve(failed, contents=ContentOwners({A: (ALPINE, BASE)}))
    found = plan(failed, make_policy(), NOW)
    assert reasons(found) == {ALPINE: Reason.NOT_READY, BASE: Reason.EXPIRED}
    assert verdict(found, ALPINE).blockers == (Reason.NOT_READY, Reason.REFERENCED, Reason.LEASED)


def test_a_digest_that_is_referenced_in_several_rows_counts_once() -> None:
    inventory = host(BOTH_DUE, references=[guest(f"{ALPINE}@{A}"), guest(f"{BASE}@{A}", name="other")])
    assert plan(inventory, make_policy(), NOW).protected_images == 1


# What stops all that is due.


@pytest.mark.parametrize("suspension", [CLOCK_JUMP, TORN])
def test_while_deletion_is_suspended_so_is_each_row_that_is_due(suspension: Suspension) -> None:
    found = plan(host(BOTH_DUE, suspensions=(suspension,)), make_policy(), NOW)
    assert reasons(found) == dict.fromkeys((ALPINE, BASE), Reason.SUSPENDED)
    assert verdict(found, ALPINE).held_by == ()


def test_what_others_hold_is_shared_also_while_deletion_is_suspended() -> None:
    inventory = host({(ALPINE, A): DUE_NS, (BASE, A): NOW_NS}, suspensions=(TORN,))
    found = plan(inventory, make_policy(), NOW)
    assert reasons(found) == {ALPINE: Reason.SHARED, BASE: Reason.RETENTION_WINDOW}
    assert verdict(found, ALPINE).blockers == (Reason.SHARED, Reason.SUSPENDED)


def test_a_deletion_that_failed_for_one_row_is_put_off_for_all() -> None:
    found = plan(host(BOTH_DUE, backing_off={(BASE, A)}), make_policy(), NOW)
    assert reasons(found) == dict.fromkeys((ALPINE, BASE), Reason.BACKOFF)
    assert found.reasons[Reason.BACKOFF] == 2


def test_outside_its_hours_no_row_goes() -> None:
    found = plan(host(BOTH_DUE), make_policy(window=DeletionWindow(hours=["02:00-05:00"])), NOW)
    assert reasons(found) == dict.fromkeys((ALPINE, BASE), Reason.OUTSIDE_WINDOW)


# Limits of a sweep.


def four_owners(*since_ns: Sequence[int]) -> Inventory:
    """Make content of four repositories each; how long before they are due each row's timer began."""
    names = [f"a.b/{letter}" for letter in "wxyz"]
    states = {
        (name, digest): DUE_NS - early
        for digest, earlier in zip((A, B, C), since_ns, strict=True)
        for name, early in zip(names, earlier, strict=True)
    }
    return host(states)


def test_a_sweep_that_may_delete_two_images_deletes_two_with_all_their_rows() -> None:
    # What counts is the youngest row: 1, 3 and 2.
    inventory = four_owners([9, 1, 9, 9], [3, 3, 3, 3], [9, 9, 9, 2])
    found = plan(inventory, make_policy(max_deletes=2), NOW)
    assert [{digest for _, digest in rows} for rows in units(found)] == [{B}, {C}]
    assert len(found.deletions) == 8
    assert set(reasons(found, A).values()) == {Reason.DEFERRED}
    assert found.reasons[Reason.DEFERRED] == 4
    assert {one.blockers for one in found.verdicts if one.digest == A} == {(Reason.DEFERRED,)}


def test_bytes_count_once_for_the_limit_of_a_sweep() -> None:
    inventory = four_owners([3] * 4, [2] * 4, [1] * 4)
    found = plan(inventory, make_policy(max_bytes=8192), NOW)
    assert [{digest for _, digest in rows} for rows in units(found)] == [{A}, {B}]


# For every cache.


NAMES = (ALPINE, BASE, TOOL, "a.b/c")
DIGESTS = (A, B, C, D)


def random_host(rng: random.Random) -> Inventory:
    keys = [key for key in itertools.product(NAMES, DIGESTS) if rng.random() < 0.6]
    states = {key: rng.choice([None, -1, DUE_NS - 1, DUE_NS, DUE_NS + 1, WAITING, NOW_NS]) for key in keys}
    images = {}
    for digest in DIGESTS:
        links = rng.choice([0, 0, 2, 3])
        disk = SharedDisk(1, int(digest[-1], 16), links) if links else None
        for name in NAMES:
            own = make_image(digest, shared_disk=disk)
            of_content = content(digest, shared_disk=disk, copy=own if rng.random() < 0.2 else None)
            images[name, digest] = own if rng.random() < 0.2 else of_content
    some = [(rng.choice(NAMES), rng.choice(DIGESTS)) for _ in range(2)]
    return host(
        states,
        images,
        leased=frozenset(some[:1] if rng.random() < 0.2 else ()),
        backing_off=frozenset(some if rng.random() < 0.2 else ()),
        references=[guest(f"{name}@{digest}") for name, digest in some if rng.random() < 0.2],
        suspensions=(TORN,) if rng.random() < 0.1 else (),
        disk=DiskUsage(900, 100),
    )


def random_policy(rng: random.Random) -> Policy:
    return make_policy(
        pinned=(rng.choice(NAMES),) if rng.random() < 0.2 else (),
        max_deletes=rng.choice([0, 1, 2]),
        brake=rng.choice([None, Brake(0.5, 2)]),
        keep_latest=rng.choice([0, 0, 1]),
        disk=rng.choice([None, DiskLimits(high_watermark=0.85)]),
    )


@pytest.mark.parametrize("seed", range(300))
def test_no_row_ever_goes_without_the_others_of_its_content(seed: int) -> None:
    rng = random.Random(seed)
    inventory, policy = random_host(rng), random_policy(rng)
    found = plan(inventory, policy, NOW)
    going = {key for rows in units(found) for key in rows}
    assert going == {(one.repository, one.digest) for one in found.verdicts if one.action is Action.DELETE}
    for digest, owners in inventory.contents.items():
        gone = [name for name in owners if (name, digest) in going]
        assert gone in ([], list(owners))
        said = [verdict(found, name, digest) for name in owners]
        assert all((one.reason is Reason.SHARED) == bool(one.held_by) for one in said)
        for one in said:
            others = {other.repository: other.reason for other in said if other is not one}
            assert one.shared_with == tuple(others)
            assert all(others[holder.repository] is holder.reason for holder in one.held_by)
    assert sum(found.reasons.values()) == len(found.verdicts)
    for reason in Reason:
        assert found.reasons[reason] == sum(one.reason is reason for one in found.verdicts)


def random_change(rng: random.Random, before: Inventory) -> Inventory:
    """Change a cache in some places; what does not change stays the very same object."""
    repositories, owners = dict(before.repositories), dict(before.contents)
    name, digest = rng.choice(NAMES), rng.choice(DIGESTS)
    repository = repositories.get(name, Repository(name, {}, {}))
    images, names = dict(repository.images), set(owners.get(digest, ()))
    if digest not in images:
        images[digest] = content(digest)
        names.add(name)
    elif images[digest].is_content:
        del images[digest]
        names.remove(name)
    repositories[name] = msgspec.structs.replace(repository, images=images)
    owners[digest] = tuple(sorted(names))
    for one in {*owners[digest], name} & repositories.keys():
        shared = {shared: all_of for shared, all_of in repositories[one].shared.items() if shared != digest}
        if one in names and len(names) > 1:
            shared[digest] = owners[digest]
        if shared != repositories[one].shared:
            repositories[one] = msgspec.structs.replace(repositories[one], shared=shared)
    timers = dict(before.states.by_repository)
    if rng.random() < 0.5:
        other = rng.choice(NAMES)
        timers[other] = {**timers.get(other, {}), rng.choice(DIGESTS): rng.choice([None, DUE_NS, NOW_NS])}
    gone = [one for one in before.references if rng.random() < 0.5]
    come = [guest(f"{rng.choice(NAMES)}@{rng.choice(DIGESTS)}")] if rng.random() < 0.3 else []
    return attrs.evolve(
        before,
        repositories=repositories,
        states=Timers(timers),
        contents=ContentOwners(owners),
        references=before.references.changed(gone, come),
        leased=frozenset([(rng.choice(NAMES), rng.choice(DIGESTS))] if rng.random() < 0.2 else ()),
    )


@pytest.mark.parametrize("seed", range(200))
def test_a_plan_that_builds_upon_another_is_the_same(seed: int) -> None:
    rng = random.Random(seed)
    inventory, policy, now = random_host(rng), random_policy(rng), NOW
    previous = plan(inventory, policy, now)
    for _ in range(4):
        inventory = random_change(rng, inventory)
        now += timedelta(hours=rng.choice([0, 0, 1, 24]))
        previous = plan(inventory, policy, now, previous)
        afresh = plan(inventory, policy, now)
        assert previous.verdicts == afresh.verdicts
        assert previous.units == afresh.units
        assert previous.reasons == afresh.reasons
        assert previous.marks == afresh.marks
        assert previous.clears == afresh.clears
        assert previous.pruned == afresh.pruned
