"""The platform of an engine: a disk, clocks and threads."""

import time
from collections.abc import Callable

import attrs

from hmret.actors.threads import Threads, WorkerThreads
from hmret.disk.filesystem import POSIX, Filesystem
from hmret.disk.kernel.clock import HOST_CLOCK, Clock
from hmret.model.values import frozen


def running_version() -> str:
    """Return the version of hmret that runs; `unknown` in a source tree that is not installed."""
    from importlib import metadata  # noqa: PLC0415 - rarely needed, and slow to load

    try:
        return metadata.version("hmret")
    except metadata.PackageNotFoundError:
        return "unknown"


@frozen
class Platform:
    """The host's own by default; tests and the demo substitute others."""

    filesystem: Filesystem = POSIX
    clock: Clock = HOST_CLOCK
    threads: Threads = attrs.field(factory=WorkerThreads)
    monotonic_ns: Callable[[], int] = time.monotonic_ns
    """Used to measure how long work takes; called from any thread."""
