"""The data directory of one engine: its lock, that on the images in it, and what its path leads to."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from disk.hosts import Host
from hmret.disk.data_dir import DataDir
from hmret.disk.filesystem import POSIX
from hmret.disk.layout import OWN
from hmret.model.errors import DataDirLockedError, DataDirMovedError
from support.builders import DATA
from support.children import child, run_program
from support.memory_filesystem import MemoryFilesystem
from support.patience import PATIENCE

WITHOUT_PROCESS = r"^/data: another engine works on this data directory$"


def path_of(host: Host) -> str:
    return str(host.place) if isinstance(host.place, Path) else DATA


@contextmanager
def claimed(host: Host) -> Iterator[DataDir]:
    data_dir = DataDir.claim(host.filesystem, host.data_fd, path_of(host))
    try:
        yield data_dir
    finally:
        data_dir.close()


def claim(host: Host) -> None:
    with claimed(host):
        pass


# The lock.


def test_a_data_directory_is_taken_and_given_back(host: Host) -> None:
    host.folder("images")
    for _ in range(2):
        claim(host)


def test_a_locked_data_directory_names_the_process_that_has_it(host: Host) -> None:
    with (
        claimed(host),
        pytest.raises(DataDirLockedError, match=rf": another engine \(process {os.getpid()}\) works on this"),
    ):
        claim(host)


def run_claim(place: object) -> subprocess.CompletedProcess[str]:
    program = (
        "import os, sys; from hmret.disk.data_dir import DataDir; from hmret.disk.filesystem import POSIX;"
        "DataDir.claim(POSIX, os.open(sys.argv[1], os.O_RDONLY), sys.argv[1])"
    )
    return run_program([sys.executable, "-c", program, str(place)])


def test_another_process_is_kept_out_and_told_who_has_it(real: Host) -> None:
    with claimed(real):
        found = run_claim(real.place)
    assert found.returncode == 1
    assert f"another engine (process {os.getpid()})" in found.stderr


@pytest.mark.parametrize("content", [b"", b"not a number\n", b"\xff"])
def test_a_lock_file_that_names_no_process_is_told_without_one(memory: Host, content: bytes) -> None:
    with claimed(memory):
        memory.write(f"{OWN}/lock", content)
        with pytest.raises(DataDirLockedError, match=WITHOUT_PROCESS):
            claim(memory)


def test_a_lock_file_that_cannot_be_read_is_told_without_a_process(memory: Host) -> None:
    with claimed(memory):
        memory.memory.deny(f"{DATA}/{OWN}/lock", errno.EIO, call="pread")
        with pytest.raises(DataDirLockedError, match=WITHOUT_PROCESS):
            claim(memory)


def test_a_lock_that_fails_is_told_and_leaves_nothing_open(memory: Host) -> None:
    memory.folder(OWN)
    memory.memory.deny(f"{DATA}/{OWN}/lock", errno.ENOLCK, call="lock")
    with pytest.raises(OSError, match="No locks available"):
        claim(memory)


def test_a_lock_holds_on_a_full_disk_too(memory: Host) -> None:
    memory.folder(OWN)
    memory.memory.deny(f"{DATA}/{OWN}/lock", errno.ENOSPC, call="write")
    with claimed(memory), pytest.raises(DataDirLockedError):
        claim(memory)


def test_a_link_in_the_place_of_the_lock_is_refused(host: Host) -> None:
    host.write("elsewhere", b"kept")
    host.link(f"{OWN}/lock", "../../elsewhere")
    with pytest.raises(OSError, match="Too many levels"):
        claim(host)
    assert host.read("elsewhere") == b"kept"


# A forked child.


def test_a_forked_child_keeps_no_lock_and_its_end_takes_none(real: Host) -> None:
    real.folder("images")
    waiting, done = os.pipe()
    with claimed(real) as data_dir:
        child = os.fork()
        if not child:
            code = 1
            try:
                os.close(done)
                os.read(waiting, 1)
                with suppress(DataDirLockedError):
                    data_dir.check()
                    code = 2
                data_dir.close()
                code -= 1
            finally:
                os._exit(code)
        assert run_claim(real.place).returncode == 1
    # The child lives, and the parent has closed.
    assert run_claim(real.place).returncode == 0
    with claimed(real):
        os.close(done)
        assert os.waitpid(child, 0) == (child, 0)
        assert run_claim(real.place).returncode == 1
    os.close(waiting)


def test_a_lock_that_a_program_has_inherited_ends_with_its_engine(real: Host) -> None:
    """One that was started without Python's own fork, and with every descriptor."""
    with claimed(real) as data_dir:
        os.set_inheritable(data_dir._lock_fd, True)
        inherited = ExitStack()
        inherited.enter_context(child(["sleep", "1000"], close_fds=False))
    with inherited:
        claim(real)


def test_a_lock_that_a_child_has_inherited_from_a_process_that_is_gone_names_the_child(real: Host) -> None:
    program = """
import os, subprocess, sys
from hmret.disk.data_dir import DataDir
from hmret.disk.filesystem import POSIX
from hmret.disk.filesystem import POSIX
taken = DataDir.claim(POSIX, os.open(sys.argv[1], os.O_RDONLY), sys.argv[1])
os.set_inheritable(taken._lock_fd, True)
child = subprocess.Popen(["sleep", "1000"], close_fds=False, stdout=-3, stderr=-3)
print(child.pid, flush=True)
os._exit(0)
"""
    with child([sys.executable, "-c", program, str(real.place)], stdout=subprocess.PIPE) as gone:
        output, _ = gone.communicate(timeout=PATIENCE)
        with pytest.raises(DataDirLockedError, match=rf"another engine \(process {int(output)}\)"):
            claim(real)


# Images that two data directories share.


def other_host(host: Host) -> tuple[int, str]:
    """Make another data directory, with the same images by a link."""
    if isinstance(host.place, MemoryFilesystem):
        host.place.make_folder("/other")
        host.place.make_link("/other/images", f"{DATA}/images")
        return host.place.open("/other", os.O_RDONLY), "/other"
    other = host.place / "other"
    other.mkdir()
    (other / "images").symlink_to(host.place / "images")
    return os.open(other, os.O_RDONLY), str(other)


def test_a_second_data_directory_with_the_same_images_is_refused(host: Host) -> None:
    host.folder("images")
    fd, path = other_host(host)
    shared = "works on these images, from another data directory"
    with claimed(host), pytest.raises(DataDirLockedError, match=shared):
        DataDir.claim(host.filesystem, fd, path)
    DataDir.claim(host.filesystem, fd, path).close()
    host.close(fd)


def test_images_that_come_later_are_locked_from_then_on(host: Host) -> None:
    with claimed(host) as data_dir:
        data_dir.check()
        host.folder("images")
        data_dir.check()
        fd, path = other_host(host)
        with pytest.raises(DataDirLockedError):
            DataDir.claim(host.filesystem, fd, path)
    host.close(fd)


def test_images_that_come_later_and_belong_to_another_engine_are_refused(memory: Host) -> None:
    with claimed(memory) as data_dir:
        memory.memory.make_folder("/shared")
        memory.memory.make_folder("/other")
        memory.memory.make_link("/other/images", "/shared")
        fd = memory.memory.open("/other", os.O_RDONLY)
        other = DataDir.claim(memory.filesystem, fd, "/other")
        memory.link("images", "/shared")
        with pytest.raises(DataDirLockedError):
            data_dir.check()
        other.close()
        data_dir.check()
    memory.close(fd)


@pytest.mark.parametrize("code", [errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_a_folder_cannot_be_locked_the_data_directorys_lock_stands_alone(
    memory: Host, code: int
) -> None:
    memory.folder("images")
    memory.memory.deny(f"{DATA}/images", code, call="lock")
    with claimed(memory) as data_dir:
        assert data_dir.lock_error is not None
        assert data_dir.lock_error.errno == code
        data_dir.check()


# What the path leads to.


def swap(host: Host, path: str) -> None:
    """Move something below the data directory aside, and put another of the kind in its place."""
    is_file = path.endswith("lock")
    if isinstance(host.place, MemoryFilesystem):
        host.place.move(f"{DATA}/{path}", "/aside")
    else:
        (host.place / path).rename(host.place / "aside")
    if is_file:
        host.write(path)
    else:
        host.folder(path)


@pytest.mark.parametrize("path", ["images", "system", OWN, f"{OWN}/lock"])
def test_what_was_swapped_is_noticed(host: Host, path: str) -> None:
    host.folder("images")
    with claimed(host) as data_dir:
        data_dir.check()
        swap(host, path)
        with pytest.raises(DataDirMovedError, match="no longer the folder that this engine opened"):
            data_dir.check()


@pytest.mark.parametrize("path", ["images", "system"])
def test_what_was_moved_behind_a_link_is_the_same(host: Host, path: str) -> None:
    host.folder("images")
    with claimed(host) as data_dir:
        if isinstance(host.place, MemoryFilesystem):
            host.place.move(f"{DATA}/{path}", "/bigger")
            host.link(path, "/bigger")
        else:
            (host.place / path).rename(host.place / "bigger")
            host.link(path, "bigger")
        data_dir.check()


@pytest.mark.parametrize("is_replaced", [True, False])
def test_a_data_directory_that_was_moved_aside_is_noticed(memory: Host, is_replaced: bool) -> None:
    with claimed(memory) as data_dir:
        memory.memory.move(DATA, "/aside")
        if is_replaced:
            memory.memory.make_folder(DATA)
        with pytest.raises(DataDirMovedError, match=f"^{DATA}: "):
            data_dir.check()


def test_a_volume_that_is_mounted_over_it_is_noticed(memory: Host) -> None:
    memory.folder("images")
    with claimed(memory) as data_dir:
        memory.memory.move(f"{DATA}/images", "/below")
        memory.memory.mount(f"{DATA}/images")
        memory.memory.set_inode(f"{DATA}/images", memory.memory.inode("/below") or 0)
        with pytest.raises(DataDirMovedError):
            data_dir.check()


def test_what_cannot_be_told_is_an_error_and_no_move(memory: Host) -> None:
    with claimed(memory) as data_dir:
        memory.memory.deny(DATA, errno.EIO, call="stat")
        with pytest.raises(OSError, match="Input/output error"):
            data_dir.check()


def test_a_relative_path_is_that_of_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    fd = os.open(tmp_path / "data", os.O_RDONLY)
    data_dir = DataDir.claim(POSIX, fd, "data")
    monkeypatch.chdir("/")
    data_dir.check()
    data_dir.close()
    os.close(fd)
