"""The request to delete an image, and its possible outcomes."""

from collections.abc import Set as AbstractSet

import attrs

from hmret.disk.deletion.trash.intents import Link, Row, TrashEntry
from hmret.model.images import Image, Key
from hmret.model.values import frozen
from hmret.model.verdicts import Reason

__all__ = ["Candidate", "Chosen", "Failed", "Kept", "Outcome", "Recheck", "Retired"]


@frozen
class Chosen:
    """The properties by which a policy chose an image; if they have changed, the next sweep decides again."""

    tags: tuple[str, ...] | None
    """All tags, sorted; None: whatever they are."""
    created_ns: int | None
    pullable: bool | None

    def is_unchanged(self, image: Image) -> bool:
        """Return whether an image still has these properties."""
        return (image.created_ns, image.pullable) == (self.created_ns, self.pullable)


@frozen
class Candidate:
    """An image that a plan wants deleted, with all its rows."""

    repository: str
    """The repository of its first row."""
    digest: str
    unused_since_ns: int
    """The timer of its first row."""
    chosen: Chosen | None = None
    """The properties by which its first row was chosen; None: they do not matter."""
    is_content: bool = False
    """Whether it is content; else it is the repository's own folder."""
    others: tuple[tuple[Row, Chosen | None], ...] = ()
    """The other rows of its content, each with the properties by which it was chosen."""

    @property
    def key(self) -> Key:
        """The key of its first row."""
        return self.repository, self.digest

    @property
    def rows(self) -> tuple[Row, ...]:
        """All its rows."""
        return (Row(self.repository, self.unused_since_ns), *(row for row, _ in self.others))

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys of all its rows."""
        return tuple((row.repository, self.digest) for row in self.rows)

    def chosen_with(self, repository: str) -> Chosen | None:
        """Return the properties by which a repository's row was chosen."""
        if repository == self.repository:
            return self.chosen
        return next((chosen for row, chosen in self.others if row.repository == repository), None)


@frozen
class Recheck:
    """What a batch is judged by, right before it goes."""

    protected: AbstractSet[Key]
    """Images that are referenced, as found after the locks were acquired."""
    unused_for_ns: int
    """The shortest time for which any image must have been unused."""
    now_ns: int
    asks_leases: bool = True
    """Whether write leases are used; not where a rename breaks them."""


@frozen
class Retired:
    """An image that is out of the cache; its bytes wait in the trash."""

    place: TrashEntry
    """The place of its content, or of its only folder."""
    tags: tuple[str, ...]
    """The tags of its first row that went with it."""
    faults: tuple[tuple[str, str], ...] = ()
    """Paths that should have been removed with it but were not, and why."""
    others: tuple[TrashEntry, ...] = ()
    """The places of the folders that repositories had of their own beside the content."""
    links: tuple[Link, ...] = ()
    """All tags that went with it."""
    refusal: str = ""
    """Why it was not put back, although a client has begun to use it again."""

    @property
    def key(self) -> Key:
        """The key of its first row."""
        return self.place.intent.repository, self.place.intent.digest

    @property
    def places(self) -> tuple[TrashEntry, ...]:
        """Where its folders are, in the order of their erasing; content last, as it shows which image it was."""
        return (*self.others, self.place)


@frozen
class Kept:
    """An image that stays after all."""

    key: Key
    """The key of its first row."""
    reason: Reason | None
    """None: it has already gone without hmret."""
    keys: tuple[Key, ...] = ()
    """The keys of all its rows, where there are several."""
    detail: str = ""
    cleared: bool = attrs.field(default=False, eq=False)
    """Whether its timers were cleared."""
    unfinished: bool = attrs.field(default=False, eq=False)
    """Whether a part of it that was out of the cache could not be erased; the next recovery does that."""


@frozen
class Failed:
    """An image whose deletion failed; it is whole, and in its place unless it is `unfinished`."""

    key: Key
    path: str
    error: OSError
    unfinished: bool = False
    """Whether it is in the trash, where the next recovery finishes or undoes its deletion."""
    keys: tuple[Key, ...] = ()
    """The keys of all its rows, where there are several."""
    is_unbegun: bool = attrs.field(default=False, eq=False)
    """Whether the failure was not about this image: nothing of its whole batch could be begun."""


Outcome = Retired | Kept | Failed
