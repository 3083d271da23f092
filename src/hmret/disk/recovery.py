"""Finishing what was cut off: what the intents on record say, and what lies in the trash by no record."""

from collections.abc import Callable, Iterable, Set as AbstractSet
from contextlib import suppress
from typing import assert_never

import attrs

from hmret.disk.erasing import erase, free_places
from hmret.disk.filesystem import Filesystem
from hmret.disk.layout import OWN, TRASH
from hmret.disk.outcomes import Failed, Kept, Retired
from hmret.disk.quarantine import Held, HeldRecords, hold, is_whole, read_records
from hmret.disk.retirement import finish
from hmret.disk.trash import Intent, Place, drop_intents, find_places, list_trash, read_intents
from hmret.model.images import Key

__all__ = ["Recovering", "Recovery"]

_TRASH = f"{OWN}/{TRASH}"


@attrs.frozen
class Recovery:
    """What was found in the trash."""

    finished: tuple[Retired, ...]
    disk_bytes: dict[Key, int]
    """The bytes that came free with each of those; none with what is held."""
    restored: tuple[Key, ...]
    """Images that were put back, because somebody had begun to open them."""
    freed_bytes: int
    errors: tuple[tuple[str, str], ...]
    held: tuple[Held, ...] = ()
    """Those of the finished that are in quarantine now."""


@attrs.define(eq=False)
class Recovering:
    """One recovery; nobody else works on the images that have intents meanwhile."""

    filesystem: Filesystem
    data_fd: int
    stopping: Callable[[], bool] = lambda: False
    pause: Callable[[], None] = lambda: None
    hold_at_ns: int | None = None
    """When what is finished went into quarantine; None: its bytes are freed."""
    has_unfinished: bool = False
    """Whether something waits for the next recovery."""
    _finished: list[Retired] = attrs.field(factory=list)
    _restored: list[Key] = attrs.field(factory=list)
    _held: list[Held] = attrs.field(factory=list)
    _errors: list[tuple[str, str]] = attrs.field(factory=list)
    _disk_bytes: dict[Key, int] = attrs.field(factory=dict)
    _freed_bytes: int = 0

    def recover(self) -> Recovery:
        """Finish or undo what was cut off; what is in quarantine stays there."""
        tokens, _ = self._list_trash()
        records = self._records()
        if records is not None:
            for token in tokens:
                try:
                    self._recover_batch(token, records)
                except OSError as error:
                    self.has_unfinished = True
                    self._errors.append((f"{_TRASH}/{token}.json", error.strerror or str(error)))
            self._erase_strays()
        return Recovery(
            tuple(self._finished),
            self._disk_bytes,
            tuple(self._restored),
            self._freed_bytes,
            tuple(self._errors),
            tuple(self._held),
        )

    def _recover_batch(self, token: str, records: HeldRecords) -> None:
        """Finish or undo what one file of intents says, and forget it once all of that is done."""
        if records.is_doubtful(token):
            # What of it is held, and what was still to be finished, nobody can tell.
            return
        places: list[Place] = []
        is_done = True
        held_names = records.names_of(token)
        intents = read_intents(self.filesystem, self.data_fd, token)
        for intent in intents:
            for place in self._unheld_places(intent, held_names):
                match finish(self.filesystem, self.data_fd, place):
                    case Retired() as retired:
                        self._errors.extend(retired.faults)
                        if retired.faults:
                            is_done = False
                        else:
                            self._finished.append(retired)
                            places.append(place)
                    case Kept() as kept:
                        self._restored.append(kept.key)
                    case Failed() as failed:
                        self._errors.append((failed.path, failed.error.strerror or str(failed.error)))
                        is_done = False
                    case _ as never:
                        assert_never(never)
        if is_done:
            rest = self._hold(token, places)
            # A crash may have left folders empty of images whose bytes are free already.
            is_done = self._free(token, rest, {intent.repository for intent in intents})
        if not is_done:
            self.has_unfinished = True

    def _unheld_places(self, intent: Intent, held_names: AbstractSet[str]) -> list[Place]:
        if intent.name in held_names:
            return []
        return find_places(self.filesystem, self.data_fd, intent)

    def _hold(self, token: str, places: list[Place]) -> list[Place]:
        """Put what is whole into quarantine; returns what is to be freed.

        Raises:
            OSError: it could not be written down; all of it waits.
        """
        if self.hold_at_ns is None:
            return places
        whole = {place.name for place in places if is_whole(self.filesystem, self.data_fd, place)}
        removed = {retired.place.name: retired.tags for retired in self._finished}
        # Which of its tags went before it was cut off is not known; those that have moved on are not free any more.
        chosen = [
            (place, {*place.intent.tags, *removed[place.name]}) for place in places if place.name in whole
        ]
        if chosen:
            self._held += hold(self.filesystem, self.data_fd, token, chosen, self.hold_at_ns)
        return [place for place in places if place.name not in whole]

    def _free(self, token: str, places: Iterable[Place], repositories: set[str]) -> bool:
        chosen = tuple(places)
        freed = free_places(self.filesystem, self.data_fd, chosen, stopping=self.stopping, pause=self.pause)
        for place, disk_bytes in zip(chosen, freed.disk_bytes, strict=True):
            self._disk_bytes[place.intent.repository, place.intent.digest] = disk_bytes
        self._freed_bytes += sum(freed.disk_bytes)
        self._errors.extend((f"{place.folder}/{place.name}", error) for place, error in freed.errors)
        if not all(freed.done):
            return False
        # Those that stay on record are found done by the next recovery.
        with suppress(OSError):
            drop_intents(self.filesystem, self.data_fd, token, repositories)
        return True

    def _erase_strays(self) -> None:
        """Erase what lies in the trash without an intent on record, and is not held."""
        tokens, names = self._list_trash()
        records = self._records()
        if records is None:
            return
        for name in names:
            if name.partition(".")[0] not in tokens and not records.covers(name):
                try:
                    self._freed_bytes += (
                        erase(self.filesystem, self.data_fd, _TRASH, name, self.stopping) or 0
                    )
                except OSError as error:
                    self._errors.append((f"{_TRASH}/{name}", error.strerror or str(error)))

    def _records(self) -> HeldRecords | None:
        """Read what is held; None where nobody can tell: then nothing may be touched."""
        try:
            return read_records(self.filesystem, self.data_fd)
        except OSError as error:
            self._note_trash(error)
            return None

    def _list_trash(self) -> tuple[list[str], list[str]]:
        """List the trash; what cannot be listed waits for another time, which is noted once."""
        try:
            return list_trash(self.filesystem, self.data_fd)
        except OSError as error:
            self._note_trash(error)
            return [], []

    def _note_trash(self, error: OSError) -> None:
        fault = _TRASH, error.strerror or str(error)
        if fault not in self._errors:
            self._errors.append(fault)
