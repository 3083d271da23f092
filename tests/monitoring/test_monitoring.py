"""The dashboard and the alerts: what they name exists, and the alerts come when they should."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from api.engines import retention_with_everything
from hmret.api.metrics import render_metrics
from support.children import run_program

ROOT = Path(__file__).parent.parent.parent
ALERTS = ROOT / "packaging" / "alerts.yaml"
DASHBOARD = ROOT / "packaging" / "grafana" / "hmret.json"
METRIC = re.compile(r"\b(?:hmret|hypeman_image_retention)_[a-z0-9_]+")
LABELS = re.compile(r"by \(([^)]*)\)")
PROMTOOL = shutil.which("promtool")

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")


def expressions() -> Iterator[str]:
    """Return every query of the dashboard, and every alert."""
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (annotation["expr"] for annotation in dashboard["annotations"]["list"])
    yield from (variable["query"]["query"] for variable in dashboard["templating"]["list"][1:])
    yield ALERTS.read_text()


async def samples() -> dict[str, set[str]]:
    """Return every sample that the metrics page has, with its labels."""
    async with retention_with_everything() as retention:
        page = render_metrics(retention)[0].decode()
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(\w+)(\{.*\})? ", page, re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


async def test_every_metric_that_is_named_exists(anyio_backend: str) -> None:
    named = {name for expression in expressions() for name in METRIC.findall(expression)}
    assert len(named) > 10
    assert named - set(await samples()) == set()


async def test_every_label_that_is_named_exists(anyio_backend: str) -> None:
    known = {"job", "instance"}.union(*(await samples()).values())
    named = {
        label.strip()
        for text in expressions()
        for labels in LABELS.findall(text)
        for label in labels.split(",")
    }
    assert named - known == set()


def test_the_dashboard_asks_for_its_data_source() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["templating"]["list"][0]["type"] == "datasource"
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    for panel in (*panels, *dashboard["annotations"]["list"]):
        for owner in (panel, *panel.get("targets", ())):
            assert owner["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_no_panel_covers_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert all(x < 24 for x, _ in cells)
        taken |= cells


@needs_promtool
def test_the_alerts_are_well_formed() -> None:
    promtool("check", "rules", str(ALERTS))


@needs_promtool
@pytest.mark.parametrize("name", ["alerts_test.yaml", "unusual_test.yaml"])
def test_the_alerts_come_when_they_should_and_not_before(name: str, tmp_path: Path) -> None:
    tests = (Path(__file__).parent / name).read_text()
    (tmp_path / name).write_text(tests.replace("RULES", str(ALERTS)))
    promtool("test", "rules", str(tmp_path / name))


def test_every_alert_fires_in_a_test() -> None:
    alerts = {rule["alert"] for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]}
    fired = set()
    for name in ("alerts_test.yaml", "unusual_test.yaml"):
        for test in yaml.safe_load((Path(__file__).parent / name).read_text())["tests"]:
            fired |= {case["alertname"] for case in test["alert_rule_test"] if case.get("exp_alerts")}
    assert fired == alerts


def test_no_alert_has_to_wake_anybody() -> None:
    rules = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    assert {rule["labels"]["severity"] for rule in rules} == {"warning"}


def promtool(*arguments: str) -> None:
    assert PROMTOOL is not None
    ran = run_program((PROMTOOL, *arguments))
    assert ran.returncode == 0, ran.stdout + ran.stderr
