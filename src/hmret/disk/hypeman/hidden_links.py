"""A search for links that hide images, without reading any image: for callers that need no more."""

from collections.abc import Iterator
from contextlib import suppress

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import opened_folder
from hmret.disk.hypeman.hidden import Hidden, find_hidden
from hmret.disk.hypeman.repositories import is_host, list_entries
from hmret.disk.layout import DIGEST_HEX, FOLDER_NAME, REPOSITORIES

# More folders than any host has repositories; each is listed once.
_MOST = 10_000


def find_hidden_links(filesystem: Filesystem, images_fd: int) -> Iterator[Hidden]:
    """List the links below `images/` that hide images; folders that cannot be listed are skipped."""
    waiting = ["", REPOSITORIES]
    for _ in range(_MOST):
        if not waiting:
            return
        path = waiting.pop()
        with suppress(OSError), opened_folder(filesystem, path or ".", images_fd) as fd:
            entries = list_entries(filesystem, fd)
            is_top = path in ("", REPOSITORIES)
            links = filter(is_host, entries.links) if is_top else entries.links
            yield from (link for link in find_hidden(filesystem, fd, path, links) if link.problem)
            waiting.extend(
                f"{path}/{name}".lstrip("/")
                for name in filter(FOLDER_NAME.fullmatch, entries.folders)
                if (
                    is_host(name)
                    if is_top
                    else path.startswith(REPOSITORIES) or not DIGEST_HEX.fullmatch(name)
                )
            )
