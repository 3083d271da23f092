"""The rows of the table, each measured beside its floor, run by run."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.changes import PER_ROUND, Changer, Expected, LegacyChanger
from benchmarks.content_changes import ContentChanger
from benchmarks.generate_tree import generate_tree
from benchmarks.measure import HERE, Core, Floor, Row, Subject, Took, measure_peak, remove_tree, time_command
from benchmarks.trees import EXPIRED_FOR, Layout, Shape, Tree

__all__ = [
    "Bench",
    "measure_cold",
    "measure_contestants",
    "measure_crowd",
    "measure_deletion",
    "measure_growth",
    "measure_holdup",
    "measure_marks",
    "measure_memory",
    "measure_one_change",
    "measure_start",
    "measure_sweeps",
]

# What changed less than two seconds ago may be looked at again; a figure of rest must not count that.
_SETTLING_SECONDS = 2.2
# A start takes little, and varies much.
_STARTS = 15
_DROP_CACHES = Path("/proc/sys/vm/drop_caches")


@dataclass(frozen=True)
class Bench:
    """What all rows share."""

    folder: Path
    floor: Floor
    images: int
    runs: int
    seed: int
    layout: Layout = "legacy"
    core: Core = "native"
    images_each: int = 0
    """Images in each repository; 0: as the layout has it."""

    def open(self, tree: Tree, *, backend: str = "asyncio", unused_for: float = 720 * 3600) -> Subject:
        """Start an engine on a tree."""
        return Subject(tree.folder, backend=backend, unused_for=unused_for, core=self.core)

    def goal(self, legacy: float, content: float) -> float:
        """Choose the goal for the layout."""
        return content if self.layout == "content" else legacy

    def shape(self, shape: Shape) -> Shape:
        """Give a shape the seed and the layout of all, and the repositories where it asks for none."""
        repositories = shape.repositories
        if self.images_each and not repositories:
            repositories = max(shape.images // self.images_each, 1)
        return replace(shape, seed=self.seed, layout=self.layout, repositories=repositories)

    def grow(self, name: str, shape: Shape, *, settle: bool = True) -> Tree:
        """Write a tree, have the C program read it once, and let it settle."""
        tree = generate_tree(self.folder / name, self.shape(shape), datetime.now(UTC))
        self.floor.time("read-all", tree.folder)
        if settle:
            time.sleep(_SETTLING_SECONDS)
        return tree


def measure_sweeps(bench: Bench) -> list[Row]:
    """The first sweep ever, after a restart, with nothing changed, and after a hundred changes."""
    rounds = {name: count * bench.runs for name, count in PER_ROUND.items()}
    shape = Shape(images=bench.images, converting=rounds["converting"])
    tree = bench.grow("sweeps", shape)
    changer = _changer(tree)
    if not changer.has_enough(bench.runs):
        raise SystemExit(f"too few images for {bench.runs} runs of changes: {bench.images}")
    first = Row("first sweep ever / C read-all", [], bench.goal(1.25, 1.3))
    restart = Row("first sweep after a restart / C read-all", [], 0.35)
    later = Row("later sweep, nothing changed / C stat-all", [], bench.goal(0.15, 0.20))
    changed = Row("later sweep after 100 changes / C stat-all", [], 0.35)
    ready = tree.ready
    for _ in range(bench.runs):
        _forget(tree)
        first.floor.append(bench.floor.time("read-all", tree.folder))
        with bench.open(tree) as subject:
            first.ours.append(subject.opened.plus(_sweep(subject, first, ready)))
            later.floor.append(bench.floor.time("stat-all", tree.folder))
            later.ours.append(_sweep(subject, later, ready))
        restart.floor.append(bench.floor.time("read-all", tree.folder))
        with bench.open(tree) as subject:
            before = subject.do("sweep")
            restart.ours.append(subject.opened.plus(_took(before)))
            expected = changer.change()
            ready += expected.ready
            changed.floor.append(bench.floor.time("stat-all", tree.folder))
            after = subject.do("sweep")
            changed.ours.append(_took(after))
            _verify(changed, before, after, expected)
        time.sleep(_SETTLING_SECONDS)
    remove_tree(tree.folder)
    return [first, restart, later, changed]


def measure_one_change(bench: Bench) -> list[Row]:
    """A later sweep after one image came, and after one became ready in a folder that was there."""
    tree = bench.grow("one", Shape(images=bench.images, converting=bench.runs))
    changer = _changer(tree)
    pulled = Row("later sweep after one pull / C stat-all", [])
    finished = Row("later sweep after one image became ready / C stat-all", [])
    with bench.open(tree) as subject:
        subject.do("sweep")
        for _ in range(bench.runs):
            for row, change in ((pulled, changer.pull), (finished, changer.finish)):
                time.sleep(_SETTLING_SECONDS)
                before = subject.do("sweep")
                expected = change()
                row.floor.append(bench.floor.time("stat-all", tree.folder))
                after = subject.do("sweep")
                row.ours.append(_took(after))
                _verify(row, before, after, expected)
    remove_tree(tree.folder)
    return [pulled, finished]


def measure_marks(bench: Bench) -> list[Row]:
    """`mark_used` while sweeps run back to back; half of the images have a timer that it clears."""
    tree = bench.grow("marks", Shape(images=bench.images))
    images = [image.name for image in tree.of("referenced")[:100]]
    images += [image.name for image in tree.of("tracked")[:100]]
    rows = []
    for when in ("the first sweep included", "later sweeps"):
        p99 = Row(f"mark_used during sweeps, {when}, p99", [], 2.0, unit="ms", scale=1000)
        longest = Row(f"the same, longest, {when}", [], None, unit="ms", scale=1000, worst=True)
        for _ in range(bench.runs):
            with bench.open(tree) as subject:
                if when == "later sweeps":
                    subject.do("sweep")
                taken = subject.do("marks", seconds=3, images=images)
            p99.ours.append(taken["p99_seconds"])
            longest.ours.append(taken["max_seconds"])
        rows += [p99, longest]
    remove_tree(tree.folder)
    return rows


def measure_holdup(bench: Bench) -> list[Row]:
    """How late a task that sleeps 1 ms wakes up during the first sweep ever, at worst."""
    tree = bench.grow("holdup", Shape(images=bench.images))
    rows = []
    for backend in ("asyncio", "trio"):
        held = Row(f"event loop held up, first sweep, {backend}", [], 10.0, unit="ms", scale=1000, worst=True)
        p99 = Row(f"the same, p99, {backend}", [], None, unit="ms", scale=1000)
        idle = Row(f"the same, longest, idle, {backend}", [], None, unit="ms", scale=1000, worst=True)
        for _ in range(bench.runs):
            _forget(tree)
            with bench.open(tree, backend=backend) as subject:
                idle.ours.append(subject.do("idle", seconds=1)["max_seconds"])
                watched = subject.do("watch")
            held.ours.append(watched["max_seconds"])
            p99.ours.append(watched["p99_seconds"])
        rows += [held, p99, idle]
    remove_tree(tree.folder)
    return [*rows, *_measure_deleting_holdup(bench)]


def _measure_deleting_holdup(bench: Bench) -> list[Row]:
    """The same while a tenth of the images is deleted."""
    rows = []
    for backend in ("asyncio", "trio"):
        held = Row(
            f"event loop held up, deleting a tenth, {backend}", [], 10.0, unit="ms", scale=1000, worst=True
        )
        for _ in range(min(bench.runs, 2)):
            tree = bench.grow("deleting", Shape(images=bench.images, expired=0.1))
            with bench.open(tree, backend=backend) as subject:
                watched = subject.do("watch")
            held.ours.append(watched["max_seconds"])
            wanted = sum(image.rows for image in tree.of("expired"))
            if watched["deleted"] != wanted:
                held.failed = True
                held.note = f"{watched['deleted']} deleted, expected {wanted}"
            remove_tree(tree.folder)
        rows.append(held)
    return rows


def measure_memory(bench: Bench, tree: Tree, goal_mib: float | None) -> Row:
    """The most memory that one sweep takes, all its processes together."""
    row = Row(f"peak memory of one sweep, {len(tree.images)} images", [], goal_mib, unit="MiB", scale=2**-20)
    for _ in range(min(bench.runs, 2)):
        _forget(tree)
        row.ours.append(measure_peak(_sweep_command(tree.folder), bench.core).bytes)
    return row


def measure_growth(bench: Bench, small: int, large: int, goal_mib: float | None) -> list[Row]:
    """Time per image at two sizes, first and later sweeps, and the memory at the larger one."""
    trees = [bench.grow(f"growth-{count}", Shape(images=count, blocks=False)) for count in (small, large)]
    first = Row(f"first sweep, time per image, {large} / {small} images", [], 1.2, unit="µs", scale=1e6)
    later = Row(f"later sweep, time per image, {large} / {small} images", [], 1.2, unit="µs", scale=1e6)
    for _ in range(bench.runs if large <= bench.images else 1):
        for tree, firsts, laters in (
            (trees[0], first.floor, later.floor),
            (trees[1], first.ours, later.ours),
        ):
            _forget(tree)
            with bench.open(tree) as subject:
                seconds = subject.opened.plus(_sweep(subject, first, tree.ready))
                firsts.append(seconds / len(tree.images))
                laters.append(_sweep(subject, later, tree.ready) / len(tree.images))
    rows = [first, later, measure_memory(bench, trees[1], goal_mib)]
    for tree in trees:
        remove_tree(tree.folder)
    return rows


def measure_deletion(bench: Bench, sweep_seconds: float) -> list[Row]:
    """A tenth of the images falls due between two sweeps; `sweep_seconds` is what a first sweep takes here."""
    shape = Shape(images=bench.images, expired=0.1)
    count = bench.images // 10
    net = Row(f"{count} expired of {bench.images} deleted, less a later sweep / C unlink", [])
    safe = Row("the same / C with the same steps", [], 2.0)
    whole = Row(f"the whole sweep that deletes {count} / C unlink", [])
    listing = bench.folder / "expired"
    for _ in range(bench.runs):
        tree = bench.grow("ours", shape, settle=False)
        rows = tree.write_listing(listing, "expired")
        look, swept = _delete_when_due(bench, tree, rows, sweep_seconds)
        remove_tree(tree.folder)
        seconds = {}
        for mode in ("unlink", "delete"):
            tree = bench.grow("floor", shape, settle=False)
            tree.write_listing(listing, "expired")
            seconds[mode] = bench.floor.time(mode, tree.folder, listing)
            remove_tree(tree.folder)
        for row, ours, mode in (
            (net, swept.less(look), "unlink"),
            (safe, swept.less(look), "delete"),
            (whole, swept, "unlink"),
        ):
            row.ours.append(ours)
            row.floor.append(seconds[mode])
    return [net, safe, whole]


def measure_crowd(bench: Bench) -> list[Row]:
    """2,000 of 4,000 tags deleted: all in one repository, over the same in 200."""
    row = Row(
        "2000 of 4000 deleted, one repository / 200", [], 1.3, note="both ours; each less a later sweep"
    )
    for _ in range(bench.runs):
        for repositories, taken in ((1, row.ours), (200, row.floor)):
            shape = Shape(images=4000, repositories=repositories, tags=(1, 1), expired=0.5, shared=0)
            tree = bench.grow("crowd", shape, settle=False)
            look, swept = _delete_when_due(bench, tree, 2000, 0.5)
            taken.append(swept.less(look))
            remove_tree(tree.folder)
    return [row]


def measure_contestants(bench: Bench) -> list[Row]:
    """Ways to read all images; those that take a file at a time on a tenth of them."""
    trees = {
        bench.images: bench.grow("contest", Shape(images=bench.images)),
        bench.images // 10: bench.grow("contest-small", Shape(images=bench.images // 10)),
    }
    rows = []
    for way, images in (
        ("hmret", bench.images),
        ("one-thread", bench.images),
        ("two-processes", bench.images),
        ("aiofiles", bench.images // 10),
        ("anyio-path", bench.images // 10),
    ):
        folder = trees[images].folder
        row = Row(
            f"scan of {images} images, {way} / C read-images", [], unit="µs per image", scale=1e6 / images
        )
        for _ in range(min(bench.runs, 3)):
            row.floor.append(bench.floor.time("read-images", folder))
            command: list[str | Path] = [sys.executable, HERE / "contestants.py", way, folder]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            answer = json.loads(done.stdout)
            wanted = trees[images].rows if way == "hmret" else trees[images].folders
            row.failed = row.failed or answer["images"] != wanted
            row.ours.append(answer["seconds"])
        rows.append(row)
    for tree in trees.values():
        remove_tree(tree.folder)
    return rows


def measure_start(bench: Bench) -> list[Row]:
    """How long the command line takes, beside an interpreter that imports what it stands on; all byte code is cached."""
    tree = bench.grow("ten", Shape(images=10, guests=2, snapshots=1))
    command = [sys.executable, "-m", "hmret"]
    floor = [sys.executable, "-c", "import asyncio, anyio, attrs, msgspec"]
    rows = []
    for figure, goal, arguments in (
        ("hmret --help / importing asyncio, anyio, attrs, msgspec", 1.3, ["--help"]),
        ("hmret plan, 10 images / the same", 2.5, ["plan", *_settings(tree.folder)]),
    ):
        row = Row(figure, [], goal)
        time_command([*command, *arguments], bench.core)
        for _ in range(max(bench.runs, _STARTS)):
            row.floor.append(time_command(floor))
            row.ours.append(time_command([*command, *arguments], bench.core))
        rows.append(row)
    remove_tree(tree.folder)
    return rows


def measure_cold(bench: Bench, disk: Path) -> list[Row]:
    """The first sweep ever with nothing in the page cache, on a real disk; needs root."""
    row = Row("first sweep ever, cold cache, real disk / C read-all", [], 0.5)
    tree = generate_tree(disk / "cold", bench.shape(Shape(images=bench.images)), datetime.now(UTC))
    for _ in range(min(bench.runs, 3)):
        _forget(tree)
        _drop_caches()
        row.floor.append(bench.floor.time("read-all", tree.folder))
        _drop_caches()
        # The interpreter and the packages are read again first: they are not what is measured.
        time_command([sys.executable, HERE / "subject.py", "--help"])
        with bench.open(tree) as subject:
            row.ours.append(subject.opened.plus(_took(subject.do("sweep"))))
    remove_tree(tree.folder)
    return [row]


def _changer(tree: Tree) -> Changer:
    changers = {"legacy": LegacyChanger, "content": ContentChanger}
    return changers[tree.shape.layout](tree, tree.now)


def _took(swept: dict[str, Any]) -> Took:
    return Took(swept["seconds"], swept["cpu_seconds"])


def _sweep(subject: Subject, row: Row, ready: int) -> Took:
    """Sweep once; returns the seconds, and fails the row unless the sweep has seen all that is ready."""
    swept = subject.do("sweep")
    if swept["ready"] != ready:
        row.failed = True
        row.note = f"{swept['ready']} ready, expected {ready}"
    return _took(swept)


def _verify(row: Row, before: dict[str, Any], after: dict[str, Any], expected: Expected) -> None:
    """Fail a row unless the report of the sweep says what follows from the changes."""
    seen = Expected(after["marked"], after["cleared"], after["pruned"], after["ready"] - before["ready"])
    if seen != expected:
        row.failed = True
        row.note = f"{seen}, expected {expected}"


def _drop_caches() -> None:
    subprocess.run(["sync"], check=True)
    _DROP_CACHES.write_text("3\n")


def _delete_when_due(bench: Bench, tree: Tree, count: int, sweep_seconds: float) -> tuple[Took, Took]:
    """Sweep until all expired rows have fallen due; returns what the sweep before took, and what that one did."""
    lead = 4 * sweep_seconds + 3
    due = time.time() + lead
    unused_since = tree.now.timestamp() - EXPIRED_FOR.total_seconds()
    with bench.open(tree, unused_for=due - unused_since) as subject:
        subject.do("sweep")
        looks = [subject.do("sweep") for _ in range(2)]
        subject.do("wait", until=due + 0.1)
        swept = subject.do("sweep")
    if any(look["deleted"] for look in looks) or swept["deleted"] != count:
        raise SystemExit(f"expected {count} deletions in the last sweep only, got {[*looks, swept]}")
    return min(map(_took, looks)), _took(swept)


def _forget(tree: Tree) -> None:
    """Remove what the engine has written for itself."""
    remove_tree(tree.folder / "system" / "hmret")


def _settings(data_dir: Path) -> Sequence[str]:
    return ["--data-dir", str(data_dir), "--enable", "--allow", "*"]


def _sweep_command(data_dir: Path) -> Sequence[str | Path]:
    return [sys.executable, "-m", "hmret", "sweep", *_settings(data_dir)]
