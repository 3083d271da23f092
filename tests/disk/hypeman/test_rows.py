"""From folders to rows: which repository has which digest, and which folder each row stands for."""

import errno
import random
from collections.abc import Callable, Mapping

import msgspec
import pytest

from disk.hosts import Host
from hmret.disk.hypeman.images import FolderScan
from hmret.disk.hypeman.rows import Rows, RowsFound
from hmret.disk.layout import Layout, hex_of
from hmret.model.images import Image
from hmret.model.references import Reference
from support.builders import DATA, digest
from support.content_files import content_of, put_content, put_legacy, put_link, scan_all

ALPINE, MIRROR, KERNEL = "docker.io/library/alpine", "ghcr.io/mirror/alpine", "ghcr.io/kernel/x"
A, B = digest("a"), digest("b")


@pytest.fixture(autouse=True)
def _images(memory: Host) -> None:
    memory.folder("images")


def rows(host: Host) -> RowsFound:
    return Rows().put_together(scan_all(host))


def keys(found: RowsFound) -> set[tuple[str, str]]:
    return {(name, one) for name, repository in found.repositories.items() for one in repository.images}


def row(host: Host, repository: str = ALPINE, letters: str = "a") -> Image:
    return rows(host).repositories[repository].images[digest(letters)]


def unready(host: Host, repository: str = ALPINE) -> Mapping[str, str]:
    return rows(host).repositories[repository].unready


# Who owns content.


def test_the_text_of_a_digest_exists_once_however_many_tags_have_it(memory: Host) -> None:
    put_content(memory, "a")
    put_link(memory, ALPINE, "latest", "a")
    put_link(memory, ALPINE, "3.20", "a")
    put_link(memory, ALPINE, "gone", "b")
    [(name, image)] = (found := rows(memory).repositories[ALPINE]).images.items()
    assert name is found.tags["latest"] is found.tags["3.20"] is image.digest
    assert found.tags == {"latest": A, "3.20": A, "gone": B}


def test_every_repository_with_a_link_to_content_owns_it(memory: Host) -> None:
    put_content(memory, "a", name=f"{KERNEL}:1")
    put_link(memory, MIRROR, "latest", "a")
    put_link(memory, ALPINE, "latest", "a")
    put_link(memory, ALPINE, "3.20", "a")
    found = rows(memory)
    assert keys(found) == {(ALPINE, A), (MIRROR, A)}
    assert dict(found.owners) == {A: (ALPINE, MIRROR)}
    for name in (ALPINE, MIRROR):
        assert found.repositories[name].shared == {A: (ALPINE, MIRROR)}
    assert found.repositories[KERNEL].named.keys() == {A}
    assert found.repositories[KERNEL].images == {}


def test_content_of_one_owner_is_not_shared(memory: Host) -> None:
    put_content(memory, "a")
    put_link(memory, ALPINE, "latest", "a")
    found = rows(memory)
    assert found.repositories[ALPINE].shared == {}
    assert found.owners[A] == (ALPINE,)


@pytest.mark.parametrize("target", ["", "a" * 64])
def test_a_link_of_either_form_makes_an_owner(memory: Host, target: str) -> None:
    put_content(memory, "a", name=f"{KERNEL}:1")
    put_link(memory, ALPINE, "latest", "a", target=target)
    assert keys(rows(memory)) == {(ALPINE, A)}


def test_a_link_of_the_older_layout_makes_an_owner_too(memory: Host) -> None:
    put_content(memory, "a", name=f"{KERNEL}:1")
    put_link(memory, ALPINE, "latest", "a", Layout.LEGACY)
    put_link(memory, MIRROR, "latest", "a")
    assert keys(rows(memory)) == {(ALPINE, A), (MIRROR, A)}


def test_a_whole_folder_of_its_own_keeps_a_link_of_the_older_layout_from_making_an_owner(
    memory: Host,
) -> None:
    put_content(memory, "a", name=f"{KERNEL}:1")
    put_legacy(memory, ALPINE, "a")
    put_link(memory, ALPINE, "latest", "a", Layout.LEGACY)
    found = rows(memory)
    assert keys(found) == {(ALPINE, A), (KERNEL, A)}
    assert not found.repositories[ALPINE].images[A].is_content
    assert dict(found.owners) == {A: (KERNEL,)}


def test_a_folder_of_its_own_that_is_not_whole_does_not(memory: Host) -> None:
    put_content(memory, "a", name=f"{KERNEL}:1")
    put_legacy(memory, ALPINE, "a", has_disk=False)
    put_link(memory, ALPINE, "latest", "a", Layout.LEGACY)
    found = rows(memory)
    assert dict(found.owners) == {A: (ALPINE,)}
    assert found.repositories[ALPINE].images[A].is_content
    assert found.repositories[ALPINE].images[A].copy is None


@pytest.mark.parametrize("shadow", ["link", "dangling", "odd link", "file", "folder"])
def test_a_link_of_the_older_layout_that_is_shadowed_makes_no_owner(memory: Host, shadow: str) -> None:
    put_content(memory, "a", name=f"{KERNEL}:1")
    put_link(memory, ALPINE, "latest", "a", Layout.LEGACY)
    where = f"images/repositories/{ALPINE}/latest"
    match shadow:
        case "link":
            put_content(memory, "b")
            put_link(memory, ALPINE, "latest", "b")
        case "dangling":
            put_link(memory, ALPINE, "latest", "b")
        case "odd link":
            memory.link(where, "elsewhere")
        case "file":
            memory.write(where)
        case _:
            memory.folder(where)
    found = rows(memory)
    assert dict(found.owners)[A] == (KERNEL,)
    alpine = found.repositories[ALPINE]
    is_tag = shadow in ("link", "dangling")
    assert alpine.tags == ({"latest": B} if is_tag else {})
    assert alpine.odd_tags == (frozenset() if is_tag else {"latest"})


def test_without_a_link_content_is_of_the_repository_in_its_metadata(memory: Host) -> None:
    put_content(memory, "a", name="alpine:3.20")
    found = rows(memory)
    assert keys(found) == {(ALPINE, A)}
    assert found.repositories[ALPINE].named == {}


def test_without_a_link_and_a_name_content_is_nobodys(memory: Host) -> None:
    put_content(memory, "a", name="Not A Reference")
    found = rows(memory)
    assert keys(found) == set()
    assert found.ownerless == (content_of("a"),)
    assert dict(found.owners) == {A: ()}


def test_without_content_every_folder_is_a_row_and_links_make_none(memory: Host) -> None:
    put_legacy(memory, ALPINE, "a")
    put_link(memory, MIRROR, "latest", "a")
    found = rows(memory)
    assert keys(found) == {(ALPINE, A)}
    assert found.repositories[MIRROR].tags == {"latest": A}
    assert dict(found.owners) == {}


# Which folder a row stands for.


def test_an_owner_with_a_whole_folder_of_its_own_is_one_row_with_a_copy(memory: Host) -> None:
    put_content(memory, "a")
    put_legacy(memory, ALPINE, "a")
    put_link(memory, ALPINE, "latest", "a")
    found = row(memory)
    assert (found.is_content, found.copy is not None) == (True, True)
    assert found.total_bytes == 8192
    assert len(found.folders) == 2


def test_two_names_of_one_disk_count_once(memory: Host) -> None:
    put_content(memory, "a")
    put_legacy(memory, ALPINE, "a", has_disk=False)
    memory.hard_link(f"{content_of('a')}/rootfs.erofs", f"images/{ALPINE}/{hex_of(A)}/rootfs.erofs")
    put_link(memory, ALPINE, "latest", "a")
    assert row(memory).total_bytes == 4096


@pytest.mark.parametrize("status", ["pending", "pulling", "converting"])
def test_while_content_is_being_made_every_folder_of_its_digest_is_not_ready(
    memory: Host, status: str
) -> None:
    put_content(memory, "a", status=status, has_disk=False)
    put_link(memory, ALPINE, "latest", "a")
    put_legacy(memory, MIRROR, "a")
    put_legacy(memory, KERNEL, "b")
    assert row(memory).status == status
    assert not row(memory, MIRROR).is_content
    assert unready(memory, MIRROR) == {A: f"the content of this digest is {status}"}
    assert unready(memory, ALPINE) == unready(memory, KERNEL) == {}


def test_a_whole_folder_of_its_own_outlives_unfinished_content(memory: Host) -> None:
    put_content(memory, "a", status="failed", has_disk=False)
    put_link(memory, ALPINE, "latest", "a")
    assert row(memory).status == "failed"
    put_legacy(memory, ALPINE, "a")
    found = row(memory)
    assert (found.status, found.is_content, unready(memory)) == ("ready", False, {})


@pytest.mark.parametrize("is_owner", [True, False])
def test_a_folder_that_is_being_pulled_makes_its_own_row_not_ready_beside_ready_content(
    memory: Host, *, is_owner: bool
) -> None:
    put_content(memory, "a", name=f"{KERNEL}:1")
    put_legacy(memory, ALPINE, "a", status="pulling")
    put_link(memory, MIRROR, "latest", "a")
    if is_owner:
        put_link(memory, ALPINE, "latest", "a")
    assert row(memory).is_content == is_owner
    assert list(unready(memory)) == [A]
    assert unready(memory, MIRROR) == {}


def test_content_that_is_ready_without_a_disk_breaks_every_row_of_its_digest(memory: Host) -> None:
    put_content(memory, "a", has_disk=False)
    put_link(memory, ALPINE, "latest", "a")
    put_legacy(memory, MIRROR, "a")
    put_legacy(memory, KERNEL, "a")
    put_link(memory, KERNEL, "latest", "a")
    for name in (ALPINE, MIRROR, KERNEL):
        assert row(memory, name).broken, name


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_content_whose_metadata_cannot_be_read_breaks_every_row_of_its_digest(
    memory: Host, code: int
) -> None:
    put_content(memory, "a")
    memory.memory.deny(f"{DATA}/{content_of('a')}/metadata.json", code)
    put_link(memory, ALPINE, "latest", "a")
    put_legacy(memory, MIRROR, "a")
    for name in (ALPINE, MIRROR):
        assert row(memory, name).broken, name


def test_metadata_that_does_not_parse_leaves_whole_folders_as_they_are(memory: Host) -> None:
    put_content(memory, "a")
    memory.write(f"{content_of('a')}/metadata.json", b"{")
    put_link(memory, ALPINE, "latest", "a")
    put_legacy(memory, ALPINE, "a")
    put_legacy(memory, MIRROR, "a")
    put_link(memory, KERNEL, "latest", "a")
    for name in (ALPINE, MIRROR):
        found = row(memory, name)
        assert (found.status, found.broken, found.is_content) == ("ready", None, False)
    assert row(memory, KERNEL).broken


# What images need of each other.


def test_an_image_that_another_needs_is_referenced_in_either_layout(memory: Host) -> None:
    base = f"docker.io/library/base@{digest('f')}"
    put_content(memory, "a", machine={"base": base})
    put_legacy(memory, ALPINE, "b", machine={"base": base})
    assert rows(memory).bases == (
        Reference(f"image/{A}", resolved_image=base),
        Reference(f"image/{B}", resolved_image=base),
    )


# Again and again.


LETTERS = ("a", "ab", "b")
NAMES = (ALPINE, MIRROR, KERNEL, f"{ALPINE}/deeper")


def clear(host: Host, path: str) -> None:
    if host.exists(path):
        host.remove(path)


def change_content(host: Host, chance: random.Random) -> None:
    letters = chance.choice(LETTERS)
    clear(host, content_of(letters))
    if chance.random() < 0.7:
        put_content(
            host,
            letters,
            name=chance.choice([*NAMES, "Not A Reference"]),
            status=chance.choice(["ready", "ready", "ready", "pulling", "failed"]),
            has_disk=chance.random() < 0.8,
            **({"machine": {"base": f"base@{digest('f')}"}} if chance.random() < 0.3 else {}),
        )


def change_legacy(host: Host, chance: random.Random) -> None:
    letters, name = chance.choice(LETTERS), chance.choice(NAMES)
    clear(host, f"images/{name}/{hex_of(digest(letters))}")
    if chance.random() < 0.6:
        status = chance.choice(["ready", "ready", "pulling", "failed"])
        put_legacy(host, name, letters, status=status, has_disk=chance.random() < 0.8)


def change_tag(host: Host, chance: random.Random) -> None:
    name, tag = chance.choice(NAMES), chance.choice(["latest", "1"])
    layout = chance.choice(list(Layout))
    path = f"images/{name}/{tag}" if layout is Layout.LEGACY else f"images/repositories/{name}/{tag}"
    clear(host, path)
    match chance.randrange(8):
        case 0 | 1:
            pass
        case 2:
            host.link(path, "elsewhere")
        case 3:
            host.folder(path)
        case 4:
            host.write(path)
        case _:
            put_link(host, name, tag, chance.choice(LETTERS), layout)


def change_repository(host: Host, chance: random.Random) -> None:
    top = chance.choice(["images/content", "images/repositories", *(f"images/{name}" for name in NAMES)])
    clear(host, top)


CHANGES: list[Callable[[Host, random.Random], None]] = [
    *[change_content] * 4,
    *[change_legacy] * 4,
    *[change_tag] * 8,
    change_repository,
]


def again(known: Mapping[str, FolderScan], found: Mapping[str, FolderScan]) -> dict[str, FolderScan]:
    """Use what is known again where it is what was found, as a scan does: folders, and images in those that changed."""
    after: dict[str, FolderScan] = {}
    for path, folder in found.items():
        before = known.get(path)
        if before is not None and facts(before) == facts(folder):
            after[path] = before
            continue
        if before is not None and before.repository is not None and folder.repository is not None:
            earlier = before.repository.images
            images = {
                name: earlier[name] if earlier.get(name) == image else image
                for name, image in folder.repository.images.items()
            }
            folder = msgspec.structs.replace(
                folder, repository=msgspec.structs.replace(folder.repository, images=images)
            )
        after[path] = folder
    return after


def facts(folder: FolderScan) -> tuple[object, ...]:
    return folder, folder.unsettled, folder.with_disk, folder.unreadable, folder.bases, str(folder.error)


@pytest.mark.parametrize("seed", range(30))
def test_rows_that_are_renewed_are_those_that_are_made_at_once(memory: Host, seed: int) -> None:
    chance = random.Random(seed)
    renewed = Rows()
    known: dict[str, FolderScan] = {}
    last: RowsFound | None = None
    owners: dict[str, tuple[str, ...]] = {}
    for _ in range(40):
        for _ in range(chance.choice([0, 1, 1, 1, 2, 5])):
            chance.choice(CHANGES)(memory, chance)
        known = again(known, scan_all(memory))
        found, expected = renewed.put_together(known), Rows().put_together(known)
        assert found.repositories == expected.repositories
        assert dict(found.owners) == dict(expected.owners)
        assert (found.bases, found.ownerless) == (expected.bases, expected.ownerless)
        if last is not None:
            # What was made before is as it was.
            assert dict(last.owners) == owners
            for name, repository in found.repositories.items():
                before = last.repositories.get(name)
                assert repository is before or repository != before
            assert found.bases is last.bases or found.bases != last.bases
        last, owners = found, dict(found.owners)
