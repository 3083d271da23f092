"""Images, tags, timers and guests on the disk of the container, in both layouts, written from outside."""

import hashlib
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

__all__ = ["ANOTHER_USER", "Images", "image_folder", "put_guest", "repository"]

ANOTHER_USER = 4242
_CREATED = timedelta(days=400)
_UNUSED = timedelta(days=31)


def repository(number: int) -> str:
    """Return the repository of an image; each has one of its own, with the tag `v1`."""
    return f"ghcr.io/many/{number:06}"


def hex_digits(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def image_folder(number: int) -> str:
    """Return the folder of an image below the data directory; odd numbers are in `images/content/`."""
    if number % 2:
        return f"images/content/{hex_digits(number)}"
    return f"images/{repository(number)}/{hex_digits(number)}"


class Images:
    """The images `first` to `last` (without `last`) of a data directory; every so many of them are due."""

    def __init__(self, data_dir: Path, first: int, last: int, *, due_every: int = 5) -> None:
        self.data_dir = data_dir
        self.numbers = range(first, last)
        self.due = [number for number in self.numbers if number % due_every == 0]
        for number in self.numbers:
            self._put(number)
        for number in self.due:
            self._start_timer(number)

    def belong_to_another_user(self, numbers: list[int]) -> None:
        """Give these images to a user whose files nobody else may read."""
        for number in numbers:
            folder = self.data_dir / image_folder(number)
            for path in (*folder.iterdir(), folder):
                os.chown(path, ANOTHER_USER, ANOTHER_USER)
                path.chmod(0o700 if path.is_dir() else 0o600)

    def left(self) -> set[int]:
        """Return the images that are there, whole, with their tags.

        Raises:
            AssertionError: of one image a part is there, or a tag or a timer of one that has gone.
        """
        found = self.left_in_cache()
        for number in self.numbers:
            tag, timer = self._tag(number), self._timer(number)
            assert tag.exists() == tag.is_symlink() == (number in found), tag
            assert number in found or not timer.exists(), timer
        return found

    def left_in_cache(self) -> set[int]:
        """Return the images that are there, whole; tags and timers may be on their way, as after a kill.

        Raises:
            AssertionError: of one image a part is there.
        """
        return {number for number in self.numbers if self._is_whole(number)}

    def left_in_trash(self) -> list[str]:
        """Return the names of what is in hmret's trash."""
        trash = self.data_dir / "system/hmret/trash"
        return sorted(path.name for path in trash.iterdir()) if trash.exists() else []

    def _is_whole(self, number: int) -> bool:
        folder = self.data_dir / image_folder(number)
        parts = {(folder / name).is_file() for name in ("metadata.json", "rootfs.ext4")}
        assert parts == {folder.exists()}, folder
        return folder.exists()

    def _put(self, number: int) -> None:
        folder = self.data_dir / image_folder(number)
        folder.mkdir(parents=True)
        fields = {
            "name": f"{repository(number)}:v1",
            "digest": f"sha256:{folder.name}",
            "status": "ready",
            "size_bytes": 8192,
            "created_at": (datetime.now(UTC) - _CREATED).isoformat(),
        }
        (folder / "metadata.json").write_text(json.dumps(fields))
        (folder / "rootfs.ext4").write_bytes(b"x" * 8192)
        tag = self._tag(number)
        tag.parent.mkdir(parents=True, exist_ok=True)
        tag.symlink_to(os.path.relpath(folder, tag.parent))

    def _tag(self, number: int) -> Path:
        if number % 2:
            return self.data_dir / "images/repositories" / repository(number) / "v1"
        return self.data_dir / "images" / repository(number) / "v1"

    def _timer(self, number: int) -> Path:
        timers = self.data_dir / "system/image-retention" / repository(number)
        return timers / f"{hex_digits(number)}.json"

    def _start_timer(self, number: int) -> None:
        fields = {
            "repository": repository(number),
            "digest": f"sha256:{hex_digits(number)}",
            "unused_since": (datetime.now(UTC) - _UNUSED).isoformat(),
        }
        timer = self._timer(number)
        timer.parent.mkdir(parents=True)
        timer.write_text(json.dumps(fields))


def put_guest(data_dir: Path, name: str, number: int) -> None:
    """Make a guest that runs from an image, in a folder that only another user may enter."""
    folder = data_dir / "guests" / name
    folder.mkdir(parents=True)
    metadata = folder / "metadata.json"
    metadata.write_text(json.dumps({"Id": name, "Image": f"{repository(number)}:v1"}))
    for path in (metadata, folder):
        os.chown(path, ANOTHER_USER, ANOTHER_USER)
        path.chmod(0o700 if path.is_dir() else 0o600)
