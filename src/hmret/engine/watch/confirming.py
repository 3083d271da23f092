"""`confirm`: somebody says that what is there now is right."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

import attrs

from hmret.actors.journal_keeper import JournalKeeper
from hmret.engine.events import EventHub
from hmret.engine.log import log_event
from hmret.engine.surveyor import Surveyor
from hmret.engine.sweep.ledger import journal_entry
from hmret.engine.watch.folders import FoldersFound
from hmret.model.clock.looks import Watched
from hmret.model.clock.unwatched import NO_GAPS
from hmret.model.records.folders import CACHE_FOLDER, REFERENCE_FOLDERS
from hmret.model.values import frozen

__all__ = ["CLOCK", "Confirming"]

CLOCK = "clock"
"""What a jump of the clock is confirmed by."""


@frozen(eq=False)
class Confirming:
    """Takes over what is told as lost, as somebody says that it is right."""

    surveyor: Surveyor
    journal: JournalKeeper
    events: EventHub
    check_folder: Callable[[], Awaitable[None]]

    async def confirm(self, names: Sequence[str] = ()) -> tuple[str, ...]:
        """Take over what is lost at this moment, or the clock as it is; returns what was confirmed.

        Args:
            names: of the folders, as they are told (or by their whole path), and `clock`; none: what there is, where that
                is one thing.

        Raises:
            ValueError: a name stands for nothing that could be confirmed, or none is given where there are several.
            OSError: it could not be put on record, so nothing was confirmed.
            EngineClosedError: the engine has stopped.
        """
        asked = [self._checked(name) for name in names]
        await self.check_folder()
        moment = attrs.evolve(self.surveyor.moment(), watched=Watched(NO_GAPS))
        survey = await self.surveyor.survey(moment, leases=())
        waiting = [one.name for one in survey.folders.lost]
        if moment.clock_fault is not None:
            waiting.append(CLOCK)
        if not asked and len(waiting) > 1:
            raise ValueError(
                f"there are several things to confirm, name those that are right: {' '.join(waiting)}"
            )
        # guard(confirm-only-the-named): An operator confirms only the volumes that were named; deletion stays
        # suspended for any other.
        chosen = tuple(name for name in waiting if not asked or name in asked)
        await self._take_over(survey.folders, chosen)
        return chosen

    def _checked(self, name: str) -> str:
        """Read a folder's name, which may be given as its whole path."""
        config = self.surveyor.config
        name = name.removeprefix(f"{config.data_dir.rstrip('/')}/").rstrip("/")
        if name == CLOCK or name in REFERENCE_FOLDERS or name.partition("/")[0] == CACHE_FOLDER:
            return name
        known = ", ".join((*REFERENCE_FOLDERS, CACHE_FOLDER, f"{CACHE_FOLDER}/NAME", CLOCK))
        raise ValueError(f"expected one of {known}, got {name[:100]!r}")

    async def _take_over(self, found: FoldersFound, chosen: Iterable[str]) -> None:
        surveyor = self.surveyor
        folders = [name for name in chosen if name != CLOCK]
        if folders:
            await surveyor.folders.take_over(found, folders)
        if CLOCK in chosen:
            await surveyor.trust_clock()
        entries = [journal_entry(surveyor.clock.now_ns(), "confirm", None, what=name) for name in chosen]
        for name in chosen:
            log_event(logging.WARNING, "confirmed", what=name)
        self.events.publish(entries)
        await self.journal.append(entries)
