"""Fixtures for all tests."""

from collections.abc import Generator, Iterator

import pytest

from builders import DATA, FakeClock, GatedThreads, data_fd_of, make_surroundings
from hmret.engine.surroundings import Surroundings
from memory_filesystem import MemoryFilesystem


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make what a test has printed and logged fit to be sent between processes: names on a disk may be no UTF-8."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def filesystem(clock: FakeClock) -> Iterator[MemoryFilesystem]:
    """A disk in memory with an empty data directory; whatever a test opens on it must be closed again."""
    filesystem = MemoryFilesystem(clock.now_ns)
    filesystem.make_folder(f"{DATA}/images")
    yield filesystem
    assert filesystem.open_descriptors() == {}


@pytest.fixture
def data_fd(filesystem: MemoryFilesystem) -> Iterator[int]:
    fd = data_fd_of(filesystem)
    yield fd
    filesystem.close(fd)


@pytest.fixture
def threads() -> GatedThreads:
    return GatedThreads()


@pytest.fixture
def surroundings(filesystem: MemoryFilesystem, clock: FakeClock, threads: GatedThreads) -> Surroundings:
    return make_surroundings(filesystem, clock, threads)
