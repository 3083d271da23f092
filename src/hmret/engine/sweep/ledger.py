"""The running account of a sweep: what it enters is counted, logged, published and written to the journal."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from hmret.actors.state_keeper import StateFault
from hmret.disk.deletion.outcomes import Retired
from hmret.disk.deletion.recovery.quarantine_records import HeldImage
from hmret.disk.deletion.trash.intents import Intent, TrashEntry
from hmret.disk.deletion.trash.reserve import NO_SPACE, NO_SPACE_REMEDY
from hmret.disk.deletion.trash.wholeness import LayersGoneError
from hmret.engine.counters import Counters
from hmret.engine.sweep.entries import Entry, Facts, write_entries
from hmret.model.deletion import Deletion, Failed, Kept
from hmret.model.fleet import ReleaseOutcome
from hmret.model.images import Obstacle, Suspension
from hmret.model.plan.plan import Plan
from hmret.model.references import Key
from hmret.model.report import DeletedImage, SweepError, SweepReport, SweepStatus
from hmret.model.times import datetime_of, format_time
from hmret.model.values import define
from hmret.model.verdicts import Reason


def blocked_detail(error: OSError) -> str:
    """Say why no image can be deleted, and the remedy, in one line."""
    problem = f"no image can be deleted, because the deletion cannot be recorded first: {error.strerror}"
    if error.errno in NO_SPACE:
        return f"{problem}; {NO_SPACE_REMEDY}"
    return problem


def _with_remedy(error: OSError) -> OSError:
    return OSError(error.errno, blocked_detail(error)) if error.errno in NO_SPACE else error


def _no_users(_key: Key) -> Facts:
    return {}


@define(eq=False)
class SweepLedger:
    """The account of one sweep."""

    now_ns: int
    suspended: list[Suspension]
    publish: Callable[[Sequence[Facts]], None] = lambda _lines: None
    """Called with the lines of the journal as they are made."""
    counters: Counters = attrs.field(factory=Counters)
    last_users: Callable[[Key], Facts] = _no_users
    """Returns who referred to an image last."""
    counts: Counter[str] = attrs.field(factory=Counter)
    """Numbers of the report, by the names of its fields."""
    blocked: Failed | None = None
    """The failure because of which no more images can be deleted: no intents can be written."""
    deleted: list[DeletedImage] = attrs.field(factory=list)
    doubtful: set[Key] = attrs.field(factory=set)
    """Rows that were not as the plan had them, or whose deletion failed or was undone; the next survey reads them again."""
    errors: list[SweepError] = attrs.field(factory=list)
    _lines: list[Facts] = attrs.field(factory=list, init=False)
    """Lines of the journal that have not been written yet."""

    @property
    def freed_bytes(self) -> int:
        """The blocks that have come free, those of the quarantine included."""
        return self.counts["released_bytes"] + sum(image.disk_bytes for image in self.deleted)

    def enter(self, *entries: Entry) -> None:
        """Count, log and publish entries, and keep their lines for the journal."""
        for entry in entries:
            self.counters.add_entry(entry.event, entry.facts)
        lines = write_entries(self.now_ns, *entries)
        self._lines += lines
        self.publish(lines)

    def take_lines(self) -> list[Facts]:
        """Hand over the lines for the journal."""
        lines, self._lines = self._lines, []
        return lines

    def add_states(
        self, event: str, keys: Iterable[Key], faults: Iterable[StateFault], **facts: object
    ) -> int:
        """Enter states that were written or removed; returns how many were."""
        failed = {fault.key: fault for fault in faults}
        for key, fault in failed.items():
            self._add_failure(key, "state_not_written", fault.path, fault.error)
        done = [key for key in keys if key not in failed]
        users = self.last_users if event == "mark" else _no_users
        self.enter(*(Entry(event, key, {**facts, **users(key)}) for key in done))
        return len(done)

    def add_record_error(self, path: str, error: OSError) -> None:
        """Enter that one of hmret's own records could not be written."""
        detail = error.strerror or str(error)
        self.errors.append(SweepError(path=path, error=detail))
        self.enter(Entry("record_not_written", facts={"path": path, "error": detail}))

    def add_deleted(self, retired: Retired, disk_bytes: int, *, quarantined_until: str | None = None) -> None:
        """Enter an image that has left the cache, for good or into quarantine."""
        held = {} if quarantined_until is None else {"quarantined_until": quarantined_until}
        intent = retired.intent
        for row in intent.rows:
            key = row.repository, intent.digest
            image = DeletedImage(
                repository=row.repository,
                digest=intent.digest,
                tags=intent.tags_of(row.repository, retired.links),
                disk_bytes=disk_bytes,
                unused_since_ns=row.unused_since_ns,
            )
            self.deleted.append(image)
            facts = {
                "reason": row.reason,
                "bytes": disk_bytes,
                "unused_since": format_time(row.unused_since_ns),
                "tags": list(image.tags),
            }
            self.enter(Entry("delete", key, {**facts, **self.last_users(key), **held}))
            # Bytes count once, with the first row.
            disk_bytes = 0
        self.counts["quarantined_images"] += len(intent.rows) if held else 0
        for path, error in retired.faults:
            self._add_failure(intent.key, "deletion_unfinished", path, error)
        if retired.not_put_back:
            self._add_failure(intent.key, "not_put_back", retired.place.path, retired.not_put_back)

    def add_held(self, retired: Retired, disk_bytes: int, until: str) -> None:
        """Enter an image that has been put into quarantine; `disk_bytes` are freed when it leaves that."""
        self.counts["quarantined_bytes"] += disk_bytes
        self.add_deleted(retired, 0, quarantined_until=until)

    def add_brought_back(self, intent: Intent) -> None:
        """Enter an image that was put back before its bytes were freed, since a client has begun to use it again."""
        self.doubtful.update(intent.keys)
        self.enter(*(Entry("recover", key, {"reason": "wanted"}) for key in intent.keys))

    def add_not_put_back(self, intent: Intent, error: LayersGoneError) -> None:
        """Enter an image that a client has begun to use again and that cannot be put back: its data has gone."""
        path = str(error.filename)
        self._add_failure(intent.key, "not_put_back", path, error.strerror or str(error))

    def add_erased_from_quarantine(self, held: HeldImage, disk_bytes: int) -> None:
        """Enter an image that has left the quarantine for good; the journal's event is `release`."""
        self.counts["released_images"] += len(held.rows)
        self.counts["released_bytes"] += disk_bytes
        # Bytes count once, with the first row.
        sizes = (disk_bytes, *(0 for _ in held.rows[1:]))
        self.enter(
            *(Entry("release", key, {"bytes": size}) for key, size in zip(held.keys, sizes, strict=True))
        )

    def add_not_erased(self, place: TrashEntry, error: str) -> None:
        """Enter a folder whose bytes could not be freed."""
        self._add_failure(place.intent.key, "deletion_unfinished", place.path, error)

    def add_ghosts(self, digests: Iterable[str]) -> None:
        """Enter ghosts that were removed: metadata without a disk, which a call left that had begun before the deletion."""
        self.enter(*(Entry("ghost", facts={"digest": digest}) for digest in digests))

    def add_kept(self, kept: Kept) -> None:
        """Enter an image that was due and stays."""
        keys = kept.deletion.keys
        reason = kept.reason or "gone"
        self.doubtful.update(keys)
        self.counts["open_images"] += len(keys) if kept.reason is Reason.OPEN else 0
        if kept.cleared:
            self.counts["cleared_states"] += len(keys)
            self.enter(*(Entry("clear", key, {"reason": reason}) for key in keys))
        detail = {"detail": kept.detail} if kept.detail else {}
        # No plan shows what is wrong with a broken one, so it is reported here.
        level = logging.WARNING if kept.reason is Reason.BROKEN else None
        self.enter(Entry("kept", keys[0], {"reason": reason, **detail}, level))

    def add_copy_released(self, deletions: Iterable[Deletion]) -> None:
        """Enter images whose copies here no longer count in the fleet, right before they are to go.

        The journal's event is `released`.
        """
        self.enter(*(Entry("released", deletion.key) for deletion in deletions))

    def add_kept_by_fleet(self, deletion: Deletion, outcome: ReleaseOutcome) -> None:
        """Enter an image that stays because the fleet needs it, as was found right before it was to go."""
        detail = {"detail": outcome.detail} if outcome.detail else {}
        self.enter(Entry("kept", deletion.key, {"reason": outcome.reason, **detail}))

    def add_failed(self, failed: Failed) -> None:
        """Enter a deletion that failed."""
        self.counts["failed_deletes"] += 1
        self.doubtful.update(failed.deletion.keys)
        error = failed.error.strerror or str(failed.error)
        self._add_failure(
            failed.deletion.key, "deletion_failed", failed.path, error, errno=failed.error.errno
        )

    def add_obstacles(self, obstacles: Mapping[Key, Obstacle]) -> None:
        """Add images that are due and cannot be deleted to the errors of the report; every sweep reports them."""
        paths: set[str] = set()
        for (repository, digest), obstacle in sorted(obstacles.items()):
            if obstacle.path not in paths:
                paths.add(obstacle.path)
                detail = f"cannot be deleted: {obstacle.detail}"
                self.errors.append(
                    SweepError(path=obstacle.path, error=detail, repository=repository, digest=digest)
                )

    def add_unbegun(self, failed: Failed) -> None:
        """Enter that no image can be deleted now, because of one path."""
        self.blocked = failed
        self.add_failed(attrs.evolve(failed, error=_with_remedy(failed.error)))

    def _add_failure(self, key: Key, reason: str, path: str, error: str, **facts: object) -> None:
        repository, digest = key
        self.errors.append(SweepError(path=path, error=error, repository=repository, digest=digest))
        self.enter(Entry("failure", key, {"reason": reason, "path": path, "error": error, **facts}))

    def report(self, plan: Plan, seconds: float) -> SweepReport:
        """Make the report of the sweep."""
        status = SweepStatus.SUCCESS
        if self.errors:
            status = SweepStatus.PARTIAL
        if self.suspended:
            status = SweepStatus.SUSPENDED
        deleted = sorted(self.deleted, key=lambda image: (image.repository, image.digest))
        counts: Mapping[str, Any] = self.counts
        return SweepReport(
            status=status,
            started_at=datetime_of(self.now_ns),
            duration_seconds=seconds,
            suspended=tuple(self.suspended),
            ready_images=plan.ready_images,
            protected_images=plan.protected_images,
            stale_references=len({stale.image for stale in plan.stale_references}),
            deleted_images=len(deleted),
            deleted_bytes=sum(image.disk_bytes for image in deleted),
            deleted=tuple(deleted),
            errors=tuple(self.errors),
            **counts,
        )
