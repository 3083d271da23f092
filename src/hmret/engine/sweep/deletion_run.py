"""Deleting what a plan wants gone: claimed, looked at once more, renamed out of the cache, and its bytes freed."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import assert_never

import anyio
import anyio.lowlevel
import attrs

from hmret.actors.deleter import Deleter
from hmret.actors.locks import Locks
from hmret.actors.scanner import ScanResult
from hmret.actors.threads import Threads
from hmret.disk.deletion.outcomes import BatchRetired, Retired
from hmret.disk.deletion.recovery.recovering import Recovery
from hmret.disk.deletion.tags.tag_view import TagView
from hmret.disk.deletion.trash.intents import Intent, Link
from hmret.disk.deletion.trash.reserve import NO_SPACE
from hmret.disk.deletion.trash.wholeness import LayersGoneError
from hmret.disk.layout import OWN, TRASH
from hmret.engine.log import log_event
from hmret.engine.planner import Planner
from hmret.engine.surveyor import Surveyor
from hmret.engine.sweep.batches import batches
from hmret.engine.sweep.ledger import SweepLedger
from hmret.engine.sweep.quarantine import Quarantine
from hmret.engine.watch.backoff import Backoff
from hmret.model.deletion import Deletion, Failed, Kept, Recheck
from hmret.model.images import Key
from hmret.model.times import SECOND
from hmret.model.values import define, frozen

__all__ = ["DeletionRun"]

# One look at all references serves a batch. No image of it is begun longer after the first than four times what
# the look took, so that the looks cost a quarter of the deletions where there are many guests; and within these limits,
# so that few guests do not make for tiny batches, nor many for an old look.
_SHORTEST_NS = SECOND // 50
_LONGEST_NS = SECOND // 10

# Images in a batch: what its intents, and the event loop's work on its outcomes, may come to.
_FEWEST = 32
_MOST = 512

# Images that are noted in one go: a millisecond or two of the event loop.
_NOTED = 64


@frozen(eq=False)
class BatchResult:
    """What came of one batch."""

    token: str = ""
    """Of the intents; empty: there are none."""
    retired: Sequence[Retired] = ()
    left: list[Deletion] = attrs.field(factory=list)
    """Those that were not come to while the look at the references was fresh."""
    is_last: bool = False
    """Whether nothing more is to be deleted in this sweep."""


@define(eq=False)
class DeletionRun:
    """Carries out deletions."""

    surveyor: Surveyor
    planner: Planner
    threads: Threads
    locks: Locks
    deleter: Deleter
    monotonic_ns: Callable[[], int]
    quarantine: Quarantine
    check_folder: Callable[[], Awaitable[None]]
    """Compares the data directory with what its path leads to.

    Raises:
        DataDirMovedError: it is another one by now.
    """
    backoff: Backoff
    leases_offered: bool | None = None
    """Whether the kernel's file leases work here; None: not tried yet."""
    gone: set[Key] = attrs.field(factory=set, init=False)
    """What has left the cache in this sweep and not come back, by the first row."""
    not_freed: set[Key] = attrs.field(factory=set, init=False)
    """That of it whose bytes have not come free, though they should have."""
    _links_beside: dict[str, list[Link]] = attrs.field(factory=dict, init=False)
    """By digest: the tags that went in this sweep with folders that repositories had of their own."""
    _batch: int = attrs.field(default=_FEWEST, init=False)
    """How many images are likely to be come to with one look."""

    def begin_sweep(self) -> None:
        """Begin to count anew what goes."""
        self._links_beside = {}
        self.gone = set()
        self.not_freed = set()

    async def delete(
        self,
        deletions: Sequence[Deletion],
        scan: ScanResult,
        boot_ns: int,
        ledger: SweepLedger,
        *,
        holds: bool = True,
        may_go_on: Callable[[], bool] = lambda: True,
        is_interrupted: Callable[[], bool] = lambda: False,
    ) -> frozenset[Key]:
        """Delete what is due; the bytes of one batch are freed, or held, while the next is looked at.

        Args:
            deletions: what is due.
            scan: what the plan rests on.
            boot_ns: the boot-time clock, from which failures wait.
            ledger: the account of the sweep.
            holds: whether what goes is put into quarantine, where that is on.
            may_go_on: asked before each batch; what is left then waits for another sweep.
            is_interrupted: asked before each image, from whatever thread.

        Returns what was not come to, by the first row of each.
        """
        waiting = await self.threads.run_alone(_ordered, deletions)
        view = self.deleter.new_view(scan.tag_folders)
        async with anyio.create_task_group() as tasks:
            # guard(stop-at-end-of-hours): Deletion ends with the hours that the operator allows, also in the middle
            # of a sweep; the rest waits.
            while waiting and may_go_on() and not is_interrupted():
                batch, waiting = waiting[: self._batch], waiting[self._batch :]
                turn = await self._retire(batch, view, boot_ns, ledger, is_interrupted)
                if turn.token:
                    dispose = self.quarantine.hold if holds and self.quarantine.is_on else self._free
                    tasks.start_soon(self._dispose, dispose, turn, view, ledger)
                waiting = turn.left + waiting
                if turn.is_last:
                    break
        return frozenset(deletion.key for deletion in waiting)

    async def _dispose(
        self,
        dispose: Callable[[str, Sequence[Retired], SweepLedger], Awaitable[None]],
        turn: "BatchResult",
        view: TagView,
        ledger: SweepLedger,
    ) -> None:
        """Free the bytes of a batch, or hold it, after one more look who has come to want an image of it."""
        retired = [one for one in turn.retired if not one.faults]
        faulty = [one for one in turn.retired if one.faults]
        with anyio.CancelScope(shield=True):
            try:
                images = [(one.intent, one.places) for one in retired if not one.refusal]
                wanted = await self.deleter.find_wanted(images, view) if images else []
            except OSError as error:
                # Nobody knows what is wanted, so all of it waits for the next recovery.
                self._leave(turn.token, error, ledger)
                for one in turn.retired:
                    ledger.add_deleted(one, 0)
                return
            back = {intent.name for intent in wanted if await self._bring_back(intent, turn.token, ledger)}
        gone = [one for one in retired if one.intent.name not in back]
        await dispose(turn.token, [*gone, *faulty], ledger)

    async def _bring_back(self, intent: Intent, token: str, ledger: SweepLedger) -> bool:
        """Put an image back that somebody has come to want; returns whether it is back, or will be."""
        async with self.locks.using(intent.digest):
            try:
                beside = self._links_beside.get(intent.digest, ()) if intent.is_content else ()
                is_back = await self.deleter.bring_back(intent, beside)
            except LayersGoneError as error:
                ledger.add_not_put_back(intent, error)
                return False
            except OSError as error:
                self._leave(token, error, ledger)
                return True
        if is_back:
            self.gone.discard(intent.key)
            ledger.add_brought_back(intent)
        return is_back

    def _leave(self, token: str, error: OSError, ledger: SweepLedger) -> None:
        """Leave what has a batch's intents for the next recovery, and say why."""
        ledger.add_record_error(f"{OWN}/{TRASH}/{token}.json", error)
        self.deleter.leave(token)

    async def finish_leftovers(self) -> Recovery | None:
        """Finish or undo what an earlier sweep could not; nothing while one of those images is in use."""
        if not self.deleter.has_unfinished:
            return None
        recovery = None
        try:
            digests = await self.deleter.unfinished()
        except OSError as error:
            fault = f"{OWN}/{TRASH}", error.strerror or str(error)
            return Recovery((), {}, (), 0, (fault,))
        async with self.locks.claiming(digests) as given:
            # guard(recover-only-unused): Finishing or undoing an earlier deletion waits while somebody uses any of
            # its images.
            if given.digests == digests and given.begin_all():
                with anyio.CancelScope(shield=True):
                    recovery = await self.deleter.recover(hold_at_ns=self.quarantine.hold_at_ns)
                    self.quarantine.add(recovery.held)
        return recovery

    async def _retire(
        self,
        batch: Sequence[Deletion],
        view: TagView,
        boot_ns: int,
        ledger: SweepLedger,
        is_interrupted: Callable[[], bool],
    ) -> BatchResult:
        async with self.locks.claiming({deletion.digest for deletion in batch}) as given:
            # guard(delete-only-what-is-unused): Only images that were free when the batch was claimed are deleted;
            # one in use stays.
            chosen = [deletion for deletion in batch if deletion.digest in given.digests]
            if not chosen:
                return BatchResult()
            begin_ns = self.monotonic_ns()
            keys = [key for deletion in chosen for key in deletion.keys]
            again = await self.surveyor.recheck(keys, ledger.now_ns)
            # guard(batch-in-the-same-folder): If the data directory is moved in the midst of a sweep, no further
            # batch of images is deleted.
            await self.check_folder()
            looked_ns = self.monotonic_ns()
            # guard(late-doubt-stops-deletion): A reference that turned unreadable, or a volume that went away since
            # the plan, may hide what is needed: nothing goes.
            ledger.suspended.extend(self.surveyor.suspensions_of(again))
            if ledger.suspended:
                return BatchResult(left=chosen, is_last=True)
            # guard(references-read-under-claim): References are read again once the batch is claimed: a guest made
            # after the plan keeps its image.
            recheck = Recheck(
                again.keys,
                self.planner.policy.shortest_window_ns,
                ledger.now_ns,
                asks_leases=not self.surveyor.leases_break,
                asks_tags=self.planner.policy.asks_tags,
            )
            within_ns = min(max(4 * (looked_ns - begin_ns), _SHORTEST_NS), _LONGEST_NS)
            # guard(claim-outlasts-the-thread): The claim lasts until the thread has ended, whatever happens to the
            # sweep, or a user would get an image that is still being deleted.
            with anyio.CancelScope(shield=True):
                retired = await self.deleter.retire(
                    chosen, recheck, given, view=view, within_ns=within_ns, is_interrupted=is_interrupted
                )
                waiting = given.waiting
        unbegun = [one for one in retired.outcomes if isinstance(one, Failed) and one.is_unbegun]
        if unbegun:
            return self._note_unbegun(unbegun, chosen, ledger)
        if given.done:
            taken_ns = max(self.monotonic_ns() - looked_ns, 1)
            self._batch = min(max(within_ns * len(given.done) // taken_ns, _FEWEST), _MOST)
        gone = self._note(retired, boot_ns, ledger)
        # Where all still wait for their turn, the deleter has been told to stop.
        return BatchResult(
            retired.token,
            gone,
            left=[deletion for deletion in chosen if deletion.digest in waiting],
            is_last=waiting == given.digests,
        )

    def _note_unbegun(
        self, unbegun: Sequence[Failed], chosen: list[Deletion], ledger: SweepLedger
    ) -> BatchResult:
        """Go on with fewer images at a time where the disk has no room for more intents; else with none in this sweep."""
        first = unbegun[0]
        if first.error.errno in NO_SPACE and len(chosen) > 1:
            self._batch = max(len(chosen) // 4, 1)
            return BatchResult(left=chosen)
        # It is nothing about these images, so they do not back off.
        ledger.add_unbegun(first)
        return BatchResult(left=chosen, is_last=True)

    def _note(self, retired: BatchRetired, boot_ns: int, ledger: SweepLedger) -> list[Retired]:
        """Note what became of a batch; returns what has gone."""
        # Where no image came as far as its leases, nothing was learned about them.
        if retired.lease_error is not None or any(isinstance(one, Retired) for one in retired.outcomes):
            self._tell_leases(retired.lease_error)
        gone: list[Retired] = []
        for outcome in retired.outcomes:
            match outcome:
                case Retired():
                    intent = outcome.intent
                    for key in intent.keys:
                        self.backoff.succeed(key)
                    self.gone.add(intent.key)
                    if not intent.is_content and outcome.links:
                        self._links_beside.setdefault(intent.digest, []).extend(outcome.links)
                    gone.append(outcome)
                case Kept():
                    ledger.add_kept(outcome)
                case Failed():
                    for key in outcome.deletion.keys:
                        self.backoff.fail(key, boot_ns)
                    ledger.add_failed(outcome)
                case _:
                    assert_never(outcome)
        return gone

    async def _free(self, token: str, retired: Sequence[Retired], ledger: SweepLedger) -> None:
        # One whose tags or state are still there stays in the trash: what is in it is what the next recovery finishes.
        places = [place for one in retired if not one.faults for place in one.places]
        with anyio.CancelScope(shield=True):
            freed = await self.deleter.free(token, places)
            disk_bytes: Counter[str] = Counter()
            for place, freed_bytes in zip(places, freed.disk_bytes, strict=True):
                disk_bytes[place.intent.name] += freed_bytes
            for few in batches(retired, _NOTED):
                for one in few:
                    ledger.add_deleted(one, disk_bytes[one.intent.name])
                await anyio.lowlevel.checkpoint()
        for place, error in freed.errors:
            self.not_freed.add(place.intent.key)
            ledger.add_not_erased(place, error)

    def _tell_leases(self, error: OSError | None) -> None:
        if self.surveyor.leases_break:
            return
        if error is not None and self.leases_offered is not False:
            log_event(logging.WARNING, "no_file_leases", error=error.strerror)
        self.leases_offered = error is None


def _ordered(deletions: Sequence[Deletion]) -> list[Deletion]:
    """Order what goes by repository, so that one batch has its images in few folders; the plan has chosen the oldest.

    Content goes before the folders that others have of its digest: while it stands, their tags lead to it.
    """
    first = {one.digest: one.repository for one in deletions if one.is_content}
    return sorted(
        deletions,
        key=lambda one: (
            first.get(one.digest, one.repository),
            one.digest,
            not one.is_content,
            one.repository,
        ),
    )
