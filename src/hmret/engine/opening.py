"""Opening an engine: what is started in which order, and how it is stopped.

Started from the bottom up: the lock on the data directory, the actors, recovery, sweeps. Stopped from the top
down: sweeps (the current image is finished), then the actors, each of which answers all callers that are
still waiting, then the lock on the data directory.
"""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing, suppress
from functools import partial
from typing import Any

import anyio
import attrs

from hmret.actors.deleter import Deleter
from hmret.actors.journal_keeper import JournalKeeper
from hmret.actors.mailbox import Actor
from hmret.actors.reference_collector import ReferenceSource
from hmret.disk.data_dir import DataDir
from hmret.disk.deletion.recovery.trash_size import trash_bytes
from hmret.disk.deletion.trash.reserve import NO_SPACE, NO_SPACE_REMEDY
from hmret.disk.filesystem import Filesystem
from hmret.disk.kernel.clock import Clock
from hmret.disk.kernel_lease_trial import do_leases_break
from hmret.disk.layout import OWN, path_below
from hmret.disk.records.engine import load_clock_record, load_last_users, save_last_users
from hmret.engine.counters import Counters
from hmret.engine.events import EventHub
from hmret.engine.fleet.membership import OpenFleet, membership
from hmret.engine.inspection import Inspection
from hmret.engine.log import log_event
from hmret.engine.opening_inspection import Watchers, inspect, opened_data_dir
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.engine.schedule import Schedule
from hmret.engine.suspensions import LEASES_BROKEN
from hmret.engine.sweep.deletion_run import DeletionRun
from hmret.engine.sweep.quarantine import Quarantine
from hmret.engine.sweep.sweep import Sweep
from hmret.engine.tasks import OneTask, running
from hmret.engine.watch.last_users import LastUsers
from hmret.engine.watch.looks import knowing_boot
from hmret.model.fleet import FleetLink
from hmret.model.policy.config import RetentionConfig
from hmret.model.times import timedelta_nanoseconds


def open_retention(
    config: RetentionConfig,
    *,
    sources: Sequence[ReferenceSource] | None = None,
    metadata_files: bool = True,
) -> AbstractAsyncContextManager[Retention]:
    """Open the engine on a data directory and sweep it in the background while the block lasts.

    Yields once recovery from an earlier engine is complete, without waiting for the first sweep to end. With
    `config.active` false no sweeps run; `mark_used` and `lease` still work.

    The same task must enter and leave the block; a server with `start()` and `stop()` runs it in a dedicated
    task, as docs/EMBEDDING.md shows. The engine belongs to the event loop on which it was opened.

    Args:
        config: the settings.
        sources: an embedder's own references, in addition to those in the metadata files of guests and
            snapshots; None: none.
        metadata_files: whether those files are read at all; False is safe only if `sources` knows every user
            of every image.

    Raises:
        ConfigError: the data directory does not exist.
        DataDirLockedError: another engine is working on it, or on the same images.
        DataDirMovedError: raised out of the block, which is cancelled: the path of the data directory now
            leads elsewhere.
        OSError: it is not writable.
        RuntimeError: the block was left by a different task than the one that entered it.
    """
    return OneTask(
        open_engine(config, Platform(), sources=sources or (), metadata_files=metadata_files, scheduled=True)
    )


@asynccontextmanager
async def open_engine(
    config: RetentionConfig,
    platform: Platform,
    *,
    sources: Sequence[ReferenceSource] = (),
    metadata_files: bool = True,
    scheduled: bool,
    open_fleet: OpenFleet | None = None,
) -> AsyncIterator[Retention]:
    """Open the engine as `open_retention` does, on a given platform; unscheduled, it sweeps only on request.

    That is until `Retention.begin_sweeps` is called, once the caller has set up what must precede the first
    sweep.

    `open_fleet` opens the fleet that this host is part of; None: the one of the settings, if there is one.
    """
    filesystem = platform.filesystem
    with (
        opened_data_dir(filesystem, config) as data_fd,
        closing(_claimed(filesystem, data_fd, config.data_dir)) as data_dir,
    ):
        platform = await knowing_boot(platform, data_fd)
        watchers = Watchers.of(platform, data_fd, sources, read_files=metadata_files)
        counters = Counters()
        deleter = Deleter(filesystem, data_fd, platform.threads, monotonic_ns=platform.monotonic_ns)
        journal = JournalKeeper(
            filesystem,
            data_fd,
            platform.threads,
            partial(_note_journal_failure, counters),
            enabled=config.journal,
        )
        async with (
            _saving_caches(watchers, platform),
            # The locks end first, so that no caller waits in vain.
            running((*watchers.actors, deleter, journal), closed_first=(watchers.locks, deleter)) as tasks,
            AsyncExitStack() as fleet,
        ):
            inspection = await inspect(
                config,
                platform,
                watchers,
                data_fd,
                tasks,
                keeps_records=True,
                quarantined_bytes=lambda: counters.quarantined_bytes,
            )
            events = EventHub()
            link = await fleet.enter_async_context(
                membership(config, platform, data_fd, events, open_fleet=open_fleet)
            )
            sweeps = await _sweep(
                platform,
                inspection,
                deleter,
                journal,
                counters=counters,
                data_fd=data_fd,
                data_dir=data_dir,
                events=events,
                link=link,
            )
            await _reopen_undone(platform, data_fd, deleter)
            await _recover(sweeps, deleter, platform.clock)
            await deleter.fill_reserve()
            await _try_leases(sweeps, platform, data_fd)
            sweeps.counters.add_settings(platform.clock.now_ns())
            schedule = Schedule(config, sweeps)
            tasks.start_soon(schedule.run)
            if scheduled:
                schedule.begin()
            host_fleet = None
            if link is not None:
                from hmret.engine.fleet.host_fleet import host_fleet_of  # noqa: PLC0415 - without a fleet it is not imported

                host_fleet = host_fleet_of(link)
            actors: dict[str, Actor[Any]] = {
                "sweeps": schedule,
                **attrs.asdict(watchers, recurse=False),
                "deleter": deleter,
                "journal": journal,
            }
            try:
                yield Retention(inspection, sweeps, schedule, actors, host_fleet)
            finally:
                sweeps.events.end()
                deleter.stop_early()
                await schedule.stop()
                with anyio.CancelScope(shield=True):
                    await sweeps.save_users()


@asynccontextmanager
async def open_quarantine(config: RetentionConfig, platform: Platform) -> AsyncIterator[Quarantine]:
    """Open a data directory only to inspect its quarantine: takes no lock, recovers nothing, writes nothing."""
    with opened_data_dir(platform.filesystem, config) as data_fd:
        platform = await knowing_boot(platform, data_fd)
        watchers = Watchers.of(platform, data_fd)
        deleter = Deleter(platform.filesystem, data_fd, platform.threads, monotonic_ns=platform.monotonic_ns)
        async with running((*watchers.actors, deleter)) as tasks:
            inspection = await inspect(config, platform, watchers, data_fd, tasks, keeps_records=False)
            yield _quarantine(platform, inspection, deleter, Counters())


def _claimed(filesystem: Filesystem, data_fd: int, path: str) -> DataDir:
    try:
        return DataDir.claim(filesystem, data_fd, path)
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        detail = f"hmret cannot create its own folder: {error.strerror}; {NO_SPACE_REMEDY}"
        raise OSError(error.errno, detail, path_below(path, OWN)) from None


async def _try_leases(sweeps: Sweep, platform: Platform, data_fd: int) -> None:
    """Find out whether a rename breaks the kernel's leases here, and log it if so."""
    if await platform.threads.run(do_leases_break, platform.filesystem, data_fd):
        sweeps.surveyor.file_leases_break = True
        sweeps.deletion_run.leases_offered = False
        log_event(logging.WARNING, "leases_broken", detail=LEASES_BROKEN)


async def _reopen_undone(platform: Platform, data_fd: int, deleter: Deleter) -> None:
    """Where the host has been started since the last sweep, have recovery look at recent deletions again."""
    record = await platform.threads.run(load_clock_record, platform.filesystem, data_fd)
    # guard(power-loss-returns-no-tag): A power loss may undo the removal of tags after all else is done; they
    # would lead nowhere for ever.
    if record is None or record.boot_id != platform.clock.read().boot_id:
        await deleter.reopen_undone()


async def _recover(sweeps: Sweep, deleter: Deleter, clock: Clock) -> None:
    """Finish or undo what an earlier engine left; if asked to stop, leaves the rest for the next start."""
    try:
        recovery = await deleter.recover(hold_at_ns=sweeps.quarantine.hold_at_ns)
        released_bytes = await sweeps.quarantine.recover_quarantine()
    except BaseException:
        deleter.stop_early()
        raise
    await sweeps.report_recovery(recovery, clock.now_ns())
    sweeps.counters.add_recovered(len(recovery.finished), recovery.freed_bytes + released_bytes)
    await sweeps.look_into_trash()


@asynccontextmanager
async def _saving_caches(watchers: Watchers, platform: Platform) -> AsyncIterator[None]:
    """Write what is cached to disk after the actors have ended; if that fails, the next start takes longer."""
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True), suppress(OSError):
            await platform.threads.run_alone(watchers.scanner.write_record)
            await platform.threads.run_alone(watchers.states.write_record)
            await platform.threads.run_alone(watchers.references.write_record)


def _note_journal_failure(counters: Counters, error: OSError, is_first: bool) -> None:
    """Count that the journal could not be written; it is logged once until writing works again."""
    counters.record_errors += 1
    if is_first:
        log_event(logging.WARNING, "journal_not_written", error=error.strerror)


def _quarantine(
    platform: Platform, inspection: Inspection, deleter: Deleter, counters: Counters
) -> Quarantine:
    surveyor = inspection.surveyor
    return Quarantine(
        deleter,
        surveyor.locks,
        counters,
        platform.clock.now_ns,
        lambda: surveyor.looks.gaps,
        timedelta_nanoseconds(surveyor.config.quarantine),
    )


async def _sweep(
    platform: Platform,
    inspection: Inspection,
    deleter: Deleter,
    journal: JournalKeeper,
    *,
    counters: Counters,
    data_fd: int,
    data_dir: DataDir,
    events: EventHub,
    link: FleetLink | None,
) -> Sweep:
    """Assemble the parts that sweep, on top of those that survey; `link`: the fleet, None: there is none."""
    filesystem, threads = platform.filesystem, platform.threads
    surveyor, planner = inspection.surveyor, inspection.planner

    async def check_folder() -> None:
        await threads.run(data_dir.check)
        error, data_dir.lock_error = data_dir.lock_error, None
        if error is not None:
            # Two data directories that share their images would not notice each other; it is logged once.
            log_event(logging.WARNING, "images_not_locked", error=error.strerror)

    quarantine = _quarantine(platform, inspection, deleter, counters)
    last_users = LastUsers(lambda users: threads.run(save_last_users, filesystem, data_fd, users))
    last_users.restore(await threads.run(load_last_users, filesystem, data_fd))
    deletion_run = DeletionRun(
        surveyor,
        planner,
        threads,
        surveyor.locks,
        deleter,
        platform.monotonic_ns,
        quarantine,
        check_folder,
        surveyor.backoff,
        journal,
    )
    news = None
    if link is not None:
        from hmret.engine.sweep.fleet_news import FleetNews  # noqa: PLC0415 - without a fleet they are not imported
        from hmret.engine.sweep.releases import Releases  # noqa: PLC0415

        surveyor.fleet = planner.fleet = link
        deletion_run.releases = Releases(link, surveyor.scanner, threads)
        rules = surveyor.config.fleet.rules
        news = FleetNews(link, threads, rules.tells_uses)
    return Sweep(
        surveyor,
        planner,
        deletion_run,
        deleter,
        surveyor.locks,
        quarantine,
        journal,
        threads,
        partial(threads.run, trash_bytes, filesystem, surveyor.config.data_dir, quarantine.names),
        counters,
        last_users,
        events,
        news,
    )
