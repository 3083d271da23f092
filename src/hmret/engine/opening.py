"""Opening an engine: what is started in which order, and how it is stopped.

Started from the bottom up: the lock on the data directory, the actors, recovery, sweeps. Stopped from the top down:
sweeps (the image in hand is finished), then the actors, each of which answers whoever still waits for it, then the
lock on the data directory.
"""

import logging
import math
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import attrs

from hmret.actors.deleter import Deleter
from hmret.actors.journal_keeper import JournalKeeper
from hmret.actors.locks import Lease, Locks
from hmret.actors.mailbox import Mailbox
from hmret.actors.reference_collector import ReferenceCollector, ReferenceSource
from hmret.actors.scanner import Scanner
from hmret.actors.state_keeper import StateKeeper
from hmret.disk.filesystem import Filesystem
from hmret.disk.own_files import lock_data_dir
from hmret.engine.deleting import Deleting
from hmret.engine.log import log_event
from hmret.engine.overlook import Overlook
from hmret.engine.retention import Inspection, Retention, SweepRequest
from hmret.engine.surroundings import Surroundings
from hmret.engine.sweeping import Sweeping
from hmret.model.config import RetentionConfig
from hmret.model.errors import ConfigError
from hmret.model.report import SweepError, SweepReport, SweepStatus
from hmret.model.times import datetime_of

__all__ = ["open_engine", "open_inspection", "open_retention"]


@attrs.frozen(eq=False)
class _Actors:
    """All actors of one engine."""

    locks: Locks
    scanner: Scanner
    references: ReferenceCollector
    states: StateKeeper
    deleter: Deleter
    journal: JournalKeeper

    def start(self, tasks: anyio.abc.TaskGroup) -> None:
        for actor in (self.locks, self.scanner, self.references, self.states, self.deleter, self.journal):
            tasks.start_soon(actor.run)

    def close(self) -> None:
        """Take no more requests; the locks first, so that nobody waits for what will not come."""
        for actor in (self.locks, self.deleter, self.references, self.scanner, self.states, self.journal):
            actor.close()


@asynccontextmanager
async def open_retention(
    config: RetentionConfig, *, sources: Sequence[ReferenceSource] = (), metadata_files: bool = True
) -> AsyncIterator[Retention]:
    """Open the engine on a data directory, and sweep it in the background while the block lasts.

    Yields once what an earlier engine left unfinished is finished, before the first sweep has ended. With
    `config.active` false nothing is swept; `mark_used` and `lease` work all the same.

    Args:
        config: the settings.
        sources: an embedder's own references, beside those in the metadata files of guests and snapshots.
        metadata_files: whether those files are read at all; only where `sources` knows every user of an image
            is it safe to say no.

    Raises:
        ConfigError: the data directory is not there.
        DataDirLockedError: another engine works on it.
        OSError: it cannot be written to.
    """
    async with open_engine(
        config, Surroundings(), sources=sources, metadata_files=metadata_files, scheduled=True
    ) as retention:
        yield retention


@asynccontextmanager
async def open_engine(
    config: RetentionConfig,
    surroundings: Surroundings,
    *,
    sources: Sequence[ReferenceSource] = (),
    metadata_files: bool = True,
    scheduled: bool,
) -> AsyncIterator[Retention]:
    """Open the engine as `open_retention` does, on surroundings of choice; unscheduled, it sweeps only when asked."""
    filesystem = surroundings.filesystem
    data_fd = open_data_dir(filesystem, config)
    failure: Exception | None = None
    try:
        lock_fd = lock_data_dir(filesystem, data_fd, config.data_dir)
        try:
            actors = _make_actors(config, surroundings, data_fd, sources, read_files=metadata_files)
            async with anyio.create_task_group() as tasks:
                actors.start(tasks)
                try:
                    async with _sweeping(config, surroundings, actors, scheduled=scheduled) as retention:
                        try:
                            yield retention
                        except Exception as error:  # noqa: BLE001 - the block's own, raised again as it is below
                            failure = error
                finally:
                    actors.deleter.stop_early()
                    actors.close()
        finally:
            filesystem.close(lock_fd)
    finally:
        filesystem.close(data_fd)
    if failure is not None:
        raise failure


@asynccontextmanager
async def open_inspection(
    config: RetentionConfig,
    surroundings: Surroundings,
    *,
    sources: Sequence[ReferenceSource] = (),
) -> AsyncIterator[Inspection]:
    """Open a data directory to look at it only: takes no lock, recovers nothing, writes nothing."""
    data_fd = open_data_dir(surroundings.filesystem, config)
    failure: Exception | None = None
    try:
        actors = _make_actors(config, surroundings, data_fd, sources, read_files=True)
        async with anyio.create_task_group() as tasks:
            actors.start(tasks)
            try:
                yield await _inspect(config, surroundings, actors)
            except Exception as error:  # noqa: BLE001 - the block's own, raised again as it is below
                failure = error
            finally:
                actors.close()
    finally:
        surroundings.filesystem.close(data_fd)
    if failure is not None:
        raise failure


def open_data_dir(filesystem: Filesystem, config: RetentionConfig) -> int:
    """Open the data directory.

    Raises:
        ConfigError: it is not there, or no folder.
    """
    try:
        return filesystem.open(config.data_dir, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigError(f"data_dir: expected a folder, got {config.data_dir}: {error.strerror}") from None


def _make_actors(
    config: RetentionConfig,
    surroundings: Surroundings,
    data_fd: int,
    sources: Sequence[ReferenceSource],
    *,
    read_files: bool,
) -> _Actors:
    filesystem, threads = surroundings.filesystem, surroundings.threads
    return _Actors(
        locks=Locks(_tell_expiry),
        scanner=Scanner(filesystem, data_fd, threads),
        references=ReferenceCollector(filesystem, data_fd, threads, sources, read_files=read_files),
        states=StateKeeper(filesystem, data_fd, threads),
        deleter=Deleter(filesystem, data_fd, threads),
        journal=JournalKeeper(filesystem, data_fd, threads, _tell_journal_failure, enabled=config.journal),
    )


def _tell_journal_failure(error: OSError) -> None:
    log_event(logging.WARNING, "journal_not_written", error=error.strerror)


def _tell_expiry(lease: Lease) -> None:
    log_event(
        logging.WARNING,
        "lease_expired",
        repository=lease.repository,
        digest=lease.digest,
        owner=lease.owner,
        reason=lease.reason,
    )


async def _inspect(config: RetentionConfig, surroundings: Surroundings, actors: _Actors) -> Inspection:
    overlook = Overlook(config, actors.scanner, actors.references, actors.states, surroundings.threads)
    record = await actors.states.load_clock()
    deleting = Deleting(overlook, actors.locks, actors.deleter)
    sweeping = Sweeping(overlook, deleting, actors.journal, surroundings.clock, record)
    return Inspection(sweeping, actors.scanner)


@asynccontextmanager
async def _sweeping(
    config: RetentionConfig, surroundings: Surroundings, actors: _Actors, *, scheduled: bool
) -> AsyncIterator[Retention]:
    """Recover, then sweep in the background, and at the end stop after the image in hand."""
    inspection = await _inspect(config, surroundings, actors)
    recovery = await actors.deleter.recover()
    await inspection.sweeping.tell_recovery(recovery, surroundings.clock.now_ns())
    requests: Mailbox[SweepRequest] = Mailbox()
    retention = Retention(
        inspection,
        actors.states,
        requests,
        {
            "sweeps": requests,
            "locks": actors.locks,
            "scanner": actors.scanner,
            "references": actors.references,
            "states": actors.states,
            "deleter": actors.deleter,
            "journal": actors.journal,
        },
    )

    async def sweep(_request: SweepRequest) -> SweepReport:
        if not config.active:
            now = datetime_of(surroundings.clock.now_ns())
            return SweepReport(status=SweepStatus.DISABLED, started_at=now, duration_seconds=0.0)
        retention.begin_sweep()
        report = await _sweep_or_report(inspection.sweeping)
        retention.end_sweep(report)
        return report

    async def sweep_on_schedule() -> None:
        interval = config.sweep_interval.total_seconds()
        begin = anyio.current_time()
        while True:
            await retention.sweep()
            # Sweeps that took longer than the interval are not made up for.
            missed = math.floor((anyio.current_time() - begin) / interval) + 1
            begin += missed * interval
            await anyio.sleep_until(begin)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(requests.serve_in_turn, sweep)
        if scheduled and config.active:
            tasks.start_soon(sweep_on_schedule)
        try:
            yield retention
        finally:
            actors.deleter.stop_early()
            tasks.cancel_scope.cancel()


async def _sweep_or_report(sweeping: Sweeping) -> SweepReport:
    """Sweep; what nobody foresaw becomes a report, and the next sweep tries again."""
    started_ns = sweeping.clock.now_ns()
    try:
        return await sweeping.sweep()
    except Exception as error:  # noqa: BLE001 - the boundary: one sweep's failure must not end the engine
        log_event(logging.ERROR, "sweep_failed", error=f"{type(error).__name__}: {error}")
        return SweepReport(
            status=SweepStatus.ERROR,
            started_at=datetime_of(started_ns),
            duration_seconds=(sweeping.clock.now_ns() - started_ns) / 1e9,
            errors=(SweepError(path="", error=f"{type(error).__name__}: {error}"),),
        )
