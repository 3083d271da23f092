"""Reading the tags of one repository, in either layout."""

import errno
import os
import re
from collections.abc import Iterable, Mapping, Sequence

from hmret.disk.filesystem import Filesystem
from hmret.disk.fingerprints import if_stable, stable_fingerprint
from hmret.disk.folders import NOTHING_THERE, open_folder, opened
from hmret.disk.folders_ahead import FolderAhead
from hmret.disk.hypeman.hidden import find_hidden
from hmret.disk.hypeman.images import NOTHING, FolderScan, Oddity, age_of
from hmret.disk.hypeman.links import pointed_to
from hmret.disk.layout import (
    CONTENT,
    DIGEST_HEX,
    FOLDER_NAME,
    IMAGES,
    REPOSITORIES,
    TAG_NAME,
    TAG_STAGE,
    are_digests,
    digest_of,
    hex_of,
)
from hmret.model.images import Repository
from hmret.model.references import is_repository
from hmret.model.times import SECOND
from hmret.model.values import frozen

_PREFIX = f"{REPOSITORIES}/"
_STAGE_NS = 60 * SECOND
"""A folder in which a tag has been in preparation for longer than this was left behind."""

_NO_TAGS: Mapping[str, str] = {}
_NO_NAMES: frozenset[str] = frozenset()
_TAG_NAMES = re.compile(rf"(?:{TAG_NAME.pattern}/)*")


@frozen
class Entries:
    """The entries of a folder, by kind."""

    links: tuple[str, ...]
    folders: tuple[str, ...]
    others: tuple[str, ...]


@frozen
class TagsFound:
    """The tags in a folder."""

    tags: Mapping[str, str]
    """Tag to digest."""
    odd_tags: frozenset[str]
    """Names of entries that should be tags but are not valid ones, except folders that can be a level of
    repositories.
    """
    oddities: tuple[Oddity, ...]


def repository_of(path: str) -> str | None:
    """Return the repository whose tags lie at a path below `images/`; None: it is not in `repositories/`."""
    return path[len(_PREFIX) :] if path.startswith(_PREFIX) else None


def list_entries(filesystem: Filesystem, fd: int) -> Entries:
    """List an open folder."""
    links, folders, others, _ = filesystem.list_folder(fd)
    return Entries(tuple(links), tuple(folders), tuple(others))


def read_tags(
    filesystem: Filesystem, fd: int, path: str, entries: Entries, known: Mapping[str, str] = _NO_TAGS
) -> TagsFound:
    """Read the tags among the entries of an open folder; `path`: the folder's, below `images/`.

    `known`: what they pointed to before; a link with an unchanged target is not parsed again.

    Raises:
        OSError: one could not be read.
    """
    tags: dict[str, str] = {}
    odd: set[str] = set(filter(TAG_NAME.fullmatch, entries.others))
    # A folder that can be a level of repositories is reported as one of those.
    # guard(folder-in-place-of-tag): A folder in the place of a tag hides what the tag pointed to, so a guest
    # that names it keeps every digest of the repository.
    odd.update(
        name for name in filter(TAG_NAME.fullmatch, entries.folders) if not FOLDER_NAME.fullmatch(name)
    )
    oddities: list[Oddity] = []
    folder = f"{IMAGES}/{path}"
    names = list(filter(TAG_NAME.fullmatch, entries.links))
    usual = f"{'../' * folder.count('/')}{CONTENT}/"
    length = len(usual)
    for name, target in zip(names, filesystem.read_links(fd, names), strict=True):
        if name in known and target in (hex_of(known[name]), usual + hex_of(known[name])):
            tags[name] = known[name]
            continue
        if isinstance(target, int):
            if target in NOTHING_THERE:
                continue
            if target != errno.EINVAL:
                raise OSError(target, os.strerror(target), name)
            # Something else has taken its place.
            odd.add(name)
            continue
        if target[:length] == usual and DIGEST_HEX.fullmatch(target, length):
            # The form that hypeman writes.
            tags[name] = digest_of(target[length:])
            continue
        hexadecimal = pointed_to(folder, target)
        if hexadecimal is None:
            odd.add(name)
            oddities.append(
                (
                    "invalid_link",
                    f"{folder}/{name}",
                    f"points to {target[:200]!r}, which is not a valid tag target",
                )
            )
        else:
            tags[name] = digest_of(hexadecimal)
    return TagsFound(tags, frozenset(odd) if odd else _NO_NAMES, tuple(oddities))


def stage_oddities(
    filesystem: Filesystem, fd: int, path: str, folders: Iterable[str]
) -> tuple[bool, list[Oddity]]:
    """Return whether a folder holds staging folders of tags, and report those that were left behind."""
    stages = [name for name in folders if name.startswith(TAG_STAGE)]
    detail = "left behind by a server that was stopped while setting a tag; stop the server and remove it"
    left = [
        ("tag_stage_left", f"{IMAGES}/{path}/{name}", detail)
        for name in stages
        if (age_of(filesystem, fd, name) or 0) > _STAGE_NS
    ]
    return bool(stages), left


def scan_tag_folder(
    filesystem: Filesystem,
    images_fd: int,
    path: str,
    known: FolderScan | None = None,
    ahead: FolderAhead | None = None,
) -> FolderScan:
    """Read `images/repositories/` or one folder below it; a link or anything but a folder is an error.

    Args:
        filesystem: the file system.
        images_fd: the open folder `images/`.
        path: the folder's, below `images/`.
        known: what was found in it before.
        ahead: what has just been read of it; if that is all that a folder of tags usually holds, it is not
            read again.
    """
    usual = None if ahead is None else _usual_folder(path, ahead)
    if usual is not None:
        return usual
    try:
        fd = open_folder(filesystem, path, images_fd)
    except FileNotFoundError:
        return FolderScan(path)
    except OSError as error:
        if path != REPOSITORIES and error.errno == errno.ENOTDIR:
            return FolderScan(path)
        return FolderScan(path, error=error)
    with opened(filesystem, fd):
        try:
            return _scan(filesystem, fd, path, known)
        except OSError as error:
            return FolderScan(path, error=error)


def _usual_folder(path: str, ahead: FolderAhead) -> FolderScan | None:
    """Interpret a folder that holds only tags as hypeman writes them, and levels below; None: it holds more."""
    status, links, targets, folders, others, _ = ahead.found
    name = repository_of(path)
    # guard(usual-folder-and-no-more): Anything but tags and further levels may hide a tag or be one in
    # preparation, so it is looked at one by one.
    if name is None or others or not all(map(FOLDER_NAME.fullmatch, folders)):
        return None
    repository = None
    if links:
        tags = _usual_tags(path, links, targets)
        # guard(usual-tags-in-repository): Links in a folder that cannot be a repository are not tags and may
        # hide images.
        if tags is None or not is_repository(name):
            return None
        repository = Repository(name, {}, tags)
    return FolderScan(
        path,
        repository,
        tuple([f"{path}/{folder}" for folder in folders]),
        fingerprint=if_stable(status[1:], ahead.looked_ns),
        is_empty=not links and not folders,
    )


def _usual_tags(path: str, names: Sequence[str], targets: Sequence[str | int]) -> dict[str, str] | None:
    """Return tags with their digests where each link has the form that hypeman writes; None: one has another."""
    way = f"{'../' * (path.count('/') + 1)}{CONTENT}/"
    digits = [target.removeprefix(way) for target in targets if isinstance(target, str)]
    # guard(usual-target-only): A link to anything other than a digest in content is an odd tag or hides
    # images.
    if len(digits) != len(targets) or not are_digests(digits):
        return None
    # guard(usual-tag-name-only): A link whose name no tag can have is none, and may hide images.
    if not _TAG_NAMES.fullmatch("/".join(names) + "/"):
        return None
    return dict(zip(names, map(digest_of, digits), strict=True))


def _scan(filesystem: Filesystem, fd: int, path: str, known: FolderScan | None) -> FolderScan:
    fingerprint = stable_fingerprint(filesystem.fstat(fd), filesystem.now_ns())
    entries = list_entries(filesystem, fd)
    name = repository_of(path)
    below = filter(FOLDER_NAME.fullmatch, entries.folders)
    if name is None:
        hosts = tuple(f"{path}/{host}" for host in below if is_host(host))
        hidden = find_hidden(filesystem, fd, path, filter(is_host, entries.links))
        return FolderScan(path, subfolders=hosts, fingerprint=None if hidden else fingerprint, hidden=hidden)
    subfolders = tuple(f"{path}/{folder}" for folder in below)
    is_empty = not (entries.links or entries.folders or entries.others)
    if not is_repository(name):
        hidden = find_hidden(filesystem, fd, path, entries.links)
        fingerprint = None if hidden else fingerprint
        return FolderScan(
            path, subfolders=subfolders, fingerprint=fingerprint, hidden=hidden, is_empty=is_empty
        )
    found = read_tags(filesystem, fd, path, entries, (known or NOTHING).tags)
    hidden = find_hidden(filesystem, fd, path, (link for link in entries.links if link not in found.tags))
    is_staging, left = stage_oddities(filesystem, fd, path, entries.folders)
    repository = Repository(name, {}, found.tags, odd_tags=found.odd_tags)
    return FolderScan(
        path,
        repository if found.tags or found.odd_tags else None,
        subfolders,
        fingerprint=None if is_staging or hidden else fingerprint,
        oddities=(*found.oddities, *left),
        hidden=hidden,
        is_empty=is_empty,
    )


def is_host(name: str) -> bool:
    """Return whether a folder's name can be that of a registry's host, the first part of every repository."""
    return "." in name or ":" in name or name == "localhost" or name.lower() != name
