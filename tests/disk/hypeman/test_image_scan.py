"""What is found below `images/`: whole images, and every oddity that is left alone."""

import errno
import json
import os
from datetime import timedelta
from functools import partial

import pytest

from disk.hosts import Host
from hmret.disk.folders import opened
from hmret.disk.hypeman.scan import (
    FolderScan,
    OddTagError,
    link_time,
    look_at_image,
    resolve_tag,
    scan_folder,
)
from hmret.model.images import Image, Repository, SharedDisk
from hmret.model.times import timedelta_nanoseconds
from support.builders import DATA, START, START_NS, digest, make_image, set_tag
from support.folders_ahead import scanned_both_ways

ALPINE = "docker.io/library/alpine"
IMAGES = f"images/{ALPINE}"
A, B = "a" * 64, "b" * 64
CREATED_NS = START_NS - timedelta_nanoseconds(timedelta(days=400))


def scan(host: Host, path: str = ALPINE) -> FolderScan:
    with opened(host.filesystem, host.open("images")) as fd:
        return scanned_both_ways(partial(scan_folder, host.filesystem, fd, path), host.filesystem, fd, path)


def image_in(host: Host, letters: str = "a") -> Image:
    repository = scan(host).repository
    assert repository is not None
    return repository.images[digest(letters)]


def metadata(host: Host, **fields: object) -> None:
    """Change the metadata of the first image; a None removes a field."""
    path = f"{IMAGES}/{A}/metadata.json"
    document = {**json.loads(host.read(path)), **fields}
    host.write(
        path, json.dumps({key: value for key, value in document.items() if value is not None}).encode()
    )


@pytest.fixture(autouse=True)
def _images(request: pytest.FixtureRequest) -> None:
    for name in ("host", "memory", "real"):
        if name in request.fixturenames:
            request.getfixturevalue(name).folder("images")


# Whole images.


def test_a_repository_has_its_images_and_tags(host: Host) -> None:
    make_image(host.place, ALPINE, "a", tags=("latest", "3.20"))
    make_image(host.place, ALPINE, "b", tags=(), status="pulling")
    set_tag(host.place, ALPINE, "dangling", "c")
    found = scan(host)
    assert found.repository is not None
    assert found.repository.name == found.path == ALPINE
    assert found.repository.images == {
        digest("a"): Image(digest("a"), "ready", CREATED_NS, 4096, 4096),
        digest("b"): Image(digest("b"), "pulling", CREATED_NS, 4096, 4096),
    }
    assert found.repository.tags == {"latest": digest("a"), "3.20": digest("a"), "dangling": digest("c")}
    assert (found.subfolders, found.error, found.unknown_folders) == ((), None, ())


def test_the_other_disk_format_is_a_disk_too(host: Host) -> None:
    make_image(host.place, ALPINE, "a", has_disk=False)
    host.write(f"{IMAGES}/{A}/rootfs.erofs", bytes(8192))
    assert (image_in(host).broken, image_in(host).disk_bytes) == (None, 8192)


def test_a_sparse_disk_takes_its_blocks_and_not_its_size(memory: Host) -> None:
    make_image(memory.place, ALPINE, "a")
    memory.memory.write_file(f"{DATA}/{IMAGES}/{A}/rootfs.ext4", size_bytes=10**10, blocks=16)
    assert image_in(memory).disk_bytes == 16 * 512


def test_a_disk_with_another_link_is_told_apart(host: Host) -> None:
    make_image(host.place, ALPINE, "a")
    host.hard_link(f"{IMAGES}/{A}/rootfs.ext4", "images/quay.io/x/rootfs.ext4")
    stat = host.filesystem.stat(f"{IMAGES}/{A}/rootfs.ext4", dir_fd=host.data_fd)
    assert image_in(host).shared_disk == SharedDisk(stat.st_dev, stat.st_ino, 2)


@pytest.mark.parametrize(
    "name",
    [f"{ALPINE}:3.20", f"{ALPINE}@{digest('a')}", "alpine", "alpine:3.20", "index.docker.io/library/alpine"],
)
def test_metadata_may_name_the_repository_in_any_form(host: Host, name: str) -> None:
    make_image(host.place, ALPINE, "a")
    metadata(host, name=name)
    assert image_in(host).broken is None


# Broken ones.


@pytest.mark.parametrize(
    ("fields", "broken"),
    [
        ({"digest": digest("b")}, "names another digest"),
        ({"digest": None}, "names another digest"),
        ({"digest": A}, "names another digest"),
        ({"name": "busybox:latest"}, "names another repository: docker.io/library/busybox"),
        ({"name": f"{ALPINE}x:latest"}, "names another repository"),
        ({"name": f"{ALPINE}:latest/x"}, "has a name that is not a reference"),
        ({"name": None}, "has a name that is not a reference"),
        ({"name": ALPINE.upper()}, "has a name that is not a reference"),
        ({"name": ["alpine"]}, "has a name that is not a reference"),
        ({"status": None}, "has no status"),
        ({"status": 1}, "has no status"),
    ],
)
def test_metadata_that_contradicts_its_folder_is_broken(
    host: Host, fields: dict[str, object], broken: str
) -> None:
    make_image(host.place, ALPINE, "a")
    metadata(host, **fields)
    assert broken in (image_in(host).broken or "")


def test_an_image_without_a_disk_is_broken(host: Host) -> None:
    make_image(host.place, ALPINE, "a", has_disk=False)
    assert (image_in(host).broken, image_in(host).disk_bytes) == ("no rootfs", 0)


@pytest.mark.parametrize("status", ["pending", "pulling", "converting", "failed"])
def test_an_image_that_is_not_ready_needs_no_disk(host: Host, status: str) -> None:
    make_image(host.place, ALPINE, "a", has_disk=False, status=status)
    assert (image_in(host).status, image_in(host).broken) == (status, None)


def test_a_link_in_the_place_of_the_disk_is_broken(host: Host) -> None:
    make_image(host.place, ALPINE, "a", has_disk=False)
    host.write("images/elsewhere", bytes(4096))
    host.link(f"{IMAGES}/{A}/rootfs.ext4", "../../../../elsewhere")
    found = image_in(host)
    assert (found.broken, found.disk_bytes) == ("rootfs.ext4 is not a regular file", 0)


def test_a_folder_in_the_place_of_the_disk_is_broken(host: Host) -> None:
    make_image(host.place, ALPINE, "a", has_disk=False)
    host.folder(f"{IMAGES}/{A}/rootfs.ext4")
    assert image_in(host).broken == "rootfs.ext4 is not a regular file"


def test_a_disk_without_metadata_is_broken(host: Host) -> None:
    host.write(f"{IMAGES}/{A}/rootfs.ext4", bytes(4096))
    found = image_in(host)
    assert (found.status, found.broken, found.disk_bytes) == ("unknown", "no metadata.json", 4096)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_metadata_that_cannot_be_read_is_broken(host: Host, content: bytes) -> None:
    make_image(host.place, ALPINE, "a")
    host.write(f"{IMAGES}/{A}/metadata.json", content)
    found = image_in(host)
    assert found.status == "unknown"
    assert (found.broken or "").startswith("metadata.json cannot be read: ")


def test_a_link_in_the_place_of_metadata_is_broken(host: Host) -> None:
    make_image(host.place, ALPINE, "a")
    host.write("images/elsewhere", host.read(f"{IMAGES}/{A}/metadata.json"))
    host.remove(f"{IMAGES}/{A}/metadata.json")
    host.link(f"{IMAGES}/{A}/metadata.json", "../../../../elsewhere")
    assert "metadata.json cannot be read" in (image_in(host).broken or "")


def test_a_pipe_in_the_place_of_metadata_is_broken_and_not_waited_for(real: Host) -> None:
    make_image(real.place, ALPINE, "a")
    real.remove(f"{IMAGES}/{A}/metadata.json")
    os.mkfifo(f"{IMAGES}/{A}/metadata.json", dir_fd=real.data_fd)
    assert "metadata.json cannot be read" in (image_in(real).broken or "")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_metadata_that_the_disk_does_not_give_is_broken(memory: Host, code: int) -> None:
    make_image(memory.place, ALPINE, "a")
    memory.memory.deny(f"{DATA}/{IMAGES}/{A}/metadata.json", code)
    assert image_in(memory).broken == f"metadata.json cannot be read: {os.strerror(code)}"


def test_a_disk_that_cannot_be_looked_at_is_broken(memory: Host) -> None:
    make_image(memory.place, ALPINE, "a")
    memory.memory.deny(f"{DATA}/{IMAGES}/{A}/rootfs.ext4", errno.EIO)
    assert image_in(memory).broken == "rootfs.ext4 cannot be examined: Input/output error"


def test_a_folder_that_cannot_be_entered_is_a_broken_image_and_not_a_repository(memory: Host) -> None:
    make_image(memory.place, ALPINE, "a")
    memory.memory.deny(f"{DATA}/{IMAGES}/{A}", errno.EACCES)
    found = scan(memory)
    assert found.repository is not None
    assert found.subfolders == ()
    assert found.repository.images[digest("a")].broken == "metadata.json cannot be read: Permission denied"


# What is no image.


def test_a_digest_folder_with_neither_metadata_nor_disk_is_a_level(host: Host) -> None:
    host.write(f"{IMAGES}/{A}/{B}/rootfs.ext4", bytes(4096))
    found = scan(host)
    assert (found.repository, found.subfolders) == (None, (f"{ALPINE}/{A}",))
    assert scan(host, f"{ALPINE}/{A}").repository is not None


def test_folders_that_can_be_a_registry_are_levels_and_others_are_told(host: Host) -> None:
    hosts = ["docker.io", "registry.local:5000", "[::1]:5000", "localhost", "Registry", "x.y"]
    others = ["a", "a_b-c", "layers"]
    for name in (*hosts, *others):
        host.folder(f"images/{name}")
    for name in (".unpack-1", ".install-2", ".tag-stage-3", "_x", "-x", "ä", "a b"):
        host.folder(f"images/{name}")
    host.write("images/file")
    host.link("images/link", "a")
    found = scan(host, "")
    assert sorted(found.subfolders) == sorted(hosts)
    assert list(found.unknown_folders) == sorted(others)


def test_below_a_registry_every_folder_is_a_level(host: Host) -> None:
    for name in ("a", "content", "repositories", "x.y", ".tag-stage-3", "_x"):
        host.folder(f"images/quay.io/{name}")
    found = scan(host, "quay.io")
    assert sorted(found.subfolders) == ["quay.io/a", "quay.io/content", "quay.io/repositories", "quay.io/x.y"]


def test_the_folders_of_todays_layout_are_read_first(host: Host) -> None:
    for name in ("content", "repositories", "layers", "quay.io"):
        host.folder(f"images/{name}/{A}")
    assert scan(host, "") == FolderScan(
        "", subfolders=("content", "repositories", "quay.io"), unknown_folders=("layers",)
    )


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_hides_a_folder_of_todays_layout_is_told_by_whoever_reads_it(host: Host, kind: str) -> None:
    for name in ("content", "repositories"):
        if kind == "file":
            host.write(f"images/{name}")
        else:
            host.link(f"images/{name}", "elsewhere")
    assert scan(host, "").subfolders == ("content", "repositories")
    for name in ("content", "repositories"):
        assert scan(host, name).error is not None


@pytest.mark.parametrize("path", ["", "a b", "docker.io/library/Upper", f"{'x/' * 200}x"])
def test_what_is_not_named_as_a_repository_has_no_images(host: Host, path: str) -> None:
    folder = f"images/{path}".rstrip("/")
    host.write(f"{folder}/{A}/rootfs.ext4")
    host.link(f"{folder}/latest", A)
    assert scan(host, path).repository is None


def test_a_digest_folder_at_the_top_is_no_registry(host: Host) -> None:
    host.write(f"images/{A}/rootfs.ext4")
    assert scan(host, "") == FolderScan("", unknown_folders=(A,))


@pytest.mark.parametrize("name", ["A" * 64, "a" * 63, "a" * 65, f"sha256:{A}"])
def test_what_only_resembles_a_digest_is_no_image(host: Host, name: str) -> None:
    host.write(f"{IMAGES}/{name}/rootfs.ext4")
    found = scan(host)
    assert (found.repository, found.subfolders) == (None, (f"{ALPINE}/{name}",))


@pytest.mark.parametrize("name", [".hidden", "-x", "a" * 129])
def test_a_link_that_cannot_be_a_tag_by_its_name_is_ignored(host: Host, name: str) -> None:
    host.link(f"{IMAGES}/{name}", A)
    assert scan(host) == FolderScan(ALPINE)


@pytest.mark.parametrize(
    "target",
    [
        f"../alpine/{A}",
        A[:-1],
        "A" * 64,
        f"./{A}",
        f"../../../../content/{A}",
        f"../../content/{A}",
        f"/data/images/content/{A}",
        f"../../../content/{A}/",
        "latest",
    ],
)
def test_a_link_of_another_form_is_no_tag_and_told(host: Host, target: str) -> None:
    host.link(f"{IMAGES}/latest", target)
    found = scan(host)
    assert found.repository == Repository(ALPINE, {}, {}, odd_tags=frozenset({"latest"}))
    assert [(event, path) for event, path, _ in found.oddities] == [("invalid_link", f"{IMAGES}/latest")]


@pytest.mark.parametrize("target", [A, f"../../../content/{A}", f"../.././../content/../content/{A}"])
def test_a_link_of_either_form_is_a_tag(host: Host, target: str) -> None:
    host.link(f"{IMAGES}/latest", target)
    assert scan(host).repository == Repository(ALPINE, {}, {"latest": digest("a")})


def test_a_file_with_the_name_of_a_tag_is_an_odd_tag(host: Host) -> None:
    host.write(f"{IMAGES}/latest")
    assert scan(host).repository == Repository(ALPINE, {}, {}, odd_tags=frozenset({"latest"}))


def test_a_link_named_as_a_digest_is_a_tag_and_never_an_image(host: Host) -> None:
    make_image(host.place, ALPINE, "a", tags=())
    host.link(f"{IMAGES}/{B}", A)
    repository = scan(host).repository
    assert repository is not None
    assert (set(repository.images), repository.tags) == ({digest("a")}, {B: digest("a")})


def test_a_folder_with_a_tag_that_cannot_be_read_counts_as_not_listed(memory: Host) -> None:
    make_image(memory.place, ALPINE, "a", tags=("latest", "3.20"))
    memory.memory.deny(f"{DATA}/{IMAGES}/latest", errno.EIO, call="readlink")
    error = scan(memory).error
    assert error is not None
    assert error.errno == errno.EIO


# Folders that cannot be listed.


@pytest.mark.parametrize("path", ["gone", "a/gone", "file", "link"])
def test_a_folder_that_has_gone_is_empty(host: Host, path: str) -> None:
    host.folder("images/a")
    host.write("images/file")
    host.link("images/link", "a")
    assert scan(host, path) == FolderScan(path)


@pytest.mark.parametrize("call", [None, "scandir"])
@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_a_folder_that_cannot_be_listed_is_told(memory: Host, code: int, call: str | None) -> None:
    make_image(memory.place, ALPINE, "a")
    memory.memory.deny(f"{DATA}/{IMAGES}", code, call=call)
    found = scan(memory)
    assert found.repository is None
    assert found.error is not None
    assert found.error.errno == code


# One image, one tag.


def test_one_image_is_looked_at_afresh(host: Host) -> None:
    make_image(host.place, ALPINE, "a")
    with opened(host.filesystem, host.open("images")) as fd:
        assert look_at_image(host.filesystem, fd, ALPINE, digest("a")) == image_in(host)
        assert look_at_image(host.filesystem, fd, ALPINE, digest("b")) is None
        assert look_at_image(host.filesystem, fd, "quay.io/gone", digest("a")) is None
        assert look_at_image(host.filesystem, fd, f"{ALPINE}/latest/metadata.json", digest("a")) is None


def test_one_tag_is_resolved_afresh(host: Host) -> None:
    make_image(host.place, ALPINE, "a")
    with opened(host.filesystem, host.open("images")) as fd:
        assert resolve_tag(host.filesystem, fd, ALPINE, "latest") == digest("a")
        assert resolve_tag(host.filesystem, fd, ALPINE, "gone") is None
        assert resolve_tag(host.filesystem, fd, "quay.io/gone", "latest") is None


def test_a_tag_of_todays_layout_counts_before_one_of_the_older(host: Host) -> None:
    make_image(host.place, ALPINE, "a")
    host.link(f"images/repositories/{ALPINE}/latest", f"../../../../content/{B}")
    with opened(host.filesystem, host.open("images")) as fd:
        assert resolve_tag(host.filesystem, fd, ALPINE, "latest") == digest("b")


@pytest.mark.parametrize("kind", ["link", "folder", "file"])
@pytest.mark.parametrize("folder", [IMAGES, f"images/repositories/{ALPINE}"])
def test_what_is_in_the_place_of_a_tag_is_an_error_and_not_absent(host: Host, kind: str, folder: str) -> None:
    match kind:
        case "link":
            host.link(f"{folder}/wrong", "../wrong")
        case "folder":
            host.folder(f"{folder}/wrong")
        case _:
            host.write(f"{folder}/wrong")
    with opened(host.filesystem, host.open("images")) as fd, pytest.raises(OddTagError):
        resolve_tag(host.filesystem, fd, ALPINE, "wrong")


@pytest.mark.parametrize("kind", ["link", "folder", "file"])
def test_what_shadows_a_tag_of_the_older_layout_is_an_error(host: Host, kind: str) -> None:
    make_image(host.place, ALPINE, "a")
    where = f"images/repositories/{ALPINE}/latest"
    match kind:
        case "link":
            host.link(where, "../wrong")
        case "folder":
            host.folder(where)
        case _:
            host.write(where)
    with opened(host.filesystem, host.open("images")) as fd, pytest.raises(OddTagError):
        resolve_tag(host.filesystem, fd, ALPINE, "latest")


def test_the_time_of_a_link_is_its_own(memory: Host) -> None:
    make_image(memory.place, ALPINE, "a", created_at=START)
    memory.memory.set_mtime(f"{DATA}/{IMAGES}/latest", 12345)
    with opened(memory.filesystem, memory.open("images")) as fd:
        assert link_time(memory.filesystem, fd, ALPINE, "latest") == 12345
        assert link_time(memory.filesystem, fd, ALPINE, "gone") is None
