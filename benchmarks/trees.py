"""What a generated data directory is to hold, and what lies in it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple

__all__ = [
    "EXPIRED_FOR",
    "HOSTS",
    "LAYOUTS",
    "Guest",
    "Layout",
    "Owner",
    "Role",
    "Shape",
    "StoredImage",
    "Tree",
    "make_folder",
    "write_disk",
    "write_file",
]

EXPIRED_FOR = timedelta(days=60)
"""How long an expired image has been unused; the others with a state for 1 to 20 days."""

HOSTS = ("docker.io/library", "ghcr.io/kernel", "quay.io/team/sub", "registry.local:5000/ci")

Layout = Literal["legacy", "content"]
Role = Literal["referenced", "tracked", "expired", "converting"]

LAYOUTS: tuple[Layout, ...] = ("legacy", "content")

_BLOCK = bytes(4096)
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How much of what a directory holds."""

    images: int = 20_000
    layout: Layout = "legacy"
    repositories: int = 0
    """0: one to a hundred images in the legacy layout, one to twenty in content."""
    guests: int = -1
    """-1: one to ten images."""
    snapshots: int = -1
    """-1: one to a hundred images."""
    tags: tuple[int, int] = (1, 2)
    """Fewest and most tags of one repository that point to one image."""
    crowd: int = 0
    """More tags in the first repository, spread over its images."""
    expired: float = 0.0
    """Share of all images that has been unused for `EXPIRED_FOR`, in every repository that owns it."""
    converting: int = 0
    """Images that are not ready yet: without a disk and without a state."""
    shared: float = 0.05
    """Content only: share of all images that two to four repositories tag."""
    promoted: float = 0.02
    """Content only: share of all images that also lie in the legacy layout, with the same disk."""
    untagged: float = 0.02
    """Content only: share of all images whose tag has moved on."""
    blocks: bool = True
    """Whether each disk has one block; without, it takes no room at all."""
    seed: int = 1

    @property
    def repository_count(self) -> int:
        """How many repositories the images are spread over."""
        return self.repositories or max(self.images // (20 if self.layout == "content" else 100), 1)


class Owner(NamedTuple):
    """A repository that tags an image of another one too."""

    repository: str
    tags: tuple[str, ...]
    is_due: bool
    """Whether it has not been used from there for `EXPIRED_FOR`."""


class StoredImage(NamedTuple):
    """One image, as it was written."""

    repository: str
    hexadecimal: str
    tags: tuple[str, ...]
    role: Role
    """Of its row in `repository`; rows of the other owners have a timer, whatever the role."""
    others: tuple[Owner, ...] = ()
    is_promoted: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether one repository alone tags it, and it lies in one layout alone."""
        return bool(self.tags) and not self.others and not self.is_promoted

    @property
    def rows(self) -> int:
        """How many repositories it counts in."""
        return 1 + len(self.others)

    @property
    def name(self) -> str:
        """A reference that leads to it, by tag where there is one."""
        return f"{self.repository}:{self.tags[0]}" if self.tags else self.pinned

    @property
    def pinned(self) -> str:
        """The reference by its digest."""
        return f"{self.repository}@sha256:{self.hexadecimal}"

    def links(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """List the repositories that own it, with their tags."""
        yield self.repository, self.tags
        for owner in self.others:
            yield owner.repository, owner.tags


class Guest(NamedTuple):
    """One guest, as it was written."""

    id: str
    image: StoredImage
    has_snapshot: bool


@dataclass(frozen=True)
class Tree:
    """A data directory, and what is in it."""

    folder: Path
    shape: Shape
    now: datetime
    images: list[StoredImage] = field(default_factory=list)
    guests: list[Guest] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many images a sweep counts: a digest once for each repository that owns it."""
        return sum(image.rows for image in self.images)

    @property
    def ready(self) -> int:
        """How many of them are ready."""
        return sum(image.rows for image in self.images if image.role != "converting")

    @property
    def folders(self) -> int:
        """How many digest folders there are, in both layouts."""
        return len(self.images) + sum(image.is_promoted for image in self.images)

    def of(self, role: Role) -> list[StoredImage]:
        """List the images of one role."""
        return [image for image in self.images if image.role == role]

    def write_listing(self, path: Path, role: Role) -> int:
        """List the images of one role for the C program to delete, by repository; returns how many rows they have."""
        images = sorted(self.of(role))
        with path.open("w") as file:
            for image in images:
                file.write(f"{self.shape.layout}\t{image.hexadecimal}")
                for number, (repository, tags) in enumerate(image.links()):
                    copy = "+" if image.is_promoted and not number else ""
                    file.write(f"\t{copy}{' '.join((repository, *tags))}")
                file.write("\n")
        return sum(image.rows for image in images)


def make_folder(path: Path) -> int:
    """Make a folder with all above it, and open it."""
    path.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def write_file(path: str, text: str, dir_fd: int) -> None:
    """Write a file, in place where it is there."""
    fd = os.open(path, _NEW_FILE, 0o644, dir_fd=dir_fd)
    os.write(fd, text.encode())
    os.close(fd)


def write_disk(path: str, size_bytes: int, dir_fd: int, *, has_block: bool) -> None:
    """Write a sparse disk."""
    fd = os.open(path, _NEW_FILE, 0o644, dir_fd=dir_fd)
    os.truncate(fd, size_bytes)
    if has_block:
        os.write(fd, _BLOCK)
    os.close(fd)
