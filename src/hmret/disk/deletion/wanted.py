"""The look before anything is erased: who has come to want an image since it was renamed out of the cache.

A pull or a tag call that read an image's metadata before the rename sets its link after it. So links to a digest that is
not here any more are looked for once more, for a whole batch at a time, and such an image is put back whole. Links that the
image had count too: they were taken, so what is there was set since.
"""

from collections.abc import Callable, Iterable, Sequence

from hmret.disk.deletion.arrivals import (
    Arrival,
    content_status,
    exists,
    has_new_folder,
    heal,
    is_promotion_of,
    look_at_folder,
)
from hmret.disk.deletion.links import free_links, make_links
from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.deletion.putting_back import put_back
from hmret.disk.deletion.repository_tags import RepositoryTags
from hmret.disk.deletion.tag_view import TagView
from hmret.disk.erasing import erase
from hmret.disk.filesystem import Filesystem
from hmret.disk.hypeman.links import Layout
from hmret.disk.layout import CONTENT, IMAGES, hex_of
from hmret.disk.trash import Intent, Place, find_places

__all__ = ["bring_back", "find_wanted"]


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
    folders = OpenFolders(filesystem, data_fd)
    try:
        chosen = list(images)
        linkers = None
        if any(intent.is_content for intent, _ in chosen) and exists(filesystem, data_fd, IMAGES):
            linkers = view.look(folders.get(IMAGES), pause)
        tags = RepositoryTags(folders, linkers)
        wanted: list[Intent] = []
        for intent, places in chosen:
            if _is_wanted(folders, tags, intent, places):
                wanted.append(intent)
            pause()
        return wanted
    finally:
        folders.close()


def _is_wanted(
    folders: OpenFolders,
    tags: RepositoryTags,
    intent: Intent,
    places: Sequence[Place],
) -> bool:
    filesystem, digest = folders.filesystem, intent.digest
    content_fd = folders.find(f"{IMAGES}/{CONTENT}")
    arrival = Arrival.NOTHING if content_fd is None else look_at_folder(filesystem, content_fd, None, digest)
    main = _main(places)
    if intent.is_content:
        if arrival is not Arrival.NOTHING or main is None or main.copy.repository:
            return arrival is Arrival.GHOST and main is not None
        if any(has_new_folder(folders, intent, row.repository) for row in intent.rows):
            return True
        names = [row.repository for row in intent.rows]
        linking = set() if tags.linkers is None else tags.linkers.repositories(digest, names)
        linking.update(
            name
            for name in names
            if tags.tags(Layout.LEGACY, name, digest) or tags.is_being_made(name, digest)
        )
        # The tags of one that has a folder of its own, however broken, were left to lead there.
        return any(not _has_own_folder(folders, name, digest) for name in linking)
    own_fd = folders.find(f"{IMAGES}/{intent.repository}")
    if own_fd is not None and exists(filesystem, own_fd, hex_of(digest)):
        return look_at_folder(filesystem, own_fd, intent.repository, digest) is Arrival.GHOST
    if arrival is not Arrival.NOTHING and content_fd is not None:
        if content_status(filesystem, content_fd, digest) == intent.beside:
            return False
        return arrival is Arrival.GHOST or (
            main is not None
            and is_promotion_of(filesystem, folders.get(main.folder), main, content_fd, digest)
        )
    return tags.is_being_made(intent.repository, digest) or any(
        tags.tags(layout, intent.repository, digest) for layout in Layout
    )


def bring_back(filesystem: Filesystem, data_fd: int, intent: Intent) -> bool:
    """Put an image back whole, with those of its tags that are free, or make the ghost in its place whole.

    The caller lets nobody else work on this image meanwhile. What is left of it in the trash is erased. Returns whether it
    is back: its place may have been taken by something whole.

    Raises:
        OSError: it could not be put back.
    """
    folders = OpenFolders(filesystem, data_fd)
    try:
        places = find_places(filesystem, data_fd, intent)
        main = _main(places)
        if main is None:
            return False
        is_back = _bring_back(folders, intent, places, main)
        if is_back:
            for place in find_places(filesystem, data_fd, intent):
                erase(filesystem, data_fd, place.folder, place.name)
        return is_back
    finally:
        folders.close()


def _bring_back(folders: OpenFolders, intent: Intent, places: Sequence[Place], main: Place) -> bool:
    digest = intent.digest
    parents = [f"{IMAGES}/{CONTENT}"]
    if not intent.is_content:
        parents.insert(0, f"{IMAGES}/{intent.repository}")
    for parent in parents:
        parent_fd = folders.find(parent)
        if parent_fd is None:
            continue
        repository = None if parent.endswith(f"/{CONTENT}") else intent.repository
        if look_at_folder(folders.filesystem, parent_fd, repository, digest) is Arrival.GHOST and heal(
            folders.filesystem, folders.get(main.folder), main, parent_fd, digest
        ):
            make_links(folders, free_links(folders.filesystem, folders.data_fd, intent.all_links))
            for place in places:
                if place is not main:
                    put_back(folders, intent, (place,))
            return True
    return put_back(folders, intent, places, intent.all_links)


def _main(places: Sequence[Place]) -> Place | None:
    """Find the folder that is the image: content, or a repository's own where that goes alone."""
    return max(places, key=lambda place: place.number, default=None)


def _has_own_folder(folders: OpenFolders, repository: str, digest: str) -> bool:
    own_fd = folders.find(f"{IMAGES}/{repository}")
    return own_fd is not None and exists(folders.filesystem, own_fd, hex_of(digest))
