"""Makes a data directory as a large host has it, from a seed: `python benchmarks/generate_tree.py FOLDER`.

It writes files and knows nothing of hmret. The same shape, seed and time always give the same names and bytes.
Guests refer to distinct images by tag and by digest, snapshots to images of guests; every ready image that nothing
refers to has a state file, and so has every further repository that tags an image.
"""

import argparse
import os
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

# A program has its own folder on the path, not the one that it lies in.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.content_layout import write_content_images
from benchmarks.documents import DISK_BYTES, guest_text, image_text, snapshot_text, state_text
from benchmarks.trees import (
    EXPIRED_FOR,
    HOSTS,
    LAYOUTS,
    Guest,
    Role,
    Shape,
    StoredImage,
    Tree,
    make_folder,
    write_disk,
    write_file,
)

__all__ = ["generate_tree", "write_guest", "write_image"]


def generate_tree(folder: Path, shape: Shape, now: datetime) -> Tree:
    """Write a data directory into an empty or absent folder; `now` is aware and counts in whole seconds."""
    rng = random.Random(shape.seed)
    now = now.replace(microsecond=0)
    tree = Tree(folder, shape, now)
    roles = _choose_roles(shape, rng)
    if shape.layout == "content":
        write_content_images(tree, roles, rng)
    else:
        for number in range(shape.repository_count):
            _write_repository(tree, number, roles[number :: shape.repository_count], rng)
    _write_references(tree, rng)
    return tree


def _choose_roles(shape: Shape, rng: random.Random) -> list[Role]:
    guests = shape.images // 10 if shape.guests < 0 else shape.guests
    expired = round(shape.images * shape.expired)
    tracked = shape.images - guests - expired - shape.converting
    if tracked < 0:
        raise SystemExit("more guests, expired and converting images than images")
    counts: list[tuple[Role, int]] = [
        ("referenced", guests),
        ("expired", expired),
        ("converting", shape.converting),
        ("tracked", tracked),
    ]
    roles = [role for role, count in counts for _ in range(count)]
    rng.shuffle(roles)
    return roles


def _write_repository(tree: Tree, number: int, roles: Sequence[Role], rng: random.Random) -> None:
    repository = f"{HOSTS[number % len(HOSTS)]}/app-{number:05}"
    images: list[StoredImage] = []
    versions = 0
    for position, role in enumerate(roles):
        count = rng.randint(*tree.shape.tags)
        if not number:
            count += len(range(position, tree.shape.crowd, len(roles)))
        tags = tuple(f"v{version}" for version in range(versions, versions + count))
        versions += count
        images.append(StoredImage(repository, f"{rng.getrandbits(256):064x}", tags, role))
    folder_fd = make_folder(tree.folder / "images" / repository)
    try:
        for image in images:
            created_at = tree.now - timedelta(seconds=rng.randrange(70 * 86_400, 200 * 86_400))
            write_image(folder_fd, image, created_at, has_block=tree.shape.blocks)
    finally:
        os.close(folder_fd)
    with_state = [image for image in images if image.role in ("tracked", "expired")]
    if with_state:
        _write_states(tree, repository, with_state, rng)
    tree.images.extend(images)


def write_image(repository_fd: int, image: StoredImage, created_at: datetime, *, has_block: bool) -> None:
    """Write one digest folder and its tags into the open folder of its repository."""
    os.mkdir(image.hexadecimal, 0o755, dir_fd=repository_fd)
    status = "converting" if image.role == "converting" else "ready"
    name = f"{image.repository}:{image.tags[0]}" if image.tags else f"{image.repository}:latest"
    text = image_text(name, image.hexadecimal, status, created_at)
    write_file(f"{image.hexadecimal}/metadata.json", text, repository_fd)
    if status == "ready":
        write_disk(f"{image.hexadecimal}/rootfs.ext4", DISK_BYTES, repository_fd, has_block=has_block)
    for tag in image.tags:
        os.symlink(image.hexadecimal, tag, dir_fd=repository_fd)


def _write_states(tree: Tree, repository: str, images: Sequence[StoredImage], rng: random.Random) -> None:
    folder_fd = make_folder(tree.folder / "system" / "image-retention" / repository)
    try:
        for image in images:
            unused_for = EXPIRED_FOR
            if image.role == "tracked":
                unused_for = timedelta(seconds=rng.randrange(86_400, 20 * 86_400))
            text = state_text(repository, image.hexadecimal, tree.now - unused_for)
            write_file(f"{image.hexadecimal}.json", text, folder_fd)
    finally:
        os.close(folder_fd)


def _write_references(tree: Tree, rng: random.Random) -> None:
    referenced = tree.of("referenced")
    rng.shuffle(referenced)
    snapshots = tree.shape.images // 100 if tree.shape.snapshots < 0 else tree.shape.snapshots
    snapshots = min(snapshots, len(referenced))
    guests_fd = make_folder(tree.folder / "guests")
    snapshots_fd = make_folder(tree.folder / "snapshots")
    try:
        for number, image in enumerate(referenced):
            created_at = tree.now - timedelta(seconds=rng.randrange(60, 60 * 86_400))
            guest = Guest(f"{rng.getrandbits(120):030x}", image, has_snapshot=number < snapshots)
            text = write_guest(guests_fd, guest, created_at)
            tree.guests.append(guest)
            if guest.has_snapshot:
                identity = f"{rng.getrandbits(120):030x}"
                os.mkdir(identity, 0o755, dir_fd=snapshots_fd)
                snapshot = snapshot_text(identity, guest.id, text, created_at)
                write_file(f"{identity}/snapshot.json", snapshot, snapshots_fd)
    finally:
        os.close(guests_fd)
        os.close(snapshots_fd)


def write_guest(guests_fd: int, guest: Guest, created_at: datetime) -> str:
    """Write one guest into the open folder of guests, or write it again in place; returns its metadata."""
    text = guest_text(guest.id, guest.image.name, guest.image.pinned, created_at)
    if not os.access(guest.id, os.F_OK, dir_fd=guests_fd):
        os.mkdir(guest.id, 0o755, dir_fd=guests_fd)
    write_file(f"{guest.id}/metadata.json", text, guests_fd)
    return text


def _parse() -> argparse.Namespace:
    default = Shape()
    parser = argparse.ArgumentParser(description="Make a data directory with many images.")
    parser.add_argument("folder", type=Path, help="where; made if it is not there")
    parser.add_argument("--layout", choices=LAYOUTS, default=default.layout)
    parser.add_argument("--images", type=int, default=default.images)
    parser.add_argument(
        "--repositories", type=int, default=default.repositories, help="0: one to 100 images; content: to 20"
    )
    parser.add_argument("--guests", type=int, default=default.guests, help="-1: one to 10 images")
    parser.add_argument("--snapshots", type=int, default=default.snapshots, help="-1: one to 100 images")
    parser.add_argument("--tags", type=int, nargs=2, default=default.tags, metavar=("FEWEST", "MOST"))
    parser.add_argument("--crowd", type=int, default=default.crowd, help="more tags in the first repository")
    for name, what in (
        ("expired", "share of all images, 0 to 0.9"),
        ("shared", "content: share that two to four repositories tag"),
        ("promoted", "content: share that lies in the legacy layout too"),
        ("untagged", "content: share whose tag has moved on"),
    ):
        parser.add_argument(f"--{name}", type=float, default=getattr(default, name), help=what)
    parser.add_argument(
        "--converting", type=int, default=default.converting, help="images that are not ready"
    )
    parser.add_argument("--no-blocks", action="store_true", help="disks that take no room at all")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--now", type=datetime.fromisoformat, default=datetime.now(UTC), help="default: now")
    return parser.parse_args()


def main() -> None:
    """Write one data directory as the command line says."""
    options = _parse()
    names = Shape.__dataclass_fields__.keys() & vars(options).keys()
    given = {name: getattr(options, name) for name in names}
    shape = replace(Shape(), **(given | {"tags": tuple(options.tags), "blocks": not options.no_blocks}))
    begin = time.perf_counter()
    tree = generate_tree(options.folder, shape, options.now)
    seconds = time.perf_counter() - begin
    print(f"{len(tree.images)} images in {tree.rows} rows, {len(tree.guests)} guests", end="")
    print(f" in {seconds:.1f} s: {options.folder}")


if __name__ == "__main__":
    main()
