"""The description of the control API: it agrees with the repository's copy, and with the engine."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.routing import Route

from api.serving import asking, served
from hmret.api.openapi import openapi_document
from hmret.engine.platform import Platform
from support.bounds import bound
from support.builders import make_config
from support.memory_filesystem import MemoryFilesystem

COPY = Path(__file__).parents[3] / "docs" / "openapi.json"
DOCUMENT = openapi_document("0.2.0")

# A stream of events has no end to wait for.
schema = schemathesis.openapi.from_dict(
    json.loads(json.dumps(DOCUMENT)), config=SchemathesisConfig.from_dict({})
).exclude(path="/v1/events")


async def test_what_is_served_is_what_the_repository_has(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    async with asking(platform, make_config(filesystem)) as api:
        assert json.loads(COPY.read_text()) == await api.get("/openapi.json")


async def test_every_call_is_described_and_no_other(platform: Platform, filesystem: MemoryFilesystem) -> None:
    described = {(path, method.upper()) for path, calls in _paths().items() for method in calls}
    async with asking(platform, make_config(filesystem)) as api:
        there = {
            (route.path.replace(":path", ""), method)
            for route in api.app.routes
            if isinstance(route, Route)
            for method in route.methods or ()
            if method != "HEAD"
        }
    assert described == there


def _paths() -> dict[str, Any]:
    paths = DOCUMENT["paths"]
    assert isinstance(paths, dict)
    return paths


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("served"), request.param) as address:
        yield address


@schema.parametrize()
@settings(max_examples=bound(6, 15), deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_described(case: schemathesis.Case[Any], address: str) -> None:
    # A reference, a cursor and a time have grammars that no schema tells: what is none is refused with 422.
    case.call_and_validate(base_url=address, excluded_checks=[positive_data_acceptance])
