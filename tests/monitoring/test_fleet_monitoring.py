"""The dashboard and the alerts of a fleet: what they name exists, the alerts come when they should, and say what to do."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast
from urllib.request import urlopen

import pytest
import yaml
from prometheus_client.core import CollectorRegistry, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from hmret.api.fleet_metrics import fleet_metrics
from hmret.engine.fleet.host_fleet import HostFleet
from hmret.fleet.overview import LocalStatus
from hmret.model.fleet import FleetState
from hmret.model.plan.fleet.remarks import FLEET_REASONS
from hmret.model.plan.forecast import Outlook, ReasonTotal
from hmret.model.values import frozen
from hmret.model.verdicts import Action, Reason
from support.children import run_program
from support.etcd import Cluster

ROOT = Path(__file__).parent.parent.parent
ALERTS = ROOT / "packaging" / "fleet-alerts.yaml"
DASHBOARD = ROOT / "packaging" / "grafana" / "hmret-fleet.json"
PAGE = (ROOT / "docs" / "FLEET.md").read_text(encoding="utf-8")
RULES = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"][0]["rules"]
PANELS = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
PROMTOOL = shutil.which("promtool")

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")


@frozen
class Measured:
    """A host in a fleet."""

    state: FleetState = FleetState.JOINED
    requests: Mapping[tuple[str, str], int] = {("read", "done"): 7, ("write", "unknown"): 1}
    copies: int = 5
    counts: bool = True
    last_contact: datetime | None = None

    def local_status(self) -> LocalStatus:
        return LocalStatus(
            fleet="prod", state=self.state, detail=None, host="a", holder=None, last_contact=self.last_contact
        )


def outlook(**held: int) -> Outlook:
    holdings = {(Action.NONE, Reason(reason)): ReasonTotal(images, 0) for reason, images in held.items()}
    return Outlook(at=datetime.now(UTC), holdings=holdings, tracked=0, overdue=0, within={}, days=())


def page_of(measured: Measured, left: Outlook | None = None) -> dict[str, float]:
    """Return each sample of the metrics of a host in a fleet."""

    class Fleet(Collector):
        def collect(self) -> Iterator[Metric]:
            yield from fleet_metrics(cast("HostFleet", measured), left)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Fleet())
    lines = generate_latest(registry).decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"}


# The metrics.


@pytest.mark.parametrize("state", FleetState)
def test_exactly_the_state_that_a_host_is_in_is_1(state: FleetState) -> None:
    page = page_of(Measured(state))
    states = {name: value for name, value in page.items() if name.startswith("hmret_fleet_state")}
    assert states == {f'hmret_fleet_state{{state="{each}"}}': float(each is state) for each in FleetState}


def test_copies_count_or_do_not_as_a_whole() -> None:
    for counts in (True, False):
        page = page_of(Measured(counts=counts))
        assert page['hmret_fleet_copies{counted="true"}'] == (5 if counts else 0)
        assert page['hmret_fleet_copies{counted="false"}'] == (0 if counts else 5)


def test_requests_are_told_by_kind_and_outcome() -> None:
    page = page_of(Measured())
    assert page['hmret_fleet_requests_total{kind="read",outcome="done"}'] == 7
    assert page['hmret_fleet_requests_total{kind="write",outcome="unknown"}'] == 1


def test_a_host_that_etcd_never_answered_has_no_time_since_then() -> None:
    assert "hmret_fleet_last_contact_seconds" not in page_of(Measured())
    now = datetime.now(UTC)
    assert (
        page_of(Measured(last_contact=now - timedelta(hours=1)))["hmret_fleet_last_contact_seconds"] >= 3600
    )
    assert page_of(Measured(last_contact=now + timedelta(hours=1)))["hmret_fleet_last_contact_seconds"] == 0


def test_what_the_fleet_keeps_is_told_by_each_of_its_reasons() -> None:
    before, after = page_of(Measured()), page_of(Measured(), outlook(last_copy=3, fleet_paused=2, brake=9))
    held = {reason: after[f'hmret_fleet_held_back{{reason="{reason}"}}'] for reason in FLEET_REASONS}
    assert held == {**dict.fromkeys(FLEET_REASONS, 0), Reason.LAST_COPY: 3, Reason.FLEET_PAUSED: 2}
    assert {before[f'hmret_fleet_held_back{{reason="{reason}"}}'] for reason in FLEET_REASONS} == {0}


# Dashboard and alerts.


def expressions() -> Iterator[str]:
    for panel in PANELS:
        yield from (target["expr"] for target in panel.get("targets", ()))
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    yield from (annotation["expr"] for annotation in dashboard["annotations"]["list"])
    yield from (variable["query"]["query"] for variable in dashboard["templating"]["list"][1:])
    yield from (rule["expr"] for rule in RULES)


def test_every_metric_and_label_that_is_named_exists() -> None:
    page = page_of(Measured(last_contact=datetime.now(UTC)), outlook())
    names = {name.partition("{")[0] for name in page} | {"hmret_deletes_total"}
    labels = {"job", "instance"}.union(*(re.findall(r'(\w+)="', name) for name in page))
    named = {name for text in expressions() for name in re.findall(r"\bhmret_[a-z0-9_]+", text)}
    assert named == names
    used = {
        label.strip()
        for text in expressions()
        for group in re.findall(r"by \(([^)]*)\)", text)
        for label in group.split(",")
    }
    used |= {label for text in expressions() for label in re.findall(r'(\w+)!?[=~]+"', text)}
    assert used <= labels


def test_every_value_of_a_label_that_is_named_exists() -> None:
    for text in expressions():
        for states in re.findall(r'state!?=~?"([^"]+)"', text):
            assert {*states.split("|")} <= {*FleetState}
        for reasons in re.findall(r'reason="([^"]+)"', text):
            assert reasons in FLEET_REASONS


def test_the_metrics_of_etcd_that_are_named_exist(etcd_cluster: Cluster) -> None:
    named = {name for text in expressions() for name in re.findall(r"\betcd_[a-z0-9_]+", text)}
    assert len(named) == 2
    with urlopen(f"{etcd_cluster.endpoints[0]}/metrics") as answer:
        text = answer.read().decode()
    assert {name for name in named if not re.search(rf"^{name} [0-9]", text, re.MULTILINE)} == set()


def test_every_panel_asks_for_its_data_source_and_covers_no_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        if panel["type"] != "row":
            for owner in (panel, *panel["targets"]):
                assert owner["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
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
def test_the_alerts_come_when_they_should_and_not_before(tmp_path: Path) -> None:
    assert PROMTOOL is not None
    tests = Path(__file__).with_name("fleet_alerts_test.yaml").read_text(encoding="utf-8")
    (tmp_path / "tests.yaml").write_text(tests.replace("RULES", str(ALERTS)))
    for command in (("check", "rules", str(ALERTS)), ("test", "rules", str(tmp_path / "tests.yaml"))):
        ran = run_program((PROMTOOL, *command))
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_alert_fires_in_a_test_is_a_warning_and_has_its_runbook() -> None:
    tests = yaml.safe_load(Path(__file__).with_name("fleet_alerts_test.yaml").read_text(encoding="utf-8"))[
        "tests"
    ]
    fired = {
        case["alertname"] for test in tests for case in test["alert_rule_test"] if case.get("exp_alerts")
    }
    assert fired == {rule["alert"] for rule in RULES}
    assert {rule["labels"]["severity"] for rule in RULES} == {"warning"}
    headings = re.findall(r"^### (.*)$", PAGE, re.MULTILINE)
    for rule in RULES:
        assert rule["alert"] in headings
        assert rule["annotations"]["runbook_url"].endswith(f"/FLEET.html#{rule['alert'].lower()}")


def test_the_page_on_fleets_has_every_metric() -> None:
    page = page_of(Measured(last_contact=datetime.now(UTC)), outlook())
    told = set(re.findall(r"^\| `(hmret_fleet_\w+)", PAGE, re.MULTILINE))
    assert told == {name.partition("{")[0] for name in page}
