"""The group of the control socket: its members may ask, and change nothing unless they are allowed to."""

import grp
import json
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cli.caches import Cache
from cli.services import client_of, running_service
from hmret.api.http.control_socket import bound_socket
from support.builders import make_config
from support.children import run_program

Call = Callable[..., tuple[int, str, str]]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask as somebody else")

# Somebody who is nobody in particular, and a member of a group that is not his own.
USER, GROUP = 4_242, 4_243


@pytest.fixture
def open_cache() -> Iterator[Cache]:
    """A cache that others than root can reach."""
    with tempfile.TemporaryDirectory(prefix="hmret-") as folder:
        Path(folder).chmod(0o755)
        cache = Cache(Path(folder) / "data")
        cache.image("docker.io/library/alpine", "a", "3.20", unused=timedelta(days=1))
        yield cache


def mode_and_group(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return stat.S_IMODE(found.st_mode), found.st_gid


def ask_as_member(socket: Path, *calls: tuple[str, str]) -> list[tuple[int, str]]:
    """Ask as a member of the group that is neither root nor the engine's user; returns each status and answer."""
    program = f"""
import json, os, httpx2
httpx2.Client().close()  # what it needs is loaded while it may still be read
os.setgroups([{GROUP}])
os.setgid({USER})
os.setuid({USER})
with httpx2.Client(transport=httpx2.HTTPTransport(uds={str(socket)!r}), base_url="http://hmret") as client:
    answers = [
        client.request(method, call, json={{"image": "alpine:3.20"}} if method == "POST" else None)
        for method, call in {calls!r}
    ]
    print(json.dumps([(answer.status_code, answer.text) for answer in answers]))
"""
    asked = run_program([sys.executable, "-c", program], check=True)
    return [(status, text) for status, text in json.loads(asked.stdout)]


@needs_root
def test_a_runtime_directory_that_systemd_has_closed_is_opened_to_the_group_again(
    open_cache: Cache, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    (open_cache.root / "system/hmret").mkdir(parents=True, exist_ok=True)
    config = make_config(open_cache.root, control_socket_group=str(GROUP))
    with bound_socket(config, {"RUNTIME_DIRECTORY": str(run)}) as (control, _):
        assert mode_and_group(run) == (0o710, GROUP)
        # As systemd does it for each command of a unit, a reload's too: mode and owner, of what is in it as well.
        for path, mode in ((run, 0o700), (control.path, 0o660)):
            os.chown(path, 0, 0)
            path.chmod(mode)
        assert control.bind_again() is None
        assert mode_and_group(run) == (0o710, GROUP)
        assert mode_and_group(control.path) == (0o660, GROUP)
        # The mode may be the group's, and its owner another one.
        os.chown(run, 0, 0)
        assert control.bind_again() is None
        assert mode_and_group(run) == (0o710, GROUP)
        before = run.stat().st_ctime_ns, control.path.stat().st_ctime_ns
        assert control.bind_again() is None
        assert (run.stat().st_ctime_ns, control.path.stat().st_ctime_ns) == before


@needs_root
def test_members_of_the_group_may_ask_and_change_nothing(open_cache: Cache) -> None:
    own = open_cache.root / "system/hmret"
    environment = {"HMRET__CONTROL_SOCKET_GROUP": str(GROUP)}
    with running_service(open_cache.root, "--enable", environment=environment) as service:
        assert mode_and_group(own / "hmret.sock") == (0o660, GROUP)
        assert mode_and_group(own) == (0o710, GROUP)
        questions = [("GET", call) for call in ("/v1/status", "/v1/images", "/metrics", "/v1/leases")]
        changes = [
            ("POST", f"/v1/{call}") for call in ("mark-used", "sweeps", "confirm", "restore", "leases")
        ]
        # A plan by other settings changes nothing; the body that is sent is none for it.
        everything = (
            *questions,
            ("POST", "/v1/plan"),
            *changes,
            ("PUT", "/v1/leases/1"),
            ("DELETE", "/v1/leases/1"),
        )
        answers = ask_as_member(own / "hmret.sock", *everything)
        assert [status for status, _ in answers] == [200] * 4 + [422] + [403] * 7
        problem = json.loads(answers[-1][1])
        assert problem["type"] == "urn:hmret:problem:read-only"
        assert "control_socket_group_writes" in problem["detail"]
        with client_of(own / "hmret.sock") as client:
            assert client.post("/v1/mark-used", json={"image": "alpine:3.20"}).status_code == 200
        assert service.stop() == 0
    # Without the setting it is closed again.
    with running_service(open_cache.root, "--enable"):
        assert mode_and_group(own / "hmret.sock")[0] == 0o600
        assert mode_and_group(own)[0] == 0o700


@needs_root
def test_the_group_may_write_from_the_reload_on_that_allows_it(open_cache: Cache) -> None:
    config = open_cache.root / "config.yaml"
    text = "hmret: {{enabled: true, control_socket_group: '{}', control_socket_group_writes: {}}}\n"
    config.write_text(text.format(GROUP, "false"))
    runtime = open_cache.root.parent / "run"
    runtime.mkdir(0o700)
    environment = {"RUNTIME_DIRECTORY": str(runtime)}
    flags = ("--config", str(config))
    with running_service(open_cache.root, *flags, environment=environment) as service:
        socket = runtime / "hmret.sock"
        assert mode_and_group(socket) == (0o660, GROUP)
        assert mode_and_group(runtime) == (0o710, GROUP)
        assert ask_as_member(socket, ("POST", "/v1/mark-used"))[0][0] == 403
        config.write_text(text.format(GROUP, "true"))
        service.process.send_signal(1)
        service.wait_event("settings_reloaded")
        assert ask_as_member(socket, ("POST", "/v1/mark-used"))[0][0] == 200
        assert service.stop() == 0


def test_a_group_of_ones_own_needs_no_rights(cache: Cache) -> None:
    own = os.getegid()
    name = grp.getgrgid(own).gr_name
    with running_service(cache.root, environment={"HMRET__CONTROL_SOCKET_GROUP": name}):
        assert mode_and_group(cache.root / "system/hmret/hmret.sock") == (0o660, own)


def test_a_group_that_this_host_does_not_have_is_one_line(
    cache: Cache, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HMRET__CONTROL_SOCKET_GROUP", "no-such-group")
    code, output, complaints = call("run", "--data-dir", cache.root)
    assert (code, output) == (2, "")
    assert complaints == (
        "hmret: error: hmret.control_socket_group: expected a group of this host, got 'no-such-group'\n"
    )
