"""A data directory made by hand, one image at a time, and the command line called on it."""

import json
import pathlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

__all__ = ["DISK_BYTES", "Cache", "sizes_and_times"]

DISK_BYTES = 8192


class Cache:
    """One data directory."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        (root / "images").mkdir(parents=True)

    def image(
        self,
        repository: str,
        digit: str,
        *tags: str,
        status: str = "ready",
        rootfs: bool = True,
        unused: timedelta | None = None,
    ) -> str:
        """Put an image whose digest is one or two hex digits again and again; returns that digest."""
        hex_digits = (digit * 64)[:64]
        folder = self.root / "images" / repository / hex_digits
        folder.mkdir(parents=True)
        fields = {
            "name": f"{repository}:latest",
            "digest": f"sha256:{hex_digits}",
            "status": status,
            "size_bytes": 5_000_000_000,
            "created_at": "2026-01-02T03:04:05Z",
        }
        (folder / "metadata.json").write_text(json.dumps(fields))
        if rootfs:
            (folder / "rootfs.ext4").write_bytes(b"x" * DISK_BYTES)
        for tag in tags:
            (folder.parent / tag).symlink_to(hex_digits)
        if unused is not None:
            self.state(repository, digit, (datetime.now(UTC) - unused).isoformat())
        return f"sha256:{hex_digits}"

    def state(self, repository: str, digit: str, unused_since: str) -> None:
        digest = f"sha256:{(digit * 64)[:64]}"
        fields = {"repository": repository, "digest": digest, "unused_since": unused_since}
        path = self.state_path(repository, digit)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(fields))

    def state_path(self, repository: str, digit: str) -> pathlib.Path:
        return self.root / "system/image-retention" / repository / f"{(digit * 64)[:64]}.json"

    def guest(self, identity: str, content: str | Mapping[str, object]) -> pathlib.Path:
        path = self.root / "guests" / identity / "metadata.json"
        path.parent.mkdir(parents=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def has(self, repository: str, digit: str) -> bool:
        return (self.root / "images" / repository / (digit * 64)).exists()


def sizes_and_times(root: pathlib.Path) -> dict[str, tuple[int, int, int]]:
    """Tell inode, size and time of change of everything below a folder."""
    found = {}
    for path in (root, *root.rglob("*")):
        state = path.lstat()
        found[str(path)] = state.st_ino, state.st_size, state.st_mtime_ns
    return found
