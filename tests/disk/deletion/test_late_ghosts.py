"""Late ghosts: metadata without a disk that a tag call left behind, taken away where hmret deleted that digest before."""

import errno
import json
import random
from collections.abc import Callable

import pytest

from hmret.disk.deletion.ghosts import clear_ghosts
from hmret.disk.folders import let_go
from hmret.disk.layout import CONTENT, IMAGES, OWN, REPOSITORIES, TRASH
from hmret.model.times import SECOND
from support.bounds import bound
from support.builders import DATA, START_NS, data_fd_of, digest
from support.crashes import cut_at, cut_everywhere, failed_everywhere, recover
from support.memory_filesystem import Call, MemoryFilesystem, Tree

DIGEST = digest("a")
HEX = "a" * 64
IMAGES_TOP = f"{DATA}/{IMAGES}"
GHOST = f"{IMAGES_TOP}/{CONTENT}/{HEX}"
METADATA = f"{GHOST}/metadata.json"
TRASH_TOP = f"{DATA}/{TRASH}"
DELETED_NS = START_NS - 3600 * SECOND
MADE_NS = START_NS - 60 * SECOND
"""The last moment at which one that goes now may have changed."""
DISKS = ("one disk", "two disks", "three disks")


def metadata_of(letters: str = "a", status: str = "ready") -> bytes:
    return json.dumps({"name": "alpine:1", "digest": digest(letters), "status": status}).encode()


def make_ghost(disks: str = "one disk", *, made_ns: int = MADE_NS) -> MemoryFilesystem:
    """Make a ghost, its tag and a neighbour, all of it safe from a power loss."""
    filesystem = MemoryFilesystem(lambda: START_NS)
    neighbour = f"{IMAGES_TOP}/{CONTENT}/{'b' * 64}"
    filesystem.write_file(f"{neighbour}/metadata.json", metadata_of("b"))
    filesystem.write_file(f"{neighbour}/rootfs.erofs", bytes(4096))
    filesystem.write_file(METADATA, metadata_of())
    filesystem.make_link(
        f"{IMAGES_TOP}/{REPOSITORIES}/docker.io/library/alpine/mine", f"../../../../{CONTENT}/{HEX}"
    )
    filesystem.make_folder(f"{DATA}/{OWN}")
    age(filesystem, made_ns)
    if disks != "one disk":
        filesystem.mount(IMAGES_TOP)
    if disks == "three disks":
        filesystem.mount(f"{IMAGES_TOP}/{CONTENT}")
    filesystem.sync()
    return filesystem


def age(filesystem: MemoryFilesystem, made_ns: int = MADE_NS) -> None:
    for path in (METADATA, GHOST):
        if filesystem.exists(path):
            filesystem.set_mtime(path, made_ns)


def clear(filesystem: MemoryFilesystem, deleted_ns: int = DELETED_NS) -> tuple[str, ...]:
    fd = data_fd_of(filesystem)
    try:
        return clear_ghosts(filesystem, fd, {DIGEST: deleted_ns})
    finally:
        let_go(filesystem, fd)


def images_in(filesystem: MemoryFilesystem) -> Tree:
    return filesystem.tree(IMAGES_TOP)


def trash_of(filesystem: MemoryFilesystem) -> list[str]:
    return sorted(filesystem.tree(TRASH_TOP)) if filesystem.exists(TRASH_TOP) else []


def without_ghost(before: Tree) -> Tree:
    return {path: entry for path, entry in before.items() if not path.startswith(GHOST)}


@pytest.fixture(params=DISKS[:2])
def cache(request: pytest.FixtureRequest) -> MemoryFilesystem:
    """One that goes; the trash is on its disk, or on another."""
    return make_ghost(str(request.param))


def test_it_goes_and_its_tag_is_left_dangling(cache: MemoryFilesystem) -> None:
    before = images_in(cache)
    assert clear(cache) == (DIGEST,)
    assert images_in(cache) == without_ghost(before)
    assert trash_of(cache) == []
    assert cache.open_descriptors() == {}


def test_where_content_is_a_disk_of_its_own_it_stays() -> None:
    """There is no other place on that disk: every name in it is a digest's."""
    filesystem = make_ghost("three disks")
    before = images_in(filesystem)
    assert clear(filesystem) == ()
    assert images_in(filesystem) == before


@pytest.mark.parametrize(
    ("made_ns", "deleted_ns"),
    [(MADE_NS + 1, DELETED_NS), (MADE_NS, MADE_NS + 1)],
    ids=["changed a moment ago", "older than the deletion"],
)
def test_one_that_somebody_may_be_at_work_on_and_one_that_was_there_before_stay(
    made_ns: int, deleted_ns: int
) -> None:
    filesystem = make_ghost(made_ns=made_ns)
    before = images_in(filesystem)
    assert clear(filesystem, deleted_ns) == ()
    assert images_in(filesystem) == before


def make_whole(filesystem: MemoryFilesystem) -> None:
    filesystem.write_file(f"{GHOST}/rootfs.erofs", bytes(10))


def begin_pull(filesystem: MemoryFilesystem) -> None:
    filesystem.write_file(METADATA, metadata_of(status="pending"))


def add_file(filesystem: MemoryFilesystem) -> None:
    filesystem.write_file(f"{GHOST}/base.raw", b"x")


def add_folder(filesystem: MemoryFilesystem) -> None:
    filesystem.make_folder(f"{GHOST}/.install-1")


def misname(filesystem: MemoryFilesystem) -> None:
    filesystem.write_file(METADATA, metadata_of("b"))


def tear(filesystem: MemoryFilesystem) -> None:
    filesystem.write_file(METADATA, b"{")


CHANGES = (make_whole, begin_pull, add_file, add_folder, misname, tear)


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_no_ghost_stays(change: Callable[[MemoryFilesystem], None]) -> None:
    filesystem = make_ghost()
    change(filesystem)
    age(filesystem)
    before = images_in(filesystem)
    assert clear(filesystem) == ()
    assert images_in(filesystem) == before
    assert filesystem.open_descriptors() == {}


@pytest.mark.parametrize("change", [make_whole, begin_pull, add_file, add_folder, tear])
def test_what_is_none_at_the_first_look_is_not_even_set_aside(
    change: Callable[[MemoryFilesystem], None],
) -> None:
    """Hypeman would miss it meanwhile."""
    filesystem = make_ghost()
    change(filesystem)
    age(filesystem)
    renamed: list[str] = []

    def note(call: Call) -> None:
        if call.name == "rename":
            renamed.append(call.path)

    filesystem.before = note
    assert clear(filesystem) == ()
    assert renamed == []


def on_way_aside(filesystem: MemoryFilesystem, action: Callable[[MemoryFilesystem], None]) -> None:
    """Let something happen right before it is set aside, on whichever way that goes."""

    def act(call: Call) -> None:
        if call.name == "rename" and call.path.endswith((f"/ghost.{HEX}", f"/.hmret-ghost.{HEX}")):
            filesystem.before = None
            action(filesystem)

    filesystem.before = act


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_none_any_more_when_it_is_set_aside_is_put_back(
    cache: MemoryFilesystem, change: Callable[[MemoryFilesystem], None]
) -> None:
    expected = make_ghost()
    change(expected)
    on_way_aside(cache, change)
    assert clear(cache) == ()
    assert images_in(cache) == images_in(expected)
    assert trash_of(cache) == []


def test_another_folder_of_its_name_is_put_back(cache: MemoryFilesystem) -> None:
    before = images_in(cache)

    def replace(filesystem: MemoryFilesystem) -> None:
        filesystem.remove(GHOST)
        filesystem.write_file(METADATA, metadata_of())

    on_way_aside(cache, replace)
    assert clear(cache) == ()
    assert images_in(cache) == before


def complaint(filesystem: MemoryFilesystem, before: Tree) -> str | None:
    """Say what is wrong after a start; None: the ghost is as it was or gone, and nothing is left over."""
    after = images_in(filesystem)
    if after not in (before, without_ghost(before)):
        return f"images differ: {sorted(set(after) ^ set(before))}"
    left = [*trash_of(filesystem), *filesystem.open_descriptors().values()]
    return f"left over: {left}" if left else None


def test_a_crash_at_any_call_leaves_it_or_nothing_of_it(cache: MemoryFilesystem) -> None:
    before = images_in(cache)
    for number, filesystem in cut_everywhere(cache, clear):
        after = filesystem.crashed_copy()
        assert recover(after).errors == (), number
        assert complaint(after, before) is None, number


@pytest.mark.parametrize("seed", range(bound(2, 30)))
def test_a_power_loss_and_a_crash_of_the_start_leave_it_or_nothing_of_it(
    cache: MemoryFilesystem, seed: int
) -> None:
    before = images_in(cache)
    rng = random.Random(seed)
    for number, filesystem in cut_everywhere(cache, clear):
        after = filesystem.after_power_loss(rng)
        cut_at(after, rng.randint(1, 30), recover)
        again = after.crashed_copy()
        recover(again)
        assert complaint(again, before) is None, number


def test_what_became_whole_right_when_all_ended_is_put_back_at_the_next_start(
    cache: MemoryFilesystem,
) -> None:
    expected = make_ghost()
    make_whole(expected)
    for number, filesystem in cut_everywhere(cache, clear):
        after = filesystem.crashed_copy()
        aside = [path for path in after.tree(DATA) if path.endswith(f"ghost.{HEX}/metadata.json")]
        if not aside:
            continue
        after.write_file(f"{aside[0].rpartition('/')[0]}/rootfs.erofs", bytes(10))
        assert recover(after).errors == (), number
        assert images_in(after) == images_in(expected), number
        assert trash_of(after) == [], number


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES])
def test_a_fault_at_any_call_leaves_it_or_nothing_of_it_after_a_start(
    cache: MemoryFilesystem, code: int
) -> None:
    before = images_in(cache)
    for reached, filesystem, _ in failed_everywhere(cache, clear, code):
        recover(filesystem)
        assert complaint(filesystem, before) is None, reached
