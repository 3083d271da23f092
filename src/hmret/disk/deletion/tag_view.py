"""Who links to which digest below `images/repositories/`, as it is now: the scan's folders, but for those that changed.

A folder that has the time stamps that the scan saw holds the tags that the scan saw. So one `stat` of each is the whole
look, and only what has changed is listed.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Set as AbstractSet
from contextlib import suppress

import attrs

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import open_folder, opened
from hmret.disk.hypeman.images import FolderScan
from hmret.disk.hypeman.links import pointed_to
from hmret.disk.hypeman.repositories import list_entries, repository_of, scan_tag_folder
from hmret.disk.layout import IMAGES, REPOSITORIES, TAG_NAME, TAG_STAGE, digest_of
from hmret.disk.signatures import is_still
from hmret.model.terms import tags_by_digest
from hmret.model.times import SECOND

__all__ = ["NO_LINKERS", "Linkers", "TagView", "staged_in"]

_FRESH_NS = 60 * SECOND
"""A tag that is being made counts as made for so long."""


@attrs.frozen
class Linkers:
    """The tags that lead to digests, at one moment."""

    _folders: Mapping[str, FolderScan]
    _changed: Mapping[str, FolderScan]
    """Those that are not what the scan saw."""
    _staged: Mapping[str, AbstractSet[tuple[str, str]]]
    """By digest: the tags to it that are being made, as repository and tag."""
    _tags: dict[str, Mapping[str, tuple[str, ...]]] = attrs.field(factory=dict, init=False)

    def tags(self, repository: str, digest: str) -> tuple[str, ...]:
        """List the tags of a repository that lead to a digest."""
        return self._by_digest(f"{REPOSITORIES}/{repository}").get(digest, ())

    def repositories(self, digest: str, scanned: Iterable[str]) -> set[str]:
        """List the repositories with a tag that leads to a digest, made or being made.

        `scanned`: those that had one, as the scan saw it, and perhaps others.
        """
        found = {name for name in scanned if self._links(f"{REPOSITORIES}/{name}", digest)}
        for path in self._changed:
            name = repository_of(path)
            if name is not None and self._links(path, digest):
                found.add(name)
        return found | {name for name, _ in self._staged.get(digest, ())}

    def staged(self, digest: str) -> Iterator[tuple[str, str]]:
        """List the tags to a digest that are being made and are not there yet, as repository and tag."""
        return (
            (name, tag) for name, tag in self._staged.get(digest, ()) if tag not in self.tags(name, digest)
        )

    def targets(self) -> set[str]:
        """List the digests that tags lead to in the folders that are not what the scan saw."""
        found = set(self._staged)
        for folder in self._changed.values():
            if folder.repository is not None:
                found.update(folder.repository.tags.values())
        return found

    def _links(self, path: str, digest: str) -> bool:
        return digest in self._by_digest(path)

    def _by_digest(self, path: str) -> Mapping[str, tuple[str, ...]]:
        if path not in self._tags:
            folder = self._folders.get(path)
            self._tags[path] = (
                {} if folder is None or folder.repository is None else tags_by_digest(folder.repository)
            )
        return self._tags[path]


NO_LINKERS = Linkers({}, {}, {})
"""Where there is no `images/`."""


@attrs.define(eq=False)
class TagView:
    """Looks again and again, from several threads; what was found the last time need not be listed again."""

    filesystem: Filesystem
    scanned: Mapping[str, FolderScan]
    """The folders as the scan saw them, by path; empty: nothing is known, and all are listed."""
    _latest: dict[str, FolderScan] = attrs.field(factory=dict, init=False)
    """Those that have changed since, as they were last seen."""
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def look(self, images_fd: int, pause: Callable[[], None] = lambda: None) -> Linkers:
        """Look at all folders.

        Raises:
            OSError: one could not be listed: then nobody knows who links to what.
        """
        with self._lock:
            return self._look(images_fd, pause)

    def _look(self, images_fd: int, pause: Callable[[], None]) -> Linkers:
        folders: dict[str, FolderScan] = {}
        changed: dict[str, FolderScan] = {}
        staged: dict[str, set[tuple[str, str]]] = {}
        waiting = [REPOSITORIES]
        while waiting:
            path = waiting.pop()
            known = self._latest.get(path) or self.scanned.get(path)
            if (
                known is None
                or known.signature is None
                or not is_still(self.filesystem, path, images_fd, known.signature)
            ):
                known = scan_tag_folder(self.filesystem, images_fd, path)
                if known.error is not None:
                    raise known.error
                changed[path] = known
                self._note_staged(images_fd, path, staged)
            elif path in self._latest:
                changed[path] = known
            folders[path] = known
            waiting.extend(known.subfolders)
            pause()
        self._latest = changed
        return Linkers(folders, changed, staged)

    def _note_staged(self, images_fd: int, path: str, staged: dict[str, set[tuple[str, str]]]) -> None:
        """Look at the tags that are being made in a folder."""
        name = repository_of(path)
        if name is None:
            return
        with (
            suppress(FileNotFoundError),
            opened(self.filesystem, open_folder(self.filesystem, path, images_fd)) as fd,
        ):
            for tag, digest in staged_in(self.filesystem, fd, f"{IMAGES}/{path}"):
                staged.setdefault(digest, set()).add((name, tag))


def staged_in(filesystem: Filesystem, folder_fd: int, folder: str) -> Iterator[tuple[str, str]]:
    """List the tags that are being made in an open folder, whose path below the data directory is given, with their digests.

    Raises:
        OSError: one could not be read.
    """
    for stage in list_entries(filesystem, folder_fd).folders:
        if not stage.startswith(TAG_STAGE):
            continue
        # One that has been moved to its place meanwhile is found there by the next look.
        with suppress(FileNotFoundError):
            made = filesystem.stat(stage, dir_fd=folder_fd, follow_symlinks=False)
            if made.st_mtime_ns < filesystem.now_ns() - _FRESH_NS:
                continue
            with opened(filesystem, open_folder(filesystem, stage, folder_fd)) as stage_fd:
                for tag in filter(TAG_NAME.fullmatch, list_entries(filesystem, stage_fd).links):
                    # It is written for the folder to which it will be moved.
                    hexadecimal = pointed_to(folder, filesystem.readlink(tag, dir_fd=stage_fd))
                    if hexadecimal is not None:
                        yield tag, digest_of(hexadecimal)
