"""Many paths of which it is known what they were, asked in one call which of them have changed."""

import os
from array import array
from collections.abc import Iterable, Mapping

from hmret.disk.filesystem import Filesystem
from hmret.disk.signatures import Signature

__all__ = ["WatchedPaths", "changed_files"]

_BITS = 2**64 - 1
_NUMBERS = 4


def changed_files(
    filesystem: Filesystem, folder_fd: int, paths: Iterable[str], marks: Iterable[int]
) -> set[int]:
    """Look which files are not those that were read, or are not there; returns their numbers.

    `marks`: of each, 63 bits of its inode and its ctime in nanoseconds.
    """
    joined = b"".join([os.fsencode(path) + b"\0" for path in paths])
    return (
        {*filesystem.changed_paths(folder_fd, joined, array("q", marks).tobytes(), False)}
        if joined
        else set()
    )


class WatchedPaths:
    """Some paths below a folder, in their order, and the signature that each had."""

    __slots__ = ("_marks", "_paths", "paths")

    def __init__(self, known: Iterable[tuple[str, Signature]]) -> None:
        self.paths: list[str] = []
        self._marks = array("Q")
        for path, signature in known:
            self.paths.append(path)
            self._marks.extend(_mark(signature))
        self._paths = b"".join([os.fsencode(path) + b"\0" for path in self.paths])

    def renewed(self, signatures: Mapping[int, Signature]) -> "WatchedPaths":
        """Return the same paths, some of them, told by number, with other signatures."""
        other = WatchedPaths(())
        other.paths, other._paths, other._marks = self.paths, self._paths, self._marks[:]
        for number, signature in signatures.items():
            start = _NUMBERS * number
            other._marks[start : start + _NUMBERS] = array("Q", _mark(signature))
        return other

    def changed(self, filesystem: Filesystem, root_fd: int, *, follow: bool = False) -> list[int]:
        """Look which have changed, or are not there; returns their numbers.

        `follow`: whether links in the last component are followed.
        """
        return filesystem.changed_paths(root_fd, self._paths, self._marks.tobytes(), follow)


def _mark(signature: Signature) -> tuple[int, int, int, int]:
    device, inode, _, modified_ns, changed_ns = signature
    return device & _BITS, inode & _BITS, modified_ns & _BITS, changed_ns & _BITS
