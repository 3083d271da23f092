"""Whole folders, read some at a time in one call before their turn comes."""

from hmret.disk.filesystem import Filesystem, FolderRead
from hmret.disk.folders import CHUNK
from hmret.model.values import frozen

_MOST_READ = 64
"""How many links, and how many files, a folder may hold to be read in one call; larger ones are read in parts."""


@frozen
class FolderAhead:
    """A folder that was read in one call."""

    looked_ns: int
    """The file system's time from before the call, in nanoseconds."""
    found: FolderRead


def read_ahead(
    filesystem: Filesystem, folder_fd: int, paths: list[str], suffix: str = ""
) -> dict[str, FolderAhead]:
    """Read folders below an open one: the links in them, and the files whose names end with a suffix (empty: none).

    Left out are folders that cannot be read and those that hold too much; the caller reads them the other way.
    """
    if not paths:
        return {}
    # guard(clock-before-reading-ahead): What changes while the folders are read has changed too recently for its
    # time stamp to be trusted, so the clock is asked before.
    looked_ns = filesystem.now_ns()
    answers = filesystem.read_folders(folder_fd, paths, suffix, CHUNK, _MOST_READ)
    return {
        path: FolderAhead(looked_ns, found)
        for path, found in zip(paths, answers, strict=True)
        if isinstance(found, tuple)
    }
