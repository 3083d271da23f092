"""A policy as JSON: a candidate that is sent to a running engine and evaluated there."""

import json
from collections.abc import Mapping

from hmret.model.policy.config import RetentionConfig
from hmret.settings.given_values import Form, GivenValue, typed_node
from hmret.settings.reading import read_setting
from hmret.settings.setting_table import SETTING_SCHEMAS, change_config
from hmret.settings.source_location import SourceLocation, name_unknown, show
from hmret.settings.writing import show_value

_SETTINGS = {setting.key: setting for setting in SETTING_SCHEMAS}
_POLICY = [setting.key for setting in SETTING_SCHEMAS if setting.declared.is_policy]


def policy_settings(config: RetentionConfig) -> dict[str, object]:
    """Return the settings that decide what is deleted, by dotted key and ready for JSON.

    Values are as `check-config` shows them: durations are seconds, sizes bytes, shares percentages as text. What is
    unset is None, the low mark of the disk too.
    """
    return {key: show_value(_SETTINGS[key], _SETTINGS[key].given_in(config)) for key in _POLICY}


def policy_fingerprint(config: RetentionConfig) -> str:
    """Return 16 hexadecimal digits by which hosts of a fleet recognise that they have one policy.

    They are of the SHA-256 of the settings that decide what is deleted, as JSON with sorted keys.
    """
    text = json.dumps(policy_settings(config), sort_keys=True, separators=(",", ":"))
    import hashlib  # noqa: PLC0415 - it loads OpenSSL, and few commands need it

    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def config_from_policy(base: RetentionConfig, values: Mapping[str, object]) -> RetentionConfig:
    """Return a configuration with the settings of a policy replaced; those that are not given stay.

    The inverse of `policy_settings`: its values give an equal configuration, with durations to the microsecond up to
    270 years. Each value is checked as one of a config file is, and may be written as it is there too.

    Raises:
        ConfigError: a key is unknown or not of the policy, a value is not usable, or two contradict each other; the
            message is one line that names the key.
    """
    read: dict[str, object] = {}
    for key, content in values.items():
        place = SourceLocation(show(key))
        if key not in _SETTINGS:
            raise place.error(name_unknown(key, _POLICY))
        setting = _SETTINGS[key]
        if not setting.declared.is_policy:
            raise place.error("expected a key of the policy, got one of the engine's own")
        unset = content is None and setting.may_be_unset
        read[key] = None if unset else read_setting(setting, GivenValue(typed_node(content), key, Form.JSON))
    return change_config(base, read)
