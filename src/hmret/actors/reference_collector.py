"""The reference collector: it knows what needs an image.

It reads guests and snapshots, again only where a file changed; asks the embedder's own sources; and remembers what
moved tags have pointed to.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, assert_never

import anyio
import attrs

from hmret.actors.mailbox import Actor, Request
from hmret.actors.threads import Threads
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import opened, step_into
from hmret.disk.image_scan import resolve_tag
from hmret.disk.layout import IMAGES, REFERENCE_FILES
from hmret.disk.own_files import load_remembered, save_remembered
from hmret.disk.reference_files import ReferenceFile, look_at_references
from hmret.model.errors import InvalidReferenceError
from hmret.model.images import Image, Inventory, Key, Reference, Remembered, Repository
from hmret.model.protection import named_tags, protect
from hmret.model.references import parsed

__all__ = ["Collect", "Collected", "LookAgain", "ReferenceCollector", "ReferenceSource", "Remember"]

# hypeman writes metadata in place, in well under a millisecond: a torn file is whole again long before this.
_TORN_RETRIES = 3
_TORN_PAUSE = 0.05

_FOLDERS = frozenset(folder for _, folder, _ in REFERENCE_FILES)
"""What `look_at_references` names a folder by that it could not list."""


class ReferenceSource(Protocol):
    """An embedder's own knowledge of what needs an image."""

    async def references(self) -> Iterable[Reference]:
        """Return every reference there is now; an error that is raised suspends deletion.

        Asked at each sweep and again before deletions, while the images in question are claimed: it must not wait
        for `mark_used` or `lease`.
        """
        ...


@attrs.frozen
class Collected:
    """All references."""

    references: tuple[Reference, ...]
    unreadable: tuple[tuple[str, str], ...]
    """Paths (or names of sources) that exist but could not be read, and why."""
    unread_sources: frozenset[str]
    remembered: Mapping[tuple[str, str], Remembered]
    is_remembered: bool = True
    """Whether that is on record, to be known after a restart."""


@attrs.frozen
class Protected:
    """What of a batch the references protect now."""

    keys: frozenset[Key]
    unreadable: tuple[tuple[str, str], ...]


@attrs.frozen(eq=False, kw_only=True)
class Collect(Request[Collected]):
    """Asks for all references as they are now."""


@attrs.frozen(eq=False, kw_only=True)
class LookAgain(Request[Protected]):
    """Asks which images of a batch are referenced now."""

    keys: frozenset[Key]


@attrs.frozen(eq=False, kw_only=True)
class Remember(Request[None]):
    """Says what tags have pointed to, to be known after a restart."""

    remembered: Mapping[tuple[str, str], Remembered]


class ReferenceCollector(Actor[Collect | LookAgain | Remember]):
    """The reference collector actor."""

    def __init__(
        self,
        filesystem: Filesystem,
        data_fd: int,
        threads: Threads,
        sources: Sequence[ReferenceSource],
        *,
        read_files: bool,
    ) -> None:
        super().__init__()
        self._filesystem = filesystem
        self._data_fd = data_fd
        self._threads = threads
        self._sources = tuple(sources)
        self._read_files = read_files
        self._known: Mapping[str, ReferenceFile] = {}
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

    async def look_again(self, keys: Iterable[Key]) -> Protected:
        """Tell which of some images are referenced now."""
        return await self._mailbox.ask(LookAgain(keys=frozenset(keys)))

    async def remember(self, remembered: Mapping[tuple[str, str], Remembered]) -> None:
        """Keep what tags have pointed to, durably.

        Raises:
            OSError: it could not be written; it is kept until a restart.
        """
        await self._mailbox.ask(Remember(remembered=remembered))

    async def _answer(self, request: Collect | LookAgain | Remember) -> object:
        match request:
            case Collect():
                return await self._collect()
            case LookAgain():
                return await self._look_again(request.keys)
            case Remember():
                await self._remember(request.remembered)
                return None
            case _:
                assert_never(request)

    async def _collect(self) -> Collected:
        if self._remembered is None:
            loaded = await self._threads.run(load_remembered, self._filesystem, self._data_fd)
            # Another request may have been quicker, and have remembered more since.
            if self._remembered is None:
                self._remembered = self._written = loaded
        remembered = self._remembered
        files = await self._look() if self._read_files else {}
        references = [reference for file in files.values() for reference in file.references]
        unreadable = [(file.path, file.problem) for file in files.values() if file.problem is not None]
        unread_sources = {name for name, file in files.items() if file.problem is not None}
        is_complete = not unread_sources.intersection(_FOLDERS)
        for source in self._sources:
            try:
                references.extend(_checked(await source.references()))
            except Exception as error:  # noqa: BLE001 - an embedder's source: whatever is wrong, nothing is deleted
                unreadable.append((type(source).__name__, f"{type(error).__name__}: {error}"))
                is_complete = False
        if not is_complete:
            # Nobody knows the names of what was not listed, so whatever is missing counts as not read.
            unread_sources |= {name for name, _ in remembered} - {
                reference.source for reference in references
            }
        return Collected(
            references=tuple(references),
            unreadable=tuple(sorted(unreadable)),
            unread_sources=frozenset(unread_sources),
            remembered=remembered,
            is_remembered=remembered == self._written,
        )

    async def _look(self) -> Mapping[str, ReferenceFile]:
        """Look at all files, and again at those that may only have been torn."""
        files = await self._threads.run(look_at_references, self._filesystem, self._data_fd, self._known)
        for _ in range(_TORN_RETRIES):
            if all(file.problem is None for file in files.values()):
                break
            await anyio.sleep(_TORN_PAUSE)
            files = await self._threads.run(look_at_references, self._filesystem, self._data_fd, files)
        self._known = files
        return files

    async def _look_again(self, keys: frozenset[Key]) -> Protected:
        collected = await self._collect()
        try:
            protected, is_complete = await self._threads.run(self._protected, keys, collected)
            if not is_complete:
                await anyio.sleep(_TORN_PAUSE)
                again, _ = await self._threads.run(self._protected, keys, collected)
                protected |= again
        except OSError as error:
            # Where a tag cannot be read, each image may be the one that it points to.
            fault = IMAGES, error.strerror or str(error)
            return Protected(keys, (*collected.unreadable, fault))
        return Protected(protected, collected.unreadable)

    def _protected(self, keys: frozenset[Key], collected: Collected) -> tuple[frozenset[Key], bool]:
        """Resolve the references against an inventory of nothing but these images, with their tags as they are now.

        Also tells whether every tag that is named was there: hypeman moves a tag by removing and making its link,
        so one that is absent is worth a second look.
        """
        digests: dict[str, dict[str, Image]] = {}
        for name, digest in keys:
            digests.setdefault(name, {})[digest] = Image(digest, "ready")
        tags: dict[str, dict[str, str]] = {name: {} for name in digests}
        references = [
            reference for reference in collected.references if _names_one_of(reference, digests.keys())
        ]
        with opened(self._filesystem, step_into(self._filesystem, self._data_fd, IMAGES)) as images_fd:
            named = {(name, tag) for name, tag in named_tags(references) if name in tags}
            for name, tag in named:
                target = resolve_tag(self._filesystem, images_fd, name, tag)
                if target is not None:
                    tags[name][tag] = target
        inventory = Inventory(
            repositories={name: Repository(name, images, tags[name]) for name, images in digests.items()},
            references=references,
            remembered=collected.remembered,
        )
        is_complete = sum(map(len, tags.values())) == len(named)
        return frozenset(protect(inventory).sources), is_complete

    async def _remember(self, remembered: Mapping[tuple[str, str], Remembered]) -> None:
        self._remembered = remembered
        if remembered != self._written:
            self._written = None
            await self._threads.run(save_remembered, self._filesystem, self._data_fd, remembered)
            self._written = remembered


def _names_one_of(reference: Reference, repositories: Iterable[str]) -> bool:
    return any(
        parsed(text).repository in repositories
        for text in (reference.image, reference.resolved_image)
        if text
    )


def _checked(references: Iterable[Reference]) -> list[Reference]:
    """Check that an embedder's references parse, and that their times have a time zone.

    Raises:
        InvalidReferenceError: one does not.
        ValueError: a time has none.
    """
    checked = list(references)
    for reference in checked:
        for text in (reference.image, reference.resolved_image):
            if text:
                try:
                    parsed(text)
                except InvalidReferenceError as error:
                    raise InvalidReferenceError(f"{reference.source}: {error}") from None
        if reference.created_at is not None and reference.created_at.utcoffset() is None:
            raise ValueError(f"{reference.source}: a time needs a time zone: {reference.created_at!r}")
    return checked
