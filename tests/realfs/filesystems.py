"""The same promises on each file system: leases, deletions, quarantine and kills."""

import mmap
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import anyio
import attrs

from hmret.model.report import SweepReport
from proofs.mortal import Life, Mortals
from realfs.checking import Check, Skipped
from realfs.due_caches import DISK_BYTES, DueCache, clear, opened
from realfs.setups import SETUPS, Setup
from support.builders import FakeClock, digest
from support.cut_caches import ONE, Layout, build, check_held, is_here, left_in_trash

__all__ = ["filesystems"]

_PART = "file systems"
_KILLS = 8
_DAY = timedelta(days=1)
Act = Callable[[Path, Layout], str]


def filesystems() -> Iterator[Check]:
    """List the checks of this part."""
    acts: tuple[tuple[str, Act], ...] = (
        ("leases are offered, open and mapped disks stay, 40 images go, df agrees", _sweep),
        ("what goes into quarantine is held whole and comes back", _quarantine),
        (f"killed {_KILLS} times, images are whole or gone and a start finishes", _kill),
    )
    for setup in SETUPS:
        for layout in ("older", "today"):
            for sentence, act in acts:
                yield Check(
                    _PART, f"{setup.name}, {layout} layout: {sentence}", partial(_on, setup, layout, act)
                )


def _on(setup: Setup, layout: Layout, act: Act, folder: Path) -> str:
    if setup.refuses_links and layout == "today":
        raise Skipped(setup.refuses_links)
    with setup.make(folder) as root:
        return act(root, layout)


def _sweep(root: Path, layout: Layout) -> str:
    cache = DueCache.build(root, layout, others=2)
    is_open, is_mapped = cache.others
    before = cache.free_bytes()
    with _held_open(cache.disk(is_open)), _mapped(cache.disk(is_mapped)):
        report, offered = anyio.run(_report, cache)
    assert offered, f"leases are not offered: {offered}"
    assert (report.status, report.errors) == ("success", ()), report
    assert {(one.repository, one.digest) for one in report.deleted} == cache.keys(*cache.due), report
    assert report.open_images == len(cache.others), report
    cache.check(gone=cache.due, here=cache.others)
    freed = _agree(cache, before, report.deleted_bytes)
    assert report.deleted_bytes >= len(cache.due) * DISK_BYTES, report.deleted_bytes
    return f"{report.deleted_bytes} bytes reported, {freed} by df"


async def _report(cache: DueCache) -> tuple[SweepReport, bool | None]:
    async with opened(cache.root, FakeClock()) as retention:
        return await retention.sweep(), retention.statistics().leases_offered


def _agree(cache: DueCache, before: int, reported: int) -> int:
    """Wait until the file system says that as much has come free as was reported; btrfs and xfs free behind our back."""
    # What folders, journals and metadata take and give.
    allowed = reported // 4
    ends = time.monotonic() + 20
    while abs((freed := cache.free_bytes() - before) - reported) > allowed:
        assert time.monotonic() < ends, f"{reported} bytes reported, {freed} came free"
        time.sleep(0.2)
    return freed


@contextmanager
def _held_open(disk: Path) -> Iterator[None]:
    with disk.open("rb") as file:
        process = subprocess.Popen(["sleep", "1000"], stdin=file)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def _mapped(disk: Path) -> Iterator[None]:
    with disk.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        yield
    finally:
        mapping.close()


def _quarantine(root: Path, layout: Layout) -> str:
    cache = build(root, layout)

    async def act() -> None:
        clock = FakeClock()
        async with opened(root, clock, quarantine=_DAY) as retention:
            report = await retention.sweep()
            assert (report.status, report.errors) == ("success", ()), report
            check_held(cache)
            assert not any(is_here(root, key) for key in cache.due)
            for image in ("alpine:3.20", f"{ONE}:v1"):
                await retention.restore(image)
            back = {key for key in cache.due if is_here(root, key)}
            assert {key[1] for key in back} == {digest("a"), digest("d")}, back
            check_held(cache, here=back)
            clock.advance(2 * _DAY)
            report = await retention.sweep()
            assert (report.status, report.errors) == ("success", ()), report
            check_held(cache, here=back, gone=True)
        assert left_in_trash(root) == [], left_in_trash(root)

    anyio.run(act, backend="trio")
    return ""


def _kill(root: Path, layout: Layout) -> str:
    life = Life(data_dir=str(root))
    cache = build(root, layout)
    with Mortals() as mortals:
        calls = mortals.live(life).calls
        cache.check_recovered()
        renames = [number for number, call in enumerate(calls, 1) if call.startswith("rename")]
        kills = sorted({*renames[:: max(1, len(renames) // (_KILLS // 2))][: _KILLS // 2]})
        step = len(calls) / (_KILLS - len(kills))
        kills += [int(step * (number + 0.5)) + 1 for number in range(_KILLS - len(kills))]
        for number in kills:
            clear(root)
            cache = build(root, layout)
            ended = mortals.live(attrs.evolve(life, kill_at=number))
            assert ended.signal == signal.SIGKILL, f"not killed at {number} of {len(calls)}"
            cache.check_cut_off()
            backend = ("asyncio", "trio")[number % 2]
            ended = mortals.live(attrs.evolve(life, backend=backend))
            assert (ended.signal, ended.status) == (0, "success"), (
                f"killed after {number}, {calls[number - 1]}"
            )
            cache.check_recovered()
    return f"of {len(calls)} calls"
