"""The tags of repositories in both layouts, read again for one batch: each folder once."""

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set as AbstractSet
from operator import itemgetter

import attrs

from hmret.disk.deletion.open_folders import KnownPaths, OpenFolders
from hmret.disk.deletion.tags.links import NO_TAG, read_links
from hmret.disk.deletion.tags.tag_view import TagSnapshot, staged_in
from hmret.disk.deletion.trash.intents import Link
from hmret.disk.hypeman.links import pointed_to, tag_folder
from hmret.disk.hypeman.repositories import list_entries
from hmret.disk.layout import HEX_DIGITS, TAG_NAME, TAG_STAGE, Layout, digest_of, hex_of
from hmret.model.references import Key
from hmret.model.values import define, frozen

_NO_TAGS: Mapping[str, Sequence[str]] = {}


class StaleTagsError(Exception):
    """A tag that was listed leads elsewhere by now, or has gone."""


@frozen
class _Folder:
    """The tags in one folder."""

    tags: Mapping[str, Sequence[str]] = _NO_TAGS
    """By digest: the tags that lead to it."""
    staged: tuple[tuple[str, str], ...] = ()
    """The tags that are being made in it, with their digests."""


@define(eq=False)
class RepositoryTags:
    """Reads the folders of tags that a batch needs.

    Every method raises OSError where a folder cannot be listed or a tag cannot be read.
    """

    folders: OpenFolders
    tag_snapshot: TagSnapshot | None
    """Which tags lead where below `repositories/`; None: unknown, so those folders are read as well."""
    digests: AbstractSet[str]
    """The digests of interest."""
    known_paths: KnownPaths
    """Folders known to be absent need not be opened."""
    _links_read: dict[tuple[Layout, str, str], Link | None] = attrs.field(factory=dict)
    """By layout, repository and tag: results of reading many tags in one call; None: absent, or not a link."""
    _read: dict[tuple[Layout, str], _Folder] = attrs.field(factory=dict)

    def tags(self, layout: Layout, repository: str, digest: str) -> tuple[str, ...]:
        """List the tags of a repository in one layout that lead to a digest, sorted."""
        if layout is Layout.CONTENT and self.tag_snapshot is not None:
            return self.tag_snapshot.tags(repository, digest)
        return tuple(self._folder(layout, repository).tags.get(digest, ()))

    def unshadowed(self, repository: str, digest: str) -> tuple[str, ...]:
        """List the tags of the older layout that lead to a digest and that lookups see."""
        folder = tag_folder(Layout.CONTENT, repository)
        # guard(hidden-tags-own-nothing): An older tag hidden by a newer one is never resolved, so it neither
        # makes an owner nor keeps unreachable content for ever.
        return tuple(
            tag
            for tag in self.tags(Layout.LEGACY, repository, digest)
            if not self.folders.exists(f"{folder}/{tag}")
        )

    def staged(self, layout: Layout, repository: str, digest: str) -> Iterator[str]:
        """List the tags to a digest that are being made in a repository's folder and are not there yet."""
        if layout is Layout.CONTENT and self.tag_snapshot is not None:
            yield from (tag for name, tag in self.tag_snapshot.staged(digest) if name == repository)
            return
        for tag, target in self._folder(layout, repository).staged:
            if target == digest and tag not in self.tags(layout, repository, digest):
                yield tag

    def is_being_made(self, repository: str, digest: str) -> bool:
        """Return whether a tag to a digest is being made in either of a repository's folders, and is not there yet."""
        return any(True for layout in Layout for _ in self.staged(layout, repository, digest))

    def read_ahead(self, keys: Iterable[Key]) -> None:
        """Read the tags of some rows of content, and those that they shadow, in few calls; each exactly as it is.

        Tags that cannot be read this way are read on demand.
        """
        chosen = [
            (layout, repository, tag)
            for repository, digest in keys
            for tag in self.tags(Layout.CONTENT, repository, digest)
            for layout in (Layout.LEGACY, Layout.CONTENT)
            if layout is Layout.CONTENT or not self.known_paths.is_absent(tag_folder(layout, repository))
        ]
        paths = [f"{tag_folder(layout, repository)}/{tag}" for layout, repository, tag in chosen]
        filesystem, data_fd = self.folders.filesystem, self.folders.data_fd
        found = filesystem.stat_files(data_fd, paths)
        for key, answer, target in zip(chosen, found, filesystem.read_links(data_fd, paths), strict=True):
            if isinstance(answer, tuple) and isinstance(target, str):
                self._links_read[key] = Link(*key, target, answer[2])
            elif answer == errno.ENOENT and target == errno.ENOENT:
                self._links_read[key] = None

    def links(self, repository: str, digest: str) -> list[Link]:
        """List the tags of a repository that lead to a digest, exactly as they are.

        Each one below `repositories/` is preceded by the older tag that it shadows, whatever that leads to:
        left alone, an old tag would come back to life, and lead to an old image.

        Raises:
            StaleTagsError: one has moved since it was listed.
        """
        todays = self.tags(Layout.CONTENT, repository, digest)
        legacy = self.tags(Layout.LEGACY, repository, digest)
        shadowed = [tag for tag in todays if tag not in legacy]
        # guard(hidden-tag-goes-along): An older tag hidden by today's goes with it; left alone, it would come
        # back to life and boot an old image.
        links = self._links(Layout.LEGACY, repository, (*shadowed, *legacy))
        links += self._links(Layout.CONTENT, repository, todays)
        for layout, tags in ((Layout.LEGACY, legacy), (Layout.CONTENT, todays)):
            leading = {link.tag for link in links if link.layout is layout and _leads_to(link, digest)}
            if not leading.issuperset(tags):
                raise StaleTagsError
        return links

    def _links(self, layout: Layout, repository: str, tags: Sequence[str]) -> list[Link]:
        """Read tags exactly as they are now."""
        if self.known_paths.is_absent(tag_folder(layout, repository)):
            return []
        keys = [(layout, repository, tag) for tag in tags]
        if all(key in self._links_read for key in keys):
            return [link for key in keys if (link := self._links_read[key]) is not None]
        folder_fd = self.folders.find(tag_folder(layout, repository)) if tags else None
        if folder_fd is None:
            return []
        return read_links(self.folders.filesystem, folder_fd, layout, repository, tags)

    def _folder(self, layout: Layout, repository: str) -> _Folder:
        key = layout, repository
        if key not in self._read:
            is_absent = self.known_paths.is_absent(tag_folder(layout, repository))
            self._read[key] = _Folder() if is_absent else self._read_folder(layout, repository)
        return self._read[key]

    def _read_folder(self, layout: Layout, repository: str) -> _Folder:
        filesystem, folder = self.folders.filesystem, tag_folder(layout, repository)
        folder_fd = self.folders.find(folder)
        if folder_fd is None:
            return _Folder()
        entries = list_entries(filesystem, folder_fd)
        tags: dict[str, list[str]] = {}
        names = [*entries.links]
        targets = filesystem.read_links(folder_fd, names)
        for name, target in sorted(zip(names, targets, strict=True), key=itemgetter(0)):
            if isinstance(target, int):
                if target in NO_TAG or not TAG_NAME.fullmatch(name):
                    continue
                raise OSError(target, os.strerror(target), name)
            # Most of them lead to images that are not in this batch.
            if digest_of(target[-HEX_DIGITS:]) not in self.digests:
                continue
            hexadecimal = pointed_to(folder, target)
            if hexadecimal is not None and TAG_NAME.fullmatch(name):
                tags.setdefault(digest_of(hexadecimal), []).append(name)
        chosen = [tag for few in tags.values() for tag in few]
        found = filesystem.stat_files(folder_fd, chosen) if chosen else []
        leads = dict(zip(names, targets, strict=True))
        for tag, answer in zip(chosen, found, strict=True):
            if isinstance(answer, tuple):
                link = Link(layout, repository, tag, str(leads[tag]), answer[2])
                self._links_read[layout, repository, tag] = link
        is_staging = any(name.startswith(TAG_STAGE) for name in entries.folders)
        staged = tuple(staged_in(filesystem, folder_fd, folder)) if is_staging else ()
        return _Folder(tags, staged)


def _leads_to(link: Link, digest: str) -> bool:
    return pointed_to(link.parent, link.target) == hex_of(digest)
