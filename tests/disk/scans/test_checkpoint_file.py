"""Records of frames: whole, torn, damaged, of another kind, and on a disk that fails."""

import errno
import os
import struct
from collections.abc import Iterator
from zlib import crc32

import pytest

from disk.hosts import Host
from hmret.disk.layout import OWN
from hmret.disk.scans.checkpoint_file import load_snapshot, save_snapshot
from support.builders import DATA
from support.memory_filesystem import Call

NAME = "some.snapshot"
PATH = f"{OWN}/{NAME}"
HEAD = b"some record 1"
FRAMES = [b"one", b"", b"three" * 5]


def save(host: Host, frames: list[bytes], head: bytes = HEAD) -> None:
    save_snapshot(host.filesystem, host.data_fd, NAME, head, frames)


def load(host: Host, head: bytes = HEAD) -> list[bytes]:
    return list(load_snapshot(host.filesystem, host.data_fd, NAME, head))


def frame(content: bytes) -> bytes:
    return struct.pack("!II", len(content), crc32(content)) + content


def test_what_was_saved_is_loaded(host: Host) -> None:
    save(host, FRAMES)
    assert load(host) == FRAMES


def test_a_frame_may_be_larger_than_what_is_read_at_once(host: Host) -> None:
    frames = [os.urandom(3 << 20), b"end"]
    save(host, frames)
    assert load(host) == frames


def test_a_later_record_takes_the_place_of_the_one_before(host: Host) -> None:
    save(host, FRAMES)
    save(host, [b"other"])
    assert load(host) == [b"other"]


def test_without_a_record_there_is_nothing(host: Host) -> None:
    assert load(host) == []


@pytest.mark.parametrize("head", [b"some record 2", b"", b"some record 1 "])
def test_a_record_of_another_kind_is_as_if_there_were_none(host: Host, head: bytes) -> None:
    save(host, FRAMES)
    assert load(host, head) == []


def test_a_record_torn_at_any_byte_has_the_frames_before(memory: Host) -> None:
    save(memory, FRAMES)
    content = memory.read(PATH)
    assert content == b"".join(map(frame, (HEAD, *FRAMES)))
    ends = [len(b"".join(map(frame, (HEAD, *FRAMES[:count])))) for count in range(len(FRAMES) + 1)]
    for length in range(len(content) + 1):
        memory.write(PATH, content[:length])
        whole = sum(length >= end for end in ends) - 1
        assert load(memory) == FRAMES[: max(whole, 0)], length


def test_a_record_with_a_bit_flipped_anywhere_has_only_frames_from_before(memory: Host) -> None:
    save(memory, FRAMES)
    content = memory.read(PATH)
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        memory.write(PATH, bytes(damaged))
        found = load(memory)
        assert found == FRAMES[: len(found)], bit
        assert len(found) < len(FRAMES), bit


@pytest.mark.parametrize("length", [(64 << 20) + 1, 0xFFFFFFFF])
def test_a_length_that_no_frame_has_is_damage_and_nothing_is_read_for_it(memory: Host, length: int) -> None:
    memory.write(PATH, frame(HEAD) + frame(b"one") + struct.pack("!II", length, 0) + b"x" * 100)
    reads = 0

    def count(call: Call) -> None:
        nonlocal reads
        reads += call.name == "read"

    memory.memory.before = count
    assert load(memory) == [b"one"]
    assert reads == 1


def test_short_reads_and_writes_make_no_difference(memory: Host) -> None:
    memory.memory.shorten = lambda _length: 3
    save(memory, FRAMES)
    assert load(memory) == FRAMES


def test_a_record_that_is_a_link_is_not_followed(host: Host) -> None:
    save(host, FRAMES)
    host.write("elsewhere", host.read(PATH))
    host.filesystem.unlink(PATH, dir_fd=host.data_fd)
    host.link(PATH, f"{DATA}/elsewhere")
    assert load(host) == []


@pytest.mark.parametrize("name", ["open", "write", "close", "rename"])
def test_a_record_that_cannot_be_written_leaves_the_one_before_and_nothing_beside_it(
    memory: Host, name: str
) -> None:
    save(memory, FRAMES)

    def fail(call: Call) -> None:
        if call.name == name and f"{NAME}.tmp" in call.path:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    memory.memory.before = fail
    with pytest.raises(OSError, match="No space left"):
        save(memory, [b"new"])
    memory.memory.before = None
    assert load(memory) == FRAMES
    assert [path for path in memory.memory.tree(f"{DATA}/{OWN}") if path.endswith(".tmp")] == []


@pytest.mark.parametrize("name", ["open", "read"])
def test_a_record_that_cannot_be_read_is_as_if_there_were_none(memory: Host, name: str) -> None:
    save(memory, FRAMES)

    def fail(call: Call) -> None:
        if call.name == name and NAME in call.path:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    memory.memory.before = fail
    assert load(memory) == []


def test_a_disk_that_is_full_in_the_middle_leaves_the_one_before(memory: Host) -> None:
    save(memory, FRAMES)
    written = 0

    def fill_up(call: Call) -> None:
        nonlocal written
        written += call.name == "write"
        if written == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    memory.memory.before = fill_up
    with pytest.raises(OSError, match="No space left"):
        save(memory, [b"new"] * 9)
    memory.memory.before = None
    assert load(memory) == FRAMES


def test_frames_that_fail_to_come_leave_the_one_before(host: Host) -> None:
    save(host, FRAMES)

    def frames() -> Iterator[bytes]:
        yield b"new"
        raise OSError(errno.EIO, "gone")

    with pytest.raises(OSError, match="gone"):
        save_snapshot(host.filesystem, host.data_fd, NAME, HEAD, frames())
    assert load(host) == FRAMES


def test_a_read_that_fails_in_the_middle_ends_the_record(memory: Host) -> None:
    frames = [bytes(1 << 20), b"x" * (1 << 20)]
    save(memory, frames)
    reads = 0

    def fail(call: Call) -> None:
        nonlocal reads
        reads += call.name == "read"
        if reads == 3:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    memory.memory.before = fail
    assert load(memory) == frames[:1]
    memory.memory.before = None
    assert memory.memory.open_descriptors().keys() == {memory.data_fd}


def test_a_loader_that_stops_early_leaves_nothing_open(memory: Host) -> None:
    save(memory, FRAMES)
    frames = load_snapshot(memory.filesystem, memory.data_fd, NAME, HEAD)
    assert next(frames) == b"one"
    del frames
    assert memory.memory.open_descriptors().keys() == {memory.data_fd}
