"""The control socket that is removed or replaced while the service runs, and what clients are told meanwhile."""

import os
import shutil
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.caches import Cache
from cli.services import client_of, running_service
from support.patience import PATIENCE

Call = Callable[..., tuple[int, str, str]]

ALL = ("--enable", "--allow", "*")


def own_socket(cache: Cache) -> Path:
    return cache.root / "system/hmret/hmret.sock"


def status_of(call: Call, cache: Cache) -> str:
    code, output, complaints = call("status", "--data-dir", cache.root)
    assert (code, complaints) == (0, "")
    return output


@pytest.mark.parametrize("replacement", ["nothing", "a socket that nobody serves", "a link"])
def test_a_socket_that_is_removed_or_replaced_is_bound_again(
    cache: Cache, call: Call, backend: str, replacement: str
) -> None:
    with running_service(cache.root, *ALL, "--backend", backend) as service:
        own_socket(cache).unlink()
        match replacement:
            case "a socket that nobody serves":
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
                    dead.bind(str(own_socket(cache)))
            case "a link":
                own_socket(cache).symlink_to("/no/such/socket")
        assert service.wait_event("control_socket_bound_again")["path"] == str(own_socket(cache))
        assert f"process {service.process.pid}" in status_of(call, cache)
        assert stat.S_IMODE(own_socket(cache).lstat().st_mode) == 0o600
        assert service.stop() == 0
    assert not os.path.lexists(own_socket(cache))


def test_a_client_of_the_lost_socket_goes_on(cache: Cache, call: Call) -> None:
    with running_service(cache.root, *ALL) as service:
        with client_of(own_socket(cache)) as client:
            assert client.get("/healthz").status_code == 200
            own_socket(cache).unlink()
            service.wait_event("control_socket_bound_again")
            assert client.get("/healthz").status_code == 200
        status_of(call, cache)
        assert service.stop() == 0


def test_the_folder_of_the_socket_and_the_link_to_it_come_again(
    cache: Cache, tmp_path: Path, call: Call
) -> None:
    folder = tmp_path / "run"
    folder.mkdir(0o700)
    with running_service(cache.root, *ALL, environment={"RUNTIME_DIRECTORY": str(folder)}) as service:
        shutil.rmtree(folder)
        own_socket(cache).unlink()
        service.wait_event("control_socket_bound_again")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert own_socket(cache).readlink() == folder / "hmret.sock"
        status_of(call, cache)
        assert service.stop() == 0
    assert list(folder.iterdir()) == []
    assert not os.path.lexists(own_socket(cache))


def test_what_is_precious_in_its_place_stays_and_is_logged_once(
    cache: Cache, tmp_path: Path, call: Call
) -> None:
    path = tmp_path / "hmret.sock"
    with running_service(cache.root, *ALL, environment={"HMRET__CONTROL_SOCKET": str(path)}) as service:
        path.unlink()
        path.write_text("precious")
        lost = service.wait_event("control_socket_lost")
        assert (lost["path"], lost["detail"].count("file exists")) == (str(path), 1)
        assert path.read_text() == "precious"
        path.unlink()
        logged: list[object] = []
        while not logged or logged[-1] != "control_socket_bound_again":
            logged.append(service.lines.get(timeout=PATIENCE)["event"])
        assert "control_socket_lost" not in logged
        status_of(call, cache)
        assert service.stop() == 0


def test_a_socket_that_another_engine_has_bound_there_stays_its_own(
    cache: Cache, tmp_path: Path, call: Call
) -> None:
    path = tmp_path / "shared.sock"
    (tmp_path / "elsewhere").mkdir()
    other = Cache(tmp_path / "elsewhere" / "data")
    environment = {"HMRET__CONTROL_SOCKET": str(path)}
    with running_service(cache.root, *ALL, environment=environment) as first:
        # Stopped, it cannot bind its socket again before the other has come.
        first.signal(signal.SIGSTOP)
        path.unlink()
        with running_service(other.root, *ALL, environment=environment) as second:
            first.signal(signal.SIGCONT)
            assert "address already in use" in first.wait_event("control_socket_lost")["detail"]
            with client_of(path) as client:
                assert client.get("/v1/status").json()["process"] == second.process.pid
            assert second.stop() == 0
        assert first.wait_event("control_socket_bound_again")
        status_of(call, cache)
        assert first.stop() == 0
    assert not path.exists()


def test_an_engine_that_stops_leaves_what_has_taken_the_place_of_its_socket(
    cache: Cache, tmp_path: Path
) -> None:
    path = tmp_path / "hmret.sock"
    with running_service(cache.root, *ALL, environment={"HMRET__CONTROL_SOCKET": str(path)}) as service:
        path.unlink()
        path.write_text("precious")
        assert service.stop() == 0
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    "words", [("status",), ("leases",), ("events",), ("unlease", "0"), ("lease", "alpine")]
)
def test_a_client_says_which_process_has_the_data_directory_whose_socket_is_gone(
    cache: Cache, call: Call, words: tuple[str, ...]
) -> None:
    with running_service(cache.root, *ALL) as service:
        # Stopped, it cannot bind the socket again before the client has looked.
        service.signal(signal.SIGSTOP)
        try:
            own_socket(cache).unlink()
            code, output, complaints = call(*words, "--data-dir", cache.root)
        finally:
            service.signal(signal.SIGCONT)
        assert (code, output) == (1, "")
        assert complaints == (
            f"hmret: error: process {service.process.pid} holds the data directory {cache.root}, but its control socket is "
            "gone: hmret run binds it again within seconds; an engine embedded in another server has none\n"
        )
        # What needs no engine works as ever, and what needs the lock names who has it.
        assert call("plan", "--data-dir", cache.root)[0] == 0
        service.wait_event("control_socket_bound_again")
        status_of(call, cache)


def test_a_sweep_without_the_socket_says_who_has_the_lock(cache: Cache, call: Call) -> None:
    with running_service(cache.root, *ALL) as service:
        service.signal(signal.SIGSTOP)
        try:
            own_socket(cache).unlink()
            code, output, complaints = call("sweep", *ALL, "--data-dir", cache.root)
        finally:
            service.signal(signal.SIGCONT)
        assert (code, output, complaints.count("\n")) == (3, "", 1)
        assert f"process {service.process.pid}" in complaints
