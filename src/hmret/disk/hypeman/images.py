"""Reading the folder of one digest: what it holds, and whether that is a complete image."""

import errno
import os
import stat
from collections.abc import Mapping, Set as AbstractSet
from functools import lru_cache
from operator import attrgetter
from sys import intern

import msgspec

from hmret.disk.filesystem import Filesystem, ImageLook, Stat
from hmret.disk.fingerprints import INODE_BITS, Fingerprint
from hmret.disk.folders import CHUNK, NOTHING_THERE, read_file
from hmret.disk.hypeman.documents import ImageMetadata, UnreadableError, read_image_metadata
from hmret.disk.hypeman.hidden import Hidden
from hmret.disk.layout import CONTENT, METADATA, ROOTFS_NAMES, digest_of
from hmret.model.errors import InvalidReferenceError
from hmret.model.images import Image, Repository, SharedDisk
from hmret.model.references import parse_reference
from hmret.model.times import SECOND

BLOCK = 512
"""Bytes in a block of `st_blocks`."""

_PENDING_NS = 3600 * SECOND
"""How long content without metadata counts as a pull that has just begun."""

Disk = tuple[int, SharedDisk | None]
"""How many bytes a disk occupies, and the identity by which other links may share them."""

NO_DISK: Disk = (0, None)

_DISKS = list(ROOTFS_NAMES)
_READY = "ready"
_PARTS = f"{CONTENT}/"

_NO_IMAGES: Mapping[str, Image] = {}
_NO_TAGS: Mapping[str, str] = {}
_NO_NAMES: AbstractSet[str] = frozenset()

Oddity = tuple[str, str, str]
"""Something to report: the event's name, the path below the data directory, and what is wrong."""


class FolderScan(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The contents of one folder below `images/`.

    This is not an attrs class: there are as many instances as repositories, and the garbage collector need not
    look at each.
    """

    path: str
    """Below `images/`; for content, the folder and the first digits of some digests (`content/3f`)."""
    repository: Repository | None = None
    """Set where the folder holds images or tags and has the name of a possible repository; for content,
    without a name.
    """
    subfolders: tuple[str, ...] = ()
    """Paths of the folders in it that are to be read too."""
    error: OSError | None = None
    """Why it could not be listed."""
    unknown_folders: tuple[str, ...] = ()
    """Folders right below `images/` that belong to neither layout, such as hypeman's `layers`: they are not looked into,
    and left alone.
    """
    fingerprint: Fingerprint | None = None
    """While the folder has it, no image was added or removed in it, and no tag has moved; None: read it
    again.
    """
    marks: bytes = b""
    """For each image, in order, as numbers of 64 bits: inode and ctime (in nanoseconds) of the metadata; for
    content, the folder's inode and 0. -1: read it again.
    """
    unsettled: tuple[str, ...] = ()
    """Digests of the images that are not plain (`Image.is_plain`): they are examined at every look."""
    with_disk: tuple[str, ...] = ()
    """Those of them that have a disk, whatever their metadata."""
    unreadable: tuple[str, ...] = ()
    """Those of them whose metadata could not be read, because of permissions or an I/O error."""
    bases: tuple[tuple[str, str], ...] = ()
    """Digests of images that need another image, each with that image as a reference."""
    prints: tuple[tuple[str, int, int], ...] = ()
    """For the listing of content: count and checksum of each of its parts, by which a change shows."""
    oddities: tuple[Oddity, ...] = ()
    hidden: tuple[Hidden, ...] = ()
    """Links in it that may hide images."""
    is_empty: bool = False
    """Whether it holds nothing at all; set only for folders of tags."""

    def __eq__(self, other: object) -> bool:
        """Compare the contents, but not by what a change of them shows."""
        return isinstance(other, FolderScan) and _contents_of(self) == _contents_of(other)

    __hash__ = None  # type: ignore[assignment]  # it holds mappings

    @property
    def images(self) -> Mapping[str, Image]:
        """The images in it, by digest."""
        return _NO_IMAGES if self.repository is None else self.repository.images

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags in it, with the digests that they point to."""
        return _NO_TAGS if self.repository is None else self.repository.tags

    @property
    def odd_tags(self) -> AbstractSet[str]:
        """The names in it of tags that are a link of another form or a file: their targets are unknown."""
        return _NO_NAMES if self.repository is None else self.repository.odd_tags

    @property
    def is_settled(self) -> bool:
        """Whether it need not be examined while it has its fingerprint."""
        return not self.unsettled

    @property
    def listed_in(self) -> str | None:
        """The content folder, for a part of it."""
        return CONTENT if self.path.startswith(_PARTS) else None


_contents_of = attrgetter("path", "repository", "subfolders", "error", "unknown_folders")

NOTHING = FolderScan("")
"""A folder of which nothing is known, or that does not exist."""


class ImageFound(msgspec.Struct, frozen=True, gc=False):
    """What one digest's folder was found to hold.

    This is not an attrs class, as there are as many instances as images.
    """

    image: Image
    inode: int = -1
    """The inode of the metadata, taken before it was read; -1: there is none."""
    changed_ns: int = -1
    has_disk: bool = False
    is_unreadable: bool = False
    base: str = ""
    holds_files_only: bool = False
    """Whether it is known to hold only regular files."""


def read_digest_folder(
    filesystem: Filesystem, parent_fd: int, repository: str | None, hexadecimal: str
) -> ImageFound | None:
    """Examine one digest's folder, of a repository or (None) of content.

    Returns None where it is not an image: in a repository, where it holds neither metadata nor a disk; in
    content, where it has gone. Whatever changes after the look has a different inode or ctime than is
    returned.
    """
    return read_digest_folders(filesystem, parent_fd, repository, [hexadecimal])[0]


def read_digest_folders(
    filesystem: Filesystem, parent_fd: int, repository: str | None, names: list[str]
) -> list[ImageFound | None]:
    """Examine some digests' folders, each as `read_digest_folder` does; about `BATCH` at a time is best."""
    looks = filesystem.look_at_images(parent_fd, names, METADATA, _DISKS, CHUNK)
    return [
        _whole(look, repository, name) or _understood(filesystem, parent_fd, repository, name, look)
        for name, look in zip(names, looks, strict=True)
    ]


def _understood(
    filesystem: Filesystem, parent_fd: int, repository: str | None, hexadecimal: str, look: ImageLook
) -> ImageFound | None:
    """Interpret what was read of one digest's folder."""
    error, content, inode, changed_ns, number, disk_error, blocks, shared, holds_files_only = look
    disk, disk_fault, is_there = _disk_of(number, disk_error, blocks, shared)
    has_disk = is_there and not disk_fault
    fault = ""
    if not error:
        try:
            metadata = _metadata_in(filesystem, parent_fd, hexadecimal, content)
        except UnreadableError as unreadable:
            fault = f"{METADATA} cannot be read: {unreadable}"
        except OSError as second:
            error = second.errno or errno.EIO
        else:
            image = _judged(metadata, disk, disk_fault, repository, hexadecimal)
            return ImageFound(
                image,
                inode & INODE_BITS,
                changed_ns,
                has_disk,
                base=metadata.base,
                holds_files_only=holds_files_only,
            )
    if error in NOTHING_THERE:
        if repository is not None and not is_there:
            return None
        age_ns = 0 if repository is not None else age_of(filesystem, parent_fd, hexadecimal)
        if age_ns is None:
            return None
        if repository is None and age_ns < _PENDING_NS:
            pending = Image(digest_of(hexadecimal), "pending", None, 0, *disk, content_name="")
            return ImageFound(pending, has_disk=has_disk)
        fault = f"no {METADATA}"
    elif error:
        fault = f"{METADATA} cannot be read: {os.strerror(error)}"
    broken = _unknown(repository, hexadecimal, disk, fault)
    return ImageFound(broken, has_disk=has_disk, is_unreadable=error not in (0, *NOTHING_THERE))


def _whole(look: ImageLook, repository: str | None, hexadecimal: str) -> ImageFound | None:
    """Interpret a look at an image that is ready and complete, as nearly all are; None where it is not."""
    _, content, inode, changed_ns, _, _, blocks, shared, holds_files_only = look
    if not holds_files_only:
        return None
    try:
        metadata = read_image_metadata(content)
    except UnreadableError:
        return None
    digest = digest_of(hexadecimal)
    if metadata.digest != digest or metadata.status != _READY:
        return None
    if repository is not None and _misnamed(metadata.name, repository):
        return None
    image = Image(
        digest,
        _READY,
        metadata.created_ns,
        metadata.size_bytes,
        blocks * BLOCK,
        None if shared is None else SharedDisk(*shared),
        None,
        metadata.pullable,
        None if repository is not None else _repository_in(metadata.name),
    )
    base = "" if metadata.machine is None else metadata.base
    return ImageFound(image, inode & INODE_BITS, changed_ns, True, base=base, holds_files_only=True)


def _metadata_in(filesystem: Filesystem, parent_fd: int, hexadecimal: str, content: bytes) -> ImageMetadata:
    """Decode metadata that was read.

    Raises:
        OSError, UnreadableError: it cannot be read.
    """
    try:
        return read_image_metadata(content)
    except UnreadableError:
        # The read may have been cut short, and a truncated document is not a JSON object.
        return read_image_metadata(read_file(filesystem, f"{hexadecimal}/{METADATA}", parent_fd))


def image_of(content: bytes, disk: Stat, repository: str | None, hexadecimal: str) -> Image:
    """Assess a digest's folder by its metadata and its disk."""
    links = disk.st_nlink
    shared = (disk.st_dev, disk.st_ino, links) if links > 1 else None
    space = _space(disk.st_blocks, shared) if stat.S_ISREG(disk.st_mode) else NO_DISK
    try:
        metadata = read_image_metadata(content)
    except UnreadableError as error:
        return _unknown(repository, hexadecimal, space, f"{METADATA} cannot be read: {error}")
    return _judged(metadata, space, "", repository, hexadecimal)


def _unknown(repository: str | None, hexadecimal: str, disk: Disk, fault: str) -> Image:
    """Return an image of which no metadata can be read."""
    name = None if repository is not None else ""
    return Image(digest_of(hexadecimal), "unknown", None, 0, *disk, fault, content_name=name)


def _judged(
    metadata: ImageMetadata, disk: Disk, disk_fault: str, repository: str | None, hexadecimal: str
) -> Image:
    digest = digest_of(hexadecimal)
    fault = ""
    # guard(metadata-names-the-digest): A folder whose metadata names another digest is not the image that was
    # meant; it is reported and stays.
    if metadata.digest != digest:
        fault = f"{METADATA} names another digest: {metadata.digest[:100]}"
    elif repository is not None:
        fault = _misnamed(metadata.name, repository)
    if not metadata.status:
        fault = f"{METADATA} has no status"
    elif not fault and metadata.status == "ready":
        fault = disk_fault
    return Image(
        digest,
        intern(metadata.status or "unknown"),
        metadata.created_ns,
        metadata.size_bytes,
        *disk,
        fault or None,
        metadata.pullable,
        None if repository is not None else _repository_in(metadata.name),
    )


def _misnamed(name: str, repository: str) -> str:
    """Return how a name contradicts the repository whose folder holds it; empty where it does not."""
    rest = name.removeprefix(repository)
    if rest != name and rest[:1] in (":", "@") and "/" not in rest:
        return ""
    try:
        named = parse_reference(name).repository
    except InvalidReferenceError:
        return f"{METADATA} has a name that is not a reference"
    # guard(metadata-names-its-owner): A folder whose metadata names another repository is not the image that
    # was meant; it is reported and stays.
    return "" if named == repository else f"{METADATA} names another repository: {named}"


def _repository_in(name: str) -> str:
    """Return the repository of a name; empty where it is not a reference."""
    text, _, digest = name.partition("@")
    head, slash, last = text.rpartition("/")
    plain = _plain_repository(f"{head}{slash}{last.partition(':')[0]}")
    if plain is not None and (digest or ":" in last):
        return plain
    try:
        return intern(parse_reference(name).repository)
    except InvalidReferenceError:
        return ""


@lru_cache(maxsize=16_384)
def _plain_repository(text: str) -> str | None:
    """Return a text that is a full repository name, as hypeman writes it; None: it has another form."""
    try:
        return intern(text) if parse_reference(text).repository == text else None
    except InvalidReferenceError:
        return None


def forget_repositories() -> None:
    """Empty the cache of known repository names: after days of operation, few of them are still in use."""
    _plain_repository.cache_clear()


def age_of(filesystem: Filesystem, parent_fd: int, path: str) -> int | None:
    """Return how long ago a folder or file last changed, in nanoseconds; None: it has gone."""
    try:
        found = filesystem.stat(path, dir_fd=parent_fd, follow_symlinks=False)
    except OSError:
        return None
    return filesystem.now_ns() - found.st_mtime_ns


def _disk_of(
    number: int, error: int, blocks: int, shared: tuple[int, int, int] | None
) -> tuple[Disk, str, bool]:
    """Return the space that an image's disk occupies, what is wrong with the disk, and whether it exists."""
    if number < 0:
        return NO_DISK, "no rootfs", False
    if error:
        return NO_DISK, f"{ROOTFS_NAMES[number]} cannot be examined: {os.strerror(error)}", False
    if blocks < 0:
        return NO_DISK, f"{ROOTFS_NAMES[number]} is not a regular file", True
    return _space(blocks, shared), "", True


def _space(blocks: int, shared: tuple[int, int, int] | None) -> Disk:
    """Return the space that a disk occupies."""
    return blocks * BLOCK, None if shared is None else SharedDisk(*shared)
