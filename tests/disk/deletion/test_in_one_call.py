"""Deleting images that are carried out in one call each: the same comes of it, whatever that call meets with.

The tests of `test_retirement` are done once more, on a disk in memory that offers what the native core does, and on which
every change shows by its time stamps. Whatever stops the one call, the steps go on from there.
"""

import errno
import inspect
import random
from itertools import count
from typing import Any

import pytest

from disk.deletion import test_retirement
from disk.deletion.test_units import broken_promise, delete
from disk.hosts import Host
from hmret.disk.deletion import digest_folder, prefetch
from hmret.disk.deletion.outcomes import Retired
from hmret.disk.filesystem import Step
from hmret.disk.hypeman.retention_states import rereading
from hmret.disk.layout import IMAGES
from support import in_one_call
from support.builders import DATA
from support.crashes import cut_everywhere, failed_everywhere, recover
from support.memory_filesystem import MemoryFilesystem
from support.shared_unit import ALPINE, HEX, LINKS, images_in, is_gone, is_here, make_shared

TO_THE_NANOSECOND = (
    "test_a_folder_in_which_something_was_made_long_ago_goes_along_and_a_young_one_keeps_the_image"
)


@pytest.fixture(autouse=True)
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """Offer it, and let everything settle at once, as no two changes have the same time stamp; notes how far each came."""
    begin, taken = MemoryFilesystem.__init__, list[Step]()

    def begin_ticking(self: MemoryFilesystem, clock: Any, **given: Any) -> None:
        ticks = count()
        begin(self, lambda: clock() + next(ticks), **given)

    def retire_folder(self: MemoryFilesystem, *what: Any) -> tuple[int, int, int]:
        answer = in_one_call.retire_folder(self, *what)
        taken.append(Step(answer[0]))
        return answer

    monkeypatch.setattr(MemoryFilesystem, "__init__", begin_ticking)
    monkeypatch.setattr(MemoryFilesystem, "hold_folders", in_one_call.hold_folders)
    monkeypatch.setattr(MemoryFilesystem, "retire_folder", retire_folder)
    for module in (digest_folder, prefetch, rereading):
        monkeypatch.setattr(module, "SETTLING_NS", 0)
    return taken


@pytest.fixture
def cache() -> MemoryFilesystem:
    """A cache with two images that are due, on the disk of the trash."""
    return test_retirement.make_cache(mounted=False)


for name, test in vars(test_retirement).items():
    if (
        name.startswith("test_")
        and name != TO_THE_NANOSECOND
        and not {"memory", "cache"}.isdisjoint(inspect.signature(test).parameters)
    ):
        globals()[name] = test


@pytest.fixture
def shared() -> MemoryFilesystem:
    """Content that two repositories share, due in both, and no copy of it; one tag shadows another."""
    filesystem = make_shared()
    for path in list(filesystem.tree(f"{DATA}/{IMAGES}/{ALPINE}/{HEX}")):
        filesystem.remove(path)
    filesystem.remove(f"{DATA}/{IMAGES}/{ALPINE}/{HEX}")
    filesystem.remove(LINKS[1])
    filesystem.sync()
    return filesystem


def test_content_goes_in_one_call_with_the_tags_and_timers_of_all_its_owners(
    shared: MemoryFilesystem, steps: list[Step]
) -> None:
    before = images_in(shared)
    (outcome,) = delete(shared)
    assert isinstance(outcome, Retired)
    assert [f"{DATA}/{link.parent}/{link.tag}" for link in outcome.links] == [LINKS[0], *LINKS[2:]]
    assert steps == [Step.DONE]
    assert is_gone(images_in(shared), before)
    assert broken_promise(shared, before) is None


def test_a_crash_within_that_call_leaves_all_of_content_here_or_gone(shared: MemoryFilesystem) -> None:
    before = images_in(shared)
    for number, filesystem in cut_everywhere(shared, delete):
        assert recover(filesystem).errors == (), number
        assert broken_promise(filesystem, before) is None, number


@pytest.mark.parametrize("seed", range(2))
def test_a_power_loss_within_that_call_leaves_all_of_content_here_or_gone(
    shared: MemoryFilesystem, seed: int
) -> None:
    before = images_in(shared)
    rng = random.Random(seed)
    for number, filesystem in cut_everywhere(shared, delete):
        after = filesystem.after_power_loss(rng)
        assert recover(after).errors == (), number
        assert broken_promise(after, before) is None, number


def test_a_fault_within_that_call_stops_it_and_the_steps_go_on_from_there(
    shared: MemoryFilesystem, steps: list[Step]
) -> None:
    before = images_in(shared)
    for call, filesystem, _ in failed_everywhere(shared, delete, errno.EIO):
        recover(filesystem)
        after = images_in(filesystem)
        content = {path for path in before if HEX in path and path not in LINKS}
        assert is_gone(after, before) or is_here(after, before) or content.isdisjoint(after), call
        assert not [path for path in filesystem.tree(DATA) if "trash/" in path], call
    assert {*steps} == {*Step}


def test_two_images_with_one_disk_do_not_keep_each_other(memory: Host, steps: list[Step]) -> None:
    one, other = (test_retirement.make_due(memory, letters, tags=()) for letters in "ab")
    memory.remove(test_retirement.disk_of("b"))
    memory.hard_link(test_retirement.disk_of("a"), test_retirement.disk_of("b"))
    outcomes = test_retirement.retire_all(memory, one, other)
    assert [type(outcome) for outcome in outcomes] == [Retired, Retired]
    assert steps == []
