"""Hosts that change at random, and actors that look now and then: what they know is what one who knows nothing finds.

Whatever hypeman and an operator do shows in time stamps: metadata and states are written beside and renamed, or in place
where hypeman does so (guests and snapshots). Time stands still, goes on by a little or by much, and is set back.
"""

import random
from collections.abc import Callable, Mapping

import attrs
import pytest

from hmret.actors.reference_collector import Collected, ReferenceCollector
from hmret.actors.scanner import Scanner, ScanResult
from hmret.actors.state_keeper import StateKeeper
from hmret.disk.layout import OWN, hex_of
from hmret.model.grouping import ReferenceIndex
from hmret.model.images import Inventory
from hmret.model.plan.decide import plan
from hmret.model.plan.plan import Plan
from hmret.model.policy.compiled import Policy
from hmret.model.policy.patterns import compile_patterns
from hmret.model.times import SECOND, datetime_of
from support.bounds import bound
from support.builders import (
    DATA,
    FakeClock,
    GatedThreads,
    digest,
    make_guest,
    make_image,
    make_snapshot,
    make_state,
    running,
)
from support.memory_filesystem import MemoryFilesystem

NAMES = ("docker.io/library/a", "docker.io/library/a/deeper", "ghcr.io/b")
LETTERS = "abcd"
TAGS = ("latest", "v1")
GUESTS = ("one", "two", "three")
STEPS = 60
PAUSES = (0, 0, 1, 10**6, SECOND, 3 * SECOND, 60 * SECOND, 3600 * SECOND, 5 * 3600 * SECOND, -60 * SECOND)
POLICY = Policy(3600 * SECOND, compile_patterns(("*",)), compile_patterns(()))


@attrs.define(eq=False)
class World:
    """A host, and what may happen to it."""

    filesystem: MemoryFilesystem
    data_fd: int
    clock: FakeClock
    rng: random.Random
    inodes: list[int] = attrs.field(factory=list)

    def actors(self) -> tuple[Scanner, StateKeeper, ReferenceCollector]:
        threads = GatedThreads()
        return (
            Scanner(self.filesystem, self.data_fd, threads),
            StateKeeper(self.filesystem, self.data_fd, threads),
            ReferenceCollector(self.filesystem, self.data_fd, threads, (), read_files=True, boot_id="boot"),
        )

    def happen(self) -> None:
        """Have something happen."""
        chosen: Callable[[], None] = self.rng.choice(
            (
                self.pull,
                self.pull,
                self.tag,
                self.tag,
                self.drop,
                self.use,
                self.use,
                self.leave,
                self.mark,
                self.clear,
            )
        )
        chosen()
        if self.rng.random() < 0.1:
            self.rng.choice((self.swap_repository, self.swap_guests, self.touch))()

    def pull(self) -> None:
        name, letter = self.rng.choice(NAMES), self.rng.choice(LETTERS)
        path = self._folder(name, letter)
        self._remove(path)
        if self.filesystem.exists(path):
            return  # behind a link, where hypeman would write in place
        status = self.rng.choice(("ready", "ready", "pulling"))
        tags = self.rng.sample(TAGS, self.rng.randint(0, 1))
        make_image(
            self.filesystem,
            name,
            letter,
            tags=tuple(tags),
            status=status,
            has_disk=status == "ready",
            size_bytes=self.rng.choice((1, 5000)),
        )
        self._use_inode_again(f"{path}/metadata.json")

    def tag(self) -> None:
        path = f"{DATA}/images/{self.rng.choice(NAMES)}/{self.rng.choice(TAGS)}"
        self.filesystem.make_link(path, hex_of(digest(self.rng.choice(LETTERS))))

    def drop(self) -> None:
        self._remove(self._folder(self.rng.choice(NAMES), self.rng.choice(LETTERS)))

    def use(self) -> None:
        name, image = self.rng.choice(GUESTS), f"{self.rng.choice(NAMES)}:{self.rng.choice(TAGS)}"
        match self.rng.randrange(4):
            case 0:
                self.filesystem.write_file(f"{DATA}/guests/{name}/metadata.json", b'{"Image": "torn')
            case 1:
                make_snapshot(self.filesystem, name, image)
            case 2:
                pinned = f"{image.rpartition(':')[0]}@{digest(self.rng.choice(LETTERS))}"
                make_guest(self.filesystem, name, image, resolved_image=pinned)
            case _:
                make_guest(self.filesystem, name, image)

    def leave(self) -> None:
        kind = self.rng.choice(("guests", "snapshots", "guests/.", f"guests/{GUESTS[0]}"))
        name = "" if "/" in kind else f"/{self.rng.choice(GUESTS)}"
        self._remove(f"{DATA}/{kind.removesuffix('/.')}{name}")

    def mark(self) -> None:
        key = self.rng.choice(NAMES), digest(self.rng.choice(LETTERS))
        path = f"{DATA}/system/image-retention/{key[0]}/{hex_of(key[1])}.json"
        self._remove(path)
        make_state(self.filesystem, key, self.clock.now_ns() - self.rng.choice((0, 1800, 7200)) * SECOND)
        self._use_inode_again(path)

    def clear(self) -> None:
        top = f"{DATA}/system/image-retention"
        name = f"/{self.rng.choice(NAMES)}/{hex_of(digest(self.rng.choice(LETTERS)))}.json"
        self._remove(top if self.rng.random() < 0.1 else top + name)

    def swap_repository(self) -> None:
        """Put one repository in the place of another, or a link in its place."""
        one, other = (f"{DATA}/images/{name}" for name in (NAMES[0], NAMES[2]))
        if self.filesystem.tree(DATA).get(one, ("", None))[0] == "link":
            self.filesystem.remove(one)
        elif self.filesystem.exists(one):
            self._remove(other)
            self.filesystem.make_folder(other.rpartition("/")[0])
            self.filesystem.move(one, other)
            if self.rng.random() < 0.5:
                self.filesystem.make_link(one, other)

    def swap_guests(self) -> None:
        """Put another folder in the place of all guests."""
        self._remove(f"{DATA}/old")
        if self.filesystem.exists(f"{DATA}/guests"):
            self.filesystem.move(f"{DATA}/guests", f"{DATA}/old")
            for name in self.rng.sample(GUESTS, 2):
                make_guest(self.filesystem, name, f"{NAMES[0]}:latest")

    def touch(self) -> None:
        """Put time stamps back."""
        for path in (
            f"{DATA}/images/{NAMES[0]}",
            f"{DATA}/guests",
            f"{DATA}/guests/{GUESTS[0]}/metadata.json",
        ):
            if self.filesystem.exists(path):
                self.filesystem.set_mtime(path, self.clock.now_ns() - 1000 * SECOND)

    def _folder(self, name: str, letter: str) -> str:
        return f"{DATA}/images/{name}/{hex_of(digest(letter))}"

    def _remove(self, path: str) -> None:
        if self._is_there(path):
            inode = self.filesystem.inode(f"{path}/metadata.json") or self.filesystem.inode(path)
            assert inode is not None
            self.inodes.append(inode)
            self.filesystem.remove(path)

    def _is_there(self, path: str) -> bool:
        """Tell whether it is there, and not behind a link."""
        above = path.rpartition("/")[0]
        while len(above) > len(DATA):
            tree = self.filesystem.tree(DATA)
            if tree.get(above, ("folder", None))[0] != "folder":
                return False
            above = above.rpartition("/")[0]
        return self.filesystem.exists(path)

    def _use_inode_again(self, path: str) -> None:
        """A disk may give an inode number away again at once."""
        if self.inodes and self.rng.random() < 0.7:
            self.filesystem.set_inode(path, self.inodes.pop())


def images_of(scan: ScanResult) -> Mapping[str, object]:
    return {name: (dict(one.images), dict(one.tags)) for name, one in scan.repositories.items()}


def references_of(collected: Collected) -> object:
    assert all(
        set(group) == {one for one in collected.references if one in group}
        for group in collected.references.by_repository.values()
    )
    index = ReferenceIndex.of(list(collected.references))
    assert {name: sorted(map(str, group)) for name, group in index.by_repository.items()} == {
        name: sorted(map(str, group)) for name, group in collected.references.by_repository.items()
    }
    return sorted(map(str, collected.references)), collected.unreadable, collected.unread_sources


@pytest.mark.parametrize("seed", range(bound(12, 240)))
@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_what_is_known_is_what_is_there(
    filesystem: MemoryFilesystem,
    data_fd: int,
    clock: FakeClock,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hmret.actors.reference_collector._TORN_RETRIES", 0)
    world = World(filesystem, data_fd, clock, random.Random(seed))
    found: Plan | None = None
    for _ in range(4):
        scanner, keeper, collector = world.actors()
        async with running(scanner), running(keeper), running(collector):
            for _ in range(STEPS // 4):
                for _ in range(world.rng.randint(0, 3)):
                    world.happen()
                    # A clock that is set back hits no nanosecond twice.
                    pause = world.rng.choice(PAUSES)
                    clock.wall_ns += pause - (world.rng.randrange(SECOND) if pause < 0 else 0)
                scan, states, collected = await scanner.scan(), await keeper.load(), await collector.collect()
                await _check(world, scan, dict(states.states), collected)
                found = await _check_plan(world, (scan, states.states, collected), found)
                await collector.remember(found.remembered)
            if world.rng.random() < 0.7:
                await scanner.save_cache()
                await keeper.save_cache()
                await collector.save_cache()


async def _check(
    world: World, scan: ScanResult, states: Mapping[object, object], collected: Collected
) -> None:
    filesystem = world.filesystem
    if filesystem.exists(f"{DATA}/{OWN}"):
        filesystem.move(f"{DATA}/{OWN}", f"{DATA}/records")
    scanner, keeper, collector = world.actors()
    async with running(scanner), running(keeper), running(collector):
        fresh = await scanner.scan()
        assert images_of(scan) == images_of(fresh)
        assert (scan.unlisted, scan.is_absent, scan.images) == (fresh.unlisted, fresh.is_absent, fresh.images)
        assert states == dict((await keeper.load()).states)
        assert references_of(collected) == references_of(await collector.collect())
    if filesystem.exists(f"{DATA}/records"):
        filesystem.move(f"{DATA}/records", f"{DATA}/{OWN}")


async def _check_plan(world: World, seen: tuple[ScanResult, object, Collected], before: Plan | None) -> Plan:
    scan, states, collected = seen
    inventory = Inventory(
        repositories=scan.repositories,
        states=states,  # type: ignore[arg-type]  # timers
        references=collected.references,
        remembered=collected.remembered,
        unread_sources=collected.unread_sources,
    )
    now = datetime_of(world.clock.now_ns())
    helped, alone = plan(inventory, POLICY, now, before), plan(inventory, POLICY, now)
    assert helped.verdicts == alone.verdicts
    assert (helped.marks, helped.clears, helped.pruned) == (alone.marks, alone.clears, alone.pruned)
    assert (helped.deletions, helped.remembered) == (alone.deletions, alone.remembered)
    return helped
