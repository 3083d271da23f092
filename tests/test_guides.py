"""The guides for embedders and operators are true: their code runs, and they leave out no setting, cause or alert."""

import re
import subprocess
import sys
import textwrap
from collections.abc import MutableMapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import yaml

import hmret
from api.engines import retention_with_everything
from hmret.api.metrics import render_metrics
from hmret.model import errors
from hmret.model.verdicts import ACTIONS
from hmret.settings.load import load_settings
from hmret.settings.setting_table import SETTING_SCHEMAS
from support.builders import make_image

ROOT = Path(__file__).parent.parent
EMBEDDING = (ROOT / "docs" / "EMBEDDING.md").read_text(encoding="utf-8")
OPERATING = (ROOT / "docs" / "OPERATING.md").read_text(encoding="utf-8")
RUNBOOKS = (ROOT / "docs" / "ALERTS.md").read_text(encoding="utf-8")
HOW_TO = (ROOT / "docs" / "HOW_TO.md").read_text(encoding="utf-8")
SETTINGS = (ROOT / "docs" / "SETTINGS.md").read_text(encoding="utf-8")
METRICS = (ROOT / "docs" / "METRICS.md").read_text(encoding="utf-8")
REASONS = (ROOT / "docs" / "REASONS.md").read_text(encoding="utf-8")
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


async def test_the_server_of_the_guide_opens_the_engine_in_its_lifespan_and_serves_it(
    tmp_path: Path, anyio_backend: str
) -> None:
    make_image(tmp_path, "docker.io/library/alpine", "a", tags=("3.20",))
    (code,) = (code for title, code in SECTIONS if title == "In the lifespan of a server")
    names: dict[str, Any] = {"hmret": hmret, "config": hmret.RetentionConfig(data_dir=tmp_path)}
    exec(code, names)
    app = names["app"]
    async with app.router.lifespan_context(app) as state:

        async def served(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state)}, receive, send)

        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=served), base_url="http://x"
        ) as client:
            made = await client.post("/instances", json={"image": "alpine:3.20"})
            missing = await client.post("/instances", json={"image": "alpine:3.21"})
            swept = await client.post("/sweeps")
            status = await client.get("/retention/v1/status")
    assert (made.status_code, made.text) == (201, f"sha256:{'a' * 64}")
    assert missing.status_code == 409
    assert swept.json()["status"] == "disabled"
    assert status.json()["data_dir"] == str(tmp_path)


@pytest.mark.parametrize("error", [*errors.__all__])
def test_the_guide_for_embedders_names_every_error(error: str) -> None:
    assert f"`{error}`" in EMBEDDING


def test_the_guide_for_embedders_says_which_errors_are_hmrets_own() -> None:
    table = EMBEDDING.partition("\n## Errors\n")[2]
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    own = [name for name in named if name in errors.__all__]
    assert named == [*own, "OSError", "ValueError", "KeyError"]
    assert "All but the last three are `HmretError`." in table


async def test_what_the_guide_for_embedders_says_of_a_lease_that_ends_at_once_and_of_one_that_is_not_there(
    tmp_path: Path,
) -> None:
    make_image(tmp_path, "docker.io/library/alpine", "a", tags=("3.20",))
    async with hmret.open_retention(hmret.RetentionConfig(data_dir=tmp_path)) as retention:
        with pytest.raises(ValueError, match="ttl"):
            async with retention.lease("alpine:3.20", ttl=timedelta(0)):
                pass
        with pytest.raises(KeyError):
            await retention.end_lease("none")


def test_importing_a_name_at_module_level_loads_what_is_behind_it() -> None:
    program = (
        "import sys, hmret; before = 'hmret.engine.opening' in sys.modules; from hmret import open_retention; "
        "print(before, 'hmret.engine.opening' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "True"]


def test_the_change_from_hypemans_controller_and_back_leaves_one_that_deletes(tmp_path: Path) -> None:
    section = HOW_TO.partition("## Take over from hypeman's own controller, and back")[2].partition("\n## ")[
        0
    ]
    there, back = section.partition("\nBack: ")[::2]
    assert "`images.auto_delete.enabled: false`" in there
    assert "`hmret.enabled: true`" in there
    assert "`images.auto_delete.enabled: true`, remove the section `hmret`" in " ".join(back.split())
    config = tmp_path / "config.yaml"
    images = "server: {port: 8080}\nimages: {auto_delete: {enabled: %s, allowed: ['*']}}\n"

    def who_deletes() -> tuple[bool, bool]:
        found = load_settings(config_file=str(config), environment={}, flags={}).config
        return found.auto_delete.enabled, found.active

    config.write_text(images % "false" + "hmret: {enabled: true}\n")
    assert who_deletes() == (False, True)
    config.write_text(images % "true")
    assert who_deletes()[0]


def test_the_policy_that_the_page_of_settings_shows_is_one(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", SETTINGS, re.DOTALL)
    (other,) = (block for block in re.findall(r"```yaml\n(.*?)```", HOW_TO, re.DOTALL) if "hmret:" in block)
    (tmp_path / "images").mkdir()
    (tmp_path / "config.yaml").write_text(f"data_dir: {tmp_path}\n{example}")
    settings = load_settings(
        config_file=str(tmp_path / "config.yaml"), environment={}, flags={}, default_files=()
    )
    assert settings.warnings == ()
    left_out = {key for key, setting in settings.values.items() if setting.source == "default"}
    # What says how the engine goes about it, and what belongs to this very host.
    of_the_engine = {one.key for one in SETTING_SCHEMAS if not one.declared.is_policy}
    assert left_out == (
        of_the_engine | {"registry.url", "build.builder_image", "hmret.enabled", "hmret.pinned"}
    ) - {"data_dir"}
    (tmp_path / "other.yaml").write_text(f"data_dir: {tmp_path}\n{other}")
    shown = load_settings(config_file=str(tmp_path / "other.yaml"), environment={}, flags={})
    assert [warning for warning in shown.warnings if "allowed" not in warning] == []


def test_the_job_that_a_prometheus_is_to_have_is_the_one_that_the_alerts_expect() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", HOW_TO, re.DOTALL)
    ((job,),) = (
        found["scrape_configs"] for found in map(yaml.safe_load, blocks) if "scrape_configs" in found
    )
    assert f'job="{job["job_name"]}"' in str(ALERTS)
    (target,) = job["static_configs"][0]["targets"]
    assert f"HMRET__METRICS_LISTEN={target}" in HOW_TO


@pytest.mark.parametrize("reason", hmret.Reason)
def test_the_page_of_reasons_says_what_to_do_about_each(reason: hmret.Reason) -> None:
    (row,) = re.findall(rf"^\| `{reason}` \|.*\|$", REASONS, re.MULTILINE)
    because, until, what = (cell.strip() for cell in row.strip("|").split("|")[1:])
    goes = ACTIONS[reason] is hmret.Action.DELETE
    assert because
    assert bool(until) is bool(what) is not goes


def test_the_page_of_reasons_has_them_in_the_order_in_which_they_are_checked() -> None:
    assert re.findall(r"^\| `(\w+)` \|", REASONS, re.MULTILINE) == [*hmret.Reason]


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


async def test_the_page_of_metrics_tells_every_one_of_ours(anyio_backend: str) -> None:
    async with retention_with_everything() as retention:
        page = render_metrics(retention)[0].decode()
    known = set(re.findall(r"^# TYPE (hmret_\w+)", page, re.MULTILINE))
    told = set(re.findall(r"`(hmret_\w+)", METRICS.partition("## Metrics")[2]))
    assert told == known - {"hmret_build_info"}
