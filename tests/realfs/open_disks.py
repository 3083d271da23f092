"""Open disks: what has one open keeps its image and is not disturbed; and what does not have it open, and so does not."""

import ctypes
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import anyio

from hmret.model.report import SweepReport
from realfs.checking import Check
from realfs.due_caches import DISK_BYTES, DueCache, opened
from realfs.mounts import make, needs, run, unmount, wait_for
from realfs.open_programs import PROGRAMS, running_with_disk
from realfs.openers import DISK_SIZE, OPENERS, Opener, Undisturbed, overlaid
from realfs.setups import SETUPS
from support.builders import FakeClock

__all__ = ["open_disks"]

_PART = "open disks"


def open_disks() -> Iterator[Check]:
    """List the checks of this part."""
    for said, opener in (*OPENERS.items(), *PROGRAMS.items()):
        yield Check(
            _PART, f"an image stays whose disk {said}, and what has it goes on", partial(_kept, opener)
        )
    for name, beneath in (
        ("bindfs", "ext4/data"),
        ("overlayfs", "ext4/upper/data"),
        ("fuse-overlayfs", "ext4/upper/data"),
    ):
        sentence = f"a disk that is open beneath {name} keeps no image of the data directory on it"
        yield Check(_PART, sentence, partial(_beneath, name, beneath))
    for said, opener in _UNSEEN.items():
        yield Check(
            _PART, f"{said} keeps no image; a guest's metadata and a lease do", partial(_unseen, opener)
        )


def _kept(opener: Opener, folder: Path) -> str:
    with make(folder, "ext4") as place:
        cache, [disk] = _build(place, others=1)
        aside = folder / "aside"
        aside.mkdir()
        return anyio.run(_keep, cache, disk, opener, aside)


async def _keep(cache: DueCache, disk: Path, opener: Opener, aside: Path) -> str:
    [held] = cache.others
    clock = FakeClock()
    async with opened(cache.root, clock) as retention:
        with opener(disk, aside) as undisturbed:
            inode = disk.stat().st_ino
            begin = time.monotonic()
            report = await retention.sweep()
            seconds = time.monotonic() - begin
            assert (report.status, report.errors, report.open_images) == ("success", (), 1), report
            assert disk.stat().st_ino == inode
            assert cache.has_tag(held)
            cache.check(gone=cache.due)
            undisturbed()
        # Once nothing has it open any more, it goes when its time has come again.
        assert (await retention.sweep()).open_images == 0
        clock.advance(timedelta(days=31))
        await retention.sweep()
    assert not cache.folder(held).exists()
    return f"swept in {seconds * 1000:.0f} ms"


def _build(place: Path, *, others: int) -> tuple[DueCache, list[Path]]:
    (place / "data").mkdir()
    cache = DueCache.build(place / "data", "today", due=1, others=others)
    disks = [cache.disk(one) for one in cache.others]
    for disk in disks:
        disk.write_bytes(os.urandom(DISK_SIZE))
    return cache, disks


def _unseen(opener: Opener, folder: Path) -> str:
    with make(folder, "ext4") as place:
        cache, disks = _build(place, others=3)
        with ExitStack() as stack:
            for number, disk in enumerate(disks):
                aside = folder / f"aside-{number}"
                aside.mkdir()
                stack.enter_context(opener(disk, aside))
            anyio.run(_delete, cache, backend="trio")
    return ""


async def _delete(cache: DueCache) -> None:
    alone, referenced, leased = cache.others
    cache.host.guest(cache.reference(referenced))
    async with opened(cache.root, FakeClock()) as retention:
        await retention.grant_lease(cache.reference(leased), owner="realfs", reason="", ttl=timedelta(days=1))
        report = await retention.sweep()
        assert (report.status, report.errors, report.open_images) == ("success", (), 0), report
    cache.check(gone=(*cache.due, alone))
    for kept in (referenced, leased):
        assert cache.disk(kept).stat().st_size == DISK_SIZE
        assert cache.has_tag(kept)


def _beneath(name: str, beneath: str, folder: Path) -> str:
    [setup] = [setup for setup in SETUPS if setup.name == name]
    with setup.make(folder) as root:
        cache = DueCache.build(root, "today", due=2)
        held, free = cache.due
        with (folder / beneath / cache.disk(held).relative_to(root)).open("rb") as file:
            report = anyio.run(_sweep, cache)
            assert (report.status, report.open_images) == ("success", 0), report
            cache.check(gone=(held, free))
            assert len(file.read()) == DISK_BYTES
    return ""


async def _sweep(cache: DueCache) -> SweepReport:
    async with opened(cache.root, FakeClock()) as retention:
        return await retention.sweep()


# What is not seen.


@contextmanager
def _bound(disk: Path, folder: Path) -> Iterator[Undisturbed]:
    target = folder / "bound"
    target.touch()
    run("mount", "--bind", disk, target)
    try:
        yield lambda: None
    finally:
        unmount(target)


@contextmanager
def _overlaid(disk: Path, folder: Path) -> Iterator[Undisturbed]:
    with overlaid(disk.parent, folder):
        yield lambda: None


@contextmanager
def _idle_export(disk: Path, folder: Path) -> Iterator[Undisturbed]:
    needs("nbdkit")
    with running_with_disk(
        ["nbdkit", "-f", "-r", "-U", folder / "socket", "file", disk], None
    ) as undisturbed:
        wait_for(folder / "socket")
        yield undisturbed


@contextmanager
def _path_only(disk: Path, _folder: Path) -> Iterator[Undisturbed]:
    fd = os.open(disk, os.O_PATH)
    try:
        yield lambda: None
    finally:
        os.close(fd)


@contextmanager
def _watched(disk: Path, _folder: Path) -> Iterator[Undisturbed]:
    library = ctypes.CDLL(None, use_errno=True)
    fd, everything = library.inotify_init1(os.O_CLOEXEC), 0xFFF
    assert library.inotify_add_watch(fd, bytes(disk.parent), everything) >= 0, ctypes.get_errno()
    try:
        yield lambda: None
    finally:
        os.close(fd)


@contextmanager
def _entered(disk: Path, _folder: Path) -> Iterator[Undisturbed]:
    with running_with_disk(["env", "-C", disk.parent, "sleep", "1000"], None) as undisturbed:
        yield undisturbed


@contextmanager
def _handle(disk: Path, _folder: Path) -> Iterator[Undisturbed]:
    library = ctypes.CDLL(None, use_errno=True)
    handle = ctypes.create_string_buffer(8 + 128)
    ctypes.memmove(handle, (128).to_bytes(4, "little"), 4)
    mount_id, here = ctypes.c_int(), -100
    assert library.name_to_handle_at(here, bytes(disk), handle, ctypes.byref(mount_id), 0) == 0, (
        ctypes.get_errno()
    )
    yield lambda: None


_UNSEEN: Mapping[str, Opener] = {
    "a bind mount of a disk with no open file": _bound,
    "an overlay over an image's folder with no open file": _overlaid,
    "an nbdkit without a client": _idle_export,
    "a descriptor opened with O_PATH": _path_only,
    "a watch on an image's folder": _watched,
    "a process that has entered an image's folder": _entered,
    "a file handle": _handle,
}
"""By what they are."""
