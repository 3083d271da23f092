"""A host on which the shell of a page is run as it stands: a folder is its `/`, and a process its service.

What would need another machine, or to be root, has a stand-in: `sudo` and `ssh` run here what they are given, `journalctl`
shows the log of the service, and `systemctl` starts, stops and reloads the real process of `hmret run`.
"""

import re
import shlex
import signal
import subprocess
import sys
from contextlib import AbstractContextManager, ExitStack
from datetime import timedelta
from pathlib import Path

from cli.caches import Cache
from cli.services import Service, running_service
from support.children import Child, child
from support.patience import PATIENCE

__all__ = ["ShownHost", "blocks_of"]

_STAND_INS = {
    "sudo": 'exec "$@"',
    # A tunnel needs another machine; a command is run by a shell there.
    "ssh": 'case $1 in -L) exit 0 ;; esac; shift; exec sh -c "$*"',
    "journalctl": 'cat "$ROOT/log"',
    "hmret": f'exec {shlex.quote(sys.executable)} -m hmret "$@"',
}
_PLACES = re.compile(r"(?<![\w.$}])/(?=(?:etc|usr/local|var/lib|var/backups|run/hmret)/)")
# What has no end of its own, with the signal that ends it and its exit code then.
_ENDLESS = {"hmret run": (signal.SIGTERM, 0), "hmret events --follow": (signal.SIGINT, 130)}


def blocks_of(text: str) -> list[str]:
    """Return the blocks of shell that a page shows, without the indentation of a list."""
    found = re.findall(r"^( *)```sh\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


class ShownHost:
    """A host with two images that were last used a month ago, of two repositories."""

    def __init__(self, root: Path, settings: str = "") -> None:
        self.root = root
        self.cache = Cache(root / "var/lib/hypeman")
        self.cache.image("docker.io/library/alpine", "a", "3.20", unused=timedelta(days=31))
        self.cache.image("ghcr.io/kernel/x", "b", "v1", unused=timedelta(days=31))
        self.settings = root / "etc/hmret/config.yaml"
        for folder in ("bin", "home", "etc/hmret", "etc/systemd/system", "run/hmret", "var/backups"):
            (root / folder).mkdir(parents=True)
        self.settings.write_text(settings)
        (root / "log").touch()
        (root / "etc/systemd/system/hmret.service").write_text("[Service]\n")
        for name, line in _STAND_INS.items():
            (root / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
            (root / "bin" / name).chmod(0o755)
        self.environment = {
            "PATH": f"{root}/bin:/usr/bin:/bin",
            "PYTHONPATH": ":".join(sys.path),
            "HOME": str(root / "home"),
            "ROOT": str(root),
            "DATA_DIR": str(self.cache.root),
            "HMRET_CONFIG": str(self.settings),
        }
        self.service: Service | None = None
        self._services = ExitStack()

    def run(self, block: str) -> str:
        """Run a block as a shell would; returns what it prints."""
        said = ""
        lines: list[str] = []
        for line in block.splitlines(keepends=True):
            command = line.partition(" #")[0].strip()
            if command.startswith("systemctl ") or command in _ENDLESS:
                said += self._shell("".join(lines))
                lines = []
                said += self._follow(command) if command in _ENDLESS else self._systemctl(command.split()[1:])
            else:
                lines.append(line)
        return said + self._shell("".join(lines))

    def start(self) -> None:
        """Start the service."""
        self.stop()
        environment = self.environment | {"RUNTIME_DIRECTORY": str(self.root / "run/hmret")}
        self._services = ExitStack()
        self.service = self._services.enter_context(running_service(self.cache.root, environment=environment))

    def stop(self) -> None:
        """Stop the service, where it runs."""
        if self.service is not None:
            assert self.service.stop() == 0
            self.service = None
        self._services.close()

    def wait_event(self, name: str) -> None:
        """Wait for an event of the service's log."""
        assert self.service is not None
        self.service.wait_event(name)

    def _systemctl(self, words: list[str]) -> str:
        match words:
            case ["enable", "--now", "hmret"] | ["start", "hmret"] | ["restart", "hmret"]:
                self.start()
                self.wait_event(
                    "sweep_ended" if "enabled: true" in self.settings.read_text() else "engine_started"
                )
            case ["stop", "hmret"] | ["disable", "--now", "hmret"]:
                assert self.service is not None, "the service does not run"
                self.stop()
            case ["reload", "hmret"]:
                assert self.service is not None, "the service does not run"
                self.service.signal(signal.SIGHUP)
                self.wait_event("settings_reloaded")
            case ["daemon-reload"]:
                assert (self.root / "etc/systemd/system/hmret.service").read_text()
            case _:
                raise AssertionError(f"systemctl {' '.join(words)}: no page has shown this so far")
        return ""

    def _shell(self, script: str) -> str:
        if not script.strip():
            return ""
        with self._process(["/bin/sh", "-euc", _PLACES.sub(f"{self.root}/", script)]) as process:
            said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, f"{script}\n{said}"
        return said

    def _follow(self, line: str) -> str:
        """Run what has no end of its own until it prints a line."""
        number, code = _ENDLESS[line]
        with self._process(["/bin/sh", "-c", f"exec {line}"]) as process:
            assert process.stdout is not None
            said = process.stdout.readline()
            process.send_signal(number)
            said += process.stdout.read()
            assert process.wait(PATIENCE) == code, said
        return said

    def _process(self, command: list[str]) -> AbstractContextManager[Child]:
        return child(
            command,
            cwd=self.root / "home",
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
