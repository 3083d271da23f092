"""What is logged, and told to those who listen, of the way in which a host stands to its fleet."""

import logging

import pytest

from hmret.engine.events import EventHub
from hmret.engine.fleet.opening import tell_of_state
from hmret.model.fleet import FleetState
from support.builders import START_NS


def events_of(hub: EventHub) -> list[dict[str, object]]:
    return [dict(event.facts) for event in hub.recent()]


@pytest.mark.parametrize(
    ("state", "detail", "event"),
    [
        (FleetState.JOINED, None, {"event": "fleet_joined", "reason": "production"}),
        (
            FleetState.UNREACHABLE,
            "no answer",
            {"event": "fleet_unreachable", "reason": "unreachable", "error": "no answer"},
        ),
        (FleetState.DUPLICATE_HOST, None, {"event": "fleet_unreachable", "reason": "duplicate_host"}),
    ],
)
async def test_a_state_that_matters_is_an_event(
    state: FleetState,
    detail: str | None,
    event: dict[str, object],
    caplog: pytest.LogCaptureFixture,
    anyio_backend: str,
) -> None:
    hub = EventHub()
    with caplog.at_level(logging.INFO, "hmret"):
        tell_of_state(state, detail, "production", hub, START_NS)
    assert [{**found, "time": None} for found in events_of(hub)] == [{"time": None, **event}]
    assert [record.levelname for record in caplog.records] == [
        "INFO" if state is FleetState.JOINED else "WARNING"
    ]


@pytest.mark.parametrize("state", [FleetState.JOINING, FleetState.STOPPED])
async def test_a_state_on_the_way_is_none(
    state: FleetState, caplog: pytest.LogCaptureFixture, anyio_backend: str
) -> None:
    hub = EventHub()
    with caplog.at_level(logging.INFO, "hmret"):
        tell_of_state(state, None, "production", hub, START_NS)
    assert events_of(hub) == []
    assert caplog.records == []
