"""Marking images used: checks that an image is present, whole and ready, and restarts its window."""

import anyio

from hmret.actors.journal_keeper import JournalKeeper
from hmret.engine.events import EventHub
from hmret.engine.surveyor import Surveyor
from hmret.engine.sweep.entries import Entry, write_entries
from hmret.model.errors import ImageNotFoundError
from hmret.model.references import ImageReference, Key
from hmret.model.report import MarkedUsed
from hmret.model.values import frozen


class TagMovedError(Exception):
    """A tag moved between the moment it was resolved and the moment its image was locked."""


@frozen(eq=False)
class UseConfirmer:
    """Confirms images under their locks."""

    surveyor: Surveyor
    journal: JournalKeeper
    events: EventHub

    def guess(self, named: ImageReference) -> str | None:
        """Return what a tag pointed to when it was last seen; None: the reference has no tag, or it is not known."""
        scanner = self.surveyor.scanner
        return None if named.tag is None else scanner.guess(named.repository, named.tag)

    async def confirm(self, named: ImageReference, key: Key, text: str) -> None:
        """Confirm the image of a lease that is being granted.

        Raises:
            TagMovedError: the tag points elsewhere by now.
            ImageNotFoundError, OSError: as `use`.
        """
        if await self.use(named, key, text) is None:
            raise TagMovedError

    async def use(self, named: ImageReference, key: Key, text: str) -> MarkedUsed | None:
        """Confirm an image and clear its timer; returns None if the tag has moved in the meantime.

        Raises:
            ImageNotFoundError: the image is not here, not ready or broken.
            OSError: its timer could not be cleared.
        """
        threads = self.surveyor.threads
        with threads.urgent():
            return await self._use(named, key, text)

    async def _use(self, named: ImageReference, key: Key, text: str) -> MarkedUsed | None:
        digest = key[1]
        surveyor = self.surveyor
        async with surveyor.locks.using(digest):
            # The lock must be held until the thread has ended, even if the caller is cancelled.
            with anyio.CancelScope(shield=True):
                owners = surveyor.scanner.owners(digest)
                found = await surveyor.states.confirm(key, named.tag, owners)
                cleared = found.cleared
                if found.needs_owners:
                    # Nothing has been scanned yet, so the owners of this content, whose timers count, are
                    # unknown.
                    scan = await surveyor.scanner.scan()
                    found = await surveyor.states.confirm(key, None, scan.contents.get(digest, ()))
        if not found.is_named:
            return None
        if found.fault is not None:
            raise OSError(f"{found.fault.path}: {found.fault.error}")
        image = found.image
        if image is None:
            raise ImageNotFoundError(f"{text}: not in the cache")
        # guard(broken-is-not-confirmed): The caller is about to boot the image, so a broken one is not
        # confirmed.
        if image.broken is not None:
            raise ImageNotFoundError(f"{text}: broken: {image.broken}")
        # guard(unready-is-not-confirmed): The caller is about to boot the image, so one whose pull has not
        # finished is not confirmed.
        if image.status != "ready":
            raise ImageNotFoundError(f"{text}: not ready: {image.status}")
        used = MarkedUsed(*key, cleared=cleared or found.cleared)
        surveyor.uses.add(key)
        surveyor.tell_use(digest)
        await self._note_use(used)
        return used

    async def _note_use(self, used: MarkedUsed) -> None:
        """Write a cleared timer into the journal."""
        if used.cleared:
            entry = Entry("clear", (used.repository, used.digest), {"reason": "used"})
            lines = write_entries(self.surveyor.now_ns(), entry)
            self.events.publish(lines)
            await self.journal.note(lines)
