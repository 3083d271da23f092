"""The record of looks, when timers were written, and when disks were read, on a real disk and in memory."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hmret.disk.filesystem import POSIX
from hmret.disk.folders import opened
from hmret.disk.kernel import clock as clocks
from hmret.disk.kernel.clock import HOST_CLOCK, with_boot_id
from hmret.disk.records.looks import load_looks_record, newest_timer, save_looks_record
from hmret.disk.scans.access_times import last_reads
from hmret.model.clock.clock_guard import ClockReading, ClockRecord
from hmret.model.clock.looks import Look, LooksRecord
from hmret.model.clock.unwatched import Gaps
from hmret.model.times import SECOND
from support.builders import DATA, data_fd_of, make_image, make_state
from support.memory_filesystem import MemoryFilesystem

ALPINE = "docker.io/library/alpine"
READING = ClockReading("boot", 1, 2, synchronised=False, monotonic_ns=3)


@pytest.mark.parametrize(
    "record",
    [
        LooksRecord(),
        LooksRecord(Look(READING, by_engine=True), Gaps(((1, 2), (5, 9))), True, 2),
        LooksRecord(Look(ClockReading("", 0, 2), by_engine=False)),
    ],
)
def test_what_was_saved_is_loaded(filesystem: MemoryFilesystem, record: LooksRecord) -> None:
    with opened(filesystem, data_fd_of(filesystem)) as data_fd:
        assert load_looks_record(filesystem, data_fd) is None
        save_looks_record(filesystem, data_fd, record)
        assert load_looks_record(filesystem, data_fd) == record


def test_gaps_on_record_are_put_in_order(filesystem: MemoryFilesystem) -> None:
    filesystem.write_file(
        f"{DATA}/system/hmret/looks.json", b'{"last": null, "gaps": [[5, 9], [8, 12], [3, 1]]}'
    )
    with opened(filesystem, data_fd_of(filesystem)) as data_fd:
        found = load_looks_record(filesystem, data_fd)
    assert found is not None
    assert found.gaps.spans == ((5, 12),)


@pytest.fixture
def data_fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_the_newest_file_of_a_timer_counts_and_no_folder(tmp_path: Path, data_fd: int) -> None:
    assert newest_timer(POSIX, data_fd, 400 * SECOND) is None
    for letters, written in (("a", 100), ("b", 300), ("c", 200)):
        key = make_image(tmp_path, f"{ALPINE}-{letters}", letters)
        make_state(tmp_path, key, 0)
        path = tmp_path / "system/image-retention" / key[0] / f"{key[1][7:]}.json"
        os.utime(path, ns=(written * SECOND, written * SECOND))
    assert newest_timer(POSIX, data_fd, 300 * SECOND) == 300 * SECOND
    assert newest_timer(POSIX, data_fd, 300 * SECOND - 1) == 200 * SECOND
    assert newest_timer(POSIX, data_fd, 99 * SECOND) is None


def test_a_disk_counts_as_read_when_the_file_system_says_so_but_not_in_the_future(
    tmp_path: Path, data_fd: int
) -> None:
    key = make_image(tmp_path, ALPINE, "a")
    disk = tmp_path / "images" / ALPINE / key[1][7:] / "rootfs.ext4"
    own = [(key, False, True)]
    os.utime(disk, ns=(500 * SECOND, 100 * SECOND))
    assert last_reads(POSIX, data_fd, own, after_ns=499 * SECOND, now_ns=600 * SECOND) == {key: 500 * SECOND}
    assert last_reads(POSIX, data_fd, own, after_ns=500 * SECOND, now_ns=600 * SECOND) == {}
    assert last_reads(POSIX, data_fd, own, after_ns=0, now_ns=499 * SECOND) == {}


def test_a_copy_beside_content_counts_as_its_row_does(tmp_path: Path, data_fd: int) -> None:
    key = make_image(tmp_path, ALPINE, "a")
    copy = tmp_path / "images" / ALPINE / key[1][7:] / "rootfs.ext4"
    content = tmp_path / "images/content" / key[1][7:] / "rootfs.erofs"
    content.parent.mkdir(parents=True)
    content.write_bytes(b"disk")
    os.utime(content, ns=(200 * SECOND, 0))
    os.utime(copy, ns=(300 * SECOND, 0))
    for has_own, read_ns in ((True, 300 * SECOND), (False, 200 * SECOND)):
        rows = [(key, True, has_own)]
        assert last_reads(POSIX, data_fd, rows, after_ns=0, now_ns=999 * SECOND) == {key: read_ns}


def test_asking_when_a_disk_was_read_is_no_read(tmp_path: Path, data_fd: int) -> None:
    key = make_image(tmp_path, ALPINE, "a")
    disk = tmp_path / "images" / ALPINE / key[1][7:] / "rootfs.ext4"
    os.utime(disk, ns=(1, 2))
    last_reads(POSIX, data_fd, [(key, False, True)], after_ns=0, now_ns=999)
    assert disk.stat().st_atime_ns == 1


# A kernel that does not tell which boot it is.


@pytest.fixture
def no_boot_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(clocks, "_BOOT_ID", str(tmp_path / "none"))
    clocks._boot_id.cache_clear()
    yield
    clocks._boot_id.cache_clear()


@pytest.mark.usefixtures("no_boot_id")
def test_without_a_boot_id_the_clocks_are_read_and_the_boot_is_told_by_its_time() -> None:
    reading = HOST_CLOCK.read()
    assert reading.boot_id == ""
    assert reading.monotonic_ns is not None
    known = ClockRecord("mine", reading.boot_ns - SECOND, reading.wall_ns - SECOND)
    assert with_boot_id(HOST_CLOCK, known).read().boot_id == "mine"
    fresh = with_boot_id(HOST_CLOCK, None)
    assert fresh.read().boot_id == fresh.read().boot_id != ""
    assert fresh.read().boot_id != with_boot_id(HOST_CLOCK, None).read().boot_id


def test_with_a_boot_id_a_clock_is_as_it_was() -> None:
    assert with_boot_id(HOST_CLOCK, None) is HOST_CLOCK
