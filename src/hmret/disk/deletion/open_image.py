"""The folders of one image, open and leased while it is renamed out of the cache."""

from contextlib import suppress

import attrs

from hmret.disk.deletion.digest_folder import DigestFolder, open_digest_folder
from hmret.disk.deletion.folder_renames import is_hidden_in_place, rename_back, rename_out, show_metadata
from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.deletion.trash.intents import Intent, TrashEntry, entry_in_trash, find_entries
from hmret.disk.folders import inode_of
from hmret.disk.layout import HIDDEN_METADATA, hex_of
from hmret.model.values import define


@define(eq=False)
class OpenImage:
    """The folders of one unit, content with its copies or an own folder; closing them releases the leases."""

    folders: OpenFolders
    intent: Intent
    opened: dict[int, DigestFolder] = attrs.field(factory=dict)
    """By their numbers in the intent, in the order in which they are renamed."""
    places: list[TrashEntry] = attrs.field(factory=list)
    """Where the renamed folders are, content last."""
    lease_error: OSError | None = None
    """Why leases are not offered here."""
    has_begun: bool = False
    """Whether something of it may have been renamed."""

    def open_in_cache(self) -> None:
        """Open all its folders in the cache.

        Raises:
            OSError: one cannot be opened.
        """
        for number, copy in enumerate(self.intent.copies):
            self._open(number, copy.parent, hex_of(self.intent.digest))

    def open_in_trash(self) -> None:
        """Open its folders where they have been renamed to.

        Raises:
            OSError: one cannot be opened.
        """
        for place in self.places:
            self._open(place.number, place.folder, place.name)

    @property
    def is_complete(self) -> bool:
        """Whether all its folders are open, each with metadata and a disk: until its erasing has begun."""
        return len(self.opened) == len(self.intent.copies) and all(
            folder.is_complete for folder in self.opened.values()
        )

    def lease(self) -> bool:
        """Take write leases on all its files; False if any other process has one of them open.

        Raises:
            OSError: that could not be determined.
        """
        for folder in self.opened.values():
            is_free = folder.lease()
            if folder.lease_errors and self.lease_error is None:
                self.lease_error = folder.lease_errors[0]
            if not is_free:
                return False
        return True

    def note_renamed(self, *, is_closed: bool) -> None:
        """Record that its only folder has been renamed into the trash, and perhaps closed since."""
        [(number, folder)] = self.opened.items()
        self.has_begun = True
        self.places = [entry_in_trash(self.intent, folder.files, number)]
        if is_closed:
            self.opened.clear()

    def rename_out(self) -> bool:
        """Rename its folders out of the cache, content last; False where a pull has begun in one of them.

        A folder that is recorded as renamed is checked in the trash, as if the rename had happened here.

        A folder that has gone, or is a different one, has been deleted by another program, and perhaps pulled
        again: it stays as it is. After False, and after an error, `undo` puts back what was renamed.

        Raises:
            OSError: one could not be renamed.
        """
        filesystem, intent = self.folders.filesystem, self.intent
        hexadecimal = hex_of(intent.digest)
        renamed, self.places = {place.number: place for place in self.places}, []
        # guard(content-goes-last): While content stands, every lookup finds what it found before, and a crash
        # undoes the rest; so it is renamed last.
        for number, folder in self.opened.items():
            parent = intent.copies[number].parent
            place = renamed.get(number)
            if (
                place is None
                and intent.is_content
                and inode_of(filesystem, self.folders.get(parent), hexadecimal) != folder.inode
            ):
                continue
            self.has_begun = True
            place = place or rename_out(self.folders, intent, number, folder.files)
            if place is None:
                return False
            if intent.is_content and (
                inode_of(filesystem, self.folders.get(place.folder), place.name) != folder.inode
            ):
                # A different folder has taken its place at that very moment.
                rename_back(self.folders, place)
                continue
            self.places.append(place)
        if intent.is_content:
            for number in self.opened:
                filesystem.fsync(self.folders.get(intent.copies[number].parent))
            for folder_path in dict.fromkeys(place.folder for place in self.places):
                filesystem.fsync(self.folders.get(folder_path))
        return True

    def undo(self) -> None:
        """Put back what was renamed, in reverse order, as far as that is possible."""
        for place in reversed(self.places):
            with suppress(OSError):
                rename_back(self.folders, place)
        for number, folder in self.opened.items():
            with suppress(OSError):
                if HIDDEN_METADATA not in folder.found and is_hidden_in_place(
                    self.folders, self.intent, number
                ):
                    parent = self.intent.copies[number].parent
                    show_metadata(self.folders, parent, hex_of(self.intent.digest))

    def is_left_out(self) -> bool:
        """Return whether something of it is, or may be, out of the cache, after a rename has failed."""
        if not self.has_begun:
            return False
        try:
            return bool(find_entries(self.folders.filesystem, self.folders.data_fd, self.intent)) or any(
                is_hidden_in_place(self.folders, self.intent, number)
                for number, folder in self.opened.items()
                if HIDDEN_METADATA not in folder.found
            )
        except OSError:
            return True

    def came_between(self) -> bool:
        """Return whether a process opened or changed a folder between last look and rename, or might have."""
        for place in self.places:
            try:
                folder_fd = self.folders.get(place.folder)
                if not self.opened[place.number].is_unchanged(
                    folder_fd, place.name, is_hidden=place.is_aside
                ):
                    return True
            except OSError:
                return True
        return False

    def close(self) -> None:
        """Close the folders, which releases the leases."""
        while self.opened:
            self.opened.popitem()[1].close()

    def _open(self, number: int, parent: str, name: str) -> None:
        held = [identity for folder in self.opened.values() for identity in folder.open_files]
        self.opened[number] = open_digest_folder(
            self.folders.filesystem, self.folders.get(parent), name, held
        )
