"""The guides for embedders and operators are true: their code runs, and they leave out no setting, cause or alert."""

import re
import textwrap
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
import yaml

import hmret
from api.engines import retention_with_everything
from hmret.api.metrics import render_metrics
from hmret.model import errors
from hmret.settings.load import load_settings
from hmret.settings.writing import schema_document
from support.builders import make_image

ROOT = Path(__file__).parent.parent
EMBEDDING = (ROOT / "docs" / "EMBEDDING.md").read_text(encoding="utf-8")
OPERATING = (ROOT / "docs" / "OPERATING.md").read_text(encoding="utf-8")
RUNBOOKS = (ROOT / "docs" / "ALERTS.md").read_text(encoding="utf-8")
ALERTS = yaml.safe_load((ROOT / "packaging" / "alerts.yaml").read_text(encoding="utf-8"))
SECTIONS = re.findall(
    r"^## ([^\n]*)\n(?:(?!^## ).)*?```python\n(.*?)```", EMBEDDING, re.DOTALL | re.MULTILINE
)


def test_each_piece_of_code_stands_in_a_section_of_its_own() -> None:
    assert len(SECTIONS) == EMBEDDING.count("```python") > 5


@pytest.mark.parametrize(("title", "code"), SECTIONS)
def test_the_code_of_the_guide_for_embedders_runs(
    title: str, code: str, tmp_path: Path, anyio_backend: str
) -> None:
    make_image(tmp_path, "docker.io/library/alpine", "a", tags=("3.20",))
    names: dict[str, object] = {
        "hmret": hmret,
        "timedelta": timedelta,
        "config": hmret.RetentionConfig(data_dir=tmp_path),
    }
    code = code.replace("/var/lib/hypeman", str(tmp_path))
    exec(f"async def run():\n{textwrap.indent(code, '    ')}", names)
    run = names["run"]
    assert callable(run)
    anyio.run(run, backend=anyio_backend)


@pytest.mark.parametrize("error", [*errors.__all__])
def test_the_guide_for_embedders_names_every_error(error: str) -> None:
    assert f"`{error}`" in EMBEDDING


SETTINGS = load_settings(config_file=None, environment={}, flags={}, default_files=()).values
SCHEMA: dict[str, Any] = {str(setting["key"]): setting for setting in schema_document()}

# The default of a default: what is in force depends on another key.
DEPENDS = {"hmret.disk.low_watermark": "five points below the high one"}


def row_of(key: str) -> list[str]:
    """Return the cells of a setting's row: key, variable, meaning, default, what 0 or empty does."""
    (row,) = re.findall(rf"^\| `{re.escape(key)}` \|.*$", OPERATING, re.MULTILINE)
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_the_guide_for_operators_has_rows_for_the_settings_and_for_nothing_else() -> None:
    rows = re.findall(r"^\| `([a-z_.]+)` \| `[A-Z_]+`", OPERATING, re.MULTILINE)
    assert sorted(rows) == sorted(SCHEMA)


# How the texts of variables hold what is more than one value, by its kind.
WRITTEN = {
    "rules": " (YAML)",
    "repository patterns": " (commas)",
    "spans of a day": " (commas)",
    "URLs": " (commas)",
}
# What the guide calls the values of a kind.
CALLED = {
    "duration": r"\bduration\b",
    "size": r"\bsize\b",
    "share": r"\bshare\b",
    "size or share": r"\bsize, or a share\b",
    "repository patterns": r"\bpatterns of repositories\b",
    "rules": r"\blist of rules\b",
    "spans of a day": r"\bspans of the day\b",
}


@pytest.mark.parametrize("key", SCHEMA)
def test_the_guide_for_operators_tells_of_a_setting_what_the_schema_does(key: str) -> None:
    _, variable, meaning, told_default, told_empty = row_of(key)
    setting = SCHEMA[key]
    kind, default = str(setting["kind"]), str(setting["default"])
    assert variable == f"`{setting['environment']}`{WRITTEN.get(kind, '')}"
    assert re.search(CALLED.get(kind, r"\w"), meaning)
    for choice in setting["choices"] or ():
        assert f"`{choice}`" in meaning
    assert told_empty.endswith("needs a restart") is setting["needs_restart"]
    assert told_default == DEPENDS.get(key, {"None": "unset", '""': "empty"}.get(default, f"`{default}`"))


# What a key holds that is 0 or empty, by what it is by default; of a truth, and of what is not set, nothing at all.
EMPTY = {float: "0s", int: "0", list: "[]", str: '""', bool: "", type(None): ""}


@pytest.mark.parametrize("key", SETTINGS)
def test_the_guide_for_operators_tells_what_0_or_empty_does(key: str, tmp_path: Path) -> None:
    told_empty = row_of(key)[4]
    default = SETTINGS[key].value
    *sections, field = key.split(".")
    config = tmp_path / "config.yaml"
    lines = [f"{'  ' * depth}{name}:" for depth, name in enumerate([*sections, field])]
    is_share = isinstance(default, str) and default.endswith("%")
    config.write_text("\n".join(lines) + f" {0 if is_share else EMPTY[type(default)]}\n")
    if told_empty.startswith("an error"):
        with pytest.raises(hmret.ConfigError):
            load_settings(config_file=str(config), environment={}, flags={})
    else:
        assert told_empty
        found = load_settings(config_file=str(config), environment={}, flags={}).values[key].value
        assert not found or found in (default, "0%")


def test_the_change_from_hypemans_controller_and_back_leaves_one_that_deletes(tmp_path: Path) -> None:
    section = OPERATING.partition("## From hypeman's own controller, and back")[2].partition("\n## ")[0]
    there, back = section.partition("\nBack: ")[::2]
    assert "`images.auto_delete.enabled: false`" in there
    assert "`hmret.enabled: true`" in there
    assert "`images.auto_delete.enabled: true`, remove the section `hmret`" in back
    config = tmp_path / "config.yaml"
    images = "server: {port: 8080}\nimages: {auto_delete: {enabled: %s, allowed: ['*']}}\n"

    def who_deletes() -> tuple[bool, bool]:
        found = load_settings(config_file=str(config), environment={}, flags={}).config
        return found.auto_delete.enabled, found.active

    config.write_text(images % "false" + "hmret: {enabled: true}\n")
    assert who_deletes() == (False, True)
    config.write_text(images % "true")
    assert who_deletes()[0]


def test_the_policy_that_the_guide_for_operators_shows_is_one(tmp_path: Path) -> None:
    example, *others = re.findall(r"```yaml\n(.*?)```", OPERATING, re.DOTALL)
    (tmp_path / "images").mkdir()
    (tmp_path / "config.yaml").write_text(f"data_dir: {tmp_path}\n{example}")
    settings = load_settings(
        config_file=str(tmp_path / "config.yaml"), environment={}, flags={}, default_files=()
    )
    assert settings.warnings == ()
    left_out = {key for key, setting in settings.values.items() if setting.source == "default"}
    assert left_out == {
        "registry.url",
        "build.builder_image",
        "hmret.enabled",
        "hmret.sweep_interval",
        "hmret.pinned",
        "hmret.unreadable_references",
        "hmret.access_time",
        "hmret.leases",
        "hmret.control_socket",
        "hmret.control_socket_group",
        "hmret.control_socket_group_writes",
        "hmret.metrics_listen",
        "hmret.journal",
        *(key for key in SCHEMA if key.startswith("hmret.fleet.")),
    }
    for number, other in enumerate(others):
        (tmp_path / f"{number}.yaml").write_text(f"data_dir: {tmp_path}\n{other}")
        shown = load_settings(config_file=str(tmp_path / f"{number}.yaml"), environment={}, flags={})
        assert [warning for warning in shown.warnings if "allowed" not in warning] == []


@pytest.mark.parametrize("field", [field.name for field in attrs.fields(hmret.Rule)])
def test_the_guide_for_operators_tells_every_key_of_a_rule(field: str) -> None:
    assert re.search(rf"^\| `{field}` \| .+ \| .+ \|$", OPERATING, re.MULTILINE)


@pytest.mark.parametrize("cause", hmret.Cause)
def test_the_guide_for_operators_says_what_to_do_about_every_suspension(cause: hmret.Cause) -> None:
    assert re.search(rf"^\| `{cause}` \| .+ \| .+ \|$", OPERATING, re.MULTILINE)


@pytest.mark.parametrize("alert", [rule["alert"] for rule in ALERTS["groups"][0]["rules"]])
def test_each_alert_has_a_runbook_that_begins_with_a_command_and_says_when_to_do_nothing(alert: str) -> None:
    found = re.search(rf"^## {alert}\n\n(.*?)(?=^## |\Z)", RUNBOOKS, re.MULTILINE | re.DOTALL)
    assert found is not None
    assert found[1].startswith("```sh\n")
    assert re.search(r"^Do nothing if ", found[1], re.MULTILINE)


def test_each_alert_leads_to_its_runbook() -> None:
    for rule in ALERTS["groups"][0]["rules"]:
        page, _, heading = rule["annotations"]["runbook_url"].rpartition("/")[2].partition("#")
        assert (page, heading) == ("ALERTS.html", rule["alert"].lower())


async def test_the_guide_for_operators_tells_every_metric_of_ours(anyio_backend: str) -> None:
    async with retention_with_everything() as retention:
        page = render_metrics(retention)[0].decode()
    known = set(re.findall(r"^# TYPE (hmret_\w+)", page, re.MULTILINE))
    told = set(re.findall(r"`(hmret_\w+)", OPERATING))
    assert told == known - {"hmret_build_info"}
