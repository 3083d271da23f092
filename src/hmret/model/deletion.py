"""One deletion: which image goes, with all its rows, what it was judged by, and how it ended where it did not go.

An image goes as a unit, whole or not at all: content with the rows of all its owners, or one repository's own
folder. A plan says which; what lies on the disk of it is found out right before it goes, and recorded as an
intent (`hmret.disk.deletion.trash.intents`), which is a deletion with its place in the trash.
"""

from collections.abc import Iterator, Set as AbstractSet

import attrs
import msgspec

from hmret.model.images import Image
from hmret.model.references import Key
from hmret.model.values import frozen
from hmret.model.verdicts import Reason


class DueRow(msgspec.Struct, frozen=True, gc=False):
    """One row of a unit that goes: its repository, and what it was judged by.

    If any of it has changed by the time the unit is to go, the next sweep decides again.
    """

    repository: str
    unused_since_ns: int
    """Its timer, in nanoseconds since the epoch."""
    reason: Reason = Reason.EXPIRED
    """Why it goes."""
    tags: tuple[str, ...] | None = None
    """All its tags, sorted; None: not known, as where a record is read, and then they do not matter."""
    image: Image | None = None
    """The row's image as the plan saw it; None: likewise."""

    def is_unchanged(self, image: Image) -> bool:
        """Return whether an image still has the age and the origin by which the row was judged."""
        judged = self.image
        return judged is None or (image.created_ns, image.pullable) == (judged.created_ns, judged.pullable)


class Deletion(msgspec.Struct, frozen=True, gc=False):
    """A unit that goes, with all its rows.

    This is not an attrs class: there may be very many at once, and a struct without `gc` keeps them out of the
    garbage collector's rounds.
    """

    digest: str
    rows: tuple[DueRow, ...]
    is_content: bool
    """Whether it is content; else it is the folder of its only row's repository."""

    @property
    def repository(self) -> str:
        """The repository of its first row."""
        return self.rows[0].repository

    @property
    def key(self) -> Key:
        """The key of its first row, by which it is known."""
        return self.rows[0].repository, self.digest

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys of all its rows."""
        return tuple([(row.repository, self.digest) for row in self.rows])

    @property
    def repositories(self) -> set[str]:
        """The repositories of its rows."""
        return {row.repository for row in self.rows}

    @property
    def folders(self) -> Iterator[Image]:
        """The folders that go, as the plan saw them: content once, and each own folder of a repository."""
        for number, row in enumerate(self.rows):
            if row.image is not None:
                yield from row.image.folders[min(number, 1) :]


@frozen
class RetireCriteria:
    """What a batch is judged by, right before it goes."""

    protected: AbstractSet[Key]
    """Images that are referenced, as found after the locks were acquired."""
    unused_for_ns: int
    """The shortest time for which any image must have been unused."""
    now_ns: int
    takes_leases: bool = True
    """Whether write leases are used; not where a rename breaks them."""
    depends_on_tags: bool = True
    """Whether the policy asks for the tags of an image; those of content always matter."""


@frozen
class Kept:
    """A unit that stays after all."""

    deletion: Deletion
    reason: Reason | None
    """None: what was to go is not here any more: it has gone without hmret, or another folder is in its place."""
    detail: str = ""
    cleared: bool = attrs.field(default=False, eq=False)
    """Whether its timers were cleared."""
    unfinished: bool = attrs.field(default=False, eq=False)
    """Whether a part of it that was out of the cache could not be erased; the next recovery does that."""


@frozen
class Failed:
    """A unit whose deletion failed; it is whole and in its place unless it is `unfinished`."""

    deletion: Deletion
    path: str
    error: OSError
    unfinished: bool = False
    """Whether some or all of it is, or may be, in the trash, or in its place with hidden metadata; the next recovery
    finishes or undoes its deletion.
    """
    is_unbegun: bool = attrs.field(default=False, eq=False)
    """Whether the failure was not about this image: nothing of its whole batch could be begun."""
