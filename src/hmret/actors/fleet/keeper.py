"""The fleet keeper: the actor through which an engine is a member of a fleet."""

import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TypeVar

import anyio

from hmret.actors.fleet.async_record import AsyncFleetRecord
from hmret.actors.fleet.contact import Contact
from hmret.actors.fleet.copy_lookup import CopyLookup, Facts
from hmret.actors.fleet.holdings import Holdings
from hmret.actors.fleet.housekeeping import Housekeeping, Summaries
from hmret.actors.fleet.membership import MemberOptions, Membership, SessionOverError
from hmret.actors.fleet.releasing import Releasing, outcome_unless_joined
from hmret.actors.fleet.session import Sessions
from hmret.actors.fleet.tokens import Tokens
from hmret.actors.fleet.use_reports import UseReports
from hmret.actors.mailbox import CallActor, answer_call
from hmret.actors.threads import Threads
from hmret.disk.filesystem import Filesystem
from hmret.fleet.reading import UNREADABLE
from hmret.fleet.store import Store, StoreError
from hmret.model.fleet import FleetState, FleetSummary, FleetView, ReleaseOutcome, WholeCopy
from hmret.model.times import nanoseconds_of

T = TypeVar("T")


class FleetKeeper(CallActor):
    """Joins a fleet, registers and releases copies, and tells uses; satisfies `hmret.model.fleet.FleetLink`.

    These bypass the mailbox, as they do not ask the store:
        `state`, `view`, `detail` and the other properties read what is known; `tell_use` puts uses into a
        dictionary, which is told later; `use_policy`, `saw` and `tell_summary` set what is written to the
        store next.

    Args:
        filesystem, data_fd, threads: where the record is.
        store: the store; it is closed when the actor ends.
        options: what this host joins as.
        now_ns: the wall clock.
        on_state: called when the state of this host in its fleet changes.
        on_failure: called with an error that nobody expected.
        on_forgotten: called with a holder that was away for so long that it was forgotten.
        seed: seed for the random waits; None: a different one each time.
    """

    def __init__(  # noqa: PLR0917 - what an actor works on, as others have it
        self,
        filesystem: Filesystem,
        data_fd: int,
        threads: Threads,
        store: Store,
        options: MemberOptions,
        now_ns: Callable[[], int],
        on_state: Callable[[FleetState, str | None], None],
        on_failure: Callable[[Exception], None],
        on_forgotten: Callable[[str], None] = lambda _: None,
        *,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        rng = random.Random(seed)  # noqa: S311 - for waits and for an order, not for secrets
        async_record = AsyncFleetRecord(filesystem, data_fd, threads)
        self.options = options
        """What this host joins as."""
        self._store = store
        self._on_failure = on_failure
        self.contact = Contact(store, now_ns, async_record.see)
        self._membership = Membership(options, self.contact, async_record, now_ns, on_state)
        self._holdings = Holdings(self._membership, threads)
        self._tokens = Tokens(self._membership, rng=rng)
        self._facts = Facts(self._membership)
        self._asking = CopyLookup(self._membership, self._facts, self._tokens)
        self._releasing = Releasing(self._membership, self._holdings, self._tokens, self._facts)
        self._use_reports = UseReports(self._membership)
        self._summaries = Summaries(self._membership, self._holdings)
        self._housekeeping = Housekeeping(self._membership, self._holdings, on_forgotten, rng=rng)
        self._sessions = Sessions(
            self._membership,
            self._holdings,
            self._summaries.encode,
            self._use_reports.tell,
            (
                self._use_reports.run,
                self._summaries.run,
                self._housekeeping.refresh,
                self._housekeeping.hourly,
                self._housekeeping.daily,
            ),
            on_failure,
            rng=rng,
        )

    async def run(self) -> None:
        """Be a member until closed; then end the session, so that the copies here no longer count."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._sessions.run)
                await self._mailbox.serve(answer_call, wait=False)
                tasks.cancel_scope.cancel()
        finally:
            self._mailbox.abandon()
            self._membership.enter(FleetState.STOPPED)
            with anyio.move_on_after(self.options.timeout_seconds, shield=True):
                await self._store.aclose()

    @property
    def state(self) -> FleetState:
        """The state of this host in its fleet."""
        return self._membership.state

    @property
    def detail(self) -> str | None:
        """What is wrong and what remedies it; None: nothing is."""
        membership = self._membership
        if membership.state is FleetState.JOINED and membership.settings is None:
            return UNREADABLE.detail
        return membership.detail

    @property
    def holder(self) -> str | None:
        """What this host is called in the fleet; None: it has not joined yet."""
        return self._membership.holder

    @property
    def copies(self) -> int:
        """How many copies are here."""
        return len(self._holdings.here)

    def view(self) -> FleetView:
        """Return what is known now; never waits."""
        membership = self._membership
        return FleetView(
            state=membership.state,
            rules=membership.options.rules,
            detail=self.detail,
            settings=membership.settings,
            facts=self._facts.all,
            token_free=self._tokens.is_free,
        )

    async def ask(self, digests: Collection[str], *, asks_all: bool = False) -> None:
        """Read about the copies of some images, as `FleetLink.ask` says."""
        await self._ask(self._guarded, partial(self._asking.ask, tuple(digests), asks_all=asks_all))

    async def take_token(self, count: int) -> bool:  # noqa: ARG002 - a token that is used up is followed by another
        """Make sure that this host may release copies; False: no token is free."""
        return await self._ask(self._guarded, self._take_token) or False

    async def release(
        self, digests: Sequence[str], *, for_space: Collection[str] = ()
    ) -> Mapping[str, ReleaseOutcome]:
        """Take copies of this host out of the count, as `FleetLink.release` says.

        Raises:
            EngineClosedError: the actor has ended; what had been asked for may have been released.
        """
        digests = tuple(digests)
        release = partial(self._releasing.release, digests, frozenset(for_space))
        outcomes = await self._ask(self._guarded, release)
        return outcomes or dict.fromkeys(digests, outcome_unless_joined(self._membership))

    async def give_back(self, digests: Collection[str]) -> None:
        """Register copies again that were released and stay after all."""
        await self._ask(self._guarded, partial(self._give_back, tuple(digests)))

    async def saw(self, copies: Collection[WholeCopy]) -> None:
        """Record what a survey found: all copies here."""
        await self._holdings.saw(copies)
        self._facts.forget_all_but(self._holdings.here)

    def tell_use(self, digests: Collection[str], at: datetime) -> None:
        """Record the use of some images, to be told later; never waits."""
        self._use_reports.add(digests, nanoseconds_of(at))

    def use_policy(self, fingerprint: str) -> None:
        """Set the policy under which copies are released from now on."""
        self._tokens.policy = fingerprint

    async def tell_summary(self, summary: FleetSummary) -> None:
        """Set what the other hosts are told of this one."""
        self._summaries.set(summary)

    async def _guarded(self, make: Callable[[], Awaitable[T]]) -> T | None:
        """Answer a call; an error that nobody expected keeps images, and ends the session at most."""
        try:
            return await make()
        except Exception as error:  # noqa: BLE001 - the engine goes on, and keeps its images
            self._on_failure(error)
            session = self._membership.session
            if session is not None:
                self._membership.end(session, f"hmret failed: {error}")
            return None

    async def _take_token(self) -> bool:
        session = self._membership.joined
        try:
            return session is not None and await self._tokens.take(session) is not None
        except (StoreError, SessionOverError):
            return False

    async def _give_back(self, digests: Collection[str]) -> None:
        async with self._holdings.lock:
            self._holdings.give_back(digests)
