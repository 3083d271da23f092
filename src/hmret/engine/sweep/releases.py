"""Copies that leave the fleet's count right before they are deleted, and come back into it where they stay.

A copy is released before its image is claimed, so no user of it waits for the fleet. Once it is released, no other host
relies on it, whatever becomes of it: it may be deleted at any later time, or registered again.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress

import anyio
import attrs

from hmret.actors.scanner import Scanner, ScanResult
from hmret.actors.threads import Threads
from hmret.engine.sweep.ledger import SweepLedger
from hmret.model.deletion import Deletion
from hmret.model.errors import EngineClosedError
from hmret.model.fleet import FleetLink, ReleaseOutcome
from hmret.model.plan.fleet.judge import is_whole, repeated_units
from hmret.model.references import Key
from hmret.model.values import define
from hmret.model.verdicts import Reason

_FOR_ALL = frozenset(
    (Reason.DUPLICATE_HOST, Reason.FLEET_UNREACHABLE, Reason.FLEET_PAUSED, Reason.FLEET_BRAKE)
)
"""The reasons for which nothing more is released in this sweep."""


@define(eq=False)
class Releases:
    """The releases of one engine, a sweep at a time."""

    link: FleetLink
    scanner: Scanner
    threads: Threads
    batch: int = 8
    """How many copies are released at a time: this many still go after the fleet was paused."""
    refuses_all: bool = attrs.field(default=False, init=False)
    """Whether nothing more is released in this sweep."""
    has_refused: bool = attrs.field(default=False, init=False)
    """Whether the fleet has refused a release in this sweep, of an image that the plan deletes."""
    _scan: ScanResult | None = attrs.field(default=None, init=False)
    """The scan that `_repeated` was computed from."""
    _repeated: Mapping[str, int] = attrs.field(factory=dict, init=False)
    _released: dict[str, Deletion] = attrs.field(factory=dict, init=False)
    """What was released and has neither gone nor been given back, by digest."""

    def begin_sweep(self) -> None:
        """Reset what is recorded of the last sweep."""
        self.refuses_all = self.has_refused = False
        self._scan = None

    async def release(
        self, batch: Sequence[Deletion], scan: ScanResult, gone: Collection[Key], ledger: SweepLedger
    ) -> list[Deletion]:
        """Release the copies of a batch; returns the images that may be deleted now, and enters the others.

        Args:
            batch: the images, in the order in which they are deleted.
            scan: the scan that their plan was made from.
            gone: the units that have left the cache in this sweep, by the keys of their first rows.
            ledger: the account of the sweep.
        """
        last = await self._last_of(batch, scan, gone)
        wanted = {one.digest: one for one in last if one.digest not in self._released}
        if not wanted:
            return list(batch)
        for_space = {one.digest for one in last if one.rows[0].reason is Reason.DISK_PRESSURE}
        outcomes = await self._ask(wanted, for_space)
        refused = {digest: one for digest, one in outcomes.items() if not one.is_released}
        released = {digest: one for digest, one in wanted.items() if digest not in refused}
        self._released.update(released)
        ledger.add_copy_released(released.values())
        if refused:
            self.has_refused = True
            self.refuses_all |= any(one.reason in _FOR_ALL for one in refused.values())
        going: list[Deletion] = []
        last_keys = {deletion.key for deletion in last}
        for deletion in batch:
            outcome = refused.get(deletion.digest) if deletion.key in last_keys else None
            # guard(fleet-releases-before-deleting): Others may rely on a copy that is still counted, so what was
            # not released stays.
            if outcome is None:
                going.append(deletion)
            else:
                ledger.add_kept_by_fleet(deletion, outcome)
        return going

    async def _ask(
        self, deletions: Mapping[str, Deletion], for_space: Collection[str]
    ) -> Mapping[str, ReleaseOutcome]:
        try:
            found = await self.link.release(tuple(deletions), for_space=for_space)
        except EngineClosedError:
            found = {}
        except BaseException:
            # Which of them were released is unknown, so all of them are given back.
            self._released.update(deletions)
            raise
        nothing = ReleaseOutcome(Reason.FLEET_UNREACHABLE)
        return {digest: found.get(digest, nothing) for digest in deletions}

    async def give_back_rest(self, gone: Collection[Key], left: Iterable[Deletion]) -> None:
        """Give back what was released and is still here, but for what is `left` to be deleted later in this sweep."""
        waiting = {deletion.digest for deletion in left}
        ended = {
            digest: deletion
            for digest, deletion in self._released.items()
            if deletion.key in gone or digest not in waiting
        }
        back = {digest for digest, deletion in ended.items() if await self._is_here(deletion, gone)}
        # guard(fleet-gives-back-what-stays): A copy that stays and does not count would make others keep theirs for
        # its sake.
        if back:
            await self.link.give_back(back)
        for digest in ended:
            del self._released[digest]

    async def _is_here(self, deletion: Deletion, gone: Collection[Key]) -> bool:
        """Return whether the digest of an image that was to go is still here whole."""
        if deletion.key not in gone:
            # What is not here any more went without hmret, or waits in the trash for the next recovery.
            return await self._stands(deletion.key, is_content=deletion.is_content)
        # Another image with this digest that was to go before it may have stayed.
        scan = self._scan if deletion.digest in self._repeated else None
        return scan is not None and await self._stands_beside(deletion.digest, scan, gone)

    async def end(self, gone: Collection[Key]) -> None:
        """Give back whatever was released and is still here; where the engine stops, the next join finds it."""
        with anyio.CancelScope(shield=True), suppress(EngineClosedError):
            await self.give_back_rest(gone, ())

    async def _last_of(
        self, batch: Sequence[Deletion], scan: ScanResult, gone: Collection[Key]
    ) -> list[Deletion]:
        """List the images of a batch after which no whole image of their digest is here, if all of the batch goes."""
        if self._scan is not scan:
            self._repeated = await self.threads.run_alone(repeated_units, scan.repositories.values())
            self._scan = scan
        last: list[Deletion] = []
        for number, deletion in enumerate(batch):
            if deletion.digest in self._repeated:
                leaving = {key for one in batch[: number + 1] for key in one.keys}
                if await self._stands_beside(deletion.digest, scan, {*leaving, *gone}):
                    continue
            last.append(deletion)
        return last

    async def _stands_beside(self, digest: str, scan: ScanResult, leaving: Collection[Key]) -> bool:
        """Return whether a whole image of the digest would remain without these rows; reads it again."""
        for name, repository in scan.repositories.items():
            image = repository.images.get(digest)
            if image is None or (name, digest) in leaving or not is_whole(image):
                continue
            # guard(fleet-looks-at-the-other-copy): The other image of this digest may have gone since the scan, and
            # then this one is the last here.
            if await self._stands((name, digest), is_content=image.is_content):
                return True
        return False

    async def _stands(self, key: Key, *, is_content: bool) -> bool:
        """Return whether an image is here whole at this moment."""
        found = await self.scanner.inspect_image(key, is_content=is_content)
        return found is not None and is_whole(found)
