"""Which rule holds for which image, and which images stay for being the newest."""

from datetime import timedelta

import pytest

from hmret.model.images import Image, Repository
from hmret.model.plan.decide import plan
from hmret.model.plan.effective_rules import effective_rules, latest_of
from hmret.model.policy.compiled import NEVER, Policy
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
    guest,
    make_image,
    make_inventory,
    make_policy,
    make_repository,
    make_rule,
)

HOUR = 3600 * 10**9


def window_of(policy: Policy, repository: Repository, digest: str = A) -> int:
    return effective_rules(policy, repository.name, repository).of(digest).window_ns


def latest(policy: Policy, *images: Image, tags: dict[str, str] | None = None) -> set[str]:
    repository = make_repository(*images, tags=tags)
    return set(latest_of(policy, repository, effective_rules(policy, ALPINE, repository), NOW_NS))


def test_without_rules_the_usual_window_holds() -> None:
    assert window_of(make_policy(), make_repository(make_image())) == WINDOW_NS


def test_the_first_rule_that_matches_holds() -> None:
    rules = (
        make_rule("quay.io/*", window_ns=1),
        make_rule("docker.io/*", window_ns=2),
        make_rule("*", window_ns=3),
    )
    found = effective_rules(make_policy(rules=rules), ALPINE, make_repository(make_image()))
    assert (found.of(A).window_ns, found.of(A).rule) == (2, 2)


def test_a_rule_for_tags_holds_where_all_of_the_tags_match() -> None:
    policy = make_policy(rules=(make_rule(tags=("dev-*",), window_ns=1), make_rule(window_ns=2)))
    repository = make_repository(
        *map(make_image, (A, B, C, D)), tags={"dev-2": A, "dev-1": A, "v2": B, "v1": D, "dev-3": D}
    )
    assert [window_of(policy, repository, digest) for digest in (A, B, C, D)] == [1, 2, 2, 2]


def test_of_two_rules_that_match_one_tag_the_first_holds() -> None:
    rules = (make_rule(tags=("v1*",), window_ns=1), make_rule(tags=("v*",), window_ns=2))
    assert window_of(make_policy(rules=rules), make_repository(make_image(), tags={"v1": A})) == 1


@pytest.mark.parametrize("rules_turned", [False, True])
@pytest.mark.parametrize("tags", [("pr-7", "v2.0"), ("v2.0", "pr-7")])
def test_of_the_judgements_of_several_tags_the_one_that_keeps_longest_counts(
    tags: tuple[str, ...], rules_turned: bool
) -> None:
    rules = [make_rule(tags=("pr-*",), window_ns=1), make_rule(tags=("v*",), window_ns=NEVER)]
    number = 1 if rules_turned else 2
    policy = make_policy(rules=tuple(reversed(rules) if rules_turned else rules))
    repository = make_repository(make_image(), tags=dict.fromkeys(tags, A))
    found = effective_rules(policy, ALPINE, repository).of(A)
    assert (found.window_ns, found.rule) == (NEVER, number)


def test_a_tag_that_no_rule_asks_for_is_judged_by_what_holds_for_all() -> None:
    policy = make_policy(rules=(make_rule(tags=("pr-*",), window_ns=1),))
    assert window_of(policy, make_repository(make_image(), tags={"pr-7": A})) == 1
    assert window_of(policy, make_repository(make_image(), tags={"pr-7": A, "prod": A})) == WINDOW_NS


def test_a_tag_that_only_a_rule_without_tags_matches_is_judged_by_that() -> None:
    policy = make_policy(rules=(make_rule(tags=("pr-*",), window_ns=1), make_rule(window_ns=NEVER)))
    repository = make_repository(make_image(), tags={"pr-7": A, "prod": A})
    assert window_of(policy, repository) == NEVER


def test_a_tag_of_another_repository_is_not_asked() -> None:
    rules = (make_rule(tags=("pr-*",), window_ns=1), make_rule("ghcr.io/*", tags=("v*",), window_ns=NEVER))
    repository = make_repository(make_image(), tags={"pr-7": A, "v1": A})
    assert window_of(make_policy(rules=rules), repository) == WINDOW_NS


def test_a_promoted_build_stays_as_long_as_its_release_says() -> None:
    rules = (make_rule(tags=("pr-*",), window_ns=HOUR), make_rule(tags=("v*",), window_ns=NEVER))
    inventory = make_inventory(
        make_repository(make_image(), tags={"pr-7": A, "v2.0": A}), states={(ALPINE, A): 1}
    )
    verdict = plan(inventory, make_policy(rules=rules), NOW).verdict(ALPINE, A)
    assert verdict is not None
    assert (verdict.reason, verdict.expires_at_ns, verdict.rule) == (Reason.KEPT_BY_RULE, None, 2)


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


def test_what_was_made_in_the_future_stays_beside_the_newest() -> None:
    images = [
        make_image(A, created_ns=NOW_NS + 1),
        make_image(B, created_ns=NOW_NS),
        make_image(C, created_ns=NOW_NS - 1),
        make_image(D, created_ns=NOW_NS + 10**18),
    ]
    assert latest(make_policy(keep_latest=1), *images) == {A, B, D}


def test_what_was_made_in_the_future_takes_its_place_by_age_once_that_time_has_come() -> None:
    ahead, old, older = (
        make_image(A, created_ns=NOW_NS + HOUR),
        make_image(B, created_ns=DUE_NS - 1),
        make_image(C, created_ns=DUE_NS - 2),
    )
    inventory = make_inventory(make_repository(ahead, old, older))
    policy = make_policy(keep_latest=1)
    before = plan(inventory, policy, NOW)
    after = plan(inventory, policy, NOW + timedelta(hours=1), before)
    assert [verdict.digest for verdict in before.deletions] == [C]
    assert [verdict.digest for verdict in after.deletions] == [B, C]


def test_one_that_is_in_use_takes_its_place_by_age_as_well() -> None:
    ahead, old = make_image(A, created_ns=NOW_NS + HOUR), make_image(B, created_ns=DUE_NS - 1)
    inventory = make_inventory(
        make_repository(ahead, old), states={(ALPINE, B): DUE_NS}, references=[guest(f"alpine@{A}")]
    )
    policy = make_policy(keep_latest=1)
    before = plan(inventory, policy, NOW)
    assert not before.deletions
    after = plan(inventory, policy, NOW + timedelta(hours=1), before)
    assert [verdict.digest for verdict in after.deletions] == [B]


def test_one_that_only_waits_takes_its_place_by_age_as_well() -> None:
    ahead, old = make_image(A, created_ns=NOW_NS + HOUR), make_image(B, created_ns=DUE_NS - 1)
    states = {(ALPINE, A): NOW_NS, (ALPINE, B): DUE_NS}
    inventory = make_inventory(make_repository(ahead, old), states=states)
    policy = make_policy(keep_latest=1)
    before = plan(inventory, policy, NOW)
    assert not before.deletions
    after = plan(inventory, policy, NOW + timedelta(hours=1), before)
    assert [verdict.digest for verdict in after.deletions] == [B]


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


def test_a_rule_counts_an_image_of_which_one_tag_is_its_own() -> None:
    rules = (make_rule(tags=("dev-*",), keep_latest=1), make_rule(tags=("v*",), keep_latest=1))
    images = [make_image(digest, created_ns=age) for digest, age in ((A, 1), (B, 2), (C, 3))]
    tags = {"dev-1": A, "dev-2": B, "v1": A, "v2": C}
    assert latest(make_policy(rules=rules), *images, tags=tags) == {B, C}
    assert latest(make_policy(rules=rules), *images, tags=tags | {"v3": B}) == {B, C}


def test_the_newest_of_one_rule_stays_though_another_would_let_it_go() -> None:
    rules = (make_rule(tags=("pr-*",), keep_latest=0), make_rule(tags=("v*",), keep_latest=1))
    assert latest(make_policy(rules=rules), make_image(A, created_ns=1), tags={"pr-7": A, "v1": A}) == {A}


def test_the_newest_of_all_stays_where_one_tag_is_under_the_general_number() -> None:
    policy = make_policy(keep_latest=1, rules=(make_rule(tags=("pr-*",), keep_latest=0),))
    image = make_image(A, created_ns=1)
    assert latest(policy, image, tags={"pr-7": A}) == set()
    assert latest(policy, image, tags={"pr-7": A, "prod": A}) == {A}


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
