"""Leases that outlive the caller: kept on disk, so that they protect their images across restarts too."""

import errno
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta

import anyio
import anyio.abc
import anyio.lowlevel
import attrs

from hmret.actors.locks import Locks
from hmret.disk.hypeman.documents import UnreadableError
from hmret.disk.layout import OWN
from hmret.disk.records.engine import LEASES, load_leases, save_leases
from hmret.engine.platform import Platform
from hmret.model.clock.unwatched import NO_GAPS, Gaps
from hmret.model.errors import EngineClosedError
from hmret.model.records.leases import Lease, LeaseRecord
from hmret.model.references import Key
from hmret.model.report import Leased
from hmret.model.times import SECOND, datetime_of, timedelta_nanoseconds
from hmret.model.values import define

REMEDY = "remove the file once no lease in it matters any more, then restart hmret"
"""What to do about an unreadable record of leases."""

_STOPPED = "the engine has stopped"


@define(eq=False)
class _Held:
    """A lease, and the task that holds its lock."""

    record: LeaseRecord
    deadline: float
    """By the event loop's clock, which is not affected by changes to the wall clock."""
    expires_at_ns: int
    """The same by the wall clock; later than recorded if time has passed since that does not count."""
    changed: anyio.Event = attrs.field(factory=anyio.Event)
    is_granted: bool = False
    """Whether it is in force: while being granted it already protects its image, but is not listed or recorded."""
    has_ended: bool = False

    @property
    def as_lease(self) -> LeaseRecord:
        """The lease with its current expiry."""
        return attrs.evolve(self.record, expires_at_ns=self.expires_at_ns)

    def change(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()


class Leases:
    """Grants, renews and ends durable leases; each holds its image's lock in a task of its own."""

    def __init__(
        self, locks: Locks, platform: Platform, data_fd: int, on_expiry: Callable[[Lease], None]
    ) -> None:
        self._locks = locks
        self._filesystem = platform.filesystem
        self._threads = platform.threads
        self._clock = platform.clock
        self._data_fd = data_fd
        self._on_expiry = on_expiry
        self._held: dict[str, _Held] = {}
        self._saving = anyio.Lock()
        self._keeps_record = False
        self._tasks: anyio.abc.TaskGroup | None = None
        """None: not started yet, or stopped."""
        self.fault: tuple[str, str] | None = None
        """Path and problem if the recorded leases cannot be read, in which case no image may be deleted."""

    async def run(
        self,
        *,
        trusts_clock: bool,
        keeps_record: bool,
        gaps: Gaps = NO_GAPS,
        task_status: anyio.abc.TaskStatus[None],
    ) -> None:
        """Take over the recorded leases, signal that they are held, and hold them until cancelled.

        If the wall clock is not trusted, each is held for its full duration; otherwise unwatched time does
        not count. Only an engine that keeps the record reports leases that expire and removes them from it.
        """
        self._keeps_record = keeps_record
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                for record in await self._load():
                    rest_ns = record.ttl_ns
                    if trusts_clock:
                        # Never for longer than it was granted, whatever the clock says.
                        # guard(lease-in-watched-time): A host that was off does not use up a lease: it lasts
                        # for the granted duration of watched time.
                        unwatched_ns = gaps.since(record.expires_at_ns - record.ttl_ns)
                        rest_ns = min(record.expires_at_ns + unwatched_ns - self._clock.now_ns(), rest_ns)
                    expires_ns = self._clock.now_ns() + rest_ns
                    await self._hold_in_task(_Held(record, _deadline(rest_ns), expires_ns, is_granted=True))
                task_status.started()
                await anyio.sleep_forever()
        finally:
            self._tasks = None
            # The data directory's descriptor is closed after this, when nothing may be writing.
            with anyio.CancelScope(shield=True):
                async with self._saving:
                    pass

    async def _load(self) -> Sequence[LeaseRecord]:
        try:
            return await self._threads.run(load_leases, self._filesystem, self._data_fd)
        except (OSError, UnreadableError) as error:
            self.fault = f"{OWN}/{LEASES}", str(error)
            return ()

    async def grant(
        self, key: Key, owner: str, reason: str, ttl: timedelta, confirm: Callable[[], Awaitable[object]]
    ) -> LeaseRecord:
        """Grant a lease on an image, provided that `confirm`, called under its lock, raises nothing.

        Raises:
            ValueError: `ttl` is not positive.
            OSError: it could not be recorded, so it is not granted.
            EngineClosedError: the engine has stopped.
        """
        ttl_ns = _positive(ttl)
        record = LeaseRecord(
            id=os.urandom(8).hex(),
            repository=key[0],
            digest=key[1],
            owner=owner,
            reason=reason,
            ttl_ns=ttl_ns,
            expires_at_ns=self._clock.now_ns() + ttl_ns,
        )
        if self.fault is not None:
            # Its record would replace the unreadable one, and lose the leases in it.
            raise OSError(errno.EIO, f"{self.fault[1]}; {REMEDY}", self.fault[0])
        held = _Held(record, _deadline(ttl_ns), record.expires_at_ns)
        try:
            await self._hold_in_task(held)
            await confirm()
            held.is_granted = True
            await self._save()
            # A caller that was cancelled never learns of the lease, so it would never end it.
            await anyio.lowlevel.checkpoint_if_cancelled()
        except BaseException:
            await self._withdraw(held)
            raise
        return record

    async def renew(self, lease_id: str, ttl: timedelta) -> LeaseRecord:
        """Make a lease last for `ttl` from now.

        Raises:
            KeyError: there is no such lease, or it has expired.
            ValueError: `ttl` is not positive.
            OSError: it could not be recorded; it is in force nevertheless, until a restart.
            EngineClosedError: the engine has stopped.
        """
        ttl_ns = _positive(ttl)
        held = self._granted(lease_id)
        expires_ns = self._clock.now_ns() + ttl_ns
        held.record = attrs.evolve(held.record, ttl_ns=ttl_ns, expires_at_ns=expires_ns)
        held.expires_at_ns = expires_ns
        held.deadline = _deadline(ttl_ns)
        held.change()
        await self._save()
        return held.record

    async def end(self, lease_id: str) -> None:
        """End a lease.

        Raises:
            KeyError: there is no such lease, or it has expired.
            OSError: its end could not be recorded; a restart brings it back until it expires.
            EngineClosedError: the engine has stopped.
        """
        self._end(self._granted(lease_id))
        await self._save()

    def list(self) -> tuple[LeaseRecord, ...]:
        """List the durable leases in order of expiry; may be called from any thread."""
        granted = (held.as_lease for held in tuple(self._held.values()) if held.is_granted)
        return tuple(sorted(granted, key=lambda lease: lease.expires_at_ns))

    def _granted(self, lease_id: str) -> _Held:
        """Find a granted lease."""
        if self._tasks is None:
            raise EngineClosedError(_STOPPED)
        held = self._held[lease_id]
        if not held.is_granted:
            raise KeyError(lease_id)
        return held

    async def _withdraw(self, held: _Held) -> None:
        """End a lease that is not granted after all, also on disk, where it may already be recorded."""
        self._end(held)
        if held.is_granted:
            with anyio.CancelScope(shield=True), suppress(OSError, EngineClosedError):
                await self._save()

    def _end(self, held: _Held) -> None:
        self._held.pop(held.record.id, None)
        held.has_ended = True
        held.change()

    async def _hold_in_task(self, held: _Held) -> None:
        """Hold the lock of a lease's image in a task; returns when it is held."""
        if self._tasks is None:
            raise EngineClosedError(_STOPPED)
        await self._tasks.start(self._hold, held)

    async def _hold(self, held: _Held, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        lease = held.as_lease
        async with self._locks.leasing(lease):
            self._held[lease.id] = held
            task_status.started()
            while not held.has_ended and anyio.current_time() < held.deadline:
                with anyio.CancelScope(deadline=held.deadline):
                    await held.changed.wait()
        if not held.has_ended:
            self._end(held)
            if self._keeps_record:
                self._on_expiry(lease)
                # It has ended whether or not the record can be updated.
                with suppress(OSError, EngineClosedError):
                    await self._save()

    async def _save(self) -> None:
        """Record the current leases durably."""
        async with self._saving:
            if self._tasks is None:
                raise EngineClosedError(_STOPPED)
            # With the duration of each, from which the time that does not count is computed again.
            records = sorted(
                (held.record for held in self._held.values() if held.is_granted),
                key=lambda record: record.expires_at_ns,
            )
            await self._threads.run(save_leases, self._filesystem, self._data_fd, records)


def _deadline(rest_ns: int) -> float:
    return anyio.current_time() + rest_ns / SECOND


def _positive(ttl: timedelta) -> int:
    if ttl <= timedelta(0):
        raise ValueError(f"ttl must be more than zero, got {ttl}")
    return timedelta_nanoseconds(ttl)


def new_lease(key: Key, owner: str, reason: str, ttl: timedelta | None, now_ns: int) -> Lease:
    """Make a lease that begins now and ends after `ttl` at the latest."""
    expires_at_ns = None if ttl is None else now_ns + timedelta_nanoseconds(ttl)
    return Lease(
        id=os.urandom(8).hex(),
        repository=key[0],
        digest=key[1],
        owner=owner,
        reason=reason,
        expires_at_ns=expires_at_ns,
    )


def leased(lease: Lease) -> Leased:
    """Describe a lease as an embedder sees it."""
    expires_at = None if lease.expires_at_ns is None else datetime_of(lease.expires_at_ns)
    return Leased(lease.id, lease.repository, lease.digest, expires_at, lease.owner, lease.reason)
