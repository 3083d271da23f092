"""Whole-folder work: the native core, the single calls, and the disk in memory answer alike, whatever lies there."""

import errno
import os
import random
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hmret.disk.filesystem import NATIVE, POSIX, Filesystem, FolderCalls
from hmret.disk.folders import CHUNK
from hmret.disk.layout import METADATA, ROOTFS_NAMES

DISKS = list(ROOTFS_NAMES)
LONGEST = "n" * 255
TOO_LONG = "n" * 256


class SingleCalls(FolderCalls):
    """The real file system, whose whole-folder work is done by single calls."""

    def __getattr__(self, name: str) -> object:
        return getattr(POSIX, name)


ONE_BY_ONE: Filesystem = SingleCalls()  # type: ignore[assignment]  # it has what `POSIX` has

core = pytest.mark.skipif(not NATIVE, reason="the native core is not built, or switched off")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def make_something(place: Path, rng: random.Random) -> None:
    """Put something of a random kind at a path."""
    kind = rng.choice(("file", "empty", "large", "folder", "link", "dangling", "loop", "pipe", "nothing"))
    match kind:
        case "file":
            place.write_bytes(rng.randbytes(rng.randint(1, 300)))
        case "empty":
            place.write_bytes(b"")
        case "large":
            place.write_bytes(bytes(CHUNK + rng.randint(-1, 1)))
        case "folder":
            place.mkdir()
        case "link":
            place.symlink_to(os.fsencode(rng.choice(("..", "/", "a", "\udcff\udc80", "x" * 1000))))
        case "dangling":
            place.symlink_to("../" * rng.randint(1, 9) + "gone")
        case "loop":
            place.symlink_to(place.name)
        case "pipe":
            os.mkfifo(place)
        case _:
            return


def make_tree(root: Path, rng: random.Random) -> list[str]:
    """Make a folder of folders that may be images; returns names, of which some are not there."""
    names = [f"{rng.getrandbits(256):064x}" for _ in range(rng.randint(0, 9))]
    names += ["\udcfe\udcff", LONGEST, "x y\n", "é"]
    for name in names:
        place = root / name
        if rng.random() < 0.2:
            make_something(place, rng)
            continue
        place.mkdir()
        for inner in (METADATA, *DISKS):
            if rng.random() < 0.7:
                make_something(place / inner, rng)
    names += ["gone", TOO_LONG, "", ".", ".."]
    rng.shuffle(names)
    return names


def answers(filesystem: Filesystem, fd: int, names: list[str], most: int) -> dict[str, object]:
    paths = [*names, *(f"{name}/{METADATA}" for name in names)]
    links, folders, others, inodes = filesystem.list_folder(fd)
    return {
        "listing": (sorted(links), sorted(zip(folders, inodes, strict=True)), sorted(others)),
        "images": filesystem.look_at_images(fd, names, METADATA, DISKS, most),
        "files": filesystem.read_files(fd, paths, most),
        "stats": filesystem.stat_files(fd, paths),
        "links": filesystem.read_links(fd, names),
    }


@core
@pytest.mark.parametrize("seed", range(150))
def test_both_answer_alike_on_random_damaged_and_hostile_folders(
    tmp_path: Path, folder: int, seed: int
) -> None:
    rng = random.Random(seed)
    names = make_tree(tmp_path, rng)
    most = rng.choice((0, 1, 100, CHUNK))
    assert answers(POSIX, folder, names, most) == answers(ONE_BY_ONE, folder, names, most)


@core
@pytest.mark.parametrize(
    "call",
    [
        lambda filesystem, names: filesystem.look_at_images(-1, names, METADATA, DISKS, 10),
        lambda filesystem, names: filesystem.read_files(-1, names, 10),
        lambda filesystem, names: filesystem.stat_files(-1, names),
        lambda filesystem, names: filesystem.read_links(-1, names),
    ],
)
def test_a_descriptor_that_is_none_is_an_error_of_each_name(
    call: Callable[[Filesystem, list[str]], list[object]],
) -> None:
    assert call(POSIX, ["a", "b"]) == call(ONE_BY_ONE, ["a", "b"])
    assert call(POSIX, []) == []


@core
def test_a_descriptor_that_cannot_be_listed_raises(tmp_path: Path) -> None:
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    for fd, number in ((9999, errno.EBADF), (file, errno.ENOTDIR)):
        for filesystem in (POSIX, ONE_BY_ONE):
            with pytest.raises(OSError) as raised:
                filesystem.list_folder(fd)
            assert raised.value.errno == number
    os.close(file)


@core
def test_what_is_no_name_is_refused() -> None:
    for names in (["a\0b"], [b"a\0b"], [1], ("a",), "a"):
        with pytest.raises((TypeError, ValueError)):
            POSIX.stat_files(-1, names)  # type: ignore[arg-type]  # that is the point


@core
def test_an_amount_that_nothing_is_read_in_is_refused(folder: int) -> None:
    for most in (-1, 1 << 30):
        with pytest.raises(ValueError):
            POSIX.read_files(folder, [], most)
        with pytest.raises(ValueError):
            POSIX.look_at_images(folder, [], METADATA, DISKS, most)
    with pytest.raises(ValueError):
        POSIX.look_at_images(folder, ["a"], METADATA, [TOO_LONG], 1)


@pytest.mark.parametrize("filesystem", [pytest.param(POSIX, marks=core), ONE_BY_ONE])
def test_a_folder_can_be_listed_again_and_again(tmp_path: Path, folder: int, filesystem: Filesystem) -> None:
    for number in range(2000):
        (tmp_path / f"{number}").mkdir()
    first = filesystem.list_folder(folder)
    assert len(first[1]) == 2000
    assert first[3] == [(tmp_path / name).stat().st_ino for name in first[1]]
    (tmp_path / "more").touch()
    assert filesystem.list_folder(folder)[2] == ["more"]


@pytest.mark.parametrize("filesystem", [pytest.param(POSIX, marks=core), ONE_BY_ONE])
def test_no_descriptor_is_left_open(tmp_path: Path, folder: int, filesystem: Filesystem) -> None:
    names = make_tree(tmp_path, random.Random(1))
    before = len(list(Path("/proc/self/fd").iterdir()))
    answers(filesystem, folder, names, CHUNK)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_disk_counts_whatever_it_is_and_of_two_the_first(tmp_path: Path, folder: int) -> None:
    for name, disks in (("a", DISKS), ("b", DISKS[1:])):
        (tmp_path / name).mkdir()
        for disk in disks:
            (tmp_path / name / disk).symlink_to("elsewhere")
    for filesystem in (POSIX, ONE_BY_ONE):
        found = filesystem.look_at_images(folder, ["a", "b", "c"], METADATA, DISKS, CHUNK)
        assert [look[4] for look in found] == [0, 1, -1]
        assert [stat.S_ISLNK(look[6]) for look in found] == [True, True, False]
