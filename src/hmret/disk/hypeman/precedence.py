"""hypeman's own rules of lookup, for one repository: which of two folders counts for a digest, and which tags resolve.

A digest whose content is ready resolves to that content, under every repository. A repository's own folder counts
while the content is unfinished or has failed. Content that is ready but has no disk hides both.
"""

from collections.abc import Iterator, Mapping, Set as AbstractSet
from typing import cast

import msgspec

from hmret.disk.hypeman.images import FolderScan
from hmret.disk.layout import REPOSITORIES, TAG_NAME
from hmret.model.images import Image

_AT_REST = frozenset(("ready", "failed", "unknown"))
"""In any other status, hypeman may be at work."""


def choose_row(  # noqa: PLR0911 - one rule after the other
    content: Image,
    own: Image | None,
    *,
    is_owner: bool,
    own_is_usable: bool,
    own_is_unreadable: bool,
    content_is_unreadable: bool,
    content_has_disk: bool,
) -> tuple[Image | None, str]:
    """Choose what a repository's row stands for: the content of its digest, or the repository's own folder.

    Also returns why the row is not ready, where that is because of the other folder; empty: it is not. No
    row: the repository neither has a folder of its own nor owns the content.
    """
    # guard(diskless-content-hides): hypeman does not see past ready content without a disk; the image behind
    # it is reported as broken and not deleted.
    if content_is_unreadable or (content.status == "ready" and content.broken is not None):
        # Unknown, or hypeman does not look past it.
        note = _at_work(own)
        content_is_served = content.status == "ready" and content_has_disk
        if own is None or (is_owner and (content_is_served or not own_is_usable)):
            return (_with_copy(content, own) if is_owner else None), note
        return msgspec.structs.replace(own, broken=own.broken or f"its content: {content.broken}"), note
    if content.status == "ready":
        if own is None:
            return (content if is_owner else None), ""
        if note := _at_work(own):
            return (content if is_owner else own), note
        if not is_owner:
            return own, ""
        if own_is_unreadable:
            # It may be one of the image's folders, or hypeman may be at work in it.
            return msgspec.structs.replace(content, broken=f"the repository's own folder: {own.broken}"), ""
        return _with_copy(content, own), ""
    if content.status == "failed" or (content.status == "unknown" and content.broken is not None):
        return (own if own_is_usable or not is_owner else content), _at_work(own)
    # guard(unfinished-content-waits): While hypeman is making the content of this digest, the repository's
    # folder is not ready either and stays.
    note = f"the content of this digest is {content.status}"
    if own is None:
        return (content if is_owner else None), ""
    return (own if own_is_usable or not is_owner else content), note


def _with_copy(content: Image, own: Image | None) -> Image:
    """Add to content the complete image that its owner has in a folder of its own."""
    if own is None or own.status != "ready" or own.broken is not None:
        return content
    # They are deleted together, or not at all.
    foreign = content.foreign or (f"the repository's own folder: {own.foreign}" if own.foreign else None)
    making = content.making or (f"the repository's own folder: {own.making}" if own.making else None)
    return msgspec.structs.replace(content, copy=own, foreign=foreign, making=making)


def _at_work(own: Image | None) -> str:
    """Return that hypeman may be at work in a repository's own folder; empty: it is not."""
    # guard(older-server-may-be-pulling): A folder that is not at rest may be an older server's running pull,
    # so the image does not count as ready.
    if own is None or own.status in _AT_REST:
        return ""
    return (
        f"the repository's own folder of this digest is {own.status}: an older server may be pulling into it"
    )


def has_usable_folder(own: Image | None, legacy: FolderScan) -> bool:
    """Return whether a repository's own folder has metadata of this digest and repository, and a disk."""
    if own is None or own.broken is not None:
        return False
    return own.status == "ready" or own.digest in legacy.with_disk


def tags_folder_of(name: str) -> str:
    """Return the path, below `images/`, of the folder in which today's layout has the tags of a repository."""
    return f"{REPOSITORIES}/{name}"


def tag_names_of_folders(folder: FolderScan) -> Iterator[str]:
    """List the names of the subfolders that a tag could have."""
    return filter(TAG_NAME.fullmatch, (path.rpartition("/")[2] for path in folder.subfolders))


def names_at(tag_folder: FolderScan) -> AbstractSet[str]:
    """List the names that exist below `repositories/`, which hide links of the older layout by that name."""
    return {*tag_folder.tags, *tag_folder.odd_tags, *tag_names_of_folders(tag_folder)}


def effective_tags(legacy: FolderScan, tag_folder: FolderScan) -> Mapping[str, str]:
    """Return what the tags of a repository point to, as hypeman's lookups resolve them."""
    if not legacy.tags:
        return tag_folder.tags
    shadowed = names_at(tag_folder)
    if not shadowed:
        return legacy.tags
    seen = {tag: digest for tag, digest in legacy.tags.items() if tag not in shadowed}
    return {**seen, **tag_folder.tags}


def linked_or_own_digests(legacy: FolderScan, tag_folder: FolderScan) -> set[str]:
    """List the digests to which a repository has a link, or of which it has a folder."""
    return {*legacy.images, *legacy.tags.values(), *tag_folder.tags.values()}


def share_digests(tag_folder: FolderScan, contents: Mapping[str, Image]) -> None:
    """Let the tags of a folder hold the very texts that name their images, of which there may be very many.

    They are replaced by equal ones, so the folder stays what it was.
    """
    tags = cast("dict[str, str]", tag_folder.tags)
    for tag, content in zip([*tags], map(contents.get, [*tags.values()]), strict=True):
        if content is not None:
            tags[tag] = content.digest
