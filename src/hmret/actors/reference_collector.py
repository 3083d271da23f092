"""The reference collector: knows what needs an image.

It reads the metadata of guests and snapshots, re-reading only files that changed; queries the embedder's own
sources; and remembers what moved tags used to point to.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import anyio
import attrs

from hmret.actors.disk_actor import DiskActor
from hmret.actors.lanes import Lanes
from hmret.actors.mailbox import answer_call
from hmret.actors.threads import Threads
from hmret.disk.deletion.check_before_retire import BatchToCheck, find_protected
from hmret.disk.filesystem import Filesystem
from hmret.disk.layout import IMAGES, REFERENCE_FILES
from hmret.disk.records.engine import load_remembered, save_remembered
from hmret.disk.scans.checkpoints import load_references, save_references
from hmret.disk.scans.indexed_references import IndexedReferences
from hmret.disk.scans.references import (
    NOTHING_KNOWN,
    ReferenceFile,
    ReferenceLook,
    list_guests,
    look_at_references,
    read_reference_files,
)
from hmret.model.errors import InvalidReferenceError
from hmret.model.grouping import ReferenceIndex
from hmret.model.images import Remembered
from hmret.model.records.folders import FolderSeen
from hmret.model.references import Key, Reference, parsed
from hmret.model.tag_history import unseen_tags
from hmret.model.values import frozen

# hypeman writes metadata in place, in well under a millisecond: a torn file is complete again long before
# this.
_TORN_RETRIES = 3
_TORN_PAUSE = 0.05

_SOME_SOURCE = "sources"
"""Stands for an embedder's source that failed to answer."""
_UNLISTED = frozenset((*(folder for _, folder, _ in REFERENCE_FILES), _SOME_SOURCE))
"""The entries among unread sources that stand for sources of unknown name."""

# The number of guests from which several threads pay off, and how many guests one thread reads at a time.
_MANY = 2000
_AT_ONCE = 250


class ReferenceSource(Protocol):
    """An embedder's own knowledge of what needs an image."""

    async def references(self) -> Iterable[Reference]:
        """Return every current reference; raising an error suspends deletion.

        Called by each sweep and again before deletions, while the images in question are claimed: it must not
        wait for `mark_used` or `lease`.
        """
        ...


@frozen
class Collected:
    """All references."""

    references: ReferenceIndex
    """The same object as before if nothing has changed since the last collection."""
    unreadable: tuple[tuple[str, str], ...]
    """Paths (or names of sources) that exist but could not be read, and why."""
    unread_sources: frozenset[str]
    remembered: Mapping[tuple[str, str], Remembered]
    unseen_tags: frozenset[tuple[str, str]] = frozenset()
    """By repository and tag: those whose links' creation times a plan needs."""
    is_remembered: bool = True
    """Whether `remembered` is on record and survives a restart."""
    folders: Mapping[str, FolderSeen] = attrs.field(factory=dict)
    """The folders of guests and snapshots, if these are read, except those that could not be listed."""


@frozen
class Protected:
    """The rows of a batch that references protect now."""

    keys: frozenset[Key]
    unreadable: tuple[tuple[str, str], ...]
    folders: Mapping[str, FolderSeen] = attrs.field(factory=dict)
    """The folders of guests and snapshots, as in `Collected`."""


class ReferenceCollector(DiskActor):
    """The reference collector actor.

    `write_record` bypasses the mailbox: it is called after the actor has ended, when nothing else reads or
    changes what it writes.
    """

    def __init__(
        self,
        filesystem: Filesystem,
        data_fd: int,
        threads: Threads,
        sources: Sequence[ReferenceSource],
        *,
        read_files: bool,
        boot_id: str,
    ) -> None:
        super().__init__(filesystem, data_fd, threads)
        self._sources = tuple(sources)
        self._read_files = read_files
        self._boot_id = boot_id
        self._files = IndexedReferences(NOTHING_KNOWN)
        self._saved_references: Mapping[str, ReferenceFile] | None = None
        """The references in the record on disk, as far as known; None: nothing is known."""
        self._own: tuple[Reference, ...] = ()
        self._all = self._files.index
        """The references from files and from the embedder's sources."""
        self._collected = self._all
        """The references that were collected last."""
        self._unseen: (
            tuple[ReferenceIndex, Mapping[tuple[str, str], Remembered], frozenset[tuple[str, str]]] | None
        ) = None
        """Tags not seen yet, with the inputs that they were computed from."""
        self._remembered: Mapping[tuple[str, str], Remembered] | None = None
        self._saved_tag_memory: Mapping[tuple[str, str], Remembered] | None = None
        """What the record of tags on disk holds, as far as known; None: nothing is known."""

    async def run(self) -> None:
        """Serve until closed; calls in progress are then cancelled, as an embedder's source may never answer."""
        await self._mailbox.serve(answer_call, wait=False)

    async def collect(self) -> Collected:
        """Read all references."""
        return await self._ask(self._collect)

    async def recheck(
        self,
        keys: Iterable[Key],
        content: Mapping[str, str] | None = None,
        bases: tuple[Reference, ...] = (),
        newcomer_ns: tuple[int, int] | None = None,
    ) -> Protected:
        """Return which of some images are referenced now.

        Args:
            keys: the rows.
            content: for digests in shared content, which any repository's name can refer to: the repository
                that their metadata names.
            bases: what images need of each other.
            newcomer_ns: a guest created after the first of these times, and not after the second, may run from
                any image of its repository while its tag is absent, as may every guest that has appeared
                since the last `collect`. Nanoseconds since the epoch.
        """
        batch = BatchToCheck(frozenset(keys), content or {}, newcomer_ns)
        return await self._ask(self._recheck, batch, bases)

    async def save_cache(self) -> None:
        """Write what is cached to disk, for the next start.

        Raises:
            OSError: it could not be written.
        """
        await self._ask(self._threads.run_alone, self.write_record)

    async def remember(self, remembered: Mapping[tuple[str, str], Remembered]) -> None:
        """Record durably what tags have pointed to.

        Raises:
            OSError: it could not be written; it is remembered until a restart.
        """
        await self._ask(self._remember, remembered)

    async def _collect(self) -> Collected:
        remembered = await self._recall()
        references, unreadable, unread_sources = await self._gather()
        self._collected = references
        if unreadable and not unread_sources.isdisjoint(_UNLISTED):
            # The names of what was not listed are unknown, so everything missing counts as not read.
            unread_sources |= {_SOME_SOURCE}
        return Collected(
            references=references,
            unreadable=unreadable,
            unread_sources=unread_sources,
            remembered=remembered,
            unseen_tags=await self._find_unseen_tags(references, remembered),
            is_remembered=remembered == self._saved_tag_memory,
            folders=self._files.folders(),
        )

    async def _find_unseen_tags(
        self, references: ReferenceIndex, remembered: Mapping[tuple[str, str], Remembered]
    ) -> frozenset[tuple[str, str]]:
        if self._unseen is None or self._unseen[0] is not references or self._unseen[1] is not remembered:
            tags = await self._threads.run_alone(frozenset, unseen_tags(references, remembered))
            self._unseen = references, remembered, tags
        return self._unseen[2]

    async def _gather(self) -> tuple[ReferenceIndex, tuple[tuple[str, str], ...], frozenset[str]]:
        """Read all references; also returns what could not be read and why, and the names of those sources."""
        # The files last, so that they include what appeared while a source was being queried.
        own, faults = await self._ask_sources()
        files = await self._look() if self._read_files else self._files
        # The same objects if nothing has changed, so that plans made from them can be reused.
        if files is not self._files or own != self._own:
            self._files, self._own = files, own
            self._all = files.index.changed((), own) if own else files.index
        if not faults:
            return self._all, files.unreadable, files.unread_sources
        return (
            self._all,
            tuple(sorted([*files.unreadable, *faults])),
            files.unread_sources | {_SOME_SOURCE},
        )

    async def _recall(self) -> Mapping[tuple[str, str], Remembered]:
        """Return what tags used to point to."""
        if self._remembered is None:
            loaded = await self._on_disk(load_remembered)
            # A concurrent call may have finished first, and more may have been remembered since.
            if self._remembered is None:
                # guard(tag-memory-over-restart): What moved tags once pointed to is still in use by guests
                # after a restart; this memory keeps it.
                self._remembered = self._saved_tag_memory = loaded
        return self._remembered

    async def _ask_sources(self) -> tuple[tuple[Reference, ...], list[tuple[str, str]]]:
        """Query the embedder's sources; also returns which of them failed, and why."""
        references: list[Reference] = []
        faults: list[tuple[str, str]] = []
        for source in self._sources:
            try:
                references += _checked(await source.references())
            except Exception as error:  # noqa: BLE001 - an embedder's source: whatever is wrong, nothing is deleted
                faults.append((type(source).__name__, f"{type(error).__name__}: {error}"))
        return tuple(references), faults

    async def _look(self) -> IndexedReferences:
        """Look at all files, retrying while some may merely be torn."""
        known = self._files
        if not known.is_indexed:
            known = IndexedReferences(ReferenceLook(await self._read_ahead()))
        look = await self._on_disk_alone(look_at_references, known.look, self._threads.pause)
        files = await self._threads.run_alone(known.renew, look)
        for _ in range(_TORN_RETRIES):
            if not files.unreadable:
                break
            await anyio.sleep(_TORN_PAUSE)
            look = await self._on_disk_alone(look_at_references, files.look, self._threads.pause)
            files = await self._threads.run_alone(files.renew, look)
        return files

    async def _read_ahead(self) -> Mapping[str, ReferenceFile]:
        """Start from an earlier engine's record, or read many files in several threads.

        The next look validates all of it: an entry counts only if its file still has the same fingerprint.
        """
        known = await self._on_disk_alone(load_references, self._boot_id, self._threads.pause)
        if any(file.fingerprint is not None for file in known.values()):
            self._saved_references = known
            return known
        if self._threads.lanes == 1:
            return known
        waiting = await self._on_disk_alone(list_guests)
        if len(waiting) < _MANY:
            return known
        found = dict(known)

        def take(_lanes: int) -> list[str]:
            taken = waiting[-_AT_ONCE:]
            del waiting[-_AT_ONCE:]
            return taken

        def put(files: Mapping[str, ReferenceFile]) -> int:
            found.update(files)
            return len(files)

        def look(sources: list[str]) -> Mapping[str, ReferenceFile]:
            return read_reference_files(self._filesystem, self._data_fd, sources, self._threads.pause, known)

        await Lanes(self._threads, take, look, put).run()
        return found

    def write_record(self) -> None:
        """Write what is cached to disk, for the next start.

        Raises:
            OSError: it could not be written.
        """
        files = self._files.files
        if self._files.is_indexed and files is not self._saved_references:
            remembered = self._files.look.remembered()
            save_references(self._filesystem, self._data_fd, self._boot_id, remembered, self._threads.pause)
            self._saved_references = files

    async def _recheck(self, batch: BatchToCheck, bases: tuple[Reference, ...]) -> Protected:
        remembered = await self._recall()
        references, unreadable, _ = await self._gather()
        if bases:
            references = references.changed((), bases)

        async def find() -> tuple[frozenset[Key], bool]:
            return await self._on_disk(
                find_protected, batch, references, remembered=remembered, known=self._collected
            )

        try:
            protected, is_complete = await find()
            if not is_complete:
                await anyio.sleep(_TORN_PAUSE)
                again, _ = await find()
                protected |= again
        except OSError as error:
            # If a tag cannot be read, any image may be the one that it points to.
            fault = IMAGES, error.strerror or str(error)
            return Protected(batch.keys, (*unreadable, fault))
        return Protected(protected, unreadable, self._files.folders())

    async def _remember(self, remembered: Mapping[tuple[str, str], Remembered]) -> None:
        self._remembered = remembered
        if remembered != self._saved_tag_memory:
            self._saved_tag_memory = None
            await self._on_disk(save_remembered, remembered)
            self._saved_tag_memory = remembered


def _checked(references: Iterable[Reference]) -> list[Reference]:
    """Check that an embedder's references parse and that their times have a time zone.

    Raises:
        InvalidReferenceError: a reference does not parse.
        ValueError: a time has no time zone.
    """
    checked = list(references)
    for reference in checked:
        for text in reference.texts:
            try:
                parsed(text)
            except InvalidReferenceError as error:
                raise InvalidReferenceError(f"{reference.source}: {error}") from None
        if reference.created_at is not None and reference.created_at.utcoffset() is None:
            raise ValueError(f"{reference.source}: a time needs a time zone: {reference.created_at!r}")
    return checked
