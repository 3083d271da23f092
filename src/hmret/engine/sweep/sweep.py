"""One sweep: what is asked of which actor, in which order, and what becomes of what fails."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial

import anyio
import anyio.lowlevel
import attrs

from hmret.actors.journal_keeper import JournalKeeper
from hmret.actors.locks import Lease
from hmret.actors.scanner import ScanResult
from hmret.disk.deletion.recovery.recovering import Recovery
from hmret.disk.kernel.clock import Clock
from hmret.disk.layout import IMAGES, OWN
from hmret.disk.records.engine import REMEMBERED
from hmret.disk.records.folders import FOLDERS
from hmret.engine.counters import Counters
from hmret.engine.events import EventHub
from hmret.engine.leases import Leases
from hmret.engine.log import log_event
from hmret.engine.surveyor import Survey, Surveyor
from hmret.engine.sweep.batches import batches
from hmret.engine.sweep.delete import DeletionRun
from hmret.engine.sweep.ledger import SweepLedger, blocked_detail, journal_entry
from hmret.engine.sweep.new_settings import NewSettings
from hmret.engine.sweep.recent_uses import RecentUses
from hmret.engine.sweep.removal import Removal
from hmret.engine.watch.brake import BrakeWatch
from hmret.engine.watch.disk import DiskWatch
from hmret.engine.watch.last_users import LastUsers
from hmret.engine.watch.looks import LookHistory
from hmret.model.clock.clock_guard import ClockReading, ClockRecord, watch_clock
from hmret.model.clock.looks import Watched
from hmret.model.errors import StopsTimersError
from hmret.model.images import DiskUsage, Key
from hmret.model.plan.decide import Plan
from hmret.model.plan.stopped_timers import StoppedTimers
from hmret.model.policy.config import RetentionConfig
from hmret.model.report import SweepError, SweepReport
from hmret.model.times import SECOND, datetime_of, format_time, nanoseconds_of, timedelta_nanoseconds
from hmret.model.values import define, frozen

__all__ = ["Sweep"]

# Images claimed at a time, and lines of the journal written at a time.
_MARKS = 512
# What is known of the cache is written down at the end, and this often, for an end that comes without a warning.
_KEEP_EVERY_NS = 30 * 60 * SECOND
_DAY_NS = 24 * 3600 * SECOND


@frozen
class Condition:
    """Something that lasts until somebody mends it."""

    event: str
    path: str
    detail: str = attrs.field(default="", eq=False)
    """What is wrong, in words that may change while it lasts."""
    cause: str = ""

    def facts(self) -> dict[str, object]:
        facts = {"cause": self.cause, "path": self.path, "detail": self.detail}
        return {name: value for name, value in facts.items() if value}


@define(eq=False)
class Sweep:
    """Carries out sweeps, one at a time."""

    surveyor: Surveyor
    deleting: DeletionRun
    leases: Leases
    journal: JournalKeeper
    clock: Clock
    clock_record: ClockRecord | None
    looks: LookHistory
    disk: DiskWatch
    brake: BrakeWatch
    measure_trash: Callable[[], Awaitable[int]]
    """Adds up what lies in the trash, in bytes; OSError where nobody can tell."""
    events: EventHub = attrs.field(factory=EventHub)
    last_users: LastUsers = attrs.field(factory=LastUsers)
    last_plan: Plan | None = attrs.field(default=None, init=False)
    """The plan of the last sweep; most of it stands in the next one."""
    counters: Counters = attrs.field(factory=Counters)
    stopped_timers: StoppedTimers | None = attrs.field(default=None, init=False)
    """The timers that a sweep by the settings in force has stopped, for the sake of their patterns; None: none."""
    uses: RecentUses = attrs.field(factory=RecentUses, init=False)
    _keep_at_ns: int = attrs.field(init=False)
    """When what is known is next written down, by the boot-time clock."""
    _told: set[Condition] = attrs.field(factory=set, init=False)
    _leftovers: tuple[tuple[str, str], ...] = attrs.field(default=(), init=False)
    """Paths of what the last recovery could not finish, and why."""
    new_settings: NewSettings = attrs.field(factory=NewSettings, init=False)

    @_keep_at_ns.default
    def _not_at_once(self) -> int:
        return self.clock.read().boot_ns + _KEEP_EVERY_NS

    @property
    def quarantined_bytes(self) -> int:
        """What lies in quarantine."""
        return self.counters.quarantined_bytes

    def reconfigure(self, config: RetentionConfig) -> None:
        """Go by other settings from now on; while a sweep runs, `change_settings` is called."""
        self.new_settings.take()
        self.stopped_timers = None
        self.surveyor.reconfigure(config)
        self.looks.reconfigure(config)
        self.deleting.quarantine.period_ns = timedelta_nanoseconds(config.quarantine)
        self.journal.enabled = config.journal
        self.disk.change_limits(config.disk)
        self.brake.hold_for = config.brake_for

    def change_settings(self, config: RetentionConfig) -> None:
        """Let the sweep that runs delete nothing that other settings forbid, from the next image on."""
        quarantine = self.deleting.quarantine
        quarantine.period_ns = max(quarantine.period_ns, timedelta_nanoseconds(config.quarantine))
        self.new_settings.set(config)

    async def sweep(self, *, releases_brake: bool = False, stops_timers: bool = True) -> SweepReport:
        """Carry out one sweep; one that releases the brake lets go what it holds, until that has gone.

        Raises:
            StopsTimersError: the patterns let nothing go that is here, so it would stop every timer, and it may not.
            DataDirMovedError: the data directory is not the one that the engine opened.
            DataDirLockedError: images have come, and another engine has them.
        """
        # guard(sweep-in-the-same-folder): An engine whose data directory was moved aside must not sweep: the path now
        # leads to another cache.
        await self.deleting.check_folder()
        leases = await self.deleting.locks.begin_sweep()
        uses = self.uses.take()
        reading = self.clock.read()
        if releases_brake:
            await self.brake.release(reading)
        now = datetime_of(reading.wall_ns)
        now_ns = nanoseconds_of(now)
        clock_fault = await self._watch_clock(reading)
        watched = self.looks.watch(reading)
        await self._finish_leftovers(now_ns)
        self.deleting.begin_sweep()
        look = partial(self._survey, reading, uses, clock_fault, watched)
        survey = await look(
            leases=leases,
            disk=await self.disk.look_before_sweep(reading, self.counters.quarantined_bytes),
        )

        async def look_again() -> Survey:
            disk = await self.disk.peek_usage(reading, self.counters.quarantined_bytes, anyway=True)
            return await look(leases=await self.deleting.locks.leases(), disk=disk)

        plan = self.last_plan = await self.surveyor.decide(survey, now, self.last_plan)
        # guard(refuse-before-any-change): A single sweep that is refused for its patterns leaves every timer as it
        # was.
        stopped = await self._stopped_by(plan, survey, may_stop_all=stops_timers)
        await self._note_users(plan, survey)
        self.counters.add_plan(plan, self.surveyor.threads.pause)
        ledger = self._begin_ledger(plan, now_ns, stopped)
        try:
            if await self._keep_states(survey, plan, ledger):
                await self._note_look(reading, watched, plan)
            if not plan.suspended:
                # While deletion is suspended nobody knows what would go.
                await self.brake.note(plan.braking, reading)
            pressure = plan.pressure
            # guard(suspended-sweep-frees-none): A sweep that is suspended neither deletes an image nor empties the
            # quarantine.
            if not ledger.suspended:
                removal = await self._remove(plan, survey, reading, look_again, ledger)
                if removal.has_changed or ledger.blocked is not None:
                    # What came of it says nothing about the limits.
                    pressure = None
            freed_bytes = ledger.released_bytes + sum(image.disk_bytes for image in ledger.deleted)
            await self.disk.note(pressure, freed_bytes, reading, self.counters.quarantined_bytes)
            # A sweep that was stopped in the midst of its deletions must not pass for one that was carried out.
            await anyio.lowlevel.checkpoint_if_cancelled()
            self._tell_oddities(survey, plan, ledger)
        finally:
            # What was done is written down, also where a stop or an error cuts the sweep short.
            with anyio.CancelScope(shield=True):
                await self._write_down(survey, ledger)
        waits = self.deleting.deleter.has_unfinished or self.deleting.quarantine.has_going
        if ledger.deleted or self.counters.trash_bytes or waits:
            await self.look_into_trash()
        seconds = (self.clock.read().boot_ns - reading.boot_ns) / SECOND
        report = await self.surveyor.threads.run_alone(ledger.report, plan, seconds)
        if reading.boot_ns >= self._keep_at_ns:
            self._keep_at_ns = reading.boot_ns + _KEEP_EVERY_NS
            await self.deleting.deleter.forget_deleted(now_ns - _DAY_NS)
            await self.surveyor.keep()
            await self.keep_users(survey)
        return report

    async def _note_users(self, plan: Plan, survey: Survey) -> None:
        """Note who needs which image, to be told when it goes."""
        if self.last_users.is_behind(plan, survey.inventory):
            note = partial(self.last_users.note, plan, survey.inventory, self.surveyor.threads.pause)
            await self.surveyor.threads.run_alone(note)

    async def keep_users(self, survey: Survey | None = None) -> None:
        """Write down who needed which image last; by a look at all images, without what is gone."""
        if survey is not None:
            await self.surveyor.threads.run_alone(self.last_users.forget_all_but, survey.inventory)
        await self.last_users.keep(await self.surveyor.threads.run_alone(self.last_users.unsaved))

    def _begin_ledger(self, plan: Plan, now_ns: int, stopped: StoppedTimers | None) -> SweepLedger:
        """Begin the account of a sweep with what is known before anything is done."""
        ledger = SweepLedger(
            now_ns, list(plan.suspended), self.events.publish, self.counters, self.last_users.facts
        )
        ledger.errors.extend(SweepError(path=path, error=error) for path, error in self._leftovers)
        ledger.add_obstacles(plan.obstacles)
        self._tell_stopped(stopped, ledger)
        return ledger

    async def _stopped_by(self, plan: Plan, survey: Survey, *, may_stop_all: bool) -> StoppedTimers | None:
        """Return the timers that a plan stops because of the operator's patterns; nothing has been changed yet.

        Raises:
            StopsTimersError: those are all that there are, as the patterns let nothing go, and that is not allowed.
        """
        if survey.folders.lost or not plan.clears:
            return None
        # There may be as many as there are images.
        stopped = await self.surveyor.threads.run_alone(StoppedTimers.of, plan, self.surveyor.policy)
        # guard(pattern-slip-keeps-timers): A slip in the patterns must not stop every timer, or each image would wait
        # for its whole window again.
        if stopped is not None and stopped.allows_nothing and not may_stop_all:
            raise StopsTimersError(stopped.refusal)
        return stopped

    def _tell_stopped(self, stopped: StoppedTimers | None, ledger: SweepLedger) -> None:
        """Tell once of the timers that this sweep stops because of the operator's patterns."""
        if stopped is None:
            return
        self.stopped_timers = stopped
        self.counters.add_stopped_timers(stopped.by_reason)
        facts: dict[str, object] = {"timers": stopped.count, "detail": stopped.detail}
        log_event(logging.WARNING, "timers_stopped", **facts)
        ledger.note(journal_entry(ledger.now_ns, "timers_stopped", None, **facts))

    async def _finish_leftovers(self, now_ns: int) -> None:
        """Finish what an earlier sweep could not."""
        recovery = await self.deleting.finish_leftovers()
        if recovery is not None:
            await self.tell_recovery(recovery, now_ns)
            # Its images were counted when they left the cache.
            self.counters.add_recovered(0, recovery.freed_bytes)
        elif not self.deleting.deleter.has_unfinished:
            self._leftovers = ()

    async def _write_down(self, survey: Survey, ledger: SweepLedger) -> None:
        """Write down what was done."""
        await self.journal.append(ledger.take_entries())
        if not survey.folders.lost:
            self.deleting.backoff.forget_all_but(survey.inventory.holds)
        await self.deleting.backoff.keep()
        await self.deleting.deleter.fill_reserve()

    async def _remove(
        self,
        plan: Plan,
        survey: Survey,
        reading: ClockReading,
        look_again: Callable[[], Awaitable[Survey]],
        ledger: SweepLedger,
    ) -> Removal:
        """Carry out what the plan wants gone, and take away what earlier deletions have left."""
        removal = Removal(
            self.surveyor,
            self.deleting,
            self.clock,
            self.new_settings,
            look_again,
            plan,
            survey,
            reading.boot_ns,
            ledger,
        )
        await removal.run()
        # Those deletions may have found a reason to delete nothing more.
        if not (ledger.suspended or removal.is_over):
            await self._clear_leavings(survey.scan, ledger)
        await self.surveyor.invalidate(ledger.doubtful)
        return removal

    async def _survey(
        self,
        reading: ClockReading,
        uses: Iterable[Key],
        clock_fault: str | None,
        watched: Watched,
        *,
        leases: Sequence[Lease],
        disk: DiskUsage | None,
    ) -> Survey:
        """Take the inventory of everything."""
        return await self.surveyor.survey(
            leases=leases,
            uses=(*uses, *self.uses),
            lease_fault=self.leases.fault,
            clock_fault=clock_fault,
            backing_off=self.deleting.backoff.waiting(reading.boot_ns),
            disk=disk,
            brake_released_images=self.brake.released_images(reading),
            watched=watched,
            now_ns=nanoseconds_of(datetime_of(reading.wall_ns)),
        )

    async def look_into_trash(self) -> None:
        """Take note of how much lies in the trash; where nobody can tell, what was known stays known."""
        with suppress(OSError):
            self.counters.trash_bytes = await self.measure_trash()

    async def tell_recovery(self, recovery: Recovery, now_ns: int) -> None:
        """Tell what was found in the trash and finished, or put back."""
        entries = []
        until = {held.key: format_time(self.deleting.quarantine.until(held)) for held in recovery.held}
        for retired in recovery.finished:
            repository, digest = retired.key
            facts: dict[str, object] = {"bytes": recovery.disk_bytes.get(retired.key, 0)}
            if retired.key in until:
                facts["quarantined_until"] = until[retired.key]
            entries.append(journal_entry(now_ns, "recover", retired.key, reason="finished", **facts))
            log_event(
                logging.INFO, "deletion_recovered", repository=repository, digest=digest, reason="finished"
            )
        for key in recovery.restored:
            repository, digest = key
            entries.append(journal_entry(now_ns, "recover", key, reason="open"))
            log_event(logging.INFO, "deletion_recovered", repository=repository, digest=digest, reason="open")
        for path, error in recovery.errors:
            if (path, error) not in self._leftovers:
                # Reported by every sweep while it lasts, and logged once.
                entries.append(
                    journal_entry(now_ns, "failure", reason="recovery_failed", path=path, error=error)
                )
                log_event(logging.ERROR, "recovery_failed", path=path, error=error)
        self._leftovers = recovery.errors
        self.events.publish(entries)
        await self.journal.append(entries)

    async def _watch_clock(self, reading: ClockReading) -> str | None:
        record, fault = watch_clock(self.clock_record, reading)
        self.clock_record = record
        try:
            await self.surveyor.states.save_clock(record)
        except OSError as error:
            log_event(logging.WARNING, "clock_not_recorded", error=error.strerror)
        return fault

    async def _note_look(self, reading: ClockReading, watched: Watched, plan: Plan) -> None:
        """Take note of this look, on record, now that all uses that nobody saw are, and before anything is deleted."""
        # guard(suspended-sweep-not-watched): A suspended sweep may not have seen all that is in use, so the time
        # before it does not count as watched.
        if plan.suspended:
            await self.looks.note_suspended()
        else:
            await self.looks.note(reading, watched, plan, asks_reads=self.surveyor.asks_reads(watched))

    def clock_fault(self) -> str | None:
        """Say what is wrong with the clock now; None: nothing."""
        return watch_clock(self.clock_record, self.clock.read())[1]

    async def trust_clock(self) -> None:
        """Believe the clock as it is: a jump that was found ends.

        Raises:
            OSError: it could not be put on record, and the jump stays.
        """
        reading = self.clock.read()
        record = ClockRecord(reading.boot_id, reading.boot_ns, reading.wall_ns)
        await self.surveyor.states.save_clock(record)
        self.clock_record = record

    async def _clear_leavings(self, scan: ScanResult, ledger: SweepLedger) -> None:
        """Take away what earlier deletions have left: late ghosts, and empty folders of tags."""
        await self.deleting.deleter.remove_empty_tag_folders(
            path for path, folder in scan.tag_folders.items() if folder.is_empty
        )
        if not scan.ghosts:
            return
        since_ns = ledger.now_ns - _DAY_NS
        deleted = {
            **await self.journal.deletions(scan.ghosts, since_ns),
            **await self.deleting.deleter.deleted_lately(scan.ghosts, since_ns),
        }
        async with self.deleting.locks.claiming(deleted) as given:
            chosen = {digest: deleted[digest] for digest in sorted(given.digests) if given.begin(digest)}
            if chosen:
                with anyio.CancelScope(shield=True):
                    gone = await self.deleting.deleter.clear_ghosts(chosen)
                for digest in chosen:
                    given.end(digest)
                ledger.add_ghosts(gone)

    async def _keep_states(self, survey: Survey, plan: Plan, ledger: SweepLedger) -> bool:
        """Clear, prune and mark, and remember what tags point to; while a folder is lost, nothing of that is known.

        Returns whether all uses that nobody saw are on record.
        """
        states = self.surveyor.states
        try:
            await self.surveyor.folders.renew(survey.folders)
        except OSError as error:
            ledger.add_record_error(f"{OWN}/{FOLDERS}", error)
        try:
            if not survey.is_remembered or plan.remembered != survey.inventory.remembered:
                await self.surveyor.references.remember(plan.remembered)
        except OSError as error:
            # It is remembered until a restart; after one, references seen for the first time protect more.
            ledger.add_record_error(f"{OWN}/{REMEMBERED}", error)
        # guard(lost-volume-keeps-timers): While a volume is missing, its images only seem gone: no timer is cleared
        # or pruned because of that.
        if survey.folders.lost:
            return True
        reasons = dict(plan.clears)
        ledger.cleared, faults = await states.clear(reasons)
        for key, reason in reasons.items():
            faults_of_key = (fault for fault in faults if fault.key == key)
            ledger.add_states("clear", (key,), faults_of_key, reason=reason, **plan.users(*key))
        ledger.pruned, faults = await states.clear(plan.pruned)
        ledger.add_states("clear", plan.pruned, faults, reason="gone")
        await states.remove_strays(survey.stray_states)
        is_marked = True
        for batch in batches(plan.marks, _MARKS):
            if self.new_settings.switch_off:
                is_marked = False
                break
            async with self.deleting.locks.claiming(digest for _, digest in batch) as given:
                # guard(mark-only-what-is-unused): Only images that were free when the batch was claimed get a timer;
                # one in use does not.
                keys = [key for key in batch if key[1] in given.digests]
                # The claim must last until the thread has ended, whatever becomes of this sweep.
                with anyio.CancelScope(shield=True):
                    faults = await states.mark(keys, ledger.now_ns, given, plan.mark_times)
                # guard(unseen-use-on-record): If a use found after a gap cannot be recorded, the gap stays open, so
                # that the next sweep finds it again.
                is_marked &= not any(fault.key in plan.mark_times for fault in faults)
                keys = [key for key in keys if key[1] in given.done]
                ledger.marked += ledger.add_states("mark", keys, faults, reason="newly_unused")
            await self.journal.append(ledger.take_entries())
        return is_marked

    def _tell_oddities(self, survey: Survey, plan: Plan, ledger: SweepLedger) -> None:
        """Tell what is odd, each thing once while it lasts."""
        for path, problem in survey.corrupt_states:
            log_event(logging.WARNING, "state_unreadable", path=path, detail=problem)
        lasting = {
            *(Condition("reference_ignored", path, problem) for path, problem in survey.ignored_references),
            *(Condition(event, path, detail) for event, path, detail in survey.scan.oddities),
            *(Condition("not_deletable", one.path, one.detail) for one in plan.obstacles.values()),
            *(Condition("build_unreadable", path, problem) for path, problem in survey.scan.builds.problems),
            *(Condition("deletion_suspended", one.path, one.detail, one.cause) for one in ledger.suspended),
            *(
                Condition(event, "", told)
                for event, told in (
                    ("brake_holds", self.brake.announcement),
                    ("disk_stays_full", self.disk.announcement),
                    ("reads_hold_back", self.looks.announcement),
                )
                if told
            ),
        }
        if ledger.blocked is not None:
            lasting.add(
                Condition("deletion_blocked", ledger.blocked.path, blocked_detail(ledger.blocked.error))
            )
        if survey.scan.newer_layout:
            names = ", ".join(f"{IMAGES}/{name}" for name in sorted(survey.scan.newer_layout))
            lasting.add(Condition("newer_layout_left_alone", names))
        for oddity in sorted(lasting - self._told, key=str):
            log_event(logging.WARNING, oddity.event, **oddity.facts())
            ledger.note(journal_entry(ledger.now_ns, oddity.event, None, **oddity.facts()))
        for oddity in sorted(self._told - lasting, key=str):
            where = {name: fact for name, fact in oddity.facts().items() if name != "detail"}
            log_event(logging.INFO, "no_longer", what=oddity.event, **where)
            ledger.note(journal_entry(ledger.now_ns, "no_longer", None, what=oddity.event, **where))
        self._told = lasting
