"""Small hosts in memory on which one digest is due, with hypeman on them, and what hypeman is asked for there."""

from collections.abc import Callable, Iterable
from datetime import timedelta

import attrs

from hmret.model.times import SECOND, format_time
from support.builders import DATA, START_NS, FakeClock, make_state
from support.host_disk import MemoryDisk
from support.hypeman_lookup import Reading
from support.hypeman_today import Call, Hypeman, finish
from support.memory_filesystem import MemoryFilesystem

__all__ = ["OLD_TIMER", "Reference", "Scene", "World"]

_AGE = timedelta(days=60)
_OLD_NS = START_NS - 40 * 24 * 3600 * SECOND
OLD_TIMER = format_time(_OLD_NS)
"""Since when the digest has been unused, as its timers have it."""

Reference = tuple[str, str]
"""Repository, and tag or digest."""


class World:
    """A host, and hypeman on it.

    Args:
        is_apart: whether hmret's trash and the images lie on different file systems.
    """

    def __init__(self, *, is_apart: bool = False) -> None:
        self.clock = FakeClock()
        self.clock.advance(-_AGE)
        self.filesystem = MemoryFilesystem(self.clock.now_ns)
        for folder in ("images", "guests", "snapshots", "system"):
            self.filesystem.make_folder(f"{DATA}/{folder}")
        if is_apart:
            self.filesystem.mount(f"{DATA}/images")
        self.disk = MemoryDisk(self.filesystem)
        self.hypeman = Hypeman(self.disk, self.clock.now)

    def do(self, *calls: Call) -> None:
        """Have hypeman do something while it is alone; it must succeed."""
        for call in calls:
            outcome = finish(call)
            assert outcome.kind == "done", str(outcome)

    def age(self, timers: Iterable[tuple[str, str]]) -> None:
        """Let two months pass, and give these rows (repository, digest without `sha256:`) timers that are due."""
        self.clock.advance(_AGE)
        for repository, hexadecimal in timers:
            make_state(self.filesystem, (repository, f"sha256:{hexadecimal}"), _OLD_NS)

    def reading(self) -> Reading:
        """Look at the tree as hypeman does."""
        return Reading(self.disk.tree())

    def outlive_hmret(self) -> None:
        """Go on with what hmret has left when it was killed; everything else lives."""
        self.filesystem = self.filesystem.crashed_copy()
        self.disk.outlive(self.filesystem)

    def lose_power(self, filesystem: MemoryFilesystem) -> None:
        """Go on with what a loss of power has left; nothing that ran runs any more."""
        self.filesystem = filesystem
        self.disk = MemoryDisk(filesystem)
        self.hypeman = Hypeman(self.disk, self.clock.now)


@attrs.frozen(kw_only=True)
class Scene:
    """A small host, and what hypeman is asked for while hmret deletes on it."""

    name: str
    build: Callable[[World], None]
    call: Callable[[Hypeman], Call]
    due: str
    """The digest that is due, without `sha256:`."""
    units: tuple[tuple[str, ...], ...]
    """The repositories that have it; those in one tuple share the bytes, and their rows go or stay together."""
    touches: frozenset[Reference] = frozenset()
    """The references that hypeman's call sets, moves or removes."""
    is_apart: bool = False
    """Whether hmret's trash and the images lie on different file systems."""
    must_succeed: bool = False
    """Whether nothing that hmret does may make the call fail."""

    @property
    def owners(self) -> tuple[str, ...]:
        """All of these repositories."""
        return tuple(repository for unit in self.units for repository in unit)
