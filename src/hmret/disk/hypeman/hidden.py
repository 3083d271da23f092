"""Links that hide images: a host's or a repository's folder was moved elsewhere, and a symbolic link stands in its place.

hypeman goes by path and sees what is behind it; no link is followed here, so what it hides must not pass for gone.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator

import attrs

from hmret.disk.filesystem import Filesystem
from hmret.disk.layout import DIGEST_HEX, FOLDER_NAME

__all__ = ["Hidden", "find_hidden"]


@attrs.frozen(order=True)
class Hidden:
    """A link where a folder of images or tags should be."""

    path: str
    """Below `images/`."""
    problem: str = ""
    """Why nobody knows what it hides; empty: it leads nowhere, so that hypeman sees nothing there either."""


def find_hidden(filesystem: Filesystem, fd: int, path: str, links: Iterable[str]) -> tuple[Hidden, ...]:
    """List those links in an open folder, whose path below `images/` is given, that are no tags and may hide images.

    The folder of a digest is none of them. A link whose last component is 64 hex digits is a tag, valid or not. What such a link leads to comes and goes without
    a change of the folder that it stands in.

    Raises:
        OSError: one could not be read.
    """
    prefix = f"{path}/" if path else ""
    names = (name for name in links if FOLDER_NAME.fullmatch(name) and not DIGEST_HEX.fullmatch(name))
    return tuple(_found(filesystem, fd, prefix, names))


def _found(filesystem: Filesystem, fd: int, prefix: str, links: Iterable[str]) -> Iterator[Hidden]:
    names = list(links)
    if not names:
        return
    for name, target in zip(names, filesystem.read_links(fd, names), strict=True):
        if isinstance(target, int):
            if target in (errno.ENOENT, errno.EINVAL):
                continue  # gone, or no link any more: the next look finds what it is
            raise OSError(target, os.strerror(target), name)
        # guard(hiding-link-suspends): A link in the place of a folder may hide images, which then only seem gone;
        # only a link to a digest is a tag.
        if DIGEST_HEX.fullmatch(target.rstrip("/").rpartition("/")[2]):
            continue
        try:
            found = filesystem.stat(name, dir_fd=fd)
        except (FileNotFoundError, NotADirectoryError):
            yield Hidden(f"{prefix}{name}")
        except OSError as error:
            yield Hidden(f"{prefix}{name}", f"a symbolic link: {error.strerror}")
        else:
            if stat.S_ISDIR(found.st_mode):
                yield Hidden(f"{prefix}{name}", "a symbolic link to a folder, which hmret does not follow")
