"""What becomes of images that were to be deleted."""

from hmret.disk.deletion.trash.intents import Intent, Link, TrashEntry
from hmret.model.deletion import Failed, Kept
from hmret.model.values import frozen


@frozen
class Retired:
    """An image that is out of the cache; its bytes wait in the trash."""

    intent: Intent
    places: tuple[TrashEntry, ...]
    """Where its folders are, in the order of their erasing; content last, as it shows which image it was."""
    links: tuple[Link, ...] = ()
    """The tags that went with it."""
    faults: tuple[tuple[str, str], ...] = ()
    """Paths that should have been removed with it but were not, and why."""
    not_put_back: str = ""
    """Why it was not put back, although a client has begun to use it again."""

    @property
    def place(self) -> TrashEntry:
        """The place of its content, or of its only folder."""
        return self.places[-1]


Outcome = Retired | Kept | Failed


@frozen
class BatchRetired:
    """What became of a batch."""

    batch_name: str
    """The name of its intents."""
    outcomes: tuple[Outcome, ...]
    """Of each unit that was begun; where none could be, of those that were to be."""
    lease_error: OSError | None
    """Why the kernel's leases are not offered here; None: they are."""
