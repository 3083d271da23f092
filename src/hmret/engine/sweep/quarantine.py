"""The quarantine as the engine knows it: what is held, when it goes, and what comes back."""

import logging
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from itertools import takewhile

import anyio
import attrs

from hmret.actors.deleter import Deleter
from hmret.actors.locks import Locks
from hmret.disk.deletion.outcomes import Retired
from hmret.disk.deletion.recovery.quarantine_records import RECORD, HeldImage
from hmret.disk.deletion.tags.tag_view import TagView
from hmret.disk.deletion.trash.wholeness import LayersGoneError
from hmret.disk.layout import OWN, TRASH
from hmret.engine.counters import Counters
from hmret.engine.log import log_event
from hmret.engine.sweep.batches import batches
from hmret.engine.sweep.ledger import SweepLedger
from hmret.model.clock.unwatched import Gaps
from hmret.model.errors import ImageExistsError, ImageNotFoundError
from hmret.model.plan.search import sole_image, start_of_digest
from hmret.model.references import ImageReference
from hmret.model.report import Quarantined, Restored
from hmret.model.times import SECOND, datetime_of, format_time
from hmret.model.values import define

__all__ = ["Quarantine"]

# Images whose bytes are freed in one go: whoever stops meanwhile waits for one of them at most.
_BATCH = 64

# What was retired later than this from now was retired by a clock that was wrong.
_LEEWAY_NS = 300 * SECOND


@define(eq=False)
class Quarantine:
    """What is held; all of it on the event loop, so that an image is either brought back or erased."""

    deleter: Deleter
    locks: Locks
    counters: Counters
    now_ns: Callable[[], int]
    gaps: Callable[[], Gaps]
    """Tells all time that nobody watched, in which nothing is held for any longer."""
    period_ns: int
    """How long an image is held; 0: no image is put into quarantine any more, and what is there goes."""
    _held: dict[str, HeldImage] = attrs.field(factory=dict, init=False)
    """By the name of its folder; what was retired first comes first."""
    _held_bytes: int = attrs.field(default=0, init=False)
    _going: dict[str, HeldImage] = attrs.field(factory=dict, init=False)
    """Those whose erasing has begun: they cannot come back."""

    @property
    def is_on(self) -> bool:
        """Whether deleted images are held."""
        return self.period_ns > 0

    @property
    def hold_at_ns(self) -> int | None:
        """The time at which what a recovery finishes goes into quarantine; None: its bytes are freed."""
        return self.now_ns() if self.is_on else None

    @property
    def names(self) -> Container[str]:
        """The names of the folders of what is held; may be asked from any thread."""
        return self._held.keys()

    @property
    def has_going(self) -> bool:
        """Whether something could not be erased, and waits for the next time."""
        return bool(self._going)

    async def recover_quarantine(self) -> int:
        """Find out what is held, where an engine begins; returns the bytes of what a stop had left half erased."""
        recovered = await self.deleter.recover_quarantine()
        self._going = {held.name: held for held in recovered.going}
        self.add(recovered.held)
        for path, error in recovered.errors:
            log_event(logging.ERROR, "quarantine_unreadable", path=path, error=error)
        return recovered.freed_bytes

    async def look(self) -> None:
        """Find out what is held, and change nothing.

        Raises:
            OSError: the trash cannot be listed.
        """
        found = await self.deleter.list_held()
        for path, error in found.errors:
            log_event(logging.WARNING, "quarantine_unreadable", path=path, error=error)
        self.add(found.held)

    def add(self, images: Iterable[HeldImage]) -> None:
        """Take note of images that are held now."""
        for held in images:
            self._put(held)
        self._count()

    def images(self) -> tuple[Quarantined, ...]:
        """List what is held, by when it was retired; may be asked from any thread."""
        return tuple(row for held in tuple(self._held.values()) for row in self._rows(held))

    def search(self, text: str) -> str | None:
        """Find the image that a person means by 12 digits or more of its digest, as a reference by digest.

        Raises:
            AmbiguousImageError: it may be one of several.
        """
        start = start_of_digest(text)
        if start is None:
            return None
        keys = {(image.repository, image.digest) for image in self.images() if image.digest.startswith(start)}
        sole = sole_image(sorted(keys), text)
        return None if sole is None else "@".join(sole)

    def until(self, held: HeldImage) -> int:
        """Tell when an image goes, by the setting in force, in nanoseconds since the epoch; time that nobody watched does not count."""
        # guard(quarantine-in-watched-time): An operator has the whole quarantine to notice a mistake; time without an
        # engine does not shorten it.
        return self.gaps().moved(held.retired_at_ns) + self.period_ns

    async def hold(self, token: str, retired: Sequence[Retired], ledger: SweepLedger) -> None:
        """Put a retired batch into quarantine; what could not be is held by the next recovery."""
        images: tuple[HeldImage, ...] = ()
        try:
            with anyio.CancelScope(shield=True):
                images = await self.deleter.hold(token, retired, ledger.now_ns)
        except OSError as error:
            ledger.add_record_error(f"{OWN}/{TRASH}/{token}{RECORD}", error)
        self.add(images)
        held_bytes = {held.name: held.disk_bytes for held in images}
        until = format_time(ledger.now_ns + self.period_ns)
        for one in retired:
            name = one.intent.name
            if name in held_bytes:
                ledger.add_held(one, held_bytes[name], until)
            else:
                ledger.add_deleted(one, 0)

    async def expire(self, ledger: SweepLedger, may_go_on: Callable[[], bool] = lambda: True) -> None:
        """Erase what has been held for long enough; only where nothing suspends deletion.

        `may_go_on`: asked before each image, from whatever thread.
        """
        # guard(future-hold-is-redated): An image that was retired while the clock was ahead would be held for years,
        # so it counts as retired now.
        await self._redate(ledger)
        view = self.deleter.new_view()
        due = takewhile(lambda held: not self.is_on or self.until(held) <= ledger.now_ns, self._held.values())
        for batch in batches([*self._going.values(), *due], _BATCH):
            if not may_go_on():
                return
            await self._release(batch, view, ledger, may_go_on)

    async def free_oldest(
        self, wanted_bytes: int, ledger: SweepLedger, may_go_on: Callable[[], bool] = lambda: True
    ) -> int:
        """Erase what was retired first, until so many bytes have come free or nothing is left; returns how many have.

        `may_go_on`: asked before each image, from whatever thread.
        """
        freed_bytes = 0
        view = self.deleter.new_view()
        waiting = deque([*self._going.values(), *self._held.values()])
        while waiting and freed_bytes < wanted_bytes and may_go_on():
            batch: list[HeldImage] = []
            hoped_bytes = freed_bytes
            while waiting and hoped_bytes < wanted_bytes and len(batch) < _BATCH:
                batch.append(waiting.popleft())
                hoped_bytes += batch[-1].disk_bytes
            freed_bytes += await self._release(batch, view, ledger, may_go_on)
        return freed_bytes

    async def restore(self, named: ImageReference, text: str) -> Restored:
        """Bring an image back, the one that was retired last of those that the reference names.

        Raises:
            ImageNotFoundError: it is not held.
            ImageExistsError: it is in the cache already.
            OSError: it could not be brought back.
        """
        while True:
            held = self._find(named)
            if held is None:
                raise ImageNotFoundError(f"{text}: not in quarantine")
            async with self.locks.using(held.digest):
                # guard(restore-or-erase-not-both): From here on no sweep erases this image and no other call restores
                # it.
                if self._take(held):
                    return await self._restore(held, named.repository, text)

    async def _restore(self, held: HeldImage, repository: str, text: str) -> Restored:
        now_ns = self.now_ns()
        is_back = False
        try:
            # The lock must last until the thread has ended, also when the caller is cancelled.
            with anyio.CancelScope(shield=True):
                put_back = await self.deleter.restore(held, now_ns)
            is_back = True
        except FileExistsError:
            here = f"{repository}@{held.digest}"
            raise ImageExistsError(f"{text}: in the cache already: {here}") from None
        except LookupError:
            raise ImageNotFoundError(f"{text}: not in quarantine any more") from None
        finally:
            if not is_back:
                self._put(held)
            self._count()
        return Restored(
            repository,
            held.digest,
            tags=put_back.tags.get(repository, ()),
            taken_tags=put_back.taken_tags.get(repository, ()),
            unused_since=datetime_of(now_ns),
        )

    async def _release(
        self, batch: Sequence[HeldImage], view: TagView, ledger: SweepLedger, may_go_on: Callable[[], bool]
    ) -> int:
        """Erase images, those that are still held and that nobody wants; returns the bytes that came free."""
        kept = await self._bring_back_wanted(batch, view, ledger)
        # Any of them may have been restored while that was looked at.
        chosen = [
            held
            for held in batch
            if held.name not in kept and (held.name in self._held or held.name in self._going)
        ]
        if not chosen:
            return 0
        was_whole = {held.name: self._take(held) for held in chosen}
        for held in chosen:
            self._going[held.name] = held
        self._count()
        # Whatever becomes of this sweep, what was done is written down.
        with anyio.CancelScope(shield=True):
            released = await self.deleter.release(chosen, may_go_on)
        for held in chosen[len(released.done) :]:
            # Nothing of it has been touched, unless that was so before.
            if was_whole[held.name]:
                self._put(self._going.pop(held.name))
        self._count()
        for held, done, disk_bytes in zip(chosen, released.done, released.disk_bytes, strict=False):
            if done and self._going.pop(held.name, None) is not None:
                ledger.add_released(held, disk_bytes)
        for place, error in released.errors:
            ledger.add_not_erased(place, error)
        return sum(released.disk_bytes)

    async def _bring_back_wanted(
        self, batch: Sequence[HeldImage], view: TagView, ledger: SweepLedger
    ) -> set[str]:
        """Put back what somebody has come to want; returns the names of what is not to be erased now.

        Where nobody can tell, that is all of it.
        """
        whole = [held for held in batch if held.name in self._held]
        if not whole:
            return set()
        try:
            wanted = await self.deleter.find_held_wanted(whole, view)
        except OSError as error:
            ledger.add_record_error(f"{OWN}/{TRASH}", error)
            return {held.name for held in whole}
        return {held.name for held in wanted if await self._bring_back(held, ledger)}

    async def _bring_back(self, held: HeldImage, ledger: SweepLedger) -> bool:
        """Put an image back that somebody has come to want; returns whether it is not to be erased now."""
        async with self.locks.using(held.digest):
            # From here on nobody else erases it or brings it back.
            if not self._take(held):
                return True
            is_back = False
            may_go = False
            try:
                # The lock must last until the thread has ended, also when the sweep is cancelled.
                with anyio.CancelScope(shield=True):
                    is_back = await self.deleter.bring_back(held)
                # Its place has been taken.
                may_go = not is_back
            except LayersGoneError as error:
                ledger.add_not_put_back(held, error)
                may_go = True
            except OSError as error:
                ledger.add_record_error(f"{OWN}/{TRASH}/{held.name}", error)
            finally:
                if not is_back:
                    self._put(held)
                self._count()
        if is_back:
            ledger.add_brought_back(held)
        return not may_go

    async def _redate(self, ledger: SweepLedger) -> None:
        """Let what was retired in the future have been retired now: a clock was wrong then."""
        latest_ns = ledger.now_ns + _LEEWAY_NS
        future = takewhile(lambda held: held.retired_at_ns > latest_ns, reversed(self._held.values()))
        for token in sorted({held.token for held in future}):
            try:
                for held in await self.deleter.redate(token, ledger.now_ns):
                    if self._take(held):
                        self._put(held)
            except OSError as error:
                ledger.add_record_error(f"{OWN}/{TRASH}/{token}{RECORD}", error)

    def _find(self, named: ImageReference) -> HeldImage | None:
        """Find what a reference names, the last that was retired; None: it is not held."""
        for held in reversed(self._held.values()):
            if (named.repository, held.digest) in held.keys and (
                held.digest == named.digest
                if named.digest is not None
                else named.tag in held.tags_of(named.repository)
            ):
                return held
        return None

    def _put(self, held: HeldImage) -> None:
        """Note that an image is held; those that were retired later come after it."""
        is_last = not self._held or next(reversed(self._held.values())).retired_at_ns <= held.retired_at_ns
        self._held[held.name] = held
        self._held_bytes += held.disk_bytes
        if not is_last:
            ordered = sorted(self._held.items(), key=lambda item: item[1].retired_at_ns)
            self._held.clear()
            self._held.update(ordered)

    def _take(self, held: HeldImage) -> bool:
        """Note that an image is not held any more; False where it was not."""
        if self._held.pop(held.name, None) is None:
            return False
        self._held_bytes -= held.disk_bytes
        return True

    def _rows(self, held: HeldImage) -> Iterator[Quarantined]:
        """List the rows of an image that is held; its bytes count with the first."""
        disk_bytes = held.disk_bytes
        for repository, digest in held.keys:
            yield Quarantined(
                repository=repository,
                digest=digest,
                tags=held.tags_of(repository),
                disk_bytes=disk_bytes,
                retired_at=datetime_of(held.retired_at_ns),
                until=datetime_of(self.until(held)),
            )
            disk_bytes = 0

    def _count(self) -> None:
        rows = sum(len(held.rows) for held in self._held.values())
        self.counters.add_quarantine(rows, self._held_bytes)
