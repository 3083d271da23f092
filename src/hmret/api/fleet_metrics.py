"""The metrics of a host in a fleet; where it is in none, there are none of these."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from hmret.model.fleet import FleetState
from hmret.model.plan.fleet.remarks import FLEET_REASONS
from hmret.model.plan.forecast import Outlook
from hmret.model.verdicts import Action, Reason

if TYPE_CHECKING:
    from hmret.engine.fleet.host_fleet import HostFleet


def fleet_metrics(fleet: "HostFleet", outlook: Outlook | None) -> Iterator[Metric]:
    """Make the metrics of a host in a fleet; `outlook`: what its last sweep left, None: it has made none.

    Never waits.
    """
    state = GaugeMetricFamily(
        "hmret_fleet_state", "Whether this host stands so to its fleet (0 or 1).", labels=("state",)
    )
    for each in FleetState:
        state.add_metric((each.value,), float(fleet.state is each))
    yield state
    last = fleet.local_status().last_contact
    if last is not None:
        yield GaugeMetricFamily(
            "hmret_fleet_last_contact_seconds",
            "How long ago etcd last answered this host.",
            value=max((datetime.now(UTC) - last).total_seconds(), 0),
        )
    requests = CounterMetricFamily(
        "hmret_fleet_requests", "Requests to etcd, by kind and outcome.", labels=("kind", "outcome")
    )
    for (kind, outcome), count in sorted(fleet.requests.items()):
        requests.add_metric((kind, outcome), count)
    yield requests
    copies = GaugeMetricFamily(
        "hmret_fleet_copies", "Images of this host, by whether they count in the fleet.", labels=("counted",)
    )
    for counted in (True, False):
        copies.add_metric((str(counted).lower(),), fleet.copies if counted is fleet.counts else 0)
    yield copies
    held = GaugeMetricFamily(
        "hmret_fleet_held_back", "Expired images that the fleet keeps on this host.", labels=("reason",)
    )
    for reason in sorted(FLEET_REASONS, key=list(Reason).index):
        holding = None if outlook is None else outlook.holdings.get((Action.NONE, reason))
        held.add_metric((reason.value,), 0 if holding is None else holding.images)
    yield held
