"""Telling systemd how the service is, and how bad each log line is: `sd_notify` and `sd-daemon`, without their library.

Source of the protocols: sd_notify(3), sd_watchdog_enabled(3), sd-daemon(3) and systemd.exec(5) on JOURNAL_STREAM.
"""

import logging
import os
import socket
import time
from collections.abc import Mapping

from hmret.model.values import frozen

__all__ = ["Notifier", "priority_prefix"]

_LONGEST_STATUS = 512
_STDERR = 2
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG = 7


def priority_prefix(level: int, environment: Mapping[str, str], fd: int = _STDERR) -> str:
    """Return what tells the journal how bad a line is; empty where something else reads it.

    `level`: one of the standard library's. `fd`: what the line is written to.
    """
    stream = environment.get("JOURNAL_STREAM")
    if not stream:
        return ""
    try:
        found = os.fstat(fd)
    except OSError:
        return ""
    if stream != f"{found.st_dev}:{found.st_ino}":
        return ""
    priority = next((priority for least, priority in _PRIORITIES if level >= least), _DEBUG)
    return f"<{priority}>"


@frozen
class Notifier:
    """Tells systemd; where nobody listens, or cannot be reached, telling does nothing."""

    address: str = ""
    """Of the socket; empty: nobody listens."""
    watchdog_seconds: float | None = None
    """How often at least it wants a sign of life; None: it does not."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Notifier":
        """Make the one that the environment of the process asks for."""
        path = environment.get("NOTIFY_SOCKET", "")
        if not path.startswith(("/", "@")):
            return cls()
        # A name in the abstract namespace begins with NUL.
        address = f"\0{path[1:]}" if path.startswith("@") else path
        microseconds = environment.get("WATCHDOG_USEC", "")
        mine = environment.get("WATCHDOG_PID") or str(os.getpid())
        if not (microseconds.isascii() and microseconds.isdigit()) or mine != str(os.getpid()):
            return cls(address)
        return cls(address, int(microseconds) / 1e6 or None)

    def ready(self, status: str) -> None:
        """Tell that the service has started, or has taken its new settings."""
        self._tell(f"READY=1\nSTATUS={_one_line(status)}")

    def status(self, status: str) -> None:
        """Tell in words what it does."""
        self._tell(f"STATUS={_one_line(status)}")

    def reloading(self) -> None:
        """Tell that it reads its settings anew; `ready` follows."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Tell that it stops."""
        self._tell("STOPPING=1\nSTATUS=stopping")

    def alive(self) -> None:
        """Give a sign of life."""
        self._tell("WATCHDOG=1")

    def _tell(self, message: str) -> None:
        if not self.address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(message.encode("utf-8", "backslashreplace"), self.address)
        except OSError:
            # Whoever does not listen misses it.
            return


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_STATUS]
