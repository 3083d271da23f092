"""The trash: intents that are checked before they are trusted, and bytes that are counted as they come free."""

import errno
import json
import os

import pytest

from disk.hosts import Host
from hmret.disk.deletion.trash.erasing import erase
from hmret.disk.deletion.trash.intent_files import (
    drop_intents,
    list_trash,
    new_batch_name,
    read_intents,
    write_intents,
)
from hmret.disk.deletion.trash.intents import Intent, Link, TrashEntry, entries_of, entry_in_trash
from hmret.disk.layout import CONTENT, METADATA, TRASH, Layout
from support.builders import DATA, digest, free
from support.deletions import intent

ALPINE = "docker.io/library/alpine"
BATCH = "0123456789abcdef"
FOLDER = TRASH
LINK = Link(Layout.LEGACY, ALPINE, "latest", "a" * 64, 0)
INTENT = intent(ALPINE, digest("a"), 5, f"{BATCH}.0", LINK)


def read(host: Host) -> list[Intent]:
    return read_intents(host.filesystem, host.data_fd, BATCH)


def erase_in_trash(host: Host, name: str) -> int | None:
    return erase(host.filesystem, host.data_fd, FOLDER, name)


# Intents.


def test_intents_are_read_again_until_they_are_dropped(host: Host) -> None:
    write_intents(host.filesystem, host.data_fd, BATCH, [INTENT])
    assert read(host) == [INTENT]
    assert list_trash(host.filesystem, host.data_fd) == ([BATCH], [])
    drop_intents(host.filesystem, host.data_fd, BATCH, ())
    assert read(host) == []
    assert list_trash(host.filesystem, host.data_fd) == ([], [])


def test_dropping_what_is_not_there_does_nothing(host: Host) -> None:
    drop_intents(host.filesystem, host.data_fd, BATCH, ())
    host.folder(FOLDER)
    drop_intents(host.filesystem, host.data_fd, BATCH, ())


def test_the_trash_is_its_owners_alone(host: Host) -> None:
    write_intents(host.filesystem, host.data_fd, BATCH, [INTENT])
    assert host.filesystem.stat(FOLDER, dir_fd=host.data_fd).st_mode & 0o777 == 0o700


def test_the_trash_is_listed_as_intents_and_all_else(host: Host) -> None:
    assert list_trash(host.filesystem, host.data_fd) == ([], [])
    host.folder(f"{FOLDER}/{BATCH}.0")
    host.write(f"{FOLDER}/{BATCH}.json.tmp")
    host.write(f"{FOLDER}/{BATCH}.json")
    assert list_trash(host.filesystem, host.data_fd) == (
        [BATCH],
        [f"{BATCH}.0", f"{BATCH}.json.tmp"],
    )


@pytest.mark.parametrize("content", [b"", b"{", b"[5]", b"[{}]", b"\xff", b"[" * 100_000])
def test_intents_that_do_not_parse_are_none(host: Host, content: bytes) -> None:
    host.write(f"{FOLDER}/{BATCH}.json", content)
    assert read(host) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ".."},
        {"name": f"{BATCH}.0/../../.."},
        {"name": f"{BATCH}."},
        {"name": "fedcba9876543210.0"},
        {"repository": "../.."},
        {"repository": "docker.io/../.."},
        {"repository": "alpine"},
        {"repository": ""},
        {"digest": "a" * 64},
        {"digest": "sha256:.."},
        {"digest": "sha256:"},
        {"digest": f"sha512:{'a' * 128}"},
        {"tags": ["../latest"]},
        {"tags": ["latest", ""]},
    ],
)
def test_an_intent_that_could_not_be_ours_is_not_trusted(host: Host, wrong: dict[str, object]) -> None:
    right = {
        "repository": ALPINE,
        "digest": digest("a"),
        "tags": ["latest"],
        "unused_since_ns": 5,
        "name": f"{BATCH}.0",
    }
    host.write(f"{FOLDER}/{BATCH}.json", json.dumps([{**right, **wrong}, right]).encode())
    assert read(host) == [INTENT]


UNIT = {
    "repository": ALPINE,
    "digest": digest("a"),
    "tags": ["latest"],
    "unused_since_ns": 5,
    "name": f"{BATCH}.0",
    "others": [{"repository": "quay.io/o/x", "unused_since_ns": 7}],
    "copies": [
        {"repository": ALPINE, "inode": 3, "name": f"{BATCH}.0.0"},
        {"repository": "", "inode": 4, "name": f"{BATCH}.0.1"},
    ],
    "links": [
        {"layout": "content", "repository": ALPINE, "tag": "latest", "target": "a" * 64, "inode": 9},
    ],
    "beside": "none",
    "staying": [{"repository": "quay.io/o/x", "inode": 5, "name": ""}],
}


def test_an_intent_of_shared_content_is_read_with_all_that_goes_with_it(host: Host) -> None:
    host.write(f"{FOLDER}/{BATCH}.json", json.dumps([UNIT]).encode())
    (found,) = read(host)
    assert found.keys == ((ALPINE, digest("a")), ("quay.io/o/x", digest("a")))
    assert found.is_content
    assert [copy.parent for copy in found.copies] == [f"images/{ALPINE}", "images/content"]
    assert [(link.parent, link.tag) for link in found.links] == [(f"images/repositories/{ALPINE}", "latest")]
    # Where content is out of the cache it tells that the image is, so it is looked for last.
    assert [place.number for place in entries_of(found)] == [0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"others": [{"repository": "../..", "unused_since_ns": 7}]},
        {"copies": [{"repository": "", "inode": 4, "name": ".."}]},
        {"copies": [{"repository": "", "inode": 4, "name": f"{BATCH}.1"}]},
        {"copies": [{"repository": "", "inode": 4, "name": f"{BATCH}.0.0/../.."}]},
        {"copies": [{"repository": "../..", "inode": 4, "name": f"{BATCH}.0.0"}]},
        {"copies": [*reversed(UNIT["copies"])]},  # type: ignore[call-overload]  # it is a list
        {"links": [{"layout": "content", "repository": "..", "tag": "a", "target": "", "inode": 9}]},
        {"links": [{"layout": "content", "repository": ALPINE, "tag": "../a", "target": "", "inode": 9}]},
        {"links": [{"layout": "other", "repository": ALPINE, "tag": "a", "target": "", "inode": 9}]},
        {"staying": [{"repository": "", "inode": 5, "name": ""}]},
        {"staying": [{"repository": ALPINE, "inode": 5, "name": f"{BATCH}.0"}]},
    ],
)
def test_an_intent_of_shared_content_that_could_not_be_ours_is_not_trusted(
    host: Host, wrong: dict[str, object]
) -> None:
    host.write(f"{FOLDER}/{BATCH}.json", json.dumps([{**UNIT, **wrong}]).encode())
    assert read(host) == []


def test_an_intent_is_written_as_every_release_since_shared_content_wrote_it(host: Host) -> None:
    link = {**UNIT["links"][0], "target": f"../../../../{CONTENT}/{'a' * 64}"}  # type: ignore[index]  # it is a list
    written = json.dumps([{**UNIT, "links": [link]}], separators=(",", ":")).encode()
    host.write(f"{FOLDER}/{BATCH}.json", written)
    write_intents(host.filesystem, host.data_fd, BATCH, read(host))
    assert host.read(f"{FOLDER}/{BATCH}.json") == written


def test_an_intent_of_an_image_that_stays_names_no_folders(host: Host) -> None:
    write_intents(host.filesystem, host.data_fd, BATCH, [INTENT])
    (written,) = json.loads(host.read(f"{FOLDER}/{BATCH}.json"))
    assert written == {
        "repository": ALPINE,
        "digest": digest("a"),
        "tags": ["latest"],
        "unused_since_ns": 5,
        "name": f"{BATCH}.0",
        "others": [],
        "copies": [],
        "links": [],
        "beside": "none",
        "staying": [],
    }


def test_intents_that_the_disk_does_not_give_are_told(memory: Host) -> None:
    write_intents(memory.filesystem, memory.data_fd, BATCH, [INTENT])
    memory.memory.deny(f"{DATA}/{FOLDER}/{BATCH}.json", errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        read(memory)


def test_an_image_stands_in_the_trash_or_beside_itself() -> None:
    assert entries_of(INTENT) == (
        TrashEntry(INTENT, FOLDER, f"{BATCH}.0"),
        TrashEntry(INTENT, f"images/{ALPINE}", f".hmret-{BATCH}.0"),
    )


def test_no_two_tokens_are_alike() -> None:
    assert len({new_batch_name() for _ in range(100)}) == 100


# Freeing.


def test_a_folder_is_erased_and_the_blocks_of_its_disks_are_told(host: Host) -> None:
    for name in ("rootfs.ext4", "rootfs.erofs", "other"):
        host.write(f"{FOLDER}/x/{name}", bytes(8192))
    host.write(f"{FOLDER}/x/metadata.json", b"{}")
    host.write(f"{FOLDER}/x/below/rootfs.ext4", bytes(4096))
    assert erase_in_trash(host, "x") == 2 * 8192 + 4096
    assert host.names(FOLDER) == []


def test_a_disk_with_another_link_frees_nothing(host: Host) -> None:
    host.write("kept", bytes(8192))
    host.hard_link("kept", f"{FOLDER}/x/rootfs.ext4")
    assert erase_in_trash(host, "x") == 0
    assert len(host.read("kept")) == 8192


def test_the_metadata_goes_first(memory: Host) -> None:
    for name in ("a", "metadata.json", "rootfs.ext4"):
        memory.write(f"{FOLDER}/x/{name}")
    gone: list[str] = []

    def note(call: object) -> None:
        if getattr(call, "name", "") == "unlink":
            gone.append(getattr(call, "path", "").rpartition("/")[2])

    memory.memory.before = note
    erase_in_trash(memory, "x")
    assert gone == ["metadata.json", "a", "rootfs.ext4"]


def test_links_are_removed_and_not_followed(host: Host) -> None:
    host.write("elsewhere/kept")
    host.link(f"{FOLDER}/x/below", "../../../../elsewhere")
    host.link(f"{FOLDER}/x/rootfs.ext4", "../../../../elsewhere/kept")
    host.link(f"{FOLDER}/y", "../../../elsewhere")
    assert (erase_in_trash(host, "x"), erase_in_trash(host, "y")) == (0, 0)
    assert (host.names(FOLDER), host.names("elsewhere")) == ([], ["kept"])


def test_a_file_is_removed(host: Host) -> None:
    host.write(f"{FOLDER}/x", bytes(4096))
    assert erase_in_trash(host, "x") == 0
    assert host.names(FOLDER) == []


def test_what_is_gone_is_nothing_to_do(host: Host) -> None:
    assert erase_in_trash(host, "x") == 0
    host.folder(FOLDER)
    assert erase_in_trash(host, "x") == 0


def test_a_folder_that_is_a_link_by_now_is_not_erased_through(host: Host) -> None:
    host.write("elsewhere/x/rootfs.ext4", bytes(4096))
    host.link(TRASH, "../../elsewhere")
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        erase_in_trash(host, "x")
    assert host.exists("elsewhere/x/rootfs.ext4")


def test_told_to_stop_it_leaves_the_rest_for_the_next_time(host: Host) -> None:
    host.write(f"{FOLDER}/x/a/rootfs.ext4", bytes(4096))
    host.write(f"{FOLDER}/x/metadata.json")
    for steps in (0, 1, 1):
        answers = iter([False] * steps + [True])
        assert erase(host.filesystem, host.data_fd, FOLDER, "x", answers.__next__) is None
    assert host.names(FOLDER) == ["x", "x/a", "x/a/rootfs.ext4"]
    assert erase_in_trash(host, "x") == 4096


@pytest.mark.parametrize("call", ["open", "scandir"])
def test_what_cannot_be_erased_is_told(memory: Host, call: str) -> None:
    memory.write(f"{FOLDER}/x/rootfs.ext4")
    memory.memory.deny(f"{DATA}/{FOLDER}/x", errno.EACCES, call=call)
    with pytest.raises(PermissionError):
        erase_in_trash(memory, "x")


def test_freeing_what_stood_beside_itself_removes_the_folders_left_empty(host: Host) -> None:
    place = entries_of(INTENT)[1]
    host.write(f"{place.folder}/{place.name}/rootfs.ext4", bytes(4096))
    assert free(host.filesystem, host.data_fd, place) == 4096
    assert (host.names("images"), host.exists("images")) == ([], True)


def test_freeing_in_the_trash_leaves_the_images_alone(host: Host) -> None:
    place = entries_of(INTENT)[0]
    host.folder(place.folder)
    host.folder(f"images/{ALPINE}")
    host.write(f"{place.folder}/{place.name}/rootfs.ext4", bytes(4096))
    assert free(host.filesystem, host.data_fd, place) == 4096
    assert host.exists(f"images/{ALPINE}")


def test_freeing_that_is_told_to_stop_removes_no_folder(host: Host) -> None:
    place = entries_of(INTENT)[1]
    host.write(f"{place.folder}/{place.name}/rootfs.ext4")
    assert free(host.filesystem, host.data_fd, place, lambda: True) is None
    assert host.exists(f"{place.folder}/{place.name}/rootfs.ext4")


def test_a_pipe_is_removed_and_not_waited_for(real: Host) -> None:
    real.folder(f"{FOLDER}/x")
    os.mkfifo(f"{FOLDER}/x/rootfs.ext4", dir_fd=real.data_fd)
    assert erase_in_trash(real, "x") == 0
    assert real.names(FOLDER) == []


# Freeing what is known.


def test_what_is_known_is_freed_without_a_look_at_what_is_in_it(memory: Host) -> None:
    place = entry_in_trash(INTENT, (METADATA, "rootfs.ext4"))
    for name in place.files:
        memory.write(f"{place.folder}/{place.name}/{name}", bytes(4096))
    memory.memory.deny(f"{DATA}/{place.folder}/{place.name}", errno.EACCES, call="scandir")
    assert free(memory.filesystem, memory.data_fd, place) == 4096
    assert memory.names(FOLDER) == []


@pytest.mark.parametrize("odd", ["more", "fewer", "a folder"])
def test_what_is_not_as_it_was_known_is_freed_all_the_same(host: Host, odd: str) -> None:
    place = entry_in_trash(INTENT, (METADATA, "rootfs.ext4"))
    path = f"{place.folder}/{place.name}"
    host.write(f"{path}/rootfs.ext4", bytes(4096))
    if odd != "fewer":
        host.write(f"{path}/{METADATA}")
    if odd == "more":
        host.write(f"{path}/more")
    if odd == "a folder":
        host.write(f"{path}/folder/file")
    assert free(host.filesystem, host.data_fd, place) == 4096
    assert host.names(FOLDER) == []


def test_a_link_in_the_place_of_what_is_known_is_not_followed(host: Host) -> None:
    place = entry_in_trash(INTENT, (METADATA,))
    host.write(f"elsewhere/{METADATA}")
    host.folder(place.folder)
    host.link(f"{place.folder}/{place.name}", "../../../elsewhere")
    assert free(host.filesystem, host.data_fd, place) == 0
    assert host.exists(f"elsewhere/{METADATA}")
    assert host.names(FOLDER) == []
