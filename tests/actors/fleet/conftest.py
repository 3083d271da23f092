"""A fleet in virtual time, on both backends."""

import pytest

from support.fleet_hosts import Fleet, make_fleet
from support.virtual_time import virtual_time


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return virtual_time(request.param)


@pytest.fixture
async def fleet(anyio_backend: object) -> Fleet:
    return make_fleet()
