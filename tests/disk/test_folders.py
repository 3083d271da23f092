"""Steps into folders and whole files: nothing is followed, and nothing is left half."""

import errno
import os
import random
from collections.abc import Callable

import pytest

from disk.hosts import Host
from hmret.disk import folders
from hmret.disk.folders import (
    make_folders,
    open_folder,
    opened,
    read_file,
    remove_empty_folders,
    step_into,
    write_file,
)
from support.builders import DATA
from support.memory_filesystem import Call, Crash

STEPS: list[Callable[[Host, str], int]] = [
    lambda host, path: step_into(host.filesystem, host.data_fd, path),
    lambda host, path: make_folders(host.filesystem, host.data_fd, path),
]
OLD, NEW = b"old " * 100, b"new " * 200


# Steps.


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("path", ["a", "a/b/c", ""])
def test_a_folder_that_is_there_is_stepped_into(
    host: Host, step: Callable[[Host, str], int], path: str
) -> None:
    host.folder("a/b/c")
    host.write(f"{path}/here" if path else "here", b"x")
    with opened(host.filesystem, step(host, path)) as fd:
        assert read_file(host.filesystem, "here", fd) == b"x"


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("path", ["link", "link/b", "a/link", "a/link/c", "a/b/link"])
def test_no_symbolic_link_is_followed_at_any_step(
    host: Host, step: Callable[[Host, str], int], path: str
) -> None:
    host.folder("a/b/c")
    host.folder("elsewhere/b/c")
    for link in ("link", "a/link", "a/b/link"):
        host.link(link, "../elsewhere" if link == "a/link" else "elsewhere")
    before = host.names("")
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        step(host, path)
    assert host.names("") == before


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("path", ["..", "a/..", "a/../a", "../data", ".", "a/.", "a//b", "a/", "/a"])
def test_a_path_of_anything_but_plain_names_is_refused(
    host: Host, step: Callable[[Host, str], int], path: str
) -> None:
    host.folder("a/b")
    before = host.names("")
    with pytest.raises((ValueError, FileNotFoundError)):
        step(host, path)
    assert host.names("") == before


def test_a_step_into_what_is_absent_fails(host: Host) -> None:
    with pytest.raises(FileNotFoundError):
        step_into(host.filesystem, host.data_fd, "a/b")


def test_a_step_into_a_file_fails(host: Host) -> None:
    host.write("a")
    with pytest.raises(NotADirectoryError):
        step_into(host.filesystem, host.data_fd, "a/b")


def test_missing_folders_are_made_and_the_others_left(host: Host) -> None:
    host.write("a/kept")
    with opened(host.filesystem, make_folders(host.filesystem, host.data_fd, "a/b/c", 0o700)):
        assert host.names("a") == ["b", "b/c", "kept"]
    assert host.filesystem.stat("a/b", dir_fd=host.data_fd).st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_leaves_nothing_open(memory: Host) -> None:
    memory.folder("a")
    memory.memory.deny(f"{DATA}/a/b", errno.EACCES)
    with pytest.raises(PermissionError):
        make_folders(memory.filesystem, memory.data_fd, "a/b/c")


# Empty folders.


def test_empty_folders_are_removed_up_to_the_root(host: Host) -> None:
    host.folder("root/a/b/c")
    with opened(host.filesystem, host.open("root")) as fd:
        remove_empty_folders(host.filesystem, fd, "a/b/c")
    assert (host.names("root"), host.exists("root")) == ([], True)


def test_folders_are_removed_only_as_far_as_they_are_empty(host: Host) -> None:
    host.folder("root/a/b/c")
    host.write("root/a/kept")
    with opened(host.filesystem, host.open("root")) as fd:
        remove_empty_folders(host.filesystem, fd, "a/b/c")
    assert host.names("root") == ["a", "a/kept"]


def test_a_folder_that_is_not_empty_stops_it(host: Host) -> None:
    host.write("root/a/b/kept")
    with opened(host.filesystem, host.open("root")) as fd:
        remove_empty_folders(host.filesystem, fd, "a/b")
    assert host.exists("root/a/b/kept")


def test_folders_above_one_that_is_gone_are_removed(host: Host) -> None:
    host.folder("root/a")
    with opened(host.filesystem, host.open("root")) as fd:
        remove_empty_folders(host.filesystem, fd, "a/b/c")
    assert host.names("root") == []


def test_a_link_in_the_place_of_a_folder_stops_it(host: Host) -> None:
    host.folder("elsewhere/b")
    host.link("root/a", "../elsewhere")
    with opened(host.filesystem, host.open("root")) as fd:
        remove_empty_folders(host.filesystem, fd, "a/b")
        remove_empty_folders(host.filesystem, fd, "a")
    assert host.exists("elsewhere/b")
    assert host.exists("root/a")


# Reading.


def test_a_file_is_read_whole(host: Host) -> None:
    content = random.Random(1).randbytes(200_000)
    host.write("file", content)
    assert read_file(host.filesystem, "file", host.data_fd) == content


def test_short_reads_are_continued(memory: Host) -> None:
    memory.write("file", OLD)
    memory.memory.shorten = lambda length: 7
    assert read_file(memory.filesystem, "file", memory.data_fd) == OLD


def test_a_link_in_the_place_of_a_file_is_not_read(host: Host) -> None:
    host.write("file", b"x")
    host.link("link", "file")
    with pytest.raises(OSError, match="Too many levels"):
        read_file(host.filesystem, "link", host.data_fd)
    assert read_file(host.filesystem, "link", host.data_fd, follow=True) == b"x"


def test_a_file_that_is_too_large_is_refused(memory: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "LARGEST_FILE", 100_000)
    memory.write("fits", bytes(100_000))
    memory.write("large", bytes(100_001))
    assert len(read_file(memory.filesystem, "fits", memory.data_fd)) == 100_000
    with pytest.raises(OSError, match="File too large"):
        read_file(memory.filesystem, "large", memory.data_fd)


def test_a_pipe_in_the_place_of_a_file_does_not_make_the_reader_wait(real: Host) -> None:
    os.mkfifo("pipe", dir_fd=real.data_fd)
    assert read_file(real.filesystem, "pipe", real.data_fd) == b""


def test_what_cannot_be_read_leaves_nothing_open(memory: Host) -> None:
    memory.write("file", OLD)
    memory.memory.deny(f"{DATA}/file", errno.EIO, call="read")
    with pytest.raises(OSError, match="Input/output error"):
        read_file(memory.filesystem, "file", memory.data_fd)


# Writing.


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_written_whole_and_nothing_beside_it(host: Host, durable: bool) -> None:
    host.write("file", OLD)
    write_file(host.filesystem, "file", NEW, host.data_fd, durable=durable)
    assert (host.read("file"), host.names("")) == (NEW, ["file"])


def test_an_empty_file_is_written(host: Host) -> None:
    write_file(host.filesystem, "file", b"", host.data_fd, durable=True)
    assert host.read("file") == b""


def test_short_writes_are_continued(memory: Host) -> None:
    memory.memory.shorten = lambda length: 7
    write_file(memory.filesystem, "file", NEW, memory.data_fd, durable=True)
    assert memory.read("file") == NEW


def test_a_link_in_the_place_of_the_file_beside_is_not_written_through(host: Host) -> None:
    host.write("elsewhere", OLD)
    host.link("file.tmp", "elsewhere")
    with pytest.raises(OSError, match="Too many levels"):
        write_file(host.filesystem, "file", NEW, host.data_fd, durable=False)
    assert (host.read("elsewhere"), host.exists("file")) == (OLD, False)


def test_a_link_in_the_place_of_the_file_is_replaced_not_written_through(host: Host) -> None:
    host.write("elsewhere", OLD)
    host.link("file", "elsewhere")
    write_file(host.filesystem, "file", NEW, host.data_fd, durable=False)
    assert (host.read("elsewhere"), host.read("file")) == (OLD, NEW)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("number", range(1, 7))
def test_a_fault_at_any_call_leaves_the_old_file_or_the_new_one(memory: Host, number: int, code: int) -> None:
    memory.write("file", OLD)
    first = memory.memory.calls + 1

    def fail(call: Call) -> None:
        if call.number == first + number - 1:
            raise OSError(code, os.strerror(code))

    memory.memory.before = fail
    with pytest.raises(OSError, match=os.strerror(code)):
        write_file(memory.filesystem, "file", NEW, memory.data_fd, durable=True)
    memory.memory.before = None
    # Only the last call, which makes the name durable, comes after the rename.
    assert memory.read("file") == (NEW if number == 6 else OLD)
    assert memory.names("") == ["file"]


def test_a_fault_in_a_file_that_cannot_be_removed_is_the_one_that_is_told(memory: Host) -> None:
    memory.memory.deny(f"{DATA}/file.tmp", errno.ENOSPC, call="write")
    memory.memory.deny(f"{DATA}/file.tmp", errno.EIO, call="unlink")
    with pytest.raises(OSError, match="No space left"):
        write_file(memory.filesystem, "file", NEW, memory.data_fd, durable=True)


@pytest.mark.parametrize("number", range(1, 7))
def test_a_crash_at_any_call_leaves_the_old_file_or_the_new_one(memory: Host, number: int) -> None:
    memory.write("file", OLD)
    first = memory.memory.calls + 1

    def crash(call: Call) -> None:
        if call.number == first + number - 1:
            raise Crash

    memory.memory.before = crash
    with pytest.raises(Crash):
        write_file(memory.filesystem, "file", NEW, memory.data_fd, durable=True)
    memory.memory.before = None
    after = memory.memory.crashed_copy()
    assert after.read_file(f"{DATA}/file") in (OLD, NEW)
    for seed in range(10):
        assert memory.memory.after_power_loss(random.Random(seed)).read_file(f"{DATA}/file") in (OLD, NEW)
    for fd in memory.memory.open_descriptors():
        if fd != memory.data_fd:
            memory.close(fd)


@pytest.mark.parametrize("seed", range(10))
def test_what_is_durable_survives_a_power_loss(memory: Host, seed: int) -> None:
    write_file(memory.filesystem, "file", NEW, memory.data_fd, durable=True)
    assert memory.memory.after_power_loss(random.Random(seed)).read_file(f"{DATA}/file") == NEW


def test_a_folder_is_opened_by_its_own_name_only(host: Host) -> None:
    host.folder("a")
    host.link("link", "a")
    host.close(open_folder(host.filesystem, "a", host.data_fd))
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        open_folder(host.filesystem, "link", host.data_fd)
