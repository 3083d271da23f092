"""Opening the fleet of the settings, on etcd: as a member, or to read."""

import logging
import math
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from hmret.actors.fleet.keeper import FleetKeeper
from hmret.actors.fleet.membership import MemberOptions
from hmret.disk.records.fleet import FleetRecord
from hmret.engine.events import EventHub
from hmret.engine.fleet.reader import FleetReader
from hmret.engine.log import log_event
from hmret.engine.platform import Platform, running_version
from hmret.engine.tasks import running
from hmret.fleet.gateway import Gateway
from hmret.model.fleet import FleetState
from hmret.model.policy.config import RetentionConfig
from hmret.model.times import format_time

_QUIET = frozenset((FleetState.JOINED, FleetState.JOINING, FleetState.STOPPED))


@asynccontextmanager
async def open_keeper(
    config: RetentionConfig, platform: Platform, data_fd: int, events: EventHub
) -> AsyncIterator[FleetKeeper]:
    """Be a member of the fleet of the settings for the duration of a block; satisfies `OpenFleet`."""

    def tell_state(state: FleetState, detail: str | None) -> None:
        tell_of_state(state, detail, config.fleet.name, events, platform.clock.now_ns())

    keeper = FleetKeeper(
        platform.filesystem,
        data_fd,
        platform.threads,
        Gateway.of(config.fleet),
        member_options(config),
        platform.clock.now_ns,
        tell_state,
        _tell_failure,
        _tell_forgotten,
    )
    async with running((keeper,)):
        yield keeper


@asynccontextmanager
async def open_reader(
    config: RetentionConfig, platform: Platform, data_fd: int
) -> AsyncIterator[FleetReader]:
    """Read what the fleet of the settings says for the duration of a block; satisfies `OpenReader`."""
    options = member_options(config)
    record = await platform.threads.run(FleetRecord, platform.filesystem, data_fd)
    async with aclosing(Gateway.of(config.fleet)) as store:
        yield FleetReader(store, options.fleet, options.host, record.cache_id, options.rules)


def member_options(config: RetentionConfig) -> MemberOptions:
    """Return what the settings say of a host in its fleet."""
    fleet = config.fleet
    return MemberOptions(
        fleet=fleet.name,
        host=fleet.host_on(os.uname().nodename),
        rules=fleet.rules,
        session_seconds=math.ceil(fleet.session_ttl.total_seconds()),
        timeout_seconds=fleet.timeout.total_seconds(),
        version=running_version(),
    )


def tell_of_state(state: FleetState, detail: str | None, fleet: str, events: EventHub, now_ns: int) -> None:
    """Log the state of this host in its fleet, and tell those who listen to events."""
    if state is FleetState.JOINED:
        log_event(logging.INFO, "fleet_joined", fleet=fleet)
        events.publish([{"time": format_time(now_ns), "event": "fleet_joined", "reason": fleet}])
    elif state not in _QUIET:
        log_event(logging.WARNING, "fleet_unreachable", fleet=fleet, reason=str(state), detail=detail)
        facts = {"reason": str(state)} | ({} if detail is None else {"error": detail})
        events.publish([{"time": format_time(now_ns), "event": "fleet_unreachable", **facts}])


def _tell_failure(error: Exception) -> None:
    log_event(logging.ERROR, "fleet_failed", error=repr(error))


def _tell_forgotten(holder: str) -> None:
    log_event(logging.WARNING, "fleet_forgot", holder=holder)
