"""The quarantine: deleted images that are held whole in the trash, as the records of `quarantine_records` say."""

import stat
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Literal

import msgspec

from hmret.disk.deletion.outcomes import Retired
from hmret.disk.deletion.recovery.quarantine_records import HeldImage, read_record, read_records, write_record
from hmret.disk.deletion.trash.erasing import FreedFolders, free_entries
from hmret.disk.deletion.trash.intents import Intent, TrashEntry, entry_in_trash, find_entries
from hmret.disk.deletion.trash.wholeness import has_metadata_and_disk
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import inode_of, opened_data_folder
from hmret.disk.hypeman.scan import BLOCK
from hmret.disk.layout import ROOTFS_NAMES, TRASH
from hmret.model.deletion import DueRow
from hmret.model.values import frozen


@frozen
class QuarantineContents:
    """The images in quarantine."""

    held: tuple[HeldImage, ...]
    """Those that are complete, by the time of their deletion."""
    erasing: tuple[HeldImage, ...]
    """Those whose erasing has begun."""
    vanished: tuple[HeldImage, ...]
    """Those that no longer exist anywhere, although a record still names them."""
    errors: tuple[tuple[str, str], ...]
    """Paths that could not be read, and why."""
    freed_bytes: int = 0
    """Blocks that were freed where those whose erasing had begun were finished."""
    back: tuple[HeldImage, ...] = ()
    """Those whose content is back in the cache, while the folders that its owners have of their own are still
    to follow.
    """


def hold(
    filesystem: Filesystem,
    data_fd: int,
    batch_name: str,
    retired: Sequence[Retired],
    retired_at_ns: int,
) -> list[HeldImage]:
    """Record, durably, that deleted images of a batch are held, each with the tags that went with it.

    Raises:
        OSError: it could not be written, or an earlier record of the batch could not be read; nothing is held
            then.
    """
    earlier: list[HeldImage] = []
    with suppress(FileNotFoundError):
        earlier = read_record(filesystem, data_fd, batch_name)
    disk_bytes = _blocks_of(filesystem, data_fd, [image.intent for image in retired])
    fresh = [_held(image, size, retired_at_ns) for image, size in zip(retired, disk_bytes, strict=True)]
    names = {held.name for held in fresh}
    write_record(
        filesystem, data_fd, batch_name, [*(image for image in earlier if image.name not in names), *fresh]
    )
    return fresh


def _held(image: Retired, disk_bytes: int, retired_at_ns: int) -> HeldImage:
    # Of a row, only the timer is recorded; of the tags, those that went.
    rows = tuple([DueRow(row.repository, row.unused_since_ns) for row in image.intent.rows])
    intent = msgspec.structs.replace(image.intent, rows=rows, links=image.links)
    return HeldImage.of(intent, disk_bytes, retired_at_ns)


def load_held(filesystem: Filesystem, data_fd: int) -> QuarantineContents:
    """Read what is in quarantine, without changing anything.

    Raises:
        OSError: the trash cannot be listed.
    """
    records = read_records(filesystem, data_fd)
    errors = list(records.errors)
    found: dict[str, list[HeldImage]] = {"held": [], "erasing": [], "vanished": [], "back": []}
    for record in records.by_batch.values():
        for held in (record or {}).values():
            try:
                found[_state_of(filesystem, data_fd, held)].append(held)
            except OSError as error:
                errors.append((f"{TRASH}/{held.name}", error.strerror or str(error)))
    found["held"].sort(key=lambda held: (held.retired_at_ns, held.name))
    return QuarantineContents(
        tuple(found["held"]),
        tuple(found["erasing"]),
        tuple(found["vanished"]),
        tuple(errors),
        back=tuple(found["back"]),
    )


def _state_of(
    filesystem: Filesystem, data_fd: int, held: HeldImage
) -> Literal["held", "erasing", "vanished", "back"]:
    """Return the state of one image, by where its folders are."""
    places = find_entries(filesystem, data_fd, held)
    if not places:
        return "vanished"
    main = main_place(held, places)
    if main is not None and entry_has_metadata_and_disk(filesystem, data_fd, main):
        return "held"
    is_back = main is None and inode_of(filesystem, data_fd, held.path) == held.copies[-1].inode
    return "back" if is_back else "erasing"


def main_place(intent: Intent, places: Sequence[TrashEntry]) -> TrashEntry | None:
    """Return the main folder, content or a repository's own that goes alone; None: it is not among these."""
    last = len(intent.copies) - 1
    return next((place for place in places if place.number == last), None)


def entry_has_metadata_and_disk(filesystem: Filesystem, data_fd: int, place: TrashEntry) -> bool:
    """Return whether a retired folder has both metadata and a disk: until its erasing has begun.

    Raises:
        OSError: that could not be determined.
    """
    with opened_data_folder(filesystem, data_fd, place.folder) as fd:
        return has_metadata_and_disk(filesystem, fd, place.name)


def release(
    filesystem: Filesystem,
    data_fd: int,
    images: Iterable[HeldImage],
    *,
    may_go_on: Callable[[], bool] = lambda: True,
    stopping: Callable[[], bool] = lambda: False,
    pause: Callable[[], None] = lambda: None,
) -> FreedFolders:
    """Erase the folders of images in quarantine, their metadata first; `drop_records` then forgets them.

    Returns the outcome of each, in order; an image that no longer exists counts as gone. Once `may_go_on`
    returns False, no further image is begun, and those are left out.
    """
    released: list[FreedFolders] = []
    for held in images:
        if not may_go_on():
            break
        try:
            places = find_entries(filesystem, data_fd, held)
        except OSError as error:
            fault = entry_in_trash(held), error.strerror or str(error)
            released.append(FreedFolders((0,), (False,), (fault,)))
            continue
        released.append(free_entries(filesystem, data_fd, places, stopping=stopping, pause=pause))
    return FreedFolders(
        tuple(sum(freed.disk_bytes) for freed in released),
        tuple(all(freed.done) for freed in released),
        tuple(fault for freed in released for fault in freed.errors),
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
