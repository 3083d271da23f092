"""How the values of settings are shown in JSON, and written as a config file has them; the schema for print."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from hmret.model.durations import format_duration, format_span, go_duration
from hmret.model.policy.config import RetentionConfig
from hmret.model.policy.kinds import SHARE
from hmret.model.policy.rules import Rule
from hmret.model.sizes import format_exact_size, format_share
from hmret.model.times import SECOND
from hmret.settings.setting_table import RULE_SCHEMAS, SETTING_SCHEMAS, SettingSchema

_WORDS: Mapping[object, str] = {None: "", True: "true", False: "false", "": '""'}


def show_value(setting: SettingSchema, value: Any) -> object:
    """Make the value of a setting ready for JSON, in a form that can be read again; None: it is unset."""
    match value:
        case timedelta():
            return value.total_seconds()
        case tuple():
            return [_show_rule(one) if isinstance(one, Rule) else one for one in value]
    is_share = isinstance(value, float) or (setting.kind is SHARE and value is not None)
    return format_share(value) if is_share else value


def _show_rule(rule: Rule) -> dict[str, object]:
    shown = {one.name: show_value(one, getattr(rule, one.name)) for one in RULE_SCHEMAS}
    return shown | {"tags": shown["tags"] or None}


def write_value(setting: SettingSchema, shown: object) -> str:
    """Write a value as the config file would have it, given as JSON has it; None, unset, is nothing there."""
    match shown:
        case None | bool() | "":
            return _WORDS[shown]
        case int() if setting.kind.unit == "bytes":
            return format_exact_size(shown)
        case float():  # only durations are: seconds
            written = format_duration(round(shown * SECOND))
            return go_duration(written) if setting.is_hypemans else format_span(round(shown * SECOND))
        case list():
            return f"[{', '.join(map(str, shown))}]"
    return str(shown)


def schema_document() -> list[dict[str, object]]:
    """Describe each setting, ready for JSON, in the order in which they are shown.

    `default` is written as in a config file, and null where the setting is unset; `unit` says what a bare number in JSON
    counts, and is null where there is none; `choices` are null where the values are not just a few.

    Raises:
        OSError: the source of hmret, from which the descriptions are read, is not there.
    """
    config = RetentionConfig()
    return [
        {
            "key": one.key,
            "environment": one.variable,
            "kind": one.kind.name,
            "choices": list(one.kind.choices) or None,
            "default": None if one.may_be_unset else write_value(one, show_value(one, one.given_in(config))),
            "unit": one.kind.unit or None,
            "description": one.description,
            "is_policy": one.declared.is_policy,
            "needs_restart": one.declared.needs_restart,
        }
        for one in SETTING_SCHEMAS
    ]
