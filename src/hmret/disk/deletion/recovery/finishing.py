"""Finishing one image's interrupted deletion, or undoing it, from whichever step it had reached.

The steps are those of `hmret.disk.deletion.retirement`. Each function here can be repeated: if it is
interrupted too, the next recovery finds one of the same situations again. The order within each is that of
the deletion itself, for the same reasons: leases and replacements are checked before tags go, tags go before
timers.
"""

from collections.abc import Sequence
from contextlib import closing

import attrs

from hmret.disk.deletion.cleaning import Cleaning, is_here
from hmret.disk.deletion.folder_renames import (
    hide_metadata,
    is_hidden_in_place,
    rename_aside,
    rename_back,
    rename_out,
    show_metadata,
)
from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.deletion.open_image import OpenImage
from hmret.disk.deletion.outcomes import Outcome, Retired
from hmret.disk.deletion.putting_back import erase_rest, mend, put_back
from hmret.disk.deletion.replacements import Replacement, find_replacement
from hmret.disk.deletion.tags.links import links_not_parked, resolve_parked_tags
from hmret.disk.deletion.trash.erasing import erase
from hmret.disk.deletion.trash.intents import Intent, Link, TrashEntry
from hmret.disk.deletion.trash.wholeness import LayersGoneError
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import inode_of
from hmret.disk.hypeman.retention_states.writing import clear_state
from hmret.disk.layout import METADATA, hex_of
from hmret.model.deletion import Failed, Kept
from hmret.model.verdicts import Reason


def finish(filesystem: Filesystem, data_fd: int, places: Sequence[TrashEntry]) -> Outcome:
    """Finish an interrupted deletion, or undo it where a process has a disk open or the image is needed again.

    The caller makes sure that nothing else works on this image. `places`: where its folders are. Of an image
    with content, either the content is out of the cache, or nothing is.
    """
    intent = places[0].intent
    with closing(OpenFolders(filesystem, data_fd)) as folders:
        image = OpenImage(folders, intent, places=sorted(places, key=lambda place: place.number))
        try:
            return _finish(image)
        except OSError as error:
            return Failed(intent, image.places[0].path, error, unfinished=True)


def finish_hidden(filesystem: Filesystem, data_fd: int, intent: Intent) -> None:
    """Move a folder out of sight whose metadata was hidden right before a crash; hidden counts as renamed.

    If there is metadata beside the hidden one, a pull has begun in the folder since, and the folder now
    belongs to the pull.

    Raises:
        OSError: one could not be moved.
    """
    with closing(OpenFolders(filesystem, data_fd)) as folders:
        for number, copy in enumerate(intent.copies):
            if is_hidden_in_place(folders, intent, number):
                if folders.exists(f"{copy.parent}/{hex_of(intent.digest)}/{METADATA}"):
                    show_metadata(folders, copy.parent, hex_of(intent.digest))
                else:
                    rename_aside(folders, intent, number)


def undo_copies(filesystem: Filesystem, data_fd: int, places: Sequence[TrashEntry]) -> None:
    """Rename the owners' own folders back where their content still exists; one whose place is taken is erased.

    Raises:
        OSError: one could not be renamed or erased.
    """
    with closing(OpenFolders(filesystem, data_fd)) as folders:
        for place in places:
            if not rename_back(folders, place):
                erase(filesystem, data_fd, place.folder, place.name)


def resolve_tags(filesystem: Filesystem, data_fd: int, intent: Intent) -> None:
    """Resolve the tags that are set aside of an image whose deletion has not begun, or is undone.

    Raises:
        OSError: one could not be resolved.
    """
    with closing(OpenFolders(filesystem, data_fd)) as folders:
        resolve_parked_tags(folders, intent, is_here(folders, intent))


def finish_gone(filesystem: Filesystem, data_fd: int, intent: Intent) -> Retired:
    """Remove the tags and timers of an image whose folders no longer exist anywhere."""
    with closing(OpenFolders(filesystem, data_fd)) as folders:
        return Cleaning(folders).clean_up(intent, (), None)


def _finish(image: OpenImage) -> Outcome:
    folders, intent = image.folders, image.intent
    gone: tuple[Link, ...] = ()
    links = intent.links
    unresolved: OSError | None = None
    try:
        # guard(parked-tags-first): hypeman may have moved a tag before it was set aside. That goes back while its
        # name is free, before the image's own tags are made again.
        gone = resolve_parked_tags(folders, intent, is_here(folders, intent))
    except OSError as error:
        unresolved, links = error, links_not_parked(folders, intent)
    _rename_out_rest(image)
    try:
        image.open_in_trash()
        # A partly erased image does not come back, so it needs no lease: a process has its disk open by
        # another name.
        is_free = not image.is_complete or image.lease()
    finally:
        image.close()
    not_put_back = ""
    try:
        # guard(crash-spares-open-disk): After a crash, an image whose disk is open by now returns to the
        # cache instead of being erased.
        is_back = not is_free and put_back(folders, intent, image.places, links)
        if not is_back:
            for place in image.places:
                if place.is_aside:
                    hide_metadata(folders, place.folder, place.name)
            found = find_replacement(folders, intent, image.places)
            is_back = found.replacement is not Replacement.NOTHING and mend(
                folders, intent, image.places, found, links
            )
    except LayersGoneError as error:
        is_back, not_put_back = False, str(error.strerror)
    if unresolved is not None:
        raise unresolved
    if is_back:
        erase_rest(folders, intent)
        for key in intent.keys:
            clear_state(folders.filesystem, folders.data_fd, key)
        return Kept(intent, Reason.OPEN)
    cleaning = Cleaning(folders)
    retired = cleaning.clean_up(intent, image.places, None, gone=gone)
    cleaning.remove_empty_folders()
    return attrs.evolve(retired, not_put_back=not_put_back)


def _rename_out_rest(image: OpenImage) -> None:
    """Rename out the owners' own folders that are still in the cache, now that their content is out."""
    folders, intent = image.folders, image.intent
    if not intent.is_content:
        return
    already_out = {place.number for place in image.places}
    for number, copy in enumerate(intent.copies):
        if number in already_out or not copy.repository:
            continue
        parent_fd = folders.find(copy.parent)
        if parent_fd is None or inode_of(folders.filesystem, parent_fd, hex_of(intent.digest)) != copy.inode:
            continue
        place = rename_out(folders, intent, number)
        if place is not None:
            image.places.append(place)
    image.places.sort(key=lambda place: place.number)
