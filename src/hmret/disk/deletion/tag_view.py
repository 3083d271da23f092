"""Who links to which digest below `images/repositories/`, as it is now: the scan's folders, but for those that changed.

A folder that has the time stamps that the scan saw holds the tags that the scan saw. So one `stat` of each is the whole
look, and only what has changed is listed.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Set as AbstractSet

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

__all__ = ["Linkers", "TagView"]

_FRESH_NS = 60 * SECOND
"""A tag that is being made counts as made for so long."""


@attrs.frozen
class Linkers:
    """The tags that lead to digests, at one moment."""

    _folders: Mapping[str, FolderScan]
    _changed: Mapping[str, FolderScan]
    """Those that are not what the scan saw."""
    _staged: Mapping[str, AbstractSet[str]]
    """By digest: the repositories in which a tag to it is being made."""
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
        return found | self._staged.get(digest, frozenset())

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
        staged: dict[str, set[str]] = {}
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

    def _note_staged(self, images_fd: int, path: str, staged: dict[str, set[str]]) -> None:
        """Look at the tags that are being made in a folder."""
        name = repository_of(path)
        if name is None:
            return
        filesystem = self.filesystem
        try:
            with opened(filesystem, open_folder(filesystem, path, images_fd)) as fd:
                for stage in list_entries(filesystem, fd).folders:
                    if not stage.startswith(TAG_STAGE):
                        continue
                    made = filesystem.stat(stage, dir_fd=fd, follow_symlinks=False)
                    if made.st_mtime_ns < filesystem.now_ns() - _FRESH_NS:
                        continue
                    with opened(filesystem, open_folder(filesystem, stage, fd)) as stage_fd:
                        for tag in filter(TAG_NAME.fullmatch, list_entries(filesystem, stage_fd).links):
                            # It is written for the folder to which it will be moved.
                            target = filesystem.readlink(tag, dir_fd=stage_fd)
                            hexadecimal = pointed_to(f"{IMAGES}/{path}", target)
                            if hexadecimal is not None:
                                staged.setdefault(digest_of(hexadecimal), set()).add(name)
        except FileNotFoundError:
            # It has been moved to its place meanwhile, and the next look finds it there.
            return
