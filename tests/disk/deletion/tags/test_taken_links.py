"""The tags of an image that goes: removed exactly as they were recorded, and put back where they are wanted."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs
import pytest

from disk.hosts import Host
from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.deletion.tags.links import (
    RemovedLinks,
    make_links,
    read_link,
    remove_made_links,
    remove_recorded_links,
    resolve_parked_tags,
)
from hmret.disk.deletion.trash.intents import Copy, Intent, Link
from hmret.disk.folders import opened
from hmret.disk.hypeman.links import tag_folder
from hmret.disk.layout import TRASH, Layout
from support.builders import DATA, digest
from support.content_files import put_link
from support.deletions import intent
from support.memory_filesystem import Call

ALPINE, MIRROR = "docker.io/library/alpine", "ghcr.io/mirror/alpine"
A, B = digest("a"), digest("b")
TODAY, OLDER = Layout.CONTENT, Layout.LEGACY
ODD = f"../../../.././../../images/content/{'a' * 64}"
"""What leads to the first digest, as no server writes it."""


@contextmanager
def folders(host: Host) -> Iterator[OpenFolders]:
    found = OpenFolders(host.filesystem, host.data_fd)
    try:
        yield found
    finally:
        found.close()


def recorded(host: Host, repository: str, tag: str, layout: Layout = TODAY) -> Link:
    """Record a tag as it is now."""
    with opened(host.filesystem, host.open(tag_folder(layout, repository))) as fd:
        found = read_link(host.filesystem, fd, layout, repository, tag)
    assert found is not None
    return found


def put(host: Host, repository: str, tag: str, letters: str = "a", layout: Layout = TODAY) -> Link:
    put_link(host, repository, tag, letters, layout)
    return recorded(host, repository, tag, layout)


def intent_of(*links: Link) -> Intent:
    return intent(ALPINE, A, 0, "batch.0", *links, copies=(Copy("", 0, "batch.0"),), is_content=True)


def nowhere(_repository: str) -> bool:
    return False


def take(host: Host, *links: Link, is_here: Callable[[str], bool] = nowhere) -> RemovedLinks:
    host.folder(TRASH)
    with folders(host) as held:
        return remove_recorded_links(held, intent_of(*links), is_here)


def make(host: Host, *links: Link) -> list[Link]:
    """Make tags; returns those that were made."""
    made: list[Link] = []
    with folders(host) as held:
        make_links(held, links, made)
    return made


def resolve(host: Host, *links: Link, is_here: Callable[[str], bool] = nowhere) -> tuple[Link, ...]:
    host.folder(TRASH)
    with folders(host) as held:
        return resolve_parked_tags(held, intent_of(*links), is_here)


def remove_made(host: Host, *links: Link, is_here: Callable[[str], bool] = nowhere) -> tuple[Link, ...]:
    with folders(host) as held:
        return remove_made_links(held, links, is_here)


def path_of(link: Link) -> str:
    return f"{link.parent}/{link.tag}"


def left_aside(host: Host) -> list[str]:
    return [
        name
        for name in [*host.names("images"), *host.names("system")]
        if ".tag" in name or "hmret-tag" in name
    ]


# Reading.


def test_a_tag_is_read_exactly_as_it_is(host: Host) -> None:
    put_link(host, ALPINE, "latest", "a", target=ODD)
    found = recorded(host, ALPINE, "latest")
    assert (found.layout, found.repository, found.tag, found.target) == (TODAY, ALPINE, "latest", ODD)
    assert found.inode > 0


@pytest.mark.parametrize("kind", ["nothing", "file", "folder"])
def test_what_is_no_link_is_no_tag(host: Host, kind: str) -> None:
    where = tag_folder(TODAY, ALPINE)
    host.folder(where)
    if kind == "file":
        host.write(f"{where}/latest")
    elif kind == "folder":
        host.folder(f"{where}/latest")
    with opened(host.filesystem, host.open(where)) as fd:
        assert read_link(host.filesystem, fd, TODAY, ALPINE, "latest") is None


def test_a_tag_that_cannot_be_read_is_an_error(memory: Host) -> None:
    put(memory, ALPINE, "latest")
    where = tag_folder(TODAY, ALPINE)
    memory.memory.deny(f"{DATA}/{where}/latest", errno.EIO, call="readlink")
    with opened(memory.filesystem, memory.open(where)) as fd, pytest.raises(OSError, match="Input/output"):
        read_link(memory.filesystem, fd, TODAY, ALPINE, "latest")


# Taking.


def test_the_tags_of_an_image_go_in_both_layouts_and_others_stay(host: Host) -> None:
    links = [
        put(host, ALPINE, "latest", layout=OLDER),
        put(host, ALPINE, "latest"),
        put(host, MIRROR, "1"),
        put(host, MIRROR, "old", layout=OLDER),
    ]
    stays = put(host, ALPINE, "other", "b")
    assert take(host, *links) == RemovedLinks(tuple(links), ())
    assert not any(host.exists(path_of(link)) for link in links)
    assert recorded(host, ALPINE, "other") == stays
    assert left_aside(host) == []


def test_a_tag_whose_repository_has_the_digest_again_stays(host: Host) -> None:
    links = put(host, ALPINE, "latest"), put(host, MIRROR, "latest")
    assert take(host, *links, is_here=lambda name: name == ALPINE) == RemovedLinks((links[1],), ())
    assert recorded(host, ALPINE, "latest") == links[0]
    assert not host.exists(path_of(links[1]))


@pytest.mark.parametrize(
    "change", ["moved", "set again", "of another form", "a file", "a folder", "gone", "no folder"]
)
def test_a_tag_that_is_not_the_recorded_one_stays_as_it_is(memory: Host, change: str) -> None:
    link = put(memory, ALPINE, "latest")
    path = path_of(link)
    match change:
        case "moved":
            put_link(memory, ALPINE, "latest", "b")
        case "set again":
            put_link(memory, ALPINE, "latest", "a")
        case "of another form":
            put_link(memory, ALPINE, "latest", "a", target=ODD)
        case "no folder":
            memory.memory.remove(f"{DATA}/{link.parent}")
        case _:
            memory.remove(path)
    if change == "a file":
        memory.write(path)
    elif change == "a folder":
        memory.folder(path)
    before = memory.memory.snapshot(f"{DATA}/images")
    assert take(memory, link) == RemovedLinks((), ())
    assert memory.memory.snapshot(f"{DATA}/images") == before


def test_a_tag_of_an_older_record_is_known_by_its_target_alone(host: Host) -> None:
    link = without_inode(put(host, ALPINE, "latest"))
    put_link(host, ALPINE, "latest", "a")
    assert take(host, link).removed == (link,)
    assert not host.exists(path_of(link))


def without_inode(link: Link) -> Link:
    return Link(link.layout, link.repository, link.tag, link.target, 0)


@attrs.define
class Meddler:
    """Does something right before the first rename, or the first removal, of a name that is set aside."""

    host: Host
    action: Callable[[], object]
    call: str = "rename"
    is_done: bool = False

    def before(self, call: Call) -> None:
        if call.name == self.call and not self.is_done:
            self.is_done = True
            self.host.memory.before = None
            self.action()


def meddle(host: Host, action: Callable[[], object], call: str = "rename") -> Meddler:
    meddler = Meddler(host, action, call)
    host.memory.before = meddler.before
    return meddler


@pytest.mark.parametrize("letters", ["a", "b"])
def test_a_tag_that_is_set_right_before_it_is_taken_is_put_back(memory: Host, letters: str) -> None:
    link = put(memory, ALPINE, "latest")
    meddler = meddle(memory, lambda: put_link(memory, ALPINE, "latest", letters))
    assert take(memory, link) == RemovedLinks((), ())
    assert meddler.is_done
    assert recorded(memory, ALPINE, "latest").target.endswith(letters * 64)
    assert left_aside(memory) == []


def test_a_folder_that_takes_the_name_right_before_is_put_back_with_what_is_in_it(memory: Host) -> None:
    link = put(memory, ALPINE, "latest")

    def replace() -> None:
        memory.remove(path_of(link))
        memory.write(f"{path_of(link)}/file", b"kept")

    meddle(memory, replace)
    assert take(memory, link).removed == ()
    assert memory.read(f"{path_of(link)}/file") == b"kept"


def test_what_took_the_name_stays_aside_where_the_tag_has_been_set_since(memory: Host) -> None:
    """What is not a link is not hmret's, nor is the tag that hypeman sets while that is set aside."""
    link = put(memory, ALPINE, "latest")

    def replace() -> None:
        memory.remove(path_of(link))
        memory.write(path_of(link), b"kept")

    meddle(memory, replace)

    def come(_repository: str) -> bool:
        if not memory.exists(path_of(link)):
            put_link(memory, ALPINE, "latest", "b")
        return False

    assert take(memory, link, is_here=come) == RemovedLinks((), ())
    assert recorded(memory, ALPINE, "latest").target.endswith("b" * 64)
    (aside,) = left_aside(memory)
    assert aside == f"repositories/{ALPINE}/.hmret-tag-{'a' * 12}-latest"
    assert memory.read(f"images/{aside}") == b"kept"


def test_where_the_digest_comes_while_its_tag_is_set_aside_that_is_put_back(memory: Host) -> None:
    link = put(memory, ALPINE, "latest")
    answers = iter([False, True, True])
    assert take(memory, link, is_here=lambda _: next(answers)) == RemovedLinks((), ())
    assert recorded(memory, ALPINE, "latest").target == link.target
    assert left_aside(memory) == []


def test_where_the_digest_comes_while_all_are_set_aside_every_one_is_put_back(memory: Host) -> None:
    """One look before for each repository, and one when its last tag is out of the way."""
    links = put(memory, ALPINE, "latest"), put(memory, ALPINE, "1"), put(memory, MIRROR, "1")
    asked: list[tuple[str, bool]] = []

    def come(repository: str) -> bool:
        is_out = not any(memory.exists(path_of(link)) for link in links)
        asked.append((repository, is_out))
        return is_out and repository == ALPINE

    assert take(memory, *links, is_here=come) == RemovedLinks((links[2],), ())
    assert sorted(asked) == [(ALPINE, False), (ALPINE, True), (MIRROR, False), (MIRROR, True)]
    assert [recorded(memory, ALPINE, link.tag).target for link in links[:2]] == [
        link.target for link in links[:2]
    ]
    assert left_aside(memory) == []


def test_of_a_repository_that_was_looked_at_just_now_only_the_second_look_is_taken(memory: Host) -> None:
    link = put(memory, ALPINE, "latest")
    asked: list[str] = []

    def come(repository: str) -> bool:
        asked.append(repository)
        return False

    memory.folder(TRASH)
    with folders(memory) as held:
        assert remove_recorded_links(held, intent_of(link), come, {ALPINE}).removed == (link,)
    assert asked == [ALPINE]


def test_a_tag_that_is_set_while_another_is_set_aside_is_not_replaced(memory: Host) -> None:
    link = put(memory, ALPINE, "latest")

    def come(_repository: str) -> bool:
        # Asked for the second time, the tag is set aside: now somebody sets it, and the digest has come.
        if not memory.exists(path_of(link)):
            put_link(memory, ALPINE, "latest", "b")
            return True
        return False

    assert take(memory, link, is_here=come).removed == ()
    assert recorded(memory, ALPINE, "latest").target.endswith("b" * 64)
    assert left_aside(memory) == []


def test_a_tag_that_cannot_be_taken_is_reported_and_the_others_go(memory: Host) -> None:
    links = put(memory, ALPINE, "latest"), put(memory, MIRROR, "latest")
    memory.memory.deny(f"{DATA}/{path_of(links[0])}", errno.EIO, call="rename")
    assert take(memory, *links) == RemovedLinks((links[1],), ((path_of(links[0]), "Input/output error"),))
    assert memory.exists(path_of(links[0]))


def test_where_the_trash_is_another_disk_a_tag_is_set_aside_beside_itself(memory: Host) -> None:
    link = put(memory, ALPINE, "latest")
    memory.memory.mount(f"{DATA}/system")
    names: list[str] = []

    def note(call: Call) -> None:
        if call.name == "unlink":
            names.append(call.path)

    memory.memory.before = note
    assert take(memory, link).removed == (link,)
    assert names == [f"{DATA}/{link.parent}/.hmret-tag-{'a' * 12}-latest"]
    assert memory.names(link.parent) == []


# What a crash left set aside.


def leave_aside(host: Host, link: Link) -> None:
    """Take a tag, and fail between its being set aside and its removal, as a crash does."""

    def fail(call: Call) -> None:
        if call.name == "unlink":
            raise OSError(errno.EIO, "cut off")

    host.memory.before = fail
    assert take(host, link).removed == ()
    host.memory.before = None
    assert not host.exists(path_of(link))
    assert left_aside(host)


@pytest.mark.parametrize("disks", [1, 2])
def test_what_a_crash_left_set_aside_goes(memory: Host, disks: int) -> None:
    link = put(memory, ALPINE, "latest")
    if disks == 2:
        memory.memory.mount(f"{DATA}/system")
    leave_aside(memory, link)
    assert resolve(memory, link) == (link,)
    assert left_aside(memory) == []
    assert not memory.exists(path_of(link))
    assert resolve(memory, link) == ()


@pytest.mark.parametrize("disks", [1, 2])
@pytest.mark.parametrize("letters", ["", "b"])
def test_it_is_put_back_where_the_digest_has_come_but_never_over_another(
    memory: Host, disks: int, letters: str
) -> None:
    link = put(memory, ALPINE, "latest")
    if disks == 2:
        memory.memory.mount(f"{DATA}/system")
    leave_aside(memory, link)
    if letters:
        put_link(memory, ALPINE, "latest", letters)
    assert resolve(memory, link, is_here=lambda _: True) == ()
    assert recorded(memory, ALPINE, "latest").target.endswith((letters or "a") * 64)
    assert left_aside(memory) == []


@pytest.mark.parametrize("letters", ["a", "b"])
def test_what_an_older_release_left_set_aside_is_resolved_too(memory: Host, letters: str) -> None:
    """Its name had no digits of the digest."""
    link = without_inode(put(memory, ALPINE, "latest"))
    aside = put(memory, ALPINE, "latest", letters)
    memory.link(f"{link.parent}/.hmret-tag-latest", aside.target)
    memory.remove(path_of(link))
    assert resolve(memory, link) == ((link,) if letters == "a" else ())
    assert memory.names(link.parent) == ([] if letters == "a" else ["latest"])


def test_a_recovery_with_nothing_set_aside_touches_nothing(memory: Host) -> None:
    link = put(memory, ALPINE, "latest")
    assert resolve(memory, link) == ()
    assert recorded(memory, ALPINE, "latest") == link


# Making again.


def test_tags_whose_names_are_taken_in_either_layout_are_not_made(host: Host) -> None:
    links = [
        put(host, ALPINE, "free"),
        put(host, ALPINE, "taken"),
        put(host, ALPINE, "older"),
        put(host, MIRROR, "folder"),
    ]
    for link in links:
        host.remove(path_of(link))
    put_link(host, ALPINE, "taken", "b")
    put_link(host, ALPINE, "older", "b", OLDER)
    host.folder(f"images/{MIRROR}/folder")
    assert make(host, *links) == [recorded(host, ALPINE, "free")]


def test_tags_are_made_as_they_were_and_never_over_another(host: Host) -> None:
    put_link(host, ALPINE, "latest", "a", target=ODD)
    links = recorded(host, ALPINE, "latest"), put(host, MIRROR, "1"), put(host, MIRROR, "2", layout=OLDER)
    for link in links:
        host.remove(path_of(link))
    put_link(host, MIRROR, "1", "b")
    assert make(host, *links) == [recorded(host, ALPINE, "latest"), recorded(host, MIRROR, "2", OLDER)]
    assert recorded(host, ALPINE, "latest").target == ODD
    assert recorded(host, MIRROR, "1").target.endswith("b" * 64)
    assert recorded(host, MIRROR, "2", OLDER).target == "a" * 64


def test_a_tag_that_is_set_at_that_moment_stays(memory: Host) -> None:
    link = put(memory, ALPINE, "latest")
    memory.remove(path_of(link))

    def set_first(call: Call) -> None:
        if call.name == "symlink":
            memory.memory.before = None
            put_link(memory, ALPINE, "latest", "b")

    memory.memory.before = set_first
    assert make(memory, link) == []
    assert recorded(memory, ALPINE, "latest").target.endswith("b" * 64)


def test_one_that_shadows_another_is_made_before_it(memory: Host) -> None:
    links = put(memory, ALPINE, "latest", layout=OLDER), put(memory, ALPINE, "latest")
    for link in links:
        memory.remove(path_of(link))
    made: list[str] = []

    def note(call: Call) -> None:
        if call.name == "symlink":
            made.append(call.path.removeprefix(f"{DATA}/"))

    memory.memory.before = note
    make(memory, *links)
    assert made == [path_of(links[1]), path_of(links[0])]


def test_the_folders_of_tags_are_made_where_they_have_gone(memory: Host) -> None:
    link = put(memory, ALPINE, "latest")
    memory.memory.remove(f"{DATA}/images/repositories")
    assert make(memory, link) == [recorded(memory, ALPINE, "latest")]
    assert recorded(memory, ALPINE, "latest").target == link.target


def test_tags_that_were_made_in_vain_are_removed_and_others_not(host: Host) -> None:
    links = [put(host, ALPINE, "latest"), put(host, ALPINE, "moved"), put(host, MIRROR, "gone")]
    put_link(host, ALPINE, "moved", "b")
    host.remove(path_of(links[2]))
    assert remove_made(host, *links) == (links[0],)
    assert not host.exists(path_of(links[0]))
    assert host.exists(path_of(links[1]))


def test_one_that_somebody_has_set_anew_was_not_made_in_vain(memory: Host) -> None:
    link = put(memory, ALPINE, "latest")
    anew = put(memory, ALPINE, "latest")
    assert (link.target, link == anew) == (anew.target, False)
    assert remove_made(memory, link) == ()
    assert recorded(memory, ALPINE, "latest") == anew


def test_without_an_inode_whatever_leads_to_the_same_image_was_made_in_vain(host: Host) -> None:
    link = without_inode(put(host, ALPINE, "latest"))
    put_link(host, ALPINE, "latest", "a")
    assert remove_made(host, link) == (link,)
    assert not host.exists(path_of(link))


def test_tags_that_were_made_in_vain_stay_where_the_digest_has_come(host: Host) -> None:
    links = put(host, ALPINE, "latest"), put(host, MIRROR, "latest")
    assert remove_made(host, *links, is_here=lambda repository: repository == MIRROR) == (links[0],)
    assert recorded(host, MIRROR, "latest") == links[1]


def test_one_that_was_made_in_vain_and_shadows_another_goes_after_it(memory: Host) -> None:
    older, today = put(memory, ALPINE, "latest", "b", layout=OLDER), put(memory, ALPINE, "latest")
    assert remove_made(memory, today, older) == (older, today)


def test_a_tag_that_is_moved_right_before_it_is_removed_in_vain_is_put_back(memory: Host) -> None:
    link = put(memory, ALPINE, "latest")
    meddler = meddle(memory, lambda: put_link(memory, ALPINE, "latest", "b"))
    assert remove_made(memory, link) == ()
    assert meddler.is_done
    assert recorded(memory, ALPINE, "latest").target.endswith("b" * 64)
    assert memory.names(link.parent) == ["latest"]


def test_where_the_digest_comes_while_a_tag_made_in_vain_is_set_aside_that_is_put_back(memory: Host) -> None:
    link = put(memory, ALPINE, "latest")
    answers = iter([False, True])
    assert remove_made(memory, link, is_here=lambda _: next(answers)) == ()
    assert recorded(memory, ALPINE, "latest").target == link.target
    assert memory.names(link.parent) == ["latest"]


@pytest.mark.parametrize("comes", [False, True])
@pytest.mark.parametrize("letters", ["", "a", "b"])
def test_what_a_crash_left_set_aside_of_tags_made_in_vain_is_resolved(
    memory: Host, comes: bool, letters: str
) -> None:
    link = without_inode(put(memory, ALPINE, "latest"))

    def fail(call: Call) -> None:
        if call.name == "unlink":
            raise OSError(errno.EIO, "cut off")

    memory.memory.before = fail
    with pytest.raises(OSError, match="cut off"):
        remove_made(memory, link)
    memory.memory.before = None
    assert not memory.exists(path_of(link))
    if letters:
        put_link(memory, ALPINE, "latest", letters)
    remove_made(memory, link, is_here=lambda _: comes)
    stays = {"": comes, "a": comes, "b": True}[letters]
    assert memory.exists(path_of(link)) is stays
    assert memory.names(link.parent) == (["latest"] if stays else [])
    if stays:
        assert recorded(memory, ALPINE, "latest").target.endswith((letters or "a") * 64)
