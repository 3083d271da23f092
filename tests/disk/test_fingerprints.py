"""Telling by time stamps that something is still what it was."""

import os
from pathlib import Path

import pytest

from hmret.disk.filesystem import POSIX
from hmret.disk.fingerprints import SETTLING_NS, is_unchanged, stable_fingerprint, stable_since
from hmret.model.times import SECOND
from support.builders import DATA, START_NS, FakeClock
from support.memory_filesystem import FileStat, MemoryFilesystem

LOOKED_NS = START_NS


def found(*, mtime_ns: int = 0, ctime_ns: int = 0) -> FileStat:
    return FileStat(0o100644, 7, 1, 1, 42, 8, mtime_ns, ctime_ns)


def test_a_signature_is_device_inode_size_and_both_stamps() -> None:
    assert stable_fingerprint(found(mtime_ns=3, ctime_ns=4), LOOKED_NS) == (1, 7, 42, 3, 4)


@pytest.mark.parametrize("stamp", ["mtime_ns", "ctime_ns"])
@pytest.mark.parametrize(
    ("ago_ns", "is_settled"),
    [(SETTLING_NS, True), (SETTLING_NS - 1, False), (0, False), (-3600 * SECOND, False)],
)
def test_what_changed_a_moment_ago_or_later_than_now_is_not_settled(
    stamp: str, ago_ns: int, is_settled: bool
) -> None:
    seen = found(**{stamp: LOOKED_NS - ago_ns})
    assert (stable_fingerprint(seen, LOOKED_NS) is not None) == is_settled


def folder_changed_by(change: str, filesystem: MemoryFilesystem, clock: FakeClock) -> bool:
    """Make a folder, change something, and tell whether its fingerprint shows it."""
    filesystem.make_folder(f"{DATA}/a/folder/deeper")
    filesystem.write_file(f"{DATA}/a/file")
    filesystem.make_link(f"{DATA}/a/link", "file")
    clock.wall_ns += 10 * SECOND
    fd = filesystem.open(DATA, os.O_RDONLY | os.O_DIRECTORY)
    fingerprint = stable_fingerprint(filesystem.stat("a", dir_fd=fd), clock.now_ns())
    assert fingerprint is not None
    assert is_unchanged(filesystem, "a", fd, fingerprint)
    clock.wall_ns += 1
    match change:
        case "file made":
            filesystem.write_file(f"{DATA}/a/new")
        case "file removed":
            filesystem.remove(f"{DATA}/a/file")
        case "file renamed into it":
            filesystem.write_file(f"{DATA}/elsewhere")
            filesystem.move(f"{DATA}/elsewhere", f"{DATA}/a/new")
        case "file renamed over":
            filesystem.write_file(f"{DATA}/elsewhere")
            filesystem.move(f"{DATA}/elsewhere", f"{DATA}/a/file")
        case "file renamed away":
            filesystem.move(f"{DATA}/a/file", f"{DATA}/elsewhere")
        case "file renamed within it":
            filesystem.move(f"{DATA}/a/file", f"{DATA}/a/other")
        case "hard link made":
            filesystem.link(f"{DATA}/a/file", f"{DATA}/a/other")
        case "folder made":
            filesystem.make_folder(f"{DATA}/a/new")
        case "folder removed":
            filesystem.remove(f"{DATA}/a/folder")
        case "link moved":
            filesystem.make_link(f"{DATA}/a/link", "folder")
        case "its permissions changed":
            filesystem.change_mode(f"{DATA}/a")
        case "its mtime set back":
            filesystem.set_mtime(f"{DATA}/a", fingerprint[3])
        case "it renamed away and another in its place":
            filesystem.move(f"{DATA}/a", f"{DATA}/old")
            filesystem.make_folder(f"{DATA}/a")
        case "it replaced by a link to itself":
            filesystem.move(f"{DATA}/a", f"{DATA}/old")
            filesystem.make_link(f"{DATA}/a", "old")
        case "it gone":
            filesystem.remove(f"{DATA}/a")
        case "another disk mounted over it":
            filesystem.mount(f"{DATA}/a")
        case "file written in place":
            filesystem.write_file(f"{DATA}/a/file", b"new")
        case _:
            assert change == "folder below changed"
            filesystem.write_file(f"{DATA}/a/folder/new")
    still = is_unchanged(filesystem, "a", fd, fingerprint)
    filesystem.close(fd)
    return not still


@pytest.mark.parametrize(
    "change",
    [
        "file made",
        "file removed",
        "file renamed into it",
        "file renamed over",
        "file renamed away",
        "file renamed within it",
        "hard link made",
        "folder made",
        "folder removed",
        "link moved",
        "its permissions changed",
        "its mtime set back",
        "it renamed away and another in its place",
        "it replaced by a link to itself",
        "it gone",
        "another disk mounted over it",
    ],
)
def test_what_happens_to_a_folder_shows(change: str, filesystem: MemoryFilesystem, clock: FakeClock) -> None:
    assert folder_changed_by(change, filesystem, clock)


@pytest.mark.parametrize("change", ["file written in place", "folder below changed"])
def test_what_happens_below_a_folder_does_not_show(
    change: str, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    assert not folder_changed_by(change, filesystem, clock)


def test_a_real_folder_that_is_replaced_by_its_copy_shows(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    fingerprint = stable_fingerprint(os.stat(folder), 2**62)  # noqa: PTH116 - what the engine calls
    assert fingerprint is not None
    fd = os.open(tmp_path, os.O_RDONLY)
    assert is_unchanged(POSIX, "a", fd, fingerprint)
    folder.rename(tmp_path / "old")
    folder.mkdir()
    os.utime(folder, ns=(fingerprint[3], fingerprint[3]))
    assert not is_unchanged(POSIX, "a", fd, fingerprint)
    os.close(fd)


def test_what_the_kernel_stamps_later_from_now_on_is_settled_at_once() -> None:
    changed_ns = LOOKED_NS - 1
    assert not stable_since(changed_ns, LOOKED_NS, None)
    assert stable_since(changed_ns, LOOKED_NS, changed_ns + 1)
    assert not stable_since(changed_ns, LOOKED_NS, changed_ns)


def test_a_stamp_of_whole_seconds_is_no_proof_of_fine_ones() -> None:
    changed_ns = (LOOKED_NS // SECOND - 1) * SECOND
    assert not stable_since(changed_ns, LOOKED_NS, LOOKED_NS)
    assert stable_since(changed_ns - SECOND, LOOKED_NS, None)


def test_no_change_is_stamped_earlier_than_was_told_before_it(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    for number in range(200):
        earliest_ns = POSIX.earliest_stamp_ns(fd)
        (tmp_path / str(number)).symlink_to("x")
        found = tmp_path.stat()
        assert earliest_ns is None or earliest_ns <= min(found.st_mtime_ns, found.st_ctime_ns)
    os.close(fd)


def test_of_what_is_not_stamped_by_the_kernel_nothing_is_told() -> None:
    fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    assert POSIX.earliest_stamp_ns(fd) is None
    os.close(fd)
    assert POSIX.earliest_stamp_ns(9999) is None
