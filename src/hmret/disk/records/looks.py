"""The record of looks, `system/hmret/looks.json`: when the whole cache was last looked at, and the time unwatched.

Older versions do not know it and leave it alone; what they know is in `clock.json`.
"""

from contextlib import suppress

import attrs
import msgspec

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import BATCH, opened, opened_data_folder, step_into
from hmret.disk.layout import RETENTION
from hmret.disk.records.record_files import read_record, write_record
from hmret.model.clock.clock_guard import ClockReading
from hmret.model.clock.looks import Look, LooksRecord
from hmret.model.clock.unwatched import Gaps

LOOKS = "looks.json"


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
    """Read the record of looks; None where there is none, or it cannot be read."""
    found = read_record(filesystem, data_fd, LOOKS, _Looks)
    if found is None:
        return None
    look = None
    if found.last is not None:
        fields = msgspec.structs.asdict(found.last)
        by_engine = fields.pop("by_engine")
        look = Look(ClockReading(**fields), by_engine)
    return LooksRecord(look, Gaps.of(found.gaps), found.was_suspended, found.held_back_looks)


def save_looks_record(filesystem: Filesystem, data_fd: int, record: LooksRecord) -> None:
    """Write the record of looks, as a whole and durably: later deletions rest on it.

    Raises:
        OSError: it could not be written.
    """
    look = None
    if record.last is not None:
        look = _Look(**attrs.asdict(record.last.at), by_engine=record.last.by_engine)
    document = _Looks(look, list(record.gaps), record.was_suspended, record.held_back_looks)
    write_record(filesystem, data_fd, LOOKS, document)


def newest_timer(filesystem: Filesystem, data_fd: int, until_ns: int) -> int | None:
    """Return when any image's timer was last written, up to a moment; None: never.

    In nanoseconds since the epoch, as is `until_ns`. A newer timer proves nothing about the time before: it
    was written just now, or by a clock that was ahead. The times of folders are not used: they may show no
    more than that they were copied.
    """
    newest_ns = 0
    with suppress(OSError), opened_data_folder(filesystem, data_fd, RETENTION) as root_fd:
        levels = [""]
        while levels:
            path = levels.pop()
            # A folder that cannot be listed proves nothing; then none of its timers is known either.
            with suppress(OSError), opened(filesystem, step_into(filesystem, root_fd, path)) as fd:
                links, folders, others, _ = filesystem.list_folder(fd)
                levels.extend(f"{path}/{name}" if path else name for name in folders)
                newest_ns = max(newest_ns, _newest_of(filesystem, fd, [*links, *others], until_ns))
    return newest_ns or None


def _newest_of(filesystem: Filesystem, fd: int, names: list[str], until_ns: int) -> int:
    """Return when one of some timers was last written, up to a moment; 0: never."""
    timers = [name for name in names if name.endswith(".json")]
    newest_ns = 0
    for start in range(0, len(timers), BATCH):
        for found in filesystem.stat_files(fd, timers[start : start + BATCH]):
            # guard(future-timer-hides-none): A timer that is written while the engine starts must not hide
            # when the last one before it was: the time since then was not watched.
            if not isinstance(found, int) and found[4] <= until_ns:
                newest_ns = max(newest_ns, found[4])
    return newest_ns
