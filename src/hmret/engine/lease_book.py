"""Leases that outlive their asker: kept on the disk, so that they cover their images after a restart too."""

import os
from collections.abc import Awaitable, Callable
from datetime import timedelta

import anyio
import anyio.abc
import attrs

from hmret.actors.locks import Lease, Locks
from hmret.disk.documents import UnreadableError
from hmret.disk.layout import OWN
from hmret.disk.own_files import LEASES, LeaseRecord, load_leases, save_leases
from hmret.engine.surroundings import Surroundings
from hmret.model.errors import EngineClosedError
from hmret.model.images import Key
from hmret.model.times import SECOND, timedelta_nanoseconds

__all__ = ["LeaseBook"]


@attrs.define(eq=False)
class _Held:
    """One lease, and the task that holds its lock."""

    record: LeaseRecord
    deadline: float
    """By the event loop's clock, which no setting of the wall clock moves."""
    changed: anyio.Event = attrs.field(factory=anyio.Event)
    has_ended: bool = False

    def change(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()


class LeaseBook:
    """Grants, renews and ends durable leases; each holds its image's lock in a task of its own."""

    def __init__(
        self, locks: Locks, surroundings: Surroundings, data_fd: int, on_expiry: Callable[[Lease], None]
    ) -> None:
        self._locks = locks
        self._filesystem = surroundings.filesystem
        self._threads = surroundings.threads
        self._clock = surroundings.clock
        self._data_fd = data_fd
        self._on_expiry = on_expiry
        self._held: dict[str, _Held] = {}
        self._saving = anyio.Lock()
        self._tasks: anyio.abc.TaskGroup | None = None
        self.fault: tuple[str, str] | None = None
        """Path and problem where the leases on record cannot be read: then no image may be deleted."""

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Take the leases on record, tell that they are held, and hold them until cancelled."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                records = await self._threads.run(load_leases, self._filesystem, self._data_fd)
            except (OSError, UnreadableError) as error:
                self.fault = f"{OWN}/{LEASES}", str(error)
                records = []
            now_ns = self._clock.now_ns()
            for record in records:
                # Never longer than it was granted for, whatever the clock says.
                rest_ns = min(record.expires_at_ns - now_ns, record.ttl_ns)
                await self._hold_in_task(record, rest_ns)
            task_status.started()
            await anyio.sleep_forever()

    async def grant(
        self, key: Key, owner: str, reason: str, ttl: timedelta, confirm: Callable[[], Awaitable[object]]
    ) -> LeaseRecord:
        """Grant a lease on an image, if `confirm`, called under its lock, raises nothing.

        Raises:
            ValueError: `ttl` is not more than zero.
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
        held = await self._hold_in_task(record, ttl_ns)
        try:
            await confirm()
            await self._save()
        except BaseException:
            self._end(held)
            raise
        return record

    async def renew(self, lease_id: str, ttl: timedelta) -> LeaseRecord:
        """Let a lease last for `ttl` from now.

        Raises:
            KeyError: there is no such lease, or it has expired.
            ValueError: `ttl` is not more than zero.
            OSError: it could not be recorded; it lasts all the same, until a restart.
        """
        ttl_ns = _positive(ttl)
        held = self._held[lease_id]
        expires_ns = self._clock.now_ns() + ttl_ns
        held.record = attrs.evolve(held.record, ttl_ns=ttl_ns, expires_at_ns=expires_ns)
        held.deadline = anyio.current_time() + ttl_ns / SECOND
        held.change()
        await self._save()
        return held.record

    async def end(self, lease_id: str) -> None:
        """End a lease.

        Raises:
            KeyError: there is no such lease, or it has expired.
            OSError: its end could not be recorded; after a restart it is back until it expires.
        """
        self._end(self._held[lease_id])
        await self._save()

    def list(self) -> tuple[LeaseRecord, ...]:
        """List the durable leases, by when they expire."""
        return tuple(sorted((held.record for held in self._held.values()), key=lambda one: one.expires_at_ns))

    def _end(self, held: _Held) -> None:
        self._held.pop(held.record.id, None)
        held.has_ended = True
        held.change()

    async def _hold_in_task(self, record: LeaseRecord, rest_ns: int) -> _Held:
        """Hold the lock of a lease's image in a task; returns when it is held."""
        if self._tasks is None:
            raise EngineClosedError("the engine has stopped")
        held = _Held(record, anyio.current_time() + rest_ns / SECOND)
        await self._tasks.start(self._hold, held)
        return held

    async def _hold(self, held: _Held, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        record = held.record
        lease = Lease(
            id=record.id,
            repository=record.repository,
            digest=record.digest,
            owner=record.owner,
            reason=record.reason,
            expires_at_ns=record.expires_at_ns,
        )
        async with self._locks.leasing(lease):
            self._held[record.id] = held
            task_status.started()
            while not held.has_ended and anyio.current_time() < held.deadline:
                with anyio.move_on_at(held.deadline):
                    await held.changed.wait()
        if not held.has_ended:
            self._end(held)
            self._on_expiry(lease)

    async def _save(self) -> None:
        """Record the leases that there are now, durably."""
        async with self._saving:
            await self._threads.run(save_leases, self._filesystem, self._data_fd, self.list())


def _positive(ttl: timedelta) -> int:
    if ttl <= timedelta(0):
        raise ValueError(f"ttl must be more than zero, got {ttl}")
    return timedelta_nanoseconds(ttl)
