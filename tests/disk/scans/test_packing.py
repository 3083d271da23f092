"""What is written down for the next start, is what is read at first hand."""

import errno
import json
from array import array
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import msgspec
import pytest

from disk.hosts import Host
from hmret.disk.folders import opened, step_into
from hmret.disk.folders_ahead import FolderAhead
from hmret.disk.hypeman.documents import encode_state, read_image_metadata, read_state
from hmret.disk.hypeman.retention_states.scanning import StateFolder, scan_states
from hmret.disk.hypeman.scan import FolderScan, scan_folder
from hmret.disk.layout import IMAGES, RETENTION, hex_of
from hmret.disk.scans.packing import (
    Look,
    pack,
    pack_images,
    read_images,
    read_states,
    unpack_images,
    unpack_references,
    unpack_states,
    weigh,
)
from hmret.disk.scans.references import ReferenceFile
from hmret.model.images import Image, Repository, SharedDisk
from hmret.model.references import Reference
from hmret.model.times import SECOND
from support.builders import START, START_NS, FakeClock, digest, make_image, make_state

ALPINE = "docker.io/library/alpine"
A, B = digest("a"), digest("b")
IMAGE = Image(A, "ready", START_NS, 4096, 8192, SharedDisk(1, 2**64 - 1, 3), None)
BROKEN = Image(B, "unknown", None, 0, 0, None, "no rootfs")
FULL = FolderScan(
    ALPINE,
    Repository(ALPINE, {A: IMAGE, B: BROKEN}, {"latest": A, "old": B, "dangling": digest("c")}),
    (f"{ALPINE}/deeper", f"{ALPINE}/{'d' * 64}"),
    fingerprint=(1, 2**64 - 1, 4096, START_NS, START_NS + 1),
    marks=array("q", (7, START_NS, -1, -1)).tobytes(),
    unsettled=(B,),
)


def fields(folder: FolderScan) -> dict[str, object]:
    return {
        "path": folder.path,
        "repository": folder.repository,
        "subfolders": folder.subfolders,
        "error": None if folder.error is None else (folder.error.errno, folder.error.strerror),
        "unknown_folders": folder.unknown_folders,
        "fingerprint": folder.fingerprint,
        "marks": folder.marks,
        "unsettled": folder.unsettled,
        "with_disk": folder.with_disk,
        "unreadable": folder.unreadable,
        "bases": folder.bases,
        "prints": folder.prints,
        "oddities": folder.oddities,
        "is_empty": folder.is_empty,
    }


def of_content(image: Image, name: str) -> Image:
    return msgspec.structs.replace(image, content_name=name)


def again(folder: FolderScan) -> FolderScan:
    (unpacked,) = unpack_images(pack_images([folder]))
    return unpacked


@pytest.mark.parametrize(
    "folder",
    [
        FULL,
        FolderScan(""),
        FolderScan(
            "", subfolders=("docker.io",), unknown_folders=("content", "layers"), fingerprint=(1, 2, 3, 4, 5)
        ),
        FolderScan(ALPINE, Repository(ALPINE, {}, {"latest": A})),
        FolderScan(ALPINE, error=PermissionError(errno.EACCES, "Permission denied")),
        FolderScan(ALPINE, error=FileNotFoundError(errno.ENOENT, "No such file or directory")),
        FolderScan(
            "content",
            subfolders=("content/3f",),
            fingerprint=(1, 2, 3, 4, 5),
            prints=(("content/3f", 2, 2**63 - 1),),
            oddities=(("not_an_image", "images/content/x", "no folder named with 64 hex digits"),),
        ),
        FolderScan(
            "content/3f",
            Repository("", {A: of_content(IMAGE, ALPINE), B: of_content(BROKEN, "")}, {}),
            fingerprint=(0, 0, 2, 0, 2**63 - 1),
            marks=array("q", (7, 0, -1, 0)).tobytes(),
            unsettled=(B,),
            with_disk=(B,),
            unreadable=(B,),
            bases=((A, f"{ALPINE}@{B}"),),
        ),
        FolderScan(
            f"repositories/{ALPINE}",
            Repository(ALPINE, {}, {"latest": A}, odd_tags=frozenset({"odd"})),
            subfolders=(f"repositories/{ALPINE}/deeper",),
        ),
        FolderScan(f"repositories/{ALPINE}", is_empty=True),
    ],
    ids=["full", "empty", "top", "tags only", "denied", "absent", "content", "part", "tags", "no tags"],
)
def test_a_folder_of_images_keeps_every_field(folder: FolderScan) -> None:
    assert fields(again(folder)) == fields(folder)
    assert type(again(folder).error) is type(folder.error)


def test_the_images_keep_their_order_for_the_marks_stand_in_it() -> None:
    images = {digest(letters): Image(digest(letters), "ready") for letters in ("c", "a", "b")}
    folder = FolderScan(ALPINE, Repository(ALPINE, images, {}), marks=array("q", range(6)).tobytes())
    repository = again(folder).repository
    assert repository is not None
    assert list(repository.images) == list(images)


def test_a_digest_is_one_text_wherever_it_stands() -> None:
    repository = again(FULL).repository
    assert repository is not None
    assert repository.images[A].digest is next(iter(repository.images))
    assert repository.tags["latest"] is repository.images[A].digest


def test_texts_that_very_many_images_have_exist_once() -> None:
    images = {one: Image(one, "ready", content_name=ALPINE) for one in (A, B)}
    one, other = again(FolderScan("content/3f", Repository("", images, {}))).images.values()
    assert one.status is other.status
    assert one.content_name is other.content_name


def test_marks_that_are_damaged_are_none() -> None:
    packed = msgspec.msgpack.decode(pack_images([FULL]))
    packed[0][8] = packed[0][8][:-1]
    (unpacked,) = unpack_images(msgspec.msgpack.encode(packed))
    assert unpacked.marks == b""
    assert unpacked.repository == FULL.repository


@pytest.mark.parametrize(
    "folder",
    [
        StateFolder(
            ALPINE,
            {A: START_NS, B: None},
            (f"{ALPINE}/deeper",),
            ((f"{RETENTION}/x.json", "it is torn"),),
            ("stray",),
            (1, 2, 3, 4, 5),
        ),
        StateFolder(""),
    ],
    ids=["full", "empty"],
)
def test_a_folder_of_states_keeps_every_field(folder: StateFolder) -> None:
    (unpacked,) = unpack_states(pack([folder]))
    assert unpacked == folder
    assert unpacked.fingerprint == folder.fingerprint


@pytest.mark.parametrize(
    "created_at",
    [
        None,
        START,
        START + timedelta(microseconds=1),
        datetime(1, 1, 2, tzinfo=timezone(timedelta(hours=5))),
        datetime(9999, 12, 30, tzinfo=timezone(timedelta(hours=-5))),
    ],
)
def test_a_reference_file_keeps_every_field(memory: Host, created_at: datetime | None) -> None:
    file = ReferenceFile(
        "guests/vm/metadata.json",
        (Reference("instance/vm", "alpine", f"alpine@{A}", created_at), Reference("instance/vm", "b")),
        None,
        (1, 2, 3, 4, 5),
    )
    packed = msgspec.msgpack.encode({"instance/vm": file, "guests": ReferenceFile("guests", problem="no")})
    assert unpack_references(packed) == {
        "instance/vm": file,
        "guests": ReferenceFile("guests", problem="no"),
    }


# Whatever may stand in a file can be told to another process.


@pytest.mark.parametrize(
    "metadata",
    [
        {"created_at": "0001-01-01T00:00:00Z"},
        {"created_at": "9999-12-31T23:59:59Z"},
        {"created_at": "1677-09-21T00:00:00Z", "size_bytes": -(2**63)},
        {"size_bytes": 10**30},
        {"size_bytes": -(10**30)},
        {"size_bytes": 2**63},
        {"size_bytes": 2**63 - 1, "created_at": "2262-04-11T23:47:16Z"},
        {"status": "\u0000\U0010ffff"},
        {"digest": "x" * 1000},
    ],
)
def test_odd_metadata_can_be_packed(memory: Host, metadata: dict[str, object]) -> None:
    document = {"name": f"{ALPINE}:latest", "digest": A, "status": "ready", **metadata}
    memory.write(f"{IMAGES}/{ALPINE}/{hex_of(A)}/metadata.json", json.dumps(document).encode())
    with opened(memory.filesystem, step_into(memory.filesystem, memory.data_fd, IMAGES)) as fd:
        folder = scan_folder(memory.filesystem, fd, ALPINE)
    assert folder.repository is not None
    assert fields(again(folder)) == fields(folder)


def test_a_size_or_a_time_that_nothing_can_have_is_absent() -> None:
    metadata = read_image_metadata(b'{"status": "ready", "size_bytes": 1' + b"0" * 30 + b"}")
    assert (metadata.status, metadata.size_bytes) == ("ready", 0)
    for moment in ("0001-01-01T00:00:00Z", "1600-01-01T00:00:00Z", "2263-01-01T00:00:00Z"):
        assert read_image_metadata(json.dumps({"created_at": moment}).encode()).created_ns is None


@pytest.mark.parametrize("moment", ["0001-01-02T00:00:00Z", "9999-12-31T23:59:59.999999999Z"])
def test_a_timer_that_nobody_can_have_started_is_not_set(memory: Host, moment: str) -> None:
    document = json.dumps({"repository": ALPINE, "digest": A, "unused_since": moment}).encode()
    assert read_state(document, ALPINE, A) is None
    memory.write(f"{RETENTION}/{ALPINE}/{hex_of(A)}.json", document)
    with opened(memory.filesystem, step_into(memory.filesystem, memory.data_fd, RETENTION)) as fd:
        folder = scan_states(memory.filesystem, fd, ALPINE)
    assert folder.timers == {A: None}
    assert unpack_states(pack([folder])) == [folder]


def test_an_inode_number_of_64_bits_can_be_marked_and_told_again(memory: Host, clock: FakeClock) -> None:
    make_image(memory.place, ALPINE, "a")
    memory.memory.set_inode(f"/data/{IMAGES}/{ALPINE}/{hex_of(A)}/metadata.json", 2**64 - 1)
    clock.wall_ns += 10 * SECOND
    with opened(memory.filesystem, step_into(memory.filesystem, memory.data_fd, IMAGES)) as fd:
        first = scan_folder(memory.filesystem, fd, ALPINE)
        second = scan_folder(memory.filesystem, fd, ALPINE, first)
    assert first.repository is not None
    assert second.repository is not None
    assert second.repository.images[A] is first.repository.images[A]


@pytest.mark.parametrize("unpack", [unpack_images, unpack_states, unpack_references])
@pytest.mark.parametrize("given", [b"", b"\xc1", b"\x00", b"[]", msgspec.msgpack.encode(["x"])])
def test_a_record_that_makes_no_sense_is_refused(unpack: Callable[[bytes], object], given: bytes) -> None:
    with pytest.raises((msgspec.MsgspecError, ValueError)):
        unpack(given)


# Batches.


def weighed(size: int) -> Look[FolderScan]:
    return lambda _fd, path, _ahead: (FolderScan(path), size)


def states_of(_fd: int, path: str, _ahead: FolderAhead | None) -> tuple[StateFolder, int]:
    return StateFolder(path), 1


def known(_path: str) -> bool:
    return False


def test_a_batch_ends_when_much_was_read_and_leaves_the_rest(memory: Host) -> None:
    memory.folder(IMAGES)
    paths = [str(number) for number in range(10)]
    found, rest = read_images(memory.filesystem, memory.data_fd, paths, weighed(200), known)
    assert [folder.path for folder in found] == ["9", "8", "7"]
    assert rest == paths[:7]


def test_without_images_there_is_one_folder_with_an_error(memory: Host) -> None:
    found, rest = read_images(memory.filesystem, memory.data_fd, ["a", "b"], weighed(1), known)
    assert rest == []
    assert [(folder.path, type(folder.error)) for folder in found] == [("", FileNotFoundError)]


def test_without_states_there_are_none(memory: Host) -> None:
    assert read_states(memory.filesystem, memory.data_fd, [""], states_of, known) == ([], [])


def test_states_that_cannot_be_listed_are_told(memory: Host) -> None:
    memory.folder(RETENTION)
    memory.memory.deny(f"/data/{RETENTION}", errno.EACCES)
    found, _ = read_states(memory.filesystem, memory.data_fd, [""], states_of, known)
    assert [folder.corrupt for folder in found] == [((RETENTION, "Permission denied"),)]


def test_folders_that_are_new_are_read_ahead_and_what_was_read_ahead_is_examined_in_the_same_batch(
    memory: Host,
) -> None:
    memory.folder(IMAGES)
    paths = [f"repositories/{number}" for number in range(100)]
    for path in paths[:98]:
        memory.folder(f"{IMAGES}/{path}")
    seen: dict[str, bool] = {}

    def look(_fd: int, path: str, ahead: FolderAhead | None) -> tuple[FolderScan, int]:
        seen[path] = ahead is not None
        return FolderScan(path), 200

    found, rest = read_images(memory.filesystem, memory.data_fd, paths, look, lambda path: path != paths[97])
    assert [folder.path for folder in found] == list(seen) == paths[:67:-1]
    assert rest == paths[:68]
    # Two of them are gone, and one is known.
    assert [path for path, was_ahead in seen.items() if not was_ahead] == paths[:96:-1]


def test_states_are_read_ahead_with_what_they_hold(memory: Host) -> None:
    make_state(memory.place, (ALPINE, A), 5)
    seen: list[FolderAhead | None] = []

    def look(_fd: int, path: str, ahead: FolderAhead | None) -> tuple[StateFolder, int]:
        seen.append(ahead)
        return StateFolder(path), 1

    read_states(memory.filesystem, memory.data_fd, [ALPINE], look, lambda _: True)
    [ahead] = seen
    assert ahead is not None
    [content] = ahead.found[5]
    assert isinstance(content, tuple)
    assert content[6] == encode_state(ALPINE, A, 5)


def test_a_folder_weighs_what_there_was_to_read() -> None:
    assert (weigh(FULL), weigh(FolderScan("")), weigh(StateFolder("", {A: None}))) == (2, 0, 1)
