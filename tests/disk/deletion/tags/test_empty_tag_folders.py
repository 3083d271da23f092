"""Folders of tags that deletions have left empty: removed once they have been so for ten minutes, and not before."""

import errno

import pytest

from disk.hosts import Host
from hmret.disk.deletion.tags.tag_folders import remove_empty_tag_folders
from hmret.disk.layout import IMAGES, REPOSITORIES
from hmret.model.times import SECOND
from support.builders import START_NS

ALPINE = f"{REPOSITORIES}/docker.io/library/alpine"
TEN_MINUTES_NS = 600 * SECOND


def make_folder(host: Host, path: str = ALPINE, *, age_ns: int = TEN_MINUTES_NS) -> None:
    host.folder(f"{IMAGES}/{path}")
    host.memory.set_mtime(f"/data/{IMAGES}/{path}", START_NS - age_ns)


def remove(host: Host, *paths: str) -> None:
    remove_empty_tag_folders(host.filesystem, host.data_fd, paths or (ALPINE,))


def test_one_that_has_been_empty_for_ten_minutes_goes_and_the_one_above_it_stays(memory: Host) -> None:
    """That one has just become empty, and has its own ten minutes."""
    make_folder(memory)
    remove(memory)
    assert memory.names(IMAGES) == [
        REPOSITORIES,
        f"{REPOSITORIES}/docker.io",
        f"{REPOSITORIES}/docker.io/library",
    ]


def test_one_that_has_not_been_empty_for_so_long_stays(memory: Host) -> None:
    make_folder(memory, age_ns=TEN_MINUTES_NS - 1)
    remove(memory)
    assert memory.exists(f"{IMAGES}/{ALPINE}")


def test_one_that_hides_a_tag_of_the_older_layout_stays(memory: Host) -> None:
    hidden, plain = f"{ALPINE}/v1", f"{ALPINE}/v2"
    make_folder(memory, hidden)
    make_folder(memory, plain)
    older = ALPINE.removeprefix(f"{REPOSITORIES}/")
    memory.link(f"{IMAGES}/{older}/v1", "a" * 64)
    memory.folder(f"{IMAGES}/{older}/v2")
    remove(memory, hidden, plain)
    assert memory.exists(f"{IMAGES}/{hidden}")
    assert not memory.exists(f"{IMAGES}/{plain}")


def test_one_of_which_it_is_not_known_whether_it_hides_a_tag_stays(memory: Host) -> None:
    make_folder(memory, f"{ALPINE}/v1")
    older = f"{IMAGES}/{ALPINE.removeprefix(f'{REPOSITORIES}/')}"
    memory.folder(older)
    memory.memory.deny(f"/data/{older}", errno.EIO, call="open")
    remove(memory, f"{ALPINE}/v1")
    assert memory.exists(f"{IMAGES}/{ALPINE}/v1")


@pytest.mark.parametrize("name", ["latest", ".tag-stage-7"])
def test_one_in_which_something_has_come_since_the_scan_stays(memory: Host, name: str) -> None:
    make_folder(memory)
    if name == "latest":
        memory.link(f"{IMAGES}/{ALPINE}/{name}", "gone")
    else:
        memory.folder(f"{IMAGES}/{ALPINE}/{name}")
    memory.memory.set_mtime(f"/data/{IMAGES}/{ALPINE}", START_NS - TEN_MINUTES_NS)
    remove(memory)
    assert memory.exists(f"{IMAGES}/{ALPINE}/{name}")


def test_a_link_in_its_place_is_neither_followed_nor_removed(host: Host) -> None:
    host.folder("elsewhere")
    host.link(f"{IMAGES}/{ALPINE}", "../../../../../elsewhere")
    host.link(f"{IMAGES}/{REPOSITORIES}/ghcr.io", "../../elsewhere")
    remove(host, ALPINE, f"{REPOSITORIES}/ghcr.io/app")
    assert host.exists("elsewhere")
    assert host.exists(f"{IMAGES}/{ALPINE}")


def test_one_that_cannot_be_removed_does_not_keep_the_others(memory: Host) -> None:
    other = f"{REPOSITORIES}/ghcr.io/app"
    make_folder(memory)
    make_folder(memory, other)
    memory.memory.deny(f"/data/{IMAGES}/{ALPINE}", errno.EACCES, call="rmdir")
    remove(memory, ALPINE, f"{REPOSITORIES}/quay.io/gone", other)
    assert memory.exists(f"{IMAGES}/{ALPINE}")
    assert not memory.exists(f"{IMAGES}/{other}")
