"""What was found in the folders of a tree, kept for as long as a folder has not changed.

One call asks of all folders that are known whether they are what they were; only those that are not are looked at.
A folder is read again when its fingerprint is another one, and in any case every few hours. Between, it is trusted: what
a folder's own time stamps do not show, such as a file that was written in place below it, is seen that much later.
"""

from collections.abc import Iterable, Iterator, Mapping, Set as AbstractSet
from typing import Generic, Protocol, TypeVar
from zlib import crc32

from hmret.disk.filesystem import Filesystem
from hmret.disk.fingerprints import Fingerprint, is_unchanged
from hmret.disk.watched_paths import WatchedPaths
from hmret.model.times import SECOND

__all__ = ["Folder", "FolderCache"]

_LONGEST_TRUST_NS = 4 * 3600 * SECOND
_SHORTEST_TRUST_NS = 2 * 3600 * SECOND


class Folder(Protocol):
    """What was found in one folder."""

    @property
    def path(self) -> str:
        """Below the top of the tree; empty: that itself."""
        ...

    @property
    def subfolders(self) -> tuple[str, ...]:
        """Paths of the folders in it that are to be read, too."""
        ...

    @property
    def fingerprint(self) -> Fingerprint | None:
        """What the folder must still have for this to be true; None: it is read every time."""
        ...

    @property
    def is_settled(self) -> bool:
        """Whether it need not be looked at while it has its fingerprint."""
        ...

    @property
    def listed_in(self) -> str | None:
        """The folder whose listing tells whether this has changed; None: it is a folder of its own."""
        ...


F = TypeVar("F", bound=Folder)


class FolderCache(Generic[F]):
    """The folders of one tree, looked through again and again.

    One look at a time: `begin`, then `find_changed`, then `take`, look and `put` until nothing is left to take, then `end`. Only
    `find_changed`, `still` and `known_in_part` are for threads.
    """

    def __init__(self, filesystem: Filesystem) -> None:
        self._filesystem = filesystem
        self._known: Mapping[str, F] = {}
        self._trusted_until_ns: dict[str, int] = {}
        self._watched: WatchedPaths | None = None
        """All that is known and can be asked for; None: it is to be put together."""
        self._has_gaps = False
        """Whether a folder may be known, and not all below it."""
        self._found: dict[str, F] = {}
        self._now_ns = 0
        """When this look began."""
        self._waiting: list[str] = []
        self._asked: set[str] = set()
        """What waits, has waited, or was put in."""
        self._built_upon: set[str] = set()
        """Folders that this look does not read in full: what is known of them stays as old as it was."""

    def begin(self) -> None:
        """Begin to look through the tree from its top; what a look before this one left behind is forgotten."""
        self._found = {}
        self._waiting = [""]
        self._asked = {""}
        self._built_upon = set()
        self._now_ns = self._filesystem.now_ns()

    def find_changed(self, root_fd: int) -> None:
        """Ask of everything that is known whether it has changed; what has not need not be looked at."""
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
        # What is listed in a folder that is due is looked at after that.
        self._waiting = [
            path for path in due if path not in known or known[path].listed_in not in self._asked
        ]
        self._asked = set(self._waiting)
        self._found = {path: folder for path, folder in known.items() if path not in self._asked}

    def export(self) -> Iterator[tuple[F, int]]:
        """List what is known and can be trusted later, and until when, in nanoseconds since the epoch."""
        for path, folder in self._known.items():
            if folder.fingerprint is not None:
                yield folder, self._trusted_until_ns.get(path, 0)

    def restore(self, folders: Iterable[tuple[F, int]]) -> None:
        """Know what another cache has exported; each folder still counts only while it has its fingerprint."""
        found = list(folders)
        self._watched, self._has_gaps = None, True
        self._known = {folder.path: folder for folder, _ in found}
        self._trusted_until_ns = {folder.path: until_ns for folder, until_ns in found}

    def invalidate(self, paths: AbstractSet[str]) -> None:
        """Trust some folders no more, whatever their fingerprints say: they are read in full at the next look."""
        self._known = {path: folder for path, folder in self._known.items() if path not in paths}
        self._watched, self._has_gaps = None, True

    @property
    def waiting(self) -> int:
        """How many folders wait to be taken."""
        return len(self._waiting)

    def take(self, count: int) -> list[str]:
        """Take some paths to look at."""
        taken = self._waiting[-count:]
        del self._waiting[-count:]
        return taken

    def give_back(self, paths: Iterable[str]) -> None:
        """Put paths back that were not looked at after all."""
        self._waiting.extend(paths)

    def known(self, path: str) -> F | None:
        """Return what was last found in a folder."""
        return self._known.get(path)

    def known_in_part(self, path: str) -> F | None:
        """Return what was last found in a folder that has changed; None where it is to be read in full."""
        known = self._known.get(path)
        if known is None or not self._is_trusted(path, self._filesystem.now_ns()):
            return None
        self._built_upon.add(path)
        return known

    def still(self, root_fd: int, path: str, fingerprint: Fingerprint | None = None) -> F | None:
        """Return what is in a folder where that is known, has not changed, and was read not too long ago.

        `fingerprint`: what it has now; None: what `stat` says of it.
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
        """Put in what was found; folders below of which nothing is known, or that are listed there, are then taken."""
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
        """End the look; returns all folders, and whether anything is not what it was."""
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
            # guard(partial-read-renews-nothing): A folder that changes often is read only in part, so the rest is as
            # old as it was and its full reading is still due.
            if path not in self._built_upon:
                self._trusted_until_ns[path] = now_ns + _trust_ns(path)
        if len(self._trusted_until_ns) > len(found):
            self._trusted_until_ns = {path: self._trusted_until_ns[path] for path in found}
        if is_new:
            self._known, self._watched = found, None
        return self._known, is_new

    def _reached(self) -> dict[str, F]:
        """List what was found or is known, as far as a folder above still lists it."""
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
        # guard(trust-ends-after-hours): Some changes show in no time stamp: each folder is read in full within four
        # hours, and at once if the clock was set back.
        return 0 < rest_ns <= _LONGEST_TRUST_NS


def _trust_ns(path: str) -> int:
    """Return for how long a folder is trusted, in nanoseconds: not all for equally long, so as not to fall due together."""
    share = crc32(path.encode("utf-8", "surrogateescape")) & 0xFFFF
    return _SHORTEST_TRUST_NS + (_LONGEST_TRUST_NS - _SHORTEST_TRUST_NS) * share // 0x10000
