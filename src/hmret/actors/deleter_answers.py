"""What the deleter answers."""

from hmret.disk.deletion.outcomes import Outcome
from hmret.disk.deletion.recovery.held_records import Held
from hmret.disk.deletion.trash.intents import TrashEntry
from hmret.model.values import frozen

__all__ = ["BatchFreed", "BatchRetired", "RecoveredQuarantine", "Released"]


@frozen
class BatchRetired:
    """What became of a batch."""

    token: str
    outcomes: tuple[Outcome, ...]
    lease_error: OSError | None
    """Why the kernel's leases are not offered here; None: they are."""


@frozen
class BatchFreed:
    """The bytes that came free with each image of a batch."""

    disk_bytes: tuple[int, ...]
    """In the order of the retired images."""
    errors: tuple[tuple[TrashEntry, str], ...]
    """Folders that could not be erased, and why; they stay in the trash for the next time."""


@frozen
class Released:
    """What became of images that were to be released from quarantine, in their order; those not begun are missing at the end."""

    disk_bytes: tuple[int, ...]
    """The bytes that came free with each."""
    done: tuple[bool, ...]
    """Whether each has gone; one that has not is no longer whole, and stays for the next time."""
    errors: tuple[tuple[TrashEntry, str], ...]


@frozen
class RecoveredQuarantine:
    """What is in quarantine when an engine begins."""

    held: tuple[Held, ...]
    """In the order in which they were retired."""
    going: tuple[Held, ...]
    """Those whose erasing was cut off, and could not be finished."""
    freed_bytes: int
    errors: tuple[tuple[str, str], ...]
