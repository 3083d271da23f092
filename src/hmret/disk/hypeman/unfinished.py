"""Images that hypeman left unfinished and may never complete: what each of them is, and the remedy.

None of them is touched. The text only explains why an image stays, and what an operator can do about it.
"""

from collections.abc import Iterator, Mapping

import attrs

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import opened_folder, read_file
from hmret.disk.hypeman.content import is_part, part_of
from hmret.disk.hypeman.documents import UnreadableError, read_document
from hmret.disk.hypeman.images import NOTHING, FolderScan, Oddity, age_of
from hmret.disk.layout import CONTENT, IMAGES, METADATA, ROOTFS_NAMES, hex_of
from hmret.model.images import Image, Repository
from hmret.model.times import SECOND
from hmret.model.values import frozen

_HOUR_NS = 3600 * SECOND
_DAY_NS = 24 * _HOUR_NS
_AT_WORK = frozenset(("pending", "pulling", "converting"))
_TEMPORARY = ".tmp-"


@frozen
class Unfinished:
    """The images that are not ready or not complete, with explanations."""

    oddities: tuple[Oddity, ...] = ()
    details: Mapping[str, str] = attrs.field(factory=dict)
    """The explanations, by digest."""


def look_at_unfinished(
    filesystem: Filesystem,
    images_fd: int,
    folders: Mapping[str, FolderScan],
    repositories: Mapping[str, Repository],
) -> Unfinished:
    """Examine images that are not ready or not complete, and may stay so for ever."""
    found = list(_look(filesystem, images_fd, folders, repositories))
    return Unfinished(
        tuple((event, path, detail) for event, path, detail, _ in found),
        {digest: detail for _, _, detail, digest in found},
    )


def _look(
    filesystem: Filesystem,
    images_fd: int,
    folders: Mapping[str, FolderScan],
    repositories: Mapping[str, Repository],
) -> Iterator[tuple[str, str, str, str]]:
    for path, folder in folders.items():
        for digest in folder.unsettled:
            image = folder.images[digest]
            if image.foreign is not None:
                yield _not_plain(path, image)
            elif is_part(path):
                where = f"{CONTENT}/{hex_of(digest)}"
                if image.broken is not None and image.status == "ready":
                    remedy = f"{image.broken}: lookups find only this copy of the digest; pull it again"
                    yield "content_broken", f"{IMAGES}/{where}", remedy, digest
                elif image.broken is not None:
                    yield "content_broken", f"{IMAGES}/{where}", image.broken, digest
                elif image.status in _AT_WORK:
                    yield from _look_at_content(filesystem, images_fd, image, where, repositories)
            elif image.status in _AT_WORK and _is_beside_ready_content(folders, digest):
                where = f"{path}/{hex_of(digest)}"
                if (age_of(filesystem, images_fd, f"{where}/{METADATA}") or 0) > _DAY_NS:
                    yield "unfinished_image", f"{IMAGES}/{where}", _for_a_day(image.status), digest


def _look_at_content(
    filesystem: Filesystem,
    images_fd: int,
    image: Image,
    where: str,
    repositories: Mapping[str, Repository],
) -> Iterator[tuple[str, str, str, str]]:
    age_ns = age_of(filesystem, images_fd, f"{where}/{METADATA}") or 0
    if age_ns > _HOUR_NS and image.status == "converting":
        for name, repository in repositories.items():
            own = repository.images.get(image.digest)
            if (
                own is not None
                and own.content_name is None
                and own.broken is None
                and _is_cut_off(filesystem, images_fd, where, f"{name}/{hex_of(image.digest)}")
            ):
                remedy = (
                    f"a server was stopped while moving the image of {name} to {IMAGES}/{where}, and will not resume "
                    "that; stop the server and remove that folder, and no other"
                )
                yield "promotion_cut_off", f"{IMAGES}/{where}", remedy, image.digest
                return
    if age_ns > _DAY_NS:
        yield "unfinished_image", f"{IMAGES}/{where}", _for_a_day(image.status), image.digest


def _not_plain(path: str, image: Image) -> tuple[str, str, str, str]:
    """Return why an image is kept whose folder holds more than files, and the remedy."""
    where = f"{CONTENT if is_part(path) else path}/{hex_of(image.digest)}"
    remedy = f"{image.foreign}: the image is kept because its folder contains more than files; remove it"
    return "image_not_plain", f"{IMAGES}/{where}", remedy, image.digest


def _for_a_day(status: str) -> str:
    return f"{status}, and unchanged for a day: the server may never resume it; pull it again, or delete it there"


def _is_beside_ready_content(folders: Mapping[str, FolderScan], digest: str) -> bool:
    content = folders.get(part_of(digest), NOTHING).images.get(digest)
    return content is not None and content.status == "ready"


def _is_cut_off(filesystem: Filesystem, images_fd: int, content: str, own: str) -> bool:
    """Return whether content is the remainder of an interrupted promotion of a repository's own folder."""
    try:
        with opened_folder(filesystem, content, images_fd) as fd, filesystem.scandir(fd) as entries:
            names = {entry.name for entry in entries}
        if any(_TEMPORARY in name for name in names):
            return False
        for name in names.intersection(ROOTFS_NAMES):
            one = filesystem.stat(f"{content}/{name}", dir_fd=images_fd, follow_symlinks=False)
            other = filesystem.stat(f"{own}/{name}", dir_fd=images_fd, follow_symlinks=False)
            if (one.st_dev, one.st_ino) != (other.st_dev, other.st_ino):
                return False
        return _facts(filesystem, images_fd, content) == _facts(filesystem, images_fd, own)
    except (OSError, UnreadableError):
        return False


def _facts(filesystem: Filesystem, images_fd: int, where: str) -> object:
    """Read metadata except the status.

    Raises:
        OSError, UnreadableError: it cannot be read, or is not an object.
    """
    facts = read_document(read_file(filesystem, f"{where}/{METADATA}", images_fd), dict[str, object])
    facts.pop("status", None)
    return facts
