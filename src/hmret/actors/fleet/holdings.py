"""The copies of this host: what is here, what is registered, and making the second match the first.

What is registered is always a subset of what is on record. Registrations and releases of this host never overlap: both
hold `lock`. So of one copy there is never more than one write under way, and the next session begins its own writes
only after each of an earlier one was answered or given up.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import anyio

from hmret.actors.batches import batches
from hmret.actors.fleet.membership import Membership
from hmret.actors.threads import Threads
from hmret.fleet.store import RangeResult
from hmret.fleet.transactions import (
    MOST_HOLDINGS,
    NewMark,
    Session,
    check_registered,
    register,
    take_out,
)
from hmret.model.fleet import WholeCopy
from hmret.model.records.fleet import Standing


class Holdings:
    """What is here, and what of it is registered."""

    def __init__(self, membership: Membership, threads: Threads) -> None:
        self._membership = membership
        self._contact = membership.contact
        self._async_record = membership.async_record
        self._threads = threads
        self.lock = anyio.Lock()
        self._here: dict[str, int] | None = None
        self._released: dict[str, int] = {}
        self._changed = anyio.Event()
        self._is_reconciled = False
        """Whether exactly what is here is registered, as far as known."""

    @property
    def is_known(self) -> bool:
        """Whether a survey has said what is here."""
        return self._here is not None

    @property
    def here(self) -> Collection[str]:
        """The copies here that are not released."""
        return self._here.keys() if self._here is not None else ()

    @property
    def disk_bytes(self) -> int:
        """The blocks of those copies."""
        return sum(self._here.values()) if self._here is not None else 0

    async def saw(self, copies: Collection[WholeCopy]) -> None:
        """Record what a survey found: everything that is here."""
        before = None if self._here is None else self._here.copy()
        here, is_same = await self._threads.run_alone(_by_digest, copies, before)
        self._here, self._released = here, {}
        if not (is_same and self._is_reconciled):
            self.request_reconcile()

    def released(self, digest: str) -> None:
        """Note that a copy no longer counts."""
        if self._here is not None:
            self._released[digest] = self._here.pop(digest, 0)

    def give_back(self, digests: Collection[str]) -> None:
        """Note that copies that were released stay here after all."""
        if self._here is None:
            return
        for digest in digests:
            self._here[digest] = self._released.pop(digest, self._here.get(digest, 0))
        self.request_reconcile()

    def request_reconcile(self) -> None:
        """Have the copies compared with what is registered."""
        self._is_reconciled = False
        self._changed.set()

    async def wait_changed(self) -> None:
        """Return once what is here may have changed since the last call returned."""
        await self._changed.wait()
        self._changed = anyio.Event()

    async def reconcile(self, session: Session) -> None:
        """Take out of the count what is not here, then register what is not registered.

        Raises:
            SessionOverError: the session has ended.
            StoreError: the store refused, or did not answer.
            OSError: the record cannot be written.
        """
        if self._here is None:
            return
        self._is_reconciled = True
        try:
            gone, new = await self._async_record.differences(tuple(self._here))
            for batch in batches(gone, MOST_HOLDINGS):
                await self._take_out(session, batch)
            for batch in batches(new, MOST_HOLDINGS):
                await self._register(session, batch)
        except BaseException:
            self._is_reconciled = False
            raise

    async def check(self, session: Session) -> int:
        """Register again what is on record, is here and is not registered; returns how many on record are not registered.

        Raises:
            as `reconcile`.
        """
        missing = 0
        for batch in batches(await self._async_record.digests(), MOST_HOLDINGS):
            missing += await self._check(session, batch)
        return missing

    async def new_mark(self, session: Session, digests: Iterable[str] = ()) -> NewMark:
        """Put a new mark on record, durably, with what is about to be registered or released.

        The caller holds `lock`.

        Raises:
            OSError: it could not be written: nothing must be sent.
        """
        record = await self._async_record.load()
        last_mark = record.last_done_mark or session.id
        return NewMark(await self._async_record.note_request(digests, with_mark=True), last_mark)

    async def _take_out(self, session: Session, digests: Sequence[str]) -> None:
        async with self.lock:
            record = await self._async_record.load()
            gone = [
                digest
                for digest in digests
                if digest not in self.here and record.standing(digest) is not None
            ]
            self._membership.require(session)
            if gone:
                marks = await self.new_mark(session)
                await self._membership.write(session, take_out(session, gone, marks))
                await self._async_record.note_outcomes(done=marks.mark, unregistered=gone)

    async def _register(self, session: Session, digests: Sequence[str], *, again: bool = False) -> None:
        async with self.lock:
            record = await self._async_record.load()
            # guard(register-only-what-is-here): What was released since the survey is being deleted.
            copies = {
                digest: self._here[digest]
                for digest in digests
                if self._here is not None
                and digest in self._here
                and (again or record.standing(digest) is not Standing.REGISTERED)
            }
            self._membership.require(session)
            if copies:
                # guard(record-before-registering): What counts and is on no record would count for ever.
                marks = await self.new_mark(session, copies)
                txn = register(session, copies, marks, self._membership.now_ns())
                await self._membership.write(session, txn)
                await self._async_record.note_outcomes(done=marks.mark, registered=copies)

    async def _check(self, session: Session, digests: Sequence[str]) -> int:
        self._membership.require(session)
        results = await self._contact.read(check_registered(session, digests).success)
        missing = [
            digest
            for digest, result in zip(digests, results, strict=True)
            if isinstance(result, RangeResult) and not result.key_values
        ]
        if missing:
            await self._register(session, missing, again=True)
        return len(missing)


def _by_digest(
    copies: Collection[WholeCopy], before: Mapping[str, int] | None
) -> tuple[dict[str, int], bool]:
    """Return the bytes of each digest, and whether the digests are those that were here before."""
    here = {copy.digest: copy.disk_bytes for copy in copies}
    return here, before is not None and here.keys() == before.keys()
