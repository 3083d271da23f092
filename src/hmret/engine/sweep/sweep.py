"""One sweep: which actor does what, in which order, and how failures are handled."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import attrs

from hmret.actors.batches import batches
from hmret.actors.deleter import Deleter
from hmret.actors.journal_keeper import JournalKeeper
from hmret.actors.locks import Locks
from hmret.actors.scanner import ScanResult
from hmret.actors.threads import Threads
from hmret.disk.deletion.recovery.recovering import Recovery
from hmret.disk.layout import OWN
from hmret.disk.records.engine import REMEMBERED
from hmret.disk.records.folders import FOLDERS
from hmret.engine.counters import Counters, Phases
from hmret.engine.events import EventHub
from hmret.engine.planner import Planner
from hmret.engine.surveyor import Moment, Survey, Surveyor
from hmret.engine.sweep.conditions import Conditions
from hmret.engine.sweep.deletion_run import DeletionRun
from hmret.engine.sweep.entries import Entry, write_entries
from hmret.engine.sweep.execution import NewSettings, PlanExecution
from hmret.engine.sweep.ledger import SweepLedger
from hmret.engine.sweep.quarantine import Quarantine
from hmret.engine.watch.confirming import Confirming
from hmret.engine.watch.last_users import LastUsers
from hmret.model.clock.clock_guard import ClockReading
from hmret.model.errors import StopsTimersError
from hmret.model.plan.differences import StoppedTimers
from hmret.model.plan.plan import Plan
from hmret.model.policy.config import RetentionConfig
from hmret.model.report import SweepError, SweepReport
from hmret.model.times import SECOND, format_time, timedelta_nanoseconds
from hmret.model.values import define

if TYPE_CHECKING:
    from hmret.engine.sweep.fleet_news import FleetNews

# Images claimed at a time, and lines of the journal written at a time.
_MARKS = 512
# What is known of the cache is saved at the end, and this often in case the process is killed.
_SAVE_EVERY_NS = 30 * 60 * SECOND
_DAY_NS = 24 * 3600 * SECOND


@define(eq=False)
class Sweep:
    """Carries out sweeps, one at a time."""

    surveyor: Surveyor
    planner: Planner
    deletion_run: DeletionRun
    deleter: Deleter
    locks: Locks
    quarantine: Quarantine
    journal: JournalKeeper
    threads: Threads
    measure_trash: Callable[[], Awaitable[int]]
    """Returns the bytes in the trash; OSError if that cannot be determined."""
    counters: Counters
    last_users: LastUsers
    events: EventHub = attrs.field(factory=EventHub)
    news: "FleetNews | None" = None
    """What the fleet is told by each sweep; None: this host is in none."""
    stopped_timers: StoppedTimers | None = attrs.field(default=None, init=False)
    """The timers that a sweep has stopped because of the patterns in force; None: none."""
    _save_at_ns: int = attrs.field(
        default=attrs.Factory(lambda self: self.surveyor.boot_ns() + _SAVE_EVERY_NS, takes_self=True),
        init=False,
    )
    """When what is known is saved next, by the boot-time clock."""
    _conditions: Conditions = attrs.field(factory=Conditions, init=False)
    _leftovers: tuple[tuple[str, str], ...] = attrs.field(default=(), init=False)
    """Paths of what the last recovery could not finish, and why."""
    new_settings: NewSettings = attrs.field(factory=NewSettings, init=False)

    def reconfigure(self, config: RetentionConfig) -> None:
        """Apply new settings; while a sweep runs, `change_settings` is called instead."""
        self.new_settings.take()
        self.stopped_timers = None
        self.planner.reconfigure(config)
        self.surveyor.reconfigure(config)
        self.surveyor.change_watches(config)
        self.quarantine.period_ns = timedelta_nanoseconds(config.quarantine)
        self.journal.enabled = config.journal

    def confirming(self) -> Confirming:
        """Return what carries out an operator's `confirm`."""
        return Confirming(self.surveyor, self.journal, self.events, self.deletion_run.check_folder)

    def change_settings(self, config: RetentionConfig) -> None:
        """Keep the running sweep, from the next image on, from deleting what new settings forbid."""
        quarantine = self.quarantine
        quarantine.period_ns = max(quarantine.period_ns, timedelta_nanoseconds(config.quarantine))
        self.new_settings.set(config)

    async def sweep(self, *, releases_brake: bool, stops_timers: bool, asks_all: bool) -> SweepReport:
        """Carry out one sweep; one that releases the brake also deletes what the brake holds.

        One that `asks_all` asks the fleet about all that it holds back, however recently it asked.

        Raises:
            StopsTimersError: the patterns allow no image in the cache, so it would stop every timer, and it may not.
            DataDirMovedError: the data directory is not the one that the engine opened.
            DataDirLockedError: `images/` has appeared, and another engine holds it.
        """
        with self.threads.bulk():
            return await self._sweep(releases_brake, stops_timers=stops_timers, asks_all=asks_all)

    async def _sweep(self, releases_brake: bool, *, stops_timers: bool, asks_all: bool) -> SweepReport:
        # guard(sweep-in-the-same-folder): An engine whose data directory was moved aside must not sweep: the path now
        # leads to another cache.
        await self.deletion_run.check_folder()
        phases = Phases(self.surveyor.boot_ns)
        leases = await self.locks.begin_sweep()
        surveyor = self.surveyor
        uses = surveyor.uses.take()
        reading = surveyor.clock.read()
        if releases_brake:
            await surveyor.brake.release(reading)
        moment = await surveyor.begin_sweep(reading)
        await self._finish_leftovers(moment.now_ns)
        self.deletion_run.begin_sweep()
        disk = await surveyor.disk.look_before_sweep(reading)
        survey = await surveyor.survey(moment, leases=leases, uses=(*uses, *surveyor.uses), disk=disk)

        async def survey_again() -> Survey:
            now_full = await surveyor.peek_usage(moment, anyway=True)
            leases = await self.locks.leases()
            return await surveyor.survey(moment, leases=leases, uses=(*uses, *surveyor.uses), disk=now_full)

        phases.begin("plan")
        plan = await self._plan(survey, moment, asks_all=asks_all)
        # guard(refuse-before-any-change): A single sweep that is refused for its patterns leaves every timer as it
        # was.
        stopped = await self._stopped_by(plan, survey, may_stop_all=stops_timers)
        await self._note_users(plan, survey)
        self.counters.add_plan(plan, self.threads.pause)
        ledger = self._begin_ledger(plan, moment, stopped)
        phases.begin("timers")
        try:
            if await self._update_timers(survey, plan, ledger):
                await surveyor.note_look(moment, plan)
            if not plan.suspended:
                # While deletion is suspended, what would go is unknown.
                await surveyor.brake.note(plan.braking, reading)
            phases.begin("delete")
            pressure = plan.pressure
            # guard(suspended-sweep-frees-none): A sweep that is suspended neither deletes an image nor empties the
            # quarantine.
            if not ledger.suspended:
                execution = await self._remove(plan, survey, reading, survey_again, ledger)
                if execution.is_inconclusive_for_disk:
                    # The result says nothing about the limits then.
                    pressure = None
            await surveyor.disk.note(pressure, ledger.freed_bytes, reading)
            # A sweep that was stopped during its deletions must not count as carried out.
            await anyio.lowlevel.checkpoint_if_cancelled()
            self._conditions.report(surveyor, survey, plan, ledger)
        finally:
            phases.begin("record")
            # What was done is recorded even if a stop or an error cuts the sweep short.
            with anyio.CancelScope(shield=True):
                await self._write_down(survey, ledger)
        waits = self.deleter.has_unfinished or self.quarantine.has_erasing
        if ledger.deleted or self.counters.trash_bytes or waits:
            await self.look_into_trash()
        report = await self._report(plan, survey, reading, ledger)
        if reading.boot_ns >= self._save_at_ns:
            self._save_at_ns = reading.boot_ns + _SAVE_EVERY_NS
            await self._save_known(survey, moment)
        self.counters.phase_seconds = phases.end()
        return report

    async def _save_known(self, survey: Survey, moment: Moment) -> None:
        """Write what is known to disk, for the next start, and forget deletions of more than a day ago."""
        await self.deleter.forget_deleted(moment.now_ns - _DAY_NS)
        await self.surveyor.save_caches()
        await self.save_users(survey)

    async def _plan(self, survey: Survey, moment: Moment, *, asks_all: bool) -> Plan:
        """Make the plan; the fleet, where there is one, is told before what is here."""
        if self.news is not None:
            await self.news.tell_copies(survey, self.surveyor.config, moment.now)
        return await self.planner.plan_sweep(survey.inventory, moment.now, asks_all=asks_all)

    async def _report(
        self, plan: Plan, survey: Survey, reading: ClockReading, ledger: SweepLedger
    ) -> SweepReport:
        """Make the report of a sweep; the fleet, where there is one, is told how this host fares."""
        if self.news is not None:
            await self.news.tell_sweep(plan, survey, self.surveyor.config)
        seconds = (self.surveyor.boot_ns() - reading.boot_ns) / SECOND
        return await self.threads.run_alone(ledger.report, plan, seconds)

    async def _note_users(self, plan: Plan, survey: Survey) -> None:
        """Record which sources need which image, for the journal entry when it is deleted."""
        if self.last_users.is_behind(plan, survey.inventory):
            note = partial(self.last_users.note, plan, survey.inventory, self.threads.pause)
            await self.threads.run_alone(note)

    async def save_users(self, survey: Survey | None = None) -> None:
        """Save which sources needed which image last; given a survey, without images that are gone."""
        if survey is not None:
            await self.threads.run_alone(self.last_users.forget_all_but, survey.inventory)
        await self.last_users.persist(await self.threads.run_alone(self.last_users.unsaved))

    def _begin_ledger(self, plan: Plan, moment: Moment, stopped: StoppedTimers | None) -> SweepLedger:
        """Begin the ledger of a sweep with what is known before anything is done."""
        self.counters.record_errors += not moment.is_recorded
        ledger = SweepLedger(
            moment.now_ns, list(plan.suspended), self.events.publish, self.counters, self.last_users.facts
        )
        ledger.errors.extend(SweepError(path=path, error=error) for path, error in self._leftovers)
        ledger.add_obstacles(plan.obstacles)
        self._report_stopped(stopped, ledger)
        return ledger

    async def _stopped_by(self, plan: Plan, survey: Survey, *, may_stop_all: bool) -> StoppedTimers | None:
        """Return the timers that a plan stops because of the operator's patterns; nothing has been changed yet.

        Raises:
            StopsTimersError: those are all running timers, as the patterns allow no image, and that is not permitted.
        """
        if survey.folders.lost or not plan.clears:
            return None
        # There may be as many as there are images.
        stopped = await self.threads.run_alone(StoppedTimers.of, plan, self.planner.policy)
        # guard(pattern-slip-keeps-timers): A slip in the patterns must not stop every timer, or each image would wait
        # for its whole window again.
        if stopped is not None and stopped.allows_nothing and not may_stop_all:
            raise StopsTimersError(stopped.refusal)
        return stopped

    def _report_stopped(self, stopped: StoppedTimers | None, ledger: SweepLedger) -> None:
        """Report once the timers that this sweep stops because of the operator's patterns."""
        if stopped is None:
            return
        self.stopped_timers = stopped
        self.counters.add_stopped_timers(stopped.by_reason)
        facts: dict[str, object] = {"timers": stopped.count, "detail": stopped.detail}
        ledger.enter(Entry("timers_stopped", facts=facts))

    async def _finish_leftovers(self, now_ns: int) -> None:
        """Finish what an earlier sweep could not."""
        recovery = await self.deletion_run.finish_leftovers()
        if recovery is not None:
            await self.report_recovery(recovery, now_ns)
            # Its images were counted when they left the cache.
            self.counters.add_recovered(0, recovery.freed_bytes)
        elif not self.deleter.has_unfinished:
            self._leftovers = ()

    async def _write_down(self, survey: Survey, ledger: SweepLedger) -> None:
        """Record what was done."""
        await self.journal.append(ledger.take_lines())
        await self.surveyor.save_failures(survey)
        await self.deleter.fill_reserve()

    async def _remove(
        self,
        plan: Plan,
        survey: Survey,
        reading: ClockReading,
        survey_again: Callable[[], Awaitable[Survey]],
        ledger: SweepLedger,
    ) -> PlanExecution:
        """Carry out the plan, and remove what earlier deletions have left."""
        execution = PlanExecution(
            self.surveyor,
            self.planner,
            self.deletion_run,
            self.quarantine,
            self.threads,
            self.new_settings,
            survey_again,
            plan,
            survey,
            reading.boot_ns,
            ledger,
        )
        await execution.run()
        # The deletions may have found a reason to delete nothing more.
        if not (ledger.suspended or execution.is_over):
            await self._clear_remains(survey.scan, ledger)
        await self.surveyor.invalidate(ledger.doubtful)
        return execution

    async def look_into_trash(self) -> None:
        """Record how much is in the trash; if that cannot be determined, the earlier value stays."""
        with suppress(OSError):
            self.counters.trash_bytes = await self.measure_trash()

    async def report_recovery(self, recovery: Recovery, now_ns: int) -> None:
        """Report what was found in the trash and finished, or put back."""
        until = {held.key: format_time(self.quarantine.until(held)) for held in recovery.held}
        entries: list[Entry] = []
        for retired in recovery.finished:
            key = retired.intent.key
            facts = {"reason": "finished", "bytes": recovery.disk_bytes.get(key, 0)}
            held = {"quarantined_until": until[key]} if key in until else {}
            entries.append(Entry("recover", key, {**facts, **held}))
        entries += (Entry("recover", key, {"reason": "open"}) for key in recovery.put_back)
        # Every sweep reports errors while they last; they are logged once.
        entries += (
            Entry("failure", facts={"reason": "recovery_failed", "path": path, "error": error})
            for path, error in recovery.errors
            if (path, error) not in self._leftovers
        )
        self._leftovers = recovery.errors
        lines = write_entries(now_ns, *entries)
        self.events.publish(lines)
        await self.journal.append(lines)

    async def _clear_remains(self, scan: ScanResult, ledger: SweepLedger) -> None:
        """Remove what earlier deletions have left: late ghosts, and empty folders of tags."""
        await self.deleter.remove_empty_tag_folders(
            path for path, folder in scan.tag_folders.items() if folder.is_empty
        )
        if not scan.ghosts:
            return
        since_ns = ledger.now_ns - _DAY_NS
        deleted = {
            **await self.journal.deletion_times(scan.ghosts, since_ns),
            **await self.deleter.deleted_lately(scan.ghosts, since_ns),
        }
        async with self.locks.claiming(deleted) as given:
            chosen = {digest: deleted[digest] for digest in sorted(given.digests) if given.begin(digest)}
            if chosen:
                with anyio.CancelScope(shield=True):
                    gone = await self.deleter.clear_ghosts(chosen)
                for digest in chosen:
                    given.end(digest)
                ledger.add_ghosts(gone)

    async def _update_timers(self, survey: Survey, plan: Plan, ledger: SweepLedger) -> bool:
        """Remember what tags point to, and clear, prune and mark timers; while a folder is lost, timers are left alone.

        Returns False if a use that was found after a gap could not be put on record, or if new settings cut it short.
        """
        surveyor = self.surveyor
        states = surveyor.states
        try:
            await surveyor.folders.renew(survey.folders)
        except OSError as error:
            ledger.add_record_error(f"{OWN}/{FOLDERS}", error)
        try:
            if not survey.is_remembered or plan.remembered != survey.inventory.remembered:
                await surveyor.references.remember(plan.remembered)
        except OSError as error:
            # It is remembered until a restart; after one, references seen for the first time protect more.
            ledger.add_record_error(f"{OWN}/{REMEMBERED}", error)
        # guard(lost-volume-keeps-timers): While a volume is missing, its images only seem gone: no timer is cleared
        # or pruned because of that.
        if survey.folders.lost:
            return True
        reasons = dict(plan.clears)
        ledger.counts["cleared_states"], faults = await states.clear(reasons)
        for key, reason in reasons.items():
            faults_of_key = (fault for fault in faults if fault.key == key)
            ledger.add_states("clear", (key,), faults_of_key, reason=reason, **plan.users(*key))
        ledger.counts["pruned_states"], faults = await states.clear(plan.pruned)
        ledger.add_states("clear", plan.pruned, faults, reason="gone")
        await states.remove_strays(survey.states.strays)
        is_marked = True
        for batch in batches(plan.marks, _MARKS):
            if self.new_settings.switch_off:
                is_marked = False
                break
            async with self.locks.claiming(digest for _, digest in batch) as given:
                # guard(mark-only-what-is-unused): Only images that were free when the batch was claimed get a timer;
                # one in use does not.
                keys = [key for key in batch if key[1] in given.digests]
                # The claim must last until the thread has ended, even if the sweep is cancelled.
                with anyio.CancelScope(shield=True):
                    faults = await states.mark(keys, ledger.now_ns, given, plan.mark_times)
                # guard(unseen-use-on-record): If a use found after a gap cannot be recorded, the gap stays open, so
                # that the next sweep finds it again.
                is_marked &= not any(fault.key in plan.mark_times for fault in faults)
                keys = [key for key in keys if key[1] in given.done]
                ledger.counts["marked_unused"] += ledger.add_states(
                    "mark", keys, faults, reason="newly_unused"
                )
            await self.journal.append(ledger.take_lines())
        return is_marked
