"""Faults of real file systems in the midst of work: nothing wrong goes, it is told once, and it gets well by itself."""

import fcntl
import logging
import os
import struct
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import anyio
import attrs

from hmret.disk.filesystem import Filesystem
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.model.errors import HmretError
from hmret.model.images import Cause
from hmret.model.report import SweepReport
from proofs.mortal import Life, mortal
from realfs.checking import Check
from realfs.disk_log import Recording, recorded
from realfs.due_caches import DueCache, opened
from realfs.mounts import looped, make, mounted, needs, run, write_image
from support.builders import FakeClock, make_config
from support.cut_caches import Layout
from support.inline_threads import InlineThreads

__all__ = ["faults"]

_PART = "faults"
_NOBODY = 65534
_SHUTDOWN, _WITHOUT_LOG = 0x8004587D, 2
"""FS_IOC_SHUTDOWN, and EXT4_GOING_FLAGS_NOLOGFLUSH, as of linux/fs.h and ext4.h; XFS has the same."""
_HOURS = timedelta(hours=2)
"""Longer than an image waits whose deletion has failed."""
_MOMENTS = (40, 90, 180)
"""Before which of its changing calls a sweep is struck."""
Act = Callable[[Layout, Path], str]


def faults() -> Iterator[Check]:
    """List the checks of this part."""
    acts: list[tuple[str, Act]] = []
    for kind in ("ext4", "xfs", "btrfs"):
        acts += [
            (
                f"{kind} full by bytes: nothing wrong goes, and all that is due once there is room",
                partial(_full, kind),
            ),
            (
                f"{kind} gives I/O errors instead of metadata: all stays, is told once, and goes once it can be read",
                partial(_unreadable, kind),
            ),
            (
                f"{kind} takes no more writes in mid-sweep: a start on the disk that was mended finishes",
                partial(_unwritable, kind),
            ),
        ]
    for kind in ("ext4", "tmpfs"):
        acts.append(
            (
                f"{kind} full by inodes: nothing wrong goes, and all that is due once there is room",
                partial(_no_inodes, kind),
            )
        )
    for kind in ("ext4", "xfs"):
        acts.append(
            (
                f"{kind} shut down in mid-sweep: a start finishes once it is mounted again",
                partial(_shut_down, kind),
            )
        )
    acts += [
        ("a quota of btrfs is used up: nothing wrong goes, and all that is due once there is room", _quota),
        ("ext4 is not made read-only under an engine, whose lock is open for writing", _remount),
        (
            "images lie in the lower layer of an overlay: none goes by half, and what helps is told",
            _in_lower_layer,
        ),
        ("a repository that may not be read: all stays, is told once, and goes once it may", _forbidden),
    ]
    for sentence, act in acts:
        for layout in ("older", "today"):
            yield Check(_PART, f"{sentence} ({layout} layout)", partial(act, layout))


# Full.


def _full(kind: str, layout: Layout, folder: Path) -> str:
    with make(folder, kind) as place:
        (place / "data").mkdir()
        return _sweep_full(DueCache.build(place / "data", layout), place, _fill_bytes)


def _no_inodes(kind: str, layout: Layout, folder: Path) -> str:
    with (
        mounted("tmpfs", "tmpfs", folder / kind, "nr_inodes=1200")
        if kind == "tmpfs"
        else make(folder, kind, "-N", "1200")
    ) as place:
        (place / "data").mkdir()
        return _sweep_full(DueCache.build(place / "data", layout), place, _fill_inodes)


def _quota(layout: Layout, folder: Path) -> str:
    needs("btrfs")
    with make(folder, "btrfs") as place:
        root = place / "data"
        run("btrfs", "quota", "enable", place)
        run("btrfs", "subvolume", "create", root)
        cache = DueCache.build(root, layout)
        os.sync()
        run("btrfs", "qgroup", "limit", "12M", root)
        return _sweep_full(cache, root, _fill_bytes)


def _sweep_full(cache: DueCache, place: Path, fill: Callable[[Path], None]) -> str:
    async def act() -> str:
        clock = FakeClock()
        async with opened(cache.root, clock) as retention:
            filling = place / "filling"
            filling.mkdir()
            fill(filling)
            with _listening() as told:
                first = await retention.sweep()
                _check_none_by_half(cache)
                clock.advance(_HOURS)
                second = await retention.sweep()
            _check_none_by_half(cache)
            for path in filling.iterdir():
                path.unlink()
            os.sync()
            clock.advance(_HOURS)
            last = await retention.sweep()
            assert (last.status, last.errors) == ("success", ()), last
        cache.check(gone=cache.due)
        # What cannot be written is told by each sweep.
        assert max(told.values(), default=0) <= 2, told
        return f"{first.deleted_images} and {second.deleted_images} went while it was full"

    return anyio.run(act)


def _fill_bytes(filling: Path) -> None:
    size, number = 64 << 20, 0
    while size >= 4096:
        number += 1
        try:
            with (filling / f"{number}").open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError:
            size //= 2
        assert number < 2000, "it never is full"
    os.sync()
    # What is reserved for metadata takes small files.
    with suppress(OSError):
        for more in range(20_000):
            (filling / f"small-{more}").write_bytes(b"x" * 1000)
    os.sync()


def _fill_inodes(filling: Path) -> None:
    with suppress(OSError):
        for number in range(20_000):
            (filling / f"{number}").touch()
        raise AssertionError("it never is full")


def _check_none_by_half(cache: DueCache) -> None:
    cache.check()
    for one in cache.due:
        assert cache.is_whole(one) or not cache.folder(one).exists(), f"half an image is left: {one}"


@contextmanager
def _listening() -> Iterator[Counter[str]]:
    """Count what is logged as a warning or an error."""
    told: Counter[str] = Counter()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told[record.getMessage()] += 1

    handler = Handler(logging.WARNING)
    logger = logging.getLogger("hmret")
    logger.addHandler(handler)
    try:
        yield told
    finally:
        logger.removeHandler(handler)


# Struck in mid-sweep.


def _shut_down(kind: str, layout: Layout, folder: Path) -> str:
    notes = []
    for number in _MOMENTS:
        image = write_image(folder / f"{number}.image", kind)
        place = folder / f"mounted-{number}"
        with looped(image) as device:
            with mounted(kind, device, place):
                cache = _build(place, layout)
                os.sync()
                notes.append(_sweep_struck(cache, number, partial(_go_down, place)))
            with mounted(kind, device, place):
                _check_finishes(cache)
        image.unlink()
    return ", ".join(notes)


def _unwritable(kind: str, layout: Layout, folder: Path) -> str:
    notes = []
    for number in _MOMENTS:
        here = folder / f"{number}"
        here.mkdir()
        image = write_image(here / "disk", kind)
        place = here / "mounted"
        options = "errors=remount-ro" if kind == "ext4" else ""
        with recorded(here, image) as recording:
            with mounted(kind, recording.device, place, options):
                cache = _build(place, layout)
                os.sync()
                notes.append(_sweep_struck(cache, number, recording.toggle_writes))
            recording.toggle_writes()
            with mounted(kind, recording.device, place, options):
                _check_finishes(cache)
    return ", ".join(notes)


def _build(place: Path, layout: Layout) -> DueCache:
    (place / "data").mkdir()
    return DueCache.build(place / "data", layout)


def _go_down(place: Path) -> None:
    fd = os.open(place, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", _WITHOUT_LOG))
    finally:
        os.close(fd)


def _sweep_struck(cache: DueCache, number: int, strike: Callable[[], None]) -> str:
    """Sweep, and strike the disk before one of the changing calls; tells how the sweep ended."""
    filesystem = mortal(Life(data_dir=str(cache.root), pull_at=number), [], strike)

    async def act() -> str:
        said = "the engine ended"
        # Whatever the disk lets it write at its end.
        with suppress(OSError, HmretError):
            async with _opened_on(cache.root, filesystem) as retention:
                first = await retention.sweep()
                said = first.status
                assert first.status != "success", f"it was not struck: {first}"
                assert (await retention.sweep()).deleted_images == 0
        return said

    return anyio.run(act)


def _opened_on(root: Path, filesystem: Filesystem):  # type: ignore[no-untyped-def]
    platform = Platform(
        filesystem=filesystem, clock=FakeClock(), threads=InlineThreads(), monotonic_ns=lambda: 0
    )
    return open_engine(make_config(root), platform, scheduled=False)


def _check_finishes(cache: DueCache) -> None:
    async def act() -> SweepReport:
        clock = FakeClock(boot_id="after-the-fault")
        async with opened(cache.root, clock) as retention:
            _check_none_by_half(cache)
            clock.advance(_HOURS)
            return await retention.sweep()

    report = anyio.run(act, backend="trio")
    assert (report.status, report.errors) == ("success", ()), report
    cache.check(gone=cache.due)
    assert not list((cache.root / "system/hmret/trash").iterdir())


def _remount(layout: Layout, folder: Path) -> str:
    async def act(cache: DueCache, place: Path) -> None:
        async with opened(cache.root, FakeClock()) as retention:
            done = subprocess.run(
                ["mount", "-o", "remount,ro", str(place)], capture_output=True, text=True, check=False
            )
            assert done.returncode, "it was remounted"
            assert (await retention.sweep()).status == "success"
        cache.check(gone=cache.due)

    with make(folder, "ext4") as place:
        anyio.run(act, _build(place, layout), place)
    return ""


def _in_lower_layer(layout: Layout, folder: Path) -> str:
    async def act(root: Path) -> SweepReport:
        async with opened(root, FakeClock()) as retention:
            return await retention.sweep()

    needs(kernel="overlay")
    with make(folder, "ext4") as place:
        for name in ("lower/data", "upper", "work"):
            (place / name).mkdir(parents=True)
        cache = DueCache.build(place / "lower/data", layout)
        layers = f"lowerdir={place}/lower,upperdir={place}/upper,workdir={place}/work,redirect_dir=off"
        with mounted("overlay", "overlay", folder / "merged", layers) as merged:
            report = anyio.run(act, merged / "data")
            seen = attrs.evolve(cache, root=merged / "data")
            assert (report.deleted_images, len(report.errors)) == (0, len(cache.due)), report
            seen.check(here=cache.due)
    [told] = {error.error for error in report.errors}
    assert "mount a volume at images/" in told, told
    return ""


# What cannot be read.


def _unreadable(kind: str, layout: Layout, folder: Path) -> str:
    image = write_image(folder / "disk", kind)
    place = folder / "mounted"
    with recorded(folder, image) as recording:
        with mounted(kind, recording.device, place):
            cache = _build(place, layout)
        with mounted(kind, recording.device, place):
            return anyio.run(_sweep_blind, cache, recording)


async def _sweep_blind(cache: DueCache, recording: Recording) -> str:
    clock = FakeClock()
    async with opened(cache.root, clock) as retention:
        recording.toggle_reads()
        with _listening() as told:
            reports = [await retention.sweep() for _ in range(2)]
        recording.toggle_reads()
        assert all(not report.deleted_images for report in reports), reports
        assert all(report.status in ("suspended", "error", "partial") for report in reports), reports
        clock.advance(_HOURS)
        last = await retention.sweep()
        assert (last.status, last.errors) == ("success", ()), last
    cache.check(gone=cache.due)
    assert told, "nobody was told"
    assert max(told.values()) == 1, told
    return f"{reports[0].status}, {sum(told.values())} warnings"


def _forbidden(layout: Layout, folder: Path) -> str:
    with make(folder, "ext4") as place:
        cache = _build(place, layout)
        run("chown", "-R", str(_NOBODY), cache.root)
        images = cache.root / "images"
        repository = (images / "repositories" if layout == "today" else images) / cache.repository(
            cache.due[0]
        )
        repository.chmod(0)
        os.seteuid(_NOBODY)
        try:
            return anyio.run(_sweep_forbidden, cache, repository)
        finally:
            os.seteuid(0)


async def _sweep_forbidden(cache: DueCache, repository: Path) -> str:
    clock = FakeClock()
    async with opened(cache.root, clock) as retention:
        with _listening() as told:
            reports = [await retention.sweep() for _ in range(2)]
        assert [[one.cause for one in report.suspended] for report in reports] == [
            [Cause.UNREADABLE_CACHE]
        ] * 2, reports
        repository.chmod(0o755)
        last = await retention.sweep()
        assert (last.status, last.errors) == ("success", ()), last
    cache.check(gone=cache.due)
    assert told, "nobody was told"
    assert max(told.values()) == 1, told
    return ""
