"""Reading many folders in one call, and encoding the results for a cache's checkpoint.

The encoding is msgpack.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from sys import intern
from typing import TypeVar

import msgspec
from msgspec.structs import force_setattr

from hmret.disk.filesystem import Filesystem
from hmret.disk.fingerprints import Fingerprint
from hmret.disk.folders import BATCH, open_data_folder, opened
from hmret.disk.folders_ahead import FolderAhead, read_ahead
from hmret.disk.hypeman.hidden import Hidden
from hmret.disk.hypeman.retention_states.scanning import STATE_SUFFIX, StateFolder
from hmret.disk.hypeman.scan import FolderScan
from hmret.disk.layout import IMAGES, RETENTION
from hmret.disk.scans.references import ReferenceFile
from hmret.model.images import Image, Repository

F = TypeVar("F", FolderScan, StateFolder)

Look = Callable[[int, str, FolderAhead | None], tuple[F, int]]
"""Reads a folder below an open one, given what has just been read of it; also returns how much it had to read."""

_NO_NAMES: frozenset[str] = frozenset()
_MARK_BYTES = 16
"""What `FolderScan.marks` has for each image."""

# Images and states read in one call: some 6 ms of work.
_IMAGES = 500
_STATES = 1000


class _ImageFolder(msgspec.Struct, array_like=True):
    """A `FolderScan`, without what can be computed again when it is decoded."""

    path: str
    images: list[Image] | None
    tags: dict[str, str]
    subfolders: tuple[str, ...]
    errno: int | None
    message: str
    unknown_folders: tuple[str, ...]
    fingerprint: Fingerprint | None
    marks: bytes
    unsettled: tuple[str, ...]
    odd_tags: tuple[str, ...]
    with_disk: tuple[str, ...]
    unreadable: tuple[str, ...]
    bases: tuple[tuple[str, str], ...]
    prints: tuple[tuple[str, int, int], ...]
    oddities: tuple[tuple[str, str, str], ...]
    name: str
    is_empty: bool
    hidden: tuple[tuple[str, str], ...]


pack = msgspec.msgpack.Encoder().encode
"""Encodes the results of some folders below `image-retention/`, or the references of some guests and snapshots."""
unpack_states = msgspec.msgpack.Decoder(list[StateFolder]).decode
"""Decodes those results; raises msgspec.MsgspecError or ValueError where they are something else."""
unpack_references = msgspec.msgpack.Decoder(dict[str, ReferenceFile]).decode
"""Decodes those references; raises as `unpack_states` does."""
_unpack_images = msgspec.msgpack.Decoder(list[_ImageFolder]).decode


def read_images(
    filesystem: Filesystem,
    data_fd: int,
    paths: Sequence[str],
    look: Look[FolderScan],
    is_new_tags: Callable[[str], bool],
) -> tuple[list[FolderScan], list[str]]:
    """Read folders below `images/` until a batch is full; returns the results, and the paths that are left.

    `look` returns how many images it had to read. `is_new_tags`: whether a path is a folder of tags that is to be
    read in full; these are read some at a time. No error on the disk is raised; errors are part of the results.
    """
    try:
        images_fd = open_data_folder(filesystem, data_fd, IMAGES)
    except OSError as error:
        return [FolderScan("", error=error)], []
    with opened(filesystem, images_fd):
        ahead = partial(_read_ahead, filesystem, images_fd, is_new_tags, "")
        return _look_through(paths, partial(look, images_fd), _IMAGES, ahead)


def read_states(
    filesystem: Filesystem,
    data_fd: int,
    paths: Sequence[str],
    look: Look[StateFolder],
    is_new: Callable[[str], bool],
) -> tuple[list[StateFolder], list[str]]:
    """Read folders below `image-retention/`, as `read_images` does with those below `images/`.

    `is_new`: whether a path is to be read in full.
    """
    try:
        retention_fd = open_data_folder(filesystem, data_fd, RETENTION)
    except OSError as error:
        return _unlisted_states(error), []
    with opened(filesystem, retention_fd):
        ahead = partial(_read_ahead, filesystem, retention_fd, is_new, STATE_SUFFIX)
        return _look_through(paths, partial(look, retention_fd), _STATES, ahead)


def _look_through(
    paths: Sequence[str],
    look: Callable[[str, FolderAhead | None], tuple[F, int]],
    most: int,
    ahead: Callable[[list[str]], dict[str, FolderAhead]],
) -> tuple[list[F], list[str]]:
    """Examine one path after the other until the batch is full; returns the results, and what is left."""
    found: list[F] = []
    rest = list(paths)
    weight = 0
    while rest and weight < most:
        count = min(BATCH, len(rest))
        read = ahead(rest[-count:])
        # All that was read ahead is examined in this batch, while it is fresh.
        while count and (read or weight < most):
            count -= 1
            path = rest.pop()
            folder, weighed = look(path, read.pop(path, None))
            found.append(folder)
            weight += weighed
    return found, rest


def _read_ahead(
    filesystem: Filesystem, fd: int, is_wanted: Callable[[str], bool], suffix: str, paths: list[str]
) -> dict[str, FolderAhead]:
    return read_ahead(filesystem, fd, list(filter(is_wanted, paths)), suffix)


def _unlisted_states(error: OSError) -> list[StateFolder]:
    if isinstance(error, FileNotFoundError):
        return []
    return [StateFolder("", corrupt=((RETENTION, error.strerror or str(error)),))]


def unpack_images(packed: bytes) -> list[FolderScan]:
    """Decode what `pack_images` wrote.

    Raises:
        msgspec.MsgspecError, ValueError: it is something else.
    """
    return list(map(_unpacked, _unpack_images(packed)))


def pack_images(folders: Sequence[FolderScan]) -> bytes:
    """Encode the results of some folders below `images/`."""
    return pack(list(map(_packed, folders)))


def weigh(found: FolderScan | StateFolder | Mapping[str, ReferenceFile]) -> int:
    """Return how much there was to read: the number of images, states or files."""
    match found:
        case FolderScan():
            return len(found.images)
        case StateFolder():
            return len(found.timers)
        case _:
            return len(found)


def _packed(folder: FolderScan) -> _ImageFolder:
    repository, error = folder.repository, folder.error
    return _ImageFolder(
        folder.path,
        None if repository is None else list(repository.images.values()),
        dict(folder.tags),
        folder.subfolders,
        None if error is None else error.errno or 0,
        "" if error is None else error.strerror or str(error),
        folder.unknown_folders,
        folder.fingerprint,
        folder.marks,
        folder.unsettled,
        tuple(folder.odd_tags),
        folder.with_disk,
        folder.unreadable,
        folder.bases,
        folder.prints,
        folder.oddities,
        "" if repository is None else repository.name,
        folder.is_empty,
        tuple((link.path, link.problem) for link in folder.hidden),
    )


def _unpacked(folder: _ImageFolder) -> FolderScan:
    repository = None
    if folder.images is not None:
        _share_texts(folder.images)
        images = {image.digest: image for image in folder.images}
        tags = {}
        for tag, digest in folder.tags.items():
            image = images.get(digest)
            tags[tag] = digest if image is None else image.digest
        repository = Repository(folder.name, images, tags, odd_tags=frozenset(folder.odd_tags) or _NO_NAMES)
    return FolderScan(
        folder.path,
        repository,
        folder.subfolders,
        None if folder.errno is None else OSError(folder.errno, folder.message),
        folder.unknown_folders,
        folder.fingerprint,
        folder.marks if len(folder.marks) % _MARK_BYTES == 0 else b"",
        folder.unsettled,
        folder.with_disk,
        folder.unreadable,
        folder.bases,
        folder.prints,
        folder.oddities,
        tuple(Hidden(*link) for link in folder.hidden),
        folder.is_empty,
    )


def _share_texts(images: Sequence[Image]) -> None:
    """Let all images hold the same objects for texts that are the same in very many of them.

    The decoder makes one for each image, which takes memory, and time whenever one is compared.
    """
    for image in images:
        # They have just been decoded, and nothing else knows them yet.
        force_setattr(image, "status", intern(image.status))
        if image.content_name is not None:
            force_setattr(image, "content_name", intern(image.content_name))
