"""Putting back an image that was renamed out of the cache: its folders, and tags whose names are free."""

from collections.abc import Iterable, Sequence
from contextlib import closing, suppress

from hmret.disk.deletion.folder_renames import rename_back
from hmret.disk.deletion.ghosts import clear_fresh_ghost
from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.deletion.replacements import Found, Replacement, find_replacement, heal
from hmret.disk.deletion.tags.links import make_links
from hmret.disk.deletion.trash.erasing import erase
from hmret.disk.deletion.trash.intents import NO_CONTENT, Intent, Link, TrashEntry, find_entries
from hmret.disk.deletion.trash.wholeness import check_layers, has_metadata_and_disk
from hmret.disk.filesystem import Filesystem
from hmret.disk.layout import hex_of


def put_back(
    folders: OpenFolders, intent: Intent, places: Sequence[TrashEntry], links: Iterable[Link] = ()
) -> bool:
    """Rename the folders of an image back into the cache, content first; returns whether the first of them is back.

    Those of `links` whose names are free are made first; after an interruption all this is repeated. A folder
    whose place has been taken stays where it is, and so does the whole image once its erasing has begun. No
    timer is written: the image gets a new one.

    Raises:
        LayersGoneError: a layer that it needs has gone, so it stays where it is.
        OSError: something could not be put back; it is tried again at the next start.
    """
    ordered = sorted(places, key=lambda place: place.copy.repository != "")
    first = ordered[0]
    if folders.exists(f"{first.parent}/{hex_of(intent.digest)}"):
        return False
    if not has_metadata_and_disk(folders.filesystem, folders.get(first.folder), first.name):
        return False
    check_layers(folders.filesystem, folders.data_fd, folders.get(first.folder), first.name)
    make_links(folders, links)
    if not rename_back(folders, first):
        return False
    for place in ordered[1:]:
        follow(folders, place)
    if not intent.is_content and intent.content_status == NO_CONTENT:
        # Metadata alone, made by a call while the image was away, would hide it.
        with suppress(OSError):
            clear_fresh_ghost(folders, intent.digest)
    return True


def follow(folders: OpenFolders, place: TrashEntry) -> bool:
    """Rename one more folder of an image that was put back; False where its place is taken, or it is not complete.

    Raises:
        OSError: it could not be put back.
    """
    return has_metadata_and_disk(folders.filesystem, folders.get(place.folder), place.name) and rename_back(
        folders, place
    )


def mend(
    folders: OpenFolders,
    intent: Intent,
    places: Sequence[TrashEntry],
    found: Found,
    links: Iterable[Link] = (),
) -> bool:
    """Put an image back, or complete what has arrived in its place; returns whether it is in the cache, whole.

    Raises:
        LayersGoneError: a layer that it needs has gone, so it stays where it is.
        OSError: something could not be put back; it is tried again at the next start.
    """
    main = _last_place(places)
    if main is None or found.replacement is Replacement.LEAVE_ALONE:
        return False
    if found.replacement is Replacement.GHOST:
        if not heal(folders, main, found.parent, links):
            return False
        for place in places:
            if place is not main:
                follow(folders, place)
        return True
    if found.replacement is Replacement.PROMOTION:
        # What the promotion needs are the folders that content was being made from.
        places = [place for place in places if place.copy.repository]
    return put_back(folders, intent, places, links)


def bring_back(filesystem: Filesystem, data_fd: int, intent: Intent, beside: Iterable[Link] = ()) -> bool:
    """Put an image back whole, wherever its folders are, with those of its tags whose names are free.

    `beside`: tags that went with other folders of its digest; while content exists, these lead to it.

    The caller makes sure that nothing else works on this image. What is left of it in the trash is erased.
    Returns whether it is back: its place may have been taken by something complete, or its erasing have
    begun.

    Raises:
        LayersGoneError: a layer that it needs has gone, so it stays where it is.
        OSError: it could not be put back, or its remains not be erased; the next recovery finishes that.
    """
    with closing(OpenFolders(filesystem, data_fd)) as folders:
        places = find_entries(filesystem, data_fd, intent)
        found = find_replacement(folders, intent, places)
        is_back = mend(folders, intent, places, found, intent.links)
        if not is_back and found.replacement is not Replacement.GHOST:
            # A ghost may have taken its place since that look.
            found = find_replacement(folders, intent, places)
            is_back = found.replacement is Replacement.GHOST and mend(
                folders, intent, places, found, intent.links
            )
        if is_back:
            make_links(folders, beside)
            erase_rest(folders, intent)
        return is_back


def erase_rest(folders: OpenFolders, intent: Intent) -> None:
    """Erase what is left in the trash of an image that is back.

    Raises:
        OSError: something could not be erased; the next recovery does that.
    """
    for place in find_entries(folders.filesystem, folders.data_fd, intent):
        erase(folders.filesystem, folders.data_fd, place.folder, place.name)


def _last_place(places: Sequence[TrashEntry]) -> TrashEntry | None:
    """Return the last of an image's places: that of its content, if that is among them; None: there is none."""
    return max(places, key=lambda place: place.number, default=None)
