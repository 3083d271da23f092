"""Renaming one folder of an image out of the cache, and back.

It goes into the trash; where that is another file system, it goes out of hypeman's sight on its own. hypeman lists any
folder below `images/` that holds metadata and a disk, whatever its name, so there the metadata is hidden first: from then
on the image is gone for hypeman, and a pull writes it anew. For the same reason it is shown last on the way back.
"""

import errno
from contextlib import suppress

from hmret.disk.deletion.open_folders import OpenFolders, exists
from hmret.disk.deletion.trash.intents import Intent, TrashEntry, entry_in_place, entry_in_trash
from hmret.disk.folders import open_folder, opened
from hmret.disk.layout import DIGEST_HEX, HIDDEN_METADATA, IMAGES, METADATA, hex_of

__all__ = [
    "hide_metadata",
    "is_hidden_in_place",
    "rename_aside",
    "rename_back",
    "rename_out",
    "show_metadata",
]

_LOWER_LAYER = (
    "its folder cannot be renamed even where it stands: it lies in the lower layer of an overlay; "
    "delete it there (in the container image, say), or mount a volume at images/"
)

_TAKEN = frozenset((errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR))


def rename_out(
    folders: OpenFolders, intent: Intent, number: int, files: tuple[str, ...] = ()
) -> TrashEntry | None:
    """Rename a folder of an image out of the cache; returns where it stands then.

    None: a pull has begun in it, on a disk on which that is possible: then it is the pull's, and in its place.

    Raises:
        OSError: it is in its place, perhaps with its metadata hidden.
    """
    hexadecimal = hex_of(intent.digest)
    if not DIGEST_HEX.fullmatch(hexadecimal):
        raise OSError(errno.EINVAL, "not the name of a digest folder")
    place = entry_in_trash(intent, files, number)
    try:
        folders.filesystem.rename(
            hexadecimal,
            place.name,
            src_dir_fd=folders.get(place.copy.parent),
            dst_dir_fd=folders.get(place.folder),
        )
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return rename_aside(folders, intent, number)
    return place


def rename_aside(folders: OpenFolders, intent: Intent, number: int) -> TrashEntry | None:
    """Rename a folder to where it is no image for hypeman, on its own file system; as `rename_out`."""
    filesystem, hexadecimal = folders.filesystem, hex_of(intent.digest)
    copy = intent.all_copies[number]
    # guard(hidden-before-it-moves): hypeman lists any folder with metadata and a disk, so on another file system the
    # metadata is hidden first.
    hide_metadata(folders, copy.parent, hexadecimal)
    place = entry_in_place(intent, number=number)
    moved = False
    if not copy.repository:
        # In `content/` every name is a digest's; it can be a file system of its own, though.
        outside = entry_in_place(intent, number=number, within=IMAGES)
        try:
            filesystem.rename(
                hexadecimal,
                outside.name,
                src_dir_fd=folders.get(copy.parent),
                dst_dir_fd=folders.get(IMAGES),
            )
            place, moved = outside, True
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
    if not moved:
        parent_fd = folders.get(copy.parent)
        try:
            filesystem.rename(hexadecimal, place.name, src_dir_fd=parent_fd, dst_dir_fd=parent_fd)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # Within one folder that is what an overlay says of a folder that it has from below.
            raise OSError(errno.EXDEV, _LOWER_LAYER) from None
    # guard(give-way-to-a-pull): New metadata in the renamed folder is that of a pull that has begun there; the folder
    # is given back to it.
    if not exists(filesystem, folders.get(place.folder), f"{place.name}/{METADATA}"):
        return place
    if rename_back(folders, place):
        return None
    # Another has come in its place, so it is nobody's.
    hide_metadata(folders, place.folder, place.name)
    return place


def rename_back(folders: OpenFolders, place: TrashEntry) -> bool:
    """Rename a folder back to where it was; False where its place has been taken.

    Raises:
        OSError: it stands where it stood, or is in its place with its metadata hidden.
    """
    filesystem, parent, hexadecimal = folders.filesystem, place.copy.parent, hex_of(place.intent.digest)
    parent_fd = folders.make(parent)
    # A rename would take the place of an empty folder, in which hypeman begins a pull.
    if exists(filesystem, parent_fd, hexadecimal):
        return False
    try:
        filesystem.rename(
            place.name, hexadecimal, src_dir_fd=folders.get(place.folder), dst_dir_fd=folders.get(parent)
        )
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    if place.is_in_place:
        show_metadata(folders, parent, hexadecimal)
    return True


def hide_metadata(folders: OpenFolders, parent: str, name: str) -> None:
    """Hide the metadata of a folder below `images/`, where it is in sight: then hypeman takes it for no image."""
    if exists(folders.filesystem, folders.get(parent), f"{name}/{METADATA}"):
        _rename_metadata(folders, parent, name, METADATA, HIDDEN_METADATA)


def show_metadata(folders: OpenFolders, parent: str, name: str) -> None:
    """Show the metadata of a folder that is back in its place; metadata that has come since is a pull's, and stays."""
    filesystem = folders.filesystem
    if not exists(filesystem, folders.get(parent), f"{name}/{METADATA}"):
        _rename_metadata(folders, parent, name, HIDDEN_METADATA, METADATA)
        return
    with (
        suppress(FileNotFoundError),
        opened(filesystem, open_folder(filesystem, name, folders.get(parent))) as fd,
    ):
        filesystem.unlink(HIDDEN_METADATA, dir_fd=fd)


def is_hidden_in_place(folders: OpenFolders, intent: Intent, number: int) -> bool:
    """Return whether a folder of an image stands in its place with its metadata hidden: something was cut off there.

    Raises:
        OSError: that could not be told.
    """
    parent_fd = folders.find(intent.all_copies[number].parent)
    return parent_fd is not None and exists(
        folders.filesystem, parent_fd, f"{hex_of(intent.digest)}/{HIDDEN_METADATA}"
    )


def _rename_metadata(folders: OpenFolders, parent: str, name: str, source: str, target: str) -> None:
    filesystem = folders.filesystem
    with (
        suppress(FileNotFoundError),
        opened(filesystem, open_folder(filesystem, name, folders.get(parent))) as fd,
    ):
        filesystem.rename(source, target, src_dir_fd=fd, dst_dir_fd=fd)
