"""Opening a data directory for inspection: the parts that an inspection consists of and every engine builds on.

Nothing that deletes or sweeps is imported for it.
"""

import errno
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Self

import anyio
import anyio.abc

from hmret.actors.locks import Locks
from hmret.actors.mailbox import Actor
from hmret.actors.reference_collector import ReferenceCollector, ReferenceSource
from hmret.actors.scanner import Scanner
from hmret.actors.state_keeper import StateKeeper
from hmret.disk.disk_usage import look_at_usage
from hmret.disk.filesystem import Filesystem
from hmret.disk.records.engine import (
    load_backoff,
    load_brake_record,
    load_disk_record,
    save_backoff,
    save_brake_record,
    save_disk_record,
)
from hmret.disk.records.folders import load_folders, look_at_cache, save_folders
from hmret.engine.fleet.membership import OpenReader, readership
from hmret.engine.inspection import Inspection
from hmret.engine.leases import Leases
from hmret.engine.log import log_event
from hmret.engine.planner import Planner
from hmret.engine.platform import Platform
from hmret.engine.surveyor import Surveyor
from hmret.engine.tasks import running
from hmret.engine.watch.backoff import Backoff
from hmret.engine.watch.brake import BrakeWatch
from hmret.engine.watch.disk import DiskWatch
from hmret.engine.watch.folders import FolderWatch
from hmret.engine.watch.looks import knowing_boot, open_looks
from hmret.model.clock.clock_guard import watch_clock
from hmret.model.errors import ConfigError
from hmret.model.policy.compiled import Policy
from hmret.model.policy.config import RetentionConfig
from hmret.model.records.leases import Lease
from hmret.model.unavailable import UnavailableError
from hmret.model.values import frozen

_NO_FOLDER = (errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


@frozen(eq=False)
class Watchers:
    """The actors that know what is there, and what is in use."""

    locks: Locks
    scanner: Scanner
    references: ReferenceCollector
    states: StateKeeper

    @property
    def actors(self) -> Sequence[Actor[Any]]:
        """All of them, in start order."""
        return (self.locks, self.scanner, self.references, self.states)

    @classmethod
    def of(
        cls,
        platform: Platform,
        data_fd: int,
        sources: Sequence[ReferenceSource] = (),
        *,
        read_files: bool = True,
    ) -> Self:
        """Make those for a data directory."""
        filesystem, threads = platform.filesystem, platform.threads
        return cls(
            Locks(_tell_expiry),
            Scanner(filesystem, data_fd, threads),
            ReferenceCollector(
                filesystem,
                data_fd,
                threads,
                sources,
                read_files=read_files,
                boot_id=platform.clock.read().boot_id,
            ),
            StateKeeper(filesystem, data_fd, threads),
        )


@asynccontextmanager
async def open_inspection(
    config: RetentionConfig, platform: Platform, *, open_reader: OpenReader | None = None
) -> AsyncIterator[Inspection]:
    """Open a data directory for inspection only: takes no lock, recovers nothing, writes nothing.

    `open_reader` opens the fleet that this host is part of; None: the one of the settings, if there is one.
    """
    with opened_data_dir(platform.filesystem, config) as data_fd:
        platform = await knowing_boot(platform, data_fd)
        watchers = Watchers.of(platform, data_fd)
        async with (
            running(watchers.actors) as tasks,
            readership(config, platform, data_fd, open_reader=open_reader) as link,
        ):
            inspection = await inspect(config, platform, watchers, data_fd, tasks, keeps_records=False)
            inspection.surveyor.fleet = inspection.planner.fleet = link
            yield inspection


@contextmanager
def opened_data_dir(filesystem: Filesystem, config: RetentionConfig) -> Iterator[int]:
    """Hold the data directory open while a block lasts.

    Raises:
        ConfigError: it does not exist, or is not a folder.
    """
    try:
        data_fd = filesystem.open(config.data_dir, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        # A volume that is not mounted yet, or does not respond, may be available at the next start. An
        # invalid path never is.
        kind = ConfigError if error.errno in _NO_FOLDER else UnavailableError
        raise kind(f"data_dir: expected a folder, got {config.data_dir}: {error.strerror}") from None
    try:
        yield data_fd
    finally:
        filesystem.close(data_fd)


async def inspect(
    config: RetentionConfig,
    platform: Platform,
    watchers: Watchers,
    data_fd: int,
    tasks: anyio.abc.TaskGroup,
    *,
    keeps_records: bool,
    quarantined_bytes: Callable[[], int] = lambda: 0,
) -> Inspection:
    """Assemble the parts that inspect a data directory; returns once the recorded leases are held.

    `quarantined_bytes` returns the size of what is in quarantine; `keeps_records`: whether this becomes an
    engine, which records the leases that it grants, rather than an inspection.
    """
    filesystem, threads = platform.filesystem, platform.threads

    leases = Leases(watchers.locks, platform, data_fd, _tell_expiry)
    record = await watchers.states.load_clock()
    looks = await open_looks(config, platform, data_fd, record)
    reading = platform.clock.read()
    _, clock_fault = watch_clock(record, reading)
    # Whether this becomes an engine is not known yet; assume so, as leases then last longer.
    gaps = looks.watch(reading, by_engine=True).gaps
    await tasks.start(
        partial(leases.run, trusts_clock=clock_fault is None, keeps_record=keeps_records, gaps=gaps)
    )
    looks.watch(reading)
    folders = FolderWatch(
        lambda known: threads.run_alone(look_at_cache, filesystem, data_fd, known),
        lambda record: threads.run_alone(save_folders, filesystem, data_fd, record),
        platform.clock,
        await threads.run(load_folders, filesystem, data_fd),
    )
    backoff = Backoff(
        platform.clock.read().boot_id,
        lambda failures: threads.run(save_backoff, filesystem, data_fd, failures),
    )
    backoff.restore(await threads.run(load_backoff, filesystem, data_fd))
    disk = DiskWatch(
        partial(threads.run, look_at_usage, filesystem, data_fd),
        lambda record: threads.run(save_disk_record, filesystem, data_fd, record),
        quarantined_bytes,
        config.disk,
        await threads.run(load_disk_record, filesystem, data_fd),
    )
    brake = BrakeWatch(
        config.brake_for,
        lambda record: threads.run(save_brake_record, filesystem, data_fd, record),
        await threads.run(load_brake_record, filesystem, data_fd),
    )
    surveyor = Surveyor(
        config,
        watchers.scanner,
        watchers.references,
        watchers.states,
        threads,
        folders,
        platform.clock,
        record,
        watchers.locks,
        leases,
        looks,
        disk,
        brake,
        backoff,
    )
    return Inspection(surveyor, Planner(Policy.of(config), watchers.scanner, threads))


def _tell_expiry(lease: Lease) -> None:
    log_event(
        logging.WARNING,
        "lease_expired",
        repository=lease.repository,
        digest=lease.digest,
        owner=lease.owner,
        reason=lease.reason,
    )
