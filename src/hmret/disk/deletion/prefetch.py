"""Prefetching images, some at a time, and deleting each in one call, where the native core offers that.

This is for images of which one folder goes and nothing is out of the ordinary, which are nearly all. They are
judged by the same rules as every other image; what is prefetched of one is only what the disk returned. Whatever
turns out to be unexpected, from the leases to the last timer, is left, from that step on, to the steps that
every other image takes (`hmret.disk.deletion.retirement`).
"""

import errno
from collections.abc import Iterable, Mapping, Sequence

import attrs

from hmret.disk.deletion.digest_folder import DigestFolder, make_digest_folder
from hmret.disk.deletion.examination import Examined
from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.deletion.open_image import OpenImage
from hmret.disk.deletion.tags.links import parked_name
from hmret.disk.deletion.trash.intents import NO_CONTENT, Intent, Link
from hmret.disk.filesystem import Step
from hmret.disk.fingerprints import SETTLING_NS
from hmret.disk.folders import CHUNK
from hmret.disk.hypeman.retention_states.rereading import SettledState, read_settled_states
from hmret.disk.layout import CONTENT, DIGEST_HEX, IMAGES, METADATA, RETENTION, TRASH, hex_of
from hmret.model.values import define

AT_ONCE = 16
"""Images prefetched at a time: an embedding server may have few descriptors to spare."""

_MOST_ROWS = 8
"""The most rows of an image that is prefetched: each has an open folder of its own."""

_OF_ONE_IMAGE = frozenset((errno.EAGAIN, errno.ESTALE))
"""The image is open in another process, or has changed: that proves nothing about other images."""


@define(eq=False)
class PrefetchedImage:
    """One unit with a single folder, as it was when it was opened."""

    folders: OpenFolders
    intent: Intent
    folder: DigestFolder
    timers: Mapping[str, SettledState]
    """By repository."""
    gone: tuple[Link, ...] = ()
    """Its tags that have been removed for good."""
    error: int = 0
    """Why the single call has stopped (errno)."""
    _is_taken: bool = False

    def close(self) -> None:
        """Close what is still open of it."""
        if not self._is_taken:
            self.folder.close()

    def open_image(self) -> OpenImage:
        """Turn it into an image that is open in the cache and that closes it from then on."""
        self._is_taken = True
        return OpenImage(self.folders, self.intent, {0: self.folder})

    def carry_out(self, image: OpenImage, *, takes_leases: bool) -> Step:
        """Rename it out of the cache, remove its tags and timers; returns how far it got if anything is unexpected.

        Raises:
            OSError: one of the folders that are needed cannot be opened; nothing was changed.
        """
        folders, intent, folder = self.folders, self.intent, self.folder
        copy, hexadecimal = intent.copies[0], hex_of(intent.digest)
        trash_fd, links = folders.get(TRASH), intent.links
        metadata = folder.metadata_name
        # guard(replacements-in-every-place): A pull may bring the image back as content or in a repository's
        # folder; tags go only if it is in neither.
        paths = [f"{IMAGES}/{name}/{hexadecimal}" for name in (CONTENT, *intent.repositories)]
        marks = [mark for timer in self.timers.values() for mark in timer.found]
        step, self.error, gone = folders.filesystem.retire_folder(
            (
                folders.data_fd,
                folders.get(copy.parent),
                trash_fd,
                folder.folder_fd,
                folder.descriptors[metadata],
            ),
            (hexadecimal, copy.name),
            (
                folder.inode,
                folder.stable_mtime_ns or 0,
                folder.found[metadata].st_ctime_ns,
                intent.is_content,
                takes_leases,
            ),
            [*folder.descriptors.values()],
            paths,
            (
                [folders.get(link.parent) for link in links],
                [link.tag for link in links],
                [link.inode for link in links],
                [link.target for link in links],
                [parked_name(intent, number) for number in range(len(links))],
            ),
            (
                [folders.get(f"{RETENTION}/{repository}") for repository in self.timers],
                [f"{hexadecimal}.json"] * len(self.timers),
                marks,
            ),
        )
        self.gone = tuple(links[len(links) - gone :])
        # guard(leases-of-call-remembered): The later checks ask the leases taken in the single call as well;
        # otherwise a process that opened the disk goes unseen.
        if takes_leases and step >= Step.LEASED:
            folder.leased.update(folder.descriptors)
        if step >= Step.RENAMED:
            image.note_renamed(is_closed=step >= Step.CLOSED)
        return Step(step)


@define(eq=False)
class Prefetch:
    """Holds images of a batch, some at a time."""

    folders: OpenFolders
    _fetched: dict[str, PrefetchedImage] = attrs.field(factory=dict)
    """By the name of the intent."""
    _is_off: bool = False
    """Whether prefetching gains nothing here."""

    def fetch(self, images: Iterable[Examined]) -> None:
        """Prefetch, in place of those before, the ordinary images among some, each with a single folder."""
        self.close()
        few: list[Examined] = []
        fds: list[int] = []
        for item in () if self._is_off else images:
            fd = self._parent_of(item)
            if fd is not None:
                few.append(item)
                fds.append(fd)
        if not few:
            return
        filesystem = self.folders.filesystem
        looked_ns = filesystem.now_ns()
        names = [hex_of(item.intent.digest) for item in few]
        answers = filesystem.hold_folders(fds, names, METADATA, CHUNK)
        self._is_off = not answers
        opened: dict[str, DigestFolder] = {}
        for item, answer in zip(few, answers, strict=False):
            if isinstance(answer, int):
                continue
            try:
                opened[item.intent.name] = make_digest_folder(filesystem, answer, looked_ns)
            except OSError:
                # It is reported when its turn comes.
                continue
        timers = self._read_timers([item for item in few if item.intent.name in opened])
        for item in few:
            folder = opened.get(item.intent.name)
            if folder is None:
                continue
            its = {
                name: timer
                for name in item.intent.repositories
                if (timer := timers.get((name, item.intent.digest))) is not None
            }
            if _is_ordinary(folder, looked_ns) and len(its) == len(item.intent.rows):
                self._fetched[item.intent.name] = PrefetchedImage(self.folders, item.intent, folder, its)
            else:
                folder.close()

    def take(self, item: Examined) -> PrefetchedImage | None:
        """Return an image that was prefetched, which the caller then closes; None: it was not."""
        prefetched = self._fetched.pop(item.intent.name, None)
        if prefetched is not None and self._is_off:
            prefetched.folder.close()
            return None
        return prefetched

    def learn(self, prefetched: PrefetchedImage, step: Step) -> None:
        """Stop prefetching where the reason that stopped one is the same for every other."""
        if step <= Step.LEASED and prefetched.error not in _OF_ONE_IMAGE:
            self._is_off = True

    def close(self) -> None:
        """Close what was prefetched and not taken."""
        while self._fetched:
            self._fetched.popitem()[1].folder.close()

    def _parent_of(self, item: Examined) -> int | None:
        """Open the parent of an image's single folder; None: it has several folders, or stays."""
        intent = item.intent
        if (
            item.stays is not None
            or DIGEST_HEX.fullmatch(hex_of(intent.digest)) is None
            or len(intent.copies) != 1
            or intent.staying
            or intent.content_status != NO_CONTENT
            or len(intent.rows) > _MOST_ROWS
        ):
            return None
        try:
            return self.folders.find(intent.copies[0].parent)
        except OSError:
            return None

    def _read_timers(self, images: Sequence[Examined]) -> Mapping[tuple[str, str], SettledState]:
        """Read the timers of some images, each folder in one call."""
        digests: dict[str, list[str]] = {}
        for item in images:
            for row in item.intent.rows:
                digests.setdefault(row.repository, []).append(item.intent.digest)
        timers: dict[tuple[str, str], SettledState] = {}
        for repository, few in digests.items():
            try:
                fd = self.folders.find(f"{RETENTION}/{repository}")
            except OSError:
                continue
            if fd is not None:
                found = read_settled_states(self.folders.filesystem, fd, repository, few)
                timers.update(((repository, digest), timer) for digest, timer in found.items())
        return timers


def _is_ordinary(folder: DigestFolder, looked_ns: int) -> bool:
    """Return whether a folder holds only files with one name each, and time stamps would show any change."""
    metadata = folder.found.get(folder.metadata_name)
    # guard(second-name-takes-slow-path): A disk with a second hard link may be open twice in one batch and
    # then gets no lease; it would seem to be in use.
    return (
        metadata is not None
        and folder.fault is None
        and not folder.other_entries
        and folder.stable_mtime_ns is not None
        and metadata.st_ctime_ns <= looked_ns - SETTLING_NS
        and all(found.st_nlink == 1 for found in folder.found.values())
    )
