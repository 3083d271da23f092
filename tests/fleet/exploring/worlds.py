"""What a state of the explored fleet is: the store, the hosts with their disks and memory, and what is on its way.

All of it is tuples, so that states can be compared and kept in sets. There are no revisions: what a transaction
compares with the revision of a key's last change is `FRESH` until that key changes, and then can never hold
again. So states that differ in nothing but revisions are the same state. Marks are the smallest numbers that
are on no record and nowhere else.
"""

from typing import Literal, NamedTuple, TypeAlias

__all__ = [
    "MARKS_OF_A_PLACE",
    "Compare",
    "Mind",
    "Operation",
    "Place",
    "Record",
    "Sent",
    "Store",
    "Value",
    "World",
    "owner_of",
]

MARKS_OF_A_PLACE = 100
"""Marks and leases from one multiple of this to the next are those of one place."""

Value: TypeAlias = str | int | tuple[str, int]
"""Text; a mark; or, of a token, a holder and a mark."""

Compare: TypeAlias = tuple[Literal["VALUE", "FRESH", "ABSENT", "EXISTS", "NEVER"], str, Value]
Operation: TypeAlias = tuple[Literal["PUT", "DELETE"], str, Value, int]
"""With the lease of a put."""

Store: TypeAlias = tuple[tuple[str, tuple[Value, int]], ...]
"""Keys in order, each with its value and its lease."""


class Sent(NamedTuple):
    """A transaction, as it is about to be sent or on its way."""

    kind: str
    place: int
    """Whose it is."""
    about: tuple[int, ...]
    """Digests."""
    compares: tuple[Compare, ...]
    operations: tuple[Operation, ...]


class Record(NamedTuple):
    """The record on a disk, without the marks that are nowhere else: by these nothing is judged."""

    generation: str
    has_done: bool
    marks: tuple[tuple[int, bool], ...]
    """Each with whether it is older than the last that is done."""
    digests: tuple[str, ...]
    """`+`, `?`, or nothing."""


class Mind(NamedTuple):
    """The memory of a running engine."""

    step: str
    """What it does next."""
    sent: Sent | None = None
    """The transaction that this is about."""
    session: int = 0
    is_live: bool = False
    doomed: tuple[bool, ...] = ()
    """By digest: its release was granted, and its deletion is still to come."""
    dropping: tuple[int, ...] = ()
    """By digest: units that are about to be deleted while others stay here."""
    before: str = ""
    """What was on record of the digest that is being released."""
    spent: int = 0
    """Releases that its token was used for."""
    mark: int = 0
    """The mark of the release that is under way."""


class Place(NamedTuple):
    """A data directory, and the engine that runs on it."""

    host: str
    units: tuple[int, ...]
    """By digest: in how many repositories it stands whole."""
    staged: tuple[bool, ...]
    """By digest: it is being pulled, and not yet whole."""
    lost: tuple[bool, ...]
    """By digest: somebody else deleted it since the session began."""
    cache: int
    """The cache id; 0: there is none that can be read."""
    record: Record | None
    """None: there is none that can be read."""
    mind: Mind | None
    """None: no engine runs here."""


class World(NamedTuple):
    """One state."""

    store: Store
    leases: frozenset[int]
    places: tuple[Place | None, ...]
    late: tuple[Sent, ...]
    """Sent, given up by who sent them, and not yet carried out."""
    left: tuple[int, ...]
    """How many disturbances of each kind may still come."""
    saved_store: tuple[Store, frozenset[int]] | None = None
    saved_place: tuple[int, Place] | None = None
    is_put_back: bool = False
    """Whether etcd was put back and not reset: what it counts then, nobody has promised."""


def owner_of(mark: int) -> int:
    """Return the place that made a mark or has a lease."""
    return mark // MARKS_OF_A_PLACE - 1
