"""Taking away late ghosts: what hypeman's tag call leaves where it read an image before hmret deleted it, and wrote after.

Without that deletion it would not be there, so it is hmret's to clear away: its links then dangle, and a create pulls again
by itself. A ghost of a digest that hmret did not delete is somebody else's, and stays.
"""

from collections.abc import Mapping
from contextlib import suppress

from hmret.disk.deletion.open_folders import exists
from hmret.disk.documents import UnreadableError, read_image_metadata
from hmret.disk.erasing import erase
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import let_go, open_folder, opened, read_file, step_into
from hmret.disk.hypeman.images import read_digest_folder
from hmret.disk.layout import CONTENT, IMAGES, METADATA, OWN, ROOTFS_NAMES, TRASH, hex_of
from hmret.disk.trash import new_token, open_trash
from hmret.model.times import SECOND

__all__ = ["clear_ghosts"]

_SETTLED_NS = 60 * SECOND
"""A ghost must not have changed for so long."""


def clear_ghosts(filesystem: Filesystem, data_fd: int, deleted_at_ns: Mapping[str, int]) -> tuple[str, ...]:
    """Take away the ghosts of digests, where each was made after its deletion; returns the digests of those that went.

    The caller lets nobody else work on these digests meanwhile.
    """
    gone: list[str] = []
    with (
        suppress(OSError),
        opened(filesystem, step_into(filesystem, data_fd, f"{IMAGES}/{CONTENT}")) as content_fd,
        opened(filesystem, open_trash(filesystem, data_fd)) as trash_fd,
    ):
        for digest, moment_ns in deleted_at_ns.items():
            with suppress(OSError):
                if _clear(filesystem, data_fd, (content_fd, trash_fd), digest, moment_ns):
                    gone.append(digest)
    return tuple(gone)


def _clear(
    filesystem: Filesystem, data_fd: int, folders: tuple[int, int], digest: str, deleted_at_ns: int
) -> bool:
    content_fd, trash_fd = folders
    hexadecimal = hex_of(digest)
    inode = _ghost_inode(filesystem, content_fd, hexadecimal, deleted_at_ns)
    if inode is None:
        return False
    # No intent has this name: cut off from here on, it is erased at the next start.
    name = f"{new_token()}.0"
    filesystem.rename(hexadecimal, name, src_dir_fd=content_fd, dst_dir_fd=trash_fd)
    is_same = filesystem.stat(name, dir_fd=trash_fd, follow_symlinks=False).st_ino == inode
    if not is_same or not _is_ghost(filesystem, trash_fd, name, digest):
        if not exists(filesystem, content_fd, hexadecimal):
            filesystem.rename(name, hexadecimal, src_dir_fd=trash_fd, dst_dir_fd=content_fd)
        return False
    erase(filesystem, data_fd, f"{OWN}/{TRASH}", name)
    return True


def _ghost_inode(filesystem: Filesystem, content_fd: int, hexadecimal: str, deleted_at_ns: int) -> int | None:
    """Look whether a folder is a ghost that was made after a deletion, and has been left alone for long; None: no."""
    try:
        found = filesystem.stat(hexadecimal, dir_fd=content_fd, follow_symlinks=False)
        metadata = filesystem.stat(f"{hexadecimal}/{METADATA}", dir_fd=content_fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    changed_ns = max(found.st_mtime_ns, metadata.st_mtime_ns)
    if changed_ns > filesystem.now_ns() - _SETTLED_NS or changed_ns < deleted_at_ns:
        return None
    image = read_digest_folder(filesystem, content_fd, None, hexadecimal)
    if image is None or image.image.status != "ready" or image.has_disk:
        return None
    return found.st_ino if _holds_only_metadata(filesystem, content_fd, hexadecimal) else None


def _is_ghost(filesystem: Filesystem, trash_fd: int, name: str, digest: str) -> bool:
    """Look at what was set aside: still ready, no disk, of that digest."""
    fd = open_folder(filesystem, name, trash_fd)
    try:
        if any(exists(filesystem, fd, disk) for disk in ROOTFS_NAMES):
            return False
    finally:
        let_go(filesystem, fd)
    return _holds_only_metadata(filesystem, trash_fd, name) and _is_ready(filesystem, trash_fd, name, digest)


def _is_ready(filesystem: Filesystem, trash_fd: int, name: str, digest: str) -> bool:
    try:
        metadata = read_image_metadata(read_file(filesystem, f"{name}/{METADATA}", trash_fd))
    except UnreadableError:
        return False
    return metadata.status == "ready" and metadata.digest == digest


def _holds_only_metadata(filesystem: Filesystem, parent_fd: int, name: str) -> bool:
    with (
        opened(filesystem, open_folder(filesystem, name, parent_fd)) as fd,
        filesystem.scandir(fd) as entries,
    ):
        return [entry.name for entry in entries] == [METADATA]
