"""Putting an image back that was renamed out of the cache: its folders, and those of its tags whose names are free."""

from collections.abc import Iterable, Sequence
from contextlib import suppress

from hmret.disk.deletion.arrivals import Arrival, Found, heal, look_for_arrivals
from hmret.disk.deletion.ghosts import clear_fresh_ghost
from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.deletion.renaming import rename_back
from hmret.disk.deletion.tags.links import free_links, make_links
from hmret.disk.deletion.trash.erasing import erase
from hmret.disk.deletion.trash.intents import NO_CONTENT, Intent, Link, TrashEntry, find_entries
from hmret.disk.deletion.wholeness import check_layers, is_whole
from hmret.disk.layout import hex_of

__all__ = ["bring_back", "erase_rest", "follow", "main_of", "mend", "put_back"]


def put_back(
    folders: OpenFolders, intent: Intent, places: Sequence[TrashEntry], links: Iterable[Link] = ()
) -> bool:
    """Rename the folders of an image back to where they were, content first; returns whether the first of them is back.

    Those of `links` whose names nothing has taken are made first: cut off in between, all this is done again. A folder
    whose place has been taken stays where it is, and so does all of it once its erasing has begun. No timer is written: it
    starts anew.

    Raises:
        LayersGoneError: its data has gone, so it stays where it is.
        OSError: something could not be put back; it is done again at the next start.
    """
    ordered = sorted(places, key=lambda place: place.copy.repository != "")
    first = ordered[0]
    if folders.exists(f"{first.copy.parent}/{hex_of(intent.digest)}"):
        return False
    if not is_whole(folders.filesystem, folders.get(first.folder), first.name):
        return False
    check_layers(folders.filesystem, folders.data_fd, folders.get(first.folder), first.name)
    make_links(folders, free_links(folders, tuple(links)))
    if not rename_back(folders, first):
        return False
    for place in ordered[1:]:
        follow(folders, place)
    if not intent.is_content and intent.beside == NO_CONTENT:
        # What a call has made of metadata alone while the image was away would hide it.
        with suppress(OSError):
            clear_fresh_ghost(folders, intent.digest)
    return True


def follow(folders: OpenFolders, place: TrashEntry) -> bool:
    """Rename one more folder of an image back that is back itself; False where its place is taken, or it is not whole.

    Raises:
        OSError: it could not be put back.
    """
    return is_whole(folders.filesystem, folders.get(place.folder), place.name) and rename_back(folders, place)


def mend(
    folders: OpenFolders,
    intent: Intent,
    places: Sequence[TrashEntry],
    found: Found,
    links: Iterable[Link] = (),
) -> bool:
    """Put an image back, or make a ghost in its place whole, by what has come since; returns whether it is here, whole.

    Raises:
        LayersGoneError: its data has gone, so it stays where it is.
        OSError: something could not be put back; it is done again at the next start.
    """
    main = main_of(places)
    if main is None or found.arrival is Arrival.ITSELF:
        return False
    if found.arrival is Arrival.GHOST:
        if not heal(folders, main, found.parent):
            return False
        make_links(folders, free_links(folders, tuple(links)))
        for place in places:
            if place is not main:
                follow(folders, place)
        return True
    if found.arrival is Arrival.PROMOTION:
        # What it needs are the folders that it was to be made of.
        places = [place for place in places if place.copy.repository]
    return put_back(folders, intent, places, links)


def bring_back(folders: OpenFolders, intent: Intent, beside: Iterable[Link] = ()) -> bool:
    """Put an image back whole, with those of its tags that are free, wherever its folders stand.

    `beside`: tags that went with the folders that others had of its digest; while content stands, these lead to it.

    The caller lets nobody else work on this image meanwhile. What is left of it in the trash is erased. Returns whether it
    is back: its place may have been taken by something whole, or its erasing have begun.

    Raises:
        LayersGoneError: its data has gone, so it stays where it is.
        OSError: it could not be put back, or what is left of it not be erased; the next recovery finishes that.
    """
    places = find_entries(folders.filesystem, folders.data_fd, intent)
    found = look_for_arrivals(folders, intent, places)
    is_back = mend(folders, intent, places, found, intent.all_links)
    if not is_back and found.arrival is not Arrival.GHOST:
        # A ghost may have taken its place since that look.
        found = look_for_arrivals(folders, intent, places)
        is_back = found.arrival is Arrival.GHOST and mend(folders, intent, places, found, intent.all_links)
    if is_back:
        make_links(folders, free_links(folders, tuple(beside)))
        erase_rest(folders, intent)
    return is_back


def erase_rest(folders: OpenFolders, intent: Intent) -> None:
    """Erase what is left out of the cache of an image that is back.

    Raises:
        OSError: something could not be erased; the next recovery does that.
    """
    for place in find_entries(folders.filesystem, folders.data_fd, intent):
        erase(folders.filesystem, folders.data_fd, place.folder, place.name)


def main_of(places: Sequence[TrashEntry]) -> TrashEntry | None:
    """Find of the folders of one image the one that is it: content, or a repository's own where that goes alone."""
    return max(places, key=lambda place: place.number, default=None)
