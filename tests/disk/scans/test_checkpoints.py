"""What is known of folders, on the disk, for the next start."""

import struct
from collections.abc import Iterable, Sequence
from zlib import crc32

import attrs
import pytest

from hmret.disk.fingerprints import Fingerprint
from hmret.disk.layout import OWN
from hmret.disk.scans.checkpoints import CacheRecord
from hmret.disk.scans.folder_cache import FolderCache
from support.builders import DATA
from support.memory_filesystem import MemoryFilesystem

PATH = f"{DATA}/{OWN}/names.snapshot"
SIGNATURE = (1, 2, 3, 4, 5)


@attrs.frozen
class Named:
    path: str
    subfolders: tuple[str, ...] = ()
    fingerprint: Fingerprint | None = SIGNATURE
    is_settled: bool = True
    listed_in: str | None = None


def pack(folders: Sequence[Named]) -> bytes:
    if any(folder.path == "unspeakable" for folder in folders):
        raise OverflowError("too large")
    return "\n".join(folder.path for folder in folders).encode()


def unpack(packed: bytes) -> Sequence[Named]:
    return [Named(path) for path in packed.decode().split("\n")]


RECORD: CacheRecord[Named] = CacheRecord("names.snapshot", pack, unpack)


@attrs.define
class Keeper:
    filesystem: MemoryFilesystem
    data_fd: int
    pauses: int = 0

    def save(self, folders: Iterable[tuple[Named, int]], record: CacheRecord[Named] = RECORD) -> None:
        cache: FolderCache[Named] = FolderCache(self.filesystem)
        cache.restore(folders)
        record.save(self.filesystem, self.data_fd, cache, self._pause)

    def load(self, record: CacheRecord[Named] = RECORD) -> list[tuple[Named, int]]:
        cache: FolderCache[Named] = FolderCache(self.filesystem)
        record.load(self.filesystem, self.data_fd, cache, self._pause)
        return list(cache.export())

    def _pause(self) -> None:
        self.pauses += 1


@pytest.fixture
def keeper(filesystem: MemoryFilesystem, data_fd: int) -> Keeper:
    return Keeper(filesystem, data_fd)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 40])
def test_what_was_known_and_until_when_is_known_again(keeper: Keeper, count: int) -> None:
    folders = [(Named(f"repository-{number}"), number * 10**17) for number in range(1, count + 1)]
    keeper.save(folders)
    assert keeper.load() == folders


def test_others_get_their_turn_between_frames(keeper: Keeper) -> None:
    folders = [(Named(f"repository-{number}"), 1) for number in range(40)]
    keeper.save(folders)
    assert keeper.pauses == 5
    keeper.load()
    assert keeper.pauses > 9


def test_without_a_record_nothing_is_known(keeper: Keeper) -> None:
    assert keeper.load() == []


def test_the_record_of_something_else_is_none(keeper: Keeper, filesystem: MemoryFilesystem) -> None:
    keeper.save([(Named("a"), 1)])
    filesystem.write_file(f"{DATA}/{OWN}/other.snapshot", filesystem.read_file(PATH))
    assert keeper.load(attrs.evolve(RECORD, name="other.snapshot")) == []


def test_what_cannot_be_packed_is_left_out_with_those_beside_it_and_the_rest_is_kept(keeper: Keeper) -> None:
    folders = [(Named(f"repository-{number}"), 1) for number in range(24)]
    folders[10] = Named("unspeakable"), 1
    keeper.save(folders)
    assert keeper.load() == [*folders[:8], *folders[16:]]


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\0\0",
        struct.pack("!I", 1),
        struct.pack("!I", 0xFFFFFFFF) + bytes(64),
        struct.pack("!Iq", 1, 1) + b"\xff",
    ],
    ids=["empty", "cut", "no times", "far too many", "no names"],
)
def test_a_frame_that_makes_no_sense_ends_the_record(
    keeper: Keeper, filesystem: MemoryFilesystem, frame: bytes
) -> None:
    folders = [(Named(f"repository-{number}"), 1) for number in range(8)]
    keeper.save(folders)
    whole = filesystem.read_file(PATH)
    filesystem.write_file(PATH, whole[:-12] + struct.pack("!II", len(frame), crc32(frame)) + frame)
    assert keeper.load() == folders


def test_a_record_torn_anywhere_has_only_what_was_known(keeper: Keeper, filesystem: MemoryFilesystem) -> None:
    folders = [(Named(f"repository-{number}"), 1) for number in range(20)]
    keeper.save(folders)
    whole = filesystem.read_file(PATH)
    for length in range(len(whole)):
        filesystem.write_file(PATH, whole[:length])
        found = keeper.load()
        assert found == folders[: len(found)]
