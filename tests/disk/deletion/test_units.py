"""Deleting an image that two repositories share, with a promoted copy: whatever cuts it off, all of it is here or gone."""

import errno
import json
import os
import random
from contextlib import suppress

import pytest

from hmret.disk.deletion.outcomes import Outcome, Retired
from hmret.disk.deletion.retirement import retire
from hmret.disk.deletion.trash.intent_files import drop_intents
from hmret.disk.folders import let_go
from hmret.disk.layout import CONTENT, REPOSITORIES
from hmret.model.deletion import Deletion, Kept, RetireCriteria
from hmret.model.verdicts import Reason
from support.bounds import bound
from support.builders import DATA, START_NS, data_fd_of, digest, free, make_state
from support.crashes import cut_at, cut_everywhere, failed_everywhere, recover
from support.deletions import deletion
from support.memory_filesystem import Call, MemoryFilesystem, Tree
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
    is_gone,
    is_here,
    left_over,
    listed_folders,
    make_shared,
    states_in,
)

LOOK = RetireCriteria(frozenset(), 1000, START_NS + 1000)


@pytest.fixture(params=DISKS)
def cache(request: pytest.FixtureRequest) -> MemoryFilesystem:
    """The image, due in both repositories."""
    return make_shared(str(request.param))


def delete(filesystem: MemoryFilesystem, candidate: Deletion = UNIT) -> list[Outcome]:
    """Do what the deleter does with a batch."""
    fd = data_fd_of(filesystem)
    try:
        outcomes = retire(filesystem, fd, [candidate], LOOK, batch_name=BATCH).outcomes
        is_done = not any(one.faults if isinstance(one, Retired) else one.unfinished for one in outcomes)
        for place in (place for one in outcomes if isinstance(one, Retired) for place in one.places):
            try:
                free(filesystem, fd, place)
            except OSError:
                is_done = False
        if is_done:
            with suppress(OSError):
                drop_intents(filesystem, fd, BATCH, [ALPINE, OTHER])
        return [*outcomes]
    finally:
        let_go(filesystem, fd)


def broken_promise(filesystem: MemoryFilesystem, before: Tree) -> str | None:
    """Say what is wrong after a recovery; None: all of the image is here or gone, and nothing is left over."""
    after = images_in(filesystem)
    if is_gone(after, before):
        if states_in(filesystem):
            return f"its timers are left: {states_in(filesystem)}"
    elif not is_here(after, before):
        return f"images differ: {sorted(set(after) ^ set(before))}"
    left = list(left_over(filesystem))
    return f"left over: {left}" if left else None


def test_without_a_fault_all_of_it_goes(cache: MemoryFilesystem) -> None:
    before = images_in(cache)
    (outcome,) = delete(cache)
    assert isinstance(outcome, Retired)
    assert outcome.place.copy.repository == ""
    assert {f"{DATA}/{link.parent}/{link.tag}" for link in outcome.links} == set(LINKS)
    assert is_gone(images_in(cache), before)
    assert broken_promise(cache, before) is None


@pytest.mark.parametrize("name", [f"{OTHER}:kept", "ghcr.io/third/thing:1", "not a reference!", ""])
def test_content_without_a_link_goes_for_the_repository_that_its_name_says_and_for_no_other(
    name: str,
) -> None:
    """A pull that ends in between may put another name there; that repository's rules decide then."""
    filesystem = make_shared()
    alone = deletion(OTHER, digest("c"), START_NS, is_content=True)
    filesystem.remove(f"{IMAGES_TOP}/{REPOSITORIES}/{OTHER}/kept")
    metadata = {"name": name, "digest": digest("c"), "status": "ready", "size_bytes": 4096}
    filesystem.write_file(f"{IMAGES_TOP}/{CONTENT}/{'c' * 64}/metadata.json", json.dumps(metadata).encode())
    make_state(filesystem, (OTHER, alone.digest), START_NS)
    (outcome,) = delete(filesystem, alone)
    goes = name.startswith(OTHER)
    assert isinstance(outcome, Retired if goes else Kept)
    assert filesystem.exists(f"{IMAGES_TOP}/{CONTENT}/{'c' * 64}/rootfs.ext4") is not goes
    if isinstance(outcome, Kept):
        assert outcome.reason is Reason.SHARED


def test_a_crash_at_any_call_shows_hypeman_nothing_that_was_not_there(cache: MemoryFilesystem) -> None:
    """While content stands, every tag leads where it led; and nothing retired looks like an image."""
    before = images_in(cache)
    listed = listed_folders(cache)
    for number, filesystem in cut_everywhere(cache, delete):
        assert listed_folders(filesystem) <= listed, number
        if f"{IMAGES_TOP}/{CONTENT}/{HEX}" in listed_folders(filesystem):
            now = images_in(filesystem)
            assert {link: now.get(link) for link in LINKS} == {link: before[link] for link in LINKS}, number


def test_a_crash_at_any_call_leaves_all_of_it_here_or_gone(cache: MemoryFilesystem) -> None:
    before = images_in(cache)
    for number, filesystem in cut_everywhere(cache, delete):
        after = filesystem
        assert recover(after).errors == (), number
        assert broken_promise(after, before) is None, number


@pytest.mark.parametrize("seed", range(bound(2, 30)))
def test_a_power_loss_at_any_call_leaves_all_of_it_here_or_gone(cache: MemoryFilesystem, seed: int) -> None:
    before = images_in(cache)
    rng = random.Random(seed)
    for number, filesystem in cut_everywhere(cache, delete):
        after = filesystem.after_power_loss(rng)
        assert recover(after).errors == (), number
        assert broken_promise(after, before) is None, number


@pytest.mark.parametrize("seed", range(bound(2, 30)))
def test_a_crash_of_the_recovery_leaves_all_of_it_here_or_gone(cache: MemoryFilesystem, seed: int) -> None:
    before = images_in(cache)
    rng = random.Random(seed)
    for number, filesystem in cut_everywhere(cache, delete):
        after = filesystem.crashed_copy()
        at = rng.randint(1, 120)
        cut_at(after, at, recover)
        again = after.after_power_loss(rng) if rng.random() < 0.5 else after.crashed_copy()
        recover(again)
        assert broken_promise(again, before) is None, (number, at)


def test_an_opener_who_is_there_after_a_crash_at_any_call_keeps_all_of_it(cache: MemoryFilesystem) -> None:
    before = images_in(cache)
    for number, filesystem in cut_everywhere(cache, delete):
        after = filesystem.crashed_copy()
        disks = [path for path in after.tree(DATA) if path.endswith("/rootfs.ext4") and "c" * 64 not in path]
        openers = [after.hold_open(path) for path in disks]
        recover(after)
        for opener in openers:
            opener.close()
        assert broken_promise(after, before) is None, number


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES])
def test_a_fault_at_any_call_is_mended_by_the_next_start(cache: MemoryFilesystem, code: int) -> None:
    before = images_in(cache)
    for reached, filesystem, outcomes in failed_everywhere(cache, delete, code):
        if all(not isinstance(one, Retired) and not getattr(one, "unfinished", False) for one in outcomes):
            assert is_here(images_in(filesystem), before), (reached, outcomes)
        recover(filesystem)
        assert broken_promise(filesystem, before) is None, (reached, outcomes)


@pytest.mark.parametrize("disks", DISKS[:2])
def test_what_cannot_be_erased_of_an_image_that_is_back_is_so_by_the_next_start(disks: str) -> None:
    """A folder had come in the place of the one that its owner has; then somebody opened the disk."""
    filesystem = make_shared(disks)
    content = f"{IMAGES_TOP}/{CONTENT}/{HEX}"
    own = f"{IMAGES_TOP}/{ALPINE}/{HEX}"
    openers = []

    def come(call: Call) -> None:
        if not filesystem.exists(content) and not filesystem.exists(own):
            filesystem.write_file(f"{own}/metadata.json", b"{}")
            (disk,) = [
                path
                for path in filesystem.tree(DATA)
                if f"{BATCH}.0.1/rootfs.ext4" in path and path.startswith((TRASH_TOP, IMAGES_TOP))
            ]
            openers.append(filesystem.begin_open(disk))
        if openers and call.name == "unlink" and call.path.endswith("rootfs.ext4"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    filesystem.before = come
    (outcome,) = delete(filesystem)
    filesystem.before = None
    openers[0].close()
    assert isinstance(outcome, Kept)
    assert (outcome.reason, outcome.unfinished) == (Reason.OPEN, True)
    assert filesystem.exists(f"{content}/rootfs.ext4")
    assert list(left_over(filesystem)) != []
    assert recover(filesystem).errors == ()
    assert list(left_over(filesystem)) == []
    assert filesystem.exists(f"{content}/rootfs.ext4")
    assert filesystem.read_file(f"{own}/metadata.json") == b"{}"
