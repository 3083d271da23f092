"""Reading the file of one guest or snapshot, and the saved state beside it.

A file that cannot be read is remembered as unreadable, never as one that holds no reference. Where the metadata does
not say which digest boots, the saved state beside it is also searched for the disks that it opens.
"""

import stat
from collections.abc import Callable, Mapping, Sequence

import msgspec

from hmret.disk.filesystem import Filesystem
from hmret.disk.fingerprints import SETTLING_NS, Fingerprint, stable_fingerprint
from hmret.disk.folders import BATCH, CHUNK, read_file
from hmret.disk.hypeman.documents import UnreadableError, read_guest, read_snapshot
from hmret.disk.hypeman.saved_states import SavedState, UnreadableSavedStateError, read_saved_state
from hmret.disk.scans.reference_watch import ReferenceFile
from hmret.model.references import Reference, parsed

_READERS: Mapping[str, Callable[[bytes, str], tuple[Reference, ...]]] = {
    "instance": read_guest,
    "snapshot": read_snapshot,
}

SAVED_STATES: Mapping[str, tuple[str, str]] = {
    "instance": ("snapshots", ""),
    "snapshot": ("guest", "snapshots"),
}
"""By kind: the folder that holds a saved state, and the name of the subfolder that does; empty: all of it.

A snapshot has a copy of the guest's folder.
"""


class ReadAhead:
    """Reads some files ahead, many in one call, and any other file on demand."""

    def __init__(
        self, filesystem: Filesystem, folder_fd: int, paths: Sequence[str], pause: Callable[[], None]
    ) -> None:
        self.filesystem = filesystem
        self.folder_fd = folder_fd
        self.pause = pause
        self._paths = list(reversed(paths))
        self._read: dict[str, tuple[Fingerprint | None, bytes]] = {}

    def read(self, path: str) -> tuple[Fingerprint | None, bytes]:
        """Read a file; also returns its fingerprint, taken before the read.

        Raises:
            OSError: it cannot be read.
        """
        if self._paths and self._paths[-1] == path:
            self._read_some()
        ahead = self._read.pop(path, None)
        if ahead is not None:
            return ahead
        looked_ns = self.filesystem.now_ns()
        # Taken before the read: whatever is written later has another fingerprint.
        fingerprint = stable_fingerprint(self.filesystem.stat(path, dir_fd=self.folder_fd), looked_ns)
        return fingerprint, read_file(self.filesystem, path, self.folder_fd, follow=True)

    def _read_some(self) -> None:
        paths = self._paths[: -BATCH - 1 : -1]
        del self._paths[-BATCH:]
        looked_ns = self.filesystem.now_ns()
        answers = self.filesystem.read_files(self.folder_fd, paths, CHUNK)
        for path, answer in zip(paths, answers, strict=True):
            # A link, something that is not a file, and a file that was not read completely are read the other
            # way.
            if isinstance(answer, int):
                continue
            mode, device, inode, size_bytes, modified_ns, changed_ns, content = answer
            if stat.S_ISREG(mode) and len(content) == size_bytes < CHUNK:
                fingerprint = device, inode, size_bytes, modified_ns, changed_ns
                is_fresh = max(modified_ns, changed_ns) > looked_ns - SETTLING_NS
                self._read[path] = None if is_fresh else fingerprint, content


def read_reference_file(
    ahead: ReadAhead, where: tuple[str, str, str, str], known: ReferenceFile | None = None
) -> ReferenceFile | None:
    """Read the file of a guest or snapshot, given by kind, folder, name and file name; None where it is absent."""
    kind, folder, name, file_name = where
    filesystem, folder_fd = ahead.filesystem, ahead.folder_fd
    path, relative, source = f"{folder}/{name}/{file_name}", f"{name}/{file_name}", f"{kind}/{name}"
    known_as = "" if known is None else known.name
    last_known = () if known is None else known.references or known.last_known
    try:
        fingerprint, content = ahead.read(relative)
        references = _READERS[kind](content, source)
    except OSError as error:
        was_absent = isinstance(error, FileNotFoundError) and is_absent(filesystem, relative, folder_fd)
        if was_absent or isinstance(error, NotADirectoryError):
            return None
        return ReferenceFile(path, problem=fault_of(error), known_as=known_as, last_known=last_known)
    except UnreadableError as error:
        # guard(unreadable-is-not-absent): A guest or snapshot that cannot be understood may need any image:
        # it is reported and suspends deletion.
        return ReferenceFile(path, problem=str(error), known_as=known_as, last_known=last_known)
    file = ReferenceFile(path, references, fingerprint=fingerprint)
    if not _is_open_ended(references):
        return file
    before = None if known is None else known.saved
    return _with_saved_state(filesystem, folder_fd, where, file, known=before, pause=ahead.pause)


def _with_saved_state(
    filesystem: Filesystem,
    folder_fd: int,
    where: tuple[str, str, str, str],
    file: ReferenceFile,
    *,
    known: SavedState | None,
    pause: Callable[[], None],
) -> ReferenceFile:
    """Add to the metadata's references those of the saved state beside it, or that it cannot be read."""
    kind, folder, name, _ = where
    place, marker = SAVED_STATES[kind]
    source = f"{kind}/{name}"
    try:
        saved = read_saved_state(
            filesystem, folder_fd, f"{name}/{place}", known=known, marker=marker, pause=pause
        )
    except UnreadableSavedStateError as error:
        # What the metadata names counts all the same, even where unreadable references are to be ignored.
        references = _opening(file.references, source, ())
        return ReferenceFile(f"{folder}/{error.filename}", references, fault_of(error))
    references = file.references if saved.images is None else _opening(file.references, source, saved.images)
    return ReferenceFile(file.path, references, fingerprint=file.fingerprint, saved=saved)


def _is_open_ended(references: tuple[Reference, ...]) -> bool:
    """Return whether metadata leaves open which digest boots."""
    return not references or any(
        not reference.resolved_image or parsed(reference.resolved_image).digest is None
        for reference in references
    )


def _opening(
    references: tuple[Reference, ...], source: str, images: tuple[str, ...]
) -> tuple[Reference, ...]:
    """Add the images of a saved state; even one that names none shows that the guest's age proves nothing."""
    if not references:
        return (Reference(source, saved_state=images),) if images else ()
    return tuple(msgspec.structs.replace(reference, saved_state=images) for reference in references)


def is_absent(filesystem: Filesystem, path: str, dir_fd: int) -> bool:
    """Return whether a path is absent, and not a dangling link, be it the file's own or its folder's."""
    for part in (path, path.rpartition("/")[0]):
        if part:
            try:
                filesystem.stat(part, dir_fd=dir_fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError:
                return False
            if part == path or _leads_nowhere(filesystem, part, dir_fd):
                return False
    return True


def _leads_nowhere(filesystem: Filesystem, path: str, dir_fd: int) -> bool:
    try:
        filesystem.stat(path, dir_fd=dir_fd)
    except OSError:
        return True
    return False


def fault_of(error: OSError) -> str:
    """Return why a file or folder could not be read, without its path."""
    return error.strerror or str(error)
