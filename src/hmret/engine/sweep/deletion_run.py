"""Deleting the images that a plan chose: claimed, re-checked, renamed out of the cache, and their bytes freed."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, assert_never

import anyio
import anyio.lowlevel
import attrs

from hmret.actors.batches import batches
from hmret.actors.deleter import Deleter
from hmret.actors.journal_keeper import JournalKeeper
from hmret.actors.locks import Locks
from hmret.actors.scanner import ScanResult
from hmret.actors.threads import Threads
from hmret.disk.deletion.outcomes import BatchRetired, Retired
from hmret.disk.deletion.recovery.recovering import Recovery
from hmret.disk.deletion.tags.tag_view import TagFolders
from hmret.disk.deletion.trash.intents import Intent, Link
from hmret.disk.deletion.trash.reserve import NO_SPACE
from hmret.disk.deletion.trash.wholeness import LayersGoneError
from hmret.disk.layout import TRASH
from hmret.engine.log import log_event
from hmret.engine.planner import Planner
from hmret.engine.surveyor import Surveyor
from hmret.engine.sweep.ledger import SweepLedger
from hmret.engine.sweep.quarantine import Quarantine
from hmret.engine.watch.backoff import Backoff
from hmret.model.deletion import Deletion, Failed, Kept, RetireCriteria
from hmret.model.references import Key
from hmret.model.times import SECOND
from hmret.model.values import define, frozen

if TYPE_CHECKING:
    from hmret.engine.sweep.releases import Releases

# One check of all references serves a batch. No image is started more than four check durations after the first, so
# the checks cost a quarter of the deletions, within these limits: they keep batches from being tiny where there are
# few guests, and the check from being old where there are very many, which then costs more.
_SHORTEST_NS = SECOND // 50
_LONGEST_NS = SECOND // 10

# Images in a batch: limits the size of its intents, and the event loop's work on its outcomes.
_FEWEST = 32
_MOST = 512

# Images entered into the ledger at a time: a millisecond or two of the event loop.
_NOTED = 64


@frozen(eq=False)
class BatchResult:
    """The result of one batch."""

    batch_name: str = ""
    """The name of its intents; empty: there are none."""
    retired: Sequence[Retired] = ()
    left: list[Deletion] = attrs.field(factory=list)
    """Those that wait: not reached while the check of the references was recent enough, or not begun, as deletion was
    suspended or their intents could not be written.
    """
    is_last: bool = False
    """Whether no further batch follows; after new settings the sweep may go on with the rest."""


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
    """Compares the open data directory with what its path leads to.

    Raises:
        DataDirMovedError: the path leads to a different directory now.
    """
    backoff: Backoff
    journal: JournalKeeper
    releases: "Releases | None" = None
    """What the fleet is told of each deletion; None: this host is in no fleet."""
    leases_offered: bool | None = None
    """Whether the kernel's file leases work here; None: not tried yet."""
    gone_units: set[Key] = attrs.field(factory=set, init=False)
    """The units that have left the cache in this sweep and have not been brought back, by the key of their first row."""
    not_freed: set[Key] = attrs.field(factory=set, init=False)
    """Those of them whose bytes could not be freed."""
    _links_beside: dict[str, list[Link]] = attrs.field(factory=dict, init=False)
    """By digest: the tags that were removed in this sweep with repositories' own folders."""
    _batch: int = attrs.field(default=_FEWEST, init=False)
    """How many images one check of the references is expected to cover."""

    def begin_sweep(self) -> None:
        """Reset what is recorded of the last sweep."""
        self._links_beside = {}
        self.gone_units = set()
        self.not_freed = set()
        if self.releases is not None:
            self.releases.begin_sweep()

    @property
    def refuses_all(self) -> bool:
        """Whether the fleet lets nothing more go in this sweep."""
        return self.releases is not None and self.releases.refuses_all

    @property
    def was_refused(self) -> bool:
        """Whether the fleet has refused a release in this sweep, of an image that the plan deletes."""
        return self.releases is not None and self.releases.has_refused

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
        """Delete images; the bytes of one batch are freed, or held, while the next is checked.

        Args:
            deletions: the images.
            scan: the scan that the plan was made from.
            boot_ns: the boot-time clock reading from which back-off is counted.
            ledger: the account of the sweep.
            holds: whether deleted images are put into quarantine, if that is on.
            may_go_on: called before each batch; what is left when it returns false waits for another sweep.
            is_interrupted: called before each image, from any thread.

        Returns the images that still wait, by the first row of each.
        """
        waiting = await self.threads.run_alone(_ordered, deletions)
        view = self.deleter.new_view(scan.tag_folders)
        try:
            async with anyio.create_task_group() as tasks:
                # guard(stop-at-end-of-hours): Deletion ends with the hours that the operator allows, also in the
                # middle of a sweep; the rest waits.
                while waiting and may_go_on() and not is_interrupted():
                    # guard(fleet-stops-a-sweep): What holds for every copy, such as a pause, is not asked about again
                    # for the next batch; the rest waits.
                    if self.refuses_all:
                        break
                    size = self._batch if self.releases is None else min(self._batch, self.releases.batch)
                    batch, waiting = waiting[:size], waiting[size:]
                    if self.releases is not None:
                        # Only what the fleet does not keep.
                        batch = await self.releases.release(batch, scan, self.gone_units, ledger)
                        if not batch:
                            continue
                    result = await self._retire(batch, view, boot_ns, ledger, is_interrupted)
                    if self.releases is not None:
                        # What stays after all counts again.
                        await self.releases.give_back_rest(self.gone_units, result.left)
                    if result.batch_name:
                        dispose = self.quarantine.hold if holds and self.quarantine.is_on else self._free
                        finish = partial(self._dispose, dispose, result, view, ledger)
                        tasks.start_soon(self._finish_batch, finish, ledger)
                    waiting = result.left + waiting
                    if result.is_last:
                        break
        finally:
            if self.releases is not None:
                await self.releases.end(self.gone_units)
        return frozenset(deletion.key for deletion in waiting)

    async def _finish_batch(self, dispose: Callable[[], Awaitable[None]], ledger: SweepLedger) -> None:
        """Free the bytes of a batch, or hold it, and write what has gone into the journal."""
        try:
            await dispose()
        finally:
            # guard(each-batch-in-journal): A sweep may be cut off at any moment; what has gone by then is on record.
            with anyio.CancelScope(shield=True):
                await self.journal.append(ledger.take_lines())

    async def _dispose(
        self,
        dispose: Callable[[str, Sequence[Retired], SweepLedger], Awaitable[None]],
        result: BatchResult,
        view: TagFolders,
        ledger: SweepLedger,
    ) -> None:
        """Free the bytes of a batch, or hold it, after a last check for clients that have started using any of its images."""
        retired = [one for one in result.retired if not one.faults]
        faulty = [one for one in result.retired if one.faults]
        with anyio.CancelScope(shield=True):
            try:
                images = [(one.intent, one.places) for one in retired if not one.not_put_back]
                wanted = await self.deleter.find_wanted(images, view) if images else []
            except OSError as error:
                # Which of them are needed is unknown, so all of them wait for the next recovery.
                self._leave(result.batch_name, error, ledger)
                for one in result.retired:
                    ledger.add_deleted(one, 0)
                return
            back = {
                intent.name for intent in wanted if await self._bring_back(intent, result.batch_name, ledger)
            }
        gone = [one for one in retired if one.intent.name not in back]
        await dispose(result.batch_name, [*gone, *faulty], ledger)

    async def _bring_back(self, intent: Intent, batch_name: str, ledger: SweepLedger) -> bool:
        """Put an image back that a client has begun to use again; returns whether it is back, or will be."""
        async with self.locks.using(intent.digest):
            try:
                beside = self._links_beside.get(intent.digest, ()) if intent.is_content else ()
                is_back = await self.deleter.bring_back(intent, beside)
            except LayersGoneError as error:
                ledger.add_not_put_back(intent, error)
                return False
            except OSError as error:
                self._leave(batch_name, error, ledger)
                return True
        if is_back:
            self.gone_units.discard(intent.key)
            ledger.add_brought_back(intent)
        return is_back

    def _leave(self, batch_name: str, error: OSError, ledger: SweepLedger) -> None:
        """Leave a batch to the next recovery, and report why."""
        ledger.add_record_error(f"{TRASH}/{batch_name}.json", error)
        self.deleter.leave(batch_name)

    async def finish_leftovers(self) -> Recovery | None:
        """Finish or undo what an earlier sweep could not; not while any of those images is in use."""
        if not self.deleter.has_unfinished:
            return None
        recovery = None
        try:
            digests = await self.deleter.unfinished()
        except OSError as error:
            fault = TRASH, error.strerror or str(error)
            return Recovery((), {}, (), 0, (fault,))
        async with self.locks.claiming(digests) as given:
            # guard(recover-only-unused): Finishing or undoing an earlier deletion waits while any of its images is in
            # use.
            if given.digests == digests and given.begin_all():
                with anyio.CancelScope(shield=True):
                    recovery = await self.deleter.recover(hold_at_ns=self.quarantine.hold_at_ns)
                    self.quarantine.add(recovery.held)
        return recovery

    async def _retire(
        self,
        batch: Sequence[Deletion],
        view: TagFolders,
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
            # guard(batch-in-the-same-folder): If the data directory is moved during a sweep, no further batch of
            # images is deleted.
            await self.check_folder()
            looked_ns = self.monotonic_ns()
            # guard(late-doubt-stops-deletion): A reference that turned unreadable, or a volume that went away since
            # the plan, may hide what is needed: nothing goes.
            ledger.suspended.extend(self.surveyor.suspensions_of(again))
            if ledger.suspended:
                return BatchResult(left=chosen, is_last=True)
            policy = self.planner.policy
            # guard(references-read-under-claim): References are read again once the batch is claimed: a guest made
            # after the plan keeps its image.
            criteria = RetireCriteria(
                again.keys,
                policy.shortest_window_ns,
                ledger.now_ns,
                takes_leases=not self.surveyor.file_leases_break,
                depends_on_tags=policy.asks_tags,
            )
            within_ns = min(max(4 * (looked_ns - begin_ns), _SHORTEST_NS), _LONGEST_NS)
            # guard(claim-outlasts-the-thread): The claim lasts until the thread has ended, whatever happens to the
            # sweep, or a user would get an image that is still being deleted.
            with anyio.CancelScope(shield=True):
                retired = await self.deleter.retire(
                    chosen, criteria, given, view=view, within_ns=within_ns, is_interrupted=is_interrupted
                )
                waiting = given.waiting
        unbegun = [one for one in retired.outcomes if isinstance(one, Failed) and one.is_unbegun]
        if unbegun:
            return self._add_unbegun(unbegun, chosen, ledger)
        if given.done:
            taken_ns = max(self.monotonic_ns() - looked_ns, 1)
            self._batch = min(max(within_ns * len(given.done) // taken_ns, _FEWEST), _MOST)
        gone = self._add_outcomes(retired, boot_ns, ledger)
        # If all of them still wait for their turn, the deleter was stopped, or new settings interrupted it.
        return BatchResult(
            retired.batch_name,
            gone,
            left=[deletion for deletion in chosen if deletion.digest in waiting],
            is_last=waiting == given.digests,
        )

    def _add_unbegun(
        self, unbegun: Sequence[Failed], chosen: list[Deletion], ledger: SweepLedger
    ) -> BatchResult:
        """Continue with fewer images at a time if the disk has no room for more intents; otherwise with none in this sweep."""
        first = unbegun[0]
        if first.error.errno in NO_SPACE and len(chosen) > 1:
            self._batch = max(len(chosen) // 4, 1)
            return BatchResult(left=chosen)
        # The failure is not about these images, so they do not back off.
        ledger.add_unbegun(first)
        return BatchResult(left=chosen, is_last=True)

    def _add_outcomes(self, retired: BatchRetired, boot_ns: int, ledger: SweepLedger) -> list[Retired]:
        """Record the outcomes of a batch; returns the images that have left the cache."""
        # If no image got as far as its leases, nothing was learned about leases.
        if retired.lease_error is not None or any(isinstance(one, Retired) for one in retired.outcomes):
            self._report_leases(retired.lease_error)
        gone: list[Retired] = []
        for outcome in retired.outcomes:
            match outcome:
                case Retired():
                    intent = outcome.intent
                    for key in intent.keys:
                        self.backoff.succeed(key)
                    self.gone_units.add(intent.key)
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

    async def _free(self, batch_name: str, retired: Sequence[Retired], ledger: SweepLedger) -> None:
        # An image whose tags or timer could not be removed stays in the trash: the next recovery finishes what is there.
        places = [place for one in retired if not one.faults for place in one.places]
        with anyio.CancelScope(shield=True):
            freed = await self.deleter.free(batch_name, places)
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

    def _report_leases(self, error: OSError | None) -> None:
        if self.surveyor.file_leases_break:
            return
        if error is not None and self.leases_offered is not False:
            log_event(logging.WARNING, "no_file_leases", error=error.strerror)
        self.leases_offered = error is None


def _ordered(deletions: Sequence[Deletion]) -> list[Deletion]:
    """Order images by repository, so that those of one batch lie in few folders; the plan has chosen the oldest.

    Content precedes the own folders of its digest: while content is there, their tags lead to it.
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
