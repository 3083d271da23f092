"""Images that are due, each of a repository of its own, in either layout on a disk in memory."""

import json
from datetime import timedelta

from hmret.disk.layout import CONTENT, IMAGES, REPOSITORIES, hex_of
from hmret.model.references import Key
from hmret.model.times import timedelta_nanoseconds
from support.builders import DATA, START, START_NS, digest, make_image, make_state
from support.memory_filesystem import MemoryFilesystem

__all__ = ["LAYOUTS", "are_here", "image_folder", "make_due", "make_in"]

LAYOUTS = ("older", "content")


def make_in(
    filesystem: MemoryFilesystem, layout: str, repository: str, letters: str, *, size_bytes: int = 4096
) -> Key:
    """Make an image of one repository with a tag, made a day ago."""
    if layout == "older":
        return make_image(filesystem, repository, letters, size_bytes=size_bytes)
    key = repository, digest(letters)
    folder = image_folder(layout, key)
    metadata = {
        "name": f"{repository}:latest",
        "digest": key[1],
        "status": "ready",
        "size_bytes": size_bytes,
        "created_at": (START - timedelta(days=400)).isoformat(),
    }
    filesystem.write_file(f"{folder}/rootfs.erofs", bytes(size_bytes))
    filesystem.write_file(f"{folder}/metadata.json", json.dumps(metadata).encode())
    up = "../" * (repository.count("/") + 2)
    filesystem.make_link(
        f"{DATA}/{IMAGES}/{REPOSITORIES}/{repository}/latest", f"{up}{CONTENT}/{hex_of(key[1])}"
    )
    return key


def make_due(
    filesystem: MemoryFilesystem, layout: str, count: int, *, size_bytes: int = 4096, days: int = 200
) -> list[Key]:
    """Make images that have been unused for months, the first for the longest, each of a repository of its own."""
    keys = []
    for number in range(count):
        key = make_in(
            filesystem, layout, f"ghcr.io/acme/app{number:02}", f"{number:02x}", size_bytes=size_bytes
        )
        age = timedelta(days=days) - timedelta(hours=number)
        make_state(filesystem, key, START_NS - timedelta_nanoseconds(age))
        keys.append(key)
    return keys


def image_folder(layout: str, key: Key) -> str:
    """Return the path of an image's folder."""
    return f"{DATA}/{IMAGES}/{key[0] if layout == 'older' else CONTENT}/{hex_of(key[1])}"


def are_here(filesystem: MemoryFilesystem, layout: str, keys: list[Key]) -> list[bool]:
    """Tell of each image whether its folder is in the cache."""
    return [filesystem.exists(image_folder(layout, key)) for key in keys]
