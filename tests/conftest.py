"""Fixtures for all tests."""

import os
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from hmret.engine.platform import Platform
from support.bounds import IS_WHOLE
from support.builders import DATA, FakeClock, GatedThreads, data_fd_of, make_surroundings
from support.children import KEEPER, children_here, end_group, hear_interrupts
from support.etcd import etcd, etcd_cluster, fleet_name
from support.memory_filesystem import MemoryFilesystem

__all__ = ["etcd", "etcd_cluster", "fleet_name"]

# What is slow here is only the machine. An example is the same one wherever it is played.
settings.register_profile(
    "hmret",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=1000 if IS_WHOLE else 50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("hmret")

# The settings of the host that tests run on are none of theirs, nor is what its terminal is like.
_OF_THE_HOST = ("CONFIG_PATH", "DATA_DIR", "IMAGES__", "HMRET__", "REGISTRY__", "BUILD__")
_OF_ITS_TERMINAL = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
for variable in tuple(os.environ):
    if variable.startswith(_OF_THE_HOST + _OF_ITS_TERMINAL):
        del os.environ[variable]
os.environ["HMRET_CONFIG"] = os.devnull

# A process that a test starts finds compiled what the one before it has compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_sessionstart() -> None:
    hear_interrupts()
    KEEPER.start()


def pytest_unconfigure() -> None:
    KEEPER.stop()


@pytest.fixture(scope="module", autouse=True)
def _no_process_is_left() -> Iterator[None]:
    """End what a module has started, and fail if it left that to us."""
    before = children_here()
    yield
    # What Python's own multiprocessing has started to clean up behind its processes ends with this one.
    left = {
        number: command
        for number, command in children_here().items()
        if number not in before and "multiprocessing.resource_tracker" not in command
    }
    for number in left:
        end_group(os.getpgid(number)) if os.getpgid(number) != os.getpgrp() else os.kill(number, 9)
    assert left == {}


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
def platform(filesystem: MemoryFilesystem, clock: FakeClock, threads: GatedThreads) -> Platform:
    return make_surroundings(filesystem, clock, threads)
