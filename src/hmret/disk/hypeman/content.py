"""Reading `images/content/`: one folder with a folder for each digest, of which there may be very many.

A host's whole cache is one folder here, which changes whenever an image is added or removed. So it is read in
parts, divided by the first digits of the digests. When the folder has changed, it is listed, and a checksum
of the names and inodes in each part is computed. A part with the same checksum has not changed; in one that
has, images with the same name and inode are not read again. Between two listings, one `stat` of the folder
shows that nothing was added or removed.
"""

from array import array
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from hmret.disk.filesystem import Filesystem
from hmret.disk.fingerprints import Fingerprint, stable_fingerprint
from hmret.disk.folders import BATCH, open_folder, opened
from hmret.disk.hypeman.folder_contents import with_contents
from hmret.disk.hypeman.images import (
    FolderScan,
    ImageFound,
    Oddity,
    read_digest_folders,
)
from hmret.disk.layout import CONTENT, IMAGES, hex_of
from hmret.model.images import Image, Repository

PART_DIGITS = 2

ContentNames = dict[str, list[tuple[str, int]]]
"""For each part: the names of the folders in it, and their inodes."""

_PREFIX = f"{CONTENT}/"


def is_part(path: str) -> bool:
    """Return whether a path is that of a part of the content folder."""
    return path.startswith(_PREFIX)


def part_of(digest: str) -> str:
    """Return the path of the part of the content folder to which a digest belongs."""
    return f"{_PREFIX}{hex_of(digest)[:PART_DIGITS]}"


def part_signature(count: int, total: int) -> Fingerprint:
    """Make a fingerprint of a part's count and checksum, which serve as the time stamps of a folder do."""
    return 0, 0, count, 0, total


def list_content(
    filesystem: Filesystem, images_fd: int, known: FolderScan | None = None
) -> tuple[FolderScan, ContentNames]:
    """List `images/content/`, without examining the folders in it.

    Also returns the names in it, except those in parts that are as in `known`, an earlier listing. A link, or
    something other than a folder, in its place is an error: what it hides would pass for gone.
    """
    try:
        fd = open_folder(filesystem, CONTENT, images_fd)
    except FileNotFoundError:
        return FolderScan(CONTENT), {}
    except OSError as error:
        return FolderScan(CONTENT, error=error), {}
    with opened(filesystem, fd):
        try:
            return _list(filesystem, fd, known)
        except OSError as error:
            return FolderScan(CONTENT, error=error), {}


def _list(filesystem: Filesystem, fd: int, known: FolderScan | None) -> tuple[FolderScan, ContentNames]:
    fingerprint = stable_fingerprint(filesystem.fstat(fd), filesystem.now_ns())
    before = b""
    if known is not None:
        numbers = array("Q", bytes(16 << 4 * PART_DIGITS))
        for part, count, total in known.prints:
            place = 2 * int(part[len(_PREFIX) :], 16)
            numbers[place], numbers[place + 1] = count, total
        before = numbers.tobytes()
    found, fresh, others = filesystem.list_digests(fd, PART_DIGITS, before)
    names: ContentNames = defaultdict(list)
    for one in fresh:
        names[_PREFIX + one[0][:PART_DIGITS]].append(one)
    oddities: list[Oddity] = [
        ("not_an_image", f"{IMAGES}/{CONTENT}/{name}", "no folder named with 64 hex digits")
        for name in sorted(others)
        if not name.startswith(".")
    ]
    prints = tuple((f"{_PREFIX}{number:0{PART_DIGITS}x}", count, total) for number, count, total in found)
    subfolders = tuple(part for part, _, _ in prints)
    scan = FolderScan(
        CONTENT, subfolders=subfolders, fingerprint=fingerprint, prints=prints, oddities=tuple(oddities)
    )
    return scan, names


def names_in(known: FolderScan) -> list[tuple[str, int]]:
    """Return the names and inodes in a part that has not changed; an inode that is not known is -1."""
    images, marks = known.images, array("q", known.marks)
    inodes = list(marks[::2]) if len(marks) == 2 * len(images) else [-1] * len(images)
    return [(hex_of(digest), inode) for digest, inode in zip(images, inodes, strict=True)]


def _read_others(
    filesystem: Filesystem,
    fd: int,
    names: Sequence[tuple[str, int]],
    held: Mapping[str, tuple[Image, int]],
    pause: Callable[[], None],
) -> dict[str, ImageFound | None]:
    """Read the images that are not known by their inode."""
    others = [name for name, inode in names if name not in held or not inode == held[name][1] >= 0]
    looks: dict[str, ImageFound | None] = {}
    for start in range(0, len(others), BATCH):
        batch = others[start : start + BATCH]
        found = read_digest_folders(filesystem, fd, None, batch)
        looks.update(zip(batch, with_contents(filesystem, fd, batch, found), strict=True))
        pause()
    return looks


def scan_part(
    filesystem: Filesystem,
    images_fd: int,
    path: str,
    names: Sequence[tuple[str, int]],
    fingerprint: Fingerprint,
    *,
    known: FolderScan | None = None,
    pause: Callable[[], None] = lambda: None,
) -> FolderScan:
    """Read the images in a part of content, except those that `known` has, settled and with the same inode."""
    held: dict[str, tuple[Image, int]] = {}
    bases: dict[str, str] = {}
    if known is not None:
        held = {
            name: (image, inode)
            for image, (name, inode) in zip(known.images.values(), names_in(known), strict=True)
        }
        bases = dict(known.bases)
    images: dict[str, Image] = {}
    marks = array("q")
    with_disk: list[str] = []
    unreadable: list[str] = []
    found_bases: list[tuple[str, str]] = []
    try:
        with opened(filesystem, open_folder(filesystem, CONTENT, images_fd)) as fd:
            looks = _read_others(filesystem, fd, names, held, pause)
            for name, inode in names:
                if name not in looks:
                    image = held[name][0]
                    base = bases.get(image.digest, "")
                else:
                    found = looks[name]
                    if found is None:
                        continue
                    image, base = found.image, found.base
                    if not image.is_plain:
                        inode = -1
                        with_disk += [image.digest] if found.has_disk else []
                        unreadable += [image.digest] if found.is_unreadable else []
                images[image.digest] = image
                marks.append(inode)
                marks.append(0)
                if base:
                    found_bases.append((image.digest, base))
    except FileNotFoundError:
        return FolderScan(path)
    except OSError as error:
        return FolderScan(path, error=error)
    return FolderScan(
        path,
        Repository("", images, {}),
        fingerprint=fingerprint,
        marks=marks.tobytes(),
        unsettled=tuple(digest for digest, image in images.items() if not image.is_plain),
        with_disk=tuple(with_disk),
        unreadable=tuple(unreadable),
        bases=tuple(found_bases),
    )
