"""Choosing what goes in one sweep, among the images that have expired and those that only their window keeps.

Each step looks at the whole cache, and is a value with one method. In order, the steps hold back images that
have expired, add images that must go to free disk space, and defer what is too much for one sweep.

What they decide is **final**: a reason that takes the place of the repository's own.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import chain, repeat
from typing import Protocol

import attrs
import msgspec

from hmret.model.deletion import Deletion
from hmret.model.images import Image, Inventory, Obstacle
from hmret.model.policy.brake import Brake, Braking
from hmret.model.policy.window import DeletionWindow
from hmret.model.references import Key
from hmret.model.values import define, frozen
from hmret.model.verdicts import Reason


class Choice(msgspec.Struct, frozen=True, order=True, gc=False):
    """A unit that may go, with all its rows; sorted by how long it has been unused.

    This is not an attrs class: there may be very many at once, and a struct without `gc` keeps them out of the
    garbage collector's rounds.
    """

    since_ns: int
    """Since when the last of its rows has been unused."""
    repository: str
    """The repository of its first row."""
    digest: str
    image: Image
    others: tuple[tuple[str, Image], ...] = ()
    """The other rows of the same content: repository and image, sorted."""

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys of all its rows."""
        first = self.repository, self.digest
        return (first,) if not self.others else (first, *((name, self.digest) for name, _ in self.others))

    @property
    def folders(self) -> Iterator[Image]:
        """The folders that go with it: content once, whatever its owners, and each repository's own folder."""
        yield from self.image.folders
        for _, image in self.others:
            if image.copy is not None:
                yield image.copy


@define(eq=False)
class BytesFreed:
    """The bytes freed by images that go: a disk with several links counts with the last of them."""

    total_bytes: int = 0
    links: Counter[tuple[int, int]] = attrs.field(factory=Counter)
    """How many links of each disk have gone."""

    @classmethod
    def by(cls, images: Iterable[Choice | Deletion]) -> "BytesFreed":
        """Add up what some images free."""
        freed = cls()
        for image in images:
            freed.add(image)
        return freed

    def add(self, image: Choice | Deletion) -> None:
        """Count one more image as gone."""
        for folder in image.folders:
            disk = folder.shared_disk
            if disk is None:
                self.total_bytes += folder.disk_bytes
                continue
            self.links[disk.identity] += 1
            if self.links[disk.identity] == disk.links:
                self.total_bytes += folder.disk_bytes


def apparent_bytes(images: Iterable[Choice | Deletion]) -> int:
    """Add up the apparent sizes of images; a disk with several links among them counts once."""
    total = 0
    linked: dict[tuple[int, int], int] = {}
    for image in images:
        for folder in image.folders:
            if folder.shared_disk is None:
                total += folder.size_bytes
            else:
                linked[folder.shared_disk.identity] = folder.size_bytes
    return total + sum(linked.values())


@frozen
class Pressure:
    """A limit of the disk is exceeded."""

    wanted_bytes: int
    """The bytes over the limits: those to free so that use falls to the low mark and to `max_used`."""
    asked_bytes: int
    """The part of `wanted_bytes` that is asked of the cache and its quarantine, in blocks: not all of it where
    other data fills the disk, none where only apparent sizes are over their limit.
    """
    quarantined_bytes: int
    """The part of `asked_bytes` that the quarantine can free."""
    projected_bytes: int
    """What the images that go will free, beside the quarantine."""
    is_watermark: bool
    """Whether the file system is above its high mark."""
    asked_sizes_bytes: int = 0
    """The apparent sizes of images that the cache must give up, where `max_used` counts those."""
    is_out_of_reach: bool = False
    """Whether the low mark would be missed even if everything that may go went."""

    @property
    def frees_at_once(self) -> bool:
        """Whether the space is needed now, so that deleted images skip the quarantine."""
        return self.asked_bytes > self.quarantined_bytes


@frozen
class Substitute:
    """Images that go, together, in place of one that cannot be deleted."""

    choices: tuple[Choice, ...]
    for_space: bool
    """Whether they go only while the disk still lacks the space that the others have not freed."""


@define(eq=False)
class Selection:
    """The choice made so far."""

    now_ns: int
    going: list[Choice]
    """Images that have expired, and later also those deleted to free space; longest unused first."""
    eligible: int
    """Images that may be deleted at all, now or later; shared content counts once."""
    cache_bytes: Callable[[], int]
    """Returns the blocks of all disks of the cache; a disk with several links counts once."""
    cache_sizes: Callable[[], int]
    """Returns the apparent sizes of all images that are ready; a disk with several links counts once."""
    evictable: Callable[[], Iterable[Choice]]
    """Lists the images that only their window keeps."""
    postponed: dict[Choice, Reason] = attrs.field(factory=dict)
    """Images that have expired but stay for now, and why."""
    taken_for_space: dict[Choice, Reason | None] = attrs.field(factory=dict)
    """Images deleted to free space, and why they were held before; None: they had not expired."""
    substitutes: list[Substitute] = attrs.field(factory=list)
    """The images to delete next, in this order, if one that was going cannot be deleted."""
    is_closed: bool = False
    """Whether nothing may go at this hour."""
    may_go_early: Callable[[Choice], bool] = lambda _: True
    """Returns whether an image may be deleted to free space, as far as that is known."""
    unasked: tuple[str, ...] = ()
    """The digests about whose other copies the fleet has to be asked before they may go."""
    to_ask: tuple[str, ...] = ()
    """These, and the digests on which the fleet's answer decided, since it may have changed."""
    kept_from_pressure: set[str] = attrs.field(factory=set)
    """The digests that the disk's limits cannot take because of what the fleet has said."""
    to_release: int = 0
    """How many of the images that go are the last of their digest here, so that the fleet has to be told."""
    braking: Braking | None = None
    pressure: Pressure | None = None

    def hold_back_all(self, reason: Reason) -> None:
        """Hold back everything that was going."""
        self.postponed.update(dict.fromkeys(self.going, reason))
        self.going = []

    def hold_back(self, reasons: Mapping[Choice, Reason]) -> None:
        """Hold back some of what was going; an image taken for space gets its earlier reason back."""
        if not reasons:
            return
        self.going = [choice for choice in self.going if choice not in reasons]
        for choice, reason in reasons.items():
            self._hold_back_one(choice, reason)
        self.project()

    def _hold_back_one(self, choice: Choice, reason: Reason) -> None:
        if choice not in self.taken_for_space:
            self.postponed[choice] = reason
        elif (earlier := self.taken_for_space.pop(choice)) is not None:
            self.postponed[choice] = earlier

    def project(self) -> None:
        """Update the pressure's `projected_bytes`."""
        if self.pressure is not None:
            projected = BytesFreed.by(self.going).total_bytes
            self.pressure = attrs.evolve(self.pressure, projected_bytes=projected)

    def take_for_space(self, choices: Iterable[Choice]) -> None:
        """Add images that are deleted to free space."""
        for choice in choices:
            self.taken_for_space[choice] = self.postponed.pop(choice, None)
            self.going.append(choice)

    def defer(self, choices: Iterable[Choice]) -> None:
        """Leave images to a later sweep, or to this one in place of others; one taken for space gets its earlier reason back."""
        deferred: list[Substitute] = []
        for choice in choices:
            deferred.append(Substitute((choice,), for_space=choice in self.taken_for_space))
            self._hold_back_one(choice, Reason.DEFERRED)
        self.substitutes = [*deferred, *self.substitutes]

    def final_reasons(self) -> Mapping[str, Mapping[str, Reason]]:
        """Return the reasons decided here, which take the place of the repositories' own, by repository and digest."""
        finals: defaultdict[str, dict[str, Reason]] = defaultdict(dict)
        for choice, reason in chain(
            self.postponed.items(), zip(self.taken_for_space, repeat(Reason.DISK_PRESSURE))
        ):
            for repository, digest in choice.keys:
                finals[repository][digest] = reason
        return finals


class SelectionStep(Protocol):
    """One of the steps that choose what goes."""

    def apply(self, selection: Selection) -> None:
        """Hold images back, or add some."""
        ...


@frozen
class BrakeStep:
    """Holds back everything that has expired, if it is too much at once."""

    brake: Brake
    released_images: int
    """The number of expired images up to which it has been released."""

    def apply(self, selection: Selection) -> None:
        expired = len(selection.going)
        if self.brake.holds(expired, selection.eligible):
            is_released = expired <= self.released_images
            selection.braking = Braking(expired, selection.eligible, is_released)
            # guard(brake-holds-mass-expiry): When too much expires at once, a setting or a clock may be
            # wrong; all of it stays until that has been announced for long enough.
            if not is_released:
                selection.hold_back_all(Reason.BRAKE)


@frozen
class WindowStep:
    """Holds everything back outside the hours in which images may be deleted."""

    window: DeletionWindow
    now: datetime

    def apply(self, selection: Selection) -> None:
        # guard(only-at-allowed-hours): Outside the hours that the operator has set, nothing that has expired
        # is deleted.
        if not self.window.is_open(self.now):
            selection.is_closed = True
            selection.hold_back_all(Reason.OUTSIDE_WINDOW)


@frozen
class QuotaStep:
    """Defers what is too much for one sweep; those unused the longest go first, and one always goes."""

    max_deletes: int
    max_bytes: int

    def apply(self, selection: Selection) -> None:
        going = selection.going
        count = self._fitting(going)
        selection.going, rest = going[:count], going[count:]
        if not rest:
            return
        selection.defer(rest)
        selection.project()

    def _fitting(self, choices: list[Choice]) -> int:
        """Return how many of the images, from the first on, fit into one sweep."""
        count = min(len(choices), self.max_deletes or len(choices))
        if not self.max_bytes:
            return count
        freed = BytesFreed()
        for place, choice in enumerate(choices[:count]):
            freed.add(choice)
            if place and freed.total_bytes > self.max_bytes:
                return place
        return count


def with_obstacles(inventory: Inventory, obstacles: Mapping[Choice, Obstacle]) -> Inventory:
    """Return an inventory with obstacles to the deletion of images that are due.

    Images that hold something else count as broken, those at which hypeman is at work as not ready; all
    others are not tried.
    """
    repositories = dict(inventory.repositories)
    refused: dict[Key, Obstacle] = dict(inventory.obstacles)
    for choice, obstacle in obstacles.items():
        for name, digest in choice.keys:
            if not (obstacle.is_broken or obstacle.will_pass):
                refused[name, digest] = obstacle
                continue
            repository = repositories[name]
            images = {**repository.images, digest: _marked(repository.images[digest], obstacle)}
            repositories[name] = msgspec.structs.replace(repository, images=images)
    return attrs.evolve(
        inventory,
        repositories=repositories,
        obstacles=refused,
        backing_off=inventory.backing_off | refused.keys(),
    )


def _marked(image: Image, obstacle: Obstacle) -> Image:
    if obstacle.will_pass:
        return image.kept_for(making=obstacle.detail)
    return image.kept_for(foreign=obstacle.detail)
