"""The references that are made from the code are whole, and what they say is so."""

import re
from pathlib import Path
from typing import Any

import attrs
import pytest

import hmret
from hmret.__main__ import main
from hmret.cli.parsing.command_table import COMMANDS, GROUPS
from hmret.settings.load import load_settings
from hmret.settings.setting_table import RULE_SCHEMAS, SETTING_SCHEMAS
from hmret.settings.writing import schema_document
from support.packaging_programs import PACKAGING, load


@pytest.fixture(scope="module")
def parts() -> dict[str, str]:
    """The text of each part."""
    return {name: make() for name, make in load("document_pages").GENERATED.items()}


SCHEMA: dict[str, Any] = {str(one["key"]): one for one in schema_document()}


def cells_of(table: str, name: str) -> list[str]:
    (row,) = [row for row in table.splitlines() if f"`{name}`" in row.split("|")[1]]
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def test_every_setting_has_a_row_and_nothing_else_has(parts: dict[str, str]) -> None:
    rows = re.findall(r'^\| <a id="([a-z_.]+)"></a>`\1` \|', parts["settings"], re.MULTILINE)
    assert rows == [*SCHEMA]


@pytest.mark.parametrize("key", SCHEMA)
def test_a_setting_has_its_meaning_its_default_and_whether_it_needs_a_restart(
    parts: dict[str, str], key: str
) -> None:
    _, meaning, values, default, _, _, restart = cells_of(parts["settings"], key)
    one = SCHEMA[key]
    assert meaning.endswith(".")
    assert all(f"`{choice}`" in values for choice in one["choices"] or ())
    assert restart == ("yes" if one["needs_restart"] else "no")
    if one["default"] is None:
        assert default.startswith("unset: ")
    else:
        assert default == {'""': "empty"}.get(one["default"], f"`{one['default']}`")


def test_the_variable_of_each_setting_is_what_the_page_says_it_is() -> None:
    page = " ".join((PACKAGING.parent / "docs/SETTINGS.md").read_text(encoding="utf-8").split())
    assert "its key in capitals, with two underscores for each dot" in page
    assert {key: one["environment"] for key, one in SCHEMA.items()} == {
        key: key.upper().replace(".", "__") for key in SCHEMA
    }


# What a key holds that is empty or 0, by what it is by default.
EMPTY = {list: "[]", str: '""', float: '""', int: '""', bool: '""', type(None): '""'}


@pytest.mark.parametrize("one", SETTING_SCHEMAS, ids=lambda one: one.key)
def test_what_empty_and_0_do_is_an_error_where_it_is_one_and_is_told_where_it_is_not(
    parts: dict[str, str], tmp_path: Path, one: Any
) -> None:
    *_, told_empty, told_zero, _ = cells_of(parts["settings"], one.key)
    default = (
        load_settings(config_file=None, environment={}, flags={}, default_files=()).values[one.key].value
    )
    for told, written in ((told_empty, EMPTY[type(default)]), (told_zero, "0")):
        *sections, field = one.key.split(".")
        lines = [f"{'  ' * depth}{name}:" for depth, name in enumerate([*sections, field])]
        (tmp_path / "config.yaml").write_text("\n".join(lines) + f" {written}\n")
        if told == "an error":
            with pytest.raises(hmret.ConfigError):
                load_settings(config_file=str(tmp_path / "config.yaml"), environment={}, flags={})
        else:
            found = load_settings(config_file=str(tmp_path / "config.yaml"), environment={}, flags={})
            assert told
            assert not found.values[one.key].value or found.values[one.key].value == "0%"


def test_a_setting_that_takes_0_and_does_not_say_what_it_does_ends_the_build(tmp_path: Path) -> None:
    effect = load("document_settings")._effect
    (one,) = (one for one in SETTING_SCHEMAS if one.key == "hmret.keep_latest")
    assert effect(one, "0", "none", tmp_path / "config.yaml") == "none"
    with pytest.raises(SystemExit, match=r"hmret\.keep_latest: 0 is taken"):
        effect(one, "0", "", tmp_path / "config.yaml")


def test_every_key_of_a_rule_has_a_row(parts: dict[str, str]) -> None:
    assert [one.name for one in RULE_SCHEMAS] == [field.name for field in attrs.fields(hmret.Rule)]
    for one in RULE_SCHEMAS:
        assert all(cells_of(parts["rules"], one.name))


def test_every_command_has_a_section_with_all_its_options(
    capsys: pytest.CaptureFixture[str], parts: dict[str, str]
) -> None:
    sections = dict(re.findall(r"^## (.*)\n((?:(?!^## ).*\n)*)", parts["commands"], re.MULTILINE))
    names = [*COMMANDS, *(f"{group} {name}" for group, commands in GROUPS.items() for name in commands)]
    assert sections.keys() == {*names, "Options of many commands"}
    shared = set(re.findall(r"^\| `(--[a-z-]+)", sections["Options of many commands"], re.MULTILINE))
    for name in names:
        assert main([*name.split(), "--help"]) == 0
        text = capsys.readouterr().out
        options = set(re.findall(r"^  (--[a-z-]+)", text, re.MULTILINE))
        told = set(re.findall(r"^\| `(--[a-z-]+)", sections[name], re.MULTILINE))
        also = set(re.findall(r"`(--[a-z-]+)`", sections[name].partition("\nAlso: ")[2]))
        assert told | also == options, name
        assert also <= shared, name


def test_every_public_name_is_asked_for_once(parts: dict[str, str]) -> None:
    asked = re.findall(r"^\.\. auto\w+:: hmret\.(\w+)$", parts["python"], re.MULTILINE)
    assert sorted(asked) == sorted(hmret.__all__)


def test_each_part_stands_in_a_page(parts: dict[str, str]) -> None:
    pages = [path.read_text(encoding="utf-8") for path in (PACKAGING.parent / "docs").glob("*.md")]
    named = [
        name
        for page in pages
        for name in re.findall(r"^<!-- made from the code: (\w+) -->$", page, re.MULTILINE)
    ]
    assert sorted(named) == sorted(parts)
