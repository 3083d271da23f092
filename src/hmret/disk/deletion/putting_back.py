"""Putting an image back that was renamed out of the cache: its folders, and those of its tags whose names are free."""

import errno
from collections.abc import Iterable, Sequence
from contextlib import suppress

from hmret.disk.deletion.arrivals import exists
from hmret.disk.deletion.links import free_links, make_links
from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.folders import open_folder, opened
from hmret.disk.layout import HIDDEN_METADATA, METADATA, hex_of
from hmret.disk.trash import Intent, Link, Place

__all__ = ["hide_metadata", "put_back", "show_metadata"]

_TAKEN = frozenset((errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR))


def put_back(
    folders: OpenFolders, intent: Intent, places: Sequence[Place], links: Iterable[Link] = ()
) -> bool:
    """Rename the folders of an image back to where they were, content first; returns whether the first of them is back.

    Those of its tags whose names nothing has taken are made first: cut off in between, all this is done again. A folder
    whose place has been taken stays where it is. No timer is written: it starts anew.

    Raises:
        OSError: something could not be put back; it is done again at the next start.
    """
    filesystem = folders.filesystem
    hexadecimal = hex_of(intent.digest)
    ordered = sorted(places, key=lambda place: place.copy.repository != "")
    first = ordered[0]
    first_fd = folders.make(first.copy.parent)
    if exists(filesystem, first_fd, hexadecimal):
        return False
    make_links(folders, free_links(filesystem, folders.data_fd, tuple(links)))
    is_back = False
    for place in ordered:
        parent_fd = folders.make(place.copy.parent)
        place_fd = parent_fd if place.folder == place.copy.parent else folders.get(place.folder)
        try:
            if not exists(filesystem, parent_fd, hexadecimal):
                filesystem.rename(place.name, hexadecimal, src_dir_fd=place_fd, dst_dir_fd=parent_fd)
                if place.is_beside:
                    show_metadata(folders, parent_fd, hexadecimal)
                is_back = is_back or place is first
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        if place is first and not is_back:
            return False
    return is_back


def hide_metadata(folders: OpenFolders, parent_fd: int, name: str) -> None:
    """Hide the metadata of a folder below `images/`: from then on hypeman takes it for no image."""
    _rename_metadata(folders, parent_fd, name, METADATA, HIDDEN_METADATA)


def show_metadata(folders: OpenFolders, parent_fd: int, name: str) -> None:
    """Show the metadata of a folder that is back; one that has come meanwhile stays."""
    filesystem = folders.filesystem
    if not exists(filesystem, parent_fd, f"{name}/{METADATA}"):
        _rename_metadata(folders, parent_fd, name, HIDDEN_METADATA, METADATA)
        return
    with suppress(FileNotFoundError), opened(filesystem, open_folder(filesystem, name, parent_fd)) as fd:
        filesystem.unlink(HIDDEN_METADATA, dir_fd=fd)


def _rename_metadata(folders: OpenFolders, parent_fd: int, name: str, source: str, target: str) -> None:
    filesystem = folders.filesystem
    with suppress(FileNotFoundError), opened(filesystem, open_folder(filesystem, name, parent_fd)) as fd:
        filesystem.rename(source, target, src_dir_fd=fd, dst_dir_fd=fd)
