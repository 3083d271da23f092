"""The lock actor: serialises the use of each image against its deletion.

There is one lock per digest, whatever repositories and folders it is in, since all of them may be one image.
An image is either in *use* (by any number of `mark_used` calls and leases) or *claimed* by a sweep that marks
or deletes it. A sweep never waits: it is granted the claim to those images that are not in use and have not
been used since it began, and skips the others. A user can withdraw an image from a claim at once, unless a
thread is working on it: a user waits only while that very image is being worked on.

No lock is granted by a message that could be lost. A request is a value that both sides hold; the actor keeps
the lock until the requester's own scope has ended. The end of the scope is an event that is set, not a
message that is sent: setting it requires no await, so a cancelled or crashed requester cannot keep a lock.
Within a claim, the actor and the worker thread decide who has an image by means of a mutex that is held for a
few instructions and never across a system call.
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
from hmret.model.records.leases import Lease
from hmret.model.values import frozen

# Limit on the images remembered as used since the last sweep began. With retention disabled no sweep ever
# begins, and this bounds the memory: some 5 MiB.
_MOST_USED = 32_768
# A user that waits for the current image polls at this interval, doubled each time; work on one image takes
# about a tenth of the first interval. There is no way for a thread to wake a task that works on both backends
# and with a test clock.
_FIRST_LOOK = 0.0005
_LONGEST_LOOK = 0.016


@frozen(eq=False, kw_only=True)
class Use(Request[None]):
    """Requests the use of one image until the requester's scope ends or, for a lease, until it expires."""

    digest: str
    ended: anyio.Event = attrs.field(factory=anyio.Event)
    lease: Lease | None = None
    seconds: float = math.inf


class Claimed:
    """The images that a sweep was granted; may be used from the thread that works on them.

    Each image is first pending, then in hand, then done. A user can withdraw it while it is pending.
    """

    def __init__(self, digests: Iterable[str]) -> None:
        self.digests = frozenset(digests)
        """What was granted, including what has been withdrawn since."""
        self._lock = threading.Lock()
        self._pending = set(self.digests)
        self._in_hand: set[str] = set()
        self._done: set[str] = set()

    def begin(self, digest: str) -> bool:
        """Start work on one image; returns False if it must be left alone: it was withdrawn, or is done."""
        with self._lock:
            if digest not in self._pending:
                # guard(taken-back-is-untouched): An image that a user has withdrawn from the claim is left
                # alone.
                return False
            self._pending.remove(digest)
            self._in_hand.add(digest)
            return True

    def begin_all(self) -> bool:
        """Start work on all granted images; returns False, starting none, if any was withdrawn."""
        with self._lock:
            if self._pending != self.digests:
                return False
            self._in_hand, self._pending = self._pending, set()
            return True

    def end(self, digest: str) -> None:
        """Mark one image done: the thread no longer touches it."""
        with self._lock:
            if digest in self._in_hand:
                self._in_hand.remove(digest)
                self._done.add(digest)

    @property
    def waiting(self) -> frozenset[str]:
        """The images that have been neither started nor withdrawn."""
        with self._lock:
            return frozenset(self._pending)

    @property
    def done(self) -> frozenset[str]:
        """The images that have been worked on."""
        with self._lock:
            return frozenset(self._done)

    def withdraw(self, digest: str) -> bool:
        """Take an image out of the claim; returns False while it is being worked on."""
        with self._lock:
            self._pending.discard(digest)
            # guard(no-use-while-in-work): An image is in use or being deleted, never both: a user gets it
            # only when no thread is working on it.
            return digest not in self._in_hand


@frozen(eq=False, kw_only=True)
class ClaimImages(Request[Claimed]):
    """Requests the claim to those of some images that are not in use, until the requester's scope ends."""

    digests: frozenset[str]
    ended: anyio.Event = attrs.field(factory=anyio.Event)


@frozen(eq=False, kw_only=True)
class BeginSweep(Request[tuple[Lease, ...]]):
    """Announces a sweep; images used from now on cannot be claimed until the next. Answers the live leases."""


@frozen(eq=False, kw_only=True)
class ListLeases(Request[tuple[Lease, ...]]):
    """Requests all live leases."""


class Locks(Actor[Use | ClaimImages | BeginSweep | ListLeases]):
    """The lock actor.

    `lease_count` bypasses the mailbox: it is a number for display, and may be read in any thread.
    """

    def __init__(self, on_expiry: Callable[[Lease], None]) -> None:
        super().__init__()
        self._on_expiry = on_expiry
        self._users: Counter[str] = Counter()
        self._claims: dict[str, tuple[Claimed, anyio.Event]] = {}
        """By image: the claim, and the event that is set when it is over."""
        self._used: set[str] = set()
        """The images used since the last sweep began."""
        self._are_too_many = False
        """Whether too many were used to remember; if so, nothing can be claimed until the next sweep."""
        self._leases: dict[Use, Lease] = {}

    @property
    def lease_count(self) -> int:
        """How many leases are live."""
        return len(self._leases)

    async def run(self) -> None:
        """Serve until closed; locks that are held at that point are never granted to anyone else."""
        await self._mailbox.serve(self._answer, wait=False)

    async def begin_sweep(self) -> tuple[Lease, ...]:
        """Announce that a sweep begins; returns the live leases."""
        return await self._mailbox.ask(BeginSweep())

    async def leases(self) -> tuple[Lease, ...]:
        """List the live leases."""
        return await self._mailbox.ask(ListLeases())

    @asynccontextmanager
    async def using(self, digest: str) -> AsyncIterator[None]:
        """Use an image: while this scope lasts it is neither marked nor deleted.

        Waits only while a sweep is working on this very image.

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
        """Use an image as `using` does, listed as a lease, for at most `seconds`.

        The lease ends with the scope, even if the scope is left on another event loop.
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
        """Claim images for a sweep, without waiting; yields those that were granted.

        The scope must outlast the thread that works under the claim. The thread calls `begin` before it
        touches an image, leaves alone those that have been withdrawn, and calls `end` when it is done with an
        image.

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
                # A use in progress may do its work after the sweep has taken its inventory.
                self._used = set(self._users)
                self._are_too_many = False
                return tuple(self._leases.values())
            case ListLeases():
                return tuple(self._leases.values())
            case _:
                assert_never(request)
        return None

    async def _use(self, request: Use) -> None:
        # guard(user-waits-for-deletion): A caller that marks an image used waits while it is being deleted,
        # and is never told that an image is available that is about to go.
        while (claim := self._claims.get(request.digest)) is not None and not request.ended.is_set():
            claimed, over = claim
            if claimed.withdraw(request.digest):
                del self._claims[request.digest]
            else:
                await _wait_until_free(claimed, request.digest, over)
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
        # Not in a `finally`: if this actor is cancelled, the requester's scope continues and must keep the
        # lock.
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
        # guard(used-since-start-is-spared): A plan knows nothing of uses after its sweep began, so the sweep
        # neither marks nor deletes what has been used since.
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
            # A withdrawn image may be in another claim by now.
            if self._claims.get(digest) is claim:
                del self._claims[digest]
        over.set()


async def _wait_until_free(claimed: Claimed, digest: str, over: anyio.Event) -> None:
    """Wait until an image is no longer worked on, or its claim is over."""
    wait = _FIRST_LOOK
    while not over.is_set() and not claimed.withdraw(digest):
        with anyio.move_on_after(wait):
            await over.wait()
        wait = min(2 * wait, _LONGEST_LOOK)
