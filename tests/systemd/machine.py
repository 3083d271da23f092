"""The container: booted, acted in, and asked for its journal."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from systemd.root import ENVIRONMENT, ROOT, Skipped

__all__ = ["DATA_DIR", "Line", "Machine", "booted"]

DATA_DIR = ROOT / "var/lib/hypeman"
PATIENCE_SECONDS = 300.0
"""How long something is waited for."""

_CONFIG = "images: {{auto_delete: {{enabled: {enabled}, allowed: ['*']}}}}\nhmret: {{{more}}}\n"
_DROP_INS = "etc/systemd/system/hmret.service.d"

Line = dict[str, object]


class Machine:
    """The container that is booted."""

    def __init__(self, leader: int) -> None:
        namespaces = ("-m", "-u", "-i", "-n", "-p", "-C")
        self._enter = ("nsenter", "-t", str(leader), *namespaces, "env", "-i", *ENVIRONMENT)
        self.patience_seconds = PATIENCE_SECONDS
        self._since = "0"
        self._broken = ""

    def run(self, line: str, *, code: int | None = 0) -> str:
        """Run a line of shell in it; returns what it says. `code`: what it must end with; None: whatever."""
        done = subprocess.run(
            [*self._enter, "/bin/sh", "-c", line],
            text=True,
            capture_output=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
        said = done.stdout + done.stderr
        if code is not None and done.returncode != code:
            raise AssertionError(f"{line}: ended with {done.returncode}, expected {code}\n{said}")
        return said

    def start(self, line: str) -> "subprocess.Popen[str]":
        """Start a line of shell in it, and do not wait for its end."""
        return subprocess.Popen([*self._enter, "/bin/sh", "-c", line], stdout=subprocess.DEVNULL, text=True)

    def wait_until(self, is_so: Callable[[], bool], what: str) -> None:
        """Wait until something is so."""
        ends = time.monotonic() + self.patience_seconds
        while not is_so():
            if time.monotonic() > ends:
                raise AssertionError(f"it never came to this: {what}")
            time.sleep(0.1)

    def wait(self, line: str, expected: str) -> str:
        """Run a line until it says something."""
        said = ""

        def says() -> bool:
            nonlocal said
            said = self.run(line, code=None)
            return expected in said

        self.wait_until(says, f"{line} says {expected!r}")
        return said

    # What is there.

    def begin(self) -> None:
        """Take away what an earlier check has left: service, settings, data; the journal is read from now on."""
        self._broken = ""
        self.stop()
        for folder in (
            ROOT / "srv",
            ROOT / "etc/hypeman",
            *(ROOT / "etc/systemd/system").glob("hmret*.service.d"),
        ):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(DATA_DIR, ignore_errors=True)
        if not (ROOT / "var/lib/dpkg/info/hmret.list").exists():  # else it is the package's
            (ROOT / "etc/hmret/config.yaml").unlink(missing_ok=True)
        (ROOT / "srv").mkdir()
        (ROOT / "usr/sbin/policy-rc.d").unlink(missing_ok=True)
        self.run("systemctl daemon-reload")
        self._since = self.run("date +%s.%N").strip()

    def write(self, path: str, text: str) -> None:
        place = ROOT / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def configure(self, *, enabled: bool = True, more: str = "") -> None:
        """Write hypeman's config; `more`: what stands under `hmret`."""
        self.write("/etc/hypeman/config.yaml", _CONFIG.format(enabled=str(enabled).lower(), more=more))

    def drop_in(self, text: str) -> None:
        """Have this drop-in, and no other; empty: none."""
        shutil.rmtree(ROOT / _DROP_INS, ignore_errors=True)
        if text:
            self.write(f"/{_DROP_INS}/test.conf", text)
        if self._broken:
            self.write(f"/{_DROP_INS}/zz-broken.conf", self._broken)
        self.run("systemctl daemon-reload")

    def break_unit(self, lines: str) -> None:
        """Have these lines in the section of the service from now on, whatever drop-in there is."""
        self._broken = f"[Service]\n{lines}\n"
        self.drop_in("")

    def patch(self, text: str, name: str = "patch") -> str:
        """Have Python carry this text out before hmret; returns the line of a drop-in for it."""
        self.write(f"/srv/{name}/sitecustomize.py", text)
        return f"Environment=PYTHONPATH=/srv/{name}\n"

    # The service.

    def stop(self) -> None:
        self.run("systemctl stop hmret; systemctl reset-failed hmret || true", code=None)

    def show(self, name: str) -> str:
        """Return one property of the service."""
        return self.run(f"systemctl show -P {name} hmret").strip()

    def wait_active(self) -> None:
        self.wait("systemctl show -P ActiveState hmret", "active\n")
        self.wait_until(lambda: self.show("ActiveState") == "active", "the service is active")

    def wait_restarted(self, times: int) -> None:
        """Wait until systemd has started it again so many times."""
        self.wait_until(lambda: self.show("NRestarts") == str(times), "it is started again")

    # The journal.

    def wait_line(self, event: str, **keys: object) -> Line:
        """Wait until the journal has an event with such keys."""
        found: list[Line] = []

        def has() -> bool:
            found[:] = [
                line
                for line in self.lines()
                if line.get("event") == event and all(line.get(key) == value for key, value in keys.items())
            ]
            return found != []

        self.wait_until(has, f"{event} {keys} is logged")
        return found[0]

    def wait_traceback(self, text: str) -> Line:
        """Wait until an exception with this text is logged."""
        found: list[Line] = []

        def has() -> bool:
            found[:] = [line for line in self.lines() if text in str(line.get("exception", ""))]
            return found != []

        self.wait_until(has, f"{text} is logged")
        return found[0]

    def lines(self, unit: str = "hmret") -> list[Line]:
        """Return what hmret has logged since the check began, each line with its `priority`.

        Raises:
            AssertionError: a line is not JSON.
        """
        found = self.run(f"journalctl -u {unit} -o json --all --no-pager --since=@{self._since}", code=None)
        entries = [json.loads(line) for line in found.splitlines() if line.startswith("{")]
        lines = []
        for entry in entries:
            if entry.get("_TRANSPORT") != "stdout" or entry.get("SYSLOG_IDENTIFIER") == "systemd":
                continue
            message = entry["MESSAGE"]
            try:
                line = json.loads(message)
            except (TypeError, ValueError):
                raise AssertionError(f"a line of the journal is not JSON: {message!r}") from None
            lines.append({**line, "priority": int(entry["PRIORITY"])})
        return lines

    def tail(self) -> str:
        """Return the end of the whole journal since the check began, without a line for each image."""
        of_images = "image_deleted|deletion_recovered"
        found = f"journalctl --no-pager --since=@{self._since} | grep -Ev '{of_images}' | tail -n 40"
        return self.run(found, code=None)

    def messages(self, options: str) -> str:
        """Return the messages of the service since the check began, as journalctl gives them with options."""
        said = self.run(f"journalctl -u hmret -o cat --no-pager --since=@{self._since} {options}", code=None)
        return "" if said == "-- No entries --\n" else said


@contextmanager
def booted() -> Iterator[Machine]:
    """Boot the container while the block lasts.

    Raises:
        Skipped: this host cannot boot it.
    """
    command = ("systemd-nspawn", "-q", "-D", str(ROOT), "--register=no", "--keep-unit", "--private-network")
    # For the filter of addresses.
    rights = ("--system-call-filter=bpf", "--capability=CAP_BPF,CAP_NET_ADMIN,CAP_PERFMON")
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(
            [*command, *rights, "-b", "--console=pipe"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        ) as process,
    ):
        try:
            leader = _leader_of(process)
            if leader is None:
                complaints.seek(0)
                raise Skipped(f"this host cannot boot a container: {complaints.read().strip()}")
            machine = Machine(leader)
            machine.wait("systemctl is-system-running", "running")
            yield machine
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def _leader_of(process: "subprocess.Popen[bytes]") -> int | None:
    """Wait for the first process of the container; None: it never came."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    ends = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < ends and process.poll() is None:
        with suppress(OSError):  # what has ended meanwhile
            for child in children.read_text().split():
                if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    return int(child)
        time.sleep(0.1)
    return None
