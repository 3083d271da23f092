"""What the simulated host consists of: where things are, and the values that stand for them."""

import json
from collections.abc import Iterator

import attrs

from hmret.disk.layout import CONTENT, IMAGES, METADATA, REPOSITORIES, ROOTFS_NAMES, hex_of
from hmret.model.references import Key
from support.memory_filesystem import ForeignOpen

__all__ = [
    "ASIDE",
    "DATA",
    "DISK",
    "QUICK",
    "Hold",
    "Need",
    "Pulled",
    "Tag",
    "Window",
    "Work",
    "content_of",
    "is_in_content",
    "name_in",
    "path_of",
    "repository_of",
    "short",
    "status_in",
]

DATA = "/data"
ASIDE = "/aside"
"""Where something is while it is away."""
DISK = "rootfs.ext4"
"""The disk of an image that a server of the spring has pulled."""

QUICK = 0.02
"""Seconds between two steps that hypeman makes in one go; hmret waits longer than that for a torn file."""

Tag = tuple[str, str]
"""The folder of a link below `images/`, and its name: in today's layout the folder is one below `repositories/`."""

Work = Iterator[float]
"""Some work, a step at a time; what it yields is how many seconds there may be before the next step."""


def path_of(key: Key) -> str:
    """Say where the folder of an image is."""
    return f"{DATA}/{IMAGES}/{key[0]}/{hex_of(key[1])}"


def content_of(digest: str) -> Key:
    """Name the folder of a digest that all repositories share, as if it were a repository's."""
    return CONTENT, digest


def repository_of(tag: Tag) -> str:
    """Say which repository a tag is in."""
    return tag[0].removeprefix(f"{REPOSITORIES}/")


def is_in_content(tag: Tag) -> bool:
    """Tell whether a tag is one of today's layout."""
    return tag[0].startswith(f"{REPOSITORIES}/")


def short(key: Key) -> str:
    """Name an image in few letters."""
    return f"{key[0]}@{hex_of(key[1])[:4]}"


def status_in(metadata: bytes) -> str:
    """Read what the metadata of an image says of it; empty where it is not whole."""
    try:
        return str(json.loads(metadata)["status"])
    except (ValueError, KeyError, TypeError):
        return ""


def name_in(metadata: bytes) -> str:
    """Read which repository an image was pulled from; empty where its metadata is not whole."""
    try:
        name = str(json.loads(metadata)["name"])
    except (ValueError, KeyError, TypeError):
        return ""
    return name.partition("@")[0] if "@" in name else name.rpartition(":")[0]


@attrs.define(eq=False)
class Pulled:
    """One image as hypeman pulled it; the same digest pulled again is another one."""

    key: Key
    """Its repository and digest; `content_of` its digest where it belongs to no repository."""
    inode: int
    path: str
    """Where it is now; empty once any of it has been erased by us, or a power loss undid the pull."""
    files: set[str] = attrs.field(factory=set)
    status: str = ""
    """What its metadata says."""
    created_at: str = ""
    ready_at: int | None = None
    """The event with which it became ready; None: it is not."""
    unready_at: int = 0
    """The event with which it ceased to be ready, or was begun."""
    follows_retired: bool = False
    """Whether hmret has retired it, or the one before it: then no old timer and no old tag may be left."""
    batch: int = 0
    """The batch with which hmret has retired it."""
    unleased_at: int = 0
    """The last event at which the kernel offered no lease on one of its files."""

    is_hidden: bool = False
    """Whether it stands in its place with its metadata hidden: hmret is about to rename it beside itself."""

    @property
    def is_present(self) -> bool:
        """Whether it stands in its place, ready or not."""
        return self.path == path_of(self.key) and not self.is_hidden

    @property
    def disk(self) -> str:
        """The name of its disk; empty where it has none."""
        return next((name for name in ROOTFS_NAMES if name in self.files), "")

    @property
    def is_whole(self) -> bool:
        """Whether it has metadata and a disk."""
        return METADATA in self.files and self.disk != ""

    @property
    def is_ghost(self) -> bool:
        """Whether it says that it is ready and has no disk: hypeman wrote the metadata back after it had gone."""
        return self.status == "ready" and METADATA in self.files and not self.disk


@attrs.frozen(eq=False)
class Need:
    """A guest or a snapshot whose metadata is whole, and what it boots from."""

    image: Pulled
    since: int


@attrs.define(eq=False)
class Hold:
    """A disk that a process has open, by the path of one image."""

    image: Pulled
    file_name: str
    opened: ForeignOpen


@attrs.frozen
class Window:
    """A time from which on an image stays for a while."""

    why: str
    image: Pulled | None
    true_ns: int
    wall_ns: int
    jumped_ns: int
    unwatched_ns: int
    """How long nobody had watched by then."""
    boots: int
    small_ns: int
    """By how much the clock had been set forward unnoticed by then."""
    hidden_ns: int
    """By how much it may have been, where the host was booted since."""
