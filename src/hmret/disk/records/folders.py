"""The record of the folders that may be volumes of their own: their identities, and what they hold.

It is written as a whole, durably. It is not a cache, and is kept across upgrades.
"""

import errno
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from hmret.disk.filesystem import Filesystem, Stat
from hmret.disk.folders import open_data_folder, opened, opened_folder
from hmret.disk.hypeman.repositories import is_host, list_entries
from hmret.disk.layout import CONTENT, FOLDER_NAME, IMAGES, REPOSITORIES
from hmret.disk.records.record_files import read_record, write_record
from hmret.model.records.folders import FolderMark, FolderOnRecord, FolderSeen

FOLDERS = "folders.json"
"""Below hmret's own folder."""

_BELOW = f"{IMAGES}/"
_GONE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))


class _Folder(msgspec.Struct, gc=False):
    boot_id: str
    inode: int
    device: int
    modified_ns: int
    names: list[str] = []
    is_volume: bool = False


def load_folders(filesystem: Filesystem, data_fd: int) -> Mapping[str, FolderOnRecord]:
    """Read the record; empty where none can be read: then every folder is seen for the first time."""
    found = read_record(filesystem, data_fd, FOLDERS, dict[str, _Folder]) or {}
    return {
        name: FolderOnRecord(
            folder.boot_id,
            FolderMark(folder.inode, folder.device, folder.modified_ns),
            frozenset(folder.names),
            folder.is_volume,
        )
        for name, folder in found.items()
    }


def save_folders(filesystem: Filesystem, data_fd: int, record: Mapping[str, FolderOnRecord]) -> None:
    """Write the record, durably.

    Raises:
        OSError: it could not be written; the previous record then stays.
    """
    document = {
        name: _Folder(
            folder.boot_id,
            folder.mark.inode,
            folder.mark.device,
            folder.mark.modified_ns,
            sorted(folder.names),
            folder.is_volume,
        )
        for name, folder in sorted(record.items())
    }
    write_record(filesystem, data_fd, FOLDERS, document)


def mark_of(found: Stat) -> FolderMark:
    """Return the part of a folder's status by which the folder is recognised."""
    return FolderMark(found.st_ino, found.st_dev, found.st_mtime_ns)


def printable_name(name: str) -> str:
    """Encode a name on the disk so that a record can hold it; two names are encoded alike only by malice."""
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode()


def look_at_cache(filesystem: Filesystem, data_fd: int, known: Iterable[str]) -> dict[str, FolderSeen]:
    """Identify `images/` and the folders right below it; those that cannot be examined are left out.

    `known`: paths below the data directory that are on record; missing ones are reported as gone.
    """
    try:
        images_fd = open_data_folder(filesystem, data_fd, IMAGES)
    except FileNotFoundError:
        return {IMAGES: FolderSeen(None)}
    except OSError:
        return {}
    with opened(filesystem, images_fd):
        try:
            return dict(_look(filesystem, images_fd, known))
        except OSError:
            return {}


def _look(filesystem: Filesystem, images_fd: int, known: Iterable[str]) -> Iterator[tuple[str, FolderSeen]]:
    status = filesystem.fstat(images_fd)
    yield IMAGES, FolderSeen(mark_of(status))
    device = status.st_dev
    hosts = filter(is_host, filter(FOLDER_NAME.fullmatch, list_entries(filesystem, images_fd).folders))
    earlier = (path.removeprefix(_BELOW) for path in known if path.startswith(_BELOW))
    for name in dict.fromkeys((CONTENT, REPOSITORIES, *hosts, *earlier)):
        if "/" not in name:
            try:
                seen = _look_at(filesystem, images_fd, name, device)
            except OSError as error:
                if error.errno not in _GONE:
                    continue
                seen = FolderSeen(None)
            yield f"{IMAGES}/{name}", seen


def _look_at(filesystem: Filesystem, images_fd: int, name: str, device: int) -> FolderSeen:
    with opened_folder(filesystem, name, images_fd) as fd:
        status = filesystem.fstat(fd)
        names: frozenset[str] = frozenset()
        # The folder of content is judged by its timers alone, of which there may be very many.
        if name != CONTENT:
            entries = list_entries(filesystem, fd)
            names = frozenset(map(printable_name, (*entries.folders, *entries.links, *entries.others)))
        return FolderSeen(mark_of(status), names, status.st_dev != device)
