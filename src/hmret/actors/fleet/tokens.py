"""Deletion tokens: one is taken before something is released, and is good for some releases within an hour."""

import random

import anyio

from hmret.actors.fleet.membership import Membership
from hmret.fleet.keys import FleetKeys, all_below
from hmret.fleet.reading import one, settings_of
from hmret.fleet.store import Range, RangeResult, Result
from hmret.fleet.stored_values import read_summary
from hmret.fleet.transactions import Session, introduce_policy, take_token
from hmret.model.fleet import FleetSettings
from hmret.model.values import define, frozen

PERIOD_SECONDS = 3600
"""How long a token is taken for; nothing makes it longer, or shorter."""

# A free token that somebody else takes first is rare, as there are many.
_TRIES = 3


@define(eq=False)
class Token:
    """A token that this host has taken."""

    number: int
    session: str
    policy: str
    copies: int
    """All copies of the fleet when it was taken."""
    allowance: int
    """For how many releases it was good then."""
    until: float
    """When its lease ends at the earliest, in the time of the event loop."""
    spent: int = 0

    def left(self, settings: FleetSettings | None) -> int:
        """Return for how many releases it is good by the settings as they are now."""
        # guard(no-more-tokens-than-set): An operator who wants fewer tokens means those that are taken, too.
        if settings is None or self.number >= settings.tokens:
            return 0
        # guard(smaller-budget-counts-at-once): Nor does a lower budget wait for the next token.
        return min(self.allowance, settings.releases_per_token(self.copies)) - self.spent


@frozen
class _Offer:
    """What was read about tokens."""

    settings: FleetSettings | None
    copies: int
    is_new: bool
    """Whether this host's policy is not known to the fleet."""
    is_young: bool
    taken: frozenset[int]

    def free(self, *, has_policy: bool) -> list[int]:
        """List the tokens that this host may take."""
        if self.settings is None:
            return []
        may_take = range(self.settings.tokens) if has_policy and not self.is_young else range(1)
        return [number for number in may_take if number not in self.taken]


class Tokens:
    """The token of this host, if it has one."""

    def __init__(self, membership: Membership, *, rng: random.Random) -> None:
        self._membership = membership
        self._contact = membership.contact
        self._rng = rng
        self._lock = anyio.Lock()
        self._token: Token | None = None
        self._is_any_free: bool | None = None
        self.policy = ""
        """The fingerprint of the policy in force; empty: not known, so that it counts as young."""

    @property
    def is_free(self) -> bool | None:
        """Whether this host has a token that is good for more, or could take one; None: not known."""
        return True if self._held() is not None else self._is_any_free

    @property
    def number(self) -> int:
        """The number of its token, or of any."""
        return 0 if self._token is None else self._token.number

    async def take(self, session: Session) -> Token | None:
        """Take a token, unless there is one that is good for more; returns None if none is free.

        Raises:
            StoreError: the store refused, or did not answer.
            SessionOverError: the session has ended.
        """
        async with self._lock:
            held = self._held()
            if held is not None:
                return held
            self._token = None
            # The summaries of all hosts are much to read, and of no use where no token is free.
            offer = await self._introduce(session, await self._read(session, with_copies=False))
            if offer.free(has_policy=bool(self.policy)):
                self._token = await self._take_one(session, await self._read(session))
            self._is_any_free = self._token is not None
            return self._token

    async def refresh(self, session: Session) -> None:
        """Find out whether this host could take a token.

        Raises:
            as `take`.
        """
        async with self._lock:
            if self._held() is None:
                offer = await self._read(session, with_copies=False)
                self._is_any_free = bool(offer.free(has_policy=bool(self.policy)))

    def lose(self, token: Token) -> None:
        """Note that a token is over."""
        if self._token is token:
            self._token = None

    def _held(self) -> Token | None:
        token, session = self._token, self._membership.session
        if token is None or session is None:
            return None
        # guard(token-of-present-policy): A policy that is new to the fleet must not delete under a token that an
        # older one has taken.
        if token.session != session.id or token.policy != self.policy:
            return None
        is_good = token.left(self._membership.settings) > 0 and anyio.current_time() < token.until
        return token if is_good else None

    async def _read(self, session: Session, *, with_copies: bool = True) -> _Offer:
        keys = session.keys
        operations = [
            Range(keys.settings),
            Range(keys.policy(self.policy)),
            Range(keys.young(self.policy)),
            all_below(keys.tokens),
        ]
        if with_copies:
            operations.append(all_below(keys.summaries))
        settings, known, young, taken, *summaries = await self._contact.read(operations)
        self._membership.settings = settings_of(one(settings))
        return _Offer(
            self._membership.settings,
            sum(map(_copies, summaries)),
            one(known) is None,
            one(young) is not None,
            _numbers(keys, taken),
        )

    async def _introduce(self, session: Session, offer: _Offer) -> _Offer:
        """Tell the fleet about a policy that is new to it."""
        if not self.policy or not offer.is_new or offer.settings is None:
            return offer
        seconds = int(offer.settings.canary.total_seconds())
        lease = await self._contact.grant(seconds) if seconds else 0
        result = await self._membership.transact(session, introduce_policy(session, self.policy, lease))
        if not result.succeeded and lease:
            await self._contact.drop(lease)
        return await self._read(session, with_copies=False)

    async def _take_one(self, session: Session, offer: _Offer) -> Token | None:
        free = offer.free(has_policy=bool(self.policy))
        if not free or offer.settings is None:
            return None
        self._rng.shuffle(free)
        begin = anyio.current_time()
        lease = await self._contact.grant(PERIOD_SECONDS)
        for number in free[:_TRIES]:
            result = await self._membership.transact(session, take_token(session, number, lease, self.policy))
            if result.succeeded:
                allowance = offer.settings.releases_per_token(offer.copies)
                return Token(number, session.id, self.policy, offer.copies, allowance, begin + PERIOD_SECONDS)
        await self._contact.drop(lease)
        return None


def _copies(summaries: Result) -> int:
    """Add up the copies that all hosts tell of."""
    assert isinstance(summaries, RangeResult)
    told = (read_summary("", found.value, live=False, drained=None).copies for found in summaries.key_values)
    return sum(copies or 0 for copies in told)


def _numbers(keys: FleetKeys, tokens: Result) -> frozenset[int]:
    assert isinstance(tokens, RangeResult)
    numbers = (keys.token_of(found.key) for found in tokens.key_values)
    return frozenset(number for number in numbers if number is not None)
