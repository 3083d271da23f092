"""Opening an engine: what is started in which order, and how it is stopped.

Started from the bottom up: the lock on the data directory, the actors, recovery, sweeps. Stopped from the top down:
sweeps (the image in hand is finished), then the actors, each of which answers whoever still waits for it, then the
lock on the data directory.
"""

import errno
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

import anyio
import anyio.abc
import attrs

from hmret.actors.deleter import Deleter
from hmret.actors.journal_keeper import JournalKeeper
from hmret.actors.locks import Lease, Locks
from hmret.actors.mailbox import Actor
from hmret.actors.reference_collector import ReferenceCollector, ReferenceSource
from hmret.actors.scanner import Scanner
from hmret.actors.state_keeper import StateKeeper
from hmret.disk.backoff_file import load_backoff, save_backoff
from hmret.disk.data_dir import DataDir
from hmret.disk.disk_usage import look_at_usage
from hmret.disk.filesystem import Filesystem
from hmret.disk.folder_record import load_folders, look_at_cache, save_folders
from hmret.disk.last_users_file import load_last_users, save_last_users
from hmret.disk.layout import OWN
from hmret.disk.lease_trial import do_leases_break
from hmret.disk.own_files import (
    load_brake_record,
    load_disk_record,
    save_brake_record,
    save_disk_record,
)
from hmret.disk.reserve import NO_SPACE, NO_SPACE_REMEDY
from hmret.disk.trash_size import trash_bytes
from hmret.engine.backoff import Backoff
from hmret.engine.brake_watch import BrakeWatch
from hmret.engine.counters import Counters
from hmret.engine.deleting import Deleting
from hmret.engine.disk_watch import DiskWatch
from hmret.engine.folder_watch import FolderWatch
from hmret.engine.groups import sole_error
from hmret.engine.inspection import Inspection
from hmret.engine.last_users import LastUsers
from hmret.engine.lease_book import LeaseBook
from hmret.engine.log import log_event
from hmret.engine.looks import knowing_boot, open_looks
from hmret.engine.one_task import OneTask
from hmret.engine.overlook import LEASES_BROKEN, Overlook
from hmret.engine.quarantine import Quarantine
from hmret.engine.retention import HasMailbox, Retention
from hmret.engine.schedule import Schedule
from hmret.engine.surroundings import Surroundings
from hmret.engine.sweeping import Sweeping
from hmret.model.backoff_record import FailureRecord
from hmret.model.brake import BrakeRecord
from hmret.model.clock_watch import watch_clock
from hmret.model.config import RetentionConfig
from hmret.model.disk_record import DiskRecord
from hmret.model.errors import ConfigError
from hmret.model.times import timedelta_nanoseconds
from hmret.model.unavailable import UnavailableError
from hmret.model.users_record import UsersRecord

__all__ = ["open_engine", "open_inspection", "open_retention"]

_NO_FOLDER = (errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


@attrs.frozen(eq=False)
class _Actors:
    """All actors of one engine."""

    locks: Locks
    scanner: Scanner
    references: ReferenceCollector
    states: StateKeeper
    deleter: Deleter
    journal: JournalKeeper

    @property
    def mailboxes(self) -> dict[str, Actor[Any]]:
        """The actors by name."""
        fields = attrs.asdict(self, recurse=False)
        return {name: actor for name, actor in fields.items() if isinstance(actor, Actor)}

    def start(self, tasks: anyio.abc.TaskGroup) -> list[anyio.CancelScope]:
        """Start them, out of reach of whoever cancels the embedder: a sweep that is being stopped still needs them.

        Returns what cancels them.
        """
        scopes = []
        for actor in (self.locks, self.scanner, self.references, self.states, self.deleter, self.journal):
            scopes.append(anyio.CancelScope(shield=True))
            tasks.start_soon(_run_in, scopes[-1], actor.run)
        return scopes

    def close(self) -> None:
        """Take no more requests; the locks first, so that nobody waits for what will not come."""
        for actor in (self.locks, self.deleter, self.references, self.scanner, self.states, self.journal):
            actor.close()


async def _run_in(scope: anyio.CancelScope, run: Callable[[], Awaitable[None]]) -> None:
    with scope:
        await run()


def open_retention(
    config: RetentionConfig,
    *,
    sources: Sequence[ReferenceSource] | None = None,
    metadata_files: bool = True,
) -> AbstractAsyncContextManager[Retention]:
    """Open the engine on a data directory, and sweep it in the background while the block lasts.

    Yields once what an earlier engine left unfinished is finished, before the first sweep has ended. With
    `config.active` false nothing is swept; `mark_used` and `lease` work all the same.

    One task must both enter and leave the block; a server with `start()` and `stop()` keeps it in a task of its own, as
    docs/EMBEDDING.md shows. The engine belongs to the event loop on which it was opened.

    Args:
        config: the settings.
        sources: an embedder's own references, beside those in the metadata files of guests and snapshots; None: none.
        metadata_files: whether those files are read at all; only where `sources` knows every user of an image
            is it safe to say no.

    Raises:
        ConfigError: the data directory is not there.
        DataDirLockedError: another engine works on it, or on the same images.
        DataDirMovedError: out of the block, which is cancelled: the path of the data directory leads elsewhere by now.
        OSError: it cannot be written to.
        RuntimeError: on leaving, the task is another one than that which has entered.
    """
    return OneTask(
        open_engine(
            config, Surroundings(), sources=sources or (), metadata_files=metadata_files, scheduled=True
        )
    )


@asynccontextmanager
async def open_engine(
    config: RetentionConfig,
    surroundings: Surroundings,
    *,
    sources: Sequence[ReferenceSource] = (),
    metadata_files: bool = True,
    scheduled: bool,
) -> AsyncIterator[Retention]:
    """Open the engine as `open_retention` does, on surroundings of choice; unscheduled, it sweeps only when asked.

    Until `Retention.begin_sweeps`, that is: whoever has more to set up before the first sweep calls it then.
    """
    filesystem = surroundings.filesystem
    with ExitStack() as stack:
        data_fd = _open_data_dir(filesystem, config)
        stack.callback(filesystem.close, data_fd)
        try:
            data_dir = DataDir.claim(filesystem, data_fd, config.data_dir)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            detail = f"hmret cannot make its own folder: {error.strerror}; {NO_SPACE_REMEDY}"
            raise OSError(error.errno, detail, f"{config.data_dir.rstrip('/')}/{OWN}") from None
        stack.callback(data_dir.close)
        surroundings = await knowing_boot(surroundings, data_fd)
        actors = _make_actors(config, surroundings, data_fd, sources, read_files=metadata_files)
        async with _keeping(actors, surroundings), _running(actors) as tasks:
            inspection = await _inspect(config, surroundings, actors, data_fd, tasks, data_dir=data_dir)
            await _recover(inspection, actors.deleter)
            await actors.deleter.fill_reserve()
            await _try_leases(inspection, filesystem, surroundings, data_fd)
            inspection.sweeping.counters.note_settings(surroundings.clock.now_ns())
            schedule = Schedule(config, inspection.sweeping)
            tasks.start_soon(schedule.run)
            if scheduled:
                schedule.begin()
            mailboxes: dict[str, HasMailbox] = {"sweeps": schedule, **actors.mailboxes}
            try:
                yield Retention(inspection, actors.states, schedule, mailboxes, surroundings)
            finally:
                inspection.sweeping.events.end()
                actors.deleter.stop_early()
                await schedule.stop()
                with anyio.CancelScope(shield=True):
                    await inspection.sweeping.last_users.keep()


async def _try_leases(
    inspection: Inspection, filesystem: Filesystem, surroundings: Surroundings, data_fd: int
) -> None:
    """Find out whether a rename breaks the kernel's leases here, and say so."""
    if await surroundings.threads.run(do_leases_break, filesystem, data_fd):
        inspection.sweeping.overlook.leases_break = True
        inspection.sweeping.deleting.leases_offered = False
        log_event(logging.WARNING, "leases_broken", detail=LEASES_BROKEN)


async def _recover(inspection: Inspection, deleter: Deleter) -> None:
    """Finish or undo what an earlier engine left; told to stop meanwhile, it leaves the rest for the next start."""
    quarantine = inspection.sweeping.deleting.quarantine
    try:
        recovery = await deleter.recover(hold_at_ns=quarantine.hold_at_ns)
        released_bytes = await quarantine.settle()
    except BaseException:
        deleter.stop_early()
        raise
    await inspection.sweeping.tell_recovery(recovery, inspection.clock.now_ns())
    inspection.sweeping.counters.note_recovered(len(recovery.finished), recovery.freed_bytes + released_bytes)
    await inspection.sweeping.look_into_trash()


@asynccontextmanager
async def open_inspection(
    config: RetentionConfig,
    surroundings: Surroundings,
    *,
    sources: Sequence[ReferenceSource] = (),
) -> AsyncIterator[Inspection]:
    """Open a data directory to look at it only: takes no lock, recovers nothing, writes nothing."""
    with ExitStack() as stack:
        data_fd = _open_data_dir(surroundings.filesystem, config)
        stack.callback(surroundings.filesystem.close, data_fd)
        surroundings = await knowing_boot(surroundings, data_fd)
        actors = _make_actors(config, surroundings, data_fd, sources, read_files=True)
        async with _running(actors) as tasks:
            yield await _inspect(config, surroundings, actors, data_fd, tasks, data_dir=None)


@asynccontextmanager
async def _keeping(actors: _Actors, surroundings: Surroundings) -> AsyncIterator[None]:
    """Write down what is known of the cache when the actors have ended; where that fails, the next start takes longer."""
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True), suppress(OSError):
            await surroundings.threads.run_alone(actors.scanner.write_record)
            await surroundings.threads.run_alone(actors.states.write_record)
            await surroundings.threads.run_alone(actors.references.write_record)


@asynccontextmanager
async def _running(actors: _Actors) -> AsyncIterator[anyio.abc.TaskGroup]:
    """Run the actors while the block lasts; an error of the block comes out as it is, not in a group."""
    failure: Exception | None = None
    try:
        async with anyio.create_task_group() as tasks:
            scopes = actors.start(tasks)
            try:
                yield tasks
            except Exception as error:  # noqa: BLE001 - the block's own, raised again as it is below
                failure = error
            finally:
                actors.close()
                for scope in (tasks.cancel_scope, *scopes):
                    scope.cancel()
    except BaseExceptionGroup as group:
        raise sole_error(group) from None
    if failure is not None:
        raise failure


def _open_data_dir(filesystem: Filesystem, config: RetentionConfig) -> int:
    """Open the data directory.

    Raises:
        ConfigError: it is not there, or no folder.
    """
    try:
        return filesystem.open(config.data_dir, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        # A volume that is not mounted yet, or does not answer, may be there at the next start. A path that makes no sense never is.
        kind = ConfigError if error.errno in _NO_FOLDER else UnavailableError
        raise kind(f"data_dir: expected a folder, got {config.data_dir}: {error.strerror}") from None


def _make_actors(
    config: RetentionConfig,
    surroundings: Surroundings,
    data_fd: int,
    sources: Sequence[ReferenceSource],
    *,
    read_files: bool,
) -> _Actors:
    filesystem, threads = surroundings.filesystem, surroundings.threads

    async def save_disk(record: DiskRecord) -> None:
        await threads.run(save_disk_record, filesystem, data_fd, record)

    async def save_brake(record: BrakeRecord | None) -> None:
        await threads.run(save_brake_record, filesystem, data_fd, record)

    return _Actors(
        locks=Locks(_tell_expiry),
        scanner=Scanner(filesystem, data_fd, threads),
        references=ReferenceCollector(
            filesystem,
            data_fd,
            threads,
            sources,
            read_files=read_files,
            boot_id=surroundings.clock.read().boot_id,
        ),
        states=StateKeeper(filesystem, data_fd, threads),
        deleter=Deleter(filesystem, data_fd, threads, monotonic_ns=surroundings.monotonic_ns),
        journal=JournalKeeper(filesystem, data_fd, threads, _tell_journal_failure, enabled=config.journal),
    )


def _tell_journal_failure(error: OSError) -> None:
    log_event(logging.WARNING, "journal_not_written", error=error.strerror)


def _tell_unlocked(data_dir: DataDir) -> None:
    """Say once that two data directories with the same images would not notice each other."""
    error, data_dir.lock_error = data_dir.lock_error, None
    if error is not None:
        log_event(logging.WARNING, "images_not_locked", error=error.strerror)


def _tell_expiry(lease: Lease) -> None:
    log_event(
        logging.WARNING,
        "lease_expired",
        repository=lease.repository,
        digest=lease.digest,
        owner=lease.owner,
        reason=lease.reason,
    )


async def _inspect(
    config: RetentionConfig,
    surroundings: Surroundings,
    actors: _Actors,
    data_fd: int,
    tasks: anyio.abc.TaskGroup,
    *,
    data_dir: DataDir | None,
) -> Inspection:
    """Put together what looks at a data directory; returns once the leases on record are held.

    `data_dir`: the engine's; None: it is only looked at.
    """
    filesystem, threads = surroundings.filesystem, surroundings.threads

    async def save_disk(record: DiskRecord) -> None:
        await threads.run(save_disk_record, filesystem, data_fd, record)

    async def save_brake(record: BrakeRecord | None) -> None:
        await threads.run(save_brake_record, filesystem, data_fd, record)

    async def check_folder() -> None:
        if data_dir is not None:
            await threads.run(data_dir.check)
            _tell_unlocked(data_dir)

    leases = LeaseBook(actors.locks, surroundings, data_fd, _tell_expiry)
    record = await actors.states.load_clock()
    looks = await open_looks(config, surroundings, data_fd, record)
    reading = surroundings.clock.read()
    _, clock_fault = watch_clock(record, reading)
    # Whether this goes on as an engine is not known yet: if so, that is what lets a lease last the longer.
    gaps = looks.watch(reading, by_engine=True).gaps
    await tasks.start(
        partial(leases.run, trusts_clock=clock_fault is None, keeps_record=data_dir is not None, gaps=gaps)
    )
    looks.watch(reading)
    folders = FolderWatch(
        lambda known: threads.run_alone(look_at_cache, filesystem, data_fd, known),
        lambda record: threads.run_alone(save_folders, filesystem, data_fd, record),
        surroundings.clock,
        await threads.run(load_folders, filesystem, data_fd),
    )
    overlook = Overlook(
        config,
        actors.scanner,
        actors.references,
        actors.states,
        surroundings.threads,
        folders,
    )
    counters = Counters()
    quarantine = Quarantine(
        actors.deleter,
        actors.locks,
        counters,
        surroundings.clock.now_ns,
        lambda: looks.gaps,
        timedelta_nanoseconds(config.quarantine),
    )

    async def save_failures(failures: tuple[FailureRecord, ...]) -> None:
        await threads.run(save_backoff, filesystem, data_fd, failures)

    async def save_users(users: tuple[UsersRecord, ...]) -> None:
        await threads.run(save_last_users, filesystem, data_fd, users)

    last_users = LastUsers(save_users)
    if data_dir is not None:
        last_users.restore(await threads.run(load_last_users, filesystem, data_fd))
    backoff = Backoff(surroundings.clock.read().boot_id, save_failures)
    backoff.restore(await threads.run(load_backoff, filesystem, data_fd))
    deleting = Deleting(
        overlook,
        actors.locks,
        actors.deleter,
        surroundings.monotonic_ns,
        quarantine,
        check_folder,
        backoff,
    )
    sweeping = Sweeping(
        overlook,
        deleting,
        leases,
        actors.journal,
        surroundings.clock,
        record,
        looks,
        DiskWatch(
            partial(threads.run, look_at_usage, filesystem, data_fd),
            save_disk,
            config.disk,
            await threads.run(load_disk_record, filesystem, data_fd),
        ),
        BrakeWatch(
            config.brake_for,
            save_brake,
            await threads.run(load_brake_record, filesystem, data_fd),
        ),
        partial(threads.run, trash_bytes, filesystem, config.data_dir, quarantine.names),
        counters=counters,
        last_users=last_users,
    )
    return Inspection(sweeping, actors.scanner)
