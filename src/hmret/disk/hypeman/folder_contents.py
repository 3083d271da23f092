"""What else an image's folder holds: only regular files and old remains of hypeman's are deleted with it."""

import stat
from collections.abc import Iterable

import msgspec

from hmret.disk.filesystem import Filesystem, Listing
from hmret.disk.folders import opened_folder
from hmret.disk.hypeman.images import ImageFound
from hmret.disk.layout import INSTALLING, METADATA, ROOTFS_NAMES
from hmret.model.times import SECOND
from hmret.model.values import frozen

INSTALLING_NS = 3600 * SECOND
"""How long hypeman may be at work in a folder in which it prepares a file."""

_KNOWN = frozenset((METADATA, *ROOTFS_NAMES))
"""Files that were examined already."""


@frozen
class Contents:
    """What prevents a folder from being deleted."""

    foreign: str | None = None
    """Something in it that is not a regular file; None: nothing."""
    making: str | None = None
    """What hypeman is preparing in it; None: nothing."""


_NOTHING = Contents()


def contents_of(filesystem: Filesystem, fd: int, listing: Listing) -> Contents:
    """Examine the listing of an image's open folder without opening any file in it."""
    links, folders, others, _ = listing
    others = [other for other in others if other not in _KNOWN]
    if not (links or folders or others):
        return _NOTHING
    foreign = dict.fromkeys(links, "a link")
    making = None
    for folder in folders:
        if not folder.startswith(INSTALLING):
            foreign[folder] = "a folder"
        elif _is_young(filesystem, fd, folder):
            making = f"{folder}: something is being made in it"
    for other, found in zip(others, filesystem.stat_files(fd, others), strict=True):
        if not isinstance(found, int) and not stat.S_ISREG(found[0]):
            foreign[other] = "not a regular file"
    first = min(foreign, default=None)
    return Contents(None if first is None else f"{first}: {foreign[first]}", making)


def with_contents(
    filesystem: Filesystem, parent_fd: int, names: Iterable[str], looks: Iterable[ImageFound | None]
) -> list[ImageFound | None]:
    """Add to the looks what else the folders of complete images hold, except where one cannot be listed."""
    return [
        found
        if found is None or found.holds_files_only
        else _with_contents(filesystem, parent_fd, name, found)
        for name, found in zip(names, looks, strict=True)
    ]


def _with_contents(filesystem: Filesystem, parent_fd: int, name: str, found: ImageFound) -> ImageFound:
    if not found.image.is_plain:
        return found
    try:
        with opened_folder(filesystem, name, parent_fd) as fd:
            contents = contents_of(filesystem, fd, filesystem.list_folder(fd))
    except OSError:
        return found
    if contents is _NOTHING or contents == _NOTHING:
        return found
    image = found.image.kept_for(foreign=contents.foreign, making=contents.making)
    return msgspec.structs.replace(found, image=image)


def _is_young(filesystem: Filesystem, fd: int, name: str) -> bool:
    try:
        status = filesystem.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return status.st_mtime_ns > filesystem.now_ns() - INSTALLING_NS
