"""`run`: a process of its own that starts, sweeps and stops."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from cli.caches import Cache
from support.children import Child, child
from support.patience import PATIENCE

Call = Callable[..., tuple[int, str, str]]

DUE = timedelta(days=31)


@contextmanager
def running(root: pathlib.Path, *flags: str) -> Iterator[Child]:
    command = [sys.executable, "-m", "hmret", "run", "--enable", "--allow", "*", "--data-dir", str(root)]
    with child([*command, *flags], stderr=subprocess.PIPE) as process:
        # Whoever waits for a line that does not come is not left waiting.
        deadline = threading.Timer(PATIENCE, process.kill)
        deadline.start()
        try:
            yield process
        finally:
            deadline.cancel()


def wait_line(process: Child, event: str) -> str:
    """Read log lines up to the one that has an event."""
    assert process.stderr is not None
    for line in process.stderr:
        if event in line:
            return line
    raise AssertionError(f"{event} was not logged")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_and_gives_the_directory_back(
    cache: Cache, call: Call, backend: str, number: signal.Signals
) -> None:
    cache.image("ghcr.io/kernel/x", "a", unused=DUE)
    with running(cache.root, "--backend", backend) as process:
        wait_line(process, "engine_started")
        wait_line(process, "image_deleted")
        code, _, complaints = call("sweep", "--enable", "--data-dir", cache.root)
        assert code == 3
        assert complaints.startswith(f"hmret: error: {cache.root}: another engine (process {process.pid})")
        process.send_signal(number)
        assert number.name in wait_line(process, "engine_stopping")
        assert wait_line(process, "engine_stopped")
        assert process.wait(PATIENCE) == 0
    assert call("sweep", "--enable", "--data-dir", cache.root)[0] == 0


def test_its_log_can_be_json(cache: Cache) -> None:
    with running(cache.root, "--log-format", "json", "--log-level", "info", "--allow", "alpine") as process:
        started = json.loads(wait_line(process, "engine_started"))
        assert (started["level"], started["data_dir"]) == ("info", str(cache.root))
        assert "alpine" in json.loads(wait_line(process, "setting_doubtful"))["detail"]
        process.terminate()
        assert process.wait(PATIENCE) == 0


def test_its_log_has_the_warning_about_the_size_of_the_disk(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HMRET__DISK__COUNT", "apparent")
    monkeypatch.setenv("HMRET__DISK__MAX_USED", "900000TB")
    with running(cache.root, "--log-format", "json") as process:
        detail = json.loads(wait_line(process, "setting_doubtful"))["detail"]
        assert detail.startswith(
            "hmret.disk.max_used: hypeman refuses pulls once images take 20% of the disk"
        )
        process.terminate()
        assert process.wait(PATIENCE) == 0


def test_it_stops_in_this_process_too(
    cache: Cache, call: Call, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The signal comes as soon as the engine is open.
    monkeypatch.setattr(
        "hmret.cli.service.serving.log_warnings", lambda _: os.kill(os.getpid(), signal.SIGTERM)
    )
    flags = ["--enable", "--data-dir", cache.root, "--backend", backend]
    code, output, complaints = call("run", *flags)
    assert (code, output) == (0, "")
    events = [line.split()[2] for line in complaints.splitlines()]
    assert [event for event in events if event.startswith("engine_")] == [
        "engine_started",
        "engine_stopping",
        "engine_stopped",
    ]
