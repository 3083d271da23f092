"""Changes to a data directory of today's layout: pulls, removals, moved tags, and what ties repositories together."""

import os
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import ClassVar

from benchmarks.changes import Changer, Expected, opened
from benchmarks.content_layout import (
    CONTENT,
    DISK,
    REPOSITORIES,
    link_target,
    write_content,
)
from benchmarks.documents import DISK_BYTES, content_text, manifest_text
from benchmarks.trees import Owner, StoredImage, Tree, write_disk, write_file

__all__ = ["ContentChanger"]

_TAGGED = 8
_UNTIED = 8


class ContentChanger(Changer):
    """Changes the content layout; half of the pulls and removals are tags set and taken away in other repositories."""

    pulled: ClassVar[int] = 17 - _TAGGED
    removed: ClassVar[int] = 17 - _UNTIED

    def __init__(self, tree: Tree, now: datetime) -> None:
        super().__init__(tree, now)
        shared = [image for image in tree.of("tracked") if image.others and not image.is_promoted]
        self._shared_count = len(shared)
        self._shared = iter(shared)
        self._repositories = sorted({image.repository for image in tree.images})

    def has_enough(self, rounds: int) -> bool:
        return super().has_enough(rounds) and self._shared_count >= _UNTIED * rounds

    def more_changes(self) -> Iterator[Callable[[], Expected]]:
        yield from [self._tag_elsewhere] * _TAGGED
        yield from [self._untie] * _UNTIED

    def write(self, image: StoredImage, created_at: datetime) -> None:
        with opened(self.tree.folder / CONTENT) as fd:
            name = f"{image.repository}:{image.tags[0]}"
            write_content(fd, image, name, created_at, self.rng)
        for tag in image.tags:
            self.point(image.repository, tag, image.hexadecimal)

    def complete(self, image: StoredImage, created_at: datetime) -> None:
        with opened(self.tree.folder / CONTENT / image.hexadecimal) as fd:
            name = f"{image.repository}:{image.tags[0] if image.tags else 'latest'}"
            text = content_text(name, image.hexadecimal, "ready", created_at, self.rng)
            write_disk(f"{DISK}.tmp-1", DISK_BYTES, fd, has_block=True)
            os.rename(f"{DISK}.tmp-1", DISK, src_dir_fd=fd, dst_dir_fd=fd)
            _install(fd, "manifest.json", manifest_text(image.hexadecimal, self.rng))
            _install(fd, "metadata.json", text)

    def remove(self, image: StoredImage) -> None:
        for tag in image.tags:
            (self.tree.folder / REPOSITORIES / image.repository / tag).unlink()
        with opened(self.tree.folder / CONTENT) as fd:
            for name in ("metadata.json", DISK, "manifest.json"):
                os.unlink(f"{image.hexadecimal}/{name}", dir_fd=fd)
            os.rmdir(image.hexadecimal, dir_fd=fd)

    def point(self, repository: str, tag: str, hexadecimal: str) -> None:
        """Stage a link and rename it into its place, as hypeman does."""
        with opened(self.tree.folder / REPOSITORIES / repository) as fd:
            stage = ".tag-stage-1"
            os.mkdir(stage, 0o700, dir_fd=fd)
            os.symlink(link_target(repository, hexadecimal), f"{stage}/{tag}", dir_fd=fd)
            os.rename(f"{stage}/{tag}", tag, src_dir_fd=fd, dst_dir_fd=fd)
            os.rmdir(stage, dir_fd=fd)

    def _tag_elsewhere(self) -> Expected:
        """A tag call of another repository, which then writes the metadata back: one owner more, without a state."""
        image = self.take()
        other = self.rng.choice([one for one in self._repositories if one != image.repository])
        self.point(other, f"from-{image.hexadecimal[:12]}", image.hexadecimal)
        with opened(self.tree.folder / CONTENT / image.hexadecimal) as fd:
            path = self.tree.folder / CONTENT / image.hexadecimal / "metadata.json"
            _install(fd, "metadata.json", path.read_text())
        return Expected(marked=1, ready=1)

    def _untie(self) -> Expected:
        """A deletion of shared content in one of its repositories, which leaves the content and that one's state."""
        image = next(self._shared)
        owner: Owner = image.others[0]
        for tag in owner.tags:
            (self.tree.folder / REPOSITORIES / owner.repository / tag).unlink()
        return Expected(pruned=1, ready=-1)


def _install(folder_fd: int, name: str, text: str) -> None:
    """Write a file beside its place and rename it, as hypeman does."""
    stage = ".install-1"
    os.mkdir(stage, 0o700, dir_fd=folder_fd)
    write_file(f"{stage}/{name}", text, folder_fd)
    os.rename(f"{stage}/{name}", name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    os.rmdir(stage, dir_fd=folder_fd)
