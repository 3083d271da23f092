"""hmret's own records in `system/hmret/`: what must be known after a restart."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime

import attrs
import msgspec

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import read_file
from hmret.disk.hypeman.documents import read_document
from hmret.disk.layout import OWN
from hmret.disk.records.record_files import is_text, read_record, write_record
from hmret.model.clock.clock_guard import ClockRecord
from hmret.model.errors import InvalidReferenceError
from hmret.model.images import Remembered, Thing
from hmret.model.policy.brake import BrakeRecord
from hmret.model.records.backoff import FailureRecord
from hmret.model.records.disk import DiskRecord
from hmret.model.records.leases import LeaseRecord
from hmret.model.records.users import UsersRecord
from hmret.model.references import parsed

_BACKOFF = "backoff.json"
_BRAKE = "brake.json"
CLOCK_RECORD = "clock.json"
_DISK = "disk.json"
REMEMBERED = "references.json"
_LAST_USERS = "last-users.json"
LEASES = "leases.json"

_NEVER = "9999-12-31T23:59:59Z"
"""A time that makes an older release, which judges by age alone, treat all sources as seen for the first
time.
"""


class _Memory(msgspec.Struct, gc=False):
    """What a tag has pointed to; an older release stored it by the source of a reference and its text."""

    digests: list[str]
    created_at: str | None = None
    repository: str = ""
    tag: str = ""
    image: str = ""
    seen: list[tuple[str, datetime | None]] = []


class _Disk(msgspec.Struct, gc=False):
    is_pressed: bool
    failures: int
    ineffective_sweeps: int = msgspec.field(name="in_vain")
    boot_id: str
    again_boot_ns: int
    shortfall_bytes: int


class _Clock(msgspec.Struct, gc=False):
    boot_id: str
    boot_ns: int
    wall_ns: int
    suspended_until_boot_ns: int = 0
    keeps_looks: bool = False


def load_remembered(filesystem: Filesystem, data_fd: int) -> dict[tuple[str, str], Remembered]:
    """Read what tags have pointed to, by repository and tag; empty where the record cannot be read.

    Then all references count as seen for the first time, which protects more.
    """
    found: dict[tuple[str, str], Remembered] = {}
    for memory in read_record(filesystem, data_fd, REMEMBERED, list[_Memory]) or ():
        key = _tag_of(memory)
        if key is None:
            continue
        known = found.get(key, Remembered(frozenset()))
        # An older release did not record which sources were seen, so all of them count as seen for the first
        # time.
        found[key] = Remembered(known.digests.union(memory.digests), known.seen | frozenset(memory.seen))
    return found


def _tag_of(memory: _Memory) -> tuple[str, str] | None:
    if memory.repository:
        return memory.repository, memory.tag
    try:
        image = parsed(memory.image)
    except InvalidReferenceError:
        return None
    return None if image.tag is None else (image.repository, image.tag)


def save_remembered(
    filesystem: Filesystem, data_fd: int, remembered: Mapping[tuple[str, str], Remembered]
) -> None:
    """Write what tags have pointed to, durably.

    Sources whose names are no UTF-8 are not recorded as seen, which is as safe as losing the record.

    Raises:
        OSError: it could not be written.
    """
    memories = [
        _Memory(
            sorted(memory.digests),
            _NEVER,
            repository,
            tag,
            seen=sorted(filter(_is_text, memory.seen), key=str),
        )
        for (repository, tag), memory in sorted(remembered.items())
    ]
    write_record(filesystem, data_fd, REMEMBERED, memories)


def _is_text(thing: Thing) -> bool:
    return thing[0].isprintable()


def load_clock_record(filesystem: Filesystem, data_fd: int) -> ClockRecord | None:
    """Read the clock readings of the last sweep; None where they are unknown."""
    record = read_record(filesystem, data_fd, CLOCK_RECORD, _Clock)
    return None if record is None else ClockRecord(**msgspec.structs.asdict(record))


def save_clock_record(filesystem: Filesystem, data_fd: int, record: ClockRecord) -> None:
    """Write the current clock readings, durably: after a power loss, of all times, the clock may be wrong.

    Raises:
        OSError: it could not be written.
    """
    write_record(filesystem, data_fd, CLOCK_RECORD, attrs.asdict(record))


def load_brake_record(filesystem: Filesystem, data_fd: int) -> BrakeRecord | None:
    """Read since when the brake holds; None: it does not, or that is unknown, and then it begins again."""
    return read_record(filesystem, data_fd, _BRAKE, BrakeRecord)


def save_brake_record(filesystem: Filesystem, data_fd: int, record: BrakeRecord | None) -> None:
    """Write since when the brake has been holding; None: it is not.

    Raises:
        OSError: it could not be written.
    """
    if record is not None:
        write_record(filesystem, data_fd, _BRAKE, attrs.asdict(record))
        return
    with suppress(FileNotFoundError):
        filesystem.unlink(f"{OWN}/{_BRAKE}", dir_fd=data_fd)


def load_disk_record(filesystem: Filesystem, data_fd: int) -> DiskRecord:
    """Read the outcome of earlier pressure on the disk; where it is unknown, there was none."""
    record = read_record(filesystem, data_fd, _DISK, _Disk)
    return DiskRecord() if record is None else DiskRecord(**msgspec.structs.asdict(record))


def save_disk_record(filesystem: Filesystem, data_fd: int, record: DiskRecord) -> None:
    """Write the outcome of earlier pressure on the disk.

    Raises:
        OSError: it could not be written.
    """
    write_record(filesystem, data_fd, _DISK, _Disk(**attrs.asdict(record)))


def load_backoff(filesystem: Filesystem, data_fd: int) -> Sequence[FailureRecord]:
    """Read which deletions failed, by which single sweeps back off too; empty where the record cannot be read.

    Then each is tried again.
    """
    return read_record(filesystem, data_fd, _BACKOFF, list[FailureRecord]) or ()


def save_backoff(filesystem: Filesystem, data_fd: int, failures: Sequence[FailureRecord]) -> None:
    """Write which deletions failed.

    Raises:
        OSError: it could not be written.
    """
    write_record(filesystem, data_fd, _BACKOFF, list(map(attrs.asdict, failures)))


def load_last_users(filesystem: Filesystem, data_fd: int) -> Sequence[UsersRecord]:
    """Read what needed images last, which is reported at their deletion; empty where the record cannot be read.

    Nothing else depends on it.
    """
    return read_record(filesystem, data_fd, _LAST_USERS, list[UsersRecord]) or ()


def save_last_users(filesystem: Filesystem, data_fd: int, users: Iterable[UsersRecord]) -> None:
    """Write what needed images last, except sources whose names are no UTF-8.

    Raises:
        OSError: it could not be written.
    """
    document: list[UsersRecord] = []
    for one in users:
        named = tuple(filter(is_text, one.referenced_by))
        vm_names = {source: one.vm_names[source] for source in named if source in one.vm_names}
        if named:
            document.append(msgspec.structs.replace(one, referenced_by=named, vm_names=vm_names))
    write_record(filesystem, data_fd, _LAST_USERS, document)


def load_leases(filesystem: Filesystem, data_fd: int) -> list[LeaseRecord]:
    """Read the durable leases.

    Raises:
        UnreadableError: the record exists but makes no sense, so it is unknown what the leases cover.
        OSError: the record cannot be read.
    """
    try:
        return read_document(read_file(filesystem, f"{OWN}/{LEASES}", data_fd), list[LeaseRecord])
    except FileNotFoundError:
        return []


def save_leases(filesystem: Filesystem, data_fd: int, leases: Iterable[LeaseRecord]) -> None:
    """Write the durable leases, durably.

    Raises:
        OSError: they could not be written.
    """
    # Sorted by name, as it has always been written.
    document = [dict(sorted(attrs.asdict(lease).items())) for lease in leases]
    write_record(filesystem, data_fd, LEASES, document)
