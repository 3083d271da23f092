"""The number of names that a digest's disks have, kept correct in one folder when only another one changes.

A promotion gives a disk a second name, in content, and a later removal takes one away. The folder with the
other name does not change by that, so nothing shows that it must be read again.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

import attrs
import msgspec

from hmret.disk.hypeman.content import is_part, part_of
from hmret.disk.hypeman.images import NOTHING, FolderScan
from hmret.model.images import Image
from hmret.model.values import define

_NO_IMAGES: Mapping[str, Image] = {}


@define(eq=False)
class HardLinks:
    """Compares the number of links that each disk reports with the names that were scanned."""

    look: Callable[[str, str], Image | None]
    """Examines a digest again in the folder with some path."""
    _given: Mapping[str, FolderScan] = attrs.field(factory=dict, init=False)
    _fresh: dict[str, dict[str, tuple[Image, Image]]] = attrs.field(factory=dict, init=False)
    """By path and digest: the image as it was scanned, and as it really is."""
    _amended: dict[str, tuple[FolderScan, FolderScan]] = attrs.field(factory=dict, init=False)
    """By path: a folder as it was passed in, and as it was returned."""

    def amend(self, folders: Mapping[str, FolderScan]) -> Mapping[str, FolderScan]:
        """Return the folders with corrected link counts; one that needs no correction stays the same object."""
        before, self._given = self._given, folders
        doubtful = {*self._forget(folders), *_changed(before, folders)}
        if doubtful:
            for digest, found in _by_digest(folders, doubtful).items():
                if not _is_consistent(self._known(path, image) for path, image in found):
                    for path, image in found:
                        self._look_again(path, digest, image)
        if not self._fresh:
            return folders
        return {**folders, **{path: self._put_right(folders[path]) for path in self._fresh}}

    def _forget(self, folders: Mapping[str, FolderScan]) -> Iterator[str]:
        """Drop corrections of images that have gone or have been read again since; yields their digests."""
        for path, images in list(self._fresh.items()):
            now = folders.get(path, NOTHING).images
            left = {digest: pair for digest, pair in images.items() if now.get(digest) is pair[0]}
            if len(left) != len(images):
                yield from images.keys() - left.keys()
                self._amended.pop(path, None)
                self._fresh[path] = left
            if not left:
                del self._fresh[path]

    def _known(self, path: str, image: Image) -> Image:
        return self._fresh.get(path, {}).get(image.digest, (image, image))[1]

    def _look_again(self, path: str, digest: str, image: Image) -> None:
        found = self.look(path, digest)
        if found is None:
            return
        fresh = msgspec.structs.replace(image, disk_bytes=found.disk_bytes, shared_disk=found.shared_disk)
        images = self._fresh.setdefault(path, {})
        if fresh == image:
            images.pop(digest, None)
        else:
            images[digest] = image, fresh
        if not images:
            del self._fresh[path]
        self._amended.pop(path, None)

    def _put_right(self, folder: FolderScan) -> FolderScan:
        given, amended = self._amended.get(folder.path, (None, folder))
        if given is folder or folder.repository is None:
            return amended
        images = {digest: fresh for digest, (_, fresh) in self._fresh[folder.path].items()}
        repository = msgspec.structs.replace(folder.repository, images={**folder.repository.images, **images})
        amended = msgspec.structs.replace(folder, repository=repository)
        self._amended[folder.path] = folder, amended
        return amended


def _changed(before: Mapping[str, FolderScan], after: Mapping[str, FolderScan]) -> Iterator[str]:
    """List the digests of linked disks of which a name was added, removed or read again."""
    for path, folder in after.items():
        earlier = before.get(path, NOTHING)
        if earlier is not folder:
            yield from _linked(folder.images, earlier.images)
            yield from _linked(earlier.images, folder.images)
    for path, folder in before.items():
        if path not in after:
            yield from _linked(folder.images, _NO_IMAGES)


def _linked(one: Mapping[str, Image], other: Mapping[str, Image]) -> Iterator[str]:
    """List the linked images among some that are not the same among others."""
    return (
        digest
        for digest, image in one.items()
        if image.shared_disk is not None and other.get(digest) is not image
    )


def _by_digest(folders: Mapping[str, FolderScan], digests: set[str]) -> Mapping[str, list[tuple[str, Image]]]:
    """List what is known of some digests in all folders, each with the folder's path."""
    found: defaultdict[str, list[tuple[str, Image]]] = defaultdict(list)
    for digest in digests:
        content = folders.get(part_of(digest), NOTHING).images.get(digest)
        if content is not None:
            found[digest].append((part_of(digest), content))
    for path, folder in folders.items():
        if not is_part(path):
            images = folder.images
            for digest in images.keys() & digests:
                found[digest].append((path, images[digest]))
    return found


def _is_consistent(images: Iterable[Image]) -> bool:
    """Return whether each disk has as many names as its link count says."""
    disks = [image.shared_disk for image in images if image.shared_disk is not None]
    names = Counter(disk.identity for disk in disks)
    return all(disk.links == names[disk.identity] for disk in disks)
