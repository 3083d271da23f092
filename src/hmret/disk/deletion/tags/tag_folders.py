"""Removing folders below `images/repositories/` that are left empty.

Not at once: hypeman makes a repository's folder, and then the tag in it, under no lock of ours, and a client that finds an
image gone pulls it again in that very second.
"""

from collections.abc import Iterable
from contextlib import suppress

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import open_data_folder, opened
from hmret.disk.layout import IMAGES
from hmret.model.times import SECOND

__all__ = ["remove_empty_tag_folders"]

_EMPTY_NS = 600 * SECOND


def remove_empty_tag_folders(filesystem: Filesystem, data_fd: int, paths: Iterable[str]) -> None:
    """Remove folders, given by their paths below `images/`, that are empty and have not changed for ten minutes."""
    for path in paths:
        above, _, name = path.rpartition("/")
        with (
            suppress(OSError),
            opened(filesystem, open_data_folder(filesystem, data_fd, f"{IMAGES}/{above}")) as fd,
        ):
            found = filesystem.stat(name, dir_fd=fd, follow_symlinks=False)
            # guard(empty-tag-folder-waits): hypeman creates the folder before the tag, so one that was empty for less
            # than ten minutes may be about to be used.
            if found.st_mtime_ns <= filesystem.now_ns() - _EMPTY_NS:
                filesystem.rmdir(name, dir_fd=fd)
