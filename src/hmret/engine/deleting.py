"""Deleting what a plan wants gone: claimed, looked at once more, renamed out of the cache, and its bytes freed."""

import logging
from collections.abc import Callable, Sequence
from typing import assert_never

import anyio
import attrs

from hmret.actors.deleter import Deleter, Recovery
from hmret.actors.locks import Locks
from hmret.disk.retirement import Candidate, Failed, Kept, LastLook, Retired
from hmret.engine.batches import batches
from hmret.engine.log import log_event
from hmret.engine.overlook import Overlook
from hmret.engine.tally import Tally
from hmret.model.images import Key
from hmret.model.times import SECOND
from hmret.model.verdicts import Verdict

__all__ = ["Backoff", "Deleting"]

# Images claimed at a time: while they are, a `mark_used` of one of them waits, so it is a few milliseconds of work.
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
class Deleting:
    """Carries out deletions."""

    overlook: Overlook
    locks: Locks
    deleter: Deleter
    backoff: Backoff = attrs.field(factory=Backoff)
    leases_offered: bool | None = None
    """Whether the kernel's file leases work here; None: not tried yet."""

    async def delete(self, deletions: Sequence[Verdict], boot_ns: int, tally: Tally) -> None:
        """Delete what is due; the bytes of one batch are freed while the next is looked at."""
        # By repository, so that one batch has its images in few folders; the plan has already chosen the oldest.
        candidates = sorted(
            Candidate(verdict.repository, verdict.digest, verdict.unused_since_ns)
            for verdict in deletions
            if verdict.unused_since_ns is not None
        )
        async with anyio.create_task_group() as tasks:
            for batch in batches(candidates, _DELETIONS):
                freeing = await self._retire(batch, boot_ns, tally)
                if tally.suspended:
                    break
                if freeing is not None:
                    tasks.start_soon(self._free, *freeing, tally)

    async def finish_leftovers(self) -> Recovery | None:
        """Finish or undo what an earlier sweep could not; nothing while one of those images is in use."""
        if not self.deleter.has_unfinished:
            return None
        recovery = None
        try:
            keys = await self.deleter.unfinished()
        except OSError as error:
            log_event(logging.ERROR, "recovery_failed", error=error.strerror)
            return None
        async with self.locks.claiming(keys) as given:
            if given == keys:
                with anyio.CancelScope(shield=True):
                    recovery = await self.deleter.recover()
        return recovery

    async def _retire(
        self, batch: Sequence[Candidate], boot_ns: int, tally: Tally
    ) -> tuple[str, list[Retired]] | None:
        by_key = {candidate.key: candidate for candidate in batch}
        async with self.locks.claiming(by_key) as given:
            if not given:
                return None
            again = await self.overlook.references.look_again(given)
            tally.suspended.extend(self.overlook.reference_suspensions(again.unreadable))
            if tally.suspended:
                return None
            look = LastLook(again.keys, self.overlook.policy.unused_for_ns, tally.now_ns)
            chosen = [candidate for key, candidate in by_key.items() if key in given]
            # The claim must last until the thread has ended, whatever becomes of this sweep.
            with anyio.CancelScope(shield=True):
                retired = await self.deleter.retire(chosen, look)
        # Where no image came as far as its leases, nothing was learned about them.
        if retired.lease_error is not None or any(isinstance(one, Retired) for one in retired.outcomes):
            self._tell_leases(retired.lease_error)
        gone: list[Retired] = []
        for outcome in retired.outcomes:
            match outcome:
                case Retired():
                    self.backoff.succeed(outcome.key)
                    gone.append(outcome)
                case Kept():
                    tally.note_kept(outcome)
                case Failed():
                    self.backoff.fail(outcome.key, boot_ns)
                    tally.note_failed(outcome)
                case _:
                    assert_never(outcome)
        return retired.token, gone

    async def _free(self, token: str, retired: Sequence[Retired], tally: Tally) -> None:
        # One whose tags or state are still there stays in the trash: what is in it is what the next recovery finishes.
        places = [one.place for one in retired if not one.faults]
        with anyio.CancelScope(shield=True):
            freed = await self.deleter.free(token, places)
        disk_bytes = {
            place.name: freed_bytes for place, freed_bytes in zip(places, freed.disk_bytes, strict=True)
        }
        for one in retired:
            tally.note_deleted(one, disk_bytes.get(one.place.name, 0))
        for place, error in freed.errors:
            tally.note_not_erased(place, error)

    def _tell_leases(self, error: OSError | None) -> None:
        if error is not None and self.leases_offered is not False:
            log_event(logging.WARNING, "no_file_leases", error=error.strerror)
        self.leases_offered = error is None
