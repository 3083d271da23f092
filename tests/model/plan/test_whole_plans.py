"""A plan is taken over as a whole only where nothing that it rests on can be another."""

from collections.abc import Callable
from datetime import timedelta

import attrs
import msgspec
import pytest

from hmret.model.images import ContentOwners, Inventory
from hmret.model.plan.decide import plan
from hmret.model.plan.plan import Plan
from hmret.model.times import SECOND
from model.inventories import (
    ALPINE,
    DUE_NS,
    NOW,
    NOW_NS,
    A,
    B,
    C,
    guest,
    make_image,
    make_inventory,
    make_policy,
    make_repository,
)

HOUR = 3600 * SECOND
OTHER = "ghcr.io/kernel/other"
SHARED = make_image(A, content_name=ALPINE)


def shared() -> Inventory:
    """Make content that two repositories share, and an image of one alone, all due; and a timer of what is not seen."""
    first = msgspec.structs.replace(make_repository(SHARED, make_image(B)), shared={A: (ALPINE, OTHER)})
    second = msgspec.structs.replace(make_repository(SHARED, name=OTHER), shared={A: (ALPINE, OTHER)})
    states = {(ALPINE, A): DUE_NS, (ALPINE, B): DUE_NS, (OTHER, A): DUE_NS, (ALPINE, C): DUE_NS}
    return make_inventory(first, second, states=states, contents=ContentOwners({A: (ALPINE, OTHER)}))


def told(found: Plan) -> object:
    """Tell all that a plan says."""
    return (
        found.verdicts,
        [choice.keys for choice in found.choices],
        *(found.marks, found.mark_times, found.clears, found.pruned, found.expired, found.held_back),
        *(
            found.summary,
            found.stale_references,
            found.remembered,
            found.protected_images,
            found.ready_images,
        ),
    )


CHANGES: dict[str, Callable[[Inventory], Inventory]] = {
    "repositories": lambda one: attrs.evolve(
        one,
        repositories={
            **one.repositories,
            ALPINE: msgspec.structs.replace(one.repositories[ALPINE], images={A: SHARED}),
        },
    ),
    "states": lambda one: attrs.evolve(
        one, states={(ALPINE, A): DUE_NS, (OTHER, A): NOW_NS, (ALPINE, B): None}
    ),
    "references": lambda one: attrs.evolve(
        one, references=[guest(f"alpine@{B}"), guest(f"example.com/x@{A}")]
    ),
    "contents": lambda one: attrs.evolve(one, contents=ContentOwners({A: (ALPINE, OTHER, "example.com/x")})),
    "leased": lambda one: attrs.evolve(one, leased=frozenset({(ALPINE, B)})),
    "backing_off": lambda one: attrs.evolve(one, backing_off=frozenset({(ALPINE, B)})),
    "accessed": lambda one: attrs.evolve(one, accessed={(ALPINE, B): NOW_NS - HOUR}),
    "unlisted": lambda one: attrs.evolve(one, unlisted=(ALPINE,)),
    "nothing": lambda one: one,
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_a_plan_that_goes_on_from_another_is_the_plan_made_anew(change: str) -> None:
    before = shared()
    after = CHANGES[change](before)
    policy = make_policy()
    first = plan(before, policy, NOW)
    second = plan(before, policy, NOW + timedelta(seconds=1), first)
    for one, other in ((before, after), (after, before)):
        found = plan(
            other, policy, NOW + timedelta(seconds=2), plan(one, policy, NOW + timedelta(seconds=1), second)
        )
        assert told(found) == told(plan(other, policy, NOW + timedelta(seconds=2)))


def test_a_plan_ends_when_a_time_is_reached() -> None:
    inventory = make_inventory(make_repository(make_image(A)), states={(ALPINE, A): NOW_NS - HOUR})
    policy = make_policy()
    first = plan(inventory, policy, NOW)
    later = NOW + timedelta(days=365)
    assert told(plan(inventory, policy, later, first)) == told(plan(inventory, policy, later))
    assert plan(inventory, policy, later, first).deletions


def test_sources_that_cannot_be_read_any_more_keep_what_was_remembered() -> None:
    inventory = attrs.evolve(
        shared(), references=[guest("alpine:1", created_at=NOW)], link_times={(ALPINE, "1"): 0}
    )
    policy = make_policy()
    first = plan(inventory, policy, NOW)
    inventory = attrs.evolve(inventory, remembered=first.remembered)
    second = plan(inventory, policy, NOW, first)
    unread = attrs.evolve(inventory, unread_sources=frozenset({"instance/vm"}))
    assert told(plan(unread, policy, NOW, second)) == told(plan(unread, policy, NOW))
