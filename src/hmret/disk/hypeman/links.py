"""Tags: links to the folder of a digest, in either layout.

Source: hypeman's own interpretation of them. A link is valid when its target is not absolute, its last
component is 64 hex digits, and the target is either that component alone or a path that, joined to the link's
folder and cleaned lexically, is `images/content/<hex>`. Both forms are valid in both layouts, whether or not
their target exists.
"""

import posixpath
from functools import lru_cache

from hmret.disk.layout import CONTENT, DIGEST_HEX, HEX_DIGITS, IMAGES, REPOSITORIES, Layout

_CONTENT = f"{IMAGES}/{CONTENT}"


def tag_folder(layout: Layout, repository: str) -> str:
    """Return the folder of a repository's tags, below the data directory."""
    if layout is Layout.CONTENT:
        return f"{IMAGES}/{REPOSITORIES}/{repository}"
    return f"{IMAGES}/{repository}"


def link_target(layout: Layout, repository: str, hexadecimal: str) -> str:
    """Return the target of a tag as hypeman writes it."""
    if layout is Layout.LEGACY:
        return hexadecimal
    return f"{'../' * (repository.count('/') + 2)}{CONTENT}/{hexadecimal}"


@lru_cache(maxsize=64)
def _way_to_content(folder: str) -> str:
    return f"{'../' * folder.count('/')}{CONTENT}/"


def pointed_to(folder: str, target: str) -> str | None:
    """Return the hex digits that a link in a folder (below the data directory) points to; None: it is not a valid tag."""
    if len(target) == HEX_DIGITS:
        return target if DIGEST_HEX.fullmatch(target) else None
    hexadecimal = target[-HEX_DIGITS:]
    if (
        target[-HEX_DIGITS - 1 : -HEX_DIGITS] != "/"
        or target[0] == "/"
        or not DIGEST_HEX.fullmatch(hexadecimal)
    ):
        return None
    # What hypeman writes needs no cleaning.
    if target[:-HEX_DIGITS] == _way_to_content(folder):
        return hexadecimal
    cleaned = posixpath.normpath(f"{folder}/{target}")
    return hexadecimal if cleaned == f"{_CONTENT}/{hexadecimal}" else None
