"""The lock actor: it serialises the use of each image against its deletion.

A lock is that of a digest, in whatever repositories and folders it is: they can all be one image. An image is either in *use* (by any number of `mark_used` calls and leases) or *claimed* by a sweep that writes its
mark or deletes it. A sweep never waits: it is given the claim to those images that nobody uses, nor has used since
that sweep began, and leaves the others alone. What it is given can be withdrawn: a user of a claimed image whose turn
has not come takes it out of the claim at once; of one that is done with, likewise. A user waits for an image only
while that very image is being worked on.

No lock is granted by a message that could be lost. A request is a value that both sides hold; the actor keeps the
lock until the asker's own scope has ended, and the end of a scope is set, not sent: nothing has to be awaited for it,
so a cancelled or crashed asker cannot keep a lock. Whose turn it is in a claim is settled between the actor and the
thread that works under it by a lock of the operating system, held for some instructions, never over a system call.
"""

import math
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import assert_never

import anyio
import attrs

from hmret.actors.mailbox import Actor, Request
from hmret.actors.own_loop import OwnLoop
from hmret.model.images import Key
from hmret.model.values import frozen

__all__ = ["BeginSweep", "ClaimImages", "Claimed", "Lease", "ListLeases", "Locks", "Use"]

# Images used since the last sweep began. With retention switched off none begins, and this bounds the memory: some 5 MiB.
_MOST_USED = 32_768
# A user that waits for the image in hand looks again after so long, twice as long each time: an image is worked on
# for a tenth of the first. No thread can wake a task by means that both backends and a clock of tests have.
_FIRST_LOOK = 0.0005
_LONGEST_LOOK = 0.016


@frozen(kw_only=True)
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


@frozen(eq=False, kw_only=True)
class Use(Request[None]):
    """Asks for the use of one image until the asker's scope ends or, for a lease, its time is up."""

    digest: str
    ended: anyio.Event = attrs.field(factory=anyio.Event)
    lease: Lease | None = None
    seconds: float = math.inf


class Claimed:
    """The images that a sweep was given; usable from the thread that works on them.

    Each image waits for its turn, is being worked on, and is done with. While it waits, a user can withdraw it.
    """

    def __init__(self, digests: Iterable[str]) -> None:
        self.digests = frozenset(digests)
        """What was given, whatever has been withdrawn since."""
        self._lock = threading.Lock()
        self._waiting = set(self.digests)
        self._in_hand: set[str] = set()
        self._done: set[str] = set()

    def begin(self, digest: str) -> bool:
        """Begin to work on one image; False where a user has withdrawn it, or it is done with: leave it alone."""
        with self._lock:
            if digest not in self._waiting:
                # guard(taken-back-is-untouched): An image that a user has taken back from the sweep is left alone.
                return False
            self._waiting.remove(digest)
            self._in_hand.add(digest)
            return True

    def begin_all(self) -> bool:
        """Begin to work on everything that was given; False, and nothing begun, where any of it was withdrawn."""
        with self._lock:
            if self._waiting != self.digests:
                return False
            self._in_hand, self._waiting = self._waiting, set()
            return True

    def end(self, digest: str) -> None:
        """Be done with one image: nothing of it is touched any more."""
        with self._lock:
            if digest in self._in_hand:
                self._in_hand.remove(digest)
                self._done.add(digest)

    @property
    def waiting(self) -> frozenset[str]:
        """Those whose turn has not come, and that nobody has withdrawn."""
        with self._lock:
            return frozenset(self._waiting)

    @property
    def done(self) -> frozenset[str]:
        """Those that were worked on."""
        with self._lock:
            return frozenset(self._done)

    def withdraw(self, digest: str) -> bool:
        """Take an image out of the claim; False while it is being worked on."""
        with self._lock:
            self._waiting.discard(digest)
            # guard(no-use-while-in-work): An image is in use or being deleted, never both: a user gets it only when
            # no thread works on it.
            return digest not in self._in_hand


@frozen(eq=False, kw_only=True)
class ClaimImages(Request[Claimed]):
    """Asks for the claim to those of some images that nobody uses, until the asker's scope ends."""

    digests: frozenset[str]
    ended: anyio.Event = attrs.field(factory=anyio.Event)


@frozen(eq=False, kw_only=True)
class BeginSweep(Request[tuple[Lease, ...]]):
    """Says that a sweep begins: what is used from now on is not claimed before the next one; answers all live leases."""


@frozen(eq=False, kw_only=True)
class ListLeases(Request[tuple[Lease, ...]]):
    """Asks for all live leases."""


class Locks(Actor[Use | ClaimImages | BeginSweep | ListLeases]):
    """The lock actor."""

    def __init__(self, on_expiry: Callable[[Lease], None]) -> None:
        super().__init__()
        self._on_expiry = on_expiry
        self._users: Counter[str] = Counter()
        self._claims: dict[str, tuple[Claimed, anyio.Event]] = {}
        """By image: the claim, and the event that says that it is over."""
        self._used: set[str] = set()
        """What was used since the last sweep began."""
        self._are_too_many = False
        """Whether more were used than are remembered: nothing is claimed then before the next sweep."""
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
    async def using(self, digest: str) -> AsyncIterator[None]:
        """Use an image: while this scope lasts it is neither marked nor deleted.

        Waits for nothing but a sweep's work on this very image, while that is under way.

        Raises:
            EngineClosedError: the engine has stopped.
        """
        request = Use(digest=digest)
        try:
            await self._mailbox.ask(request)
            yield
        finally:
            request.ended.set()

    @asynccontextmanager
    async def leasing(self, lease: Lease, seconds: float = math.inf) -> AsyncIterator[None]:
        """Use an image as `using` does, listed as a lease, for at most so many seconds.

        The lease ends with the scope wherever the scope is left, on another event loop too.
        """
        loop = OwnLoop()
        request = Use(digest=lease.digest, lease=lease, seconds=seconds)
        try:
            await self._mailbox.ask(request)
            yield
        finally:
            loop.call(request.ended.set)

    @asynccontextmanager
    async def claiming(self, digests: Iterable[str]) -> AsyncIterator[Claimed]:
        """Claim images for a sweep, without waiting; yields those that it was given.

        The scope outlasts the thread that works under the claim. Before that touches an image it calls `begin`, and
        leaves alone what has been withdrawn; when it is done with it, `end`.

        Raises:
            EngineClosedError: the engine has stopped.
        """
        request = ClaimImages(digests=frozenset(digests))
        try:
            yield await self._mailbox.ask(request)
        finally:
            request.ended.set()

    async def _answer(self, request: Use | ClaimImages | BeginSweep | ListLeases) -> object:
        match request:
            case Use():
                await self._use(request)
            case ClaimImages():
                await self._claim(request)
            case BeginSweep():
                # A use that goes on now may do its work after the sweep has looked.
                self._used = set(self._users)
                self._are_too_many = False
                return tuple(self._leases.values())
            case ListLeases():
                return tuple(self._leases.values())
            case _:
                assert_never(request)
        return None

    async def _use(self, request: Use) -> None:
        # guard(user-waits-for-deletion): A caller that marks an image as used waits while it is deleted, and gets no
        # yes for one that is about to go.
        while (claim := self._claims.get(request.digest)) is not None and not request.ended.is_set():
            claimed, over = claim
            if claimed.withdraw(request.digest):
                del self._claims[request.digest]
            else:
                await _turn_over(claimed, request.digest, over)
        if request.ended.is_set():
            return
        self._users[request.digest] += 1
        self._used.add(request.digest)
        if len(self._used) > _MOST_USED:
            self._used.clear()
            self._are_too_many = True
        if request.lease is not None:
            self._leases[request] = request.lease
        request.reply.give(None)
        with anyio.move_on_after(request.seconds):
            await request.ended.wait()
        # Not in a `finally`: where this actor is cancelled, the asker's scope goes on, and nobody may come between.
        self._users[request.digest] -= 1
        if not self._users[request.digest]:
            del self._users[request.digest]
        if request.lease is not None:
            del self._leases[request]
        if request.lease is not None and not request.ended.is_set():
            self._on_expiry(request.lease)

    async def _claim(self, request: ClaimImages) -> None:
        if request.ended.is_set():
            return
        # guard(used-since-start-is-spared): A plan knows nothing of uses after its start, so the sweep neither marks
        # nor deletes what was used since.
        given = Claimed(
            digest
            for digest in request.digests
            if not self._are_too_many and digest not in self._claims and digest not in self._used
        )
        over = anyio.Event()
        claim = given, over
        self._claims.update(dict.fromkeys(given.digests, claim))
        request.reply.give(given)
        await request.ended.wait()
        # Not in a `finally`, as above.
        for digest in given.digests:
            # What was withdrawn may be in another claim by now.
            if self._claims.get(digest) is claim:
                del self._claims[digest]
        over.set()


async def _turn_over(claimed: Claimed, digest: str, over: anyio.Event) -> None:
    """Wait until an image is no longer worked on, or its claim is over."""
    wait = _FIRST_LOOK
    while not over.is_set() and not claimed.withdraw(digest):
        with anyio.move_on_after(wait):
            await over.wait()
        wait = min(2 * wait, _LONGEST_LOOK)
