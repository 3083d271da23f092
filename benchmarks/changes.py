"""Changes to a data directory, as a host makes them between two sweeps, and what a sweep must make of them."""

import os
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar

from benchmarks.generate_tree import write_guest, write_image
from benchmarks.trees import Guest, StoredImage, Tree

__all__ = ["PER_ROUND", "Changer", "Expected", "LegacyChanger", "opened"]

_STARTED = 16
_REWRITTEN = 16
_MOVED = 17
_READY = 17

PER_ROUND = {"converting": _READY, "guests": _MOVED + _REWRITTEN}
"""What a tree must hold for each round, at least; guests without a snapshot, of images that one repository tags."""


@dataclass(frozen=True)
class Expected:
    """What the next sweep's counters must say."""

    marked: int = 0
    cleared: int = 0
    pruned: int = 0
    ready: int = 0
    """How many more (or fewer) rows are ready than before."""

    def __add__(self, other: "Expected") -> "Expected":
        """Expect both."""
        return Expected(
            self.marked + other.marked,
            self.cleared + other.cleared,
            self.pruned + other.pruned,
            self.ready + other.ready,
        )


class Changer(ABC):
    """Changes one tree again and again, never the same image twice."""

    pulled: ClassVar[int] = 17
    removed: ClassVar[int] = 17

    def __init__(self, tree: Tree, now: datetime) -> None:
        self.tree = tree
        self.now = now
        self.rng = random.Random(tree.shape.seed + 1)
        self._tracked: dict[str, list[StoredImage]] = {}
        for image in tree.of("tracked"):
            if image.is_plain:
                self._tracked.setdefault(image.repository, []).append(image)
        self._converting = iter(tree.of("converting"))
        # A snapshot keeps an image protected that its guest does not need any more.
        guests = [guest for guest in tree.guests if guest.image.is_plain and not guest.has_snapshot]
        self._guest_count = len(guests)
        self._guests = iter(guests)

    def has_enough(self, rounds: int) -> bool:
        """Whether the tree has enough guests for so many rounds; not ready images are made to measure."""
        return self._guest_count >= PER_ROUND["guests"] * rounds

    def change(self) -> Expected:
        """Make a hundred changes, of several kinds in random order."""
        changes = [
            *[self.pull] * self.pulled,
            *[self._remove] * self.removed,
            *[self.finish] * _READY,
            *[self._move_tag] * _MOVED,
            *[self._start_guest] * _STARTED,
            *[self._rewrite_guest] * _REWRITTEN,
            *self.more_changes(),
        ]
        self.rng.shuffle(changes)
        return sum((change() for change in changes), Expected())

    def pull(self) -> Expected:
        """Pull an image that no state knows."""
        beside = self.rng.choice(self.tree.images)
        hexadecimal = f"{self.rng.getrandbits(256):064x}"
        self.write(
            StoredImage(beside.repository, hexadecimal, (f"new-{hexadecimal[:12]}",), "tracked"),
            self.now - timedelta(days=1),
        )
        return Expected(marked=1, ready=1)

    def finish(self) -> Expected:
        """End a conversion: the disk is there, then the metadata by rename."""
        self.complete(next(self._converting)._replace(role="tracked"), self.now - timedelta(days=1))
        return Expected(marked=1, ready=1)

    @abstractmethod
    def write(self, image: StoredImage, created_at: datetime) -> None:
        """Write an image and its tags."""

    @abstractmethod
    def complete(self, image: StoredImage, created_at: datetime) -> None:
        """Make an image ready that was not."""

    @abstractmethod
    def remove(self, image: StoredImage) -> None:
        """Remove an image and its tags, by another hand than hmret's."""

    @abstractmethod
    def point(self, repository: str, tag: str, hexadecimal: str) -> None:
        """Have a tag point to another image of its repository."""

    def more_changes(self) -> Iterator[Callable[[], Expected]]:
        """List changes that only this layout knows."""
        return iter(())

    def take(self, repository: str = "") -> StoredImage:
        """Take an image with a state that one repository tags, of that repository or of any."""
        repository = repository or self.rng.choice(list(self._tracked))
        images = self._tracked[repository]
        image = images.pop(self.rng.randrange(len(images)))
        if not images:
            del self._tracked[repository]
        return image

    def _remove(self) -> Expected:
        """Somebody else deletes an image and its tags, and leaves its state."""
        self.remove(self.take())
        return Expected(pruned=1, ready=-1)

    def _move_tag(self) -> Expected:
        """A tag that a guest names moves to another image of its repository, which is then protected too."""
        guest = next(guest for guest in self._guests if guest.image.repository in self._tracked)
        image = self.take(guest.image.repository)
        self.point(image.repository, guest.image.tags[0], image.hexadecimal)
        return Expected(cleared=1)

    def _start_guest(self) -> Expected:
        """A new guest that boots an image with a state."""
        self._write_guest(Guest(f"{self.rng.getrandbits(120):030x}", self.take(), has_snapshot=False))
        return Expected(cleared=1)

    def _rewrite_guest(self) -> Expected:
        """A guest's metadata is written again in place: it boots another image now."""
        self._write_guest(next(self._guests)._replace(image=self.take()))
        return Expected(marked=1, cleared=1)

    def _write_guest(self, guest: Guest) -> None:
        with opened(self.tree.folder / "guests") as fd:
            write_guest(fd, guest, self.now - timedelta(hours=1))


class LegacyChanger(Changer):
    """Changes the legacy layout."""

    def write(self, image: StoredImage, created_at: datetime) -> None:
        with self._repository(image) as fd:
            write_image(fd, image, created_at, has_block=True)

    def complete(self, image: StoredImage, created_at: datetime) -> None:
        with self._repository(image) as fd:
            beside = image._replace(hexadecimal=f"{image.hexadecimal[:-4]}-new", tags=())
            write_image(fd, beside, created_at, has_block=True)
            metadata_fd = os.open(f"{beside.hexadecimal}/metadata.json", os.O_RDWR, dir_fd=fd)
            text = os.read(metadata_fd, 65_536).replace(
                beside.hexadecimal.encode(), image.hexadecimal.encode()
            )
            os.pwrite(metadata_fd, text, 0)
            os.close(metadata_fd)
            for name in ("rootfs.ext4", "metadata.json"):
                source = f"{beside.hexadecimal}/{name}"
                os.rename(source, f"{image.hexadecimal}/{name}", src_dir_fd=fd, dst_dir_fd=fd)
            os.rmdir(beside.hexadecimal, dir_fd=fd)

    def remove(self, image: StoredImage) -> None:
        with self._repository(image) as fd:
            os.unlink(f"{image.hexadecimal}/metadata.json", dir_fd=fd)
            os.unlink(f"{image.hexadecimal}/rootfs.ext4", dir_fd=fd)
            os.rmdir(image.hexadecimal, dir_fd=fd)
            for tag in image.tags:
                os.unlink(tag, dir_fd=fd)

    def point(self, repository: str, tag: str, hexadecimal: str) -> None:
        with opened(self.tree.folder / "images" / repository) as fd:
            os.unlink(tag, dir_fd=fd)
            os.symlink(hexadecimal, tag, dir_fd=fd)

    def _repository(self, image: StoredImage) -> AbstractContextManager[int]:
        return opened(self.tree.folder / "images" / image.repository)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Hold a folder open."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)
