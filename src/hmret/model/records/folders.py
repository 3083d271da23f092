"""Whether a folder is the one that it was, or a volume is not mounted: what is gone from it then was not removed.

A mount point without its volume is an empty folder. Nothing in it says so; but it is another folder than the one on
record, and what was in that one is missing. Either alone is an ordinary day: guests end, and folders are moved.
"""

from collections.abc import Callable, Iterator, Mapping

from hmret.model.clock.clock_guard import ClockReading
from hmret.model.images import Cause
from hmret.model.values import frozen

__all__ = [
    "CACHE_FOLDER",
    "REFERENCE_FOLDERS",
    "FolderMark",
    "FolderOnRecord",
    "FolderSeen",
    "LostFolder",
    "find_lost",
    "renewed",
]

CACHE_FOLDER = "images"
REFERENCE_FOLDERS = ("guests", "snapshots")
_TAGS = f"{CACHE_FOLDER}/repositories"
_ALWAYS = frozenset((f"{CACHE_FOLDER}/content", _TAGS))
"""Below the images: what nobody removes while there are images, be it a volume of its own or not."""

Missing = Callable[[str], tuple[int, int]]
"""Counts the timers of a folder of images: those whose image is missing, and those whose image is in it."""


@frozen
class FolderMark:
    """What tells one folder from another."""

    inode: int
    device: int
    """Changes with each mount on some file systems, so that it says nothing beyond one boot."""
    modified_ns: int


@frozen
class FolderSeen:
    """A folder as it is now."""

    mark: FolderMark | None
    """None: it is not there."""
    names: frozenset[str] = frozenset()
    """What is in it, as far as its record needs that."""
    is_volume: bool = False
    """Whether it is on another device than the folder that it lies in."""


@frozen
class FolderOnRecord:
    """A folder as it was when what is in it was last known."""

    boot_id: str
    mark: FolderMark
    names: frozenset[str] = frozenset()
    is_volume: bool = False


@frozen
class LostFolder:
    """A folder that is another one than on record, or gone, with half or more of what was in it missing."""

    name: str
    """Its path below the data directory."""
    cause: Cause
    missing: int
    known: int
    """How many things are on record in it."""
    is_gone: bool

    @property
    def detail(self) -> str:
        """What is wrong, and the remedy."""
        what = "is gone" if self.is_gone else "is another folder than before"
        things = "timers of images" if self.cause is Cause.LOST_IMAGES else "guests or snapshots"
        if self.name == _TAGS:
            things = "registries"
        return (
            f"it {what}, and {self.missing} of {self.known} {things} on record are missing; mount its volume, or, "
            f"if what is there now is right: hmret confirm {self.name}"
        )


def find_lost(
    record: Mapping[str, FolderOnRecord],
    seen: Mapping[str, FolderSeen],
    reading: ClockReading,
    missing: Missing,
) -> tuple[LostFolder, ...]:
    """List the folders that are lost.

    Args:
        record: what is on record, by path below the data directory.
        seen: what is there now. A folder that could not be looked at is left out, and is not lost.
        reading: what the clocks say now.
        missing: asked only where a folder of images is not what it was.
    """
    return tuple(_find_lost(record, seen, reading, missing))


def _find_lost(
    record: Mapping[str, FolderOnRecord],
    seen: Mapping[str, FolderSeen],
    reading: ClockReading,
    missing: Missing,
) -> Iterator[LostFolder]:
    is_cache_lost = False
    for name in sorted(record):
        known, now = record[name], seen.get(name)
        # guard(empty-mount-point-is-lost): An empty folder in the place of a volume does not mean that nothing is
        # needed: deletion waits for the mount.
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
            # What lies below it is lost with it.
            is_cache_lost = is_cache_lost or name == CACHE_FOLDER
            yield LostFolder(name, cause, gone, of, now.mark is None)


def _is_another(known: FolderOnRecord, now: FolderSeen, reading: ClockReading) -> bool:
    mark = now.mark
    # guard(device-within-one-boot): A device number tells a volume from its empty mount point, but only within one
    # boot: after a reboot it means nothing.
    return (
        mark is None
        or mark.inode != known.mark.inode
        # A time on record that lies ahead is that of a clock which was wrong, and tells nothing.
        or mark.modified_ns < known.mark.modified_ns <= reading.wall_ns
        or (known.boot_id == reading.boot_id and mark.device != known.mark.device)
    )


def _may_be_lost(name: str, known: FolderOnRecord, now: FolderSeen) -> bool:
    """Tell whether a folder of images can be a volume that is not mounted.

    hypeman removes the folder of a registry with the last image of it, and makes another one later: that is an
    ordinary day, but for an empty folder, which only a mount point is.
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
    """Make the next record: of what is there now, but for what is lost, and what could not be looked at.

    The very same record where nothing is new.
    """
    # guard(lost-names-stay-on-record): What a missing volume held stays on record; forgotten, it would not be missed
    # by the next sweep.
    kept = {name for name in record if name not in seen or _is_within(name, lost)}
    after = {name: record[name] for name in sorted(kept)}
    for name, now in seen.items():
        if name not in kept and now.mark is not None and not _is_within(name, lost):
            after[name] = FolderOnRecord(boot_id, now.mark, now.names, now.is_volume)
    return record if after == record else after


def _is_within(name: str, lost: frozenset[str]) -> bool:
    """Tell whether a folder is lost, or lies in one that is."""
    return name in lost or (CACHE_FOLDER in lost and name.startswith(f"{CACHE_FOLDER}/"))
