"""Who has a file locked, by the kernel's own list."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hmret.disk.kernel import lock_holder
from hmret.disk.kernel.lock_holder import find_lock_owner
from support.children import child

HOLD = """
import fcntl, os, sys
file = open(sys.argv[1], "r+")
fcntl.flock(file, fcntl.LOCK_EX)
file.write(sys.argv[2] or str(os.getpid()))
file.flush()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "lock"
    path.touch()
    return path


def held(path: Path, text: str = "") -> Iterator[int]:
    """Have another process hold the lock; gives its number."""
    program = [sys.executable, "-c", HOLD, str(path), text]
    with child(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process.pid


def test_the_process_that_holds_the_lock_is_found(path: Path) -> None:
    for process in held(path):
        assert find_lock_owner(path) == process
    assert find_lock_owner(path) is None


@pytest.mark.parametrize("text", ["1", "no number"])
def test_a_number_that_an_earlier_holder_left_in_the_file_does_not_count(path: Path, text: str) -> None:
    for process in held(path, text):
        assert find_lock_owner(path) == process


def test_without_a_lock_the_number_in_the_file_says_nothing(path: Path) -> None:
    path.write_text(f"{os.getpid():<31}\n")
    assert find_lock_owner(path) is None


def test_the_lock_is_free_for_others_while_it_is_looked_for(path: Path) -> None:
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert find_lock_owner(path) == os.getpid()
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("listed", ["", "1: FLOCK\n", "1: FLOCK ADVISORY WRITE x 0:0:0 0 EOF\n", None])
def test_where_the_list_cannot_be_read_nobody_is_named(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: str | None
) -> None:
    locks = tmp_path / "locks"
    if listed is not None:
        locks.write_text(listed)
    monkeypatch.setattr(lock_holder, "_LOCKS", locks)
    for _ in held(path):
        assert find_lock_owner(path) is None


def test_a_device_that_the_list_has_otherwise_does_not_hide_the_holder(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text("4711")
    inode = path.stat().st_ino
    locks = tmp_path / "locks"
    monkeypatch.setattr(lock_holder, "_LOCKS", locks)
    locks.write_text(f"1: FLOCK ADVISORY WRITE 4711 00:1f:{inode} 0 EOF\n")
    assert find_lock_owner(path) == 4711
    locks.write_text(f"1: FLOCK ADVISORY WRITE 4712 00:1f:{inode} 0 EOF\n")
    assert find_lock_owner(path) is None
    locks.write_text(f"1: POSIX ADVISORY WRITE 4711 00:1f:{inode} 0 EOF\n")
    assert find_lock_owner(path) is None


def test_a_link_in_its_place_is_not_followed(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(OSError, match="symbolic links"):
        find_lock_owner(link)


def test_a_fifo_in_its_place_blocks_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert find_lock_owner(tmp_path / "fifo") is None
