"""The scanner: it knows what lies in `images/`."""

from collections.abc import Iterable, Mapping, Set as AbstractSet
from typing import assert_never

import attrs

from hmret.actors.known_tree import KnownTree
from hmret.actors.mailbox import Actor, Request
from hmret.actors.readers import Readers
from hmret.actors.threads import Threads
from hmret.disk.cache_records import CacheRecord
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import opened, step_into
from hmret.disk.image_scan import (
    FolderScan,
    link_time,
    look_again,
    look_at_image,
    resolve_tag,
    scan_folder,
)
from hmret.disk.layout import IMAGES
from hmret.disk.reading import Kind, pack_images, read_images, understand_images, weigh
from hmret.model.images import Image, Key, Repository

__all__ = ["DoubtScan", "KeepScan", "LinkTimes", "LookAt", "ResolveTag", "Scan", "ScanResult", "Scanner"]

_RECORD: CacheRecord[FolderScan] = CacheRecord(
    "images.snapshot", pack_images, lambda packed: understand_images(packed)[0]
)

Tag = tuple[str, str]
"""A repository and a tag in it."""


@attrs.frozen
class ScanResult:
    """All of `images/`; what has not changed since the scan before is the very same object."""

    repositories: Mapping[str, Repository]
    unlisted: tuple[tuple[str, str], ...]
    """Folders below `images/` that could not be listed, and why."""
    newer_layout: tuple[str, ...]
    is_absent: bool
    """Whether there is no `images/` at all, perhaps because its disk is not mounted."""
    images: int
    """How many images there are."""


@attrs.frozen(eq=False, kw_only=True)
class Scan(Request[ScanResult]):
    """Asks for all images and tags."""


@attrs.frozen(eq=False, kw_only=True)
class KeepScan(Request[None]):
    """Asks to write down what is known, for the next start."""


@attrs.frozen(eq=False, kw_only=True)
class DoubtScan(Request[None]):
    """Says that what is known of some repositories is not so."""

    repositories: frozenset[str]


@attrs.frozen(eq=False, kw_only=True)
class LookAt(Request[Image | None]):
    """Asks for one image as it is now."""

    key: Key


@attrs.frozen(eq=False, kw_only=True)
class ResolveTag(Request[str | None]):
    """Asks which digest a tag points to now."""

    tag: Tag


@attrs.frozen(eq=False, kw_only=True)
class LinkTimes(Request[Mapping[Tag, int]]):
    """Asks when the links of some tags were made."""

    tags: frozenset[Tag]


class Scanner(Actor[Scan | KeepScan | DoubtScan | LookAt | ResolveTag | LinkTimes]):
    """The scanner actor."""

    def __init__(self, filesystem: Filesystem, data_fd: int, threads: Threads, readers: Readers) -> None:
        super().__init__()
        self._filesystem = filesystem
        self._data_fd = data_fd
        self._threads = threads
        self._tree = KnownTree(
            filesystem,
            data_fd,
            threads,
            readers,
            Kind.IMAGES,
            _RECORD,
            self._look,
            understand_images,
            weigh,
            _put_together,
            tell=self._count,
        )
        self.images_seen = 0
        """How many images the scan that runs, or the last one, has come to."""

    async def run(self) -> None:
        """Serve until closed."""
        await self._mailbox.serve(self._answer)

    async def scan(self) -> ScanResult:
        """Read all of `images/`."""
        return await self._mailbox.ask(Scan())

    async def keep(self) -> None:
        """Write down what is known, for the next start.

        Raises:
            OSError: it could not be written.
        """
        await self._mailbox.ask(KeepScan())

    async def doubt(self, repositories: AbstractSet[str]) -> None:
        """Say that what is known of some repositories is not so: they are read afresh the next time."""
        await self._mailbox.ask(DoubtScan(repositories=frozenset(repositories)))

    async def look_at(self, key: Key) -> Image | None:
        """Look at one image afresh."""
        return await self._mailbox.ask(LookAt(key=key))

    async def resolve_tag(self, repository: str, tag: str) -> str | None:
        """Read one tag afresh."""
        return await self._mailbox.ask(ResolveTag(tag=(repository, tag)))

    def guess(self, repository: str, tag: str) -> str | None:
        """Tell which digest a tag pointed to at the last scan, without a look; None where that is not known."""
        last = self._tree.last
        known = None if last is None else last.repositories.get(repository)
        return None if known is None else known.tags.get(tag)

    async def link_times(self, tags: Iterable[Tag]) -> Mapping[Tag, int]:
        """Tell when the links of some tags were made; those that are absent are left out."""
        chosen = frozenset(tags)
        return await self._mailbox.ask(LinkTimes(tags=chosen)) if chosen else {}

    async def _answer(self, request: Scan | KeepScan | DoubtScan | LookAt | ResolveTag | LinkTimes) -> object:
        match request:
            case Scan():
                return await self._scan()
            case KeepScan():
                await self._tree.keep()
            case DoubtScan():
                await self._tree.doubt(request.repositories)
            case LookAt():
                return await self._threads.run(self._look_at, request.key)
            case ResolveTag():
                return await self._threads.run(self._resolve_tag, request.tag)
            case LinkTimes():
                return await self._threads.run(self._link_times, request.tags)
            case _:
                assert_never(request)
        return None

    async def _scan(self) -> ScanResult:
        result = await self._tree.look_through(self._count_anew)
        self.images_seen = result.images
        return result

    def write_record(self) -> None:
        """Write down what is known, for the next start; while this actor runs, nobody else calls this.

        Raises:
            OSError: it could not be written.
        """
        self._tree.write_record()

    def _look(self, paths: list[str]) -> tuple[list[FolderScan], list[str]]:
        return read_images(self._filesystem, self._data_fd, paths, self._look_at_folder)

    def _count_anew(self) -> None:
        self.images_seen = 0

    def _count(self, images: int) -> None:
        self.images_seen += images

    def _look_at_folder(self, images_fd: int, path: str) -> tuple[FolderScan, int]:
        self._threads.pause()
        known = self._tree.cache.still(images_fd, path)
        if known is not None:
            return look_again(self._filesystem, images_fd, known), len(known.unsettled)
        before = self._tree.cache.known_in_part(path)
        folder = scan_folder(self._filesystem, images_fd, path, before, self._threads.pause)
        return folder, 1 + weigh(folder)

    def _look_at(self, key: Key) -> Image | None:
        try:
            with opened(self._filesystem, step_into(self._filesystem, self._data_fd, IMAGES)) as images_fd:
                return look_at_image(self._filesystem, images_fd, *key)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _resolve_tag(self, tag: Tag) -> str | None:
        try:
            with opened(self._filesystem, step_into(self._filesystem, self._data_fd, IMAGES)) as images_fd:
                return resolve_tag(self._filesystem, images_fd, *tag)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _link_times(self, tags: frozenset[Tag]) -> Mapping[Tag, int]:
        try:
            with opened(self._filesystem, step_into(self._filesystem, self._data_fd, IMAGES)) as images_fd:
                times = {tag: link_time(self._filesystem, images_fd, *tag) for tag in tags}
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {tag: moment for tag, moment in times.items() if moment is not None}


def _put_together(folders: Mapping[str, FolderScan]) -> ScanResult:
    repositories: dict[str, Repository] = {}
    unlisted: list[tuple[str, str]] = []
    newer: list[str] = []
    is_absent = False
    for path, folder in folders.items():
        newer.extend(folder.newer_layout)
        if isinstance(folder.error, FileNotFoundError):
            is_absent = True
        elif folder.error is not None:
            unlisted.append((path, folder.error.strerror or str(folder.error)))
        if folder.repository is not None:
            repositories[path] = folder.repository
    images = sum(len(repository.images) for repository in repositories.values())
    return ScanResult(repositories, tuple(sorted(unlisted)), tuple(newer), is_absent, images)
