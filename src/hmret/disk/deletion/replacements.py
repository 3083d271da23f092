"""What has appeared in an image's place since it left the cache: a fresh pull, or remains of a call.

hypeman's tag call reads an image's metadata, sets the link, and writes the metadata back; if the folder has
gone, it makes it again. That leaves a ghost: `ready` metadata without a disk, which hides any other folder of
the digest. A promotion of a repository's own folder to content, if that folder disappears in between, leaves
`converting` metadata that differs from the folder's only in its status. Both are completed with the
files in the trash.
"""

import enum
import errno
from collections.abc import Iterable, Sequence
from contextlib import suppress

from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.deletion.tags.links import make_links
from hmret.disk.deletion.trash.intents import Intent, Link, TrashEntry
from hmret.disk.deletion.trash.wholeness import check_layers
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import exists, opened_folder, read_file
from hmret.disk.hypeman.documents import UnreadableError, read_document
from hmret.disk.hypeman.images import read_digest_folder
from hmret.disk.layout import CONTENT, HIDDEN_METADATA, IMAGES, METADATA, ROOTFS_NAMES, hex_of
from hmret.model.values import frozen

_CONTENT = f"{IMAGES}/{CONTENT}"


class Replacement(enum.StrEnum):
    """What has appeared since an image was renamed out of the cache, and for `Batch`, whether it was mended."""

    NOTHING = "nothing"
    GHOST = "ghost"
    """`ready` metadata without a disk, in the image's place or in that of its content."""
    PROMOTION = "promotion"
    """Content that was being made from a folder that is now in the trash, and that stays unfinished without
    it.
    """
    FOLDER = "folder"
    """Content was retired, and one of its repositories has a new folder of its own."""
    CONTENT = "content"
    """A repository's own folder was retired, and content of its digest has appeared or changed its status."""
    LEAVE_ALONE = "leave_alone"
    """Nothing is to be put back or completed. Either something other than a ghost or a promotion has the image's
    place, such as a pull; or, of a repository's own folder, the content that was beside it serves its tags now.
    `Batch` also says so where nothing of the image is in the trash, and where a layer that it needs has gone.
    """
    MENDED = "mended"
    """The image is in the cache again, put back or completed. Only `Batch` says so; `find_replacement` never does."""


@frozen
class Found:
    """What has replaced an image."""

    replacement: Replacement
    parent: str = ""
    """The folder that holds the ghost; empty: there is none."""


def find_replacement(folders: OpenFolders, intent: Intent, places: Sequence[TrashEntry]) -> Found:
    """Look for what has appeared since an image was renamed to some places in the trash.

    Raises:
        OSError: that could not be determined.
    """
    return (
        _find_for_content(folders, intent, places)
        if intent.is_content
        else _find_for_own(folders, intent, places)
    )


def _find_for_content(folders: OpenFolders, intent: Intent, places: Sequence[TrashEntry]) -> Found:
    digest = intent.digest
    if folders.exists(f"{_CONTENT}/{hex_of(digest)}"):
        if _is_ghost(folders, _CONTENT, None, digest):
            return Found(Replacement.GHOST, _CONTENT)
        copies = [place for place in places if place.copy.repository]
        is_promotion = any(_is_promotion_of(folders, place, digest) for place in copies)
        return Found(Replacement.PROMOTION if is_promotion else Replacement.LEAVE_ALONE)
    # guard(new-folder-needs-content): A repository that has a new folder of this digest wants the image, so
    # the content is brought back instead of erased.
    if any(_has_new_folder(folders, intent, name) for name in intent.repositories):
        return Found(Replacement.FOLDER)
    return Found(Replacement.NOTHING)


def _find_for_own(folders: OpenFolders, intent: Intent, places: Sequence[TrashEntry]) -> Found:
    repository, digest = intent.repository, intent.digest
    own, hexadecimal = f"{IMAGES}/{repository}", hex_of(digest)
    if not folders.any_exists(f"{own}/{hexadecimal}", f"{_CONTENT}/{hexadecimal}"):
        return Found(Replacement.NOTHING)
    if folders.exists(f"{own}/{hexadecimal}"):
        is_ghost = _is_ghost(folders, own, repository, digest)
        return Found(Replacement.GHOST, own) if is_ghost else Found(Replacement.LEAVE_ALONE)
    if not folders.exists(f"{_CONTENT}/{hexadecimal}"):
        return Found(Replacement.NOTHING)
    if _is_ghost(folders, _CONTENT, None, digest):
        return Found(Replacement.GHOST, _CONTENT)
    if _status(folders, digest) == intent.content_status:
        # The content was there before: the repository's tags lead to it now.
        return Found(Replacement.LEAVE_ALONE)
    # guard(cut-off-promotion-healed): A promotion to content that the deletion has cut off can be finished
    # only with this disk, so it is not erased.
    is_promotion = any(_is_promotion_of(folders, place, digest) for place in places)
    return Found(Replacement.PROMOTION if is_promotion else Replacement.CONTENT)


def _has_new_folder(folders: OpenFolders, intent: Intent, repository: str) -> bool:
    """Return whether a repository has its own folder of the digest, made after the intent was written."""
    inode = folders.inode(f"{IMAGES}/{repository}/{hex_of(intent.digest)}")
    return inode is not None and all(
        (copy.repository, copy.inode) != (repository, inode) for copy in intent.staying
    )


def heal(folders: OpenFolders, place: TrashEntry, parent: str, links: Iterable[Link] = ()) -> bool:
    """Complete a ghost: rename a retired folder's files into it, the disk last, never over another file.

    Those of `links` whose names are free are made right before the disk's rename. Returns whether the ghost is
    complete then, so that hypeman boots the image.

    Raises:
        LayersGoneError: a layer that it needs has gone.
        OSError: it could not be completed; what has not been moved is still in the trash.
    """
    filesystem, place_fd = folders.filesystem, folders.get(place.folder)
    check_layers(filesystem, folders.data_fd, place_fd, place.name)
    with (
        opened_folder(filesystem, place.name, place_fd) as source_fd,
        opened_folder(filesystem, hex_of(place.intent.digest), folders.get(parent)) as target_fd,
    ):
        disks = [name for name in ROOTFS_NAMES if exists(filesystem, source_fd, name)]
        # guard(never-over-another-disk): A disk that is already in place is newer than the one in the trash
        # and is never replaced by it.
        if not disks or any(exists(filesystem, target_fd, name) for name in ROOTFS_NAMES):
            return False
        try:
            # guard(rest-before-disk): The disk makes an image of the ghost. Were it there before its manifest, and that
            # could not be moved, the layers that the manifest names would be needed by nobody.
            _move_rest(filesystem, source_fd, target_fd)
            if filesystem.fstat(source_fd).st_dev == filesystem.fstat(target_fd).st_dev:
                # guard(tags-before-disk): After the disk's rename nothing shows any more that tags are missing.
                make_links(folders, links)
            for name in disks:
                filesystem.rename(name, name, src_dir_fd=source_fd, dst_dir_fd=target_fd)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            return False
        with suppress(OSError):
            filesystem.fsync(target_fd)
            filesystem.fsync(source_fd)
    return True


def _move_rest(filesystem: Filesystem, source_fd: int, target_fd: int) -> None:
    """Move an image's files other than metadata and disk: its manifest, and what later releases add."""
    with filesystem.scandir(source_fd) as entries:
        names = [entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)]
    for name in sorted(names):
        if name not in (METADATA, HIDDEN_METADATA, *ROOTFS_NAMES) and not exists(filesystem, target_fd, name):
            filesystem.rename(name, name, src_dir_fd=source_fd, dst_dir_fd=target_fd)


def _is_promotion_of(folders: OpenFolders, place: TrashEntry, digest: str) -> bool:
    """Return whether content is the rest of a folder's promotion: its metadata except the status, no disk."""
    filesystem, hexadecimal = folders.filesystem, hex_of(digest)
    try:
        content_fd = folders.get(_CONTENT)
        if _has_disk(filesystem, content_fd, hexadecimal):
            return False
        content = _metadata(filesystem, content_fd, f"{hexadecimal}/{METADATA}")
        place_fd = folders.get(place.folder)
        for name in (METADATA, HIDDEN_METADATA):
            with suppress(FileNotFoundError):
                own = _metadata(filesystem, place_fd, f"{place.name}/{name}")
                status = content.pop("status", None), own.pop("status", None)
                return content == own and status[0] != status[1]
    except (OSError, UnreadableError):
        return False
    return False


def _metadata(filesystem: Filesystem, parent_fd: int, path: str) -> dict[str, object]:
    return read_document(read_file(filesystem, path, parent_fd), dict[str, object])


def _status(folders: OpenFolders, digest: str) -> str:
    """Return the status of the content of a digest; empty: there is none."""
    content_fd = folders.find(_CONTENT)
    if content_fd is None:
        return ""
    found = read_digest_folder(folders.filesystem, content_fd, None, hex_of(digest))
    return "" if found is None else found.image.status


def _is_ghost(folders: OpenFolders, parent: str, repository: str | None, digest: str) -> bool:
    """Return whether a digest's folder, of a repository or (None) of content, is ready but has no disk."""
    parent_fd = folders.find(parent)
    if parent_fd is None or _has_disk(folders.filesystem, parent_fd, hex_of(digest)):
        return False
    found = read_digest_folder(folders.filesystem, parent_fd, repository, hex_of(digest))
    # guard(disk-back-to-late-tag): A late tag call of hypeman leaves ready metadata without a disk;
    # recognised as that, it gets its disk back.
    return found is not None and found.image.status == "ready"


def _has_disk(filesystem: Filesystem, parent_fd: int, hexadecimal: str) -> bool:
    """Return whether anything is in the place of a disk."""
    return any(exists(filesystem, parent_fd, f"{hexadecimal}/{name}") for name in ROOTFS_NAMES)
