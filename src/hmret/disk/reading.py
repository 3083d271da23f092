"""Reading many folders or files in one call, and the same as bytes for a process that does nothing else.

What is asked and answered between processes is msgpack, one document each way; both sides are the same release.
"""

import enum
import resource
from array import array
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from typing import TypeVar

import msgspec

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import open_data_folder, opened
from hmret.disk.hypeman.content import ContentNames, is_part, list_content, part_signature, scan_part
from hmret.disk.hypeman.hidden import Hidden
from hmret.disk.image_scan import FolderScan, scan_folder
from hmret.disk.layout import IMAGES, RETENTION
from hmret.disk.reference_files import ReferenceFile, read_reference_files
from hmret.disk.signatures import Signature
from hmret.disk.state_files import StateFolder, scan_states
from hmret.model.images import Image, Repository

__all__ = [
    "Kind",
    "answer",
    "ask",
    "pack_images",
    "pack_references",
    "pack_states",
    "read_images",
    "read_states",
    "understand_images",
    "understand_references",
    "understand_states",
    "weigh",
]

F = TypeVar("F", FolderScan, StateFolder)
P = TypeVar("P", str, Sequence[str])
R = TypeVar("R", FolderScan, StateFolder, dict[str, ReferenceFile])

# Images and states read in one call: some 6 ms of work. In a process that does nothing else it may be more.
_IMAGES, _IMAGES_ASKED = 500, 1500
_STATES, _STATES_ASKED = 1000, 3000
_GUESTS = 25

# How often a thread had to wait for the disk, for each thing that it read, if nothing of that was in memory; somewhat
# fewer. A disk serves many requests at a time hardly slower than one.
_COLD_SHARE = 0.3
_FEW_WAITS = 3
_AT_ONCE = 8


class Kind(enum.StrEnum):
    """What is to be read."""

    IMAGES = "images"
    STATES = "states"
    REFERENCES = "references"


class _Question(msgspec.Struct, array_like=True):
    kind: Kind
    paths: list[str]


class _ImageFolder(msgspec.Struct, array_like=True):
    """A `FolderScan`, without what can be made anew on the other side."""

    path: str
    images: list[Image] | None
    tags: dict[str, str]
    subfolders: tuple[str, ...]
    errno: int | None
    message: str
    newer_layout: tuple[str, ...]
    signature: Signature | None
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


class _ImageAnswer(msgspec.Struct, array_like=True):
    found: list[_ImageFolder]
    rest: list[str]


class _StateAnswer(msgspec.Struct, array_like=True):
    found: list[StateFolder]
    rest: list[str]


class _ReferenceAnswer(msgspec.Struct, array_like=True):
    found: dict[str, ReferenceFile]


_encoder = msgspec.msgpack.Encoder()
_questions = msgspec.msgpack.Decoder(_Question)
_image_answers = msgspec.msgpack.Decoder(_ImageAnswer)
_state_answers = msgspec.msgpack.Decoder(_StateAnswer)
_reference_answers = msgspec.msgpack.Decoder(_ReferenceAnswer)


def read_images(
    filesystem: Filesystem,
    data_fd: int,
    paths: Sequence[str],
    look: Callable[[int, str], tuple[FolderScan, int]],
) -> tuple[list[FolderScan], list[str]]:
    """Look at folders below `images/` until a batch is read; returns what was found, and the paths that are left.

    `look` also tells how many images it had to read.

    Raises nothing for what is on the disk: it stands in what was found.
    """
    try:
        images_fd = open_data_folder(filesystem, data_fd, IMAGES)
    except OSError as error:
        return [FolderScan("", error=error)], []
    with opened(filesystem, images_fd):
        return _look_through(paths, partial(look, images_fd), _IMAGES)


def read_states(
    filesystem: Filesystem,
    data_fd: int,
    paths: Sequence[str],
    look: Callable[[int, str], tuple[StateFolder, int]],
) -> tuple[list[StateFolder], list[str]]:
    """Look at folders below `image-retention/`, as `read_images` does at those below `images/`."""
    try:
        retention_fd = open_data_folder(filesystem, data_fd, RETENTION)
    except OSError as error:
        return _unlisted_states(error), []
    with opened(filesystem, retention_fd):
        return _look_through(paths, partial(look, retention_fd), _STATES)


def _look_through(
    paths: Sequence[str], look: Callable[[str], tuple[F, int]], most: int
) -> tuple[list[F], list[str]]:
    """Look at one path after the other until it is enough; returns what was found, and what is left."""
    found: list[F] = []
    rest = list(paths)
    weight = 0
    while rest and weight < most:
        folder, read = look(rest.pop())
        found.append(folder)
        weight += read
    return found, rest


def _unlisted_states(error: OSError) -> list[StateFolder]:
    if isinstance(error, FileNotFoundError):
        return []
    return [StateFolder("", corrupt=((RETENTION, error.strerror or str(error)),))]


def ask(kind: Kind, paths: Sequence[str]) -> bytes:
    """Write the question what is in some folders or files of which nothing is known."""
    return _encoder.encode(_Question(kind, list(paths)))


def answer(filesystem: Filesystem, data_fd: int, question: bytes) -> bytes:
    """Answer a question.

    Raises:
        msgspec.MsgspecError, ValueError: it cannot be understood, or the answer cannot be written.
    """
    asked = _questions.decode(question)
    match asked.kind:
        case Kind.IMAGES:
            try:
                images_fd = open_data_folder(filesystem, data_fd, IMAGES)
            except OSError as error:
                return _encoder.encode(_ImageAnswer([_packed(FolderScan("", error=error))], []))
            with opened(filesystem, images_fd):
                look = _look_at_images(filesystem, images_fd, asked.paths)
                folders, rest = _spread(look, asked.paths, _IMAGES_ASKED)
            return _encoder.encode(_ImageAnswer(list(map(_packed, folders)), rest))
        case Kind.STATES:
            try:
                retention_fd = open_data_folder(filesystem, data_fd, RETENTION)
            except OSError as error:
                return _encoder.encode(_StateAnswer(_unlisted_states(error), []))
            with opened(filesystem, retention_fd):
                states, rest = _spread(
                    lambda path: scan_states(filesystem, retention_fd, path), asked.paths, _STATES_ASKED
                )
            return _encoder.encode(_StateAnswer(states, rest))
        case Kind.REFERENCES:
            groups = [asked.paths[start : start + _GUESTS] for start in range(0, len(asked.paths), _GUESTS)]
            read, _ = _spread(
                lambda group: read_reference_files(filesystem, data_fd, group), groups, len(asked.paths)
            )
            return _encoder.encode(
                _ReferenceAnswer({source: file for files in read for source, file in files.items()})
            )


def _look_at_images(
    filesystem: Filesystem, images_fd: int, paths: Sequence[str]
) -> Callable[[str], FolderScan]:
    """Make what reads one folder below `images/`; content is listed once for all its parts."""
    names: ContentNames = {}
    signatures: dict[str, Signature] = {}
    if any(map(is_part, paths)):
        listing, names = list_content(filesystem, images_fd)
        signatures = {part: part_signature(count, total) for part, count, total in listing.prints}

    def look(path: str) -> FolderScan:
        if path in names:
            return scan_part(filesystem, images_fd, path, names[path], signatures[path])
        return scan_folder(filesystem, images_fd, path)

    return look


def _spread(read: Callable[[P], R], waiting: Sequence[P], most: int) -> tuple[list[R], list[P]]:
    """Read one thing after the other, and where that is mostly waiting for the disk, many at a time.

    Returns what was read, and what was left when it was enough.
    """
    found: list[R] = []
    rest = list(waiting)
    weight = 0
    while rest and weight < most:
        waits = _waits()
        found.append(read(rest.pop()))
        weight += 1 + weigh(found[-1])
        if _waits() - waits > _COLD_SHARE * weigh(found[-1]) + _FEW_WAITS:
            found.extend(_many_readers().map(read, rest[-_AT_ONCE:]))
            del rest[-_AT_ONCE:]
            weight = sum(1 + weigh(one) for one in found)
    return found, rest


def _waits() -> int:
    """Count how often this thread has given up the processor by itself, which reading does where the disk is asked."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


@cache
def _many_readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_AT_ONCE)


def understand_images(answer: bytes) -> tuple[list[FolderScan], list[str]]:
    """Read the answer to what is in some folders below `images/`; as `read_images`.

    Raises:
        msgspec.MsgspecError, ValueError: it is no such answer.
    """
    given = _image_answers.decode(answer)
    return list(map(_unpacked, given.found)), given.rest


def understand_states(answer: bytes) -> tuple[list[StateFolder], list[str]]:
    """Read the answer to what is in some folders below `image-retention/`; as `read_states`.

    Raises:
        msgspec.MsgspecError, ValueError: it is no such answer.
    """
    given = _state_answers.decode(answer)
    return given.found, given.rest


def understand_references(answer: bytes) -> dict[str, ReferenceFile]:
    """Read the answer to what some guests and snapshots refer to; as `read_reference_files`.

    Raises:
        msgspec.MsgspecError, ValueError: it is no such answer.
    """
    return _reference_answers.decode(answer).found


def pack_images(folders: Sequence[FolderScan]) -> bytes:
    """Write down what was found in some folders below `images/`."""
    return _encoder.encode(_ImageAnswer(list(map(_packed, folders)), []))


def pack_states(folders: Sequence[StateFolder]) -> bytes:
    """Write down what was found in some folders below `image-retention/`."""
    return _encoder.encode(_StateAnswer(list(folders), []))


def pack_references(files: Mapping[str, ReferenceFile]) -> bytes:
    """Write down what some guests and snapshots were found to refer to."""
    return _encoder.encode(_ReferenceAnswer(dict(files)))


def weigh(found: FolderScan | StateFolder | Mapping[str, ReferenceFile]) -> int:
    """Tell how much there was to read: in images, states or files."""
    match found:
        case FolderScan():
            return 0 if found.repository is None else len(found.repository.images)
        case StateFolder():
            return len(found.timers)
        case _:
            return len(found)


def _packed(folder: FolderScan) -> _ImageFolder:
    repository, error = folder.repository, folder.error
    return _ImageFolder(
        folder.path,
        None if repository is None else list(repository.images.values()),
        {} if repository is None else dict(repository.tags),
        folder.subfolders,
        None if error is None else error.errno or 0,
        "" if error is None else error.strerror or str(error),
        folder.newer_layout,
        folder.signature,
        array("q", folder.marks).tobytes(),
        folder.unsettled,
        () if repository is None else tuple(repository.odd_tags),
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
        images = {image.digest: image for image in folder.images}
        tags = {}
        for tag, digest in folder.tags.items():
            image = images.get(digest)
            tags[tag] = digest if image is None else image.digest
        repository = Repository(folder.name, images, tags, odd_tags=frozenset(folder.odd_tags))
    marks = array("q")
    with suppress(ValueError):
        marks.frombytes(folder.marks)
    return FolderScan(
        folder.path,
        repository,
        folder.subfolders,
        None if folder.errno is None else OSError(folder.errno, folder.message),
        folder.newer_layout,
        folder.signature,
        marks,
        folder.unsettled,
        folder.with_disk,
        folder.unreadable,
        folder.bases,
        folder.prints,
        folder.oddities,
        tuple(Hidden(*link) for link in folder.hidden),
        folder.is_empty,
    )
