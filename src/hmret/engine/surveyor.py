"""Taking the inventory: everything that a plan is based on, as reported by the actors."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set as AbstractSet
from contextlib import suppress
from datetime import datetime
from functools import partial

import anyio
import attrs

from hmret.actors.locks import Locks
from hmret.actors.reference_collector import Protected, ReferenceCollector
from hmret.actors.scanner import Scanner, ScanResult
from hmret.actors.state_keeper import StateKeeper, StatesLoaded
from hmret.actors.threads import Threads
from hmret.disk.hypeman.images import forget_repositories
from hmret.disk.kernel.clock import Clock
from hmret.engine.leases import Leases
from hmret.engine.log import log_event
from hmret.engine.suspensions import Suspensions, is_source
from hmret.engine.sweep.recent_uses import RecentUses
from hmret.engine.tasks import first_error
from hmret.engine.watch.backoff import Backoff
from hmret.engine.watch.brake import BrakeWatch
from hmret.engine.watch.disk import DiskWatch
from hmret.engine.watch.folders import FoldersFound, FolderWatch
from hmret.engine.watch.looks import LookHistory
from hmret.model.clock.clock_guard import ClockReading, ClockRecord, watch_clock
from hmret.model.clock.looks import Watched
from hmret.model.fleet import FleetLink
from hmret.model.grouping import ReferenceIndex, Timers
from hmret.model.images import ContentOwners, DiskUsage, Inventory, Suspension
from hmret.model.plan.plan import Plan
from hmret.model.policy.config import RetentionConfig
from hmret.model.records.folders import FolderSeen
from hmret.model.records.leases import Lease
from hmret.model.references import Key, Reference, forget_references
from hmret.model.times import SECOND, datetime_of, nanoseconds_of
from hmret.model.values import define, frozen

_NEWCOMER_NS = 600 * SECOND
"""A guest created at most this long before a sweep counts as new: its tag may have been missed while it was moved."""
_AHEAD_NS = 300 * SECOND
"""How far such a guest's creation time may be ahead of the sweep's clock; a later one proves nothing."""


@frozen(eq=False)
class Survey:
    """An inventory, and what was unusual about it."""

    inventory: Inventory
    is_remembered: bool
    """Whether the inventory's tag history is on record."""
    scan: ScanResult
    states: StatesLoaded
    ignored_references: tuple[tuple[str, str], ...]
    """Unreadable references that are ignored, as the operator has configured."""
    folders: FoldersFound
    """The folders that can be separate volumes, and those that are lost."""


@frozen
class Moment:
    """When a survey is taken, and what is known about the time before."""

    reading: ClockReading
    clock_fault: str | None
    """Why the clock is not trusted; None: it is."""
    watched: Watched
    """How much of the time before was watched."""
    is_recorded: bool = True
    """False: the reading should have been recorded, and hmret's own folder could not be written. True also where
    nothing is to be recorded.
    """

    @property
    def now(self) -> datetime:
        """The wall clock."""
        return datetime_of(self.reading.wall_ns)

    @property
    def now_ns(self) -> int:
        """The same in nanoseconds since the epoch, truncated to the resolution of `now`."""
        return nanoseconds_of(self.now)


@define(eq=False)
class Surveyor:
    """Takes the inventory: asks the actors what is present and in use, and combines the answers."""

    config: RetentionConfig
    scanner: Scanner
    references: ReferenceCollector
    states: StateKeeper
    threads: Threads
    folders: FolderWatch
    clock: Clock
    clock_record: ClockRecord | None
    """The clock's record; None: there is none."""
    locks: Locks
    leases: Leases
    looks: LookHistory
    disk: DiskWatch
    brake: BrakeWatch
    backoff: Backoff
    fleet: FleetLink | None = None
    """The fleet that this host is part of; None: it is in none."""
    file_leases_break: bool = attrs.field(default=False, init=False)
    """Whether a rename breaks the kernel's leases on files here."""
    uses: RecentUses = attrs.field(factory=RecentUses, init=False)
    suspensions: Suspensions = attrs.field(
        default=attrs.Factory(lambda self: Suspensions(self.config), takes_self=True), init=False
    )
    _scan: ScanResult | None = attrs.field(default=None, init=False)
    """The scan of the last survey."""
    _joined: tuple[ReferenceIndex, tuple[Reference, ...], ReferenceIndex] | None = attrs.field(
        default=None, init=False
    )

    def reconfigure(self, config: RetentionConfig) -> None:
        """Use other settings for surveys from now on."""
        self.config = self.suspensions.config = config

    def change_watches(self, config: RetentionConfig) -> None:
        """Use other settings to watch the disk, the brake and the time from now on."""
        self.looks.reconfigure(config)
        self.disk.change_limits(config.disk)
        self.brake.hold_for = config.brake_for

    # The time.

    def now_ns(self) -> int:
        """Return the wall clock, in nanoseconds since the epoch."""
        return self.clock.now_ns()

    def boot_ns(self) -> int:
        """Return the boot-time clock, in nanoseconds."""
        return self.clock.read().boot_ns

    async def trust_clock(self) -> None:
        """Trust the clock as it is, which ends a detected jump.

        Raises:
            OSError: it could not be recorded, and the jump stays in effect.
        """
        reading = self.clock.read()
        record = ClockRecord(reading.boot_id, reading.boot_ns, reading.wall_ns)
        await self.states.save_clock(record)
        self.clock_record = record

    def moment(self) -> Moment:
        """Read the clock for a survey that records nothing."""
        reading = self.clock.read()
        return Moment(reading, watch_clock(self.clock_record, reading)[1], self.looks.watch(reading))

    async def begin_sweep(self, reading: ClockReading) -> Moment:
        """Record that a sweep begins."""
        self.clock_record, fault = watch_clock(self.clock_record, reading)
        try:
            await self.states.save_clock(self.clock_record)
        except OSError as error:
            log_event(logging.WARNING, "clock_not_recorded", error=error.strerror)
            return Moment(reading, fault, self.looks.watch(reading), is_recorded=False)
        return Moment(reading, fault, self.looks.watch(reading))

    async def note_look(self, moment: Moment, plan: Plan) -> None:
        """Record this look, once all unwatched uses are recorded, and before anything is deleted."""
        # guard(suspended-sweep-not-watched): A suspended sweep may not have seen all that is in use, so the
        # time before it does not count as watched.
        if plan.suspended:
            await self.looks.note_suspended()
        else:
            checks_reads = self.checks_reads(moment.watched)
            await self.looks.note(moment.reading, moment.watched, plan, checks_reads=checks_reads)

    async def peek_usage(self, moment: Moment, *, anyway: bool) -> DiskUsage | None:
        """Measure how full the disk is; `anyway`: even if no limit requires it."""
        return await self.disk.peek_usage(moment.reading, anyway=anyway)

    def tell_use(self, digest: str) -> None:
        """Tell the fleet that an image was used just now, where a setting asks for that; never waits."""
        rules = self.config.fleet.rules
        if self.fleet is not None and rules.tells_uses:
            self.fleet.tell_use((digest,), datetime_of(self.clock.now_ns()))

    # Surveys.

    async def survey(
        self,
        moment: Moment,
        *,
        leases: Sequence[Lease] | None = None,
        uses: Iterable[Key] = (),
        disk: DiskUsage | None = None,
    ) -> Survey:
        """Take the inventory of everything.

        Args:
            moment: when.
            leases: those in force; None: query them.
            uses: what was used since the last sweep. A use of content counts for all its owners: if the
                repository by which it was used did not own it then, or no longer does, the content is treated
                as if leased.
            disk: how full it is; None: irrelevant.
        """
        with self.threads.bulk():
            return await self._survey(moment, leases, uses, disk)

    async def _survey(
        self,
        moment: Moment,
        leases: Sequence[Lease] | None,
        uses: Iterable[Key],
        disk: DiskUsage | None,
    ) -> Survey:
        if leases is None:
            leases = await self.locks.leases()
        scans: list[ScanResult] = []
        loads: list[StatesLoaded] = []

        # A volume may be mounted or unmounted during the scan.
        before = await self.folders.look_at_cache()

        async def scan_images() -> None:
            scans.append(await self.scanner.scan())
            loads.append(await self.states.load(scans[0].repositories))

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(scan_images)
                collected = await self.references.collect()
        except ExceptionGroup as group:
            raise first_error(group) from None
        scan, states = scans[0], loads[0]
        self._scan = scan
        link_times = await self.scanner.link_times(collected.unseen_tags)
        found = await self._compare_folders(before, scan, states, collected.folders)
        accessed = await self._look_for_reads(scan, states, moment.watched, moment.now_ns)
        ignoring = self.config.unreadable_references == "ignore"
        # guard(lost-guests-keep-history): Guests on a missing volume may name any tag, so the history of tags
        # is kept until they are back.
        return Survey(
            inventory=Inventory(
                repositories=scan.repositories,
                states=states.states,
                references=self._with_bases(collected.references, scan.bases),
                contents=scan.contents,
                details=scan.details,
                builds=scan.builds.builds,
                remembered=collected.remembered,
                link_times=link_times,
                leased=frozenset(
                    (*(lease.key for lease in leases), *_used_by_others(uses, scan.contents, states.states))
                ),
                suspensions=tuple(
                    self.suspensions.of_survey(
                        scan,
                        collected,
                        found.lost,
                        self.leases.fault,
                        moment.clock_fault,
                        file_leases_break=self.file_leases_break,
                    )
                ),
                # The empty name means everything: no timer is pruned while a folder is lost.
                unlisted=("",) if found.lost else scan.unpruned,
                # A missing guest may name any tag.
                unread_sources=collected.unread_sources.union(one.name for one in found.lost),
                backing_off=self.backoff.waiting(moment.reading.boot_ns),
                disk=disk,
                fleet=None if self.fleet is None else self.fleet.view(),
                brake_released_images=self.brake.released_images(moment.reading),
                gaps=moment.watched.gaps,
                accessed=accessed,
            ),
            scan=scan,
            states=states,
            is_remembered=collected.is_remembered,
            ignored_references=tuple(
                (path, problem) for path, problem in collected.unreadable if ignoring and not is_source(path)
            ),
            folders=found,
        )

    def checks_reads(self, watched: Watched) -> bool:
        """Return whether a survey checks when disks were last read."""
        mode = self.config.access_time
        return mode == "always" or (mode == "gaps" and watched.unseen_since_ns is not None)

    async def _look_for_reads(
        self, scan: ScanResult, states: StatesLoaded, watched: Watched, now_ns: int
    ) -> Mapping[Key, int]:
        """Find out which disks were read in unwatched time, or at any time since their timers began."""
        if not self.checks_reads(watched):
            return {}
        after_ns = 0 if self.config.access_time == "always" else watched.unseen_since_ns or 0
        return await self.scanner.last_reads(scan.repositories, states.states, after_ns, now_ns)

    async def _compare_folders(
        self,
        before: Mapping[str, FolderSeen],
        scan: ScanResult,
        states: StatesLoaded,
        references: Mapping[str, FolderSeen],
    ) -> FoldersFound:
        """Find out which folders are lost, from the image folders' state both before and after the scan."""
        after = await self.folders.look_at_cache()
        seen = {**after, **references}
        compare = partial(self.folders.compare, scan=scan, timers=states.states)
        found = await self.threads.run_alone(compare, seen)
        lost = {one.name: one for one in found}
        if before != after:
            lost = {one.name: one for one in await self.threads.run_alone(compare, before)} | lost
        return FoldersFound(seen, tuple(lost[name] for name in sorted(lost)))

    def _with_bases(self, references: ReferenceIndex, bases: tuple[Reference, ...]) -> ReferenceIndex:
        """Add the bases, the images that other images need; returns the same object if nothing has changed."""
        if not bases:
            return references
        if self._joined is None or self._joined[0] is not references or self._joined[1] is not bases:
            self._joined = references, bases, references.changed((), bases)
        return self._joined[2]

    async def recheck(self, keys: Sequence[Key], began_ns: int) -> Protected:
        """Check which of some rows are referenced now; a reference to content counts under any of its names.

        `began_ns`: when the sweep began, by the wall clock.
        """
        content: dict[str, str] = {}
        for name, digest in keys:
            image = None if self._scan is None else self._scan.image((name, digest))
            if image is not None and image.content_name is not None:
                content[digest] = image.content_name
        bases = () if self._scan is None else self._scan.bases
        newcomer_ns = began_ns - _NEWCOMER_NS, began_ns + _AHEAD_NS
        return await self.references.recheck(keys, content, bases, newcomer_ns)

    async def invalidate(self, keys: AbstractSet[Key]) -> None:
        """Make the next survey read some images again, since they were found to differ from the last one."""
        if keys:
            await self.scanner.invalidate(keys)
            await self.states.invalidate({repository for repository, _ in keys})

    async def save_failures(self, survey: Survey) -> None:
        """Record which deletions failed; those of images that are gone are forgotten, unless a folder is lost."""
        if not survey.folders.lost:
            self.backoff.forget_all_but(survey.inventory.holds)
        await self.backoff.persist()

    async def save_caches(self) -> None:
        """Write what is cached to disk, for the next start; if that fails, the next start takes longer.

        Parsed references are dropped: over time most of them belong to guests and images that are gone.
        """
        forget_references()
        forget_repositories()
        with suppress(OSError):
            await self.scanner.save_cache()
            await self.states.save_cache()
            await self.references.save_cache()

    def suspensions_of(self, again: Protected) -> list[Suspension]:
        """List why a last check of the references suspends deletion."""
        lost = self.suspensions.of_lost(self.folders.compare(again.folders))
        # guard(lost-volume-at-last-look): A volume that is unmounted between the plan and the deletion hides
        # its guests, so the sweep stops.
        return [*self.suspensions.of_references(again.unreadable), *lost]


def _used_by_others(uses: Iterable[Key], contents: ContentOwners, states: Timers) -> Iterator[Key]:
    """List the rows with timers of content that was used under the name of a repository that does not own it."""
    for name, digest in uses:
        owners = contents.get(digest, ())
        # guard(foreign-use-counts): Content used under the name of a repository that does not own it counts
        # as used by all its owners.
        if name not in owners:
            yield from ((owner, digest) for owner in owners if (owner, digest) in states)
