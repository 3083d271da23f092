"""Files of intents in the trash: written durably before a batch is renamed, read without trust after a crash.

A file leaves the trash only when nothing is left to do for any of its images, so finishing a batch can be
repeated as often as it is interrupted. Its contents are not trusted: an intent is carried out only if hmret
could have written it, since paths in a damaged or planted one could lead anywhere.
"""

import os
from collections.abc import Iterable
from contextlib import suppress

import msgspec

from hmret.disk.deletion.trash.intents import NO_CONTENT, Copy, Intent, Link
from hmret.disk.deletion.trash.reserve import NO_SPACE, write_into_reserve
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import (
    open_data_folder,
    opened,
    opened_data_folder,
    opened_own_folder,
    read_file,
    remove_empty_repositories,
    write_file,
)
from hmret.disk.hypeman.documents import UnreadableError, read_document
from hmret.disk.layout import DELETED, DIGEST_HEX, TAG_NAME, TRASH, Layout, digest_of, hex_of
from hmret.model.deletion import DueRow
from hmret.model.references import is_repository

SUFFIX = ".json"
"""Of the name of a file of intents, which follows the name of the batch."""


class Timer(msgspec.Struct, frozen=True, gc=False):
    """One more row of an image, as recorded."""

    repository: str
    unused_since_ns: int


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """An intent as it is written, and an image in quarantine, with two fields more.

    One of an older release has only the first five fields: one repository, and its own folder.
    """

    repository: str
    """The repository of its first row."""
    digest: str
    tags: list[str]
    """The tags of the first row; where no folders are recorded, those of the older layout that go with it."""
    unused_since_ns: int
    """The timer of the first row."""
    name: str
    disk_bytes: int | msgspec.UnsetType = msgspec.UNSET
    retired_at_ns: int | msgspec.UnsetType = msgspec.UNSET
    others: list[Timer] = []
    """Its other rows."""
    copies: list[Copy] = []
    links: list[Link] = []
    content_status: str = msgspec.field(default=NO_CONTENT, name="beside")
    staying: list[Copy] = []


def record_of(
    intent: Intent,
    disk_bytes: int | msgspec.UnsetType = msgspec.UNSET,
    retired_at_ns: int | msgspec.UnsetType = msgspec.UNSET,
) -> Recorded:
    """Return an intent as it is written."""
    first, *others = intent.rows
    return Recorded(
        first.repository,
        intent.digest,
        [*intent.tags_of(first.repository)],
        first.unused_since_ns,
        intent.name,
        disk_bytes,
        retired_at_ns,
        [Timer(row.repository, row.unused_since_ns) for row in others],
        [] if intent.is_bare else [*intent.copies],
        [] if intent.is_bare else [*intent.links],
        intent.content_status,
        [*intent.staying],
    )


def intent_of(record: Recorded) -> Intent:
    """Return the intent that was written so."""
    first = DueRow(record.repository, record.unused_since_ns)
    rows = (first, *(DueRow(row.repository, row.unused_since_ns) for row in record.others))
    copies, links = tuple(record.copies), tuple(record.links)
    is_bare = not copies
    if is_bare:
        copies = (Copy(record.repository, 0, record.name),)
        hexadecimal = hex_of(record.digest)
        links = tuple(Link(Layout.LEGACY, record.repository, tag, hexadecimal, 0) for tag in record.tags)
    return Intent(
        record.digest,
        rows,
        not copies[-1].repository,
        record.name,
        copies,
        links,
        record.content_status,
        tuple(record.staying),
        is_bare,
    )


def write_intents(filesystem: Filesystem, data_fd: int, batch_name: str, intents: Iterable[Intent]) -> None:
    """Record durably what is about to be done; on a full disk, in the space reserved for that.

    Raises:
        OSError: it could not be written.
    """
    content = msgspec.json.encode([record_of(intent) for intent in intents])
    with opened_own_folder(filesystem, data_fd, TRASH) as fd:
        try:
            # guard(intent-survives-power-loss): The intents are on the disk before the first rename, so a
            # power loss leaves no deletion that is half done.
            write_file(filesystem, batch_name + SUFFIX, content, fd, durable=True)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            # guard(intent-in-reserved-room): On a full disk the intent is written over reserved blocks;
            # without them nothing could be deleted when it matters.
            if not write_into_reserve(filesystem, data_fd, fd, batch_name + SUFFIX, content):
                raise


def read_intents(filesystem: Filesystem, data_fd: int, batch_name: str) -> list[Intent]:
    """Read a file of intents; empty where it has gone or holds none.

    Its contents are not trusted: an intent that hmret could not have written is left out.

    Raises:
        OSError: it exists but cannot be read.
    """
    path = f"{TRASH}/{batch_name}{SUFFIX}"
    try:
        records = read_document(read_file(filesystem, path, data_fd), list[Recorded])
    except (FileNotFoundError, UnreadableError):
        return []
    # guard(only-own-intents-count): A damaged or planted intent could name any path, so only one that we
    # could have written is carried out.
    return [intent_of(record) for record in records if is_ours(record, batch_name)]


def is_ours(record: Recorded, batch_name: str) -> bool:
    """Return whether hmret could have written a record under the name of a batch: only then it is trusted."""
    head, _, number = record.name.partition(".")
    return (
        head == batch_name
        and number.isdecimal()
        and is_repository(record.repository)
        and record.digest == digest_of(hex_of(record.digest))
        and DIGEST_HEX.fullmatch(hex_of(record.digest)) is not None
        and all(TAG_NAME.fullmatch(tag) for tag in record.tags)
        and all(is_repository(row.repository) for row in record.others)
        and all(_is_own_copy(copy, record) for copy in record.copies)
        # Content is the last of them.
        and all(copy.repository for copy in record.copies[:-1])
        and all(map(_is_own_link, record.links))
        and all(not copy.name and is_repository(copy.repository) for copy in record.staying)
    )


def _is_own_copy(copy: Copy, record: Recorded) -> bool:
    """Return whether hmret could have named a folder so."""
    head, _, number = copy.name.removeprefix(record.name).rpartition(".")
    is_named = copy.name == record.name or (
        copy.name.startswith(f"{record.name}.") and not head and number.isdecimal()
    )
    return is_named and (not copy.repository or is_repository(copy.repository))


def _is_own_link(link: Link) -> bool:
    return TAG_NAME.fullmatch(link.tag) is not None and is_repository(link.repository)


def drop_intents(filesystem: Filesystem, data_fd: int, batch_name: str, repositories: Iterable[str]) -> None:
    """Drop a file of intents: all of it is done, except that some folders may have been left empty.

    `repositories`: those that it names.
    """
    remove_empty_repositories(filesystem, data_fd, repositories)
    with suppress(FileNotFoundError), opened_data_folder(filesystem, data_fd, TRASH) as fd:
        if not _file_away(filesystem, data_fd, fd, batch_name + SUFFIX):
            filesystem.unlink(batch_name + SUFFIX, dir_fd=fd)


def _file_away(filesystem: Filesystem, data_fd: int, trash_fd: int, name: str) -> bool:
    """Move a file of intents to those that are completed; returns whether it has left the trash.

    It is renamed, so a crash at any moment leaves it in one of the two places: no recent deletion is ever
    forgotten.
    """
    try:
        with opened_own_folder(filesystem, data_fd, DELETED) as fd:
            filesystem.rename(name, name, src_dir_fd=trash_fd, dst_dir_fd=fd)
    except OSError:
        return False
    # guard(twice-named-intents-go): After a power loss btrfs may show a file under both names; the rename does
    # nothing then, and every start would go through the intents again.
    with suppress(FileNotFoundError):
        filesystem.unlink(name, dir_fd=trash_fd)
    return True


def list_trash(filesystem: Filesystem, data_fd: int) -> tuple[list[str], list[str]]:
    """List the trash: the names of the batches whose intents are there, and the names of everything else."""
    try:
        fd = open_data_folder(filesystem, data_fd, TRASH)
    except FileNotFoundError:
        return [], []
    with opened(filesystem, fd), filesystem.scandir(fd) as entries:
        names = sorted(entry.name for entry in entries)
    batch_names = [name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)]
    return batch_names, [name for name in names if not name.endswith(SUFFIX)]


def new_batch_name() -> str:
    """Return a name that no earlier batch had."""
    return os.urandom(8).hex()
