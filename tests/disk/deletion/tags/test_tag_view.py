"""Who links to which digest below `images/repositories/` at one moment, and what of that has to be listed for it."""

import errno
import os
import random

import pytest

from disk.hosts import Host
from hmret.disk.deletion.tags.tag_view import TagFolders, TagSnapshot, staged_in
from hmret.disk.folders import opened
from hmret.disk.hypeman.scan import FolderScan
from hmret.disk.layout import REPOSITORIES
from hmret.model.times import SECOND
from support.builders import DATA, FakeClock, digest
from support.content_files import put_link, scan_all
from support.memory_filesystem import Call

ALPINE, MIRROR, KERNEL = "docker.io/library/alpine", "ghcr.io/mirror/alpine", "ghcr.io/kernel/x"
A, B = digest("a"), digest("b")


@pytest.fixture(autouse=True)
def _images(memory: Host) -> None:
    memory.folder("images")


def scanned(host: Host, clock: FakeClock) -> TagFolders:
    """Scan, once time stamps tell."""
    clock.wall_ns += 10 * SECOND
    return TagFolders(host.filesystem, folders_of_tags(host))


def folders_of_tags(host: Host) -> dict[str, FolderScan]:
    return {path: folder for path, folder in scan_all(host).items() if path.startswith(REPOSITORIES)}


def look(host: Host, view: TagFolders) -> TagSnapshot:
    with opened(host.filesystem, host.open("images")) as fd:
        return view.refresh(fd)


def listed(host: Host) -> list[str]:
    """Return the list to which every folder that is listed from now on is added."""
    found: list[str] = []

    def note(call: Call) -> None:
        if call.name == "scandir":
            found.append(call.path.removeprefix(f"{DATA}/images/"))

    host.memory.before = note
    return found


def stage(host: Host, repository: str, tag: str, letters: str, name: str = ".tag-stage-1") -> str:
    """Make a tag in the folder from which it is about to be renamed to its place."""
    up = "../" * (repository.count("/") + 2)
    path = f"images/repositories/{repository}/{name}"
    host.link(f"{path}/{tag}", f"{up}content/{digest(letters).removeprefix('sha256:')}")
    return path


def test_without_tags_nobody_links_to_anything(memory: Host) -> None:
    found = look(memory, TagFolders(memory.filesystem, {}))
    assert found.repositories(A, [ALPINE]) == set()
    assert found.tags(ALPINE, A) == ()


def test_what_has_not_changed_is_not_listed(memory: Host, clock: FakeClock) -> None:
    put_link(memory, ALPINE, "latest", "a")
    put_link(memory, ALPINE, "3.20", "a")
    put_link(memory, MIRROR, "latest", "b")
    view = scanned(memory, clock)
    names = listed(memory)
    found = look(memory, view)
    assert names == []
    assert found.tags(ALPINE, A) == ("3.20", "latest")
    assert found.repositories(A, [ALPINE, MIRROR, KERNEL]) == {ALPINE}
    assert found.repositories(B, []) == set()


def test_only_what_has_changed_is_listed_and_for_the_first_look_after_alone(
    memory: Host, clock: FakeClock
) -> None:
    put_link(memory, ALPINE, "latest", "a")
    put_link(memory, MIRROR, "latest", "b")
    view = scanned(memory, clock)
    put_link(memory, MIRROR, "new", "a")
    clock.wall_ns += 10 * SECOND
    names = listed(memory)
    for _ in range(2):
        found = look(memory, view)
        assert set(names) == {f"repositories/{MIRROR}"}
        names_then = list(names)
        assert found.repositories(A, [ALPINE]) == {ALPINE, MIRROR}
        assert found.tags(MIRROR, A) == ("new",)
        assert found.repositories(B, [MIRROR]) == {MIRROR}
    assert names == names_then


def test_where_stamps_tell_at_once_what_has_just_changed_is_listed_once(
    memory: Host, clock: FakeClock
) -> None:
    put_link(memory, ALPINE, "latest", "a")
    view = scanned(memory, clock)
    clock.wall_ns += 1
    put_link(memory, ALPINE, "new", "b")
    names = listed(memory)
    # The next change could have the same stamp.
    look(memory, view)
    clock.wall_ns += 1
    look(memory, view)
    assert names == [f"repositories/{ALPINE}"] * 2
    assert look(memory, view).tags(ALPINE, B) == ("new",)
    assert len(names) == 2
    put_link(memory, ALPINE, "newer", "b")
    assert look(memory, view).tags(ALPINE, B) == ("new", "newer")


def test_a_look_that_fails_leaves_what_it_has_not_seen_to_the_next(memory: Host, clock: FakeClock) -> None:
    put_link(memory, ALPINE, "latest", "a")
    put_link(memory, MIRROR, "latest", "a")
    view = scanned(memory, clock)
    look(memory, view)
    put_link(memory, ALPINE, "new", "b")
    put_link(memory, "quay.io/new/one", "latest", "b")
    put_link(memory, MIRROR, "new", "b")
    memory.memory.deny(f"{DATA}/images/repositories/{MIRROR}", errno.EIO, call="scandir")
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        look(memory, view)
    memory.memory.allow(f"{DATA}/images/repositories/{MIRROR}")
    found = look(memory, view)
    assert found.repositories(B, []) == {ALPINE, MIRROR, "quay.io/new/one"}


def test_a_repository_that_is_new_is_found(memory: Host, clock: FakeClock) -> None:
    put_link(memory, ALPINE, "latest", "a")
    view = scanned(memory, clock)
    put_link(memory, "quay.io/new/one", "latest", "a")
    assert look(memory, view).repositories(A, [ALPINE]) == {ALPINE, "quay.io/new/one"}


def test_tags_that_have_gone_or_moved_lead_nowhere_any_more(memory: Host, clock: FakeClock) -> None:
    put_link(memory, ALPINE, "latest", "a")
    put_link(memory, MIRROR, "latest", "a")
    put_link(memory, KERNEL, "latest", "a")
    view = scanned(memory, clock)
    put_link(memory, ALPINE, "latest", "b")
    memory.remove(f"images/repositories/{MIRROR}/latest")
    memory.memory.remove(f"{DATA}/images/repositories/ghcr.io/kernel")
    found = look(memory, view)
    assert found.repositories(A, [ALPINE, MIRROR, KERNEL]) == set()
    assert found.repositories(B, [ALPINE, MIRROR, KERNEL]) == {ALPINE}


def test_with_nothing_known_everything_is_listed(memory: Host) -> None:
    put_link(memory, ALPINE, "latest", "a")
    put_link(memory, KERNEL, "latest", "b")
    found = look(memory, TagFolders(memory.filesystem, {}))
    assert found.repositories(A, []) == {ALPINE}
    assert found.repositories(B, []) == {KERNEL}


def test_what_changed_a_moment_before_the_scan_is_listed_again(memory: Host, clock: FakeClock) -> None:
    put_link(memory, ALPINE, "latest", "a")
    view = TagFolders(memory.filesystem, folders_of_tags(memory))
    put_link(memory, ALPINE, "new", "b")
    assert look(memory, view).repositories(B, [ALPINE]) == {ALPINE}
    clock.wall_ns += 10 * SECOND


@pytest.mark.parametrize("call", [None, "scandir"])
def test_a_folder_that_cannot_be_listed_is_an_error(memory: Host, clock: FakeClock, call: str | None) -> None:
    put_link(memory, ALPINE, "latest", "a")
    view = scanned(memory, clock)
    put_link(memory, ALPINE, "new", "a")
    memory.memory.deny(f"{DATA}/images/repositories/{ALPINE}", errno.EACCES, call=call)
    with pytest.raises(PermissionError):
        look(memory, view)


@pytest.mark.parametrize("kind", ["link", "file"])
def test_repositories_that_are_no_folder_any_more_are_an_error(
    memory: Host, clock: FakeClock, kind: str
) -> None:
    put_link(memory, ALPINE, "latest", "a")
    view = scanned(memory, clock)
    memory.memory.move(f"{DATA}/images/repositories", f"{DATA}/elsewhere")
    if kind == "link":
        memory.link("images/repositories", "../elsewhere")
    else:
        memory.write("images/repositories")
    with pytest.raises(OSError, match=os.strerror(errno.ENOTDIR)):
        look(memory, view)


# Tags that are being made.


def test_a_tag_that_is_being_made_counts_as_made(memory: Host, clock: FakeClock) -> None:
    put_link(memory, ALPINE, "latest", "b")
    view = scanned(memory, clock)
    stage(memory, ALPINE, "next", "a")
    found = look(memory, view)
    assert found.repositories(A, []) == {ALPINE}
    assert list(found.staged(A)) == [(ALPINE, "next")]
    assert found.tags(ALPINE, A) == ()


def test_a_tag_that_is_made_and_still_stands_where_it_was_made_is_not_being_made(
    memory: Host, clock: FakeClock
) -> None:
    view = scanned(memory, clock)
    stage(memory, ALPINE, "latest", "a")
    put_link(memory, ALPINE, "latest", "a")
    assert list(look(memory, view).staged(A)) == []


def test_what_was_left_behind_a_minute_ago_counts_no_more(memory: Host, clock: FakeClock) -> None:
    stage(memory, ALPINE, "latest", "a")
    clock.wall_ns += 60 * SECOND
    assert look(memory, TagFolders(memory.filesystem, {})).repositories(A, []) == {ALPINE}
    clock.wall_ns += 1
    assert look(memory, TagFolders(memory.filesystem, {})).repositories(A, []) == set()


def test_a_folder_in_which_a_tag_is_made_is_listed_at_every_look(memory: Host, clock: FakeClock) -> None:
    path = stage(memory, ALPINE, "one", "b")
    view = scanned(memory, clock)
    look(memory, view)
    memory.link(f"{path}/two", f"../../../../content/{'a' * 64}")
    assert look(memory, view).repositories(A, []) == {ALPINE}


def test_what_stands_there_and_is_no_tag_is_passed_over(memory: Host) -> None:
    path = stage(memory, ALPINE, "latest", "a")
    memory.link(f"{path}/odd", "elsewhere")
    memory.write(f"{path}/file")
    memory.folder(f"{path}/folder")
    memory.folder(f"images/repositories/{ALPINE}/.tag-stage-empty")
    memory.write(f"images/repositories/{ALPINE}/.tag-stage-file")
    folder = f"images/repositories/{ALPINE}"
    with opened(memory.filesystem, memory.open(folder)) as fd:
        assert list(staged_in(memory.filesystem, fd, folder)) == [("latest", A)]


# Whatever happens.


@pytest.mark.parametrize("seed", range(10))
def test_a_look_after_any_changes_finds_what_one_that_knows_nothing_finds(
    memory: Host, clock: FakeClock, seed: int
) -> None:
    chance = random.Random(seed)
    names = [ALPINE, MIRROR, KERNEL, f"{ALPINE}/deeper"]
    for name in names:
        put_link(memory, name, "latest", "a")
    view = scanned(memory, clock)
    for _ in range(30):
        name, tag = chance.choice(names), chance.choice(["latest", "1"])
        path = f"images/repositories/{name}/{tag}"
        match chance.randrange(5):
            case 0:
                if memory.exists(path):
                    memory.remove(path)
            case 1:
                if memory.exists(f"images/repositories/{name}"):
                    memory.memory.remove(f"{DATA}/images/repositories/{name}")
            case 2:
                clock.wall_ns += 10 * SECOND
            case _:
                put_link(memory, name, tag, chance.choice("ab"))
        found, fresh = look(memory, view), look(memory, TagFolders(memory.filesystem, {}))
        for one in (A, B):
            assert found.repositories(one, names) == fresh.repositories(one, names)
            assert [found.tags(name, one) for name in names] == [fresh.tags(name, one) for name in names]
