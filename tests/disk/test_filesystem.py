"""The contract of `Filesystem`, held by the real disk and by the one in memory, and what only the latter can do."""

import errno
import os
import random
import stat
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import pytest

from hmret.disk.filesystem import POSIX, FileLease, Filesystem, FolderEntry
from support.children import run_program
from support.memory_filesystem import Call, Crash, MemoryFilesystem, Tree

_LONG_AGO_NS = 10**9
_READ = os.O_RDONLY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC


@attrs.frozen
class World:
    """One file system, and an empty folder in it."""

    filesystem: Filesystem
    root: str

    def at(self, path: str) -> str:
        return f"{self.root}/{path}"

    def write(self, path: str, content: bytes = b"") -> str:
        fd = self.filesystem.open(self.at(path), _CREATE | os.O_TRUNC)
        self.filesystem.write(fd, content)
        self.filesystem.close(fd)
        return self.at(path)

    def read(self, path: str) -> bytes:
        return _read(self.filesystem, self.at(path))

    def folder(self, path: str) -> str:
        self.filesystem.mkdir(self.at(path))
        return self.at(path)

    def link(self, path: str, target: str) -> str:
        self.filesystem.symlink(target, self.at(path))
        return self.at(path)

    def hard_link(self, source: str, target: str) -> None:
        link = self.filesystem.link if isinstance(self.filesystem, MemoryFilesystem) else os.link
        link(self.at(source), self.at(target))

    def age(self, path: str) -> None:
        if isinstance(self.filesystem, MemoryFilesystem):
            self.filesystem.set_mtime(self.at(path), _LONG_AGO_NS)
        else:
            os.utime(self.at(path), ns=(_LONG_AGO_NS, _LONG_AGO_NS))

    def is_old(self, path: str) -> bool:
        return self.filesystem.stat(self.at(path)).st_mtime_ns == _LONG_AGO_NS

    def names(self, path: str) -> list[str]:
        fd = self.filesystem.open(self.at(path), _READ | os.O_DIRECTORY)
        with self.filesystem.scandir(fd) as entries:
            found = sorted(entry.name for entry in entries)
        self.filesystem.close(fd)
        return found


def _memory() -> MemoryFilesystem:
    return MemoryFilesystem(count(10**18).__next__)


def _read(filesystem: Filesystem, path: str) -> bytes:
    fd = filesystem.open(path, _READ)
    content = b""
    while block := filesystem.read(fd, 1 << 16):
        content += block
    filesystem.close(fd)
    return content


def _errno(call: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """Return the name of the errno that a call must fail with."""
    with pytest.raises(OSError) as failure:
        call(*args, **kwargs)
    return errno.errorcode[failure.value.errno or 0]


@pytest.fixture(params=["posix", "memory"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    if request.param == "posix":
        return World(POSIX, str(tmp_path))
    memory = _memory()
    memory.make_folder("/world")
    return World(memory, "/world")


@pytest.fixture
def memory() -> MemoryFilesystem:
    return _memory()


@pytest.fixture
def leasing(world: World) -> World:
    """Return a world whose files can be leased."""
    fd = world.filesystem.open(world.write("leased", b"disk"), _READ)
    try:
        world.filesystem.take_lease(fd)
    except OSError as error:
        pytest.skip(f"no leases here: {error}")
    finally:
        world.filesystem.close(fd)
    return world


# Opening.


def test_what_was_written_is_read(world: World) -> None:
    world.write("a", b"hello")
    assert world.read("a") == b"hello"


def test_opening_what_is_not_there_is_enoent(world: World) -> None:
    assert _errno(world.filesystem.open, world.at("a"), _READ) == "ENOENT"


def test_an_empty_path_is_enoent(world: World) -> None:
    assert _errno(world.filesystem.stat, "") == "ENOENT"


def test_a_null_byte_is_a_value_error(world: World) -> None:
    with pytest.raises(ValueError, match="null"):
        world.filesystem.stat(world.at("a\0b"))


def test_walking_through_a_file_is_enotdir(world: World) -> None:
    world.write("a")
    assert _errno(world.filesystem.open, world.at("a/b"), _READ) == "ENOTDIR"


def test_a_slash_after_a_file_is_enotdir(world: World) -> None:
    world.write("a")
    assert _errno(world.filesystem.stat, world.at("a/")) == "ENOTDIR"


def test_writing_to_a_folder_is_eisdir(world: World) -> None:
    world.folder("a")
    assert _errno(world.filesystem.open, world.at("a"), os.O_WRONLY) == "EISDIR"


def test_creating_a_folder_by_open_is_eisdir(world: World) -> None:
    world.folder("a")
    assert _errno(world.filesystem.open, world.at("a"), os.O_RDONLY | os.O_CREAT) == "EISDIR"


def test_o_excl_on_what_is_there_is_eexist(world: World) -> None:
    world.write("a")
    assert _errno(world.filesystem.open, world.at("a"), _CREATE | os.O_EXCL) == "EEXIST"


def test_o_excl_does_not_follow_a_dangling_link(world: World) -> None:
    world.link("a", "b")
    assert _errno(world.filesystem.open, world.at("a"), _CREATE | os.O_EXCL) == "EEXIST"


def test_o_creat_creates_where_a_dangling_link_points(world: World) -> None:
    world.link("a", "b")
    world.write("a", b"through")
    assert world.read("b") == b"through"


def test_o_directory_on_a_file_is_enotdir(world: World) -> None:
    world.write("a")
    assert _errno(world.filesystem.open, world.at("a"), _READ | os.O_DIRECTORY) == "ENOTDIR"


def test_o_nofollow_on_a_link_is_eloop(world: World) -> None:
    world.write("b")
    world.link("a", "b")
    assert _errno(world.filesystem.open, world.at("a"), _READ | os.O_NOFOLLOW) == "ELOOP"


def test_o_nofollow_with_o_directory_on_a_link_is_enotdir(world: World) -> None:
    world.folder("b")
    world.link("a", "b")
    assert _errno(world.filesystem.open, world.at("a"), _READ | os.O_NOFOLLOW | os.O_DIRECTORY) == "ENOTDIR"


def test_o_nofollow_follows_links_on_the_way(world: World) -> None:
    world.folder("b")
    world.write("b/c", b"inside")
    world.link("a", "b")
    fd = world.filesystem.open(world.at("a/c"), _READ | os.O_NOFOLLOW)
    assert world.filesystem.read(fd, 10) == b"inside"
    world.filesystem.close(fd)


def test_o_path_with_o_nofollow_opens_the_link_itself(world: World) -> None:
    world.link("a", "nowhere")
    fd = world.filesystem.open(world.at("a"), os.O_PATH | os.O_NOFOLLOW)
    assert stat.S_ISLNK(world.filesystem.fstat(fd).st_mode)
    world.filesystem.close(fd)


@pytest.mark.parametrize("call", ["read", "fsync", "lock", "take_lease"])
def test_a_descriptor_of_o_path_is_ebadf_for_everything_but_its_place(world: World, call: str) -> None:
    fd = world.filesystem.open(world.root, os.O_PATH)
    more = [1] if call == "read" else []
    assert _errno(getattr(world.filesystem, call), fd, *more) == "EBADF"
    world.filesystem.close(fd)


def test_a_descriptor_of_o_path_lists_nothing(world: World) -> None:
    fd = world.filesystem.open(world.root, os.O_PATH)

    def walk() -> None:
        with world.filesystem.scandir(fd) as entries:  # the real one may fail only at the first entry
            list(entries)

    assert _errno(walk) == "EBADF"
    world.filesystem.close(fd)


def test_a_descriptor_of_o_path_serves_as_dir_fd(world: World) -> None:
    world.write("a", b"found")
    fd = world.filesystem.open(world.root, os.O_PATH | os.O_DIRECTORY)
    assert world.filesystem.stat("a", dir_fd=fd).st_size == 5
    world.filesystem.close(fd)


def test_o_trunc_empties_the_file(world: World) -> None:
    world.write("a", b"long content")
    world.write("a", b"short")
    assert world.read("a") == b"short"


def test_writing_without_o_trunc_leaves_the_tail(world: World) -> None:
    path = world.write("a", b"0123456789")
    fd = world.filesystem.open(path, os.O_WRONLY)
    world.filesystem.write(fd, b"ab")
    world.filesystem.close(fd)
    assert world.read("a") == b"ab23456789"


def test_o_append_writes_at_the_end(world: World) -> None:
    path = world.write("a", b"one")
    fd = world.filesystem.open(path, os.O_WRONLY | os.O_APPEND)
    world.filesystem.write(fd, b"two")
    world.filesystem.close(fd)
    assert world.read("a") == b"onetwo"


def test_writing_behind_a_truncation_leaves_zeros(world: World) -> None:
    path = world.write("a")
    fd = world.filesystem.open(path, os.O_WRONLY)
    world.filesystem.write(fd, b"abc")
    world.write("a")
    world.filesystem.write(fd, b"def")
    world.filesystem.close(fd)
    assert world.read("a") == b"\0\0\0def"


# Descriptors.


def test_a_closed_descriptor_is_ebadf(world: World) -> None:
    fd = world.filesystem.open(world.root, _READ)
    world.filesystem.close(fd)
    assert _errno(world.filesystem.close, fd) == "EBADF"
    assert _errno(world.filesystem.fstat, fd) == "EBADF"


def test_a_closed_dir_fd_is_ebadf(world: World) -> None:
    fd = world.filesystem.open(world.root, _READ)
    world.filesystem.close(fd)
    assert _errno(world.filesystem.stat, "a", dir_fd=fd) == "EBADF"


def test_a_dir_fd_of_a_file_is_enotdir(world: World) -> None:
    fd = world.filesystem.open(world.write("a"), _READ)
    assert _errno(world.filesystem.stat, "b", dir_fd=fd) == "ENOTDIR"
    world.filesystem.close(fd)


def test_an_absolute_path_ignores_dir_fd(world: World) -> None:
    path = world.write("a", b"four")
    assert world.filesystem.stat(path, dir_fd=10**9).st_size == 4


def test_reading_a_folder_is_eisdir(world: World) -> None:
    fd = world.filesystem.open(world.root, _READ)
    assert _errno(world.filesystem.read, fd, 1) == "EISDIR"
    world.filesystem.close(fd)


def test_reading_what_is_open_for_writing_is_ebadf(world: World) -> None:
    fd = world.filesystem.open(world.write("a"), os.O_WRONLY)
    assert _errno(world.filesystem.read, fd, 1) == "EBADF"
    world.filesystem.close(fd)


def test_writing_what_is_open_for_reading_is_ebadf(world: World) -> None:
    fd = world.filesystem.open(world.write("a"), _READ)
    assert _errno(world.filesystem.write, fd, b"a") == "EBADF"
    world.filesystem.close(fd)


def test_files_and_folders_can_be_synced(world: World) -> None:
    for path in (world.write("a"), world.folder("b")):
        fd = world.filesystem.open(path, _READ)
        world.filesystem.fsync(fd)
        world.filesystem.close(fd)


def test_an_unlinked_file_stays_readable_while_it_is_open(world: World) -> None:
    path = world.write("a", b"still here")
    fd = world.filesystem.open(path, _READ)
    world.filesystem.unlink(path)
    assert world.filesystem.read(fd, 100) == b"still here"
    assert world.filesystem.fstat(fd).st_nlink == 0
    assert world.names("") == []
    world.filesystem.close(fd)


def test_a_folder_descriptor_follows_the_rename_of_its_folder(world: World) -> None:
    fd = world.filesystem.open(world.folder("a"), _READ)
    world.filesystem.rename(world.at("a"), world.at("b"))
    world.filesystem.mkdir("inside", dir_fd=fd)
    world.filesystem.close(fd)
    assert world.names("b") == ["inside"]


def test_nothing_is_created_in_a_removed_folder(world: World) -> None:
    fd = world.filesystem.open(world.folder("a"), _READ)
    world.filesystem.rmdir(world.at("a"))
    assert _errno(world.filesystem.mkdir, "b", dir_fd=fd) == "ENOENT"
    assert _errno(world.filesystem.open, "b", _CREATE, dir_fd=fd) == "ENOENT"
    with world.filesystem.scandir(fd) as entries:
        assert list(entries) == []
    world.filesystem.close(fd)


# Symlinks and names.


def test_a_loop_of_links_is_eloop(world: World) -> None:
    world.link("a", "b")
    world.link("b", "a")
    assert _errno(world.filesystem.stat, world.at("a")) == "ELOOP"


@pytest.mark.parametrize(("links", "outcome"), [(40, "found"), (41, "ELOOP")])
def test_forty_links_are_followed_and_no_more(world: World, links: int, outcome: str) -> None:
    world.write("link0", b"end")
    for number in range(links):
        world.link(f"link{number + 1}", f"link{number}")
    last = world.at(f"link{links}")
    found = "found" if outcome == "found" else _errno(world.filesystem.stat, last)
    assert found == outcome
    if outcome == "found":
        assert world.filesystem.stat(last).st_size == 3


def test_a_link_is_looked_at_itself_when_asked(world: World) -> None:
    world.link("a", "nowhere")
    found = world.filesystem.stat(world.at("a"), follow_symlinks=False)
    assert (stat.S_ISLNK(found.st_mode), found.st_size) == (True, len("nowhere"))
    assert _errno(world.filesystem.stat, world.at("a")) == "ENOENT"


def test_a_slash_follows_a_link_to_a_folder(world: World) -> None:
    world.folder("b")
    world.link("a", "b")
    assert stat.S_ISDIR(world.filesystem.stat(world.at("a/"), follow_symlinks=False).st_mode)


def test_dots_climb_from_where_a_link_leads(world: World) -> None:
    world.folder("b")
    world.folder("b/c")
    world.write("b/here", b"1")
    world.link("a", "b/c")
    assert world.read("a/../here") == b"1"


def test_an_absolute_link_is_followed_from_the_root(world: World) -> None:
    world.write("b", b"far")
    world.link("a", world.at("b"))
    assert world.read("a") == b"far"


def test_readlink_tells_the_target(world: World) -> None:
    assert world.filesystem.readlink(world.link("a", "../b/c")) == "../b/c"


def test_readlink_of_a_file_is_einval(world: World) -> None:
    assert _errno(world.filesystem.readlink, world.write("a")) == "EINVAL"


def test_a_link_over_something_is_eexist(world: World) -> None:
    world.link("a", "b")
    assert _errno(world.filesystem.symlink, "c", world.at("a")) == "EEXIST"


def test_an_empty_target_is_enoent(world: World) -> None:
    assert _errno(world.filesystem.symlink, "", world.at("a")) == "ENOENT"


@pytest.mark.parametrize("name", ["x" * 256, "ü" * 128])
def test_a_name_of_256_bytes_is_enametoolong(world: World, name: str) -> None:
    assert _errno(world.filesystem.mkdir, world.at(name)) == "ENAMETOOLONG"
    assert _errno(world.filesystem.stat, world.at(f"{name}/b")) == "ENAMETOOLONG"


def test_a_name_of_255_bytes_is_taken(world: World) -> None:
    world.folder("x" * 255)
    assert world.names("") == ["x" * 255]


def test_a_path_of_4096_bytes_is_enametoolong(world: World) -> None:
    assert _errno(world.filesystem.stat, world.at("./" * 2048)) == "ENAMETOOLONG"


# Folders.


def test_mkdir_over_anything_is_eexist(world: World) -> None:
    world.link("a", "nowhere")
    assert _errno(world.filesystem.mkdir, world.at("a")) == "EEXIST"


def test_mkdir_without_its_parent_is_enoent(world: World) -> None:
    assert _errno(world.filesystem.mkdir, world.at("a/b")) == "ENOENT"


def test_rmdir_of_a_full_folder_is_enotempty(world: World) -> None:
    world.folder("a")
    world.write("a/b")
    assert _errno(world.filesystem.rmdir, world.at("a")) == "ENOTEMPTY"


def test_rmdir_of_a_file_is_enotdir(world: World) -> None:
    assert _errno(world.filesystem.rmdir, world.write("a")) == "ENOTDIR"


def test_rmdir_of_a_link_to_a_folder_is_enotdir(world: World) -> None:
    world.folder("b")
    assert _errno(world.filesystem.rmdir, world.link("a", "b")) == "ENOTDIR"


@pytest.mark.parametrize(("name", "expected"), [(".", "EINVAL"), ("..", "ENOTEMPTY")])
def test_rmdir_of_dots_fails(world: World, name: str, expected: str) -> None:
    assert _errno(world.filesystem.rmdir, f"{world.folder('a')}/{name}") == expected


def test_unlink_of_a_folder_is_eisdir(world: World) -> None:
    assert _errno(world.filesystem.unlink, world.folder("a")) == "EISDIR"


def test_unlink_takes_the_link_and_leaves_its_target(world: World) -> None:
    world.write("b")
    world.filesystem.unlink(world.link("a", "b"))
    assert world.names("") == ["b"]


def test_unlink_of_what_is_gone_is_enoent(world: World) -> None:
    assert _errno(world.filesystem.unlink, world.at("a")) == "ENOENT"


@pytest.mark.parametrize("call", ["mkdir", "unlink", "rename away", "symlink"])
def test_a_change_of_its_entries_changes_the_mtime_of_a_folder(world: World, call: str) -> None:
    world.folder("a")
    world.write("a/old")
    world.age("a")
    match call:
        case "mkdir":
            world.folder("a/new")
        case "unlink":
            world.filesystem.unlink(world.at("a/old"))
        case "symlink":
            world.link("a/new", "old")
        case _:
            world.filesystem.rename(world.at("a/old"), world.at("new"))
    assert not world.is_old("a")


_STAMPED = ("top", "top/from", "top/to", "top/from/file", "top/to/file", "top/from/folder", "top/from/link")
_CHANGES: dict[str, Callable[[World], object]] = {
    "file made": lambda world: world.write("top/from/new"),
    "file written in place": lambda world: world.write("top/from/file", b"new"),
    "file emptied": lambda world: world.write("top/from/file"),
    "file read": lambda world: world.read("top/from/file"),
    "folder made": lambda world: world.folder("top/from/new"),
    "folder removed": lambda world: world.filesystem.rmdir(world.at("top/from/folder")),
    "folder listed": lambda world: world.names("top/from"),
    "symlink made": lambda world: world.link("top/from/new", "file"),
    "symlink read": lambda world: world.filesystem.readlink(world.at("top/from/link")),
    "symlink removed": lambda world: world.filesystem.unlink(world.at("top/from/link")),
    "file removed": lambda world: world.filesystem.unlink(world.at("top/from/file")),
    "hard link made": lambda world: world.hard_link("top/from/file", "top/to/new"),
    "file renamed within": lambda world: _rename(world, "top/from/file", "top/from/new"),
    "file renamed into": lambda world: _rename(world, "top/from/file", "top/to/new"),
    "file renamed over": lambda world: _rename(world, "top/from/file", "top/to/file"),
    "folder renamed within": lambda world: _rename(world, "top/from/folder", "top/from/new"),
    "folder renamed into": lambda world: _rename(world, "top/from/folder", "top/to/new"),
    "symlink renamed into": lambda world: _rename(world, "top/from/link", "top/to/new"),
    "time stamp put back": lambda world: world.age("top/from/file"),
}


def _rename(world: World, source: str, target: str) -> None:
    world.filesystem.rename(world.at(source), world.at(target))


def _stamps(world: World) -> dict[int, tuple[int, int]]:
    """List the time stamps of everything that is there, by inode."""
    found = {}
    for top in ("top", "top/from", "top/to"):
        for path in (top, *(f"{top}/{name}" for name in world.names(top))):
            seen = world.filesystem.stat(world.at(path), follow_symlinks=False)
            found[seen.st_ino] = seen.st_mtime_ns, seen.st_ctime_ns
    return found


@pytest.mark.parametrize("change", _CHANGES)
def test_each_change_is_stamped_on_the_same_inodes_in_memory_as_on_disk(change: str, tmp_path: Path) -> None:
    stamped = []
    for world in (World(_memory(), ""), World(POSIX, str(tmp_path))):
        for folder in ("top", "top/from", "top/to", "top/from/folder"):
            world.folder(folder)
        for file in ("top/from/file", "top/to/file"):
            world.write(file, b"old")
        world.link("top/from/link", "file")
        names = {
            world.filesystem.stat(world.at(path), follow_symlinks=False).st_ino: path for path in _STAMPED
        }
        before = _stamps(world)
        if world.filesystem is POSIX:
            time.sleep(0.02)  # a kernel's clock ticks every few milliseconds
        _CHANGES[change](world)
        after = _stamps(world)
        stamped.append(
            {
                path: (after[number][0] != before[number][0], after[number][1] != before[number][1])
                for number, path in names.items()
                if number in after
            }
        )
    assert stamped[0] == stamped[1]


def test_writing_a_file_leaves_the_mtime_of_its_folder(world: World) -> None:
    world.folder("a")
    world.write("a/old")
    world.age("a")
    world.age("a/old")
    world.write("a/old", b"new")
    assert (world.is_old("a"), world.is_old("a/old")) == (True, False)


def test_reading_changes_no_mtime(world: World) -> None:
    world.folder("a")
    world.write("a/b")
    world.age("a/b")
    world.age("a")
    world.read("a/b")
    world.names("a")
    assert (world.is_old("a"), world.is_old("a/b")) == (True, True)


def test_a_folder_counts_its_subfolders(world: World) -> None:
    path = world.folder("a")
    if world.filesystem.stat(path).st_nlink != 2:
        pytest.skip("this file system does not count the links of folders")
    world.folder("a/b")
    world.write("a/c")
    assert world.filesystem.stat(path).st_nlink == 3
    world.filesystem.rename(world.at("a/b"), world.at("b"))
    assert world.filesystem.stat(path).st_nlink == 2


# Listing.


def test_a_listing_tells_what_each_entry_is(world: World) -> None:
    world.folder("folder")
    world.write("file")
    world.link("to_folder", "folder")
    world.link("to_nothing", "nothing")
    fd = world.filesystem.open(world.root, _READ)
    with world.filesystem.scandir(fd) as entries:
        found = {
            entry.name: (entry.is_symlink(), entry.is_dir(follow_symlinks=False), entry.is_dir())
            for entry in entries
        }
    world.filesystem.close(fd)
    assert found == {
        "folder": (False, True, True),
        "file": (False, False, False),
        "to_folder": (True, False, True),
        "to_nothing": (True, False, False),
    }


def test_a_folder_can_be_listed_twice_by_one_descriptor(world: World) -> None:
    world.write("a")
    fd = world.filesystem.open(world.root, _READ)
    for _ in range(2):
        with world.filesystem.scandir(fd) as entries:
            assert [entry.name for entry in entries] == ["a"]
    world.filesystem.close(fd)


def test_a_listing_begins_anew_wherever_the_descriptor_stands(tmp_path: Path) -> None:
    names = {f"{number:0100}" for number in range(500)}
    for name in names:
        (tmp_path / name).touch()
    fd = POSIX.open(str(tmp_path), _READ)
    with os.scandir(fd) as begun:
        next(begun)  # the kernel gives the first few hundred
        with POSIX.scandir(fd) as entries:
            assert {entry.name for entry in entries} == names
    POSIX.close(fd)


def test_listing_a_file_is_enotdir(world: World) -> None:
    fd = world.filesystem.open(world.write("a"), _READ)
    assert _errno(world.filesystem.scandir, fd) == "ENOTDIR"
    world.filesystem.close(fd)


# Renaming.


def test_a_rename_replaces_a_file(world: World) -> None:
    world.write("a", b"new")
    world.write("b", b"old")
    world.filesystem.rename(world.at("a"), world.at("b"))
    assert (world.names(""), world.read("b")) == (["b"], b"new")


def test_a_rename_replaces_an_empty_folder(world: World) -> None:
    world.folder("a")
    world.write("a/inside")
    world.folder("b")
    world.filesystem.rename(world.at("a"), world.at("b"))
    assert (world.names(""), world.names("b")) == (["b"], ["inside"])


def test_a_rename_over_a_full_folder_is_enotempty(world: World) -> None:
    world.folder("a")
    world.folder("b")
    world.write("b/inside")
    assert _errno(world.filesystem.rename, world.at("a"), world.at("b")) == "ENOTEMPTY"


def test_a_rename_of_a_folder_over_a_file_is_enotdir(world: World) -> None:
    assert _errno(world.filesystem.rename, world.folder("a"), world.write("b")) == "ENOTDIR"


def test_a_rename_of_a_file_over_a_folder_is_eisdir(world: World) -> None:
    assert _errno(world.filesystem.rename, world.write("a"), world.folder("b")) == "EISDIR"


def test_a_rename_of_a_folder_into_itself_is_einval(world: World) -> None:
    world.folder("a")
    world.folder("a/b")
    assert _errno(world.filesystem.rename, world.at("a"), world.at("a/b/c")) == "EINVAL"


def test_a_rename_over_a_folder_above_is_enotempty(world: World) -> None:
    world.folder("a")
    world.write("a/b")
    assert _errno(world.filesystem.rename, world.at("a/b"), world.at("a")) == "ENOTEMPTY"


def test_a_rename_of_what_is_gone_is_enoent(world: World) -> None:
    assert _errno(world.filesystem.rename, world.at("a"), world.at("b")) == "ENOENT"


def test_a_rename_of_dots_is_ebusy(world: World) -> None:
    assert _errno(world.filesystem.rename, f"{world.folder('a')}/.", world.at("b")) == "EBUSY"


def test_a_rename_between_two_names_of_one_file_changes_nothing(world: World) -> None:
    world.write("a")
    world.hard_link("a", "b")
    world.filesystem.rename(world.at("a"), world.at("b"))
    assert world.names("") == ["a", "b"]


def test_a_rename_moves_a_link_and_not_its_target(world: World) -> None:
    world.write("target", b"1")
    world.link("a", "target")
    world.filesystem.rename(world.at("a"), world.at("b"))
    assert (world.names(""), world.filesystem.readlink(world.at("b"))) == (["b", "target"], "target")


def test_a_rename_takes_two_descriptors(world: World) -> None:
    source = world.filesystem.open(world.folder("a"), _READ)
    target = world.filesystem.open(world.folder("b"), _READ)
    world.write("a/x")
    world.filesystem.rename("x", "y", src_dir_fd=source, dst_dir_fd=target)
    world.filesystem.close(source)
    world.filesystem.close(target)
    assert (world.names("a"), world.names("b")) == ([], ["y"])


def test_a_rename_changes_the_ctime_and_keeps_the_mtime(world: World) -> None:
    path = world.folder("a")
    world.age("a")
    before = world.filesystem.stat(path).st_ctime_ns
    number = 0
    while (
        world.filesystem.stat(path).st_ctime_ns == before
    ):  # a kernel's clock ticks more slowly than it renames
        world.filesystem.rename(path, path := world.at(f"a{number}"))
        number += 1
    assert world.is_old(f"a{number - 1}")


def test_hard_links_share_one_inode_and_count(world: World) -> None:
    path = world.write("a", b"disk")
    world.hard_link("a", "b")
    one, other = world.filesystem.stat(path), world.filesystem.stat(world.at("b"))
    assert (one.st_ino, one.st_dev, one.st_nlink) == (other.st_ino, other.st_dev, 2)
    world.filesystem.unlink(path)
    assert world.filesystem.stat(world.at("b")).st_nlink == 1


# Locks and leases.


def test_a_lock_excludes_another_description_until_it_is_closed(world: World) -> None:
    path = world.write("a")
    one, other = world.filesystem.open(path, _READ), world.filesystem.open(path, _READ)
    world.filesystem.lock(one)
    world.filesystem.lock(one)
    with pytest.raises(BlockingIOError):
        world.filesystem.lock(other)
    world.filesystem.close(one)
    world.filesystem.lock(other)
    world.filesystem.close(other)


def test_a_folder_can_be_locked(world: World) -> None:
    one, other = world.filesystem.open(world.root, _READ), world.filesystem.open(world.root, _READ)
    world.filesystem.lock(one)
    with pytest.raises(BlockingIOError):
        world.filesystem.lock(other)
    world.filesystem.close(one)
    world.filesystem.close(other)


def test_a_lease_is_held_when_nobody_else_has_the_file_open(leasing: World) -> None:
    fd = leasing.filesystem.open(leasing.at("leased"), _READ)
    leasing.filesystem.take_lease(fd)
    assert leasing.filesystem.ask_lease(fd) == FileLease.HELD
    leasing.filesystem.close(fd)


def test_a_lease_that_was_not_taken_is_not_held(leasing: World) -> None:
    fd = leasing.filesystem.open(leasing.at("leased"), _READ)
    assert leasing.filesystem.ask_lease(fd) != FileLease.HELD
    leasing.filesystem.close(fd)


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR])
def test_no_lease_while_another_description_is_open(leasing: World, flags: int) -> None:
    other = leasing.filesystem.open(leasing.at("leased"), flags)
    fd = leasing.filesystem.open(leasing.at("leased"), _READ)
    with pytest.raises(BlockingIOError):
        leasing.filesystem.take_lease(fd)
    leasing.filesystem.close(other)
    leasing.filesystem.take_lease(fd)
    leasing.filesystem.close(fd)


def test_no_lease_while_the_file_is_open_through_a_hard_link(leasing: World) -> None:
    leasing.hard_link("leased", "b")
    other = leasing.filesystem.open(leasing.at("b"), _READ)
    fd = leasing.filesystem.open(leasing.at("leased"), _READ)
    with pytest.raises(BlockingIOError):
        leasing.filesystem.take_lease(fd)
    leasing.filesystem.close(other)
    leasing.filesystem.close(fd)


def test_a_descriptor_of_o_path_does_not_stand_in_the_way_of_a_lease(leasing: World) -> None:
    other = leasing.filesystem.open(leasing.at("leased"), os.O_PATH)
    fd = leasing.filesystem.open(leasing.at("leased"), _READ)
    leasing.filesystem.take_lease(fd)
    leasing.filesystem.close(fd)
    leasing.filesystem.close(other)


def test_a_lease_on_a_folder_is_einval(leasing: World) -> None:
    fd = leasing.filesystem.open(leasing.root, _READ)
    assert _errno(leasing.filesystem.take_lease, fd) == "EINVAL"
    leasing.filesystem.close(fd)


def test_an_opener_who_will_not_wait_is_refused_and_begins_to_break_the_lease(leasing: World) -> None:
    fd = leasing.filesystem.open(leasing.at("leased"), _READ)
    leasing.filesystem.take_lease(fd)
    with pytest.raises(BlockingIOError):
        leasing.filesystem.open(leasing.at("leased"), _READ | os.O_NONBLOCK)
    assert leasing.filesystem.ask_lease(fd) != FileLease.HELD
    leasing.filesystem.close(fd)
    assert leasing.read("leased") == b"disk"


def test_a_lease_outlasts_a_rename_and_a_stat(leasing: World) -> None:
    fd = leasing.filesystem.open(leasing.at("leased"), _READ)
    leasing.filesystem.take_lease(fd)
    leasing.filesystem.rename(leasing.at("leased"), leasing.at("b"))
    leasing.filesystem.stat(leasing.at("b"))
    assert leasing.filesystem.ask_lease(fd) == FileLease.HELD
    leasing.filesystem.unlink(leasing.at("b"))
    assert leasing.filesystem.ask_lease(fd) == FileLease.HELD
    leasing.filesystem.close(fd)


# Leases of the kernel, with openers who are really somebody else.


@pytest.fixture
def disk_file(tmp_path: Path) -> str:
    """Return the path of a file that the kernel leases."""
    path = tmp_path / "disk"
    path.write_bytes(b"disk")
    fd = os.open(path, os.O_RDONLY)
    try:
        POSIX.take_lease(fd)
    except OSError as error:
        pytest.skip(f"no leases here: {error}")
    finally:
        os.close(fd)
    return str(path)


def test_another_process_breaks_the_lease_and_its_signal_does_not_kill(disk_file: str) -> None:
    program = f"import os; os.open({disk_file!r}, os.O_RDONLY | os.O_NONBLOCK)"
    fd = os.open(disk_file, os.O_RDONLY)
    POSIX.take_lease(fd)
    opener = run_program([sys.executable, "-c", program])
    assert "BlockingIOError" in opener.stderr
    assert POSIX.ask_lease(fd) != FileLease.HELD
    os.close(fd)


def test_a_thread_that_waits_for_the_lease_gets_the_file_when_it_is_released(disk_file: str) -> None:
    opened: list[bytes] = []

    def wait_open() -> None:
        opened.append(Path(disk_file).read_bytes())

    fd = os.open(disk_file, os.O_RDONLY)
    POSIX.take_lease(fd)
    opener = threading.Thread(target=wait_open)
    opener.start()
    while POSIX.ask_lease(fd) == FileLease.HELD:
        pass
    assert opened == []
    os.close(fd)
    opener.join()
    assert opened == [b"disk"]


# The same calls in any order do the same on both.

_NAMES = ("a", "b", "c")
_TARGETS = ("a", "b", "c", "a/b", "./c", "b/", ".", "a/../c", "/")
_FLAGS = (
    os.O_RDONLY,
    os.O_RDONLY | os.O_NOFOLLOW,
    os.O_RDONLY | os.O_DIRECTORY,
    os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW,
    os.O_RDONLY | os.O_TRUNC,
    os.O_WRONLY,
    os.O_WRONLY | os.O_APPEND,
    os.O_WRONLY | os.O_CREAT,
    os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW,
    os.O_WRONLY | os.O_CREAT | os.O_EXCL,
    os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    os.O_RDONLY | os.O_NONBLOCK,
    os.O_PATH,
    os.O_PATH | os.O_NOFOLLOW,
    os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY,
)

_DESCRIPTOR_CALLS = ("close", "close", "fstat", "scandir", "read", "write", "write", "lock")
_CALLS = (
    *("open", "open", "open", "mkdir", "mkdir", "mkdir", "symlink", "link", "rename", "rename", "rename"),
    *("rmdir", "unlink", "readlink", "stat", "lstat"),
    *_DESCRIPTOR_CALLS,
)
_SEQUENCES = 100
_SEQUENCE_LENGTH = 150

Operation = tuple[Any, ...]


def _draw_path(rng: random.Random) -> str:
    names = rng.choices(_NAMES, k=rng.choice((1, 1, 1, 2, 2, 3)))
    if rng.random() < 0.1:
        names.insert(rng.randint(1, len(names)), rng.choice((".", "..")))
    return "/".join(names) + ("/" if rng.random() < 0.1 else "")


def _draw_place(rng: random.Random) -> tuple[int | None, str]:
    return rng.choice((None, None, 0, 1, 2)), _draw_path(rng)


def _draw_operation(rng: random.Random) -> Operation:
    call = rng.choice(_CALLS)
    first: Any = rng.randrange(4) if call in _DESCRIPTOR_CALLS else _draw_place(rng)
    more: tuple[Any, ...] = ()
    match call:
        case "write":
            more = (rng.randbytes(rng.randrange(6)),)
        case "read":
            more = (rng.randrange(9),)
        case "open":
            more = (rng.choice(_FLAGS),)
        case "symlink":
            more = (rng.choice(_TARGETS),)
        case "rename" | "link":
            more = (_draw_place(rng),)
    return call, first, *more


@attrs.define
class _Player:
    """Plays operations on one file system: a handle is the place of a descriptor among those that are open."""

    filesystem: Filesystem
    root: str
    fds: list[int] = attrs.field(factory=list)

    def play(self, operation: Operation) -> object:
        """Do one operation and tell what came of it, in words that are the same everywhere."""
        call, *args = operation
        try:
            if isinstance(args[0], tuple):
                return self._play_path(call, *args)
            return self._play_descriptor(call, *args) if self.fds else None
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    def _play_path(self, call: str, place: tuple[int | None, str], *more: Any) -> object:
        filesystem = self.filesystem
        path, fd = self._locate(*place)
        outcome: object = None
        match call, *more:
            case "open", flags:
                self.fds.insert(0, filesystem.open(path, flags, dir_fd=fd))
            case "rename", target:
                other_path, other_fd = self._locate(*target)
                filesystem.rename(path, other_path, src_dir_fd=fd, dst_dir_fd=other_fd)
            case "link", target:
                self._link(f"{self.root}/{place[1]}", f"{self.root}/{target[1]}")
            case "symlink", target:
                filesystem.symlink(self.root if target == "/" else target, path, dir_fd=fd)
            case (("stat" | "lstat"),):
                outcome = _seen(filesystem.stat(path, dir_fd=fd, follow_symlinks=call == "stat"))
            case _:
                outcome = getattr(filesystem, call)(path, dir_fd=fd)
        return outcome

    def _play_descriptor(self, call: str, handle: int, *more: Any) -> object:
        fd = self.fds[handle % len(self.fds)]
        if call == "close":
            self.fds.remove(fd)
        if call == "scandir":
            with self.filesystem.scandir(fd) as entries:
                return sorted((entry.name, entry.is_symlink(), _is_folder(entry)) for entry in entries)
        outcome = getattr(self.filesystem, call)(fd, *more)
        return _seen(outcome) if call == "fstat" else outcome

    def _locate(self, handle: int | None, path: str) -> tuple[str, int | None]:
        if handle is None or not self.fds:
            return f"{self.root}/{path}", None
        return path, self.fds[handle % len(self.fds)]

    def _link(self, source: str, target: str) -> None:
        if isinstance(self.filesystem, MemoryFilesystem):
            self.filesystem.link(source, target)
        else:
            os.link(source, target, follow_symlinks=False)

    def tree(self, path: str = "") -> Tree:
        """Return all that is there, read by the calls themselves."""
        fd = self.filesystem.open(self.root + path, os.O_RDONLY | os.O_DIRECTORY)
        with self.filesystem.scandir(fd) as entries:
            names = sorted(entry.name for entry in entries)
        self.filesystem.close(fd)
        found: Tree = {}
        for name in names:
            below = f"{path}/{name}"
            mode = self.filesystem.stat(self.root + below, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                found |= {below: ("folder", None)} | self.tree(below)
            elif stat.S_ISLNK(mode):
                found[below] = ("link", self.filesystem.readlink(self.root + below))
            else:
                found[below] = ("file", _read(self.filesystem, self.root + below))
        return found


def _is_folder(entry: FolderEntry) -> str:
    """Tell what follows and what does not follow a link; a loop of links is an error that counts as an answer."""
    try:
        return f"{entry.is_dir(follow_symlinks=False)} {entry.is_dir()}"
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def _seen(found: Any) -> object:
    """Return what does not depend on the file system: folders have sizes and link counts of their own."""
    if stat.S_ISDIR(found.st_mode):
        return "folder"
    return stat.S_IFMT(found.st_mode), found.st_size, found.st_nlink


@pytest.mark.parametrize("seed", range(_SEQUENCES))
def test_any_sequence_of_calls_does_the_same_as_on_the_real_disk(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    root = f"{tmp_path}/world"
    memory = _memory()
    memory.make_folder(root)
    Path(root).mkdir()
    real, ours = _Player(POSIX, root), _Player(memory, root)
    try:
        for _ in range(_SEQUENCE_LENGTH):
            operation = _draw_operation(rng)
            assert ours.play(operation) == real.play(operation), operation
        assert ours.tree() == real.tree()
    finally:
        _close_all(real)
    _close_all(ours)
    assert memory.open_descriptors() == {}


def _close_all(player: _Player) -> None:
    for fd in player.fds:
        player.filesystem.close(fd)


# What only the one in memory can do.


def test_the_call_that_is_about_to_be_made_is_told(memory: MemoryFilesystem) -> None:
    memory.make_folder("/a/b")
    calls: list[Call] = []
    memory.before = calls.append
    fd = memory.open("/a", _READ)
    memory.stat("b", dir_fd=fd)
    memory.rename("b", "/c", src_dir_fd=fd)
    memory.symlink("target", "link", dir_fd=fd)
    memory.close(fd)
    assert calls == [
        Call("open", "/a", 1),
        Call("stat", "/a/b", 2),
        Call("rename", "/a/b -> /c", 3),
        Call("symlink", "/a/link", 4),
        Call("close", "/a", 5),
    ]


def test_an_injected_fault_leaves_everything_as_it_was(memory: MemoryFilesystem) -> None:
    memory.write_file("/a")
    before = memory.snapshot()

    def fail(call: Call) -> None:
        raise OSError(errno.EIO, "injected")

    memory.before = fail
    assert _errno(memory.unlink, "/a") == "EIO"
    assert memory.snapshot() == before


def test_a_close_that_fails_still_closes(memory: MemoryFilesystem) -> None:
    fd = memory.open("/", _READ)

    def fail(call: Call) -> None:
        raise OSError(errno.EIO, "injected")

    memory.before = fail
    assert _errno(memory.close, fd) == "EIO"
    assert memory.open_descriptors() == {}


def test_after_a_crash_no_clean_up_reaches_the_disk(memory: MemoryFilesystem) -> None:
    memory.write_file("/a")

    def crash(call: Call) -> None:
        memory.before = None
        raise Crash

    memory.before = crash
    with pytest.raises(Crash):
        memory.unlink("/a")
    with pytest.raises(Crash):
        memory.unlink("/a")
    assert memory.exists("/a")


def test_the_next_process_finds_the_same_disk_with_nothing_open(memory: MemoryFilesystem) -> None:
    memory.write_file("/a", b"1")
    memory.link("/a", "/b")
    fd = memory.open("/a", os.O_RDWR)
    memory.lock(fd)
    memory.take_lease(fd)
    memory.write(fd, b"2")
    after = memory.crashed_copy()
    assert (after.tree(), after.snapshot()) == (memory.tree(), memory.snapshot())
    assert after.stat("/a").st_nlink == 2
    again = after.open("/a", _READ)
    after.lock(again)
    after.take_lease(again)
    assert _errno(after.close, fd) == "EBADF"


def test_a_copy_does_not_share_what_is_written_later(memory: MemoryFilesystem) -> None:
    memory.write_file("/a/b", b"1")
    after = memory.crashed_copy()
    memory.write_file("/a/b", b"2")
    memory.write_file("/a/c")
    assert after.tree() == {"/a": ("folder", None), "/a/b": ("file", b"1")}


def test_a_new_file_has_an_inode_of_its_own_in_a_copy(memory: MemoryFilesystem) -> None:
    memory.write_file("/a")
    after = memory.crashed_copy()
    after.write_file("/b")
    assert after.stat("/a").st_ino != after.stat("/b").st_ino


def _trees_after_power_loss(memory: MemoryFilesystem) -> list[Tree]:
    found: list[Tree] = []
    for seed in range(60):
        tree = memory.after_power_loss(random.Random(seed)).tree()
        if tree not in found:
            found.append(tree)
    return found


def test_a_power_cut_takes_the_last_namespace_operations_in_order(memory: MemoryFilesystem) -> None:
    memory.make_folder("/a")
    memory.mkdir("/a/1")
    memory.rename("/a/1", "/a/2")
    memory.symlink("x", "/a/3")
    memory.rmdir("/a/2")
    left = sorted(sorted(tree) for tree in _trees_after_power_loss(memory))
    assert left == [
        ["/a"],
        ["/a", "/a/1"],
        ["/a", "/a/2"],
        ["/a", "/a/2", "/a/3"],
        ["/a", "/a/3"],
    ]


def test_an_fsync_of_anything_makes_the_namespace_before_it_durable(memory: MemoryFilesystem) -> None:
    memory.mkdir("/a")
    fd = memory.open("/", _READ)
    memory.fsync(fd)
    memory.mkdir("/b")
    assert sorted(sorted(tree) for tree in _trees_after_power_loss(memory)) == [["/a"], ["/a", "/b"]]


def test_a_rename_that_a_power_cut_undoes_brings_back_what_it_replaced(memory: MemoryFilesystem) -> None:
    memory.write_file("/a", b"new")
    memory.write_file("/b", b"old")
    memory.rename("/a", "/b")
    assert sorted(_trees_after_power_loss(memory), key=len) == [
        {"/b": ("file", b"new")},
        {"/a": ("file", b"new"), "/b": ("file", b"old")},
    ]


def test_what_was_written_without_fsync_can_be_cut_anywhere(memory: MemoryFilesystem) -> None:
    fd = memory.open("/a", _CREATE)
    folder = memory.open("/", _READ)
    memory.fsync(folder)
    memory.write(fd, b"ab")
    contents = {tree["/a"][1] for tree in _trees_after_power_loss(memory)}
    assert contents == {b"", b"a", b"ab"}


def test_what_was_written_before_the_fsync_is_never_lost(memory: MemoryFilesystem) -> None:
    fd = memory.open("/a", _CREATE)
    memory.write(fd, b"kept")
    memory.fsync(fd)
    memory.write(fd, b"--")
    contents = {tree["/a"][1] for tree in _trees_after_power_loss(memory)}
    assert contents == {b"kept", b"kept-", b"kept--"}


def test_an_overwrite_in_place_can_be_torn_but_not_shortened(memory: MemoryFilesystem) -> None:
    memory.write_file("/a", b"old!")
    fd = memory.open("/a", os.O_WRONLY)
    memory.write(fd, b"NEW")
    contents = {tree["/a"][1] for tree in _trees_after_power_loss(memory)}
    assert contents == {b"old!", b"Nld!", b"NEd!", b"NEW!"}


def test_a_truncation_without_fsync_can_leave_old_nothing_or_new(memory: MemoryFilesystem) -> None:
    memory.write_file("/a", b"old")
    fd = memory.open("/a", os.O_WRONLY | os.O_TRUNC)
    memory.write(fd, b"N")
    assert {tree["/a"][1] for tree in _trees_after_power_loss(memory)} == {b"old", b"", b"N"}


def test_a_power_cut_leaves_the_original_alone(memory: MemoryFilesystem) -> None:
    memory.mkdir("/a")
    memory.rename("/a", "/b")
    before = memory.snapshot()
    _trees_after_power_loss(memory)
    assert memory.snapshot() == before


def test_a_power_cut_after_a_kill_still_takes_what_was_not_durable(memory: MemoryFilesystem) -> None:
    memory.mkdir("/a")
    assert [] in [sorted(tree) for tree in _trees_after_power_loss(memory.crashed_copy())]


def test_link_counts_and_dots_are_right_after_a_power_cut(memory: MemoryFilesystem) -> None:
    memory.make_folder("/a/b")
    memory.rename("/a/b", "/b")
    after = next(
        disk for seed in count() if (disk := memory.after_power_loss(random.Random(seed))).exists("/a/b")
    )
    assert (after.stat("/a").st_nlink, after.stat("/").st_nlink) == (3, 3)
    assert after.stat("/a/b/..").st_ino == after.stat("/a").st_ino


def test_what_the_helpers_write_is_durable(memory: MemoryFilesystem) -> None:
    memory.write_file("/a/b", b"1")
    memory.make_link("/a/c", "b")
    assert _trees_after_power_loss(memory) == [memory.tree()]


@pytest.mark.parametrize("call", ["open", "stat", "unlink"])
def test_a_denied_path_fails_every_call(memory: MemoryFilesystem, call: str) -> None:
    memory.write_file("/a/b")
    memory.deny("/a/b", errno.EACCES)
    more = [_READ] if call == "open" else []
    assert _errno(getattr(memory, call), "/a/b", *more) == "EACCES"


def test_a_denied_folder_denies_what_is_below(memory: MemoryFilesystem) -> None:
    memory.write_file("/a/b")
    memory.deny("/a", errno.EACCES)
    assert _errno(memory.stat, "/a/b") == "EACCES"
    memory.allow("/a")
    assert memory.stat("/a/b").st_size == 0


def test_a_single_call_can_be_denied_on_an_open_descriptor(memory: MemoryFilesystem) -> None:
    memory.write_file("/a/b")
    memory.deny("/a", errno.EIO, call="scandir")
    fd = memory.open("/a", _READ)
    assert _errno(memory.scandir, fd) == "EIO"
    assert memory.stat("b", dir_fd=fd).st_size == 0
    memory.close(fd)


def test_denials_do_not_stop_the_helpers(memory: MemoryFilesystem) -> None:
    memory.write_file("/a", b"1")
    memory.deny("/a", errno.EACCES)
    memory.write_file("/a", b"2")
    assert memory.read_file("/a") == b"2"


def test_reads_and_writes_can_be_short(memory: MemoryFilesystem) -> None:
    memory.shorten = lambda length: length // 2
    fd = memory.open("/a", _CREATE)
    assert memory.write(fd, b"12345678") == 4
    memory.close(fd)
    fd = memory.open("/a", _READ)
    assert [memory.read(fd, 4), memory.read(fd, 1), memory.read(fd, 4), memory.read(fd, 4)] == [
        b"12",
        b"3",
        b"4",
        b"",
    ]


def test_another_device_is_exdev_and_its_top_is_busy(memory: MemoryFilesystem) -> None:
    memory.write_file("/a/file")
    memory.write_file("/b/file")
    memory.mount("/b")
    assert memory.stat("/a").st_dev != memory.stat("/b/file").st_dev
    assert _errno(memory.rename, "/a/file", "/b/c") == "EXDEV"
    assert _errno(memory.rename, "/b", "/c") == "EBUSY"
    assert _errno(memory.rmdir, "/b") == "EBUSY"


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EINVAL, errno.EACCES])
def test_a_file_system_can_offer_no_leases(memory: MemoryFilesystem, code: int) -> None:
    memory.write_file("/a")
    memory.lease_error = code
    fd = memory.open("/a", _READ)
    assert _errno(memory.take_lease, fd) == errno.errorcode[code]


def test_a_foreign_holder_prevents_the_lease_through_any_hard_link(memory: MemoryFilesystem) -> None:
    memory.write_file("/a")
    memory.link("/a", "/b")
    holder = memory.hold_open("/b")
    fd = memory.open("/a", _READ)
    assert _errno(memory.take_lease, fd) == "EAGAIN"
    holder.close()
    memory.take_lease(fd)
    assert memory.ask_lease(fd) == FileLease.HELD


def test_a_foreign_opener_breaks_the_lease_and_waits_for_its_end(memory: MemoryFilesystem) -> None:
    memory.write_file("/a")
    fd = memory.open("/a", _READ)
    memory.take_lease(fd)
    opener = memory.begin_open("/a")
    assert (opener.is_open, memory.ask_lease(fd) == FileLease.HELD) == (False, False)
    memory.close(fd)
    assert opener.is_open
    fd = memory.open("/a", _READ)
    assert _errno(memory.take_lease, fd) == "EAGAIN"
    opener.close()
    memory.take_lease(fd)


def test_an_opener_who_would_wait_for_its_own_process_is_told(memory: MemoryFilesystem) -> None:
    memory.write_file("/a")
    memory.take_lease(memory.open("/a", _READ))
    with pytest.raises(RuntimeError, match="waits for a lease"):
        memory.open("/a", _READ)


def test_the_injected_clock_stamps_the_files() -> None:
    now_ns = 100
    memory = MemoryFilesystem(lambda: now_ns)
    memory.make_folder("/a")
    now_ns = 200
    memory.close(memory.open("/a/b", _CREATE))
    now_ns = 300
    memory.rename("/a/b", "/b")
    moved = memory.stat("/b")
    assert (moved.st_mtime_ns, moved.st_ctime_ns, memory.stat("/a").st_mtime_ns) == (200, 300, 300)
    assert memory.now_ns() == 300


def test_a_listing_is_in_the_order_that_is_injected() -> None:
    def listed(order: random.Random | None) -> list[str]:
        memory = MemoryFilesystem(lambda: 0, order=order)
        for name in "hgfedcba":
            memory.write_file(f"/{name}")
        with memory.scandir(memory.open("/", _READ)) as entries:
            return [entry.name for entry in entries]

    assert listed(None) == list("hgfedcba")
    assert listed(random.Random(1)) == listed(random.Random(1)) != listed(None)


def test_a_sparse_file_has_its_size_and_its_blocks(memory: MemoryFilesystem) -> None:
    memory.write_file("/a", b"x", size_bytes=5 << 30, blocks=8)
    memory.write_file("/b", b"x" * 4097)
    found = memory.stat("/a")
    assert (found.st_size, found.st_blocks, memory.stat("/b").st_blocks) == (5 << 30, 8, 16)
    fd = memory.open("/a", _READ)
    assert memory.read(fd, 4) == b"x\0\0\0"


def test_the_helpers_make_and_take_away_whole_trees(memory: MemoryFilesystem) -> None:
    memory.write_file("/a/b/c", b"1")
    memory.make_link("/a/link", "b")
    memory.make_link("/a/link", "b/c")
    assert memory.tree("/a") == {
        "/a/b": ("folder", None),
        "/a/b/c": ("file", b"1"),
        "/a/link": ("link", "b/c"),
    }
    memory.remove("/a/b")
    assert (memory.exists("/a/b"), memory.exists("/a/link"), memory.exists("/a/link/x")) == (
        False,
        True,
        False,
    )


def test_threads_may_share_it(memory: MemoryFilesystem) -> None:
    memory.write_file("/a", b"1")

    def use() -> None:
        for _ in range(500):
            memory.close(memory.open("/a", _READ))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    memory.take_lease(memory.open("/a", _READ))
