"""What goes together with each image of a batch, as it is now: written down before anything of it is touched.

The scan said what an image is; by now another repository may own it, a tag may have moved, a pull may have begun. Whatever
is not as the plan had it keeps the image, and the next sweep decides again.
"""

import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

import attrs

from hmret.disk.deletion.arrivals import exists
from hmret.disk.deletion.links import read_link
from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.deletion.tag_view import Linkers, staged_in
from hmret.disk.hypeman.images import ImageFound, read_digest_folder
from hmret.disk.hypeman.links import Layout, pointed_to, tag_folder
from hmret.disk.layout import CONTENT, IMAGES, TAG_NAME, digest_of, hex_of
from hmret.disk.outcomes import Candidate
from hmret.disk.trash import NO_CONTENT, Copy, Intent, Link
from hmret.model.verdicts import Reason

__all__ = ["Announced", "Announcing"]

_ABSENT = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))
_NO_LINK = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EINVAL))
_AT_REST = frozenset((NO_CONTENT, "ready", "failed", "unknown"))
"""What content may be beside a repository's own folder that goes; while it is anything else, hypeman is at work."""


@attrs.frozen
class Announced:
    """An image of a batch, and what goes with it."""

    candidate: Candidate
    intent: Intent
    reason: Reason | None = None
    """Why it stays."""
    detail: str = ""
    error: OSError | None = None
    """What could not be read, so that it stays."""
    is_gone: bool = False
    is_by_name: bool = False
    """Whether no link leads to its content, so that its one owner is the repository of the name in its metadata."""


@attrs.define(eq=False)
class Announcing:
    """Looks at the images of one batch, each folder of tags once."""

    folders: OpenFolders
    linkers: Linkers | None
    """Who links to which digest below `repositories/`; needed where the batch has content."""
    _staged: dict[tuple[Layout, str], Sequence[tuple[str, str]]] = attrs.field(factory=dict)
    _tags: dict[tuple[Layout, str], Mapping[str, list[str]]] = attrs.field(factory=dict)
    """Of each folder of tags: those that lead to each digest, sorted."""

    def announce(self, candidate: Candidate, name: str) -> Announced:
        """Look at one image; `name` is that of its intent."""
        repository, digest = candidate.key
        bare = Intent(
            repository,
            digest,
            [],
            candidate.unused_since_ns,
            name,
            others=[row for row, _ in candidate.others],
        )
        try:
            look = self._content if candidate.is_content else self._own_folder
            return look(candidate, bare)
        except FileNotFoundError:
            return Announced(candidate, bare, is_gone=True)
        except OSError as error:
            return Announced(candidate, bare, error=error)

    def _content(self, candidate: Candidate, bare: Intent) -> Announced:
        """Look at content, and at all that goes with it."""
        assert self.linkers is not None  # whoever announces content has looked who links to it
        digest = candidate.digest
        names = {row.repository for row in candidate.rows}
        linked = self.linkers.repositories(digest, names)
        own = {name: self._look_at_own(name, digest) for name in sorted(names)}
        owners = linked | {
            name for name in names - linked if not _is_whole(own[name]) and self._has_legacy_tag(name, digest)
        }
        if owners - names:
            detail = f"{', '.join(sorted(owners - names))} has it by now"
            return Announced(candidate, bare, Reason.SHARED, detail)
        if owners and names - owners:
            detail = f"{', '.join(sorted(names - owners))} does not have it any more"
            return Announced(candidate, bare, Reason.SHARED, detail)
        being_made = [*self.linkers.staged(digest), *self._staged_legacy(names, digest)]
        if being_made:
            name, tag = being_made[0]
            return Announced(candidate, bare, Reason.SHARED, f"{name}:{tag} is being made")
        copies: list[Copy] = []
        staying: list[Copy] = []
        for name, found in own.items():
            if found is not None and found.image.status in ("pending", "pulling", "converting"):
                return Announced(candidate, bare, Reason.NOT_READY)
            if found is not None and found.image.status == "ready" and found.image.broken is None:
                inode = self._inode(f"{IMAGES}/{name}", digest)
                copies.append(Copy(name, inode, f"{bare.name}.{len(copies)}"))
            elif self._is_taken(f"{IMAGES}/{name}/{hex_of(digest)}"):
                staying.append(Copy(name, self._inode(f"{IMAGES}/{name}", digest), ""))
        copies.append(Copy("", self._inode(f"{IMAGES}/{CONTENT}", digest), f"{bare.name}.{len(copies)}"))
        links: list[Link] = []
        for name in sorted(names):
            links += self._links(name, digest)
        intent = _completed(bare, copies, links, NO_CONTENT, staying)
        if not self._has_tags(candidate):
            return Announced(candidate, intent, Reason.RETENTION_WINDOW, "its tags are others")
        return Announced(candidate, intent, is_by_name=not owners)

    def _own_folder(self, candidate: Candidate, bare: Intent) -> Announced:
        """Look at a repository's own folder, and at what goes with it."""
        repository, digest = candidate.key
        content = self._look_at_content(digest)
        beside = NO_CONTENT if content is None else content.image.status
        if content is not None and (
            content.is_unreadable or (beside == "ready" and content.image.broken is not None)
        ):
            return Announced(candidate, bare, Reason.BROKEN, f"its content: {content.image.broken}")
        if beside not in _AT_REST:
            return Announced(candidate, bare, Reason.NOT_READY, f"its content is {beside}")
        if beside == "ready" and self._todays_tags(repository, digest):
            return Announced(candidate, bare, Reason.SHARED, "it is content by now")
        if self.is_being_tagged(repository, digest):
            return Announced(candidate, bare, Reason.RETENTION_WINDOW, "a tag to it is being made")
        copy = Copy(repository, self._inode(f"{IMAGES}/{repository}", digest), bare.name)
        intent = _completed(bare, [copy], self._links(repository, digest), beside, [])
        if not self._has_tags(candidate):
            return Announced(candidate, intent, Reason.RETENTION_WINDOW, "its tags are others")
        return Announced(candidate, intent)

    def is_being_tagged(self, repository: str, digest: str) -> bool:
        """Return whether a tag to a digest is being made in a repository's folders, and is not there yet.

        Raises:
            OSError: that could not be told.
        """
        return any(
            tag not in self.tags_in(layout, repository, digest)
            for layout in Layout
            for tag, target in self._staged_in(layout, repository)
            if target == digest
        )

    def _staged_legacy(self, names: Iterable[str], digest: str) -> Iterator[tuple[str, str]]:
        for name in sorted(names):
            for tag, target in self._staged_in(Layout.LEGACY, name):
                if target == digest and tag not in self._legacy_tags(name, digest):
                    yield name, tag

    def _staged_in(self, layout: Layout, repository: str) -> Sequence[tuple[str, str]]:
        key = layout, repository
        if key not in self._staged:
            folder = tag_folder(layout, repository)
            folder_fd = self.folders.find(folder)
            self._staged[key] = (
                () if folder_fd is None else tuple(staged_in(self.folders.filesystem, folder_fd, folder))
            )
        return self._staged[key]

    def _has_tags(self, candidate: Candidate) -> bool:
        """Return whether each row has the tags that it was judged by, where those matter."""
        for row in candidate.rows:
            chosen = candidate.chosen_with(row.repository)
            if chosen is not None and chosen.tags is not None:
                found = {
                    *self._todays_tags(row.repository, candidate.digest),
                    *self._unshadowed_tags(row.repository, candidate.digest),
                }
                if sorted(found) != [*chosen.tags]:
                    return False
        return True

    def _links(self, repository: str, digest: str) -> list[Link]:
        """List the tags of a repository that lead to a digest, exactly as they are.

        Each one below `repositories/` has the one before it that it shadows, whatever that leads to: left alone, an old tag
        would come back to life, and lead to an old image.
        """
        todays = self._todays_tags(repository, digest)
        legacy = dict.fromkeys((*todays, *self._legacy_tags(repository, digest)))
        found = [self._read(Layout.LEGACY, repository, tag) for tag in legacy]
        found += [self._read(Layout.CONTENT, repository, tag) for tag in todays]
        return [link for link in found if link is not None]

    def _read(self, layout: Layout, repository: str, tag: str) -> Link | None:
        try:
            folder_fd = self.folders.get(tag_folder(layout, repository))
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise
        return read_link(self.folders.filesystem, folder_fd, layout, repository, tag)

    def _has_legacy_tag(self, repository: str, digest: str) -> bool:
        return bool(self._unshadowed_tags(repository, digest))

    def _unshadowed_tags(self, repository: str, digest: str) -> tuple[str, ...]:
        """List the tags of the older layout that lead to a digest and that lookups see."""
        folder = tag_folder(Layout.CONTENT, repository)
        return tuple(
            tag
            for tag in self._legacy_tags(repository, digest)
            if not self._is_taken(f"{folder}/{tag}")
        )

    def _is_taken(self, path: str) -> bool:
        try:
            return exists(self.folders.filesystem, self.folders.data_fd, path)
        except NotADirectoryError:
            return False

    def _todays_tags(self, repository: str, digest: str) -> tuple[str, ...]:
        if self.linkers is not None:
            return self.linkers.tags(repository, digest)
        return self.tags_in(Layout.CONTENT, repository, digest)

    def _legacy_tags(self, repository: str, digest: str) -> tuple[str, ...]:
        return self.tags_in(Layout.LEGACY, repository, digest)

    def tags_in(self, layout: Layout, repository: str, digest: str) -> tuple[str, ...]:
        """List the tags in a repository's folder of one layout that lead to a digest; each folder is read once.

        Raises:
            OSError: the folder cannot be listed, or a tag cannot be read.
        """
        folder = tag_folder(layout, repository)
        key = layout, repository
        if key not in self._tags:
            self._tags[key] = self._read_tags(folder)
        return tuple(self._tags[key].get(digest, ()))

    def _read_tags(self, folder: str) -> Mapping[str, list[str]]:
        """Read the tags in a folder; returns them by digest, sorted.

        Raises:
            OSError: the folder cannot be listed, or a tag cannot be read.
        """
        filesystem = self.folders.filesystem
        try:
            folder_fd = self.folders.get(folder)
        except OSError as error:
            if error.errno in _ABSENT:
                return {}
            raise
        with filesystem.scandir(folder_fd) as entries:
            names = sorted(entry.name for entry in entries if entry.is_symlink())
        found: dict[str, list[str]] = {}
        for name in filter(TAG_NAME.fullmatch, names):
            try:
                hexadecimal = pointed_to(folder, filesystem.readlink(name, dir_fd=folder_fd))
            except OSError as error:
                if error.errno in _NO_LINK:
                    continue
                raise
            if hexadecimal is not None:
                found.setdefault(digest_of(hexadecimal), []).append(name)
        return found

    def _look_at_content(self, digest: str) -> ImageFound | None:
        return self._look_at(CONTENT, None, digest)

    def _look_at_own(self, repository: str, digest: str) -> ImageFound | None:
        return self._look_at(repository, repository, digest)

    def _look_at(self, folder: str, repository: str | None, digest: str) -> ImageFound | None:
        try:
            folder_fd = self.folders.get(f"{IMAGES}/{folder}")
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise
        return read_digest_folder(self.folders.filesystem, folder_fd, repository, hex_of(digest))

    def _inode(self, folder: str, digest: str) -> int:
        folder_fd = self.folders.get(folder)
        stat = partial(self.folders.filesystem.stat, dir_fd=folder_fd, follow_symlinks=False)
        return stat(hex_of(digest)).st_ino


def _completed(
    bare: Intent, copies: list[Copy], links: list[Link], beside: str, staying: list[Copy]
) -> Intent:
    whole = Intent(
        bare.repository,
        bare.digest,
        [],
        bare.unused_since_ns,
        bare.name,
        bare.others,
        copies,
        links,
        beside,
        staying,
    )
    return Intent(
        bare.repository,
        bare.digest,
        list(whole.tags_of(bare.repository)),
        bare.unused_since_ns,
        bare.name,
        bare.others,
        copies,
        links,
        beside,
        staying,
    )


def _is_whole(found: ImageFound | None) -> bool:
    return found is not None and found.image.broken is None and found.has_disk
