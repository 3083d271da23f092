"""What a sweep has done so far: counted for the report, told to the log, noted for the journal."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from hmret.actors.state_keeper import StateFault
from hmret.disk.deletion.outcomes import Retired
from hmret.disk.deletion.recovery.held_records import Held
from hmret.disk.deletion.trash.intents import Intent, TrashEntry
from hmret.disk.deletion.trash.reserve import NO_SPACE, NO_SPACE_REMEDY
from hmret.disk.deletion.trash.wholeness import LayersGoneError
from hmret.engine.counters import Counters
from hmret.engine.log import log_event
from hmret.model.deletion import DueRow, Failed, Kept
from hmret.model.images import Key, Suspension
from hmret.model.obstacles import Obstacle
from hmret.model.plan.plan import Plan
from hmret.model.report import DeletedImage, SweepError, SweepReport, SweepStatus
from hmret.model.times import datetime_of, format_time
from hmret.model.values import define
from hmret.model.verdicts import Reason

__all__ = ["SweepLedger", "blocked_detail", "journal_entry"]


def journal_entry(now_ns: int, event: str, key: Key | None = None, **facts: object) -> Mapping[str, object]:
    """Make a line of the journal."""
    image = {} if key is None else {"image": "@".join(key)}
    return {"time": format_time(now_ns), "event": event, **image, **facts}


def blocked_detail(error: OSError) -> str:
    """Say why no image can be deleted, and what remedies it, in one line."""
    problem = f"no image can be deleted, as what is about to be done cannot be written down: {error.strerror}"
    if error.errno in NO_SPACE:
        return f"{problem}; {NO_SPACE_REMEDY}"
    return problem


def _with_remedy(error: OSError) -> OSError:
    return OSError(error.errno, blocked_detail(error)) if error.errno in NO_SPACE else error


def _no_users(_key: Key) -> Mapping[str, object]:
    return {}


@define(eq=False)
class SweepLedger:
    """The running account of one sweep."""

    now_ns: int
    suspended: list[Suspension]
    publish: Callable[[Sequence[Mapping[str, object]]], None] = lambda _entries: None
    """Is told each entry as it is made."""
    counters: Counters = attrs.field(factory=Counters)
    last_users: Callable[[Key], Mapping[str, object]] = _no_users
    """Says who referred to an image when last anyone did."""
    marked: int = 0
    cleared: int = 0
    pruned: int = 0
    open: int = 0
    cleared_late: int = 0
    """Rows that the last look kept, and whose timers it cleared."""
    failed: int = 0
    blocked: Failed | None = None
    """Why no image could be deleted any more: what it would have written down first could not be."""
    quarantined: int = 0
    quarantined_bytes: int = 0
    released: int = 0
    released_bytes: int = 0
    deleted: list[DeletedImage] = attrs.field(factory=list)
    doubtful: set[Key] = attrs.field(factory=set)
    """Images of which the last look found something else than the plan had rested on."""
    errors: list[SweepError] = attrs.field(factory=list)
    entries: list[Mapping[str, object]] = attrs.field(factory=list)
    """Lines for the journal that are not written yet."""

    def note(self, *entries: Mapping[str, object]) -> None:
        """Note lines for the journal, and tell them at once."""
        self.entries.extend(entries)
        self.publish(entries)

    def take_entries(self) -> list[Mapping[str, object]]:
        """Hand over the lines for the journal."""
        entries, self.entries = self.entries, []
        return entries

    def add_states(
        self, event: str, keys: Iterable[Key], faults: Iterable[StateFault], **facts: object
    ) -> int:
        """Note states that were written or removed; returns how many were."""
        failed = {fault.key: fault for fault in faults}
        for key, fault in failed.items():
            self._note_error(key, "state_not_written", fault.path, fault.error)
        done = [key for key in keys if key not in failed]
        users = self.last_users if event == "mark" else _no_users
        self.note(*(journal_entry(self.now_ns, event, key, **facts, **users(key)) for key in done))
        return len(done)

    def add_record_error(self, path: str, error: OSError) -> None:
        """Note that a record of our own could not be written."""
        detail = error.strerror or str(error)
        self.errors.append(SweepError(path=path, error=detail))
        log_event(logging.ERROR, "record_not_written", path=path, error=detail)

    def add_deleted(
        self,
        retired: Retired,
        disk_bytes: int,
        *,
        quarantined_until: str | None = None,
        quarantined_bytes: int = 0,
    ) -> None:
        """Note an image that has gone from the cache, for good or into quarantine."""
        held = {} if quarantined_until is None else {"quarantined_until": quarantined_until}
        intent = retired.intent
        self.quarantined_bytes += quarantined_bytes
        for row in intent.rows:
            tags = intent.tags_of(row.repository, retired.links)
            self._note_row(row, intent.digest, tags, disk_bytes, held)
            # Bytes count once, with the first row.
            disk_bytes = 0
        for path, error in retired.faults:
            self._note_error(intent.key, "deletion_unfinished", path, error)
        if retired.refusal:
            self._note_error(intent.key, "not_put_back", retired.place.path, retired.refusal)

    def _note_row(
        self,
        row: DueRow,
        digest: str,
        tags: tuple[str, ...],
        disk_bytes: int,
        held: Mapping[str, str],
    ) -> None:
        """Note one row of an image that has gone."""
        repository = row.repository
        key = repository, digest
        since = format_time(row.unused_since_ns)
        reason = row.reason
        users = self.last_users(key)
        self.quarantined += bool(held)
        self.counters.add_deleted(reason, disk_bytes)
        self.deleted.append(
            DeletedImage(
                repository=repository,
                digest=digest,
                tags=tags,
                disk_bytes=disk_bytes,
                unused_since_ns=row.unused_since_ns,
            )
        )
        self.note(
            journal_entry(
                self.now_ns,
                "delete",
                key,
                reason=reason,
                bytes=disk_bytes,
                unused_since=since,
                tags=list(tags),
                **users,
                **held,
            )
        )
        log_event(
            logging.INFO,
            "image_deleted",
            repository=repository,
            digest=digest,
            reason=reason,
            unused_since=since,
            bytes=disk_bytes,
            tags=list(tags),
            **users,
            **held,
        )

    def add_brought_back(self, intent: Intent) -> None:
        """Note an image that was put back before its bytes were freed, since somebody has come to want it."""
        for key in intent.keys:
            repository, digest = key
            self.doubtful.add(key)
            self.note(journal_entry(self.now_ns, "recover", key, reason="wanted"))
            log_event(
                logging.INFO, "deletion_recovered", repository=repository, digest=digest, reason="wanted"
            )

    def add_not_put_back(self, intent: Intent, error: LayersGoneError) -> None:
        """Note an image that somebody has come to want and that cannot be put back: its data has gone."""
        path = str(error.filename)
        self._note_error(intent.key, "not_put_back", path, error.strerror or str(error))

    def add_released(self, held: Held, disk_bytes: int) -> None:
        """Note an image that has left the quarantine for good."""
        self.released_bytes += disk_bytes
        self.counters.add_released(disk_bytes)
        for repository, digest in held.keys:
            self.released += 1
            self.note(journal_entry(self.now_ns, "release", (repository, digest), bytes=disk_bytes))
            log_event(logging.INFO, "image_released", repository=repository, digest=digest, bytes=disk_bytes)
            # Bytes count once, with the first row.
            disk_bytes = 0

    def add_not_erased(self, place: TrashEntry, error: str) -> None:
        """Note a folder whose bytes could not be freed."""
        self._note_error(place.intent.key, "deletion_unfinished", place.path, error)

    def add_ghosts(self, digests: Iterable[str]) -> None:
        """Note metadata without a disk that was left by a call which had begun before its image was deleted."""
        for digest in digests:
            self.note(journal_entry(self.now_ns, "ghost", None, digest=digest))
            log_event(logging.INFO, "ghost_removed", digest=digest)

    def add_kept(self, kept: Kept) -> None:
        """Note an image that was due and stays."""
        keys = kept.deletion.keys
        repository, digest = keys[0]
        reason = kept.reason or "gone"
        self.doubtful.update(keys)
        self.counters.deletes["not_found"] += kept.reason is None
        self.open += len(keys) if kept.reason is Reason.OPEN else 0
        if kept.cleared:
            self.cleared_late += len(keys)
            self.note(*(journal_entry(self.now_ns, "clear", key, reason=reason) for key in keys))
        detail = {"detail": kept.detail} if kept.detail else {}
        # No plan sees what is wrong with it, so this is where it is told.
        level = logging.WARNING if kept.reason is Reason.BROKEN else logging.INFO
        log_event(level, "image_kept", repository=repository, digest=digest, reason=reason, **detail)

    def add_failed(self, failed: Failed) -> None:
        """Note a deletion that failed."""
        self.failed += 1
        self.doubtful.update(failed.deletion.keys)
        self.counters.deletes["error"] += 1
        error = failed.error.strerror or str(failed.error)
        self._note_error(failed.deletion.key, "deletion_failed", failed.path, error, errno=failed.error.errno)

    def add_obstacles(self, obstacles: Mapping[Key, Obstacle]) -> None:
        """Note images that are due and cannot be deleted; every sweep that cannot says so."""
        paths: set[str] = set()
        for (repository, digest), obstacle in sorted(obstacles.items()):
            if obstacle.path not in paths:
                paths.add(obstacle.path)
                detail = f"cannot be deleted: {obstacle.detail}"
                self.errors.append(
                    SweepError(path=obstacle.path, error=detail, repository=repository, digest=digest)
                )

    def add_unbegun(self, failed: Failed) -> None:
        """Note that no image can be deleted now, for the sake of one path."""
        self.blocked = failed
        self.add_failed(attrs.evolve(failed, error=_with_remedy(failed.error)))

    def _note_error(self, key: Key, event: str, path: str, error: str, **facts: object) -> None:
        repository, digest = key
        self.errors.append(SweepError(path=path, error=error, repository=repository, digest=digest))
        self.note(journal_entry(self.now_ns, "failure", key, reason=event, path=path, error=error, **facts))
        log_event(logging.ERROR, event, repository=repository, digest=digest, path=path, error=error, **facts)

    def report(self, plan: Plan, seconds: float) -> SweepReport:
        """Make the report of the sweep."""
        status = SweepStatus.SUCCESS
        if self.errors:
            status = SweepStatus.PARTIAL
        if self.suspended:
            status = SweepStatus.SUSPENDED
        deleted = sorted(self.deleted, key=lambda image: (image.repository, image.digest))
        return SweepReport(
            status=status,
            started_at=datetime_of(self.now_ns),
            duration_seconds=seconds,
            suspended=tuple(self.suspended),
            ready_images=plan.ready_images,
            protected_images=plan.protected_images,
            marked_unused=self.marked,
            cleared_states=self.cleared + self.cleared_late,
            deleted_images=len(deleted),
            deleted_bytes=sum(image.disk_bytes for image in deleted),
            pruned_states=self.pruned,
            stale_references=len({stale.image for stale in plan.stale_references}),
            open_images=self.open,
            failed_deletes=self.failed,
            deleted=tuple(deleted),
            errors=tuple(self.errors),
            quarantined_images=self.quarantined,
            quarantined_bytes=self.quarantined_bytes,
            released_images=self.released,
            released_bytes=self.released_bytes,
        )
