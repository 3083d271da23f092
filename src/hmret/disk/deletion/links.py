"""The tags of an image that goes: found exactly as they are, set aside, and put back where somebody wants them.

hypeman sets a tag, and pulls a digest again, at any moment and under no lock of ours. So a tag is never unlinked where it
stands: it is renamed out of the way first, looked at there, and put back where it is not the one that was recorded, or
where the digest is here again. Nothing is ever put back over another.
"""

import errno
import os
from collections.abc import Callable, Iterable
from contextlib import suppress

import attrs

from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.filesystem import Filesystem
from hmret.disk.hypeman.links import Layout, tag_folder
from hmret.disk.trash import Intent, Link

__all__ = [
    "TakenLinks",
    "free_links",
    "make_links",
    "read_link",
    "remove_links",
    "settle_aside",
    "take_links",
]

_ASIDE = ".hmret-tag-"
"""Begins the name of a tag that had to be set aside beside itself; no scan looks at such names."""

_NO_TAG = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EINVAL))
"""It has gone, or is no link any more: it is somebody else's."""


@attrs.frozen
class TakenLinks:
    """What came of taking an image's tags."""

    taken: tuple[Link, ...]
    faults: tuple[tuple[str, str], ...]
    """Paths of those that could not be taken, and why."""


def read_link(
    filesystem: Filesystem, folder_fd: int, layout: Layout, repository: str, tag: str
) -> Link | None:
    """Read a tag in its open folder, exactly as it is; None: there is none, or something else.

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        inode = filesystem.stat(tag, dir_fd=folder_fd, follow_symlinks=False).st_ino
        target = filesystem.readlink(tag, dir_fd=folder_fd)
    except OSError as error:
        if error.errno in _NO_TAG:
            return None
        raise
    return Link(layout, repository, tag, target, inode)


def take_links(
    folders: OpenFolders, trash_fd: int, intent: Intent, is_here: Callable[[str], bool]
) -> TakenLinks:
    """Take the tags of an image that is out of the cache, where neither its content nor the repository's own folder is here.

    `is_here` tells that of a repository.
    """
    taken: list[Link] = []
    faults: list[tuple[str, str]] = []
    for number, link in enumerate(intent.all_links):
        try:
            if is_here(link.repository):
                continue
            folder_fd = _folder_of(folders, link)
            if folder_fd is None:
                continue
            aside = _set_aside(folders.filesystem, folder_fd, trash_fd, link, _name(intent, number))
            if aside is not None and _settle(folders, aside, link, is_here):
                taken.append(link)
        except OSError as error:
            faults.append((f"{link.parent}/{link.tag}", os.strerror(error.errno or 0)))
    # The digest may have come between the look and the removal: then its tags are wanted.
    for link in taken[:]:
        with suppress(OSError):
            if is_here(link.repository):
                make_links(folders, (link,))
                taken.remove(link)
    return TakenLinks(tuple(taken), tuple(faults))


def settle_aside(
    folders: OpenFolders, trash_fd: int, intent: Intent, is_here: Callable[[str], bool]
) -> tuple[Link, ...]:
    """Settle the tags that a crash left set aside; returns those that are gone for good.

    Raises:
        OSError: one could not be settled.
    """
    gone: list[Link] = []
    for number, link in enumerate(intent.all_links):
        if _settle_one(folders, (trash_fd, _name(intent, number)), link, is_here):
            gone.append(link)
        # Only now, as what was put back may have opened the folder again.
        folder_fd = _folder_of(folders, link)
        if folder_fd is not None and _settle_one(folders, (folder_fd, _ASIDE + link.tag), link, is_here):
            gone.append(link)
    return tuple(gone)


def _settle_one(
    folders: OpenFolders, aside: tuple[int, str], link: Link, is_here: Callable[[str], bool]
) -> bool:
    """Settle a tag that may have been left set aside; returns whether it was, and is gone for good."""
    return _is_link(folders.filesystem, *aside) and _settle(folders, aside, link, is_here)


def free_links(filesystem: Filesystem, data_fd: int, links: Iterable[Link]) -> tuple[Link, ...]:
    """List those of some tags whose names nothing has taken, in either layout.

    Raises:
        OSError: that could not be told.
    """
    free: list[Link] = []
    for link in links:
        paths = (f"{tag_folder(layout, link.repository)}/{link.tag}" for layout in Layout)
        if not any(_is_taken(filesystem, data_fd, path) for path in paths):
            free.append(link)
    return tuple(free)


def make_links(folders: OpenFolders, links: Iterable[Link]) -> tuple[Link, ...]:
    """Make tags as they were, where nothing has taken their names; returns those that were made."""
    made: list[Link] = []
    # One that shadows another is made before that, so that no lookup sees what it hid.
    for link in sorted(links, key=lambda link: link.layout is not Layout.CONTENT):
        with suppress(FileExistsError):
            folders.filesystem.symlink(link.target, link.tag, dir_fd=folders.make(link.parent))
            made.append(link)
    return tuple(made)


def remove_links(folders: OpenFolders, links: Iterable[Link]) -> tuple[Link, ...]:
    """Remove tags that were made for an image that is not here after all, where they are what was made.

    Raises:
        OSError: one could not be removed.
    """
    removed: list[Link] = []
    for link in links:
        folder_fd = _folder_of(folders, link)
        if folder_fd is None:
            continue
        found = read_link(folders.filesystem, folder_fd, link.layout, link.repository, link.tag)
        if found is not None and found.target == link.target:
            folders.filesystem.unlink(link.tag, dir_fd=folder_fd)
            removed.append(link)
    return tuple(removed)


def _name(intent: Intent, number: int) -> str:
    """Name a tag of an intent in the trash."""
    return f"{intent.name}.tag{number}"


def _folder_of(folders: OpenFolders, link: Link) -> int | None:
    """Open the folder of a tag; None: it has gone, or is behind a link by now."""
    try:
        return folders.get(link.parent)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise


def _set_aside(
    filesystem: Filesystem, folder_fd: int, trash_fd: int, link: Link, name: str
) -> tuple[int, str] | None:
    """Rename a tag out of its folder, if it is the one that was recorded; returns where it is then."""
    if not _is_recorded(filesystem, folder_fd, link.tag, link):
        return None
    try:
        filesystem.rename(link.tag, name, src_dir_fd=folder_fd, dst_dir_fd=trash_fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    else:
        return trash_fd, name
    try:
        filesystem.rename(link.tag, _ASIDE + link.tag, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    except FileNotFoundError:
        return None
    return folder_fd, _ASIDE + link.tag


def _settle(folders: OpenFolders, aside: tuple[int, str], link: Link, is_here: Callable[[str], bool]) -> bool:
    """Remove a tag that was set aside, if it is the recorded one and its image is not here; else put it back.

    Returns whether it was removed.
    """
    filesystem = folders.filesystem
    fd, name = aside
    goes = _is_recorded(filesystem, fd, name, link) and not is_here(link.repository)
    if not goes:
        is_beside = name.startswith(_ASIDE)
        folder_fd = fd if is_beside else folders.make(link.parent)
        try:
            target = filesystem.readlink(name, dir_fd=fd)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # A folder had taken the tag's name: it is not ours.
            filesystem.rename(name, link.tag, src_dir_fd=fd, dst_dir_fd=folder_fd)
            return False
        with suppress(FileExistsError):
            filesystem.symlink(target, link.tag, dir_fd=folder_fd)
    filesystem.unlink(name, dir_fd=fd)
    return goes


def _is_recorded(filesystem: Filesystem, fd: int, name: str, link: Link) -> bool:
    found = read_link(filesystem, fd, link.layout, link.repository, name)
    return found is not None and found.target == link.target and link.inode in (0, found.inode)


def _is_link(filesystem: Filesystem, fd: int, name: str) -> bool:
    try:
        filesystem.readlink(name, dir_fd=fd)
    except OSError as error:
        if error.errno in _NO_TAG:
            return False
        raise
    return True


def _is_taken(filesystem: Filesystem, data_fd: int, path: str) -> bool:
    try:
        filesystem.stat(path, dir_fd=data_fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
