"""A fleet that keeps its word, in memory: what others have is said, and what it is told is noted."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import anyio
import attrs

from hmret.model.fleet import (
    CopyFacts,
    CopyRules,
    FleetSettings,
    FleetState,
    FleetSummary,
    FleetView,
    Paused,
    ReleaseOutcome,
    WholeCopy,
)
from hmret.model.verdicts import Reason
from support.builders import START

__all__ = ["FakeFleet"]


@attrs.define(eq=False)
class FakeFleet:
    """Satisfies `FleetLink`; tests say what it knows, and see what it was told."""

    others: dict[str, int] = attrs.field(factory=dict)
    """Counted copies elsewhere, by digest; of what is not in it there are `usual`."""
    usual: int = 1
    state: FleetState = FleetState.JOINED
    rules: CopyRules = attrs.field(factory=lambda: CopyRules(last_copies_for=None))
    settings: FleetSettings = attrs.field(factory=FleetSettings)
    last_used: dict[str, datetime] = attrs.field(factory=dict)
    tokens: int = 1
    """How many tokens are left to take."""
    hangs: bool = False
    """Whether questions are never answered, nor refused."""
    answers: bool = True
    """Whether questions are answered."""
    registered: dict[str, int] = attrs.field(factory=dict)
    """What counts of this host, with its bytes."""
    events: list[tuple[str, Any]] = attrs.field(factory=list)
    """What it was asked and told, in order."""
    uses: dict[str, datetime] = attrs.field(factory=dict)
    policies: list[str] = attrs.field(factory=list)
    summaries: list[FleetSummary] = attrs.field(factory=list)
    released: list[str] = attrs.field(factory=list)
    given_back: list[str] = attrs.field(factory=list)
    on_release: Callable[[Sequence[str]], object] = lambda _: None
    """Called right after copies were released."""
    on_saw: Callable[[], object] = lambda: None
    """Called when it was told what is here."""
    on_token: Callable[[], object] = lambda: None
    """Called when a token was asked for."""
    gate: anyio.Event | None = None
    """Where it is set, releases wait for it."""
    arrived: anyio.Event = attrs.field(factory=anyio.Event)
    """Set when a release has come to the gate, or a question that is never answered has come."""
    joins_when_asked: bool = False
    is_open: bool = False
    has_token: bool = False
    token_free: bool | None = None
    _facts: dict[str, CopyFacts] = attrs.field(factory=dict)

    @asynccontextmanager
    async def open(self, *_arguments: object) -> AsyncIterator["FakeFleet"]:
        """Satisfies `OpenFleet` and `OpenReader`."""
        self.is_open = True
        try:
            yield self
        finally:
            self.is_open = False

    def pause(self, reason: str = "a test") -> None:
        self.settings = attrs.evolve(self.settings, paused=Paused("root@host-9", START, reason))

    def told(self, what: str) -> list[Any]:
        """Return what it was asked or told of one kind."""
        return [value for kind, value in self.events if kind == what]

    def asked(self) -> frozenset[str]:
        """Return the digests that it was asked about."""
        return frozenset().union(*(digests for digests, _ in self.told("ask")))

    def view(self) -> FleetView:
        return FleetView(
            state=self.state,
            rules=self.rules,
            detail=None if self.state is FleetState.JOINED else f"the fleet is {self.state}",
            settings=self.settings,
            facts=dict(self._facts),
            token_free=self.token_free,
        )

    async def ask(self, digests: Collection[str], *, asks_all: bool = False) -> None:
        await anyio.lowlevel.checkpoint()
        self.events.append(("ask", (frozenset(digests), asks_all)))
        if self.hangs:
            self.arrived.set()
            await anyio.sleep_forever()
        if self.state is FleetState.JOINING and self.joins_when_asked:
            self.state = FleetState.JOINED
        if self.answers and self.state in (FleetState.JOINED, FleetState.STOPPED):
            self._facts.update((digest, self._facts_of(digest)) for digest in digests)

    def _facts_of(self, digest: str) -> CopyFacts:
        counted = self.others.get(digest, self.usual)
        holders = tuple(f"host-{number}.00000000" for number in range(2, 2 + counted))
        return CopyFacts(counted_elsewhere=counted, holders=holders, last_used=self.last_used.get(digest))

    def use_policy(self, fingerprint: str) -> None:
        self.policies.append(fingerprint)

    async def take_token(self, count: int) -> bool:
        await anyio.lowlevel.checkpoint()
        self.events.append(("take_token", count))
        if not self.has_token and self.tokens:
            self.tokens -= 1
            self.has_token = True
        self.token_free = self.has_token
        self.on_token()
        return self.has_token

    async def release(
        self, digests: Sequence[str], *, for_space: Collection[str] = ()
    ) -> Mapping[str, ReleaseOutcome]:
        self.events.append(("release", tuple(digests)))
        if self.gate is not None:
            self.arrived.set()
            await self.gate.wait()
        await anyio.lowlevel.checkpoint()
        outcomes = {digest: self._outcome_of(digest, for_space=digest in for_space) for digest in digests}
        gone = [digest for digest, outcome in outcomes.items() if outcome.is_released]
        for digest in gone:
            self.registered.pop(digest, None)
        self.released += gone
        self.on_release(gone)
        return outcomes

    def _outcome_of(self, digest: str, *, for_space: bool) -> ReleaseOutcome:
        if self.state is not FleetState.JOINED:
            return ReleaseOutcome(Reason.FLEET_UNREACHABLE)
        if self.settings.paused is not None:
            return ReleaseOutcome(Reason.FLEET_PAUSED, "paused by root@host-9")
        if not (for_space and self.rules.yields_to_pressure):
            facts = self._facts[digest] = self._facts_of(digest)
            reason = next(self.rules.reasons(self.settings, facts, START), None)
            if reason is not None:
                return ReleaseOutcome(reason, "no other live host has a copy")
        return ReleaseOutcome() if self.has_token else ReleaseOutcome(Reason.FLEET_BRAKE)

    async def give_back(self, digests: Collection[str]) -> None:
        await anyio.lowlevel.checkpoint()
        self.given_back += sorted(digests)
        self.registered.update(dict.fromkeys(digests, 0))

    async def saw(self, copies: Collection[WholeCopy]) -> None:
        await anyio.lowlevel.checkpoint()
        self.registered = {copy.digest: copy.disk_bytes for copy in copies}
        self.on_saw()
        self.events.append(("saw", frozenset(self.registered)))

    def tell_use(self, digests: Collection[str], at: datetime) -> None:
        self.uses.update(dict.fromkeys(digests, at))

    async def tell_summary(self, summary: FleetSummary) -> None:
        await anyio.lowlevel.checkpoint()
        self.summaries.append(summary)
