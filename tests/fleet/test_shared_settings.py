"""The settings that all hosts of a fleet share, as an operator writes them and as they stand in etcd."""

from datetime import UTC, datetime, timedelta

import attrs
import pytest

from hmret.fleet.settings import (
    SETTABLE,
    change_setting,
    decode_settings,
    encode_settings,
)
from hmret.model.errors import ConfigError
from hmret.model.fleet import FleetSettings, Paused


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("min_copies", "0", 0),
        ("min_copies", "40", 40),
        ("budget", "5%", "5%"),
        ("budget", "0.5%", "0.5%"),
        ("budget", "100%", "100%"),
        ("budget", "20", "20"),
        ("budget", "040", "40"),
        ("tokens", "1", 1),
        ("tokens", "100", 100),
        ("canary", "0s", timedelta(0)),
        ("canary", "90m", timedelta(minutes=90)),
        ("forget_after", "30d", timedelta(days=30)),
        ("forget_after", "0", timedelta(0)),
    ],
)
def test_a_value_is_taken_and_stands_in_etcd_as_it_was_meant(key: str, text: str, value: object) -> None:
    changed = change_setting(FleetSettings(), key, text)
    assert getattr(changed, key) == value
    assert decode_settings(encode_settings(changed)) == changed


@pytest.mark.parametrize(
    ("key", "text", "told"),
    [
        ("min_copies", "-1", "min_copies: expected a number from 0 to 40, got '-1'"),
        ("min_copies", "41", "min_copies: expected a number from 0 to 40, got '41'"),
        ("min_copies", "many", "min_copies: expected a number"),
        ("min_copies", "", "min_copies: expected a number"),
        ("min_copies", "1e1", "min_copies: expected a number"),
        ("min_copies", "٣", "min_copies: expected a number"),
        ("tokens", "0", "tokens: expected a number from 1 to 100, got '0'"),
        ("tokens", "101", "tokens: expected a number from 1 to 100"),
        ("budget", "19", "budget: expected a share, or a number not below tokens (20), got 19"),
        ("budget", "0%", "budget: expected more than nothing, got '0%': pause stops deletions"),
        ("budget", "101%", "budget: not a percentage"),
        ("budget", "5 %", "budget: not a percentage"),
        ("budget", "all", "budget: expected a share such as 5%, or a number of copies, got 'all'"),
        ("canary", "-1h", "canary: expected a duration of 0s or more, got '-1h'"),
        ("canary", "soon", "canary: not a duration: 'soon'"),
        ("forget_after", "never", "forget_after: not a duration: 'never'"),
        (
            "paused",
            "true",
            "paused: not a setting of a fleet; expected one of min_copies, budget, tokens, canary, forget_after",
        ),
        ("endpoints", "x", "endpoints: not a setting of a fleet"),
    ],
)
def test_what_is_no_value_is_refused_in_one_line_that_names_it(key: str, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        change_setting(FleetSettings(), key, text)
    assert str(refused.value).startswith(told)
    assert "\n" not in str(refused.value)


def test_more_tokens_than_a_number_as_budget_are_refused() -> None:
    settings = change_setting(FleetSettings(), "budget", "30")
    with pytest.raises(ConfigError, match=r"not below tokens \(31\), got 30"):
        change_setting(settings, "tokens", "31")


def test_settings_stand_in_etcd_as_they_are_documented() -> None:
    assert encode_settings(FleetSettings()) == (
        '{"min_copies":1,"budget":"5%","tokens":20,"canary":"1h","forget_after":"720h","paused":null}'
    )
    paused = FleetSettings(paused=Paused("root@h", datetime(2026, 11, 29, tzinfo=UTC), 'a "reason"'))
    assert encode_settings(paused).endswith(
        '"paused":{"by":"root@h","at":"2026-11-29T00:00:00Z","reason":"a \\"reason\\""}}'
    )
    assert decode_settings(encode_settings(paused)) == paused


def test_what_a_newer_version_adds_is_passed_over_and_what_is_left_out_is_the_default() -> None:
    assert decode_settings('{"budget":40,"zones":{"a":1}}') == FleetSettings(budget="40")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{",
        '{"tokens":"20"}',
        '{"tokens":0}',
        '{"budget":"all"}',
        '{"canary":"soon"}',
        '{"min_copies":41}',
        '{"budget":5}',
        '{"paused":{"by":"x"}}',
        '{"paused":{"by":"x","at":"then","reason":""}}',
    ],
)
def test_settings_that_are_not_readable_are_an_error_and_not_the_defaults(text: str) -> None:
    with pytest.raises(ValueError):
        decode_settings(text)


def test_what_can_be_set_is_what_stands_in_etcd() -> None:
    assert {*SETTABLE, "paused"} == {field.name for field in attrs.fields(FleetSettings)}
