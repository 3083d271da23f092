"""A cache on a real file system in which forty images are due, and one engine on it."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs

from hmret.disk.filesystem import POSIX
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from support.builders import FakeClock, digest, make_config
from support.content_trees import DUE, Host, content_path, legacy_path
from support.cut_caches import Layout
from support.inline_threads import InlineThreads

__all__ = ["DISK_BYTES", "DueCache", "clear", "opened"]

DISK_BYTES = 96 * 1024
_REPOSITORIES = 7
_LONG_AGO = {"created_at": "2025-01-01T00:00:00Z"}


@asynccontextmanager
async def opened(root: Path, clock: FakeClock, **settings: Any) -> AsyncIterator[Retention]:
    """Open an engine that sweeps only when asked, on the real disk, with the native core where that is built."""
    platform = Platform(filesystem=POSIX, clock=clock, threads=InlineThreads(), monotonic_ns=lambda: 0)
    async with open_engine(make_config(root, **settings), platform, scheduled=False) as retention:
        yield retention


@attrs.frozen
class DueCache:
    """Forty images that are due, some more that stand for what happens to them, and two that stay."""

    host: Host
    root: Path
    layout: Layout
    due: tuple[str, ...]
    """Their letters."""
    others: tuple[str, ...]
    """Due as well: for a check to have open, or to refer to."""
    stays: tuple[str, ...] = ("f0", "f1")

    @classmethod
    def build(cls, root: Path, layout: Layout, *, due: int = 40, others: int = 0) -> "DueCache":
        """Make it in a data directory, which may be there and hold empty folders."""
        letters = [f"{number:02x}" for number in range(0x10, 0x10 + due + others)]
        cache = cls(Host(root, FakeClock()), root, layout, tuple(letters[:due]), tuple(letters[due:]))
        for one in (*letters, *cache.stays):
            cache.image(one)
        for one in letters:
            cache.host.state(cache.repository(one), one, DUE)
        cache.host.state(cache.repository("f0"), "f0", timedelta(days=2))
        return cache

    def image(self, letters: str) -> None:
        """Make an image with its tag."""
        repository = self.repository(letters)
        if self.layout == "today":
            self.host.content(letters, name=f"{repository}:v", metadata=_LONG_AGO, size_bytes=DISK_BYTES)
            self.host.link(repository, f"v{letters}", letters)
        else:
            self.host.legacy(repository, letters, metadata=_LONG_AGO, size_bytes=DISK_BYTES)
            self.host.legacy_link(repository, f"v{letters}", letters)

    @staticmethod
    def repository(letters: str) -> str:
        """Return the repository of an image."""
        return f"ghcr.io/kernel/app-{int(letters, 16) % _REPOSITORIES}"

    def reference(self, letters: str) -> str:
        """Return an image's name by its tag."""
        return f"{self.repository(letters)}:v{letters}"

    def keys(self, *letters: str) -> set[tuple[str, str]]:
        """Return the keys of some images."""
        return {(self.repository(one), digest(one)) for one in letters}

    def folder(self, letters: str) -> Path:
        """Return the folder of an image."""
        is_today = self.layout == "today"
        return self.root / (
            content_path(letters) if is_today else legacy_path(self.repository(letters), letters)
        )

    def disk(self, letters: str) -> Path:
        """Return the disk of an image."""
        return self.folder(letters) / "rootfs.erofs"

    def is_whole(self, letters: str) -> bool:
        """Tell whether an image is here whole, with its tag."""
        disk, metadata = self.disk(letters), self.folder(letters) / "metadata.json"
        return (
            metadata.exists()
            and disk.exists()
            and len(disk.read_bytes()) == DISK_BYTES
            and self.has_tag(letters)
        )

    def has_tag(self, letters: str) -> bool:
        """Tell whether the tag of an image is there, wherever it leads."""
        images = self.root / "images"
        folder = images / "repositories" if self.layout == "today" else images
        return os.path.lexists(folder / self.repository(letters) / f"v{letters}")

    def check(self, *, gone: tuple[str, ...] = (), here: tuple[str, ...] = ()) -> None:
        """Check that some images are gone with tags and timers, and that some and those that stay are whole."""
        for one in gone:
            assert not self.folder(one).exists(), f"was to go: {one}"
            assert not self.has_tag(one), f"its tag is left: {one}"
            assert self.host.unused_since(self.repository(one), one) is None, f"its timer is left: {one}"
        for one in (*here, *self.stays):
            assert self.is_whole(one), f"was to stay, whole: {one}"

    def free_bytes(self) -> int:
        """Tell how much is free on the file system of the images, once all that is written has come to it."""
        folder = os.open(self.root / "images", os.O_RDONLY)
        try:
            os.sync()
            space = os.fstatvfs(folder)
        finally:
            os.close(folder)
        return space.f_bfree * space.f_frsize


def clear(root: Path) -> None:
    """Remove all that is in a data directory, but for the folders right in it: something may be mounted there."""
    for folder, folders, files in os.walk(root, topdown=False):
        for name in files:
            (Path(folder) / name).unlink()
        for name in folders:
            path = Path(folder) / name
            if path.is_symlink():
                path.unlink()
            elif path.parent != root:
                with suppress(OSError):
                    path.rmdir()
