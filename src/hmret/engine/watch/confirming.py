"""`confirm`: the operator accepts the present state as correct."""

from collections.abc import Awaitable, Callable, Iterable, Sequence

import attrs

from hmret.actors.journal_keeper import JournalKeeper
from hmret.engine.events import EventHub
from hmret.engine.surveyor import Surveyor
from hmret.engine.sweep.entries import Entry, write_entries
from hmret.engine.watch.folders import FoldersFound
from hmret.model.clock.looks import Watched
from hmret.model.clock.unwatched import NO_GAPS
from hmret.model.records.folders import CACHE_FOLDER, REFERENCE_FOLDERS
from hmret.model.values import frozen

CLOCK = "clock"
"""The name by which a clock jump is confirmed."""


@frozen(eq=False)
class Confirming:
    """Accepts what is reported as lost, as the operator confirms it."""

    surveyor: Surveyor
    journal: JournalKeeper
    events: EventHub
    check_folder: Callable[[], Awaitable[None]]

    async def confirm(self, names: Sequence[str] = ()) -> tuple[str, ...]:
        """Accept what is lost at this moment, or the clock as it is; returns what was confirmed.

        Args:
            names: the folders, as they are reported (or by absolute path), and `clock`; none: whatever there
                is, if it is only one thing.

        Raises:
            ValueError: a name can never be confirmed, or none was given and there are several things to
                confirm.
            OSError: it could not be recorded, so nothing was confirmed.
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
                f"several things need to be confirmed; name those that are correct: {' '.join(waiting)}"
            )
        # guard(confirm-only-the-named): Only the volumes that were named are confirmed; any other keeps
        # deletion suspended.
        chosen = tuple(name for name in waiting if not asked or name in asked)
        await self._take_over(survey.folders, chosen)
        return chosen

    def _checked(self, name: str) -> str:
        """Parse a folder's name, which may be given as an absolute path."""
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
        entries = (Entry("confirm", facts={"what": name}) for name in chosen)
        lines = write_entries(surveyor.now_ns(), *entries)
        self.events.publish(lines)
        await self.journal.append(lines)
