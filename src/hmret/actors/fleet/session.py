"""The sessions of this host, one after another, for as long as the keeper runs."""

import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import anyio

from hmret.actors.fleet.holdings import Holdings
from hmret.actors.fleet.joining import CannotJoinError, Joining
from hmret.actors.fleet.membership import Membership, SessionOverError
from hmret.fleet.store import StoreError
from hmret.fleet.transactions import Session, go_live
from hmret.model.fleet import FleetState

# Hosts that lost their sessions together must not come back together, again and again.
_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 30.0

_KEEP_ALIVES_IN_A_LEASE = 3
_SHORTEST_PAUSE_SECONDS = 0.5

SessionTask = Callable[[Session], Awaitable[None]]
"""Something that is done in a session, for its whole length or once."""


class Sessions:
    """Joins, keeps the session alive, has its copies count, and joins again when it is over.

    Args:
        membership: what is known of the session.
        holdings: the copies of this host.
        summary: returns what the others are told of this host, as JSON.
        farewell: called before a session that is still valid ends, within a time limit.
        tasks: what else is done while copies count; each runs until the session is over.
        on_failure: called with an error that nobody expected; the session ends, and another one begins.
    """

    def __init__(  # noqa: PLR0917 - its parts
        self,
        membership: Membership,
        holdings: Holdings,
        summary: Callable[[], str],
        farewell: SessionTask,
        tasks: Sequence[SessionTask],
        on_failure: Callable[[Exception], None],
        *,
        rng: random.Random,
    ) -> None:
        self._membership = membership
        self._holdings = holdings
        self._summary = summary
        self._farewell = farewell
        self._tasks = tasks
        self._on_failure = on_failure
        self._joining = Joining(membership)
        self._rng = rng
        self._contact = membership.contact
        self._async_record = membership.async_record
        self._options = membership.options

    async def run(self) -> None:
        """Run one session after another, until cancelled."""
        longest = _FIRST_WAIT_SECONDS
        while True:
            was_live = False
            try:
                was_live = await self._have_session()
            except CannotJoinError as error:
                self._membership.enter(error.state, error.detail)
            except StoreError as error:
                self._membership.enter(FleetState.UNREACHABLE, str(error))
            except OSError as error:
                self._membership.enter(FleetState.UNREACHABLE, _record_error(error))
            except Exception as error:  # noqa: BLE001 - the engine goes on, and keeps its images
                self._on_failure(error)
                self._membership.enter(FleetState.UNREACHABLE, f"hmret failed: {error}")
            longest = _FIRST_WAIT_SECONDS if was_live else min(2 * longest, _LONGEST_WAIT_SECONDS)
            await anyio.sleep(self._rng.uniform(0, longest))

    async def _have_session(self) -> bool:
        """Run one session from beginning to end; returns whether its copies ever counted."""
        session = await self._joining.join()
        was_live = False

        async def serve() -> None:
            nonlocal was_live
            await self._come_live(session)
            was_live = True
            async with anyio.create_task_group() as live_tasks:
                live_tasks.start_soon(self._guarded, session, self._reconcile)
                for task in self._tasks:
                    live_tasks.start_soon(self._guarded, session, task)

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._keep_alive, session)
                tasks.start_soon(self._guarded, session, lambda _: serve())
                await self._membership.wait_ended(session)
                tasks.cancel_scope.cancel()
        finally:
            await self._say_farewell(session)
            self._membership.end(session, "the engine is stopping", FleetState.STOPPED)
            # guard(stop-ends-session): Once stopped, a host cannot withdraw copies that are deleted here, so what it has
            # registered must not count.
            await self._contact.drop(session.lease)
        return was_live

    async def _say_farewell(self, session: Session) -> None:
        """Make the last writes of a session, and put on record what was seen of the store."""
        if self._membership.joined is not session:
            return
        with anyio.move_on_after(self._options.timeout_seconds, shield=True):
            await self._guarded(session, self._farewell)
            with suppress(OSError):
                await self._async_record.flush()

    async def _guarded(self, session: Session, task: SessionTask) -> None:
        """Run a task of a session; if it fails, that ends the session at most."""
        try:
            await task(session)
        except SessionOverError:
            return
        except StoreError as error:
            self._membership.end(session, str(error))
        except OSError as error:
            self._membership.end(session, _record_error(error))
        except Exception as error:  # noqa: BLE001 - the engine goes on, and keeps its images
            self._on_failure(error)
            self._membership.end(session, f"hmret failed: {error}")

    async def _keep_alive(self, session: Session) -> None:
        """Keep a session alive; ends it when its lease is over.

        A request that fails is tried again: an election takes a second, and must not end the sessions of all hosts.
        """
        membership = self._membership
        longest = self._options.session_seconds
        pause = longest / _KEEP_ALIVES_IN_A_LEASE
        answered = anyio.current_time()
        while membership.session is session:
            asked = anyio.current_time()
            try:
                left = await self._contact.keep_alive(session.lease)
            except StoreError as error:
                # guard(no-contact-is-unreachable): Without an answer for as long as the lease lasts, the session is
                # most likely over, and its copies count for nobody.
                if anyio.current_time() - answered > longest and membership.session is session:
                    membership.enter(FleetState.UNREACHABLE, str(error))
                await anyio.sleep(min(pause, _SHORTEST_PAUSE_SECONDS + self._rng.random()))
                continue
            if not left:
                # guard(lease-over-ends-session): What this host has registered counts for nobody any more.
                membership.end(session, "the session's lease is over: joining again", FleetState.JOINING)
                return
            answered = asked
            if membership.is_live and membership.session is session:
                membership.enter(FleetState.JOINED)
            await anyio.sleep(pause)

    async def _come_live(self, session: Session) -> None:
        """Correct what is registered, then make it count."""
        if not self._holdings.is_known:
            self._membership.enter(FleetState.JOINING, "waits for a sweep, which says what is here")
            await self._holdings.wait_changed()
        # guard(live-after-reconciling): What an earlier session has registered and is gone must not count.
        await self._holdings.reconcile(session)
        await self._membership.write(session, go_live(session, self._summary()))
        self._membership.come_live(session)

    async def _reconcile(self, session: Session) -> None:
        while True:
            await self._holdings.wait_changed()
            with suppress(StoreError):
                await self._holdings.reconcile(session)
                continue
            # What was surely not written is written later.
            self._holdings.request_reconcile()
            await anyio.sleep(self._rng.uniform(0, _LONGEST_WAIT_SECONDS))


def _record_error(error: OSError) -> str:
    return f"the record of this host cannot be written: {error.strerror or error}"
