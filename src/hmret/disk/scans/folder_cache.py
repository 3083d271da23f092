"""The scan results of a tree of folders, each kept as long as its folder has not changed.

One call compares all known folders with their fingerprints, and only folders that differ are examined. A
folder is read again when its fingerprint changes, and in any case every few hours. In between it is trusted:
a change that a folder's own time stamps do not show, such as a file written in place below it, is seen that
much later.
"""

from collections.abc import Iterable, Iterator, Mapping, Set as AbstractSet
from typing import Generic, Protocol, TypeVar
from zlib import crc32

from hmret.disk.filesystem import Filesystem
from hmret.disk.fingerprints import Fingerprint, is_unchanged
from hmret.disk.watched_paths import WatchedPaths
from hmret.model.times import SECOND

_LONGEST_TRUST_NS = 4 * 3600 * SECOND
_SHORTEST_TRUST_NS = 2 * 3600 * SECOND


class Folder(Protocol):
    """The scan result of one folder."""

    @property
    def path(self) -> str:
        """Below the top of the tree; empty: the top itself."""
        ...

    @property
    def subfolders(self) -> tuple[str, ...]:
        """Paths of the folders in it that are to be read too."""
        ...

    @property
    def fingerprint(self) -> Fingerprint | None:
        """The fingerprint that the folder must still have for this to be valid; None: it is read every time."""
        ...

    @property
    def is_settled(self) -> bool:
        """Whether it need not be examined while it has its fingerprint."""
        ...

    @property
    def listed_in(self) -> str | None:
        """The folder whose listing shows whether this has changed; None: it is a folder of its own."""
        ...


F = TypeVar("F", bound=Folder)


class FolderCache(Generic[F]):
    """The folders of one tree, which is scanned repeatedly.

    One scan at a time: `begin`, then `find_changed`, then `take`, read and `put` until nothing is left to
    take, then `end`. Only `find_changed`, `is_new`, `still` and `known_in_part` may be called from
    threads.
    """

    def __init__(self, filesystem: Filesystem) -> None:
        self._filesystem = filesystem
        self._known: Mapping[str, F] = {}
        self._trusted_until_ns: dict[str, int] = {}
        self._watched: WatchedPaths | None = None
        """All known folders that can be compared in one call; None: the list must be built again."""
        self._has_gaps = False
        """Whether a folder may be known although not all folders below it are."""
        self._found: dict[str, F] = {}
        self._now_ns = 0
        """When this scan began."""
        self._waiting: list[str] = []
        self._asked: set[str] = set()
        """All folders that wait, have waited, or have been put in."""
        self._built_upon: set[str] = set()
        """Folders that this scan does not read in full: what is known of them counts as being as old as
        before.
        """

    def begin(self) -> None:
        """Begin a scan from the top of the tree; the remains of an unfinished scan are dropped."""
        self._found = {}
        self._waiting = [""]
        self._asked = {""}
        self._built_upon = set()
        self._now_ns = self._filesystem.now_ns()

    def find_changed(self, root_fd: int) -> None:
        """Compare everything that is known with its fingerprint; unchanged folders need not be examined."""
        known = self._known
        if "" not in known:
            return
        if self._watched is None:
            self._watched = WatchedPaths(
                (path or ".", folder.fingerprint)
                for path, folder in known.items()
                if folder.fingerprint is not None and folder.listed_in is None
            )
        watched = self._watched.paths
        changed = {watched[number] for number in self._watched.changed(self._filesystem, root_fd)}
        now_ns, trusted = self._now_ns, self._trusted_until_ns
        due = [
            path
            for path, folder in known.items()
            if (path or ".") in changed
            or folder.fingerprint is None
            or not folder.is_settled
            or not 0 < trusted.get(path, now_ns) - now_ns <= _LONGEST_TRUST_NS
        ]
        if self._has_gaps:
            due += [below for folder in known.values() for below in folder.subfolders if below not in known]
        self._asked = set(due)
        # What is listed in a folder that is due is examined after that folder.
        self._waiting = [
            path for path in due if path not in known or known[path].listed_in not in self._asked
        ]
        self._asked = set(self._waiting)
        self._found = {path: folder for path, folder in known.items() if path not in self._asked}

    def export(self) -> Iterator[tuple[F, int]]:
        """List what is known and may be trusted later, and until when, in nanoseconds since the epoch."""
        for path, folder in self._known.items():
            if folder.fingerprint is not None:
                yield folder, self._trusted_until_ns.get(path, 0)

    def restore(self, folders: Iterable[tuple[F, int]]) -> None:
        """Take over what another cache has exported; each folder still counts only while it has its fingerprint."""
        found = list(folders)
        self._watched, self._has_gaps = None, True
        self._known = {folder.path: folder for folder, _ in found}
        self._trusted_until_ns = {folder.path: until_ns for folder, until_ns in found}

    def invalidate(self, paths: AbstractSet[str]) -> None:
        """Stop trusting some folders, whatever their fingerprints: the next scan reads them in full."""
        self._known = {path: folder for path, folder in self._known.items() if path not in paths}
        self._watched, self._has_gaps = None, True

    @property
    def waiting(self) -> int:
        """How many folders wait to be taken."""
        return len(self._waiting)

    def take(self, count: int) -> list[str]:
        """Take some paths to examine."""
        taken = self._waiting[-count:]
        del self._waiting[-count:]
        return taken

    def give_back(self, paths: Iterable[str]) -> None:
        """Put back paths that were not examined after all."""
        self._waiting.extend(paths)

    def known(self, path: str) -> F | None:
        """Return the last scan result of a folder."""
        return self._known.get(path)

    def is_new(self, path: str) -> bool:
        """Return whether nothing is known of a folder that may be trusted, so that it must be read in full."""
        return path not in self._known or not self._is_trusted(path, self._now_ns)

    def known_in_part(self, path: str) -> F | None:
        """Return the last scan result of a folder that has changed; None where it must be read in full."""
        known = self._known.get(path)
        if known is None or not self._is_trusted(path, self._filesystem.now_ns()):
            return None
        self._built_upon.add(path)
        return known

    def still(self, root_fd: int, path: str, fingerprint: Fingerprint | None = None) -> F | None:
        """Return the scan result of a folder if it is known, unchanged, and was read not too long ago.

        `fingerprint`: its current one; None: `stat` is asked.
        """
        known = self._known.get(path)
        if known is None or known.fingerprint is None:
            return None
        if not self._is_trusted(path, self._now_ns):
            return None
        if fingerprint is None:
            if not is_unchanged(self._filesystem, path or ".", root_fd, known.fingerprint):
                return None
        elif fingerprint != known.fingerprint:
            return None
        self._built_upon.add(path)
        return known

    def put(self, folders: Iterable[F]) -> None:
        """Store scan results; folders below them that are not known, or are listed there, are then to be taken."""
        for folder in folders:
            path = folder.path
            self._found[path] = folder
            self._asked.add(path)
            for below in folder.subfolders:
                if below in self._asked:
                    continue
                known = self._found.get(below)
                if known is None or known.listed_in == path:
                    self._asked.add(below)
                    self._waiting.append(below)

    def end(self) -> tuple[Mapping[str, F], bool]:
        """End the scan; returns all folders, and whether anything has changed."""
        known = self._known
        if not self._asked:
            return known, False
        found = self._reached()
        self._found, self._has_gaps = {}, False
        is_new = len(found) != len(known)
        now_ns = self._filesystem.now_ns()
        for path in self._asked:
            folder = found.get(path)
            if folder is None or known.get(path) is folder:
                continue
            is_new = True
            # guard(partial-read-renews-nothing): A folder that changes often is read only in part, so the
            # rest is as old as it was and its full reading is still due.
            if path not in self._built_upon:
                self._trusted_until_ns[path] = now_ns + _trust_ns(path)
        if len(self._trusted_until_ns) > len(found):
            self._trusted_until_ns = {path: self._trusted_until_ns[path] for path in found}
        if is_new:
            self._known, self._watched = found, None
        return self._known, is_new

    def _reached(self) -> dict[str, F]:
        """List the results as far as their parent folders still list them."""
        found: dict[str, F] = {}
        paths = [""]
        while paths:
            path = paths.pop()
            folder = self._found.get(path)
            if folder is not None and path not in found:
                found[path] = folder
                paths.extend(folder.subfolders)
        return found

    def _is_trusted(self, path: str, now_ns: int) -> bool:
        rest_ns = self._trusted_until_ns.get(path, now_ns) - now_ns
        # guard(trust-ends-after-hours): Some changes show in no time stamp: each folder is read in full
        # within four hours, and at once if the clock was set back.
        return 0 < rest_ns <= _LONGEST_TRUST_NS


def _trust_ns(path: str) -> int:
    """Return how long a folder is trusted, in nanoseconds; it varies, so that not all fall due together."""
    share = crc32(path.encode("utf-8", "surrogateescape")) & 0xFFFF
    return _SHORTEST_TRUST_NS + (_LONGEST_TRUST_NS - _SHORTEST_TRUST_NS) * share // 0x10000
