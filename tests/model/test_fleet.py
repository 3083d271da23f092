"""How many copies have to be left elsewhere, by the rules of a host and of its fleet."""

from datetime import UTC, datetime, timedelta

import pytest

from hmret.model.fleet import CopyFacts, CopyRules, FleetSettings, ReleaseOutcome
from hmret.model.verdicts import Reason

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NEVER = CopyRules(last_copies_for=None)


def facts(elsewhere: int, *, used: timedelta | None = None, registered: timedelta | None = DAY) -> CopyFacts:
    """Make facts: copies elsewhere, and how long ago it was used and registered."""
    return CopyFacts(
        counted_elsewhere=elsewhere,
        last_used=None if used is None else NOW - used,
        newest_registered=None if registered is None else NOW - registered,
    )


def reasons(rules: CopyRules, found: CopyFacts, settings: FleetSettings | None = None) -> list[Reason]:
    return list(rules.reasons(settings or FleetSettings(), found, NOW))


@pytest.mark.parametrize(
    ("here", "in_fleet", "elsewhere", "stays"),
    [
        (1, 1, 0, True),
        (1, 1, 1, False),
        (2, 1, 1, True),
        (1, 2, 1, True),
        (2, 2, 2, False),
        (0, 0, 0, False),
        (0, 1, 0, True),
    ],
)
def test_the_larger_number_of_copies_counts(here: int, in_fleet: int, elsewhere: int, stays: bool) -> None:
    rules = CopyRules(min_copies=here)

    found = reasons(rules, facts(elsewhere), FleetSettings(min_copies=in_fleet))

    assert found == ([Reason.LAST_COPY] if stays else [])


def test_a_last_copy_goes_once_it_was_used_nowhere_for_long_enough() -> None:
    rules = CopyRules(last_copies_for=DAY)

    assert reasons(rules, facts(0, used=DAY - HOUR)) == [Reason.LAST_COPY]
    assert reasons(rules, facts(0, used=DAY)) == []


def test_a_use_counts_more_than_the_registration_whichever_is_later() -> None:
    rules = CopyRules(last_copies_for=DAY)

    assert reasons(rules, facts(0, used=2 * DAY, registered=HOUR)) == []
    assert reasons(rules, facts(0, used=HOUR, registered=2 * DAY)) == [Reason.LAST_COPY]


def test_without_a_use_the_newest_registration_counts() -> None:
    rules = CopyRules(last_copies_for=DAY)

    assert reasons(rules, facts(0, registered=HOUR)) == [Reason.LAST_COPY]
    assert reasons(rules, facts(0, registered=DAY)) == []
    assert reasons(rules, facts(0, registered=None)) == [Reason.LAST_COPY]


def test_last_copies_stay_for_ever_where_the_operator_says_so() -> None:
    assert reasons(NEVER, facts(0, used=10_000 * DAY)) == [Reason.LAST_COPY]


def test_nothing_is_hot_unless_the_operator_says_so() -> None:
    assert reasons(NEVER, facts(1, used=timedelta(0))) == []


def test_what_was_used_lately_anywhere_needs_more_copies() -> None:
    rules = CopyRules(last_copies_for=None, hot_for=DAY, hot_copies=3)

    assert reasons(rules, facts(2, used=HOUR)) == [Reason.USED_IN_FLEET]
    assert reasons(rules, facts(3, used=HOUR)) == []
    assert reasons(rules, facts(2, used=DAY)) == []
    assert reasons(rules, facts(2, registered=HOUR)) == []


def test_a_hot_last_copy_has_both_reasons() -> None:
    rules = CopyRules(last_copies_for=None, hot_for=DAY, hot_copies=3)

    assert reasons(rules, facts(0, used=HOUR)) == [Reason.LAST_COPY, Reason.USED_IN_FLEET]


def test_all_copies_of_what_is_hot_can_be_kept() -> None:
    rules = CopyRules(hot_for=DAY, hot_copies=None)

    assert rules.copies_required(FleetSettings(), facts(1000, used=HOUR), NOW) is None
    assert reasons(rules, facts(1000, used=HOUR)) == [Reason.USED_IN_FLEET]
    assert reasons(rules, facts(1000, used=DAY)) == []


def test_hot_copies_never_lower_what_any_image_needs() -> None:
    rules = CopyRules(min_copies=2, last_copies_for=None, hot_for=DAY, hot_copies=1)

    assert rules.copies_required(FleetSettings(), facts(0, used=HOUR), NOW) == 2


def test_a_use_too_far_in_the_future_is_taken_for_one_now() -> None:
    rules = CopyRules(last_copies_for=DAY, hot_for=HOUR, hot_copies=3)

    for ahead in (timedelta(minutes=4), timedelta(minutes=6), 1000 * DAY):
        found = facts(1, used=-ahead)
        assert reasons(rules, found) == [Reason.USED_IN_FLEET]
        assert found.last_used_at(NOW) <= NOW + timedelta(minutes=5)


@pytest.mark.parametrize(
    ("rules", "tells"),
    [
        (CopyRules(), True),
        (CopyRules(last_copies_for=None), False),
        (CopyRules(last_copies_for=None, hot_for=HOUR), True),
    ],
)
def test_uses_are_told_where_a_setting_asks_for_them(rules: CopyRules, tells: bool) -> None:
    assert rules.tells_uses is tells


@pytest.mark.parametrize(
    ("budget", "tokens", "copies", "releases", "per_token"),
    [
        ("5%", 20, 10_000, 500, 25),
        ("5%", 20, 100, 20, 1),
        ("5%", 20, 0, 20, 1),
        ("5%", 20, 599, 29, 1),
        ("7%", 20, 1000, 70, 3),
        ("2.5%", 20, 4000, 100, 5),
        ("100%", 1, 77, 77, 77),
        # 28.999… as a float
        ("29%", 1, 100, 29, 29),
        ("40", 20, 9, 40, 2),
        ("59", 20, 10_000, 59, 2),
        ("5", 20, 9, 20, 1),
    ],
)
def test_the_budget_is_a_share_of_all_copies_or_a_number_and_never_below_one_a_token(
    budget: str, tokens: int, copies: int, releases: int, per_token: int
) -> None:
    settings = FleetSettings(budget=budget, tokens=tokens)

    assert (settings.releases(copies), settings.releases_per_token(copies)) == (releases, per_token)


def test_what_has_no_reason_to_stay_is_released() -> None:
    assert ReleaseOutcome().is_released
    assert not ReleaseOutcome(Reason.LAST_COPY).is_released
