"""What is asked of a deletion, and what can become of it."""

from collections.abc import Set as AbstractSet

import attrs

from hmret.disk.deletion.trash.intents import Link, Row, TrashEntry
from hmret.model.images import Image, Key
from hmret.model.values import frozen
from hmret.model.verdicts import Reason

__all__ = ["Candidate", "Chosen", "Failed", "Kept", "Outcome", "Recheck", "Retired"]


@frozen
class Chosen:
    """What a policy has gone by: where the last look finds another, the next sweep is to decide anew."""

    tags: tuple[str, ...] | None
    """All tags, sorted; None: whatever they are."""
    created_ns: int | None
    pullable: bool | None

    def is_unchanged(self, image: Image) -> bool:
        """Return whether an image says the same of itself."""
        return (image.created_ns, image.pullable) == (self.created_ns, self.pullable)


@frozen
class Candidate:
    """An image that a plan wants deleted, with all its rows."""

    repository: str
    """Of its first row."""
    digest: str
    unused_since_ns: int
    """Of its first row."""
    chosen: Chosen | None = None
    """What its first row was chosen with; None: that does not matter."""
    is_content: bool = False
    """Whether it is content; else it is the repository's own folder."""
    others: tuple[tuple[Row, Chosen | None], ...] = ()
    """The other rows of its content, and what each was chosen with."""

    @property
    def key(self) -> Key:
        """Its first row."""
        return self.repository, self.digest

    @property
    def rows(self) -> tuple[Row, ...]:
        """All its rows."""
        return (Row(self.repository, self.unused_since_ns), *(row for row, _ in self.others))

    @property
    def keys(self) -> tuple[Key, ...]:
        """The same as repository and digest."""
        return tuple((row.repository, self.digest) for row in self.rows)

    def chosen_with(self, repository: str) -> Chosen | None:
        """Return what the row of a repository was chosen with."""
        if repository == self.repository:
            return self.chosen
        return next((chosen for row, chosen in self.others if row.repository == repository), None)


@frozen
class Recheck:
    """What a batch is judged by, right before it goes."""

    protected: AbstractSet[Key]
    """Referenced, as found after the locks were got."""
    unused_for_ns: int
    """The shortest time for which any image must have been unused."""
    now_ns: int
    asks_leases: bool = True
    """Whether the kernel is asked who has a disk open; not where a rename breaks its word."""


@frozen
class Retired:
    """An image that is out of the cache; its bytes wait in the trash."""

    place: TrashEntry
    """Of its content, or of its one folder."""
    tags: tuple[str, ...]
    """The tags of its first row that went with it."""
    faults: tuple[tuple[str, str], ...] = ()
    """Paths of what should have gone with it and did not, and why."""
    others: tuple[TrashEntry, ...] = ()
    """Of the folders that repositories had of their own beside the content."""
    links: tuple[Link, ...] = ()
    """All tags that went with it."""
    refusal: str = ""
    """Why it was not put back, though somebody has come to want it."""

    @property
    def key(self) -> Key:
        """Its first row."""
        return self.place.intent.repository, self.place.intent.digest

    @property
    def places(self) -> tuple[TrashEntry, ...]:
        """Where its folders stand, in the order in which they are erased: as long as content is left, it tells what it was."""
        return (*self.others, self.place)


@frozen
class Kept:
    """An image that stays after all."""

    key: Key
    """Its first row."""
    reason: Reason | None
    """None: it has gone by itself."""
    keys: tuple[Key, ...] = ()
    """All its rows, where there are several."""
    detail: str = ""
    cleared: bool = attrs.field(default=False, eq=False)
    """Whether its timers were cleared."""
    unfinished: bool = attrs.field(default=False, eq=False)
    """Whether something of it could not be erased that was out of the cache; the next recovery does that."""


@frozen
class Failed:
    """An image whose deletion failed; it is whole, and in its place unless it is `unfinished`."""

    key: Key
    path: str
    error: OSError
    unfinished: bool = False
    """Whether it stands in the trash, where the next recovery finishes or undoes its deletion."""
    keys: tuple[Key, ...] = ()
    """All its rows, where there are several."""
    is_unbegun: bool = attrs.field(default=False, eq=False)
    """Whether what failed was not about this image: nothing of its whole batch could be begun."""


Outcome = Retired | Kept | Failed
