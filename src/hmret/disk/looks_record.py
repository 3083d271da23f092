"""The record of looks, `system/hmret/looks.json`: when somebody last looked at the whole cache, and what nobody watched.

Older versions know nothing of it and leave it alone; what they know is in `clock.json`.
"""

import msgspec

from hmret.disk.documents import UnreadableError
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import make_data_folders, open_data_folder, opened, read_file, write_file
from hmret.disk.layout import OWN, RETENTION
from hmret.model.clock_watch import ClockReading
from hmret.model.looks import Look, LooksRecord
from hmret.model.unwatched import Gaps

__all__ = ["LOOKS", "load_looks_record", "newest_timer", "save_looks_record"]

LOOKS = "looks.json"
_MODE = 0o700
_FAULTS = (OSError, UnreadableError, msgspec.MsgspecError, ValueError, RecursionError)


class _Look(msgspec.Struct, gc=False):
    boot_id: str
    boot_ns: int
    wall_ns: int
    monotonic_ns: int | None
    synchronised: bool
    by_engine: bool


class _Looks(msgspec.Struct, gc=False):
    last: _Look | None
    gaps: list[tuple[int, int]]
    was_suspended: bool = False
    held_back_looks: int = 0


def load_looks_record(filesystem: Filesystem, data_fd: int) -> LooksRecord | None:
    """Read what is known of looks; None where there is no record, or none that can be read."""
    try:
        found = msgspec.json.decode(read_file(filesystem, f"{OWN}/{LOOKS}", data_fd), type=_Looks)
    except _FAULTS:
        return None
    last = found.last
    look = None
    if last is not None:
        reading = ClockReading(
            last.boot_id, last.boot_ns, last.wall_ns, last.synchronised, monotonic_ns=last.monotonic_ns
        )
        look = Look(reading, last.by_engine)
    return LooksRecord(look, Gaps.of(found.gaps), found.was_suspended, found.held_back_looks)


def save_looks_record(filesystem: Filesystem, data_fd: int, record: LooksRecord) -> None:
    """Write what is known of looks, as one and durably: what is deleted afterwards rests on it.

    Raises:
        OSError: it could not be written.
    """
    look = None
    if record.last is not None:
        at = record.last.at
        look = _Look(
            at.boot_id, at.boot_ns, at.wall_ns, at.monotonic_ns, at.synchronised, record.last.by_engine
        )
    document = _Looks(look, list(record.gaps), record.was_suspended, record.held_back_looks)
    with opened(filesystem, make_data_folders(filesystem, data_fd, OWN, _MODE)) as fd:
        write_file(filesystem, LOOKS, msgspec.json.encode(document), fd, durable=True)


def newest_timer(filesystem: Filesystem, data_fd: int) -> int | None:
    """Tell when a timer was last written, of whatever image, in nanoseconds since the epoch; None: there is none.

    Folders are not asked: what they tell may be no more than that somebody has copied them.
    """
    newest_ns = 0
    levels = [RETENTION]
    while levels:
        path = levels.pop()
        try:
            with (
                opened(filesystem, open_data_folder(filesystem, data_fd, path)) as fd,
                filesystem.scandir(fd) as found,
            ):
                for entry in list(found):
                    if entry.is_dir(follow_symlinks=False):
                        levels.append(f"{path}/{entry.name}")
                    elif entry.name.endswith(".json"):
                        newest_ns = max(newest_ns, _written_at(filesystem, fd, entry.name))
        except OSError:
            # What cannot be listed tells nothing; nor is any of its timers known then.
            continue
    return newest_ns or None


def _written_at(filesystem: Filesystem, fd: int, name: str) -> int:
    try:
        return filesystem.stat(name, dir_fd=fd, follow_symlinks=False).st_mtime_ns
    except OSError:
        return 0
