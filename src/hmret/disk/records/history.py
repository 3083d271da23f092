"""Reads the journal back: what went on each day, and the latest entries.

A file that is no longer written is read once: what it adds up to is remembered for as long as it stays the same.
At most `KEPT_FILES` files are read, each up to twice the size at which a new one is begun, in pieces.
"""

import errno
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from itertools import chain

import attrs
import msgspec

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import READ, opened, opened_data_folder
from hmret.disk.layout import OWN
from hmret.disk.records.journal import JOURNAL, KEPT_FILES, LARGEST_JOURNAL
from hmret.model.records.history import COUNTED, History, Went
from hmret.model.times import SECOND, parse_time
from hmret.model.values import define, frozen
from hmret.model.verdicts import Reason

MOST_LATEST = 100
"""How many of the latest entries are listed."""

_PIECE = 1 << 18
_MOST_PIECES = 2 * LARGEST_JOURNAL // _PIECE
_LONGEST_LINE = 1 << 20
_PAUSE_AFTER = 500
_EPOCH = date(1970, 1, 1).toordinal()
_DAY_NS = 86_400 * SECOND
_LAST_DAY = date.max.toordinal() - _EPOCH

_REASONS = frozenset((*Reason, "finished", "open", "wanted"))

_Tally = dict[tuple[int, str, str], list[int]]
"""Images and bytes, by day since the epoch, event and reason."""


class _Line(msgspec.Struct, gc=False):
    time: str = ""
    event: str = ""
    reason: object = ""
    bytes: object = 0


@frozen(eq=False)
class _FileHistory:
    """What one file of the journal says."""

    tally: _Tally = attrs.field(factory=dict)
    begins_ns: int | None = None
    latest: tuple[bytes, ...] = ()


_Fingerprint = tuple[int, int, int]


@define(eq=False)
class HistoryReader:
    """Reads the journal of one data directory; only one call at a time."""

    _known: dict[_Fingerprint, _FileHistory] = attrs.field(factory=dict, init=False)

    def read(
        self, filesystem: Filesystem, data_fd: int, since_ns: int, pause: Callable[[], None] = lambda: None
    ) -> History:
        """Add up what went since a moment, by UTC day; works through some 50 MiB at most.

        Lines that are cut off or have another form are skipped. `pause` is called now and then.
        """
        parts: list[_FileHistory] = []
        unreadable: list[str] = []
        known: dict[_Fingerprint, _FileHistory] = {}
        # The oldest first: a file that is rotated while this goes on is read twice rather than not at all, and is
        # recognised by its inode.
        for number in reversed(range(KEPT_FILES)):
            name = f"{JOURNAL}.{number}" if number else JOURNAL
            try:
                found = self._read_file(filesystem, data_fd, name, pause)
            except FileNotFoundError:
                continue
            except OSError:
                unreadable.append(name)
                continue
            fingerprint, part = found
            if not any(fingerprint[0] == inode for inode, *_ in known):
                known[fingerprint] = part
                parts.append(part)
        self._known = known
        begins = (part.begins_ns for part in parts if part.begins_ns is not None)
        latest = deque(chain.from_iterable(part.latest for part in parts), maxlen=MOST_LATEST)
        return History(
            days=tuple(_rows(parts, since_ns // _DAY_NS)),
            begins_ns=min(begins, default=None),
            latest=tuple(msgspec.json.decode(line, type=dict[str, object]) for line in latest),
            unreadable=tuple(unreadable),
        )

    def _read_file(
        self, filesystem: Filesystem, data_fd: int, name: str, pause: Callable[[], None]
    ) -> tuple[_Fingerprint, _FileHistory]:
        with (
            opened_data_folder(filesystem, data_fd, OWN) as own_fd,
            opened(filesystem, filesystem.open(name, READ, dir_fd=own_fd)) as fd,
        ):
            found = filesystem.fstat(fd)
            fingerprint = found.st_ino, found.st_size, found.st_mtime_ns
            known = self._known.get(fingerprint)
            return fingerprint, known or _add_up(_lines(filesystem, fd), pause)


def _lines(filesystem: Filesystem, fd: int) -> Iterator[bytes]:
    """Yield the lines of an open file, those that are longer than any entry left out."""
    rest = b""
    for number in range(_MOST_PIECES):
        try:
            piece = filesystem.pread(fd, _PIECE, number * _PIECE)
        except OSError as error:
            if error.errno == errno.EISDIR:
                return
            raise
        if not piece:
            break
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
        if len(rest) > _LONGEST_LINE:
            rest = b""
    yield rest


def _add_up(lines: Iterable[bytes], pause: Callable[[], None]) -> _FileHistory:
    tally: _Tally = {}
    begins_ns: int | None = None
    latest: deque[bytes] = deque(maxlen=MOST_LATEST)
    decode = msgspec.json.Decoder(_Line).decode
    for number, line in enumerate(lines):
        if number % _PAUSE_AFTER == 0:
            pause()
        try:
            entry = decode(line)
            moment_ns = parse_time(entry.time)
        except (msgspec.MsgspecError, ValueError):
            continue
        begins_ns = moment_ns if begins_ns is None else min(begins_ns, moment_ns)
        if entry.event in COUNTED:
            _count(tally, entry, moment_ns // _DAY_NS)
        latest.append(line)
    return _FileHistory(tally, begins_ns, tuple(latest))


def _count(tally: _Tally, entry: _Line, day: int) -> None:
    # Only reasons that there are: a journal that others write into must not grow what is remembered of it.
    reason = entry.reason if isinstance(entry.reason, str) and entry.reason in _REASONS else ""
    total = tally.setdefault((day, entry.event, str(reason)), [0, 0])
    total[0] += 1
    total[1] += entry.bytes if isinstance(entry.bytes, int) and 0 < entry.bytes < 1 << 63 else 0


def _rows(parts: Iterable[_FileHistory], first_day: int) -> Iterator[Went]:
    together: _Tally = {}
    for part in parts:
        for key, (images, disk_bytes) in part.tally.items():
            if first_day <= key[0] <= _LAST_DAY:
                total = together.setdefault(key, [0, 0])
                total[0] += images
                total[1] += disk_bytes
    for day, event, reason in sorted(together, key=_newest_first):
        yield Went(date.fromordinal(_EPOCH + day), event, reason, *together[day, event, reason])


def _newest_first(key: tuple[int, str, str]) -> tuple[int, int, str]:
    day, event, reason = key
    return -day, COUNTED.index(event), reason
