"""The look before anything is erased: who has come to want an image since it was renamed out of the cache.

A pull or a tag call that read an image's metadata before the rename sets its link after it. So links to a digest that is
not here any more are looked for once more, for a whole batch at a time, and such an image is put back whole. Links that the
image had count too: they were taken, so what is there was set since.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing

from hmret.disk.deletion import putting_back
from hmret.disk.deletion.arrivals import Arrival, look_for_arrivals
from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.deletion.repository_tags import RepositoryTags
from hmret.disk.deletion.tag_view import TagView
from hmret.disk.filesystem import Filesystem
from hmret.disk.hypeman.links import Layout
from hmret.disk.layout import IMAGES, hex_of
from hmret.disk.trash import Intent, Link, Place, repositories_of

__all__ = ["bring_back", "find_wanted"]

_WANTED = frozenset((Arrival.GHOST, Arrival.PROMOTION, Arrival.FOLDER))
"""What has come and is nothing without the image."""


def find_wanted(
    filesystem: Filesystem,
    data_fd: int,
    images: Iterable[tuple[Intent, Sequence[Place]]],
    view: TagView,
    pause: Callable[[], None] = lambda: None,
) -> list[Intent]:
    """List those of some retired images that somebody has come to want; nothing is changed.

    Raises:
        OSError: it could not be told.
    """
    with closing(OpenFolders(filesystem, data_fd)) as folders:
        chosen = list(images)
        linkers = None
        images_fd = folders.find(IMAGES)
        if images_fd is not None and any(intent.is_content for intent, _ in chosen):
            linkers = view.look(images_fd, pause)
        tags = RepositoryTags(folders, linkers, {intent.digest for intent, _ in chosen})
        wanted: list[Intent] = []
        for intent, places in chosen:
            if places and _is_wanted(folders, tags, intent, places):
                wanted.append(intent)
            pause()
        return wanted


def _is_wanted(folders: OpenFolders, tags: RepositoryTags, intent: Intent, places: Sequence[Place]) -> bool:
    arrival = look_for_arrivals(folders, intent, places).arrival
    if arrival is not Arrival.NOTHING:
        return arrival in _WANTED
    digest = intent.digest
    linking = set()
    if intent.is_content and tags.linkers is not None:
        linking = tags.linkers.repositories(digest, repositories_of(intent))
    # Of a folder that goes alone the tags of other repositories dangled before.
    layouts = (Layout.LEGACY,) if intent.is_content else tuple(Layout)
    linking.update(
        name
        for name in repositories_of(intent)
        if any(tags.tags(layout, name, digest) for layout in layouts) or tags.is_being_made(name, digest)
    )
    # The tags of one that has a folder of its own, however broken, were left to lead there.
    return any(not folders.exists(f"{IMAGES}/{name}/{hex_of(digest)}") for name in linking)


def bring_back(filesystem: Filesystem, data_fd: int, intent: Intent, beside: Iterable[Link] = ()) -> bool:
    """Put an image back whole, with those of its tags that are free, or make the ghost in its place whole.

    `beside`: tags that went with the folders that others had of its digest; while content stands, these lead to it.

    The caller lets nobody else work on this image meanwhile. What is left of it in the trash is erased. Returns whether it
    is back: its place may have been taken by something whole.

    Raises:
        LayersGoneError: its data has gone, so it stays where it is.
        OSError: it could not be put back.
    """
    with closing(OpenFolders(filesystem, data_fd)) as folders:
        return putting_back.bring_back(folders, intent, beside)
