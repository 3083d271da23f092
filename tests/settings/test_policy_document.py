"""A policy as JSON: what comes of it is what was meant, and nothing else is taken."""

import json
import math
from datetime import timedelta
from typing import Any

import attrs
import pytest
from hypothesis import example, given, settings as hypothesis_settings, strategies

from disk.configs import configs
from hmret.model.errors import ConfigError
from hmret.model.policy.config import AutoDelete, RetentionConfig
from hmret.model.policy.limits import DiskLimits
from hmret.model.policy.rules import Rule
from hmret.model.policy.window import DeletionWindow
from hmret.settings.load import load_settings
from hmret.settings.policy_document import config_from_policy, policy_settings
from support.bounds import bound

KEYS = [
    "images.auto_delete.enabled",
    "images.auto_delete.unused_for",
    "images.auto_delete.allowed",
    "registry.url",
    "build.builder_image",
    "hmret.enabled",
    "hmret.pinned",
    "hmret.rules",
    "hmret.keep_latest",
    "hmret.min_age",
    "hmret.delete_unpullable",
    "hmret.max_deletes_per_sweep",
    "hmret.max_bytes_per_sweep",
    "hmret.disk.high_watermark",
    "hmret.disk.low_watermark",
    "hmret.disk.max_used",
    "hmret.disk.count",
    "hmret.disk.min_unused_for",
    "hmret.quarantine",
    "hmret.window.hours",
    "hmret.window.time_zone",
    "hmret.window.yields_to_pressure",
    "hmret.brake",
    "hmret.brake_min_images",
    "hmret.brake_for",
]

OWN_DURATION = "a duration of at most 2562047h, such as 30d, 1w, 720h or 1h30m"
DURATION = "a Go duration of at most 2562047h, such as 720h or 1h30m (days are not a unit)"
SHARE = "a percentage from 0% to 100%, such as 85%"
SIZE = "a size of less than 10^18 bytes, such as 500GiB or 500GB (bytes need no unit)"
COUNT = "a whole number, 0 or more, of at most 18 digits"


def sent(values: dict[str, object]) -> dict[str, Any]:
    """The values after a journey as JSON."""
    travelled: dict[str, Any] = json.loads(json.dumps(values))
    return travelled


def complaint(**values: object) -> str:
    """What one value is refused with; double underscores stand for dots."""
    with pytest.raises(ConfigError) as caught:
        config_from_policy(
            RetentionConfig(), {name.replace("__", "."): value for name, value in values.items()}
        )
    message = str(caught.value)
    assert message.isprintable()
    return message


@hypothesis_settings(deadline=None)
@given(base=configs(), config=configs())
@example(base=RetentionConfig(enabled=True), config=RetentionConfig())
@example(
    base=RetentionConfig(disk=DiskLimits(high_watermark=0.5, low_watermark=0.4)),
    config=RetentionConfig(disk=DiskLimits(high_watermark=0.2)),
)
def test_a_policy_that_was_sent_is_the_same_where_it_arrives(
    base: RetentionConfig, config: RetentionConfig
) -> None:
    arrived = config_from_policy(base, sent(policy_settings(config)))

    assert policy_settings(arrived) == policy_settings(config)
    assert arrived == attrs.evolve(
        config,
        data_dir=base.data_dir,
        sweep_interval=base.sweep_interval,
        unreadable_references=base.unreadable_references,
        access_time=base.access_time,
        leases=base.leases,
        control_socket=base.control_socket,
        metrics_listen=base.metrics_listen,
        journal=base.journal,
        fleet=base.fleet,
    )


def test_a_policy_has_every_setting_but_those_of_the_engine_itself() -> None:
    every = load_settings(config_file=None, environment={}, flags={}, default_files=()).values

    assert list(policy_settings(RetentionConfig())) == KEYS
    assert sorted(set(every) - set(KEYS)) == [
        "data_dir",
        "hmret.access_time",
        "hmret.control_socket",
        "hmret.control_socket_group",
        "hmret.control_socket_group_writes",
        "hmret.fleet.ca_file",
        "hmret.fleet.cert_file",
        "hmret.fleet.endpoints",
        "hmret.fleet.host",
        "hmret.fleet.hot_copies",
        "hmret.fleet.hot_for",
        "hmret.fleet.key_file",
        "hmret.fleet.last_copies_for",
        "hmret.fleet.min_copies",
        "hmret.fleet.name",
        "hmret.fleet.password_file",
        "hmret.fleet.session_ttl",
        "hmret.fleet.timeout",
        "hmret.fleet.user",
        "hmret.fleet.yields_to_pressure",
        "hmret.journal",
        "hmret.leases",
        "hmret.metrics_listen",
        "hmret.sweep_interval",
        "hmret.unreadable_references",
    ]


def test_the_values_are_those_that_check_config_shows_but_for_an_unset_low_mark() -> None:
    settings = load_settings(
        config_file=None,
        environment={
            "HMRET__DISK__HIGH_WATERMARK": "85.5%",
            "HMRET__RULES": "[{match: ['*'], unused_for: 24h}]",
            "HMRET__MIN_AGE": "90m",
        },
        flags={},
        default_files=(),
    )

    values = policy_settings(settings.config)

    shown = {key: settings.values[key].value for key in KEYS}
    assert values == shown | {"hmret.disk.low_watermark": None}
    assert shown["hmret.disk.low_watermark"] == "80.5%"
    assert values["hmret.min_age"] == 5400.0
    assert values["hmret.rules"] == [
        {"match": ["*"], "tags": None, "unused_for": 86400.0, "keep_latest": None}
    ]


def test_what_is_not_given_stays() -> None:
    base = RetentionConfig(
        data_dir="/x",
        auto_delete=AutoDelete(enabled=True, allowed=("a.b/*",)),
        disk=DiskLimits(high_watermark=0.9, max_used=5),
        rules=(Rule(match=("*",), keep_latest=1),),
    )

    changed = config_from_policy(
        base, {"images.auto_delete.unused_for": 3600, "hmret.disk.low_watermark": "60%"}
    )

    assert changed == attrs.evolve(
        base,
        auto_delete=AutoDelete(enabled=True, allowed=("a.b/*",), unused_for=timedelta(hours=1)),
        disk=DiskLimits(high_watermark=0.9, low_watermark=0.6, max_used=5),
    )
    assert config_from_policy(base, {}) == base


def test_values_may_be_written_as_in_a_config_file() -> None:
    config = config_from_policy(
        RetentionConfig(),
        {
            "images.auto_delete.unused_for": "24h",
            "hmret.min_age": "0",
            "hmret.disk.max_used": "500GiB",
            "hmret.disk.high_watermark": 0,
            "hmret.rules": [{"match": [" a.b/* "], "unused_for": "90s"}, {"match": ["*"], "keep_latest": 0}],
            "hmret.window.hours": ["02:00-24:00"],
        },
    )

    assert config == RetentionConfig(
        auto_delete=AutoDelete(unused_for=timedelta(hours=24)),
        disk=DiskLimits(max_used=500 * 2**30),
        rules=(
            Rule(match=("a.b/*",), unused_for=timedelta(seconds=90)),
            Rule(match=("*",), keep_latest=0),
        ),
        window=DeletionWindow(hours=("02:00-24:00",)),
    )


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("images__auto_delete__enabled", None, "expected true or false, got null"),
        ("images__auto_delete__enabled", 1, "expected true or false, got 1"),
        ("images__auto_delete__unused_for", None, f"expected {DURATION}, got null"),
        ("images__auto_delete__unused_for", True, f"expected {DURATION}, got true"),
        ("images__auto_delete__unused_for", 0, "expected a duration of more than zero, got '0s'"),
        ("images__auto_delete__unused_for", -1.5, "expected a duration of more than zero, got '-1.5s'"),
        ("images__auto_delete__unused_for", 1e10, f"expected {DURATION}, got '2777777h46m40s'"),
        ("images__auto_delete__unused_for", math.nan, f"expected {DURATION}, got a number out of range"),
        ("images__auto_delete__unused_for", math.inf, f"expected {DURATION}, got a number out of range"),
        pytest.param("images__auto_delete__unused_for", 10**5000, f"expected {DURATION}, got a number out of range", id="huge"),
        ("images__auto_delete__unused_for", "30d", f"expected {DURATION}, got '30d'; write 720h"),
        ("images__auto_delete__allowed", "*", "expected a list, each element a repository pattern, got '*'"),
        ("images__auto_delete__allowed", [1], "expected a repository pattern, got 1"),
        ("images__auto_delete__allowed", [" "], "a repository pattern must not be empty, got ' '"),
        ("hmret__enabled", "true", "expected true or false, got 'true'"),
        ("hmret__keep_latest", -1, f"expected {COUNT}, got -1"),
        ("hmret__keep_latest", 1.0, f"expected {COUNT}, got 1.0"),
        ("hmret__min_age", -1, "expected a duration of zero or more, got '-1s'"),
        ("hmret__max_bytes_per_sweep", -1, f"expected {SIZE}, got -1"),
        ("hmret__max_bytes_per_sweep", 1.5, f"expected {SIZE}, got 1.5"),
        ("hmret__max_bytes_per_sweep", 10**18, f"expected {SIZE}, got a number out of range"),
        ("hmret__max_bytes_per_sweep", "10 GB", f"expected {SIZE}, got '10 GB'"),
        ("hmret__disk__high_watermark", 0.85, f"expected {SHARE}, got 0.85"),
        ("hmret__disk__high_watermark", 85, f"expected {SHARE}, got '85'"),
        ("hmret__disk__high_watermark", "101%", f"expected {SHARE}, got '101%'"),
        ("hmret__disk__low_watermark", "80%", "expected a high_watermark beside it, got none"),
        ("hmret__brake", None, f"expected {SHARE}, got null"),
        ("hmret__window__hours", ["2-5"], "expected a span of a day such as 02:00-05:00, got '2-5'"),
        ("hmret__window__time_zone", "Nowhere", "expected a time zone that this host knows, such as Europe/Berlin, got 'Nowhere'"),
        ("hmret__rules", {}, "expected a list, each element a mapping of keys to values, got a mapping"),
        ("hmret__rules", "[]", "expected a list, each element a mapping of keys to values, got '[]'"),
        ("hmret__rules", b"[]", "expected a list, each element a mapping of keys to values, got b'[]'"),
        ("data_dir", "/x", "expected a key of the policy, got one of the engine's own"),
        ("hmret__journal", True, "expected a key of the policy, got one of the engine's own"),
    ],
)  # fmt: skip
def test_what_is_no_value_is_refused_with_its_key(key: str, value: object, told: str) -> None:
    assert complaint(**{key: value}) == f"{key.replace('__', '.')}: {told}"


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("x", ": expected a mapping of keys to values, got 'x'"),
        (None, ": expected a mapping of keys to values, got null"),
        ([], ": expected a mapping of keys to values, got a list"),
        ({}, ", match: expected at least one repository pattern, got none"),
        ({"match": ["*"]}, ": expected unused_for or keep_latest, got neither"),
        ({"match": ["*"], "unused_for": 0}, ", unused_for: expected a duration of more than zero, got '0s'"),
        ({"match": ["*"], "unused_for": "ever"}, f", unused_for: expected never, or {OWN_DURATION}, got 'ever'"),
        ({"match": ["*"], "keep_latest": "1"}, f", keep_latest: expected {COUNT}, got '1'"),
        ({"match": ["*"], "keep_latest": 1, "tags": []}, ", tags: expected at least one tag pattern, or no such key, got an empty list"),
        ({"match": ["*"], "keeplatest": 1}, ", keeplatest: unknown, did you mean keep_latest? known are match, tags, unused_for, keep_latest"),
    ],
)  # fmt: skip
def test_a_rule_that_is_none_is_refused_with_its_number(rule: object, told: str) -> None:
    good = {"match": ["*"], "keep_latest": 1}

    assert complaint(hmret__rules=[good, rule]) == f"hmret.rules, rule 2{told}"


def test_an_unknown_key_is_refused_with_the_one_that_is_most_like_it() -> None:
    message = complaint(hmret__keep_lates=1)

    assert message.startswith(
        "hmret.keep_lates: unknown, did you mean hmret.keep_latest? known are images.auto"
    )
    assert "hmret.journal" not in message


def test_a_low_mark_above_the_high_one_of_the_base_is_told_of_the_low_one() -> None:
    base = RetentionConfig(disk=DiskLimits(high_watermark=0.9, low_watermark=0.8))

    with pytest.raises(ConfigError) as caught:
        config_from_policy(base, {"hmret.disk.high_watermark": "70%"})

    assert str(caught.value) == "hmret.disk.low_watermark: must not be above high_watermark (70%), got 80%"


@hypothesis_settings(deadline=None, max_examples=bound(100, 300))
@given(
    values=strategies.dictionaries(
        strategies.sampled_from(KEYS) | strategies.text(max_size=20),
        strategies.recursive(
            strategies.none()
            | strategies.booleans()
            | strategies.integers()
            | strategies.floats()
            | strategies.text(strategies.characters(), max_size=20)
            | strategies.sampled_from(["1h", "85%", "5GiB", "never", "02:00-05:00", "UTC", "*"]),
            lambda inner: (
                strategies.lists(inner, max_size=3)
                | strategies.dictionaries(
                    strategies.sampled_from(["match", "tags", "unused_for", "keep_latest", "x\n"]),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=8,
        ),
        min_size=1,
        max_size=3,
    )
)
def test_any_values_give_a_config_or_one_line(values: dict[str, object]) -> None:
    config: RetentionConfig | None = None
    told = ""
    try:
        config = config_from_policy(RetentionConfig(), values)
    except ConfigError as error:
        told = str(error)

    assert told.isprintable()
    assert config is None or config_from_policy(config, sent(policy_settings(config))) == config
