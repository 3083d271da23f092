"""What goes in one sweep, of what has expired and of what only its window keeps.

Steps that look at the whole cache, each a value with one method. One after the other they hold back what has expired,
add what the disk needs, and put off what is too much for one sweep.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import chain, repeat
from typing import Protocol

import attrs
import msgspec

from hmret.model.images import Image, Key
from hmret.model.policy.brake import Brake, Braking
from hmret.model.policy.window import DeletionWindow
from hmret.model.values import define, frozen
from hmret.model.verdicts import Reason

__all__ = [
    "BrakeStep",
    "BytesFreed",
    "Choice",
    "Pressure",
    "QuotaStep",
    "Selection",
    "SelectionStep",
    "Substitute",
    "WindowStep",
    "apparent_bytes",
]


class Choice(msgspec.Struct, frozen=True, order=True, gc=False):
    """An image that may go, whole, with all its rows; sorted by how long it has been unused.

    No attrs class: there may be very many at once, and these stay out of the garbage collector's rounds.
    """

    since_ns: int
    """Since when its last row has been unused."""
    repository: str
    """Of its first row."""
    digest: str
    image: Image
    others: tuple[tuple[str, Image], ...] = ()
    """The other rows of the same content: repository and image, sorted."""

    @property
    def keys(self) -> tuple[Key, ...]:
        """Its rows."""
        first = self.repository, self.digest
        return (first,) if not self.others else (first, *((name, self.digest) for name, _ in self.others))

    @property
    def folders(self) -> Iterator[Image]:
        """The folders that go with it: content once, whoever has it, and each that a repository has of its own."""
        yield from self.image.folders
        for _, image in self.others:
            if image.copy is not None:
                yield image.copy


@define(eq=False)
class BytesFreed:
    """The bytes that come free with images that go: a disk with several links counts with the last of them."""

    total_bytes: int = 0
    links: Counter[tuple[int, int]] = attrs.field(factory=Counter)
    """How many links of a disk have gone."""

    @classmethod
    def by(cls, choices: Iterable[Choice]) -> "BytesFreed":
        """Add up what comes free with some images."""
        freed = cls()
        for choice in choices:
            freed.add(choice)
        return freed

    def add(self, choice: Choice) -> None:
        """Let an image go."""
        for folder in choice.folders:
            disk = folder.shared_disk
            if disk is None:
                self.total_bytes += folder.disk_bytes
                continue
            self.links[disk.identity] += 1
            if self.links[disk.identity] == disk.links:
                self.total_bytes += folder.disk_bytes


def apparent_bytes(choices: Iterable[Choice]) -> int:
    """Add up the apparent sizes of images, those of a disk with several links among them once."""
    total = 0
    linked: dict[tuple[int, int], int] = {}
    for choice in choices:
        for folder in choice.folders:
            if folder.shared_disk is None:
                total += folder.size_bytes
            else:
                linked[folder.shared_disk.identity] = folder.size_bytes
    return total + sum(linked.values())


@frozen
class Pressure:
    """A limit of the disk is exceeded."""

    wanted_bytes: int
    """What must come free to get down to the low mark and to `max_used`."""
    asked_bytes: int
    """What blocks are asked of the cache and its quarantine: less where somebody else fills the disk, none where only the
    apparent sizes are too much."""
    quarantined_bytes: int
    """What of that the quarantine has."""
    projected_bytes: int
    """What comes free with the images that go, beside the quarantine."""
    is_watermark: bool
    """Whether it is the file system that is too full."""
    asked_sizes_bytes: int = 0
    """What apparent sizes of images are asked of the cache, where `max_used` counts those."""
    is_out_of_reach: bool = False
    """Whether the low mark could not be reached if all went that may."""

    @property
    def frees_at_once(self) -> bool:
        """Whether the bytes of what goes are needed now, so that it gets no quarantine."""
        return self.asked_bytes > self.quarantined_bytes


@frozen
class Substitute:
    """Images that go, together, in place of one that turns out not to be deletable."""

    choices: tuple[Choice, ...]
    for_space: bool
    """Whether they go only while the disk needs what the others have not freed."""


@define(eq=False)
class Selection:
    """What is chosen so far."""

    now_ns: int
    going: list[Choice]
    """What has expired, later also what goes for want of space; longest unused first."""
    eligible: int
    """Images that may go at all, now or later; one that several repositories share counts once."""
    cache_bytes: Callable[[], int]
    """Tells the blocks of all disks of the cache, those with several links once."""
    cache_sizes: Callable[[], int]
    """Tells the apparent sizes of all that are ready, those with several links once."""
    evictable: Callable[[], Iterable[Choice]]
    """Lists what only its window keeps."""
    held: dict[Choice, Reason] = attrs.field(factory=dict)
    """What has expired and stays for now, and why."""
    pressed: dict[Choice, Reason | None] = attrs.field(factory=dict)
    """What goes for want of space, and why it was held before; None: it was not, it had not expired."""
    substitutes: list[Substitute] = attrs.field(factory=list)
    """What goes next, in this order, if something that was going cannot be deleted."""
    is_closed: bool = False
    """Whether nothing may go at this hour."""
    braking: Braking | None = None
    pressure: Pressure | None = None

    def hold_all(self, reason: Reason) -> None:
        """Hold back whatever was going."""
        self.held.update(dict.fromkeys(self.going, reason))
        self.going = []

    def press(self, choices: Iterable[Choice]) -> None:
        """Let images go for want of space."""
        for choice in choices:
            self.pressed[choice] = self.held.pop(choice, None)
            self.going.append(choice)

    def put_off(self, choices: Iterable[Choice]) -> None:
        """Leave for a later sweep what was going; what went for want of space is again what it was before."""
        put_off: list[Substitute] = []
        for choice in choices:
            put_off.append(Substitute((choice,), for_space=choice in self.pressed))
            if choice not in self.pressed:
                self.held[choice] = Reason.DEFERRED
            elif (earlier := self.pressed.pop(choice)) is not None:
                self.held[choice] = earlier
        self.substitutes = [*put_off, *self.substitutes]

    def final_reasons(self) -> Mapping[str, Mapping[str, Reason]]:
        """Return what was decided here, by repository and digest."""
        finals: defaultdict[str, dict[str, Reason]] = defaultdict(dict)
        for choice, reason in chain(self.held.items(), zip(self.pressed, repeat(Reason.DISK_PRESSURE))):
            for repository, digest in choice.keys:
                finals[repository][digest] = reason
        return finals


class SelectionStep(Protocol):
    """One of the things that decide on what goes."""

    def apply(self, selection: Selection) -> None:
        """Hold something back, or add something."""
        ...


@frozen
class BrakeStep:
    """Holds all that has expired where it is too much at once."""

    brake: Brake
    released_images: int
    """Up to how many expired images it lets go."""

    def apply(self, selection: Selection) -> None:
        expired = len(selection.going)
        if self.brake.holds(expired, selection.eligible):
            is_released = expired <= self.released_images
            selection.braking = Braking(expired, selection.eligible, is_released)
            # guard(brake-holds-mass-expiry): When too much expires at once, a setting or a clock may be wrong; all of
            # it stays until that has been announced for long enough.
            if not is_released:
                selection.hold_all(Reason.BRAKE)


@frozen
class WindowStep:
    """Holds everything back outside the hours in which images may go."""

    window: DeletionWindow
    now: datetime

    def apply(self, selection: Selection) -> None:
        # guard(only-at-allowed-hours): Outside the hours that the operator has set, nothing that has expired is
        # deleted.
        if not self.window.is_open(self.now):
            selection.is_closed = True
            selection.hold_all(Reason.OUTSIDE_WINDOW)


@frozen
class QuotaStep:
    """Puts off what is too much for one sweep; those unused the longest go first, and one always goes."""

    max_deletes: int
    max_bytes: int

    def apply(self, selection: Selection) -> None:
        going = selection.going
        count = self._fitting(going)
        selection.going, rest = going[:count], going[count:]
        if not rest:
            return
        selection.put_off(rest)
        if selection.pressure is not None:
            projected = BytesFreed.by(selection.going).total_bytes
            selection.pressure = attrs.evolve(selection.pressure, projected_bytes=projected)

    def _fitting(self, choices: list[Choice]) -> int:
        """Return how many of the first images fit into one sweep."""
        count = min(len(choices), self.max_deletes or len(choices))
        if not self.max_bytes:
            return count
        freed = BytesFreed()
        for place, choice in enumerate(choices[:count]):
            freed.add(choice)
            if place and freed.total_bytes > self.max_bytes:
                return place
        return count
