"""What goes together with each image of a batch, as it is now: written down before anything of it is touched.

The scan said what an image is; by now another repository may own it, a tag may have moved, a pull may have begun. Whatever
is not as the plan had it keeps the image, and the next sweep decides again.
"""

from collections.abc import Iterable, Iterator

import attrs
import msgspec

from hmret.disk.deletion.open_folders import OpenFolders, inode_of
from hmret.disk.deletion.repository_tags import RepositoryTags
from hmret.disk.deletion.tag_view import Linkers
from hmret.disk.hypeman.images import ImageFound, read_digest_folder
from hmret.disk.hypeman.links import Layout
from hmret.disk.layout import CONTENT, IMAGES, hex_of
from hmret.disk.outcomes import Candidate
from hmret.disk.trash import NO_CONTENT, Copy, Intent, Link
from hmret.model.verdicts import Reason

__all__ = ["Announced", "Announcing"]

_AT_REST = frozenset((NO_CONTENT, "ready", "failed", "unknown"))
"""While a folder has any other status, hypeman may be at work in it, or be linking from another of the digest."""


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
    """Looks at the images of one batch."""

    folders: OpenFolders
    linkers: Linkers | None
    """Who links to which digest below `repositories/`; needed where the batch has content."""
    tags: RepositoryTags = attrs.field(init=False)

    @tags.default
    def _make_tags(self) -> RepositoryTags:
        return RepositoryTags(self.folders, self.linkers)

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
        own = {name: self._look_at(name, name, digest) for name in sorted(names)}
        owners = linked | {
            name for name in names - linked if not _is_whole(own[name]) and self.tags.unshadowed(name, digest)
        }
        if owners - names:
            detail = f"{', '.join(sorted(owners - names))} has it by now"
            return Announced(candidate, bare, Reason.SHARED, detail)
        # Without any link it has one owner, by its name.
        if names - owners and (owners or len(names) > 1):
            detail = f"{', '.join(sorted(names - owners))} does not have it any more"
            return Announced(candidate, bare, Reason.SHARED, detail)
        being_made = [*self.linkers.staged(digest), *self._staged_legacy(names, digest)]
        if being_made:
            name, tag = being_made[0]
            return Announced(candidate, bare, Reason.SHARED, f"{name}:{tag} is being made")
        copies: list[Copy] = []
        staying: list[Copy] = []
        for name, found in own.items():
            if found is not None and found.image.status not in _AT_REST:
                return Announced(candidate, bare, Reason.NOT_READY, f"that of {name} is {found.image.status}")
            inode = self._inode(name, digest)
            if inode is None:
                continue
            if found is not None and found.image.status == "ready" and found.image.broken is None:
                copies.append(Copy(name, inode, f"{bare.name}.{len(copies)}"))
            else:
                staying.append(Copy(name, inode, ""))
        inode = self._inode(CONTENT, digest)
        if inode is None:
            return Announced(candidate, bare, is_gone=True)
        copies.append(Copy("", inode, f"{bare.name}.{len(copies)}"))
        links = [link for name in sorted(names) for link in self.tags.links(name, digest)]
        intent = _completed(bare, copies, links, staying=staying)
        if not self._has_tags(candidate):
            return Announced(candidate, intent, Reason.RETENTION_WINDOW, "its tags are others")
        return Announced(candidate, intent, is_by_name=not owners)

    def _own_folder(self, candidate: Candidate, bare: Intent) -> Announced:
        """Look at a repository's own folder, and at what goes with it."""
        repository, digest = candidate.key
        content = self._look_at(CONTENT, None, digest)
        beside = NO_CONTENT if content is None else content.image.status
        if content is not None and (
            content.is_unreadable or (beside == "ready" and content.image.broken is not None)
        ):
            return Announced(candidate, bare, Reason.BROKEN, f"its content: {content.image.broken}")
        if beside not in _AT_REST:
            return Announced(candidate, bare, Reason.NOT_READY, f"its content is {beside}")
        if beside == "ready" and self.tags.tags(Layout.CONTENT, repository, digest):
            return Announced(candidate, bare, Reason.SHARED, "it is content by now")
        if self.tags.is_being_made(repository, digest):
            return Announced(candidate, bare, Reason.RETENTION_WINDOW, "a tag to it is being made")
        inode = self._inode(repository, digest)
        if inode is None:
            return Announced(candidate, bare, is_gone=True)
        copy = Copy(repository, inode, bare.name)
        intent = _completed(bare, [copy], self.tags.links(repository, digest), beside=beside)
        if not self._has_tags(candidate):
            return Announced(candidate, intent, Reason.RETENTION_WINDOW, "its tags are others")
        return Announced(candidate, intent)

    def _staged_legacy(self, names: Iterable[str], digest: str) -> Iterator[tuple[str, str]]:
        """List the tags to a digest that are being made in the older layout, as repository and tag."""
        for name in sorted(names):
            for tag in self.tags.staged(Layout.LEGACY, name, digest):
                yield name, tag

    def _has_tags(self, candidate: Candidate) -> bool:
        """Return whether each row has the tags that it was judged by, where those matter."""
        for row in candidate.rows:
            chosen = candidate.chosen_with(row.repository)
            if chosen is not None and chosen.tags is not None:
                found = {
                    *self.tags.tags(Layout.CONTENT, row.repository, candidate.digest),
                    *self.tags.unshadowed(row.repository, candidate.digest),
                }
                if sorted(found) != [*chosen.tags]:
                    return False
        return True

    def _look_at(self, folder: str, repository: str | None, digest: str) -> ImageFound | None:
        """Look at a digest's folder below a folder of `images/`; None: there is none, or it is no image."""
        if not self.folders.exists(f"{IMAGES}/{folder}/{hex_of(digest)}"):
            return None
        folder_fd = self.folders.find(f"{IMAGES}/{folder}")
        if folder_fd is None:
            return None
        return read_digest_folder(self.folders.filesystem, folder_fd, repository, hex_of(digest))

    def _inode(self, folder: str, digest: str) -> int | None:
        """Return the inode of a digest's folder below a folder of `images/`; None: there is none."""
        folder_fd = self.folders.find(f"{IMAGES}/{folder}")
        return None if folder_fd is None else inode_of(self.folders.filesystem, folder_fd, hex_of(digest))


def _completed(
    bare: Intent,
    copies: list[Copy],
    links: list[Link],
    *,
    beside: str = NO_CONTENT,
    staying: Iterable[Copy] = (),
) -> Intent:
    """Add to an intent what goes with the image."""
    whole = msgspec.structs.replace(bare, copies=copies, links=links, beside=beside, staying=[*staying])
    return msgspec.structs.replace(whole, tags=list(whole.tags_of(bare.repository)))


def _is_whole(found: ImageFound | None) -> bool:
    return found is not None and found.image.broken is None and found.has_disk
