"""Looking at all guests and snapshots, and reading again what those refer to whose files have changed."""

import os
import stat
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

import attrs
import msgspec

from hmret.disk.filesystem import Filesystem
from hmret.disk.fingerprints import Fingerprint, stable_fingerprint
from hmret.disk.folders import opened
from hmret.disk.hypeman.saved_states import is_still_saved
from hmret.disk.layout import REFERENCE_FILES
from hmret.disk.records.folders import mark_of, printable_name
from hmret.disk.scans.reference_reading import (
    SAVED_STATES,
    ReadAhead,
    fault_of,
    is_absent,
    read_reference_file,
)
from hmret.disk.scans.reference_watch import ReferenceFile, ReferenceWatch
from hmret.model.records.folders import FolderMark, FolderSeen
from hmret.model.values import define, frozen

__all__ = [
    "NOTHING_KNOWN",
    "ReferenceFile",
    "ReferenceLook",
    "list_guests",
    "look_at_references",
    "read_reference_files",
]

_LIST = os.O_RDONLY | os.O_DIRECTORY
# Files examined between two pauses: some 50 microseconds.
_STEP = 16


@frozen
class _Listing:
    """The names in the folder of all guests, or of all snapshots."""

    fingerprint: Fingerprint | None
    names: tuple[str, ...]
    files: tuple[ReferenceFile | None, ...] | None = None
    """The result of each file at the last look, None: no file; None for all: not looked at yet."""
    mark: FolderMark | None = None
    """The identity of that folder."""
    watch: ReferenceWatch | None = None
    """Finds the files that have changed."""

    def holding(self, files: tuple[ReferenceFile | None, ...], watch: ReferenceWatch) -> "_Listing":
        """Return the listing with the result of each file; the same object where that is known."""
        return self if files is self.files else attrs.evolve(self, files=files, watch=watch)

    @cached_property
    def seen(self) -> FolderSeen:
        """The folder, and the names of those in it that have their file."""
        named = zip(self.names, self.files or (), strict=False)
        return FolderSeen(
            self.mark, frozenset(printable_name(name) for name, file in named if file is not None)
        )


@frozen
class ReferenceLook:
    """The results of one look at all guests and snapshots; without a change, the previous ones are returned."""

    files: Mapping[str, ReferenceFile]
    """By source: `instance/ID`, `snapshot/ID`; or by the name of a folder that could not be listed."""
    listings: Mapping[str, _Listing] = attrs.field(factory=dict, repr=False, eq=False)
    absent: tuple[str, ...] = attrs.field(default=(), eq=False)
    """Folders that do not exist."""
    unlisted: Mapping[str, ReferenceFile] = attrs.field(factory=dict, repr=False, eq=False)
    """Last results, by source, of the files in folders that do not exist or could not be listed."""

    def known(self, source: str) -> ReferenceFile | None:
        """Return the last result of one file; None: there is none."""
        return self.files.get(source) or self.unlisted.get(source)

    def remembered(self) -> Mapping[str, ReferenceFile]:
        """Return the last result of each file, those that could not be looked at included."""
        return {**self.unlisted, **self.files} if self.unlisted else self.files

    def folders(self) -> Mapping[str, FolderSeen]:
        """Return the identities of these folders, except those that could not be listed."""
        gone = {folder: FolderSeen(None) for folder in self.absent}
        return {**gone, **{folder: listing.seen for folder, listing in self.listings.items()}}


NO_FILES: Mapping[str, ReferenceFile] = {}
NOTHING_KNOWN = ReferenceLook(NO_FILES)


def list_guests(filesystem: Filesystem, data_fd: int) -> list[str]:
    """List the guests and snapshots, by source, as far as they can be listed."""
    sources: list[str] = []
    for kind, folder, _ in REFERENCE_FILES:
        try:
            with opened(filesystem, filesystem.open(folder, _LIST, dir_fd=data_fd)) as fd:
                sources.extend(f"{kind}/{name}" for name in _names(filesystem, fd))
        except OSError:
            continue
    return sources


def read_reference_files(
    filesystem: Filesystem,
    data_fd: int,
    sources: Iterable[str],
    pause: Callable[[], None] = lambda: None,
    known: Mapping[str, ReferenceFile] = NO_FILES,
) -> dict[str, ReferenceFile]:
    """Read the files of some guests and snapshots; returns the results by source, without absent ones.

    `known`: what they were found to hold before.
    """
    chosen = set(sources)
    found: dict[str, ReferenceFile] = {}
    for kind, folder, file_name in REFERENCE_FILES:
        names = [source.removeprefix(f"{kind}/") for source in chosen if source.startswith(f"{kind}/")]
        if not names:
            continue
        with opened(filesystem, filesystem.open(folder, _LIST, dir_fd=data_fd)) as fd:
            read = ReadAhead(filesystem, fd, [f"{name}/{file_name}" for name in names], pause)
            for name in names:
                pause()
                source = f"{kind}/{name}"
                file = read_reference_file(read, (kind, folder, name, file_name), known.get(source))
                if file is not None:
                    found[source] = file
    return found


def look_at_references(
    filesystem: Filesystem,
    data_fd: int,
    known: ReferenceLook = NOTHING_KNOWN,
    pause: Callable[[], None] = lambda: None,
) -> ReferenceLook:
    """Look at every guest and snapshot.

    `known` is the result of the last look: a file whose `stat` has not changed is not read again. A guest's
    folder without metadata is a guest being made, and is left out; so is one that has gone.
    """
    looking = _Looking(filesystem, known, pause)
    for kind, folder, file_name in REFERENCE_FILES:
        try:
            folder_fd = filesystem.open(folder, _LIST, dir_fd=data_fd)
        except OSError as error:
            if not (isinstance(error, FileNotFoundError) and is_absent(filesystem, folder, data_fd)):
                looking.files[folder] = ReferenceFile(folder, problem=fault_of(error))
                looking.is_new = True
            else:
                looking.absent.append(folder)
            # A record of an earlier engine comes without listings, and may be of this folder.
            is_known = not known.listings or folder in known.listings or folder in known.files
            looking.is_new = looking.is_new or is_known
            looking.remember(kind)
            continue
        with opened(filesystem, folder_fd):
            try:
                listing = _list(filesystem, folder_fd, known.listings.get(folder))
            except OSError as error:
                looking.files[folder] = ReferenceFile(folder, problem=fault_of(error))
                looking.is_new = True
                looking.remember(kind)
                continue
            looking.look(folder_fd, listing, (kind, folder, file_name))
    if looking.is_new:
        looking.gather()
        looking.is_new = looking.files != known.files
    files = looking.files if looking.is_new else known.files
    return ReferenceLook(files, looking.listings, tuple(looking.absent), looking.unlisted)


@define(eq=False)
class _Looking:
    """One look, in progress."""

    filesystem: Filesystem
    known: ReferenceLook
    pause: Callable[[], None]
    files: dict[str, ReferenceFile] = attrs.field(factory=dict)
    listings: dict[str, _Listing] = attrs.field(factory=dict)
    absent: list[str] = attrs.field(factory=list)
    unlisted: dict[str, ReferenceFile] = attrs.field(factory=dict)
    is_new: bool = False
    """Whether anything has changed."""

    def remember(self, kind: str) -> None:
        """Keep the last results of files that cannot be looked at, for a later look."""
        # guard(unlisted-folder-is-remembered): A guest whose metadata is missing by the time its folder is back goes
        # on protecting what it named.
        self.unlisted.update(
            (source, file)
            for source, file in self.known.remembered().items()
            if source.startswith(f"{kind}/")
        )

    def look(self, folder_fd: int, listing: _Listing, where: tuple[str, str, str]) -> None:
        """Examine the files of all guests, or of all snapshots; most are known and have not changed."""
        kind, folder, file_name = where
        pause = self.pause
        known = listing.files
        if known is None:
            known = tuple(self.known.known(f"{kind}/{name}") for name in listing.names)
            self.is_new = True
        elif listing.names is not self.known.listings[folder].names:
            self.is_new = True
        watch = listing.watch or ReferenceWatch.of(listing.names, file_name, known)
        renewed: dict[int, ReferenceFile | None] = {}
        due = watch.changed(self.filesystem, folder_fd)
        unknown = [number for number in due if known[number] is None]
        paths = [f"{listing.names[number]}/{file_name}" for number in unknown]
        read = ReadAhead(self.filesystem, folder_fd, paths, pause)
        for step, number in enumerate(due):
            if step % _STEP == 0:
                pause()
            name, file = listing.names[number], known[number]
            if file is not None and self._is_still(folder_fd, (kind, name, file_name), file):
                continue
            fresh = read_reference_file(read, (kind, folder, name, file_name), file)
            if fresh is None and file is not None and self._is_folder(folder_fd, name):
                # guard(guest-without-metadata): A guest whose metadata is missing may only lack its mount;
                # while its folder is there, what it named stays in use.
                fresh = _without_metadata(file)
            if fresh is not file:
                renewed[number] = fresh
        if renewed:
            self.is_new = True
            known = tuple(renewed.get(number, file) for number, file in enumerate(known))
            watch = watch.renewed(listing.names, file_name, renewed)
        self.listings[folder] = listing.holding(known, watch)

    def _is_still(self, folder_fd: int, where: tuple[str, str, str], file: ReferenceFile) -> bool:
        """Return whether a file, given by kind, name and file name, is unchanged, as far as is known."""
        kind, name, file_name = where
        fingerprint, saved = file.fingerprint, file.saved
        if fingerprint is None:
            return False
        try:
            status = self.filesystem.stat(f"{name}/{file_name}", dir_fd=folder_fd)
        except OSError:
            return False  # reading it fails again, and reports why
        # guard(rewritten-guest-is-read): A write changes the ctime, a replacement the inode: either way the
        # guest may need another image by now and is read again.
        if status.st_ctime_ns != fingerprint[4] or status.st_ino != fingerprint[1]:
            return False
        path = f"{name}/{SAVED_STATES[kind][0]}"
        return saved is None or is_still_saved(self.filesystem, folder_fd, path, saved)

    def _is_folder(self, folder_fd: int, name: str) -> bool:
        try:
            return stat.S_ISDIR(self.filesystem.stat(name, dir_fd=folder_fd).st_mode)
        except OSError:
            return False

    def gather(self) -> None:
        """Put the results together, by source."""
        for kind, folder, _ in REFERENCE_FILES:
            listing = self.listings.get(folder)
            if listing is not None:
                for name, file in zip(listing.names, listing.files or (), strict=True):
                    if file is not None:
                        self.files[f"{kind}/{name}"] = file


def _names(filesystem: Filesystem, fd: int) -> tuple[str, ...]:
    with filesystem.scandir(fd) as entries:
        return tuple(entry.name for entry in entries)


def _list(filesystem: Filesystem, fd: int, known: _Listing | None) -> _Listing:
    """List an open folder, unless its fingerprint shows that the names have not changed."""
    looked_ns = filesystem.now_ns()
    status = filesystem.fstat(fd)
    fingerprint = stable_fingerprint(status, looked_ns)
    # guard(guests-are-listed-again): A guest that was put in the place of another needs its own image, so a
    # changed folder is listed again.
    if known is not None and fingerprint is not None and known.fingerprint == fingerprint:
        return known
    names, mark = _names(filesystem, fd), mark_of(status)
    if known is None or known.files is None or known.watch is None:
        return _Listing(fingerprint, names, mark=mark)
    before, now = {*known.names}, {*names}
    gone = {number for number, name in enumerate(known.names) if name not in now}
    come = [name for name in names if name not in before]
    if not gone and not come:
        return attrs.evolve(known, fingerprint=fingerprint, mark=mark)
    names = (*(name for name in known.names if name in now), *come)
    left = (file for name, file in zip(known.names, known.files, strict=True) if name in now)
    files = (*left, *(None for _ in come))
    return _Listing(fingerprint, names, files, mark, known.watch.without(gone, names))


def _without_metadata(known: ReferenceFile) -> ReferenceFile | None:
    """Return what a guest goes on to refer to whose metadata is missing while its folder exists.

    Its own volume may not be mounted, so it protects what it named for as long as its folder exists.
    """
    # guard(torn-then-gone-still-protects): It may have been unreadable in between, as a volume that fails is before
    # it is unmounted.
    references = known.references or known.last_known
    if not references:
        return None
    if known.problem is None and known.fingerprint is None and known.references:
        return known
    return msgspec.structs.replace(
        known, references=references, problem=None, fingerprint=None, last_known=()
    )
