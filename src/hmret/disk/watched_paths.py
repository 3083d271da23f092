"""Many paths with known fingerprints, checked for changes in one call."""

import os
from array import array
from collections.abc import Iterable, Mapping, Sequence, Set as AbstractSet

from hmret.disk.filesystem import Filesystem
from hmret.disk.fingerprints import Fingerprint

_BITS = 2**64 - 1
_NUMBERS = 4


def changed_files(
    filesystem: Filesystem, folder_fd: int, paths: Iterable[str], marks: Iterable[int]
) -> set[int]:
    """Return the numbers of the files that have been replaced or changed since they were read, or are missing.

    `marks`: for each file, 63 bits of its inode and its ctime in nanoseconds.
    """
    joined = _joined(list(paths))
    return (
        {*filesystem.changed_paths(folder_fd, joined, array("q", marks).tobytes(), False)}
        if joined
        else set()
    )


class WatchedPaths:
    """Paths below a folder, in order, with the fingerprint that each had."""

    __slots__ = ("_marks", "_paths", "paths")

    def __init__(self, known: Iterable[tuple[str, Fingerprint]] = ()) -> None:
        self.paths: list[str] = []
        self._marks = array("Q")
        for path, fingerprint in known:
            self.paths.append(path)
            self._marks.extend(_mark(fingerprint))
        self._paths = _joined(self.paths)

    def renewed(self, fingerprints: Mapping[int, Fingerprint]) -> "WatchedPaths":
        """Return the same paths, with new fingerprints for some of them, which are given by number."""
        other = WatchedPaths()
        other.paths, other._paths, other._marks = self.paths, self._paths, self._marks[:]
        for number, fingerprint in fingerprints.items():
            start = _NUMBERS * number
            other._marks[start : start + _NUMBERS] = array("Q", _mark(fingerprint))
        return other

    def changed_by(
        self, gone: AbstractSet[int], come: Iterable[tuple[str, Fingerprint]] = ()
    ) -> "WatchedPaths":
        """Return the same without some paths, which are given by number, and with others appended."""
        other, more = WatchedPaths(), WatchedPaths(come)
        other.paths = [path for number, path in enumerate(self.paths) if number not in gone] + more.paths
        other._paths = _joined(other.paths)
        other._marks = self._marks[:]
        for number in sorted(gone, reverse=True):
            del other._marks[_NUMBERS * number : _NUMBERS * (number + 1)]
        other._marks.extend(more._marks)
        return other

    def changed(self, filesystem: Filesystem, root_fd: int, *, follow: bool = False) -> list[int]:
        """Return the numbers of the paths that have changed or are missing.

        `follow`: whether links in the last component are followed.
        """
        return filesystem.changed_paths(root_fd, self._paths, self._marks.tobytes(), follow)


def _joined(paths: Sequence[str]) -> bytes:
    return os.fsencode("\0".join(paths) + "\0") if paths else b""


def _mark(fingerprint: Fingerprint) -> tuple[int, int, int, int]:
    device, inode, _, modified_ns, changed_ns = fingerprint
    return device & _BITS, inode & _BITS, modified_ns & _BITS, changed_ns & _BITS
