"""Races for real: threads, a real directory, callers that give up at random, sweeps that want everything."""

import json
import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from subprocess import PIPE

import anyio
import anyio.lowlevel
import attrs
import pytest

from hmret import ImageNotFoundError, Retention
from hmret.disk.layout import hex_of
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.model.references import Key
from hmret.model.times import timedelta_nanoseconds
from support.bounds import bound
from support.builders import FakeClock, digest, has_image, make_config, make_image, state_of
from support.children import Child, child
from support.patience import PATIENCE, patiently

pytestmark = pytest.mark.anyio

WINDOW = timedelta(hours=1)
WINDOW_NS = timedelta_nanoseconds(WINDOW)
STEP = timedelta(minutes=31)
DISK_BYTES = 20_000

LEASE_BREAK_SECONDS = int(Path("/proc/sys/fs/lease-break-time").read_text())
LETTERS = tuple(f"{number:02x}" for number in range(60))


def repository_of(letters: str) -> str:
    return f"ghcr.io/kernel/team/repo{int(letters, 16) % 4}"


def key_of(letters: str) -> Key:
    return repository_of(letters), digest(letters)


def is_whole(root: Path, key: Key) -> bool:
    folder = root / "images" / key[0] / hex_of(key[1])
    return (folder / "metadata.json").exists() and (folder / "rootfs.ext4").exists()


def pull(root: Path, letters: str) -> None:
    """Pull an image as hypeman does: its folder comes whole, and then its tag."""
    repository, name = repository_of(letters), hex_of(digest(letters))
    if not (root / "images" / repository / name).exists():
        staging = root / "images" / f".install-{letters}"
        make_image(staging, repository, letters, tags=(), size_bytes=DISK_BYTES)
        target = root / "images" / repository / name
        # hmret may remove the folder of the repository, empty, at any moment.
        while not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                (staging / "images" / repository / name).rename(target)
        for folder in sorted(staging.rglob("*"), reverse=True):
            folder.rmdir()
        staging.rmdir()
    link = root / "images" / repository / f"v{letters}"
    # Either it is there already, or the image has gone again.
    with suppress(FileExistsError, FileNotFoundError):
        link.symlink_to(name)


@attrs.define(eq=False)
class Race:
    """One race, and what was seen in it."""

    root: Path
    clock: FakeClock
    rng: random.Random
    is_over: bool = False
    # Counted when a pull begins and when it has ended: odd while one is under way.
    pulls: dict[str, int] = attrs.field(factory=lambda: dict.fromkeys(LETTERS, 0))
    told_yes: int = 0
    told_no: int = 0
    cancelled: int = 0
    deleted: int = 0
    sweeps: int = 0
    faults: list[str] = attrs.field(factory=list)

    @property
    def has_seen_enough(self) -> bool:
        """Whether everything that can come of a race has come often enough."""
        return min(self.told_yes, self.told_no, self.cancelled, self.deleted) > bound(30, 600)

    async def sweep(self, retention: Retention) -> None:
        """Sweep without a pause, the time moving on between."""
        while not self.is_over:
            report = await retention.sweep()
            self.deleted += report.deleted_images
            self.sweeps += 1
            if report.status != "success":
                self.faults.append(str(report))
            self.clock.advance(STEP)

    async def wait_sweeps(self, number: int) -> None:
        """Wait until so many more sweeps have ended."""
        until = self.sweeps + number
        while self.sweeps < until:  # noqa: ASYNC110 - counted by a task that has no time for events
            await anyio.sleep(0.001)

    async def pull(self) -> None:
        """Bring back what has gone."""
        while not self.is_over:
            letters = self.rng.choice(LETTERS)
            self.pulls[letters] += 1
            await anyio.to_thread.run_sync(pull, self.root, letters)
            self.pulls[letters] += 1
            await anyio.sleep(self.rng.choice((0.001, 0.003)))

    async def use(self, retention: Retention, seed: int) -> None:
        """Mark and lease, and give up at random."""
        rng = random.Random(seed)
        for _ in range(8):
            letters = rng.choice(LETTERS)
            with anyio.move_on_after(rng.choice((0.0005, 0.002, 0.01, 30, 30))) as scope:
                if rng.random() < 0.5:
                    await self.mark(retention, letters, by_tag=rng.random() < 0.5)
                else:
                    await self.lease(retention, letters, rng)
            self.cancelled += scope.cancelled_caught
            await anyio.sleep(rng.choice((0, 0.003, 0.1)))

    async def mark(self, retention: Retention, letters: str, *, by_tag: bool) -> None:
        key = key_of(letters)
        pulls, now_ns = self.pulls[letters], self.clock.now_ns()
        try:
            if by_tag:
                await retention.mark_used(f"{key[0]}:v{letters}")
            else:
                await retention.mark_used(*key)
        except ImageNotFoundError:
            self.told_no += 1
            if not by_tag and has_image(self.root, key) and pulls % 2 == 0 and self.pulls[letters] == pulls:
                self.faults.append(f"told that it is gone, and it is there: {letters}")
            return
        self.told_yes += 1
        for _ in range(3):
            is_here = is_whole(self.root, key)
            if not is_here and self.clock.now_ns() < now_ns + WINDOW_NS:
                self.faults.append(f"told that it stays, and it is gone: {letters}")
            await anyio.sleep(0.0005)

    async def lease(self, retention: Retention, letters: str, rng: random.Random) -> None:
        key = key_of(letters)
        try:
            async with retention.lease(*key, reason="race"):
                self.told_yes += 1
                for _ in range(rng.randrange(1, 10)):
                    if not is_whole(self.root, key):
                        self.faults.append(f"leased, and it is gone: {letters}")
                    await anyio.sleep(0.001)
        except ImageNotFoundError:
            self.told_no += 1


@pytest.mark.parametrize("seed", range(bound(2, 6)))
async def test_told_yes_it_is_here_and_told_no_it_is_gone(
    tmp_path: Path, anyio_backend_name: str, seed: int
) -> None:
    clock = FakeClock()
    race = Race(tmp_path, clock, random.Random(seed))
    for letters in LETTERS:
        pull(tmp_path, letters)
    config = make_config(tmp_path, unused_for=WINDOW)
    async with open_engine(config, Platform(clock=clock), scheduled=False) as retention:
        await retention.sweep()
        clock.advance(WINDOW)
        async with anyio.create_task_group() as others:
            others.start_soon(race.sweep, retention)
            others.start_soon(race.pull)
            number = seed * 100_000
            while not race.has_seen_enough:
                with patiently():
                    async with anyio.create_task_group() as users:
                        for _ in range(50):
                            number += 1
                            users.start_soon(race.use, retention, number)
                    # Where sweeps are slow, users leave them nothing to delete; the third finds what the first began.
                    await race.wait_sweeps(3)
            race.is_over = True
        assert race.faults == []
        for path in (tmp_path / "images").rglob("rootfs.ext4"):
            letters = path.parent.name[:2]
            assert str((path.parent.parent / f"v{letters}").readlink()) == path.parent.name
        with patiently():
            for letters in LETTERS:
                with suppress(ImageNotFoundError):
                    await retention.mark_used(*key_of(letters))
            for _ in range(2):
                clock.advance(WINDOW)
                report = await retention.sweep()
    assert report.status == "success"
    assert list((tmp_path / "images").iterdir()) == []
    assert list((tmp_path / "system/hmret/trash").iterdir()) == []
    assert list((tmp_path / "system/image-retention").rglob("*.json")) == []


@contextmanager
def opening(root: Path, seed: int) -> Iterator[Child]:
    """Have a process open disks while the block lasts."""
    program = [sys.executable, "-W", "error", str(Path(__file__).with_name("opener.py"))]
    with child([*program, str(root), str(DISK_BYTES), str(seed)], stdin=PIPE, stdout=PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        yield process


@contextmanager
def holding_open(disk: Path) -> Iterator[None]:
    """Have a process hold a disk open while the block lasts: it inherits it as its input."""
    with disk.open("rb") as file, child(["sleep", "1000"], stdin=file):
        yield


async def test_an_opener_gets_a_whole_disk_or_none_and_hardly_waits(tmp_path: Path) -> None:
    clock = FakeClock()
    race = Race(tmp_path, clock, random.Random(0))
    for letters in LETTERS:
        pull(tmp_path, letters)
    config = make_config(tmp_path, unused_for=WINDOW)
    with ExitStack() as stack:
        openers = [stack.enter_context(opening(tmp_path, seed)) for seed in range(2)]
        with patiently():
            async with (
                open_engine(config, Platform(clock=clock), scheduled=False) as retention,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(race.sweep, retention)
                tasks.start_soon(race.pull)
                while race.deleted < 60:  # noqa: ASYNC110 - counted by a task that has no time for events
                    await anyio.sleep(0.1)
                race.is_over = True
        seen = []
        for opener in openers:
            answer, _ = opener.communicate(timeout=PATIENCE)
            assert opener.returncode == 0
            seen.append(json.loads(answer))
    assert race.faults == []
    assert sum(one["opened"] for one in seen) > 10
    assert [one["torn"] for one in seen] == [0, 0]
    # The lease is given up, and not broken by the kernel.
    assert max(one["longest"] for one in seen) < LEASE_BREAK_SECONDS


async def test_a_disk_that_a_process_has_open_stays_with_its_tag_and_a_new_timer(tmp_path: Path) -> None:
    clock = FakeClock()
    for letters in LETTERS:
        pull(tmp_path, letters)
    config = make_config(tmp_path, unused_for=WINDOW)
    async with open_engine(config, Platform(clock=clock), scheduled=False) as retention:
        await retention.sweep()
        clock.advance(WINDOW)
        held = key_of(LETTERS[3])
        disk = tmp_path / "images" / held[0] / hex_of(held[1]) / "rootfs.ext4"
        with holding_open(disk):
            report = await retention.sweep()
    assert (report.open_images, report.deleted_images) == (1, len(LETTERS) - 1)
    assert is_whole(tmp_path, held)
    assert state_of(tmp_path, held) is None
