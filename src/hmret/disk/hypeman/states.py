"""Reading and writing retention states, one folder or one batch at a call."""

import errno
import os
import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType

import attrs

from hmret.disk.filesystem import FileFound, Filesystem
from hmret.disk.fingerprints import INODE_BITS, SETTLING_NS, Fingerprint, stable_fingerprint
from hmret.disk.folders import (
    BATCH,
    CHUNK,
    let_go,
    make_data_folders,
    open_data_folder,
    open_folder,
    opened,
    read_file,
    read_sized_file,
    remove_empty_folders,
    step_into,
    write_file,
)
from hmret.disk.hypeman.documents import UnreadableError, encode_state, read_state
from hmret.disk.image_claim import UNCONTESTED, Claim
from hmret.disk.layout import FOLDER_NAME, RETENTION, TAG_STAGE, digest_of, hex_of
from hmret.disk.watched_paths import changed_files
from hmret.model.images import Key
from hmret.model.times import SECOND
from hmret.model.values import define, frozen

__all__ = [
    "HeldState",
    "SettledState",
    "StateFolder",
    "clear_state",
    "hold_state",
    "look_at_state",
    "read_settled_states",
    "remove_empty_state_folders",
    "remove_strays",
    "scan_states",
    "write_states",
]

_NO_STATE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP))
"""The state is absent, or something else is in its place: a folder, or a link, which is not followed."""

_SUFFIX = ".json"
_UNKNOWN = (-1, 0)
_STATE_NAME = re.compile(r"[0-9a-f]{64}\.json")
_STRAY_NAME = re.compile(r"[0-9a-f]{64}\.json\.tmp")
# Writing a state takes far less; a file that is still half-written after this time has been abandoned.
_STRAY_AGE_NS = 60 * SECOND


@frozen
class StateFolder:
    """The contents of one folder below `image-retention/`."""

    path: str
    """The folder's path: the repository whose states these are."""
    timers: Mapping[str, int | None] = attrs.field(factory=dict)
    """`unused_since` in nanoseconds, by digest; None where it is unset or the file cannot be read."""
    subfolders: tuple[str, ...] = ()
    corrupt: tuple[tuple[str, str], ...] = ()
    """Paths of states that could not be read, and why."""
    strays: tuple[str, ...] = ()
    """Below `image-retention/`: half-written files and empty folders that a crash left behind."""
    fingerprint: Fingerprint | None = attrs.field(default=None, eq=False)
    """While the folder has it, no state in it was added, removed or replaced; None: read it again."""
    marks: bytes = attrs.field(default=b"", eq=False, repr=False)
    """For each state, in the order of `timers`: 63 bits of the inode, and ctime in nanoseconds. Inode -1:
    read it again.
    """

    @property
    def is_settled(self) -> bool:
        """Whether it need not be examined while it has its fingerprint; always so."""
        return True

    @property
    def listed_in(self) -> str | None:
        """None: each folder of states is one of its own."""
        return None


def scan_states(
    filesystem: Filesystem,
    retention_fd: int,
    path: str,
    pause: Callable[[], None] = lambda: None,
    known: StateFolder | None = None,
) -> StateFolder:
    """Read the states in one folder below `image-retention/` (`""`: that folder itself).

    States that are in `known`, and whose files have not changed since, are not read again. An unreadable
    state counts as unset: its own timer restarts, and nothing else stops.
    """
    try:
        with opened(filesystem, open_folder(filesystem, path or ".", retention_fd)) as fd:
            return _scan_open_folder(filesystem, fd, path, known, pause)
    except (FileNotFoundError, NotADirectoryError):
        return StateFolder(path)
    except OSError as error:
        fault = f"{RETENTION}/{path}".rstrip("/"), error.strerror or str(error)
        return StateFolder(path, corrupt=(fault,))


def _scan_open_folder(
    filesystem: Filesystem, fd: int, path: str, known: StateFolder | None, pause: Callable[[], None]
) -> StateFolder:
    looked_ns = filesystem.now_ns()
    fingerprint = stable_fingerprint(filesystem.fstat(fd), looked_ns)
    strays: list[str] = []
    links, folders, others, _ = filesystem.list_folder(fd)
    files = [*links, *others]
    states = list(filter(_STATE_NAME.fullmatch, files))
    timers, marks = _still(filesystem, fd, states, known)
    states = [name for name in states if digest_of(name.removesuffix(_SUFFIX)) not in timers]
    corrupt = _read_states(filesystem, fd, path, states, looked_ns, timers, marks, pause)
    # hypeman takes a stage that was left behind for a row, for which its own controller keeps a timer.
    below = (name for name in folders if FOLDER_NAME.fullmatch(name) or name.startswith(TAG_STAGE))
    subfolders = [f"{path}/{name}" if path else name for name in below]
    for name in filter(_STRAY_NAME.fullmatch, [*files, *folders]):
        # It may become a stray, or disappear, by the mere passing of time.
        fingerprint = None
        if _is_stray(filesystem, fd, name):
            strays.append(f"{path}/{name}")
    is_empty = not files and not folders
    # guard(unreadable-timer-is-retried): A timer may be unreadable for a moment only, so it is read again at
    # the next look.
    if corrupt or (is_empty and path):
        # One that could not be read is read again: it may have been for a moment only.
        fingerprint = None
    if is_empty and path and _is_stray(filesystem, fd, "."):
        strays.append(path)
    return StateFolder(
        path, timers, tuple(subfolders), tuple(corrupt), tuple(strays), fingerprint, marks.tobytes()
    )


def _read_states(  # noqa: PLR0917 - what a scan has found so far is added to
    filesystem: Filesystem,
    fd: int,
    path: str,
    states: list[str],
    looked_ns: int,
    timers: dict[str, int | None],
    marks: "array[int]",
    pause: Callable[[], None],
) -> list[tuple[str, str]]:
    """Read some states, and add their timers and marks; returns unreadable ones' paths, with the reason."""
    corrupt: list[tuple[str, str]] = []
    for start in range(0, len(states), BATCH):
        names = states[start : start + BATCH]
        for name, answer in zip(names, filesystem.read_files(fd, names, CHUNK), strict=True):
            digest = digest_of(name.removesuffix(_SUFFIX))
            mark = _UNKNOWN
            try:
                timers[digest] = _timer_in(filesystem, fd, (path, digest), answer)
            except FileNotFoundError:
                continue
            except (OSError, UnreadableError) as error:
                timers[digest] = None
                corrupt.append((f"{RETENTION}/{path}/{name}", str(error)))
            else:
                if not isinstance(answer, int) and answer[5] <= looked_ns - SETTLING_NS:
                    mark = answer[2] & INODE_BITS, answer[5]
            marks.extend(mark)
        pause()
    return corrupt


def _still(
    filesystem: Filesystem, fd: int, names: Sequence[str], known: StateFolder | None
) -> tuple[dict[str, int | None], "array[int]"]:
    """Reuse what is known of the states whose files are unchanged, with their marks."""
    timers: dict[str, int | None] = {}
    marks = array("q")
    if known is None or len(known.marks) != 2 * marks.itemsize * len(known.timers):
        return timers, marks
    before = array("q", known.marks)
    present = {*names}
    here = [
        (name, digest, since_ns, inode, changed_ns)
        for (digest, since_ns), inode, changed_ns in zip(
            known.timers.items(), before[::2], before[1::2], strict=True
        )
        if inode >= 0 and (name := hex_of(digest) + _SUFFIX) in present
    ]
    asked = (number for *_, inode, changed_ns in here for number in (inode, changed_ns))
    changed = changed_files(filesystem, fd, (name for name, *_ in here), asked)
    for number, (_, digest, since_ns, inode, changed_ns) in enumerate(here):
        if number not in changed:
            timers[digest] = since_ns
            marks.extend((inode, changed_ns))
    return timers, marks


def remove_strays(filesystem: Filesystem, data_fd: int, strays: Iterable[str]) -> None:
    """Remove the remains of a crash, as far as they still exist and are still empty or half-written."""
    for stray in strays:
        with (
            suppress(OSError),
            opened(filesystem, open_data_folder(filesystem, data_fd, RETENTION)) as retention_fd,
        ):
            folder, _, name = stray.rpartition("/")
            if _STRAY_NAME.fullmatch(name):
                with opened(filesystem, step_into(filesystem, retention_fd, folder)) as fd:
                    filesystem.unlink(name, dir_fd=fd)
            else:
                folder = stray
            remove_empty_folders(filesystem, retention_fd, folder)


def _is_stray(filesystem: Filesystem, fd: int, name: str) -> bool:
    status = filesystem.stat(name, dir_fd=fd, follow_symlinks=False)
    return status.st_mtime_ns < filesystem.now_ns() - _STRAY_AGE_NS


def _timer_in(
    filesystem: Filesystem, fd: int, key: Key, answer: tuple[int, int, int, int, int, int, bytes] | int
) -> int | None:
    """Interpret what was read of a state in an open folder.

    Raises:
        OSError: it could not be read.
        UnreadableError: it is no state.
    """
    repository, digest = key
    name = hex_of(digest) + _SUFFIX
    if isinstance(answer, int):
        raise OSError(answer, os.strerror(answer), name)
    try:
        return read_state(answer[6], repository, digest)
    except UnreadableError:
        # The read may have been cut short, and a truncated document is no JSON object.
        return read_state(read_file(filesystem, name, fd), repository, digest)


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


def write_states(
    filesystem: Filesystem,
    data_fd: int,
    keys: Iterable[Key],
    unused_since_ns: int,
    *,
    earlier: Mapping[Key, int] = MappingProxyType({}),
    claim: Claim = UNCONTESTED,
    pause: Callable[[], None] = lambda: None,
    durable: bool = False,
) -> list[tuple[Key, OSError]]:
    """Start the timers of the images that the claim grants; returns those that could not be written, with the reason.

    Not synced to the disk by default: a power loss then takes a timer, which starts again later. Timers that
    begin `earlier`, each at a time of its own, are synced: they replace timers that would otherwise come
    back.
    """
    failed: list[tuple[Key, OSError]] = []
    by_digest: dict[str, list[Key]] = {}
    for key in keys:
        by_digest.setdefault(key[1], []).append(key)
    for digest, same in by_digest.items():
        # guard(no-timer-for-taken-back): An image that came into use while its batch waited gets no timer: it
        # is not unused.
        if not claim.begin(digest):
            continue
        try:
            for key in same:
                try:
                    since_ns = earlier.get(key, unused_since_ns)
                    _write_again(filesystem, data_fd, key, since_ns, durable or key in earlier)
                except OSError as error:
                    failed.append((key, error))
        finally:
            claim.end(digest)
        pause()
    return failed


def _write_again(filesystem: Filesystem, data_fd: int, key: Key, unused_since_ns: int, durable: bool) -> None:
    try:
        _write_state(filesystem, data_fd, key, unused_since_ns, durable)
    except FileNotFoundError:
        # The folder was empty for a moment, and another thread that cleared a state has removed it.
        _write_state(filesystem, data_fd, key, unused_since_ns, durable)


def _write_state(filesystem: Filesystem, data_fd: int, key: Key, unused_since_ns: int, durable: bool) -> None:
    repository, digest = key
    with opened(filesystem, make_data_folders(filesystem, data_fd, f"{RETENTION}/{repository}")) as fd:
        content = encode_state(repository, digest, unused_since_ns)
        write_file(filesystem, f"{hex_of(digest)}.json", content, fd, durable=durable)


def clear_state(filesystem: Filesystem, data_fd: int, key: Key, *, durable: bool = False) -> bool:
    """Remove the state of one image, and the folders that this leaves empty; returns whether there was one.

    With `durable` no power loss brings it back, nor one that was removed before this call.

    Raises:
        OSError: it exists and could not be removed, or the removal could not be made durable.
    """
    repository, digest = key
    try:
        with opened(filesystem, open_data_folder(filesystem, data_fd, f"{RETENTION}/{repository}")) as fd:
            was_there = _unlink(filesystem, fd, f"{hex_of(digest)}.json")
            if durable:
                filesystem.fsync(fd)
    except (FileNotFoundError, NotADirectoryError):
        if durable:
            _sync_above(filesystem, data_fd, f"{RETENTION}/{repository}")
        return False
    if was_there:
        remove_empty_state_folders(filesystem, data_fd, repository)
    return was_there


def remove_empty_state_folders(filesystem: Filesystem, data_fd: int, repository: str) -> None:
    """Remove the folder of a repository's states, and its parents, as far as they are empty."""
    with opened(filesystem, open_data_folder(filesystem, data_fd, RETENTION)) as fd:
        remove_empty_folders(filesystem, fd, repository)


def _unlink(filesystem: Filesystem, fd: int, name: str) -> bool:
    try:
        filesystem.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        return False
    return True


def _sync_above(filesystem: Filesystem, data_fd: int, path: str) -> None:
    """Make durable that a folder no longer exists, by syncing the nearest folder above it that does."""
    while path:
        path = path.rpartition("/")[0]
        with (
            suppress(FileNotFoundError),
            opened(filesystem, open_data_folder(filesystem, data_fd, path)) as fd,
        ):
            filesystem.fsync(fd)
            return
