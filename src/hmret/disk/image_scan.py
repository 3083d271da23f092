"""Reading `images/`: one folder at a call, so that whoever calls decides how much is done in one go."""

import errno
import stat

import attrs

from hmret.disk.documents import UnreadableError, read_image_metadata
from hmret.disk.filesystem import Filesystem, Stat
from hmret.disk.folders import open_folder, read_file
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
from hmret.model.errors import InvalidReferenceError
from hmret.model.images import Image, Repository, SharedDisk
from hmret.model.references import is_repository, parse_reference

__all__ = [
    "BLOCK",
    "FolderScan",
    "image_of",
    "link_time",
    "look_at_image",
    "read_image",
    "read_tags",
    "resolve_tag",
    "scan_folder",
]

BLOCK = 512
"""Bytes in a block of `st_blocks`."""


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


def scan_folder(filesystem: Filesystem, images_fd: int, path: str) -> FolderScan:
    """Read one folder below `images/` (`""`: that itself), with the metadata of the images in it.

    A folder that has gone since it was listed is empty; any other error is reported, not raised.
    """
    try:
        fd = open_folder(filesystem, path or ".", images_fd)
    except (FileNotFoundError, NotADirectoryError):
        return FolderScan(path)
    except OSError as error:
        return FolderScan(path, error=error)
    try:
        return _scan_open_folder(filesystem, fd, path)
    except OSError as error:
        return FolderScan(path, error=error)
    finally:
        filesystem.close(fd)


def _scan_open_folder(filesystem: Filesystem, fd: int, path: str) -> FolderScan:
    named = is_repository(path) if path else False
    tags: dict[str, str] = {}
    folders: list[str] = []
    with filesystem.scandir(fd) as entries:
        for entry in entries:
            name = entry.name
            if entry.is_symlink():
                digest = _target(filesystem, fd, name) if named and TAG_NAME.fullmatch(name) else None
                if digest is not None:
                    tags[name] = digest
            elif FOLDER_NAME.fullmatch(name) and entry.is_dir(follow_symlinks=False):
                folders.append(name)
    if not path:
        newer = tuple(sorted(NEWER_LAYOUT.intersection(folders)))
        return FolderScan(
            path, subfolders=tuple(name for name in folders if name not in NEWER_LAYOUT), newer_layout=newer
        )
    images: dict[str, Image] = {}
    subfolders: list[str] = []
    for name in folders:
        image = None
        if len(name) == HEX_DIGITS and DIGEST_HEX.fullmatch(name):
            image = read_image(filesystem, fd, path, name)
        if image is None:
            subfolders.append(f"{path}/{name}")
        elif named:
            images[image.digest] = image
    repository = Repository(path, images, tags) if images or tags else None
    return FolderScan(path, repository, tuple(subfolders))


def read_image(filesystem: Filesystem, repository_fd: int, repository: str, hexadecimal: str) -> Image | None:
    """Look at one digest folder; None where it holds neither metadata nor a disk, so is no image."""
    try:
        content = read_file(filesystem, f"{hexadecimal}/{METADATA}", repository_fd)
    except (FileNotFoundError, NotADirectoryError):
        content = None
        fault = f"no {METADATA}"
    except OSError as error:
        content = None
        fault = f"{METADATA} cannot be read: {error.strerror}"
    disk, disk_fault = _look_at_disk(filesystem, repository_fd, hexadecimal)
    if content is None:
        if disk is None and fault.startswith("no "):
            return None
        return _image(hexadecimal, disk, broken=fault)
    return image_of(content, disk, disk_fault, repository, hexadecimal)


def image_of(content: bytes, disk: Stat | None, disk_fault: str, repository: str, hexadecimal: str) -> Image:
    """Judge a digest folder by its metadata and its disk; `disk_fault` says what is wrong with that, if anything."""
    try:
        metadata = read_image_metadata(content)
    except UnreadableError as error:
        return _image(hexadecimal, disk, broken=f"{METADATA} cannot be read: {error}")
    fault = _misnamed(metadata.name, metadata.digest, repository, hexadecimal)
    if not metadata.status:
        fault = f"{METADATA} states no status"
    elif not fault and metadata.status == "ready":
        fault = disk_fault
    return _image(
        hexadecimal,
        disk,
        status=metadata.status or "unknown",
        created_ns=metadata.created_ns,
        size_bytes=metadata.size_bytes,
        broken=fault or None,
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


def read_tags(filesystem: Filesystem, repository_fd: int) -> dict[str, list[str]]:
    """List the tags in an open repository folder, by the digest that they point to."""
    tags: dict[str, list[str]] = {}
    with filesystem.scandir(repository_fd) as entries:
        names = [entry.name for entry in entries if entry.is_symlink() and TAG_NAME.fullmatch(entry.name)]
    for name in sorted(names):
        digest = _target(filesystem, repository_fd, name)
        if digest is not None:
            tags.setdefault(digest, []).append(name)
    return tags


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


def _image(
    hexadecimal: str,
    disk: Stat | None,
    *,
    status: str = "unknown",
    created_ns: int | None = None,
    size_bytes: int = 0,
    broken: str | None,
) -> Image:
    shared = None
    disk_bytes = 0
    if disk is not None and stat.S_ISREG(disk.st_mode):
        disk_bytes = disk.st_blocks * BLOCK
        if disk.st_nlink > 1:
            shared = SharedDisk(disk.st_dev, disk.st_ino, disk.st_nlink)
    return Image(digest_of(hexadecimal), status, created_ns, size_bytes, disk_bytes, shared, broken)
