"""The commands of a fleet where an engine runs: it is asked, and is a member of the fleet on a real etcd."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from cli.caches import Cache
from cli.services import client_of, running_service
from support.etcd import Cluster
from support.patience import wait_until

Call = Callable[..., tuple[int, str, str]]


def test_an_engine_is_a_member_and_answers_for_its_fleet(
    etcd_cluster: Cluster, fleet_name: str, cache: Cache, call: Call
) -> None:
    image = cache.image("docker.io/library/alpine", "a", "3.20", unused=timedelta(days=31))
    config = cache.root.parent / "fleet.yaml"
    settings = {
        "data_dir": str(cache.root),
        "images": {"auto_delete": {"enabled": True, "allowed": ["*"]}},
        "hmret": {"fleet": {"endpoints": etcd_cluster.endpoints, "name": fleet_name, "host": "a"}},
    }
    config.write_text(json.dumps(settings))

    def ask(*tokens: str) -> tuple[int, Any]:
        code, output, _ = call(*tokens, "--json", "--config", config)
        return code, json.loads(output)

    with running_service(cache.root, "--config", str(config)) as service:
        # Before there is a fleet the host says so, and how to make it.
        wait_until(lambda: ask("fleet", "status")[1]["state"] == "not_initialised", "no fleet is found")
        code, status = ask("fleet", "status")
        assert (code, "hmret fleet init" in status["detail"]) == (1, True)
        assert ask("fleet", "init")[0] == 0
        wait_until(lambda: ask("fleet", "status")[0] == 0, "the host has joined")
        wait_until(lambda: bool(ask("fleet", "status")[1]["hosts"]), "the host is seen in etcd")
        code, status = ask("fleet", "status")
        assert (code, status["state"], status["host"], status["detail"]) == (0, "joined", "a", None)
        assert status["last_contact"] is not None
        (host,) = status["hosts"]
        assert (host["holder"], host["live"]) == (status["holder"], True)

        code, held = ask("fleet", "holdings", "alpine:3.20")
        assert (code, held["digest"], held["counted"]) == (0, image, 1)
        assert (held["holders"][0]["here"], held["holders"][0]["holder"]) == (True, status["holder"])
        # The only copy stays, although nothing has used it for a month.
        code, made = ask("fleet", "plan")
        assert [(one["digest"], one["reason"], one["copies_elsewhere"]) for one in made["images"]] == [
            (image, "last_copy", 0)
        ]
        assert cache.has("docker.io/library/alpine", "a")

        assert ask("fleet", "pause", "--reason", "why")[1]["settings"]["paused"]["reason"] == "why"
        assert ask("sweep", "--yes")[1]["deleted_images"] == 0
        assert "fleet_paused" in ask("explain", "alpine:3.20")[1]["blockers"]
        assert ask("fleet", "drain", "a")[1]["last_copies"][0]["digest"] == image
        assert ask("status")[1]["fleet"] == "joined"
        assert "fleet " in call("status", "--config", config)[1]

        with client_of(cache.root / "system/hmret/hmret.sock") as client:
            metrics = client.get("/metrics").text
        assert 'hmret_fleet_state{state="joined"} 1.0' in metrics
        assert 'hmret_fleet_copies{counted="true"} 1.0' in metrics
        assert "hmret_fleet_last_contact_seconds" in metrics
        assert service.stop() == 0
    code, status = ask("fleet", "status")
    assert (code, status["state"], [host["live"] for host in status["hosts"]]) == (1, "stopped", [False])
    assert status["hosts"][0]["holder"] == status["holder"]
