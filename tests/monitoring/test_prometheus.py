"""A real Prometheus: it scrapes the service, takes the alerts, and finds what the dashboard asks for."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import yaml

from api.engines import retention_with_everything
from cli.caches import Cache
from cli.services import free_port, running_service
from hmret.api.metrics import render_metrics
from monitoring.backfilled import SPAN_SECONDS, STEP_SECONDS, backfill
from support.children import child
from support.patience import PATIENCE, wait_until

ROOT = Path(__file__).parent.parent.parent
DASHBOARD = ROOT / "packaging" / "grafana" / "hmret.json"
RULES = ROOT / "packaging" / "alerts.yaml"
ALERTS = [rule["alert"] for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]]
PROMETHEUS = shutil.which("prometheus")

pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed")


@contextmanager
def prometheus(folder: Path, target: str, rules: Path = RULES) -> Iterator[httpx2.Client]:
    """Run it while the block lasts; yields a client of it."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": "hmret", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))  # which is YAML, too
    address = f"127.0.0.1:{free_port()}"
    command = [
        str(PROMETHEUS),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={address}",
        "--log.level=error",
    ]
    with (
        child(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL),
        httpx2.Client(base_url=f"http://{address}/api/v1", timeout=PATIENCE) as client,
    ):
        yield client


def wait_result(client: httpx2.Client, query: str) -> list[dict[str, Any]]:
    """Wait until a query finds something."""
    found: list[dict[str, Any]] = []

    def has_come() -> bool:
        with suppress(httpx2.TransportError):  # it has not begun to listen
            answer = client.get("/query", params={"query": query})
            found.extend(answer.json()["data"]["result"] if answer.is_success else [])
        return bool(found)

    wait_until(has_come, f"a result of {query}")
    return found


def test_prometheus_scrapes_the_service_and_takes_the_alerts(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "data")
    cache.image("ghcr.io/kernel/x", "a", unused=timedelta(days=31))
    cache.image("docker.io/library/alpine", "b", "3.20", unused=timedelta(days=1))
    target = f"127.0.0.1:{free_port()}"
    with running_service(
        cache.root, "--enable", "--allow", "*", environment={"HMRET__METRICS_LISTEN": target}
    ) as service:
        service.wait_event("sweep_ended")
        with prometheus(tmp_path, target) as client:
            (sweeps,) = wait_result(client, 'hypeman_image_retention_sweeps_total{status="success"}')
            assert sweeps["metric"]["instance"] == target
            assert float(sweeps["value"][1]) >= 1
            (up,) = wait_result(client, 'up{job="hmret"}')
            assert up["value"][1] == "1"
            (deleted,) = wait_result(client, 'hmret_deletes_total{reason="expired"}')
            assert deleted["value"][1] == "1"
            (kept,) = wait_result(client, 'hmret_images{reason="retention_window"} == 1')
            assert kept["metric"]["action"] == "none"
            (group,) = client.get("/rules").json()["data"]["groups"]
            assert {rule["health"] for rule in group["rules"]} <= {"ok", "unknown"}
            assert [rule["name"] for rule in group["rules"]] == ALERTS
            # Before the first scrape it may look as if there were no engine at all; that has to last for an hour.
            alerts = client.get("/alerts").json()["data"]["alerts"]
            assert {(alert["labels"]["alertname"], alert["state"]) for alert in alerts} <= {
                ("HmretGone", "pending")
            }
        assert service.stop() == 0


def dashboard_expressions() -> Iterator[str]:
    """Return what the dashboard asks, for every host and every job."""
    dashboard = json.loads(DASHBOARD.read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    asked += [annotation["expr"] for annotation in dashboard["annotations"]["list"]]
    yield from (expression.replace("$job", ".*").replace("$instance", ".*") for expression in asked)


async def _page() -> str:
    async with retention_with_everything() as retention:
        return render_metrics(retention)[0].decode()


def test_whatever_dashboard_and_alerts_ask_finds_something_in_a_prometheus_with_data(tmp_path: Path) -> None:
    page = anyio.run(_page)
    now = int(time.time()) // STEP_SECONDS * STEP_SECONDS
    backfill(page, tmp_path / "tsdb", now)
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    asked = [*dashboard_expressions(), *(rule["expr"] for rule in rules)]
    span = {"start": now - SPAN_SECONDS, "end": now, "step": STEP_SECONDS}
    with prometheus(tmp_path, "127.0.0.1:1") as client:
        wait_result(client, f"hmret_images @ {now}")
        empty = []
        for expression in asked:
            answer = client.get("/query_range", params={"query": expression, **span})
            assert answer.is_success, answer.text
            if not answer.json()["data"]["result"]:
                empty.append(expression)
        nothing = client.get("/query_range", params={"query": "hmret_no_such_metric", **span}).json()
    assert nothing["data"]["result"] == []
    assert len(asked) > 40
    assert empty == []
