"""What the simulated host consists of: where things are, and the values that stand for them."""

from collections.abc import Iterator

import attrs

from hmret.disk.layout import IMAGES, hex_of
from hmret.model.images import Key
from memory_filesystem import ForeignOpen

__all__ = ["DATA", "DISK", "QUICK", "Hold", "Need", "Pulled", "Tag", "Window", "Work", "path_of", "short"]

DATA = "/data"
DISK = "rootfs.ext4"

QUICK = 0.02
"""Seconds between two steps that hypeman makes in one go; hmret waits longer than that for a torn file."""

Tag = tuple[str, str]

Work = Iterator[float]
"""Some work, a step at a time; what it yields is how many seconds there may be before the next step."""


def path_of(key: Key) -> str:
    """Say where the folder of an image is."""
    return f"{DATA}/{IMAGES}/{key[0]}/{hex_of(key[1])}"


def short(key: Key) -> str:
    """Name an image in few letters."""
    return f"{key[0]}@{hex_of(key[1])[:4]}"


@attrs.define(eq=False)
class Pulled:
    """One image as hypeman pulled it; the same digest pulled again is another one."""

    key: Key
    inode: int
    path: str
    """Where it is now; empty once any of it has been erased by us, or a power loss undid the pull."""
    files: set[str] = attrs.field(factory=set)
    created_at: str = ""
    ready_at: int | None = None
    """The event with which it became ready; None: it is not."""
    unready_at: int = 0
    """The event with which it ceased to be ready, or was begun."""
    follows_retired: bool = False
    """Whether hmret has retired it, or the one before it: then no old timer and no old tag may be left."""
    unleased_at: int = 0
    """The last event at which the kernel offered no lease on one of its files."""

    @property
    def is_present(self) -> bool:
        """Whether it stands in its place, ready or not."""
        return self.path == path_of(self.key)


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
