"""Fixtures for what works on a disk."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from builders import FakeClock
from disk.hosts import Host, open_host
from disk.loading import Load
from hmret.disk import yaml_nodes
from hmret.disk.settings import Settings, load_settings
from memory_filesystem import MemoryFilesystem


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


@pytest.fixture(params=["CSafeLoader", "SafeLoader"])
def each_yaml_loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loader in C, and the one that stands in where it is not built."""
    monkeypatch.setattr(yaml_nodes, "LOADERS", (request.param,))


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


@pytest.fixture
def load(config_file: Path) -> Load:
    def load(
        content: str | bytes | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        flags: Mapping[str, object] | None = None,
    ) -> Settings:
        if content is not None:
            config_file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_settings(
            config_file=None if content is None else str(config_file),
            environment=environment or {},
            flags=flags or {},
            default_files=(),
        )

    return load
