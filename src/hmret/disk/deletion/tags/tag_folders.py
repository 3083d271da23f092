"""Removing folders below `images/repositories/` that have become empty.

They are not removed at once: hypeman makes a repository's folder, and then the tag in it, under no lock that
it shares with hmret, and a client that finds an image gone may pull it again in that very second.
"""

from collections.abc import Iterable
from contextlib import suppress
from stat import S_ISLNK

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import opened_data_folder
from hmret.disk.layout import IMAGES, REPOSITORIES
from hmret.model.times import SECOND

_EMPTY_NS = 600 * SECOND


def remove_empty_tag_folders(filesystem: Filesystem, data_fd: int, paths: Iterable[str]) -> None:
    """Remove folders, given by their paths below `images/`, that are empty and have not changed for ten minutes.

    A folder that hides a tag of the older layout stays: without it that name would lead elsewhere than
    before.
    """
    for path in paths:
        above, _, name = path.rpartition("/")
        with suppress(OSError), opened_data_folder(filesystem, data_fd, f"{IMAGES}/{above}") as fd:
            # guard(hidden-tag-stays-hidden): hypeman looks for a tag in the older layout only where nothing
            # has its name in today's, be it an empty folder.
            if _hides_tag(filesystem, data_fd, above, name):
                continue
            status = filesystem.stat(name, dir_fd=fd, follow_symlinks=False)
            # guard(empty-tag-folder-waits): hypeman creates the folder before the tag, so one that was empty
            # for less than ten minutes may be about to be used.
            if status.st_mtime_ns <= filesystem.now_ns() - _EMPTY_NS:
                filesystem.rmdir(name, dir_fd=fd)


def _hides_tag(filesystem: Filesystem, data_fd: int, above: str, name: str) -> bool:
    folder = f"{IMAGES}/{above.removeprefix(REPOSITORIES).removeprefix('/')}".rstrip("/")
    try:
        with opened_data_folder(filesystem, data_fd, folder) as fd:
            return S_ISLNK(filesystem.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
