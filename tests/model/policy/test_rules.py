"""A rule of the operator's, and a list of them."""

from datetime import timedelta
from typing import Any

import attrs
import pytest

from hmret.model.errors import ConfigError
from hmret.model.policy.config import RetentionConfig
from hmret.model.policy.rules import Rule, rules_of


def refusal(**settings: Any) -> str:
    """Return the message with which a rule is refused."""
    with pytest.raises(ConfigError) as refused:
        Rule(**settings)
    return str(refused.value)


def test_patterns_of_repositories_and_tags_are_trimmed() -> None:
    rule = Rule(match=[" a.b/* ", "*"], tags=(text for text in ("v? ",)), keep_latest=1)
    assert (rule.match, rule.tags) == (("a.b/*", "*"), ("v?",))


@pytest.mark.parametrize("window", [timedelta(microseconds=1), timedelta(days=400), "never"])
def test_a_window_is_any_duration_of_more_than_zero_or_never(window: Any) -> None:
    rule = Rule(match=("*",), unused_for=window)
    assert (rule.unused_for, rule.keep_latest, rule.tags) == (window, None, ())


@pytest.mark.parametrize("count", [0, 1, 10**6])
def test_a_rule_may_only_say_how_many_stay(count: int) -> None:
    rule = Rule(match=("*",), keep_latest=count)
    assert (rule.unused_for, rule.keep_latest) == (None, count)


def test_a_rule_that_says_nothing_is_refused() -> None:
    assert refusal(match=("*",), tags=("x",)) == "a rule: expected unused_for or keep_latest, got neither"


def test_a_rule_that_matches_no_repository_is_refused() -> None:
    assert refusal(match=(), keep_latest=1) == "match: expected at least one repository pattern, got none"


@pytest.mark.parametrize("value", [timedelta(0), timedelta(seconds=-1)])
def test_a_window_of_zero_or_less_is_refused(value: timedelta) -> None:
    assert refusal(match=("*",), unused_for=value) == f"unused_for: must be more than zero, got {value}"


@pytest.mark.parametrize("value", ["Never", "24h", 24, "", False])
def test_a_window_that_is_neither_a_timedelta_nor_never_is_refused(value: Any) -> None:
    assert refusal(match=("*",), unused_for=value) == f"unused_for: expected a timedelta, got {value!r}"


@pytest.mark.parametrize("value", [-1, True, 1.0, "1"])
def test_a_number_to_keep_that_is_no_whole_number_from_0_is_refused(value: Any) -> None:
    expected = f"keep_latest: expected a whole number, 0 or more, got {value!r}"
    assert refusal(match=("*",), keep_latest=value) == expected


@pytest.mark.parametrize(("field", "of"), [("match", "repository"), ("tags", "tag")])
def test_what_are_no_patterns_is_refused_by_what_they_would_match(field: str, of: str) -> None:
    def told(value: Any) -> str:
        return refusal(**{"match": ("*",), "keep_latest": 1, field: value})

    assert told("*") == f"{field}: expected a list of {of} patterns, got '*'"
    assert told([5]) == f"{field}: expected a {of} pattern, got 5"
    assert told([" "]) == f"{field}: a {of} pattern must not be empty, got ' '"


def test_a_rule_cannot_be_changed() -> None:
    rule = Rule(match=("*",), keep_latest=1)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        rule.keep_latest = 2  # type: ignore[misc]


def test_rules_are_taken_from_any_iterable_in_their_order() -> None:
    rules = [Rule(match=("a",), keep_latest=1), Rule(match=("b",), keep_latest=1)]
    assert rules_of(iter(rules)) == tuple(rules)
    assert RetentionConfig(rules=rules).rules == tuple(rules)
    assert rules_of([]) == ()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "None"),
        (5, "5"),
        ("rules", "'rules'"),
        ({"a": 1}, "'a'"),
        ([{"match": ["*"]}], "{'match': ['*']}"),
        ([Rule(match=("*",), keep_latest=1), None], "None"),
    ],
)
def test_what_is_no_list_of_rules_is_refused(value: Any, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        rules_of(value)
    assert str(refused.value) == f"rules: expected a list of rules, got {told}"


def test_a_lone_rule_is_no_list_of_rules() -> None:
    with pytest.raises(ConfigError, match=r"^rules: expected a list of rules, got Rule"):
        rules_of(Rule(match=("*",), keep_latest=1))
