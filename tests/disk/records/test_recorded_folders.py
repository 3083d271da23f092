"""The record of the folders that can be volumes: written durably, read as far as it can be believed."""

import errno

import pytest

from disk.hosts import Host
from hmret.disk.layout import OWN
from hmret.disk.records.folders import load_folders, look_at_cache, printable_name, save_folders
from hmret.model.records.folders import FolderMark, FolderOnRecord, FolderSeen
from support.builders import DATA

RECORD = {
    "guests": FolderOnRecord("boot", FolderMark(2**63 + 1, 7, 123), frozenset(("vm-1", "vm-2"))),
    "images/docker.io": FolderOnRecord("boot", FolderMark(3, 8, 5), frozenset(), is_volume=True),
}


def test_a_record_is_read_as_it_was_written(host: Host) -> None:
    assert load_folders(host.filesystem, host.data_fd) == {}
    save_folders(host.filesystem, host.data_fd, RECORD)
    assert load_folders(host.filesystem, host.data_fd) == RECORD


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"guests": 1}', b'{"guests": {"inode": "x"}}', b"\xff"]
)
def test_a_record_that_makes_no_sense_is_none(host: Host, content: bytes) -> None:
    host.write(f"{OWN}/folders.json", content)
    assert load_folders(host.filesystem, host.data_fd) == {}


def test_a_record_that_cannot_be_written_leaves_the_one_before(memory: Host) -> None:
    save_folders(memory.filesystem, memory.data_fd, RECORD)
    memory.write(f"{OWN}/folders.json.tmp")
    memory.memory.deny(f"{DATA}/{OWN}/folders.json.tmp", errno.ENOSPC, call="write")
    with pytest.raises(OSError, match="No space"):
        save_folders(memory.filesystem, memory.data_fd, {})
    assert load_folders(memory.filesystem, memory.data_fd) == RECORD


def test_names_that_are_no_text_are_told_apart_in_a_record(host: Host) -> None:
    names = frozenset(map(printable_name, ("vm-\udcff", "vm-\udcfe", "vm-é")))
    assert len(names) == 3
    record = {"guests": FolderOnRecord("boot", FolderMark(1, 2, 3), names)}
    save_folders(host.filesystem, host.data_fd, record)
    assert load_folders(host.filesystem, host.data_fd) == record


def test_the_folders_of_images_are_told_with_what_is_in_them(host: Host) -> None:
    for folder in ("content/x", "repositories/ghcr.io", "docker.io/library", "layers", "docker.io/team"):
        host.folder(f"images/{folder}")
    found = look_at_cache(host.filesystem, host.data_fd, ["images/quay.io", "guests"])
    assert {name: folder.names for name, folder in found.items()} == {
        "images": frozenset(),
        "images/content": frozenset(),
        "images/repositories": frozenset(("ghcr.io",)),
        "images/docker.io": frozenset(("library", "team")),
        "images/quay.io": frozenset(),
    }
    assert found["images/quay.io"] == FolderSeen(None)
    assert not any(folder.is_volume for folder in found.values())


def test_images_that_are_not_there_are_gone(host: Host) -> None:
    assert look_at_cache(host.filesystem, host.data_fd, ["images/content"]) == {"images": FolderSeen(None)}


def test_a_part_on_another_device_is_a_volume(memory: Host) -> None:
    memory.folder("images")
    memory.memory.mount(f"{DATA}/images/ghcr.io")
    assert look_at_cache(memory.filesystem, memory.data_fd, ())["images/ghcr.io"].is_volume


def test_what_cannot_be_looked_at_is_left_out(memory: Host) -> None:
    memory.folder("images/content")
    memory.folder("images/repositories")
    memory.memory.deny(f"{DATA}/images/content", errno.EIO)
    assert sorted(look_at_cache(memory.filesystem, memory.data_fd, ())) == ["images", "images/repositories"]
    memory.memory.deny(f"{DATA}/images", errno.EACCES)
    assert look_at_cache(memory.filesystem, memory.data_fd, ()) == {}
