"""The settings that an engine works by, for displays: each with where it was set."""

from collections.abc import Mapping

from hmret.model.policy.config import RetentionConfig
from hmret.model.values import frozen
from hmret.settings.load import Settings
from hmret.settings.setting_table import SETTING_SCHEMAS


@frozen
class SettingOrigin:
    """Where a setting was set."""

    source: str
    """`default`, `file`, `environment`, `flag`, or `program`: by the code that embeds the engine."""
    where: str | None = None
    """The file and line, the variable or the option; None: nowhere."""


@frozen
class SettingsInForce:
    """Where the settings in force come from, and what of those read last is not in force."""

    origins: Mapping[str, SettingOrigin]
    """By dotted key, all of them."""
    config_files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    refused: str | None = None
    """Why the settings read last are not in force; None: they are."""
    restart_needed: tuple[str, ...] = ()
    """The keys of those that have a new value, which takes effect after a restart."""


def settings_of_program(config: RetentionConfig) -> SettingsInForce:
    """Return the origins of settings that a program gives: what is as in a new configuration is a default."""
    usual = RetentionConfig()
    return SettingsInForce(
        {
            one.key: SettingOrigin("default" if one.given_in(config) == one.given_in(usual) else "program")
            for one in SETTING_SCHEMAS
        }
    )


def loaded_settings(
    settings: Settings, *, refused: str | None = None, restart_needed: tuple[str, ...] = ()
) -> SettingsInForce:
    """Return the origins of settings that were gathered from files, the environment and flags."""
    return SettingsInForce(
        {key: SettingOrigin(one.source, one.where) for key, one in settings.values.items()},
        tuple(settings.config_files),
        settings.warnings,
        refused,
        restart_needed,
    )
