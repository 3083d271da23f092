"""The deleter's answers."""

from hmret.disk.deletion.outcomes import Outcome
from hmret.disk.deletion.recovery.held_records import Held
from hmret.disk.deletion.trash.intents import TrashEntry
from hmret.model.values import frozen

__all__ = ["BatchFreed", "BatchRetired", "RecoveredQuarantine", "Released"]


@frozen
class BatchRetired:
    """The outcome of a batch."""

    token: str
    outcomes: tuple[Outcome, ...]
    lease_error: OSError | None
    """Why the kernel offers no leases here; None: it does."""


@frozen
class BatchFreed:
    """The bytes freed by each image of a batch."""

    disk_bytes: tuple[int, ...]
    """In the same order as the retired images."""
    errors: tuple[tuple[TrashEntry, str], ...]
    """Folders that could not be erased, and why; they stay in the trash until the next attempt."""


@frozen
class Released:
    """The outcome of releasing images from quarantine, in order; those not started are missing at the end."""

    disk_bytes: tuple[int, ...]
    """The bytes freed by each."""
    done: tuple[bool, ...]
    """Whether each is gone; one that is not is no longer whole, and stays until the next attempt."""
    errors: tuple[tuple[TrashEntry, str], ...]


@frozen
class RecoveredQuarantine:
    """What is in quarantine when an engine starts."""

    held: tuple[Held, ...]
    """In the order in which they were retired."""
    going: tuple[Held, ...]
    """Those whose erasure was interrupted and could not be finished."""
    freed_bytes: int
    errors: tuple[tuple[str, str], ...]
