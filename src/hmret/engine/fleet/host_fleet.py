"""What an embedder, the control API and the page have of the fleet that an engine is part of."""

from collections.abc import Mapping, Sequence

import attrs

from hmret.actors.fleet.keeper import FleetKeeper
from hmret.actors.own_loop import OwnLoop
from hmret.fleet.operating import FleetOperator
from hmret.fleet.overview import FleetStatus, HeldCopy, LocalStatus
from hmret.model.fleet import FleetLink, FleetState
from hmret.model.times import datetime_of
from hmret.model.values import frozen


@frozen(eq=False)
class HostFleet:
    """The fleet that this host is part of: `Retention.fleet`."""

    _keeper: FleetKeeper
    _loop: OwnLoop = attrs.field(factory=OwnLoop, init=False)

    @property
    def state(self) -> FleetState:
        """The state of this host in its fleet; never waits."""
        return self._keeper.state

    @property
    def detail(self) -> str | None:
        """What is wrong, with the remedy, in one line; None: nothing is."""
        return self._keeper.detail

    async def holders(self, digest: str) -> Sequence[HeldCopy]:
        """List who has an image, for a host that needs it: those whose copies count are up.

        Raises:
            FleetError: there is no such fleet, or its settings are not readable.
            StoreError: etcd does not answer.
        """
        self._loop.require()
        rules = self._keeper.options.rules
        found = await self.operator.holdings(digest, rules.min_copies)
        return found.holders

    async def status(self) -> FleetStatus:
        """Read the hosts of the fleet, its settings, the tokens that are taken, and the state of etcd.

        Raises:
            FleetError: there is no such fleet, or its settings are not readable.
            StoreError: etcd does not answer.
        """
        self._loop.require()
        return await self.operator.status()

    @property
    def operator(self) -> FleetOperator:
        """What an operator asks of the fleet, through this engine's connections."""
        keeper = self._keeper
        return FleetOperator(keeper.contact.store, keeper.options.fleet)

    def local_status(self) -> LocalStatus:
        """Return the state of this host in its fleet; never waits."""
        keeper = self._keeper
        last_ns = keeper.contact.last_ns
        return LocalStatus(
            fleet=keeper.options.fleet,
            state=keeper.state,
            detail=keeper.detail,
            host=keeper.options.host,
            holder=keeper.holder,
            last_contact=None if last_ns is None else datetime_of(last_ns),
            settings=keeper.view().settings,
        )

    @property
    def requests(self) -> Mapping[tuple[str, str], int]:
        """How many requests to etcd there were, by kind and outcome."""
        contact = self._keeper.contact
        return contact.requests

    @property
    def copies(self) -> int:
        """How many copies this host has."""
        return self._keeper.copies

    @property
    def counts(self) -> bool:
        """Whether they count."""
        return self._keeper.state is FleetState.JOINED


def host_fleet_of(link: FleetLink) -> HostFleet | None:
    """Return what an embedder has of a fleet that is on etcd."""
    return HostFleet(link) if isinstance(link, FleetKeeper) else None
