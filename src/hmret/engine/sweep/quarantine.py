"""The engine's view of the quarantine: which images are held, when they are erased, and which are restored."""

import logging
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from itertools import takewhile

import anyio
import attrs

from hmret.actors.batches import batches
from hmret.actors.deleter import Deleter
from hmret.actors.locks import Locks
from hmret.disk.deletion.outcomes import Retired
from hmret.disk.deletion.recovery.quarantine_records import RECORD, HeldImage
from hmret.disk.deletion.tags.tag_view import TagFolders
from hmret.disk.deletion.trash.wholeness import LayersGoneError
from hmret.disk.layout import TRASH
from hmret.engine.counters import Counters
from hmret.engine.log import log_event
from hmret.engine.sweep.ledger import SweepLedger
from hmret.model.clock.unwatched import Gaps
from hmret.model.errors import ImageExistsError, ImageNotFoundError
from hmret.model.plan.search import sole_image, start_of_digest
from hmret.model.references import ImageReference
from hmret.model.report import Quarantined, Restored
from hmret.model.times import SECOND, datetime_of, format_time
from hmret.model.values import define

# Images that are released at a time.
_BATCH = 64

# An image retired later than this from now was retired while the clock was wrong.
_LEEWAY_NS = 300 * SECOND


@define(eq=False)
class Quarantine:
    """What is held. Only the event loop changes it, so that an image is either restored or erased."""

    deleter: Deleter
    locks: Locks
    counters: Counters
    now_ns: Callable[[], int]
    gaps: Callable[[], Gaps]
    """Returns the periods in which no sweep watched the cache; they do not count towards the quarantine."""
    period_ns: int
    """How long an image is held; 0: no more images are put into quarantine, and those in it are erased."""
    _held: dict[str, HeldImage] = attrs.field(factory=dict, init=False)
    """By the name of the intent, in order of retirement."""
    _held_bytes: int = attrs.field(default=0, init=False)
    _erasing: dict[str, HeldImage] = attrs.field(factory=dict, init=False)
    """Those whose erasing has begun: they cannot be restored."""

    @property
    def is_on(self) -> bool:
        """Whether deleted images are held."""
        return self.period_ns > 0

    @property
    def hold_at_ns(self) -> int | None:
        """The time at which images that a recovery finishes enter quarantine; None: their bytes are freed."""
        return self.now_ns() if self.is_on else None

    @property
    def names(self) -> Container[str]:
        """The names of the intents that are held; may be read from any thread."""
        return self._held.keys()

    @property
    def has_erasing(self) -> bool:
        """Whether something could not be erased and waits for the next attempt."""
        return bool(self._erasing)

    async def recover_quarantine(self) -> int:
        """Load what is held when an engine starts; returns the bytes freed by finishing interrupted releases."""
        recovered = await self.deleter.recover_quarantine()
        self._erasing = {held.name: held for held in recovered.erasing}
        self.add(recovered.held)
        for path, error in recovered.errors:
            log_event(logging.ERROR, "quarantine_unreadable", path=path, error=error)
        return recovered.freed_bytes

    async def look(self) -> None:
        """Load what is held, without changing anything.

        Raises:
            OSError: the trash cannot be listed.
        """
        found = await self.deleter.list_held()
        for path, error in found.errors:
            log_event(logging.WARNING, "quarantine_unreadable", path=path, error=error)
        self.add(found.held)

    def add(self, images: Iterable[HeldImage]) -> None:
        """Add images that are held now."""
        for held in images:
            self._put(held)
        self._count()

    def images(self) -> tuple[Quarantined, ...]:
        """List what is held, in order of retirement; may be called from any thread."""
        return tuple(row for held in tuple(self._held.values()) for row in self._rows(held))

    def search(self, text: str) -> str | None:
        """Find an image by 12 or more digits of its digest; returns a reference by digest.

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
        """Return when an image may be erased by the setting in force, in nanoseconds since the epoch; unwatched time does not count."""
        # guard(quarantine-in-watched-time): An operator has the whole quarantine to notice a mistake; time without an
        # engine does not shorten it.
        return self.gaps().moved(held.retired_at_ns) + self.period_ns

    async def hold(self, batch_name: str, retired: Sequence[Retired], ledger: SweepLedger) -> None:
        """Put a retired batch into quarantine; what cannot be put there is held by the next recovery."""
        images: tuple[HeldImage, ...] = ()
        try:
            with anyio.CancelScope(shield=True):
                images = await self.deleter.hold(batch_name, retired, ledger.now_ns)
        except OSError as error:
            ledger.add_record_error(f"{TRASH}/{batch_name}{RECORD}", error)
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
        """Erase what has been held for long enough; only while nothing suspends deletion.

        `may_go_on`: called before each image, from any thread.
        """
        # guard(future-hold-is-redated): An image that was retired while the clock was ahead would be held for years,
        # so it counts as retired now.
        await self._redate(ledger)
        view = self.deleter.new_view()
        due = takewhile(lambda held: not self.is_on or self.until(held) <= ledger.now_ns, self._held.values())
        for batch in batches([*self._erasing.values(), *due], _BATCH):
            if not may_go_on():
                return
            await self._release(batch, view, ledger, may_go_on)

    async def free_oldest(
        self, wanted_bytes: int, ledger: SweepLedger, may_go_on: Callable[[], bool] = lambda: True
    ) -> int:
        """Erase images in order of retirement until `wanted_bytes` have been freed or none is left; returns the freed bytes.

        `may_go_on`: called before each image, from any thread.
        """
        freed_bytes = 0
        view = self.deleter.new_view()
        waiting = deque([*self._erasing.values(), *self._held.values()])
        while waiting and freed_bytes < wanted_bytes and may_go_on():
            batch: list[HeldImage] = []
            hoped_bytes = freed_bytes
            while waiting and hoped_bytes < wanted_bytes and len(batch) < _BATCH:
                batch.append(waiting.popleft())
                hoped_bytes += batch[-1].disk_bytes
            freed_bytes += await self._release(batch, view, ledger, may_go_on)
        return freed_bytes

    async def restore(self, named: ImageReference, text: str) -> Restored:
        """Restore the image that was retired last of those that a reference names.

        Raises:
            ImageNotFoundError: it is not held.
            ImageExistsError: it is already in the cache.
            OSError: it could not be restored.
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
            # The lock must last until the thread has ended, even if the caller is cancelled.
            with anyio.CancelScope(shield=True):
                put_back = await self.deleter.restore(held, now_ns)
            is_back = True
            self.counters.restores += 1
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
            taken_tags=put_back.tags_elsewhere.get(repository, ()),
            unused_since=datetime_of(now_ns),
        )

    async def _release(
        self, batch: Sequence[HeldImage], view: TagFolders, ledger: SweepLedger, may_go_on: Callable[[], bool]
    ) -> int:
        """Erase those of some images that are still held and not needed again; returns the freed bytes."""
        kept = await self._bring_back_wanted(batch, view, ledger)
        # Any of them may have been restored during that check.
        chosen = [
            held
            for held in batch
            if held.name not in kept and (held.name in self._held or held.name in self._erasing)
        ]
        if not chosen:
            return 0
        was_held = {held.name: self._take(held) for held in chosen}
        for held in chosen:
            self._erasing[held.name] = held
        self._count()
        # What was done is recorded even if the sweep is cancelled.
        with anyio.CancelScope(shield=True):
            released = await self.deleter.release(chosen, may_go_on)
        for held in chosen[len(released.done) :]:
            # It has not been touched, unless its erasing had begun before.
            if was_held[held.name]:
                self._put(self._erasing.pop(held.name))
        self._count()
        for held, done, disk_bytes in zip(chosen, released.done, released.disk_bytes, strict=False):
            if done and self._erasing.pop(held.name, None) is not None:
                ledger.add_erased_from_quarantine(held, disk_bytes)
        for place, error in released.errors:
            ledger.add_not_erased(place, error)
        return sum(released.disk_bytes)

    async def _bring_back_wanted(
        self, batch: Sequence[HeldImage], view: TagFolders, ledger: SweepLedger
    ) -> set[str]:
        """Put back images that a client has begun to use again; returns the names of those that must not be erased now.

        If that cannot be determined, none may be erased.
        """
        still_held = [held for held in batch if held.name in self._held]
        if not still_held:
            return set()
        try:
            wanted = await self.deleter.find_held_wanted(still_held, view)
        except OSError as error:
            ledger.add_record_error(TRASH, error)
            return {held.name for held in still_held}
        return {held.name for held in wanted if await self._bring_back(held, ledger)}

    async def _bring_back(self, held: HeldImage, ledger: SweepLedger) -> bool:
        """Put an image back that a client has begun to use again; returns whether it must not be erased now."""
        async with self.locks.using(held.digest):
            # From here on nothing else erases or restores it.
            if not self._take(held):
                return True
            is_back = False
            may_go = False
            try:
                # The lock must last until the thread has ended, even if the sweep is cancelled.
                with anyio.CancelScope(shield=True):
                    is_back = await self.deleter.bring_back(held)
                # Its place has been taken.
                may_go = not is_back
            except LayersGoneError as error:
                ledger.add_not_put_back(held, error)
                may_go = True
            except OSError as error:
                ledger.add_record_error(f"{TRASH}/{held.name}", error)
            finally:
                if not is_back:
                    self._put(held)
                self._count()
        if is_back:
            ledger.add_brought_back(held)
        return not may_go

    async def _redate(self, ledger: SweepLedger) -> None:
        """Record images that were retired in the future as retired now: the clock was wrong then."""
        latest_ns = ledger.now_ns + _LEEWAY_NS
        future = takewhile(lambda held: held.retired_at_ns > latest_ns, reversed(self._held.values()))
        for batch_name in sorted({held.batch_name for held in future}):
            try:
                for held in await self.deleter.redate(batch_name, ledger.now_ns):
                    if self._take(held):
                        self._put(held)
            except OSError as error:
                ledger.add_record_error(f"{TRASH}/{batch_name}{RECORD}", error)

    def _find(self, named: ImageReference) -> HeldImage | None:
        """Find the image retired last of those that a reference names; None: none is held."""
        for held in reversed(self._held.values()):
            if (named.repository, held.digest) in held.keys and (
                held.digest == named.digest
                if named.digest is not None
                else named.tag in held.tags_of(named.repository)
            ):
                return held
        return None

    def _put(self, held: HeldImage) -> None:
        """Add an image that is held, in order of retirement."""
        is_last = not self._held or next(reversed(self._held.values())).retired_at_ns <= held.retired_at_ns
        self._held[held.name] = held
        self._held_bytes += held.disk_bytes
        if not is_last:
            ordered = sorted(self._held.items(), key=lambda item: item[1].retired_at_ns)
            self._held.clear()
            self._held.update(ordered)

    def _take(self, held: HeldImage) -> bool:
        """Remove an image from those that are held; False if it was not among them."""
        if self._held.pop(held.name, None) is None:
            return False
        self._held_bytes -= held.disk_bytes
        return True

    def _rows(self, held: HeldImage) -> Iterator[Quarantined]:
        """List the rows of a held image; its bytes count with the first."""
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
