"""Which rule holds for which image, and which images stay for being the newest."""

import pytest

from hmret.model.images import Image, Repository
from hmret.model.planning import plan
from hmret.model.policy import NEVER, Policy
from hmret.model.terms import latest_of, terms_of
from hmret.model.verdicts import Reason
from model.inventories import (
    ALPINE,
    DUE_NS,
    NOW,
    NOW_NS,
    WINDOW_NS,
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


def window_of(policy: Policy, repository: Repository, digest: str = A) -> int:
    return terms_of(policy, repository.name, repository).of(digest).window_ns


def latest(policy: Policy, *images: Image, tags: dict[str, str] | None = None) -> set[str]:
    repository = make_repository(*images, tags=tags)
    return set(latest_of(policy, repository, terms_of(policy, ALPINE, repository)))


def test_without_rules_the_usual_window_holds() -> None:
    assert window_of(make_policy(), make_repository(make_image())) == WINDOW_NS


def test_the_first_rule_that_matches_holds() -> None:
    rules = (
        make_rule("quay.io/*", window_ns=1),
        make_rule("docker.io/*", window_ns=2),
        make_rule("*", window_ns=3),
    )
    found = terms_of(make_policy(rules=rules), ALPINE, make_repository(make_image()))
    assert (found.of(A).window_ns, found.of(A).rule) == (2, 2)


def test_a_rule_for_tags_holds_where_one_of_the_tags_matches() -> None:
    policy = make_policy(rules=(make_rule(tags=("dev-*",), window_ns=1), make_rule(window_ns=2)))
    repository = make_repository(
        make_image(A), make_image(B), make_image(C), tags={"v1": A, "dev-1": A, "v2": B}
    )
    assert [window_of(policy, repository, digest) for digest in (A, B, C)] == [1, 2, 2]


def test_of_two_rules_for_tags_that_both_match_the_first_holds() -> None:
    rules = (make_rule(tags=("lts-*",), window_ns=1), make_rule(tags=("v*",), window_ns=2))
    repository = make_repository(make_image(), tags={"v1": A, "lts-1": A})
    assert window_of(make_policy(rules=rules), repository) == 1


def test_a_rule_for_tags_behind_one_for_all_never_holds() -> None:
    policy = make_policy(rules=(make_rule(window_ns=2), make_rule(tags=("*",), window_ns=1)))
    assert window_of(policy, make_repository(make_image(), tags={"v1": A})) == 2


def test_a_rule_without_a_window_leaves_the_usual_one() -> None:
    policy = make_policy(rules=(make_rule(keep_latest=1), make_rule(window_ns=1)))
    assert window_of(policy, make_repository(make_image())) == WINDOW_NS


def test_a_rule_never_makes_eligible_what_is_not_allowed() -> None:
    inventory = make_inventory(make_repository(make_image()))
    found = plan(inventory, make_policy(allowed=(), rules=(make_rule(window_ns=1),)), NOW)
    verdict = found.verdict(ALPINE, A)
    assert verdict is not None
    assert verdict.reason is Reason.NOT_ALLOWED


@pytest.mark.parametrize(("ago_ns", "goes"), [(HOUR - 1, False), (HOUR, True)])
def test_the_window_of_a_rule_ends_to_the_nanosecond(ago_ns: int, goes: bool) -> None:
    inventory = make_inventory(make_repository(make_image()), states={(ALPINE, A): NOW_NS - ago_ns})
    found = plan(inventory, make_policy(rules=(make_rule(window_ns=HOUR),)), NOW)
    assert bool(found.deletions) is goes


def test_what_a_rule_keeps_for_good_has_a_timer_and_no_end() -> None:
    inventory = make_inventory(make_repository(make_image()), states={(ALPINE, A): 1})
    verdict = plan(inventory, make_policy(rules=(make_rule(window_ns=NEVER),)), NOW).verdict(ALPINE, A)
    assert verdict is not None
    assert (verdict.reason, verdict.unused_since_ns, verdict.expires_at_ns, verdict.rule) == (
        Reason.KEPT_BY_RULE,
        1,
        None,
        1,
    )


def test_two_windows_in_one_repository_end_one_after_the_other() -> None:
    policy = make_policy(rules=(make_rule(tags=("dev",), window_ns=HOUR),))
    inventory = make_inventory(
        make_repository(make_image(A), make_image(B), tags={"dev": A}),
        states={(ALPINE, A): NOW_NS - HOUR, (ALPINE, B): NOW_NS - HOUR},
    )
    first = plan(inventory, policy, NOW)
    assert [verdict.digest for verdict in first.deletions] == [A]
    expires = first.verdict(ALPINE, B)
    assert expires is not None
    assert expires.expires_at_ns == NOW_NS - HOUR + WINDOW_NS


# The newest.


def test_the_newest_by_creation_stay() -> None:
    images = [make_image(digest, created_ns=age) for digest, age in ((A, 3), (B, 1), (C, 4), (D, 2))]
    assert latest(make_policy(keep_latest=2), *images) == {A, C}


def test_of_two_made_at_once_the_greater_digest_is_the_newer() -> None:
    images = [make_image(digest, created_ns=1) for digest in (B, C, A)]
    assert latest(make_policy(keep_latest=1), *images) == {C}


def test_without_a_number_none_stays_for_that() -> None:
    assert latest(make_policy(), make_image(created_ns=1)) == set()


def test_what_states_no_age_stays_beside_the_newest() -> None:
    images = [make_image(A, created_ns=2), make_image(B), make_image(C, created_ns=1)]
    assert latest(make_policy(keep_latest=1), *images) == {A, B}


def test_what_is_not_whole_is_not_counted() -> None:
    images = [
        make_image(A, created_ns=1),
        make_image(B, created_ns=2, status="pulling"),
        make_image(C, created_ns=3, broken="no rootfs"),
    ]
    assert latest(make_policy(keep_latest=1), *images) == {A}


def test_a_rule_counts_among_the_images_that_it_holds_for() -> None:
    policy = make_policy(keep_latest=1, rules=(make_rule(tags=("dev-*",), keep_latest=1),))
    images = [make_image(digest, created_ns=age) for digest, age in ((A, 1), (B, 2), (C, 3), (D, 4))]
    assert latest(policy, *images, tags={"dev-1": A, "dev-2": B, "v1": C, "v2": D}) == {B, D}


def test_a_rule_that_says_nothing_of_it_leaves_the_general_number() -> None:
    policy = make_policy(keep_latest=1, rules=(make_rule(window_ns=1),))
    assert latest(policy, make_image(A, created_ns=1), make_image(B, created_ns=2)) == {B}


def test_a_rule_can_switch_it_off() -> None:
    policy = make_policy(keep_latest=1, rules=(make_rule(keep_latest=0),))
    assert latest(policy, make_image(A, created_ns=1)) == set()


def test_the_newest_goes_once_something_newer_has_come() -> None:
    old, new = make_image(A, created_ns=1), make_image(B, created_ns=2)
    policy = make_policy(keep_latest=1)
    alone = plan(make_inventory(make_repository(old)), policy, NOW)
    assert not alone.deletions
    states = {(ALPINE, A): DUE_NS}
    found = plan(make_inventory(make_repository(old, new), states=states), policy, NOW, alone)
    assert [verdict.digest for verdict in found.deletions] == [A]
