"""The records of what is in quarantine: one for each batch, in the trash beside its folders.

A folder named in a record is held: it is not erased before it is released, whatever the intents of its batch
say. The record is written durably before those intents are dropped, so at each moment at least one of the two
says what the folder in the trash is: after a crash in between, both do, and the record counts. The record is
not rewritten when an image is released or restored: an image whose folders are nowhere in the trash is no
longer held, whatever the record says, and no later batch gets its name. The record is removed with the last
of its images. A record that hmret could not have written is not believed, and nothing of its batch is
touched.
"""

from collections.abc import Callable, Collection, Sequence, Set as AbstractSet
from contextlib import closing, suppress

import msgspec

from hmret.disk.deletion.folder_renames import is_hidden_in_place
from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.deletion.trash.intent_files import Recorded, intent_of, is_ours, list_trash, record_of
from hmret.disk.deletion.trash.intents import Intent, find_entries, intent_name
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import opened_data_folder, opened_own_folder, read_file, write_file
from hmret.disk.hypeman.documents import UnreadableError, read_document
from hmret.disk.layout import TRASH
from hmret.model.values import frozen

RECORD = ".held"
"""The suffix of a record's name, which follows the name of the batch."""

_LATEST_NS = (1 << 63) - 1


class HeldImage(Intent, frozen=True, gc=False, kw_only=True):
    """One unit in quarantine, with all its rows: the intent with which it was deleted, the tags that went, and when."""

    disk_bytes: int
    """The blocks that its erasing would have freed when it was deleted; 0 while its disk had hard links
    elsewhere.
    """
    retired_at_ns: int
    """By the wall clock, in nanoseconds since the epoch."""

    @classmethod
    def of(cls, intent: Intent, disk_bytes: int, retired_at_ns: int) -> "HeldImage":
        """Return the image that was deleted with an intent."""
        fields = {name: getattr(intent, name) for name in Intent.__struct_fields__}
        return cls(**fields, disk_bytes=disk_bytes, retired_at_ns=retired_at_ns)


@frozen
class QuarantineRecords:
    """The contents of all records."""

    by_batch: dict[str, dict[str, HeldImage] | None]
    """By batch, then by the name of the intent; None: the record cannot be read, or is not believed."""
    errors: tuple[tuple[str, str], ...]
    """The paths of such records, and why."""

    def names_of(self, batch_name: str) -> AbstractSet[str]:
        """List the names that a batch's record holds; empty where there is none or it is not believed."""
        return (self.by_batch.get(batch_name) or {}).keys()

    def is_doubtful(self, batch_name: str) -> bool:
        """Return whether a batch has a record that is not believed."""
        return batch_name in self.by_batch and self.by_batch[batch_name] is None

    def covers(self, name: str) -> bool:
        """Return whether a name in the trash is held, or may be."""
        batch_name = name.partition(".")[0]
        if batch_name not in self.by_batch:
            return False
        return (
            self.is_doubtful(batch_name)
            or name == batch_name + RECORD
            or intent_name(name) in self.names_of(batch_name)
        )


def read_records(filesystem: Filesystem, data_fd: int) -> QuarantineRecords:
    """Read all records.

    Raises:
        OSError: the trash cannot be listed.
    """
    by_batch: dict[str, dict[str, HeldImage] | None] = {}
    errors: list[tuple[str, str]] = []
    for name in list_trash(filesystem, data_fd)[1]:
        if name.endswith(RECORD):
            batch_name = name.removesuffix(RECORD)
            try:
                record = read_record(filesystem, data_fd, batch_name)
                by_batch[batch_name] = {held.name: held for held in record}
            except FileNotFoundError:
                continue
            except OSError as error:
                by_batch[batch_name] = None
                errors.append((f"{TRASH}/{name}", error.strerror or str(error)))
    return QuarantineRecords(by_batch, tuple(errors))


def change_record(
    filesystem: Filesystem, data_fd: int, batch_name: str, change: Callable[[HeldImage], HeldImage]
) -> list[HeldImage]:
    """Rewrite the record of a batch, durably, with each of its images changed; returns the new contents.

    Raises:
        OSError: it could not be read or written; then it is unchanged.
    """
    record = [change(held) for held in read_record(filesystem, data_fd, batch_name)]
    write_record(filesystem, data_fd, batch_name, record)
    return record


def write_record(filesystem: Filesystem, data_fd: int, batch_name: str, record: Sequence[HeldImage]) -> None:
    """Write the record of a batch, durably.

    Raises:
        OSError: it could not be written.
    """
    content = msgspec.json.encode([record_of(held, held.disk_bytes, held.retired_at_ns) for held in record])
    with opened_own_folder(filesystem, data_fd, TRASH) as fd:
        # guard(held-record-is-durable): After a power loss only this record keeps an image in quarantine from
        # being erased, so it is on the disk before the intents go.
        write_file(filesystem, batch_name + RECORD, content, fd, durable=True)


def read_record(filesystem: Filesystem, data_fd: int, batch_name: str) -> list[HeldImage]:
    """Read the record of a batch.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read, or holds something that hmret could not have written.
    """
    content = read_file(filesystem, f"{TRASH}/{batch_name}{RECORD}", data_fd)
    try:
        written = read_document(content, list[Recorded])
    except UnreadableError:
        raise OSError("holds no record of what is in quarantine") from None
    names = {record.name for record in written}
    # guard(doubtful-record-is-refused): A damaged record may name anything; what it covers is neither
    # restored nor erased.
    if not names or len(names) != len(written) or not all(_could_be_ours(one, batch_name) for one in written):
        raise OSError("does not name what can be in quarantine")
    return [
        HeldImage.of(intent_of(record), record.disk_bytes or 0, record.retired_at_ns or 0)
        for record in written
    ]


def _could_be_ours(record: Recorded, batch_name: str) -> bool:
    return (
        is_ours(record, batch_name)
        and abs(record.unused_since_ns) <= _LATEST_NS
        and record.disk_bytes is not msgspec.UNSET
        and 0 <= record.disk_bytes <= _LATEST_NS
        and record.retired_at_ns is not msgspec.UNSET
        and 0 <= record.retired_at_ns <= _LATEST_NS
    )


def drop_records(filesystem: Filesystem, data_fd: int, batch_names: Collection[str]) -> None:
    """Drop the records of which nothing is left; one that cannot be removed is found at the next start."""
    for batch_name in batch_names:
        with suppress(OSError):
            record = read_record(filesystem, data_fd, batch_name)
            if not any(_is_left(filesystem, data_fd, held) for held in record):
                with opened_data_folder(filesystem, data_fd, TRASH) as fd:
                    filesystem.unlink(batch_name + RECORD, dir_fd=fd)


def _is_left(filesystem: Filesystem, data_fd: int, held: HeldImage) -> bool:
    """Return whether anything of an image is still in the trash, or in the cache with its metadata hidden."""
    if find_entries(filesystem, data_fd, held):
        return True
    with closing(OpenFolders(filesystem, data_fd)) as folders:
        return any(is_hidden_in_place(folders, held, number) for number in range(len(held.copies)))
