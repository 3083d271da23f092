"""The schema of the settings: what it says of each is what is read, and what the configuration takes."""

import json
import re

import attrs
import pytest

from hmret.model.errors import ConfigError
from hmret.model.policy.config import AutoDelete, RetentionConfig
from hmret.model.policy.fleet import FleetConfig
from hmret.model.policy.limits import DiskLimits
from hmret.model.policy.rules import Rule
from hmret.model.policy.window import DeletionWindow
from hmret.settings.load import load_settings
from hmret.settings.policy_document import policy_settings
from hmret.settings.setting_table import RULE_SCHEMAS, SETTING_SCHEMAS
from hmret.settings.writing import schema_document
from settings.loading import Load, changed

SCHEMA = {str(setting["key"]): setting for setting in schema_document()}
PARTS = {"auto_delete", "disk", "window", "fleet"}
# What a setting cannot be without.
BESIDE = {
    "hmret.fleet.user": "hmret.fleet.password_file",
    "hmret.fleet.password_file": "hmret.fleet.user",
    "hmret.fleet.key_file": "hmret.fleet.cert_file",
}


def as_yaml(key: str, written: object) -> str:
    *sections, name = key.split(".")
    lines = [f"{'  ' * depth}{section}:" for depth, section in enumerate(sections)]
    return "\n".join([*lines, f"{'  ' * len(sections)}{name}: {written}\n"])


def test_the_schema_has_every_setting_once_and_in_the_order_of_check_config() -> None:
    assert [setting["key"] for setting in schema_document()] == list(
        load_settings(config_file=None, environment={}, flags={}, default_files=(), own_file=None).values
    )


def test_the_schema_survives_json() -> None:
    assert json.loads(json.dumps(schema_document())) == schema_document()


@pytest.mark.parametrize("part", [RetentionConfig, AutoDelete, DiskLimits, DeletionWindow, FleetConfig, Rule])
def test_every_field_of_the_configuration_is_a_setting(part: type) -> None:
    fields = {field.name for field in attrs.fields(part) if field.init} - PARTS
    settings = {one.field.name for one in (*SETTING_SCHEMAS, *RULE_SCHEMAS) if one.owner is part}
    assert fields == settings


@pytest.mark.parametrize("key", SCHEMA)
def test_a_setting_is_described_in_one_line_that_does_not_repeat_its_default(key: str) -> None:
    description = SCHEMA[key]["description"]
    assert isinstance(description, str)
    assert re.fullmatch(r"(?:[A-Z`]|hypeman)[^\n]+\.", description)
    assert "efault:" not in description
    assert "  " not in description


@pytest.mark.parametrize("name", [one.field.name for one in RULE_SCHEMAS])
def test_a_key_of_a_rule_is_described_too(name: str) -> None:
    (setting,) = (one for one in RULE_SCHEMAS if one.field.name == name)
    assert setting.description.endswith(".")


@pytest.mark.parametrize("key", SCHEMA)
def test_the_default_reads_back_as_it_is_written(load: Load, key: str) -> None:
    written = SCHEMA[key]["default"]
    loaded = load(as_yaml(key, "" if written is None else written))
    assert loaded.config == RetentionConfig()
    assert list(changed(loaded)) == ([] if written is None else [key])


@pytest.mark.parametrize("key", [key for key in SCHEMA if SCHEMA[key]["default"] is not None])
def test_the_variable_that_the_schema_names_sets_the_setting(load: Load, key: str) -> None:
    text = SCHEMA[key]["default"]
    some_text = "x-1" if SCHEMA[key]["kind"] == "name" else "x:1"
    given = dict.fromkeys((key, BESIDE.get(key, key)), some_text if text == '""' else text)
    environment = {str(SCHEMA[one]["environment"]): text for one, text in given.items()}
    assert set(changed(load(environment=environment))) == set(given)


@pytest.mark.parametrize("key", [key for key in SCHEMA if SCHEMA[key]["choices"]])
def test_each_choice_is_taken_and_nothing_else(load: Load, key: str) -> None:
    choices = SCHEMA[key]["choices"]
    assert isinstance(choices, list)
    for choice in choices:
        assert load(as_yaml(key, choice)).values[key].value == choice
    told = f"expected {' or '.join(choices)}, got 'another'"
    with pytest.raises(ConfigError, match=re.escape(told)):
        load(as_yaml(key, "another"))


def test_the_schema_says_what_belongs_to_the_policy() -> None:
    policy = [key for key, setting in SCHEMA.items() if setting["is_policy"]]
    assert policy == list(policy_settings(RetentionConfig()))


def test_a_bare_number_counts_what_the_schema_says() -> None:
    units = {key: setting["unit"] for key, setting in SCHEMA.items() if setting["unit"] is not None}
    assert units == {
        "images.auto_delete.unused_for": "seconds",
        "hmret.sweep_interval": "seconds",
        "hmret.min_age": "seconds",
        "hmret.max_bytes_per_sweep": "bytes",
        "hmret.disk.max_used": "bytes",
        "hmret.disk.min_unused_for": "seconds",
        "hmret.quarantine": "seconds",
        "hmret.brake_for": "seconds",
        "hmret.fleet.hot_for": "seconds",
        "hmret.fleet.session_ttl": "seconds",
        "hmret.fleet.timeout": "seconds",
    }
