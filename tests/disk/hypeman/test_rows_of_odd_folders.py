"""Rows of folders whose metadata cannot be read, and of tags that stand in each other's way."""

import pytest

from disk.hosts import Host
from hmret.disk.hypeman.rows import Rows, RowsFound
from hmret.disk.layout import Layout
from hmret.model.images import Image
from support.builders import digest
from support.content_files import content_of, put_content, put_legacy, put_link, scan_all

ALPINE, MIRROR = "docker.io/library/alpine", "ghcr.io/mirror/alpine"
A = digest("a")


@pytest.fixture(autouse=True)
def _images(memory: Host) -> None:
    memory.folder("images")


def rows(host: Host) -> RowsFound:
    return Rows().put_together(scan_all(host))


def row(host: Host, repository: str = ALPINE) -> Image:
    return rows(host).repositories[repository].images[A]


def hide_metadata(host: Host, folder: str) -> None:
    """Put a link in the place of metadata: it is not followed, and what it hides is not known."""
    host.remove(f"{folder}/metadata.json")
    host.link(f"{folder}/metadata.json", "elsewhere.json")


def own_folder(repository: str) -> str:
    return f"images/{repository}/{'a' * 64}"


def test_metadata_of_content_that_cannot_be_read_breaks_every_row_of_the_digest(memory: Host) -> None:
    put_content(memory, "a")
    put_link(memory, ALPINE, "latest", "a")
    put_legacy(memory, MIRROR, "a")
    hide_metadata(memory, content_of("a"))
    assert "cannot be read" in (row(memory).broken or "")
    assert "its content" in (row(memory, MIRROR).broken or "")


@pytest.mark.parametrize("has_disk", [True, False])
def test_a_whole_folder_of_its_own_stands_for_a_row_whose_content_cannot_be_read(
    memory: Host, has_disk: bool
) -> None:
    put_content(memory, "a", has_disk=has_disk)
    put_link(memory, ALPINE, "latest", "a")
    put_legacy(memory, ALPINE, "a")
    hide_metadata(memory, content_of("a"))
    found = row(memory)
    assert (found.status, found.is_content) == ("ready", False)
    assert "cannot be read" in (found.broken or "")


def test_content_with_a_disk_that_names_another_digest_hides_a_whole_folder_of_its_owner(
    memory: Host,
) -> None:
    put_content(memory, "a", digest=digest("f"))
    put_link(memory, ALPINE, "latest", "a")
    put_legacy(memory, ALPINE, "a")
    found = row(memory)
    assert found.is_content
    assert "another digest" in (found.broken or "")


def test_a_folder_of_its_own_that_cannot_be_read_breaks_the_row_of_ready_content(memory: Host) -> None:
    put_content(memory, "a")
    put_link(memory, ALPINE, "latest", "a")
    put_link(memory, MIRROR, "latest", "a")
    put_legacy(memory, ALPINE, "a")
    hide_metadata(memory, own_folder(ALPINE))
    found = rows(memory)
    assert "own folder" in (found.repositories[ALPINE].images[A].broken or "")
    assert found.repositories[MIRROR].images[A].broken is None
    assert found.owners[A] == (ALPINE, MIRROR)


def test_a_folder_of_its_own_without_metadata_leaves_the_row_of_ready_content_whole(memory: Host) -> None:
    put_content(memory, "a")
    put_link(memory, ALPINE, "latest", "a")
    put_legacy(memory, ALPINE, "a")
    memory.remove(f"{own_folder(ALPINE)}/metadata.json")
    assert row(memory).broken is None


@pytest.mark.parametrize("status", ["pulling", "ready"])
def test_content_that_a_repository_named_is_told_beside_the_folder_that_its_row_stands_for(
    memory: Host, status: str
) -> None:
    put_content(memory, "a", name=f"{ALPINE}:latest", status=status, has_disk=False)
    put_legacy(memory, ALPINE, "a")
    found = rows(memory).repositories[ALPINE]
    assert not found.images[A].is_content
    assert found.named.keys() == {A}


def test_content_that_a_repository_named_is_its_row_where_it_has_nothing_else(memory: Host) -> None:
    put_content(memory, "a", name=f"{ALPINE}:latest")
    found = rows(memory).repositories[ALPINE]
    assert found.images[A].is_content
    assert found.named == {}


@pytest.mark.parametrize("layout", list(Layout))
def test_a_link_is_in_the_way_of_a_repository_below_it_though_a_folder_hides_it_as_a_tag(
    memory: Host, layout: Layout
) -> None:
    put_content(memory, "a")
    put_link(memory, "ghcr.io/o/app", "web", "a", layout)
    if layout is Layout.LEGACY:
        memory.folder("images/repositories/ghcr.io/o/app/web")
    found = rows(memory).repositories["ghcr.io/o/app"]
    is_tag = layout is Layout.CONTENT
    assert ("web" in found.tags, "web" in found.odd_tags) == (is_tag, not is_tag)
    assert ("web" in found.folder_tags) is not is_tag
