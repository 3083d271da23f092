"""Renaming one folder of an image out of the cache, and back.

It goes into the trash. Where the trash is on another file system, a rename cannot move it there, and the
folder is hidden from hypeman on its own file system. hypeman lists any folder below `images/` that holds
metadata and a disk, whatever its name, so the metadata is hidden first: from then on the image is gone for
hypeman, and a pull writes it again. A crash right after that leaves the folder in its place with hidden
metadata, which recovery counts as renamed. For the same reason the metadata is made visible last on the way
back.
"""

import errno
from contextlib import suppress

from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.deletion.trash.intents import Intent, TrashEntry, entry_aside, entry_in_trash
from hmret.disk.folders import exists, opened_folder
from hmret.disk.layout import DIGEST_HEX, HIDDEN_METADATA, IMAGES, METADATA, hex_of

_LOWER_LAYER = (
    "its folder cannot be renamed even where it stands: it lies in the lower layer of an overlay; "
    "delete it there (in the container image, say), or mount a volume at images/"
)

_TAKEN = frozenset((errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR))


def rename_out(
    folders: OpenFolders, intent: Intent, number: int, files: tuple[str, ...] = ()
) -> TrashEntry | None:
    """Rename a folder of an image out of the cache; returns where it is then.

    None: a pull has begun in it, so the folder was given back to it and is in its place. That is noticed only where
    the trash is on another file system.

    Raises:
        OSError: it is in its place, perhaps with its metadata hidden.
    """
    hexadecimal = hex_of(intent.digest)
    if not DIGEST_HEX.fullmatch(hexadecimal):
        raise OSError(errno.EINVAL, "not the name of a digest folder")
    place = entry_in_trash(intent, files, number)
    try:
        folders.rename(place.parent, hexadecimal, place.folder, place.name)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return rename_aside(folders, intent, number)
    return place


def rename_aside(folders: OpenFolders, intent: Intent, number: int) -> TrashEntry | None:
    """Rename a folder, within its file system, to where hypeman does not take it for an image; as `rename_out`."""
    filesystem, hexadecimal = folders.filesystem, hex_of(intent.digest)
    copy = intent.copies[number]
    # guard(hidden-before-it-moves): hypeman lists any folder with metadata and a disk, so on another file
    # system the metadata is hidden first.
    hide_metadata(folders, copy.parent, hexadecimal)
    place = entry_aside(intent, number)
    moved = False
    if not copy.repository:
        # In `content/` every name is a digest's; but it may be a file system of its own.
        outside = entry_aside(intent, number, within=IMAGES)
        try:
            folders.rename(copy.parent, hexadecimal, IMAGES, outside.name)
            place, moved = outside, True
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
    if not moved:
        try:
            folders.rename(copy.parent, hexadecimal, copy.parent, place.name)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # Within one folder, an overlay returns this error for a folder of its lower layer.
            raise OSError(errno.EXDEV, _LOWER_LAYER) from None
    # guard(give-way-to-a-pull): New metadata in the renamed folder is that of a pull that has begun there;
    # the folder is given back to it.
    if not exists(filesystem, folders.get(place.folder), f"{place.name}/{METADATA}"):
        return place
    if rename_back(folders, place):
        return None
    # A different image is in its place by now, so the folder is needed by nothing.
    hide_metadata(folders, place.folder, place.name)
    return place


def rename_back(folders: OpenFolders, place: TrashEntry) -> bool:
    """Rename a folder back to its place; False where its place has been taken.

    Raises:
        OSError: it is where it was, or is in its place with its metadata hidden.
    """
    filesystem, parent, hexadecimal = folders.filesystem, place.parent, hex_of(place.intent.digest)
    parent_fd = folders.make(parent)
    # A rename would replace an empty folder, in which hypeman begins a pull.
    if exists(filesystem, parent_fd, hexadecimal):
        return False
    try:
        folders.rename(place.folder, place.name, parent, hexadecimal)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    if place.is_aside:
        show_metadata(folders, parent, hexadecimal)
    return True


def hide_metadata(folders: OpenFolders, parent: str, name: str) -> None:
    """Hide the metadata of a folder below `images/`, if visible: then hypeman does not take it for an image."""
    if exists(folders.filesystem, folders.get(parent), f"{name}/{METADATA}"):
        _rename_metadata(folders, parent, name, METADATA, HIDDEN_METADATA)


def show_metadata(folders: OpenFolders, parent: str, name: str) -> None:
    """Make the metadata of a folder in its place visible again; newer metadata is that of a pull, and stays."""
    filesystem = folders.filesystem
    if not exists(filesystem, folders.get(parent), f"{name}/{METADATA}"):
        _rename_metadata(folders, parent, name, HIDDEN_METADATA, METADATA)
        return
    with suppress(FileNotFoundError), opened_folder(filesystem, name, folders.get(parent)) as fd:
        filesystem.unlink(HIDDEN_METADATA, dir_fd=fd)


def is_hidden_in_place(folders: OpenFolders, intent: Intent, number: int) -> bool:
    """Return whether an image's folder is in its place with hidden metadata, left by an interruption.

    Raises:
        OSError: that could not be determined.
    """
    parent_fd = folders.find(intent.copies[number].parent)
    return parent_fd is not None and exists(
        folders.filesystem, parent_fd, f"{hex_of(intent.digest)}/{HIDDEN_METADATA}"
    )


def _rename_metadata(folders: OpenFolders, parent: str, name: str, source: str, target: str) -> None:
    filesystem = folders.filesystem
    with suppress(FileNotFoundError), opened_folder(filesystem, name, folders.get(parent)) as fd:
        filesystem.rename(source, target, src_dir_fd=fd, dst_dir_fd=fd)
