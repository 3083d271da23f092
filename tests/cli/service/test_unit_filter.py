"""The filter of system calls of the unit: everything that the engine calls passes it."""

import os
import signal
import subprocess
import sys
from datetime import timedelta

import httpx2
import pytest

from cli.caches import Cache
from cli.services import client_of, free_port, running_service
from support.children import run_program
from support.patience import PATIENCE
from support.unit_filter import KILLS, allowed_calls, filter_program, why_not

pytestmark = pytest.mark.skipif(why_not() != "", reason=why_not())

GUESTS = 300
# Root may give the socket to any group.
GROUP = 4_243 if os.geteuid() == 0 else os.getegid()


@pytest.fixture
def large(cache: Cache) -> Cache:
    for number in range(3):
        cache.image(f"ghcr.io/kernel/{number}", "a", "v1", unused=timedelta(days=31))
    guests = cache.root / "guests"
    guests.mkdir(exist_ok=True)
    for number in range(GUESTS):
        (guests / f"vm-{number}").mkdir()
        (guests / f"vm-{number}" / "metadata.json").write_text(
            f'{{"Id": "vm-{number}", "Image": "alpine:3.20"}}'
        )
    return cache


def swept(cache: Cache, left_out: set[str]) -> "subprocess.CompletedProcess[str]":
    """Carry out a first sweep under the filter without some calls."""
    program = filter_program(allowed_calls() - left_out, KILLS)
    sweep = ["sweep", "--enable", "--allow", "*", "--data-dir", str(cache.root)]
    command = [sys.executable, "-m", "hmret", *sweep]
    return run_program([sys.executable, "-c", program, *command])


def test_a_service_calls_nothing_that_the_unit_forbids_from_the_first_sweep_to_the_stop(large: Cache) -> None:
    program = ("-c", filter_program(allowed_calls(), KILLS), sys.executable, "-m", "hmret")
    port = free_port()
    environment = {
        "HMRET__METRICS_LISTEN": f"127.0.0.1:{port}",
        "HMRET__CONTROL_SOCKET_GROUP": str(GROUP),
        "HMRET__QUARANTINE": "1h",
    }
    with running_service(
        large.root, "--enable", "--allow", "*", environment=environment, program=program
    ) as service:
        assert service.wait_event("sweep_ended")["deleted"] == 3
        with client_of(large.root / "system/hmret/hmret.sock") as client:
            assert client.post("/v1/restore", json={"image": "ghcr.io/kernel/0:v1"}).status_code == 200
            lease = client.post("/v1/leases", json={"image": "ghcr.io/kernel/0:v1", "ttl": "1m"})
            assert client.delete(f"/v1/leases/{lease.json()['id']}").status_code == 204
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
            assert client.get("/metrics").status_code == 200
        service.signal(signal.SIGHUP)
        service.wait_event("settings_reloaded")
        assert service.stop() == 0


@pytest.mark.parametrize("missing", [{"rename", "renameat", "renameat2"}, {"fcntl"}])
def test_a_call_that_is_taken_out_of_the_filter_is_noticed(cache: Cache, missing: set[str]) -> None:
    cache.image("ghcr.io/kernel/x", "a", unused=timedelta(days=31))
    assert swept(cache, missing).returncode != 0
    assert cache.has("ghcr.io/kernel/x", "a")
