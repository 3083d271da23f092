"""Which repositories have a timer for a digest, by the names of files alone, before any scan has read them."""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator

import attrs

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import open_data_folder, open_folder, opened
from hmret.disk.hypeman.retention_states.scanning import STATE_SUFFIX
from hmret.disk.layout import HEX_DIGITS, RETENTION, are_digests, hex_of
from hmret.model.values import frozen

__all__ = ["TimerIndex"]

# An entry is the first digits of a digest, followed by the number of its folder.
_DIGITS = 10
_FOLDER_BITS = 24


@frozen(eq=False)
class TimerIndex:
    """Where each digest has a timer, in eight bytes a timer.

    Two digests with the same first ten digits share an answer, so it may name repositories without a timer,
    but it leaves none out.
    """

    _folders: tuple[str, ...]
    _entries: "array[int]" = attrs.field(repr=False)

    @classmethod
    def build(
        cls, filesystem: Filesystem, data_fd: int, pause: Callable[[], None] = lambda: None
    ) -> "TimerIndex":
        """List all folders of states.

        Raises:
            OSError: one of them could not be listed, so that timers in it would be missed.
        """
        folders: list[str] = []
        entries = array("Q")
        try:
            with opened(filesystem, open_data_folder(filesystem, data_fd, RETENTION)) as retention_fd:
                waiting = [""]
                while waiting:
                    path = waiting.pop()
                    subfolders, digests = _list(filesystem, retention_fd, path)
                    waiting += subfolders
                    if digests:
                        entries.extend(_entry(digest, len(folders)) for digest in digests)
                        folders.append(path)
                    pause()
        except FileNotFoundError:
            return cls((), array("Q"))
        return cls(tuple(folders), array("Q", sorted(entries)))

    def repositories_of(self, digest: str) -> Iterator[str]:
        """List the repositories that may have a timer for a digest."""
        start = _entry(hex_of(digest), 0)
        number = bisect_left(self._entries, start)
        while number < len(self._entries) and self._entries[number] >> _FOLDER_BITS == start >> _FOLDER_BITS:
            yield self._folders[self._entries[number] & ((1 << _FOLDER_BITS) - 1)]
            number += 1


def _entry(hexadecimal: str, folder: int) -> int:
    return int(hexadecimal[:_DIGITS], 16) << _FOLDER_BITS | folder


def _list(filesystem: Filesystem, retention_fd: int, path: str) -> tuple[list[str], list[str]]:
    """List the subfolders of a folder of states, and the digests that have a timer in it."""
    try:
        with opened(filesystem, open_folder(filesystem, path or ".", retention_fd)) as fd:
            links, folders, others, _ = filesystem.list_folder(fd)
    except (FileNotFoundError, NotADirectoryError):
        # It was removed since its parent was listed, and with it all that it held.
        return [], []
    names = [name.removesuffix(STATE_SUFFIX) for name in (*links, *others) if name.endswith(STATE_SUFFIX)]
    digests = [name for name in names if len(name) == HEX_DIGITS and are_digests([name])]
    return [f"{path}/{name}" if path else name for name in folders], digests
