"""Power cuts on real file systems: work on a disk that records every write, and what a start makes of each cut."""

import os
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from functools import partial
from itertools import product
from pathlib import Path

import anyio
import attrs

from hmret.disk.filesystem import POSIX
from hmret.disk.layout import hex_of
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.model.references import Key
from hmret.model.times import format_time
from realfs.checking import Check
from realfs.disk_log import Cut, DiskLog, draw_cuts, recorded
from realfs.mounts import looped, mounted, write_image
from support.builders import FakeClock, digest, make_config, make_image, make_state
from support.content_trees import Host
from support.cut_caches import ALPINE, OLD_NS, ONE, Cache, Layout, build, check_held, contents_of, is_here
from support.inline_threads import InlineThreads

__all__ = ["power_cuts"]

_PART = "power cuts"
_CUTS = int(os.environ.get("CUTS", "50"))
"""For each file system, layout and work."""
_LEASED = "ghcr.io/kernel/leased"
_USED = "ghcr.io/kernel/used"
_WORKS = {"a sweep": timedelta(0), "a quarantine with restores": timedelta(hours=24)}
"""What is done after a lease and a `mark_used`, and how long what is deleted is held."""
_NEVER = 1 << 60
_LATER = timedelta(hours=25)
_RESTORED = ("alpine:3.20", f"{ONE}:v1")


def power_cuts() -> Iterator[Check]:
    """List the checks of this part."""
    settings = product(("ext4", "xfs", "btrfs"), ("older", "today"), _WORKS.items())
    for number, (kind, layout, (work, quarantine)) in enumerate(settings):
        sentence = f"what was promised in {work} holds after {_CUTS} power cuts ({kind}, {layout} layout)"
        yield Check(_PART, sentence, partial(_cut, kind, layout, quarantine, number))  # type: ignore[arg-type]


@attrs.define
class _Promises:
    """From which place in the log on a promise holds, and what a release may have taken."""

    leased: int = _NEVER
    used: int = _NEVER
    swept: int = _NEVER
    restored: int = _NEVER
    releasing: int = _NEVER
    released: int = _NEVER


@attrs.frozen
class _Disk:
    """A host on a disk that lives through power cuts."""

    cache: Cache
    leased: Key
    used: Key
    clock: FakeClock
    quarantine: timedelta

    @property
    def tags(self) -> list[Path]:
        """The tags of what is restored."""
        images = self.cache.root / "images"
        places = images / "repositories" if (images / "repositories").exists() else images
        return [places / ALPINE / "latest", places / ALPINE / "3.20", places / ONE / "v1"]

    async def with_engine(
        self, work: Callable[[Retention], Awaitable[None]], clock: FakeClock | None = None
    ) -> None:
        """Do something with an engine that is opened for it."""
        platform = Platform(
            filesystem=POSIX, clock=clock or self.clock, threads=InlineThreads(), monotonic_ns=lambda: 0
        )
        config = make_config(self.cache.root, quarantine=self.quarantine)
        async with open_engine(config, platform, scheduled=False) as retention:
            await work(retention)


def _build(root: Path, layout: Layout, quarantine: timedelta) -> _Disk:
    cache = build(root, layout)
    clock = FakeClock()
    keys = []
    for repository, letters in ((_LEASED, "1"), (_USED, "2")):
        key = repository, digest(letters)
        if layout == "today":
            host = Host(root, clock)
            host.content(letters, name=f"{repository}:v", metadata={"created_at": "2025-01-01T00:00:00Z"})
            host.link(repository, "v", letters)
        else:
            make_image(root, repository, letters, tags=("v",))
        make_state(root, key, OLD_NS)
        cache.contents[key] = contents_of(root, key)
        keys.append(key)
    return _Disk(cache, keys[0], keys[1], clock, quarantine)


async def _work(disk: _Disk, log: DiskLog) -> _Promises:
    """Lease, mark, sweep, restore, and a day later release; notes when each was promised."""
    promises = _Promises()

    async def first(retention: Retention) -> None:
        await retention.grant_lease(f"{_LEASED}:v", owner="cuts", reason="", ttl=timedelta(days=20))
        promises.leased = log.position
        await retention.mark_used(f"{_USED}:v")
        promises.used = log.position
        report = await retention.sweep()
        assert (report.status, report.deleted_images) == ("success", len(disk.cache.due)), report
        promises.swept = log.position
        if not disk.quarantine:
            return
        for image in _RESTORED:
            await retention.restore(image)
        promises.restored = log.position

    async def second(retention: Retention) -> None:
        assert (await retention.sweep()).status == "success"

    await disk.with_engine(first)
    if not disk.quarantine:
        return promises
    disk.clock.advance(disk.quarantine)
    promises.releasing = log.position
    await disk.with_engine(second)
    promises.released = log.position
    return promises


def _cut(kind: str, layout: Layout, quarantine: timedelta, seed: int, folder: Path) -> str:
    image = write_image(folder / "disk", kind)
    place = folder / "mounted"
    with looped(image) as device, mounted(kind, device, place):
        disk = _build(place / "data", layout, quarantine)
    with recorded(folder, image) as recording, mounted(kind, recording.device, place):
        log = recording.log
        begin = log.position
        promises = anyio.run(_work, disk, log)
    cuts = draw_cuts(log, _CUTS, begin, seed)
    for cut in cuts:
        path = folder / "cut"
        log.write_disk(cut, path)
        try:
            with looped(path) as device, mounted(kind, device, place):
                anyio.run(_check, disk, promises, log, cut, backend=("asyncio", "trio")[cut.seed % 2])
        except Exception as error:
            if keep := os.environ.get("REALFS_KEEP"):
                log.write_disk(cut, Path(keep) / f"{kind}-{layout}.image")
            passed = [name for name, at in attrs.asdict(promises).items() if log.passed(cut, at)]
            raise AssertionError(f"{cut}, of {len(log.entries)} entries, after {passed}: {error}") from error
        path.unlink()
    flushes = sum(log.is_flush(number) for number in range(1, len(log.entries) + 1))
    return f"{len(log.entries) - flushes} writes and {flushes} flushes recorded"


def _has_old_timer(disk: _Disk) -> bool:
    # A timer that has just begun is not forced to the disk: power may leave an empty file, which counts as none.
    timer = disk.cache.root / "system/image-retention" / _USED / f"{hex_of(disk.used[1])}.json"
    return timer.exists() and format_time(OLD_NS) in timer.read_text()


async def _check(disk: _Disk, promises: _Promises, log: DiskLog, cut: Cut) -> None:
    """Check the promises on a disk that a cut has left, before a start, after it, and after what follows."""
    is_leased, is_used = log.passed(cut, promises.leased), log.passed(cut, promises.used)
    is_restored, is_releasing = log.passed(cut, promises.restored), log.passed(cut, promises.releasing)
    kept = [key for key, is_kept in ((disk.leased, is_leased), (disk.used, is_used)) if is_kept]
    open_to = [key for key in (disk.leased, disk.used) if key not in kept]
    cache = attrs.evolve(disk.cache, due=(*disk.cache.due, *open_to), stays=(*disk.cache.stays, *kept))
    # Those of the images that are due that go in the end, whatever was cut off.
    brought_back = [key for key in cache.due if key[1] in (digest("a"), digest("d"))]
    clock = FakeClock(boot_id="after-the-cut")
    clock.advance(_LATER if is_releasing else timedelta(hours=1))
    here = brought_back if is_restored else ()
    may_be_gone = is_releasing or (not disk.quarantine and is_used)
    cache.check_cut_off(power_lost=True)
    if is_restored:
        missing = [tag for tag in disk.tags if not tag.exists()]
        assert not missing, f"came back without its tag: {missing}"

    async def start(retention: Retention) -> None:
        check_held(cache, here=here, gone=may_be_gone)
        leases = [(lease.repository, lease.digest) for lease in retention.granted_leases()]
        assert leases == [disk.leased] or (not leases and not is_leased), leases
        assert not is_used or not _has_old_timer(disk), "its old timer is there again"
        report = await retention.sweep()
        assert report.status == "success", report
        check_held(cache, here=here, gone=may_be_gone or not disk.quarantine)
        clock.advance(timedelta(days=3))
        report = await retention.sweep()
        assert report.status == "success", report
        left = [key for key in cache.due if is_here(cache.root, key) and key not in open_to]
        assert set(here) <= set(left) <= set(brought_back if disk.quarantine else ()), left
        attrs.evolve(
            cache, due=tuple(key for key in cache.due if not is_here(cache.root, key))
        ).check_recovered()

    await disk.with_engine(start, clock)
    twice = [
        path for path in (cache.root / "system").rglob("*.*") if path.is_file() and path.stat().st_nlink > 1
    ]
    assert not twice, f"left under two names: {twice}"
