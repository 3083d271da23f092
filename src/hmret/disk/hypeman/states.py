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
"""There is none, or something that is none in its place: a folder, or a link, which is not followed."""

_SUFFIX = ".json"
_UNKNOWN = (-1, 0)
_STATE_NAME = re.compile(r"[0-9a-f]{64}\.json")
_STRAY_NAME = re.compile(r"[0-9a-f]{64}\.json\.tmp")
# A state is written in far less; whatever is half-written after this has been given up.
_STRAY_AGE_NS = 60 * SECOND


@frozen
class StateFolder:
    """What one folder below `image-retention/` holds."""

    path: str
    """Of the folder: the repository whose states these are."""
    timers: Mapping[str, int | None] = attrs.field(factory=dict)
    """`unused_since` in nanoseconds, by digest; None where it is not set or the file cannot be read."""
    subfolders: tuple[str, ...] = ()
    corrupt: tuple[tuple[str, str], ...] = ()
    """Paths of states that could not be read, and why."""
    strays: tuple[str, ...] = ()
    """Below `image-retention/`: half-written files and empty folders that a crash left behind."""
    fingerprint: Fingerprint | None = attrs.field(default=None, eq=False)
    """While the folder has it, no state has come or gone in it, nor been written anew; None: look again."""
    marks: bytes = attrs.field(default=b"", eq=False, repr=False)
    """Of each state, in the order of `timers`: 63 bits of the inode, and ctime in nanoseconds. Inode -1: read it again."""

    @property
    def is_settled(self) -> bool:
        """Whether it need not be looked at while it has its fingerprint: so it is."""
        return True

    @property
    def listed_in(self) -> str | None:
        """None: each is a folder of its own."""
        return None


def scan_states(
    filesystem: Filesystem,
    retention_fd: int,
    path: str,
    pause: Callable[[], None] = lambda: None,
    known: StateFolder | None = None,
) -> StateFolder:
    """Read the states in one folder below `image-retention/` (`""`: that itself).

    States that stand in `known`, and whose files have not changed since, are not read again. A state that cannot be read counts as one that is not set: it restarts its own timer and stops nothing else.
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
    # A stage that was left behind is a row to hypeman, for which its own controller keeps a timer.
    below = (name for name in folders if FOLDER_NAME.fullmatch(name) or name.startswith(TAG_STAGE))
    subfolders = [f"{path}/{name}" if path else name for name in below]
    for name in filter(_STRAY_NAME.fullmatch, [*files, *folders]):
        # It may become one, or go, by the mere passing of time.
        fingerprint = None
        if _is_stray(filesystem, fd, name):
            strays.append(f"{path}/{name}")
    is_empty = not files and not folders
    # guard(unreadable-timer-is-retried): A timer may be unreadable for a moment only, so it is read again at the next
    # look.
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
    """Read some states, and add their timers and marks; returns the paths of those that could not be read, and why."""
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
    """Take what is known of those states whose files are those that were read, with their marks."""
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
    """Remove what a crash left behind, as far as it is still there and still empty or half-written."""
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
    found = filesystem.stat(name, dir_fd=fd, follow_symlinks=False)
    return found.st_mtime_ns < filesystem.now_ns() - _STRAY_AGE_NS


def _timer_in(
    filesystem: Filesystem, fd: int, key: Key, answer: tuple[int, int, int, int, int, int, bytes] | int
) -> int | None:
    """Understand what was read of a state in an open folder.

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
        # The system may have cut that read short, and what is cut is no JSON object.
        return read_state(read_file(filesystem, name, fd), repository, digest)


def look_at_state(filesystem: Filesystem, data_fd: int, key: Key) -> int | None:
    """Read one state afresh; None where there is none, or it is not set or holds no state.

    Raises:
        OSError: it is there and cannot be read.
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
    """One state, held open from when it was read: while it is, no other file gets its inode."""

    filesystem: Filesystem
    folder_fd: int
    name: str
    fd: int
    found: FileFound
    content: bytes
    unused_since_ns: int
    is_settled: bool
    """Whether it shows by its time stamps when it is written over."""

    def is_unchanged(self) -> bool:
        """Return whether what was read is still what stands there, byte for byte.

        Raises:
            OSError: it could not be told.
        """
        [found] = self.filesystem.stat_files(self.folder_fd, [self.name])
        if isinstance(found, int):
            if found == errno.ENOENT:
                return False
            raise OSError(found, os.strerror(found), self.name)
        if found == self.found and self.is_settled:
            return True
        # One byte more than it was would be seen.
        size_bytes = len(self.content) + 1
        # guard(later-timer-is-not-ours): A timer that was replaced or rewritten since the last look is not that of
        # the old image, such as one of a fresh pull; it stays.
        return found[2] == self.found[2] and self.filesystem.pread(self.fd, size_bytes, 0) == self.content

    def remove(self) -> None:
        """Remove it."""
        with suppress(FileNotFoundError):
            self.filesystem.unlink(self.name, dir_fd=self.folder_fd)

    def close(self) -> None:
        """Let it go."""
        let_go(self.filesystem, self.fd)


@frozen
class SettledState:
    """One state that shows by its time stamps when it is written over."""

    found: FileFound
    unused_since_ns: int


def read_settled_states(
    filesystem: Filesystem, folder_fd: int, repository: str, digests: Iterable[str]
) -> Mapping[str, SettledState]:
    """Read states afresh in the open folder of their repository, by digest, in one call.

    Those are left out of which there is none, or that are not set, cannot be read, or have changed so lately that the next
    change of theirs might not show.
    """
    chosen = list(digests)
    looked_ns = filesystem.now_ns()
    names = [f"{hex_of(digest)}{_SUFFIX}" for digest in chosen]
    states: dict[str, SettledState] = {}
    for digest, answer in zip(chosen, filesystem.read_files(folder_fd, names, CHUNK), strict=True):
        if isinstance(answer, int) or max(answer[4], answer[5]) > looked_ns - SETTLING_NS:
            continue
        # One that is too long for one call is no JSON as far as it was read.
        with suppress(UnreadableError):
            since_ns = read_state(answer[6], repository, digest)
            if since_ns is not None:
                states[digest] = SettledState(answer[:6], since_ns)
    return states


def hold_state(filesystem: Filesystem, folder_fd: int, key: Key) -> HeldState | None:
    """Read one state afresh in the open folder of its repository, and hold it open; None as for `look_at_state`.

    Raises:
        OSError: it is there and cannot be read.
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
    # guard(fresh-timer-by-content): A timer rewritten within two seconds may show the same time stamp, so its content
    # is compared before it is removed.
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
    """Start the timers of those images that the claim leaves to us; returns those that could not be written, and why.

    Not forced to the disk by default: what a power loss takes with it is a timer, which then starts again later. Those that begin
    `earlier`, each at a time of its own, are: they take the place of timers that would otherwise be back.
    """
    failed: list[tuple[Key, OSError]] = []
    by_digest: dict[str, list[Key]] = {}
    for key in keys:
        by_digest.setdefault(key[1], []).append(key)
    for digest, same in by_digest.items():
        # guard(no-timer-for-taken-back): An image that came into use while its batch waited gets no timer: it is not
        # unused.
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
        # Whoever cleared another state at this moment has removed the folder that was empty then.
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
        OSError: it is there and could not be removed, or this cannot be made durable.
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
    """Remove the folder of a repository's states, and those above it, as far as they are empty."""
    with opened(filesystem, open_data_folder(filesystem, data_fd, RETENTION)) as fd:
        remove_empty_folders(filesystem, fd, repository)


def _unlink(filesystem: Filesystem, fd: int, name: str) -> bool:
    try:
        filesystem.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        return False
    return True


def _sync_above(filesystem: Filesystem, data_fd: int, path: str) -> None:
    """Make durable that a folder is not there: it is the nearest one above it that says so."""
    while path:
        path = path.rpartition("/")[0]
        with (
            suppress(FileNotFoundError),
            opened(filesystem, open_data_folder(filesystem, data_fd, path)) as fd,
        ):
            filesystem.fsync(fd)
            return
