"""Finding out which folders, tags and timers belong to each image of a batch, before any of it is touched.

**What one deletion takes.** Content goes as a unit: its folder, the complete folders that its owners have of
their own, every tag of every owner in both layouts (with the older tags that those shadow), and one timer for
each owner. A repository's own folder can also go alone, with its own tags and timer. A part left behind would
do harm: a tag would lead nowhere, an older tag would come back to life and boot an old image, a timer would
be inherited by the next pull of the same digest. So the unit is determined here completely and written down
as an intent; nothing is added to it later.

The scan is older than this look: by now another repository may own the content, a tag may have moved, a pull
may have begun. Whatever differs from the plan keeps the image, and the next sweep decides again. Until the
intents are on the disk nothing has been changed, so a crash here leaves the cache as it was.
"""

import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from hmret.disk.deletion.open_folders import KnownPaths, OpenFolders
from hmret.disk.deletion.tags.repository_tags import RepositoryTags, StaleTagsError
from hmret.disk.deletion.trash.intents import NO_CONTENT, Copy, Intent
from hmret.disk.hypeman.images import ImageFound, read_digest_folder
from hmret.disk.layout import CONTENT, IMAGES, ROOTFS_NAMES, Layout, hex_of
from hmret.model.deletion import Deletion, Failed, Kept
from hmret.model.references import Key
from hmret.model.values import define, frozen
from hmret.model.verdicts import Reason

_AT_REST_OR_ABSENT = frozenset((NO_CONTENT, "ready", "failed", "unknown"))
"""While a folder has any other status, hypeman may be writing into it, or linking from another folder of its
digest.
"""

_OTHER_TAGS = "its tags are others"


@frozen
class Examined:
    """An image of a batch, with everything that goes with it."""

    intent: Intent
    stays: Kept | Failed | None = None
    """Why it stays, where neither references nor timers keep it; None: it may go."""
    is_by_name: bool = False
    """Whether no link leads to its content, so that its only owner is the repository named in its metadata.
    """


class _Keep(Exception):  # noqa: N818 - it says what is to be done
    """Raised to end the examination of an image: it stays."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@define(eq=False)
class Examiner:
    """Examines the images of one batch."""

    folders: OpenFolders
    known_paths: KnownPaths
    tags: RepositoryTags
    """Its `tag_snapshot` is needed if the batch has content."""
    depends_on_tags: bool = True
    """Whether the policy asks for the tags of a repository's own folder."""

    def read_ahead(self, deletions: Iterable[Deletion]) -> None:
        """Query some images together, in few calls, for everything that is queried of each."""
        paths: list[str] = []
        rows: list[Key] = []
        for deletion in deletions:
            hexadecimal = hex_of(deletion.digest)
            paths.append(f"{IMAGES}/{CONTENT}/{hexadecimal}")
            if not deletion.is_content:
                continue
            for row in deletion.rows:
                paths += [f"{IMAGES}/{row.repository}", f"{IMAGES}/{row.repository}/{hexadecimal}"]
                rows.append((row.repository, deletion.digest))
        self.known_paths.query(paths)
        self.tags.read_ahead(rows)

    def examine(self, deletion: Deletion, name: str) -> Examined:
        """Examine one image; `name` is that of its intent."""
        try:
            self._check_tags(deletion)
            return (self._content if deletion.is_content else self._own_folder)(deletion, name)
        except _Keep as kept:
            return _staying(deletion, name, kept.reason, kept.detail)
        except StaleTagsError:
            return _staying(deletion, name, Reason.RETENTION_WINDOW, _OTHER_TAGS)
        except (FileNotFoundError, NotADirectoryError):
            return _staying(deletion, name, None)
        except OSError as error:
            intent = Intent.bare(deletion, name)
            return Examined(intent, Failed(intent, intent.path, error))

    def _content(self, deletion: Deletion, intent_name: str) -> Examined:
        """Examine content, and everything that goes with it."""
        digest = deletion.digest
        names = sorted(deletion.repositories)
        own = {name: self._look_at(name, name, digest) for name in names}
        owners = self._check_owners(digest, own)
        copies: list[Copy] = []
        staying: list[Copy] = []
        for name, found in own.items():
            # guard(own-folder-at-rest): A pull may be running in a repository's own folder of this digest;
            # its content stays until that has ended.
            if found is not None and found.image.status not in _AT_REST_OR_ABSENT:
                raise _Keep(Reason.NOT_READY, f"that of {name} is {found.image.status}")
            if found is not None and (found.is_unreadable or self._has_unseen_disk(name, digest, found)):
                # It may be a copy, which must not outlive its content unnoticed.
                raise _Keep(Reason.BROKEN, f"that of {name}: {found.image.broken}")
            inode = self._inode(name, digest)
            if inode is None:
                continue
            if found is not None and found.image.status == "ready" and found.image.broken is None:
                copies.append(Copy(name, inode, f"{intent_name}.{len(copies)}"))
            else:
                staying.append(Copy(name, inode, ""))
        inode = self._inode(CONTENT, digest)
        if inode is None:
            return _staying(deletion, intent_name, None)
        copies.append(Copy("", inode, f"{intent_name}.{len(copies)}"))
        intent = Intent(
            digest,
            deletion.rows,
            deletion.is_content,
            intent_name,
            tuple(copies),
            tuple([link for name in names for link in self.tags.links(name, digest)]),
            staying=tuple(staying),
        )
        return Examined(intent, is_by_name=not owners)

    def _has_unseen_disk(self, repository: str, digest: str, found: ImageFound) -> bool:
        """Return whether a folder has a disk that could not be examined, or that appeared right after the look.

        Raises:
            OSError: that could not be determined.
        """
        if found.has_disk or found.image.status != "ready":
            return False
        filesystem, folder_fd = self.folders.filesystem, self.folders.get(f"{IMAGES}/{repository}")
        for name in ROOTFS_NAMES:
            path = f"{hex_of(digest)}/{name}"
            with suppress(FileNotFoundError, NotADirectoryError):
                disk = filesystem.stat(path, dir_fd=folder_fd, follow_symlinks=False)
                return stat.S_ISREG(disk.st_mode)
        return False

    def _check_owners(self, digest: str, own: Mapping[str, ImageFound | None]) -> set[str]:
        """Check that the owners of content are those of the plan; returns those that have a tag to it.

        `own`: for each owner in the plan, the folder that it has of its own.
        """
        tag_snapshot = self.tags.tag_snapshot
        assert tag_snapshot is not None  # it is always read before content is examined
        names = own.keys()
        linked = tag_snapshot.repositories(digest, names)
        owners = linked | {
            name
            for name, found in own.items()
            if name not in linked and not _has_usable_folder(found) and self.tags.unshadowed(name, digest)
        }
        # guard(new-owner-keeps-content): Content that another repository has tagged since the scan is in use
        # there and stays.
        if owners - names:
            raise _Keep(Reason.SHARED, f"{', '.join(sorted(owners - names))} has it by now")
        # Without any link, content has one owner, by its name.
        # guard(moved-tag-keeps-content): Content that has lost a tag since the plan is judged on its new
        # owners first, by the next sweep.
        if names - owners and (owners or len(names) > 1):
            raise _Keep(Reason.SHARED, f"{', '.join(sorted(names - owners))} does not have it any more")
        # guard(tag-in-the-making-keeps): A repository that is about to tag this content needs it, so a tag
        # still being created keeps it.
        for name, tag in (*tag_snapshot.staged(digest), *self._staged_legacy(names, digest)):
            raise _Keep(Reason.SHARED, f"{name}:{tag} is being made")
        return owners

    def _own_folder(self, deletion: Deletion, intent_name: str) -> Examined:
        """Examine a repository's own folder, and everything that goes with it."""
        repository, digest = deletion.key
        content = self._look_at(CONTENT, None, digest)
        content_status = NO_CONTENT if content is None else content.image.status
        # guard(damaged-content-beside): hypeman does not look past damaged content of this digest, so what
        # this folder serves is uncertain, and it stays.
        if content is not None and (
            content.is_unreadable or (content_status == "ready" and content.image.broken is not None)
        ):
            raise _Keep(Reason.BROKEN, f"its content: {content.image.broken}")
        # guard(content-beside-at-rest): hypeman may be making content out of this very folder, so the folder
        # stays until that has ended.
        if content_status not in _AT_REST_OR_ABSENT:
            raise _Keep(Reason.NOT_READY, f"its content is {content_status}")
        # guard(folder-became-content): Once the repository has tagged the content of this digest, its folder
        # goes only together with that content.
        if content_status == "ready" and self.tags.tags(Layout.CONTENT, repository, digest):
            raise _Keep(Reason.SHARED, "it is content by now")
        # guard(coming-tag-keeps-folder): A tag that is about to lead here means that a client wants this
        # image, so it stays this time.
        if self.tags.is_being_made(repository, digest):
            raise _Keep(Reason.RETENTION_WINDOW, "a tag to it is being made")
        # For a single folder the inode adds nothing to the checks at the look and at the rename.
        copies = (Copy(repository, 0, intent_name),)
        links = tuple(self.tags.links(repository, digest))
        return Examined(
            Intent(digest, deletion.rows, deletion.is_content, intent_name, copies, links, content_status)
        )

    def _staged_legacy(self, names: Iterable[str], digest: str) -> Iterator[tuple[str, str]]:
        """List the tags to a digest that are being made in the older layout, as repository and tag."""
        for name in sorted(names):
            for tag in self.tags.staged(Layout.LEGACY, name, digest):
                yield name, tag

    def _check_tags(self, deletion: Deletion) -> None:
        """Check that each row has the tags by which it was judged, where tags matter."""
        # A repository that tags content comes to own it.
        for row in deletion.rows if deletion.is_content or self.depends_on_tags else ():
            if row.tags is not None:
                found = {
                    *self.tags.tags(Layout.CONTENT, row.repository, deletion.digest),
                    *self.tags.unshadowed(row.repository, deletion.digest),
                }
                # guard(tags-are-unchanged): Rules match tags: an image whose tags have changed since the plan
                # may be kept by another rule, so it stays.
                if sorted(found) != [*row.tags]:
                    raise _Keep(Reason.RETENTION_WINDOW, _OTHER_TAGS)

    def _look_at(self, folder: str, repository: str | None, digest: str) -> ImageFound | None:
        """Examine a digest's folder in a folder below `images/`; None: there is none, or it is not an image."""
        if self.known_paths.inode(f"{IMAGES}/{folder}/{hex_of(digest)}") is None:
            return None
        folder_fd = self.folders.find(f"{IMAGES}/{folder}")
        if folder_fd is None:
            return None
        return read_digest_folder(self.folders.filesystem, folder_fd, repository, hex_of(digest))

    def _inode(self, folder: str, digest: str) -> int | None:
        """Return the inode of a digest's folder in a folder below `images/`; None: there is none."""
        path = f"{IMAGES}/{folder}/{hex_of(digest)}"
        if self.known_paths.is_absent(path) or self.folders.find(f"{IMAGES}/{folder}") is None:
            return None
        return self.known_paths.inode(path)


def _staying(deletion: Deletion, intent_name: str, reason: Reason | None, detail: str = "") -> Examined:
    intent = Intent.bare(deletion, intent_name)
    return Examined(intent, Kept(intent, reason, detail))


def _has_usable_folder(found: ImageFound | None) -> bool:
    """Return whether an own folder is one that a lookup falls back to: `precedence.has_usable_folder`, read again."""
    return found is not None and found.image.broken is None and found.has_disk
