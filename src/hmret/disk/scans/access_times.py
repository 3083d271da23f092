"""When the disks of images were last read, as far as the file system records it."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import open_data_folder, opened
from hmret.disk.layout import CONTENT, IMAGES, ROOTFS_NAMES, hex_of
from hmret.model.references import Key

DiskOfRow = tuple[Key, bool, bool]
"""A row, whether it stands for content, and whether its repository has a folder of its own."""


def last_reads(
    filesystem: Filesystem,
    data_fd: int,
    rows: Iterable[DiskOfRow],
    *,
    after_ns: int,
    now_ns: int,
    pause: Callable[[], None] = lambda: None,
) -> Mapping[Key, int]:
    """Return the rows whose disks were read after a time, with the last read in nanoseconds since the epoch.

    A time in the future proves nothing, and a disk that cannot be examined is left out. On a file system
    mounted `noatime` no reads show; with `relatime` a read is recorded at most once a day, unless the disk
    has changed since.
    """
    found: dict[Key, int] = {}
    read_at: dict[str, int] = {}
    try:
        images_fd = open_data_folder(filesystem, data_fd, IMAGES)
    except OSError:
        return found
    with opened(filesystem, images_fd):
        for key, is_content, has_own in rows:
            newest_ns = 0
            for folder in _folders(key, is_content=is_content, has_own=has_own):
                if folder not in read_at:
                    read_at[folder] = _last_read(filesystem, images_fd, folder, now_ns)
                newest_ns = max(newest_ns, read_at[folder])
            if newest_ns > after_ns:
                found[key] = newest_ns
            pause()
    return found


def _folders(key: Key, *, is_content: bool, has_own: bool) -> Iterator[str]:
    repository, digest = key
    if is_content:
        yield f"{CONTENT}/{hex_of(digest)}"
    if has_own:
        yield f"{repository}/{hex_of(digest)}"


def _last_read(filesystem: Filesystem, images_fd: int, folder: str, now_ns: int) -> int:
    newest_ns = 0
    for name in ROOTFS_NAMES:
        try:
            read_ns = filesystem.stat(f"{folder}/{name}", dir_fd=images_fd, follow_symlinks=False).st_atime_ns
        except OSError:
            continue
        if newest_ns < read_ns <= now_ns:
            newest_ns = read_ns
    return newest_ns
