"""The quarantine: deleted images that are held whole in the trash, each batch by a record of its own.

A folder named in a record is held: it is not erased before it is released, whatever the intents of its batch
say. The record is written durably before those intents are dropped, so at each moment at least one of the two
says what the folder in the trash is: after a crash in between, both do, and the record counts. The record is
not rewritten when an image is released or restored: an image whose folders are nowhere in the trash is no
longer held, whatever the record says, and no later batch gets its name. The record is removed with the last
of its images. A record that hmret could not have written is not believed, and nothing of its batch is
touched.
"""

import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence, Set as AbstractSet
from contextlib import closing, suppress
from typing import Literal

import msgspec

from hmret.disk.deletion import wholeness
from hmret.disk.deletion.open_folders import OpenFolders, inode_of
from hmret.disk.deletion.outcomes import Retired
from hmret.disk.deletion.renaming import is_hidden_in_place
from hmret.disk.deletion.trash.erasing import FreedFolders, free_entries
from hmret.disk.deletion.trash.intents import (
    NO_CONTENT,
    Copy,
    Intent,
    Link,
    Row,
    TrashEntry,
    entry_in_trash,
    find_entries,
    intent_name,
    is_ours,
    list_trash,
    open_trash,
)
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import open_data_folder, opened, read_file, write_file
from hmret.disk.hypeman.scan import BLOCK
from hmret.disk.layout import OWN, ROOTFS_NAMES, TRASH, hex_of
from hmret.model.images import Key
from hmret.model.values import frozen

__all__ = [
    "RECORD",
    "Held",
    "HeldImages",
    "HeldRecords",
    "change_record",
    "drop_records",
    "hold",
    "is_whole",
    "load_held",
    "main_place",
    "read_records",
    "release",
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


@frozen
class HeldImages:
    """The images in quarantine."""

    held: tuple[Held, ...]
    """Those that are complete, by the time of their deletion."""
    going: tuple[Held, ...]
    """Those whose erasing has begun."""
    gone: tuple[Held, ...]
    """Those that no longer exist anywhere, although a record still names them."""
    errors: tuple[tuple[str, str], ...]
    """Paths that could not be read, and why."""
    back: tuple[Held, ...] = ()
    """Those whose content is back in the cache, while the folders that its owners have of their own are still
    to follow.
    """


def hold(
    filesystem: Filesystem,
    data_fd: int,
    token: str,
    retired: Sequence[Retired],
    retired_at_ns: int,
) -> list[Held]:
    """Record, durably, that deleted images of a batch are held, each with the tags that went with it.

    Raises:
        OSError: it could not be written, or an earlier record of the batch could not be read; nothing is held
            then.
    """
    earlier: list[Held] = []
    with suppress(FileNotFoundError):
        earlier = _read_record(filesystem, data_fd, token)
    disk_bytes = _blocks_of(filesystem, data_fd, [image.place.intent for image in retired])
    fresh = [_held(image, size, retired_at_ns) for image, size in zip(retired, disk_bytes, strict=True)]
    names = {held.name for held in fresh}
    _write_record(
        filesystem, data_fd, token, [*(image for image in earlier if image.name not in names), *fresh]
    )
    return fresh


def _held(image: Retired, disk_bytes: int, retired_at_ns: int) -> Held:
    intent = image.place.intent
    return Held(
        intent.repository,
        intent.digest,
        sorted(image.tags),
        intent.unused_since_ns,
        intent.name,
        disk_bytes,
        retired_at_ns,
        intent.others,
        intent.copies,
        [*image.links] if intent.copies else [],
        intent.beside,
        intent.staying,
    )


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
                record = _read_record(filesystem, data_fd, token)
                by_token[token] = {held.name: held for held in record}
            except FileNotFoundError:
                continue
            except OSError as error:
                by_token[token] = None
                errors.append((f"{_TRASH}/{name}", error.strerror or str(error)))
    return HeldRecords(by_token, tuple(errors))


def load_held(filesystem: Filesystem, data_fd: int) -> HeldImages:
    """Read what is in quarantine, without changing anything.

    Raises:
        OSError: the trash cannot be listed.
    """
    records = read_records(filesystem, data_fd)
    errors = list(records.errors)
    found: dict[str, list[Held]] = {"held": [], "going": [], "gone": [], "back": []}
    for record in records.by_token.values():
        for held in (record or {}).values():
            try:
                found[_state_of(filesystem, data_fd, held)].append(held)
            except OSError as error:
                errors.append((f"{_TRASH}/{held.name}", error.strerror or str(error)))
    found["held"].sort(key=lambda held: (held.retired_at_ns, held.name))
    return HeldImages(
        tuple(found["held"]),
        tuple(found["going"]),
        tuple(found["gone"]),
        tuple(errors),
        tuple(found["back"]),
    )


def _state_of(filesystem: Filesystem, data_fd: int, held: Held) -> Literal["held", "going", "gone", "back"]:
    """Return the state of one image, by where its folders are."""
    places = find_entries(filesystem, data_fd, held.intent)
    if not places:
        return "gone"
    main = main_place(held.intent, places)
    if main is not None and is_whole(filesystem, data_fd, main):
        return "held"
    content = held.intent.all_copies[-1]
    is_back = (
        main is None
        and inode_of(filesystem, data_fd, f"{content.parent}/{hex_of(held.digest)}") == content.inode
    )
    return "back" if is_back else "going"


def main_place(intent: Intent, places: Sequence[TrashEntry]) -> TrashEntry | None:
    """Return the main folder, content or a repository's own that goes alone; None: it is not among these."""
    last = len(intent.all_copies) - 1
    return next((place for place in places if place.number == last), None)


def is_whole(filesystem: Filesystem, data_fd: int, place: TrashEntry) -> bool:
    """Return whether a retired folder has both metadata and a disk: until its erasing has begun.

    Raises:
        OSError: that could not be determined.
    """
    with opened(filesystem, open_data_folder(filesystem, data_fd, place.folder)) as fd:
        return wholeness.is_whole(filesystem, fd, place.name)


def release(
    filesystem: Filesystem,
    data_fd: int,
    images: Iterable[Held],
    *,
    may_go_on: Callable[[], bool] = lambda: True,
    stopping: Callable[[], bool] = lambda: False,
    pause: Callable[[], None] = lambda: None,
) -> FreedFolders:
    """Erase the folders of images in quarantine, their metadata first; `drop_records` then forgets them.

    Returns the outcome of each, in order; an image that no longer exists counts as gone. Once `may_go_on`
    returns False, no further image is begun, and those are left out.
    """
    disk_bytes: list[int] = []
    done: list[bool] = []
    errors: list[tuple[TrashEntry, str]] = []
    for held in images:
        if not may_go_on():
            break
        try:
            places = find_entries(filesystem, data_fd, held.intent)
        except OSError as error:
            errors.append((entry_in_trash(held.intent), error.strerror or str(error)))
            disk_bytes.append(0)
            done.append(False)
            continue
        freed = free_entries(filesystem, data_fd, places, stopping=stopping, pause=pause)
        disk_bytes.append(sum(freed.disk_bytes))
        done.append(all(freed.done))
        errors.extend(freed.errors)
    return FreedFolders(tuple(disk_bytes), tuple(done), tuple(errors))


def drop_records(filesystem: Filesystem, data_fd: int, tokens: Collection[str]) -> None:
    """Drop the records of which nothing is left; one that cannot be removed is found at the next start."""
    for token in tokens:
        with suppress(OSError):
            record = _read_record(filesystem, data_fd, token)
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


def change_record(
    filesystem: Filesystem, data_fd: int, token: str, change: Callable[[Held], Held]
) -> list[Held]:
    """Rewrite the record of a batch, durably, with each of its images changed; returns the new contents.

    Raises:
        OSError: it could not be read or written; then it is unchanged.
    """
    record = [change(held) for held in _read_record(filesystem, data_fd, token)]
    _write_record(filesystem, data_fd, token, record)
    return record


def _write_record(filesystem: Filesystem, data_fd: int, token: str, record: Sequence[Held]) -> None:
    with opened(filesystem, open_trash(filesystem, data_fd)) as fd:
        # guard(held-record-is-durable): After a power loss only this record keeps an image in quarantine from
        # being erased, so it is on the disk before the intents go.
        write_file(filesystem, token + RECORD, msgspec.json.encode(record), fd, durable=True)


def _read_record(filesystem: Filesystem, data_fd: int, token: str) -> list[Held]:
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


def _blocks_of(filesystem: Filesystem, data_fd: int, intents: Iterable[Intent]) -> list[int]:
    """Return the blocks that erasing each image frees, if done in this order; 0 where unknown."""
    links: Counter[tuple[int, int]] = Counter()
    sizes: list[int] = []
    for intent in intents:
        size = 0
        with suppress(OSError):
            for place in find_entries(filesystem, data_fd, intent):
                size += _blocks_in(filesystem, data_fd, place, links)
        sizes.append(size)
    return sizes


def _blocks_in(
    filesystem: Filesystem, data_fd: int, place: TrashEntry, links: Counter[tuple[int, int]]
) -> int:
    """Return the blocks that erasing one folder frees, after those whose links have been counted."""
    size = 0
    for name in ROOTFS_NAMES:
        with suppress(OSError):
            status = filesystem.stat(
                f"{place.folder}/{place.name}/{name}", dir_fd=data_fd, follow_symlinks=False
            )
            disk = status.st_dev, status.st_ino
            links[disk] += 1
            if stat.S_ISREG(status.st_mode) and links[disk] == status.st_nlink:
                size += status.st_blocks * BLOCK
    return size
