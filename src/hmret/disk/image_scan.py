"""Reading `images/`: one folder at a call, so that whoever calls decides how much is done in one go."""

import errno
import stat
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from sys import intern

import attrs

from hmret.disk.documents import ImageMetadata, UnreadableError, read_image_metadata
from hmret.disk.filesystem import Filesystem, Stat
from hmret.disk.folders import CHUNK, READ, let_go, open_folder, opened, read_file
from hmret.disk.layout import (
    DIGEST_HEX,
    FOLDER_NAME,
    HEX_DIGITS,
    METADATA,
    NEWER_LAYOUT,
    ROOTFS_NAMES,
    TAG_NAME,
    digest_of,
    hex_of,
)
from hmret.disk.signatures import SETTLING_NS, Signature, settled
from hmret.model.errors import InvalidReferenceError
from hmret.model.images import Image, Repository, SharedDisk
from hmret.model.references import is_repository, parse_reference

__all__ = [
    "BLOCK",
    "FolderScan",
    "image_of",
    "link_time",
    "look_again",
    "look_at_image",
    "read_image",
    "resolve_tag",
    "scan_folder",
]

BLOCK = 512
"""Bytes in a block of `st_blocks`."""

# As much of an inode number as a mark holds: some file systems use all 64 bits.
_INODE_BITS = 2**63 - 1


@attrs.frozen
class FolderScan:
    """What one folder below `images/` holds."""

    path: str
    repository: Repository | None = None
    """Set where it holds images or tags and is named as a repository can be."""
    subfolders: tuple[str, ...] = ()
    """Paths of the folders in it that may hold repositories."""
    error: OSError | None = None
    """Why it could not be listed."""
    newer_layout: tuple[str, ...] = ()
    """Folders of hypeman's newer layout, which are left alone."""
    signature: Signature | None = attrs.field(default=None, eq=False)
    """While the folder has it, no image has come or gone in it, and no tag has moved; None: look again."""
    marks: Sequence[int] = attrs.field(default=(), eq=False, repr=False)
    """Inode and ctime (in nanoseconds) of each image's folder, in the order of the images; -1: read it again."""
    unsettled: tuple[str, ...] = attrs.field(default=(), eq=False)
    """Digests of the images that are not ready or not whole: they are looked at every time."""


def scan_folder(
    filesystem: Filesystem,
    images_fd: int,
    path: str,
    known: FolderScan | None = None,
    pause: Callable[[], None] = lambda: None,
) -> FolderScan:
    """Read one folder below `images/` (`""`: that itself), with the metadata of the images in it.

    A folder that has gone since it was listed is empty; any other error is reported, not raised. Images that stand in
    `known`, and whose folders have not changed since, are not read again.
    """
    try:
        fd = open_folder(filesystem, path or ".", images_fd)
    except (FileNotFoundError, NotADirectoryError):
        return FolderScan(path)
    except OSError as error:
        return FolderScan(path, error=error)
    try:
        return _scan_open_folder(filesystem, fd, path, known, pause)
    except OSError as error:
        return FolderScan(path, error=error)
    finally:
        filesystem.close(fd)


def look_again(filesystem: Filesystem, images_fd: int, known: FolderScan) -> FolderScan:
    """Look at those images of a folder that were not ready or not whole, the folder itself being unchanged.

    Returns `known` itself where they are what they were.
    """
    repository = known.repository
    if repository is None or not known.unsettled:
        return known
    fresh: dict[str, Image] = {}
    try:
        with opened(filesystem, open_folder(filesystem, known.path, images_fd)) as fd:
            for digest in known.unsettled:
                image = read_image(filesystem, fd, known.path, hex_of(digest))
                if image is None:
                    return scan_folder(filesystem, images_fd, known.path, known)
                if image != repository.images[digest]:
                    fresh[digest] = image
    except OSError:
        return scan_folder(filesystem, images_fd, known.path, known)
    if not fresh:
        return known
    images = {**repository.images, **fresh}
    return attrs.evolve(
        known,
        repository=Repository(known.path, images, repository.tags),
        unsettled=tuple(digest for digest in known.unsettled if not _is_settled(images[digest])),
    )


def _scan_open_folder(
    filesystem: Filesystem, fd: int, path: str, known: FolderScan | None, pause: Callable[[], None]
) -> FolderScan:
    looked_ns = filesystem.now_ns()
    signature = settled(filesystem.fstat(fd), looked_ns)
    links: list[str] = []
    folders: list[str] = []
    with filesystem.scandir(fd) as entries:
        for entry in entries:
            if entry.is_symlink():
                links.append(entry.name)
            elif entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
    if not path:
        folders = list(filter(FOLDER_NAME.fullmatch, folders))
        newer = tuple(sorted(NEWER_LAYOUT.intersection(folders)))
        below = tuple(name for name in folders if name not in NEWER_LAYOUT)
        return FolderScan(path, subfolders=below, newer_layout=newer, signature=signature)
    named = is_repository(path)
    reader = _Images(filesystem, fd, path, looked_ns, known)
    subfolders: list[str] = []
    for name in folders:
        if len(name) != HEX_DIGITS or not DIGEST_HEX.fullmatch(name):
            if FOLDER_NAME.fullmatch(name):
                subfolders.append(f"{path}/{name}")
        elif not reader.look(name):
            subfolders.append(f"{path}/{name}")
            # A digest folder that is still empty: what comes into it does not change this folder.
            signature = None
        pause()
    images = reader.images if named else {}
    tags = _read_links(filesystem, fd, links, images) if named else {}
    return FolderScan(
        path,
        Repository(path, images, tags) if images or tags else None,
        tuple(subfolders),
        signature=signature,
        marks=reader.marks,
        unsettled=tuple(digest for digest, image in images.items() if not _is_settled(image)),
    )


def _read_links(
    filesystem: Filesystem, fd: int, links: Iterable[str], images: Mapping[str, Image]
) -> dict[str, str]:
    """Read the tags among some links; where their image is here, they hold the very text that names it."""
    tags: dict[str, str] = {}
    for name in filter(TAG_NAME.fullmatch, links):
        digest = _target(filesystem, fd, name)
        if digest is not None:
            image = images.get(digest)
            tags[name] = digest if image is None else image.digest
    return tags


class _Images:
    """Reads the images of one open folder, but for those that are known and have not changed."""

    def __init__(
        self, filesystem: Filesystem, fd: int, path: str, looked_ns: int, known: FolderScan | None
    ) -> None:
        self._filesystem = filesystem
        self._fd = fd
        self._path = path
        self._settled_ns = looked_ns - SETTLING_NS
        self.images: dict[str, Image] = {}
        self.marks = array("q")
        self._known: Mapping[str, tuple[Image, int, int]] = {}
        if known is not None and known.repository is not None:
            pairs = iter(known.marks)
            images = known.repository.images
            self._known = {
                hex_of(digest): found
                for digest, found in zip(
                    images, zip(images.values(), pairs, pairs, strict=False), strict=False
                )
            }

    def look(self, name: str) -> bool:
        """Look at one digest folder; False where it holds neither metadata nor a disk, so is no image."""
        known = self._known.get(name)
        if known is not None and self._is_still(name, known[1], known[2]):
            image, inode, changed_ns = known
        else:
            found = _read_image(self._filesystem, self._fd, self._path, name)
            if found is None:
                return False
            image, inode, changed_ns = found
            if changed_ns > self._settled_ns or not _is_settled(image):
                inode = -1
        self.images[image.digest] = image
        self.marks.append(inode)
        self.marks.append(changed_ns)
        return True

    def _is_still(self, name: str, inode: int, changed_ns: int) -> bool:
        """Tell whether the metadata of an image is that which was read."""
        if inode < 0:
            return False
        try:
            found = self._filesystem.stat(f"{name}/{METADATA}", dir_fd=self._fd, follow_symlinks=False)
        except OSError:
            return False
        return found.st_ino & _INODE_BITS == inode and found.st_ctime_ns == changed_ns


def _is_settled(image: Image) -> bool:
    """Tell whether an image is as it will stay."""
    return image.status == "ready" and image.broken is None


def read_image(filesystem: Filesystem, repository_fd: int, repository: str, hexadecimal: str) -> Image | None:
    """Look at one digest folder; None where it holds neither metadata nor a disk, so is no image."""
    found = _read_image(filesystem, repository_fd, repository, hexadecimal)
    return None if found is None else found[0]


def _read_image(
    filesystem: Filesystem, repository_fd: int, repository: str, hexadecimal: str
) -> tuple[Image, int, int] | None:
    """Look at one digest folder, as `read_image`; returns the inode and ctime of its metadata beside the image.

    They are taken before the metadata is read: what changes after that has others.
    """
    path = f"{hexadecimal}/{METADATA}"
    metadata, fault = None, ""
    inode, changed_ns = -1, -1
    try:
        fd = filesystem.open(path, READ, dir_fd=repository_fd)
        try:
            found = filesystem.fstat(fd)
            inode, changed_ns = found.st_ino & _INODE_BITS, found.st_ctime_ns
            content = filesystem.read(fd, CHUNK)
        finally:
            let_go(filesystem, fd)
        try:
            metadata = read_image_metadata(content)
        except UnreadableError:
            # The system may have cut that read short, and what is cut is no JSON object.
            metadata = read_image_metadata(read_file(filesystem, path, repository_fd))
    except (FileNotFoundError, NotADirectoryError):
        fault = f"no {METADATA}"
    except OSError as error:
        fault = f"{METADATA} cannot be read: {error.strerror}"
    except UnreadableError as error:
        fault = f"{METADATA} cannot be read: {error}"
    disk, disk_fault = _look_at_disk(filesystem, repository_fd, hexadecimal)
    if metadata is not None:
        return _judged(metadata, disk, disk_fault, repository, hexadecimal), inode, changed_ns
    if disk is None and fault.startswith("no "):
        return None
    return Image(digest_of(hexadecimal), "unknown", None, 0, *_blocks(disk), fault), -1, -1


def image_of(content: bytes, disk: Stat | None, disk_fault: str, repository: str, hexadecimal: str) -> Image:
    """Judge a digest folder by its metadata and its disk; `disk_fault` says what is wrong with that, if anything."""
    try:
        metadata = read_image_metadata(content)
    except UnreadableError as error:
        fault = f"{METADATA} cannot be read: {error}"
        return Image(digest_of(hexadecimal), "unknown", None, 0, *_blocks(disk), fault)
    return _judged(metadata, disk, disk_fault, repository, hexadecimal)


def _judged(
    metadata: ImageMetadata, disk: Stat | None, disk_fault: str, repository: str, hexadecimal: str
) -> Image:
    fault = _misnamed(metadata.name, metadata.digest, repository, hexadecimal)
    if not metadata.status:
        fault = f"{METADATA} states no status"
    elif not fault and metadata.status == "ready":
        fault = disk_fault
    return Image(
        digest_of(hexadecimal),
        intern(metadata.status or "unknown"),
        metadata.created_ns,
        metadata.size_bytes,
        *_blocks(disk),
        fault or None,
        metadata.pullable,
    )


def look_at_image(filesystem: Filesystem, images_fd: int, repository: str, digest: str) -> Image | None:
    """Look at one image afresh; None where it is not here."""
    try:
        fd = open_folder(filesystem, repository, images_fd)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return read_image(filesystem, fd, repository, hex_of(digest))
    finally:
        filesystem.close(fd)


def resolve_tag(filesystem: Filesystem, images_fd: int, repository: str, tag: str) -> str | None:
    """Read the digest that a tag points to now; None where there is no such tag.

    Raises:
        OSError: it is there and cannot be read.
    """
    return _target(filesystem, images_fd, f"{repository}/{tag}")


def link_time(filesystem: Filesystem, images_fd: int, repository: str, tag: str) -> int | None:
    """Tell when a tag's link was made, in nanoseconds; None where there is none."""
    try:
        found = filesystem.stat(f"{repository}/{tag}", dir_fd=images_fd, follow_symlinks=False)
    except OSError:
        return None
    return found.st_mtime_ns


def _target(filesystem: Filesystem, fd: int, path: str) -> str | None:
    """Read the digest that a tag points to; None where there is no such tag.

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        target = filesystem.readlink(path, dir_fd=fd)
    except OSError as error:
        # EINVAL: it is there, and is no link.
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EINVAL):
            return None
        raise
    return digest_of(target) if len(target) == HEX_DIGITS and DIGEST_HEX.fullmatch(target) else None


def _misnamed(name: str, digest: str, repository: str, hexadecimal: str) -> str:
    """Say how metadata contradicts its folder; empty where it does not."""
    if digest != digest_of(hexadecimal):
        return f"{METADATA} names another digest: {digest[:100]}"
    rest = name.removeprefix(repository)
    if rest != name and rest[:1] in (":", "@") and "/" not in rest:
        return ""
    try:
        named = parse_reference(name).repository
    except InvalidReferenceError:
        return f"{METADATA} has a name that is no reference"
    return "" if named == repository else f"{METADATA} names another repository: {named}"


def _look_at_disk(filesystem: Filesystem, repository_fd: int, hexadecimal: str) -> tuple[Stat | None, str]:
    """Find the disk of an image, and say what is wrong with it."""
    for name in ROOTFS_NAMES:
        try:
            found = filesystem.stat(f"{hexadecimal}/{name}", dir_fd=repository_fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            return None, f"{name} cannot be looked at: {error.strerror}"
        if not stat.S_ISREG(found.st_mode):
            return found, f"{name} is no regular file"
        return found, ""
    return None, "no rootfs"


def _blocks(disk: Stat | None) -> tuple[int, SharedDisk | None]:
    """Tell how many bytes a disk occupies, and with whom it may share them."""
    if disk is None or not stat.S_ISREG(disk.st_mode):
        return 0, None
    shared = SharedDisk(disk.st_dev, disk.st_ino, disk.st_nlink) if disk.st_nlink > 1 else None
    return disk.st_blocks * BLOCK, shared
