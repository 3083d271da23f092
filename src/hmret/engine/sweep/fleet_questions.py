"""What the fleet is asked while a plan is made: about what would go, until nothing unasked goes."""

from collections.abc import Collection
from itertools import islice

import anyio
import attrs

from hmret.model.fleet import FleetLink, FleetState, FleetView
from hmret.model.plan.plan import Plan
from hmret.model.values import define
from hmret.model.verdicts import Reason

FURTHER = 32
"""How many of the images that could be deleted in place of others are looked at in the first round."""


@define(eq=False)
class FleetQuestions:
    """The questions for one plan; each is asked once, so that a fleet that does not answer ends them."""

    link: FleetLink
    asks_all: bool = attrs.field(kw_only=True)
    """Whether to ask again about everything held back, however recently it was asked about."""
    seconds: float = attrs.field(kw_only=True)
    """How long the answers may take altogether; what has not been answered by then stays."""
    _deadline: float = attrs.field(init=False)
    _asked: set[str] = attrs.field(factory=set, init=False)
    _further: int = attrs.field(default=0, init=False)
    _has_begun: bool = attrs.field(default=False, init=False)

    @_deadline.default
    def _from_now(self) -> float:
        return anyio.current_time() + self.seconds

    def view(self) -> FleetView:
        """Return what is known now."""
        return self.link.view()

    async def ask(self, made: Plan) -> bool:
        """Ask what a plan depends on; returns whether more is known than it was made with."""
        is_first, self._has_begun = not self._has_begun, True
        if is_first and self.link.state is FleetState.JOINING and (made.expired or made.pressure is not None):
            # A question waits until this host has joined, or for a while.
            await self._ask(())
            self._has_begun = self.link.state is FleetState.JOINING
            return True
        if is_first and self.asks_all and made.reasons[Reason.FLEET_PAUSED]:
            # Somebody may have resumed since the settings were last read.
            await self._ask(())
            self._has_begun = _is_paused(self.link.view())
            return True
        wanted = made.to_ask if is_first else made.unasked
        new = [digest for digest in wanted if digest not in self._asked]
        if not new or anyio.current_time() >= self._deadline:
            return False
        if not is_first:
            # Each round asks about twice as many of those that may come next, in case the fleet keeps many.
            self._further = max(2 * self._further, FURTHER)
            known = self.link.view().facts
            further = (choice.digest for choice in islice(made.in_stead, self._further))
            new += [one for one in further if one not in known and one not in self._asked]
        self._asked.update(new)
        await self._ask(dict.fromkeys(new))
        return made.fleet is None or self.link.view() != made.fleet.view

    async def _ask(self, digests: Collection[str]) -> None:
        with anyio.move_on_at(self._deadline):
            await self.link.ask(tuple(digests), asks_all=self.asks_all)


def _is_paused(view: FleetView) -> bool:
    return view.settings is not None and view.settings.paused is not None
