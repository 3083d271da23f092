"""Fixtures for what works on a disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from disk.hosts import Host, open_host
from support.builders import FakeClock
from support.memory_filesystem import MemoryFilesystem


@pytest.fixture(params=["memory", "real"])
def host(request: pytest.FixtureRequest, clock: FakeClock, tmp_path: Path) -> Iterator[Host]:
    """A data directory in memory, and one on a real disk."""
    with open_host(MemoryFilesystem(clock.now_ns) if request.param == "memory" else tmp_path) as host:
        yield host


@pytest.fixture
def memory(clock: FakeClock) -> Iterator[Host]:
    """A data directory in memory only."""
    with open_host(MemoryFilesystem(clock.now_ns)) as host:
        yield host


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Host]:
    """A data directory on a real disk only."""
    with open_host(tmp_path) as host:
        yield host
