"""The tags of repositories in both layouts, read anew for one batch: each folder once."""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence, Set as AbstractSet
from operator import itemgetter

import attrs

from hmret.disk.deletion.links import read_links
from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.deletion.tag_view import Linkers, staged_in
from hmret.disk.hypeman.links import Layout, pointed_to, tag_folder
from hmret.disk.hypeman.repositories import list_entries
from hmret.disk.layout import HEX_DIGITS, TAG_NAME, TAG_STAGE, digest_of, hex_of
from hmret.disk.trash import Link
from hmret.model.values import define, frozen

__all__ = ["RepositoryTags", "TagMovedError"]

_NO_LINK = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EINVAL))
_NO_TAGS: Mapping[str, Sequence[str]] = {}


class TagMovedError(Exception):
    """A tag leads elsewhere than it did a moment ago, or has gone."""


@frozen
class _Folder:
    """The tags in one folder."""

    tags: Mapping[str, Sequence[str]] = _NO_TAGS
    """By digest: the tags that lead to it."""
    staged: tuple[tuple[str, str], ...] = ()
    """The tags that are being made in it, with their digests."""


@define(eq=False)
class RepositoryTags:
    """Reads the folders of tags that a batch is about.

    Every method raises OSError where a folder cannot be listed or a tag cannot be read.
    """

    folders: OpenFolders
    linkers: Linkers | None
    """What leads where below `repositories/`; None: nobody has looked, so those folders are read as well."""
    digests: AbstractSet[str] | None = None
    """Those that are asked about; None: it may be any."""
    _read: dict[tuple[Layout, str], _Folder] = attrs.field(factory=dict)

    def tags(self, layout: Layout, repository: str, digest: str) -> tuple[str, ...]:
        """List the tags of a repository in one layout that lead to a digest, sorted."""
        if layout is Layout.CONTENT and self.linkers is not None:
            return self.linkers.tags(repository, digest)
        return tuple(self._folder(layout, repository).tags.get(digest, ()))

    def unshadowed(self, repository: str, digest: str) -> tuple[str, ...]:
        """List the tags of the older layout that lead to a digest and that lookups see."""
        folder = tag_folder(Layout.CONTENT, repository)
        return tuple(
            tag
            for tag in self.tags(Layout.LEGACY, repository, digest)
            if not self.folders.exists(f"{folder}/{tag}")
        )

    def staged(self, layout: Layout, repository: str, digest: str) -> Iterator[str]:
        """List the tags to a digest that are being made in a repository's folder and are not there yet."""
        if layout is Layout.CONTENT and self.linkers is not None:
            yield from (tag for name, tag in self.linkers.staged(digest) if name == repository)
            return
        for tag, target in self._folder(layout, repository).staged:
            if target == digest and tag not in self.tags(layout, repository, digest):
                yield tag

    def is_being_made(self, repository: str, digest: str) -> bool:
        """Return whether a tag to a digest is being made in either of a repository's folders, and is not there yet."""
        return any(True for layout in Layout for _ in self.staged(layout, repository, digest))

    def links(self, repository: str, digest: str) -> list[Link]:
        """List the tags of a repository that lead to a digest, exactly as they are.

        Each one below `repositories/` has the one before it that it shadows, whatever that leads to: left alone, an old tag
        would come back to life, and lead to an old image.

        Raises:
            TagMovedError: one has moved since it was listed.
        """
        todays = self.tags(Layout.CONTENT, repository, digest)
        legacy = self.tags(Layout.LEGACY, repository, digest)
        shadowed = [tag for tag in todays if tag not in legacy]
        links = self._links(Layout.LEGACY, repository, (*shadowed, *legacy))
        links += self._links(Layout.CONTENT, repository, todays)
        for layout, tags in ((Layout.LEGACY, legacy), (Layout.CONTENT, todays)):
            leading = {link.tag for link in links if link.layout is layout and _leads_to(link, digest)}
            if not leading.issuperset(tags):
                raise TagMovedError
        return links

    def _links(self, layout: Layout, repository: str, tags: Sequence[str]) -> list[Link]:
        """Take down tags, exactly as they are now."""
        folder_fd = self.folders.find(tag_folder(layout, repository)) if tags else None
        if folder_fd is None:
            return []
        return read_links(self.folders.filesystem, folder_fd, layout, repository, tags)

    def _folder(self, layout: Layout, repository: str) -> _Folder:
        key = layout, repository
        if key not in self._read:
            self._read[key] = self._read_folder(tag_folder(layout, repository))
        return self._read[key]

    def _read_folder(self, folder: str) -> _Folder:
        filesystem = self.folders.filesystem
        folder_fd = self.folders.find(folder)
        if folder_fd is None:
            return _Folder()
        entries = list_entries(filesystem, folder_fd)
        tags: dict[str, list[str]] = {}
        names = [*entries.links]
        for name, target in sorted(
            zip(names, filesystem.read_links(folder_fd, names), strict=True), key=itemgetter(0)
        ):
            if isinstance(target, int):
                if target in _NO_LINK or not TAG_NAME.fullmatch(name):
                    continue
                raise OSError(target, os.strerror(target), name)
            # Most of them lead to images that are none of this batch.
            if self.digests is not None and digest_of(target[-HEX_DIGITS:]) not in self.digests:
                continue
            hexadecimal = pointed_to(folder, target)
            if hexadecimal is not None and TAG_NAME.fullmatch(name):
                tags.setdefault(digest_of(hexadecimal), []).append(name)
        is_staging = any(name.startswith(TAG_STAGE) for name in entries.folders)
        staged = tuple(staged_in(filesystem, folder_fd, folder)) if is_staging else ()
        return _Folder(tags, staged)


def _leads_to(link: Link, digest: str) -> bool:
    return pointed_to(link.parent, link.target) == hex_of(digest)
