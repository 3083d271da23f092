"""The hosts of which was recorded what the outside sees, by a clock that stands still."""

from pathlib import Path

import pytest

from outside.inner_parts import FakeClock, set_clock
from outside.recorded_hosts import LAYOUTS, RecordedHost, make_host


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def host(layout: str, tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> RecordedHost:
    host = make_host(layout, tmp_path)
    clock.wall_ns = round(host.now.timestamp()) * 10**9
    set_clock(monkeypatch, clock)
    for variable in ("RUNTIME_DIRECTORY", "JOURNAL_STREAM", "NOTIFY_SOCKET"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HMRET_CONFIG", str(host.config))
    monkeypatch.setenv("DATA_DIR", str(host.root))
    return host
