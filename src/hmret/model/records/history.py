"""What has left the cache, added up by day and reason from the journal, and the latest entries of that."""

from collections.abc import Mapping
from datetime import date

from hmret.model.values import frozen

COUNTED = ("delete", "release", "restore", "recover")
"""The entries of the journal that are added up: an image left the cache, left the quarantine for good, came back from
there, or was removed by finishing a deletion that had been interrupted."""


@frozen
class Went:
    """The images of one UTC day to which the same happened for the same reason."""

    day: date
    event: str
    """One of `COUNTED`."""
    reason: str
    """Why they were deleted; empty: the entries name no reason."""
    images: int
    disk_bytes: int
    """Blocks that came free; 0 for an image that went into quarantine, until its release."""


@frozen
class History:
    """What the journal says of the past."""

    days: tuple[Went, ...]
    """The newest day first."""
    begins_ns: int | None
    """The time of the oldest entry that was found, in nanoseconds since the epoch; None: there is none."""
    latest: tuple[Mapping[str, object], ...]
    """The latest entries, oldest first."""
    unreadable: tuple[str, ...]
    """The names of the files that could not be read."""
