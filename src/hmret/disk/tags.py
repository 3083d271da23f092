"""The tags of a repository: which point to a digest, and their removal once that is gone.

hypeman moves a tag, and pulls a digest again, at any moment. So a tag is set aside under a name of ours first, looked
at there, and only then removed; it comes back where it has moved, or where its digest is here again.
"""

import errno
import os
from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import suppress

import attrs

from hmret.disk.filesystem import Filesystem
from hmret.disk.layout import TAG_NAME

__all__ = ["KnownTags", "exists", "find_tags", "link_tags", "remove_tags", "settle_tags_aside"]

_ASIDE = ".hmret-tag-"
"""Begins the name of a tag while it is removed; no scan looks at such names."""

# It has gone since it was listed, or is no link any more.
_NO_TAG = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EINVAL))


@attrs.define(eq=False)
class KnownTags:
    """What is known of the tags of one sweep's images, so that a repository is read once for many batches.

    A repository whose images are spread over several batches is read at its first, and again at its last: tags that
    were made or moved meanwhile to what has gone by then go too. One that fits a batch is read then, and only then.
    Only tags that point to an image of the sweep are kept, and only while some of its repository are still to come.
    """

    _wanted: dict[str, set[str]] = attrs.field(factory=dict)
    """By repository: the images, as hexadecimals, that have not been come to."""
    _read: dict[str, Mapping[str, list[str]]] = attrs.field(factory=dict)
    _gone: dict[str, set[str]] = attrs.field(factory=dict)
    """By repository that was read in an earlier batch, or now: the images that have gone."""

    def expect(self, repository: str, hexadecimal: str) -> None:
        """Say that an image will be come to."""
        self._wanted.setdefault(repository, set()).add(hexadecimal)

    def forget(self, repository: str, hexadecimal: str) -> None:
        """Say that an image will not be come to after all."""
        self._wanted.get(repository, set()).discard(hexadecimal)

    def find(
        self, filesystem: Filesystem, repository_fd: int, repository: str, batch: set[str]
    ) -> Mapping[str, list[str]]:
        """Find the tags of the images of one batch; as `find_tags`."""
        known = self._read.get(repository)
        if known is None:
            wanted = self._wanted.get(repository, set()) | batch
            known = find_tags(filesystem, repository_fd, wanted)
            if wanted != batch:
                self._read[repository] = known
        return known

    def leave(
        self,
        filesystem: Filesystem,
        open_repository: Callable[[], int],
        repository: str,
        done: set[str],
        gone: set[str],
    ) -> list[tuple[str, str]]:
        """Say what of one repository was come to, and what of it has gone; returns the tags that should have, and why.

        Raises:
            OSError: the tags that are left could not be read.
        """
        waiting = self._wanted.get(repository, set())
        waiting -= done
        if repository not in self._read:
            return []
        all_gone = self._gone.setdefault(repository, set())
        all_gone |= gone
        if waiting:
            return []
        del self._wanted[repository], self._read[repository], self._gone[repository]
        repository_fd = open_repository()
        faults: list[tuple[str, str]] = []
        for hexadecimal, tags in find_tags(filesystem, repository_fd, all_gone).items():
            faults += remove_tags(filesystem, repository_fd, hexadecimal, tags)[1]
        return faults


def find_tags(
    filesystem: Filesystem, repository_fd: int, hexadecimals: Container[str]
) -> dict[str, list[str]]:
    """Find the tags in an open repository folder that point to some digests; returns them by hexadecimal, sorted.

    Raises:
        OSError: the folder cannot be listed, or a tag cannot be read.
    """
    tags: dict[str, list[str]] = {}
    with filesystem.scandir(repository_fd) as entries:
        names = [entry.name for entry in entries if entry.is_symlink()]
    for name in names:
        try:
            target = filesystem.readlink(name, dir_fd=repository_fd)
        except OSError as error:
            if error.errno in _NO_TAG:
                continue
            raise
        if target in hexadecimals and TAG_NAME.fullmatch(name):
            tags.setdefault(target, []).append(name)
    for found in tags.values():
        found.sort()
    return tags


def remove_tags(
    filesystem: Filesystem, repository_fd: int, hexadecimal: str, tags: Iterable[str]
) -> tuple[list[str], list[tuple[str, str]]]:
    """Remove the tags that still point to a digest, while its folder is absent.

    Returns those that were removed, and those that could not be, with the reason.

    Raises:
        OSError: whether the folder is back could not be told in the end.
    """
    removed: list[str] = []
    faults: list[tuple[str, str]] = []
    for tag in tags:
        try:
            if filesystem.readlink(tag, dir_fd=repository_fd) != hexadecimal:
                continue
            if exists(filesystem, repository_fd, hexadecimal):
                break
            # Set aside first: between the look and now it may have been moved to another image.
            filesystem.rename(tag, _ASIDE + tag, src_dir_fd=repository_fd, dst_dir_fd=repository_fd)
            if _settle_tag(filesystem, repository_fd, tag, hexadecimal):
                removed.append(tag)
        except OSError as error:
            # One that is gone, or is no link any more, has been taken by somebody.
            if error.errno not in (errno.ENOENT, errno.EINVAL):
                faults.append((tag, os.strerror(error.errno or 0)))
    # hypeman may have pulled the digest again between the look and the removal: then its tags are wanted.
    if removed and exists(filesystem, repository_fd, hexadecimal):
        link_tags(filesystem, repository_fd, hexadecimal, removed)
        removed = []
    return removed, faults


def settle_tags_aside(filesystem: Filesystem, repository_fd: int, hexadecimal: str) -> None:
    """Settle the tags that a crash left set aside."""
    with filesystem.scandir(repository_fd) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(_ASIDE)]
    for name in names:
        _settle_tag(filesystem, repository_fd, name.removeprefix(_ASIDE), hexadecimal)


def link_tags(filesystem: Filesystem, repository_fd: int, hexadecimal: str, tags: Iterable[str]) -> None:
    """Make tags that point to a digest, where nothing has taken their names."""
    for tag in tags:
        with suppress(FileExistsError):
            filesystem.symlink(hexadecimal, tag, dir_fd=repository_fd)


def exists(filesystem: Filesystem, repository_fd: int, hexadecimal: str) -> bool:
    """Tell whether a digest's folder, or anything of its name, is here.

    Raises:
        OSError: it could not be told.
    """
    try:
        filesystem.stat(hexadecimal, dir_fd=repository_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _settle_tag(filesystem: Filesystem, repository_fd: int, tag: str, hexadecimal: str) -> bool:
    """Remove a tag that was set aside, if it points to the digest and that is absent; else put it back.

    Tells whether it was removed.
    """
    aside = _ASIDE + tag
    try:
        target = filesystem.readlink(aside, dir_fd=repository_fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # A folder has taken the tag's name: it is not ours.
        filesystem.rename(aside, tag, src_dir_fd=repository_fd, dst_dir_fd=repository_fd)
        return False
    goes = target == hexadecimal and not exists(filesystem, repository_fd, hexadecimal)
    if not goes:
        link_tags(filesystem, repository_fd, target, (tag,))
    filesystem.unlink(aside, dir_fd=repository_fd)
    return goes
