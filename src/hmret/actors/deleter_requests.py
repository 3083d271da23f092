"""What is asked of the deleter, and what it answers."""

from collections.abc import Callable

from hmret.actors.mailbox import Request
from hmret.disk.deletion.outcomes import Candidate, Outcome, Recheck, Retired
from hmret.disk.deletion.recovery.quarantine import Held, HeldImages
from hmret.disk.deletion.recovery.recovering import Recovery
from hmret.disk.deletion.recovery.restoring import PutBack
from hmret.disk.deletion.tags.tag_view import TagView
from hmret.disk.deletion.trash.intents import Intent, Link, TrashEntry
from hmret.disk.image_claim import UNCONTESTED, Claim
from hmret.model.values import frozen

__all__ = [
    "BatchFreed",
    "BatchRetired",
    "BringBack",
    "Free",
    "Hold",
    "ListHeld",
    "Recover",
    "RecoverQuarantine",
    "RecoveredQuarantine",
    "Redate",
    "Release",
    "Released",
    "Restore",
    "Retire",
]


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
    """What came of releasing images from quarantine, in their order; those at the end that were not begun are left out."""

    disk_bytes: tuple[int, ...]
    """The bytes that came free with each."""
    done: tuple[bool, ...]
    """Whether each has gone; what has not is no longer whole, and waits for the next time."""
    errors: tuple[tuple[TrashEntry, str], ...]


@frozen
class RecoveredQuarantine:
    """What is in quarantine when an engine begins."""

    held: tuple[Held, ...]
    """By when they were retired."""
    going: tuple[Held, ...]
    """Those whose erasing was cut off, and could not be finished."""
    freed_bytes: int
    errors: tuple[tuple[str, str], ...]


@frozen(eq=False, kw_only=True)
class Retire(Request[BatchRetired]):
    """Asks to delete a batch of images, as far as the claim that the asker has of them allows."""

    candidates: tuple[Candidate, ...]
    look: Recheck
    claim: Claim = UNCONTESTED
    view: TagView | None = None
    """Who links to what below `repositories/`, as the scan saw it; None: nothing is known."""
    within_ns: int | None = None
    """No image is begun longer than this after the first; None: that does not matter."""
    is_interrupted: Callable[[], bool] = lambda: False
    """Asked before each image, in the thread; once it says so, none is begun any more."""


@frozen(eq=False, kw_only=True)
class Free(Request[BatchFreed]):
    """Asks to free the bytes of a retired batch."""

    token: str
    places: tuple[TrashEntry, ...]


@frozen(eq=False, kw_only=True)
class Hold(Request[tuple[Held, ...]]):
    """Asks to put a retired batch into quarantine."""

    token: str
    retired: tuple[Retired, ...]
    retired_at_ns: int


@frozen(eq=False, kw_only=True)
class Release(Request[Released]):
    """Asks to erase images in quarantine, which nobody restores any more."""

    images: tuple[Held, ...]
    may_go_on: Callable[[], bool] = lambda: True
    """Asked before each image, in the thread; once it says no, none is begun any more."""


@frozen(eq=False, kw_only=True)
class Restore(Request[PutBack]):
    """Asks to bring an image back from quarantine, which the asker uses and nobody releases."""

    held: Held
    unused_since_ns: int


@frozen(eq=False, kw_only=True)
class BringBack(Request[bool]):
    """Asks to put a retired image back whole, which the asker uses and nobody erases."""

    intent: Intent
    beside: tuple[Link, ...] = ()
    """Tags that went with the folders that others had of the digest of content."""


@frozen(eq=False, kw_only=True)
class Redate(Request[tuple[Held, ...]]):
    """Asks to write down, for those images of a batch that were retired after a moment, that it was then."""

    token: str
    latest_ns: int


@frozen(eq=False, kw_only=True)
class RecoverQuarantine(Request[RecoveredQuarantine]):
    """Asks what is in quarantine, with what a stop cut off there finished or undone; nobody else works on it."""


@frozen(eq=False, kw_only=True)
class ListHeld(Request[HeldImages]):
    """Asks what is in quarantine; changes nothing."""


@frozen(eq=False, kw_only=True)
class Recover(Request[Recovery]):
    """Asks to finish or undo what was cut off; nobody else works on these images meanwhile."""

    hold_at_ns: int | None = None
    """When what is finished went into quarantine; None: its bytes are freed."""
