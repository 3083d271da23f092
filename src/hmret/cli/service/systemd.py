"""Service status and log priorities for systemd: `sd_notify` and `sd-daemon`, without their library.

Source of the protocols: sd_notify(3), sd_watchdog_enabled(3), sd-daemon(3) and systemd.exec(5) on JOURNAL_STREAM.
"""

import logging
import os
import socket
import time
from collections.abc import Mapping

from hmret.model.values import frozen

_LONGEST_STATUS = 512
_STDERR = 2
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG = 7


def priority_prefix(level: int, environment: Mapping[str, str], fd: int = _STDERR) -> str:
    """Return the prefix that gives the journal a line's priority; empty if something else reads the line.

    `level`: a level of the standard library. `fd`: where the line is written.
    """
    stream = environment.get("JOURNAL_STREAM")
    if not stream:
        return ""
    try:
        status = os.fstat(fd)
    except OSError:
        return ""
    if stream != f"{status.st_dev}:{status.st_ino}":
        return ""
    priority = next((priority for least, priority in _PRIORITIES if level >= least), _DEBUG)
    return f"<{priority}>"


@frozen
class Notifier:
    """Notifies systemd; does nothing if no one listens or the socket cannot be reached."""

    address: str = ""
    """The address of the notification socket; empty: no one listens."""
    watchdog_seconds: float | None = None
    """The longest interval between signs of life; None: no watchdog."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Notifier":
        """Make the notifier that the process environment asks for."""
        path = environment.get("NOTIFY_SOCKET", "")
        if not path.startswith(("/", "@")):
            return cls()
        # A name in the abstract namespace starts with NUL.
        address = f"\0{path[1:]}" if path.startswith("@") else path
        microseconds = environment.get("WATCHDOG_USEC", "")
        mine = environment.get("WATCHDOG_PID") or str(os.getpid())
        if not (microseconds.isascii() and microseconds.isdigit()) or mine != str(os.getpid()):
            return cls(address)
        return cls(address, int(microseconds) / 1e6 or None)

    def ready(self, status: str) -> None:
        """Report that the service has started, or has applied its new settings."""
        self._tell(f"READY=1\nSTATUS={_one_line(status)}")

    def status(self, status: str) -> None:
        """Report the status in words."""
        self._tell(f"STATUS={_one_line(status)}")

    def reloading(self) -> None:
        """Report that the settings are being reloaded; `ready` follows."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Report that the service is stopping."""
        self._tell("STOPPING=1\nSTATUS=stopping")

    def alive(self) -> None:
        """Send a watchdog keep-alive."""
        self._tell("WATCHDOG=1")

    def _tell(self, message: str) -> None:
        if not self.address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(message.encode("utf-8", "backslashreplace"), self.address)
        except OSError:
            # No one listens: the message is lost.
            return


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_STATUS]
