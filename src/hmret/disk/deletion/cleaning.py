"""The steps after an image's renames: removing its tags, its timers, and folders that are empty then."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

import attrs

from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.deletion.outcomes import Retired
from hmret.disk.deletion.tags.links import RemovedLinks, remove_recorded_links, resolve_parked_tags
from hmret.disk.deletion.trash.intents import Intent, Link, TrashEntry, entry_in_trash
from hmret.disk.folders import remove_empty_folders
from hmret.disk.hypeman.links import tag_folder
from hmret.disk.hypeman.retention_states.rereading import HeldState, look_at_state
from hmret.disk.hypeman.retention_states.writing import clear_state
from hmret.disk.layout import CONTENT, IMAGES, RETENTION, Layout, hex_of
from hmret.model.values import define


def is_here(folders: OpenFolders, intent: Intent) -> Callable[[str], bool]:
    """Return a function that says whether a repository's tags to an image's digest lead to something now."""
    hexadecimal = hex_of(intent.digest)
    return lambda repository: folders.any_exists(
        *(f"{IMAGES}/{parent}/{hexadecimal}" for parent in (CONTENT, repository))
    )


@define(eq=False)
class Cleaning:
    """Cleans up after the images of one batch."""

    folders: OpenFolders
    _left: set[str] = attrs.field(factory=set)
    """Repositories whose folders of the older layout may be empty now."""
    _untimed: set[str] = attrs.field(factory=set)
    """Repositories whose folders of timers may be empty now."""

    def clean_up(
        self,
        intent: Intent,
        places: Sequence[TrashEntry],
        held: Mapping[str, HeldState] | None,
        absent: Collection[str] = (),
        gone: Collection[Link] = (),
    ) -> Retired:
        """Remove the tags and the timers of an image that is out of the cache.

        Args:
            intent: the recorded intent.
            places: where its folders are now, content last.
            held: its timers, as they were when it was judged; None where the removal of its tags was interrupted.
                Tags that were set aside are resolved first then, and timers are compared by reading them again.
            absent: repositories in whose folders nothing has appeared, as was checked just now.
            gone: its tags that have already been removed for good.
        """
        faults: list[tuple[str, str]] = []
        resolved: tuple[Link, ...] = ()
        removed = RemovedLinks((), ())
        try:
            if held is None:
                resolved = resolve_parked_tags(self.folders, intent, is_here(self.folders, intent))
            removed = remove_recorded_links(self.folders, intent, is_here(self.folders, intent), absent)
            faults.extend(removed.faults)
        except OSError as error:
            faults.append((IMAGES, os.strerror(error.errno or 0)))
        gone = (*removed.removed, *resolved, *gone)
        links = tuple(link for link in intent.links if link in gone)
        for row in intent.rows:
            try:
                # guard(timer-goes-on-as-content): A repository that still has the content beside this folder
                # keeps its timer; its window does not start over.
                if not self._lives_on(intent, row.repository):
                    # guard(old-timer-goes-with-image): A later pull of the same digest must not inherit the
                    # old timer, or it would be due at once.
                    self._remove_state(intent, row.repository, row.unused_since_ns, held or {})
            except OSError as error:
                faults.append((f"state of {row.repository}@{intent.digest}", os.strerror(error.errno or 0)))
        return self.note_gone(intent, places, links, faults)

    def note_gone(
        self,
        intent: Intent,
        places: Sequence[TrashEntry],
        links: tuple[Link, ...],
        faults: Sequence[tuple[str, str]] = (),
    ) -> Retired:
        """Record that an image has gone, with these of its tags; returns the outcome."""
        self._untimed |= intent.repositories
        self._left.update(copy.repository for copy in intent.copies if copy.repository)
        self._left.update(link.repository for link in intent.links if link.layout is Layout.LEGACY)
        places = tuple(places) or (entry_in_trash(intent, number=len(intent.copies) - 1),)
        return Retired(intent, places, links, tuple(faults))

    def remove_empty_folders(self) -> None:
        """Remove the folders that the removals left empty.

        Those below `repositories/` are kept: hypeman makes such a folder before it makes the tag in it, and a
        client that finds an image gone may pull it again in that very second.
        """
        self.folders.close()
        for root, repositories in ((IMAGES, self._left), (RETENTION, self._untimed)):
            for repository in sorted(repositories):
                with suppress(OSError):
                    remove_empty_folders(self.folders.filesystem, self.folders.get(root), repository)

    def _lives_on(self, intent: Intent, repository: str) -> bool:
        """Return whether a row continues, with its timer, as a row of the content beside its own folder."""
        return (
            not intent.is_content
            and intent.content_status == "ready"
            and self.folders.exists(f"{IMAGES}/{CONTENT}/{hex_of(intent.digest)}")
            and any(self._is_seen(link) for link in intent.links if link.tag in intent.tags_of(repository))
        )

    def _is_seen(self, link: Link) -> bool:
        """Return whether a tag of the older layout exists and nothing shadows it."""
        places = (tag_folder(layout, link.repository) for layout in (Layout.CONTENT, Layout.LEGACY))
        is_shadowed, is_there = (self.folders.exists(f"{place}/{link.tag}") for place in places)
        # A shadowed tag may have been removed with the tag that shadowed it.
        return link.layout is Layout.LEGACY and is_there and not is_shadowed

    def _remove_state(
        self, intent: Intent, repository: str, since_ns: int, held: Mapping[str, HeldState]
    ) -> None:
        """Remove the state that the intent names; one that has replaced it since belongs to another image."""
        key = repository, intent.digest
        state = held.get(repository)
        folder_fd = self.folders.find(f"{RETENTION}/{repository}")
        if folder_fd is None:
            return
        if state is not None:
            state.folder_fd = folder_fd
            if state.is_unchanged():
                state.remove()
                return
        # guard(only-the-recorded-timer-goes): Since the crash a fresh pull may have got a timer of its own;
        # only the one on record goes.
        if look_at_state(self.folders.filesystem, self.folders.data_fd, key) == since_ns:
            clear_state(self.folders.filesystem, self.folders.data_fd, key)
