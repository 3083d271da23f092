"""Requests to the store: repeated where that is safe, and counted by their outcome."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import anyio

from hmret.fleet.store import (
    Operation,
    OutcomeUnknownError,
    Result,
    RevisionWentBackError,
    Store,
    StoreError,
    StoreRefusedError,
    StoreUnreachableError,
    Txn,
    TxnResult,
)

T = TypeVar("T")

# A member that fails is not asked again at once, so a second try reaches another one.
_TRIES = 2
_DROP_SECONDS = 2.0


class Contact:
    """Requests to the store.

    Args:
        store: the store.
        now_ns: the wall clock.
        see: called with the cluster and the revision of each answer.
    """

    def __init__(self, store: Store, now_ns: Callable[[], int], see: Callable[[str, int], None]) -> None:
        self.store = store
        self._now_ns = now_ns
        self._see = see
        self.last_ns: int | None = None
        """When the store last answered; None: it never did."""
        self.on_went_back: Callable[[str], None] = lambda _: None
        """Called where an answer is older than one before it, or is another cluster's."""
        self.has_shown_restore = False
        """Whether the answer to a read or a write had an older revision than one before it: the store was restored."""
        self.requests: Counter[tuple[str, str]] = Counter()
        """How many requests there were, by kind (`read`, `write`, `lease`) and outcome (`done`, `refused`,
        `unreachable`, `unknown`, `went_back`).
        """

    async def read(self, operations: Sequence[Operation]) -> Sequence[Result]:
        """Read as of one moment.

        Raises:
            StoreError: it could not be read.
        """
        txn = Txn((), tuple(operations))
        for tries in range(1, _TRIES + 1):
            try:
                result = await self._count("read", lambda: self.store.transact(txn))
            except (StoreUnreachableError, OutcomeUnknownError) as error:
                if tries == _TRIES:
                    raise StoreUnreachableError(str(error)) from error
            else:
                self._see(result.cluster_id, result.revision)
                return result.results
        raise AssertionError("the last try returns or raises")

    async def write(self, txn: Txn) -> TxnResult:
        """Carry out a transaction.

        Raises:
            StoreUnreachableError, StoreRefusedError: it was not carried out and never will be.
            OutcomeUnknownError: whether it was carried out, or will be, is not known.
        """
        try:
            result = await self._count("write", lambda: self.store.transact(txn))
        except RevisionWentBackError as error:
            raise OutcomeUnknownError(str(error)) from error
        self._see(result.cluster_id, result.revision)
        return result

    async def grant(self, seconds: int) -> int:
        """Make a lease.

        Raises:
            StoreError: there is none, or one that ends by itself.
        """
        return await self._count("lease", lambda: self.store.grant(seconds))

    async def keep_alive(self, lease: int) -> int:
        """Start the time of a lease again; returns the seconds it has left, 0: it is over.

        Raises:
            StoreError: the store did not answer.
        """
        return await self._count("lease", lambda: self.store.keep_alive(lease))

    async def drop(self, lease: int, seconds: float = _DROP_SECONDS) -> None:
        """End a lease, even if the caller is being cancelled; if that fails, it ends by itself."""
        with anyio.move_on_after(seconds, shield=True), suppress(StoreError):
            await self._count("lease", lambda: self.store.revoke(lease))

    async def _count(self, kind: str, request: Callable[[], Awaitable[T]]) -> T:
        outcome = "unknown"
        try:
            answer = await request()
        except StoreError as error:
            outcome = _outcome(error)
            if isinstance(error, RevisionWentBackError):
                # guard(restore-once-shown-is-remembered): By the next join, other hosts may have pushed the revision
                # past what this one saw, and its own write may have put a new mark in place of the one that would
                # show the restore.
                self.has_shown_restore |= not error.is_another_cluster
                self.on_went_back(str(error))
            raise
        else:
            outcome = "done"
            self.last_ns = self._now_ns()
            return answer
        finally:
            self.requests[kind, outcome] += 1


def _outcome(error: StoreError) -> str:
    if isinstance(error, StoreRefusedError):
        return "refused"
    if isinstance(error, RevisionWentBackError):
        return "went_back"
    return "unreachable" if isinstance(error, StoreUnreachableError) else "unknown"
