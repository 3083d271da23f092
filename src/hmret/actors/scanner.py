"""The scanner: knows what is in `images/`."""

from collections.abc import Iterable, Iterator, Mapping, Set as AbstractSet
from contextlib import suppress

import attrs

from hmret.actors.threads import Threads
from hmret.actors.tree_actor import TreeActor
from hmret.disk.deletion.obstacles import find_obstacles
from hmret.disk.filesystem import Filesystem
from hmret.disk.hypeman.builds import NO_BUILDS, BuildsFound, look_at_builds
from hmret.disk.hypeman.content import is_part, part_of
from hmret.disk.hypeman.hidden import Hidden
from hmret.disk.hypeman.images import Oddity
from hmret.disk.hypeman.repositories import repository_of
from hmret.disk.hypeman.rows import Rows, RowsFound
from hmret.disk.hypeman.scan import FolderScan, OddTagError, link_time, look_at_image, resolve_tag
from hmret.disk.hypeman.unfinished import Unfinished, look_at_unfinished
from hmret.disk.layout import CONTENT, IMAGES, REPOSITORIES
from hmret.disk.scans.access_times import DiskOfRow, last_reads
from hmret.disk.scans.checkpoints import CacheRecord
from hmret.disk.scans.hard_links import HardLinks
from hmret.disk.scans.image_folders import ImageFolders
from hmret.disk.scans.packing import pack_images, read_images, unpack_images
from hmret.model.grouping import Timers
from hmret.model.images import ContentOwners, Image, Obstacle, Repository
from hmret.model.plan.selection import Choice
from hmret.model.references import Key, Reference
from hmret.model.values import frozen

_RECORD: CacheRecord[FolderScan] = CacheRecord("images.snapshot", pack_images, unpack_images)

_CONTENT_LAYOUT = frozenset((CONTENT, REPOSITORIES))
"""A repository may be hidden in any part of these: if one cannot be listed, nothing is known to be gone."""

Tag = tuple[str, str]
"""A repository and a tag in it."""


@frozen
class ScanResult:
    """All of `images/`; whatever has not changed since the previous scan is the same object."""

    rows: RowsFound
    """Which repository has which image."""
    unlisted: tuple[tuple[str, str], ...]
    """Folders below `images/` that could not be listed, and why."""
    hidden: tuple[Hidden, ...]
    """Links below `images/` that may hide images."""
    unknown_folders: tuple[str, ...]
    """Folders right below `images/` that belong to neither layout, and were not looked into."""
    oddities: tuple[Oddity, ...]
    tag_folders: Mapping[str, FolderScan]
    """The folders below `repositories/`, by path."""
    unsettled: Mapping[str, FolderScan]
    """Folders with images that are examined at every look (`FolderScan.unsettled`), and all parts of content."""
    is_absent: bool
    """Whether `images/` does not exist, perhaps because its disk is not mounted."""
    images: int
    """The number of rows: a digest counts once for each repository that has it."""
    builds: BuildsFound = NO_BUILDS
    details: Mapping[str, str] = attrs.field(factory=dict)
    """Notes on some images, by digest."""
    ghosts: tuple[str, ...] = ()
    """Digests of content that is ready according to its metadata, but has no disk."""

    @property
    def repositories(self) -> Mapping[str, Repository]:
        """The repositories with their images, by name."""
        return self.rows.repositories

    @property
    def contents(self) -> ContentOwners:
        """The owners of each content folder."""
        return self.rows.owners

    def image(self, key: Key) -> Image | None:
        """Return the image of a row; None: there is no such row."""
        repository = self.repositories.get(key[0])
        return None if repository is None else repository.images.get(key[1])

    @property
    def bases(self) -> tuple[Reference, ...]:
        """What images need of each other; the same object where nothing of that has changed."""
        return self.rows.bases

    @property
    def unlisted_names(self) -> tuple[str, ...]:
        """Repositories that may be hidden, including everything below them; the empty one means everything."""
        return tuple(
            "" if path in _CONTENT_LAYOUT or is_part(path) else repository_of(path) or path
            for path in (*(path for path, _ in self.unlisted), *(link.path for link in self.hidden))
        )

    @property
    def unpruned(self) -> tuple[str, ...]:
        """Repositories in and below which states must not be pruned; the empty one means everything."""
        return ("",) if self.is_absent else self.unlisted_names


class Scanner(TreeActor[FolderScan, ScanResult]):
    """The scanner actor.

    These bypass the mailbox:
        `guess` and `owners` look up the result of the last scan, which is replaced atomically; callers verify
        the answer; `images_seen` is a number for display; `write_record` is called after the actor has ended,
        when nothing else reads or changes what it writes.
    """

    def __init__(self, filesystem: Filesystem, data_fd: int, threads: Threads) -> None:
        super().__init__(filesystem, data_fd, threads, IMAGES, _RECORD)
        self._folders = ImageFolders(filesystem, self._cache, threads.pause)
        self._rows = Rows()
        self._links = HardLinks(self._look_at_disk)
        self._builds = NO_BUILDS
        self.images_seen = 0
        """How many images the current scan, or the last one, has reached."""

    async def scan(self) -> ScanResult:
        """Read all of `images/`."""
        return await self._ask(self._scan)

    async def invalidate(self, keys: AbstractSet[Key]) -> None:
        """Make the next scan read some images again, since what is cached of them is wrong."""
        names = {name for name, _ in keys}
        parts = {part_of(digest) for _, digest in keys}
        tags = (f"{REPOSITORIES}/{name}" for name in names)
        await self._ask(self._invalidate, {*names, *tags, *parts})

    async def inspect_image(self, key: Key, *, is_content: bool) -> Image | None:
        """Read one image again, from content or from its repository's own folder."""
        return await self._ask(self._threads.run, self._look_at, key, is_content)

    async def resolve_tag(self, repository: str, tag: str) -> str | None:
        """Return which digest a tag points to now."""
        return await self._ask(self._threads.run, self._resolve_tag, (repository, tag))

    def guess(self, repository: str, tag: str) -> str | None:
        """Return which digest a tag pointed to at the last scan; None if unknown."""
        last = self._last
        known = None if last is None else last.repositories.get(repository)
        return None if known is None else known.tags.get(tag)

    def owners(self, digest: str) -> tuple[str, ...] | None:
        """Return which repositories owned content at the last scan; None if there has been no scan."""
        last = self._last
        return None if last is None else last.contents.get(digest, ())

    async def find_obstacles(self, choices: Iterable[Choice]) -> dict[Key, Obstacle]:
        """Find which of some due images cannot be deleted, and why, keyed by the first row of each."""
        return await self._ask(self._on_disk_alone, find_obstacles, tuple(choices), self._threads.pause)

    async def link_times(self, tags: Iterable[Tag]) -> Mapping[Tag, int]:
        """Return when the links of some tags were created, omitting absent ones."""
        chosen = frozenset(tags)
        return await self._ask(self._threads.run, self._link_times, chosen) if chosen else {}

    async def last_reads(
        self, repositories: Mapping[str, Repository], timers: Timers, after_ns: int, now_ns: int
    ) -> Mapping[Key, int]:
        """Return when the disks of images with timers were last read, in nanoseconds since the epoch.

        Includes only disks that were read after `after_ns` and after their timers began, and not in the
        future.
        """
        return await self._ask(
            self._threads.run_alone, self._last_reads, repositories, timers, after_ns, now_ns
        )

    async def _scan(self) -> ScanResult:
        found = await self._look_through(self._count_anew)
        result = await self._threads.run_alone(self._look_beside, found)
        self.images_seen = result.images
        return result

    def _look(self, paths: list[str]) -> tuple[list[FolderScan], list[str]]:
        return read_images(
            self._filesystem, self._data_fd, paths, self._folders.read, self._folders.is_new_tags
        )

    def _count_anew(self) -> None:
        self.images_seen = 0

    def _count(self, weight: int) -> None:
        self.images_seen += weight

    def _look_beside(self, found: ScanResult) -> ScanResult:
        """Read what can change without changing image folders: build records, and unfinished work of hypeman's."""
        self._folders.end()
        builds = look_at_builds(self._filesystem, self._data_fd, self._builds, self._threads.pause)
        self._builds = builds
        unfinished = Unfinished()
        if found.unsettled:
            with suppress(OSError), self._opened(IMAGES) as images_fd:
                unfinished = look_at_unfinished(
                    self._filesystem, images_fd, found.unsettled, found.repositories
                )
        return attrs.evolve(
            found,
            builds=builds,
            oddities=(*found.oddities, *unfinished.oddities),
            details=unfinished.details,
            ghosts=tuple(_ghosts(found.unsettled)),
        )

    def _look_at(self, key: Key, is_content: bool) -> Image | None:
        repository, digest = key
        try:
            with self._opened(IMAGES) as images_fd:
                return look_at_image(self._filesystem, images_fd, None if is_content else repository, digest)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _look_at_disk(self, path: str, digest: str) -> Image | None:
        try:
            return self._look_at((path, digest), is_part(path))
        except OSError:
            return None

    def _resolve_tag(self, tag: Tag) -> str | None:
        try:
            with self._opened(IMAGES) as images_fd:
                return resolve_tag(self._filesystem, images_fd, *tag)
        except (FileNotFoundError, NotADirectoryError, OddTagError):
            return None

    def _put_together(self, folders: Mapping[str, FolderScan]) -> ScanResult:
        """Combine all folders into one value, reused until something in them changes."""
        folders = self._links.amend(folders)
        rows = self._rows.put_together(folders)
        unlisted: list[tuple[str, str]] = []
        hidden: list[Hidden] = []
        unknown: list[str] = []
        oddities: list[Oddity] = []
        is_absent = False
        for path, folder in folders.items():
            hidden.extend(folder.hidden)
            unknown.extend(folder.unknown_folders)
            oddities.extend(folder.oddities)
            if isinstance(folder.error, FileNotFoundError):
                is_absent = True
            elif folder.error is not None:
                unlisted.append((path, folder.error.strerror or str(folder.error)))
        ownerless = (("content_without_owner", path, "no repository has it") for path in rows.ownerless)
        return ScanResult(
            rows,
            tuple(sorted(unlisted)),
            tuple(sorted(hidden)),
            tuple(unknown),
            (*sorted(oddities), *ownerless),
            {path: folder for path, folder in folders.items() if path.startswith(REPOSITORIES)},
            {path: folder for path, folder in folders.items() if folder.unsettled or is_part(path)},
            is_absent,
            sum(len(repository.images) for repository in rows.repositories.values()),
        )

    def _last_reads(
        self, repositories: Mapping[str, Repository], timers: Timers, after_ns: int, now_ns: int
    ) -> Mapping[Key, int]:
        disks = _disks(repositories, timers)
        found = last_reads(
            self._filesystem,
            self._data_fd,
            disks,
            after_ns=after_ns,
            now_ns=now_ns,
            pause=self._threads.pause,
        )
        return {key: read_ns for key, read_ns in found.items() if read_ns > (timers[key] or 0)}

    def _link_times(self, tags: frozenset[Tag]) -> Mapping[Tag, int]:
        try:
            with self._opened(IMAGES) as images_fd:
                times = {tag: link_time(self._filesystem, images_fd, *tag) for tag in tags}
        except OSError:
            # A link of unknown age protects everything that it may have pointed to.
            return {}
        return {tag: moment for tag, moment in times.items() if moment is not None}


def _disks(repositories: Mapping[str, Repository], timers: Timers) -> Iterator[DiskOfRow]:
    """List the rows that have timers, with the folders of each."""
    for name, by_digest in timers.by_repository.items():
        repository = repositories.get(name)
        for digest in () if repository is None else by_digest:
            image = repository.images.get(digest) if repository is not None else None
            if image is not None:
                yield (name, digest), image.is_content, not image.is_content or image.copy is not None


def _ghosts(folders: Mapping[str, FolderScan]) -> Iterator[str]:
    """List the digests of content that is ready according to its metadata, but has no disk."""
    for path, folder in folders.items():
        if is_part(path):
            for digest in folder.unsettled:
                image = folder.images[digest]
                if image.status == "ready" and digest not in folder.with_disk:
                    yield digest
