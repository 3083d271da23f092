"""Reading the folders below `images/`, each only as far as it has changed since the last scan."""

from collections.abc import Callable

import attrs

from hmret.disk.filesystem import Filesystem
from hmret.disk.fingerprints import Fingerprint
from hmret.disk.folders_ahead import FolderAhead
from hmret.disk.hypeman.content import (
    ContentNames,
    is_part,
    list_content,
    names_in,
    part_signature,
    scan_part,
)
from hmret.disk.hypeman.repositories import repository_of
from hmret.disk.hypeman.scan import FolderScan, rescan_folder, scan_folder
from hmret.disk.layout import CONTENT
from hmret.disk.scans.folder_cache import FolderCache
from hmret.disk.scans.packing import weigh
from hmret.model.values import define

_Read = tuple[FolderScan, int]
"""What was found, and how many images had to be read for it."""


@define(eq=False)
class ImageFolders:
    """Reads folders for a scan; called in its threads."""

    filesystem: Filesystem
    cache: FolderCache[FolderScan]
    pause: Callable[[], None]
    _prints: dict[str, Fingerprint] = attrs.field(factory=dict, init=False)
    """Of the parts of content, as it was last listed."""
    _names: ContentNames = attrs.field(factory=dict, init=False)
    """Of those parts that have not been read since."""

    def is_new_tags(self, path: str) -> bool:
        """Return whether a path is a folder of tags that must be read in full."""
        return repository_of(path) is not None and self.cache.is_new(path)

    def read(self, images_fd: int, path: str, ahead: FolderAhead | None = None) -> _Read:
        """Read one folder, or one part of content; `ahead`: what has just been read of it."""
        self.pause()
        if is_part(path):
            return self._read_part(images_fd, path)
        known = self.cache.still(images_fd, path)
        if path == CONTENT:
            return self._list_content(images_fd, known), 1
        if known is not None:
            return rescan_folder(self.filesystem, images_fd, known), len(known.unsettled)
        before = self.cache.known_in_part(path)
        folder = scan_folder(self.filesystem, images_fd, path, before, self.pause, ahead=ahead)
        return folder, 1 + weigh(folder)

    def end(self) -> None:
        """Forget what was kept for one scan."""
        self._names = {}

    def _list_content(self, images_fd: int, known: FolderScan | None) -> FolderScan:
        """List content, where it has changed, and note the fingerprints of its parts."""
        self._names = {}
        if known is None:
            known, self._names = list_content(self.filesystem, images_fd, self.cache.known(CONTENT))
        self._note_prints(known)
        return known

    def _note_prints(self, listing: FolderScan) -> None:
        self._prints = {part: part_signature(count, total) for part, count, total in listing.prints}

    def _read_part(self, images_fd: int, path: str) -> _Read:
        if not self._prints and (listed := self.cache.known(CONTENT)) is not None:
            self._note_prints(listed)
        fingerprint = self._prints.get(path)
        known = None if fingerprint is None else self.cache.still(images_fd, path, fingerprint)
        if known is not None:
            self._names.pop(path, None)
            return rescan_folder(self.filesystem, images_fd, known), len(known.unsettled)
        names, fingerprint = self._names_in_part(images_fd, path, fingerprint)
        if fingerprint is None:
            return FolderScan(path), 1
        before = self.cache.known_in_part(path)
        folder = scan_part(
            self.filesystem, images_fd, path, names, fingerprint, known=before, pause=self.pause
        )
        return folder, 1 + weigh(folder)

    def _names_in_part(
        self, images_fd: int, path: str, fingerprint: Fingerprint | None
    ) -> tuple[list[tuple[str, int]], Fingerprint | None]:
        """Return the names and inodes in a part, and the fingerprint that goes with them; None: there is no such part."""
        names = self._names.pop(path, None)
        if names is not None:
            return names, fingerprint
        earlier = self.cache.known(path)
        if earlier is not None and fingerprint is not None and earlier.fingerprint == fingerprint:
            # Not read for too long: all of it is read, by the names that it had and has.
            return names_in(earlier), fingerprint
        listing, self._names = list_content(self.filesystem, images_fd)
        self._note_prints(listing)
        return self._names.pop(path, []), self._prints.get(path)
