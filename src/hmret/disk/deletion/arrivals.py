"""What has come in the place of an image while it was out of the cache: a fresh pull, or what hypeman leaves half done.

hypeman's tag call reads an image's metadata, sets the link, and writes the metadata back, making the folder again if it
has gone. What is left then is a ghost: a `ready` metadata without a disk, which hides any other folder of the digest.
Its promotion of a repository's own folder to content leaves, where that folder goes in between, a `converting` metadata
that differs from the folder's in nothing but the status. Both are mended with what is in the trash.
"""

import enum
import errno
from collections.abc import Iterable
from contextlib import suppress

import msgspec

from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import open_folder, opened, read_file
from hmret.disk.hypeman.images import ImageFound, read_digest_folder
from hmret.disk.layout import HIDDEN_METADATA, IMAGES, METADATA, ROOTFS_NAMES, hex_of
from hmret.disk.trash import NO_CONTENT, Intent, Place

__all__ = [
    "Arrival",
    "content_status",
    "exists",
    "has_new_folder",
    "heal",
    "is_promotion_of",
    "look_at_folder",
]

_MANIFEST = "manifest.json"
_FAULTS = (OSError, ValueError, msgspec.MsgspecError, RecursionError)


class Arrival(enum.StrEnum):
    """What is in a place."""

    NOTHING = "nothing"
    GHOST = "ghost"
    """A `ready` metadata, and no disk."""
    OTHER = "other"
    """Something else: a pull, say."""


def look_at_folder(filesystem: Filesystem, parent_fd: int, repository: str | None, digest: str) -> Arrival:
    """Look what is in the place of a digest's folder, of a repository or (None) of content."""
    hexadecimal = hex_of(digest)
    if not exists(filesystem, parent_fd, hexadecimal):
        return Arrival.NOTHING
    found = read_digest_folder(filesystem, parent_fd, repository, hexadecimal)
    return (
        Arrival.GHOST
        if found is not None and _is_ghost(filesystem, parent_fd, hexadecimal, found)
        else Arrival.OTHER
    )


def content_status(filesystem: Filesystem, content_fd: int | None, digest: str) -> str:
    """Tell the status of the content of a digest; `NO_CONTENT`: there is none."""
    if content_fd is None:
        return NO_CONTENT
    found = read_digest_folder(filesystem, content_fd, None, hex_of(digest))
    return NO_CONTENT if found is None else found.image.status


def exists(filesystem: Filesystem, parent_fd: int, name: str) -> bool:
    """Tell whether anything of a name is here.

    Raises:
        OSError: it could not be told.
    """
    try:
        filesystem.stat(name, dir_fd=parent_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def has_new_folder(folders: OpenFolders, intent: Intent, repository: str) -> bool:
    """Return whether a repository has a folder of its own of a digest that has come since the intent was written.

    Raises:
        OSError: it could not be told.
    """
    own_fd = folders.find(f"{IMAGES}/{repository}")
    if own_fd is None:
        return False
    try:
        found = folders.filesystem.stat(hex_of(intent.digest), dir_fd=own_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return all((copy.repository, copy.inode) != (repository, found.st_ino) for copy in intent.staying)


def heal(filesystem: Filesystem, place_fd: int, place: Place, parent_fd: int, digest: str) -> bool:
    """Move the disk of a retired folder into the ghost in its place, and its manifest; never over another.

    Returns whether the image is whole then.
    """
    hexadecimal = hex_of(digest)
    with (
        opened(filesystem, open_folder(filesystem, place.name, place_fd)) as source_fd,
        opened(filesystem, open_folder(filesystem, hexadecimal, parent_fd)) as target_fd,
    ):
        disks = [name for name in ROOTFS_NAMES if exists(filesystem, source_fd, name)]
        if not disks or any(exists(filesystem, target_fd, name) for name in ROOTFS_NAMES):
            return False
        for name in disks:
            filesystem.rename(name, name, src_dir_fd=source_fd, dst_dir_fd=target_fd)
        with suppress(OSError):
            if not exists(filesystem, target_fd, _MANIFEST):
                filesystem.rename(_MANIFEST, _MANIFEST, src_dir_fd=source_fd, dst_dir_fd=target_fd)
        with suppress(OSError):
            filesystem.fsync(target_fd)
            filesystem.fsync(source_fd)
    return True


def is_promotion_of(
    filesystem: Filesystem, place_fd: int, place: Place, content_fd: int, digest: str
) -> bool:
    """Return whether content is what a promotion of a retired folder has left: its metadata, but for the status, no disk."""
    hexadecimal = hex_of(digest)
    try:
        if _has_disk(filesystem, content_fd, hexadecimal, ROOTFS_NAMES):
            return False
        content = _facts(read_file(filesystem, f"{hexadecimal}/{METADATA}", content_fd))
        for name in (METADATA, HIDDEN_METADATA):
            with suppress(FileNotFoundError):
                own = _facts(read_file(filesystem, f"{place.name}/{name}", place_fd))
                status = content.pop("status", None), own.pop("status", None)
                return content == own and status[0] != status[1]
    except _FAULTS:
        return False
    return False


def _facts(content: bytes) -> dict[str, object]:
    facts = msgspec.json.decode(content)
    if not isinstance(facts, dict):
        raise ValueError("no object")
    return facts


def _is_ghost(filesystem: Filesystem, parent_fd: int, hexadecimal: str, found: ImageFound) -> bool:
    return found.image.status == "ready" and not _has_disk(filesystem, parent_fd, hexadecimal, ROOTFS_NAMES)


def _has_disk(filesystem: Filesystem, parent_fd: int, hexadecimal: str, names: Iterable[str]) -> bool:
    """Return whether anything is in the place of a disk."""
    for name in names:
        try:
            filesystem.stat(f"{hexadecimal}/{name}", dir_fd=parent_fd, follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                continue
        return True
    return False
