"""Reading single retention states again, and holding them open until their image is gone."""

import errno
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress

from hmret.disk.filesystem import FileFound, Filesystem
from hmret.disk.fingerprints import SETTLING_NS
from hmret.disk.folders import (
    CHUNK,
    let_go,
    read_file,
    read_sized_file,
)
from hmret.disk.hypeman.documents import UnreadableError, read_state
from hmret.disk.layout import RETENTION, hex_of
from hmret.model.references import Key
from hmret.model.values import define, frozen

_NO_STATE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP))
"""The state is absent, or something else is in its place: a folder, or a link, which is not followed."""

_SUFFIX = ".json"


def look_at_state(filesystem: Filesystem, data_fd: int, key: Key) -> int | None:
    """Read one state again; None where there is none, it is unset, or the file holds no state.

    Raises:
        OSError: it exists but cannot be read.
    """
    repository, digest = key
    path = f"{RETENTION}/{repository}/{hex_of(digest)}.json"
    try:
        return read_state(read_file(filesystem, path, data_fd), repository, digest)
    except UnreadableError:
        return None
    except OSError as error:
        if error.errno in _NO_STATE:
            return None
        raise


@define(eq=False)
class HeldState:
    """One state, held open since it was read: while it is open, no other file can get its inode."""

    filesystem: Filesystem
    folder_fd: int
    name: str
    fd: int
    found: FileFound
    content: bytes
    unused_since_ns: int
    is_settled: bool
    """Whether its time stamps would show that it was overwritten."""

    def is_unchanged(self) -> bool:
        """Return whether the file still holds what was read, byte for byte.

        Raises:
            OSError: it could not be examined.
        """
        [found] = self.filesystem.stat_files(self.folder_fd, [self.name])
        if isinstance(found, int):
            if found == errno.ENOENT:
                return False
            raise OSError(found, os.strerror(found), self.name)
        if found == self.found and self.is_settled:
            return True
        # One byte more than it had, so that a longer content shows.
        size_bytes = len(self.content) + 1
        # guard(later-timer-is-not-ours): A timer that was replaced or rewritten since the last look is not
        # that of the old image, such as one of a fresh pull; it stays.
        return found[2] == self.found[2] and self.filesystem.pread(self.fd, size_bytes, 0) == self.content

    def remove(self) -> None:
        """Remove it."""
        with suppress(FileNotFoundError):
            self.filesystem.unlink(self.name, dir_fd=self.folder_fd)

    def close(self) -> None:
        """Close it."""
        let_go(self.filesystem, self.fd)


@frozen
class SettledState:
    """One state whose time stamps would show that it was overwritten."""

    found: FileFound
    unused_since_ns: int


def read_settled_states(
    filesystem: Filesystem, folder_fd: int, repository: str, digests: Iterable[str]
) -> Mapping[str, SettledState]:
    """Read states again in the open folder of their repository, by digest, in one call.

    Left out are states that are absent, unset or unreadable, and those that changed so recently that their
    next change might not show.
    """
    chosen = list(digests)
    looked_ns = filesystem.now_ns()
    names = [f"{hex_of(digest)}{_SUFFIX}" for digest in chosen]
    states: dict[str, SettledState] = {}
    for digest, answer in zip(chosen, filesystem.read_files(folder_fd, names, CHUNK), strict=True):
        if isinstance(answer, int) or max(answer[4], answer[5]) > looked_ns - SETTLING_NS:
            continue
        # A state that is too long for one call is truncated, and so no JSON.
        with suppress(UnreadableError):
            since_ns = read_state(answer[6], repository, digest)
            if since_ns is not None:
                states[digest] = SettledState(answer[:6], since_ns)
    return states


def hold_state(filesystem: Filesystem, folder_fd: int, key: Key) -> HeldState | None:
    """Read one state again in the open folder of its repository, and hold it open; None as for `look_at_state`.

    Raises:
        OSError: it exists but cannot be read.
    """
    repository, digest = key
    name = f"{hex_of(digest)}.json"
    since_ns = None
    looked_ns = filesystem.now_ns()
    try:
        fd, found, content = filesystem.hold_file(folder_fd, name, CHUNK)
    except OSError as error:
        if error.errno in _NO_STATE:
            return None
        raise
    try:
        if len(content) < found[3]:
            content += read_sized_file(filesystem, fd, found[3] - len(content))
        since_ns = read_state(content, repository, digest)
    except UnreadableError:
        return None
    finally:
        if since_ns is None:
            let_go(filesystem, fd)
    if since_ns is None:
        return None
    # guard(fresh-timer-by-content): A timer rewritten within two seconds may show the same time stamp, so its
    # content is compared before it is removed.
    is_settled = max(found[4:]) <= looked_ns - SETTLING_NS
    return HeldState(filesystem, folder_fd, name, fd, found, content, since_ns, is_settled)
