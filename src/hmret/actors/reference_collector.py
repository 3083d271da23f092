"""The reference collector: it knows what needs an image.

It reads guests and snapshots, again only where a file changed; asks the embedder's own sources; and remembers what
moved tags have pointed to.
"""

from collections.abc import Iterable, Mapping, Sequence, Set as AbstractSet
from typing import Protocol, assert_never

import anyio
import attrs

from hmret.actors.lanes import Lanes
from hmret.actors.mailbox import Actor, Request
from hmret.actors.threads import Threads
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import open_data_folder, opened
from hmret.disk.hypeman.scan import OddTagError, resolve_tag
from hmret.disk.layout import IMAGES, REFERENCE_FILES
from hmret.disk.records.engine import load_remembered, save_remembered
from hmret.disk.scans.checkpoints import load_references, save_references
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
from hmret.model.images import (
    ContentOwners,
    Image,
    Inventory,
    Key,
    Reference,
    Remembered,
    Repository,
)
from hmret.model.protection import protected_keys
from hmret.model.records.folders import FolderSeen
from hmret.model.references import parsed
from hmret.model.tag_history import named_tags, unseen_tags
from hmret.model.times import nanoseconds_of
from hmret.model.values import frozen

__all__ = [
    "Collect",
    "Collected",
    "KeepReferences",
    "RecheckReferences",
    "ReferenceCollector",
    "ReferenceSource",
    "Remember",
]

# hypeman writes metadata in place, in well under a millisecond: a torn file is whole again long before this.
_TORN_RETRIES = 3
_TORN_PAUSE = 0.05

_SOME_SOURCE = "sources"
"""Stands for what an embedder's source did not tell."""
_UNLISTED = frozenset((*(folder for _, folder, _ in REFERENCE_FILES), _SOME_SOURCE))
"""What stands among unread sources for those whose names nobody knows."""

# How many guests it takes for several threads to be worth while, and how many of them one reads at a time.
_MANY = 2000
_AT_ONCE = 250


class ReferenceSource(Protocol):
    """An embedder's own knowledge of what needs an image."""

    async def references(self) -> Iterable[Reference]:
        """Return every reference there is now; an error that is raised suspends deletion.

        Asked at each sweep and again before deletions, while the images in question are claimed: it must not wait
        for `mark_used` or `lease`.
        """
        ...


@frozen
class Collected:
    """All references."""

    references: ReferenceIndex
    """The very same object where nothing has changed since they were last collected."""
    unreadable: tuple[tuple[str, str], ...]
    """Paths (or names of sources) that exist but could not be read, and why."""
    unread_sources: frozenset[str]
    remembered: Mapping[tuple[str, str], Remembered]
    unseen_tags: frozenset[tuple[str, str]] = frozenset()
    """By repository and tag: of whose links a plan needs to know when they were made."""
    is_remembered: bool = True
    """Whether that is on record, to be known after a restart."""
    folders: Mapping[str, FolderSeen] = attrs.field(factory=dict)
    """The folders of guests and snapshots, where these are read, but for those that could not be listed."""


@frozen
class Protected:
    """What of a batch the references protect now."""

    keys: frozenset[Key]
    unreadable: tuple[tuple[str, str], ...]
    folders: Mapping[str, FolderSeen] = attrs.field(factory=dict)
    """The folders of guests and snapshots, as in `Collected`."""


@frozen(eq=False, kw_only=True)
class Collect(Request[Collected]):
    """Asks for all references as they are now."""


@frozen(eq=False, kw_only=True)
class RecheckReferences(Request[Protected]):
    """Asks which images of a batch are referenced now."""

    keys: frozenset[Key]
    content: Mapping[str, str] = attrs.field(factory=dict)
    bases: tuple[Reference, ...] = ()
    young_ns: tuple[int, int] | None = None


@frozen(eq=False, kw_only=True)
class KeepReferences(Request[None]):
    """Asks to write down what is known, for the next start."""


@frozen(eq=False, kw_only=True)
class Remember(Request[None]):
    """Says what tags have pointed to, to be known after a restart."""

    remembered: Mapping[tuple[str, str], Remembered]


class ReferenceCollector(Actor[Collect | RecheckReferences | KeepReferences | Remember]):
    """The reference collector actor."""

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
        super().__init__()
        self._filesystem = filesystem
        self._data_fd = data_fd
        self._threads = threads
        self._sources = tuple(sources)
        self._read_files = read_files
        self._boot_id = boot_id
        self._files = _Files(NOTHING_KNOWN)
        self._kept: Mapping[str, ReferenceFile] | None = None
        """What stands in the record."""
        self._own: tuple[Reference, ...] = ()
        self._all = self._files.index
        """The references of the files and of the embedder's sources."""
        self._collected = self._all
        """Those that were collected last."""
        self._unseen: (
            tuple[ReferenceIndex, Mapping[tuple[str, str], Remembered], frozenset[tuple[str, str]]] | None
        ) = None
        """Tags not seen yet, and what they were looked for in."""
        self._remembered: Mapping[tuple[str, str], Remembered] | None = None
        self._is_saved = True
        self._written: Mapping[tuple[str, str], Remembered] | None = None
        """What stands on the disk, as far as is known; None: nothing is known."""

    async def run(self) -> None:
        """Serve until closed; what is being worked on is then refused: an embedder's source may never answer."""
        await self._mailbox.serve(self._answer, wait=False)

    async def collect(self) -> Collected:
        """Read all references."""
        return await self._mailbox.ask(Collect())

    async def recheck(
        self,
        keys: Iterable[Key],
        content: Mapping[str, str] | None = None,
        bases: tuple[Reference, ...] = (),
        young_ns: tuple[int, int] | None = None,
    ) -> Protected:
        """Return which of some images are referenced now.

        Args:
            keys: the rows.
            content: of the digests that are content, which any repository's name can mean, the repository that its metadata
                names.
            bases: what images need of each other.
            young_ns: what was made after the first of these times and not after the other, in nanoseconds since the epoch,
                may run from any image of its repository while its tag is absent, as what has come since the last
                `collect` may.
        """
        asked = RecheckReferences(keys=frozenset(keys), content=content or {}, bases=bases, young_ns=young_ns)
        return await self._mailbox.ask(asked)

    async def keep(self) -> None:
        """Write down what is known, for the next start.

        Raises:
            OSError: it could not be written.
        """
        await self._mailbox.ask(KeepReferences())

    async def remember(self, remembered: Mapping[tuple[str, str], Remembered]) -> None:
        """Keep what tags have pointed to, durably.

        Raises:
            OSError: it could not be written; it is kept until a restart.
        """
        await self._mailbox.ask(Remember(remembered=remembered))

    async def _answer(self, request: Collect | RecheckReferences | KeepReferences | Remember) -> object:
        match request:
            case Collect():
                return await self._collect()
            case RecheckReferences():
                return await self._recheck(request)
            case KeepReferences():
                return await self._threads.run_alone(self.write_record)
            case Remember():
                await self._remember(request.remembered)
                return None
            case _:
                assert_never(request)

    async def _collect(self) -> Collected:
        remembered = await self._recall()
        references, unreadable, unread_sources = await self._gather()
        self._collected = references
        if unreadable and not unread_sources.isdisjoint(_UNLISTED):
            # Nobody knows the names of what was not listed, so whatever is missing counts as not read.
            unread_sources |= {_SOME_SOURCE}
        return Collected(
            references=references,
            unreadable=unreadable,
            unread_sources=unread_sources,
            remembered=remembered,
            unseen_tags=await self._find_unseen_tags(references, remembered),
            is_remembered=remembered == self._written,
            folders=self._files.look.folders(),
        )

    async def _find_unseen_tags(
        self, references: ReferenceIndex, remembered: Mapping[tuple[str, str], Remembered]
    ) -> frozenset[tuple[str, str]]:
        if self._unseen is None or self._unseen[0] is not references or self._unseen[1] is not remembered:
            tags = await self._threads.run_alone(frozenset, unseen_tags(references, remembered))
            self._unseen = references, remembered, tags
        return self._unseen[2]

    async def _gather(self) -> tuple[ReferenceIndex, tuple[tuple[str, str], ...], frozenset[str]]:
        """Ask everybody; also tells what could not be read and why, and the names of such sources."""
        # The files last: what comes while a source is asked is seen in them.
        own, faults = await self._ask_sources()
        files = await self._look() if self._read_files else self._files
        # The same objects where nothing is new: what rests on them then stands.
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
        """Tell what tags have pointed to."""
        if self._remembered is None:
            loaded = await self._threads.run(load_remembered, self._filesystem, self._data_fd)
            # Another request may have been quicker, and have remembered more since.
            if self._remembered is None:
                # guard(tag-memory-over-restart): What moved tags once pointed to is still in use by guests after a
                # restart; this memory keeps it.
                self._remembered = self._written = loaded
        return self._remembered

    async def _ask_sources(self) -> tuple[tuple[Reference, ...], list[tuple[str, str]]]:
        """Ask the embedder's sources; also tells which could not answer, and why."""
        references: list[Reference] = []
        faults: list[tuple[str, str]] = []
        for source in self._sources:
            try:
                references += _checked(await source.references())
            except Exception as error:  # noqa: BLE001 - an embedder's source: whatever is wrong, nothing is deleted
                faults.append((type(source).__name__, f"{type(error).__name__}: {error}"))
        return tuple(references), faults

    async def _look(self) -> "_Files":
        """Look at all files, and again at those that may only have been torn."""
        known = self._files
        if not known.is_indexed:
            known = _Files(ReferenceLook(await self._read_ahead()))
        look = await self._look_once(known.look)
        files = await self._threads.run_alone(known.renew, look)
        for _ in range(_TORN_RETRIES):
            if not files.unreadable:
                break
            await anyio.sleep(_TORN_PAUSE)
            look = await self._look_once(files.look)
            files = await self._threads.run_alone(files.renew, look)
        return files

    async def _look_once(self, known: ReferenceLook) -> ReferenceLook:
        return await self._threads.run_alone(
            look_at_references, self._filesystem, self._data_fd, known, self._threads.pause
        )

    async def _read_ahead(self) -> Mapping[str, ReferenceFile]:
        """Begin with what an earlier engine knew, or have many files read by several threads.

        What they held is checked like everything that is known: it counts where a file still has its fingerprint.
        """
        found = await self._threads.run_alone(
            load_references, self._filesystem, self._data_fd, self._boot_id, self._threads.pause
        )
        if any(file.fingerprint is not None for file in found.values()):
            self._kept = found
            return found
        if self._threads.lanes == 1:
            return found
        waiting = await self._threads.run_alone(list_guests, self._filesystem, self._data_fd)
        if len(waiting) < _MANY:
            return found

        def take(_lanes: int) -> list[str]:
            taken = waiting[-_AT_ONCE:]
            del waiting[-_AT_ONCE:]
            return taken

        def put(files: Mapping[str, ReferenceFile]) -> int:
            found.update(files)
            return len(files)

        def look(sources: list[str]) -> Mapping[str, ReferenceFile]:
            return read_reference_files(self._filesystem, self._data_fd, sources, self._threads.pause)

        await Lanes(self._threads, take, look, put).run()
        return found

    def write_record(self) -> None:
        """Write down what is known, for the next start; while this actor runs, nobody else calls this.

        Raises:
            OSError: it could not be written.
        """
        files = self._files.look.files
        if self._files.is_indexed and files is not self._kept:
            save_references(self._filesystem, self._data_fd, self._boot_id, files, self._threads.pause)
            self._kept = files

    async def _recheck(self, asked: RecheckReferences) -> Protected:
        remembered = await self._recall()
        references, unreadable, _ = await self._gather()
        if asked.bases:
            references = references.changed((), asked.bases)
        try:
            protected, is_complete = await self._threads.run(self._protected, asked, references, remembered)
            if not is_complete:
                await anyio.sleep(_TORN_PAUSE)
                again, _ = await self._threads.run(self._protected, asked, references, remembered)
                protected |= again
        except OSError as error:
            # Where a tag cannot be read, each image may be the one that it points to.
            fault = IMAGES, error.strerror or str(error)
            return Protected(asked.keys, (*unreadable, fault))
        return Protected(protected, unreadable, self._files.look.folders())

    def _protected(
        self,
        asked: RecheckReferences,
        references: ReferenceIndex,
        remembered: Mapping[tuple[str, str], Remembered],
    ) -> tuple[frozenset[Key], bool]:
        """Resolve the references against an inventory of nothing but these images, with their tags as they are now.

        Content is named by whatever repository, so of that every reference counts that names its digest, and all that tags
        have pointed to. Also returns whether every tag that is named was there: hypeman moves a tag by removing and making
        its link, so one that is absent is worth a second look. It may be absent then, too: what has come just now, by a
        tag that is absent, may run from any image of that repository.
        """
        digests: dict[str, dict[str, Image]] = {}
        owners: dict[str, list[str]] = {}
        for name, digest in asked.keys:
            named = asked.content.get(digest)
            digests.setdefault(name, {})[digest] = Image(digest, "ready", content_name=named)
            if named is not None:
                owners.setdefault(digest, []).append(name)
        by_name: dict[str, dict[str, Image]] = {}
        for digest, name in asked.content.items():
            if name and name not in owners.get(digest, ()):
                by_name.setdefault(name, {})[digest] = Image(digest, "ready", content_name=name)
        names = {*digests, *by_name}
        tags: dict[str, dict[str, str]] = {name: {} for name in names}
        odd: dict[str, set[str]] = {name: set() for name in names}
        groups = {name: references.by_repository.get(name, ()) for name in names}
        named_here = {
            (name, tag) for group in groups.values() for name, tag in named_tags(group) if name in tags
        }
        with opened(self._filesystem, open_data_folder(self._filesystem, self._data_fd, IMAGES)) as images_fd:
            for name, tag in named_here:
                try:
                    target = resolve_tag(self._filesystem, images_fd, name, tag)
                except OddTagError:
                    odd[name].add(tag)
                    continue
                if target is not None:
                    tags[name][tag] = target
        inventory = Inventory(
            repositories={
                name: Repository(
                    name,
                    digests.get(name, {}),
                    tags[name],
                    named=by_name.get(name, {}),
                    odd_tags=frozenset(odd[name]),
                )
                for name in names
            },
            contents=ContentOwners({digest: tuple(sorted(names)) for digest, names in owners.items()}),
            references=ReferenceIndex((), groups),
            remembered=remembered,
        )
        absent = {(name, tag) for name, tag in named_here if tag not in tags[name] and tag not in odd[name]}
        # guard(newcomer-by-absent-tag): A guest made during the sweep may run from an image to which its tag no longer
        # leads; while the tag is being moved, all that it can have led to stays.
        doubtful = self._with_newcomers(groups, absent, asked.young_ns)
        ever = set().union(*(memory.digests for memory in remembered.values()), references.digests)
        needed = ever.intersection(asked.content)
        needed |= {digest for name in doubtful for digest in by_name.get(name, ())}
        kept = {(name, digest) for name in doubtful for digest in digests.get(name, ())}
        return (
            protected_keys(inventory).union(
                kept, ((name, digest) for digest in needed for name in owners.get(digest, ()))
            ),
            not absent,
        )

    def _with_newcomers(
        self,
        groups: Mapping[str, Iterable[Reference]],
        absent: AbstractSet[tuple[str, str]],
        young_ns: tuple[int, int] | None,
    ) -> set[str]:
        """List the repositories of which something new names a tag that is absent."""
        found: set[str] = set()
        for name in {name for name, _ in absent}:
            known = {*self._collected.by_repository.get(name, ())}
            for reference in groups[name]:
                # guard(newcomer-before-the-scan): A guest that was made right before the scan may have been seen
                # without its tag as well.
                is_young = (
                    young_ns is not None
                    and reference.created_at is not None
                    and young_ns[0] < nanoseconds_of(reference.created_at) <= young_ns[1]
                )
                if (is_young or reference not in known) and not absent.isdisjoint(
                    named_tags((reference,), open_ended=True)
                ):
                    found.add(name)
        return found

    async def _remember(self, remembered: Mapping[tuple[str, str], Remembered]) -> None:
        self._remembered = remembered
        if remembered != self._written:
            self._written = None
            await self._threads.run(save_remembered, self._filesystem, self._data_fd, remembered)
            self._written = remembered


@frozen(eq=False)
class _Files:
    """What a look at the files came to."""

    look: ReferenceLook
    is_indexed: bool = False
    """Whether the index holds what the look found; else it is empty."""
    index: ReferenceIndex = attrs.field(factory=lambda: ReferenceIndex((), {}))
    unreadable: tuple[tuple[str, str], ...] = ()
    unread_sources: frozenset[str] = frozenset()

    def renew(self, look: ReferenceLook) -> "_Files":
        """Say what a later look comes to; only what is new in it is worked through."""
        before, after = self.look.files, look.files
        # guard(each-look-counts-changes): A guest or snapshot that changed since the last look protects what it needs
        # from this look on.
        if after is before and self.is_indexed:
            return self if look is self.look else attrs.evolve(self, look=look)
        indexed = before if self.is_indexed else {}
        gone = [
            reference
            for source, file in indexed.items()
            if after.get(source) is not file
            for reference in file.references
        ]
        come = [
            reference
            for source, file in after.items()
            if indexed.get(source) is not file
            for reference in file.references
        ]
        problems = {source: file for source, file in after.items() if file.problem is not None}
        return _Files(
            look,
            is_indexed=True,
            index=self.index.changed(gone, come),
            unreadable=tuple(sorted(file.fault for file in problems.values())),
            unread_sources=frozenset(problems),
        )


def _checked(references: Iterable[Reference]) -> list[Reference]:
    """Check that an embedder's references parse, and that their times have a time zone.

    Raises:
        InvalidReferenceError: one does not.
        ValueError: a time has none.
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
