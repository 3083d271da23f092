"""hmret's trash: intents, what they promise, and where retired folders stand.

Before a batch of images is renamed out of the cache, one file of intents is written durably beside the place that
they go to. Whatever cuts the work off, the intents say what is left to do: an image that stands in the trash has been
deleted, and its tags and its state go too; one that does not has either not been touched or is gone for good.
"""

import os
from collections.abc import Iterable
from contextlib import suppress

import attrs
import msgspec

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import (
    make_folders,
    opened,
    read_file,
    remove_empty_folders,
    step_into,
    write_file,
)
from hmret.disk.layout import DIGEST_HEX, IMAGES, OWN, TAG_NAME, TRASH, digest_of, hex_of
from hmret.model.references import is_repository

__all__ = [
    "Intent",
    "Place",
    "drop_intents",
    "find_places",
    "is_ours",
    "list_trash",
    "new_token",
    "open_trash",
    "place_beside",
    "place_in_trash",
    "places_of",
    "read_intents",
    "write_intents",
]

_TRASH = f"{OWN}/{TRASH}"
_SUFFIX = ".json"
_BESIDE = ".hmret-"
"""Begins the name of a retired folder that had to stay on its own file system; no scan looks at such names."""


class Intent(msgspec.Struct, frozen=True, gc=False):
    """One image that is about to be renamed out of the cache."""

    repository: str
    digest: str
    tags: list[str]
    unused_since_ns: int
    name: str
    """Of the folder in the trash; no other intent ever has it."""


@attrs.frozen
class Place:
    """Where a retired folder stands."""

    intent: Intent
    folder: str
    """The folder that holds it, below the data directory."""
    name: str
    files: tuple[str, ...] = attrs.field(default=(), eq=False)
    """The names of all files in it, as far as they are known: then it need not be listed to be freed."""

    @property
    def is_beside(self) -> bool:
        """Whether it had to stay on its own file system, below `images/`."""
        return self.folder.startswith(IMAGES)


def open_trash(filesystem: Filesystem, data_fd: int) -> int:
    """Open the trash, making it where it is missing."""
    return make_folders(filesystem, data_fd, _TRASH, 0o700)


def place_in_trash(intent: Intent, files: tuple[str, ...] = ()) -> Place:
    """Say where the folder of an intent goes."""
    return Place(intent, _TRASH, intent.name, files)


def place_beside(intent: Intent, files: tuple[str, ...] = ()) -> Place:
    """Say where it goes if the trash is on another file system: beside itself."""
    return Place(intent, f"{IMAGES}/{intent.repository}", _BESIDE + intent.name, files)


def places_of(intent: Intent) -> tuple[Place, Place]:
    """Say where the folder of an intent may stand."""
    return place_in_trash(intent), place_beside(intent)


def find_places(filesystem: Filesystem, data_fd: int, intent: Intent) -> list[Place]:
    """Find where the folder of an intent stands; empty: it has gone.

    Raises:
        OSError: it could not be told.
    """
    return [place for place in places_of(intent) if _exists(filesystem, data_fd, place)]


def _exists(filesystem: Filesystem, data_fd: int, place: Place) -> bool:
    try:
        filesystem.stat(f"{place.folder}/{place.name}", dir_fd=data_fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def write_intents(filesystem: Filesystem, data_fd: int, token: str, intents: Iterable[Intent]) -> None:
    """Write down, durably, what is about to be done."""
    with opened(filesystem, open_trash(filesystem, data_fd)) as fd:
        write_file(filesystem, token + _SUFFIX, msgspec.json.encode(list(intents)), fd, durable=True)


def read_intents(filesystem: Filesystem, data_fd: int, token: str) -> list[Intent]:
    """Read a file of intents; empty where it has gone or does not hold any.

    What is written there is not trusted: an intent that is not one that we could have written is left out.

    Raises:
        OSError: it is there and cannot be read.
    """
    path = f"{_TRASH}/{token}{_SUFFIX}"
    try:
        intents = msgspec.json.decode(read_file(filesystem, path, data_fd), type=list[Intent])
    except (FileNotFoundError, msgspec.MsgspecError, ValueError, RecursionError):
        return []
    return [intent for intent in intents if is_ours(intent, token)]


def is_ours(intent: Intent, token: str) -> bool:
    """Tell whether an intent is one that we could have written under a token: only then it is trusted."""
    head, _, number = intent.name.partition(".")
    return (
        head == token
        and number.isdecimal()
        and is_repository(intent.repository)
        and intent.digest == digest_of(hex_of(intent.digest))
        and DIGEST_HEX.fullmatch(hex_of(intent.digest)) is not None
        and all(TAG_NAME.fullmatch(tag) for tag in intent.tags)
    )


def drop_intents(
    filesystem: Filesystem, data_fd: int, token: str, repositories: Iterable[str] | None = None
) -> None:
    """Forget a file of intents: all that it says is done, but for folders that were left empty.

    `repositories`: those that it names; None: not known.
    """
    if repositories is None:
        with suppress(OSError):
            repositories = {intent.repository for intent in read_intents(filesystem, data_fd, token)}
    with suppress(OSError), opened(filesystem, step_into(filesystem, data_fd, IMAGES)) as fd:
        for repository in repositories or ():
            remove_empty_folders(filesystem, fd, repository)
    with (
        suppress(FileNotFoundError),
        opened(filesystem, step_into(filesystem, data_fd, _TRASH)) as fd,
    ):
        filesystem.unlink(token + _SUFFIX, dir_fd=fd)


def list_trash(filesystem: Filesystem, data_fd: int) -> tuple[list[str], list[str]]:
    """List the trash: the tokens of the files of intents, and the names of everything else."""
    try:
        fd = step_into(filesystem, data_fd, _TRASH)
    except FileNotFoundError:
        return [], []
    with opened(filesystem, fd), filesystem.scandir(fd) as entries:
        names = sorted(entry.name for entry in entries)
    tokens = [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]
    return tokens, [name for name in names if not name.endswith(_SUFFIX)]


def new_token() -> str:
    """Make a name that no batch before had."""
    return os.urandom(8).hex()
