"""What is known of the copies elsewhere, and how often it is asked for."""

from collections.abc import Collection, Iterator, Mapping

import anyio

from hmret.actors.batches import batches
from hmret.actors.fleet.membership import Membership, SessionOverError
from hmret.actors.fleet.tokens import Tokens
from hmret.fleet.reading import MOST_DIGESTS, CopyRead, FleetRead
from hmret.fleet.store import StoreError
from hmret.model.fleet import CopyFacts
from hmret.model.values import define

# What is held back is asked about less and less often: 500 last copies on each of 1,000 hosts would otherwise be
# 8,000 questions a second.
_LONGEST_PAUSE_SECONDS = 3600.0
# Sweeps are never exactly as far apart as they should be.
_EARLY_SECONDS = 1.0
# An engine that has just been opened waits this long for its first session, so that its first sweep can ask.
_PATIENCE_SECONDS = 10.0


@define(eq=False)
class _Known:
    """What is known of one digest."""

    facts: CopyFacts
    asked: float
    """When it was read, in the time of the event loop."""
    pause: float = 0
    """For how long it is not asked for again."""


class Facts:
    """What is known of the copies elsewhere, by digest."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._rules = membership.options.rules
        self._known: dict[str, _Known] = {}

    @property
    def all(self) -> Mapping[str, CopyFacts]:
        """The facts, as they are now."""
        return {digest: known.facts for digest, known in self._known.items()}

    def take(self, digest: str, copy: CopyRead, read: FleetRead) -> None:
        """Record what was read about a digest."""
        session = self._membership.session
        if session is None:
            return
        facts = copy.facts(read, session.holder)
        now = anyio.current_time()
        before = self._known.get(digest)
        pause = 0.0
        if before is not None and before.facts == facts:
            pause = min(2 * (before.pause or now - before.asked), _LONGEST_PAUSE_SECONDS)
        self._known[digest] = _Known(facts, now, pause)

    def forget(self, digest: str) -> None:
        """Forget a digest, whose copy here is gone."""
        self._known.pop(digest, None)

    def forget_all_but(self, here: Collection[str]) -> None:
        """Forget what is not here any more."""
        for digest in [digest for digest in self._known if digest not in here]:
            self.forget(digest)

    def due(self, digests: Collection[str]) -> Iterator[str]:
        """List those that have to be asked about: those held back only after a while."""
        now = anyio.current_time()
        for digest in digests:
            known = self._known.get(digest)
            if (
                known is None
                or now >= known.asked + known.pause - _EARLY_SECONDS
                or not self._holds(known.facts)
            ):
                yield digest

    def _holds(self, facts: CopyFacts) -> bool:
        """Return whether these facts hold a copy back."""
        settings = self._membership.settings
        if settings is None:
            return False
        return next(self._rules.reasons(settings, facts, self._membership.now()), None) is not None


class CopyLookup:
    """Reads what is asked for."""

    def __init__(self, membership: Membership, facts: Facts, tokens: Tokens) -> None:
        self._membership = membership
        self._facts = facts
        self._tokens = tokens

    async def ask(self, digests: Collection[str], *, asks_all: bool) -> None:
        """Read about some digests, as `FleetLink.ask` says."""
        await self._membership.wait_joined(_PATIENCE_SECONDS)
        session = self._membership.joined
        wanted = list(digests) if asks_all else list(self._facts.due(digests))
        if session is None or (digests and not wanted):
            return
        is_first = True
        try:
            if not wanted:
                await self._membership.look(session)
                return
            for batch in batches(wanted, MOST_DIGESTS):
                read, copies = await self._membership.read(session, batch, reads_hosts=is_first)
                is_first = False
                for digest, copy in copies.items():
                    self._facts.take(digest, copy, read)
            await self._tokens.refresh(session)
        except (StoreError, SessionOverError):
            # What was not answered is not known, and held back.
            return
