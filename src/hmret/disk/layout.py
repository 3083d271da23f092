"""Where things are below the data directory, and which names can be what.

Source: hypeman's layout, as its servers write it.
"""

import re

__all__ = [
    "DIGEST_HEX",
    "FOLDER_NAME",
    "HEX_DIGITS",
    "HIDDEN_METADATA",
    "IMAGES",
    "METADATA",
    "NEWER_LAYOUT",
    "OWN",
    "REFERENCE_FILES",
    "RETENTION",
    "ROOTFS_NAMES",
    "TAG_NAME",
    "TRASH",
    "digest_of",
    "hex_of",
]

IMAGES = "images"
RETENTION = "system/image-retention"
OWN = "system/hmret"
"""hmret's own folder."""
TRASH = "trash"
"""Below `OWN`: what has been renamed out of the cache and waits for its bytes to be freed."""

METADATA = "metadata.json"
HIDDEN_METADATA = ".hmret-hidden"
"""The metadata of a retired folder that had to stay below `images/`: by that name nobody takes it for an image."""
ROOTFS_NAMES = ("rootfs.ext4", "rootfs.erofs")

NEWER_LAYOUT = frozenset({"content", "repositories", "layers"})
"""Folders below `images/` of a layout that today's releases do not write: recognised and left alone."""

REFERENCE_FILES = (("instance", "guests", "metadata.json"), ("snapshot", "snapshots", "snapshot.json"))
"""Kind of source, its folder below the data directory, and the file in each folder below that."""

HEX_DIGITS = 64
DIGEST_HEX = re.compile(r"[0-9a-f]{64}")
TAG_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
FOLDER_NAME = re.compile(r"[A-Za-z0-9\[][A-Za-z0-9._:\[\]-]*")
"""A folder that can be part of a repository's path; staging folders begin with a dot and are not."""


def digest_of(hexadecimal: str) -> str:
    """Make a digest of the name of its folder."""
    return f"sha256:{hexadecimal}"


def hex_of(digest: str) -> str:
    """Make the name of a digest's folder."""
    return digest.removeprefix("sha256:")
