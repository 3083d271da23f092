"""Uses on this host, told to the fleet: marking an image used only puts it into a dictionary."""

from collections.abc import Collection
from contextlib import suppress
from datetime import timedelta

import anyio

from hmret.actors.fleet.membership import Membership
from hmret.fleet.store import StoreError
from hmret.fleet.transactions import MOST_USES, Session, tell_uses
from hmret.model.fleet import CopyRules
from hmret.model.times import SECOND

# A use is told at a tenth of the time for which it counts, so it is off by at most that much.
_PARTS = 10
_SHORTEST = timedelta(seconds=1)
_LONGEST = timedelta(hours=6)
# More digests than any cache has.
_MOST_REMEMBERED = 200_000


class UseReports:
    """The uses that are yet to be told, and when those of each digest were last told."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        rules = membership.options.rules
        self._is_on = rules.tells_uses
        counts_for = _counts_for(rules)
        self._resolution_seconds = int(counts_for.total_seconds()) // _PARTS
        self._pause_seconds = min(max(counts_for / _PARTS, _SHORTEST), _LONGEST).total_seconds()
        self._waiting: dict[str, int] = {}
        self._told: dict[str, int] = {}

    @property
    def waiting(self) -> int:
        """How many digests have uses that are yet to be told."""
        return len(self._waiting)

    def add(self, digests: Collection[str], at_ns: int) -> None:
        """Record the use of some images; never waits."""
        if not self._is_on:
            return
        seconds = at_ns // SECOND
        for digest in digests:
            if seconds - self._told.get(digest, -self._resolution_seconds - 1) > self._resolution_seconds:
                self._waiting[digest] = max(seconds, self._waiting.get(digest, 0))

    async def run(self, session: Session) -> None:
        """Tell uses, for as long as the session lasts.

        Raises:
            SessionOverError: it is over.
        """
        while self._is_on:
            # What was surely not written still waits.
            with suppress(StoreError):
                await self.tell(session)
            await anyio.sleep(self._pause_seconds)

    async def tell(self, session: Session) -> None:
        """Tell what waits.

        Raises:
            StoreError: the store refused, or did not answer; what was not told still waits.
            SessionOverError: the session is over; likewise.
        """
        while self._waiting:
            now = self._membership.now_ns() // SECOND
            # guard(no-use-in-the-future): A use that a wrong clock puts far ahead would keep the image hot until then.
            batch = {digest: min(self._waiting[digest], now) for digest in list(self._waiting)[:MOST_USES]}
            await self._membership.write(session, tell_uses(session, batch, self._resolution_seconds))
            for digest, seconds in batch.items():
                # One that came meanwhile is told later.
                if self._waiting[digest] - seconds <= self._resolution_seconds or self._waiting[digest] > now:
                    del self._waiting[digest]
            if len(self._told) > _MOST_REMEMBERED:
                self._told.clear()
            self._told.update(batch)


def _counts_for(rules: CopyRules) -> timedelta:
    """Return for how long a use counts, at least: the shorter of the times that are set."""
    times = [rules.hot_for, rules.last_copies_for or timedelta(0)]
    return min((time for time in times if time), default=timedelta(0))
