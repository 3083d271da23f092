"""One sweep: what is asked of which actor, in which order, and what becomes of what fails."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TypeVar, assert_never

import anyio
import attrs

from hmret.actors.deleter import Deleter
from hmret.actors.locks import Locks
from hmret.actors.state_keeper import StateFault
from hmret.disk.clock import Clock
from hmret.disk.retirement import Candidate, Failed, Kept, LastLook, Retired
from hmret.disk.trash import Place
from hmret.engine.log import log_event
from hmret.engine.overlook import Overlook, Survey
from hmret.model.clock_watch import ClockReading, ClockRecord, watch_clock
from hmret.model.images import Key, Suspension
from hmret.model.planning import Plan, Reason, Verdict
from hmret.model.policy import Policy
from hmret.model.report import DeletedImage, SweepError, SweepReport, SweepStatus
from hmret.model.times import SECOND, datetime_of, format_time, nanoseconds_of

__all__ = ["Backoff", "Sweeping"]

T = TypeVar("T")

# Images claimed at a time: while they are, a `mark_used` of one of them waits, so it is a millisecond or two of work.
_MARKS = 64
_DELETIONS = 32

_FIRST_BACKOFF_NS = 60 * SECOND
_LONGEST_BACKOFF_NS = 3600 * SECOND


@attrs.define(eq=False)
class Backoff:
    """Images whose deletion failed: when each may be tried again, by the boot-time clock, in memory only."""

    _failures: dict[Key, tuple[int, int]] = attrs.field(factory=dict)

    def fail(self, key: Key, now_ns: int) -> None:
        """Wait a minute after the first failure, then twice as long each time, up to an hour."""
        count = self._failures.get(key, (0, 0))[0] + 1
        wait_ns = min(_FIRST_BACKOFF_NS << min(count - 1, 10), _LONGEST_BACKOFF_NS)
        self._failures[key] = count, now_ns + wait_ns

    def succeed(self, key: Key) -> None:
        """Forget the failures of an image."""
        self._failures.pop(key, None)

    def waiting(self, now_ns: int) -> frozenset[Key]:
        """List the images that are not to be tried yet."""
        return frozenset(key for key, (_, until_ns) in self._failures.items() if until_ns > now_ns)

    def forget_all_but(self, present: Callable[[Key], bool]) -> None:
        """Forget images that are gone."""
        self._failures = {key: failure for key, failure in self._failures.items() if present(key)}


@attrs.define(eq=False)
class _Tally:
    """What a sweep has done so far."""

    suspended: list[Suspension] = attrs.field(factory=list)
    marked: int = 0
    cleared: int = 0
    pruned: int = 0
    open: int = 0
    failed: int = 0
    deleted: list[DeletedImage] = attrs.field(factory=list)
    errors: list[SweepError] = attrs.field(factory=list)

    def add_faults(self, faults: Iterable[StateFault]) -> None:
        for fault in faults:
            repository, digest = fault.key
            self.errors.append(
                SweepError(path=fault.path, error=fault.error, repository=repository, digest=digest)
            )
            log_event(
                logging.ERROR, "state_not_written", repository=repository, digest=digest, error=fault.error
            )


@attrs.define(eq=False)
class Sweeping:
    """Carries out sweeps, one at a time."""

    overlook: Overlook
    locks: Locks
    deleter: Deleter
    clock: Clock
    clock_record: ClockRecord | None
    backoff: Backoff = attrs.field(factory=Backoff)
    leases_offered: bool | None = None
    """Whether the kernel's file leases work here; None: not tried yet."""
    _told: set[str] = attrs.field(factory=set)

    async def sweep(self) -> SweepReport:
        """Carry out one sweep."""
        await self.locks.begin_sweep()
        reading = self.clock.read()
        now = datetime_of(reading.wall_ns)
        clock_fault = await self._watch_clock(reading)
        survey = await self.overlook.survey(
            leases=await self.locks.leases(),
            clock_fault=clock_fault,
            backing_off=self.backoff.waiting(reading.boot_ns),
        )
        self._tell_oddities(survey)
        plan = await self.overlook.decide(survey, now)
        tally = _Tally(suspended=list(plan.suspended))
        await self._keep_states(plan, now, tally)
        if not tally.suspended:
            await self._delete(plan.deletions, now, reading, tally)
        for suspension in tally.suspended:
            log_event(
                logging.WARNING,
                "deletion_suspended",
                cause=suspension.cause,
                path=suspension.path,
                detail=suspension.detail,
            )
        self.backoff.forget_all_but(survey.inventory.holds)
        return self._report(plan, tally, now, (self.clock.read().boot_ns - reading.boot_ns) / SECOND)

    async def _watch_clock(self, reading: ClockReading) -> str | None:
        record, fault = watch_clock(self.clock_record, reading)
        self.clock_record = record
        try:
            await self.overlook.states.save_clock(record)
        except OSError as error:
            log_event(logging.WARNING, "clock_not_recorded", error=error)
        return fault

    async def _keep_states(self, plan: Plan, now: datetime, tally: _Tally) -> None:
        """Clear, prune and mark, and remember what tags point to."""
        try:
            await self.overlook.references.remember(plan.remembered)
        except OSError as error:
            # It is remembered until a restart; after one, references seen for the first time protect more.
            tally.errors.append(
                SweepError(path=error.filename or "references.json", error=str(error.strerror))
            )
        tally.cleared, faults = await self.overlook.states.clear(plan.clears)
        tally.add_faults(faults)
        tally.pruned, faults = await self.overlook.states.clear(plan.pruned)
        tally.add_faults(faults)
        now_ns = nanoseconds_of(now)
        for batch in _batches(plan.marks, _MARKS):
            async with self.locks.claiming(batch) as given:
                keys = [key for key in batch if key in given]
                # The claim must last until the thread has ended, whatever becomes of this sweep.
                with anyio.CancelScope(shield=True):
                    faults = await self.overlook.states.mark(keys, now_ns)
                tally.marked += len(keys) - len(faults)
                tally.add_faults(faults)

    async def _delete(
        self, deletions: Sequence[Verdict], now: datetime, reading: ClockReading, tally: _Tally
    ) -> None:
        """Delete what is due; the bytes of one batch are freed while the next is looked at."""
        # By repository, so that one batch has its images in few folders; the plan has already chosen the oldest.
        candidates = sorted(
            Candidate(verdict.repository, verdict.digest, verdict.unused_since_ns)
            for verdict in deletions
            if verdict.unused_since_ns is not None
        )
        policy = Policy.of(self.overlook.config)
        async with anyio.create_task_group() as tasks:
            for batch in _batches(candidates, _DELETIONS):
                by_key = {candidate.key: candidate for candidate in batch}
                async with self.locks.claiming(by_key) as given:
                    if not given:
                        continue
                    again = await self.overlook.references.look_again(given)
                    tally.suspended.extend(self.overlook.reference_suspensions(again.unreadable))
                    if tally.suspended:
                        return
                    look = LastLook(again.keys, policy.unused_for_ns, nanoseconds_of(now))
                    chosen = [candidate for key, candidate in by_key.items() if key in given]
                    with anyio.CancelScope(shield=True):
                        retired = await self.deleter.retire(chosen, look)
                self._tell_leases(retired.lease_error)
                places: list[Retired] = []
                for outcome in retired.outcomes:
                    match outcome:
                        case Retired():
                            self.backoff.succeed(outcome.key)
                            places.append(outcome)
                        case Kept():
                            self._keep(outcome, tally)
                        case Failed():
                            self._fail(outcome, reading, tally)
                        case _:
                            assert_never(outcome)
                tasks.start_soon(self._free, retired.token, places, tally)

    async def _free(self, token: str, retired: Sequence[Retired], tally: _Tally) -> None:
        places = [one.place for one in retired]
        with anyio.CancelScope(shield=True):
            freed = await self.deleter.free(token, places)
        for one, disk_bytes in zip(retired, freed.disk_bytes, strict=True):
            intent = one.place.intent
            tally.deleted.append(
                DeletedImage(
                    repository=intent.repository,
                    digest=intent.digest,
                    tags=one.tags,
                    disk_bytes=disk_bytes,
                    unused_since_ns=intent.unused_since_ns,
                )
            )
            log_event(
                logging.INFO,
                "image_deleted",
                repository=intent.repository,
                digest=intent.digest,
                unused_since=format_time(intent.unused_since_ns),
                bytes=disk_bytes,
            )
            for path, error in one.faults:
                self._note_fault(intent.repository, intent.digest, path, error, tally)
        for place, error in freed.errors:
            self._note_fault(place.intent.repository, place.intent.digest, _path_of(place), error, tally)

    def _note_fault(self, repository: str, digest: str, path: str, error: str, tally: _Tally) -> None:
        tally.errors.append(SweepError(path=path, error=error, repository=repository, digest=digest))
        log_event(
            logging.ERROR, "deletion_unfinished", repository=repository, digest=digest, path=path, error=error
        )

    def _keep(self, kept: Kept, tally: _Tally) -> None:
        repository, digest = kept.key
        if kept.reason is Reason.OPEN:
            tally.open += 1
        log_event(
            logging.INFO, "image_kept", repository=repository, digest=digest, reason=kept.reason or "gone"
        )

    def _fail(self, failed: Failed, reading: ClockReading, tally: _Tally) -> None:
        repository, digest = failed.key
        error = failed.error.strerror or str(failed.error)
        self.backoff.fail(failed.key, reading.boot_ns)
        tally.failed += 1
        tally.errors.append(SweepError(path=failed.path, error=error, repository=repository, digest=digest))
        log_event(
            logging.ERROR,
            "deletion_failed",
            repository=repository,
            digest=digest,
            path=failed.path,
            errno=failed.error.errno,
            error=error,
        )

    def _tell_leases(self, error: OSError | None) -> None:
        self.leases_offered = error is None
        if error is not None:
            self._tell_once(logging.WARNING, "no_file_leases", error=error.strerror)

    def _tell_oddities(self, survey: Survey) -> None:
        for path, problem in survey.corrupt_states:
            log_event(logging.WARNING, "state_unreadable", path=path, detail=problem)
        for path, problem in survey.ignored_references:
            log_event(logging.WARNING, "reference_ignored", path=path, detail=problem)
        if survey.newer_layout:
            self._tell_once(logging.INFO, "newer_layout_left_alone", folders=",".join(survey.newer_layout))

    def _tell_once(self, level: int, event: str, **keys: object) -> None:
        if event not in self._told:
            self._told.add(event)
            log_event(level, event, **keys)

    def _report(self, plan: Plan, tally: _Tally, now: datetime, seconds: float) -> SweepReport:
        status = SweepStatus.SUCCESS
        if tally.errors:
            status = SweepStatus.PARTIAL
        if tally.suspended:
            status = SweepStatus.SUSPENDED
        deleted = sorted(tally.deleted, key=lambda image: (image.repository, image.digest))
        return SweepReport(
            status=status,
            started_at=now,
            duration_seconds=seconds,
            suspended=tuple(tally.suspended),
            ready_images=plan.ready_images,
            protected_images=plan.protected_images,
            marked_unused=tally.marked,
            cleared_states=tally.cleared + tally.open,
            deleted_images=len(deleted),
            deleted_bytes=sum(image.disk_bytes for image in deleted),
            pruned_states=tally.pruned,
            stale_references=len({stale.image for stale in plan.stale_references}),
            open_images=tally.open,
            failed_deletes=tally.failed,
            deleted=tuple(deleted),
            errors=tuple(tally.errors),
        )


def _path_of(place: Place) -> str:
    return f"{place.folder}/{place.name}"


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
