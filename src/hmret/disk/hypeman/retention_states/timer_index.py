"""Which repositories have a timer for a digest, by the names of files alone, before any scan has read them."""

from array import array
from bisect import bisect_left
from collections.abc import Iterator

import attrs

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import opened_data_folder, opened_folder
from hmret.disk.hypeman.retention_states.scanning import STATE_SUFFIX
from hmret.disk.layout import RETENTION, are_digests, hex_of
from hmret.model.values import frozen

# An entry is the first digits of a digest, followed by the number of its folder.
_DIGITS = 10
_FOLDER_BITS = 24
# A client waits, and each call has to get the interpreter's lock back, so there are few calls.
_FOLDERS = 256
_MOST_LINKS = 64


@frozen(eq=False)
class TimerIndex:
    """Where each digest has a timer, in eight bytes a timer.

    Two digests with the same first ten digits share an answer, so it may name repositories without a timer,
    but it leaves none out.
    """

    _folders: tuple[str, ...]
    _entries: "array[int]" = attrs.field(repr=False)

    @classmethod
    def build(cls, filesystem: Filesystem, data_fd: int) -> "TimerIndex":
        """List all folders of states.

        It does not rest in between, as bulk work in threads does: a client is waiting to start a VM.

        Raises:
            OSError: one of them could not be listed, so that timers in it would be missed.
        """
        folders: list[str] = []
        entries = array("Q")
        try:
            with opened_data_folder(filesystem, data_fd, RETENTION) as retention_fd:
                waiting = [""]
                while waiting:
                    paths = waiting[-_FOLDERS:]
                    del waiting[-_FOLDERS:]
                    for path, (subfolders, digests) in _list_all(filesystem, retention_fd, paths):
                        waiting += [f"{path}/{name}" if path else name for name in subfolders]
                        if digests:
                            entries.extend(_entry(digest, len(folders)) for digest in digests)
                            folders.append(path)
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


def _list_all(
    filesystem: Filesystem, retention_fd: int, paths: list[str]
) -> Iterator[tuple[str, tuple[list[str], list[str]]]]:
    """List folders of states: the subfolders of each, and the digests that have a timer in it."""
    answers = filesystem.read_folders(retention_fd, [path or "." for path in paths], "", 0, _MOST_LINKS)
    for path, answer in zip(paths, answers, strict=True):
        if isinstance(answer, tuple):
            _, links, _, folders, others, _ = answer
        else:
            # It holds many links, or is gone with all that it held, or cannot be listed, which is an error.
            try:
                with opened_folder(filesystem, path or ".", retention_fd) as fd:
                    links, folders, others, _ = filesystem.list_folder(fd)
            except (FileNotFoundError, NotADirectoryError):
                continue
        names = [name.removesuffix(STATE_SUFFIX) for name in (*links, *others) if name.endswith(STATE_SUFFIX)]
        # All at once, as nearly always they are.
        yield (
            path,
            (folders, names if are_digests(names) else [name for name in names if are_digests([name])]),
        )
