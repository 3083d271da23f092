"""A writer at full speed: pulls, moved tags and verified opens, as a server does them; a program.

It takes the data directory, the layout and a seed, works until its input is closed, and prints what it has done and seen.
"""

import json
import os
import random
import select
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

from hmret.disk.layout import hex_of
from support.builders import digest

__all__ = ["DISK_BYTES", "LETTERS", "bytes_of", "is_whole", "main", "repository_of", "tag_of"]

LETTERS = tuple(f"{number:02x}" for number in range(60))
DISK_BYTES = 20_000
_REPOSITORIES = 4
_MOVING = ("moving-0", "moving-1", "moving-2")


def repository_of(letters: str) -> str:
    """Return the repository of an image."""
    return f"ghcr.io/kernel/team/repo{int(letters, 16) % _REPOSITORIES}"


def tag_of(letters: str) -> str:
    """Return the tag that an image always has."""
    return f"v{letters}"


def bytes_of(letters: str) -> bytes:
    """Return the bytes of an image's disk, which no other has."""
    return (letters * DISK_BYTES).encode()[:DISK_BYTES]


def is_whole(root: Path, layout: str, letters: str) -> bool:
    """Open the disk of an image, and tell whether it is all there; False where it is not here."""
    try:
        return (_folder(root, layout, letters) / "rootfs.erofs").read_bytes() == bytes_of(letters)
    except FileNotFoundError:
        return False


def _folder(root: Path, layout: str, letters: str) -> Path:
    name = hex_of(digest(letters))
    return root / "images" / ("content" if layout == "today" else repository_of(letters)) / name


class Writer:
    """Writes, and counts."""

    def __init__(self, root: Path, layout: str, seed: int) -> None:
        self.root, self.layout, self.rng = root, layout, random.Random(seed)
        self.seen: Counter[str] = Counter()
        self._number = 0

    def pull(self, letters: str) -> None:
        """Pull an image if it is not here, and set its tag."""
        folder = _folder(self.root, self.layout, letters)
        if not folder.exists():
            metadata = {
                "name": f"{repository_of(letters)}:{tag_of(letters)}",
                "digest": digest(letters),
                "size_bytes": DISK_BYTES,
                "created_at": "2025-01-01T00:00:00Z",
            }
            if self.layout == "today":
                folder.mkdir(parents=True, exist_ok=True)
                self._install(folder, "metadata.json", json.dumps(metadata | {"status": "pending"}).encode())
                self._install(folder, "rootfs.erofs", bytes_of(letters))
                self._install(folder, "metadata.json", json.dumps(metadata | {"status": "ready"}).encode())
            else:
                self._pull_whole(folder, letters, metadata | {"status": "ready"})
            self.seen["pulls"] += 1
        self.set_tag(letters, tag_of(letters))

    def _pull_whole(self, folder: Path, letters: str, metadata: dict[str, object]) -> None:
        staging = self.root / "images" / f".install-{self._next()}"
        staging.mkdir(parents=True)
        (staging / "rootfs.erofs").write_bytes(bytes_of(letters))
        (staging / "metadata.json").write_text(json.dumps(metadata))
        # hmret may remove the folder of the repository, empty, at any moment.
        while not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                staging.rename(folder)

    def _install(self, folder: Path, name: str, content: bytes) -> None:
        beside = folder / f".{name}.tmp-{self._next()}"
        beside.write_bytes(content)
        beside.rename(folder / name)

    def set_tag(self, letters: str, tag: str) -> None:
        """Point a tag to an image, whatever it has pointed to."""
        repository, name = repository_of(letters), hex_of(digest(letters))
        images = self.root / "images"
        folder = (images / "repositories" if self.layout == "today" else images) / repository
        target = name
        if self.layout == "today":
            target = "../" * (repository.count("/") + 2) + f"content/{name}"
        with suppress(FileNotFoundError):
            folder.mkdir(parents=True, exist_ok=True)
            staging = folder / f".tag-stage-{self._next()}"
            staging.mkdir()
            (staging / tag).symlink_to(target)
            (staging / tag).rename(folder / tag)
            staging.rmdir()
            self.seen["tags"] += 1

    def open_by_tag(self, repository: str, tag: str) -> None:
        """Find an image as hypeman does, open its disk, and look at all of it, twice."""
        images = self.root / "images"
        links = (images / "repositories" if self.layout == "today" else images) / repository
        try:
            name = (links / tag).readlink().name
            letters = name[:2]
            folder = _folder(self.root, self.layout, letters)
            if json.loads((folder / "metadata.json").read_bytes())["status"] != "ready":
                return
            fd = os.open(folder / "rootfs.erofs", os.O_RDONLY)
        except FileNotFoundError:
            self.seen["absent"] += 1
            return
        try:
            for _ in range(2):
                self.seen["opens"] += 1
                self.seen["bad"] += os.pread(fd, 2 * DISK_BYTES, 0) != bytes_of(letters)
        finally:
            os.close(fd)

    def _next(self) -> str:
        self._number += 1
        return f"{os.getpid()}-{self._number}"

    def work(self) -> None:
        """Do one thing after the other until the input is closed."""
        while not select.select([sys.stdin], [], [], 0)[0]:
            letters = self.rng.choice(LETTERS)
            match self.rng.randrange(4):
                case 0:
                    self.pull(letters)
                case 1:
                    if _folder(self.root, self.layout, letters).exists():
                        self.set_tag(letters, self.rng.choice(_MOVING))
                case _:
                    tag = self.rng.choice((tag_of(letters), *_MOVING))
                    self.open_by_tag(repository_of(letters), tag)


def main() -> None:
    """Write until the input is closed."""
    root, layout, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    writer = Writer(root, layout, seed)
    for letters in LETTERS:
        writer.pull(letters)
    print("begun", flush=True)  # noqa: T201 - the answer
    writer.work()
    print(json.dumps(writer.seen), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
