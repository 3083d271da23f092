"""Which disks the saved states of guests and snapshots open.

A hypervisor's saved state is accompanied by a configuration with the path of each disk that a restore opens:
`…/images/<repository>/<hex>/…` or `…/images/content/<hex>/…`. Its form is up to the hypervisor (JSON, with or
without escaped slashes, or binary, with text of one or more bytes a character), so it is searched as bytes.
Every small file is searched; a large one is the guest's memory or a disk.
"""

import re
import stat
from collections.abc import Callable, Iterator

import attrs
import msgspec

from hmret.disk.filesystem import Filesystem, Stat
from hmret.disk.fingerprints import Fingerprint, stable_fingerprint
from hmret.disk.folders import READ, opened, opened_folder, read_sized_file
from hmret.disk.layout import CONTENT, HEX_DIGITS, digest_of
from hmret.model.references import is_repository
from hmret.model.values import define

LARGEST_SEARCHED = 1 << 20
"""In bytes; no configuration comes close to this size."""

_LONGEST_PATH = 1024
"""Bytes between `images` and a digest, however the slashes are written."""
# A slash is written plainly; in JSON also with backslashes before it or as a code point; in a URL as a code.
_SLASH = rb"(?:\\*/|\\+u002f|%2f)"
_SLASHES = re.compile(rb"%b+(?:\.%b+)*" % (_SLASH, _SLASH), re.IGNORECASE)
_DIGESTS = (re.compile(rb"/([0-9a-f]{%d})" % HEX_DIGITS), re.compile(rb"2[fF]([0-9a-f]{%d})" % HEX_DIGITS))
_IMAGES = b"images/"
_WORD = b"images"


class SavedState(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What was found below the folder of a saved state."""

    images: tuple[str, ...] | None = None
    """The images whose disks it opens, as references by digest; None: there is no saved state."""
    entries: tuple[tuple[str, Fingerprint], ...] | None = ()
    """The folders and files that were examined, with the fingerprints that must still hold for this to be
    valid; empty: there is no such folder. None: something had just changed, so all of it is read again.
    """


NO_SAVED_STATE = SavedState()


class UnreadableSavedStateError(OSError):
    """Part of a saved state exists but cannot be read; `filename`: its path below the searched folder."""


@define(eq=False)
class _Search:
    """A search through one folder, in progress."""

    filesystem: Filesystem
    dir_fd: int
    looked_ns: int
    marker: str
    """A folder at any depth whose files are a saved state even if they name no disk; empty: every file is."""
    found: set[str] = attrs.field(factory=set)
    entries: list[tuple[str, Fingerprint]] = attrs.field(factory=list)
    is_stable: bool = True
    is_saved_state: bool = False

    def note(self, path: str, found: Stat) -> None:
        """Record the fingerprint of a path, by which a change of it will show."""
        fingerprint = stable_fingerprint(found, self.looked_ns)
        if fingerprint is None:
            self.is_stable = False
        else:
            self.entries.append((path, fingerprint))

    def look(self, path: str) -> list[str]:
        """Examine one path; returns the entries in it, where it is a folder."""
        try:
            status = self.filesystem.stat(path, dir_fd=self.dir_fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                return self._list(path)
            self.note(path, status)
            if not self.marker or f"/{self.marker}/" in path:
                self.is_saved_state = True
            # Pipes and devices are not opened, and no link is followed.
            if stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST_SEARCHED:
                self._search(path)
        except (FileNotFoundError, NotADirectoryError):
            # It is being written, or removed.
            self.is_stable = False
        except OSError as error:
            # guard(unreadable-state-suspends): A saved state that exists but cannot be read may name any
            # image, so it suspends deletion.
            raise UnreadableSavedStateError(error.errno, error.strerror or str(error), path) from None
        return []

    def _list(self, path: str) -> list[str]:
        with opened_folder(self.filesystem, path, self.dir_fd) as fd:
            self.note(path, self.filesystem.fstat(fd))
            with self.filesystem.scandir(fd) as entries:
                return [f"{path}/{entry.name}" for entry in entries]

    def _search(self, path: str) -> None:
        with opened(self.filesystem, self.filesystem.open(path, READ, dir_fd=self.dir_fd)) as fd:
            status = self.filesystem.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_SEARCHED:
                self.is_stable = False
                return
            self.found.update(disks_named_in(read_sized_file(self.filesystem, fd, status.st_size)))


def read_saved_state(
    filesystem: Filesystem,
    dir_fd: int,
    path: str,
    *,
    known: SavedState | None = None,
    marker: str = "",
    pause: Callable[[], None] = lambda: None,
) -> SavedState:
    """Search the folder of a saved state, at a path below an open folder, for the disks that it opens.

    Links are not followed: a link counts as part of the saved state, but its target is not searched.

    Args:
        filesystem: the system calls.
        dir_fd: the open folder.
        path: the folder to search.
        known: the result of the last search. Where nothing has changed since, it is returned, and nothing is
            read.
        marker: the name of the folder in it that holds the saved state, among much else. Empty: everything in
            it does.
        pause: called between two files.

    Raises:
        UnreadableSavedStateError: part of it exists but cannot be read.
    """
    if known is not None and is_still_saved(filesystem, dir_fd, path, known):
        return known
    search = _Search(filesystem, dir_fd, filesystem.now_ns(), marker)
    try:
        status = filesystem.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return NO_SAVED_STATE
    except OSError as error:
        raise UnreadableSavedStateError(error.errno, error.strerror or str(error), path) from None
    if stat.S_ISLNK(status.st_mode):
        _refuse_hiding_link(filesystem, dir_fd, path)
    waiting = [path]
    while waiting:
        waiting.extend(search.look(waiting.pop()))
        pause()
    is_there = search.is_saved_state or bool(search.found)
    return SavedState(
        tuple(sorted(search.found)) if is_there else None,
        tuple(search.entries) if search.is_stable else None,
    )


def _refuse_hiding_link(filesystem: Filesystem, dir_fd: int, path: str) -> None:
    """Refuse a link in the place of the whole folder: it hides which disks the saved state opens."""
    try:
        leads_to = filesystem.stat(path, dir_fd=dir_fd)
    except OSError:
        return
    if stat.S_ISDIR(leads_to.st_mode):
        raise UnreadableSavedStateError(None, "is a link to a folder: use a bind mount instead", path)


def is_still_saved(filesystem: Filesystem, dir_fd: int, path: str, known: SavedState) -> bool:
    """Return whether nothing has changed in the folder of a saved state, or there still is none."""
    if known.entries is None:
        return False
    try:
        for entry, fingerprint in known.entries:
            status = filesystem.stat(entry, dir_fd=dir_fd, follow_symlinks=False)
            # guard(changed-state-read-again): A saved state that has changed may open other disks by now, so
            # it is searched again.
            if (status.st_dev, status.st_ino, status.st_ctime_ns) != (
                fingerprint[0],
                fingerprint[1],
                fingerprint[4],
            ):
                return False
        if not known.entries:
            filesystem.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return not known.entries
    except OSError:
        return False
    return bool(known.entries)


def disks_named_in(content: bytes) -> Iterator[str]:
    """List the images whose folders are named by path in some bytes, as references by digest.

    Content has no repository in its path; it is listed under the name `content`, since any repository may own
    the digest.
    """
    if b"\0" in content:
        # Text of more than one byte a character.
        yield from disks_named_in(content.replace(b"\0", b""))
    if _WORD not in content:
        return
    for digests in _DIGESTS:
        end = 0
        for match in digests.finditer(content):
            before = content[max(end, match.start(1) - _LONGEST_PATH) : match.start(1)]
            end = match.end()
            if _WORD in before:
                digest = digest_of(match[1].decode())
                yield from (f"{name}@{digest}" for name in _repositories_before(before))


def _repositories_before(before: bytes) -> Iterator[str]:
    """List the repositories that a path in front of a digest may lead to; `content` stands for all of them."""
    # guard(any-spelling-of-slashes): A configuration may write slashes escaped, encoded or doubled; the disk
    # it names is protected in every spelling.
    path = _SLASHES.sub(b"/", before)
    if not path.endswith(b"/"):
        return
    # A folder above the data directory can be called `images` too, and so can part of a repository.
    begin = path.find(_IMAGES)
    while begin >= 0:
        begin += len(_IMAGES)
        name = path[begin:-1].decode("ascii", "replace")
        if name == CONTENT or is_repository(name):
            yield name
        begin = path.find(_IMAGES, begin)
