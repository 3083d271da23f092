"""Reading `images/` one folder at a call, so that the caller decides how much is done at a time."""

import errno
from array import array
from collections.abc import Callable

import msgspec

from hmret.disk.filesystem import Filesystem
from hmret.disk.fingerprints import SETTLING_NS, stable_fingerprint
from hmret.disk.folders import BATCH, open_folder, opened
from hmret.disk.folders_ahead import FolderAhead
from hmret.disk.hypeman.content import is_part, list_content, part_signature, scan_part
from hmret.disk.hypeman.folder_contents import with_contents
from hmret.disk.hypeman.hidden import find_hidden
from hmret.disk.hypeman.images import (
    BLOCK,
    NOTHING,
    FolderScan,
    image_of,
    read_digest_folder,
    read_digest_folders,
)
from hmret.disk.hypeman.links import pointed_to, tag_folder
from hmret.disk.hypeman.repositories import (
    is_host,
    list_entries,
    read_tags,
    repository_of,
    scan_tag_folder,
    stage_oddities,
)
from hmret.disk.layout import (
    CONTENT,
    DIGEST_HEX,
    FOLDER_NAME,
    HEX_DIGITS,
    IMAGES,
    METADATA,
    REPOSITORIES,
    Layout,
    digest_of,
    hex_of,
)
from hmret.disk.watched_paths import changed_files
from hmret.model.images import Image, Repository
from hmret.model.references import is_repository

__all__ = [
    "BLOCK",
    "FolderScan",
    "OddTagError",
    "image_of",
    "link_time",
    "look_at_image",
    "rescan_folder",
    "resolve_tag",
    "scan_folder",
]


def scan_folder(
    filesystem: Filesystem,
    images_fd: int,
    path: str,
    known: FolderScan | None = None,
    pause: Callable[[], None] = lambda: None,
    *,
    ahead: FolderAhead | None = None,
) -> FolderScan:
    """Read one folder below `images/` (`""`: that folder itself), with the metadata of the images in it.

    A folder that has gone since it was listed is empty; any other error is reported, not raised. Images that
    are in `known`, and whose folders have not changed since, are not read again. `ahead`: what has just been
    read of a folder of tags.
    """
    if path == CONTENT or is_part(path):
        return _scan_content(filesystem, images_fd, path, known, pause)
    if path == REPOSITORIES or repository_of(path) is not None:
        found = scan_tag_folder(filesystem, images_fd, path, known, ahead)
        pause()
        return found
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


def _scan_content(
    filesystem: Filesystem, images_fd: int, path: str, known: FolderScan | None, pause: Callable[[], None]
) -> FolderScan:
    """List the content folder, or read one part of it."""
    listing, names = list_content(filesystem, images_fd)
    if path == CONTENT:
        return listing
    if path not in names:
        return FolderScan(path, error=listing.error)
    fingerprints = {part: part_signature(count, total) for part, count, total in listing.prints}
    return scan_part(filesystem, images_fd, path, names[path], fingerprints[path], known=known, pause=pause)


def rescan_folder(filesystem: Filesystem, images_fd: int, known: FolderScan) -> FolderScan:
    """Examine the images of a folder that were not ready or not complete, where the folder itself is unchanged.

    Returns `known` itself where they have not changed.
    """
    repository = known.repository
    # guard(unready-is-checked-again): A pull finishes inside a folder whose own time stamps stay the same, so
    # images that were not ready are looked at each time.
    if repository is None or not known.unsettled:
        return known
    of_content = is_part(known.path)
    fresh: dict[str, Image] = {}
    bases = dict(known.bases)
    with_disk: list[str] = []
    unreadable: list[str] = []
    try:
        with opened(
            filesystem, open_folder(filesystem, CONTENT if of_content else known.path, images_fd)
        ) as fd:
            names = [hex_of(digest) for digest in known.unsettled]
            looks = read_digest_folders(filesystem, fd, None if of_content else known.path, names)
            inside = with_contents(filesystem, fd, names, looks)
            for digest, found in zip(known.unsettled, inside, strict=True):
                if found is None:
                    return scan_folder(filesystem, images_fd, known.path, known)
                if found.has_disk:
                    with_disk.append(digest)
                if found.is_unreadable:
                    unreadable.append(digest)
                if found.image != repository.images[digest]:
                    fresh[digest] = found.image
                if found.base:
                    bases[digest] = found.base
                else:
                    bases.pop(digest, None)
    except OSError:
        return scan_folder(filesystem, images_fd, known.path, known)
    if not fresh and (tuple(with_disk), tuple(unreadable), tuple(bases.items())) == (
        known.with_disk,
        known.unreadable,
        known.bases,
    ):
        return known
    images = {**repository.images, **fresh}
    return msgspec.structs.replace(
        known,
        repository=msgspec.structs.replace(repository, images=images),
        unsettled=tuple(digest for digest in known.unsettled if not images[digest].is_plain),
        with_disk=tuple(with_disk),
        unreadable=tuple(unreadable),
        bases=tuple(bases.items()),
    )


def _scan_open_folder(
    filesystem: Filesystem, fd: int, path: str, known: FolderScan | None, pause: Callable[[], None]
) -> FolderScan:
    looked_ns = filesystem.now_ns()
    fingerprint = stable_fingerprint(filesystem.fstat(fd), looked_ns)
    entries = list_entries(filesystem, fd)
    if not path:
        hidden = find_hidden(filesystem, fd, path, filter(is_host, entries.links))
        present = {*entries.links, *entries.folders, *entries.others}
        folders = sorted(filter(FOLDER_NAME.fullmatch, entries.folders))
        # Anything other than a folder there is reported when it is read.
        of_content = [name for name in (CONTENT, REPOSITORIES) if name in present]
        others = tuple(name for name in folders if name not in of_content and not is_host(name))
        hosts = [name for name in folders if name not in of_content and name not in others]
        return FolderScan(
            path,
            subfolders=(*of_content, *hosts),
            unknown_folders=others,
            fingerprint=None if hidden else fingerprint,
            hidden=hidden,
        )
    named = is_repository(path)
    reader = _Images(filesystem, fd, path, looked_ns, known)
    digests = [name for name in entries.folders if len(name) == HEX_DIGITS and DIGEST_HEX.fullmatch(name)]
    empty: list[str] = []
    unknown = reader.take_known(digests)
    for start in range(0, len(unknown), BATCH):
        empty += reader.look(unknown[start : start + BATCH])
        pause()
    if empty:
        # A digest folder that is still empty: what is written into it does not change this folder.
        fingerprint = None
    levels = filter(FOLDER_NAME.fullmatch, {*entries.folders}.difference(digests))
    subfolders = [f"{path}/{name}" for name in (*sorted(levels), *empty)]
    if not named:
        hidden = find_hidden(filesystem, fd, path, entries.links)
        return FolderScan(
            path, None, tuple(subfolders), fingerprint=None if hidden else fingerprint, hidden=hidden
        )
    images = reader.images
    found = read_tags(filesystem, fd, path, entries, (known or NOTHING).tags)
    hidden = find_hidden(filesystem, fd, path, (link for link in entries.links if link not in found.tags))
    # Where their image is in the cache, tags share the string object of its digest.
    tags = {tag: images[digest].digest if digest in images else digest for tag, digest in found.tags.items()}
    is_staging, left = stage_oddities(filesystem, fd, path, entries.folders)
    return FolderScan(
        path,
        Repository(path, images, tags, odd_tags=found.odd_tags) if images or tags or found.odd_tags else None,
        tuple(subfolders),
        fingerprint=None if is_staging or hidden else fingerprint,
        marks=reader.marks.tobytes(),
        unsettled=tuple(digest for digest, image in images.items() if not image.is_plain),
        with_disk=tuple(reader.with_disk),
        unreadable=tuple(reader.unreadable),
        bases=tuple(reader.bases.items()),
        oddities=(*found.oddities, *left),
        hidden=hidden,
    )


class _Images:
    """Reads the images of one open folder, except those that are known and have not changed."""

    def __init__(
        self, filesystem: Filesystem, fd: int, path: str, looked_ns: int, known: FolderScan | None
    ) -> None:
        self._filesystem = filesystem
        self._fd = fd
        self._path = path
        self._settled_ns = looked_ns - SETTLING_NS
        self.images: dict[str, Image] = {}
        self.marks = array("q")
        self.with_disk: list[str] = []
        self.unreadable: list[str] = []
        self.bases: dict[str, str] = {}
        self._known = known or NOTHING

    def take_known(self, names: list[str]) -> list[str]:
        """Reuse what is known of images whose metadata is unchanged; returns the names of the others."""
        images, marks = self._known.images, array("q", self._known.marks)
        if not images or len(marks) != 2 * len(images):
            return names
        present = {*names}
        here = [
            (image, inode, changed_ns)
            for image, inode, changed_ns in zip(images.values(), marks[::2], marks[1::2], strict=True)
            if inode >= 0 and hex_of(image.digest) in present
        ]
        changed = changed_files(
            self._filesystem,
            self._fd,
            (f"{hex_of(image.digest)}/{METADATA}" for image, _, _ in here),
            (number for _, *mark in here for number in mark),
        )
        bases = dict(self._known.bases)
        for number, (image, inode, changed_ns) in enumerate(here):
            if number not in changed:
                self._add(image, inode, changed_ns, bases.get(image.digest, ""))
        return [name for name in names if digest_of(name) not in self.images]

    def look(self, names: list[str]) -> list[str]:
        """Examine some digest folders; returns those that hold neither metadata nor disk, so are not images."""
        found_in = read_digest_folders(self._filesystem, self._fd, self._path, names)
        empty: list[str] = []
        for name, found in zip(
            names, with_contents(self._filesystem, self._fd, names, found_in), strict=True
        ):
            if found is None:
                empty.append(name)
                continue
            may_change = found.changed_ns > self._settled_ns
            if not found.image.is_plain:
                may_change = True
                self.with_disk += [found.image.digest] if found.has_disk else []
                self.unreadable += [found.image.digest] if found.is_unreadable else []
            self._add(found.image, -1 if may_change else found.inode, found.changed_ns, found.base)
        return empty

    def _add(self, image: Image, inode: int, changed_ns: int, base: str) -> None:
        if base:
            self.bases[image.digest] = base
        self.images[image.digest] = image
        self.marks.append(inode)
        self.marks.append(changed_ns)


def look_at_image(
    filesystem: Filesystem, images_fd: int, repository: str | None, digest: str
) -> Image | None:
    """Examine a digest's folder again, in a repository or (None) in content; None where it is not an image."""
    try:
        fd = open_folder(filesystem, CONTENT if repository is None else repository, images_fd)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        found = read_digest_folder(filesystem, fd, repository, hex_of(digest))
    finally:
        filesystem.close(fd)
    return None if found is None else found.image


class OddTagError(OSError):
    """Something is in a tag's place that is not a valid tag, so it is unknown what the tag points to."""


def resolve_tag(filesystem: Filesystem, images_fd: int, repository: str, tag: str) -> str | None:
    """Return the digest that a tag points to now, as hypeman looks it up; None where there is no such tag.

    Whatever lies below `repositories/` counts; only where nothing does, a link of the older layout.

    Raises:
        OddTagError: something in its place is not a tag, or lies behind a link.
        OSError: it exists but cannot be read.
    """
    for layout in Layout:
        folder = tag_folder(layout, repository)
        path = f"{folder.removeprefix(f'{IMAGES}/')}/{tag}"
        try:
            target = filesystem.readlink(path, dir_fd=images_fd)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                continue
            if error.errno == errno.EINVAL:
                raise OddTagError(error.errno, "not a tag", path) from None
            raise
        hexadecimal = pointed_to(folder, target)
        if hexadecimal is None:
            raise OddTagError(errno.EINVAL, "not a tag", path)
        return digest_of(hexadecimal)
    return None


def link_time(filesystem: Filesystem, images_fd: int, repository: str, tag: str) -> int | None:
    """Return when a tag's link was made, in nanoseconds; None where there is none, or it cannot be examined."""
    for path in (f"{REPOSITORIES}/{repository}/{tag}", f"{repository}/{tag}"):
        try:
            return filesystem.stat(path, dir_fd=images_fd, follow_symlinks=False).st_mtime_ns
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None
