"""Images as today's servers keep them: a folder for each digest in `images/content`, tags below `images/repositories`.

A share of them is tagged by several repositories, a share was promoted out of the legacy layout, whose folder and tags
still lie beside it, and a share has lost its tag to a newer image.
"""

import os
import random
from collections.abc import Sequence
from datetime import datetime, timedelta

from benchmarks.documents import DISK_BYTES, content_text, image_text, manifest_text, state_text
from benchmarks.trees import (
    EXPIRED_FOR,
    HOSTS,
    Owner,
    Role,
    StoredImage,
    Tree,
    make_folder,
    write_disk,
    write_file,
)

__all__ = ["CONTENT", "DISK", "REPOSITORIES", "link_target", "write_content", "write_content_images"]

CONTENT = "images/content"
REPOSITORIES = "images/repositories"
DISK = "rootfs.erofs"

_MOST_OTHERS = 3
_DUE_ONE_IN = 4
"""Of the rows that another row of the same content holds."""


def write_content_images(tree: Tree, roles: Sequence[Role], rng: random.Random) -> None:
    """Write all images of a tree, with their tags, legacy copies and states."""
    planned = _Planned(tree, rng)
    tree.images.extend(planned.image(number, role) for number, role in enumerate(roles))
    # Servers pull in no order of repositories.
    order = [*tree.images]
    rng.shuffle(order)
    data_fd = make_folder(tree.folder)
    content_fd = make_folder(tree.folder / CONTENT)
    try:
        for repository in planned.repositories:
            (tree.folder / REPOSITORIES / repository).mkdir(parents=True, exist_ok=True)
        for image in order:
            created_at = tree.now - timedelta(seconds=rng.randrange(70 * 86_400, 200 * 86_400))
            name = planned.name(image)
            write_content(content_fd, image, name, created_at, rng, has_block=tree.shape.blocks)
            _write_links(data_fd, image)
            if image.is_promoted:
                _write_copy(tree, data_fd, image, image_text(name, image.hexadecimal, "ready", created_at))
        _write_states(tree, rng)
    finally:
        os.close(content_fd)
        os.close(data_fd)


def write_content(
    content_fd: int,
    image: StoredImage,
    name: str,
    created_at: datetime,
    rng: random.Random,
    *,
    has_block: bool = True,
) -> None:
    """Write one digest folder into the open folder of content; one that was promoted keeps its old metadata."""
    folder = image.hexadecimal
    os.mkdir(folder, 0o755, dir_fd=content_fd)
    status = "converting" if image.role == "converting" else "ready"
    if image.is_promoted:
        text = image_text(name, image.hexadecimal, status, created_at)
    else:
        text = content_text(name, image.hexadecimal, status, created_at, rng)
    write_file(f"{folder}/metadata.json", text, content_fd)
    if status == "ready":
        write_disk(f"{folder}/{DISK}", DISK_BYTES, content_fd, has_block=has_block)
        if not image.is_promoted:
            write_file(f"{folder}/manifest.json", manifest_text(image.hexadecimal, rng), content_fd)


def link_target(repository: str, hexadecimal: str) -> str:
    """Say what a tag below `images/repositories` points to."""
    return f"{'../' * (repository.count('/') + 2)}content/{hexadecimal}"


class _Planned:
    """Which repositories own what, by which tags."""

    def __init__(self, tree: Tree, rng: random.Random) -> None:
        self._shape = tree.shape
        self._rng = rng
        count = tree.shape.repository_count
        self.repositories = [f"{HOSTS[number % len(HOSTS)]}/app-{number:05}" for number in range(count)]
        self._versions = dict.fromkeys(self.repositories, 0)
        images = range(tree.shape.images)
        self._shared = self._choose(images, tree.shape.shared if count > 1 else 0.0)
        self._promoted = self._choose(images, tree.shape.promoted)
        rest = [number for number in images if number not in self._shared | self._promoted]
        self._untagged = self._choose(rest, tree.shape.untagged)

    def image(self, number: int, role: Role) -> StoredImage:
        """Plan one image; what is not ready has one owner, and no copy."""
        count = len(self.repositories)
        repository = self.repositories[number % count]
        is_ready = role != "converting"
        is_shared = is_ready and number in self._shared
        tags: tuple[str, ...] = ()
        if number not in self._untagged:
            crowd = range(number // count, self._shape.crowd, len(range(0, self._shape.images, count)))
            tags = self._tags(repository, int(is_shared), 0 if number % count else len(crowd))
        others = self._others(repository, role) if is_shared else ()
        hexadecimal = f"{self._rng.getrandbits(256):064x}"
        return StoredImage(
            repository, hexadecimal, tags, role, others, is_promoted=is_ready and number in self._promoted
        )

    def name(self, image: StoredImage) -> str:
        """Choose the reference by which an image was pulled first."""
        if not image.tags:
            version = self._rng.randrange(self._versions[image.repository] or 1)
            return f"{image.repository}:v{version}"
        if image.is_promoted:
            return f"{image.repository}:{image.tags[0]}"
        repository, tags = self._rng.choice([*image.links()])
        return f"{repository}:{tags[0]}"

    def _choose(self, images: Sequence[int], share: float) -> set[int]:
        return set(self._rng.sample(images, min(round(self._shape.images * share), len(images))))

    def _others(self, repository: str, role: Role) -> tuple[Owner, ...]:
        most = min(_MOST_OTHERS, len(self.repositories) - 1)
        chosen = self._rng.sample(self.repositories, most + 1)
        others = [one for one in chosen if one != repository][: self._rng.randint(1, most)]
        return tuple(
            Owner(other, self._tags(other, 1), role == "expired" or not self._rng.randrange(_DUE_ONE_IN))
            for other in others
        )

    def _tags(self, repository: str, fewest: int, more: int = 0) -> tuple[str, ...]:
        first = self._versions[repository]
        self._versions[repository] += max(self._rng.randint(*self._shape.tags), fewest) + more
        return tuple(f"v{version}" for version in range(first, self._versions[repository]))


def _write_links(data_fd: int, image: StoredImage) -> None:
    for repository, tags in image.links():
        target = link_target(repository, image.hexadecimal)
        for tag in tags:
            os.symlink(target, f"{REPOSITORIES}/{repository}/{tag}", dir_fd=data_fd)


def _write_copy(tree: Tree, data_fd: int, image: StoredImage, text: str) -> None:
    """Write what a promotion left in the legacy layout."""
    folder_fd = make_folder(tree.folder / "images" / image.repository / image.hexadecimal)
    try:
        write_file("metadata.json", text, folder_fd)
        disk = f"{CONTENT}/{image.hexadecimal}/{DISK}"
        os.link(disk, DISK, src_dir_fd=data_fd, dst_dir_fd=folder_fd)
    finally:
        os.close(folder_fd)
    for tag in image.tags:
        os.symlink(image.hexadecimal, f"images/{image.repository}/{tag}", dir_fd=data_fd)


def _write_states(tree: Tree, rng: random.Random) -> None:
    """Write the timer of every row that has one."""
    rows: dict[str, list[tuple[str, bool]]] = {}
    for image in tree.images:
        if image.role in ("tracked", "expired"):
            rows.setdefault(image.repository, []).append((image.hexadecimal, image.role == "expired"))
        for owner in image.others:
            rows.setdefault(owner.repository, []).append((image.hexadecimal, owner.is_due))
    for repository, states in rows.items():
        folder_fd = make_folder(tree.folder / "system" / "image-retention" / repository)
        try:
            for hexadecimal, is_due in states:
                unused_for = EXPIRED_FOR
                if not is_due:
                    unused_for = timedelta(seconds=rng.randrange(86_400, 20 * 86_400))
                text = state_text(repository, hexadecimal, tree.now - unused_for)
                write_file(f"{hexadecimal}.json", text, folder_fd)
        finally:
            os.close(folder_fd)
