"""Rules that do not do what they seem to, and how that is told."""

from datetime import timedelta

import pytest

from hmret.model.policy.rules import Rule
from hmret.settings.warnings import doubt_rules

DAY = timedelta(days=1)


def rule(*match: str, tags: tuple[str, ...] = ()) -> Rule:
    return Rule(match=match, tags=tags, unused_for=DAY)


def told(*rules: Rule) -> list[str]:
    return [warning.removeprefix("hmret.rules, ") for warning in doubt_rules(rules)]


@pytest.mark.parametrize(
    ("rules", "shadow"),
    [
        ((rule("ghcr.io/*"), rule("ghcr.io/acme/*")), "rule 1 matches"),
        ((rule("*"), rule("ghcr.io/acme/*", tags=("v*",))), "rule 1 matches"),
        ((rule("ghcr.io/*", tags=("v*",)), rule("ghcr.io/acme/*", tags=("v1*", "v2"))), "rule 1 matches"),
        ((rule("ghcr.io/*", "docker.io/*"), rule("docker.io/a/b", "ghcr.io/b")), "rule 1 matches"),
        ((rule("ghcr.io/*"), rule("quay.io/x"), rule("ghcr.io/acme/*")), "rule 1 matches"),
    ],
)
def test_a_rule_in_the_shadow_of_a_wider_one_is_pointed_out(rules: tuple[Rule, ...], shadow: str) -> None:
    assert told(*rules) == [f"rule {len(rules)}: never applies, since {shadow} whatever it does"]


def test_the_shadow_of_several_rules_is_one_too() -> None:
    assert told(rule("ghcr.io/*"), rule("docker.io/*"), rule("docker.io/a/b", "ghcr.io/b")) == [
        "rule 3: never applies, since rules 1 and 2 match whatever it does"
    ]
    tags = rule("*", tags=("a*",)), rule("*", tags=("b*",)), rule("ghcr.io/*", tags=("b1", "a2"))
    assert told(*tags) == ["rule 3: never applies, since rules 1 and 2 match whatever it does"]


def test_a_pattern_in_the_shadow_is_pointed_out_where_the_rest_of_its_rule_is_not() -> None:
    assert told(rule("ghcr.io/*"), rule("ghcr.io/acme/*", "docker.io/*")) == [
        "rule 2: pattern 'ghcr.io/acme/*' never applies, since rule 1 matches whatever it does"
    ]
    assert told(rule("*", tags=("v*",)), rule("*", tags=("v1*", "latest"))) == [
        "rule 2: pattern 'v1*' never applies, since rule 1 matches whatever it does"
    ]


@pytest.mark.parametrize(
    "rules",
    [
        (rule("ghcr.io/acme/*"), rule("ghcr.io/*")),
        (rule("*", tags=("*",)), rule("ghcr.io/acme/*")),
        (rule("*", tags=("pr-*",)), rule("*", tags=("v*",)), rule("*")),
        (rule("ghcr.io/*", tags=("v*",)), rule("*", tags=("v1",))),
    ],
)
def test_what_is_special_first_is_not_pointed_out(rules: tuple[Rule, ...]) -> None:
    assert told(*rules) == []


def test_tags_that_can_never_match_are_pointed_out() -> None:
    warnings = told(rule("*", tags=("^v[0-9]+", "v*", "v*, latest")))
    assert [warning.partition(" can never match")[0] for warning in warnings] == [
        "rule 1: tag pattern '^v[0-9]+'",
        "rule 1: tag pattern 'v*, latest'",
    ]


def test_a_rule_that_keeps_everything_is_pointed_out_however_it_says_so() -> None:
    for everything in ("*", "*/*", "**"):
        assert told(Rule(match=(everything,), unused_for="never")) == [
            "rule 1: keeps every image, so nothing is eligible for deletion"
        ]
