"""A shared image in quarantine: held, brought back and released as one, whatever cuts that off."""

import json
import random
from collections.abc import Callable
from contextlib import suppress

import pytest

from hmret.disk.deletion.outcomes import Retired
from hmret.disk.deletion.putting_back import bring_back as put_back_if_free
from hmret.disk.deletion.recovery.quarantine import hold, load_held, release
from hmret.disk.deletion.recovery.quarantine_records import drop_records
from hmret.disk.deletion.recovery.restoring import Restoration, restore
from hmret.disk.deletion.retirement import retire
from hmret.disk.deletion.trash.intent_files import drop_intents
from hmret.disk.folders import let_go
from hmret.model.deletion import RetireCriteria
from hmret.model.times import format_time
from support.builders import START_NS, data_fd_of, digest, state_of
from support.crashes import cut_at, cut_everywhere, failed_everywhere, started
from support.memory_filesystem import MemoryFilesystem, Tree
from support.shared_unit import (
    ALPINE,
    BATCH,
    DISKS,
    IMAGES_TOP,
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
RETIRED_NS = START_NS + 1000
RESTORED_NS = START_NS + 5000


@pytest.fixture(params=DISKS)
def cache(request: pytest.FixtureRequest) -> MemoryFilesystem:
    """The image in quarantine."""
    filesystem = make_shared(str(request.param))
    quarantine(filesystem)
    filesystem.sync()
    return filesystem


@pytest.fixture
def before(request: pytest.FixtureRequest, cache: MemoryFilesystem) -> Tree:
    """What was in the cache before."""
    return images_in(make_shared(request.node.callspec.params["cache"]))


def quarantine(filesystem: MemoryFilesystem) -> None:
    fd = data_fd_of(filesystem)
    try:
        outcomes = retire(filesystem, fd, [UNIT], LOOK, batch_name=BATCH).outcomes
        retired = [one for one in outcomes if isinstance(one, Retired)]
        hold(filesystem, fd, BATCH, retired, RETIRED_NS)
        drop_intents(filesystem, fd, BATCH, [ALPINE, OTHER])
    finally:
        let_go(filesystem, fd)


def bring_back(filesystem: MemoryFilesystem) -> Restoration:
    fd = data_fd_of(filesystem)
    try:
        (held,) = load_held(filesystem, fd).held
        return restore(filesystem, fd, held, RESTORED_NS)
    finally:
        let_go(filesystem, fd)


def release_all(filesystem: MemoryFilesystem) -> None:
    fd = data_fd_of(filesystem)
    try:
        images = load_held(filesystem, fd).held
        release(filesystem, fd, images)
        drop_records(filesystem, fd, {held.batch_name for held in images})
    finally:
        let_go(filesystem, fd)


def start(filesystem: MemoryFilesystem) -> None:
    """Do what a start does about the trash, where quarantine is on."""
    started(filesystem, lambda deleter: (deleter._recover(RETIRED_NS), deleter._recover_quarantine()))


def is_held(filesystem: MemoryFilesystem) -> bool:
    fd = data_fd_of(filesystem)
    try:
        return bool(load_held(filesystem, fd).held)
    finally:
        let_go(filesystem, fd)


def broken_promise(filesystem: MemoryFilesystem, before: Tree) -> str | None:
    """Say what is wrong after a start; None: all of the image is here, or held, or gone."""
    held = is_held(filesystem)
    after = {path: entry for path, entry in images_in(filesystem).items() if "/.hmret-" not in path}
    if is_here(after, before):
        if held:
            return "it is here, and held besides"
    elif not is_gone(_without_empty(after, before), before):
        return f"images differ: {sorted(set(after) ^ set(before))}"
    elif states_in(filesystem):
        return f"its timers are left: {states_in(filesystem)}"
    left = list(left_over(filesystem, may_hold=held))
    return f"left over: {left}" if left else None


def _without_empty(after: Tree, before: Tree) -> Tree:
    """Leave out the folders of the older layout that hold what is in quarantine beside itself."""
    return {
        path: entry
        for path, entry in after.items()
        if not (entry[0] == "folder" and "/images/docker.io" in path and path in before)
    }


def test_it_comes_back_with_all_its_folders_tags_and_new_timers(
    cache: MemoryFilesystem, before: Tree
) -> None:
    back = bring_back(cache)
    assert back == Restoration({ALPINE: ("3.20", "latest"), OTHER: ("1",)}, {})
    assert images_in(cache) == before
    for row in UNIT.rows:
        assert state_of(cache, (row.repository, UNIT.digest)) == format_time(RESTORED_NS)
    assert list(left_over(cache)) == []


def test_a_crash_of_a_restore_shows_hypeman_nothing_but_the_image(
    cache: MemoryFilesystem, before: Tree
) -> None:
    listed = {path.removesuffix("/metadata.json") for path in before if path.endswith("/metadata.json")}
    for number, filesystem in cut_everywhere(cache, bring_back):
        assert listed_folders(filesystem) <= listed, number


def test_a_crash_of_a_restore_at_any_call_leaves_it_here_or_held(
    cache: MemoryFilesystem, before: Tree
) -> None:
    for number, filesystem in cut_everywhere(cache, bring_back):
        after = filesystem.crashed_copy()
        start(after)
        assert is_held(after) or is_here(images_in(after), before), number
        assert broken_promise(after, before) is None, number


@pytest.mark.parametrize("seed", range(2))
def test_a_crash_of_the_start_after_one_leaves_it_here_or_held(
    cache: MemoryFilesystem, before: Tree, seed: int
) -> None:
    rng = random.Random(seed)
    for number, filesystem in cut_everywhere(cache, bring_back):
        after = filesystem.after_power_loss(rng)
        at = rng.randint(1, 100)
        cut_at(after, at, start)
        again = after.crashed_copy()
        start(again)
        assert is_held(again) or is_here(images_in(again), before), (number, at)
        assert broken_promise(again, before) is None, (number, at)


def test_a_crash_of_a_release_at_any_call_leaves_it_held_or_gone(
    cache: MemoryFilesystem, before: Tree
) -> None:
    for number, filesystem in cut_everywhere(cache, release_all):
        after = filesystem.crashed_copy()
        start(after)
        assert not is_here(images_in(after), before), number
        assert broken_promise(after, before) is None, number


def test_a_fault_of_a_restore_at_any_call_leaves_it_here_or_held(
    cache: MemoryFilesystem, before: Tree
) -> None:
    def try_to_bring_back(filesystem: MemoryFilesystem) -> None:
        with suppress(OSError, LookupError, ValueError):
            bring_back(filesystem)

    for reached, filesystem, _ in failed_everywhere(cache, try_to_bring_back):
        start(filesystem)
        assert is_held(filesystem) or is_here(images_in(filesystem), before), reached


def make_merged(filesystem: MemoryFilesystem) -> str:
    """Make the image in quarantine one whose data lies in a layer; returns where that belongs."""
    top = TRASH_TOP if filesystem.exists(f"{TRASH_TOP}/{BATCH}.0.1") else IMAGES_TOP
    if filesystem.exists(f"{IMAGES_TOP}/content/.hmret-{BATCH}.0.1"):
        top = f"{IMAGES_TOP}/content"
    name = f"{BATCH}.0.1" if top == TRASH_TOP else f".hmret-{BATCH}.0.1"
    manifest = {"rootfs_type": "fsmerge", "layers": [{"digest": digest("d")}]}
    filesystem.write_file(f"{top}/{name}/manifest.json", json.dumps(manifest).encode())
    return f"{IMAGES_TOP}/layers/{'d' * 64}"


def put_back_wanted(filesystem: MemoryFilesystem) -> bool:
    """Do what is done where a tag has come to an image that was deleted."""
    fd = data_fd_of(filesystem)
    try:
        (held,) = load_held(filesystem, fd).held
        return put_back_if_free(filesystem, fd, held)
    finally:
        let_go(filesystem, fd)


@pytest.mark.parametrize("work", [bring_back, put_back_wanted])
def test_an_image_whose_layer_has_gone_stays_out_of_the_cache(
    cache: MemoryFilesystem, work: Callable[[MemoryFilesystem], object]
) -> None:
    layer = make_merged(cache)
    with pytest.raises(OSError, match=f"its layer {'d' * 64} has gone"):
        work(cache)
    assert is_held(cache)
    assert states_in(cache) == []
    cache.make_folder(layer)
    work(cache)
    assert not is_held(cache)
