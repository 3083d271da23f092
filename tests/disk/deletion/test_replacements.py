"""What has come in the place of a retired image, and what becomes of it: each look, and each step of a mending."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import pytest

from disk.deletion.recovery.test_units_in_quarantine import quarantine
from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.deletion.putting_back import mend
from hmret.disk.deletion.recovery.quarantine import load_held
from hmret.disk.deletion.recovery.quarantine_records import HeldImage
from hmret.disk.deletion.replacements import Found, Replacement, find_replacement, heal
from hmret.disk.deletion.trash.intents import TrashEntry, find_entries
from hmret.disk.folders import let_go
from hmret.disk.layout import CONTENT
from support.builders import data_fd_of, digest
from support.memory_filesystem import MemoryFilesystem
from support.shared_unit import ALPINE, DISKS, HEX, IMAGES_TOP, OTHER, TRASH_TOP, make_shared

GHOST = f"{IMAGES_TOP}/{CONTENT}/{HEX}"
PARENT = f"images/{CONTENT}"


@attrs.frozen
class Retired:
    """An image in the trash."""

    filesystem: MemoryFilesystem
    held: HeldImage
    places: list[TrashEntry]
    folders: OpenFolders

    @property
    def content(self) -> TrashEntry:
        """The folder of its content."""
        return max(self.places, key=lambda place: place.number)

    def path_of(self, place: TrashEntry, name: str) -> str:
        return f"/data/{place.folder}/{place.name}/{name}"

    def find(self) -> Found:
        return find_replacement(self.folders, self.held, self.places)

    def write_metadata(self, folder: str, status: str, **fields: object) -> None:
        """Write metadata that differs from that of the content in nothing else."""
        metadata = {"name": f"{ALPINE}:3.20", "digest": digest("a"), "status": status, "size_bytes": 4096}
        self.filesystem.write_file(f"{folder}/metadata.json", json.dumps(metadata | fields).encode())


@contextmanager
def retired(disks: str = DISKS[0]) -> Iterator[Retired]:
    filesystem = make_shared(disks)
    quarantine(filesystem)
    filesystem.sync()
    fd = data_fd_of(filesystem)
    (held,) = load_held(filesystem, fd).held
    folders = OpenFolders(filesystem, fd)
    try:
        yield Retired(filesystem, held, find_entries(filesystem, fd, held), folders)
    finally:
        filesystem.before = None
        folders.close()
        let_go(filesystem, fd)


# Found.


def test_where_nothing_has_come_nothing_has_replaced_it() -> None:
    with retired() as image:
        assert image.find() == Found(Replacement.NOTHING)


def test_ready_metadata_without_a_disk_is_a_ghost() -> None:
    with retired() as image:
        image.write_metadata(GHOST, "ready")
        assert image.find() == Found(Replacement.GHOST, PARENT)


@pytest.mark.parametrize("status", ["pending", "pulling", "failed"])
def test_metadata_of_a_pull_is_left_alone(status: str) -> None:
    with retired() as image:
        image.write_metadata(GHOST, status, name=f"{OTHER}:1")
        assert image.find() == Found(Replacement.LEAVE_ALONE)


def test_content_that_is_whole_is_left_alone() -> None:
    with retired() as image:
        image.write_metadata(GHOST, "ready")
        image.filesystem.write_file(f"{GHOST}/rootfs.ext4", bytes(4096))
        assert image.find() == Found(Replacement.LEAVE_ALONE)


def own_metadata(image: Retired) -> dict[str, object]:
    """Return the metadata of the owner's own folder, which a promotion reads."""
    (own,) = [place for place in image.places if place.copy.repository]
    for name in ("metadata.json", "metadata.json.hmret-hidden"):
        path = image.path_of(own, name)
        if image.filesystem.exists(path):
            found = json.loads(image.filesystem.read_file(path))
            assert isinstance(found, dict)
            return found
    raise AssertionError("it has metadata")


@pytest.mark.parametrize(
    ("change", "is_one"),
    [
        ({"status": "converting"}, True),
        ({"status": "ready"}, False),
        ({"status": "converting", "name": "ghcr.io/third/thing:1"}, False),
        ({"status": "converting", "more": 1}, False),
    ],
    ids=["the status alone", "nothing", "the name too", "something more"],
)
def test_what_differs_from_the_owners_folder_in_its_status_alone_is_its_promotion(
    change: dict[str, object], is_one: bool
) -> None:
    with retired() as image:
        content = json.dumps(own_metadata(image) | change).encode()
        image.filesystem.write_file(f"{GHOST}/metadata.json", content)
        found = image.find().replacement
        assert (found is Replacement.PROMOTION) is is_one
        if is_one:
            # With a disk it needs nothing of what is in the trash.
            image.filesystem.write_file(f"{GHOST}/rootfs.ext4", bytes(4096))
            assert image.find().replacement is Replacement.LEAVE_ALONE


@pytest.mark.parametrize("content", [b"{", b""])
def test_metadata_that_cannot_be_read_is_nobodys_promotion(content: bytes) -> None:
    with retired() as image:
        image.filesystem.write_file(f"{GHOST}/metadata.json", content)
        assert image.find() == Found(Replacement.LEAVE_ALONE)


# Healed.


@pytest.mark.parametrize("with_links", [False, True])
def test_a_ghost_gets_the_disk_and_what_else_there_is_but_nothing_over_what_it_has(with_links: bool) -> None:
    with retired() as image:
        place, filesystem = image.content, image.filesystem
        filesystem.write_file(image.path_of(place, "manifest.json"), b"old")
        filesystem.write_file(image.path_of(place, "later.bin"), b"later")
        filesystem.write_file(image.path_of(place, "folder/file"), b"inside")
        image.write_metadata(GHOST, "ready", name=f"{OTHER}:new")
        filesystem.write_file(f"{GHOST}/manifest.json", b"new")
        metadata = filesystem.read_file(f"{GHOST}/metadata.json")
        assert heal(image.folders, place, PARENT, image.held.links if with_links else ())
        assert filesystem.exists(f"{GHOST}/rootfs.ext4")
        assert filesystem.read_file(f"{GHOST}/metadata.json") == metadata
        assert filesystem.read_file(f"{GHOST}/manifest.json") == b"new"
        assert filesystem.read_file(f"{GHOST}/later.bin") == b"later"
        assert filesystem.read_file(image.path_of(place, "folder/file")) == b"inside"
        assert filesystem.exists(f"{IMAGES_TOP}/repositories/{OTHER}/1") is with_links


def test_a_ghost_that_was_healed_has_its_disk_after_a_power_loss() -> None:
    with retired() as image:
        image.write_metadata(GHOST, "ready")
        image.filesystem.sync()
        assert heal(image.folders, image.content, PARENT)
        for seed in range(20):
            after = image.filesystem.after_power_loss(random.Random(seed))
            assert after.exists(f"{GHOST}/rootfs.ext4"), seed
            assert not after.exists(image.path_of(image.content, "rootfs.ext4")), seed


@pytest.mark.parametrize("name", ["rootfs.ext4", "rootfs.erofs"])
def test_a_ghost_that_has_a_disk_by_now_is_left_as_it_is(name: str) -> None:
    with retired() as image:
        image.write_metadata(GHOST, "ready")
        image.filesystem.write_file(f"{GHOST}/{name}", b"newer")
        image.filesystem.write_file(image.path_of(image.content, "manifest.json"), b"old")
        before = image.filesystem.tree("/data")
        assert not heal(image.folders, image.content, PARENT, image.held.links)
        assert not mend(
            image.folders, image.held, image.places, Found(Replacement.GHOST, PARENT), image.held.links
        )
        assert image.filesystem.tree("/data") == before


def test_a_ghost_whose_image_has_lost_its_disk_is_left_as_it_is() -> None:
    """Its erasing had begun."""
    with retired() as image:
        image.write_metadata(GHOST, "ready")
        image.filesystem.remove(image.path_of(image.content, "rootfs.ext4"))
        before = image.filesystem.tree("/data")
        assert not heal(image.folders, image.content, PARENT, image.held.links)
        assert not mend(image.folders, image.held, image.places, Found(Replacement.GHOST, PARENT))
        assert image.filesystem.tree("/data") == before


def test_a_ghost_on_another_file_system_is_left_as_it_is() -> None:
    """A rename cannot bring the disk there, and no tag is made for what stays without."""
    with retired() as image:
        image.filesystem.mount(GHOST)
        image.write_metadata(GHOST, "ready")
        before = image.filesystem.tree("/data")
        assert not heal(image.folders, image.content, PARENT, image.held.links)
        assert image.filesystem.tree("/data") == before


# Mended.


def test_a_promotion_gets_the_owners_folder_back_and_not_the_content() -> None:
    with retired() as image:
        content = json.dumps(own_metadata(image) | {"status": "converting"}).encode()
        image.filesystem.write_file(f"{GHOST}/metadata.json", content)
        assert mend(image.folders, image.held, image.places, image.find(), image.held.links)
        assert image.filesystem.exists(f"{IMAGES_TOP}/{ALPINE}/{HEX}/rootfs.ext4")
        assert image.filesystem.read_file(f"{GHOST}/metadata.json") == content
        assert not image.filesystem.exists(f"{GHOST}/rootfs.ext4")
        assert image.filesystem.exists(image.path_of(image.content, "rootfs.ext4"))


def test_of_nothing_in_the_trash_nothing_is_mended() -> None:
    with retired() as image:
        image.write_metadata(GHOST, "ready")
        assert not mend(image.folders, image.held, [], Found(Replacement.GHOST, PARENT))
        assert not mend(image.folders, image.held, image.places, Found(Replacement.LEAVE_ALONE))
        assert f"{TRASH_TOP}/{image.content.name}" in image.filesystem.tree(TRASH_TOP)
