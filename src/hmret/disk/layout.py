"""The layout below the data directory: where things are, and which names are valid for what.

Source: hypeman's layout, as its servers write it.
"""

import enum
import re

IMAGES = "images"
RETENTION = "system/image-retention"
OWN = "system/hmret"
"""hmret's own folder."""
LOCK = "lock"
"""Below `OWN`: the file that an engine has locked while it works on the data directory."""
TRASH = f"{OWN}/trash"
"""Images that have been renamed out of the cache and wait for their bytes to be freed."""
DELETED = f"{OWN}/deleted"
"""The intents of completed deletions, kept for a day."""

MAY_BE_LINKS = (IMAGES, "guests", "snapshots", "system", RETENTION, OWN)
"""Folders below the data directory that an operator may have moved elsewhere, with a symbolic link in their place."""

METADATA = "metadata.json"
HIDDEN_METADATA = ".hmret-hidden"
"""The name of the metadata of a retired folder that had to stay below `images/`, so that it is not taken for
an image.
"""
ROOTFS_NAMES = ("rootfs.ext4", "rootfs.erofs")

CONTENT = "content"
"""Below `IMAGES`: the digests, whichever repositories tag them."""
REPOSITORIES = "repositories"
"""Below `IMAGES`: the tags that point to them."""
INSTALLING = ".install-"
"""Prefix of folders in which hypeman prepares a file or a link before it moves it into place."""
TAG_STAGE = ".tag-stage-"
"""Prefix of folders in which hypeman prepares a tag before it moves it into place."""
BUILDS = "builds"
"""The folder of the build records, below the data directory."""

REFERENCE_FILES = (("instance", "guests", "metadata.json"), ("snapshot", "snapshots", "snapshot.json"))
"""The kind of source, its folder below the data directory, and the file in each subfolder of that."""

HEX_DIGITS = 64
DIGEST_HEX = re.compile(r"[0-9a-f]{64}")
TAG_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
FOLDER_NAME = re.compile(r"[A-Za-z0-9\[][A-Za-z0-9._:\[\]-]*")
"""A folder that can be part of a repository's path; staging folders begin with a dot and cannot."""


class Layout(enum.StrEnum):
    """The layout in which a tag or a digest's folder lies."""

    CONTENT = "content"
    """`images/content/<hex>` and `images/repositories/<repository>/<tag>`."""
    LEGACY = "legacy"
    """`images/<repository>/<hex>` and `images/<repository>/<tag>`."""


def digest_of(hexadecimal: str) -> str:
    """Return the digest that a folder's name stands for."""
    return f"sha256:{hexadecimal}"


def are_digests(names: list[str]) -> bool:
    """Return whether each text is the name of a digest's folder: what `DIGEST_HEX` matches, in a tenth of the time."""
    joined = "".join(names)
    try:
        # Upper case and blanks, which are read too, do not come back.
        return {*map(len, names)} <= {HEX_DIGITS} and bytes.fromhex(joined).hex() == joined
    except ValueError:
        return False


def hex_of(digest: str) -> str:
    """Return the name of a digest's folder."""
    return digest.removeprefix("sha256:")


def path_below(data_dir: str, path: str) -> str:
    """Return the path of something below the data directory."""
    return f"{data_dir.rstrip('/')}/{path}"
