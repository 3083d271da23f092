"""Converts what displays of an engine ask for beside its plan to JSON documents."""

from collections.abc import Mapping

from hmret.api.wire import structs_overview as structs
from hmret.api.wire.convert import document_of
from hmret.engine.overview.overview import Past
from hmret.engine.overview.space import Space
from hmret.model.policy.config import RetentionConfig
from hmret.model.policy.kinds import RULES
from hmret.model.sizes import format_share
from hmret.model.times import format_time
from hmret.settings.in_force import SettingsInForce
from hmret.settings.setting_table import RULE_SCHEMAS, SETTING_SCHEMAS, SettingSchema
from hmret.settings.writing import show_value, write_value


def history_document(past: Past, *, journal: bool, last_event_id: str) -> structs.HistoryDocument:
    """Convert what happened."""
    history = past.history
    return structs.HistoryDocument(
        at=format_time(past.at_ns),
        journal=journal,
        begins_at=None if history.begins_ns is None else format_time(history.begins_ns),
        days=tuple(
            document_of(structs.WentDocument, went, date=went.day, bytes=went.disk_bytes)
            for went in history.days
        ),
        events=tuple(dict(facts) for facts in past.events),
        last_event_id=last_event_id,
        unreadable=history.unreadable,
    )


def space_document(space: Space, config: RetentionConfig, at_ns: int) -> structs.SpaceDocument:
    """Convert the state of the disk with respect to its limits."""
    limits = config.disk
    most = limits.max_used
    return document_of(
        structs.SpaceDocument,
        space,
        at=format_time(at_ns),
        images_bytes=space.held.images_bytes,
        quarantine_bytes=space.held.quarantine_bytes,
        trash_bytes=space.held.trash_bytes,
        high_watermark=format_share(limits.high_watermark) if limits.high_watermark else None,
        low_watermark=format_share(limits.low) if limits.high_watermark else None,
        max_used=(format_share(most) if isinstance(most, float) else str(most)) if most else None,
    )


def policy_document(
    config: RetentionConfig, in_force: SettingsInForce, since_ns: int | None
) -> structs.PolicyDocument:
    """Convert the settings in force."""
    origins: Mapping[str, object] = in_force.origins
    return document_of(
        structs.PolicyDocument,
        in_force,
        since=None if since_ns is None else format_time(since_ns),
        settings=tuple(_setting(one, config, origins[one.key]) for one in SETTING_SCHEMAS),
    )


def _setting(setting: SettingSchema, config: RetentionConfig, origin: object) -> structs.SettingDocument:
    value = show_value(setting, setting.in_force_in(config))
    return document_of(
        structs.SettingDocument,
        origin,
        key=setting.key,
        value=value,
        text=_text_of(setting, value),
        description=setting.description,
        is_policy=setting.declared.is_policy,
    )


def _text_of(setting: SettingSchema, value: object) -> str:
    if setting.kind is not RULES or not isinstance(value, list):
        return write_value(setting, value)
    return "\n".join(f"{number}. {_rule(rule)}" for number, rule in enumerate(value, start=1)) or "[]"


def _rule(rule: Mapping[str, object]) -> str:
    values = {one.name: write_value(one, rule[one.name]) for one in RULE_SCHEMAS}
    return ", ".join(f"{name} {written}" for name, written in values.items() if written)
