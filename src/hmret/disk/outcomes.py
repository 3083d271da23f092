"""What is asked of a deletion, and what can become of it."""

from collections.abc import Set as AbstractSet

import attrs

from hmret.disk.trash import Place
from hmret.model.images import Image, Key
from hmret.model.verdicts import Reason

__all__ = ["Candidate", "Chosen", "Failed", "Kept", "LastLook", "Outcome", "Retired"]


@attrs.frozen
class Chosen:
    """What a policy has gone by: where the last look finds another, the next sweep is to decide anew."""

    tags: tuple[str, ...] | None
    """All tags, sorted; None: whatever they are."""
    created_ns: int | None
    pullable: bool | None

    def is_still(self, image: Image) -> bool:
        """Tell whether an image says the same of itself."""
        return (image.created_ns, image.pullable) == (self.created_ns, self.pullable)


@attrs.frozen(order=True)
class Candidate:
    """An image that a plan wants deleted."""

    repository: str
    digest: str
    unused_since_ns: int
    chosen: Chosen | None = attrs.field(default=None, order=False)
    """What it was chosen with; None: that does not matter."""

    @property
    def key(self) -> Key:
        """The image."""
        return self.repository, self.digest


@attrs.frozen
class LastLook:
    """What a batch is judged by, right before it goes."""

    protected: AbstractSet[Key]
    """Referenced, as found after the locks were got."""
    unused_for_ns: int
    """The shortest time for which any image must have been unused."""
    now_ns: int


@attrs.frozen
class Retired:
    """An image that is out of the cache; its bytes wait in the trash."""

    place: Place
    tags: tuple[str, ...]
    """The tags that went with it."""
    faults: tuple[tuple[str, str], ...] = ()
    """Paths of what should have gone with it and did not, and why."""

    @property
    def key(self) -> Key:
        """The image."""
        return self.place.intent.repository, self.place.intent.digest


@attrs.frozen
class Kept:
    """An image that stays after all."""

    key: Key
    reason: Reason | None
    """None: it has gone by itself."""


@attrs.frozen
class Failed:
    """An image whose deletion failed; it is whole, and in its place unless it is `unfinished`."""

    key: Key
    path: str
    error: OSError
    unfinished: bool = False
    """Whether it stands in the trash, where the next recovery finishes or undoes its deletion."""


Outcome = Retired | Kept | Failed
