"""The service as a real process: its sockets, its signals, and what systemd hears."""

import json
import os
import shutil
import signal
import socket
import stat
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest

from cli.caches import Cache
from cli.services import client_of, free_port, running_service
from support.children import run_program
from support.patience import PATIENCE
from support.pipes import wait_for_end, writing

Call = Callable[..., tuple[int, str, str]]

DUE = timedelta(days=31)
ALL = ("--enable", "--allow", "*")

# The program, on a file system that takes to erase an image until whoever opened the gate has closed it; `told` has a
# reader once the deleter knows that it is to stop.
SLOW_ERASE = """
import sys
from hmret.__main__ import main
from hmret.actors.deleter import Deleter
from hmret.disk.filesystem import POSIX
gate, told = sys.argv.pop(1), sys.argv.pop(1)
erase, stop_early = POSIX.erase_folder, Deleter.stop_early
def slow(*arguments):
    with open(gate, "rb") as opened:
        opened.read()
    return erase(*arguments)
def tell(deleter):
    stop_early(deleter)
    open(told, "wb").close()
POSIX.erase_folder, Deleter.stop_early = slow, tell
sys.exit(main())
"""


def own_socket(cache: Cache) -> Path:
    return cache.root / "system/hmret/hmret.sock"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_the_socket_is_its_owners_and_goes_with_the_service(cache: Cache, backend: str) -> None:
    with running_service(cache.root, *ALL, "--backend", backend) as service:
        assert stat.S_ISSOCK(own_socket(cache).lstat().st_mode)
        assert (mode(own_socket(cache)), mode(own_socket(cache).parent)) == (0o600, 0o700)
        with client_of(own_socket(cache)) as client:
            status = client.get("/v1/status").json()
        assert (status["process"], status["backend"]) == (service.process.pid, backend)
        assert service.stop() == 0
    assert not own_socket(cache).exists()


def test_in_the_folder_of_the_service_and_a_link_leads_there(
    cache: Cache, tmp_path: Path, call: Call
) -> None:
    folder = tmp_path / "run"
    folder.mkdir(0o700)
    with running_service(cache.root, *ALL, environment={"RUNTIME_DIRECTORY": str(folder)}) as service:
        assert mode(folder / "hmret.sock") == 0o600
        assert own_socket(cache).readlink() == folder / "hmret.sock"
        code, output, _ = call("status", "--data-dir", cache.root)
        assert (code, f"process {service.process.pid}" in output) == (0, True)
        service.stop()
    assert list(folder.iterdir()) == []
    assert not os.path.lexists(own_socket(cache))


def test_a_path_that_is_too_long_for_a_socket_works(cache: Cache, tmp_path: Path, call: Call) -> None:
    deep = tmp_path / "/".join(["d" * 60] * 3)
    with running_service(
        cache.root, *ALL, environment={"HMRET__CONTROL_SOCKET": str(deep / "s.sock")}
    ) as service:
        assert (mode(deep / "s.sock"), mode(deep)) == (0o600, 0o700)
        assert call("status", "--data-dir", cache.root)[0] == 0
        service.stop()
        assert not (deep / "s.sock").exists()


def test_the_socket_of_an_engine_that_died_is_replaced(cache: Cache, call: Call) -> None:
    with running_service(cache.root, *ALL) as service:
        service.process.kill()
        service.process.wait(PATIENCE)
        assert own_socket(cache).exists()
        code, _, complaints = call("status", "--data-dir", cache.root)
        assert (code, complaints) == (
            1,
            f"hmret: error: no engine is running on {cache.root}; start one with hmret run\n",
        )
        assert call("plan", "--data-dir", cache.root)[0] == 0
    with running_service(cache.root, *ALL):
        assert call("status", "--data-dir", cache.root)[0] == 0


def test_what_is_no_socket_is_left_alone(
    cache: Cache, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("x")
    monkeypatch.setenv("HMRET__CONTROL_SOCKET", str(precious))
    code, output, complaints = call("run", *ALL, "--data-dir", cache.root, "--log-level", "error")
    assert (code, output, complaints.count("\n")) == (2, "", 1)
    assert complaints.startswith(f"hmret: error: hmret.control_socket: cannot be created at {precious}: ")
    assert precious.read_text() == "x"


def test_a_socket_that_another_engine_serves_is_not_taken_from_it(
    cache: Cache, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "shared.sock"
    other = Cache(tmp_path / "other")
    other.image("ghcr.io/kernel/x", "a", unused=DUE)
    with running_service(cache.root, *ALL, environment={"HMRET__CONTROL_SOCKET": str(path)}) as service:
        monkeypatch.setenv("HMRET__CONTROL_SOCKET", str(path))
        code, _, complaints = call("run", *ALL, "--data-dir", other.root, "--log-level", "error")
        assert (code, complaints) == (
            1,  # it may end
            f"hmret: error: hmret.control_socket: cannot be created at {path}: address already in use\n",
        )
        # Nothing was swept before that was found out.
        assert other.has("ghcr.io/kernel/x", "a")
        with client_of(path) as client:
            assert client.get("/v1/status").json()["process"] == service.process.pid


def test_what_can_be_looked_at_is_served_on_tcp_too_and_nothing_else(cache: Cache) -> None:
    cache.image("docker.io/library/alpine", "a", "3.20")
    port = free_port()
    listen = {"HMRET__METRICS_LISTEN": f"127.0.0.1:{port}"}
    with (
        running_service(cache.root, *ALL, environment=listen) as service,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client,
    ):
        for path in ("/metrics", "/healthz", "/readyz", "/v1/status", "/v1/images", "/v1/plan"):
            assert client.get(path).status_code == 200
        assert client.post("/v1/mark-used", json={"image": "alpine:3.20"}).status_code == 404
        assert client.post("/v1/sweeps").status_code == 404
        assert client.get("/v1/leases").status_code == 200
        assert client.post("/v1/leases", json={"image": "alpine:3.20", "ttl": 1}).status_code == 405
        assert client.get("/v1/status", headers={"host": "evil.example"}).status_code == 421
        with client.stream("GET", "/v1/events") as response:
            assert response.headers["content-type"].startswith("text/event-stream")
        assert service.stop() == 0


@pytest.mark.parametrize(("listen", "expected"), [("taken", 1), ("192.0.2.1:1", 1), ("999.999.999.999:1", 2)])
def test_an_address_that_cannot_be_had_is_one_line_and_nothing_is_swept(
    cache: Cache, call: Call, monkeypatch: pytest.MonkeyPatch, listen: str, expected: int, backend: str
) -> None:
    cache.image("ghcr.io/kernel/x", "a", unused=DUE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}" if listen == "taken" else listen
        monkeypatch.setenv("HMRET__METRICS_LISTEN", address)
        flags = ["--data-dir", str(cache.root), "--backend", backend, "--log-level", "error"]
        code, output, complaints = call("run", *ALL, *flags)
    # What is taken, or not there yet, may be had a moment later.
    assert (code, output, complaints.count("\n")) == (expected, "", 1)
    assert complaints.startswith(f"hmret: error: hmret.metrics_listen: cannot listen on {address}: ")
    assert cache.has("ghcr.io/kernel/x", "a")
    assert not own_socket(cache).exists()


def test_systemd_hears_of_the_start_the_sweeps_the_reload_and_the_stop(cache: Cache, backend: str) -> None:
    watchdog = {"WATCHDOG_USEC": "300000"}
    with running_service(
        cache.root, *ALL, "--backend", backend, environment=watchdog, ready=False
    ) as service:
        assert service.wait_told("READY=1") == "READY=1\nSTATUS=the first sweep is running"
        assert "last sweep: success, 0 images" in service.wait_told("STATUS=")
        for _ in range(3):
            service.wait_told("WATCHDOG=1")
        service.signal(signal.SIGHUP)
        assert service.wait_told("RELOADING=1\nMONOTONIC_USEC=").rpartition("=")[2].isdigit()
        assert service.wait_told("READY=1").startswith("READY=1\nSTATUS=last sweep: success")
        service.signal(signal.SIGTERM)
        service.wait_told("STOPPING=1")
        assert service.process.wait(PATIENCE) == 0


def test_a_stop_is_no_failure_however_often_the_watchdog_is_fed(cache: Cache, backend: str) -> None:
    with running_service(
        cache.root, *ALL, "--backend", backend, environment={"WATCHDOG_USEC": "3000"}, ready=False
    ) as service:
        service.wait_told("READY=1")
        service.signal(signal.SIGTERM)
        assert service.process.wait(PATIENCE) == 0


def test_a_service_that_is_disabled_serves_and_says_that_it_is_off(cache: Cache, call: Call) -> None:
    cache.image("ghcr.io/kernel/x", "a", unused=DUE)
    cache.image("docker.io/library/alpine", "b", "3.20", unused=DUE)
    port = free_port()
    flags = ("--allow", "*")
    with running_service(
        cache.root, *flags, environment={"HMRET__METRICS_LISTEN": f"127.0.0.1:{port}"}, ready=False
    ) as service:
        assert service.wait_told("READY=1") == "READY=1\nSTATUS=disabled: nothing is swept"
        assert "hmret.enabled" in service.wait_event("retention_disabled")["detail"]
        code, output, _ = call("status", "--data-dir", cache.root)
        assert (code, "disabled: nothing is swept" in output) == (0, True)
        code, output, _ = call("mark-used", "alpine:3.20", "--data-dir", cache.root)
        assert (code, "docker.io/library/alpine" in output) == (0, True)
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
            for path in ("/", "/metrics", "/healthz", "/v1/status"):
                assert client.get(path).status_code == 200
        with client_of(own_socket(cache)) as client:
            assert client.post("/v1/sweeps").json()["status"] == "disabled"
        assert service.stop() == 0
    assert cache.has("ghcr.io/kernel/x", "a")


def test_settings_that_are_refused_and_taken_over_again_show_in_the_metrics(
    cache: Cache, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("hmret: {enabled: true}")

    def told(client: httpx2.Client) -> list[str]:
        lines = client.get("/metrics").text.splitlines()
        return [line for line in lines if line.startswith("hmret_config_last_reload_successful ")]

    with (
        running_service(cache.root, "--config", str(config)) as service,
        client_of(own_socket(cache)) as client,
    ):
        assert told(client) == ["hmret_config_last_reload_successful 1.0"]
        for text, event, number in (("hmret: {odd: 1}", "refused", 0), ("hmret: {}", "reloaded", 1)):
            config.write_text(text)
            service.signal(signal.SIGHUP)
            service.wait_event(f"settings_{event}")
            assert told(client) == [f"hmret_config_last_reload_successful {number}.0"]


def test_the_policy_says_where_each_setting_was_set_and_what_a_reload_refused(
    cache: Cache, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("hmret:\n  enabled: true\n  pinned: [a/*]\n")
    environment = {"HMRET__JOURNAL": "true"}
    with (
        running_service(
            cache.root, "--config", str(config), "--allow", "*", environment=environment
        ) as service,
        client_of(own_socket(cache)) as client,
    ):

        def settings() -> dict[str, dict[str, object]]:
            return {one["key"]: one for one in client.get("/v1/policy").json()["settings"]}

        found = settings()
        assert (found["hmret.pinned"]["source"], found["hmret.pinned"]["where"]) == ("file", f"{config}:3")
        assert (found["hmret.journal"]["source"], found["hmret.journal"]["where"]) == (
            "environment",
            "environment variable HMRET__JOURNAL",
        )
        assert (
            found["images.auto_delete.allowed"]["source"],
            found["images.auto_delete.allowed"]["where"],
        ) == (
            "flag",
            "--allow",
        )
        config.write_text("hmret:\n  enabled: true\n  pinned: [7]\n")
        service.signal(signal.SIGHUP)
        service.wait_event("settings_refused")
        policy = client.get("/v1/policy").json()
        assert policy["refused"].startswith(f"{config}:3: hmret.pinned")
        assert settings()["hmret.pinned"]["value"] == ["a/*"]
        config.write_text("hmret:\n  enabled: true\n\n  pinned: [b/*]\n  metrics_listen: 127.0.0.1:1\n")
        service.signal(signal.SIGHUP)
        service.wait_event("settings_reloaded")
        policy = client.get("/v1/policy").json()
        assert (policy["refused"], policy["restart_needed"]) == (None, ["hmret.metrics_listen"])
        found = settings()
        assert (found["hmret.pinned"]["where"], found["hmret.metrics_listen"]["value"]) == (f"{config}:4", "")


def test_the_status_line_says_that_settings_were_refused_until_good_ones_are_read(
    cache: Cache, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("hmret: {enabled: true, sweep_interval: 1h}")
    with running_service(cache.root, "--config", str(config)) as service:
        service.wait_event("sweep_ended")
        config.write_text("hmret: {odd: 1}")
        service.signal(signal.SIGHUP)
        refused = service.wait_told("READY=1\nSTATUS=settings refused: ")
        assert "hmret.odd" in refused
        with client_of(own_socket(cache)) as client:
            assert client.post("/v1/sweeps").json()["status"] == "success"
        assert "hmret.odd" in service.wait_told("STATUS=settings refused: ")
        config.write_text("hmret: {enabled: true, sweep_interval: 1h}")
        service.signal(signal.SIGHUP)
        assert service.wait_told("READY=1").startswith("READY=1\nSTATUS=last sweep: success")
        assert service.stop() == 0


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_timers_have_the_modes_that_hypeman_gives_them_whatever_the_umask(cache: Cache, umask: int) -> None:
    cache.image("ghcr.io/kernel/x", "a")
    before = os.umask(umask)
    try:
        with running_service(cache.root, *ALL) as service:
            service.wait_event("sweep_ended")
            assert service.stop() == 0
    finally:
        os.umask(before)
    timers = cache.root / "system/image-retention"
    files = [path for path in timers.rglob("*") if path.is_file()]
    assert {mode(path) for path in files} == {0o644}
    assert {mode(path) for path in (timers, *timers.rglob("*")) if path.is_dir()} == {0o755}
    own = cache.root / "system/hmret"
    assert mode(own) == 0o700


@pytest.mark.parametrize("missing", ["data_dir", "config"])
def test_what_may_be_there_later_ends_it_with_one_line_and_1(
    cache: Cache, tmp_path: Path, call: Call, missing: str
) -> None:
    gone = str(tmp_path / "gone")
    flags = (
        ["--data-dir", gone] if missing == "data_dir" else ["--data-dir", str(cache.root), "--config", gone]
    )
    code, output, complaints = call("run", *flags, "--log-format", "json")
    assert (code, output, complaints.count("\n")) == (1, "", 1)
    told = json.loads(complaints)
    assert (told["level"], told["event"]) == ("error", "command_failed")
    assert gone in told["error"]


def test_new_settings_are_gone_by_and_bad_ones_are_refused(
    cache: Cache, tmp_path: Path, backend: str
) -> None:
    cache.image("ghcr.io/kernel/x", "a", unused=DUE)
    config = tmp_path / "config.yaml"
    text = "images:\n  auto_delete:\n    enabled: true\n    allowed: [{}]\n"
    config.write_text(text.format("quay.io/*"))
    flags = ["--config", str(config), "--backend", backend]
    with running_service(cache.root, *flags) as service:
        service.wait_event("sweep_ended")
        assert cache.has("ghcr.io/kernel/x", "a")

        config.write_text(text.format("ghcr.io/*").replace("allowed", "allow"))
        service.signal(signal.SIGHUP)
        assert "allow" in service.wait_event("settings_refused")["detail"]
        assert "settings refused: " in service.wait_told("READY=1")
        config.unlink()
        service.signal(signal.SIGHUP)
        assert str(config) in service.wait_event("settings_refused")["detail"]
        assert cache.has("ghcr.io/kernel/x", "a")

        config.write_text(
            text.format("ghcr.io/*")
            + "hmret: {metrics_listen: '127.0.0.1:1', sweep_interval: 1h, fleet: {min_copies: 2}}\n"
        )
        cache.state("ghcr.io/kernel/x", "a", "2026-02-01T00:00:00Z")
        service.signal(signal.SIGHUP)
        assert service.wait_event("setting_not_changed")["setting"] == "hmret.metrics_listen"
        assert service.wait_event("setting_not_changed")["setting"] == "hmret.fleet.min_copies"
        assert service.wait_event("settings_reloaded")["applied"] == "now"
        deleted = service.wait_event("image_deleted")
        assert (deleted["repository"], deleted["level"]) == ("ghcr.io/kernel/x", "info")
        assert deleted["unused_since"] == "2026-02-01T00:00:00Z"
        assert deleted["bytes"] > 0
        assert service.wait_event("sweep_ended")["level"] == "info"
        with client_of(own_socket(cache)) as client:
            assert client.get("/v1/status").json()["sweep_interval_seconds"] == 3600
        assert service.stop() == 0


def test_a_reload_from_what_is_no_file_with_settings_any_more_is_refused_and_stops_nothing(
    cache: Cache, tmp_path: Path, backend: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "images: {auto_delete: {enabled: true, allowed: ['*']}}\nhmret: {pinned: ['ghcr.io/*']}\n"
    )
    with running_service(cache.root, "--config", str(config), "--backend", backend) as service:
        config.write_text("")
        service.signal(signal.SIGHUP)
        assert "has become empty" in service.wait_event("settings_refused")["detail"]
        config.unlink()
        os.mkfifo(config)
        service.signal(signal.SIGHUP)
        assert service.wait_event("settings_refused")["detail"] == (
            f"{config}: expected a regular file, got a pipe"
        )
        with client_of(own_socket(cache)) as client:
            assert client.get("/v1/status").status_code == 200
        assert service.stop() == 0


HANGING = """\
import sys, threading
from hmret.__main__ import main
from hmret.cli.parsing import options
load = options.load_settings
def hang(**keywords):
    if keywords["earlier"] is not None:
        threading.Event().wait()
    return load(**keywords)
options.load_settings = hang
sys.exit(main())
"""
"""The service, with a config file on a mount that hangs from its first reload on."""


def test_it_stops_while_a_reload_hangs(cache: Cache, backend: str) -> None:
    with running_service(cache.root, *ALL, "--backend", backend, program=("-c", HANGING)) as service:
        service.signal(signal.SIGHUP)
        service.wait_told("RELOADING=1")
        service.signal(signal.SIGHUP)
        assert service.stop() == 0


def test_switched_off_it_goes_on_without_sweeping(cache: Cache, tmp_path: Path) -> None:
    cache.image("docker.io/library/alpine", "a", "3.20")
    config = tmp_path / "config.yaml"
    config.write_text("hmret: {enabled: true}")
    with running_service(cache.root, "--config", str(config)) as service:
        config.write_text("hmret: {enabled: false}")
        service.signal(signal.SIGHUP)
        assert service.wait_event("settings_reloaded")
        assert "disabled" in service.wait_told("READY=1")
        with client_of(own_socket(cache)) as client:
            assert client.post("/v1/sweeps").json()["status"] == "disabled"
            assert client.post("/v1/mark-used", json={"image": "alpine:3.20"}).status_code == 200
        assert service.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_while_clients_wait_for_it(cache: Cache, backend: str, number: signal.Signals) -> None:
    with running_service(cache.root, *ALL, "--backend", backend) as service:
        with client_of(own_socket(cache)) as client, client.stream("GET", "/v1/events") as response:
            lines = response.iter_lines()
            assert next(lines) == "retry: 2000"
            service.signal(number)
            list(lines)
        assert service.process.wait(PATIENCE) == 0
        assert service.wait_event("engine_stopping")["reason"] == number.name
        assert service.wait_event("engine_stopped")
        assert service.wait_event("end of log")


def test_it_stops_while_many_images_go_and_the_next_start_goes_on(cache: Cache, backend: str) -> None:
    for number in range(150):
        cache.image(f"ghcr.io/many/{number}", "a", unused=DUE)
    with running_service(cache.root, *ALL, "--backend", backend) as service:
        service.wait_event("image_deleted")
        assert service.stop() == 0
    left = sum(cache.has(f"ghcr.io/many/{number}", "a") for number in range(150))
    with running_service(cache.root, *ALL, "--backend", backend) as service:
        service.wait_event("sweep_ended")
        with client_of(own_socket(cache)) as client:
            status = client.get("/v1/status").json()
        assert status["totals"]["deleted_images"] == left
        assert status["trash_bytes"] == 0
    assert not any(cache.has(f"ghcr.io/many/{number}", "a") for number in range(150))


def test_it_stops_during_a_long_erase_and_the_next_start_goes_on(
    cache: Cache, tmp_path: Path, backend: str
) -> None:
    for letter in "abc":
        cache.image("ghcr.io/kernel/x", letter, unused=DUE)
    gate, told, trash = tmp_path / "gate", tmp_path / "told", cache.root / "system/hmret/trash"
    os.mkfifo(gate)
    os.mkfifo(told)
    program = ("-c", SLOW_ERASE, str(gate), str(told))
    with running_service(cache.root, *ALL, "--backend", backend, program=program) as service:
        with writing(gate):  # the first disk is being erased
            service.signal(signal.SIGTERM)
            wait_for_end(told)
        # Nobody opens the gate again: the other disks are not begun. Ten seconds are what is promised.
        assert service.process.wait(PATIENCE) == 0
    assert not any(cache.has("ghcr.io/kernel/x", letter) for letter in "abc")
    assert len(list(trash.rglob("rootfs.ext4"))) == 2
    with running_service(cache.root, *ALL, "--backend", backend) as service:
        service.wait_event("sweep_ended")
        assert list(trash.iterdir()) == []
        assert service.stop() == 0


def test_a_second_engine_says_who_has_it_and_leaves_the_socket_alone(cache: Cache, call: Call) -> None:
    with running_service(cache.root, *ALL) as service:
        code, output, complaints = call("run", *ALL, "--data-dir", cache.root)
        assert (code, output) == (3, "")
        assert f"another engine (process {service.process.pid}) works on this data directory" in complaints
        assert call("status", "--data-dir", cache.root)[0] == 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_is_a_client(cache: Cache) -> None:
    with running_service(cache.root, *ALL):
        command = ["curl", "-sS", "--unix-socket", str(own_socket(cache)), "http://hmret/healthz"]
        found = run_program(command, check=True)
    assert found.stdout == '{"status":"ok"}'


def test_help_does_not_wait_for_what_serves_or_completes() -> None:
    program = (
        "import sys; from hmret.__main__ import main; main(['--help']); main(['check-config']);"
        "print(sorted({'starlette', 'anycorn', 'httpx2', 'structlog', 'prometheus_client', 'anyio',"
        " 'cyclopts.completion', 'hmret.cli.commands.completion'} & set(sys.modules)))"
    )
    found = run_program([sys.executable, "-c", program], check=True)
    assert found.stdout.splitlines()[-1] == "[]"
