"""Reading what guests and snapshots refer to, again only where a file has changed.

A file that cannot be read is remembered as unreadable, never as holding no reference. A file that changed less
than two seconds before it was looked at is looked at again next time: within the granularity of its time stamp
it may have changed once more.
"""

import os
from collections.abc import Callable, Mapping

import attrs

from hmret.disk.documents import UnreadableError, read_guest, read_snapshot
from hmret.disk.filesystem import Filesystem, Stat
from hmret.disk.folders import opened, read_file
from hmret.disk.layout import REFERENCE_FILES
from hmret.model.images import Reference
from hmret.model.times import SECOND

__all__ = ["ReferenceFile", "look_at_references"]

_LIST = os.O_RDONLY | os.O_DIRECTORY
_SETTLING_NS = 2 * SECOND

_READERS: Mapping[str, Callable[[bytes, str], tuple[Reference, ...]]] = {
    "instance": read_guest,
    "snapshot": read_snapshot,
}


@attrs.frozen
class ReferenceFile:
    """What one guest's or snapshot's file was found to hold."""

    path: str
    """Below the data directory."""
    references: tuple[Reference, ...] = ()
    problem: str | None = None
    """Why it could not be read; None: it could."""
    signature: tuple[int, ...] | None = None
    """What `stat` must still say for this to be true; None: look again in any case."""


def look_at_references(
    filesystem: Filesystem, data_fd: int, known: Mapping[str, ReferenceFile]
) -> dict[str, ReferenceFile]:
    """Look at every guest and snapshot; returns what each holds, by source (`instance/ID`, `snapshot/ID`).

    `known` is what the last look returned: files whose `stat` has not changed are not read again. A guest's folder
    without metadata is a guest being made and is left out; so is one that has gone.
    """
    found: dict[str, ReferenceFile] = {}
    for kind, folder, file_name in REFERENCE_FILES:
        try:
            folder_fd = filesystem.open(folder, _LIST, dir_fd=data_fd)
        except OSError as error:
            if not (isinstance(error, FileNotFoundError) and _is_absent(filesystem, folder, data_fd)):
                found[folder] = ReferenceFile(folder, problem=_fault(error))
            continue
        with opened(filesystem, folder_fd):
            try:
                with filesystem.scandir(folder_fd) as entries:
                    names = [entry.name for entry in entries]
            except OSError as error:
                found[folder] = ReferenceFile(folder, problem=_fault(error))
                continue
            for name in names:
                source = f"{kind}/{name}"
                path = f"{folder}/{name}/{file_name}"
                file = _look_at_file(filesystem, folder_fd, path, source, known.get(source))
                if file is not None:
                    found[source] = file
    return found


def _look_at_file(
    filesystem: Filesystem, folder_fd: int, path: str, source: str, known: ReferenceFile | None
) -> ReferenceFile | None:
    name = path.partition("/")[2]
    looked_ns = filesystem.now_ns()
    try:
        signature = _signature(filesystem.stat(name, dir_fd=folder_fd), looked_ns)
        if known is not None and signature is not None and known.signature == signature:
            return known
        content = read_file(filesystem, name, folder_fd, follow=True)
        references = _READERS[source.partition("/")[0]](content, source)
    except NotADirectoryError:
        return None
    except OSError as error:
        if isinstance(error, FileNotFoundError) and _is_absent(filesystem, name, folder_fd):
            return None
        return ReferenceFile(path, problem=_fault(error))
    except UnreadableError as error:
        return ReferenceFile(path, problem=str(error))
    return ReferenceFile(path, references, signature=signature)


def _signature(found: Stat, looked_ns: int) -> tuple[int, ...] | None:
    """Make what tells a file's next version from this one; None where its last change is too fresh to tell."""
    if max(found.st_mtime_ns, found.st_ctime_ns) > looked_ns - _SETTLING_NS:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _is_absent(filesystem: Filesystem, path: str, dir_fd: int) -> bool:
    """Tell absence from a symbolic link, the file's own or its folder's, that leads nowhere."""
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


def _fault(error: OSError) -> str:
    return error.strerror or str(error)
