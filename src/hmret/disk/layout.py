"""Where things are below the data directory, and which names can be what.

Source: hypeman's layout, as its servers write it.
"""

import re

__all__ = [
    "BUILDS",
    "CONTENT",
    "DIGEST_HEX",
    "FOLDER_NAME",
    "HEX_DIGITS",
    "HIDDEN_METADATA",
    "IMAGES",
    "INSTALLING",
    "LOCK",
    "MAY_BE_LINKS",
    "METADATA",
    "OWN",
    "REFERENCE_FILES",
    "REPOSITORIES",
    "RETENTION",
    "ROOTFS_NAMES",
    "TAG_NAME",
    "TAG_STAGE",
    "TRASH",
    "digest_of",
    "hex_of",
]

IMAGES = "images"
RETENTION = "system/image-retention"
OWN = "system/hmret"
LOCK = "lock"
"""Below `OWN`: the file that an engine has locked while it works on the data directory."""
"""hmret's own folder."""
TRASH = "trash"
"""Below `OWN`: what has been renamed out of the cache and waits for its bytes to be freed."""

DELETED = "deleted"
"""Below `OWN`: the intents of deletions that are carried out, kept for a day."""

MAY_BE_LINKS = (IMAGES, "guests", "snapshots", "system", RETENTION, OWN)
"""Folders below the data directory that an operator may have moved elsewhere, with a symbolic link in their place."""

METADATA = "metadata.json"
HIDDEN_METADATA = ".hmret-hidden"
"""The metadata of a retired folder that had to stay below `images/`: by that name nobody takes it for an image."""
ROOTFS_NAMES = ("rootfs.ext4", "rootfs.erofs")

CONTENT = "content"
"""Below `IMAGES`: the digests, whatever repositories tag them."""
REPOSITORIES = "repositories"
"""Below `IMAGES`: the tags that lead there."""
INSTALLING = ".install-"
"""Begins the name of a folder in which hypeman makes a file or a link before it takes its place."""
TAG_STAGE = ".tag-stage-"
"""Begins the name of a folder in which hypeman makes a tag before it takes its place."""
BUILDS = "builds"
"""The folder of the records of builds, below the data directory."""

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
