"""Which repositories link to which digest below `images/repositories/` now: the scan's folders, updated where changed.

A folder with the time stamps that it last had holds the tags that it held then. So checking all folders takes
one call for hundreds of them, and only those that have changed are listed.
"""

import errno
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Set as AbstractSet
from contextlib import suppress

import attrs

from hmret.disk.filesystem import FileFound, Filesystem
from hmret.disk.fingerprints import stable_since
from hmret.disk.folders import open_folder, opened, opened_folder
from hmret.disk.hypeman.images import NOTHING, FolderScan
from hmret.disk.hypeman.links import pointed_to
from hmret.disk.hypeman.repositories import is_host, list_entries, read_tags, repository_of
from hmret.disk.layout import FOLDER_NAME, IMAGES, REPOSITORIES, TAG_NAME, TAG_STAGE, digest_of
from hmret.model.plan.effective_rules import tags_by_digest
from hmret.model.references import is_repository
from hmret.model.times import SECOND
from hmret.model.values import define, frozen

_FRESH_NS = 60 * SECOND
"""How long a tag in preparation counts as one that will be made."""

_BATCH = 512
"""Folders that are checked in one call."""

_NO_TAGS: Mapping[str, str] = {}
_NO_DIGESTS: Mapping[str, tuple[str, ...]] = {}


@frozen
class _Folder:
    """One folder, as it was last listed."""

    tags: Mapping[str, str] = _NO_TAGS
    """Tag to digest, in the repository whose folder it is."""
    subfolders: tuple[str, ...] = ()
    found: FileFound | None = None
    """The status with which it counts as unchanged; None: it is listed at every look."""


_ABSENT = _Folder()


@frozen
class TagSnapshot:
    """The tags below `repositories/` at one moment, and the digests that they lead to."""

    _folders: Mapping[str, _Folder]
    _added: Mapping[str, tuple[str, ...]]
    """By digest: repositories with a tag to it that the scan did not see, possibly found by a later look."""
    _staged: Mapping[str, AbstractSet[tuple[str, str]]]
    """By digest: the tags to it that are being made, as repository and tag."""
    _inverted: dict[str, tuple[Mapping[str, str], Mapping[str, tuple[str, ...]]]]
    """By path: tags, and the same by digest; an entry is out of date where its tags have changed since."""

    def tags(self, repository: str, digest: str) -> tuple[str, ...]:
        """List the tags of a repository that lead to a digest."""
        return self._by_digest(f"{REPOSITORIES}/{repository}").get(digest, ())

    def repositories(self, digest: str, scanned: Iterable[str]) -> set[str]:
        """List the repositories with a tag that leads to a digest, made or being made.

        `scanned`: those that had one by the scan, and perhaps others.
        """
        found = {name for name in (*scanned, *self._added.get(digest, ())) if self.tags(name, digest)}
        found.update(name for name, _ in self._staged.get(digest, ()))
        return found

    def staged(self, digest: str) -> Iterator[tuple[str, str]]:
        """List the tags to a digest that are being made and are not there yet, as repository and tag."""
        return (
            (name, tag) for name, tag in self._staged.get(digest, ()) if tag not in self.tags(name, digest)
        )

    def _by_digest(self, path: str) -> Mapping[str, tuple[str, ...]]:
        folder = self._folders.get(path)
        if folder is None or not folder.tags:
            return _NO_DIGESTS
        tags, inverted = self._inverted.get(path, (None, _NO_DIGESTS))
        if tags is not folder.tags:
            inverted = tags_by_digest(folder.tags)
            self._inverted[path] = folder.tags, inverted
        return inverted


EMPTY_SNAPSHOT = TagSnapshot({}, {}, {}, {})
"""The value where there is no `images/`."""


@define(eq=False)
class TagFolders:
    """The folders of tags as they were last seen, for repeated looks from several threads.

    A folder that has not changed since is not listed again.
    """

    filesystem: Filesystem
    scanned: Mapping[str, FolderScan]
    """The folders as the scan saw them, by path; empty: nothing is known, and all are listed."""
    _folders: dict[str, _Folder] = attrs.field(factory=dict, init=False)
    """As they were last seen, each after its parent."""
    _added: dict[str, tuple[str, ...]] = attrs.field(factory=dict, init=False)
    _added_in: dict[str, AbstractSet[str]] = attrs.field(factory=dict, init=False)
    """By path: the digests of its tags, except those that the scan saw."""
    _inverted: dict[str, tuple[Mapping[str, str], Mapping[str, tuple[str, ...]]]] = attrs.field(
        factory=dict, init=False
    )
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def refresh(self, images_fd: int, pause: Callable[[], None] = lambda: None) -> TagSnapshot:
        """Look at all folders again, and list those that have changed.

        Raises:
            OSError: one could not be listed, so it is unknown which repositories link to what.
        """
        with self._lock:
            looking = _Looking.begin(self.filesystem, images_fd, pause)
            folders = self._look_at_known(looking)
            if folders is None:
                folders = self._walk(looking)
            self._note(folders)
            return TagSnapshot(folders, self._added, looking.staged, self._inverted)

    def _look_at_known(self, looking: "_Looking") -> dict[str, _Folder] | None:
        """Check the folders of the last look; None where some were added or removed, so all must be found again."""
        folders = self._folders.copy()
        for (path, known), answer in zip(self._folders.items(), looking.stat([*folders]), strict=True):
            # guard(changed-tag-folders-relisted): A tag set since the scan keeps its content: a folder of
            # tags that has changed is listed again.
            if known.found != answer:
                folders[path] = looking.list_folder(path, answer)
                if folders[path].subfolders != known.subfolders:
                    return None
        return folders or None

    def _walk(self, looking: "_Looking") -> dict[str, _Folder]:
        """Find all folders, and list those that have changed since the scan or an earlier look."""
        folders: dict[str, _Folder] = {}
        waiting = [REPOSITORIES]
        while waiting:
            paths, waiting = waiting, []
            for path, answer in zip(paths, looking.stat(paths), strict=True):
                known = self._folders.get(path) or self._as_scanned(path, answer)
                if known is None or known.found != answer:
                    known = looking.list_folder(path, answer)
                folders[path] = known
                waiting.extend(known.subfolders)
        return folders

    def _as_scanned(self, path: str, answer: FileFound | int) -> _Folder | None:
        """Return a folder as the scan saw it; None where it has changed since."""
        scanned = self.scanned.get(path)
        if scanned is None or isinstance(answer, int) or scanned.fingerprint != answer[1:]:
            return None
        return _Folder(scanned.tags, scanned.subfolders, answer)

    def _note(self, folders: dict[str, _Folder]) -> None:
        """Store the folders as they are now."""
        before, self._folders = self._folders, folders
        for path in before.keys() - folders.keys():
            self._note_tags(path, _NO_TAGS)
        for path, folder in folders.items():
            if folder is not before.get(path):
                self._note_tags(path, folder.tags)

    def _note_tags(self, path: str, tags: Mapping[str, str]) -> None:
        """Store the tags in a folder that the scan did not see there."""
        name = repository_of(path)
        known = self.scanned.get(path, NOTHING).tags
        added = {digest for _, digest in tags.items() - known.items()} if tags is not known else frozenset()
        earlier = self._added_in.get(path, frozenset())
        if name is None or added == earlier:
            return
        self._added_in[path] = added
        # Other threads read this concurrently: each digest keeps its names at every moment.
        for digest in earlier - added:
            self._added[digest] = tuple(other for other in self._added[digest] if other != name)
        for digest in added - earlier:
            self._added[digest] = (*self._added.get(digest, ()), name)


@define(eq=False)
class _Looking:
    """One look at the folders."""

    filesystem: Filesystem
    images_fd: int
    pause: Callable[[], None]
    device: int
    """That of `images/`."""
    looked_ns: int
    """The file system's time from before the look."""
    earliest_ns: int | None
    """The earliest stamp that the next change of any folder can get, if it is on the same file system."""
    staged: dict[str, set[tuple[str, str]]] = attrs.field(factory=dict, init=False)
    """By digest: the tags to it that are being made, as repository and tag."""

    @classmethod
    def begin(cls, filesystem: Filesystem, images_fd: int, pause: Callable[[], None]) -> "_Looking":
        """Begin a look: the clocks are asked before anything is examined."""
        device = filesystem.fstat(images_fd).st_dev
        looked_ns, earliest_ns = filesystem.now_ns(), filesystem.earliest_stamp_ns(images_fd)
        return cls(filesystem, images_fd, pause, device, looked_ns, earliest_ns)

    def stat(self, paths: list[str]) -> list[FileFound | int]:
        """Return the status of folders, without listing them."""
        answers: list[FileFound | int] = []
        for start in range(0, len(paths), _BATCH):
            answers += self.filesystem.stat_files(self.images_fd, paths[start : start + _BATCH])
            self.pause()
        return answers

    def list_folder(self, path: str, answer: FileFound | int) -> _Folder:
        """List a folder whose status was `answer` before that.

        Raises:
            OSError: it could not be listed.
        """
        filesystem = self.filesystem
        try:
            fd = open_folder(filesystem, path, self.images_fd)
        except FileNotFoundError:
            return _ABSENT
        except OSError as error:
            # guard(unlisted-tags-are-unknown): A folder that cannot be listed may hold a tag to any digest;
            # taken for empty, it would let content in use go.
            if path == REPOSITORIES or error.errno != errno.ENOTDIR:
                raise
            return _ABSENT
        with opened(filesystem, fd):
            entries = list_entries(filesystem, fd)
            below = filter(FOLDER_NAME.fullmatch, entries.folders)
            name = repository_of(path)
            if name is None:
                below = filter(is_host, below)
            tags = _NO_TAGS
            is_staging = False
            if name is not None and is_repository(name):
                tags = read_tags(filesystem, fd, path, entries).tags
                is_staging = any(folder.startswith(TAG_STAGE) for folder in entries.folders)
                if is_staging:
                    for tag, digest in staged_in(filesystem, fd, f"{IMAGES}/{path}"):
                        self.staged.setdefault(digest, set()).add((name, tag))
        self.pause()
        subfolders = tuple(f"{path}/{folder}" for folder in below)
        return _Folder(tags, subfolders, None if is_staging else self._settled(answer))

    def _settled(self, answer: FileFound | int) -> FileFound | None:
        """Return a folder's status if it would show any change from now on; else None."""
        if isinstance(answer, int):
            return None
        _, device, _, _, *stamps = answer
        earliest_ns = self.earliest_ns if device == self.device else None
        return answer if stable_since(max(stamps), self.looked_ns, earliest_ns) else None


def staged_in(filesystem: Filesystem, folder_fd: int, folder: str) -> Iterator[tuple[str, str]]:
    """List the tags being made in an open folder, with their digests; `folder`: its path below the data directory.

    Raises:
        OSError: one could not be read.
    """
    for stage in list_entries(filesystem, folder_fd).folders:
        if not stage.startswith(TAG_STAGE):
            continue
        # A tag that was moved into place in between is found there by the next look.
        with suppress(FileNotFoundError):
            made = filesystem.stat(stage, dir_fd=folder_fd, follow_symlinks=False)
            # guard(fresh-stage-counts): A tag being made needs its content already; only a stage left behind
            # more than a minute ago is ignored.
            if made.st_mtime_ns < filesystem.now_ns() - _FRESH_NS:
                continue
            with opened_folder(filesystem, stage, folder_fd) as stage_fd:
                for tag in filter(TAG_NAME.fullmatch, list_entries(filesystem, stage_fd).links):
                    # The target is written for the folder to which the tag will be moved.
                    hexadecimal = pointed_to(folder, filesystem.readlink(tag, dir_fd=stage_fd))
                    if hexadecimal is not None:
                        yield tag, digest_of(hexadecimal)
