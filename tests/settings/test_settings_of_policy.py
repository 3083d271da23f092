"""The settings of a richer policy from the config file and the environment, and what every mistake in them is told as."""

import pathlib
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings as hypothesis_settings

from disk.configs import configs
from hmret.model.policy.config import RetentionConfig
from hmret.model.policy.rules import Rule
from hmret.settings.effective import EffectiveSetting
from hmret.settings.load import load_settings
from settings.loading import Load, changed, complaint

pytestmark = pytest.mark.usefixtures("each_yaml_loader")

DURATION = "a duration of at most 2562047h, such as 30d, 1w, 720h or 1h30m"
SHARE = "a percentage from 0% to 100%, such as 85%"
SIZE = "a size of less than 10^18 bytes, such as 500GiB or 500GB (bytes need no unit)"
AMOUNT = f"{SIZE}, or a percentage of the disk such as 18%"
COUNT = "a whole number, 0 or more, of at most 18 digits"
MAPPINGS = "a list, each element a mapping of keys to values"
SPAN = "a span of a day such as 02:00-05:00"
ZONE = "a time zone that this host knows, such as Europe/Berlin"
RULE_KNOWN = "known are match, tags, unused_for, keep_latest"


# What is read


@pytest.mark.parametrize(
    ("content", "key", "value"),
    [
        ("keep_latest: 3", "keep_latest", 3),
        ("min_age: 0", "min_age", 0.0),
        ("min_age: 0s", "min_age", 0.0),
        ("min_age: '0'", "min_age", 0.0),
        ("min_age: -0h", "min_age", 0.0),
        ("min_age: 1.5h", "min_age", 5400.0),
        ("quarantine: 0", "quarantine", 0.0),
        ("quarantine: 24h", "quarantine", 86400.0),
        ("brake_for: 0m", "brake_for", 0.0),
        ("brake_for: 12h", "brake_for", 43200.0),
        ("max_bytes_per_sweep: 0", "max_bytes_per_sweep", 0),
        ("max_bytes_per_sweep: 1500", "max_bytes_per_sweep", 1500),
        ("max_bytes_per_sweep: '1500'", "max_bytes_per_sweep", 1500),
        ("max_bytes_per_sweep: 1.5KiB", "max_bytes_per_sweep", 1536),
        ("max_bytes_per_sweep: 999999999999999999", "max_bytes_per_sweep", 10**18 - 1),
        ("disk: {max_used: 500GiB}", "disk.max_used", 500 * 2**30),
        ("disk: {max_used: 500GB}", "disk.max_used", 500 * 10**9),
        ("disk: {max_used: 18%}", "disk.max_used", "18%"),
        ("disk: {count: apparent}", "disk.count", "apparent"),
        ("disk: {high_watermark: 0}", "disk.high_watermark", "0%"),
        ("disk: {high_watermark: 0%}", "disk.high_watermark", "0%"),
        ("disk: {high_watermark: 85.50%}", "disk.high_watermark", "85.5%"),
        ("disk: {high_watermark: 100%}", "disk.high_watermark", "100%"),
        ("disk: {min_unused_for: 2h}", "disk.min_unused_for", 7200.0),
        ("window: {hours: []}", "window.hours", []),
        ("window: {hours: [22:00-05:00]}", "window.hours", ["22:00-05:00"]),
        ("window: {hours: [' 02:00-05:00 ', 12:00-24:00]}", "window.hours", ["02:00-05:00", "12:00-24:00"]),
        ("window: {time_zone: Europe/Berlin}", "window.time_zone", "Europe/Berlin"),
        ("window: {yields_to_pressure: true}", "window.yields_to_pressure", True),
        ("brake: 0", "brake", "0%"),
        ("brake: 33.4%", "brake", "33.4%"),
        ("brake_min_images: 0", "brake_min_images", 0),
        ("delete_unpullable: true", "delete_unpullable", True),
        ("rules: []", "rules", []),
    ],
)
def test_the_file_sets_a_key_of_the_policy(load: Load, content: str, key: str, value: object) -> None:
    assert changed(load(f"hmret:\n  {content}\n")) == {f"hmret.{key}": (value, "file")}


@pytest.mark.parametrize(
    "content",
    ["disk:", "disk: {}", "disk: ~", "window: {hours: , time_zone: ~}", "rules:", "rules: null", "brake:"],
)
def test_null_is_not_given(load: Load, content: str) -> None:
    assert changed(load(f"hmret:\n  {content}\n")) == {}


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("KEEP_LATEST", "3", "keep_latest", 3),
        ("MIN_AGE", "0", "min_age", 0.0),
        ("MIN_AGE", "6h", "min_age", 21600.0),
        ("DELETE_UNPULLABLE", "1", "delete_unpullable", True),
        ("MAX_BYTES_PER_SWEEP", "1GiB", "max_bytes_per_sweep", 2**30),
        ("MAX_BYTES_PER_SWEEP", "5", "max_bytes_per_sweep", 5),
        ("DISK__HIGH_WATERMARK", "90%", "disk.high_watermark", "90%"),
        ("DISK__HIGH_WATERMARK", "85.5%", "disk.high_watermark", "85.5%"),
        ("DISK__LOW_WATERMARK", "0", "disk.low_watermark", "0%"),
        ("DISK__MAX_USED", "500GB", "disk.max_used", 500 * 10**9),
        ("DISK__MAX_USED", "17.5%", "disk.max_used", "17.5%"),
        ("DISK__COUNT", "apparent", "disk.count", "apparent"),
        ("DISK__MIN_UNUSED_FOR", "90s", "disk.min_unused_for", 90.0),
        ("QUARANTINE", "24h", "quarantine", 86400.0),
        ("WINDOW__HOURS", "[]", "window.hours", []),
        ("WINDOW__HOURS", "02:00-05:00, 22:00-24:00", "window.hours", ["02:00-05:00", "22:00-24:00"]),
        ("WINDOW__TIME_ZONE", "Asia/Kathmandu", "window.time_zone", "Asia/Kathmandu"),
        ("WINDOW__YIELDS_TO_PRESSURE", "t", "window.yields_to_pressure", True),
        ("BRAKE", "10%", "brake", "10%"),
        ("BRAKE_MIN_IMAGES", "7", "brake_min_images", 7),
        ("BRAKE_FOR", "1h", "brake_for", 3600.0),
        ("RULES", "[]", "rules", []),
        (
            "RULES",
            "- match: [a.b/c]\n  unused_for: never\n",
            "rules",
            [{"match": ["a.b/c"], "tags": None, "unused_for": "never", "keep_latest": None}],
        ),
    ],
)
def test_a_variable_sets_a_key_of_the_policy_over_the_file(
    load: Load, variable: str, text: str, key: str, value: object
) -> None:
    content = "hmret:\n  disk: {high_watermark: 85%}\n  rules: [{match: ['*'], keep_latest: 1}]\n"

    loaded = load(content, environment={f"HMRET__{variable}": text})

    assert loaded.values[f"hmret.{key}"] == EffectiveSetting(value, "environment")
    assert [name for name, setting in loaded.values.items() if setting.source == "environment"] == [
        f"hmret.{key}"
    ]


def test_the_low_mark_in_force_is_five_points_below_the_high_one(load: Load) -> None:
    loaded = load("hmret: {disk: {high_watermark: 85%}}")

    assert loaded.values["hmret.disk.low_watermark"] == EffectiveSetting("80%", "default")
    assert loaded.config.disk.low_watermark is None


def test_the_marks_may_come_from_different_sources(load: Load) -> None:
    loaded = load("hmret: {disk: {low_watermark: 60%}}", environment={"HMRET__DISK__HIGH_WATERMARK": "70%"})

    assert loaded.values["hmret.disk.high_watermark"] == EffectiveSetting("70%", "environment")
    low = loaded.values["hmret.disk.low_watermark"]
    assert (low.value, low.source) == ("60%", "file")


def test_the_environment_can_switch_off_marks_that_the_file_sets(load: Load) -> None:
    loaded = load(
        "hmret: {disk: {high_watermark: 85%, low_watermark: 80%}}",
        environment={"HMRET__DISK__HIGH_WATERMARK": "0", "HMRET__DISK__LOW_WATERMARK": "0"},
    )

    assert not loaded.config.disk.is_set


def test_rules_are_read_in_their_order_with_whatever_yaml_offers(load: Load) -> None:
    loaded = load(
        """\
defaults: &ci [ghcr.io/ci/*, " a.b/* "]
other: &last {match: ["*"], keep_latest: 0}
hmret:
  rules:
    - {match: *ci, tags: ["pr-*", '1.0'], unused_for: 90s, keep_latest: }
    - match:
        - a.b/c
      "unused_for": never
      keep_latest:
    - *last
"""
    )

    assert loaded.config.rules == (
        Rule(match=("ghcr.io/ci/*", "a.b/*"), tags=("pr-*", "1.0"), unused_for=timedelta(seconds=90)),
        Rule(match=("a.b/c",), unused_for="never"),
        Rule(match=("*",), keep_latest=0),
    )
    assert loaded.values["hmret.rules"].value == [
        {
            "match": ["ghcr.io/ci/*", "a.b/*"],
            "tags": ["pr-*", "1.0"],
            "unused_for": 90.0,
            "keep_latest": None,
        },
        {"match": ["a.b/c"], "tags": None, "unused_for": "never", "keep_latest": None},
        {"match": ["*"], "tags": None, "unused_for": None, "keep_latest": 0},
    ]


# What is wrong with a key


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("keep_latest: -1", f"keep_latest: expected {COUNT}, got -1"),
        ("keep_latest: 3s", f"keep_latest: expected {COUNT}, got 3s"),
        ("min_age: 60", f"min_age: expected {DURATION}, got 60"),
        ("min_age: 0.0", f"min_age: expected {DURATION}, got 0.0"),
        ("min_age: 00", f"min_age: expected {DURATION}, got 00"),
        ("min_age: false", f"min_age: expected {DURATION}, got false"),
        ("min_age: 1y", f"min_age: expected {DURATION}, got '1y'"),
        ("min_age: -1s", "min_age: expected a duration of zero or more, got '-1s'"),
        ("quarantine: 1W", f"quarantine: expected {DURATION}, got '1W'"),
        ("quarantine: []", f"quarantine: expected {DURATION}, got a list"),
        ("brake_for: 2562048h", f"brake_for: expected {DURATION}, got '2562048h'"),
        ("max_bytes_per_sweep: 10 GB", f"max_bytes_per_sweep: expected {SIZE}, got '10 GB'"),
        ("max_bytes_per_sweep: 10G", f"max_bytes_per_sweep: expected {SIZE}, got '10G'"),
        ("max_bytes_per_sweep: -1", f"max_bytes_per_sweep: expected {SIZE}, got -1"),
        ("max_bytes_per_sweep: 1e9", f"max_bytes_per_sweep: expected {SIZE}, got '1e9'"),
        ("max_bytes_per_sweep: 1.5", f"max_bytes_per_sweep: expected {SIZE}, got 1.5"),
        ("max_bytes_per_sweep: 0x10", f"max_bytes_per_sweep: expected {SIZE}, got 0x10"),
        ("max_bytes_per_sweep: 0.1B", f"max_bytes_per_sweep: expected {SIZE}, got '0.1B'"),
        ("max_bytes_per_sweep: 1" + "0" * 18, f"max_bytes_per_sweep: expected {SIZE}, got 1" + "0" * 18),
        ("disk: {max_used: 1000000TB}", f"disk.max_used: expected {AMOUNT}, got '1000000TB'"),
        ("disk: {max_used: true}", f"disk.max_used: expected {AMOUNT}, got true"),
        ("disk: {high_watermark: 85}", f"disk.high_watermark: expected {SHARE}, got '85'"),
        ("disk: {high_watermark: 0.85}", f"disk.high_watermark: expected {SHARE}, got 0.85"),
        ("disk: {high_watermark: 100.1%}", f"disk.high_watermark: expected {SHARE}, got '100.1%'"),
        ("disk: {high_watermark: -5%}", f"disk.high_watermark: expected {SHARE}, got '-5%'"),
        ("disk: {high_watermark: 85 %}", f"disk.high_watermark: expected {SHARE}, got '85 %'"),
        ("disk: {high_watermark: '85,5%'}", f"disk.high_watermark: expected {SHARE}, got '85,5%'"),
        ("disk: {min_unused_for: 0}", "disk.min_unused_for: expected a duration of more than zero, got '0'"),
        ("disk: 85%", "disk: expected a mapping of keys to values, got 85%"),
        ("disk: {max_used: 101%}", f"disk.max_used: expected {AMOUNT}, got '101%'"),
        ("disk: {count: inodes}", "disk.count: expected blocks or apparent, got 'inodes'"),
        ("disk: [max_used]", "disk: expected a mapping of keys to values, got a list"),
        ("disk: {maxused: 5}", "disk.maxused: unknown, did you mean max_used? known are high_watermark, low_watermark, max_used, count, min_unused_for"),
        ("disk: {<<: {max_used: 5}}", "disk.<<: unknown, known are high_watermark, low_watermark, max_used, count, min_unused_for"),
        ("disk: {max_used: 5, max_used: 5}", "disk.max_used: expected once, got it on line 2 and again on line 2"),
        ("window: {hour: []}", "window.hour: unknown, did you mean hours? known are hours, time_zone, yields_to_pressure"),
        ("window: {hours: 02:00-05:00}", f"window.hours: expected a list, each element {SPAN}, got 02:00-05:00"),
        ("window: {hours: [2-5]}", f"window.hours: expected {SPAN}, got '2-5'"),
        ("window: {hours: [25:00-26:00]}", f"window.hours: expected {SPAN}, got '25:00-26:00'"),
        ("window: {hours: [24:00-05:00]}", f"window.hours: expected {SPAN}, got '24:00-05:00'"),
        ("window: {hours: [02:00]}", f"window.hours: expected {SPAN}, got '02:00'"),
        ("window: {hours: [5]}", f"window.hours: expected {SPAN}, got 5"),
        ("window: {hours: [05:00-05:00]}", "window.hours: expected a span that lasts, got '05:00-05:00'"),
        ("window: {time_zone: CEST}", f"window.time_zone: expected {ZONE}, got 'CEST'"),
        ("window: {time_zone: ../zoneinfo/UTC}", f"window.time_zone: expected {ZONE}, got '../zoneinfo/UTC'"),
        ("window: {time_zone: Europe}", f"window.time_zone: expected {ZONE}, got 'Europe'"),
        ("window: {time_zone: ''}", "window.time_zone: expected a time zone such as Europe/Berlin, got ''"),
        ("window: {time_zone: 2}", "window.time_zone: expected a time zone such as Europe/Berlin, got 2"),
        ("window: {yields_to_pressure: 1}", "window.yields_to_pressure: expected true or false, got 1"),
        ("brake: half", f"brake: expected {SHARE}, got 'half'"),
        ("brake_min_images: 20%", f"brake_min_images: expected {COUNT}, got 20%"),
        ("delete_unpullable: yes", "delete_unpullable: expected true or false, got yes"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_with_its_line_and_key(load: Load, content: str, told: str) -> None:
    assert complaint(load, f"hmret:\n  {content}\n") == f"config.yaml:2: hmret.{told}"


@pytest.mark.parametrize(
    ("content", "environment", "told"),
    [
        (
            "hmret:\n disk:\n  low_watermark: 85%\n  high_watermark: 80%",
            {},
            "config.yaml:3: hmret.disk.low_watermark: must not be above high_watermark (80%), got 85%",
        ),
        (
            "hmret:\n disk:\n  low_watermark: 85%",
            {},
            "config.yaml:3: hmret.disk.low_watermark: expected a high_watermark beside it, got none",
        ),
        (
            "hmret:\n disk:\n  high_watermark: 80%\n  low_watermark: 70%",
            {"HMRET__DISK__HIGH_WATERMARK": "60.5%"},
            "config.yaml:4: hmret.disk.low_watermark: must not be above high_watermark (60.5%), got 70%",
        ),
        (
            "hmret:\n disk:\n  high_watermark: 80%",
            {"HMRET__DISK__LOW_WATERMARK": "81%"},
            "environment variable HMRET__DISK__LOW_WATERMARK: must not be above high_watermark (80%), got 81%",
        ),
    ],
)
def test_a_low_mark_above_the_high_one_is_told_where_the_low_one_stands(
    load: Load, content: str, environment: dict[str, str], told: str
) -> None:
    assert complaint(load, content, environment=environment) == told


@pytest.mark.parametrize(
    ("variable", "text", "told"),
    [
        ("MIN_AGE", "-1ns", "expected a duration of zero or more, got '-1ns'"),
        ("DISK__HIGH_WATERMARK", "85", f"expected {SHARE}, got '85'"),
        ("DISK__HIGH_WATERMARK", "\u0668\u0665%", f"expected {SHARE}, got '\u0668\u0665%'"),
        ("DISK__MAX_USED", "-0", f"expected {AMOUNT}, got '-0'"),
        ("WINDOW__HOURS", "02:00-05:00,", f"expected {SPAN} between commas, got '02:00-05:00,'"),
        ("WINDOW__HOURS", "2", f"expected {SPAN}, got '2'"),
        ("WINDOW__HOURS", "\udcff", rf"expected {SPAN}, got '\udcff'"),
        ("WINDOW__TIME_ZONE", "\udcff", r"expected UTF-8, got '\udcff'"),
        ("WINDOW__TIME_ZONE", "x" * 5000, f"expected {ZONE}, got '{'x' * 80}"),
        ("DISK", "{}", "expected a variable for each of its keys, which are HMRET__DISK__HIGH_WATERMARK, HMRET__DISK__LOW_WATERMARK, "),
        ("RULES", "\udcff", r"expected UTF-8, got '\udcff'"),
        ("RULES", " ", f"expected {MAPPINGS}, got ' '"),
        ("RULES", "null", f"expected {MAPPINGS}, got 'null'"),
    ],
)  # fmt: skip
def test_a_wrong_variable_is_told_by_its_name(load: Load, variable: str, text: str, told: str) -> None:
    message = complaint(load, environment={f"HMRET__{variable}": text})

    assert message.startswith(f"environment variable HMRET__{variable}: {told}")


# What is wrong with a rule


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("x", "4: hmret.rules, rule 2: expected a mapping of keys to values, got x"),
        ("", "4: hmret.rules, rule 2: expected a mapping of keys to values, got nothing"),
        ("[a]", "4: hmret.rules, rule 2: expected a mapping of keys to values, got a list"),
        ("{}", "4: hmret.rules, rule 2, match: expected at least one repository pattern, got none"),
        ("{match: , keep_latest: 1}", "4: hmret.rules, rule 2, match: expected at least one repository pattern, got none"),
        ("match: ['*']", "4: hmret.rules, rule 2: expected unused_for or keep_latest, got neither"),
        ("keep_latest: 1\n      match: []", "5: hmret.rules, rule 2, match: expected at least one repository pattern, got none"),
        ("keep_latest: 1\n      match: '*'", '5: hmret.rules, rule 2, match: expected a list, each element a repository pattern, got "*"'),
        ("match:\n        - a\n        - 5", "6: hmret.rules, rule 2, match: expected a repository pattern, got 5"),
        ("match:\n        - a\n        - ' '", "6: hmret.rules, rule 2, match: a repository pattern must not be empty, got ' '"),
        ("match: [a]\n      tags: []", "5: hmret.rules, rule 2, tags: expected at least one tag pattern, or no such key, got an empty list"),
        ("match: [a]\n      tags:\n      # - dev-*\n      unused_for: 1h", "5: hmret.rules, rule 2, tags: expected a value, or no such key, got nothing"),
        ("match: [a]\n      tags: ~", "5: hmret.rules, rule 2, tags: expected a value, or no such key, got nothing"),
        ("match: [a]\n      tags: latest", "5: hmret.rules, rule 2, tags: expected a list, each element a tag pattern (a number needs quotes), got latest"),
        ("match: [a]\n      tags: [1.10]", "5: hmret.rules, rule 2, tags: expected a tag pattern (a number needs quotes), got 1.10"),
        ("match: [a]\n      tags: ['']", "5: hmret.rules, rule 2, tags: a tag pattern must not be empty, got ''"),
        ("match: [a]\n      unused_for: 0", "5: hmret.rules, rule 2, unused_for: expected a duration of more than zero, got '0'"),
        ("match: [a]\n      unused_for: -1h", "5: hmret.rules, rule 2, unused_for: expected a duration of more than zero, got '-1h'"),
        ("match: [a]\n      unused_for: 30", f"5: hmret.rules, rule 2, unused_for: expected never, or {DURATION}, got 30"),
        ("match: [a]\n      unused_for: Never", f"5: hmret.rules, rule 2, unused_for: expected never, or {DURATION}, got 'Never'"),
        ("match: [a]\n      keep_latest: -1", f"5: hmret.rules, rule 2, keep_latest: expected {COUNT}, got -1"),
        ("match: [a]\n      unused_fr: 1h", f"5: hmret.rules, rule 2, unused_fr: unknown, did you mean unused_for? {RULE_KNOWN}"),
        ("match: [a]\n      <<: {unused_for: 1h}", f"5: hmret.rules, rule 2, <<: unknown, {RULE_KNOWN}"),
        ("match: [a]\n      match: [b]", "5: hmret.rules, rule 2, match: expected once, got it on line 4 and again on line 5"),
        ("match: [a]\n      keep_latest:\n      keep_latest: 1", "6: hmret.rules, rule 2, keep_latest: expected once, got it on line 5 and again on line 6"),
    ],
)  # fmt: skip
def test_a_rule_that_is_none_is_told_with_its_line_and_number(load: Load, rule: str, told: str) -> None:
    content = f"hmret:\n  rules:\n    - {{match: ['*'], keep_latest: 1}}\n    - {rule}\n"

    assert complaint(load, content) == f"config.yaml:{told}"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{match: ['*'], keep_latest: 1}", f"expected {MAPPINGS}, got a mapping"),
        ("keep", f"expected {MAPPINGS}, got keep"),
        ("1", f"expected {MAPPINGS}, got 1"),
    ],
)
def test_rules_that_are_no_list_are_told(load: Load, content: str, told: str) -> None:
    assert complaint(load, f"hmret:\n  rules: {content}\n") == f"config.yaml:2: hmret.rules: {told}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x", f":1: rules: expected {MAPPINGS}, got x"),
        ("[{match: ['*']}]", ":1: rules, rule 1: expected unused_for or keep_latest, got neither"),
        ("\n- {match: ['*'], keep_lates: 1}", f":2: rules, rule 1, keep_lates: unknown, did you mean keep_latest? {RULE_KNOWN}"),
        ("[a, ]b", ":1: not valid YAML, "),
        ("[]\n---\n[]", ":2: expected one YAML document, got another one"),
        ("[*]", ":1: not valid YAML, while scanning an alias"),
    ],
)  # fmt: skip
def test_a_rule_of_the_environment_that_is_none_is_told_with_the_variable(
    load: Load, text: str, told: str
) -> None:
    message = complaint(load, environment={"HMRET__RULES": text})

    assert message.startswith(f"environment variable HMRET__RULES{told}")


# Whatever is written reads back


WRITTEN_AS_THEY_ARE = (
    "name", "host", "min_copies", "hot_copies", "yields_to_pressure", "ca_file", "cert_file", "key_file", "user", "password_file"
)  # fmt: skip


def written(config: RetentionConfig) -> dict[str, Any]:
    """A configuration as the document of a config file, put together on its own."""

    def go(duration: timedelta) -> str:
        return f"{duration // timedelta(microseconds=1)}us"

    def percent(share: float) -> str:
        return f"{Decimal(repr(float(share))).scaleb(2):f}%"

    rules = [
        {
            "match": list(rule.match),
            **({"tags": list(rule.tags)} if rule.tags else {}),
            "unused_for": go(rule.unused_for) if isinstance(rule.unused_for, timedelta) else rule.unused_for,
            "keep_latest": rule.keep_latest,
        }
        for rule in config.rules
    ]
    fleet = config.fleet
    low = config.disk.low_watermark
    most = config.disk.max_used
    return {
        "data_dir": config.data_dir,
        "images": {
            "auto_delete": {
                "enabled": config.auto_delete.enabled,
                "unused_for": go(config.auto_delete.unused_for),
                "allowed": list(config.auto_delete.allowed),
            }
        },
        "hmret": {
            "enabled": config.enabled,
            "sweep_interval": go(config.sweep_interval),
            "pinned": list(config.pinned),
            "rules": rules,
            "keep_latest": config.keep_latest,
            "min_age": go(config.min_age),
            "delete_unpullable": config.delete_unpullable,
            "max_deletes_per_sweep": config.max_deletes_per_sweep,
            "max_bytes_per_sweep": config.max_bytes_per_sweep,
            "disk": {
                "high_watermark": percent(config.disk.high_watermark),
                "low_watermark": None if low is None else percent(low),
                "max_used": percent(most) if isinstance(most, float) else f"{most}B",
                "count": config.disk.count,
                "min_unused_for": go(config.disk.min_unused_for),
            },
            "quarantine": go(config.quarantine),
            "window": {
                "hours": list(config.window.hours),
                "time_zone": config.window.time_zone,
                "yields_to_pressure": config.window.yields_to_pressure,
            },
            "brake": percent(config.brake),
            "brake_min_images": config.brake_min_images,
            "brake_for": go(config.brake_for),
            "unreadable_references": config.unreadable_references,
            "access_time": config.access_time,
            "leases": config.leases,
            "control_socket": config.control_socket,
            "metrics_listen": config.metrics_listen,
            "journal": config.journal,
            "fleet": {
                **{field: getattr(fleet, field) for field in WRITTEN_AS_THEY_ARE},
                "endpoints": list(fleet.endpoints),
                "last_copies_for": "never" if fleet.last_copies_for == "never" else go(fleet.last_copies_for),
                "hot_for": go(fleet.hot_for),
                "session_ttl": go(fleet.session_ttl),
                "timeout": go(fleet.timeout),
            },
        },
    }


@hypothesis_settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
@given(config=configs())
def test_whatever_settings_a_file_holds_are_the_ones_that_are_read(
    config_file: pathlib.Path, config: RetentionConfig
) -> None:
    config_file.write_text(yaml.safe_dump(written(config)), encoding="utf-8")

    loaded = load_settings(config_file=str(config_file), environment={}, flags={}, default_files=())

    assert loaded.config == config
