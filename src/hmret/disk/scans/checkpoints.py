"""The contents of a `FolderCache`, saved to the disk for the next start."""

import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Generic, TypeVar

import msgspec

from hmret.disk.filesystem import Filesystem
from hmret.disk.scans.checkpoint_file import load_snapshot, save_snapshot
from hmret.disk.scans.folder_cache import Folder, FolderCache
from hmret.disk.scans.packing import pack, unpack_references
from hmret.disk.scans.references import ReferenceFile
from hmret.model.values import frozen

F = TypeVar("F", bound=Folder)

# Folders per frame: few enough to be decoded without delaying other threads.
_FOLDERS = 8
_FORMAT = 7
_COUNT = struct.Struct("!I")
_FAULTS = (msgspec.MsgspecError, ValueError, OverflowError, struct.error)


@frozen
class CacheRecord(Generic[F]):
    """The checkpoint of one cache."""

    name: str
    """The file's name, below hmret's own folder."""
    pack: Callable[[Sequence[F]], bytes]
    unpack: Callable[[bytes], Sequence[F]]
    """Decodes what `pack` made.

    Raises:
        msgspec.MsgspecError, ValueError: it is something else.
    """

    def save(
        self, filesystem: Filesystem, data_fd: int, cache: FolderCache[F], pause: Callable[[], None]
    ) -> None:
        """Write what the cache knows.

        Raises:
            OSError: it could not be written.
        """
        save_snapshot(filesystem, data_fd, self.name, _head(self.name), self._frames(cache, pause))

    def load(
        self, filesystem: Filesystem, data_fd: int, cache: FolderCache[F], pause: Callable[[], None]
    ) -> None:
        """Fill the cache from the checkpoint; it stays empty where that cannot be read."""
        cache.restore(self._folders(filesystem, data_fd, pause))

    def _frames(self, cache: FolderCache[F], pause: Callable[[], None]) -> Iterator[bytes]:
        waiting: list[tuple[F, int]] = []
        for known in cache.export():
            waiting.append(known)
            if len(waiting) == _FOLDERS:
                yield from self._frame(waiting)
                waiting.clear()
                pause()
        yield from self._frame(waiting)

    def _frame(self, known: Sequence[tuple[F, int]]) -> Iterator[bytes]:
        """Pack some folders; those that cannot be packed are left out, and are read at the next start."""
        trusted_until = struct.pack(f"!{len(known)}q", *(until_ns for _, until_ns in known))
        try:
            packed = self.pack([folder for folder, _ in known])
        except _FAULTS:
            return
        yield _COUNT.pack(len(known)) + trusted_until + packed

    def _folders(
        self, filesystem: Filesystem, data_fd: int, pause: Callable[[], None]
    ) -> Iterator[tuple[F, int]]:
        for frame in load_snapshot(filesystem, data_fd, self.name, _head(self.name)):
            try:
                (count,) = _COUNT.unpack_from(frame)
                trusted_until = struct.unpack_from(f"!{count}q", frame, _COUNT.size)
                folders = self.unpack(frame[_COUNT.size + 8 * count :])
            except _FAULTS:
                return
            yield from zip(folders, trusted_until, strict=False)
            pause()


def _head(name: str) -> bytes:
    return f"hmret {name} {_FORMAT} {sys.byteorder}".encode()


_REFERENCES = "references.snapshot"
_REFERENCES_HEAD = f"{_REFERENCES} with saved states"
_FILES = 250


def save_references(
    filesystem: Filesystem,
    data_fd: int,
    boot_id: str,
    files: Mapping[str, ReferenceFile],
    pause: Callable[[], None],
) -> None:
    """Write the references of guests and snapshots, with the fingerprints of their files.

    Raises:
        OSError: it could not be written.
    """
    frames = chain((_boot_frame(boot_id),), _reference_frames(files, pause))
    save_snapshot(filesystem, data_fd, _REFERENCES, _head(_REFERENCES_HEAD), frames)


def load_references(
    filesystem: Filesystem, data_fd: int, boot_id: str, pause: Callable[[], None]
) -> dict[str, ReferenceFile]:
    """Read the saved references of guests and snapshots; empty where they cannot be read.

    An entry counts only while its file has the recorded fingerprint. Entries written before this boot have
    none: hypeman writes these files in place, and a power loss may leave one with its latest time stamps and
    an earlier content. Such entries only say what a guest referred to whose metadata has disappeared since.
    """
    files: dict[str, ReferenceFile] = {}
    frames = load_snapshot(filesystem, data_fd, _REFERENCES, _head(_REFERENCES_HEAD))
    is_of_this_boot = next(frames, b"") == _boot_frame(boot_id)
    for frame in frames:
        try:
            found = unpack_references(frame)
        except _FAULTS:
            break
        # guard(reboot-trusts-no-guest-file): A power loss may leave an older content under the newest time
        # stamps, so guests are read again after each boot.
        if not is_of_this_boot:
            found = {
                source: msgspec.structs.replace(file, fingerprint=None, saved=None)
                for source, file in found.items()
            }
        files.update(found)
        pause()
    return files


def _boot_frame(boot_id: str) -> bytes:
    """Return the frame that identifies the boot; that of a record without guests' names is never equal."""
    return f"{boot_id} with names".encode()


def _reference_frames(files: Mapping[str, ReferenceFile], pause: Callable[[], None]) -> Iterator[bytes]:
    # A name that is not text cannot be written. A file without fingerprint is read again in any case; if its
    # metadata has disappeared by then, this entry says what it named.
    known = [
        (source, file)
        for source, file in files.items()
        if source.isascii() and (file.problem is None or file.references or file.last_known)
    ]
    for start in range(0, len(known), _FILES):
        yield pack(dict(known[start : start + _FILES]))
        pause()
