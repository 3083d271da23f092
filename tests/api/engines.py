"""An engine that has done all that it can count."""

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from hmret.engine.opening import open_engine
from hmret.engine.retention import Retention
from hmret.model.times import SECOND
from support.builders import (
    DATA,
    START,
    START_NS,
    FakeClock,
    make_config,
    make_guest,
    make_image,
    make_state,
    make_surroundings,
)
from support.memory_filesystem import MemoryFilesystem

__all__ = ["ALPINE", "KERNEL", "retention_with_everything"]

ALPINE = "docker.io/library/alpine"
KERNEL = "ghcr.io/kernel/secret-project"
_DAY_NS = 86_400 * SECOND


@asynccontextmanager
async def retention_with_everything() -> AsyncIterator[Retention]:
    """Open an engine that has deleted, failed to delete, been suspended, and been asked."""
    clock = FakeClock()
    filesystem = MemoryFilesystem(clock.now_ns)
    filesystem.make_folder(f"{DATA}/images")
    for letters, days_ago in (("a", 40), ("b", 40), ("c", 25), ("d", 29.5)):
        key = make_image(filesystem, KERNEL, letters, tags=(letters,), created_at=START - timedelta(days=60))
        make_state(filesystem, key, START_NS - round(days_ago * _DAY_NS))
    make_image(filesystem, ALPINE, "e")
    make_guest(filesystem, "one", "alpine")
    make_guest(filesystem, "two", "busybox")
    stuck = f"{DATA}/images/{KERNEL}/{'b' * 64}"
    filesystem.deny(stuck, errno.EIO, call="rename")
    async with open_engine(
        make_config(filesystem), make_surroundings(filesystem, clock), scheduled=False
    ) as retention:
        await retention.sweep()
        unreadable = make_guest(filesystem, "three", "No Reference")
        await retention.mark_used("alpine")
        await retention.sweep()
        filesystem.remove(f"{DATA}/{unreadable}")
        assert retention.statistics().last_report is not None
        yield retention
