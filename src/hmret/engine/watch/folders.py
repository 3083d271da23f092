"""Distinguishing unmounted volumes from images and guests that are really gone, from one sweep to the next."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial

import attrs

from hmret.actors.scanner import ScanResult
from hmret.disk.kernel.clock import Clock
from hmret.disk.layout import CONTENT, IMAGES
from hmret.model.grouping import Timers
from hmret.model.records.folders import FolderOnRecord, FolderSeen, LostFolder, find_lost, renewed
from hmret.model.values import define, frozen


@frozen(eq=False)
class FoldersFound:
    """The folders that can be separate volumes, as one survey found them."""

    seen: Mapping[str, FolderSeen]
    lost: tuple[LostFolder, ...]


@define(eq=False)
class FolderWatch:
    """Remembers which folders these were, and compares."""

    look: Callable[[Iterable[str]], Awaitable[dict[str, FolderSeen]]]
    """Inspects the image folders, given those on record."""
    save: Callable[[Mapping[str, FolderOnRecord]], Awaitable[None]]
    """Raises:
        OSError: it could not be written.
    """
    clock: Clock
    record: Mapping[str, FolderOnRecord]
    _written: Mapping[str, FolderOnRecord] = attrs.field(
        default=attrs.Factory(lambda self: self.record, takes_self=True), init=False
    )

    async def look_at_cache(self) -> dict[str, FolderSeen]:
        """Inspect the image folders."""
        return await self.look(self.record)

    def compare(
        self, seen: Mapping[str, FolderSeen], scan: ScanResult | None = None, timers: Timers | None = None
    ) -> tuple[LostFolder, ...]:
        """List which of the inspected folders are lost.

        `scan` and `timers`: what was found in the image folders, if those are among them.
        """
        return find_lost(
            self.record, seen, self.clock.read(), partial(_count_timers, scan, timers or Timers({}))
        )

    async def renew(self, found: FoldersFound) -> None:
        """Record the present state of the folders, except for lost ones.

        Raises:
            OSError: it could not be written; it is remembered until this engine ends.
        """
        lost = frozenset(folder.name for folder in found.lost)
        self.record = renewed(self.record, found.seen, self.clock.read().boot_id, lost)
        await self._write()

    async def take_over(self, found: FoldersFound, names: Iterable[str]) -> None:
        """Record the present state of some lost folders as correct.

        Raises:
            OSError: it could not be written, so nothing was accepted.
        """
        before, chosen = self.record, frozenset(names)
        others = frozenset(folder.name for folder in found.lost) - chosen
        self.record = renewed(before, found.seen, self.clock.read().boot_id, others)
        try:
            await self._write()
        except OSError:
            self.record = before
            raise

    async def _write(self) -> None:
        record = self.record
        if record is not self._written:
            await self.save(record)
            self._written = record


def _count_timers(scan: ScanResult | None, timers: Timers, folder: str) -> tuple[int, int]:
    """Count the timers whose missing image may have been in a folder, and those whose image is in it."""
    if scan is None:
        return 0, 0
    unlisted = scan.unlisted_names
    missing = present = 0
    host = folder.removeprefix(f"{IMAGES}/")
    for name, digests in timers.by_repository.items():
        if any(not path or name == path or name.startswith(f"{path}/") for path in unlisted):
            continue
        is_of_host = name.partition("/")[0] == host
        may_be_here = folder in (IMAGES, f"{IMAGES}/{CONTENT}") or is_of_host
        for digest in digests:
            image = scan.image((name, digest))
            if image is None:
                missing += may_be_here
            elif folder == IMAGES or (folder == f"{IMAGES}/{CONTENT}" if image.is_content else is_of_host):
                present += 1
    return missing, present
