"""The last check before anything is erased: has any client begun to use an image since it was renamed out of the cache?

A pull or a tag call that read an image's metadata before the rename sets its link after it. So links to a
digest that has gone are looked for once more, for a whole batch at a time, and an image with such a link is
put back whole. Links by the names of the image's own count too: those were removed, so one that exists now
was set since.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing

from hmret.disk.deletion.open_folders import KnownPaths, OpenFolders
from hmret.disk.deletion.replacements import Replacement, find_replacement
from hmret.disk.deletion.tags.repository_tags import RepositoryTags
from hmret.disk.deletion.tags.tag_view import TagFolders
from hmret.disk.deletion.trash.intents import Intent, TrashEntry
from hmret.disk.filesystem import Filesystem
from hmret.disk.hypeman.links import tag_folder
from hmret.disk.layout import CONTENT, IMAGES, Layout, hex_of

_WANTED = frozenset((Replacement.GHOST, Replacement.PROMOTION, Replacement.FOLDER))
"""What is of no use without the image."""
_LAYOUTS = tuple(Layout)


def find_wanted(
    filesystem: Filesystem,
    data_fd: int,
    images: Iterable[tuple[Intent, Sequence[TrashEntry]]],
    view: TagFolders,
    pause: Callable[[], None] = lambda: None,
) -> list[Intent]:
    """List those of some retired images that a client has begun to use again; nothing is changed.

    Raises:
        OSError: that could not be determined.
    """
    with closing(OpenFolders(filesystem, data_fd)) as folders:
        chosen = list(images)
        tag_snapshot = None
        images_fd = folders.find(IMAGES)
        if images_fd is not None and any(intent.is_content for intent, _ in chosen):
            tag_snapshot = view.refresh(images_fd, pause)
        known_paths = KnownPaths(folders)
        known_paths.query(_places_of_replacements(chosen, has_tag_snapshot=tag_snapshot is not None))
        tags = RepositoryTags(folders, tag_snapshot, {intent.digest for intent, _ in chosen}, known_paths)
        wanted: list[Intent] = []
        for intent, places in chosen:
            # guard(last-look-before-erase): Before a byte is freed, an image that a client has begun to use
            # again is put back whole.
            if places and _is_wanted(folders, tags, known_paths, intent, places):
                wanted.append(intent)
            pause()
        return wanted


def _places_of_replacements(
    images: Iterable[tuple[Intent, Sequence[TrashEntry]]], *, has_tag_snapshot: bool
) -> Iterable[str]:
    """List where the images may have been replaced, and the folders of tags that may be absent."""
    for intent, _ in images:
        hexadecimal = hex_of(intent.digest)
        yield f"{IMAGES}/{CONTENT}/{hexadecimal}"
        for name in intent.repositories:
            yield f"{IMAGES}/{name}/{hexadecimal}"
            yield f"{IMAGES}/{name}"
            if not has_tag_snapshot:
                yield tag_folder(Layout.CONTENT, name)


def _is_wanted(
    folders: OpenFolders,
    tags: RepositoryTags,
    known_paths: KnownPaths,
    intent: Intent,
    places: Sequence[TrashEntry],
) -> bool:
    digest, hexadecimal, names = intent.digest, hex_of(intent.digest), intent.repositories
    if not all(known_paths.is_absent(f"{IMAGES}/{parent}/{hexadecimal}") for parent in (CONTENT, *names)):
        replacement = find_replacement(folders, intent, places).replacement
        if replacement is not Replacement.NOTHING:
            return replacement in _WANTED
    linking = set()
    if intent.is_content and tags.tag_snapshot is not None:
        linking = tags.tag_snapshot.repositories(digest, names)
    # For a folder that goes alone, tags of other repositories were dangling before.
    layouts = (Layout.LEGACY,) if intent.is_content else _LAYOUTS
    for name in names:
        if any(tags.tags(layout, name, digest) for layout in layouts) or tags.is_being_made(name, digest):
            linking.add(name)
    # Tags of a repository that has its own folder, however broken, were left because they lead there.
    # guard(new-tag-brings-back): A tag set since the image went leads to it, so the image comes back rather
    # than leave the tag without a target.
    return any(not folders.exists(f"{IMAGES}/{name}/{hex_of(digest)}") for name in linking)
