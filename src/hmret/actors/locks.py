"""The lock actor: it serialises the use of each image against its deletion.

An image is either in *use* (by any number of `mark_used` calls and leases) or *claimed* by a sweep that writes its
mark or deletes it. A user waits while the image is claimed, and for nothing else. A sweep never waits: it is given
the claim to those images that nobody uses, nor has used since that sweep began, and leaves the others alone.

No lock is granted by a message that could be lost. A request is a value that both sides hold; the actor keeps the
lock until the asker's own scope has ended, and the end of a scope is set, not sent: nothing has to be awaited for it,
so a cancelled or crashed asker cannot keep a lock.
"""

import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import assert_never

import anyio
import attrs

from hmret.actors.mailbox import Actor, Request
from hmret.model.images import Key

__all__ = ["BeginSweep", "Claim", "Lease", "ListLeases", "Locks", "Use"]


@attrs.frozen(kw_only=True)
class Lease:
    """What covers an image for longer than one call."""

    id: str
    repository: str
    digest: str
    owner: str
    reason: str
    expires_at_ns: int | None = None
    """Wall clock, nanoseconds since the epoch; None: it ends with its block."""

    @property
    def key(self) -> Key:
        """The image that it covers."""
        return self.repository, self.digest


@attrs.frozen(eq=False, kw_only=True)
class Use(Request[None]):
    """Asks for the use of one image until the asker's scope ends or, for a lease, its time is up."""

    key: Key
    ended: anyio.Event = attrs.field(factory=anyio.Event)
    lease: Lease | None = None
    seconds: float = math.inf


@attrs.frozen(eq=False, kw_only=True)
class Claim(Request[frozenset[Key]]):
    """Asks for the claim to those of some images that nobody uses, until the asker's scope ends."""

    keys: frozenset[Key]
    ended: anyio.Event = attrs.field(factory=anyio.Event)


@attrs.frozen(eq=False, kw_only=True)
class BeginSweep(Request[tuple[Lease, ...]]):
    """Says that a sweep begins: what is used from now on is not claimed before the next one; answers all live leases."""


@attrs.frozen(eq=False, kw_only=True)
class ListLeases(Request[tuple[Lease, ...]]):
    """Asks for all live leases."""


class Locks(Actor[Use | Claim | BeginSweep | ListLeases]):
    """The lock actor."""

    def __init__(self, on_expiry: Callable[[Lease], None]) -> None:
        super().__init__()
        self._on_expiry = on_expiry
        self._users: Counter[Key] = Counter()
        self._claims: dict[Key, anyio.Event] = {}
        self._used: set[Key] = set()
        self._leases: dict[Use, Lease] = {}

    async def run(self) -> None:
        """Serve until closed; locks that are held then are never given to anybody else."""
        await self._mailbox.serve(self._answer, wait=False)

    async def begin_sweep(self) -> tuple[Lease, ...]:
        """Say that a sweep begins; returns the live leases."""
        return await self._mailbox.ask(BeginSweep())

    async def leases(self) -> tuple[Lease, ...]:
        """List the live leases."""
        return await self._mailbox.ask(ListLeases())

    @asynccontextmanager
    async def using(self, key: Key) -> AsyncIterator[None]:
        """Use an image: while this scope lasts it is neither marked nor deleted.

        Raises:
            EngineClosedError: the engine has stopped.
        """
        request = Use(key=key)
        try:
            await self._mailbox.ask(request)
            yield
        finally:
            request.ended.set()

    @asynccontextmanager
    async def leasing(self, lease: Lease, seconds: float = math.inf) -> AsyncIterator[None]:
        """Use an image as `using` does, listed as a lease, for at most so many seconds."""
        request = Use(key=lease.key, lease=lease, seconds=seconds)
        try:
            await self._mailbox.ask(request)
            yield
        finally:
            request.ended.set()

    @asynccontextmanager
    async def claiming(self, keys: Iterable[Key]) -> AsyncIterator[frozenset[Key]]:
        """Claim images for a sweep, without waiting; yields those that it was given.

        Raises:
            EngineClosedError: the engine has stopped.
        """
        request = Claim(keys=frozenset(keys))
        try:
            yield await self._mailbox.ask(request)
        finally:
            request.ended.set()

    async def _answer(self, request: Use | Claim | BeginSweep | ListLeases) -> object:
        match request:
            case Use():
                await self._use(request)
            case Claim():
                await self._claim(request)
            case BeginSweep():
                # A use that goes on now may do its work after the sweep has looked.
                self._used = set(self._users)
                return tuple(self._leases.values())
            case ListLeases():
                return tuple(self._leases.values())
            case _:
                assert_never(request)
        return None

    async def _use(self, request: Use) -> None:
        while (claim := self._claims.get(request.key)) is not None:
            await claim.wait()
        if request.ended.is_set():
            return
        self._users[request.key] += 1
        self._used.add(request.key)
        if request.lease is not None:
            self._leases[request] = request.lease
        request.reply.give(None)
        with anyio.move_on_after(request.seconds):
            await request.ended.wait()
        # Not in a `finally`: where this actor is cancelled, the asker's scope goes on, and nobody may come between.
        self._users[request.key] -= 1
        if not self._users[request.key]:
            del self._users[request.key]
        if request.lease is not None:
            del self._leases[request]
        if request.lease is not None and not request.ended.is_set():
            self._on_expiry(request.lease)

    async def _claim(self, request: Claim) -> None:
        if request.ended.is_set():
            return
        given = frozenset(key for key in request.keys if key not in self._claims and key not in self._used)
        over = anyio.Event()
        self._claims.update(dict.fromkeys(given, over))
        request.reply.give(given)
        await request.ended.wait()
        # Not in a `finally`, as above.
        for key in given:
            del self._claims[key]
        over.set()
