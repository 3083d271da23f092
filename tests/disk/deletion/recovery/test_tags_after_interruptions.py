"""Tags that a deletion or a restore had in hand when it was cut off: none that hypeman has set is lost by the next start.

hypeman moves a tag, makes one, or pulls the digest at whatever moment is the worst.
"""

import errno
import json
import os
from collections.abc import Callable
from contextlib import suppress
from itertools import count

import pytest

from disk.deletion.recovery.test_units_in_quarantine import bring_back, is_held, quarantine, start
from hmret.disk.deletion.check_before_erase import find_wanted
from hmret.disk.deletion.recovery.quarantine import load_held
from hmret.disk.deletion.retirement import retire
from hmret.disk.deletion.tags.tag_view import TagFolders
from hmret.disk.deletion.trash.intents import find_entries
from hmret.disk.folders import let_go
from hmret.disk.layout import CONTENT
from hmret.model.deletion import RetireCriteria
from support.builders import START_NS, data_fd_of, digest, make_image, make_state
from support.crashes import cut_everywhere, recover
from support.memory_filesystem import Call, Crash, MemoryFilesystem
from support.shared_unit import (
    ALPINE,
    BATCH,
    DISKS,
    HEX,
    IMAGES_TOP,
    LINKS,
    OTHER,
    TRASH_TOP,
    UNIT,
    images_in,
    make_shared,
    states_in,
)

LOOK = RetireCriteria(frozenset(), 1000, START_NS + 1000)
CONTENT_FOLDER = f"{IMAGES_TOP}/{CONTENT}/{HEX}"
SHADOWED, _, SHADOWING, OTHERS = LINKS
ELSEWHERE = f"../../../../{CONTENT}/{'c' * 64}"
HERE = f"../../../../{CONTENT}/{HEX}"

on_all_disks = pytest.mark.parametrize("disks", DISKS)


def held(disks: str = DISKS[0]) -> MemoryFilesystem:
    """Make the image in quarantine."""
    filesystem = make_shared(disks)
    quarantine(filesystem)
    filesystem.sync()
    return filesystem


def links_in(filesystem: MemoryFilesystem) -> dict[str, str]:
    """Return all tags, also those that are set aside in their own folder, with their targets."""
    return {path: str(target) for path, (kind, target) in images_in(filesystem).items() if kind == "link"}


def are_aside(filesystem: MemoryFilesystem) -> bool:
    """Return whether any tag is set aside, in the trash or in its own folder."""
    return any(".tag" in path for path in filesystem.tree(TRASH_TOP)) or any(
        "hmret-tag" in path for path in links_in(filesystem)
    )


def write_metadata(filesystem: MemoryFilesystem, folder: str, status: str, name: str = f"{OTHER}:1") -> None:
    metadata = {"name": name, "digest": digest("a"), "status": status}
    filesystem.write_file(f"{folder}/metadata.json", json.dumps(metadata).encode())


def act_when(
    filesystem: MemoryFilesystem, condition: Callable[[Call], bool], act: Callable[[], object]
) -> Callable[[Call], None]:
    """Return what acts once, right before the first call for which the condition holds."""
    done: list[Call] = []

    def look(call: Call) -> None:
        if not done and condition(call):
            done.append(call)
            told, filesystem.before = filesystem.before, None
            act()
            filesystem.before = told

    return look


def is_set_aside(call: Call, path: str) -> bool:
    return call.name == "rename" and call.path.startswith(path)


def retire_cut(filesystem: MemoryFilesystem, before: Callable[[Call], None]) -> MemoryFilesystem:
    """Delete the image until `before` raises `Crash`; returns the disk as it is then."""
    filesystem.before = before
    fd = data_fd_of(filesystem)
    with pytest.raises(Crash):
        retire(filesystem, fd, [UNIT], LOOK, batch_name=BATCH)
    filesystem.before = None
    return filesystem.crashed_copy()


def retire_cut_aside(disks: str, replace: Callable[[MemoryFilesystem], object]) -> MemoryFilesystem:
    """Delete the image until the last tag is set aside; right before that, something replaces it."""
    filesystem = make_shared(disks)
    meddle = act_when(filesystem, lambda call: is_set_aside(call, OTHERS), lambda: replace(filesystem))

    def before(call: Call) -> None:
        meddle(call)
        if not filesystem.exists(OTHERS):
            raise Crash

    return retire_cut(filesystem, before)


def move(filesystem: MemoryFilesystem, target: str = ELSEWHERE) -> None:
    """Have the last tag lead elsewhere, as hypeman does."""
    filesystem.remove(OTHERS)
    filesystem.make_link(OTHERS, target)


# A deletion that was cut off.


@on_all_disks
@pytest.mark.parametrize("why", ["open", "folder", "ghost"])
def test_a_tag_that_moved_before_it_was_set_aside_is_not_made_as_it_was(disks: str, why: str) -> None:
    """The image comes back, with its tags; this one leads to another image by now."""
    filesystem = retire_cut_aside(disks, move)
    openers = []
    if why == "open":
        (disk,) = {
            path
            for path in (*filesystem.tree(TRASH_TOP), *images_in(filesystem))
            if path.endswith(f"{BATCH}.0.1/rootfs.ext4")
        }
        openers.append(filesystem.hold_open(disk))
    elif why == "folder":
        make_image(filesystem, OTHER, "a", tags=())
    else:
        write_metadata(filesystem, CONTENT_FOLDER, "ready", f"{ALPINE}:x")
    recover(filesystem)
    for opener in openers:
        opener.close()
    assert filesystem.exists(f"{CONTENT_FOLDER}/rootfs.ext4")
    assert links_in(filesystem)[OTHERS] == ELSEWHERE
    assert links_in(filesystem)[SHADOWING] == HERE
    assert not are_aside(filesystem)


@on_all_disks
def test_a_tag_that_moved_is_back_whenever_the_recovery_is_cut_off(disks: str) -> None:
    filesystem = retire_cut_aside(disks, move)
    make_image(filesystem, OTHER, "a", tags=())
    for number, after in cut_everywhere(filesystem, recover):
        recover(after)
        assert links_in(after)[OTHERS] == ELSEWHERE, number
        assert not are_aside(after), number


def test_the_tags_of_an_image_that_still_stands_are_no_strays() -> None:
    """An earlier recovery was cut off between its return and that of its tag."""
    filesystem = retire_cut_aside(DISKS[0], move)
    (aside,) = [path for path in filesystem.tree(TRASH_TOP) if path.endswith(".tag3")]
    make_image(filesystem, OTHER, "a", tags=())
    failed: list[Call] = []

    def fail(call: Call) -> None:
        if call.name == "symlink" and call.path == OTHERS and not failed:
            failed.append(call)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    filesystem.before = fail
    assert recover(filesystem).errors != ()
    filesystem.before = None
    assert filesystem.exists(f"{CONTENT_FOLDER}/rootfs.ext4")
    assert filesystem.exists(aside)
    assert recover(filesystem).errors == ()
    assert links_in(filesystem)[OTHERS] == ELSEWHERE
    assert not are_aside(filesystem)


def test_a_ghost_has_its_tags_before_its_disk() -> None:
    """Once it has its disk, nothing shows that tags are missing: a second crash would lose them."""
    filesystem = make_shared()

    def before(_call: Call) -> None:
        if not any(map(filesystem.exists, LINKS)) and not are_aside(filesystem):
            raise Crash

    filesystem = retire_cut(filesystem, before)
    write_metadata(filesystem, CONTENT_FOLDER, "ready", f"{ALPINE}:x")
    for number, after in cut_everywhere(filesystem, recover):
        recover(after)
        assert after.exists(f"{CONTENT_FOLDER}/rootfs.ext4"), number
        assert {path: links_in(after).get(path) for path in (SHADOWING, OTHERS)} == {
            SHADOWING: HERE,
            OTHERS: HERE,
        }, number


@on_all_disks
@pytest.mark.parametrize("is_set", [False, True], ids=["free", "set since"])
def test_what_is_no_tag_holds_nothing_up_and_stays(disks: str, is_set: bool) -> None:
    def replace(filesystem: MemoryFilesystem) -> None:
        filesystem.remove(OTHERS)
        filesystem.write_file(OTHERS, b"odd")

    filesystem = retire_cut_aside(disks, replace)
    if is_set:
        filesystem.make_link(OTHERS, ELSEWHERE)
    assert recover(filesystem).errors == ()
    assert not filesystem.exists(CONTENT_FOLDER)
    assert filesystem.tree(TRASH_TOP).keys() <= {TRASH_TOP}
    kept = [path for path, entry in images_in(filesystem).items() if entry == ("file", b"odd")]
    folder, _, tag = OTHERS.rpartition("/")
    assert kept == ([f"{folder}/.hmret-tag-{'a' * 12}-{tag}"] if is_set else [OTHERS])
    assert links_in(filesystem).get(OTHERS) == (ELSEWHERE if is_set else None)


# A restore that failed.


def fail_the_return(filesystem: MemoryFilesystem, then: Callable[[Call], None]) -> None:
    """Restore the image, whose return fails; from then on, `then` is told of each call."""
    failed: list[Call] = []

    def before(call: Call) -> None:
        if failed:
            then(call)
        elif call.name == "rename" and call.path.endswith(f"{CONTENT}/{HEX}"):
            failed.append(call)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    filesystem.before = before
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        bring_back(filesystem)
    filesystem.before = None


@on_all_disks
def test_a_tag_that_was_shadowed_does_not_outlive_the_one_that_shadowed_it(disks: str) -> None:
    """It would lead to an image of long ago."""
    filesystem = held(disks)
    shown: list[Call] = []

    def pull(call: Call) -> None:
        tags = links_in(filesystem)
        if SHADOWED in tags and SHADOWING not in tags:
            shown.append(call)

    fail_the_return(filesystem, pull)
    assert shown == []
    assert not {SHADOWED, SHADOWING} & links_in(filesystem).keys()


@on_all_disks
def test_what_could_not_be_undone_is_undone_by_the_next_start(disks: str) -> None:
    """hypeman moves a tag right before it is set aside, and the full disk does not take it back."""
    filesystem = held(disks)
    meddle = act_when(filesystem, lambda call: is_set_aside(call, OTHERS), lambda: move(filesystem))
    moved: list[Call] = []

    def fill_up(call: Call) -> None:
        meddle(call)
        if call.name == "symlink":
            moved.append(call)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    fail_the_return(filesystem, fill_up)
    assert moved
    assert states_in(filesystem)
    start(filesystem)
    assert links_in(filesystem)[OTHERS] == ELSEWHERE
    assert not {SHADOWED, SHADOWING} & links_in(filesystem).keys()
    assert not are_aside(filesystem)
    assert states_in(filesystem) == []
    assert is_held(filesystem)


@on_all_disks
def test_whatever_fails_while_a_restore_is_undone_the_next_start_leaves_nothing(disks: str) -> None:
    untouched = held(disks)
    for number in count(1):
        filesystem = untouched.crashed_copy()
        calls: list[Call] = []

        def fail(call: Call, calls: list[Call] = calls, number: int = number) -> None:
            calls.append(call)
            if len(calls) == number:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        fail_the_return(filesystem, fail)
        if len(calls) < number:
            break
        start(filesystem)
        assert is_held(filesystem), calls[-1]
        assert not set(LINKS) & links_in(filesystem).keys(), calls[-1]
        assert not are_aside(filesystem), calls[-1]
    assert number > 20


@on_all_disks
def test_of_tags_of_which_one_cannot_be_made_none_stays(disks: str) -> None:
    for unlucky in (SHADOWED, SHADOWING, OTHERS):
        filesystem = held(disks)

        def fail(call: Call, unlucky: str = unlucky) -> None:
            if call.name == "symlink" and call.path == unlucky:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        filesystem.before = fail
        with suppress(OSError):
            bring_back(filesystem)
        filesystem.before = None
        assert is_held(filesystem), unlucky
        assert not set(LINKS) & links_in(filesystem).keys(), unlucky


# A start, with an image in quarantine and a timer of its digest.


def test_a_tag_that_hypeman_has_set_shows_after_a_start_that_the_image_is_wanted() -> None:
    """An older server has pulled the digest for one owner; a late call of today's has set the tag of another."""
    filesystem = held()
    make_image(filesystem, ALPINE, "a", tags=())
    make_state(filesystem, (ALPINE, digest("a")), START_NS + 9999)
    filesystem.make_link(OTHERS, HERE)
    start(filesystem)
    assert links_in(filesystem)[OTHERS] == HERE
    own = f"{IMAGES_TOP}/{ALPINE}/{HEX}"
    for path in (f"{own}/metadata.json", f"{own}/rootfs.ext4", own):
        filesystem.remove(path)
    fd = data_fd_of(filesystem)
    images = load_held(filesystem, fd).held
    places = [(image, find_entries(filesystem, fd, image)) for image in images]
    assert len(find_wanted(filesystem, fd, places, TagFolders(filesystem, {}))) == 1
    let_go(filesystem, fd)


def test_a_folder_that_had_failed_and_is_pulled_into_keeps_its_tag() -> None:
    """It was no image when the others of its digest went, so it stayed; it is the same folder now."""
    filesystem = make_shared()
    own = f"{IMAGES_TOP}/{OTHER}/{HEX}"
    write_metadata(filesystem, own, "failed")
    filesystem.sync()

    def before(_call: Call) -> None:
        if filesystem.exists(f"{TRASH_TOP}/{BATCH}.0.1"):
            raise Crash

    filesystem = retire_cut(filesystem, before)
    start(filesystem)
    assert is_held(filesystem)
    filesystem.write_file(f"{own}/rootfs.ext4", bytes(4096))
    write_metadata(filesystem, own, "ready")
    make_state(filesystem, (OTHER, digest("a")), START_NS + 9999)
    start(filesystem)
    assert links_in(filesystem)[OTHERS] == HERE
