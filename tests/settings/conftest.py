"""Fixtures for what is made of settings."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from hmret.disk.data_dir_warnings import doubt_data_dir, image_disk_bytes
from hmret.settings import yaml_nodes
from hmret.settings.load import Settings, load_settings
from settings.loading import Load


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
            ask_disk=doubt_data_dir,
            disk_size=image_disk_bytes,
        )

    return load
