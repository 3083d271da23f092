"""Retention states: one that is wrong restarts its own timer and stops nothing else."""

import errno
import json
import os
from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import pytest

from disk.hosts import Host
from hmret.disk.folders import let_go, opened
from hmret.disk.hypeman.documents import encode_state
from hmret.disk.hypeman.retention_states.rereading import HeldState, hold_state, look_at_state
from hmret.disk.hypeman.retention_states.scanning import (
    STATE_SUFFIX,
    StateFolder,
    remove_strays,
    scan_states,
)
from hmret.disk.hypeman.retention_states.writing import clear_state, write_states
from hmret.disk.layout import RETENTION
from support.builders import DATA, START_NS, FakeClock, digest, make_state
from support.folders_ahead import scanned_both_ways

ALPINE = "docker.io/library/alpine"
FOLDER = f"{RETENTION}/{ALPINE}"
KEY, OTHER = (ALPINE, digest("a")), (ALPINE, digest("b"))
A, B = (f"{FOLDER}/{letter * 64}.json" for letter in "ab")


def scan(host: Host, path: str = ALPINE) -> StateFolder:
    with opened(host.filesystem, host.open(RETENTION)) as fd:
        read = partial(scan_states, host.filesystem, fd, path)
        return scanned_both_ways(read, host.filesystem, fd, path, STATE_SUFFIX)


def look(host: Host) -> int | None:
    return look_at_state(host.filesystem, host.data_fd, KEY)


def clear(host: Host) -> bool:
    return clear_state(host.filesystem, host.data_fd, KEY)


# Reading.


def test_the_states_in_a_folder_are_read(host: Host) -> None:
    make_state(host.place, KEY, START_NS)
    make_state(host.place, OTHER, START_NS + 1)
    assert scan(host) == StateFolder(ALPINE, {KEY[1]: START_NS, OTHER[1]: START_NS + 1})
    assert look(host) == START_NS


def test_folders_below_are_listed(host: Host) -> None:
    for name in ("docker.io", "host:5000", ".hidden"):
        host.folder(f"{RETENTION}/{name}")
    host.folder(f"{RETENTION}/quay.io/x")
    assert set(scan(host, "").subfolders) == {"docker.io", "host:5000", "quay.io"}
    assert scan(host, "quay.io").subfolders == ("quay.io/x",)


@pytest.mark.parametrize("name", ["x.json", f"{'a' * 64}.json.tmp", f"{'A' * 64}.json", "a" * 64])
def test_what_is_not_named_as_a_state_is_none(host: Host, name: str) -> None:
    host.write(f"{FOLDER}/{name}", encode_state(*KEY, START_NS))
    assert scan(host).timers == {}


def test_a_folder_named_as_a_state_is_a_level(host: Host) -> None:
    host.folder(A)
    assert scan(host) == StateFolder(ALPINE, subfolders=(A.removeprefix(f"{RETENTION}/"),))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", encode_state(*OTHER, START_NS), encode_state("x", KEY[1], 0)]
)
def test_a_corrupt_state_is_told_and_counts_as_not_set(host: Host, content: bytes) -> None:
    make_state(host.place, OTHER, START_NS)
    host.write(A, content)
    found = scan(host)
    assert found.timers == {KEY[1]: None, OTHER[1]: START_NS}
    assert [path for path, _ in found.corrupt] == [A]
    assert look(host) is None


def test_a_state_that_is_not_set_is_not_corrupt(host: Host) -> None:
    host.write(A, json.dumps({"repository": ALPINE, "digest": KEY[1]}).encode())
    assert scan(host) == StateFolder(ALPINE, {KEY[1]: None})


def test_a_link_in_the_place_of_a_state_is_not_followed(host: Host) -> None:
    host.write("elsewhere", encode_state(*KEY, START_NS))
    host.link(A, "../../../../../elsewhere")
    found = scan(host)
    assert (found.timers, [path for path, _ in found.corrupt]) == ({KEY[1]: None}, [A])
    assert look(host) is None


@pytest.mark.parametrize("call", ["open", "scandir"])
def test_a_folder_that_cannot_be_listed_is_told(memory: Host, call: str) -> None:
    make_state(memory.place, KEY, START_NS)
    memory.memory.deny(f"{DATA}/{FOLDER}", errno.EIO, call=call)
    assert scan(memory) == StateFolder(ALPINE, corrupt=((FOLDER, "Input/output error"),))


@pytest.mark.parametrize("path", ["gone", "file"])
def test_a_folder_that_is_gone_holds_nothing(host: Host, path: str) -> None:
    host.write(f"{RETENTION}/file")
    assert scan(host, path) == StateFolder(path)


def test_a_state_that_goes_while_its_folder_is_read_is_none(memory: Host) -> None:
    make_state(memory.place, KEY, START_NS)

    def vanish(call: object) -> None:
        if getattr(call, "path", "").endswith(".json"):
            memory.memory.before = None
            memory.remove(A)

    memory.memory.before = vanish
    assert scan(memory) == StateFolder(ALPINE)


def test_there_is_no_state_where_there_is_no_file(host: Host) -> None:
    assert look(host) is None


# Writing.


def test_states_are_written_as_hypeman_writes_them(host: Host) -> None:
    assert write_states(host.filesystem, host.data_fd, [KEY, OTHER], START_NS) == []
    assert host.read(A) == encode_state(*KEY, START_NS)
    assert host.names(FOLDER) == [f"{'a' * 64}.json", f"{'b' * 64}.json"]


def test_a_state_that_cannot_be_written_is_told_and_the_others_are_written(memory: Host) -> None:
    memory.folder(FOLDER)
    memory.memory.deny(f"{DATA}/{A}.tmp", errno.ENOSPC)
    failed = write_states(memory.filesystem, memory.data_fd, [KEY, OTHER], START_NS)
    assert [(key, error.errno) for key, error in failed] == [(KEY, errno.ENOSPC)]
    assert scan(memory).timers == {OTHER[1]: START_NS}


# Clearing.


@pytest.mark.parametrize("durable", [True, False])
def test_clearing_removes_the_state_and_the_folders_it_leaves_empty(host: Host, durable: bool) -> None:
    make_state(host.place, KEY, START_NS)
    assert clear_state(host.filesystem, host.data_fd, KEY, durable=durable)
    assert (host.exists(RETENTION), host.names(RETENTION)) == (True, [])


def test_clearing_leaves_other_states_alone(host: Host) -> None:
    make_state(host.place, KEY, START_NS)
    make_state(host.place, OTHER, START_NS)
    assert clear(host)
    assert scan(host).timers == {OTHER[1]: START_NS}


@pytest.mark.parametrize("path", ["x", RETENTION, FOLDER])
def test_clearing_what_is_not_there_does_nothing(host: Host, path: str) -> None:
    host.folder(path)
    assert not clear(host)


def test_clearing_below_a_file_does_nothing(host: Host) -> None:
    host.write(f"{RETENTION}/docker.io")
    assert not clear(host)


def test_clearing_follows_no_link(host: Host) -> None:
    host.write(f"elsewhere/library/alpine/{'a' * 64}.json", encode_state(*KEY, START_NS))
    host.link(f"{RETENTION}/docker.io", "../../elsewhere")
    before = host.names("elsewhere")
    assert not clear(host)
    assert host.names("elsewhere") == before


def test_a_state_that_cannot_be_removed_is_told(memory: Host) -> None:
    make_state(memory.place, KEY, START_NS)
    memory.memory.deny(f"{DATA}/{A}", errno.EACCES, call="unlink")
    with pytest.raises(PermissionError):
        clear(memory)
    assert look(memory) == START_NS


# What a crash left behind.


def test_what_a_crash_left_behind_is_found_once_it_is_old_and_removed(memory: Host, clock: FakeClock) -> None:
    half = f"ghcr.io/kernel/x/{'a' * 64}.json.tmp"
    memory.write(f"{RETENTION}/{half}", b"{")
    memory.folder(f"{RETENTION}/ghcr.io/kernel/empty")
    memory.write(f"{RETENTION}/ghcr.io/kernel/y/other.json.tmp", b"not ours")
    assert strays_of(memory) == []
    clock.advance(timedelta(minutes=2))
    found = strays_of(memory)
    assert found == ["ghcr.io/kernel/empty", half]
    remove_strays(memory.filesystem, memory.data_fd, [*found, "ghcr.io/kernel/gone"])
    assert not memory.exists(f"{RETENTION}/ghcr.io/kernel/x")
    assert not memory.exists(f"{RETENTION}/ghcr.io/kernel/empty")
    assert memory.exists(f"{RETENTION}/ghcr.io/kernel/y/other.json.tmp")


def strays_of(host: Host) -> list[str]:
    folders, strays = [""], list[str]()
    while folders:
        found = scan(host, folders.pop())
        folders.extend(found.subfolders)
        strays.extend(found.strays)
    return sorted(strays)


# Held open.


@pytest.fixture
def held(host: Host) -> Iterator[HeldState]:
    make_state(host.place, KEY, START_NS)
    fd = host.open(FOLDER)
    state = hold_state(host.filesystem, fd, KEY)
    assert state is not None
    yield state
    state.close()
    let_go(host.filesystem, fd)


def test_a_state_that_is_held_is_what_stands_there(held: HeldState) -> None:
    assert held.unused_since_ns == START_NS
    assert held.is_unchanged()


def test_a_state_that_was_replaced_is_not_the_one_that_is_held(host: Host, held: HeldState) -> None:
    content = host.read(A)
    host.remove(A)
    host.write(A, content)
    assert not held.is_unchanged()


def test_a_state_that_was_written_over_is_not_the_one_that_is_held(host: Host, held: HeldState) -> None:
    fd = host.filesystem.open(A, os.O_WRONLY, dir_fd=host.data_fd)
    host.filesystem.write(fd, host.read(A).replace(b"2026", b"2027"))
    let_go(host.filesystem, fd)
    assert not held.is_unchanged()


def test_a_state_that_has_grown_is_not_the_one_that_is_held(host: Host, held: HeldState) -> None:
    fd = host.filesystem.open(A, os.O_WRONLY, dir_fd=host.data_fd)
    host.filesystem.write(fd, host.read(A) + b" ")
    let_go(host.filesystem, fd)
    assert not held.is_unchanged()


def test_a_state_that_has_gone_is_not_the_one_that_is_held(held: HeldState) -> None:
    held.remove()
    assert not held.is_unchanged()
    held.remove()


@pytest.mark.parametrize("content", [b"", b"{", b"null"])
def test_what_is_no_state_is_not_held(host: Host, content: bytes) -> None:
    host.write(A, content)
    with opened(host.filesystem, host.open(FOLDER)) as fd:
        assert hold_state(host.filesystem, fd, KEY) is None
        assert hold_state(host.filesystem, fd, OTHER) is None
