"""What tests of both layouts stand on."""

import pytest

from support.builders import FakeClock
from support.content_trees import Host
from support.memory_filesystem import MemoryFilesystem


@pytest.fixture(params=["content", "older layout"])
def layout(request: pytest.FixtureRequest) -> str:
    """Give the layout in which the images of a test lie."""
    return str(request.param)


@pytest.fixture
def host(filesystem: MemoryFilesystem, clock: FakeClock) -> Host:
    """Give a host without images."""
    return Host(filesystem, clock)
