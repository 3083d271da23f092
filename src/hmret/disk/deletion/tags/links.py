"""The tags of an image that is deleted: read exactly, set aside, and put back where they are needed again.

hypeman sets a tag, or pulls a digest again, at any moment and under no lock that it shares with hmret.
Between a look at a tag and its `unlink`, the tag could become another one. So a deletion unlinks no tag in its
place: it is renamed aside first, where hypeman cannot change it, and examined there. It is put back if it is
not the recorded one, or if the digest is in the cache again. No link is ever put back over another file. A
crash leaves a tag set aside; recovery examines it in the same way (`resolve_parked_tags`).
"""

import errno
import os
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import suppress
from itertools import groupby

import attrs
import msgspec

from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.deletion.trash.intents import Intent, Link
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import exists
from hmret.disk.hypeman.links import tag_folder
from hmret.disk.layout import TRASH, Layout
from hmret.model.values import frozen

_ASIDE = ".hmret-tag-"
"""Prefix of what had to be set aside in a tag's own folder; no scan looks at such names."""

NO_TAG = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EINVAL))
"""The tag has gone, or is no longer a link: it is not hmret's to remove."""


@frozen
class _ParkedTag:
    """Where a tag was set aside."""

    folder: str
    name: str
    is_recorded: bool = False
    """Whether it is known to be the recorded tag."""


@frozen
class RemovedLinks:
    """The result of removing an image's tags."""

    removed: tuple[Link, ...]
    faults: tuple[tuple[str, str], ...]
    """Paths of those that could not be removed or put back, and why."""


def read_links(
    filesystem: Filesystem, folder_fd: int, layout: Layout, repository: str, tags: Sequence[str]
) -> list[Link]:
    """Read tags in their open folder, each exactly as it is; those that are absent, or not links, are left out.

    Raises:
        OSError: one exists but cannot be read.
    """
    names = [*tags]
    found = filesystem.stat_files(folder_fd, names)
    links: list[Link] = []
    for tag, answer, target in zip(names, found, filesystem.read_links(folder_fd, names), strict=True):
        for error in (answer, target):
            if isinstance(error, int) and error not in NO_TAG:
                raise OSError(error, os.strerror(error), tag)
        if not isinstance(answer, int) and not isinstance(target, int):
            links.append(Link(layout, repository, tag, target, answer[2]))
    return links


def read_link(
    filesystem: Filesystem, folder_fd: int, layout: Layout, repository: str, tag: str
) -> Link | None:
    """Read a tag in its open folder, as `read_links` does; None: it is absent, or not a link."""
    return next(iter(read_links(filesystem, folder_fd, layout, repository, [tag])), None)


def remove_recorded_links(
    folders: OpenFolders, intent: Intent, is_here: Callable[[str], bool], absent: Container[str] = ()
) -> RemovedLinks:
    """Remove the recorded tags of an image that is out of the cache, in each repository where they lead to nothing.

    They lead to nothing where neither its content nor the repository's own folder exists. All tags are set
    aside first, so that one check then shows for all of them whether the digest has arrived in between.

    Args:
        folders: the open folders.
        intent: the image.
        is_here: returns whether a repository's tags to the digest lead to something now.
        absent: repositories for which this was checked just now, and nothing was found.
    """
    filesystem = folders.filesystem
    removed: list[Link] = []
    faults: list[tuple[str, str]] = []
    here: dict[str, bool] = {}
    chosen: list[tuple[Link, str]] = []
    for number, link in enumerate(intent.links):
        try:
            if link.repository not in here:
                # guard(returned-image-keeps-tags): If a pull has brought the digest back by now, its tags are
                # not touched.
                here[link.repository] = link.repository not in absent and is_here(link.repository)
            if not here[link.repository]:
                chosen.append((link, parked_name(intent, number)))
        except OSError as error:
            faults.append(_fault(link, error))
    aside = _set_all_aside(folders, chosen, faults)
    here.clear()
    # A tag that shadows another goes back before that one, so that no lookup sees what it hid.
    for link, found in reversed(aside):
        try:
            if link.repository not in here:
                # guard(pull-gets-its-tags-back): A pull may bring the digest back while its tags are set
                # aside; they return and lead to it.
                here[link.repository] = is_here(link.repository)
            # guard(moved-tag-goes-back): A tag that hypeman moved at the last moment leads to another image;
            # it goes back to its place.
            if not here[link.repository] and found.is_recorded:
                filesystem.unlink(found.name, dir_fd=folders.get(found.folder))
                removed.append(link)
            else:
                _put_back(folders, found, link)
        except OSError as error:
            faults.append(_fault(link, error))
    return RemovedLinks(tuple(reversed(removed)), tuple(faults))


def resolve_parked_tags(
    folders: OpenFolders, intent: Intent, is_here: Callable[[str], bool]
) -> tuple[Link, ...]:
    """Resolve the tags that a crash left set aside; returns those that are removed for good.

    Raises:
        OSError: one could not be resolved; the others are.
    """
    gone: list[Link] = []
    fault: OSError | None = None
    for number, link in reversed(tuple(enumerate(intent.links))):
        for found in _parked_places(intent, number, link):
            try:
                if _resolve(folders, found, link, is_here):
                    gone.append(link)
            except OSError as error:
                fault = error
    if fault is not None:
        raise fault
    return tuple(gone)


def links_not_parked(folders: OpenFolders, intent: Intent) -> tuple[Link, ...]:
    """List those tags of an image in whose names nothing is set aside.

    Raises:
        OSError: that could not be determined.
    """
    return tuple(
        link
        for number, link in enumerate(intent.links)
        if not any(
            folders.exists(f"{found.folder}/{found.name}") for found in _parked_places(intent, number, link)
        )
    )


def make_links(folders: OpenFolders, links: Iterable[Link], made: list[Link] | None = None) -> None:
    """Make those of some tags as they were whose names are free in both layouts.

    `made` gets each that was made, as it is now, also where another one fails.

    Raises:
        OSError: one could not be examined or made.
    """
    free = [
        link
        for link in links
        if not any(folders.exists(f"{tag_folder(layout, link.repository)}/{link.tag}") for layout in Layout)
    ]
    # A tag that shadows another is made before that one, so that no lookup sees what it hid.
    for link in sorted(free, key=lambda link: link.layout is not Layout.CONTENT):
        folder_fd = folders.make(link.parent)
        with suppress(FileExistsError):
            folders.filesystem.symlink(link.target, link.tag, dir_fd=folder_fd)
            if made is not None:
                made.append(msgspec.structs.replace(link, inode=0))
                found = read_link(folders.filesystem, folder_fd, link.layout, link.repository, link.tag)
                if found is not None and found.target == link.target:
                    made[-1] = found


def remove_made_links(
    folders: OpenFolders, links: Iterable[Link], is_here: Callable[[str], bool]
) -> tuple[Link, ...]:
    """Remove tags that a restore made for an image that did not come back; returns those that are removed.

    They are set aside first, as those of a deletion are, but each beside its place. One that hypeman has moved
    since goes back, and so does one that leads to something again.

    Args:
        folders: the open folders.
        links: the tags as they were made; without an inode, whatever leads to the same target is such a tag.
        is_here: returns whether a repository's tags to the digest lead to something now.

    Raises:
        OSError: one could not be removed.
    """
    resolve_parked_beside(folders, links, is_here)
    removed: list[Link] = []
    # A tag that shadows another goes after that one, so that no lookup sees what it hid.
    for link in sorted(links, key=lambda link: link.layout is Layout.CONTENT):
        fd, beside = folders.find(link.parent), _parked_beside(link)
        if fd is None or not _is_recorded(folders.filesystem, fd, link.tag, link) or is_here(link.repository):
            continue
        try:
            # guard(made-tag-is-set-aside): hypeman may move the tag between the look at it and its removal;
            # what is set aside is looked at again, and goes back where it is another by now.
            folders.rename(link.parent, link.tag, beside.folder, beside.name)
        except FileNotFoundError:
            continue
        if _resolve(folders, beside, link, is_here):
            removed.append(link)
    return tuple(removed)


def resolve_parked_beside(
    folders: OpenFolders, links: Iterable[Link], is_here: Callable[[str], bool]
) -> None:
    """Resolve those of some tags that a crash left set aside beside their places.

    Raises:
        OSError: one could not be resolved.
    """
    for link in links:
        _resolve(folders, _parked_beside(link), link, is_here)


def _parked_places(intent: Intent, number: int, link: Link) -> tuple[_ParkedTag, ...]:
    """List where a crash may have left a tag of an image; an older release did not put the digest into the name."""
    return (
        _ParkedTag(TRASH, parked_name(intent, number)),
        _parked_beside(link),
        _ParkedTag(link.parent, _ASIDE + link.tag),
    )


def _parked_beside(link: Link) -> _ParkedTag:
    """Return where a tag is set aside in its own folder: of each digest in another place."""
    return _ParkedTag(link.parent, f"{_ASIDE}{link.target.rpartition('/')[2][:12]}-{link.tag}")


def _fault(link: Link, error: OSError) -> tuple[str, str]:
    return f"{link.parent}/{link.tag}", os.strerror(error.errno or 0)


def parked_name(intent: Intent, number: int) -> str:
    """Return the name of an intent's tag in the trash."""
    return f"{intent.name}.tag{number}"


def _set_all_aside(
    folders: OpenFolders, links: Iterable[tuple[Link, str]], faults: list[tuple[str, str]]
) -> list[tuple[Link, _ParkedTag]]:
    """Rename tags out of their folders to their names in the trash, those that seem to be the recorded ones.

    Their targets are read there, where hypeman cannot change them. Failures are added to `faults`.
    """
    aside: list[tuple[Link, _ParkedTag]] = []
    for _, group in groupby(links, key=lambda item: (item[0].layout, item[0].repository)):
        few = [*group]
        try:
            folder_fd = folders.find(few[0][0].parent)
            if folder_fd is None:
                continue
            answers = folders.filesystem.set_aside(
                folder_fd,
                [link.tag for link, _ in few],
                [link.inode for link, _ in few],
                folders.get(TRASH),
                [name for _, name in few],
            )
        except OSError as error:
            faults.extend(_fault(link, error) for link, _ in few)
            continue
        for (link, name), (code, doubt, inode, target) in zip(few, answers, strict=True):
            # guard(unread-tag-stays-aside): A tag that cannot be read may be any image's; it is not put back
            # unseen but waits in the trash for the next start.
            if not code and doubt in (0, *NO_TAG):
                is_recorded = not doubt and (inode, target) == (link.inode, link.target)
                aside.append((link, _ParkedTag(TRASH, name, is_recorded)))
                continue
            if not code:
                # It is unknown which tag it is, so it stays aside for the next recovery.
                faults.append(_fault(link, OSError(doubt, os.strerror(doubt))))
                continue
            try:
                found = _set_aside_otherwise(folders, link, name, code)
            except OSError as fault:
                faults.append(_fault(link, fault))
            else:
                if found is not None:
                    aside.append((link, found))
    return aside


def _set_aside_otherwise(folders: OpenFolders, link: Link, name: str, error: int) -> _ParkedTag | None:
    """Rename a tag out of its folder that could not go into the trash; None: it is a different one, or has gone.

    Raises:
        OSError: it could not be renamed.
    """
    filesystem = folders.filesystem
    if error == errno.EXDEV:
        found = _parked_beside(link)
    elif not link.inode:
        # The intent of an older release records nothing but its target.
        found = _ParkedTag(TRASH, name)
        if not _is_recorded(filesystem, folders.get(link.parent), link.tag, link):
            return None
    elif error in (errno.ENOENT, errno.ENOTDIR):
        return None
    else:
        raise OSError(error, os.strerror(error), link.tag)
    try:
        folders.rename(link.parent, link.tag, found.folder, found.name)
    except FileNotFoundError:
        return None
    except OSError as fault:
        if fault.errno != errno.EXDEV or found.folder != TRASH:
            raise
        return _set_aside_otherwise(folders, link, name, errno.EXDEV)
    is_recorded = _is_recorded(filesystem, folders.get(found.folder), found.name, link)
    return attrs.evolve(found, is_recorded=is_recorded)


def _resolve(folders: OpenFolders, found: _ParkedTag, link: Link, is_here: Callable[[str], bool]) -> bool:
    """Remove a tag that was set aside, or put it back where it is needed or another; returns whether it has gone.

    Raises:
        OSError: it could not be removed or put back.
    """
    filesystem, fd = folders.filesystem, folders.find(found.folder)
    if fd is None or not exists(filesystem, fd, found.name):
        return False
    if not _is_recorded(filesystem, fd, found.name, link) or is_here(link.repository):
        _put_back(folders, found, link)
        return False
    filesystem.unlink(found.name, dir_fd=folders.get(found.folder))
    return True


def _put_back(folders: OpenFolders, found: _ParkedTag, link: Link) -> None:
    """Put back what was set aside in the place of a tag, never over what has come there since.

    A link that has been set anew is superseded, and goes. Anything else is not hmret's: it then stays beside its
    place.

    Raises:
        OSError: it could not be put back.
    """
    filesystem = folders.filesystem
    folders.make(link.parent)
    try:
        target = filesystem.readlink(found.name, dir_fd=folders.get(found.folder))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        name = link.tag
        # guard(odd-file-replaces-nothing): Something else had the tag's name, and hypeman may have set the tag
        # since: neither goes.
        if folders.exists(f"{link.parent}/{link.tag}"):
            name = _parked_beside(link).name
        folders.rename(found.folder, found.name, link.parent, name)
        return
    with suppress(FileExistsError):
        filesystem.symlink(target, link.tag, dir_fd=folders.get(link.parent))
    filesystem.unlink(found.name, dir_fd=folders.get(found.folder))


def _is_recorded(filesystem: Filesystem, fd: int, name: str, link: Link) -> bool:
    found = read_link(filesystem, fd, link.layout, link.repository, name)
    return found is not None and found.target == link.target and link.inode in (0, found.inode)
