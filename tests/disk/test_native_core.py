"""Whole-folder work: the native core, the single calls, and the disk in memory answer alike, whatever lies there."""

import errno
import os
import random
import re
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import hmret.disk.filesystem
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


@core
def test_the_core_serves_each_version_of_the_interpreter_whichever_it_was_compiled_for() -> None:
    """What takes lengths beside formats has one name where it was compiled for 3.12, and another for 3.13."""
    from hmret.disk import _native  # noqa: PLC0415 - where it is not built, there is none

    assert b"_SizeT" not in Path(_native.__file__).read_bytes()
    for name in ("_native.c", "_folders.c", "_deletion.c", "_retirement.c"):
        source = Path(_native.__file__).with_name(name)
        assert not source.exists() or not re.search(r'"[^"\n ]*[syzu]#[^"\n ]*"', source.read_text())


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
    prints, fresh, strange = filesystem.list_digests(fd, 2, b"")
    known = array("Q", bytes(16 << 8))
    for number, count, total in prints[::2]:
        known[2 * number], known[2 * number + 1] = count, total
    again = filesystem.list_digests(fd, 2, known.tobytes())
    return {
        "digests": (prints, sorted(fresh), sorted(strange)),
        "new digests": (again[0], sorted(again[1]), sorted(again[2])),
        "listing": (sorted(links), sorted(zip(folders, inodes, strict=True)), sorted(others)),
        "folders": [
            filesystem.read_folders(fd, [*names, *paths], suffix, most, most_read)
            for suffix in (".json", "ext4", "", LONGEST)
            for most_read in (0, 2, 64)
        ],
        "images": filesystem.look_at_images(fd, names, METADATA, DISKS, most),
        "files": filesystem.read_files(fd, paths, most),
        "stats": filesystem.stat_files(fd, paths),
        "links": filesystem.read_links(fd, names),
        "changed": [
            changed(filesystem, fd, paths, follow=follow, fields=fields)
            for follow in (False, True)
            for fields in ((0, 1, 2, 3), (1, 3))
        ],
    }


def changed(
    filesystem: Filesystem, fd: int, paths: list[str], *, follow: bool, fields: tuple[int, ...]
) -> list[int]:
    """Ask which paths have changed since a look, of which some other numbers are believed, each in turn."""
    marks = array("q")
    for number, path in enumerate(paths):
        try:
            found = os.stat(path, dir_fd=fd, follow_symlinks=False)
        except OSError:
            marks.extend(fields)
            continue
        mark = [found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]
        if number % 5 < len(mark):
            mark[number % 5] ^= 1 << number % 60
        marks.extend(mark[field] for field in fields)
    joined = b"".join(os.fsencode(path) + b"\0" for path in paths)
    return filesystem.changed_paths(fd, joined, marks.tobytes(), follow)


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
        lambda filesystem, names: filesystem.read_folders(-1, names, "", 10, 10),
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


@pytest.mark.parametrize("filesystem", [pytest.param(POSIX, marks=core), ONE_BY_ONE])
@pytest.mark.parametrize(("digits", "known"), [(0, b""), (5, b""), (2, bytes(16)), (1, bytes(257))])
def test_parts_of_another_number_are_refused(
    folder: int, filesystem: Filesystem, digits: int, known: bytes
) -> None:
    with pytest.raises(ValueError, match="out of range"):
        filesystem.list_digests(folder, digits, known)


@pytest.mark.parametrize("filesystem", [pytest.param(POSIX, marks=core), ONE_BY_ONE])
def test_a_part_is_told_by_every_name_and_every_inode_in_it(
    tmp_path: Path, folder: int, filesystem: Filesystem
) -> None:
    names = [f"a{number:063x}" for number in range(5)]
    for name in names:
        (tmp_path / name).mkdir()
    ((number, count, total),), fresh, others = filesystem.list_digests(folder, 1, b"")
    inodes = [(tmp_path / name).stat().st_ino for name in names]
    assert (number, count, others) == (10, 5, [])
    assert sorted(fresh) == list(zip(names, inodes, strict=True))
    known = array("Q", bytes(16 << 4))
    known[20], known[21] = count, total
    assert filesystem.list_digests(folder, 1, known.tobytes()) == ([(10, 5, total)], [], [])
    (tmp_path / names[0]).rename(tmp_path / f"a{'f' * 63}")
    ((_, _, other),), fresh, _ = filesystem.list_digests(folder, 1, known.tobytes())
    assert other != total
    assert len(fresh) == 5


@pytest.mark.parametrize("filesystem", [pytest.param(POSIX, marks=core), ONE_BY_ONE])
@pytest.mark.parametrize(
    ("paths", "marks"), [(b"a", bytes(32)), (b"a\0", bytes(31)), (b"a\0b\0", bytes(48)), (b"", bytes(32))]
)
def test_a_path_without_its_mark_is_refused(filesystem: Filesystem, paths: bytes, marks: bytes) -> None:
    with pytest.raises(ValueError, match="a mark"):
        filesystem.changed_paths(-1, paths, marks, False)


@pytest.mark.parametrize("filesystem", [pytest.param(POSIX, marks=core), ONE_BY_ONE])
def test_only_what_has_changed_is_told(tmp_path: Path, folder: int, filesystem: Filesystem) -> None:
    names = ["a", "b", "c"]
    for name in names:
        (tmp_path / name).mkdir()
    marks = array("Q")
    for name in names:
        found = (tmp_path / name).stat()
        marks.extend((found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns))
    joined = b"a\0b\0c\0"
    assert filesystem.changed_paths(folder, joined, marks.tobytes(), False) == []
    os.utime(tmp_path / "b", (1, 1))
    (tmp_path / "c").rmdir()
    assert filesystem.changed_paths(folder, joined, marks.tobytes(), False) == [1, 2]


@core
def test_an_amount_that_nothing_is_read_in_is_refused(folder: int) -> None:
    for most in (-1, 1 << 30):
        with pytest.raises(ValueError):
            POSIX.read_files(folder, [], most)
        with pytest.raises(ValueError):
            POSIX.look_at_images(folder, [], METADATA, DISKS, most)
        with pytest.raises(ValueError):
            POSIX.read_folders(folder, [], "", most, 1)
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


@pytest.mark.parametrize("filesystem", [pytest.param(POSIX, marks=core), ONE_BY_ONE])
def test_a_folder_is_read_with_its_links_and_the_files_that_are_asked_for(
    tmp_path: Path, folder: int, filesystem: Filesystem
) -> None:
    place = tmp_path / "a"
    (place / "level").mkdir(parents=True)
    (place / "one.json").write_bytes(b"12345")
    (place / "other").write_bytes(b"x")
    (place / "link.json").symlink_to("one.json")
    (tmp_path / "to a").symlink_to("a")
    (tmp_path / "file").touch()
    found, *failed = filesystem.read_folders(folder, ["a", "to a", "file", "gone"], ".json", 3, 1)
    assert failed == [errno.ENOTDIR, errno.ENOTDIR, errno.ENOENT]
    assert isinstance(found, tuple)
    status, links, targets, folders, others, files = found
    listed = place.stat()
    assert status[2:] == (listed.st_ino, listed.st_size, listed.st_mtime_ns, listed.st_ctime_ns)
    assert (links, targets, folders, sorted(others)) == (
        ["link.json"],
        ["one.json"],
        ["level"],
        ["one.json", "other"],
    )
    [read] = files
    assert isinstance(read, tuple)
    assert (read[2], read[6]) == ((place / "one.json").stat().st_ino, b"123")


@pytest.mark.parametrize("filesystem", [pytest.param(POSIX, marks=core), ONE_BY_ONE])
@pytest.mark.parametrize("kind", ["links", "files"])
def test_a_folder_with_more_than_is_to_be_read_at_once_is_not_read(
    tmp_path: Path, folder: int, filesystem: Filesystem, kind: str
) -> None:
    for number in range(3):
        place = tmp_path / f"{number}.json"
        place.symlink_to("x") if kind == "links" else place.touch()
    assert [filesystem.read_folders(folder, ["."], ".json", 1, most)[0] is None for most in (2, 3)] == [
        True,
        False,
    ]


class Witness(SingleCalls):
    """The same, which notes the calls that concern a folder, and what is read of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> object:
        if name in ("open", "fstat", "scandir", "readlink", "read"):
            self.calls.append(name)
        return getattr(POSIX, name)


def test_the_time_stamps_of_a_folder_are_asked_before_its_names_and_these_before_what_they_hold(
    tmp_path: Path, folder: int
) -> None:
    (tmp_path / "link").symlink_to("x")
    (tmp_path / "file").touch()
    witness = Witness()
    calls: Filesystem = witness  # type: ignore[assignment]  # it has what `POSIX` has
    calls.read_folders(folder, ["."], "file", 1, 1)
    assert witness.calls == ["open", "fstat", "scandir", "readlink", "open", "fstat", "read"]


def test_a_folder_holds_files_only_where_it_is_one_and_nothing_else_is_in_it(
    tmp_path: Path, folder: int
) -> None:
    for name in ("whole", "with a folder"):
        (tmp_path / name).mkdir()
        for inner in (METADATA, DISKS[0], "layer"):
            (tmp_path / name / inner).touch()
    (tmp_path / "with a folder" / "more").mkdir()
    (tmp_path / "link").symlink_to("whole")
    for filesystem in (POSIX, ONE_BY_ONE):
        names = ["whole", "with a folder", "link", "gone"]
        looks = filesystem.look_at_images(folder, names, METADATA, DISKS, CHUNK)
        assert [look[8] for look in looks] == [True, False, False, False]


def test_the_disk_counts_whatever_it_is_and_of_two_the_first(tmp_path: Path, folder: int) -> None:
    for name, disks in (("a", DISKS), ("b", DISKS[1:])):
        (tmp_path / name).mkdir()
        for disk in disks:
            (tmp_path / name / disk).symlink_to("elsewhere")
    for filesystem in (POSIX, ONE_BY_ONE):
        found = filesystem.look_at_images(folder, ["a", "b", "c"], METADATA, DISKS, CHUNK)
        assert [look[4] for look in found] == [0, 1, -1]
        assert [look[6] for look in found] == [-1, -1, 0]


# What a deletion holds open.


def outcome_of(call: Callable[..., object], *arguments: object) -> object:
    """Return what a call returns, or errno of what it raises."""
    try:
        return call(*arguments)
    except OSError as error:
        return error.errno


def held_in(filesystem: Filesystem, fd: int, name: str, most: int) -> object:
    """Hold a folder, tell what was found, and let it go."""
    folder_fd, inode, changed_ns, files, folders, content = filesystem.hold_folder(fd, name, METADATA, most)
    filesystem.close_all([folder_fd, *(file[1] for file in files)])
    found = sorted((file[0], file[1] >= 0, *file[2:]) for file in files)
    return inode, changed_ns, found, sorted(folders), content


def file_held_in(filesystem: Filesystem, fd: int, name: str, most: int) -> object:
    file_fd, found, content = filesystem.hold_file(fd, name, most)
    filesystem.close_all([file_fd])
    return found, content


@core
@pytest.mark.parametrize("seed", range(100))
def test_both_hold_alike_what_is_in_random_damaged_and_hostile_folders(
    tmp_path: Path, folder: int, seed: int
) -> None:
    rng = random.Random(seed)
    names = make_tree(tmp_path, rng)
    most = rng.choice((0, 1, 100, CHUNK))
    before = set(Path("/proc/self/fd").iterdir())
    for name in names:
        for hold in (held_in, file_held_in):
            answers = [outcome_of(hold, calls, folder, name, most) for calls in (POSIX, ONE_BY_ONE)]
            assert answers[0] == answers[1]
    assert set(Path("/proc/self/fd").iterdir()) == before


@core
def test_what_cannot_be_held_leaves_nothing_open(folder: int, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(".")
    (tmp_path / "file").write_bytes(b"x")
    before = set(Path("/proc/self/fd").iterdir())
    for name, number in (("gone", errno.ENOENT), ("link", errno.ENOTDIR), ("file", errno.ENOTDIR)):
        for calls in (POSIX, ONE_BY_ONE):
            assert outcome_of(calls.hold_folder, folder, name, METADATA, 1) == number
    for calls in (POSIX, ONE_BY_ONE):
        assert outcome_of(calls.hold_file, folder, "link", 1) == errno.ELOOP
        assert outcome_of(calls.hold_file, folder, ".", 1) == errno.EISDIR
        assert outcome_of(calls.hold_folder, -1, "a", METADATA, 1) == errno.EBADF
        with pytest.raises(ValueError):
            calls.hold_folder(folder, "a\0b", METADATA, 1)
    assert set(Path("/proc/self/fd").iterdir()) == before


@core
def test_a_folder_that_is_held_is_listed_from_its_beginning(folder: int, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for number in range(600):
        (tmp_path / "a" / f"{number:0200}").symlink_to("x")
    fd, _, _, files, folders, _ = POSIX.hold_folder(folder, "a", METADATA, 1)
    assert (len(files), folders) == (600, [])
    assert {file[2] for file in files} == {errno.ELOOP}
    with os.scandir(fd) as entries:
        assert len(list(entries)) == 600
    os.close(fd)


@core
@pytest.mark.parametrize("calls", [POSIX, ONE_BY_ONE], ids=["native", "single calls"])
def test_leases_are_taken_up_to_the_first_that_is_refused_and_asked_all_at_once(
    tmp_path: Path, calls: Filesystem
) -> None:
    names = [tmp_path / name for name in "abc"]
    for name in names:
        name.write_bytes(b"x")
    fds = [os.open(name, os.O_RDONLY) for name in names]
    assert calls.take_leases(fds) == [0, 0, 0]
    assert calls.are_leased(fds)
    assert calls.are_leased([])
    with pytest.raises(BlockingIOError):
        os.open(names[1], os.O_RDONLY | os.O_NONBLOCK)
    assert not calls.are_leased(fds)
    calls.close_all(fds)
    fds = [os.open(name, os.O_RDONLY) for name in names]
    other = os.open(names[1], os.O_RDONLY)
    assert calls.take_leases(fds) == [0, errno.EAGAIN]
    calls.close_all([*fds, other, -1, 9999])
    assert calls.take_leases([9999, fds[0]]) == [errno.EBADF, errno.EBADF]
    assert outcome_of(calls.are_leased, [9999]) == errno.EBADF


@core
def test_what_is_no_list_of_descriptors_is_refused() -> None:
    for fds in ((1,), "a", [None], ["a"], [1 << 70]):
        for call in (POSIX.take_leases, POSIX.are_leased, POSIX.close_all):
            with pytest.raises((TypeError, OverflowError)):
                call(fds)  # type: ignore[arg-type]  # that is the point


# What a deletion changes.


def tree_of(folder: Path) -> dict[str, tuple[int, str]]:
    """Return of all below a folder its inode, and where it leads if it is a link."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_ino,
            os.fsencode(path.readlink()).decode("latin-1") if path.is_symlink() else "",
        )
        for path in folder.rglob("*")
    }


def make_tags(root: Path, rng: random.Random) -> tuple[list[str], list[int]]:
    """Make what can stand in the place of tags; returns their names, and inodes that are theirs or others'."""
    (root / "tags").mkdir(parents=True)
    (root / "aside").mkdir()
    names = [f"tag{number}" for number in range(8)] + ["\udcfe\udcff", "gone", TOO_LONG, LONGEST]
    inodes: list[int] = []
    for name in names:
        place = root / "tags" / name
        if name not in ("gone", TOO_LONG):
            make_something(place, rng)
        is_there = name != TOO_LONG and os.path.lexists(place)
        inodes.append(
            place.lstat().st_ino if is_there and rng.random() < 0.8 else rng.choice((0, 1, 1 << 63))
        )
    return names, inodes


@core
@pytest.mark.parametrize("seed", range(60))
def test_both_set_the_same_tags_aside_and_see_the_same_there(tmp_path: Path, seed: int) -> None:
    answers: list[object] = []
    for calls in (POSIX, ONE_BY_ONE):
        rng = random.Random(seed)
        root = tmp_path / str(len(answers))
        names, inodes = make_tags(root, rng)
        numbers = [inode for inode, _ in tree_of(root).values()]
        if rng.random() < 0.2:
            (root / "aside" / "0").mkdir()
        folder, beside = (os.open(root / name, os.O_RDONLY) for name in ("tags", "aside"))
        told = calls.set_aside(folder, names, inodes, beside, [str(number) for number in range(len(names))])
        os.close(folder)
        os.close(beside)
        # The inodes themselves are others in each tree.
        left = {path: target for path, (_, target) in tree_of(root).items()}
        answers.append(([(*errors, inode in numbers, target) for *errors, inode, target in told], left))
    assert answers[0] == answers[1]


@core
@pytest.mark.parametrize("calls", [POSIX, ONE_BY_ONE], ids=["native", "single calls"])
def test_only_the_tag_of_the_inode_is_set_aside(tmp_path: Path, folder: int, calls: Filesystem) -> None:
    (tmp_path / "mine").symlink_to("a" * 64)
    (tmp_path / "other").symlink_to("b" * 64)
    inode = (tmp_path / "mine").lstat().st_ino
    told = calls.set_aside(folder, ["mine", "other", "gone"], [inode, inode, inode], folder, ["1", "2", "3"])
    assert told == [(0, 0, inode, "a" * 64), (errno.ENOENT, 0, 0, ""), (errno.ENOENT, 0, 0, "")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "other"]


@core
@pytest.mark.parametrize("calls", [POSIX, ONE_BY_ONE], ids=["native", "single calls"])
def test_names_and_inodes_that_do_not_belong_together_are_refused(folder: int, calls: Filesystem) -> None:
    for tags, inodes, names in ((["a"], [], ["b"]), (["a"], [1], []), ([], [1], [])):
        with pytest.raises((TypeError, ValueError)):
            calls.set_aside(folder, tags, inodes, folder, names)


@core
@pytest.mark.parametrize("seed", range(60))
def test_both_erase_the_same_of_a_folder_and_count_the_same(tmp_path: Path, seed: int) -> None:
    answers: list[object] = []
    for calls in (POSIX, ONE_BY_ONE):
        rng = random.Random(seed)
        root = tmp_path / str(len(answers))
        root.mkdir()
        names = make_tree(root, rng)
        for number, name in enumerate(names):
            disk = root / name / DISKS[0]
            if name in ("", ".", "..", TOO_LONG) or rng.random() < 0.7:
                continue
            if not (disk.parent.is_symlink() or disk.is_symlink()) and disk.is_file():
                os.link(disk, root / f"{number}.linked")
        files = rng.choice(([METADATA, *DISKS], [METADATA], [*DISKS, "gone"], []))
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        told = [calls.erase_folder(fd, name, files, DISKS) for name in names if name not in ("", ".", "..")]
        os.close(fd)
        answers.append((told, sorted(tree_of(root))))
    assert answers[0] == answers[1]


@core
@pytest.mark.parametrize("calls", [POSIX, ONE_BY_ONE], ids=["native", "single calls"])
def test_a_disk_with_another_name_frees_nothing(tmp_path: Path, folder: int, calls: Filesystem) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / DISKS[0]).write_bytes(bytes(8192))
    os.link(tmp_path / "a" / DISKS[0], tmp_path / "elsewhere")
    blocks = (tmp_path / "b" / DISKS[0]).stat().st_blocks
    assert calls.erase_folder(folder, "a", [DISKS[0]], DISKS) == (0, 0)
    assert calls.erase_folder(folder, "b", [DISKS[0]], DISKS) == (0, blocks)
    (tmp_path / "link").symlink_to(".")
    assert calls.erase_folder(folder, "link", ["elsewhere"], DISKS) == (errno.ENOTDIR, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "link"]


def test_a_core_that_was_built_for_other_code_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HMRET_NATIVE", raising=False)
    older, fitting = ModuleType("older"), ModuleType("fitting")
    vars(fitting)["INTERFACE"] = hmret.disk.filesystem._INTERFACE
    vars(older)["INTERFACE"] = hmret.disk.filesystem._INTERFACE - 1
    assert hmret.disk.filesystem._usable(fitting) is fitting
    assert (
        hmret.disk.filesystem._usable(older) is hmret.disk.filesystem._usable(ModuleType("of before")) is None
    )
    monkeypatch.setenv("HMRET_NATIVE", "0")
    assert hmret.disk.filesystem._usable(fitting) is None
