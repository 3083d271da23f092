"""Scanning retention states, one folder at a call."""

import os
import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter

import msgspec

from hmret.disk.filesystem import FileRead, Filesystem
from hmret.disk.fingerprints import INODE_BITS, SETTLING_NS, Fingerprint, if_stable, stable_fingerprint
from hmret.disk.folders import (
    BATCH,
    CHUNK,
    opened,
    opened_data_folder,
    opened_folder,
    read_file,
    remove_empty_folders,
    step_into,
)
from hmret.disk.folders_ahead import FolderAhead
from hmret.disk.hypeman.documents import UnreadableError, read_state
from hmret.disk.layout import FOLDER_NAME, HEX_DIGITS, RETENTION, TAG_STAGE, are_digests, digest_of, hex_of
from hmret.disk.watched_paths import changed_files
from hmret.model.references import Key
from hmret.model.times import SECOND

STATE_SUFFIX = ".json"
_UNKNOWN = (-1, 0)
_STATE_NAME = re.compile(r"[0-9a-f]{64}\.json")
_STRAY_NAME = re.compile(r"[0-9a-f]{64}\.json\.tmp")
# Writing a state takes far less; a file that is still half-written after this time has been abandoned.
_STRAY_AGE_NS = 60 * SECOND


class StateFolder(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The contents of one folder below `image-retention/`.

    This is not an attrs class: there are as many instances as repositories, and the garbage collector need not
    look at each.
    """

    path: str
    """The folder's path: the repository whose states these are."""
    timers: Mapping[str, int | None] = msgspec.field(default_factory=dict)
    """`unused_since` in nanoseconds, by digest; None where it is unset or the file cannot be read."""
    subfolders: tuple[str, ...] = ()
    corrupt: tuple[tuple[str, str], ...] = ()
    """Paths of states that could not be read, and why."""
    strays: tuple[str, ...] = ()
    """Below `image-retention/`: half-written files and empty folders that a crash left behind."""
    fingerprint: Fingerprint | None = None
    """While the folder has it, no state in it was added, removed or replaced; None: read it again."""
    marks: bytes = b""
    """For each state, in the order of `timers`: 63 bits of the inode, and ctime in nanoseconds. Inode -1:
    read it again.
    """

    def __eq__(self, other: object) -> bool:
        """Compare the contents, but not by what a change of them shows."""
        return isinstance(other, StateFolder) and _contents_of(self) == _contents_of(other)

    __hash__ = None  # type: ignore[assignment]  # it holds mappings

    @property
    def is_settled(self) -> bool:
        """Whether it need not be examined while it has its fingerprint; always so."""
        return True

    @property
    def listed_in(self) -> str | None:
        """None: each folder of states is one of its own."""
        return None


_contents_of = attrgetter("path", "timers", "subfolders", "corrupt", "strays")


def scan_states(
    filesystem: Filesystem,
    retention_fd: int,
    path: str,
    pause: Callable[[], None] = lambda: None,
    known: StateFolder | None = None,
    *,
    ahead: FolderAhead | None = None,
) -> StateFolder:
    """Read the states in one folder below `image-retention/` (`""`: that folder itself).

    States that are in `known`, and whose files have not changed since, are not read again. An unreadable
    state counts as unset: its own timer restarts, and nothing else stops. `ahead`: what has just been read of
    the folder; if that is all that a folder of states usually holds, it is not read again.
    """
    usual = None if ahead is None else _usual_folder(path, ahead)
    if usual is not None:
        return usual
    try:
        with opened_folder(filesystem, path or ".", retention_fd) as fd:
            return _scan_open_folder(filesystem, fd, path, known, pause)
    except (FileNotFoundError, NotADirectoryError):
        return StateFolder(path)
    except OSError as error:
        fault = f"{RETENTION}/{path}".rstrip("/"), error.strerror or str(error)
        return StateFolder(path, corrupt=(fault,))


def _usual_folder(path: str, ahead: FolderAhead) -> StateFolder | None:
    """Interpret a folder that holds only readable states, and levels below; None: it holds more, or nothing."""
    status, links, _, folders, others, files = ahead.found
    # guard(usual-states-and-no-more): Whatever is not a state, or is half-written, is looked at one by one.
    if (
        links
        or len(files) != len(others)
        or not are_digests([name.removesuffix(STATE_SUFFIX) for name in others])
    ):
        return None
    if not (folders or others) or any(map(_STRAY_NAME.fullmatch, folders)):
        return None
    timers: dict[str, int | None] = {}
    marks = array("q")
    # guard(unreadable-ahead-is-reread): A state that could not be read with the others is read again by itself:
    # left out, it would seem to be gone.
    if _add_readable(path, others, files, ahead.looked_ns, timers, marks):
        return None
    return StateFolder(
        path,
        timers,
        tuple([f"{path}/{name}" if path else name for name in folders if _is_level(name)]),
        fingerprint=if_stable(status[1:], ahead.looked_ns),
        marks=marks.tobytes(),
    )


def _is_level(name: str) -> bool:
    """Return whether a folder can be a level of repositories, or a tag's stage that was left behind.

    hypeman takes such a stage for a row, for which its own controller keeps a timer.
    """
    return FOLDER_NAME.fullmatch(name) is not None or name.startswith(TAG_STAGE)


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
    states = [name for name in states if digest_of(name.removesuffix(STATE_SUFFIX)) not in timers]
    corrupt = _read_states(filesystem, fd, path, states, looked_ns, timers, marks, pause)
    subfolders = [f"{path}/{name}" if path else name for name in folders if _is_level(name)]
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
        answers = filesystem.read_files(fd, names, CHUNK)
        for name, answer in _add_readable(path, names, answers, looked_ns, timers, marks):
            digest = digest_of(name.removesuffix(STATE_SUFFIX))
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


def _add_readable(  # noqa: PLR0917 - what a scan has found so far is added to
    path: str,
    names: Sequence[str],
    answers: Sequence[FileRead | int],
    looked_ns: int,
    timers: dict[str, int | None],
    marks: "array[int]",
) -> list[tuple[str, FileRead | int]]:
    """Add the timers and marks of states that are readable as they are; returns the others."""
    others: list[tuple[str, FileRead | int]] = []
    numbers: list[int] = []
    settled_ns = looked_ns - SETTLING_NS
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, int):
            others.append((name, answer))
            continue
        digest = digest_of(name[:HEX_DIGITS])
        try:
            timers[digest] = read_state(answer[6], path, digest)
        except UnreadableError:
            others.append((name, answer))
            continue
        numbers += (answer[2] & INODE_BITS, answer[5]) if answer[5] <= settled_ns else _UNKNOWN
    marks.extend(numbers)
    return others


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
        if inode >= 0 and (name := hex_of(digest) + STATE_SUFFIX) in present
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
        with suppress(OSError), opened_data_folder(filesystem, data_fd, RETENTION) as retention_fd:
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


def _timer_in(filesystem: Filesystem, fd: int, key: Key, answer: FileRead | int) -> int | None:
    """Interpret what was read of a state in an open folder.

    Raises:
        OSError: it could not be read.
        UnreadableError: it is not a state.
    """
    repository, digest = key
    name = hex_of(digest) + STATE_SUFFIX
    if isinstance(answer, int):
        raise OSError(answer, os.strerror(answer), name)
    try:
        return read_state(answer[6], repository, digest)
    except UnreadableError:
        # The read may have been cut short, and a truncated document is not a JSON object.
        return read_state(read_file(filesystem, name, fd), repository, digest)
