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

from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.deletion.renaming import is_hidden_in_place
from hmret.disk.deletion.trash.intents import (
    NO_CONTENT,
    Copy,
    Intent,
    Link,
    Row,
    find_entries,
    intent_name,
    is_ours,
    list_trash,
    open_trash,
)
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import open_data_folder, opened, read_file, write_file
from hmret.disk.layout import OWN, TRASH
from hmret.model.images import Key
from hmret.model.values import frozen

__all__ = [
    "RECORD",
    "Held",
    "HeldRecords",
    "change_record",
    "drop_records",
    "read_record",
    "read_records",
    "write_record",
]

_TRASH = f"{OWN}/{TRASH}"
RECORD = ".held"
"""The suffix of a record's name, which follows the token of the batch."""

_LATEST_NS = (1 << 63) - 1


class Held(msgspec.Struct, frozen=True, gc=False):
    """One image in quarantine, as recorded."""

    repository: str
    digest: str
    tags: list[str]
    """The tags that went with it."""
    unused_since_ns: int
    name: str
    """The name of the folder, as in its intent."""
    disk_bytes: int
    """The blocks that its erasing would have freed when it was deleted; 0 while its disk had hard links
    elsewhere.
    """
    retired_at_ns: int
    """By the wall clock, in nanoseconds since the epoch."""
    others: list[Row] = []
    """Its other rows."""
    copies: list[Copy] = []
    links: list[Link] = []
    """All tags that went with it."""
    beside: str = NO_CONTENT
    staying: list[Copy] = []

    @property
    def key(self) -> Key:
        """The key of its first row."""
        return self.repository, self.digest

    @property
    def token(self) -> str:
        """The token of its batch."""
        return self.name.partition(".")[0]

    @property
    def intent(self) -> Intent:
        """The intent with which it was deleted."""
        return Intent(
            self.repository,
            self.digest,
            self.tags,
            self.unused_since_ns,
            self.name,
            self.others,
            self.copies,
            self.links,
            self.beside,
            self.staying,
        )

    def tags_of(self, repository: str) -> tuple[str, ...]:
        """List the tags of one of its repositories that went with it."""
        return tuple(self.tags) if repository == self.repository else self.intent.tags_of(repository)


@frozen
class HeldRecords:
    """The contents of all records."""

    by_token: dict[str, dict[str, Held] | None]
    """By token, then by folder name; None: the record cannot be read, or is not believed."""
    errors: tuple[tuple[str, str], ...]
    """The paths of such records, and why."""

    def names_of(self, token: str) -> AbstractSet[str]:
        """List the names that a batch's record holds; empty where there is none or it is not believed."""
        return (self.by_token.get(token) or {}).keys()

    def is_doubtful(self, token: str) -> bool:
        """Return whether a batch has a record that is not believed."""
        return token in self.by_token and self.by_token[token] is None

    def covers(self, name: str) -> bool:
        """Return whether a name in the trash is held, or may be."""
        token = name.partition(".")[0]
        if token not in self.by_token:
            return False
        return self.is_doubtful(token) or name == token + RECORD or intent_name(name) in self.names_of(token)


def read_records(filesystem: Filesystem, data_fd: int) -> HeldRecords:
    """Read all records.

    Raises:
        OSError: the trash cannot be listed.
    """
    by_token: dict[str, dict[str, Held] | None] = {}
    errors: list[tuple[str, str]] = []
    for name in list_trash(filesystem, data_fd)[1]:
        if name.endswith(RECORD):
            token = name.removesuffix(RECORD)
            try:
                record = read_record(filesystem, data_fd, token)
                by_token[token] = {held.name: held for held in record}
            except FileNotFoundError:
                continue
            except OSError as error:
                by_token[token] = None
                errors.append((f"{_TRASH}/{name}", error.strerror or str(error)))
    return HeldRecords(by_token, tuple(errors))


def change_record(
    filesystem: Filesystem, data_fd: int, token: str, change: Callable[[Held], Held]
) -> list[Held]:
    """Rewrite the record of a batch, durably, with each of its images changed; returns the new contents.

    Raises:
        OSError: it could not be read or written; then it is unchanged.
    """
    record = [change(held) for held in read_record(filesystem, data_fd, token)]
    write_record(filesystem, data_fd, token, record)
    return record


def write_record(filesystem: Filesystem, data_fd: int, token: str, record: Sequence[Held]) -> None:
    """Write the record of a batch, durably.

    Raises:
        OSError: it could not be written.
    """
    with opened(filesystem, open_trash(filesystem, data_fd)) as fd:
        # guard(held-record-is-durable): After a power loss only this record keeps an image in quarantine from
        # being erased, so it is on the disk before the intents go.
        write_file(filesystem, token + RECORD, msgspec.json.encode(record), fd, durable=True)


def read_record(filesystem: Filesystem, data_fd: int, token: str) -> list[Held]:
    """Read the record of a batch.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read, or holds something that hmret could not have written.
    """
    content = read_file(filesystem, f"{_TRASH}/{token}{RECORD}", data_fd)
    try:
        record = msgspec.json.decode(content, type=list[Held])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise OSError("holds no record of what is in quarantine") from None
    names = {held.name for held in record}
    # guard(doubtful-record-is-refused): A damaged record may name anything; what it covers is neither
    # restored nor erased.
    if not names or len(names) != len(record) or not all(_could_be_ours(held, token) for held in record):
        raise OSError("does not name what can be in quarantine")
    return record


def _could_be_ours(held: Held, token: str) -> bool:
    return (
        is_ours(held.intent, token)
        and abs(held.unused_since_ns) <= _LATEST_NS
        and 0 <= held.disk_bytes <= _LATEST_NS
        and 0 <= held.retired_at_ns <= _LATEST_NS
    )


def drop_records(filesystem: Filesystem, data_fd: int, tokens: Collection[str]) -> None:
    """Drop the records of which nothing is left; one that cannot be removed is found at the next start."""
    for token in tokens:
        with suppress(OSError):
            record = read_record(filesystem, data_fd, token)
            if not any(_is_left(filesystem, data_fd, held) for held in record):
                with opened(filesystem, open_data_folder(filesystem, data_fd, _TRASH)) as fd:
                    filesystem.unlink(token + RECORD, dir_fd=fd)


def _is_left(filesystem: Filesystem, data_fd: int, held: Held) -> bool:
    """Return whether anything of an image is still in the trash, or in the cache with its metadata hidden."""
    if find_entries(filesystem, data_fd, held.intent):
        return True
    with closing(OpenFolders(filesystem, data_fd)) as folders:
        return any(
            is_hidden_in_place(folders, held.intent, number) for number in range(len(held.intent.all_copies))
        )
