"""What a host does for its fleet periodically: tell its summary, read the settings, check its copies, forget dead hosts."""

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime

import anyio

from hmret.actors.fleet.holdings import Holdings
from hmret.actors.fleet.membership import Membership
from hmret.fleet.forgetting import forget_holder
from hmret.fleet.keys import all_below
from hmret.fleet.store import KeyValue, RangeResult, StoreError
from hmret.fleet.stored_values import encode_summary, read_summary
from hmret.fleet.transactions import Session, is_dead, tell_summary
from hmret.model.fleet import FleetSummary

_SUMMARY_SECONDS = 300.0
_SHORTEST_REFRESH_SECONDS = 60.0
_HOUR_SECONDS = 3600.0
_DAY_SECONDS = 86_400.0


class Summaries:
    """What the others are told of this host; written when it has changed, at most every `_SUMMARY_SECONDS`."""

    def __init__(self, membership: Membership, holdings: Holdings) -> None:
        self._membership = membership
        self._holdings = holdings
        self._version = membership.options.version
        self._summary: FleetSummary | None = None
        self._changed = anyio.Event()

    def set(self, summary: FleetSummary) -> None:
        """Record what is to be told."""
        if summary != self._summary:
            self._summary = summary
            self._changed.set()

    def encode(self) -> str:
        """Return what is told now, as JSON, as written when a session begins."""
        summary = self._summary or FleetSummary(
            copies=len(self._holdings.here),
            disk_bytes=self._holdings.disk_bytes,
            due=0,
            due_24h=0,
            policy="",
            last_sweep=None,
        )
        return encode_summary(summary, self._version)

    async def run(self, session: Session) -> None:
        """Tell what has changed, for as long as the session lasts.

        Raises:
            SessionOverError: it is over.
        """
        while True:
            await self._changed.wait()
            self._changed = anyio.Event()
            try:
                await self._membership.write(session, tell_summary(session, self.encode()))
            except StoreError:
                # What was surely not written is written later.
                self._changed.set()
            await anyio.sleep(_SUMMARY_SECONDS)


class Housekeeping:
    """What is done once a minute, an hour and a day."""

    def __init__(
        self,
        membership: Membership,
        holdings: Holdings,
        on_forgotten: Callable[[str], None],
        *,
        rng: random.Random,
    ) -> None:
        self._membership = membership
        self._contact = membership.contact
        self._async_record = membership.async_record
        self._refresh_seconds = max(_SHORTEST_REFRESH_SECONDS, membership.options.session_seconds)
        self._holdings = holdings
        self._on_forgotten = on_forgotten
        self._rng = rng
        self._next_hour: float | None = None
        self._next_day: float | None = None

    async def refresh(self, session: Session) -> None:
        """Read the settings now and then, and notice that there is another generation.

        Raises:
            SessionOverError: the session is over.
        """
        while True:
            await anyio.sleep(self._refresh_seconds)
            await self._trying(self._membership.look(session))

    async def hourly(self, session: Session) -> None:
        """Put on record what was seen of the store, and forget hosts that have been away for long.

        Raises:
            SessionOverError: the session is over.
            OSError: the record cannot be written.
        """
        while True:
            self._next_hour = await self._wait(self._next_hour, _HOUR_SECONDS)
            # Or a restore from a backup, while this host is off, might go unnoticed.
            await self._async_record.flush()
            await self._trying(self.forget(session))

    async def daily(self, session: Session) -> None:
        """Register again what is on record and is not registered.

        Raises:
            SessionOverError: the session is over.
            OSError: the record cannot be written.
        """
        while True:
            self._next_day = await self._wait(self._next_day, _DAY_SECONDS)
            await self._trying(self._holdings.check(session))

    async def forget(self, session: Session) -> None:
        """Forget the holders that have not been live for as long as the settings say."""
        settings = self._membership.settings
        if settings is None or not settings.forget_after:
            return
        summaries, lives = await self._contact.read(
            (all_below(session.keys.summaries), all_below(session.keys.lives, keys_only=True))
        )
        assert isinstance(summaries, RangeResult)
        assert isinstance(lives, RangeResult)
        live = {session.keys.holder_of(found.key) for found in lives.key_values}
        limit = self._membership.now() - settings.forget_after
        for found in summaries.key_values:
            holder = session.keys.holder_of(found.key)
            if holder is None or holder in live or not _is_older(found, limit):
                continue
            conditions = is_dead(session, holder, found.mod_revision)
            if await forget_holder(self._contact.store, session.keys, holder, conditions) is not None:
                self._on_forgotten(holder)

    async def _wait(self, due: float | None, period: float) -> float:
        """Wait until something is due, whatever sessions there were; returns when it is due next."""
        now = anyio.current_time()
        if due is None:
            # All hosts of a fleet may have been started together.
            due = now + self._rng.uniform(0, period)
        await anyio.sleep(max(due - now, 0))
        return max(due, now) + period

    @staticmethod
    async def _trying(attempt: Awaitable[object]) -> None:
        """Run something that is repeated later, so that it does not matter if the store does not answer."""
        with suppress(StoreError):
            await attempt


def _is_older(summary: KeyValue, limit: datetime) -> bool:
    last_sweep = read_summary("", summary.value, live=False, drained=None).last_sweep
    return last_sweep is not None and last_sweep < limit
