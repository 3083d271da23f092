"""The reference of the settings, made from their schema; what empty and 0 do is found by trying."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from hmret.model.errors import ConfigError
from hmret.model.policy.config import RetentionConfig
from hmret.settings.load import load_settings
from hmret.settings.setting_table import RULE_SCHEMAS, SETTING_SCHEMAS, SettingSchema
from hmret.settings.writing import show_value, write_value

__all__ = ["meaning_of", "rules_table", "settings_table"]

_PART = re.compile(r"; (0|empty|unset): ")
_LISTS = {"repository patterns", "tag patterns", "rules", "spans of a day", "URLs"}
_VALUES = {
    "boolean": "`true` or `false`",
    "duration": "a duration: `36h`",
    "duration or never": "a duration: `36h`, or `never`",
    "size": "a size in bytes: `500GiB`",
    "share": "a share: `85%`",
    "size or share": "a size in bytes: `500GiB`, or a share: `15%`",
    "count": "a whole number",
    "repository patterns": 'patterns: `["ghcr.io/kernel/*"]`',
    "tag patterns": 'patterns: `["pr-*"]`',
    "rules": "a list of [rules](#rules)",
    "spans of a day": '`["22:00-06:00"]`',
    "URLs": '`["http://10.0.0.1:2379"]`',
}


def meaning_of(one: SettingSchema) -> tuple[str, Mapping[str, str]]:
    """Return what a setting means, and what it says of `0`, `empty` and `unset`."""
    meaning, *parts = _PART.split(one.description)
    said = dict(zip(parts[::2], parts[1::2], strict=True))
    return meaning.rstrip(".") + ".", {word: text.rstrip(".") for word, text in said.items()}


def settings_table() -> str:
    """Make a row for each setting."""
    rows = [_row(*cells) for cells in _settings()]
    head = ("setting", "meaning", "values", "default", "empty", "`0`", "restart")
    return "\n".join([_row(*head), _row(*["---"] * len(head)), *rows]) + "\n"


def rules_table() -> str:
    """Make a row for each key of a rule."""
    head = ("key", "meaning", "values", "left out", "`0`")
    rows = [_row(*head), _row(*["---"] * len(head))]
    for one in RULE_SCHEMAS:
        meaning, said = meaning_of(one)
        left_out = said.get("unset") or said.get("empty") or "an error"
        rows.append(_row(f"`{one.name}`", meaning, _values(one), left_out, said.get("0", "an error")))
    return "\n".join(rows) + "\n"


def _settings() -> Iterator[tuple[str, ...]]:
    with TemporaryDirectory(prefix="hmret-docs-") as name:
        config = Path(name, "config.yaml")
        for one in SETTING_SCHEMAS:
            meaning, said = meaning_of(one)
            yield (
                f'<a id="{one.key}"></a>`{one.key}`',
                meaning,
                _values(one),
                _default(one, said),
                _effect(one, "[]" if one.kind.name in _LISTS else '""', said.get("empty", ""), config),
                _effect(one, "0", said.get("0", ""), config),
                "yes" if one.declared.needs_restart else "no",
            )


def _values(one: SettingSchema) -> str:
    if one.kind.choices:
        return " or ".join(f"`{choice}`" for choice in one.kind.choices)
    if one.is_hypemans and one.kind.name == "duration":
        return "a duration without days: `720h`"
    return one.kind.expected or _VALUES.get(one.kind.name) or one.kind.name


def _default(one: SettingSchema, said: Mapping[str, str]) -> str:
    if one.may_be_unset:
        return f"unset: {said['unset']}"
    written = write_value(one, show_value(one, one.given_in(RetentionConfig())))
    return "empty" if written == '""' else f"`{written}`"


def _effect(one: SettingSchema, written: str, said: str, config: Path) -> str:
    """Say what a value does that is empty or 0, by what the settings make of it.

    Raises:
        SystemExit: it is taken, and the description of the setting does not say what it does.
    """
    *sections, field = one.key.split(".")
    lines = [f"{'  ' * depth}{name}:" for depth, name in enumerate([*sections, field])]
    config.write_text("\n".join(lines) + f" {written}\n", encoding="utf-8")
    try:
        found = load_settings(config_file=str(config), environment={}, flags={}).values[one.key].value
    except ConfigError:
        return "an error"
    if said:
        return said
    if isinstance(found, bool):
        return f"`{str(found).lower()}`"
    if isinstance(found, str) and found.strip():
        return "nothing special"  # a text like any other
    raise SystemExit(f"{one.key}: {written} is taken, but its description does not say what it does")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
