"""A policy on its own as JSON: a candidate that is sent to a running engine and judged there."""

from collections.abc import Mapping

from hmret.model.policy.config import RetentionConfig
from hmret.settings.keys import KEYS, ReadSetting, change_config
from hmret.settings.raw_values import TypedValue
from hmret.settings.source_location import SourceLocation, name_unknown, show

__all__ = ["config_from_policy", "policy_settings"]

_KEYS = {key.name: key for key in KEYS}
_POLICY = [key.name for key in KEYS if key.policy]


def policy_settings(config: RetentionConfig) -> dict[str, object]:
    """Take from a configuration what says what is deleted, by dotted key and ready for JSON.

    Values are as `check-config` shows them: durations are seconds, sizes bytes, shares percentages as text. What is
    unset is None, the low mark of the disk too.
    """
    return {name: _KEYS[name].given_in(config) for name in _POLICY}


def config_from_policy(base: RetentionConfig, values: Mapping[str, object]) -> RetentionConfig:
    """Put the settings of a policy in the place of those that a configuration has; what is not given stays.

    The inverse of `policy_settings`: its values give an equal configuration, with durations to the microsecond up to
    270 years. Each value is checked as one of a config file is, and may be written as it is there too.

    Raises:
        ConfigError: a key is unknown or not of the policy, a value is not usable, or two contradict each other; the
            message is one line that names the key.
    """
    read = {}
    for name, content in values.items():
        place = SourceLocation(show(name))
        if name not in _KEYS:
            raise place.error(name_unknown(name, _POLICY))
        key = _KEYS[name]
        if not key.policy:
            raise place.error("expected a key of the policy, got one of the engine's own")
        unset = content is None and key.may_be_unset
        read[name] = ReadSetting(place, None if unset else key.read(TypedValue(place, content)))
    return change_config(base, read)
