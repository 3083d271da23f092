"""The real process of `run`, and what it tells."""

import json
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import PIPE
from typing import Any

import httpx2

from support.children import Child, child
from support.patience import PATIENCE

__all__ = ["Service", "client_of", "free_port", "running_service"]


class Service:
    """One process of `run`; its log and what it tells systemd can be waited for."""

    def __init__(self, process: Child, receiver: socket.socket) -> None:
        self.process = process
        self.lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self.told: queue.Queue[str] = queue.Queue()
        self._receiver = receiver
        self._threads = [threading.Thread(target=read) for read in (self._read_log, self._read_told)]
        for thread in self._threads:
            thread.start()

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                self.lines.put(json.loads(line))
            except ValueError:
                self.lines.put({"event": line.rstrip("\n")})
        self.lines.put({"event": "end of log"})

    def _read_told(self) -> None:
        while message := self._receiver.recv(4096).decode():
            self.told.put(message)

    def wait_event(self, name: str) -> dict[str, Any]:
        """Wait for an event of the log."""
        while True:
            line = self.lines.get(timeout=PATIENCE)
            if line["event"] == name:
                return line
            assert line["event"] != "end of log", f"{name} was not logged"

    def wait_told(self, head: str) -> str:
        """Wait for what systemd is told."""
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends:
            with suppress(queue.Empty):
                message = self.told.get(timeout=10)
                if message.startswith(head):
                    return message
                continue
            assert self.process.poll() is None, f"it has ended, and not told {head}"
        raise AssertionError(f"{head} was not told")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        """Stop it; returns its exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def end(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", self._receiver.getsockname())
        for thread in self._threads:
            thread.join(PATIENCE)
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextmanager
def running_service(
    root: Path,
    *flags: str,
    environment: Mapping[str, str] | None = None,
    program: Sequence[str] = ("-m", "hmret"),
    ready: bool = True,
) -> Iterator[Service]:
    """Run the service while the block lasts; yields when it is ready."""
    place = root.parent / "notify"
    place.unlink(missing_ok=True)
    command = [sys.executable, *program, "run", "--log-format", "json", "--log-level", "debug"]
    everything = {**os.environ, "NOTIFY_SOCKET": str(place), **(environment or {})}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(place))
        with child([*command, "--data-dir", str(root), *flags], stderr=PIPE, env=everything) as process:
            service = Service(process, receiver)
            try:
                if ready:
                    service.wait_told("READY=1")
                yield service
            finally:
                service.end()


def free_port() -> int:
    """Find a port of the loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def client_of(path: Path) -> Iterator[httpx2.Client]:
    """Give a client of a control socket, with one request a connection: the server closes one that is idle for long."""
    transport = httpx2.HTTPTransport(uds=str(path), limits=httpx2.Limits(max_keepalive_connections=0))
    with httpx2.Client(transport=transport, base_url="http://hmret", timeout=PATIENCE) as client:
        yield client
