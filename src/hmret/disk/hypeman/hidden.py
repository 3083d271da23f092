"""Links that hide images: a host's or repository's folder was moved, and a symbolic link is left in its place.

hypeman follows the path and sees the folder behind it. hmret follows no link here, so the images behind one
must not be taken for gone.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator

import attrs

from hmret.disk.filesystem import Filesystem
from hmret.disk.layout import DIGEST_HEX, FOLDER_NAME, REPOSITORIES


@attrs.frozen(order=True)
class Hidden:
    """A link where a folder of images or tags should be."""

    path: str
    """The link's path, below `images/`."""
    problem: str = ""
    """Why it is unknown what the link hides; empty: it is dangling, so that hypeman sees nothing behind it
    either.
    """


def find_hidden(filesystem: Filesystem, fd: int, path: str, links: Iterable[str]) -> tuple[Hidden, ...]:
    """List the links in an open folder that are not tags and may hide images; `path`: the folder's, below `images/`.

    Links in the place of a digest's folder are not among them; below `repositories/` there are none. A link
    whose target's last component is 64 hex digits is a tag, valid or not, unless that is the link's own name.
    The folder that a hiding link leads to can appear and disappear without a change of the folder that holds
    the link.

    Raises:
        OSError: one could not be read.
    """
    prefix = f"{path}/" if path else ""
    # guard(repository-named-like-a-digest): A repository's last part may be 64 hex digits; its tags behind a link
    # must not be taken for gone.
    holds_digests = not prefix.startswith(f"{REPOSITORIES}/")
    names = (
        name
        for name in links
        if FOLDER_NAME.fullmatch(name) and not (holds_digests and DIGEST_HEX.fullmatch(name))
    )
    return tuple(_found(filesystem, fd, prefix, names))


def _found(filesystem: Filesystem, fd: int, prefix: str, links: Iterable[str]) -> Iterator[Hidden]:
    names = list(links)
    if not names:
        return
    for name, target in zip(names, filesystem.read_links(fd, names), strict=True):
        if isinstance(target, int):
            if target in (errno.ENOENT, errno.EINVAL):
                continue  # gone, or no longer a link: the next look finds out what it is
            raise OSError(target, os.strerror(target), name)
        last = target.rstrip("/").rpartition("/")[2]
        # guard(hiding-link-suspends): A link in the place of a folder may hide images, which then only seem
        # gone; only a link to a digest is a tag.
        if DIGEST_HEX.fullmatch(last) and last != name:
            continue
        try:
            status = filesystem.stat(name, dir_fd=fd)
        except (FileNotFoundError, NotADirectoryError):
            yield Hidden(f"{prefix}{name}")
        except OSError as error:
            yield Hidden(f"{prefix}{name}", f"a symbolic link: {error.strerror}")
        else:
            if stat.S_ISDIR(status.st_mode):
                yield Hidden(f"{prefix}{name}", "a symbolic link to a folder, which hmret does not follow")
