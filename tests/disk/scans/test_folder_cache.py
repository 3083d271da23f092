"""What is known of folders, and for how long."""

from collections.abc import Mapping

import attrs
import pytest

from hmret.disk.fingerprints import Fingerprint, stable_fingerprint
from hmret.disk.scans.folder_cache import FolderCache
from hmret.disk.scans.image_folders import ImageFolders
from hmret.model.times import SECOND
from support.builders import DATA, FakeClock
from support.memory_filesystem import MemoryFilesystem

HOUR_NS = 3600 * SECOND


@attrs.frozen
class Found:
    path: str
    subfolders: tuple[str, ...] = ()
    fingerprint: Fingerprint | None = attrs.field(default=None, eq=False)
    is_settled: bool = True
    listed_in: str | None = None


@attrs.define
class Reader:
    """Reads the folders below the data directory, and writes down which it has read."""

    filesystem: MemoryFilesystem
    data_fd: int
    cache: FolderCache[Found]
    read: list[str] = attrs.field(factory=list)
    in_part: list[str] = attrs.field(factory=list)

    def look(self, *, in_part: bool = False) -> tuple[Mapping[str, Found], bool]:
        self.read.clear()
        self.in_part.clear()
        self.cache.begin()
        self.cache.find_changed(self.data_fd)
        while self.cache.waiting:
            self.cache.put([self._look_at(path, in_part=in_part) for path in self.cache.take(2)])
        return self.cache.end()

    def _look_at(self, path: str, *, in_part: bool) -> Found:
        known = self.cache.still(self.data_fd, path)
        if known is not None:
            return known
        if in_part and self.cache.known_in_part(path) is not None:
            self.in_part.append(path)
        try:
            found = self.filesystem.stat(path or ".", dir_fd=self.data_fd)
        except FileNotFoundError:
            return Found(path)
        self.read.append(path)
        fd = self.filesystem.open(path or ".", 0, dir_fd=self.data_fd)
        with self.filesystem.scandir(fd) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        self.filesystem.close(fd)
        below = tuple(sorted(f"{path}/{name}".lstrip("/") for name in names))
        return Found(path, below, stable_fingerprint(found, self.filesystem.now_ns()))


@pytest.fixture
def reader(filesystem: MemoryFilesystem, data_fd: int, clock: FakeClock) -> Reader:
    for path in ("images/a/b", "images/c"):
        filesystem.make_folder(f"{DATA}/{path}")
    clock.wall_ns += 10 * SECOND
    return Reader(filesystem, data_fd, FolderCache(filesystem))


def test_the_first_look_reads_everything(reader: Reader) -> None:
    folders, is_new = reader.look()
    assert set(folders) == {"", "images", "images/a", "images/a/b", "images/c"}
    assert is_new


def test_what_has_not_changed_is_the_very_same_and_not_read(reader: Reader) -> None:
    before, _ = reader.look()
    after, is_new = reader.look()
    assert (reader.read, is_new) == ([], False)
    assert all(after[path] is folder for path, folder in before.items())


def test_only_what_has_changed_is_read(
    reader: Reader, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    before, _ = reader.look()
    filesystem.make_folder(f"{DATA}/images/a/new")
    clock.wall_ns += 10 * SECOND
    after, is_new = reader.look()
    assert (sorted(reader.read), is_new) == (["images/a", "images/a/new"], True)
    assert after["images/c"] is before["images/c"]


def test_what_has_gone_is_forgotten(reader: Reader, filesystem: MemoryFilesystem, clock: FakeClock) -> None:
    reader.look()
    filesystem.remove(f"{DATA}/images/a")
    clock.wall_ns += 10 * SECOND
    after, is_new = reader.look()
    assert (set(after), is_new) == ({"", "images", "images/c"}, True)
    assert reader.cache.known("images/a/b") is None


def test_a_folder_that_only_gave_way_to_others_is_read_when_it_comes_back(
    reader: Reader, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    reader.look()
    filesystem.move(f"{DATA}/images/a", f"{DATA}/aside")
    clock.wall_ns += 10 * SECOND
    reader.look()
    filesystem.move(f"{DATA}/aside", f"{DATA}/images/a")
    clock.wall_ns += 10 * SECOND
    assert "images/a/b" in reader.look()[0]


def test_what_changed_a_moment_ago_is_read_again_and_again(
    reader: Reader, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    reader.look()
    filesystem.make_folder(f"{DATA}/images/new")
    reader.look()
    filesystem.make_folder(f"{DATA}/images/newer")
    assert "images/newer" in reader.look()[0]
    clock.wall_ns += 2 * SECOND
    reader.look()
    assert "images" in reader.read
    reader.look()
    assert reader.read == []


def test_everything_is_read_again_within_four_hours_but_not_all_at_once(
    reader: Reader, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    for number in range(40):
        filesystem.make_folder(f"{DATA}/images/{number}")
    clock.wall_ns += 10 * SECOND
    everything, _ = reader.look()
    read: dict[str, int] = {}
    for minute in range(1, 241):
        clock.wall_ns += 60 * SECOND
        reader.look()
        for path in reader.read:
            read.setdefault(path, minute)
    assert read.keys() == everything.keys()
    assert min(read.values()) >= 120
    assert len(set(read.values())) > 20


def test_a_folder_that_changes_every_hour_is_read_in_full_every_few_hours(
    reader: Reader, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    reader.look(in_part=True)
    in_full = 0
    for hour in range(12):
        filesystem.make_folder(f"{DATA}/images/{hour}")
        clock.wall_ns += HOUR_NS
        reader.look(in_part=True)
        assert "images" in reader.read
        in_full += "images" not in reader.in_part
    assert 3 <= in_full <= 6


def test_a_clock_that_is_set_back_by_hours_has_everything_read_again(
    reader: Reader, clock: FakeClock
) -> None:
    everything, _ = reader.look()
    clock.wall_ns += 60 * SECOND
    reader.look()
    assert reader.read == []
    clock.wall_ns -= 5 * HOUR_NS
    reader.look()
    assert set(reader.read) == set(everything)


def test_what_is_doubted_is_read_in_full(reader: Reader) -> None:
    reader.look()
    reader.cache.invalidate({"images/a"})
    assert reader.cache.known_in_part("images/a") is None
    _, is_new = reader.look(in_part=True)
    assert (reader.read, reader.in_part, is_new) == (["images/a"], [], True)


def test_a_folder_is_new_while_nothing_is_known_of_it_that_may_be_trusted(
    reader: Reader, clock: FakeClock
) -> None:
    def are_new() -> list[bool]:
        reader.cache.begin()
        return [reader.cache.is_new(path) for path in ("images/a", "images/c")]

    assert are_new() == [True, True]
    reader.look()
    assert are_new() == [False, False]
    reader.cache.invalidate({"images/a"})
    assert are_new() == [True, False]
    clock.wall_ns += 4 * HOUR_NS
    assert are_new() == [True, True]


def test_only_folders_of_tags_are_to_be_read_ahead(reader: Reader) -> None:
    folders = ImageFolders(reader.filesystem, FolderCache(reader.filesystem), lambda: None)
    paths = ("repositories/quay.io/x", "repositories/quay.io", "repositories", "", "quay.io/x", "content/3f")
    assert [folders.is_new_tags(path) for path in paths] == [True, True, False, False, False, False]


def test_what_was_taken_and_given_back_waits_again(reader: Reader) -> None:
    reader.cache.begin()
    assert reader.cache.take(5) == [""]
    assert reader.cache.waiting == 0
    reader.cache.give_back(["", "images"])
    assert sorted(reader.cache.take(1) + reader.cache.take(1)) == ["", "images"]


def test_a_look_that_was_broken_off_leaves_what_was_known(reader: Reader) -> None:
    before, _ = reader.look()
    reader.cache.begin()
    reader.cache.put([Found("", ("nonsense",))])
    after, is_new = reader.look()
    assert (after, is_new) == (before, False)


def test_what_was_exported_is_known_to_another_cache_while_it_has_not_changed(
    reader: Reader, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    before, _ = reader.look()
    other = attrs.evolve(reader, cache=FolderCache(filesystem))
    other.cache.restore(reader.cache.export())
    filesystem.make_folder(f"{DATA}/images/c/new")
    clock.wall_ns += 10 * SECOND
    after, _ = other.look()
    assert sorted(other.read) == ["images/c", "images/c/new"]
    assert after["images/a/b"] is before["images/a/b"]


def test_what_was_restored_is_trusted_for_no_longer_than_it_was(
    reader: Reader, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    everything, _ = reader.look()
    clock.wall_ns += 4 * HOUR_NS
    other = attrs.evolve(reader, cache=FolderCache(filesystem))
    other.cache.restore(reader.cache.export())
    other.look()
    assert set(other.read) == set(everything)


def test_what_is_read_every_time_is_not_exported(reader: Reader, filesystem: MemoryFilesystem) -> None:
    filesystem.make_folder(f"{DATA}/images/new")
    reader.look()
    assert {folder.path for folder, _ in reader.cache.export()} == {"", "images/a", "images/a/b", "images/c"}
