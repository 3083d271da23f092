"""The scanner: it knows what lies in `images/`."""

from collections.abc import Iterable, Mapping
from typing import assert_never

import attrs

from hmret.actors.mailbox import Actor, Request
from hmret.actors.threads import Threads
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import opened, step_into
from hmret.disk.image_scan import FolderScan, link_time, look_at_image, resolve_tag, scan_folder
from hmret.disk.layout import IMAGES
from hmret.model.images import Image, Key, Repository

__all__ = ["LinkTimes", "LookAt", "ResolveTag", "Scan", "ScanResult", "Scanner"]

# Images read in one thread hop: some 5 ms of work, so that a stop need not wait longer.
_BATCH = 500

Tag = tuple[str, str]
"""A repository and a tag in it."""


@attrs.frozen
class ScanResult:
    """All of `images/`."""

    repositories: Mapping[str, Repository]
    unlisted: tuple[tuple[str, str], ...]
    """Folders below `images/` that could not be listed, and why."""
    newer_layout: tuple[str, ...]
    is_absent: bool
    """Whether there is no `images/` at all, perhaps because its disk is not mounted."""


@attrs.frozen(eq=False, kw_only=True)
class Scan(Request[ScanResult]):
    """Asks for all images and tags."""


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


class Scanner(Actor[Scan | LookAt | ResolveTag | LinkTimes]):
    """The scanner actor."""

    def __init__(self, filesystem: Filesystem, data_fd: int, threads: Threads) -> None:
        super().__init__()
        self._filesystem = filesystem
        self._data_fd = data_fd
        self._threads = threads
        self.images_seen = 0
        """How many images the scan that runs, or the last one, has come to."""

    async def run(self) -> None:
        """Serve until closed."""
        await self._mailbox.serve(self._answer)

    async def scan(self) -> ScanResult:
        """Read all of `images/`."""
        return await self._mailbox.ask(Scan())

    async def look_at(self, key: Key) -> Image | None:
        """Look at one image afresh."""
        return await self._mailbox.ask(LookAt(key=key))

    async def resolve_tag(self, repository: str, tag: str) -> str | None:
        """Read one tag afresh."""
        return await self._mailbox.ask(ResolveTag(tag=(repository, tag)))

    async def link_times(self, tags: Iterable[Tag]) -> Mapping[Tag, int]:
        """Tell when the links of some tags were made; those that are absent are left out."""
        chosen = frozenset(tags)
        return await self._mailbox.ask(LinkTimes(tags=chosen)) if chosen else {}

    async def _answer(self, request: Scan | LookAt | ResolveTag | LinkTimes) -> object:
        match request:
            case Scan():
                return await self._scan()
            case LookAt():
                return await self._threads.run(self._look_at, request.key)
            case ResolveTag():
                return await self._threads.run(self._resolve_tag, request.tag)
            case LinkTimes():
                return await self._threads.run(self._link_times, request.tags)
            case _:
                assert_never(request)

    async def _scan(self) -> ScanResult:
        self.images_seen = 0
        repositories: dict[str, Repository] = {}
        unlisted: list[tuple[str, str]] = []
        newer: list[str] = []
        folders = [""]
        is_absent = False
        while folders:
            for found in await self._threads.run(self._scan_batch, folders):
                newer.extend(found.newer_layout)
                if isinstance(found.error, FileNotFoundError):
                    is_absent = True
                elif found.error is not None:
                    unlisted.append((found.path, found.error.strerror or str(found.error)))
                if found.repository is not None:
                    repositories[found.path] = found.repository
                    self.images_seen += len(found.repository.images)
        return ScanResult(repositories, tuple(sorted(unlisted)), tuple(newer), is_absent)

    def _scan_batch(self, folders: list[str]) -> list[FolderScan]:
        """Take folders off the list and read them and what is in them, until a batch is read or none is left."""
        try:
            images_fd = step_into(self._filesystem, self._data_fd, IMAGES)
        except OSError as error:
            folders.clear()
            return [FolderScan("", error=error)]
        found: list[FolderScan] = []
        images = 0
        with opened(self._filesystem, images_fd):
            while folders and images < _BATCH:
                found.append(scan_folder(self._filesystem, images_fd, folders.pop()))
                folders.extend(found[-1].subfolders)
                repository = found[-1].repository
                images += 1 if repository is None else len(repository.images) + 1
        return found

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
