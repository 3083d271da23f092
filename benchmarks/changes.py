"""A hundred changes to a data directory, as a host makes them between two sweeps, and what a sweep must make of them."""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from benchmarks.generate_tree import Guest, StoredImage, Tree, write_guest, write_image

__all__ = ["PER_ROUND", "Changer", "Expected"]

_NEW = 17
_REMOVED = 17
_READY = 17
_MOVED = 17
_STARTED = 16
_REWRITTEN = 16

PER_ROUND = {"converting": _READY, "guests": _MOVED + _REWRITTEN}
"""What a tree must hold for each round, at least; guests without a snapshot."""


@dataclass(frozen=True)
class Expected:
    """What the next sweep's counters must say."""

    marked: int
    cleared: int
    pruned: int
    ready: int
    """How many more (or fewer) images are ready than before."""


class Changer:
    """Changes one tree again and again, never the same image twice."""

    def __init__(self, tree: Tree, now: datetime) -> None:
        self._tree = tree
        self._now = now
        self._rng = random.Random(tree.shape.seed + 1)
        self._tracked: dict[str, list[StoredImage]] = {}
        for image in tree.of("tracked"):
            self._tracked.setdefault(image.repository, []).append(image)
        self._converting = iter(tree.of("converting"))
        # A snapshot keeps an image protected that its guest does not need any more.
        self._guests = iter([guest for guest in tree.guests if not guest.has_snapshot])

    def change(self) -> Expected:
        """Make a hundred changes, of six kinds in random order."""
        changes: list[Callable[[], None]] = [
            *[self._add_image] * _NEW,
            *[self._remove_image] * _REMOVED,
            *[self._finish_image] * _READY,
            *[self._move_tag] * _MOVED,
            *[self._start_guest] * _STARTED,
            *[self._rewrite_guest] * _REWRITTEN,
        ]
        self._rng.shuffle(changes)
        for change in changes:
            change()
        return Expected(
            marked=_NEW + _READY + _REWRITTEN,
            cleared=_MOVED + _STARTED + _REWRITTEN,
            pruned=_REMOVED,
            ready=_NEW + _READY - _REMOVED,
        )

    def _add_image(self) -> None:
        """A pull: an image that no state knows."""
        beside = self._rng.choice(self._tree.images)
        hexadecimal = f"{self._rng.getrandbits(256):064x}"
        image = StoredImage(beside.repository, hexadecimal, (f"new-{hexadecimal[:12]}",), "tracked")
        self._write(image)

    def _remove_image(self) -> None:
        """Somebody else deletes an image and its tags, and leaves its state."""
        image = self._take()
        with _Folder(self._tree, f"images/{image.repository}") as fd:
            os.unlink(f"{image.hexadecimal}/metadata.json", dir_fd=fd)
            os.unlink(f"{image.hexadecimal}/rootfs.ext4", dir_fd=fd)
            os.rmdir(image.hexadecimal, dir_fd=fd)
            for tag in image.tags:
                os.unlink(tag, dir_fd=fd)

    def _finish_image(self) -> None:
        """A conversion ends: the disk is there, then the metadata by rename."""
        image = next(self._converting)._replace(tags=(), role="tracked")
        with _Folder(self._tree, f"images/{image.repository}") as fd:
            beside = image._replace(hexadecimal=f"{image.hexadecimal[:-4]}-new")
            write_image(fd, beside, self._now - timedelta(days=1), has_block=True)
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

    def _move_tag(self) -> None:
        """A tag that a guest names moves to another image of its repository, which is then protected too."""
        guest = next(self._guests)
        image = self._take(guest.image.repository)
        with _Folder(self._tree, f"images/{image.repository}") as fd:
            os.unlink(guest.image.tags[0], dir_fd=fd)
            os.symlink(image.hexadecimal, guest.image.tags[0], dir_fd=fd)

    def _start_guest(self) -> None:
        """A new guest that boots an image with a state."""
        self._write_guest(Guest(f"{self._rng.getrandbits(120):030x}", self._take(), has_snapshot=False))

    def _rewrite_guest(self) -> None:
        """A guest's metadata is written again in place: it boots another image now."""
        self._write_guest(next(self._guests)._replace(image=self._take()))

    def _take(self, repository: str = "") -> StoredImage:
        """Take an image with a state, of one repository or of any."""
        repository = repository or self._rng.choice(list(self._tracked))
        images = self._tracked[repository]
        image = images.pop(self._rng.randrange(len(images)))
        if not images:
            del self._tracked[repository]
        return image

    def _write(self, image: StoredImage) -> None:
        with _Folder(self._tree, f"images/{image.repository}") as fd:
            write_image(fd, image, self._now - timedelta(days=1), has_block=True)

    def _write_guest(self, guest: Guest) -> None:
        with _Folder(self._tree, "guests") as fd:
            write_guest(fd, guest, self._now - timedelta(hours=1))


class _Folder:
    """An open folder of a tree."""

    def __init__(self, tree: Tree, path: str) -> None:
        self._path = tree.folder / path

    def __enter__(self) -> int:
        self._fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
        return self._fd

    def __exit__(self, *_exception: object) -> None:
        os.close(self._fd)
