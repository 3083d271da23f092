"""One image that two repositories share, one of them with a promoted copy, on a disk in memory; and what may be left of it."""

import json
from collections.abc import Iterator

from hmret.disk.layout import CONTENT, IMAGES, REPOSITORIES, RETENTION, TRASH
from hmret.model.deletion import DueRow
from support.builders import DATA, START_NS, digest, make_image, make_state
from support.deletions import deletion
from support.memory_filesystem import MemoryFilesystem, Tree

__all__ = [
    "ALPINE",
    "BATCH",
    "DISKS",
    "HEX",
    "IMAGES_TOP",
    "LINKS",
    "OTHER",
    "TRASH_TOP",
    "UNIT",
    "images_in",
    "is_gone",
    "is_here",
    "left_over",
    "listed_folders",
    "make_shared",
    "states_in",
]

ALPINE = "docker.io/library/alpine"
OTHER = "quay.io/other/thing"
BATCH = "0123456789abcdef"
HEX = "a" * 64
IMAGES_TOP = f"{DATA}/{IMAGES}"
TRASH_TOP = f"{DATA}/{TRASH}"
DISKS = ("one disk", "two disks", "three disks")
"""The trash on the disk of the images, on another, and content on one more."""

UNIT = deletion(ALPINE, digest("a"), START_NS, DueRow(OTHER, START_NS), is_content=True)
LINKS = (
    f"{IMAGES_TOP}/{ALPINE}/3.20",
    f"{IMAGES_TOP}/{ALPINE}/latest",
    f"{IMAGES_TOP}/{REPOSITORIES}/{ALPINE}/3.20",
    f"{IMAGES_TOP}/{REPOSITORIES}/{OTHER}/1",
)
"""What goes with it: the first is shadowed, and leads elsewhere."""
_FOLDERS = (f"{IMAGES_TOP}/{CONTENT}/{HEX}", f"{IMAGES_TOP}/{ALPINE}/{HEX}")


def make_shared(disks: str = DISKS[0]) -> MemoryFilesystem:
    """Make the image and its neighbours, all of it safe from a power loss."""
    filesystem = MemoryFilesystem(lambda: START_NS)
    make_image(filesystem, ALPINE, "a", tags=("latest",))
    _make_content(filesystem, "a", f"{ALPINE}:3.20")
    _make_content(filesystem, "c", f"{OTHER}:kept")
    if disks != "three disks":
        filesystem.remove(f"{_FOLDERS[0]}/rootfs.ext4")
        filesystem.link(f"{_FOLDERS[1]}/rootfs.ext4", f"{_FOLDERS[0]}/rootfs.ext4")
    filesystem.make_link(LINKS[0], "b" * 64)
    filesystem.make_link(LINKS[2], f"../../../../{CONTENT}/{HEX}")
    filesystem.make_link(LINKS[3], f"../../../../{CONTENT}/{HEX}")
    filesystem.make_link(f"{IMAGES_TOP}/{REPOSITORIES}/{OTHER}/kept", f"../../../../{CONTENT}/{'c' * 64}")
    for row in UNIT.rows:
        make_state(filesystem, (row.repository, UNIT.digest), row.unused_since_ns)
    if disks != "one disk":
        filesystem.mount(IMAGES_TOP)
    if disks == "three disks":
        filesystem.mount(f"{IMAGES_TOP}/{CONTENT}")
    filesystem.sync()
    return filesystem


def _make_content(filesystem: MemoryFilesystem, letters: str, name: str) -> None:
    folder = f"{IMAGES_TOP}/{CONTENT}/{letters * 64}"
    metadata = {"name": name, "digest": digest(letters), "status": "ready", "size_bytes": 4096}
    filesystem.write_file(f"{folder}/rootfs.ext4", bytes(4096))
    filesystem.write_file(f"{folder}/metadata.json", json.dumps(metadata).encode())


def images_in(filesystem: MemoryFilesystem) -> Tree:
    """Return all that lies below `images/`."""
    return filesystem.tree(IMAGES_TOP)


def states_in(filesystem: MemoryFilesystem) -> list[str]:
    """List the timers."""
    top = f"{DATA}/{RETENTION}"
    return sorted(path for path in filesystem.tree(top) if path.endswith(".json"))


def is_here(after: Tree, before: Tree) -> bool:
    """Return whether the image is in the cache as it was, with all its folders and tags, beside its neighbours.

    The tag of the older layout that no lookup sees may have gone: it is not made again where its name is taken in today's.
    """
    return {**after, LINKS[0]: before[LINKS[0]]} == before


def is_gone(after: Tree, before: Tree) -> bool:
    """Return whether all of the image has gone, and nothing else: what is left empty below `repositories/` stays for now."""
    expected = {
        path: entry
        for path, entry in before.items()
        if path not in LINKS and not path.startswith(_FOLDERS) and not _is_legacy_folder(path)
    }
    return after == expected


def _is_legacy_folder(path: str) -> bool:
    return f"{IMAGES_TOP}/{ALPINE}".startswith(path) and path.startswith(f"{IMAGES_TOP}/docker.io")


def listed_folders(filesystem: MemoryFilesystem) -> set[str]:
    """List the folders that hypeman takes for images: any below `images/` with metadata and a disk, whatever its name."""
    paths = images_in(filesystem)
    return {
        path.removesuffix("/metadata.json")
        for path in paths
        if path.endswith("/metadata.json") and f"{path.removesuffix('metadata.json')}rootfs.ext4" in paths
    }


def left_over(filesystem: MemoryFilesystem, *, may_hold: bool = False) -> Iterator[str]:
    """List what a start should not have left: in the trash, beside images, open."""
    trash = filesystem.tree(TRASH_TOP) if filesystem.exists(TRASH_TOP) else {}
    for path in trash:
        if not may_hold or (path.endswith(".json") and "/metadata" not in path):
            yield path
    for path in images_in(filesystem):
        if "/.hmret-" in path and not may_hold:
            yield path
    yield from filesystem.open_descriptors().values()
