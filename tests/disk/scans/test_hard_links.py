"""Disks with several names: what is known of a folder stays true while only another one changes."""

import random
from array import array
from collections.abc import Callable, Mapping

import attrs
import msgspec
import pytest

from disk.hosts import Host
from hmret.disk.folders import opened
from hmret.disk.hypeman.content import is_part, part_of
from hmret.disk.hypeman.images import FolderScan
from hmret.disk.hypeman.scan import look_at_image
from hmret.disk.layout import hex_of
from hmret.disk.scans.hard_links import HardLinks
from hmret.model.images import Image, Repository
from support.builders import digest
from support.content_files import content_of, put_content, put_legacy, scan_all

ALPINE, MIRROR = "docker.io/library/alpine", "ghcr.io/mirror/alpine"
A, B = digest("a"), digest("b")


@pytest.fixture(autouse=True)
def _images(memory: Host) -> None:
    memory.folder("images")


@attrs.define(eq=False)
class World:
    """Looks again and again at a host whose folders of images do not tell of a change below them."""

    host: Host
    looks: list[tuple[str, str]] = attrs.field(factory=list)
    known: dict[str, FolderScan] = attrs.field(factory=dict)
    links: HardLinks = attrs.field(init=False)

    @links.default
    def _make(self) -> HardLinks:
        return HardLinks(self.look)

    def look(self, path: str, name: str) -> Image | None:
        self.looks.append((path, name))
        with opened(self.host.filesystem, self.host.open("images")) as fd:
            return look_at_image(self.host.filesystem, fd, None if is_part(path) else path, name)

    def amend(self) -> Mapping[str, FolderScan]:
        """Scan as the engine does: an image whose folder stayed is what it was when it was read."""
        after: dict[str, FolderScan] = {}
        for path, folder in scan_all(self.host).items():
            before = self.known.get(path)
            if before is None or before.repository is None or folder.repository is None:
                after[path] = folder
                continue
            earlier, marks = before.repository.images, marks_of(before)
            images = {
                name: earlier[name] if marks.get(name) == mark else folder.repository.images[name]
                for name, mark in marks_of(folder).items()
            }
            is_same = images.keys() == earlier.keys() and all(
                images[name] is earlier[name] for name in images
            )
            renewed = msgspec.structs.replace(
                folder, repository=msgspec.structs.replace(folder.repository, images=images)
            )
            after[path] = before if is_same else renewed
        self.known = after
        return self.links.amend(after)


@pytest.fixture
def world(memory: Host) -> World:
    return World(memory)


def marks_of(folder: FolderScan) -> Mapping[str, tuple[int, int]]:
    """Tell what a scan recognises each image by."""
    assert folder.repository is not None
    marks = array("q", folder.marks)
    return dict(zip(folder.repository.images, zip(marks[::2], marks[1::2], strict=True), strict=True))


def own_folder(repository: str, letters: str) -> str:
    return f"images/{repository}/{hex_of(digest(letters))}"


def promote(host: Host, repository: str, letters: str) -> None:
    """Give the image of a repository a second place in content, as hypeman does."""
    put_content(host, letters, name=f"{repository}:1", has_disk=False)
    host.hard_link(f"{own_folder(repository, letters)}/rootfs.erofs", f"{content_of(letters)}/rootfs.erofs")


def clear(host: Host, folder: str) -> None:
    for name in ("rootfs.erofs", "metadata.json", ""):
        if host.exists(f"{folder}/{name}".rstrip("/")):
            host.remove(f"{folder}/{name}".rstrip("/"))


def links_of(folders: Mapping[str, FolderScan], path: str, name: str) -> int:
    """Tell how many names a disk is said to have."""
    repository = folders[path].repository
    assert repository is not None
    disk = repository.images[name].shared_disk
    return 1 if disk is None else disk.links


def test_a_promotion_tells_that_the_disk_of_the_older_folder_has_two_names(world: World) -> None:
    put_legacy(world.host, ALPINE, "a")
    assert links_of(world.amend(), ALPINE, A) == 1
    promote(world.host, ALPINE, "a")
    folders = world.amend()
    assert (links_of(folders, ALPINE, A), links_of(folders, part_of(A), A)) == (2, 2)


@pytest.mark.parametrize("is_seen_first", [False, True])
def test_an_untying_tells_that_the_disk_of_content_has_one_name_left(
    world: World, is_seen_first: bool
) -> None:
    put_legacy(world.host, ALPINE, "a")
    if is_seen_first:
        world.amend()
    promote(world.host, ALPINE, "a")
    assert links_of(world.amend(), part_of(A), A) == 2
    clear(world.host, own_folder(ALPINE, "a"))
    assert links_of(world.amend(), part_of(A), A) == 1


def test_content_that_goes_leaves_the_older_folder_a_disk_with_one_name(world: World) -> None:
    put_legacy(world.host, ALPINE, "a")
    promote(world.host, ALPINE, "a")
    assert links_of(world.amend(), ALPINE, A) == 2
    clear(world.host, content_of("a"))
    assert links_of(world.amend(), ALPINE, A) == 1


def test_what_an_earlier_engine_knew_is_put_right_at_the_first_look(world: World) -> None:
    put_legacy(world.host, ALPINE, "a")
    world.amend()
    promote(world.host, ALPINE, "a")
    world.amend()
    later = World(world.host, known=world.known)
    assert links_of(later.amend(), ALPINE, A) == 2


def test_what_was_put_right_stays_so_while_something_else_changes_in_its_folder(world: World) -> None:
    put_legacy(world.host, ALPINE, "a")
    world.amend()
    promote(world.host, ALPINE, "a")
    first = world.amend()
    put_legacy(world.host, ALPINE, "b")
    assert links_of(world.amend(), ALPINE, A) == 2
    assert world.amend()[ALPINE] is not first[ALPINE]
    assert world.amend()[ALPINE] is world.amend()[ALPINE]


def test_what_is_consistent_is_handed_on_as_it_is_and_not_looked_at(world: World) -> None:
    put_legacy(world.host, ALPINE, "a")
    promote(world.host, ALPINE, "a")
    put_content(world.host, "b")
    folders = world.amend()
    assert folders is world.known
    assert world.looks == []


def test_a_name_that_lies_elsewhere_is_looked_for_only_when_something_changes(world: World) -> None:
    put_content(world.host, "a")
    world.host.hard_link(f"{content_of('a')}/rootfs.erofs", "backup/disk")
    for _ in range(3):
        assert links_of(world.amend(), part_of(A), A) == 2
    assert world.looks == [(part_of(A), A)]


def test_a_folder_that_is_read_again_counts_as_it_was_read(world: World) -> None:
    put_legacy(world.host, ALPINE, "a")
    world.amend()
    promote(world.host, ALPINE, "a")
    world.amend()
    del world.known[ALPINE]
    folders = world.amend()
    assert links_of(folders, ALPINE, A) == 2
    assert folders[ALPINE] is world.known[ALPINE]


def test_an_image_that_has_gone_while_it_was_looked_at_stays_what_it_was() -> None:
    image = Image(A, "ready", disk_bytes=4096)
    linked = FolderScan(part_of(A), Repository("", {A: image}, {}))
    links = HardLinks(lambda _path, _name: None)
    assert links.amend({part_of(A): linked})[part_of(A)] is linked


def add_own(host: Host, chance: random.Random) -> None:
    letters = chance.choice("ab")
    folder = own_folder(chance.choice((ALPINE, MIRROR)), letters)
    if not host.exists(folder):
        put_legacy(host, folder.removeprefix("images/").rpartition("/")[0], letters)


def add_content(host: Host, chance: random.Random) -> None:
    letters, name = chance.choice("ab"), chance.choice((ALPINE, MIRROR))
    if host.exists(content_of(letters)):
        return
    if host.exists(own_folder(name, letters)):
        promote(host, name, letters)
    else:
        put_content(host, letters)


def drop(host: Host, chance: random.Random) -> None:
    letters = chance.choice("ab")
    clear(
        host, chance.choice((content_of(letters), own_folder(ALPINE, letters), own_folder(MIRROR, letters)))
    )


STEPS: tuple[Callable[[Host, random.Random], None], ...] = (add_own, add_content, drop)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_known_is_what_a_fresh_scan_finds(world: World, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(60):
        for _ in range(chance.choice((1, 1, 2))):
            chance.choice(STEPS)(world.host, chance)
        found, fresh = world.amend(), scan_all(world.host)
        for path, folder in fresh.items():
            known = found[path].repository
            assert (None if known is None else known.images) == (
                None if folder.repository is None else folder.repository.images
            )
