"""Telling systemd."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hmret.cli.service.systemd import Notifier
from support.patience import PATIENCE


@pytest.fixture(params=["path", "abstract"])
def listening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        if request.param == "path":
            name = str(tmp_path / "notify")
            receiver.bind(name)
        else:
            name = f"@hmret-test-{os.getpid()}-{tmp_path.name}"
            receiver.bind(f"\0{name[1:]}")
        receiver.settimeout(PATIENCE)
        yield receiver, name


def test_what_is_told_arrives(listening: tuple[socket.socket, str]) -> None:
    receiver, name = listening
    notifier = Notifier.of({"NOTIFY_SOCKET": name})
    notifier.ready("one\nline")
    assert receiver.recv(1000) == b"READY=1\nSTATUS=one line"
    notifier.reloading()
    head, microseconds = receiver.recv(1000).decode().split("\nMONOTONIC_USEC=")
    assert (head, microseconds.isdigit()) == ("RELOADING=1", True)
    notifier.status("odd \udcff")
    assert receiver.recv(1000) == b"STATUS=odd \\udcff"
    notifier.alive()
    assert receiver.recv(1000) == b"WATCHDOG=1"
    notifier.stopping()
    assert receiver.recv(1000).startswith(b"STOPPING=1\n")


@pytest.mark.parametrize(
    "name", ["", "relative", "/nowhere/at/all", "@nobody-listens-there", "/" + "x" * 300]
)
def test_where_nobody_listens_nothing_happens(name: str) -> None:
    Notifier.of({"NOTIFY_SOCKET": name}).ready("x")
    Notifier.of({}).ready("x")


def test_a_receiver_that_is_full_is_not_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        notifier = Notifier.of({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for _ in range(5000):
            notifier.alive()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_where_it_is_meant_for_us(
    environment: dict[str, str], seconds: float | None
) -> None:
    assert Notifier.of({"NOTIFY_SOCKET": "/x", **environment}).watchdog_seconds == seconds
