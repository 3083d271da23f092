"""A host's way to the store in memory, with hooks for what may go wrong on it."""

import enum
from collections.abc import Awaitable, Callable

import anyio

from hmret.fleet.newest import Newest
from hmret.fleet.store import (
    Health,
    OutcomeUnknownError,
    Range,
    RangeResult,
    StoreRefusedError,
    StoreUnreachableError,
    Txn,
    TxnResult,
)
from hmret.model.records.fleet import Seen
from support.memory_store import MemoryStore

__all__ = ["Client", "Fate", "Request"]

Request = Range | Txn | str
"""What a hook is asked about: a read, a transaction, or `grant`, `keep_alive`, `revoke`, `health`."""


class Fate(enum.Enum):
    """What becomes of a request."""

    DONE = "it is carried out and answered"
    UNREACHABLE = "it is not sent"
    LOST = "it is sent and does not arrive"
    UNANSWERED = "it is carried out, and the answer does not arrive"
    LATE = "no answer arrives, and it is carried out when the test says `deliver_late`"
    REFUSED = "a definite no"


async def _nothing_wrong(request: Request) -> Fate:
    return Fate.DONE


async def _at_once(request: Request) -> None:
    return None


class Client:
    """A host's way to the store, and what a test has made go wrong on it; satisfies `hmret.fleet.store.Store`."""

    def __init__(self, store: MemoryStore, seen: Seen | None = None) -> None:
        self._store = store
        self._newest = Newest(seen)
        self.fate: Callable[[Request], Awaitable[Fate]] = _nothing_wrong
        """Decides what becomes of a request, and may wait before that."""
        self.on_answer: Callable[[Request], Awaitable[None]] = _at_once
        """Awaited after a request was carried out, before it is answered."""
        self.is_cut_off = False
        """Whether nothing reaches the store."""
        self.requests: list[Request] = []
        """All that was asked."""
        self.is_closed = False

    @property
    def seen(self) -> Seen | None:
        return self._newest.seen

    def forget_seen(self) -> None:
        self._newest.seen = None

    async def range(
        self, key: str, range_end: str = "", *, limit: int = 0, keys_only: bool = False
    ) -> RangeResult:
        wanted = Range(key, range_end, limit, keys_only)
        before = self.seen
        await self._read(wanted)
        result = self._store.look(wanted)
        await self.on_answer(wanted)
        self._newest.believe(result, before, "memory")
        return result

    async def transact(self, txn: Txn) -> TxnResult:
        before = self.seen
        fate = await self._ask(txn)
        if fate is Fate.UNREACHABLE:
            raise StoreUnreachableError("memory: cannot be reached")
        if fate is Fate.REFUSED:
            raise StoreRefusedError("memory: refused")
        if fate is Fate.LATE:
            self._store.keep_for_later(txn)
        if fate not in {Fate.DONE, Fate.UNANSWERED}:
            raise OutcomeUnknownError("memory: no answer")
        result = self._store.carry_out(txn)
        await self.on_answer(txn)
        if fate is Fate.UNANSWERED:
            raise OutcomeUnknownError("memory: no answer")
        self._newest.believe(result, before, "memory")
        return result

    async def grant(self, seconds: int) -> int:
        await self._read("grant")
        lease = self._store.grant(seconds)
        await self.on_answer("grant")
        return lease

    async def keep_alive(self, lease: int) -> int:
        await self._read("keep_alive")
        left = self._store.keep_alive(lease)
        await self.on_answer("keep_alive")
        return left

    async def revoke(self, lease: int) -> None:
        await self._read("revoke")
        self._store.revoke(lease)
        await self.on_answer("revoke")

    async def health(self) -> Health:
        await self._read("health")
        return self._store.health()

    async def aclose(self) -> None:
        self.is_closed = True

    async def _ask(self, request: Request) -> Fate:
        assert not self.is_closed, "the store was closed"
        self.requests.append(request)
        await anyio.lowlevel.checkpoint()
        fate = await self.fate(request)
        return Fate.UNREACHABLE if self.is_cut_off else fate

    async def _read(self, request: Request) -> None:
        fate = await self._ask(request)
        if fate is Fate.REFUSED:
            raise StoreRefusedError("memory: refused")
        if fate is not Fate.DONE:
            raise StoreUnreachableError("memory: cannot be reached")
