"""Whether a folder is still the one on record, or a volume is not mounted, so that what is missing was not removed.

A mount point without its volume is an empty folder, and nothing in it says so. But it is a different folder
from the one on record, and what that one held is missing. Either alone is normal: guests end, and folders are
moved.
"""

from collections.abc import Callable, Mapping

from hmret.model.clock.clock_guard import ClockReading
from hmret.model.images import Cause
from hmret.model.values import frozen

CACHE_FOLDER = "images"
REFERENCE_FOLDERS = ("guests", "snapshots")
_TAGS = f"{CACHE_FOLDER}/repositories"
_ALWAYS = frozenset((f"{CACHE_FOLDER}/content", _TAGS))
"""Folders below the images that no one removes while there are images, whether or not they are volumes."""

Missing = Callable[[str], tuple[int, int]]
"""Counts the timers of a folder of images: those whose image is missing, and those whose image is present."""


@frozen
class FolderMark:
    """The properties by which a folder is recognised."""

    inode: int
    device: int
    """Changes with each mount on some file systems, so it proves nothing beyond one boot."""
    modified_ns: int


@frozen
class FolderSeen:
    """A folder as it is now."""

    mark: FolderMark | None
    """None: it does not exist."""
    names: frozenset[str] = frozenset()
    """The names in it, as far as its record needs them."""
    is_volume: bool = False
    """Whether it is on another device than its parent folder."""


@frozen
class FolderOnRecord:
    """A folder as it was when its contents were last known."""

    boot_id: str
    mark: FolderMark
    names: frozenset[str] = frozenset()
    is_volume: bool = False


@frozen
class LostFolder:
    """A folder that has gone, or is not the one on record, with half or more of its contents missing."""

    name: str
    """Its path below the data directory."""
    cause: Cause
    missing: int
    known: int
    """How many things are on record in it."""
    is_gone: bool

    @property
    def detail(self) -> str:
        """What is wrong, and its remedy."""
        what = "is gone" if self.is_gone else "is a different folder than before"
        things = "timers of images" if self.cause is Cause.LOST_IMAGES else "guests or snapshots"
        if self.name == _TAGS:
            things = "registries"
        return (
            f"it {what}, and {self.missing} of {self.known} {things} on record are missing; mount its volume, or, "
            f"if its present content is correct, run: hmret confirm {self.name}"
        )


def find_lost(
    record: Mapping[str, FolderOnRecord],
    seen: Mapping[str, FolderSeen],
    reading: ClockReading,
    missing: Missing,
) -> tuple[LostFolder, ...]:
    """List the folders that are lost, such as volumes that are not mounted.

    Args:
        record: what is on record, by path below the data directory.
        seen: the folders as they are now. One that could not be examined is absent here, and does not count
            as lost.
        reading: the clocks now.
        missing: called only where a folder of images is not the one on record.
    """
    lost: list[LostFolder] = []
    is_cache_lost = False
    for name in sorted(record):
        known, now = record[name], seen.get(name)
        # guard(empty-mount-point-is-lost): An empty folder in the place of a volume does not mean that
        # nothing is needed: deletion waits for the mount.
        if now is None or not _is_another(known, now, reading):
            continue
        if name in REFERENCE_FOLDERS:
            cause, gone, of = Cause.LOST_REFERENCES, len(known.names - now.names), len(known.names)
        elif is_cache_lost or not _may_be_lost(name, known, now):
            continue
        elif name == _TAGS:
            cause, gone, of = Cause.LOST_IMAGES, len(known.names - now.names), len(known.names)
        else:
            gone, present = missing(name)
            cause, of = Cause.LOST_IMAGES, gone + present
        if gone and 2 * gone >= of:
            # Everything below it is lost with it.
            is_cache_lost = is_cache_lost or name == CACHE_FOLDER
            lost.append(LostFolder(name, cause, gone, of, now.mark is None))
    return tuple(lost)


def _is_another(known: FolderOnRecord, now: FolderSeen, reading: ClockReading) -> bool:
    mark = now.mark
    # guard(device-within-one-boot): A device number tells a volume from its empty mount point, but only
    # within one boot: after a reboot it means nothing.
    return (
        mark is None
        or mark.inode != known.mark.inode
        # A recorded time that lies in the future comes from a wrong clock, and proves nothing.
        or mark.modified_ns < known.mark.modified_ns <= reading.wall_ns
        or (known.boot_id == reading.boot_id and mark.device != known.mark.device)
    )


def _may_be_lost(name: str, known: FolderOnRecord, now: FolderSeen) -> bool:
    """Return whether a missing folder of images may be a volume that is not mounted.

    hypeman removes the folder of a registry with the last image in it, and makes another one later. That is
    normal, except for an empty folder, which only a mount point is.
    """
    if name == CACHE_FOLDER or name in _ALWAYS or known.is_volume:
        return True
    return now.mark is not None and not now.names


def renewed(
    record: Mapping[str, FolderOnRecord],
    seen: Mapping[str, FolderSeen],
    boot_id: str,
    lost: frozenset[str],
) -> Mapping[str, FolderOnRecord]:
    """Make the next record: folders as they are now, but for those that are lost or could not be examined.

    Returns the very same record where nothing has changed.
    """
    # guard(lost-names-stay-on-record): What a missing volume held stays on record; forgotten, it would not be
    # missed by the next sweep.
    kept = {name for name in record if name not in seen or _is_within(name, lost)}
    after = {name: record[name] for name in sorted(kept)}
    for name, now in seen.items():
        if name not in kept and now.mark is not None and not _is_within(name, lost):
            after[name] = FolderOnRecord(boot_id, now.mark, now.names, now.is_volume)
    return record if after == record else after


def _is_within(name: str, lost: frozenset[str]) -> bool:
    """Return whether a folder is lost, or lies in one that is."""
    return name in lost or (CACHE_FOLDER in lost and name.startswith(f"{CACHE_FOLDER}/"))
