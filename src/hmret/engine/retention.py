"""What an embedder holds: the open engine."""

import math
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Protocol

import anyio
import attrs

from hmret.actors.locks import Lease, Locks
from hmret.actors.mailbox import Mailbox, Request
from hmret.actors.scanner import Scanner
from hmret.actors.state_keeper import StateKeeper
from hmret.disk.clock import Clock
from hmret.disk.layout import DIGEST_HEX, digest_of
from hmret.engine.sweeping import Sweeping
from hmret.engine.tally import journal_entry
from hmret.model.clock_watch import watch_clock
from hmret.model.errors import ImageNotFoundError, InvalidReferenceError
from hmret.model.images import Key
from hmret.model.planning import Plan, Verdict
from hmret.model.references import ImageReference, parse_reference
from hmret.model.report import MarkedUsed, SweepReport
from hmret.model.times import datetime_of, timedelta_nanoseconds

__all__ = ["HasMailbox", "Inspection", "Leased", "Retention", "Statistics", "SweepRequest"]


class HasMailbox(Protocol):
    """Something that is asked through a mailbox."""

    @property
    def waiting(self) -> int:
        """How many requests wait in it."""
        ...


@attrs.frozen
class Leased:
    """An image that a lease covers."""

    id: str
    repository: str
    digest: str
    expires_at: datetime | None
    """None: the lease ends with its block."""


@attrs.frozen(kw_only=True)
class Statistics:
    """The engine in numbers, since it was opened."""

    sweeping: bool
    """Whether a sweep runs now."""
    images_seen: int
    """Images that the sweep that runs, or the last one, has come to."""
    sweeps: int
    """Sweeps that have ended."""
    deleted_images: int
    deleted_bytes: int
    failed_deletes: int
    last_report: SweepReport | None
    """What the last sweep did; None: none has ended yet."""
    leases_offered: bool | None
    """Whether the kernel's file leases work here; None: not tried yet."""
    waiting: dict[str, int]
    """Messages that wait in each actor's mailbox."""


@attrs.frozen(eq=False, kw_only=True)
class SweepRequest(Request[SweepReport]):
    """Asks for a sweep of its own."""


@attrs.frozen(eq=False)
class Inspection:
    """Looks without touching: what a sweep would do, and why."""

    sweeping: Sweeping
    scanner: Scanner

    @property
    def locks(self) -> Locks:
        """The lock actor."""
        return self.sweeping.deleting.locks

    @property
    def clock(self) -> Clock:
        """Where the time comes from."""
        return self.sweeping.clock

    async def plan(self, at: datetime | None = None) -> Plan:
        """Make the plan that a sweep would follow now, or at another time, if nothing else changes until then.

        Raises:
            EngineClosedError: the engine has stopped.
            ValueError: `at` has no time zone.
        """
        reading = self.clock.read()
        _, clock_fault = watch_clock(self.sweeping.clock_record, reading)
        overlook = self.sweeping.overlook
        survey = await overlook.survey(
            leases=await self.locks.leases(),
            clock_fault=clock_fault,
            backing_off=self.sweeping.deleting.backoff.waiting(reading.boot_ns),
        )
        return await overlook.decide(survey, datetime_of(reading.wall_ns) if at is None else at)

    async def explain(self, image: str, digest: str | None = None) -> Verdict:
        """Tell what a sweep would do now with one image, and everything that holds against its deletion.

        Raises:
            InvalidReferenceError: the text is no reference.
            ImageNotFoundError: the image is not here.
            EngineClosedError: the engine has stopped.
        """
        repository, found = await self.resolve(_named(image, digest), image)
        verdict = (await self.plan()).verdict(repository, found)
        if verdict is None:
            raise ImageNotFoundError(f"{image}: not in the cache")
        return verdict

    async def resolve(self, named: ImageReference, text: str) -> Key:
        """Find the image that a reference names now."""
        if named.digest is not None:
            return named.repository, named.digest
        digest = await self.scanner.resolve_tag(named.repository, named.tag or "latest")
        if digest is None:
            raise ImageNotFoundError(f"{text}: not in the cache")
        return named.repository, digest


@attrs.define(eq=False)
class Retention:
    """The open engine; made by `open_retention`."""

    _inspection: Inspection
    _states: StateKeeper
    _sweeps: Mailbox[SweepRequest]
    _mailboxes: Mapping[str, "HasMailbox"]
    _is_sweeping: bool = attrs.field(default=False, init=False)
    _reports: int = attrs.field(default=0, init=False)
    _deleted_images: int = attrs.field(default=0, init=False)
    _deleted_bytes: int = attrs.field(default=0, init=False)
    _failed_deletes: int = attrs.field(default=0, init=False)
    _last_report: SweepReport | None = attrs.field(default=None, init=False)

    async def mark_used(self, image: str, digest: str | None = None) -> MarkedUsed:
        """Say that an image is about to be used: it is here now, and stays for at least its window from now.

        Takes a reference by tag or digest; a digest given beside it counts instead. Waits for a deletion of this
        very image that is under way, and for no other.

        Raises:
            InvalidReferenceError: the text is no reference.
            ImageNotFoundError: the image is not here, not ready or broken: pull it again.
            EngineClosedError: the engine has stopped.
            OSError: its timer could not be cleared, so nothing is promised.
        """
        named = _named(image, digest)
        used = None
        while used is None:
            key = await self._inspection.resolve(named, image)
            async with self._inspection.locks.using(key):
                if await self._still_names(named, key):
                    used = await self._confirm(key, image)
        await self._note_use(used)
        return used

    @asynccontextmanager
    async def lease(
        self,
        image: str,
        digest: str | None = None,
        *,
        reason: str = "",
        owner: str = "",
        ttl: timedelta | None = None,
    ) -> AsyncIterator[Leased]:
        """Keep an image from deletion while this block lasts, or for `ttl` at most; implies `mark_used`.

        Raises:
            as `mark_used`; ValueError: `ttl` is not more than zero.
        """
        if ttl is not None and ttl <= timedelta(0):
            raise ValueError(f"ttl must be more than zero, got {ttl}")
        named = _named(image, digest)
        while True:
            key = await self._inspection.resolve(named, image)
            expires_ns = None
            if ttl is not None:
                expires_ns = self._inspection.clock.now_ns() + timedelta_nanoseconds(ttl)
            lease = Lease(
                id=os.urandom(8).hex(),
                repository=key[0],
                digest=key[1],
                owner=owner,
                reason=reason,
                expires_at_ns=expires_ns,
            )
            seconds = math.inf if ttl is None else ttl.total_seconds()
            async with self._inspection.locks.leasing(lease, seconds):
                if not await self._still_names(named, key):
                    continue
                await self._note_use(await self._confirm(key, image))
                expires_at = None if expires_ns is None else datetime_of(expires_ns)
                yield Leased(lease.id, *key, expires_at)
                return

    async def sweep(self) -> SweepReport:
        """Carry out one sweep; if one runs already, waits for that and then has its own.

        Raises:
            EngineClosedError: the engine has stopped.
        """
        return await self._sweeps.ask(SweepRequest())

    async def plan(self, at: datetime | None = None) -> Plan:
        """Make the plan that a sweep would follow now, or at another time; changes nothing.

        Raises:
            EngineClosedError: the engine has stopped.
            ValueError: `at` has no time zone.
        """
        return await self._inspection.plan(at)

    async def explain(self, image: str, digest: str | None = None) -> Verdict:
        """Tell what a sweep would do now with one image, and everything that holds against its deletion.

        Raises:
            InvalidReferenceError: the text is no reference.
            ImageNotFoundError: the image is not here.
            EngineClosedError: the engine has stopped.
        """
        return await self._inspection.explain(image, digest)

    def statistics(self) -> Statistics:
        """Tell the engine in numbers; never waits."""
        return Statistics(
            sweeping=self._is_sweeping,
            images_seen=self._inspection.scanner.images_seen,
            sweeps=self._reports,
            deleted_images=self._deleted_images,
            deleted_bytes=self._deleted_bytes,
            failed_deletes=self._failed_deletes,
            last_report=self._last_report,
            leases_offered=self._inspection.sweeping.deleting.leases_offered,
            waiting={name: mailbox.waiting for name, mailbox in self._mailboxes.items()},
        )

    def begin_sweep(self) -> None:
        """Note that a sweep begins."""
        self._is_sweeping = True

    def end_sweep(self, report: SweepReport) -> None:
        """Note what a sweep did."""
        self._is_sweeping = False
        self._reports += 1
        self._deleted_images += report.deleted_images
        self._deleted_bytes += report.deleted_bytes
        self._failed_deletes += report.failed_deletes
        self._last_report = report

    async def _still_names(self, named: ImageReference, key: Key) -> bool:
        """Tell whether a tag still points to the image whose lock we now have."""
        if named.tag is None:
            return True
        return await self._inspection.scanner.resolve_tag(named.repository, named.tag) == key[1]

    async def _note_use(self, used: MarkedUsed) -> None:
        """Write a cleared timer into the journal."""
        if used.cleared:
            now_ns = self._inspection.clock.now_ns()
            key = used.repository, used.digest
            await self._inspection.sweeping.journal.append(
                [journal_entry(now_ns, "clear", key, reason="used")]
            )

    async def _confirm(self, key: Key, text: str) -> MarkedUsed:
        """Check, under its lock, that an image is here and whole, and clear its timer."""
        # The lock must last until the threads have ended, also when the caller is cancelled.
        with anyio.CancelScope(shield=True):
            image = await self._inspection.scanner.look_at(key)
            if image is None:
                raise ImageNotFoundError(f"{text}: not in the cache")
            if image.broken is not None:
                raise ImageNotFoundError(f"{text}: broken: {image.broken}")
            if image.status != "ready":
                raise ImageNotFoundError(f"{text}: not ready: {image.status}")
            cleared, faults = await self._states.clear((key,), durable=True)
            if faults:
                raise OSError(f"{faults[0].path}: {faults[0].error}")
        return MarkedUsed(*key, cleared=cleared > 0)


def _named(image: str, digest: str | None) -> ImageReference:
    """Read what a caller names; a digest may come with or without `sha256:`.

    Raises:
        InvalidReferenceError: it is no reference.
    """
    named = parse_reference(image)
    if digest is None:
        return named
    hexadecimal = digest.removeprefix("sha256:")
    if not DIGEST_HEX.fullmatch(hexadecimal):
        raise InvalidReferenceError(f"not a digest: {digest[:100]!r}")
    return ImageReference(named.repository, None, digest_of(hexadecimal))
